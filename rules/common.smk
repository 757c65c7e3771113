"""Configuration and helpers of all rules; what can be tested without Snakemake is in src/palletfit."""

import json
import re
import sys
import time

from palletfit.runs import state as workflow_state
from palletfit.config import NAME_PATTERN, Settings, load_analyses, member_sources, with_members
from palletfit.config import parse as parse_settings
from palletfit.engine.versions import VERSIONS
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import file_stem
from palletfit.runs.product import (
    CHOSEN,
    HYPOTEST,
    NEAR_EXCLUSION,
    OTHERS,
    POINTS,
    Product,
    extent,
    product_of,
)
from snakemake.exceptions import WorkflowError

workflow_state.export_package(Path(workflow.basedir) / "src")

RESULTS = Path("results")
STARTED = time.time()
ANALYSIS_FOLDER = Path(workflow.basedir) / "config" / "analyses"

try:
    SETTINGS = parse_settings(
        Settings, config, file="config/config.yaml (with --config and --configfile)"
    )
    ANALYSES = load_analyses(SETTINGS, ANALYSIS_FOLDER)
    # The selected analyses, and those that they combine.
    KNOWN = with_members(ANALYSES, ANALYSIS_FOLDER)
    if workflow.is_main_process:
        workflow_state.note_incomplete(RESULTS, ANALYSES)
        workflow_state.announce()
except PalletfitError as error:
    raise WorkflowError(str(error)) from None


#: Analyses with signal points that are fitted one by one, and those of large scans.
GRIDS = {name: item for name, item in ANALYSES.items() if item.points is None}
SCANS = {name: item for name, item in ANALYSES.items() if item.points is not None}


def any_of(names):
    """A wildcard's constraint to some names; to none if there are none."""
    return "|".join(map(re.escape, names)) or r"(?!)"


def plane_suffixes():
    """What the file names of planes may end with, as regular expressions."""
    return [
        re.escape(analysis.plane_suffix(name))
        for analysis in ANALYSES.values()
        for name in analysis.planes
    ]


wildcard_constraints:
    analysis="|".join(map(re.escape, KNOWN)),
    region="|".join(re.escape(name) for item in KNOWN.values() for name in item.regions),
    plane=f"(?:{'|'.join(plane_suffixes())})",
    product="|".join(OTHERS),
    slice=NAME_PATTERN,
    stem="[^/]+",


def pallet_file(wildcards):
    """The local archive of an analysis, if it has one; the rule's script says if it is missing."""
    path = KNOWN[wildcards.analysis].pallet.path
    return [str(path)] if path is not None and path.exists() else []


def pallet_source(wildcards):
    """Where an archive comes from; a change fetches it again."""
    return KNOWN[wildcards.analysis].pallet.model_dump(mode="json", exclude={"sha256"})


def region_members(wildcards):
    """Files of a region inside the archive, with their pins and what they are checked against."""
    analysis = KNOWN[wildcards.analysis]
    region = analysis.regions[wildcards.region]
    pins = analysis.pallet.sha256
    members = [region.workspace, region.patchset]
    return {
        "members": members,
        "sha256": [pins.get(name) for name in members],
        "labels": analysis.labels,
    }


def combinations(analyses):
    """Names of the analyses that combine others."""
    return [name for name, analysis in analyses.items() if analysis.combine is not None]


