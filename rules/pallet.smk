rule download_pallet:
    """Fetch the archive of a published likelihood (or make the demo's), or take a local one."""
    input:
        local=pallet_file,
    output:
        archive="resources/pallets/{analysis}.archive",
    log:
        "logs/{analysis}/download_pallet.log",
    benchmark:
        "logs/{analysis}/download_pallet.tsv"
    params:
        source=pallet_source,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}: fetch the pallet"
    script:
        "../scripts/download_pallet.py"


rule prepare_workspace:
    """Unpack one region of a pallet, verify its digests, and describe it."""
    input:
        archive="resources/pallets/{analysis}.archive",
    output:
        workspace="results/{analysis}/{region}/workspace.json",
        patchset="results/{analysis}/{region}/patchset.json",
        summary=report(
            "results/{analysis}/{region}/summary.html",
            caption="../report/summary.rst",
            category="{analysis}",
            labels={"region": "{region}", "what": "pallet"},
        ),
    log:
        "logs/{analysis}/{region}/prepare_workspace.log",
    benchmark:
        "logs/{analysis}/{region}/prepare_workspace.tsv"
    params:
        files=region_members,
    wildcard_constraints:
        analysis=any_of(
            name for name, item in KNOWN.items() if item.combine is None and name not in SCANS
        ),
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}/{wildcards.region}: unpack and verify the pallet"
    script:
        "../scripts/prepare_workspace.py"
