"""Configuration and helpers of all rules; what can be tested without Snakemake is in src/palletfit."""

import inspect
import re
import sys
import time

from palletfit.runs import state as workflow_state
from palletfit.config import NAME_PATTERN, Settings, load_analyses, member_sources, with_members
from palletfit.config import parse as parse_settings
from palletfit.core.files import read_json
from palletfit.engine.versions import VERSIONS
from palletfit.errors import PalletfitError
from palletfit.core.hosts import begin_notes
from palletfit.pallet.folders import needed_files
from palletfit.pallet.patches import file_stem
from palletfit.runs import registry
from palletfit.workflow.ending import Ending, require_writable
from palletfit.workflow.sources import analyses_of, at_hand, notes
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

workflow_state.export_package(BASE / "src")

RESULTS = Path("results")
RESOURCES = Path("resources")
STARTED = time.time()
ANALYSIS_FOLDER = BASE / "config" / "analyses"
#: A report is about every product that is there, a run about what was asked for.
REPORTING = any(word.partition("=")[0] == "--report" for word in sys.argv) and (
    "--report-after-run" not in sys.argv
)

try:
    if workflow.is_main_process:
        require_writable(Path.cwd())
    SETTINGS = parse_settings(
        Settings, config, file="config/config.yaml (with --config and --configfile)"
    )
    if SETTINGS.pallet is not None:
        # Scripts read the configuration, too, and find the files there.
        files = analyses_of(SETTINGS.pallet, SETTINGS.download, ANALYSIS_FOLDER)
        config["analyses"] = [str(file) for file in files]
        SETTINGS = SETTINGS.model_copy(update={"analyses": config["analyses"]})
        if workflow.is_main_process:
            print(notes(files[0]), file=sys.stderr)
    ANALYSES = load_analyses(SETTINGS, ANALYSIS_FOLDER)
    registry.add(SETTINGS)
    # The selected analyses, and those that they combine.
    KNOWN = with_members(ANALYSES, ANALYSIS_FOLDER)
    if workflow.is_main_process:
        begin_notes(RESOURCES / ".unresolved")
        workflow_state.note_incomplete(RESULTS, ANALYSES)
        workflow_state.note_left_out(RESOURCES, KNOWN, SETTINGS.download)
        workflow_state.announce()
        if SETTINGS.executor.lacks_endpoint:
            print(
                "Warning: no endpoint is named; a plan (-n) needs none, fits do (docs/remote.md).",
                file=sys.stderr,
            )
except PalletfitError as error:
    raise WorkflowError(str(error)) from None


PRODUCTS = registry.products()
#: Made for all patches of a region, unless others are asked for.
HYPOTEST = PRODUCTS["hypotest"]
#: Tested in bounded memory, without a record a patch.
POINTS = PRODUCTS["points"]
#: Names of the other ones, which have records.
OTHERS = [name for name, product in PRODUCTS.items() if product not in (HYPOTEST, POINTS)]
CHOSEN = [name for name in OTHERS if PRODUCTS[name].chosen_from is not None]


#: Analyses whose signal points come from a table or a function, instead of patchsets.
SCANS = {name: item for name, item in KNOWN.items() if item.points is not None}


def any_of(names):
    """Constrain a wildcard to names; to nothing if there are none."""
    return "|".join(map(re.escape, names)) or r"(?!)"


def plane_suffixes():
    """Return the endings of file names of planes, as regular expressions."""
    return [
        re.escape(analysis.plane_suffix(name))
        for analysis in ANALYSES.values()
        for name in analysis.planes
    ]


wildcard_constraints:
    analysis="|".join(map(re.escape, KNOWN)),
    region="|".join(re.escape(name) for item in KNOWN.values() for name in item.regions),
    plane=f"(?:{'|'.join(plane_suffixes() or ['(?!)'])})",
    product=any_of(OTHERS),
    slice=NAME_PATTERN,
    stem="[^/]+",


def pallet_file(wildcards):
    """Local files of an analysis, if it has some; the rule's script says if one is missing."""
    analysis = KNOWN[wildcards.analysis]
    path = analysis.pallet.path
    if path is not None and path.is_dir():
        return [str(file) for file in needed_files(path, analysis.members)]
    return [str(path)] if path is not None and path.exists() else []