def one_of(names):
    """A wildcard constraint: one of some names, or nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"


def member_files(file):
    """An input function: a prepared file of each member of a combination, in order."""

    def of_members(wildcards):
        sources = member_sources(KNOWN[wildcards.analysis], ANALYSIS_FOLDER)
        return [f"results/{analysis}/{region}/{file}" for analysis, region in sources]

    return of_members


def combination_settings(wildcards):
    """What is combined and how; a change combines again."""
    analysis = KNOWN[wildcards.analysis]
    return {"combine": analysis.combine.model_dump(mode="json"), "labels": analysis.labels}


def combination_products(wildcards):
    """Results and plots of all selected combinations."""
    names = combinations(ANALYSES)
    if not names:
        raise WorkflowError(
            f"None of the selected analyses ({', '.join(ANALYSES)}) is a combination.\n"
            "  remedy: Select one whose file has the key `combine`, such as "
            "`--config analyses=demo-combined`."
        )
    return [
        *collect("results/{name}/results.{ending}", name=names, ending=["json", "csv"]),
        *contour_files(names),
    ]


def fit_settings(wildcards):
    """Physics of the fits; a change makes other records necessary."""
    return {
        "fit": SETTINGS.fit.model_dump(mode="json"),
        "engine": VERSIONS[SETTINGS.fit.engine],
        # Rises when records were found lost, damaged or failed for a reason that may pass.
        "refits": workflow_state.refits(RESULTS, wildcards.analysis, wildcards.region),
        "patches": KNOWN[wildcards.analysis].patches,
        "on_failure": SETTINGS.on_failure,
        "known_failures": KNOWN[wildcards.analysis].regions[wildcards.region].known_failures,
    }


def background_member(wildcards):
    """The workspace of a region inside the archive, with its pin."""
    analysis = ANALYSES[wildcards.analysis]
    name = analysis.regions[wildcards.region].workspace
    return {"member": name, "sha256": analysis.pallet.sha256.get(name)}


def point_files(wildcards):
    """Files that the points of a scan depend on; the rule's script says if one is missing."""
    return [str(path) for path in ANALYSES[wildcards.analysis].points.files if path.exists()]


def point_settings(wildcards):
    """What the results of a scan depend on beside its files."""
    analysis = ANALYSES[wildcards.analysis]
    return {
        "fit": SETTINGS.fit.model_dump(mode="json"),
        "engine": VERSIONS[SETTINGS.fit.engine],
        **POINTS.as_json(),
        "labels": analysis.labels,
        "points": analysis.points.model_dump(mode="json", exclude={"plot_bins"}),
        "chunk": SETTINGS.points.chunk,
        "refits": workflow_state.refits(RESULTS, wildcards.analysis, wildcards.region, POINTS.name),
    }


def point_manifests(wildcards):
    """What is known of the points of each region that is fitted."""
    regions = ANALYSES[wildcards.analysis].used_regions
    return expand("results/{{analysis}}/{region}/points.json", region=regions)


def point_tables():
    """Tables of all large scans, and plots of their planes; p0 of q0 excludes nothing."""
    plots = [
        f"results/{name}/excluded{suffix}.{ending}"
        for name, analysis in SCANS.items()
        for suffix in map(analysis.plane_suffix, analysis.planes)
        for ending in ("png", "pdf")
        if SETTINGS.fit.test_statistic != "q0"
    ]
    return [*(f"results/{name}/points.parquet" for name in SCANS), *plots]


def drawn_fraction(wildcards):
    """What the plot of an excluded fraction depends on beside the results."""
    return {**drawn(wildcards), "bins": ANALYSES[wildcards.analysis].points.plot_bins}


def product_settings(wildcards):
    """The same of another product than hypothesis tests, with its own settings and version."""
    where = wildcards.analysis, wildcards.region, wildcards.product
    return {
        **fit_settings(wildcards),
        **product_of(wildcards.product, SETTINGS).as_json(),
        **extent(wildcards.product, SETTINGS),
        "refits": workflow_state.refits(RESULTS, *where),
    }


def chosen_patches(wildcards):
    """The file that names the patches of a product of chosen ones."""
    return (
        f"results/{wildcards.analysis}/{wildcards.product}_patches.json"
        if (wildcards.product in CHOSEN)
        else []
    )


def choice(wildcards):
    """What the choice of patches depends on beside the results."""
    return {
        "patterns": getattr(SETTINGS, wildcards.product).patches,
        "level": SETTINGS.contour.confidence_level,
        "analyses": len(ANALYSES),
    }


def product_manifests(product):
    """One manifest of a product for each region that is fitted."""

    def manifests(wildcards):
        regions = ANALYSES[wildcards.analysis].used_regions
        return expand(
            "results/{{analysis}}/{region}/{product}.json", region=regions, product=product
        )

    return manifests


