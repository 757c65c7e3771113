rule aggregate_diagnostics:
    """Collect the diagnostics of the chosen patches in one table."""
    input:
        manifests=product_manifests("diagnostics"),
        tests=region_manifests,
    output:
        diagnostics="results/{analysis}/diagnostics.json",
        csv=report(
            "results/{analysis}/diagnostics.csv",
            caption="../report/diagnostics.rst",
            category="{analysis}",
            subcategory="diagnostics",
            labels={"region": "all", "what": "diagnostics"},
        ),
    log:
        "logs/{analysis}/aggregate_diagnostics.log",
    benchmark:
        "logs/{analysis}/aggregate_diagnostics.tsv"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/aggregate_diagnostics.py"


rule plot_diagnostics:
    """Draw pulls, ranking, correlations and yields of the fit of one patch."""
    input:
        chosen="results/{analysis}/diagnostics_patches.json",
        manifests=product_manifests("diagnostics"),
    output:
        pulls=[
            report(
                "results/{analysis}/diagnostics_{stem}_pulls.png",
                caption="../report/diagnostics_pulls.rst",
                category="{analysis}",
                subcategory="diagnostics",
                labels={"region": "all", "what": "pulls, {stem}"},
            ),
            "results/{analysis}/diagnostics_{stem}_pulls.pdf",
        ],
        ranking=[
            report(
                "results/{analysis}/diagnostics_{stem}_ranking.png",
                caption="../report/diagnostics_ranking.rst",
                category="{analysis}",
                subcategory="diagnostics",
                labels={"region": "all", "what": "ranking, {stem}"},
            ),
            "results/{analysis}/diagnostics_{stem}_ranking.pdf",
        ],
        correlations=[
            report(
                "results/{analysis}/diagnostics_{stem}_correlations.png",
                caption="../report/diagnostics_correlations.rst",
                category="{analysis}",
                subcategory="diagnostics",
                labels={"region": "all", "what": "correlations, {stem}"},
            ),
            "results/{analysis}/diagnostics_{stem}_correlations.pdf",
        ],
        yields_prefit=[
            report(
                "results/{analysis}/diagnostics_{stem}_yields_prefit.png",
                caption="../report/diagnostics_yields.rst",
                category="{analysis}",
                subcategory="diagnostics",
                labels={"region": "all", "what": "yields before the fit, {stem}"},
            ),
            "results/{analysis}/diagnostics_{stem}_yields_prefit.pdf",
        ],
        yields_postfit=[
            report(
                "results/{analysis}/diagnostics_{stem}_yields_postfit.png",
                caption="../report/diagnostics_yields.rst",
                category="{analysis}",
                subcategory="diagnostics",
                labels={"region": "all", "what": "yields after the fit, {stem}"},
            ),
            "results/{analysis}/diagnostics_{stem}_yields_postfit.pdf",
        ],
    log:
        "logs/{analysis}/plot_diagnostics_{stem}.log",
    benchmark:
        "logs/{analysis}/plot_diagnostics_{stem}.tsv"
    params:
        title=lambda wildcards: ANALYSES[wildcards.analysis].title,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/plot_diagnostics.py"


rule diagnostics:
    """Pulls, impacts, correlations and yields of chosen fits (diagnostics.patches), with plots."""
    input:
        diagnostics_files,
