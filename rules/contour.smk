rule download_published:
    """Fetch the experiment's own contours of a plane, where there are some."""
    output:
        curves="resources/published/{analysis}/curves{plane}.json",
    log:
        "logs/{analysis}/download_published{plane}.log",
    benchmark:
        "logs/{analysis}/download_published{plane}.tsv"
    params:
        published=published_tables,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}: fetch published contours, if there are some"
    script:
        "../scripts/download_published.py"


rule interactive:
    """Write a page on which the exclusion in a plane can be explored, in one file."""
    input:
        results="results/{analysis}/results.json",
        table="results/{analysis}/results.csv",
        manifests=product_manifests(HYPOTEST),
        curves="resources/published/{analysis}/curves{plane}.json",
    output:
        page=report(
            "results/{analysis}/exclusion{plane}.html",
            caption="../report/interactive.rst",
            category="{analysis}",
            labels={"region": "all", "what": "contour{plane}, to explore"},
        ),
    log:
        "logs/{analysis}/interactive{plane}.log",
    benchmark:
        "logs/{analysis}/interactive{plane}.tsv"
    params:
        explored=explored,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}: write the page to explore{wildcards.plane}"
    script:
        "../scripts/interactive.py"
