"""What a run of the workflow has to know about earlier and concurrent runs in the same folder."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, Region, Settings
from palletfit.core.files import write_atomically
from palletfit.core.locks import hold_until_exit
from palletfit.core.processes import end_with
from palletfit.pallet.patches import file_stem
from palletfit.runs import manifest
from palletfit.runs.product import HYPOTEST, OTHERS, POINTS, TOYS, Product, records_folder
from palletfit.runs.store import RecordStore

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
    other machines, and those of a batch system, do not descend from the run and are let alone.
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
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), others]))


def claim(results: Path) -> None:
    """Make this process the only run that writes into a results folder, until it ends.

    Raises
    ------
    StoreError
        Another run is at work.
    """
    hold_until_exit(results / ".run.lock", what="at work in this folder")


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
    places = [
        (name, region, product)
        for name, analysis in analyses.items()
        for region in analysis.used_regions
        for product in (HYPOTEST.name, *OTHERS, POINTS.name)
    ]
    for name, region, product in places:
        path = results / name / region / f"{product}.json"
        if path.exists() and not _is_complete(path, analyses[name].regions[region], product):
            count = refits(results, name, region, product) + 1
            write_atomically(path.parent / Product(product).file(_COUNT), f"{count}\n")
            incomplete.append(path)
    return incomplete


def refits(results: Path, analysis: str, region: str, product: str = HYPOTEST.name) -> int:
    """How often a region's records were found incomplete, see :func:`note_incomplete`."""
    try:
        return int((results / analysis / region / Product(product).file(_COUNT)).read_text())
    except (OSError, ValueError):
        return 0


def _is_complete(path: Path, region: Region, product: str) -> bool:
    try:
        content = json.loads(path.read_bytes())
        if product == POINTS.name:
            # Only where there are points: Parquet takes its time to be imported.
            from palletfit.products.points.run import is_complete

            return is_complete(content, path.parent / "points")
        store = RecordStore(path.parent / records_folder(product))
        return manifest.is_complete(content, store, region)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def further(results: Path, analysis: str) -> dict[str, int]:
    """Upper limits and diagnostics of an analysis that are there, and when they were written."""
    folder = results / analysis
    found = {}
    for path in (folder / "limits.json", *sorted(folder.glob("*/diagnostics.json"))):
        try:
            found[str(path)] = path.stat().st_mtime_ns
        except OSError:
            continue
    return found


def outcome(results: Path, analyses: Mapping[str, Analysis], settings: Settings) -> str:
    """Where a finished run's results are, and what came out, for the end of its output."""
    lines = []
    for name, analysis in analyses.items():
        folder = results / name
        if analysis.points is not None:
            lines += _points_line(name, folder, analysis)
            continue
        points = _made(folder, "results.json", HYPOTEST.name, analysis)
        if points is not None:
            lines.append(_summary_line(analysis, points, settings))
            lines += _plots(folder, "contour", "exclusion", analysis)
            lines.append(f"  results: {folder / 'results.csv'} and {folder / 'results.json'}")
        limits = _made(folder, "limits.json", "limits", analysis)
        if limits is not None:
            lines.append(_limits_line(analysis, limits, settings))
            lines += _plots(folder, "limits", "limits", analysis)
            lines.append(f"  limits: {folder / 'limits.csv'} and {folder / 'limits.json'}")
        lines += _diagnostics_lines(name, folder, analysis)
        lines += _toys_lines(name, folder, analysis)
    return "\n".join(lines)


def _made(
    folder: Path, name: str, product: str, analysis: Analysis
) -> list[Mapping[str, Any]] | None:
    """Entries of a collection that is newer than its regions' manifests.

    None if there is none: another target than this was asked for.
    """
    try:
        points = json.loads((folder / name).read_bytes()).values()
        made = (folder / name).stat().st_mtime
        fitted = [folder / region / f"{product}.json" for region in analysis.used_regions]
        newest = max(path.stat().st_mtime for path in fitted)
    except (OSError, ValueError):
        return None
    return list(points) if made >= newest else None


def _plots(folder: Path, what: str, stem: str, analysis: Analysis) -> list[str]:
    paths = [
        folder / f"{stem}{suffix}.{ending}"
        for suffix in map(analysis.plane_suffix, analysis.planes)
        for ending in ("png", "pdf", "html")
    ]
    return [f"  {what}: {path}" for path in paths if path.exists()]


