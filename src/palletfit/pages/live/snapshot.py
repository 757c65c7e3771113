"""What is known of the fits of one region, or of one part of them, at one moment."""

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
#: Open, or as in a record.
Status = Literal["open", "ok", "suspect", "failed"]

#: A page shows no more points than this, of all parts of a region together: every n-th patch.
MOST_POINTS = 4000
#: The last failures that are named.
_NAMED_FAILURES = 12


@dataclass(frozen=True)
class Point:
    """One signal point.

    Attributes
    ----------
    patch, values, status
        Name, values of the labels, and how far it is.
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
    """The fits of one region, or of one part of them.

    Attributes
    ----------
    region, part
        What is fitted; the part is such as ``2-of-4``, or empty.
    executor
        Where, for people.
    state
        ``ended``: every patch was tried; ``interrupted``: not, and an error says why.
    began, written
        Seconds since the epoch.
    total, kept
        Number of patches, and of those that had a record before.
    counts
        Number of patches with a record, by its status.
    labels
        Names of the points' values.
    points
        Every n-th patch, see `stride`.
    stride
        That n.
    failures
        Patch and reason of the last ones that failed.
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
        """Patches a second since the beginning; those kept from before do not count."""
        made, elapsed = sum(self.counts.values()) - self.kept, self.written - self.began
        return made / elapsed if made and elapsed > 0 else None

    def as_text(self) -> str:
        """As JSON."""
        points = [list(vars(point).values()) for point in self.points]
        data = {**vars(self), "points": points}
        return json.dumps(data, separators=(",", ":"), allow_nan=False)

    @classmethod
    def read(cls, path: Path) -> Snapshot | None:
        """What :meth:`as_text` gave; None if it is not there, or from another version."""
        try:
            data = json.loads(path.read_bytes())
            data["points"] = tuple(
                Point(patch, tuple(values), *rest) for patch, values, *rest in data["points"]
            )
            data["labels"] = tuple(data["labels"])
            data["failures"] = tuple((patch, reason) for patch, reason in data["failures"])
            return cls(**data)
        except (OSError, ValueError, TypeError, KeyError):
            return None


class Tally:
    """Counts records as they come.

    Parameters
    ----------
    scan
        What is fitted.
    kept
        Records from before, by patch name.
    parts
        How many parts of the region are fitted side by side.
    """

    def __init__(self, scan: Scan, kept: Mapping[str, Mapping[str, Any]], parts: int = 1) -> None:
        self.total, self.kept = len(scan.patches), len(kept)
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
        """Count one more record."""
        patch, status = record["patch"], record["status"]
        self.counts[status] += 1
        if status == "failed":
            self.failures.append((patch, str(record["error"]["problem"])))
        point = self.points.get(patch)
        if point is not None:
            self.points[patch] = Point(patch, point.values, status, *_numbers(record))


def _numbers(record: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Observed and median expected CLs or upper limit; products without them have none."""
    for name in ("CLs", "mu"):
        observed, expected = record.get(f"{name}_obs"), record.get(f"{name}_exp")
        if isinstance(expected, Sequence) and len(expected) == 5:
            return _number(observed), _number(expected[2])
    return None, None


def _number(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if number else None


def snapshot_path(folder: Path, product: type[Product], part: str) -> Path:
    """File of a snapshot in the folder of its region."""
    return folder / f"{product.file('.live')}{'-' * bool(part)}{part}.json"


def read_region(folder: Path, product: type[Product], now: float) -> list[Snapshot]:
    """Snapshots of all parts of a region, without those of another splitting.

    Parameters
    ----------
    folder
        Of the region.
    product
        What is fitted.
    now
        Seconds since the epoch; a snapshot from the future counts as one from now.
    """
    stem = product.file(".live")
    paths = [folder / f"{stem}.json", *sorted(folder.glob(f"{stem}-*-of-*.json"))]
    found = []
    for path in paths:
        item = Snapshot.read(path)
        # The file name of another product may begin as this one's does.
        if item is not None and snapshot_path(folder, product, item.part) == path:
            found.append(item)
    if not found:
        return []
    last = max(found, key=lambda item: min(item.written, now))
    return [item for item in found if splitting(item.part) == splitting(last.part)]


def splitting(part: str) -> int:
    """Number of parts that ``2-of-4`` is one of; one for a whole region."""
    return int(part.rpartition("-of-")[2] or 1)


def merged(points: Iterable[tuple[str, Point]]) -> list[tuple[str, Point]]:
    """Take for each signal point the region with the best (lowest) expected value so far.

    Parameters
    ----------
    points
        Regions, and points in them. Points with equal values are the same.
    """
    best: dict[tuple[float | str, ...], tuple[str, Point]] = {}
    for region, point in points:
        known = best.get(point.values)
        if known is None or _rank(point) < _rank(known[1]):
            best[point.values] = region, point
    return list(best.values())


def _rank(point: Point) -> tuple[int, float]:
    if point.expected is not None:
        return 0, point.expected
    return {"ok": 1, "suspect": 1, "open": 2, "failed": 3}[point.status], 0.0
