"""Fits of the patches of one batch, from given starts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from palletfit.core.arrays import FloatArray
from palletfit.engine.corners import Corners
from palletfit.engine.evaluation import BatchLikelihood
from palletfit.engine.fits import SAME, TOLERANCE, Fits
from palletfit.engine.likelihood import CLIP_WIDTH, EMPTY
from palletfit.engine.lowering import prefit_widths
from palletfit.engine.newton import EXHAUSTED, Lanes, Minima, Solver

#: Displaced starts of every fit.
DISPLACED = 2
#: Every second one of further displaced starts goes so much farther.
_FARTHER = 1.5
#: The edm at which a start ends, in units of the NLL: where its next step leads is then known to
#: much better than :data:`palletfit.engine.fits.SAME`.
_START_TOLERANCE = 1e-6
#: Rates of empty bins that are as close to zero as this are near the corner there.
CORNER = 0.1
#: So many evaluations are enough away from corners.
_PATIENCE = 40
#: So many starts of a fit at most get all the patience.
_PATIENT = 4
#: So many points of a fit are followed together; only then are its evaluations counted.
_TOGETHER = 24


class Fitter:
    """Fits the patches of one batch, each from its own starts.

    Parameters
    ----------
    likelihood
        The likelihoods of the batch.
    """

    def __init__(self, likelihood: BatchLikelihood) -> None:
        self.likelihood = likelihood
        self.batch, self.rows, self.poi = likelihood.batch, likelihood.rows, likelihood.poi

    def lanes(
        self, fits: Fits, start: FloatArray, rows: NDArray[np.int64], *, scoring: bool = True
    ) -> Lanes:
        """Make one lane for each of some rows, from its own start."""
        batch = self.batch
        fixed, point = batch.fixed[rows].copy(), np.array(start, dtype=float)
        never_free = batch.fixed[rows]
        point[never_free] = batch.init[rows][never_free]
        if fits.mu is not None:
            fixed[:, self.poi] = True
            point[:, self.poi] = np.broadcast_to(fits.mu, len(self.batch))[rows]
        return Lanes(
            patch=rows,
            scoring=np.full(len(rows), scoring),
            start=point,
            fixed=fixed,
            lower=batch.lower[rows],
            upper=batch.upper[rows],
            data=fits.data[rows],
            aux=fits.aux[rows],
            precision=batch.precision[rows],
            factor=batch.factor[rows],
            clip=np.full(len(rows), CLIP_WIDTH),
        )

    def fit(
        self,
        fits: Fits,
        starts: Mapping[str, FloatArray],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Fit some rows, by default all, from several starts."""
        rows = fits.leading(self.rows if rows is None else rows)
        if not len(rows):
            return
        began = time.perf_counter()
        lanes = Lanes.join(
            [
                self.lanes(fits, start[rows], rows, scoring=not name.startswith("displaced"))
                for name, start in starts.items()
            ]
        )
        minima = self.minimise(fits, lanes)
        seconds = (time.perf_counter() - began) / len(lanes)
        for number, start in enumerate(starts):
            part = np.arange(number * len(rows), (number + 1) * len(rows))
            fits.add(start, rows, minima.take(part), seconds)

    def fit_each(self, fits: Fits, name: str, rows: NDArray[np.int64], points: FloatArray) -> None:
        """Fit rows, which may be listed several times in a row, each from its own point.

        Points are left out once their fit has taken
        :data:`palletfit.engine.fits.MOST_EVALUATIONS`.
        """
        rank = _ranks(rows)
        for first in range(0, int(rank.max(initial=-1)) + 1, _TOGETHER):
            together = (rank >= first) & (rank < first + _TOGETHER)
            together &= (first == 0) | ~fits.stopped()[rows]
            chosen = np.flatnonzero(together)
            if not len(chosen):
                return
            began = time.perf_counter()
            lanes = self.lanes(fits, points[chosen], rows[chosen])
            minima = self.minimise(fits, lanes)
            seconds = (time.perf_counter() - began) / len(chosen)
            for number in range(first, int(rank[chosen].max()) + 1):
                part = np.flatnonzero(rank[chosen] == number)
                fits.add(f"{name}.{number + 1}", rows[chosen[part]], minima.take(part), seconds)

    def sharpen(self, fits: Fits, rows: NDArray[np.int64], tolerance: float = TOLERANCE) -> None:
        """Continue from the lowest minima of some rows to a much smaller edm."""
        rows = fits.leading(rows[fits.converged[rows] & (fits.edm[rows] > tolerance)])
        if len(rows):
            lanes = self.lanes(fits, fits.point[rows], rows)
            fits.refine(rows, self.minimise(fits, lanes, tolerance, predict=False))

    def minimise(
        self,
        fits: Fits,
        lanes: Lanes,
        tolerance: float = _START_TOLERANCE,
        *,
        predict: bool = True,
    ) -> Minima:
        """Minimise, and round the corner at empty bins more where that keeps lanes from ending.

        A minimum at the corner, where the rate of an empty bin is zero, is approached as the corner
        gets sharper and sharper.
        """
        empty = np.any(lanes.data <= EMPTY, axis=1)
        minima = Minima.unknown(*lanes.start.shape)
        settings: dict[str, Any] = {"tolerance": tolerance, "predict": predict}
        for rows, limit in ((np.flatnonzero(~empty), None), (np.flatnonzero(empty), _PATIENCE)):
            minima.put(rows, self._run(fits, lanes.take(rows), limit=limit, **settings))
        left = np.flatnonzero(empty & ~minima.converged & np.isfinite(minima.value))
        rates = self.likelihood.rates(fits, minima.point[left], lanes.patch[left])
        corner = np.any((lanes.data[left] <= EMPTY) & (np.abs(rates) < CORNER), axis=1)
        rows = left[~corner]
        minima.put(rows, self._run(fits, lanes.take(rows).at(minima.point[rows]), **settings))
        rows = left[corner]
        ends = self._corners(fits, lanes.take(rows), minima.take(rows))
        continued = lanes.take(rows).at(ends.point)
        minima.put(rows, self._run(fits, continued, limit=_PATIENCE, **settings))
        # Where it could be the lowest, it is worth the patience.
        slow = (minima.outcome == EXHAUSTED) & (minima.value < fits.value[lanes.patch] + SAME)
        rows = np.flatnonzero(slow)
        rows = rows[fits.patient[lanes.patch[rows]] + _ranks(lanes.patch[rows]) < _PATIENT]
        if len(rows):
            fits.count("patient", lanes.patch[rows], np.ones(len(rows), dtype=int))
            continued = lanes.take(rows).at(minima.point[rows])
            minima.put(rows, self._run(fits, continued, patient=True, **settings))
        return minima

    def _run(
        self,
        fits: Fits,
        lanes: Lanes,
        tolerance: float,
        *,
        predict: bool = False,
        limit: int | None = None,
        patient: bool = False,
    ) -> Minima:
        """Minimise, and count the evaluations; see :meth:`Solver.minimise`."""
        solver = self._solver(fits, patient=patient)
        minima = solver.minimise(lanes, tolerance, predict=predict, limit=limit)
        fits.count("spent", lanes.patch, minima.iterations)
        return minima

    def _corners(self, fits: Fits, lanes: Lanes, ends: Minima) -> Minima:
        """Bring lanes near to minima at a corner, and count the evaluations."""
        if not len(lanes):
            return ends
        corners = Corners(self.likelihood, fits, self._solver(fits, patient=True))
        minima, spent = corners.approach(lanes, ends)
        fits.count("spent", lanes.patch, spent)
        return minima

    def probe(self, fits: Fits, rows: NDArray[np.int64], points: FloatArray, steps: int) -> Minima:
        """Take a few Newton steps of rows, each from its own point."""
        lanes = self.lanes(fits, points, rows)
        return self._run(fits, lanes, _START_TOLERANCE, limit=steps)

    def with_own(self, fits: Fits) -> bool:
        """Say whether the patches' own samples count in a kind of fit: not without signal."""
        signal = fits.mu is None or bool(np.any(fits.mu != 0.0))
        return signal or not self.likelihood.only_signal

    def _solver(self, fits: Fits, *, patient: bool = False) -> Solver:
        """Choose the solver of a kind of fit: without signal, its samples need no evaluation."""
        likelihood = self.likelihood
        with_own = self.with_own(fits)
        compiled = likelihood.compiled
        solver = (compiled.patient if patient else compiled.solvers)[with_own]
        solver.patch_samples = likelihood.patch_samples if with_own else {}
        return solver

    def displaced_starts(self, first: int = 1, count: int = DISPLACED) -> dict[str, FloatArray]:
        """Choose random starts around the suggested ones, by name, for all rows."""
        return {
            f"displaced {number}": self.displaced(
                f"displaced {number}", _FARTHER if number > DISPLACED and number % 2 else 1.0
            )
            for number in range(first, first + count)
        }

    def displaced(self, name: str, size: float) -> FloatArray:
        """Choose points some prefit widths off the suggested ones, ``(P, K)``.

        Each parameter's displacement depends on its name only, not on the batch.
        """
        batch = self.batch
        moved = batch.init + size * self.widths * self.pattern(name)
        return np.where(batch.fixed, batch.init, moved)

    @cached_property
    def widths(self) -> FloatArray:
        """Prefit standard deviations, or a part of the range where there are none, ``(P, K)``."""
        return prefit_widths(self.batch)

    def pattern(self, name: str) -> FloatArray:
        """Draw normally distributed numbers, ``(P, K)``; those of a parameter are the same."""
        return np.array(
            [[_normal(name, parameter or "") for parameter in names] for names in self.batch.names]
        )


def _ranks(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the entries of each row in their order, from zero, ``(n,)``."""
    order = np.argsort(rows, kind="stable")
    _, first, count = np.unique(rows[order], return_index=True, return_counts=True)
    ranks = np.empty(len(rows), dtype=int)
    ranks[order] = np.arange(len(rows)) - np.repeat(first, count)
    return ranks


@cache
def _normal(start: str, parameter: str) -> float:
    """Draw a normally distributed number that belongs to a start and a parameter."""
    digest = hashlib.sha256(f"{start}\0{parameter}".encode()).digest()
    return float(ndtri((int.from_bytes(digest[:7], "little") + 0.5) / 256**7))
