"""The scan of the likelihood in one parameter, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.engine.choose import require_batched
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.held_fits import HeldFits
from palletfit.engine.protocol import Engine
from palletfit.engine.records import Status, finite
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.profile.best import ROUNDS, BestPoint
from palletfit.products.diagnostics.profile.curve import End, Interval, ProfileCurve, as_plain

#: 2 NLL above the best fit of intervals of one parameter at 68.3% and 95%: quantiles of the
#: chi-squared distribution with one degree of freedom.
LEVELS = (1.0, 3.841458820694124)
#: Room beyond the widest interval, in parts of its half.
_ROOM = 0.15
#: Points of a scan, by default and at most.
POINTS, MOST_POINTS = 41, 2001


@dataclass(frozen=True)
class LikelihoodScan:
    """The profile likelihood of one parameter.

    Attributes
    ----------
    parameter
        Its name.
    best, error
        Best fit, and its error from the Hessian; None where that gives none.
    bounds
        Bounds of the parameter.
    poi, mu
        Parameter of interest, empty where there is none, and its value at the best fit.
    twice_nll, reason
        2 NLL at the best fit, as pyhf has it, and why it is trusted or not.
    parameter_values
        Values of the parameter, in rising order.
    rises
        2 NLL above the best fit at each value, everything else fitted again; None where no fit
        has a finite minimum.
    trusted
        False for values whose fit has no proven minimum.
    intervals
        Intervals at the levels.
    status
        ``suspect`` if a fit is not trusted.
    reasons
        Doubts, in words.
    remarks
        What a reader should know.
    """

    parameter: str
    best: float
    error: float | None
    bounds: tuple[float, float]
    poi: str
    mu: float | None
    twice_nll: float
    reason: str
    parameter_values: tuple[float, ...]
    rises: tuple[float | None, ...]
    trusted: tuple[bool, ...]
    intervals: tuple[Interval, ...]
    status: Status
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column; open ends of intervals are None."""
        ends = {
            f"{name}_{interval.level:.3g}": end.value if end.state == "found" else None
            for interval in self.intervals
            for name, end in (("lower", interval.lower), ("upper", interval.upper))
        }
        return {
            "status": self.status,
            "parameter": self.parameter,
            "best": self.best,
            "error": self.error,
            **ends,
            "remark": "; ".join((*self.reasons, *self.remarks)),
        }

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["intervals"] = [as_plain(interval) for interval in self.intervals]
        content: dict[str, Any] = finite(plain)
        return content


def likelihood_scan(
    engine: Engine,
    patch: Patch,
    parameter: str | None = None,
    *,
    points: int | Sequence[float] = POINTS,
    value_range: tuple[float, float] | None = None,
    levels: Sequence[float] = LEVELS,
    mu: float | None = None,
) -> LikelihoodScan:
    """Scan the likelihood of one patch in one parameter.

    Parameters
    ----------
    engine, patch
        Engine of the workspace, and the signal patch.
    parameter
        Name of the parameter; None: the parameter of interest.
    points
        Number of values, at equal distances; or the values.
    value_range
        First and last value; None: somewhat more than the widest interval.
    levels
        2 NLL above the best fit of the intervals.
    mu
        Where the parameter of interest is fixed; None leaves it free.

    Raises
    ------
    PalletError
        The model has no such free parameter, or values lie beyond its bounds.
    FitError
        The fit has no finite minimum.
    ConfigError
        The engine is not the batched one; or points, range or levels make no sense.
    """
    batched: BatchedEngine = require_batched(engine, "scans of the likelihood")
    check_levels(levels)
    _check_points(points, value_range)
    best = BestPoint(batched, patch, mu)
    name = best.name(parameter)
    column = best.column(name)
    curve, grid, doubts = _curve(best, column, points, value_range, levels)
    intervals = tuple(curve.interval(level) for level in sorted(levels))
    by_value = {float(value): position for position, value in enumerate(curve.values)}
    chosen = np.array([by_value[float(value)] for value in grid], dtype=int)
    rises = curve.held_fits.rise()[chosen]
    trusted = curve.held_fits.converged[chosen]
    doubts += _untrusted(grid[~trusted])
    doubts = (*best.doubts(), *doubts)
    error = float(np.sqrt(best.fit.covariance[column, column]))
    record = best.fit.record
    scan = LikelihoodScan(
        parameter=name,
        best=curve.best,
        error=error if error > 0 else None,
        bounds=curve.bounds,
        poi=best.poi,
        mu=best.mu,
        twice_nll=record.twice_nll,
        reason=record.reason,
        parameter_values=tuple(grid.tolist()),
        rises=tuple(value if np.isfinite(value) else None for value in rises.tolist()),
        trusted=tuple(trusted.tolist()),
        intervals=intervals,
        status="suspect" if doubts else "ok",
        reasons=doubts,
    )
    return replace(scan, remarks=(*best.remarks(), *_open_ends(scan)))


def check_levels(levels: Sequence[float]) -> None:
    """Refuse levels that are none.

    Raises
    ------
    ConfigError
        There is none, or one is not a positive number.
    """
    numbers = numbers_of("levels", levels)
    if not len(numbers) or not all(0 < level < np.inf for level in numbers):
        raise ConfigError(
            f"The levels {list(levels)} are not positive numbers.",
            remedy="Levels are 2 NLL above the best fit, such as 1 and 3.84.",
        )


