"""Minima at the corner where the rate of a bin without events is zero.

The Poisson term of such a bin has a corner there (:func:`palletfit.engine.likelihood.clipped`).
Newton's method sees the slope on its own side only, and goes to and fro between the sides. So a
minimum is approached as the corner gets sharper and sharper. Bins that may be at the corner are
pinned there by a parabola that goes on below it, a penalty. Those that press against it are
released: their rates go on below zero, where the term is flat. This is an active-set method
(Nocedal and Wright, "Numerical Optimization", section 16.5), whose multipliers are the slopes of
the parabola.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.evaluation import BatchLikelihood, solve_free
from palletfit.engine.fits import Fits
from palletfit.engine.likelihood import CLIP_WIDTH, EMPTY
from palletfit.engine.newton import Lanes, Minima, Solver

#: Widths of the corner, one after the other.
WIDTHS = tuple(CLIP_WIDTH * 10.0**power for power in (5, 4, 3, 2, 1, 0))
#: So many evaluations at most for one set of pinned bins, to this edm; and so many in all, after
#: which no further set is tried.
_PATIENCE, _ROUGH, _BUDGET = 120, 1e-4, 400
#: How often bins are pinned or released at one width.
_ROUNDS = 6


class Corners:
    """Brings fits to minima at corners.

    Parameters
    ----------
    likelihood
        The likelihoods of the batch.
    fits
        Fits whose data count.
    solver
        Minimizes the likelihood.
    """

    def __init__(self, likelihood: BatchLikelihood, fits: Fits, solver: Solver) -> None:
        self.likelihood, self.fits, self.solver = likelihood, fits, solver

    def approach(self, lanes: Lanes, ends: Minima) -> tuple[Minima, NDArray[np.int64]]:
        """Bring lanes near to minima at the corner.

        Parameters
        ----------
        lanes, ends
            Fits, and the points from which they go on.

        Returns
        -------
        tuple
            Points near the minima, where Newton's method with the sharpest corner goes on; and the
            number of evaluations of each lane, ``(L,)``.
        """
        ends = ends.take(np.arange(len(lanes)))
        empty = lanes.data <= EMPTY
        pinned = empty & (self._rates(lanes, ends.point) > -2.0 * WIDTHS[0])
        spent = np.zeros(len(lanes), dtype=int)
        for number, width in enumerate(WIDTHS):
            if number:
                ends.point[:] = self._sharpen(lanes, ends.point, pinned, WIDTHS[number - 1], width)
            rows = np.arange(len(lanes))
            for _ in range(_ROUNDS):
                clip = np.where(pinned[rows], -width, width)
                part = lanes.take(rows).at(ends.point[rows], clip=clip)
                ends.put(rows, self.solver.minimise(part, _ROUGH, limit=_PATIENCE))
                spent[rows] += ends.iterations[rows]
                rate = self._rates(part, ends.point[rows])
                settled = ends.converged[rows, None]
                released = pinned[rows] & (rate < -2.0 * width) & settled
                caught = empty[rows] & ~pinned[rows] & (rate > -2.0 * width)
                pinned[rows] = pinned[rows] & ~released | caught
                rows = rows[np.any(released | caught, axis=1) & (spent[rows] < _BUDGET)]
                if not len(rows):
                    break
        return ends, spent

    def _rates(self, lanes: Lanes, point: FloatArray) -> FloatArray:
        return self.likelihood.rates(self.fits, point, lanes.patch)

    def _sharpen(
        self,
        lanes: Lanes,
        point: FloatArray,
        pinned: NDArray[np.bool_],
        width: float,
        sharper: float,
    ) -> FloatArray:
        """Predict where minima go as the corner gets sharper, ``(L, K)``.

        The slope of a rate in the corner stays, so that the rate moves towards zero. Without this
        step it would begin far below the sharper corner.
        """
        moved = point.copy()
        likelihood, compiled = self.likelihood, self.likelihood.compiled
        clip = np.where(pinned, -width, width)
        for part, lane, at in likelihood.lanes_at(self.fits, point, lanes.patch, clip):
            with np.errstate(all="ignore"):
                derivatives = compiled.evaluate(compiled.shared, lane, at, None)
            count = part.stop - part.start
            gradient, hessian, jacobian, rates = (
                np.array(likelihood.arrays.get(getattr(derivatives, name)))[:count]
                for name in ("gradient", "hessian", "jacobian", "rates")
            )
            rounded = (lanes.data[part] <= EMPTY) & (rates < 0)
            rounded &= pinned[part] | (rates > -2 * width)
            steeper = np.where(rounded, 0.5 / sharper - 0.5 / width, 0.0)
            weighted = jacobian * steeper[:, :, None]
            hessian = hessian + np.swapaxes(weighted, 1, 2) @ jacobian
            gradient = gradient + np.einsum("lbk,lb->lk", weighted, np.where(rounded, rates, 0.0))
            at_bound = (point[part] <= lanes.lower[part]) | (point[part] >= lanes.upper[part])
            step, proper = solve_free(hessian, lanes.fixed[part] | at_bound, -gradient)
            moved[part] += np.where(proper[:, None], step, 0.0)
        moved = np.where(lanes.fixed, point, np.clip(moved, lanes.lower, lanes.upper))
        usable = np.isfinite(likelihood.values(self.fits, moved, lanes.patch))
        return np.where(usable[:, None], moved, point)
