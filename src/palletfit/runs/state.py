"""The state of a results folder: earlier and concurrent runs of the workflow in it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from palletfit.config import Analysis, DownloadSettings, Plane, Region, Settings
from palletfit.core.files import read_json, write_atomically
from palletfit.core.locks import hold_until_exit
from palletfit.core.processes import end_with
from palletfit.core.text import counted
from palletfit.errors import StoreError
from palletfit.runs import registry
from palletfit.runs.product import Product, is_newer

#: File that counts how often a region's records were found incomplete.
_COUNT = ".refits"
#: Environment variable that tells jobs the process and host of their run.
_ANNOUNCED = "PALLETFIT_RUN"


def announce() -> None:
    """Tell the scripts of this run which process they belong to, see :func:`end_with_run`."""
    os.environ[_ANNOUNCED] = f"{os.getpid()}@{socket.gethostname()}"


def end_with_run() -> None:
    """End this process when the run that started it is gone, however it ended.

    A run that is killed cannot tell its jobs, and they would go on fitting unseen. Jobs on
    other machines, and those of a batch system, do not descend from the run and are ignored.
    """
    process, _, host = os.environ.get(_ANNOUNCED, "").partition("@")
    if host == socket.gethostname() and process.isdigit() and int(process) in _ancestors():
        end_with(int(process))


def _ancestors() -> Iterator[int]:
    process = os.getppid()
    while process > 1:
        yield process
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            return
        process = int(status.split("PPid:", 1)[1].split(maxsplit=1)[0])


def export_package(source: Path) -> None:
    """Let scripts import this checkout's package in other software environments (conda), too."""
    paths = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), paths]))


def claim(results: Path) -> None:
    """Make this process the only run that writes into a results folder, until it ends.

    Raises
    ------
    StoreError
        Another run is at work.
    """
    hold_until_exit(results / ".run.lock", activity="at work in this folder")


def note_incomplete(results: Path, analyses: Mapping[str, Analysis]) -> list[Path]:
    """Count for each region how often its records were found incomplete after a finished run.

    The count is a parameter of the rule that fits: when it has risen, Snakemake runs the rule
    again, and all that follows from it, whatever the target is. Records are incomplete if one was
    lost, edited or cut, or if a patch failed for a reason that may pass (a dead worker, the
    deadline).

    Returns
    -------
    list
        The manifests of these regions.
    """
    incomplete = []
    products = registry.products().values()
    regions = [
        (name, region, product)
        for name, analysis in analyses.items()
        for region in analysis.used_regions
        for product in products
    ]
    for name, region, product in regions:
        path = results / name / region / f"{product.name}.json"
        if path.exists() and not _is_complete(path, analyses[name].regions[region], product):
            count = refits(results, name, region, product) + 1
            write_atomically(path.parent / product.file(_COUNT), f"{count}\n")
            incomplete.append(path)
    return incomplete


def refits(results: Path, analysis: str, region: str, product: type[Product]) -> int:
    """Return how often a region's records were found incomplete, see :func:`note_incomplete`."""
    try:
        return int((results / analysis / region / product.file(_COUNT)).read_text())
    except (OSError, ValueError):
        return 0


def note_left_out(
    resources: Path, analyses: Mapping[str, Analysis], settings: DownloadSettings
) -> list[Path]:
    """Count for each plane how often published tables that were left out may be there by now.

    The count is a parameter of the rule that fetches them, as that of :func:`note_incomplete` is of
    the rule that fits.

    Returns
    -------
    list
        The files with what was published in these planes.
    """
    files = []
    for name, analysis in analyses.items():
        for plane_name, plane in analysis.planes.items():
            suffix = analysis.plane_suffix(plane_name)
            path = resources / "published" / name / f"curves{suffix}.json"
            if path.exists() and _may_be_there(path, plane, settings, name):
                count = asked_for(resources, name, suffix) + 1
                write_atomically(_count_of_asking(resources, name, suffix), f"{count}\n")
                files.append(path)
    return files


def asked_for(resources: Path, analysis: str, suffix: str) -> int:
    """Return how often published tables of a plane were worth asking for again."""
    try:
        return int(_count_of_asking(resources, analysis, suffix).read_text())
    except (OSError, ValueError):
        return 0


def _count_of_asking(resources: Path, analysis: str, suffix: str) -> Path:
    return resources / "published" / analysis / f".asked{suffix}"


def _may_be_there(path: Path, plane: Plane, settings: DownloadSettings, analysis: str) -> bool:
    try:
        content = read_json(path)
        if not any("problem" in entry for entry in content.values()):
            return False
        # It imports what computes contours: only where something is missing.
        from palletfit.planes.overlay import is_worth_asking

        return is_worth_asking(content, plane.published, settings, analysis=analysis)
    except (StoreError, OSError, ValueError, TypeError, AttributeError):
        return True


def _is_complete(path: Path, region: Region, product: type[Product]) -> bool:
    try:
        return product.is_complete(read_json(path), path.parent, region)
    except (StoreError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def further(results: Path, analysis: str) -> dict[str, int]:
    """Return files of limits and diagnostics of an analysis, and when they were written."""
    folder = results / analysis
    times = {}
    for path in (folder / "limits.json", *sorted(folder.glob("*/diagnostics.json"))):
        try:
            times[str(path)] = path.stat().st_mtime_ns
        except OSError:
            continue
    return times


def outcome(
    results: Path,
    analyses: Mapping[str, Analysis],
    settings: Settings,
    targets: Iterable[str] = (),
    since: float = 0.0,
) -> str:
    """Say at the end of a run where results are, and what came out.

    Parameters
    ----------
    results
        The folder of all results.
    analyses, settings
        The configuration.
    targets
        Names of targets, or files, that were asked for.
    since
        Time when the run began.
    """
    lines = [
        line
        for name, analysis in analyses.items()
        for product in registry.products().values()
        if product.records or analysis.points is not None
        for line in product.last_words(results / name, analysis, settings)
    ]
    for name in analyses:
        folder = results / name
        archive = folder / "hepdata.tar.gz"
        if is_newer(archive, [folder / "results.json"]):
            lines += [f"{name}: HEPData submission", f"  hepdata: {archive}"]
    lines += _of_targets(results, analyses, set(targets), since)
    text = "\n".join(lines)
    files = [target for target in targets if target not in text and Path(target).is_file()]
    return "\n".join([*lines, *(f"file: {target}" for target in files)])


def _of_targets(
    results: Path, analyses: Mapping[str, Analysis], targets: set[str], since: float
) -> Iterator[str]:
    """Say where the files are that only one target makes, or that are targets themselves."""
    times = results / "_benchmark" / "times.csv"
    if "benchmark" in targets and times.exists():
        yield "benchmark: wall times"
        yield f"  results: {', '.join(str(times.with_suffix(e)) for e in ('.csv', '.md', '.png'))}"
    site = results / "_catalogue" / "index.html"
    if "catalogue" in targets and site.exists():
        yield "catalogue: a site of what was fitted"
        yield f"  page:    {site}"
    sent = flying = 0
    files = [
        path
        for name in analyses
        for path in (results / name).glob("*/submitted*.json")
        if path.stat().st_mtime >= since
    ]
    for path in files:
        content = read_json(path)
        sent, flying = sent + content["sent"], flying + content["in_flight_before"]
    if files and any(target.partition("_")[0] == "submit" for target in targets):
        yield f"{counted(sent, 'patch', 'patches')} sent, {flying} in flight from before"
        yield "  the same command without the target collects them and finishes"
