from snakemake.utils import min_version

min_version("9.27")


# Of this workflow, also where it is a module of another one.
BASE = Path(str(workflow.current_basedir))


configfile: f"{BASE}/config/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/pallet.smk"
include: "rules/combine.smk"
include: "rules/fit.smk"
include: "rules/points.smk"
include: "rules/products.smk"
include: "rules/contour.smk"
include: "rules/hepdata.smk"
include: "rules/catalogue.smk"
include: "rules/benchmark.smk"


rule all:
    """Everything for all selected analyses: results, contours and plots."""
    default_target: True
    input:
        all_manifests(),
        result_files(ANALYSES),
        products_there(),
    message:
        "everything that was asked for is there"


describe_rules()
