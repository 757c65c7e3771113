rule hepdata_submission:
    """Write CLs, contours and limits as a HEPData submission, which its own validator accepts."""
    input:
        results="results/{analysis}/results.json",
        manifests=product_manifests(HYPOTEST),
        contours=hepdata_contours("json"),
        images=hepdata_contours("png"),
        limits=hepdata_limits,
    output:
        # The folder's other files are not declared: Snakemake would put a file of its own beside them.
        submission="results/{analysis}/hepdata/submission.yaml",
        archive=report(
            "results/{analysis}/hepdata.tar.gz",
            caption="../report/hepdata.rst",
            category="{analysis}",
            labels={"region": "all", "what": "HEPData submission"},
        ),
    log:
        "logs/{analysis}/hepdata.log",
    benchmark:
        "logs/{analysis}/hepdata.tsv"
    params:
        said=hepdata_said,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}: write the HEPData submission"
    script:
        "../scripts/hepdata_submission.py"


rule hepdata:
    """HEPData submissions of all selected analyses."""
    input:
        collect("results/{analysis}/hepdata.tar.gz", analysis=ANALYSES),
    message:
        "everything that was asked for is there"
