rule prepare_background:
    """Unpack the background of a region whose signals are the points of a scan, and describe it."""
    input:
        archive="resources/pallets/{analysis}.archive",
    output:
        workspace="results/{analysis}/{region}/workspace.json",
        summary=report(
            "results/{analysis}/{region}/summary.html",
            caption="../report/summary.rst",
            category="{analysis}",
            labels={"region": "{region}", "what": "pallet"},
        ),
    log:
        "logs/{analysis}/{region}/prepare_background.log",
    benchmark:
        "logs/{analysis}/{region}/prepare_background.tsv"
    params:
        files=background_member,
    wildcard_constraints:
        analysis=any_of(SCANS),
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}/{wildcards.region}: unpack and verify the background"
    script:
        "../scripts/prepare_background.py"


rule prepare_points:
    """Write the points of a region as a patchset, from which all products are made."""
    input:
        workspace="results/{analysis}/{region}/workspace.json",
        points=point_files,
    output:
        patchset="results/{analysis}/{region}/patchset.json",
        summary=report(
            "results/{analysis}/{region}/signals.html",
            caption="../report/signals.rst",
            category="{analysis}",
            labels={"region": "{region}", "what": "points"},
        ),
    log:
        "logs/{analysis}/{region}/prepare_points.log",
    benchmark:
        "logs/{analysis}/{region}/prepare_points.tsv"
    params:
        settings=patchset_settings,
    wildcard_constraints:
        analysis=any_of(SCANS),
    # A function of the user's is called where Snakemake runs.
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}/{wildcards.region}: write the points as a patchset"
    script:
        "../scripts/prepare_points.py"


rule fit_points:
    """Test every point of a region's scan; of earlier results only missing ones are made again.

    The files of results (results/ANALYSIS/REGION/points) are not declared as output, because
    Snakemake deletes the output of a failed job; the manifest lists them when all are there.
    """
    input:
        workspace="results/{analysis}/{region}/workspace.json",
        points=point_files,
    output:
        manifest="results/{analysis}/{region}/points.json",
    log:
        "logs/{analysis}/{region}/points.log",
    benchmark:
        "logs/{analysis}/{region}/points.tsv"
    params:
        settings=point_settings,
    threads: workflow.cores or 1
    wildcard_constraints:
        analysis=any_of(SCANS),
    # A profile that splits regions over jobs has none to spare for fits where Snakemake runs.
    localrule: SETTINGS.executor.parts == 1
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}/{wildcards.region}: test the points of the scan"
    script:
        "../scripts/fit_points.py"
