"""Excluded fraction of a scan's points, in bins of a plane."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from palletfit.config import Analysis, Plane
from palletfit.core.arrays import FloatArray
from palletfit.errors import ConfigError
from palletfit.planes.coordinates import plane_points
from palletfit.runs.results import EXPECTED_COLUMNS

#: Rows that are read together.
_ROWS = 65_536
#: Numbers of points of a plane between which a contour is drawn instead of bins.
LEAST, FEW = 3, 300


@dataclass(frozen=True)
class Fraction:
    """Points in bins of a plane.

    Attributes
    ----------
    x, y
        Edges of the bins, ``(n + 1,)``.
    points
        Points with a result, ``(n, n)``, x first.
    excluded
        Those that are excluded: ``observed``, and ``expected`` in the median.
    failed
        Number of points without a result, which are in no bin.
    confidence_level
        Points are excluded where CLs is below one minus this.
    """

    x: FloatArray
    y: FloatArray
    points: FloatArray
    excluded: dict[str, FloatArray]
    failed: int
    confidence_level: float

    def of(self, kind: str) -> FloatArray:
        """Compute the excluded fraction, ``(n, n)``; NaN in bins without points."""
        filled = self.points > 0
        return np.where(filled, self.excluded[kind] / np.where(filled, self.points, 1.0), np.nan)


def excluded_fraction(table: Path, analysis: Analysis, plane: Plane, level: float) -> Fraction:
    """Count the points of a plane, reading the table piece by piece.

    Raises
    ------
    ConfigError
        An expression of the plane is wrong, or no point lies in it.
    """
    bins = analysis.points.plot_bins if analysis.points is not None else 1
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for rows in _pieces(table, analysis, plane):
        coordinates = rows[["x", "y"]].to_numpy(dtype=float)
        low = np.minimum(low, coordinates.min(axis=0, initial=np.inf))
        high = np.maximum(high, coordinates.max(axis=0, initial=-np.inf))
    if not np.all(low <= high):
        raise ConfigError(
            "No point lies in the plane.",
            remedy=f"Correct its condition: select = {plane.select!r}.",
            file=table,
        )
    high = np.where(high > low, high, low + 1.0)
    x, y = (np.linspace(*ends, bins + 1) for ends in zip(low, high, strict=True))
    points, failed = np.zeros((bins, bins)), 0
    excluded = {kind: np.zeros((bins, bins)) for kind in ("observed", "expected")}
    for rows in _pieces(table, analysis, plane):
        fitted = rows[rows["CLs_exp_0"].notna()]
        failed += len(rows) - len(fitted)
        points += np.histogram2d(fitted["x"], fitted["y"], bins=(x, y))[0]
        for kind, column in (("observed", "CLs_obs"), ("expected", "CLs_exp_0")):
            out = fitted[fitted[column] < 1.0 - level]
            excluded[kind] += np.histogram2d(out["x"], out["y"], bins=(x, y))[0]
    return Fraction(x, y, points, excluded, failed, level)


def few_points(table: Path, analysis: Analysis, plane: Plane) -> pd.DataFrame | None:
    """Read the points of a plane if they are few, so that a contour says more than bins.

    Returns
    -------
    pandas.DataFrame or None
        Rows as :func:`palletfit.planes.contour.exclusion` takes them; None if there are more than
        :data:`FEW` points, fewer than three, or two at one place.

    Raises
    ------
    ConfigError
        An expression of the plane is wrong.
    """
    columns = ["name", *analysis.labels, "region", "status", "CLs_obs", *EXPECTED_COLUMNS]
    pieces: list[pd.DataFrame] = []
    for rows in _pieces(table, analysis, plane, columns):
        pieces.append(rows)
        if sum(map(len, pieces)) > FEW:
            return None
    points = pd.concat(pieces)
    if len(points) < LEAST or points.duplicated(["x", "y"]).any():
        return None
    return points.drop(columns=["x", "y"]).rename(columns={"name": "patch"})


def _pieces(
    table: Path, analysis: Analysis, plane: Plane, columns: list[str] | None = None
) -> Iterator[pd.DataFrame]:
    columns = columns or [*analysis.labels, "CLs_obs", "CLs_exp_0"]
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
            yield plane_points(batch.to_pandas(), plane, unique=False)
