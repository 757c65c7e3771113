"""The minima of neighbouring points in a region: a step after all its records, with its own file.

Records stay as they are. ``neighbours.json`` holds the new result of each patch that fell, and the
changes of the lowest minimum; whoever reads the region's results gets both.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.core.files import read_json
from palletfit.core.text import counted

if TYPE_CHECKING:
    from palletfit.engine.neighbours import Outcome
    from palletfit.runs.scan import Scan

logger = logging.getLogger(__name__)

#: Name of the file, beside the manifest.
FILE = "neighbours.json"
#: So many neighbours are named in a remark.
_NAMED = 3

Record = Mapping[str, Any]


def help_each_other(
    scan: Scan, records: Mapping[str, Record], *, enabled: bool = True
) -> dict[str, Any]:
    """Try the minima of neighbours at all patches of a region that have results.

    Parameters
    ----------
    scan
        The region.
    records
        Its records of hypothesis tests, by patch.
    enabled
        Whether the step is wanted.

    Returns
    -------
    dict
        Content of ``neighbours.json``: under ``points`` for each patch that neighbours say anything
        about ``key`` (of its record), ``result`` and ``origin`` (null if it did not fall), and
        ``jump``, a list. ``skipped`` says why the step was not made, or is null.
    """
    # Without the points that did not need a test.
    scan = replace(scan, patches=tuple(patch for patch in scan.patches if patch.name in records))
    reason = _reason_to_skip(scan, enabled=enabled)
    if reason is not None:
        return _content(scan, skipped=reason)
    # The engine is heavy, and most reasons to skip are cheap.
    from palletfit.engine.engine import BatchedEngine
    from palletfit.engine.neighbours import Point, help_neighbours

    fitted = [patch for patch in scan.patches if records[patch.name]["status"] != "failed"]
    points = {
        patch.name: point
        for patch in fitted
        if (point := Point.of(patch, records[patch.name])) is not None
    }
    lacking = len(fitted) - len(points)
    if lacking:
        logger.info(
            "%s: %d of %d results hold no ends of fits: they neither help nor are helped",
            *(scan.title, lacking, len(fitted)),
        )
    if len(points) < 2:
        return _content(scan, skipped="fewer than two results hold the ends of their fits")
    # Nothing has to compile for so few fits.
    settings = scan.settings.model_copy(update={"backend": "numpy"})
    outcome = help_neighbours(BatchedEngine(dict(scan.workspace), settings), points)
    entries = _points(scan, records, outcome)
    logger.info(
        "%s: %s fell, CLs may jump at %d; %s of neighbours were followed",
        scan.title,
        counted(len(outcome.fallen), "point"),
        sum(bool(entry["jump"]) for entry in entries.values()),
        counted(outcome.followed, "end"),
    )
    return _content(
        scan, without_ends=lacking, rounds=outcome.rounds, followed=outcome.followed, points=entries
    )


def _reason_to_skip(scan: Scan, *, enabled: bool) -> str | None:
    if not enabled:
        return "switched off by `neighbours: false`"
    if scan.settings.engine != "batched":
        return f"the engine {scan.settings.engine} has no ends of fits to try"
    if scan.settings.minimum != "lowest":
        return "it concerns the lowest minimum, and the nearest one counts"
    return None


def _content(scan: Scan, *, skipped: str | None = None, **more: Any) -> dict[str, Any]:
    if skipped is not None:
        logger.info("%s: neighbours do not help each other: %s", scan.title, skipped)
    return {
        "title": scan.title,
        "skipped": skipped,
        "without_ends": 0,
        "rounds": 0,
        "followed": 0,
        "points": {},
        **more,
    }


def _points(scan: Scan, records: Mapping[str, Record], outcome: Outcome) -> dict[str, Any]:
    """Make an entry for each patch that neighbours say anything about, in the patches' order.

    Where two minima change places both are as low, and CLs has a kink. It jumps only where the
    Asimov data come from another minimum.
    """
    entries = {}
    source = "fixed" if scan.settings.test_statistic == "q0" else "background"
    for patch in scan.patches:
        name = patch.name
        fallen = outcome.fallen.get(name)
        jumps = [jump for jump in outcome.jumps.get(name, ()) if jump.fit == source]
        if fallen is None and not jumps:
            continue
        origin = fallen and {"neighbours": list(fallen.neighbours), "fell": dict(fallen.fell)}
        entries[name] = {
            "key": records[name]["key"]["digest"],
            "result": fallen and fallen.result.as_json(),
            "origin": origin,
            "jump": [asdict(jump) for jump in jumps],
        }
    return entries


def amended(records: Mapping[str, Record], folder: Path) -> dict[str, Record]:
    """Replace records of patches that fell, and add the changes of the lowest minimum.

    Parameters
    ----------
    records
        Of a region, by patch.
    folder
        The region's, with ``neighbours.json`` if the step was made. Entries about other records
        than these are ignored.
    """
    file = folder / FILE
    points = read_json(file)["points"] if file.exists() else {}
    changed = dict(records)
    for name, point in points.items():
        record = records.get(name)
        if record is None or record["key"]["digest"] != point["key"]:
            continue
        latest = {**record, **(point["result"] or {})}
        origin, jump = point["origin"], point["jump"]
        changed[name] = {
            **latest,
            "origin": origin,
            "jump": jump,
            "remarks": [*_remarks(origin, jump), *latest["remarks"]],
        }
    return changed


def _remarks(origin: Record | None, jump: Sequence[Record]) -> list[str]:
    """Say in words where a minimum comes from, and that another one is the lowest nearby."""
    remarks = []
    if origin is not None:
        fits = ", ".join(name.replace("_", " ") for name in origin["fell"])
        remarks.append(
            f"2 NLL fell by up to {max(origin['fell'].values()):.2g} with a minimum of "
            f"{_names(origin['neighbours'])} ({fits})"
        )
    if jump:
        fits = ", ".join(dict.fromkeys(mark["fit"].replace("_", " ") for mark in jump))
        neighbours = list(dict.fromkeys(mark["neighbour"] for mark in jump))
        remarks.append(
            f"the lowest minimum changes between this point and {_names(neighbours)} ({fits})"
        )
    return remarks


def _names(names: Sequence[str]) -> str:
    """List names, few of them."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def about_neighbours(points: Sequence[Mapping[str, Any]]) -> str:
    """Say how many points fell, and at how many the lowest minimum changes; empty if none does.

    Parameters
    ----------
    points
        Entries of ``results.json``.
    """
    depths = [max(point["origin"]["fell"].values()) for point in points if point.get("origin")]
    marked = sum(bool(point.get("jump")) for point in points)
    parts = []
    if depths:
        count = counted(len(depths), "point")
        parts.append(f"{count} fell by up to {max(depths):.2g} in 2 NLL with a neighbour's minimum")
    if marked:
        changing = counted(marked, "point")
        parts.append(f"the lowest minimum changes between {changing} and neighbours of theirs")
    return "; ".join(parts)
