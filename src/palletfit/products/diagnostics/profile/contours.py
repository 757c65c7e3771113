"""Contours of the profile likelihood of two parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from palletfit.core.arrays import FloatArray
from palletfit.engine.choose import require_batched
from palletfit.engine.held_fits import HeldFits
from palletfit.engine.protocol import Engine
from palletfit.engine.records import Status, finite
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.profile.best import ROUNDS, BestPoint
from palletfit.products.diagnostics.profile.curve import Interval, ProfileCurve, as_plain
from palletfit.products.diagnostics.profile.scan import (
    check_levels,
    check_range,
    curve_of,
    range_of,
)

#: 2 NLL above the best fit of regions of two parameters at 68.3% and 95%: quantiles of the
#: chi-squared distribution with two degrees of freedom.
LEVELS = (2.295748928898636, 5.991464547107979)
#: Values of each parameter, by default and at most.
POINTS, MOST_POINTS = 25, 201
#: How often the points of a contour move towards their level, by how many cells at most.
_MOVES, _FARTHEST = 3, 1.0
#: A point of a contour is on its level if 2 NLL is this close.
_CLOSE = 1e-3
#: Every so many points of the grid in each direction are searched for lower minima.
_SEARCHED = 2
#: Slopes below this, per cell, have no direction.
_FLAT = 1e-12


@dataclass(frozen=True)
class Line:
    """One line of a contour.

    Attributes
    ----------
    x, y
        Its points.
    closed
        True if it ends where it begins.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    closed: bool


@dataclass(frozen=True)
class Contour:
    """Lines on which the profile likelihood has a level.

    Attributes
    ----------
    level
        2 NLL above the best fit.
    lines
        Lines; none where the level is outside of the grid.
    miss
        Largest difference between the level and 2 NLL at the points of the lines, where a fit was
        made for each; None without lines.
    x, y
        Intervals of each parameter at this level, the other one fitted: how far the region goes.
    """

    level: float
    lines: tuple[Line, ...]
    miss: float | None
    x: Interval
    y: Interval


@dataclass(frozen=True)
class LikelihoodContours:
    """The profile likelihood of two parameters.

    Attributes
    ----------
    x, y
        Their names.
    best
        Both at the best fit.
    x_bounds, y_bounds
        Their bounds.
    poi, mu
        Parameter of interest, empty where there is none, and its value at the best fit.
    twice_nll, reason
        2 NLL at the best fit, as pyhf has it, and why it is trusted or not.
    x_values, y_values
        Values of the grid, in rising order.
    rises
        2 NLL above the best fit at each point, everything else fitted again: a row for each value
        of `y`. None where no fit has a finite minimum.
    contours
        By level, in rising order.
    status
        ``suspect`` if a fit is not trusted.
    reasons
        Doubts, in words.
    remarks
        What a reader should know.
    """

    x: str
    y: str
    best: tuple[float, float]
    x_bounds: tuple[float, float]
    y_bounds: tuple[float, float]
    poi: str
    mu: float | None
    twice_nll: float
    reason: str
    x_values: tuple[float, ...]
    y_values: tuple[float, ...]
    rises: tuple[tuple[float | None, ...], ...]
    contours: tuple[Contour, ...]
    status: Status
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        return {
            "status": self.status,
            "x": self.x,
            "y": self.y,
            "x_best": self.best[0],
            "y_best": self.best[1],
            "remark": "; ".join((*self.reasons, *self.remarks)),
        }

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["contours"] = [
            {
                "level": contour.level,
                "lines": [{"x": line.x, "y": line.y, "closed": line.closed}
                          for line in contour.lines],
                "miss": contour.miss,
                "x": as_plain(contour.x),
                "y": as_plain(contour.y),
            }
            for contour in self.contours
        ]  # fmt: skip
        content: dict[str, Any] = finite(plain)
        return content


@dataclass(frozen=True)
class _Grid:
    """The fits of a grid.

    Attributes
    ----------
    held_fits
        Fits.
    curves
        Curve of each parameter, the other one fitted.
    values
        Values of each parameter.
    positions
        Positions of the fits, ``(ny, nx)``.
    """

    held_fits: HeldFits
    curves: tuple[ProfileCurve, ProfileCurve]
    values: tuple[FloatArray, FloatArray]
    positions: NDArray[np.int64]

    def rises(self) -> FloatArray:
        """Give 2 NLL above the best fit, ``(ny, nx)``."""
        return self.held_fits.rise()[self.positions]


