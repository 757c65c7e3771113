rule aggregate_limits:
    """Collect the upper limits of all signal points, each from its most sensitive region."""
    input:
        manifests=product_manifests("limits"),
        table=cross_section_table,
    output:
        limits="results/{analysis}/limits.json",
        csv=report(
            "results/{analysis}/limits.csv",
            caption="../report/limits.rst",
            category="{analysis}",
            labels={"region": "all", "what": "upper limits"},
        ),
    log:
        "logs/{analysis}/aggregate_limits.log",
    benchmark:
        "logs/{analysis}/aggregate_limits.tsv"
    params:
        cross_section=cross_section,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/aggregate_limits.py"


rule plot_limits:
    """Draw the upper limits in a plane, and compare them with published ones."""
    input:
        csv="results/{analysis}/limits.csv",
        curves="resources/published/{analysis}/curves{plane}.json",
    output:
        contour="results/{analysis}/limit_contour{plane}.json",
        png=report(
            "results/{analysis}/limits{plane}.png",
            caption="../report/limits_plane.rst",
            category="{analysis}",
            labels={"region": "all", "what": "upper limits{plane}"},
        ),
        pdf="results/{analysis}/limits{plane}.pdf",
    log:
        "logs/{analysis}/plot_limits{plane}.log",
    benchmark:
        "logs/{analysis}/plot_limits{plane}.tsv"
    params:
        drawn=drawn,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/plot_limits.py"


rule plot_limit_slice:
    """Draw the upper limits along a line of signal points, with their bands."""
    input:
        csv="results/{analysis}/limits.csv",
    output:
        png=report(
            "results/{analysis}/limits_slice_{slice}.png",
            caption="../report/limits_slice.rst",
            category="{analysis}",
            labels={"region": "all", "what": "upper limits along {slice}"},
        ),
        pdf="results/{analysis}/limits_slice_{slice}.pdf",
    log:
        "logs/{analysis}/plot_limit_slice_{slice}.log",
    benchmark:
        "logs/{analysis}/plot_limit_slice_{slice}.tsv"
    params:
        drawn=slice_of,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/plot_limit_slice.py"


rule limits:
    """Upper limits on the signal strength of all selected analyses, with all plots."""
    input:
        limit_files,


checkpoint choose_mu_scan:
    """Choose the patches for which CLs is shown against the signal strength."""
    input:
        limits="results/{analysis}/limits.json",
    output:
        chosen="results/{analysis}/mu_scan_patches.json",
    log:
        "logs/{analysis}/choose_mu_scan.log",
    params:
        patterns=SETTINGS.mu_scan.patches,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/choose_mu_scan.py"


rule plot_mu_scan:
    """Draw CLs against the signal strength for one patch."""
    input:
        chosen="results/{analysis}/mu_scan_patches.json",
        manifests=product_manifests("mu_scan"),
    output:
        png=report(
            "results/{analysis}/mu_scan_{stem}.png",
            caption="../report/mu_scan.rst",
            category="{analysis}",
            labels={"region": "all", "what": "CLs against mu, {stem}"},
        ),
        pdf="results/{analysis}/mu_scan_{stem}.pdf",
    log:
        "logs/{analysis}/plot_mu_scan_{stem}.log",
    benchmark:
        "logs/{analysis}/plot_mu_scan_{stem}.tsv"
    params:
        title=lambda wildcards: ANALYSES[wildcards.analysis].title,
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/plot_mu_scan.py"


rule mu_scan:
    """CLs against the signal strength for chosen patches (mu_scan.patches), with plots."""
    input:
        mu_scan_files,