def pallet_source(wildcards):
    """Return the source of an archive; a change fetches it again."""
    analysis = KNOWN[wildcards.analysis]
    source = analysis.pallet.model_dump(mode="json", exclude={"sha256"})
    path = analysis.pallet.path
    if path is not None and path.is_dir():
        source["members"] = analysis.members
    return source


def region_members(wildcards):
    """Return files of a region inside the archive, with their pins and labels to check."""
    analysis = KNOWN[wildcards.analysis]
    region = analysis.regions[wildcards.region]
    pins = analysis.pallet.sha256
    members = region.members
    unusual = {
        key: value
        for key in ("values", "name_as", "digest")
        if (value := getattr(region, key)) not in (None, "verify")
    }
    if region.complete:
        unusual["complete"] = [
            region.measurement or SETTINGS.fit.measurement,
            region.poi,
            region.fix,
            region.signal_in,
        ]
    return {
        "members": members,
        "sha256": [pins.get(name) for name in members],
        "labels": analysis.labels,
        **unusual,
        **chosen_data(wildcards),
    }


def chosen_data(wildcards):
    """Return channels, bins and data of a region, with the fit that blinded data come from."""
    choice = KNOWN[wildcards.analysis].choice_of(wildcards.region)
    if not choice:
        return {}  # as it was before there were choices
    if not choice.blinded:
        return {"choice": choice.as_json()}
    of_data = {"measurement", "normsys", "histosys", "minimum"}
    fit = SETTINGS.fit.model_dump(mode="json", include=of_data)
    return {"choice": {**choice.as_json(), **fit, "engine": VERSIONS["batched"]}}


def combinations(analyses):
    """Names of the analyses that combine others."""
    return [name for name, analysis in analyses.items() if analysis.combine is not None]


def member_files(file):
    """Make an input function: a prepared file of each member of a combination, in order."""

    def of_members(wildcards):
        sources = member_sources(KNOWN[wildcards.analysis], ANALYSIS_FOLDER)
        return [f"results/{analysis}/{region}/{file}" for analysis, region in sources]

    return of_members


def combination_settings(wildcards):
    """Return all that a combination depends on; a change combines again."""
    analysis = KNOWN[wildcards.analysis]
    combine = analysis.combine.model_dump(mode="json")
    return {"combine": combine, "labels": analysis.labels, **chosen_data(wildcards)}


def combination_products(wildcards):
    """Results and plots of all selected combinations."""
    names = combinations(ANALYSES)
    if not names:
        raise WorkflowError(
            f"None of the selected analyses ({', '.join(ANALYSES)}) is a combination.\n"
            "  remedy: Select one whose file has the key `combine`, such as "
            "`--config analyses=demo-combined`."
        )
    return result_files(names)


def fit_settings(wildcards):
    """Physics of the fits; a change makes other records necessary."""
    return {
        "fit": SETTINGS.fit.model_dump(mode="json"),
        "engine": VERSIONS[SETTINGS.fit.engine],
        # Rises when records were found lost, damaged or failed for a reason that may pass.
        "refits": workflow_state.refits(RESULTS, wildcards.analysis, wildcards.region, HYPOTEST),
        "patches": KNOWN[wildcards.analysis].patches,
        "on_failure": SETTINGS.on_failure,
        "known_failures": KNOWN[wildcards.analysis].regions[wildcards.region].known_failures,
    }


def test_settings(wildcards):
    """Return the same for hypothesis tests, with what decides which points are tested."""
    extent = HYPOTEST.extent(SETTINGS)
    if extent:
        planes = KNOWN[wildcards.analysis].planes.values()
        extent["planes"] = [plane.model_dump(mode="json") for plane in planes]
        extent["labels"] = KNOWN[wildcards.analysis].labels
    return {**fit_settings(wildcards), **extent}


def background_member(wildcards):
    """The workspace of a region inside the archive, with its pin."""
    analysis = KNOWN[wildcards.analysis]
    name = analysis.regions[wildcards.region].workspace
    pin = analysis.pallet.sha256.get(name)
    return {"member": name, "sha256": pin, **chosen_data(wildcards)}


