"""Upper limits against published ones.

Experiments publish limits on a cross section, a likelihood gives limits on the signal strength mu;
their ratio is the cross section that mu = 1 stands for. Where no table says what that is, it still
has to be a function of the produced particle's mass alone (of x, in a plane): how much it varies
at one x shows how well the limits agree, whatever the cross section is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from palletfit.core.arrays import FloatArray

#: Points that are that near to each other are one, in parts of the axes' ranges.
_SAME = 1e-6
#: Points whose limits deviate by more than this are named.
_OUTLIER = 0.02
_PB = {"pb": 1.0, "fb": 1e-3}


@dataclass(frozen=True)
class Deviation:
    """How far a point's limit is from what the others, or theory, let expect."""

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
        Where.
    points
        How many.
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
        Limits found over published ones, where both are on the same: median, lowest, highest.
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
        """Plain data."""
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
    both, only_here, only_published = _match(points, table)
    implied: list[Implied] = []
    outliers: list[Deviation] = []
    spread = ratio = None
    if unit == "pb":
        both = both.assign(implied=both["published"] / both["mu_obs"])
        median = both.groupby("x")["implied"].transform("median")
        both = both.assign(ratio=both["implied"] / median)
        implied = [
            Implied(
                float(str(x)),
                len(some),
                float(some["implied"].median()),
                float(some["ratio"].min()),
                float(some["ratio"].max()),
            )
            for x, some in both.groupby("x")
        ]
        several = both[both.groupby("x")["x"].transform("size") > 1]
        if len(several):
            off = (several["ratio"] - 1).abs()
            spread = {"median": float(off.median()), "largest": float(off.max())}
        outliers += _outliers(both, both["ratio"])
    ours = "mu_obs" if unit == "mu" else "upper_limit_obs_pb"
    if ours in both and len(both):
        direct = both[ours] / both["published"]
        ratio = {
            "median": float(direct.median()),
            "lowest": float(direct.min()),
            "highest": float(direct.max()),
        }
        if unit == "mu":
            outliers += _outliers(both, direct)
    return Comparison(
        unit=unit,
        matched=len(both),
        only_here=only_here,
        only_published=only_published,
        implied=tuple(implied),
        spread=spread,
        ratio=ratio,
        outliers=tuple(outliers),
    )


def _match(points: pd.DataFrame, table: FloatArray) -> tuple[pd.DataFrame, int, int]:
    """Points that have both limits, and how many have only one of them."""
    known = points[np.isfinite(points["mu_obs"].to_numpy(dtype=float))]
    if known.empty:
        return known.assign(published=np.empty(0)), 0, len(table)
    here = known[["x", "y"]].to_numpy(dtype=float)
    size = np.ptp(np.concatenate([here, table[:, :2]]), axis=0)
    size = np.where(size > 0, size, 1.0)
    distance, nearest = cKDTree(table[:, :2] / size).query(here / size)
    same = distance < _SAME
    both = known[same].assign(published=table[nearest[same], 2])
    return both, int((~same).sum()), len(table) - len(set(nearest[same]))


def _outliers(both: pd.DataFrame, ratio: pd.Series[float]) -> list[Deviation]:
    far = both.assign(ratio=ratio)[(ratio - 1).abs() > _OUTLIER]
    return [
        Deviation(
            patch=str(row["patch"]),
            **{name: float(row[name]) for name in ("x", "y", "published", "mu_obs", "ratio")},
        )
        for row in far.to_dict("records")
    ]