def _limits_line(
    analysis: Analysis, points: Sequence[Mapping[str, Any]], settings: Settings
) -> str:
    status = Counter(point["status"] for point in points)
    below = sum(point["mu_obs"] is not None and point["mu_obs"] < 1 for point in points)
    beyond = sum(point["states"]["obs"] == "beyond" for point in points)
    return (
        f"{analysis.name}: {len(points)} upper limits at "
        f"{100 * settings.contour.confidence_level:.4g}% CL, {below} below mu = 1, {beyond} beyond "
        f"the bound, {status['suspect']} suspect, {status['failed']} failed"
    )


def _toys_lines(name: str, folder: Path, analysis: Analysis) -> list[str]:
    """CLs from toys of each chosen point, and where plots and tables are."""
    points = _made(folder, "toys.json", TOYS, analysis)
    if points is None:
        return []
    plots = [folder / f"toys_{file_stem(point['patch'])}.png" for point in points]
    return [
        *(_toys_line(name, point) for point in points),
        *(f"  plot:    {path}" for path in plots if path.exists()),
        f"  results: {folder / 'toys.csv'} and {folder / 'toys.json'}",
    ]


def _toys_line(analysis: str, point: Mapping[str, Any]) -> str:
    if point["status"] == "failed":
        return f"{analysis}: no toys of {point['patch']}: {point['problem']}"
    value, formulae = point["CLs_obs"], point["asymptotic"].get("CLs_obs")
    found = "not defined" if value is None else f"{value:.4g} +- {point['CLs_obs_error']:.2g}"
    beside = "" if formulae is None else f" (asymptotic {formulae:.4g})"
    what = "p0" if point["test_statistic"] == "q0" else "CLs"
    return (
        f"{analysis}: {what} of {point['patch']} from {point['toys']} toys of each hypothesis: "
        f"{found}{beside}, {point['status']}"
    )


def _diagnostics_lines(name: str, folder: Path, analysis: Analysis) -> list[str]:
    """Of how many fits there are diagnostics, and where their plots are."""
    patches = _made(folder, "diagnostics.json", "diagnostics", analysis)
    if patches is None:
        return []
    status = Counter(patch["status"] for patch in patches)
    points = "signal point" if len(patches) == 1 else "signal points"
    said = (
        f"{name}: diagnostics of {len(patches)} {points}, "
        f"{status['suspect']} suspect, {status['failed']} failed"
    )
    return [
        said,
        f"  plots:   {folder / 'diagnostics_*.png'}",
        f"  results: {folder / 'diagnostics.csv'} and {folder / 'diagnostics.json'}",
    ]


def _points_line(name: str, folder: Path, analysis: Analysis) -> list[str]:
    """What came out of a large scan."""
    table = folder / "points.parquet"
    manifests = [folder / region / "points.json" for region in analysis.used_regions]
    try:
        if table.stat().st_mtime < max(path.stat().st_mtime for path in manifests):
            return []
    except OSError:
        return []  # another target was asked for
    from palletfit.products.points.collect import counts_of

    found = counts_of(table)
    level = f"{100 * found['confidence_level']:.4g}% CL"
    said = (
        f"{name}: {found['points']} points, {found['excluded']} excluded at {level}, "
        f"{found['suspect']} suspect, {found['failed']} failed"
    )
    plots = [
        folder / f"excluded{suffix}.{ending}"
        for suffix in map(analysis.plane_suffix, analysis.planes)
        for ending in ("png", "pdf")
    ]
    return [said, *(f"  plot:    {path}" for path in plots if path.exists()), f"  results: {table}"]


def _summary_line(
    analysis: Analysis, points: Sequence[Mapping[str, Any]], settings: Settings
) -> str:
    status = Counter(point["status"] for point in points)
    level = settings.contour.confidence_level
    size = round(1 - level, 12)  # 0.05, not 0.05 and a rounding error
    excluded = sum(point["CLs_obs"] is not None and point["CLs_obs"] < size for point in points)
    found = (
        ""
        if settings.fit.test_statistic == "q0"
        else f"{excluded} excluded at {100 * level:.4g}% CL, "
    )
    return (
        f"{analysis.name}: {len(points)} signal points, {found}"
        f"{status['suspect']} suspect, {status['failed']} failed"
    )