def point_files(wildcards):
    """Files that the points of a scan depend on; the rule's script says if one is missing."""
    return [str(path) for path in KNOWN[wildcards.analysis].points.files if path.exists()]


def patchset_settings(wildcards):
    """Return what the patchset of points depends on, in addition to their files."""
    analysis = KNOWN[wildcards.analysis]
    return {
        "labels": analysis.labels,
        "points": analysis.points.model_dump(mode="json", exclude={"plot_bins", "nlls"}),
        "measurement": SETTINGS.fit.measurement,
        "max_patches": SETTINGS.points.max_patches,
    }


def point_settings(wildcards):
    """Return what the results of a scan depend on, in addition to its files."""
    analysis = KNOWN[wildcards.analysis]
    return {
        "fit": SETTINGS.fit.model_dump(mode="json"),
        "engine": VERSIONS[SETTINGS.fit.engine],
        **POINTS().as_json(),
        "labels": analysis.labels,
        "points": analysis.points.content(),
        # Not there where they are not asked for: what is finished stays so.
        **({"nlls": True} if analysis.points.nlls else {}),
        "chunk": SETTINGS.points.chunk,
        **({} if SETTINGS.points.search == "full" else {"search": SETTINGS.points.search}),
        "refits": workflow_state.refits(RESULTS, wildcards.analysis, wildcards.region, POINTS),
    }


def product_settings(wildcards):
    """Return the same for other products, with their own settings and version."""
    product = PRODUCTS[wildcards.product]
    place = wildcards.analysis, wildcards.region
    return {
        **fit_settings(wildcards),
        **product.of(SETTINGS).as_json(),
        **product.extent(SETTINGS),
        "refits": workflow_state.refits(RESULTS, *place, product),
    }


def chosen_patches(wildcards):
    """The file that names the patches of a product of chosen ones."""
    if wildcards.product not in CHOSEN:
        return []
    return f"results/{wildcards.analysis}/{wildcards.product}_patches.json"


def table_to_choose_from(wildcards):
    """The table that patches of a product are chosen from."""
    return f"results/{wildcards.analysis}/{PRODUCTS[wildcards.product].chosen_from}.json"


def choice(wildcards):
    """Return what the choice of patches depends on, in addition to that table."""
    return {
        "patterns": PRODUCTS[wildcards.product].patterns(SETTINGS),
        "level": SETTINGS.contour.confidence_level,
        "analyses": len(ANALYSES),
    }


def selected(product):
    """Selected analyses that a product is made for, by name."""
    return [name for name in ANALYSES if product.records or name in SCANS]


def product_manifests(product):
    """Make an input function: one manifest of a product for each region that is fitted."""

    def manifests(wildcards):
        regions = KNOWN[wildcards.analysis].used_regions
        return expand(
            "results/{{analysis}}/{region}/{product}.json", region=regions, product=product.name
        )

    return manifests


def neighbour_settings(wildcards):
    """Return what the step of neighbours depends on beside the manifest and the region."""
    return {
        "neighbours": SETTINGS.neighbours,
        "labels": KNOWN[wildcards.analysis].labels,
    }


def neighbour_files(product):
    """Make an input function: what neighbours say, of each region, where results are read."""

    def files(wildcards):
        if product is not HYPOTEST and not product.compares:
            return []
        regions = KNOWN[wildcards.analysis].used_regions
        return expand("results/{{analysis}}/{region}/neighbours.json", region=regions)

    return files


def table_inputs(product):
    """Return the inputs of a product's table."""
    inputs = {
        "manifests": product_manifests(product),
        "files": table_files(product),
        "neighbours": neighbour_files(product),
    }
    if product.compares:
        inputs |= {
            "tests": product_manifests(HYPOTEST),
            "results": f"results/{{analysis}}/{HYPOTEST.table}.json",
        }
    return inputs


def table_files(product):
    """Make an input function: further files of a table; the rule's script says if one is missing."""

    def files(wildcards):
        paths = product.table_files(KNOWN[wildcards.analysis])
        return [str(path) for path in paths if path.exists()]

    return files


