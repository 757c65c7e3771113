"""Points of a scan from which all others are tested.

They are chosen among points of the scan by numbers that depend on its length only, and kept in a
file beside the results. Their digest is part of the key of every result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.core.files import read_json, write_json
from palletfit.engine.versions import VERSIONS
from palletfit.errors import ConfigError, PalletfitError
from palletfit.pallet.patches import Patch, json_digest
from palletfit.products.points.parts import content_digest
from palletfit.products.points.product import Points
from palletfit.runs.store import settings_of_key

if TYPE_CHECKING:
    from palletfit.products.points.run import PointScan

#: Raise it when a change of tests from references changes results.
VERSION = "once-1"
#: So many points are tested in full before all others.
SAMPLE = 256
#: Name of the file in the folder of results.
FILE = "references.json"
#: Beginnings of remarks in the reason of a row, see :mod:`palletfit.engine.warm_tests`.
_REMARKS = {
    "searched_in_full": "searched in full, because",
    "checked": "searched in full, because it is one in",
    "disagreed": "tested from references it",
}


def references_of(scan: PointScan, folder: Path) -> dict[str, Any]:
    """Give the references of a scan as plain data, from their file or from full tests.

    They are tested in this process, which takes as long as :data:`SAMPLE` points do.

    Raises
    ------
    ConfigError
        The settings ask for another engine, or for the nearest minimum.
    FitError
        None of the points can be a reference.
    """
    numbers = sample(scan.source.count)
    chunks = scan.source.chunks(range(number, number + 1) for number in numbers)
    patches = [patch for _, members in chunks for patch in members]
    key = _key(scan, patches)
    path = folder / FILE
    stored = _read(path)
    references: dict[str, Any] = stored.get("references", {})
    if stored.get("key") == key and stored.get("digest") == json_digest(references):
        return references
    references = _choose(scan, patches)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"key": key, "digest": json_digest(references), "references": references})
    return references


def check_size(task: bytes, executor: Executor, title: str) -> None:
    """Refuse references that leave a task no room for points.

    Parameters
    ----------
    task
        Task of no points.
    executor
        Its attribute `largest_task`, if it has one, is the number of bytes of a task.
    title
        Title of the scan.

    Raises
    ------
    ConfigError
        They take more than half of a task.
    """
    largest = getattr(executor, "largest_task", math.inf)
    if len(task) > largest / 2:
        raise ConfigError(
            f"The references of {title}, which go with each task, take {len(task) / 1e6:.2g} MB "
            f"compressed, and a task of this executor has at most {largest / 1e6:.2g} MB.",
            remedy="Use another executor, or set `points: {search: full}` in the configuration.",
        )


def sample(count: int) -> list[int]:
    """Choose the numbers of some points among `count`, in order."""
    drawn = (hashlib.sha256(f"{number}".encode()).digest() for number in range(2 * SAMPLE))
    numbers = dict.fromkeys(int.from_bytes(digest[:8], "big") % count for digest in drawn)
    return sorted([*numbers][:SAMPLE])


def products_of(references: Mapping[str, Any]) -> tuple[Points, Points]:
    """Make the product that keys name, with the digest of references, and that of tasks."""
    settings = {"search": VERSION}
    return (
        Points({**settings, "references": json_digest(references)}),
        Points({**settings, "references": references}),
    )


def searches(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the rows of points that were searched in full or checked; none where there are none."""
    reasons = [row["reason"] or "" for row in rows]
    counts = {
        name: sum(remark in reason for reason in reasons) for name, remark in _REMARKS.items()
    }
    return {name: count for name, count in counts.items() if count}


def searched(entries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Sum the counts of :func:`searches` over files of results."""
    files = list(entries)
    return {name: sum(entry.get(name, 0) for entry in files) for name in _REMARKS}


def _key(scan: PointScan, patches: Sequence[Patch]) -> str:
    """Compute a digest of all that references depend on."""
    settings = settings_of_key(scan.settings)
    workspace, points = json_digest(scan.workspace), content_digest(patches)
    return json_digest([workspace, points, settings, VERSIONS[scan.settings.engine], VERSION])


def _read(path: Path) -> Mapping[str, Any]:
    """Read a file of references; nothing from a missing or damaged one."""
    try:
        content = read_json(path)
    except (OSError, ValueError, PalletfitError):
        return {}
    return content if isinstance(content, dict) else {}


def _choose(scan: PointScan, patches: Sequence[Patch]) -> dict[str, Any]:
    """Test points in full, and choose references among them."""
    # Imported here: with every point searched in full, no process of the workflow fits.
    from palletfit.engine.choose import make_engine, require_batched
    from palletfit.engine.warm_tests import choose_references

    engine = require_batched(make_engine(scan.workspace, scan.settings), "tests from references")
    return choose_references(engine, patches).as_json()
