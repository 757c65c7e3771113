"""Exclusion contours: from the CLs of the signal points to curves in a plane.

What is interpolated is not CLs, which falls steeply, but its significance ``Z = isf(CLs)`` (the
inverse survival function of the standard normal distribution), which changes slowly and nearly
linearly with the masses. The contour is where Z is ``isf(1 - confidence_level)``: 1.64 for 95%.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import contourpy
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from scipy.interpolate import (
    CloughTocher2DInterpolator,
    LinearNDInterpolator,
    RBFInterpolator,
)
from scipy.spatial import Delaunay
from scipy.stats import norm

from palletfit.config import RESULT_COLUMNS, ContourSettings, Plane
from palletfit.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
State = Literal[
    "contour", "none_excluded", "all_excluded", "too_few_points", "collinear_points", "masked"
]

#: Columns of the results table, and the name of the curve that each gives.
CURVES = {
    "CLs_obs": "observed",
    "CLs_exp_0": "expected",
    "CLs_exp_minus1": "expected_minus1",
    "CLs_exp_plus1": "expected_plus1",
    "CLs_exp_minus2": "expected_minus2",
    "CLs_exp_plus2": "expected_plus2",
}
#: Columns of the results table that are not labels of the signal points.

#: Largest significance that enters an interpolation. CLs of exactly 0 or 1 has no finite one, and
#: CLs far below 3e-7 (five standard deviations) says more about the fit than about the data. Points
#: that far from the contour steer it little.
MAX_SIGNIFICANCE = 5.0
#: Lengths below this, in units of the axes' ranges, count as zero.
TOLERANCE = 1e-9
#: Width, in units of the axes' ranges, of the strip along the border of the points in which the
#: published contour is not compared: it often runs along the border, where ours cannot.
BORDER = 0.01
#: Distance of the vertices, in units of the axes' ranges, at which two contours are compared.
STEP = 1e-3
#: Pieces of a contour that are no larger than this, in cells of the grid, are not resolved by it.
SPECK = 3.0
#: Points that far from the contour, in units of significance, count as near.
NEAR = 1.0


@dataclass(frozen=True)
class Line:
    """One connected piece of a contour.

    Parameters
    ----------
    vertices
        Shape (n, 2), in the units of the axes; a closed line ends with its first vertex.
    closed
        Whether the line is closed.
    """

    vertices: FloatArray
    closed: bool


@dataclass(frozen=True)
class Curve:
    """The contour of one of the CLs values.

    Parameters
    ----------
    state
        `contour`, or why there is none: `none_excluded` or `all_excluded` of the points,
        `too_few_points` (fewer than three), `collinear_points`, `masked` (the contour would
        lie outside of the plane's allowed part).
    lines
        The contour's pieces.
    """

    state: State
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Residuals:
    """How far interpolated significances are from the fitted ones, over some points.

    Parameters
    ----------
    points
        Number of points.
    rms, maximum
        Root mean square and largest absolute difference of Z; none without points.
    worst_patch
        Patch with the largest difference.
    misclassified
        Points that are excluded and interpolated as not excluded, or the other way round.
    """

    points: int
    rms: float | None
    maximum: float | None
    worst_patch: str | None
    misclassified: int


@dataclass(frozen=True)
class LeaveOneOut:
    """Error of the interpolation: every inner point against the interpolation of the others.

    Parameters
    ----------
    all_points
        Over all points inside the convex hull (none on it: that would be extrapolation).
    near_contour
        Over those whose Z is less than one from the contour's.
    """

    all_points: Residuals
    near_contour: Residuals


@dataclass(frozen=True)
class Spread:
    """Mean, median and largest of some distances."""

    mean: float
    median: float
    maximum: float


@dataclass(frozen=True)
class Distance:
    """Distance between our contour and the published one.

    Each point of one (in steps of a thousandth of the axes) has its distance to the nearest
    point of the other. The published contour counts inside the convex hull of the signal points.

    Parameters
    ----------
    to_published, from_published
        From our contour to the published one, and back, in the units of the axes.
    symmetric
        Both together, in the units of the axes; its maximum is the Hausdorff distance.
    relative
        Both together, in units of the axes' ranges.
    """

    to_published: Spread
    from_published: Spread
    symmetric: Spread
    relative: Spread


@dataclass(frozen=True, eq=False)
class Exclusion:
    """Everything that is known about the exclusion in one plane.

    Parameters
    ----------
    points
        One row a signal point of the plane: the results' columns, and x and y.
    failed
        Patches without a result; they are not part of any interpolation.
    failed_near_contour
        Those of them next to which the observed or the expected contour passes: there it could
        look different with their results.
    curves
        By name: observed, expected, and expected_minus1 and the like for the bands.
    level
        Significance of the contour.
    confidence_level, interpolation
        As in the settings.
    grid_x, grid_y
        Shapes (nx,) and (ny,): where the fields are known.
    fields
        By the curve's name: interpolated significance, shape (ny, nx), NaN outside of the
        convex hull of the points. Empty where nothing can be interpolated.
    forbidden
        Shape (n, 2): border of the part of the plane above which kinematics forbids signal.
    leave_one_out
        Errors of the interpolation of observed and expected.
    published
        The published curves, by name (observed, expected), as lists of shape (n, 2).
    distances
        Distances of our contours to them.
    units
        Of x and y, from the axes' titles.
    """

    points: pd.DataFrame
    failed: tuple[str, ...]
    failed_near_contour: tuple[str, ...]
    curves: Mapping[str, Curve]
    level: float
    confidence_level: float
    interpolation: str
    grid_x: FloatArray
    grid_y: FloatArray
    fields: Mapping[str, FloatArray]
    forbidden: FloatArray | None
    leave_one_out: Mapping[str, LeaveOneOut]
    published: Mapping[str, tuple[FloatArray, ...]]
    distances: Mapping[str, Distance]
    units: tuple[str, str]

    def band(self, width: int) -> FloatArray | None:
        """Field that is negative inside of the band of the expected contour.

        Parameters
        ----------
        width
            Half width of the band in standard deviations.

        Returns
        -------
        array or None
            Shape (ny, nx), NaN outside of the convex hull of the points. It is continuous and
            vanishes on both contours, so that the band is right also where one of them is absent.
        """
        names = (f"expected_minus{width}", f"expected_plus{width}")
        if not set(names) <= set(self.fields):
            return None
        low, high = (self.fields[name] for name in names)
        return np.asarray(
            np.maximum(np.minimum(low, high) - self.level, self.level - np.maximum(low, high))
        )

    def as_json(self) -> dict[str, Any]:
        """Give the result as plain data; numbers that do not exist are None."""
        return {
            "confidence_level": self.confidence_level,
            "level": self.level,
            "interpolation": self.interpolation,
            "units": {"x": self.units[0], "y": self.units[1]},
            "curves": {name: _curve_json(curve) for name, curve in self.curves.items()},
            "points": [_point_json(row) for row in self.points.to_dict("records")],
            "failed": list(self.failed),
            "failed_near_contour": list(self.failed_near_contour),
            "leave_one_out": {
                name: {part: vars(residuals) for part, residuals in vars(errors).items()}
                for name, errors in self.leave_one_out.items()
            },
            "distance_to_published": {
                name: {part: vars(spread) for part, spread in vars(distance).items()}
                for name, distance in self.distances.items()
            },
        }


def plane_points(results: pd.DataFrame, plane: Plane) -> pd.DataFrame:
    """Select the signal points of a plane and compute their coordinates.

    Parameters
    ----------
    results
        One row a signal point: patch, region, status, CLs values and the patchset's labels.
    plane
        Which points belong to the plane, and what its axes are.

    Returns
    -------
    pandas.DataFrame
        The selected rows with new columns ``x`` and ``y``, in the order of the results.

    Raises
    ------
    ConfigError
        An expression is wrong, or two points of the plane have the same coordinates.
    """
    labels = results.drop(columns=[name for name in results if name in RESULT_COLUMNS])
    if plane.select is not None:
        chosen = _evaluate(labels, plane, "select")
        if chosen.dtype != np.bool_:
            raise _wrong_expression(labels, plane, "select", "it is not a condition")
        results, labels = results[chosen], labels[chosen]
    coordinates = {}
    for axis in ("x", "y"):
        values = _evaluate(labels, plane, axis)
        try:
            coordinates[axis] = values.astype(np.float64)
        except (TypeError, ValueError):
            raise _wrong_expression(labels, plane, axis, "it is not a number") from None
    points = results.assign(**coordinates).reset_index(drop=True)
    _refuse_duplicates(points, plane)
    return points


def exclusion(
    results: pd.DataFrame,
    plane: Plane,
    settings: ContourSettings,
    published: Mapping[str, Sequence[FloatArray]],
) -> Exclusion:
    """Find the exclusion contours in one plane, and how good they are.

    Parameters
    ----------
    results
        One row a signal point, with the columns ``patch``, ``region``, ``status`` (`ok`,
        `suspect`, `failed`), ``CLs_obs``, ``CLs_exp_minus2`` to ``CLs_exp_plus2`` and the
        patchset's labels. A row with a CLs that is not a number counts as failed.
    plane
        The plane and its axes.
    settings
        Confidence level, interpolation, bands and grid.
    published
        Segments of the published ``observed`` and ``expected`` curves, each of shape (n, 2).

    Raises
    ------
    ConfigError
        An expression of the plane is wrong, or two of its points have the same coordinates.
    """
    points = _mark_failed(plane_points(results, plane))
    good = points[points["status"] != "failed"]
    failed = tuple(points.loc[points["status"] == "failed", "patch"])
    level = float(norm.isf(1 - settings.confidence_level))
    names = _curve_names(settings)
    significance = np.column_stack([_significance(good[column]) for column in names])
    geometry = _Geometry.of(good)
    forbidden = _forbidden_border(plane, points)
    state = _geometry_state(geometry)

    grid_x, grid_y = np.empty(0), np.empty(0)
    fields: dict[str, FloatArray] = {}
    errors: dict[str, LeaveOneOut] = {}
    if state is None:
        grid_x, grid_y = geometry.axes(settings.grid)
        values = _field(geometry, significance, settings, grid_x, grid_y)
        fields = {name: values[..., i] for i, name in enumerate(names.values())}
        main = significance[:, : len(MAIN)]
        errors = _leave_one_out(geometry, main, good["patch"].tolist(), settings, level)
    allowed = _allowed_part(forbidden, geometry)
    curves = {
        name: _curve(significance[:, i], fields.get(name), (grid_x, grid_y), level, state, allowed)
        for i, name in enumerate(names.values())
    }
    given = {name: tuple(segments) for name, segments in published.items() if segments}
    distances = {
        name: distance
        for name, segments in given.items()
        if (distance := _distance(curves[name], segments, geometry)) is not None
    }
    return Exclusion(
        points=points,
        failed=failed,
        failed_near_contour=_failed_near_contour(points, curves, settings.grid),
        curves=curves,
        level=level,
        confidence_level=settings.confidence_level,
        interpolation=settings.interpolation,
        grid_x=grid_x,
        grid_y=grid_y,
        fields=fields,
        forbidden=forbidden,
        leave_one_out=errors,
        published=given,
        distances=distances,
        units=(_unit(plane.x_title), _unit(plane.y_title)),
    )


#: The curves whose errors and distances are reported; they come first in `CURVES`.
MAIN = ("observed", "expected")


def _evaluate(labels: pd.DataFrame, plane: Plane, key: str) -> pd.Series[Any]:
    expression = str(getattr(plane, key))
    try:
        value = labels.eval(expression, engine="python")
    # pandas raises whatever the parser, the names or the values of the expression give rise to.
    except Exception as error:  # noqa: BLE001
        raise _wrong_expression(labels, plane, key, " ".join(str(error).split())) from None
    if isinstance(value, pd.Series):
        if key != "select" and not np.isfinite(value.to_numpy(dtype=np.float64)).all():
            raise _wrong_expression(labels, plane, key, "it is not finite for every point")
        return value
    if isinstance(value, (bool, int, float, np.generic)):
        return pd.Series(value, index=labels.index)
    raise _wrong_expression(labels, plane, key, "it is not one value a point")


def _wrong_expression(labels: pd.DataFrame, plane: Plane, key: str, why: str) -> ConfigError:
    return ConfigError(
        f"The expression {key} = {getattr(plane, key)!r} of {_describe(plane)} is wrong: {why}.",
        remedy=f"Use the patchset's labels: {', '.join(map(str, labels.columns))}.",
    )


def _describe(plane: Plane) -> str:
    where = "" if plane.select is None else f" where {plane.select}"
    return f"the plane (x: {plane.x}, y: {plane.y}{where})"


def _refuse_duplicates(points: pd.DataFrame, plane: Plane) -> None:
    duplicated = points[points.duplicated(["x", "y"], keep=False)]
    if duplicated.empty:
        return
    first = duplicated.iloc[0]
    same = duplicated[(duplicated["x"] == first["x"]) & (duplicated["y"] == first["y"])]
    raise ConfigError(
        f"{len(duplicated)} points of {_describe(plane)} share their coordinates, "
        f"such as {', '.join(same['patch'])} at ({first['x']:g}, {first['y']:g}).",
        remedy="Give the plane a `select` that chooses one of them, such as `mn1 == 60`.",
    )


def _mark_failed(points: pd.DataFrame) -> pd.DataFrame:
    complete = np.isfinite(points[list(CURVES)].to_numpy(dtype=np.float64)).all(axis=1)
    return points.assign(status=points["status"].where(complete, "failed"))


def _curve_names(settings: ContourSettings) -> dict[str, str]:
    bands = tuple(str(width) for width in settings.bands)
    return {column: name for column, name in CURVES.items() if name in MAIN or name.endswith(bands)}


def _significance(cls_values: pd.Series[float]) -> FloatArray:
    limits = norm.sf([MAX_SIGNIFICANCE, -MAX_SIGNIFICANCE])
    return np.asarray(norm.isf(np.clip(cls_values.to_numpy(dtype=np.float64), *limits)))


@dataclass(frozen=True, eq=False)
class _Geometry:
    """Points in the unit square, in which lengths along both axes count alike.

    `scaled` has shape (points, 2); `origin` and `size` (2,) lead back to the units of the axes;
    `hull` is the convex hull in the unit square.
    """

    scaled: FloatArray
    origin: FloatArray
    size: FloatArray
    hull: shapely.Geometry

    @classmethod
    def of(cls, points: pd.DataFrame) -> _Geometry:
        coordinates = points[["x", "y"]].to_numpy(dtype=np.float64)
        if len(coordinates) == 0:
            return cls(coordinates, np.zeros(2), np.ones(2), shapely.MultiPoint())
        origin = coordinates.min(axis=0)
        spread = np.ptp(coordinates, axis=0)
        size = np.where(spread > 0, spread, 1.0)
        scaled = (coordinates - origin) / size
        return cls(scaled, origin, size, shapely.MultiPoint(scaled).convex_hull)

    def scale(self, vertices: FloatArray) -> FloatArray:
        return np.asarray((vertices - self.origin) / self.size)

    def axes(self, count: int) -> tuple[FloatArray, FloatArray]:
        upper = self.origin + self.size
        x, y = np.linspace(self.origin, upper, count).T
        return x, y


def _geometry_state(geometry: _Geometry) -> State | None:
    if len(geometry.scaled) < 3:
        return "too_few_points"
    width = np.linalg.svd(geometry.scaled - geometry.scaled.mean(axis=0), compute_uv=False)[1]
    return "collinear_points" if width < TOLERANCE else None


def _interpolator(
    scaled: FloatArray, values: FloatArray, kind: str
) -> Callable[[FloatArray], FloatArray]:
    """Interpolate values of shape (points, curves); NaN outside the convex hull of the points."""
    triangles = Delaunay(scaled)
    if kind == "linear":
        return LinearNDInterpolator(triangles, values)  # type: ignore[no-any-return]
    if kind == "cubic":
        # A tighter tolerance than the default of 1e-6 in the gradients, for planes to stay planes.
        return CloughTocher2DInterpolator(  # type: ignore[no-any-return]
            triangles, values, tol=1e-9, maxiter=2000
        )
    spline = RBFInterpolator(scaled, values, kernel="thin_plate_spline")

    def inside(where: FloatArray) -> FloatArray:
        found = spline(where)
        found[triangles.find_simplex(where, tol=TOLERANCE) < 0] = np.nan
        return np.asarray(found)

    return inside


def _field(
    geometry: _Geometry,
    significance: FloatArray,
    settings: ContourSettings,
    grid_x: FloatArray,
    grid_y: FloatArray,
) -> FloatArray:
    nodes = np.stack(np.meshgrid(grid_x, grid_y), axis=-1)
    interpolate = _interpolator(geometry.scaled, significance, settings.interpolation)
    values = interpolate(geometry.scale(nodes.reshape(-1, 2)))
    return values.reshape(len(grid_y), len(grid_x), -1)


def _leave_one_out(
    geometry: _Geometry,
    significance: FloatArray,
    patches: list[str],
    settings: ContourSettings,
    level: float,
) -> dict[str, LeaveOneOut]:
    to_border = shapely.distance(shapely.points(geometry.scaled), geometry.hull.exterior)
    inner = np.flatnonzero(to_border > TOLERANCE)
    predicted = np.empty((len(inner), significance.shape[1]))
    for row, index in enumerate(inner):
        others = np.delete(np.arange(len(patches)), index)
        interpolate = _interpolator(
            geometry.scaled[others], significance[others], settings.interpolation
        )
        predicted[row] = interpolate(geometry.scaled[[index]])[0]
    names = [patches[index] for index in inner]
    errors = {}
    for column, name in enumerate(MAIN):
        true, guess = significance[inner, column], predicted[:, column]
        near = np.abs(true - level) < NEAR
        errors[name] = LeaveOneOut(
            all_points=_residuals(true, guess, names, np.ones_like(near), level),
            near_contour=_residuals(true, guess, names, near, level),
        )
    return errors


def _residuals(
    true: FloatArray,
    guess: FloatArray,
    patches: list[str],
    chosen: npt.NDArray[np.bool_],
    level: float,
) -> Residuals:
    if not chosen.any():
        return Residuals(0, None, None, None, 0)
    difference = np.where(chosen, np.abs(guess - true), 0.0)
    return Residuals(
        points=int(chosen.sum()),
        rms=float(np.sqrt(np.mean(difference[chosen] ** 2))),
        maximum=float(difference.max()),
        worst_patch=patches[int(difference.argmax())],
        misclassified=int((((guess > level) != (true > level)) & chosen).sum()),
    )


def _forbidden_border(plane: Plane, points: pd.DataFrame) -> FloatArray | None:
    """Shape (n, 2): y_above along x, over somewhat more than the points' range."""
    if plane.forbidden is None or points.empty:
        return None
    low, high = points["x"].min(), points["x"].max()
    margin = max(high - low, 1.0)
    x = np.linspace(low - margin, high + margin, 1201)
    frame = pd.DataFrame({"x": x})
    try:
        frame["y"] = frame.eval(plane.forbidden.y_above, engine="python")
        border = frame.to_numpy(dtype=np.float64)
    # As above: any exception means a wrong expression.
    except Exception as error:  # noqa: BLE001
        raise ConfigError(
            f"The expression forbidden.y_above = {plane.forbidden.y_above!r} of "
            f"{_describe(plane)} is wrong: {' '.join(str(error).split())}.",
            remedy="Write an expression of x, such as `x - 125`.",
        ) from None
    return np.asarray(border[np.isfinite(border).all(axis=1)])


def _allowed_part(forbidden: FloatArray | None, geometry: _Geometry) -> shapely.Geometry | None:
    """Polygon of the part of the plane that kinematics allows; none if all of it is."""
    if forbidden is None or len(forbidden) < 2:
        return None
    floor = min(geometry.origin[1], forbidden[:, 1].min()) - geometry.size[1]
    corners = [(forbidden[-1, 0], floor), (forbidden[0, 0], floor)]
    return shapely.Polygon(np.concatenate([forbidden, corners]))


def _curve(
    significance: FloatArray,
    field: FloatArray | None,
    grid: tuple[FloatArray, FloatArray],
    level: float,
    state: State | None,
    allowed: shapely.Geometry | None,
) -> Curve:
    if state is not None or field is None:
        return Curve(state or "too_few_points", ())
    excluded = significance > level
    if not excluded.any():
        return Curve("none_excluded", ())
    if excluded.all():
        return Curve("all_excluded", ())
    generator = contourpy.contour_generator(
        grid[0], grid[1], np.ma.masked_invalid(field), corner_mask=True
    )
    found = [np.asarray(line, dtype=np.float64) for line in generator.lines(level)]
    cell = np.array([np.ptp(axis) / (len(axis) - 1) for axis in grid])
    lines = [line for line in _clip(found, allowed) if _size(line.vertices / cell) > SPECK]
    return Curve("contour" if lines else "masked", tuple(lines))


def _size(vertices: FloatArray) -> float:
    return float(np.ptp(vertices, axis=0).max())


def _clip(lines: list[FloatArray], allowed: shapely.Geometry | None) -> list[Line]:
    if allowed is not None and lines:
        inside = shapely.MultiLineString(lines).intersection(allowed)
        # A closed line that is cut comes back in two pieces at its first vertex.
        merged = shapely.line_merge(shapely.MultiLineString(_line_parts(inside)))
        lines = [shapely.get_coordinates(part) for part in _line_parts(merged)]
    return [Line(line, closed=bool(np.array_equal(line[0], line[-1]))) for line in lines]


def _line_parts(geometry: shapely.Geometry) -> list[shapely.LineString]:
    # Twice, for a collection of collections.
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return [part for part in parts if part.geom_type == "LineString" and not part.is_empty]


def _failed_near_contour(
    points: pd.DataFrame, curves: Mapping[str, Curve], grid: int
) -> tuple[str, ...]:
    """Failed points at which triangles meet that the observed or the expected contour crosses."""
    lost = (points["status"] == "failed").to_numpy()
    lines = [line.vertices for name in MAIN for line in curves[name].lines]
    if not lost.any() or not lines:
        return ()
    geometry = _Geometry.of(points)
    contour = shapely.MultiLineString([geometry.scale(line) for line in lines])
    triangles = Delaunay(geometry.scaled).simplices
    areas = shapely.polygons(geometry.scaled[triangles])
    # The contour ends up to a cell of the grid before the border of the points.
    touched = shapely.distance(areas, contour) <= 2.0 / grid
    near = np.unique(triangles[touched])
    return tuple(points["patch"].iloc[index] for index in near if lost[index])


def _distance(
    curve: Curve, published: tuple[FloatArray, ...], geometry: _Geometry
) -> Distance | None:
    """Compare in the unit square's vertices, with distances in the units of the axes and in its."""
    if not curve.lines:
        return None
    ours = shapely.MultiLineString([geometry.scale(line.vertices) for line in curve.lines])
    theirs = shapely.MultiLineString([geometry.scale(segment) for segment in published])
    counted = theirs.intersection(geometry.hull.buffer(-BORDER))
    if counted.is_empty:
        return None
    forth = _distances(ours, theirs, geometry)
    back = _distances(counted, ours, geometry)
    both = np.concatenate([forth, back], axis=1)
    return Distance(
        to_published=_spread(forth[0]),
        from_published=_spread(back[0]),
        symmetric=_spread(both[0]),
        relative=_spread(both[1]),
    )


def _distances(
    start: shapely.Geometry, target: shapely.Geometry, geometry: _Geometry
) -> FloatArray:
    """Shape (2, points): distances in the units of the axes, and of the unit square."""
    vertices = shapely.get_coordinates(shapely.segmentize(start, STEP))
    in_units = shapely.transform(target, lambda scaled: scaled * geometry.size)
    return np.stack(
        [
            shapely.distance(shapely.points(vertices * geometry.size), in_units),
            shapely.distance(shapely.points(vertices), target),
        ]
    )


def _spread(distances: FloatArray) -> Spread:
    return Spread(
        mean=float(distances.mean()),
        median=float(np.median(distances)),
        maximum=float(distances.max()),
    )


def _unit(title: str) -> str:
    """Find the unit in an axis' title, such as GeV in ``m [GeV]``."""
    found = re.findall(r"\[([^\[\]]+)\]", title)
    return str(found[-1]) if found else ""


def _curve_json(curve: Curve) -> dict[str, Any]:
    return {
        "state": curve.state,
        "lines": [
            {"closed": line.closed, "vertices": line.vertices.tolist()} for line in curve.lines
        ],
    }


def _point_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    numbers = {name: float(row[name]) for name in ("x", "y", *CURVES)}
    return {
        **{name: str(row[name]) for name in ("patch", "region", "status")},
        **{name: value if np.isfinite(value) else None for name, value in numbers.items()},
    }
