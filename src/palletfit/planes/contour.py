"""Exclusion contours: compute curves in a plane from the CLs of signal points.

The interpolated quantity is the significance ``Z = isf(CLs)``, with the inverse survival function
of the standard normal distribution. CLs falls steeply with the masses, whereas Z changes slowly and
nearly linearly. On the contour, Z is ``isf(1 - confidence_level)``: 1.64 for 95%.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any, Literal

import contourpy
import numpy as np
import pandas as pd
import shapely
from scipy.spatial import Delaunay
from scipy.special import ndtr, ndtri

from palletfit.config import ContourSettings, Plane
from palletfit.core.arrays import FloatArray
from palletfit.planes.coordinates import forbidden_border, plane_points
from palletfit.planes.distances import Distance, distance
from palletfit.planes.interpolation import (
    TOLERANCE,
    Geometry,
    LeaveOneOut,
    field,
    leave_one_out,
    predict,
    rests_alone,
)

State = Literal[
    "contour", "none_excluded", "all_excluded", "too_few_points", "collinear_points", "masked"
]

_STATE_LABELS: dict[State, str] = {
    "none_excluded": "no point excluded",
    "all_excluded": "all points excluded",
    "too_few_points": "too few points",
    "collinear_points": "points on one line",
    "masked": "none in the allowed part",
}
#: Curves by the column of the results table that they are computed from.
CURVES = {
    "CLs_obs": "observed",
    "CLs_exp_0": "expected",
    "CLs_exp_minus1": "expected_minus1",
    "CLs_exp_plus1": "expected_plus1",
    "CLs_exp_minus2": "expected_minus2",
    "CLs_exp_plus2": "expected_plus2",
}

#: Ending of the columns of results with another minimum of the likelihood, and the column that says
#: which one that is.
OTHER, OTHER_MINIMUM = "_other", "minimum_other"

#: Status of a point that was not tested, and ending of the columns with its forecast.
UNTESTED, FORECAST = "untested", "_forecast"

#: Largest significance in an interpolation. CLs of exactly 0 or 1 has no finite significance. CLs
#: far below 3e-7 (five standard deviations) depends more on the fit than on the data. Points so far
#: from the contour have little influence on it.
MAX_SIGNIFICANCE = 5.0
#: Pieces of a contour up to this size, in cells of the grid, are not resolved and are dropped.
SPECK = 3.0


@dataclass(frozen=True)
class Line:
    """Connected piece of a contour.

    Parameters
    ----------
    vertices
        Shape (n, 2), in the units of the axes; a closed line ends with its first vertex.
    closed
        Whether the line is closed.
    points_inside
        Number of fitted points inside a closed line; None of another line. An island around no
        point is there by the interpolation alone.
    """

    vertices: FloatArray
    closed: bool
    points_inside: int | None = None

    @property
    def is_empty(self) -> bool:
        """True of a line that closes around no point."""
        return self.points_inside == 0


@dataclass(frozen=True)
class Curve:
    """Contour of one of the CLs values.

    Parameters
    ----------
    state
        `contour`, or the reason for having none: `none_excluded` or `all_excluded` of the
        points, `too_few_points` (fewer than three), `collinear_points`, `masked` (the contour
        would lie outside the allowed part of the plane).
    lines
        Pieces of the contour.
    rests_on
        Patches of which each alone holds the contour where it is: the other points put it on the
        other side. Points on the border of all points are not tried.
    """

    state: State
    lines: tuple[Line, ...]
    rests_on: tuple[str, ...] = ()


def curve_label(name: str, curve: Curve) -> str:
    """Write the label of a curve, with the reason if there is no contour."""
    return name if curve.state == "contour" else f"{name}: {_STATE_LABELS[curve.state]}"


#: Words of legends for what contours rest on.
ON_ONE_POINT = "A contour rests on this point alone"
ON_NO_POINT = "Island around no point"


def other_label(name: str, minimum: str) -> str:
    """Write the label of a curve with another minimum, such as `Observed, nearest minimum`."""
    return f"{name.capitalize()}, {minimum} minimum"


@dataclass(frozen=True, eq=False)
class OtherContours:
    """Contours with the minimum of the likelihood that does not count.

    A point whose likelihood has one minimum enters with its only CLs.

    Parameters
    ----------
    minimum
        The minimum of these contours: `lowest` or `nearest`.
    points
        Number of the plane's points that have another minimum.
    curves, distances
        Observed and expected ones, as in :class:`Exclusion`.
    """

    minimum: str
    points: int
    curves: Mapping[str, Curve]
    distances: Mapping[str, Distance]

    def label(self, name: str) -> str:
        """Write the label of a curve, see :func:`other_label`."""
        return other_label(name, self.minimum)

    def as_json(self) -> dict[str, Any]:
        """Convert the contours to plain data."""
        return {
            "minimum": self.minimum,
            "points": self.points,
            "curves": {name: _curve_json(curve) for name, curve in self.curves.items()},
            "distance_to_published": _distances_json(self.distances),
        }


@dataclass(frozen=True, eq=False)
class Exclusion:
    """Exclusion in one plane.

    Parameters
    ----------
    points
        One row for each signal point of the plane: the columns of the results, and x and y.
    failed
        Patches without a result, which enter no interpolation.
    failed_near_contour
        Failed patches next to the observed or expected contour, which might be different with
        their results.
    curves
        By name: observed, expected, and expected_minus1 etc. for the bands. Without an observed
        one, points are blinded: then there is no published observed one either.
    level
        Significance of the contour.
    confidence_level, interpolation
        As in the settings.
    grid_x, grid_y
        Coordinates of the fields, shapes (nx,) and (ny,).
    fields
        By the name of the curve: interpolated significance, shape (ny, nx), NaN outside the
        convex hull of the points. Empty if no interpolation is possible.
    forbidden
        Lower border of the kinematically forbidden part of the plane, shape (n, 2).
    leave_one_out
        Errors of the interpolation of the observed and expected curve.
    published
        Published curves by name (observed, expected), as segments of shape (n, 2).
    distances
        Distances of the contours to the published ones.
    units
        Units of x and y, from the titles of the axes.
    other
        Contours with another minimum of the likelihood, if a point of the plane has one.
    left_out
        Published curves that could not be had, by name, with the reason.
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
    other: OtherContours | None = None
    left_out: Mapping[str, str] = dataclass_field(default_factory=dict)

    @property
    def blinded(self) -> bool:
        """True if points have no observed values, but expected ones."""
        return "observed" not in self.curves

    def band(self, width: int) -> FloatArray | None:
        """Compute a field that is negative inside the band of the expected contour.

        Parameters
        ----------
        width
            Half width of the band in standard deviations.

        Returns
        -------
        array or None
            Shape (ny, nx), NaN outside the convex hull of the points. It is continuous and
            vanishes on both contours. The band is therefore also correct if one contour is absent.
        """
        names = (f"expected_minus{width}", f"expected_plus{width}")
        if not set(names) <= set(self.fields):
            return None
        low, high = (self.fields[name] for name in names)
        return np.asarray(
            np.maximum(np.minimum(low, high) - self.level, self.level - np.maximum(low, high))
        )

    def rests_on(self, bands: Sequence[int] = (1, 2)) -> pd.DataFrame:
        """Select the points of which one alone holds a contour, or the border of a band, there."""
        shown = [
            curve
            for name, curve in self.curves.items()
            if name in MAIN or name.endswith(tuple(map(str, bands)))
        ]
        names = {name for curve in shown for name in curve.rests_on}
        return self.points[self.points["patch"].isin(names)]

    def as_json(self) -> dict[str, Any]:
        """Convert the result to plain data; missing numbers are None."""
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
                name: {key: vars(residuals) for key, residuals in vars(errors).items()}
                for name, errors in self.leave_one_out.items()
            },
            "distance_to_published": _distances_json(self.distances),
            "other_minimum": None if self.other is None else self.other.as_json(),
            **({"left_out": dict(self.left_out)} if self.left_out else {}),
        }


