rule combine_workspaces:
    """Combine the prepared likelihoods of several analyses into one, with one patch a point."""
    input:
        workspaces=member_files("workspace.json"),
        patchsets=member_files("patchset.json"),
    output:
        workspace="results/{analysis}/{region}/workspace.json",
        patchset="results/{analysis}/{region}/patchset.json",
        summary=report(
            "results/{analysis}/{region}/summary.html",
            caption="../report/combination.rst",
            category="{analysis}",
            labels={"region": "{region}", "what": "combination"},
        ),
    log:
        "logs/{analysis}/{region}/combine_workspaces.log",
    benchmark:
        "logs/{analysis}/{region}/combine_workspaces.tsv"
    params:
        settings=combination_settings,
    wildcard_constraints:
        analysis=any_of(combinations(KNOWN)),
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}/{wildcards.region}: combine likelihoods"
    script:
        "../scripts/combine_workspaces.py"


rule combine:
    """Results and plots of all selected analyses that combine others."""
    input:
        combination_products,
    message:
        "everything that was asked for is there"