def table_outputs(product):
    """The files of a product's table; the last one is in the report, if it has a caption."""
    outputs = {e: f"results/{{analysis}}/{product.table}.{e}" for e in product.endings}
    if product.caption:
        last = product.endings[-1]
        outputs[last] = in_report(product, outputs[last], product.caption, table_labels(product))
    return outputs


def table_labels(product):
    """Make a function: the labels of a product's table in the report, which know its content."""

    def labels(wildcards):
        folder = RESULTS / wildcards.analysis
        return labels_in_report(product.label_of(folder, KNOWN[wildcards.analysis]))

    return labels


def table_settings(product):
    """Make a parameter function: dependencies of a table that are no files."""

    def settings(wildcards):
        return product.table_settings(KNOWN[wildcards.analysis], SETTINGS)

    return settings


def labels_in_report(what):
    """Return the labels of a file in the report."""
    return {"region": "all", "what": what}


def in_report(product, file, caption, labels):
    """A file of a product that is shown in the report, under its analysis."""
    place = {"category": "{analysis}"}
    if product.subcategory:
        place["subcategory"] = product.subcategory
    caption = str(BASE / "report" / caption)
    return report(file, caption=caption, labels=labels, **place)


def plot_inputs(product, plot):
    """Return the inputs of a plot."""
    inputs = {}
    if plot.table:
        inputs["table"] = f"results/{{analysis}}/{product.table}.{table_ending(product, plot)}"
    if plot.curves:
        inputs["curves"] = "resources/published/{analysis}/curves{plane}.json"
    if plot.of == "patch":
        inputs["chosen"] = f"results/{{analysis}}/{product.name}_patches.json"
        inputs["manifests"] = product_manifests(product)
    return inputs


def table_ending(product, plot):
    """Return the ending of the table that a plot reads: its first file for plots of a patch."""
    return product.endings[0 if plot.of == "patch" else -1]


def plot_outputs(product, plot):
    """The files of a plot; the first one of each output is in the report, if it has a caption."""
    outputs = {}
    for name, output in plot.outputs.items():
        first, *others = (f"results/{{analysis}}/{file}" for file in output.files)
        if output.caption:
            first = in_report(product, first, output.caption, plot_labels(product, output))
        outputs[name] = [first, *others] if others else first
    return outputs


def plot_labels(product, output):
    """Make a function: the labels of a plot in the report, which say what it lacks."""

    def labels(wildcards):
        missing = product.left_out(RESULTS / wildcards.analysis, KNOWN[wildcards.analysis])
        without = f", without {'; '.join(missing)}" if missing else ""
        return labels_in_report(output.label.format(**wildcards) + without)

    return labels


def plot_words(product, plot):
    """Return the message of a plot's rule."""
    subject = {
        "plane": "{wildcards.plane}",
        "slice": " {wildcards.slice}",
        "patch": " {wildcards.stem}",
        "names": "",
    }
    return f"{{wildcards.analysis}}{subject[plot.of]}: draw {product.words()}"


def plot_log(plot):
    """Return the stem of a plot rule's logs."""
    wildcard = {"plane": "{plane}", "slice": "_{slice}", "patch": "_{stem}", "names": ""}[plot.of]
    return f"logs/{{analysis}}/{plot.rule}{wildcard}"


def plot_settings(product, plot):
    """Make a parameter function: dependencies of a plot that are no files."""
    if plot.of == "slice":
        return slice_of
    if plot.of == "patch":
        return lambda wildcards: KNOWN[wildcards.analysis].title
    if plot.of == "names":
        return lambda wildcards: {
            "title": KNOWN[wildcards.analysis].title,
            "level": SETTINGS.contour.confidence_level,
        }

    def settings(wildcards):
        return drawn(wildcards) | product.plane_settings(KNOWN[wildcards.analysis])

    return settings


def slice_of(wildcards):
    """Return dependencies of a slice's plot that are no files."""
    analysis = KNOWN[wildcards.analysis]
    return {
        "title": analysis.title,
        "slice": analysis.slices[wildcards.slice].model_dump(mode="json"),
        "level": SETTINGS.contour.confidence_level,
    }


def files_of(product, names=None):
    """Tables and plots of a product, of all selected analyses, that no choice decides about."""
    return [
        file
        for name in (selected(product) if names is None else names)
        for file in product.files_of(name, KNOWN[name], SETTINGS)
    ]