def exclusion(
    results: pd.DataFrame,
    plane: Plane,
    settings: ContourSettings,
    published: Mapping[str, Sequence[FloatArray]],
    left_out: Mapping[str, str] | None = None,
) -> Exclusion:
    """Compute the exclusion contours in one plane and their quality.

    Parameters
    ----------
    results
        One row for each signal point, with the columns ``patch``, ``region``, ``status`` (`ok`,
        `suspect`, `failed`, `untested`), ``CLs_obs``, ``CLs_exp_minus2`` to ``CLs_exp_plus2`` and
        the labels of the patchset. A row with a CLs that is not a number counts as failed; an
        untested one has forecasts, such as ``CLs_obs_forecast``, for the interpolation. With the
        column ``minimum_other``, which is a text where a point has another minimum, also the same
        CLs of that minimum, such as ``CLs_obs_other``. If no row has a ``CLs_obs``, points are
        blinded, and contours are the expected ones.
    plane
        The plane and its axes.
    settings
        Confidence level, interpolation, bands and grid.
    published
        Segments of the published ``observed`` and ``expected`` curves, each of shape (n, 2).
    left_out
        Reasons of published curves that could not be had, by name.

    Raises
    ------
    ConfigError
        An expression of the plane is wrong, or two of its points have the same coordinates.
    """
    points = plane_points(results, plane)
    with_forecasts = _with_forecasts(points)
    blinded = _is_blinded(with_forecasts)
    points = points.assign(status=_with_failed(with_forecasts, blinded=blinded))
    fitted = with_forecasts[points["status"] != "failed"]
    failed = tuple(points.loc[points["status"] == "failed", "patch"])
    level = float(-ndtri(1 - settings.confidence_level))
    names = _curve_names(settings, blinded=blinded)
    if blinded:
        published = {name: lines for name, lines in published.items() if name != "observed"}
        left_out = {name: text for name, text in (left_out or {}).items() if name != "observed"}
    significance = np.column_stack([significances(fitted[column]) for column in names])
    geometry = Geometry.of(fitted)
    forbidden = forbidden_border(plane, points)
    state = _geometry_state(geometry)

    grid_x, grid_y = np.empty(0), np.empty(0)
    fields: dict[str, FloatArray] = {}
    errors: dict[str, LeaveOneOut] = {}
    rests_on: dict[str, tuple[str, ...]] = {}
    if state is None:
        grid_x, grid_y = geometry.axes(settings.grid)
        values = field(geometry, significance, settings, grid_x, grid_y)
        fields = {name: values[..., i] for i, name in enumerate(names.values())}
        inner, predicted = predict(geometry, significance, settings)
        # A forecast tells nothing about the error of the interpolation.
        tested = (fitted["status"] != UNTESTED).to_numpy()[inner]
        inner, predicted = inner[tested], predicted[tested]
        patches = fitted["patch"].to_numpy()[inner]
        main = tuple(name for name in MAIN if name in names.values())
        errors = leave_one_out(significance[inner], predicted, patches.tolist(), main, level)
        alone = rests_alone(significance[inner], predicted, level)
        rests_on = {name: tuple(patches[alone[:, i]]) for i, name in enumerate(names.values())}
    allowed = _allowed_part(forbidden, geometry)
    positions = fitted[["x", "y"]].to_numpy(dtype=np.float64)
    curves = {
        name: _supported(
            _curve(significance[:, i], fields.get(name), (grid_x, grid_y), level, state, allowed),
            positions,
            rests_on.get(name, ()),
        )
        for i, name in enumerate(names.values())
    }
    published_curves = {name: tuple(segments) for name, segments in published.items() if segments}
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
        published=published_curves,
        distances=_distances(curves, published_curves, geometry),
        units=(_unit(plane.x_title), _unit(plane.y_title)),
        other=_other_contours(
            fitted, geometry, settings, level, state, allowed, published_curves, (grid_x, grid_y)
        ),
        left_out=left_out or {},
    )


