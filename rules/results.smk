rule aggregate:
    """Collect the results of all signal points, each from its most sensitive region."""
    input:
        manifests=region_manifests,
    output:
        results="results/{analysis}/results.json",
        table=report(
            "results/{analysis}/results.csv",
            caption="../report/results.rst",
            category="{analysis}",
            labels={"region": "all", "what": "results"},
        ),
    log:
        "logs/{analysis}/aggregate.log",
    benchmark:
        "logs/{analysis}/aggregate.tsv"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/aggregate.py"