def product_files(product):
    """Make an input function: all tables and plots of a product, of all selected analyses."""

    def files(wildcards):
        every = files_of(product)
        if product.chosen_from is not None:
            every += [
                file
                for name in ANALYSES
                for stem in chosen_stems(name, product)
                for file in product.files_of_patch(name, stem)
            ]
        return every

    return files


def describe(product):
    """Let the list of targets say what a product is."""
    # By its place, because a workflow that uses this one as a module may name rules otherwise.
    latest = list(workflow.rules)[-1]
    latest.docstring = inspect.getdoc(product).partition("\n")[0]


def chosen_stems(analysis, product):
    """File names of the patches that were chosen for a product."""
    choosing = checkpoints.choose_patches.get(analysis=analysis, product=product.name)
    chosen = read_json(Path(choosing.output.chosen))
    return [file_stem(patch) for patches in chosen.values() for patch in patches]


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


def plane_of(wildcards):
    """The plane that a file name's suffix means."""
    return KNOWN[wildcards.analysis].plane_of_suffix(wildcards.plane)


def published_tables(wildcards):
    """Published curves of a plane; a change fetches them again, and so does a new chance."""
    asked = workflow_state.asked_for(RESOURCES, wildcards.analysis, wildcards.plane)
    published = KNOWN[wildcards.analysis].published_of(plane_of(wildcards)).model_dump(mode="json")
    return {**published, "asked": asked} if asked else published


def drawn(wildcards):
    """Return dependencies of a contour's plot that are no files."""
    return {
        "title": KNOWN[wildcards.analysis].title,
        "plane": plane_of(wildcards).model_dump(mode="json"),
        "contour": SETTINGS.contour.model_dump(mode="json"),
    }


def explored(wildcards):
    """Return dependencies of a page to explore that are no inputs of it.

    Upper limits and diagnostics are on it if they are there, but no reason to make them.
    """
    return {**drawn(wildcards), "further": workflow_state.further(RESULTS, wildcards.analysis)}


def result_files(names):
    """Results of some analyses: tables, contours and plots of every plane, pages to explore."""
    pages = [
        f"results/{name}/exclusion{suffix}.html"
        for name in names
        for suffix in map(KNOWN[name].plane_suffix, KNOWN[name].planes)
        if HYPOTEST.plots_of(SETTINGS)
    ]
    return [*files_of(HYPOTEST, names), *pages]


def site_results(wildcards):
    """Results of the selected analyses that are at hand; upper limits, if they were asked for."""
    names = [
        name
        for name, item in ANALYSES.items()
        if at_hand(item, RESULTS, SETTINGS.download, ANALYSIS_FOLDER)
    ]
    limits = [RESULTS / name / "limits.json" for name in names]
    if SETTINGS.fit.test_statistic == "q0":  # it has none
        limits = []
    asked = workflow.dag_settings is not None and "limits" in workflow.dag_settings.targets
    return [*result_files(names), *[str(path) for path in limits if asked or path.exists()]]


def site_settings(wildcards):
    """Return what the site depends on beside results."""
    return {
        "analyses": {name: item.title for name, item in ANALYSES.items()},
        "level": SETTINGS.contour.confidence_level,
        "address": SETTINGS.catalogue.address,
    }


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
    return [str(path)] if path.exists() and SETTINGS.fit.test_statistic != "q0" else []


def hepdata_said(wildcards):
    """Return what a submission takes from the analysis file."""
    return ANALYSES[wildcards.analysis].model_dump(mode="json", exclude={"patches", "use"})


def benchmark_inputs(what):
    """Workspaces or patchsets of the regions that are timed, in order."""

    def files(wildcards):
        regions = ANALYSES[wildcards.analysis].used_regions
        return [f"results/{wildcards.analysis}/{region}/{what}.json" for region in regions]

    return files


def benchmark_case(wildcards):
    """Return dependencies of a repetition's time; a change repeats it."""
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
        for name in ANALYSES
        for case in SETTINGS.benchmark.executors
    ]


