checkpoint choose_patches:
    """Choose the patches that a product is made for, by its patterns or its own rule."""
    input:
        table=table_to_choose_from,
    output:
        chosen="results/{analysis}/{product}_patches.json",
    log:
        "logs/{analysis}/choose_{product}.log",
    params:
        choice=choice,
    wildcard_constraints:
        product=any_of(CHOSEN),
    localrule: True
    conda:
        "../envs/workflow.yaml"
    message:
        "{wildcards.analysis}: choose patches for {wildcards.product}"
    script:
        "../scripts/choose_patches.py"


for product in PRODUCTS.values():
    if product.table is not None:

        rule:
            """Collect the records of all regions in one table."""
            name:
                f"aggregate_{product.table}"
            input:
                **table_inputs(product),
            output:
                **table_outputs(product),
            log:
                f"logs/{{analysis}}/aggregate_{product.table}.log",
            benchmark:
                f"logs/{{analysis}}/aggregate_{product.table}.tsv"
            params:
                product=product.name,
                settings=table_settings(product),
            localrule: True
            conda:
                "../envs/workflow.yaml"
            message:
                f"{{wildcards.analysis}}: write the table of {product.words()}"
            script:
                "../scripts/aggregate.py"

    for plot in product.plots:

        rule:
            """Draw a plot of a product, of a plane, a slice of it, a patch, or by names."""
            name:
                plot.rule
            input:
                **plot_inputs(product, plot),
            output:
                **plot_outputs(product, plot),
            log:
                f"{plot_log(plot)}.log",
            benchmark:
                f"{plot_log(plot)}.tsv"
            params:
                product=product.name,
                kind=plot.of,
                drawn=plot_settings(product, plot),
            localrule: True
            conda:
                "../envs/workflow.yaml"
            message:
                plot_words(product, plot)
            script:
                "../scripts/plot.py"

    if product is not HYPOTEST:

        rule:
            name:
                product.name
            input:
                product_files(product),
            message:
                "everything that was asked for is there"

        describe(product)
