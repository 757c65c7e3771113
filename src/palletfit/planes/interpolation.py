"""Interpolate values between signal points, and estimate the error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from scipy import linalg
from scipy.interpolate import (
    CloughTocher2DInterpolator,
    LinearNDInterpolator,
    RBFInterpolator,
)
from scipy.spatial import Delaunay
from scipy.spatial.distance import cdist
from scipy.special import xlogy

from palletfit.config import ContourSettings
from palletfit.core.arrays import FloatArray

#: Lengths below this, in units of the axes' ranges, count as zero.
TOLERANCE = 1e-9
#: Points that far from the contour, in units of significance, count as near.
NEAR = 1.0
#: Least difference between a point and the interpolation of the others, in units of significance,
#: from which on the contour next to it rests on this point alone.
ALONE = 0.25


@dataclass(frozen=True)
class Residuals:
    """Differences between interpolated and fitted significances.

    Parameters
    ----------
    points
        Number of points.
    rms, maximum
        Root mean square and largest absolute difference of Z; none without points.
    worst_patch
        Patch with the largest difference.
    misclassified
        Number of points that are excluded but interpolated as not excluded, or vice versa.
    """

    points: int
    rms: float | None
    maximum: float | None
    worst_patch: str | None
    misclassified: int


@dataclass(frozen=True)
class LeaveOneOut:
    """Error of the interpolation: each inner point compared with the interpolation of the others.

    Parameters
    ----------
    all_points
        All points inside the convex hull. Points on the hull would need an extrapolation.
    near_contour
        Points whose Z differs by less than one from that of the contour.
    """

    all_points: Residuals
    near_contour: Residuals


@dataclass(frozen=True, eq=False)
class Geometry:
    """Points in the unit square, where lengths along both axes are comparable.

    `scaled` has shape (points, 2). `origin` and `size`, of shape (2,), convert back to the units of
    the axes. `hull` is the convex hull in the unit square.
    """

    scaled: FloatArray
    origin: FloatArray
    size: FloatArray
    hull: shapely.Geometry

    @classmethod
    def of(cls, points: pd.DataFrame) -> Geometry:
        """Scale the columns ``x`` and ``y`` of a table."""
        coordinates = points[["x", "y"]].to_numpy(dtype=np.float64)
        if len(coordinates) == 0:
            return cls(coordinates, np.zeros(2), np.ones(2), shapely.MultiPoint())
        origin = coordinates.min(axis=0)
        spread = np.ptp(coordinates, axis=0)
        size = np.where(spread > 0, spread, 1.0)
        scaled = (coordinates - origin) / size
        return cls(scaled, origin, size, shapely.MultiPoint(scaled).convex_hull)

    def scale(self, vertices: FloatArray) -> FloatArray:
        """Scale points of shape (n, 2) to the unit square."""
        return np.asarray((vertices - self.origin) / self.size)

    def axes(self, count: int) -> tuple[FloatArray, FloatArray]:
        """Make the axes of a grid over the range of the points, in the units of the plane."""
        upper = self.origin + self.size
        x, y = np.linspace(self.origin, upper, count).T
        return x, y


def _interpolator(
    scaled: FloatArray, values: FloatArray, kind: str
) -> Callable[[FloatArray], FloatArray]:
    """Interpolate values of shape (points, curves); NaN outside the convex hull of the points."""
    triangles = Delaunay(scaled)
    if kind == "linear":
        return LinearNDInterpolator(triangles, values)  # type: ignore[no-any-return]
    if kind == "cubic":
        # The default tolerance of the gradients, 1e-6, would deform planes.
        return CloughTocher2DInterpolator(  # type: ignore[no-any-return]
            triangles, values, tol=1e-9, maxiter=2000
        )
    spline = RBFInterpolator(scaled, values, kernel="thin_plate_spline")

    def inside(points: FloatArray) -> FloatArray:
        values_there = spline(points)
        values_there[triangles.find_simplex(points, tol=TOLERANCE) < 0] = np.nan
        return np.asarray(values_there)

    return inside


def field(
    geometry: Geometry,
    significance: FloatArray,
    settings: ContourSettings,
    grid_x: FloatArray,
    grid_y: FloatArray,
) -> FloatArray:
    """Interpolate on a grid.

    Parameters
    ----------
    geometry
        The points.
    significance
        Values of shape (points, curves).
    settings
        Kind of interpolation.
    grid_x, grid_y
        Axes of the grid in the units of the plane.

    Returns
    -------
    array of shape (len(grid_y), len(grid_x), curves)
        NaN outside the convex hull of the points.
    """
    nodes = np.stack(np.meshgrid(grid_x, grid_y), axis=-1)
    interpolate = _interpolator(geometry.scaled, significance, settings.interpolation)
    values = interpolate(geometry.scale(nodes.reshape(-1, 2)))
    return values.reshape(len(grid_y), len(grid_x), -1)


def predict(
    geometry: Geometry, significance: FloatArray, settings: ContourSettings
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Interpolate each inner point from all others.

    Parameters
    ----------
    geometry, significance
        The points, and their values of shape (points, columns).
    settings
        Kind of interpolation.

    Returns
    -------
    indices, values
        Indices of the points inside the convex hull, shape (inner,), and the values that the other
        points give there, shape (inner, columns).
    """
    to_border = shapely.distance(shapely.points(geometry.scaled), geometry.hull.exterior)
    inner = np.flatnonzero(to_border > TOLERANCE)
    if settings.interpolation == "rbf":
        return inner, spline_predictions(geometry.scaled, significance)[inner]
    predicted = np.empty((len(inner), significance.shape[1]))
    for row, index in enumerate(inner):
        remaining = np.delete(np.arange(len(significance)), index)
        interpolate = _interpolator(
            geometry.scaled[remaining], significance[remaining], settings.interpolation
        )
        predicted[row] = interpolate(geometry.scaled[[index]])[0]
    return inner, predicted


