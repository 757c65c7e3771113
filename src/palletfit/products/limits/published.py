"""Upper limits against published ones.

Experiments publish limits on a cross section. A likelihood gives limits on the signal strength mu.
Their ratio is the cross section that mu = 1 stands for. Even without a table it has to be a
function of the produced particle's mass alone (of x, in a plane). Its spread at one x shows how
well the limits agree, whatever the cross section is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from palletfit.core.arrays import FloatArray

#: Points that are nearer to each other are one point, in parts of the axes' ranges.
_SAME = 1e-6
#: Points whose limits deviate by more than this are named.
_OUTLIER = 0.02
_PB = {"pb": 1.0, "fb": 1e-3}


@dataclass(frozen=True)
class Deviation:
    """A point whose limit differs from that of the other points, or of theory."""

    patch: str
    x: float
    y: float
    published: float
    mu_obs: float
    ratio: float


@dataclass(frozen=True)
class Implied:
    """Published limit divided by the limit on mu, of the points with one x.

    Attributes
    ----------
    x
        Coordinate.
    points
        Number of points.
    median
        In the unit of the published limits (pb, where they are in fb): the cross section.
    lowest, highest
        Relative to the median.
    """

    x: float
    points: int
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Comparison:
    """Observed limits against published ones.

    Attributes
    ----------
    unit
        Of the published limits, as they are compared: pb or mu.
    matched, only_here, only_published
        Points with both limits; with only one.
    implied
        By x, see :class:`Implied`; empty where the published limits are on mu.
    spread
        Of the implied cross sections around the median at their x, over all x with at least two
        points: median and largest absolute deviation.
    ratio
        Limits over published ones, if both are on the same quantity: median, lowest, highest.
    outliers
        Points whose ratio (to the median at their x, or to the published limit) differs from one
        by more than two per cent.
    """

    unit: str
    matched: int
    only_here: int
    only_published: int
    implied: tuple[Implied, ...]
    spread: dict[str, float] | None
    ratio: dict[str, float] | None
    outliers: tuple[Deviation, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def compare(points: pd.DataFrame, table: FloatArray, unit: str) -> Comparison:
    """Compare observed limits with published ones.

    Parameters
    ----------
    points
        Points of a plane, with ``x``, ``y``, ``patch``, ``mu_obs`` and, where theory is known,
        ``upper_limit_obs_pb``.
    table
        Published limits, shape (n, 3): x, y and the limit.
    unit
        Of the published limits: ``pb``, ``fb`` or ``mu``.
    """
    if unit in _PB:
        table, unit = table * np.array([1.0, 1.0, _PB[unit]]), "pb"
    matched, only_here, only_published = _match(points, table)
    implied: list[Implied] = []
    outliers: list[Deviation] = []
    spread = ratio = None
    if unit == "pb":
        matched = matched.assign(implied=matched["published"] / matched["mu_obs"])
        median = matched.groupby("x")["implied"].transform("median")
        matched = matched.assign(ratio=matched["implied"] / median)
        implied = [
            Implied(
                float(str(x)),
                len(rows),
                float(rows["implied"].median()),
                float(rows["ratio"].min()),
                float(rows["ratio"].max()),
            )
            for x, rows in matched.groupby("x")
        ]
        several = matched[matched.groupby("x")["x"].transform("size") > 1]
        if len(several):
            off = (several["ratio"] - 1).abs()
            spread = {"median": float(off.median()), "largest": float(off.max())}
        outliers += _outliers(matched, matched["ratio"])
    ours = "mu_obs" if unit == "mu" else "upper_limit_obs_pb"
    if ours in matched and len(matched):
        direct = matched[ours] / matched["published"]
        ratio = {
            "median": float(direct.median()),
            "lowest": float(direct.min()),
            "highest": float(direct.max()),
        }
        if unit == "mu":
            outliers += _outliers(matched, direct)
    return Comparison(
        unit=unit,
        matched=len(matched),
        only_here=only_here,
        only_published=only_published,
        implied=tuple(implied),
        spread=spread,
        ratio=ratio,
        outliers=tuple(outliers),
    )


def _match(points: pd.DataFrame, table: FloatArray) -> tuple[pd.DataFrame, int, int]:
    """Return points with both limits, and the numbers of those with one of them only."""
    limited = points[np.isfinite(points["mu_obs"].to_numpy(dtype=float))]
    if limited.empty:
        return limited.assign(published=np.empty(0)), 0, len(table)
    coordinates = limited[["x", "y"]].to_numpy(dtype=float)
    size = np.ptp(np.concatenate([coordinates, table[:, :2]]), axis=0)
    size = np.where(size > 0, size, 1.0)
    distance, nearest = cKDTree(table[:, :2] / size).query(coordinates / size)
    same = distance < _SAME
    matched = limited[same].assign(published=table[nearest[same], 2])
    return matched, int((~same).sum()), len(table) - len(set(nearest[same]))


def _outliers(matched: pd.DataFrame, ratio: pd.Series[float]) -> list[Deviation]:
    far = matched.assign(ratio=ratio)[(ratio - 1).abs() > _OUTLIER]
    return [
        Deviation(
            patch=str(row["patch"]),
            **{name: float(row[name]) for name in ("x", "y", "published", "mu_obs", "ratio")},
        )
        for row in far.to_dict("records")
    ]
