"""Snapshots of the fits of one region, or of a part of them."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from palletfit.runs.product import Product
from palletfit.runs.scan import Scan

State = Literal["running", "ended", "interrupted"]
#: Open, or the status of the record.
Status = Literal["open", "ok", "suspect", "failed"]

#: Largest number of points of a region in a page, which otherwise shows every n-th patch.
MOST_POINTS = 4000
#: Number of failures that are named, the last ones.
_NAMED_FAILURES = 12


@dataclass(frozen=True)
class Point:
    """Signal point in a snapshot.

    Attributes
    ----------
    patch, values, status
        Name, values of the labels, and status.
    observed, expected
        CLs, or upper limits on mu; None where there are none.
    """

    patch: str
    values: tuple[float | str, ...]
    status: Status
    observed: float | None = None
    expected: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """Fits of one region, or of a part of them, at one moment.

    Attributes
    ----------
    region, part
        Name of the region, and the part, such as ``2-of-4`` or empty.
    executor
        Description of the executor.
    state
        ``ended``: every patch was tried; ``interrupted``: an error ended the run before.
    began, written
        Seconds since the epoch.
    total, kept
        Number of patches, and of those that had a record before.
    counts
        Number of patches with a record, by its status.
    labels
        Names of the values of points.
    points
        Points of every n-th patch, where n is `stride`.
    stride
        Distance of the patches in `points`.
    failures
        Patch and reason of the last failures.
    """

    region: str
    part: str
    executor: str
    state: State
    began: float
    written: float
    total: int
    kept: int
    counts: Mapping[str, int]
    labels: tuple[str, ...]
    points: tuple[Point, ...]
    stride: int
    failures: tuple[tuple[str, str], ...]

    @property
    def open(self) -> int:
        """Number of patches without a record."""
        return self.total - sum(self.counts.values())

    @property
    def rate(self) -> float | None:
        """Patches per second since the start, without those of an earlier run."""
        finished, elapsed = sum(self.counts.values()) - self.kept, self.written - self.began
        return finished / elapsed if finished and elapsed > 0 else None

    def as_text(self) -> str:
        """Write the snapshot as JSON."""
        points = [list(vars(point).values()) for point in self.points]
        data = {**vars(self), "points": points}
        return json.dumps(data, separators=(",", ":"), allow_nan=False)

    @classmethod
    def read(cls, path: Path) -> Snapshot | None:
        """Read the text of :meth:`as_text`; None if it is missing, or of another version."""
        try:
            data = json.loads(path.read_bytes())
            data["points"] = tuple(
                Point(patch, tuple(values), *numbers) for patch, values, *numbers in data["points"]
            )
            data["labels"] = tuple(data["labels"])
            data["failures"] = tuple((patch, reason) for patch, reason in data["failures"])
            return cls(**data)
        except (OSError, ValueError, TypeError, KeyError):
            return None


class Tally:
    """Counter of records as they arrive.

    Parameters
    ----------
    scan
        The scan.
    kept
        Records of earlier runs, by patch name.
    parts
        Number of parts of the region that are fitted in parallel.
    blinded
        Expected events stand for observed ones, so that points have no observed value.
    """

    def __init__(
        self,
        scan: Scan,
        kept: Mapping[str, Mapping[str, Any]],
        parts: int = 1,
        *,
        blinded: bool = False,
    ) -> None:
        self.total, self.kept, self.blinded = len(scan.patches), len(kept), blinded
        self.counts: Counter[str] = Counter()
        self.failures: deque[tuple[str, str]] = deque(maxlen=_NAMED_FAILURES)
        self.stride = math.ceil(self.total * parts / MOST_POINTS) or 1
        self.points = {
            patch.name: Point(patch.name, patch.values, "open")
            for patch in scan.patches[:: self.stride]
        }
        for record in kept.values():
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Count another record."""
        patch, status = record["patch"], record["status"]
        self.counts[status] += 1
        if status == "failed":
            self.failures.append((patch, str(record["error"]["problem"])))
        point = self.points.get(patch)
        if point is not None:
            observed, expected = _numbers(record)
            observed = None if self.blinded else observed
            self.points[patch] = Point(patch, point.values, status, observed, expected)


def _numbers(record: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Read the observed and median expected CLs or upper limit, if the product has them."""
    for name in ("CLs", "mu"):
        observed, expected = record.get(f"{name}_obs"), record.get(f"{name}_exp")
        if isinstance(expected, Sequence) and len(expected) == 5:
            return _number(observed), _number(expected[2])
    return None, None


def _number(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if number else None


def snapshot_path(folder: Path, product: type[Product], part: str) -> Path:
    """Return the path of a snapshot in the folder of its region."""
    return folder / f"{product.file('.live')}{'-' * bool(part)}{part}.json"


def read_region(folder: Path, product: type[Product], now: float) -> list[Snapshot]:
    """Read the snapshots of all parts of a region, without those of another splitting.

    Parameters
    ----------
    folder
        Folder of the region.
    product
        The product.
    now
        Seconds since the epoch. A snapshot of the future counts as one of this moment.
    """
    stem = product.file(".live")
    paths = [folder / f"{stem}.json", *sorted(folder.glob(f"{stem}-*-of-*.json"))]
    snapshots = []
    for path in paths:
        snapshot = Snapshot.read(path)
        # File names of another product may have the same start.
        if snapshot is not None and snapshot_path(folder, product, snapshot.part) == path:
            snapshots.append(snapshot)
    if not snapshots:
        return []
    latest = max(snapshots, key=lambda snapshot: min(snapshot.written, now))
    return [
        snapshot for snapshot in snapshots if splitting(snapshot.part) == splitting(latest.part)
    ]


def splitting(part: str) -> int:
    """Read the number of parts from ``2-of-4``; it is one for a complete region."""
    return int(part.rpartition("-of-")[2] or 1)


def merged(points: Iterable[tuple[str, Point]]) -> list[tuple[str, Point]]:
    """Take for each signal point the region with the best (lowest) expected value so far.

    Parameters
    ----------
    points
        Regions and their points. Points with equal values are the same.
    """
    best: dict[tuple[float | str, ...], tuple[str, Point]] = {}
    for region, point in points:
        other = best.get(point.values)
        if other is None or _rank(point) < _rank(other[1]):
            best[point.values] = region, point
    return list(best.values())


def _rank(point: Point) -> tuple[int, float]:
    if point.expected is not None:
        return 0, point.expected
    return {"ok": 1, "suspect": 1, "open": 2, "failed": 3}[point.status], 0.0