def spline_predictions(scaled: FloatArray, values: FloatArray) -> FloatArray:
    """Interpolate each point from all others with thin-plate splines, by one matrix for all points.

    A spline is a solution of ``M (c, d) = (values, 0)``, with one row of `M` for each point and
    three for the plane that is added. Without point `i` it misses that one's value by
    ``c_i / (M^-1)_ii``: S. Rippa, Adv. Comput. Math. 11 (1999) 193, which holds with the plane,
    too. So a few thousand points take seconds, and not a spline each.

    Parameters
    ----------
    scaled
        The points, shape (points, 2).
    values
        Shape (points, columns).

    Returns
    -------
    array of shape (points, columns)
    """
    count = len(scaled)
    squared = cdist(scaled, scaled, "sqeuclidean")
    matrix = np.zeros((count + 3, count + 3))
    matrix[:count, :count] = 0.5 * xlogy(squared, squared)
    matrix[:count, count], matrix[:count, count + 1 :] = 1.0, scaled
    matrix[count:, :count] = matrix[:count, count:].T
    inverse = linalg.inv(matrix, overwrite_a=True, check_finite=False)[:count, :count]
    return np.asarray(values - inverse @ values / np.diagonal(inverse)[:, None])


def leave_one_out(
    true: FloatArray, predicted: FloatArray, names: list[str], curves: Sequence[str], level: float
) -> dict[str, LeaveOneOut]:
    """Compare the values of inner points with what the other points give there.

    Parameters
    ----------
    true, predicted
        Values of shape (inner, curves), the second from :func:`predict`.
    names
        Names of the inner points.
    curves
        Names of the columns.
    level
        Value on the contour.
    """
    errors = {}
    for column, name in enumerate(curves):
        values, guess = true[:, column], predicted[:, column]
        near = np.abs(values - level) < NEAR
        errors[name] = LeaveOneOut(
            all_points=_residuals(values, guess, names, np.ones_like(near), level),
            near_contour=_residuals(values, guess, names, near, level),
        )
    return errors


def rests_alone(true: FloatArray, predicted: FloatArray, level: float) -> npt.NDArray[np.bool_]:
    """Mark values that alone hold a contour where it is.

    Without such a point the others put it on the other side of the contour, and not narrowly so.

    Parameters
    ----------
    true, predicted
        Values of inner points and what the other points give there, of one shape.
    level
        Value on the contour.
    """
    flipped = (predicted > level) != (true > level)
    return np.asarray(flipped & (np.abs(predicted - true) > ALONE))


def _residuals(
    true: FloatArray,
    guess: FloatArray,
    patches: list[str],
    selected: npt.NDArray[np.bool_],
    level: float,
) -> Residuals:
    if not selected.any():
        return Residuals(0, None, None, None, 0)
    difference = np.where(selected, np.abs(guess - true), 0.0)
    return Residuals(
        points=int(selected.sum()),
        rms=float(np.sqrt(np.mean(difference[selected] ** 2))),
        maximum=float(difference.max()),
        worst_patch=patches[int(difference.argmax())],
        misclassified=int((((guess > level) != (true > level)) & selected).sum()),
    )
