rule aggregate_toys:
    """Merge the shards of toys of all chosen patches, beside what asymptotic formulae give."""
    input:
        results="results/{analysis}/results.json",
        tests=region_manifests,
        manifests=product_manifests("toys"),
    output:
        toys="results/{analysis}/toys.json",
        csv=report(
            "results/{analysis}/toys.csv",
            caption="../report/toys.rst",
            category="{analysis}",
            labels={"region": "all", "what": "CLs from toys"},
        ),
    log:
        "logs/{analysis}/aggregate_toys.log",
    benchmark:
        "logs/{analysis}/aggregate_toys.tsv"
    params:
        extent=toy_extent,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/aggregate_toys.py"


rule plot_toys:
    """Draw how the test statistic of one patch is distributed in toys and in asymptotic formulae."""
    input:
        toys="results/{analysis}/toys.json",
        manifests=product_manifests("toys"),
    output:
        png=report(
            "results/{analysis}/toys_{stem}.png",
            caption="../report/toys_patch.rst",
            category="{analysis}",
            labels={"region": "all", "what": "toys, {stem}"},
        ),
        pdf="results/{analysis}/toys_{stem}.pdf",
    log:
        "logs/{analysis}/plot_toys_{stem}.log",
    benchmark:
        "logs/{analysis}/plot_toys_{stem}.tsv"
    params:
        title=lambda wildcards: ANALYSES[wildcards.analysis].title,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/plot_toys.py"


rule toys:
    """CLs from pseudo-experiments for chosen patches (toys.patches), as tables and plots."""
    input:
        toy_files,
