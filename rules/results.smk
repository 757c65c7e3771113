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


checkpoint choose_patches:
    """Choose the patches of a product; without patterns the one that is nearest to exclusion."""
    input:
        results="results/{analysis}/results.json",
    output:
        chosen="results/{analysis}/{product}_patches.json",
    log:
        "logs/{analysis}/choose_{product}.log",
    params:
        choice=choice,
    wildcard_constraints:
        product=any_of(NEAR_EXCLUSION),
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/choose_patches.py"
