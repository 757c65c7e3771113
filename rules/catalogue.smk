rule catalogue:
    """One static site of all selected analyses that are at hand: results, evidence, distances."""
    input:
        results=site_results,
    output:
        site=directory("results/_catalogue"),
    log:
        "logs/_catalogue/site.log",
    params:
        settings=site_settings,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "write the site of the catalogue"
    script:
        "../scripts/catalogue_site.py"