def check_range(limits: tuple[float, float] | None) -> None:
    """Refuse a range that is none; None is that of the scan itself.

    Raises
    ------
    ConfigError
        The range is not two finite numbers, the lower one first.
    """
    if limits is None:
        return
    numbers = numbers_of("range", limits)
    if len(numbers) != 2 or not -np.inf < numbers[0] < numbers[1] < np.inf:
        raise ConfigError(
            f"The range {', '.join(f'{number:g}' for number in numbers)} does not rise from one "
            "finite number to another.",
            remedy="Give two finite numbers, the lower one first.",
        )


def numbers_of(title: str, values: Sequence[float]) -> FloatArray:
    """Read numbers.

    Raises
    ------
    ConfigError
        They are not a sequence of numbers.
    """
    try:
        numbers = np.asarray(values)
    except (TypeError, ValueError):
        numbers = np.zeros(())
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iuf"):
        raise ConfigError(
            f"The {title} {values!r} are not a list of numbers.", remedy="Give a list of numbers."
        )
    return numbers.astype(float)


def _check_points(points: int | Sequence[float], value_range: tuple[float, float] | None) -> None:
    """Refuse points and a range that make no scan."""
    check_range(value_range)
    if isinstance(points, (int, np.integer)):
        if not 2 <= points <= MOST_POINTS:
            raise ConfigError(
                f"A scan cannot have {points} points.",
                remedy=f"Choose between 2 and {MOST_POINTS} points.",
            )
        return
    values = numbers_of("values of the scan", points)
    if value_range is not None:
        raise ConfigError(
            "A scan at given values has no range.", remedy="Give values or a range, not both."
        )
    if not 0 < len(values) <= MOST_POINTS or not np.all(np.isfinite(values)):
        raise ConfigError(
            "The values of a scan are not finite, or none or too many.",
            remedy=f"Give between 1 and {MOST_POINTS} numbers.",
        )


def _curve(
    best: BestPoint,
    column: int,
    points: int | Sequence[float],
    value_range: tuple[float, float] | None,
    levels: Sequence[float],
) -> tuple[ProfileCurve, np.ndarray, tuple[str, ...]]:
    """Fit all points of a scan, again where one lies below the best fit.

    Returns
    -------
    tuple
        The curve, the values of the scan, and doubts.
    """
    before: HeldFits | None = None
    for _ in range(ROUNDS):
        curve = curve_of(best, [column], before)
        curve.extend(max(levels))
        grid = _grid(best, column, curve, points, value_range, max(levels))
        curve.add(grid)
        curve.settle()
        curve.refine(levels)
        lowest = curve.held_fits.lowest()
        if lowest is None:
            return curve, grid, ()
        best.lower(curve.held_fits.points[lowest])
        before = curve.held_fits
    return curve, grid, ("fits of the scan still end below the best fit",)


def curve_of(
    best: BestPoint, columns: Sequence[int], before: HeldFits | None = None
) -> ProfileCurve:
    """Begin the curve of one parameter, with the points of an earlier one."""
    fit = best.fit
    held_fits = HeldFits(fit.tests, fit.fits, fit.covariance, np.array(columns))
    if before is not None:
        held_fits.adopt(before)
    return ProfileCurve(held_fits)


def _grid(
    best: BestPoint,
    column: int,
    curve: ProfileCurve,
    points: int | Sequence[float],
    value_range: tuple[float, float] | None,
    level: float,
) -> np.ndarray:
    """Choose the values of a scan.

    Raises
    ------
    PalletError
        A value lies beyond the bounds.
    """
    if isinstance(points, (int, np.integer)):
        first, last = value_range or range_of(curve, level)
        values = np.linspace(first, last, int(points))
    else:
        values = np.unique(np.asarray(points, dtype=float))
    lower, upper = curve.bounds
    if values[0] < lower or values[-1] > upper:
        raise PalletError(
            f"The scan from {values[0]:g} to {values[-1]:g} leaves the bounds of "
            f"{best.fit.tests.batch.names[0][column]!r}.",
            remedy=f"Choose values between {lower:g} and {upper:g}.",
        )
    return np.asarray(values)


def range_of(curve: ProfileCurve, level: float) -> tuple[float, float]:
    """Choose a range that is somewhat wider than an interval, within the bounds."""
    curve.refine([level])
    interval = curve.interval(level)
    ends = [*((interval.lower, interval.upper), *interval.further)]
    first = min(lower.value for lower, _ in ends)
    last = max(upper.value for _, upper in ends)
    room = _ROOM * 0.5 * (last - first)
    lower, upper = curve.bounds
    return max(first - room, lower), min(last + room, upper)


def _untrusted(values: np.ndarray) -> tuple[str, ...]:
    if not len(values):
        return ()
    listed = ", ".join(f"{value:.4g}" for value in values[:3])
    more = f" and {len(values) - 3} more values" if len(values) > 3 else ""
    return (f"no proven minimum at {listed}{more}",)


def _open_ends(scan: LikelihoodScan) -> list[str]:
    """Say which intervals are open, and which have parts."""
    remarks = []
    for interval in scan.intervals:
        for side, end in (("lower", interval.lower), ("upper", interval.upper)):
            if end.state != "found":
                remarks.append(_open(scan.parameter, interval.level, side, end))
        if interval.further:
            parts = ", ".join(
                f"{lower.value:.4g} to {upper.value:.4g}" for lower, upper in interval.further
            )
            remarks.append(
                f"the interval of {scan.parameter} at {interval.level:.3g} has further parts: "
                f"{parts}"
            )
    return remarks


def _open(parameter: str, level: float, side: str, end: End) -> str:
    words = (
        f"at the {side} bound {end.value:g} of the parameter"
        if end.state == "at_bound"
        else f"at {end.value:g}, where the search ended"
    )
    return f"the interval of {parameter} at {level:.3g} is open: 2 NLL is not above it {words}"
