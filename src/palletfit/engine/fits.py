"""One kind of fit of all patches of a batch: its attempts, and the lowest minima."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.newton import Minima

#: The edm of the lowest minimum.
TOLERANCE = 1e-10
#: Ends of fits that differ by less in NLL are one minimum.
SAME = 1e-7
#: After so many evaluations of one fit of a patch, of all its starts together, the search for
#: lower minima ends. Ordinary fits take a hundredth to a tenth of it.
MOST_EVALUATIONS = 10_000
#: Attributes of fits that have an entry a patch, in addition to the data.
_BY_ROW = ("point", "value", "edm", "gradient_norm", "converged", "looked", "spent", "patient")


@dataclass
class Fits:
    """One kind of fit of all patches of a batch.

    Attributes
    ----------
    data, aux
        Main and auxiliary data, ``(P, B)`` and ``(P, K)``.
    mu
        Where the parameter of interest is fixed, for all patches or for each, ``(P,)``.
    leader
        For each patch the first one whose fit is the same, ``(P,)``: only that one is made; less
        than zero for patches that are not fitted at all.
    """

    data: FloatArray
    aux: FloatArray
    mu: float | FloatArray | None
    leader: NDArray[np.int64]
    #: From each start: its name, rows, ends, and seconds a lane.
    attempts: list[tuple[str, NDArray[np.int64], Minima, float]] = field(default_factory=list)
    point: FloatArray = field(init=False)
    value: FloatArray = field(init=False)
    edm: FloatArray = field(init=False)
    gradient_norm: FloatArray = field(init=False)
    converged: NDArray[np.bool_] = field(init=False)
    #: Points from which the search took a few steps, by row.
    looked: NDArray[np.int64] = field(init=False)
    #: Evaluations of the likelihood with its derivatives, and starts that took many, by row.
    spent: NDArray[np.int64] = field(init=False)
    patient: NDArray[np.int64] = field(init=False)
    #: Leading rows, several times perhaps, and higher minima that the search passed by.
    passed: list[tuple[NDArray[np.int64], Minima]] = field(default_factory=list)
    #: Why fits have not converged, by row, where that has been looked at.
    causes: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.data)
        self.point = np.zeros(self.aux.shape)
        self.value, self.edm = np.full(count, np.inf), np.full(count, np.inf)
        self.gradient_norm = np.full(count, np.inf)
        self.converged = np.zeros(count, dtype=bool)
        self.looked, self.spent, self.patient = (np.zeros(count, dtype=int) for _ in range(3))

    def leading(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Select those of some rows whose fits have to be made."""
        return np.asarray(rows[self.leader[rows] == rows])

    def add(self, start: str, rows: NDArray[np.int64], minima: Minima, seconds: float) -> None:
        """Keep the lower minima of leading rows; among equal ones those that have converged."""
        rows, minima = self._spread(rows, minima)
        self.attempts.append((start, rows, minima, seconds))
        lower = minima.value < self.value[rows] - SAME
        with np.errstate(invalid="ignore"):  # where there is no finite value at all
            same = np.abs(minima.value - self.value[rows]) <= SAME
        better = lower | (
            same
            & np.where(
                minima.converged == self.converged[rows],
                minima.edm < self.edm[rows],
                minima.converged,
            )
        )
        targets, sources = rows[better], np.flatnonzero(better)
        self.point[targets], self.value[targets] = minima.point[sources], minima.value[sources]
        self.edm[targets], self.gradient_norm[targets] = (
            minima.edm[sources],
            minima.gradient_norm[sources],
        )
        self.converged[targets] = minima.converged[sources]

    def stopped(self) -> NDArray[np.bool_]:
        """Find patches whose search ended at the bound on evaluations."""
        return np.asarray(self.spent >= MOST_EVALUATIONS)

    def count(
        self,
        name: Literal["spent", "patient"],
        rows: NDArray[np.int64],
        numbers: NDArray[np.int64],
    ) -> None:
        """Add to a count of leading rows, listed once or several times, and of those they lead."""
        counts = getattr(self, name)
        np.add.at(counts, rows, numbers)
        led = np.flatnonzero(self.leader >= 0)
        counts[led] = counts[self.leader[led]]

    def _spread(self, rows: NDArray[np.int64], minima: Minima) -> tuple[NDArray[np.int64], Minima]:
        """Extend leading rows to all that they lead."""
        position = np.full(len(self.data) + 1, -1)
        position[rows] = np.arange(len(rows))
        position = position[self.leader]  # less than zero is the last one, which is nobody's
        rows = np.flatnonzero(position >= 0)
        return rows, minima.take(position[rows])

    def from_start(self, start: str) -> Fits:
        """Give the ends of one start only, as fits of their own."""
        fits = Fits(self.data, self.aux, self.mu, self.leader)
        for name, rows, minima, seconds in self.attempts:
            if name == start:
                fits.add(start, rows, minima, seconds)
        return fits

    def with_rows(self, replacement: Fits, rows: NDArray[np.int64]) -> Fits:
        """Give fits with some rows of replacements, and with their data."""
        fits = Fits(self.data.copy(), self.aux.copy(), self.mu, self.leader)
        remaining = np.setdiff1d(np.arange(len(self.value)), rows)
        fits.attempts = [
            (start, attempted[kept], minima.take(kept), seconds)
            for attempts, chosen in ((self.attempts, remaining), (replacement.attempts, rows))
            for start, attempted, minima, seconds in attempts
            for kept in [np.isin(attempted, chosen)]
        ]
        for name in _BY_ROW:
            setattr(fits, name, getattr(self, name).copy())
        for name in ("data", "aux", *_BY_ROW):
            getattr(fits, name)[rows] = getattr(replacement, name)[rows]
        return fits

    def refine(self, rows: NDArray[np.int64], minima: Minima) -> None:
        """Replace the lowest minima of leading rows by better known ones."""
        rows, minima = self._spread(rows, minima)
        self.point[rows], self.value[rows] = minima.point, minima.value
        self.edm[rows], self.gradient_norm[rows] = minima.edm, minima.gradient_norm
        # A tolerance that rounding does not allow is no failure.
        self.converged[rows] = minima.edm <= TOLERANCE

    def multimodal(self) -> NDArray[np.bool_]:
        """Find patches whose starts ended at more than one minimum."""
        highest = np.full(len(self.value), -np.inf)
        for _, rows, minima, _ in self.attempts:
            ends = np.where(minima.converged, minima.value, -np.inf)
            highest[rows] = np.maximum(highest[rows], ends)
        return np.asarray(highest > self.value + SAME)

    def minima(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the different minima that the starts of some rows ended at."""
        ends = np.full((len(self.value), len(self.attempts)), np.inf)
        for number, (_, attempted, minima, _) in enumerate(self.attempts):
            ends[attempted, number] = np.where(minima.converged, minima.value, np.inf)
        ends = np.sort(ends[rows], axis=1)
        with np.errstate(invalid="ignore"):
            different = np.diff(ends, axis=1, prepend=-np.inf) > SAME
        return np.asarray(np.sum(different & (ends < np.inf), axis=1))

    def agreed(self) -> NDArray[np.int64]:
        """Count the starts of each patch that ended at the lowest minimum."""
        count = np.zeros(len(self.value), dtype=int)
        with np.errstate(invalid="ignore"):
            for _, rows, minima, _ in self.attempts:
                count[rows] += np.abs(minima.value - self.value[rows]) <= SAME
        return count
