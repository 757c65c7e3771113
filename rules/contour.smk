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
    script:
        "../scripts/download_published.py"


rule plot_contour:
    """Draw the exclusion contour of a plane and measure its quality."""
    input:
        table="results/{analysis}/results.csv",
        curves="resources/published/{analysis}/curves{plane}.json",
    output:
        contour="results/{analysis}/contour{plane}.json",
        png=report(
            "results/{analysis}/exclusion{plane}.png",
            caption="../report/exclusion.rst",
            category="{analysis}",
            labels={"region": "all", "what": "contour{plane}"},
        ),
        pdf="results/{analysis}/exclusion{plane}.pdf",
    log:
        "logs/{analysis}/plot_contour{plane}.log",
    benchmark:
        "logs/{analysis}/plot_contour{plane}.tsv"
    params:
        drawn=drawn,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/plot_contour.py"


rule interactive:
    """Write a page on which the exclusion in a plane can be explored, in one file."""
    input:
        results="results/{analysis}/results.json",
        table="results/{analysis}/results.csv",
        manifests=region_manifests,
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
    script:
        "../scripts/interactive.py"