def likelihood_contours(
    engine: Engine,
    patch: Patch,
    x: str,
    y: str,
    *,
    points: int = POINTS,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    levels: Sequence[float] = LEVELS,
    mu: float | None = None,
) -> LikelihoodContours:
    """Find contours of the profile likelihood of two parameters of one patch.

    Parameters
    ----------
    engine, patch
        Engine of the workspace, and the signal patch.
    x, y
        Names of the parameters.
    points
        Values of each on the grid.
    x_range, y_range
        First and last values; None: somewhat more than the widest region.
    levels
        2 NLL above the best fit of the contours.
    mu
        Where the parameter of interest is fixed; None leaves it free.

    Raises
    ------
    PalletError
        The model has no such free parameters, or a range lies beyond the bounds.
    FitError
        The fit has no finite minimum.
    ConfigError
        The engine is not the batched one; or points, range or levels make no sense.
    """
    batched = require_batched(engine, "contours of the likelihood")
    check_levels(levels)
    _check(x, y, points, (x_range, y_range))
    best = BestPoint(batched, patch, mu)
    columns = best.column(x), best.column(y)
    grid, contours, doubts = _fitted(best, columns, points, (x_range, y_range), sorted(levels))
    rises = grid.rises()
    untrusted = int(np.sum(~grid.held_fits.converged[grid.positions]))
    if untrusted:
        doubts += (f"no proven minimum at {untrusted} of {rises.size} points of the grid",)
    doubts = (*best.doubts(), *doubts)
    record = best.fit.record
    return LikelihoodContours(
        x=x,
        y=y,
        best=(grid.curves[0].best, grid.curves[1].best),
        x_bounds=grid.curves[0].bounds,
        y_bounds=grid.curves[1].bounds,
        poi=best.poi,
        mu=best.mu,
        twice_nll=record.twice_nll,
        reason=record.reason,
        x_values=tuple(grid.values[0].tolist()),
        y_values=tuple(grid.values[1].tolist()),
        rises=tuple(
            tuple(value if np.isfinite(value) else None for value in line)
            for line in rises.tolist()
        ),
        contours=contours,
        status="suspect" if doubts else "ok",
        reasons=doubts,
        remarks=(*best.remarks(), *_at_bounds((x, y), contours), *_outside(grid, (x, y), contours)),
    )


def _check(x: str, y: str, points: int, ranges: Sequence[tuple[float, float] | None]) -> None:
    """Refuse questions that make no sense."""
    if x == y:
        raise ConfigError(
            f"Both parameters are {x!r}.", remedy="Name two, or scan the likelihood of the one."
        )
    if not isinstance(points, (int, np.integer)) or not 3 <= points <= MOST_POINTS:
        raise ConfigError(
            f"A grid cannot have {points!r} values of each parameter.",
            remedy=f"Choose between 3 and {MOST_POINTS}.",
        )
    for limits in ranges:
        check_range(limits)


def _fitted(
    best: BestPoint,
    columns: tuple[int, int],
    points: int,
    ranges: Sequence[tuple[float, float] | None],
    levels: Sequence[float],
) -> tuple[_Grid, tuple[Contour, ...], tuple[str, ...]]:
    """Fit the grid and the contours, again where a point lies below the best fit.

    Returns
    -------
    tuple
        Grid, contours, and doubts.
    """
    before: list[HeldFits] = []
    for _ in range(ROUNDS):
        grid = _grid(best, columns, points, ranges, levels, before)
        contours = tuple(_contour(grid, level) for level in levels)
        all_fits = [grid.held_fits, *(curve.held_fits for curve in grid.curves)]
        lowest = min(all_fits, key=lambda fits: float(fits.nll.min()))
        position = lowest.lowest()
        if position is None:
            return grid, contours, ()
        best.lower(lowest.points[position])
        before = all_fits
    return grid, contours, ("fits of the grid still end below the best fit",)


def _grid(
    best: BestPoint,
    columns: tuple[int, int],
    points: int,
    ranges: Sequence[tuple[float, float] | None],
    levels: Sequence[float],
    before: Sequence[HeldFits],
) -> _Grid:
    """Fit the curves of both parameters and a grid around what they show."""
    curves = []
    values = []
    for number, column in enumerate(columns):
        curve = curve_of(best, [column], before[1 + number] if before else None)
        curve.extend(max(levels))
        curve.settle()
        curve.refine(levels)
        first, last = ranges[number] or range_of(curve, max(levels))
        if first < curve.bounds[0] or last > curve.bounds[1]:
            raise PalletError(
                f"The range from {first:g} to {last:g} leaves the bounds of "
                f"{best.fit.tests.batch.names[0][column]!r}.",
                remedy=f"Choose it between {curve.bounds[0]:g} and {curve.bounds[1]:g}.",
            )
        curves.append(curve)
        values.append(np.linspace(first, last, points))
    fit = best.fit
    held_fits = HeldFits(fit.tests, fit.fits, fit.covariance, np.array(columns))
    for earlier in (*before[:1], *(curve.held_fits for curve in curves)):
        held_fits.adopt(earlier)
    mesh = np.stack(np.meshgrid(*values), axis=-1)
    positions = held_fits.add(mesh.reshape(-1, 2), thorough=False).reshape(points, points)
    # A lower minimum of one point is tried at its neighbours, and so on.
    searched = np.unique([*range(0, points, _SEARCHED), points - 1])
    held_fits.search(positions[np.ix_(searched, searched)].ravel())
    held_fits.settle(_neighbours(positions, len(held_fits)))
    return _Grid(held_fits, (curves[0], curves[1]), (values[0], values[1]), positions)