def cross_section_table(wildcards):
    """The table of theory cross sections, where there is one."""
    source = ANALYSES[wildcards.analysis].cross_section
    return [str(source.file)] if source is not None and source.file.exists() else []


def cross_section(wildcards):
    """How that table is read; a change makes other limits in pb."""
    source = ANALYSES[wildcards.analysis].cross_section
    return source.model_dump(mode="json") if source is not None else None


def limit_files(wildcards):
    """Upper limits of all selected analyses: tables and plots."""
    return [
        f"results/{name}/{file}"
        for name, analysis in GRIDS.items()
        for file in (
            *("limits.json", "limits.csv"),
            *(
                f"{stem}{suffix}.{ending}"
                for suffix in map(analysis.plane_suffix, analysis.planes)
                for stem, ending in (
                    ("limits", "png"),
                    ("limits", "pdf"),
                    ("limit_contour", "json"),
                )
            ),
            *(f"limits_slice_{line}.{e}" for line in analysis.slices for e in ("png", "pdf")),
        )
    ]


def chosen_stems(checkpoint):
    """File names of the patches that a checkpoint chose."""
    chosen = json.loads(Path(checkpoint.output.chosen).read_text())
    return [file_stem(patch) for some in chosen.values() for patch in some]


def mu_scan_files(wildcards):
    """Plots of CLs against mu, of the patches that were chosen."""
    return [
        f"results/{name}/mu_scan_{stem}.{ending}"
        for name in GRIDS
        for stem in chosen_stems(checkpoints.choose_mu_scan.get(analysis=name))
        for ending in ("png", "pdf")
    ]


def diagnostics_files(wildcards):
    """Tables of the diagnostics, and all plots of the patches that were chosen."""
    tables = expand("results/{name}/diagnostics.{e}", name=GRIDS, e=["json", "csv"])
    plots = [
        file.format(analysis=name, stem=stem)
        for name in GRIDS
        for stem in chosen_stems(
            checkpoints.choose_patches.get(analysis=name, product="diagnostics")
        )
        for file in rules.plot_diagnostics.output
    ]
    return tables + plots


def toy_files(wildcards):
    """CLs from toys of all selected analyses: tables, and a plot of each patch that was chosen."""
    tables = expand("results/{name}/toys.{e}", name=GRIDS, e=["json", "csv"])
    plots = [
        f"results/{name}/toys_{stem}.{ending}"
        for name in GRIDS
        for stem in chosen_stems(checkpoints.choose_patches.get(analysis=name, product="toys"))
        for ending in ("png", "pdf")
    ]
    return tables + plots


def toy_extent(wildcards):
    """How many toys count; a change makes another table."""
    return extent("toys", SETTINGS)


def slice_of(wildcards):
    """What a slice's plot depends on beside the limits."""
    analysis = ANALYSES[wildcards.analysis]
    return {
        "title": analysis.title,
        "slice": analysis.slices[wildcards.slice].model_dump(mode="json"),
        "level": SETTINGS.contour.confidence_level,
    }


def product_parts(wildcards):
    """The parts of a product of a region, if jobs share it."""
    if SETTINGS.executor.parts == 1:
        return []
    return gather.parts("results/{{analysis}}/{{region}}/parts/{{product}}/{scatteritem}.json")


def part_manifests(wildcards):
    """The parts of a region, if jobs share it."""
    if SETTINGS.executor.parts == 1:
        return []
    return gather.parts("results/{{analysis}}/{{region}}/parts/{scatteritem}.json")


def region_manifests(wildcards):
    """One manifest of records for each region that is fitted."""
    regions = KNOWN[wildcards.analysis].used_regions
    return expand("results/{{analysis}}/{region}/hypotest.json", region=regions)


def plane_of(wildcards):
    """The plane that a file name's suffix means."""
    return KNOWN[wildcards.analysis].plane_of_suffix(wildcards.plane)


def published_tables(wildcards):
    """Published curves of a plane; a change fetches them again."""
    return plane_of(wildcards).published.model_dump(mode="json")


def drawn(wildcards):
    """What a contour's plot depends on beside the results."""
    return {
        "title": KNOWN[wildcards.analysis].title,
        "plane": plane_of(wildcards).model_dump(mode="json"),
        "contour": SETTINGS.contour.model_dump(mode="json"),
    }


