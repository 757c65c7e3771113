"""The profile likelihood of one parameter, and where it crosses levels.

The profile is 2 NLL above the best fit with the parameter held and everything else fitted again.
An interval at a level is where the profile is not above it (W. A. Rolke, A. M. Lopez and J. Conrad,
Nucl. Instrum. Meth. A 551 (2005) 493; F. James, "MINUIT", CERN D506, for MINOS).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.engine.held_fits import HeldFits

#: A crossing is found where the profile is this close to its level.
TOLERANCE = 1e-6
#: The same for the parameter, in its errors.
_CLOSE = 1e-9
#: First values, in errors of the parameter.
_FIRST = (-2.5, -2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 2.5)
#: How often the search goes on: outwards, to a crossing, and after points have fallen.
_OUTWARDS, _INWARDS, _ROUNDS = 60, 60, 8
#: Every so many steps to a crossing halve the interval.
_HALVE = 3

#: ``found``: the profile crosses the level there; ``at_bound``: it is still below it at the bound
#: of the parameter; ``beyond``: it was followed to there, and no crossing was found.
State = Literal["found", "at_bound", "beyond"]


@dataclass(frozen=True)
class End:
    """One end of an interval.

    Attributes
    ----------
    value
        Where it is.
    state
        ``found`` where the profile crosses the level; ``at_bound`` where the interval is open,
        because the profile is not above the level at the parameter's bound; ``beyond`` where no
        crossing was found up to there.
    """

    value: float
    state: State


@dataclass(frozen=True)
class Interval:
    """Range in which a profile is not above a level.

    Attributes
    ----------
    level
        2 NLL above the best fit.
    lower, upper
        Ends of the interval with the best fit.
    further
        Further intervals, which a hump separates from it: pairs of ends in rising order.
    """

    level: float
    lower: End
    upper: End
    further: tuple[tuple[End, End], ...] = ()


@dataclass(frozen=True)
class _Bracket:
    """Two neighbouring points, of which one is not above a level, and the other is."""

    level: float
    inside: int
    outside: int


class ProfileCurve:
    """The profile likelihood of one parameter.

    Parameters
    ----------
    held
        Fits with that parameter held.
    """

    def __init__(self, held_fits: HeldFits) -> None:
        self.held_fits = held_fits
        self.scale = float(held_fits.scale[0])
        self.bounds = float(held_fits.lower[0]), float(held_fits.upper[0])

    @property
    def values(self) -> FloatArray:
        """Values of the parameter at all points, in the order in which they were fitted."""
        return self.held_fits.values[:, 0]

    @property
    def best(self) -> float:
        """Value of the best fit."""
        return float(self.held_fits.values[0, 0])

    def add(self, values: Sequence[float] | FloatArray, *, thorough: bool = True) -> None:
        """Fit at those of some values, within the bounds, where no fit has been made."""
        inside = np.clip(np.asarray(values, dtype=float), *self.bounds)
        new = np.setdiff1d(inside, self.values)
        self.held_fits.add(new[:, None], thorough=thorough)

    def extend(self, level: float) -> None:
        """Go outwards until the profile is above a level, or the parameter at its bounds.

        These points are not searched for lower minima: those of a scan, and crossings, are.
        """
        self.add([self.best + step * self.scale for step in _FIRST], thorough=False)
        for _ in range(_OUTWARDS):
            further = list(self._outwards(level))
            if not further:
                return
            self.add(further, thorough=False)

    def _outwards(self, level: float) -> Iterator[float]:
        """Give the next values beyond ends that are not above a level."""
        order = np.argsort(self.values)
        rise = self.held_fits.rise()
        for end, bound in zip((order[0], order[-1]), self.bounds, strict=True):
            value = float(self.values[end])
            if rise[end] <= level and value != bound:
                step = max(abs(value - self.best), self.scale)
                yield float(np.clip(value + np.sign(bound - value) * step, *self.bounds))

    def settle(self) -> bool:
        """Try the ends of all points at their neighbours, until nothing falls."""
        order = np.argsort(self.values)
        near = np.full((len(order), 2), -1)
        near[order[1:], 0], near[order[:-1], 1] = order[:-1], order[1:]
        return self.held_fits.settle(near)

    def refine(self, levels: Sequence[float]) -> None:
        """Find where the profile crosses levels."""
        for _ in range(_ROUNDS):
            self._approach(levels)
            ends = {self._nearer(bracket) for level in levels for bracket in self._brackets(level)}
            fell = self.held_fits.search(np.array(sorted(ends), dtype=int)) if ends else False
            if not self.settle() and not fell:
                return

    def _approach(self, levels: Sequence[float]) -> None:
        """Add points until each crossing is known, all of them together."""
        for number in range(_INWARDS):
            further = [
                self._between(bracket, halve=number % _HALVE == _HALVE - 1)
                for level in levels
                for bracket in self._brackets(level)
                if not self._is_narrow(bracket)
            ]
            if not further:
                return
            self.add(further, thorough=False)

    def _brackets(self, level: float) -> list[_Bracket]:
        """List the pairs of neighbours between which the profile crosses a level."""
        order = np.argsort(self.values)
        inside = self.held_fits.rise()[order] <= level
        return [
            _Bracket(level, *map(int, order[[i, i + 1]] if inside[i] else order[[i + 1, i]]))
            for i in np.flatnonzero(inside[1:] != inside[:-1])
        ]

    def _is_narrow(self, bracket: _Bracket) -> bool:
        rise = self.held_fits.rise()[[bracket.inside, bracket.outside]]
        distance = abs(self.values[bracket.inside] - self.values[bracket.outside])
        return bool(
            np.min(np.abs(rise - bracket.level)) <= TOLERANCE or distance <= _CLOSE * self.scale
        )

    def _nearer(self, bracket: _Bracket) -> int:
        """Give the end of a bracket where the profile is nearer to the level."""
        ends = [bracket.inside, bracket.outside]
        return ends[int(np.argmin(np.abs(self.held_fits.rise()[ends] - bracket.level)))]

    def _between(self, bracket: _Bracket, *, halve: bool) -> float:
        """Choose the next value in a bracket.

        The root of the profile is nearly linear in the parameter, so that the parameter is
        interpolated as a polynomial of the root, through as many as four points.
        """
        pair = sorted((bracket.inside, bracket.outside), key=lambda end: self.values[end])
        low, high = self.values[pair]
        middle = float(0.5 * (low + high))
        if halve or not np.isfinite(self.held_fits.rise()[bracket.outside]):
            return middle
        order = np.argsort(self.values)
        position = int(np.flatnonzero(order == pair[0])[0])
        around = order[max(position - 1, 0) : position + 3]
        for chosen in (around, np.array(pair)):
            value = self._interpolated(chosen, bracket.level)
            if low < value < high:
                return value
        return middle

    def _interpolated(self, chosen: np.ndarray, level: float) -> float:
        """Interpolate the value where the profile has a level; NaN where it is not monotonic."""
        root = np.sqrt(np.maximum(self.held_fits.rise()[chosen], 0.0))
        steps = np.diff(root)
        if not (np.all(np.isfinite(root)) and (np.all(steps > 0) or np.all(steps < 0))):
            return float("nan")
        value, at = 0.0, np.sqrt(level)
        for number, term in enumerate(self.values[chosen]):
            further = np.delete(root, number)
            value += term * np.prod((at - further) / (root[number] - further))
        return float(value)

    def interval(self, level: float) -> Interval:
        """Describe where the profile is not above a level, from all points."""
        order = np.argsort(self.values)
        inside = self.held_fits.rise()[order] <= level
        # The best fit is inside by definition, also before a lower one replaces it.
        inside[order == 0] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
        pairs = [
            (self._end(order, first, -1, level), self._end(order, last - 1, 1, level))
            for first, last in zip(edges[::2], edges[1::2], strict=True)
        ]
        position = int(np.flatnonzero(order == 0)[0])
        main = next(
            number
            for number, (first, last) in enumerate(zip(edges[::2], edges[1::2], strict=True))
            if first <= position < last
        )
        lower, upper = pairs.pop(main)
        return Interval(level, lower, upper, tuple(pairs))

    def _end(self, order: np.ndarray, position: int, side: int, level: float) -> End:
        """Describe the end of an interval at a position in the order, on one of its sides."""
        beyond = position + side
        if not 0 <= beyond < len(order):
            value = float(self.values[order[position]])
            bound = self.bounds[side > 0]
            return End(value, "at_bound" if value == bound else "beyond")
        bracket = _Bracket(level, int(order[position]), int(order[beyond]))
        return End(float(self.values[self._nearer(bracket)]), "found")


def as_plain(interval: Interval) -> dict[str, Any]:
    """Give an interval as plain data."""

    def pair(lower: End, upper: End) -> dict[str, Any]:
        return {
            "lower": lower.value,
            "lower_state": lower.state,
            "upper": upper.value,
            "upper_state": upper.state,
        }

    return {
        "level": interval.level,
        **pair(interval.lower, interval.upper),
        "further": [pair(*ends) for ends in interval.further],
    }
