"""Fits of one patch with some of its parameters held: the points of profile likelihoods.

Every point is a row of one batch, and the rows differ in what is held, and where. So all of them
have the engine's whole apparatus: several starts, the search for lower minima, and proven minima.

A likelihood with several minima has a profile that follows the lowest of them. A fit from nearby
may miss where they change places. So each fit begins at the ends of near points; thorough ones also
begin at the best fit and at the suggested values; and in :meth:`HeldFits.settle` the ends of all
points are tried at their neighbours, until nothing falls.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import SUGGESTED, BatchFits
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.lowering import Lowered

#: Known points whose ends are starts of a new point.
_NEAR = 2
#: Ends of neighbours are in the same valley where no parameter differs by more than this, in
#: widths before the fit.
_APART = 0.25
#: Singular values below this part of the largest one are none.
_SINGULAR = 1e-10


def hold(batch: Lowered, row: int, mask: NDArray[np.bool_], points: FloatArray) -> Lowered:
    """Repeat one patch, each time with other parameters fixed.

    Parameters
    ----------
    batch, row
        The patch.
    mask, points
        Parameters that are fixed in each repetition, and their values there, ``(n, K)``.
    """
    repeated = batch.take(np.full(len(mask), row))
    return replace(
        repeated, fixed=repeated.fixed | mask, init=np.where(mask, points, repeated.init)
    )


class HeldFits:
    """Fits of one patch with some parameters held at chosen values.

    Parameters
    ----------
    tests, best
        A batch of one patch, and its best fit.
    covariance
        Of the parameters at the best fit, ``(K, K)``; zero where they are not free.
    columns
        Parameters that are held, ``(m,)``.
    frozen
        Parameters that are held at their values of the best fit in all fits.

    Attributes
    ----------
    values
        Values of the held parameters at each point, ``(n, m)``. The first point is the best fit.
    nll
        Lowest NLL without constants of each point, ``(n,)``; infinite where there is none.
    points
        All parameters there, ``(n, K)``.
    converged
        Points with a proven minimum, ``(n,)``.
    """

    def __init__(
        self,
        tests: BatchFits,
        best: Fits,
        covariance: FloatArray,
        columns: NDArray[np.int64],
        frozen: NDArray[np.int64] | None = None,
    ) -> None:
        self._tests, self.columns = tests, columns
        self._mu = best.mu
        self._mask = np.zeros(best.point.shape[1], dtype=bool)
        self._mask[columns] = True
        if frozen is not None:
            self._mask[frozen] = True
        self._scale = self._scale_of(covariance)
        among = covariance[np.ix_(columns, columns)]
        #: Change of all parameters with each held one, were the likelihood quadratic, ``(K, m)``.
        self._slopes = covariance[:, columns] @ np.linalg.pinv(
            among, rcond=_SINGULAR, hermitian=True
        )
        self._slopes[self._mask] = 0.0
        self._slopes[columns] = np.eye(len(columns))
        self.values = best.point[:, columns].copy()
        self._reference = float(best.value[0])
        self.nll, self.points = best.value.copy(), best.point.copy()
        self.converged = best.converged.copy()

    def __len__(self) -> int:
        return len(self.values)

    def _scale_of(self, covariance: FloatArray) -> FloatArray:
        """Give a typical distance in each held parameter, ``(m,)``."""
        errors = np.sqrt(np.diag(covariance))[self.columns]
        return np.where(errors > 0, errors, self._tests.fitter.widths[0, self.columns])

    @property
    def scale(self) -> FloatArray:
        """Errors of the held parameters; widths before the fit where there are none, ``(m,)``."""
        return self._scale

    @property
    def lower(self) -> FloatArray:
        """Lower bounds of the held parameters, ``(m,)``."""
        return np.asarray(self._tests.batch.lower[0, self.columns])

    @property
    def upper(self) -> FloatArray:
        """Upper bounds of the held parameters, ``(m,)``."""
        return np.asarray(self._tests.batch.upper[0, self.columns])

    def rise(self) -> FloatArray:
        """Give 2 NLL of each point above the best fit, ``(n,)``."""
        return np.asarray(2.0 * (self.nll - self._reference))

    def lowest(self) -> int | None:
        """Give the position of the lowest point, if it lies below the best fit."""
        lowest = int(np.argmin(self.nll))
        return lowest if self.nll[lowest] < self._reference - SAME else None

    def add(self, values: FloatArray, *, thorough: bool = True) -> NDArray[np.int64]:
        """Fit at further values of the held parameters.

        Parameters
        ----------
        values
            ``(n, m)``, within the bounds.
        thorough
            Also start at the best fit and at the suggested values, and search for lower minima as
            other fits do.

        Returns
        -------
        ndarray
            Positions of the new points.
        """
        count = len(values)
        if not count:
            return np.zeros(0, dtype=int)
        points = self._at(np.repeat(self.points[:1], count, axis=0), values)
        tests, fits = self._batch(points)
        tests.fitter.fit(fits, self._near_starts(values))
        if thorough:
            tests.fitter.fit(fits, self._far_starts(points, values))
            tests.search.lower("free" if fits.mu is None else "fixed", fits)
        tests.fitter.sharpen(fits, tests.rows)
        first = len(self)
        self._append(values, fits)
        return np.arange(first, len(self))

    def adopt(self, other: HeldFits) -> None:
        """Add the points of other fits of the patch, which hold the same parameters or fewer.

        A fit with fewer held is the lowest one of those that also hold others where it ends.
        """
        tests, fits = other._load(np.arange(len(other)))
        tests.fitter.sharpen(fits, tests.rows)
        self._append(other.points[:, self.columns], fits)

    def search(self, positions: NDArray[np.int64]) -> bool:
        """Search for lower minima of some points as :meth:`add` does; true if one has fallen."""
        tests, fits = self._load(positions)
        values = self.values[positions]
        points = self._at(np.repeat(self.points[:1], len(values), axis=0), values)
        tests.fitter.fit(fits, self._far_starts(points, values))
        tests.search.lower("free" if fits.mu is None else "fixed", fits)
        tests.fitter.sharpen(fits, tests.rows)
        return self._store(positions, fits)

    def settle(self, near: NDArray[np.int64]) -> bool:
        """Try the ends of points at their neighbours, until nothing falls.

        Parameters
        ----------
        near
            Positions of the neighbours of each point, ``(n, j)``; less than zero for none.

        Returns
        -------
        bool
            True if a point has fallen.
        """
        positions = np.arange(len(self))
        tests, fits = self._load(positions)
        changed = np.isfinite(self.nll)
        for _ in range(len(self)):
            owner, neighbour = np.nonzero((near >= 0) & changed[near])
            starts = self._at(fits.point[near[owner, neighbour]], self.values[owner])
            apart = np.abs(starts - fits.point[owner]) / tests.fitter.widths[owner] > _APART
            elsewhere = apart.any(axis=1) | ~fits.converged[owner]
            owner, starts = owner[elsewhere], starts[elsewhere]
            if not len(owner):
                break
            before = fits.value.copy()
            tests.search.follow(fits, "neighbour", owner, starts, double=True)
            changed = fits.value < before - SAME
        tests.fitter.sharpen(fits, tests.rows)
        return self._store(positions, fits)

    def _append(self, values: FloatArray, fits: Fits) -> None:
        self.values = np.concatenate([self.values, values])
        self.nll = np.concatenate([self.nll, fits.value])
        self.points = np.concatenate([self.points, fits.point])
        self.converged = np.concatenate([self.converged, fits.converged])

    def _store(self, positions: NDArray[np.int64], fits: Fits) -> bool:
        """Keep what fits of some points have become; true if one has fallen."""
        fell = fits.value < self.nll[positions] - SAME
        self.nll[positions], self.points[positions] = fits.value, fits.point
        self.converged[positions] = fits.converged
        return bool(fell.any())

    def _load(self, positions: NDArray[np.int64]) -> tuple[BatchFits, Fits]:
        """Make fits that have ended at some of the points."""
        tests, fits = self._batch(self.points[positions])
        fits.point, fits.value = self.points[positions], self.nll[positions]
        fits.converged = self.converged[positions]
        # What has converged is sharp; what has not is fitted again.
        fits.edm = np.where(fits.converged, 0.0, np.inf)
        return tests, fits

    def _batch(self, points: FloatArray) -> tuple[BatchFits, Fits]:
        """Make the batch of points whose held parameters have these values."""
        tests = self._tests
        mask = np.repeat(self._mask[None], len(points), axis=0)
        again = tests.with_batch(hold(tests.batch, 0, mask, points))
        # The search treats a fixed parameter of interest as such only if the fits say so.
        mu = points[:, again.poi].copy() if self._mask[again.poi] else self._mu
        return again, Fits(again.batch.data, again.batch.aux, mu, again.rows)

    def _at(self, points: FloatArray, values: FloatArray) -> FloatArray:
        """Give points other values of what is held."""
        points = points.copy()
        points[:, self._mask] = self.points[0, self._mask]
        points[:, self.columns] = values
        return points

    def _far_starts(self, points: FloatArray, values: FloatArray) -> dict[str, FloatArray]:
        """Choose starts that do not depend on other points; `points` has what is held moved."""
        suggested = np.repeat(self._tests.batch.init[:1], len(values), axis=0)
        return {"best": points, SUGGESTED: self._at(suggested, values)}

    def _near_starts(self, values: FloatArray) -> dict[str, FloatArray]:
        """Choose starts at the ends of near points, and where a parabola has its minimum."""
        moved = values - self.values[0]
        starts = {"predicted": self._at(self.points[0] + moved @ self._slopes.T, values)}
        finite = np.flatnonzero(np.isfinite(self.nll))
        distance = np.sum(((values[:, None] - self.values[finite]) / self._scale) ** 2, axis=-1)
        order = np.argsort(distance, axis=1, kind="stable")[:, :_NEAR]
        for rank in range(order.shape[1]):
            near = self.points[finite[order[:, rank]]]
            starts[f"near {rank + 1}"] = self._at(near, values)
        return starts
