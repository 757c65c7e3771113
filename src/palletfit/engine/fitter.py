"""Fits of the patches of one batch, from given starts."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.evaluation import BatchLikelihood
from palletfit.engine.fits import TOLERANCE, Fits
from palletfit.engine.newton import Lanes, Solver

#: Displaced starts of every fit.
DISPLACED = 2
#: The edm at which a start ends, in units of the NLL: where its next step leads is then known to
#: much better than :data:`palletfit.engine.fits.SAME`.
_START_TOLERANCE = 1e-6


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
        minima = self._solver(fits).minimise(lanes, _START_TOLERANCE, predict=True)
        seconds = (time.perf_counter() - began) / len(lanes)
        for number, start in enumerate(starts):
            part = np.arange(number * len(rows), (number + 1) * len(rows))
            fits.add(start, rows, minima.take(part), seconds)

    def fit_each(self, fits: Fits, name: str, rows: NDArray[np.int64], points: FloatArray) -> None:
        """Fit rows, which may be listed several times in a row, each from its own point."""
        began = time.perf_counter()
        lanes = self.lanes(fits, points, rows)
        minima = self._solver(fits).minimise(lanes, _START_TOLERANCE, predict=True)
        seconds = (time.perf_counter() - began) / len(rows)
        _, first, count = np.unique(rows, return_index=True, return_counts=True)
        rank = np.arange(len(rows)) - np.repeat(first, count)
        for number in range(int(rank.max()) + 1):
            part = np.flatnonzero(rank == number)
            fits.add(f"{name}.{number + 1}", rows[part], minima.take(part), seconds)

    def sharpen(self, fits: Fits, rows: NDArray[np.int64], tolerance: float = TOLERANCE) -> None:
        """Continue from the lowest minima of some rows to a much smaller edm."""
        rows = fits.leading(rows[fits.converged[rows] & (fits.edm[rows] > tolerance)])
        if len(rows):
            lanes = self.lanes(fits, fits.point[rows], rows)
            fits.refine(rows, self._solver(fits).minimise(lanes, tolerance))

    def _solver(self, fits: Fits) -> Solver:
        """Choose the solver of a kind of fit: without signal, its samples need no evaluation."""
        likelihood = self.likelihood
        signal = fits.mu is None or bool(np.any(fits.mu != 0.0))
        with_own = signal or not likelihood.only_signal
        solver = likelihood.compiled.solvers[with_own]
        solver.patch_samples = likelihood.patch_samples if with_own else {}
        return solver

    def displaced_starts(self, first: int = 1, count: int = DISPLACED) -> dict[str, FloatArray]:
        """Choose random starts around the suggested ones, by name, for all rows."""
        names = [f"displaced {number}" for number in range(first, first + count)]
        return {name: self._displaced(name) for name in names}

    def _displaced(self, name: str) -> FloatArray:
        """Choose starts about one prefit width off the suggested ones, the same in every batch."""
        batch = self.batch
        seed = int.from_bytes(name.encode()[-8:], "little")
        pattern = np.random.default_rng(seed).standard_normal(batch.init.shape[1])
        constrained = batch.precision + batch.factor
        width = np.where(
            constrained > 0,
            1.0 / np.sqrt(np.maximum(constrained, 1e-30)),
            np.minimum((batch.upper - batch.lower) / 20, 0.5),
        )
        return np.where(batch.fixed, batch.init, batch.init + width * pattern)