def _neighbours(positions: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """List the neighbours of each point of a grid in all eight directions, ``(count, 8)``."""
    framed = np.pad(positions, 1, constant_values=-1)
    size = len(positions)
    shifts = [(i, j) for i in (0, 1, 2) for j in (0, 1, 2) if (i, j) != (1, 1)]
    near = np.full((count, len(shifts)), -1)
    for number, (i, j) in enumerate(shifts):
        near[positions, number] = framed[i : i + size, j : j + size]
    return near


def _contour(grid: _Grid, level: float) -> Contour:
    """Trace the contour of a level in the grid, and move its points until 2 NLL has the level.

    The root of the profile is nearly linear between points of the grid. Each point of a line moves
    along its gradient, and stays on the edge of the grid if it is there.
    """
    intervals = tuple(curve.interval(level) for curve in grid.curves)
    root = np.sqrt(np.maximum(grid.rises(), 0.0))
    generator = contourpy.contour_generator(*grid.values, np.ma.masked_invalid(root))
    lines_at_level: list[Any] = list(generator.lines(float(np.sqrt(level))))
    traced: list[FloatArray] = [line for line in lines_at_level if len(line) > 1]
    if not traced:
        return Contour(level, (), None, *intervals)
    moved, miss = _moved(grid, np.concatenate(traced), root, level)
    pieces = np.split(moved, np.cumsum([len(line) for line in traced])[:-1])
    lines = tuple(
        Line(
            tuple(piece[:, 0].tolist()),
            tuple(piece[:, 1].tolist()),
            bool(np.array_equal(line[0], line[-1])),
        )
        for line, piece in zip(traced, pieces, strict=True)
    )
    return Contour(level, lines, miss, *intervals)


def _moved(
    grid: _Grid, points: FloatArray, root: FloatArray, level: float
) -> tuple[FloatArray, float]:
    """Move points to a level; give them, and the largest difference that is left."""
    values = grid.values
    cell = np.array([axis[1] - axis[0] for axis in values])
    lower, upper = (np.array([axis[end] for axis in values]) for end in (0, -1))
    # Slopes of the root in units of cells, in the direction of each axis.
    filled = np.where(np.isfinite(root), root, np.nanmax(np.where(np.isfinite(root), root, np.nan)))
    slopes = [RegularGridInterpolator(values[::-1], slope) for slope in np.gradient(filled)[::-1]]
    gradient = np.stack([slope(points[:, ::-1]) for slope in slopes], axis=1)
    # What is on the edge of the grid stays there.
    gradient[(points <= lower) | (points >= upper)] = 0.0
    square = np.sum(gradient**2, axis=1)
    way = gradient / np.where(square > _FLAT, square, np.inf)[:, None]
    best, least = points.copy(), np.full(len(points), np.inf)
    trial, step = points.copy(), np.zeros(len(points))
    slope, last = np.ones(len(points)), np.full(len(points), np.nan)
    for _ in range(_MOVES + 1):
        added = grid.held_fits.add(trial, thorough=False)
        rise = grid.held_fits.rise()[added]
        better = np.abs(rise - level) < least
        best[better], least[better] = trial[better], np.abs(rise - level)[better]
        if np.all(least < _CLOSE):
            break
        value = np.sqrt(np.maximum(rise, 0.0))
        with np.errstate(all="ignore"):  # the first step has no slope yet
            measured = (value - last) / step
        slope = np.where((measured > 0.2) & (measured < 5.0), measured, slope)
        last = value
        step = np.where(np.isfinite(value), (np.sqrt(level) - value) / slope, 0.0)
        change = np.clip(step[:, None] * way, -_FARTHEST, _FARTHEST)
        trial = np.clip(trial + change * cell, lower, upper)
    return best, float(least.max())


def _at_bounds(names: Sequence[str], contours: Sequence[Contour]) -> list[str]:
    """Say which regions a bound of a parameter ends."""
    remarks = []
    for contour in contours:
        for name, interval in zip(names, (contour.x, contour.y), strict=True):
            for side, end in (("lower", interval.lower), ("upper", interval.upper)):
                if end.state != "found":
                    end_in_words = "bound" if end.state == "at_bound" else "end of the search"
                    remarks.append(
                        f"the region at {contour.level:.3g} is open at the {side} {end_in_words} "
                        f"{end.value:g} of {name}"
                    )
    return remarks


def _outside(grid: _Grid, names: Sequence[str], contours: Sequence[Contour]) -> list[str]:
    """Say which regions the grid does not cover."""
    remarks = []
    for contour in contours:
        pairs = zip(names, grid.values, (contour.x, contour.y), strict=True)
        for name, values, interval in pairs:
            if interval.lower.value < values[0] or interval.upper.value > values[-1]:
                remarks.append(
                    f"the region at {contour.level:.3g} goes beyond the grid in {name}: from "
                    f"{interval.lower.value:.4g} to {interval.upper.value:.4g}"
                )
    return remarks