def explored(wildcards):
    """What a page to explore depends on beside files that are made for it.

    Upper limits and diagnostics are on it if they are there, but no reason to make them.
    """
    return {**drawn(wildcards), "further": workflow_state.further(RESULTS, wildcards.analysis)}


def contour_files(names):
    """Contours and plots of every plane of some analyses; p0 of q0 has none."""
    if SETTINGS.fit.test_statistic == "q0":
        return []
    return [
        f"results/{name}/{file}"
        for name in names
        for suffix in map(KNOWN[name].plane_suffix, KNOWN[name].planes)
        for file in (
            *(f"exclusion{suffix}.{ending}" for ending in ("png", "pdf", "html")),
            f"contour{suffix}.json",
        )
    ]


def hepdata_contours(ending):
    """Contours of all planes in order, or their plots; p0 of q0 has none."""

    def files(wildcards):
        if SETTINGS.fit.test_statistic == "q0":
            return []
        analysis = ANALYSES[wildcards.analysis]
        stem = {"json": "contour", "png": "exclusion"}[ending]
        return [
            f"results/{wildcards.analysis}/{stem}{suffix}.{ending}"
            for suffix in map(analysis.plane_suffix, analysis.planes)
        ]

    return files


def hepdata_limits(wildcards):
    """Upper limits, if they were asked for before."""
    path = RESULTS / wildcards.analysis / "limits.json"
    return [str(path)] if path.exists() else []


def hepdata_said(wildcards):
    """What a submission takes from the analysis file beside the contours' settings."""
    return ANALYSES[wildcards.analysis].model_dump(mode="json", exclude={"patches", "use"})


def benchmark_inputs(what):
    """Workspaces or patchsets of the regions that are timed, in order."""

    def files(wildcards):
        regions = ANALYSES[wildcards.analysis].used_regions
        return [f"results/{wildcards.analysis}/{region}/{what}.json" for region in regions]

    return files


def benchmark_case(wildcards):
    """What a repetition's time depends on; a change repeats it."""
    return {
        "fit": SETTINGS.fit.model_dump(mode="json"),
        "engine": VERSIONS[SETTINGS.fit.engine],
        "executor": SETTINGS.benchmark_executor(wildcards.case).model_dump(mode="json"),
        "patches": [ANALYSES[wildcards.analysis].patches, SETTINGS.benchmark.patches],
    }


def benchmark_times():
    """Files of all repetitions."""
    return [
        f"results/_benchmark/{name}/{case}/{number}.json"
        for number in range(1, SETTINGS.benchmark.repetitions + 1)
        for name in GRIDS
        for case in SETTINGS.benchmark.executors
    ]


def benchmark_shown():
    """What the table shows beside the times."""
    published = {name: analysis.published_time for name, analysis in GRIDS.items()}
    return {
        "published": {name: time and time.model_dump() for name, time in published.items()},
        "benchmark": SETTINGS.benchmark.model_dump(mode="json"),
    }


def claim_results():
    """Refuse to run beside another run in this folder.

    Unlike Snakemake's own lock, which the profiles switch off, this one ends with its holder,
    however that ended.
    """
    try:
        workflow_state.claim(RESULTS)
    except PalletfitError as error:
        raise WorkflowError(str(error)) from None


def all_manifests():
    """Manifests of all regions that are fitted, of all selected analyses."""
    return [
        f"results/{name}/{region}/hypotest.json"
        for name, analysis in GRIDS.items()
        for region in analysis.used_regions
    ]


def all_submissions(product=HYPOTEST.name):
    """What sending leaves behind, for all regions that are fitted."""
    file = Product(product).file("submitted")
    return [
        f"results/{name}/{region}/{file}.json"
        for name, analysis in GRIDS.items()
        for region in analysis.used_regions
    ]


def started(wildcards):
    """When this run began, which is never the same."""
    return STARTED


onstart:
    claim_results()


onsuccess:
    print(workflow_state.outcome(RESULTS, ANALYSES, SETTINGS), file=sys.stderr)
