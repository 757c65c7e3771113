scattergather:
    parts=SETTINGS.executor.parts,


rule hypotest_part:
    """Fit some patches of a region, where a profile splits it (executor.parts) over jobs."""
    input:
        workspace="results/{analysis}/{region}/workspace.json",
        patchset="results/{analysis}/{region}/patchset.json",
    output:
        part="results/{analysis}/{region}/parts/{scatteritem}.json",
    log:
        "logs/{analysis}/{region}/hypotest_{scatteritem}.log",
    benchmark:
        "logs/{analysis}/{region}/hypotest_{scatteritem}.tsv"
    params:
        settings=fit_settings,
    threads: 4
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}/{wildcards.region}: fit part {wildcards.scatteritem}"
    script:
        "../scripts/make_part.py"


rule hypotest:
    """Fit every patch of a region: one record a patch, of which only missing ones are fitted.

    The records (results/ANALYSIS/REGION/fits) are not declared as output, because Snakemake deletes
    the output of a failed job; the manifest lists them when all are there.
    """
    input:
        workspace="results/{analysis}/{region}/workspace.json",
        patchset="results/{analysis}/{region}/patchset.json",
        parts=part_manifests,
    output:
        manifest="results/{analysis}/{region}/hypotest.json",
    log:
        "logs/{analysis}/{region}/hypotest.log",
    benchmark:
        "logs/{analysis}/{region}/hypotest.tsv"
    params:
        settings=test_settings,
    threads: workflow.cores or 1
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}/{wildcards.region}: fit all patches that have no result yet"
    script:
        "../scripts/make_product.py"


rule neighbours:
    """Try the minima of neighbouring points at each other, once all patches have records."""
    input:
        workspace="results/{analysis}/{region}/workspace.json",
        patchset="results/{analysis}/{region}/patchset.json",
        manifest="results/{analysis}/{region}/hypotest.json",
    output:
        neighbours="results/{analysis}/{region}/neighbours.json",
    log:
        "logs/{analysis}/{region}/neighbours.log",
    benchmark:
        "logs/{analysis}/{region}/neighbours.tsv"
    params:
        settings=neighbour_settings,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}/{wildcards.region}: try the minima of neighbouring points"
    script:
        "../scripts/neighbours.py"


use rule hypotest_part as product_part with:
    input:
        workspace="results/{analysis}/{region}/workspace.json",
        patchset="results/{analysis}/{region}/patchset.json",
        chosen=chosen_patches,
    output:
        part="results/{analysis}/{region}/parts/{product}/{scatteritem}.json",
    log:
        "logs/{analysis}/{region}/{product}_{scatteritem}.log",
    benchmark:
        "logs/{analysis}/{region}/{product}_{scatteritem}.tsv"
    params:
        settings=product_settings,
    message:
        "{wildcards.analysis}/{wildcards.region}: {wildcards.product}, part {wildcards.scatteritem}"


use rule hypotest as product with:
    input:
        workspace="results/{analysis}/{region}/workspace.json",
        patchset="results/{analysis}/{region}/patchset.json",
        parts=product_parts,
        chosen=chosen_patches,
    output:
        manifest="results/{analysis}/{region}/{product}.json",
    log:
        "logs/{analysis}/{region}/{product}.log",
    benchmark:
        "logs/{analysis}/{region}/{product}.tsv"
    params:
        settings=product_settings,
    message:
        "{wildcards.analysis}/{wildcards.region}: {wildcards.product} of all patches that have none yet"


rule submit_region:
    """Send all patches of a region that are missing, without waiting; hypotest collects them."""
    input:
        workspace="results/{analysis}/{region}/workspace.json",
        patchset="results/{analysis}/{region}/patchset.json",
    output:
        submitted="results/{analysis}/{region}/submitted.json",
    log:
        "logs/{analysis}/{region}/submit.log",
    params:
        settings=fit_settings,
        # What is missing changes without Snakemake's knowledge: it is looked at each time.
        asked=started,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}/{wildcards.region}: send the patches that have no result yet"
    script:
        "../scripts/submit.py"


rule submit:
    """Send all missing patches of all selected analyses to a remote executor, and return."""
    input:
        all_submissions(HYPOTEST),
    message:
        "everything that was asked for is there"


# Not of products of chosen patches: what is chosen depends on results that are still to come.
use rule submit_region as submit_product with:
    output:
        submitted="results/{analysis}/{region}/submitted-{product}.json",
    log:
        "logs/{analysis}/{region}/submit_{product}.log",
    params:
        settings=product_settings,
        asked=started,
    wildcard_constraints:
        product=any_of(name for name in OTHERS if name not in CHOSEN),
    message:
        "{wildcards.analysis}/{wildcards.region}: send {wildcards.product} of the patches that have none yet"


for product in [PRODUCTS[name] for name in OTHERS if name not in CHOSEN]:

    rule:
        """The same for another product, whose own target collects it."""
        name:
            f"submit_{product.name}"
        input:
            all_submissions(product),
        message:
            "everything that was asked for is there"