#: Curves whose errors and distances are reported; they are the first ones of `CURVES`.
MAIN = ("observed", "expected")


def _is_blinded(points: pd.DataFrame) -> bool:
    """Return true if points have expected values and none of them an observed one."""
    observed, expected = (points[column].notna().any() for column in ("CLs_obs", "CLs_exp_0"))
    return bool(expected and not observed)


def _with_forecasts(points: pd.DataFrame) -> pd.DataFrame:
    """Let the forecasts of untested points stand for their CLs."""
    untested = points["status"] == UNTESTED
    if not untested.any():
        return points
    forecasts = {
        name: points[name].where(~untested, points[f"{name}{FORECAST}"]) for name in CURVES
    }
    return points.assign(**forecasts)


def _with_failed(points: pd.DataFrame, *, blinded: bool) -> pd.Series[str]:
    columns = [column for column in CURVES if not (blinded and column == "CLs_obs")]
    complete = np.isfinite(points[columns].to_numpy(dtype=np.float64)).all(axis=1)
    return points["status"].where(complete, "failed")


def _curve_names(settings: ContourSettings, *, blinded: bool) -> dict[str, str]:
    bands = tuple(str(width) for width in settings.bands)
    return {
        column: name
        for column, name in CURVES.items()
        if (name in MAIN or name.endswith(bands)) and not (blinded and name == "observed")
    }


