"""The search for the lowest minimum, where the first starts may have missed it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.evaluation import inverse_free
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.fitter import DISPLACED, Fitter

#: How many starts have to end at the lowest minimum, or further ones are tried.
_SEEN = 2
#: Further displaced starts, where they are needed.
_FURTHER = 16
#: So many further ones are tried together, and more if they found new minima.
_TOGETHER = 4
#: How many parameters may be mirrored, and how often.
_MIRRORED, _ROUNDS = 24, 8
#: Parameters of at least this many standard deviations may have a second minimum on the other
#: side, if the NLL there is not higher by more than this.
_SIZEABLE, _NEAR = 0.3, 5.0
#: Parameters that change expected counts unlike a straight line, by more than this in chi-squared
#: between -1, 0 and 1 standard deviations, may have a second minimum far away; so many at most.
_BENT, _LEAPS = 0.1, 12
#: Such a leap goes this far at least. Where the NLL rises by less than this part of what a parabola
#: would, a fit begins.
_FAR, _LOW = 0.3, 0.5
#: Where the slope on the other side of a kink is looked at, at most.
_BESIDE = 1e-4


class Search:
    """Looks for minima that lie lower than those of the first starts.

    Parameters
    ----------
    fitter
        Makes the fits of the batch.
    """

    def __init__(self, fitter: Fitter) -> None:
        self.fitter, self.likelihood = fitter, fitter.likelihood
        self.batch, self.rows, self.poi = fitter.batch, fitter.rows, fitter.poi

    def escalate(self, fits: Fits) -> None:
        """Try further starts where the first ones do not settle what the lowest minimum is.

        Where there are several minima, they mostly differ in the signs of parameters whose effect
        has the same sign in both directions (one-sided systematic uncertainties). So parameters
        are mirrored where that looks promising; and where minima differ, starts are displaced at
        random.
        """
        self.mirror(fits, self.rows)
        doubtful = ~fits.converged | (fits.agreed() < _SEEN) | fits.multimodal()
        before = fits.value.copy()
        rows = np.flatnonzero(doubtful)
        for first in range(DISPLACED + 1, DISPLACED + _FURTHER + 1, _TOGETHER):
            count = fits.minima(rows)
            self.fitter.fit(fits, self.fitter.displaced_starts(first, _TOGETHER), rows)
            rows = rows[fits.minima(rows) > count]
        self.mirror(fits, np.flatnonzero(fits.value < before - SAME))

    def mirror(self, fits: Fits, rows: NDArray[np.int64]) -> None:
        """Continue from the lowest minima to others by the signs of parameters, while they fall."""
        rows = fits.leading(rows)
        for number in range(_ROUNDS):
            mirrored, points = self._mirrored(fits, rows)
            if not len(mirrored):
                return
            before = fits.value.copy()
            self.fitter.fit_each(fits, f"mirrored {number + 1}", mirrored, points)
            rows = rows[fits.value[rows] < before[rows] - SAME]

    def _mirrored(
        self, fits: Fits, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Choose points with the sign of one parameter changed, beyond a hump of the likelihood.

        A hump is where the NLL is lower at the mirrored value than half-way, at zero; it may be
        flat, or fall only when other parameters follow, so that half of what a parabola would rise
        counts as well. Looked at are parameters with a sizeable value, and points that are not
        hopelessly high. A kink may be a hump however near to it the minimum is; there the slope
        tells. Returned are the row of each point, in order, and the points.
        """
        kinked = self.likelihood.compiled.solvers[True].kinked[: self.batch.layout.alphas]
        alphas = np.where(self.batch.fixed, 0.0, fits.point)[rows, : self.batch.layout.alphas]
        alphas = np.where(fits.converged[rows, None], np.abs(alphas), 0.0)
        # Of each patch the largest ones only.
        least = np.sort(alphas, axis=1)[:, -_MIRRORED:][:, :1]
        chosen = (alphas >= np.maximum(least, _SIZEABLE)) | kinked & (alphas > 0)
        positions, columns = np.nonzero(chosen)
        rows = rows[positions]
        mirrored = fits.point[rows]
        value = mirrored[np.arange(len(rows)), columns]
        beside = np.where(kinked[columns], np.minimum(np.abs(value), _BESIDE), np.abs(value))
        mirrored[np.arange(len(rows)), columns] = -np.sign(value) * beside
        half_way = mirrored.copy()
        half_way[np.arange(len(rows)), columns] = 0.0
        return self._beyond_hump(fits, rows, mirrored, half_way, kinked[columns])

    def _beyond_hump(
        self,
        fits: Fits,
        rows: NDArray[np.int64],
        points: FloatArray,
        half_way: FloatArray,
        kinked: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Keep those of some points, with their rows, that may lie near another minimum.

        Parameters
        ----------
        fits, rows
            Fits, and the rows whose minima the points are compared with.
        points, half_way
            The points, and points between them and the minima, ``(len(rows), K)``.
        kinked
            Whether half-way is a kink of the likelihood, for each point.
        """
        lowest = fits.value[rows]
        rise = self.likelihood.values(fits, points, rows) - lowest
        near = np.flatnonzero(rise < _NEAR)
        between = self.likelihood.values(fits, half_way[near], rows[near]) - lowest[near]
        # A parabola would rise four times as much.
        factor = np.where(kinked[near] | (between < 0), 1.0, 2.0)
        beyond = near[rise[near] < factor * between]
        return rows[beyond], points[beyond]

    def leap(self, fits: Fits, rows: NDArray[np.int64]) -> None:
        """Look for minima where one parameter is at one standard deviation, while they fall.

        A parameter with a large effect in one direction only may have a second minimum on that
        side, which no start near the suggested values leads to.
        """
        columns = self.bent
        rows = fits.leading(rows)
        for number in range(_ROUNDS):
            leaping, points = self._leaps(fits, rows[fits.converged[rows]], columns)
            if not len(leaping):
                return
            before = fits.value.copy()
            self.fitter.fit_each(fits, f"leap {number + 1}", leaping, points)
            rows = rows[fits.value[rows] < before[rows] - SAME]

    @cached_property
    def bent(self) -> NDArray[np.int64]:
        """Columns of alphas whose effect is unlike a straight line, the most bent ones first.

        Without signal all patches have the same samples; where they do not, parameters are taken
        that are bent in any of them.
        """
        batch = self.batch
        count = batch.layout.alphas
        rows = self.rows if not self.likelihood.only_signal else self.rows[:1]
        fits = Fits(batch.data, batch.aux, 0.0, self.rows)
        bent = np.zeros(count)
        points = np.repeat(batch.init[:1], 2 * count + 1, axis=0)
        for row in rows:
            points[:] = batch.init[row]
            points[:, self.poi] = 0.0
            points[:, :count] = 0.0
            columns = np.arange(count)
            points[columns, columns], points[count + columns, columns] = 1.0, -1.0
            rates = self.likelihood.rates(fits, points, np.full(len(points), row))
            up, down, middle = rates[:count], rates[count:-1], rates[-1]
            difference = (up + down - 2 * middle) ** 2 / np.maximum(middle, 1.0)
            bent = np.maximum(bent, np.where(batch.fixed[row, :count], 0.0, difference.sum(axis=1)))
        order = np.argsort(-bent, kind="stable")[:_LEAPS]
        return np.asarray(order[bent[order] > _BENT])

    def _leaps(
        self, fits: Fits, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Choose rows and points where a fit may end in a lower minimum.

        From the minimum one of some parameters goes to -1 or 1, and the others follow as they would
        if the likelihood were a parabola. Returned are points where the likelihood rises much less
        than that, and that lie beyond a hump.
        """
        batch = self.batch
        chosen_rows, points, middles = [], [], []
        for part, hessian, frozen in self.likelihood.hessians(fits, rows):
            if fits.mu is not None:
                frozen[:, self.poi] = True
            piece = rows[part]
            slopes = inverse_free(hessian, frozen)[:, columns]
            variance = slopes[:, np.arange(len(columns)), columns]
            at = fits.point[piece]
            for side in (-1.0, 1.0):
                step = side - at[:, columns]
                free = (variance > 0) & ~frozen[:, columns] & (np.abs(step) > _FAR)
                position, leap = np.nonzero(free)
                scaled_step = step[position, leap] / variance[position, leap]
                direction = scaled_step[:, None] * slopes[position, leap]
                lower, upper = batch.lower[piece[position]], batch.upper[piece[position]]
                reached = np.clip(at[position] + direction, lower, upper)
                value = self.likelihood.values(fits, reached, piece[position])
                rise = value - fits.value[piece[position]]
                low = rise < _LOW * scaled_step * step[position, leap] / 2
                chosen_rows.append(piece[position[low]])
                points.append(reached[low])
                middles.append(np.clip(at[position] + direction / 2, lower, upper)[low])
        if not chosen_rows:
            return np.zeros(0, dtype=int), np.zeros((0, batch.init.shape[1]))
        chosen = np.concatenate(chosen_rows)
        order = np.argsort(chosen, kind="stable")
        ends, between = np.concatenate(points)[order], np.concatenate(middles)[order]
        smooth = np.zeros(len(order), dtype=bool)
        return self._beyond_hump(fits, chosen[order], ends, between, smooth)
