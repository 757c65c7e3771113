"""Configuration and helpers of all rules; what can be tested without Snakemake is in src/palletfit."""

import re
import sys
import time

from palletfit import workflow_state
from palletfit.config import NAME_PATTERN, Settings, load_analyses
from palletfit.config import parse as parse_settings
from palletfit.engines import VERSIONS
from palletfit.errors import PalletfitError
from palletfit.products import OTHERS, product_of
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
    if workflow.is_main_process:
        workflow_state.note_incomplete(RESULTS, ANALYSES)
        workflow_state.announce()
except PalletfitError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    analysis="|".join(map(re.escape, ANALYSES)),
    region="|".join(re.escape(name) for item in ANALYSES.values() for name in item.regions),
    plane=rf"|_{NAME_PATTERN}",
    product="|".join(OTHERS),


def pallet_file(wildcards):
    """The local archive of an analysis, if it has one; the rule's script says if it is missing."""
    path = ANALYSES[wildcards.analysis].pallet.path
    return [str(path)] if path is not None and path.exists() else []


def pallet_source(wildcards):
    """Where an archive comes from; a change fetches it again."""
    return ANALYSES[wildcards.analysis].pallet.model_dump(mode="json", exclude={"sha256"})


def region_members(wildcards):
    """Files of a region inside the archive, with their pins and what they are checked against."""
    analysis = ANALYSES[wildcards.analysis]
    region = analysis.regions[wildcards.region]
    pins = analysis.pallet.sha256
    members = [region.workspace, region.patchset]
    return {
        "members": members,
        "sha256": [pins.get(name) for name in members],
        "labels": analysis.labels,
    }


def fit_settings(wildcards):
    """Physics of the fits; a change makes other records necessary."""
    return {
        "fit": SETTINGS.fit.model_dump(mode="json"),
        "engine": VERSIONS[SETTINGS.fit.engine],
        # Rises when records were found lost, damaged or failed for a reason that may pass.
        "refits": workflow_state.refits(RESULTS, wildcards.analysis, wildcards.region),
        "patches": ANALYSES[wildcards.analysis].patches,
        "on_failure": SETTINGS.on_failure,
        "known_failures": ANALYSES[wildcards.analysis].regions[wildcards.region].known_failures,
    }


def product_settings(wildcards):
    """The same of another product than hypothesis tests, with its own settings and version."""
    where = wildcards.analysis, wildcards.region, wildcards.product
    return {
        **fit_settings(wildcards),
        **product_of(wildcards.product, SETTINGS).as_json(),
        "refits": workflow_state.refits(RESULTS, *where),
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
    regions = ANALYSES[wildcards.analysis].used_regions
    return expand("results/{{analysis}}/{region}/hypotest.json", region=regions)


def plane_of(wildcards):
    """The plane that a file name's suffix means."""
    return ANALYSES[wildcards.analysis].plane_of_suffix(wildcards.plane)


def published_tables(wildcards):
    """Published curves of a plane; a change fetches them again."""
    return plane_of(wildcards).published.model_dump(mode="json")


def drawn(wildcards):
    """What a contour's plot depends on beside the results."""
    return {
        "title": ANALYSES[wildcards.analysis].title,
        "plane": plane_of(wildcards).model_dump(mode="json"),
        "contour": SETTINGS.contour.model_dump(mode="json"),
    }


def explored(wildcards):
    """What a page to explore depends on beside files that are made for it.

    Upper limits and diagnostics are on it if they are there, but no reason to make them.
    """
    return {**drawn(wildcards), "further": workflow_state.further(RESULTS, wildcards.analysis)}


def contour_files():
    """Contours and plots of every plane of the selected analyses; p0 of q0 has none."""
    if SETTINGS.fit.test_statistic == "q0":
        return []
    return [
        f"results/{name}/{file}"
        for name, analysis in ANALYSES.items()
        for suffix in map(analysis.plane_suffix, analysis.planes)
        for file in (
            *(f"exclusion{suffix}.{ending}" for ending in ("png", "pdf", "html")),
            f"contour{suffix}.json",
        )
    ]


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
        for name, analysis in ANALYSES.items()
        for region in analysis.used_regions
    ]


def all_submissions():
    """What sending leaves behind, for all regions that are fitted."""
    return [
        f"results/{name}/{region}/submitted.json"
        for name, analysis in ANALYSES.items()
        for region in analysis.used_regions
    ]


def started(wildcards):
    """When this run began, which is never the same."""
    return STARTED


onstart:
    claim_results()


onsuccess:
    print(workflow_state.outcome(RESULTS, ANALYSES, SETTINGS), file=sys.stderr)