def significances(cls_values: Sequence[float] | pd.Series[float]) -> FloatArray:
    """Return the significances of CLs values, up to the largest that is interpolated."""
    limits = ndtr([-MAX_SIGNIFICANCE, MAX_SIGNIFICANCE])
    return np.asarray(-ndtri(np.clip(np.asarray(cls_values, dtype=np.float64), *limits)))


def _geometry_state(geometry: Geometry) -> State | None:
    if len(geometry.scaled) < 3:
        return "too_few_points"
    width = np.linalg.svd(geometry.scaled - geometry.scaled.mean(axis=0), compute_uv=False)[1]
    return "collinear_points" if width < TOLERANCE else None


def _allowed_part(forbidden: FloatArray | None, geometry: Geometry) -> shapely.Geometry | None:
    """Make a polygon of the allowed part of the plane; None if all of it is allowed."""
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
    vertices = [np.asarray(line, dtype=np.float64) for line in generator.lines(level)]
    cell = np.array([np.ptp(axis) / (len(axis) - 1) for axis in grid])
    lines = [line for line in _clip(vertices, allowed) if _size(line.vertices / cell) > SPECK]
    return Curve("contour" if lines else "masked", tuple(lines))


def _supported(curve: Curve, positions: FloatArray, rests_on: tuple[str, ...]) -> Curve:
    """Count the points inside closed lines, and add the points that a contour rests on."""
    if curve.state != "contour":
        return curve
    points = shapely.points(positions)
    lines = [
        replace(
            line, points_inside=int(shapely.contains(shapely.Polygon(line.vertices), points).sum())
        )
        if line.closed
        else line
        for line in curve.lines
    ]
    return Curve(curve.state, tuple(lines), rests_on)


def _distances(
    curves: Mapping[str, Curve],
    published: Mapping[str, tuple[FloatArray, ...]],
    geometry: Geometry,
) -> dict[str, Distance]:
    """Compute the distances of curves to the published ones, where they can be compared."""
    separations = {
        name: distance([line.vertices for line in curves[name].lines], segments, geometry)
        for name, segments in published.items()
    }
    return {name: value for name, value in separations.items() if value is not None}


