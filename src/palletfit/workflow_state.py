"""What a run of the workflow has to know about earlier and concurrent runs in the same folder."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palletfit import manifest
from palletfit.config import Analysis, Region, Settings
from palletfit.locks import hold_until_exit
from palletfit.store import RecordStore


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


def forget_incomplete(results: Path, analyses: Mapping[str, Analysis]) -> list[Path]:
    """Remove manifests that no longer describe finished records, so that these are fitted again.

    A manifest is only an index: no record is touched. It goes if a record was lost, edited or
    cut, or if a patch failed for a reason that may pass (a dead worker, the deadline).

    Returns
    -------
    list
        The removed manifests.
    """
    removed = []
    for name, analysis in analyses.items():
        for region in analysis.used_regions:
            path = results / name / region / "hypotest.json"
            if path.exists() and not _is_complete(path, analysis.regions[region]):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _is_complete(path: Path, region: Region) -> bool:
    try:
        content = json.loads(path.read_bytes())
        return manifest.is_complete(content, RecordStore(path.parent / "fits"), region)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def outcome(results: Path, analyses: Mapping[str, Analysis], settings: Settings) -> str:
    """Where a finished run's results are, and what came out, for the end of its output."""
    lines = []
    for name, analysis in analyses.items():
        folder = results / name
        try:
            points = json.loads((folder / "results.json").read_bytes()).values()
        except (OSError, ValueError):
            continue  # another target than the whole analysis was asked for
        lines.append(_summary_line(analysis, list(points), settings))
        lines += [
            f"  contour: {folder / f'exclusion{suffix}.{ending}'}"
            for suffix in map(analysis.plane_suffix, analysis.planes)
            for ending in ("png", "pdf")
            if (folder / f"exclusion{suffix}.{ending}").exists()
        ]
        lines.append(f"  results: {folder / 'results.csv'} and {folder / 'results.json'}")
    return "\n".join(lines)


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