def benchmark_shown():
    """Return what the table shows in addition to the times."""
    published = {name: analysis.published_time for name, analysis in ANALYSES.items()}
    return {
        "published": {name: time and time.model_dump() for name, time in published.items()},
        "benchmark": SETTINGS.benchmark.model_dump(mode="json"),
    }


def begin():
    """Refuse to run beside another run in this folder, or without the endpoint that is to fit.

    Unlike Snakemake's own lock, which the profiles switch off, the folder's ends with its holder,
    however that ended. A dry-run comes not here.
    """
    try:
        SETTINGS.executor.require_endpoint()
        workflow_state.claim(RESULTS)
        ENDING.begin()
    except PalletfitError as error:
        raise WorkflowError(str(error)) from None


def all_manifests():
    """Manifests of all regions that are fitted, of all selected analyses."""
    return [
        f"results/{name}/{region}/hypotest.json"
        for name, analysis in ANALYSES.items()
        for region in analysis.used_regions
    ]


def all_submissions(product):
    """Return the files that sending leaves behind, for all regions that are fitted."""
    file = product.file("submitted")
    return [
        f"results/{name}/{region}/{file}.json"
        for name, analysis in ANALYSES.items()
        for region in analysis.used_regions
    ]


def started(wildcards):
    """Return the time when this run began, which is never the same."""
    return STARTED


def products_there():
    """Files of other products in the report: tables and plots that an earlier run made."""
    if not REPORTING:
        return []
    products = [POINTS, *(PRODUCTS[name] for name in OTHERS)]
    files = [file for product in products for file in files_of(product)]
    for name in CHOSEN:
        for analysis in ANALYSES:
            chosen = RESULTS / analysis / f"{name}_patches.json"
            patches = read_json(chosen).values() if chosen.exists() else []
            stems = [file_stem(patch) for region in patches for patch in region]
            plots = [
                file for stem in stems for file in PRODUCTS[name].files_of_patch(analysis, stem)
            ]
            files += [file for file in plots if Path(file).exists()]
    files += [f"results/{analysis}/hepdata.tar.gz" for analysis in ANALYSES]
    files.append("results/_benchmark/times.csv")
    return [file for file in files if Path(file).exists()]


def own_rules():
    """Rules of this workflow, without those of one that uses it as a module."""
    return [
        each
        for each in workflow.rules
        if Path(str(each.snakefile)).resolve().is_relative_to(BASE.resolve())
    ]


def describe_rules():
    """Let the list of rules say in a line each what a user would ask for, and what are steps."""
    if IS_MODULE:
        return
    workflow.list_rules = list_rules
    for each in own_rules():
        summary = inspect.cleandoc(each.docstring or "").partition("\n")[0]
        each.docstring = summary if each.name in TARGETS else f"a step: {summary}"


def list_rules(only_targets=False):
    """Print what a user would ask for, and the steps below."""
    shown = [each for each in own_rules() if each.name in TARGETS]
    print("\n".join(f"{each.name} ({each.docstring})" for each in shown))
    if not only_targets:
        steps = [each for each in own_rules() if each.name not in TARGETS]
        print("\n".join(["", *(f"{each.name} ({each.docstring})" for each in steps)]))


def last_words():
    """Say what there is and where, at the end of this run."""
    asked = workflow.dag_settings.targets if workflow.dag_settings is not None else ()
    return workflow_state.outcome(RESULTS, ANALYSES, SETTINGS, sorted(asked or ()), STARTED)


def watched_end():
    """Watch the run of this process for its last words."""
    quiet = {str(level) for level in workflow.output_settings.quiet or ()}
    ending = Ending(last_words, targets=TARGETS, terse="progress" in quiet)
    logger.addFilter(ending.watch)
    return ending


#: Targets, for a hint at the one that may be meant.
TARGETS = [
    *("all", "catalogue", "combine", "hepdata", "benchmark", "submit"),
    *(name for name in PRODUCTS if PRODUCTS[name] is not HYPOTEST),
    *(f"submit_{name}" for name in OTHERS if name not in CHOSEN),
]
IS_MODULE = not BASE.samefile(workflow.basedir)
ENDING = watched_end() if workflow.is_main_process and not IS_MODULE else None


onstart:
    begin()


onsuccess:
    ENDING.reach()


onerror:
    ENDING.fail()