def _other_contours(
    fitted: pd.DataFrame,
    geometry: Geometry,
    settings: ContourSettings,
    level: float,
    state: State | None,
    allowed: shapely.Geometry | None,
    published: Mapping[str, tuple[FloatArray, ...]],
    grid: tuple[FloatArray, FloatArray],
) -> OtherContours | None:
    """Compute the contours with the minimum that does not count, if a point has another one."""
    if OTHER_MINIMUM not in fitted:
        return None
    names = [name for name in MAIN if not (_is_blinded(fitted) and name == "observed")]
    columns = [column for column, name in CURVES.items() if name in names]
    alternative = fitted[[f"{column}{OTHER}" for column in columns]].set_axis(columns, axis=1)
    several = (fitted[OTHER_MINIMUM].fillna("") != "") & alternative.notna().all(axis=1)
    if not several.any():
        return None
    shown = alternative.where(several, fitted[columns])
    significance = np.column_stack([significances(shown[column]) for column in columns])
    fields = None if state else field(geometry, significance, settings, *grid)
    curves = {
        name: _curve(
            significance[:, i],
            None if fields is None else fields[..., i],
            grid,
            level,
            state,
            allowed,
        )
        for i, name in enumerate(names)
    }
    return OtherContours(
        minimum=str(fitted.loc[several, OTHER_MINIMUM].iloc[0]),
        points=int(several.sum()),
        curves=curves,
        distances=_distances(curves, published, geometry),
    )


def _size(vertices: FloatArray) -> float:
    return float(np.ptp(vertices, axis=0).max())


def _clip(lines: list[FloatArray], allowed: shapely.Geometry | None) -> list[Line]:
    if allowed is not None and lines:
        inside = shapely.MultiLineString(lines).intersection(allowed)
        # A closed line that is cut is also split at its first vertex.
        merged = shapely.line_merge(shapely.MultiLineString(_line_parts(inside)))
        lines = [shapely.get_coordinates(part) for part in _line_parts(merged)]
    return [Line(line, closed=bool(np.array_equal(line[0], line[-1]))) for line in lines]


def _line_parts(geometry: shapely.Geometry) -> list[shapely.LineString]:
    # Twice, because there are collections of collections.
    lines = shapely.get_parts(shapely.get_parts(geometry))
    return [line for line in lines if line.geom_type == "LineString" and not line.is_empty]


def _failed_near_contour(
    points: pd.DataFrame, curves: Mapping[str, Curve], grid: int
) -> tuple[str, ...]:
    """Find the failed points at corners of triangles that the contours cross."""
    lost = (points["status"] == "failed").to_numpy()
    lines = [line.vertices for name in MAIN if name in curves for line in curves[name].lines]
    if not lost.any() or not lines:
        return ()
    geometry = Geometry.of(points)
    contour = shapely.MultiLineString([geometry.scale(line) for line in lines])
    triangles = Delaunay(geometry.scaled).simplices
    areas = shapely.polygons(geometry.scaled[triangles])
    # The contour ends up to a cell of the grid before the border of the points.
    touched = shapely.distance(areas, contour) <= 2.0 / grid
    near = np.unique(triangles[touched])
    return tuple(points["patch"].iloc[index] for index in near if lost[index])


def _unit(title: str) -> str:
    """Find the unit in an axis' title, such as GeV in ``m [GeV]``."""
    units = re.findall(r"\[([^\[\]]+)\]", title)
    return str(units[-1]) if units else ""


def _distances_json(distances: Mapping[str, Distance]) -> dict[str, Any]:
    return {
        name: {key: vars(spread) for key, spread in vars(separation).items()}
        for name, separation in distances.items()
    }


def _curve_json(curve: Curve) -> dict[str, Any]:
    return {
        "state": curve.state,
        "lines": [
            {
                "closed": line.closed,
                "points_inside": line.points_inside,
                "vertices": line.vertices.tolist(),
            }
            for line in curve.lines
        ],
        "rests_on": list(curve.rests_on),
    }


def _point_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    numbers = {name: float(row[name]) for name in ("x", "y", *CURVES)}
    return {
        **{name: str(row[name]) for name in ("patch", "region", "status")},
        **{name: value if np.isfinite(value) else None for name, value in numbers.items()},
    }
