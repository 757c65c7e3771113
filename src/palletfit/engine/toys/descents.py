"""Quick descents of a profile likelihood from many points, to see where minima may be.

A Gauss-Newton step takes the rates as linear: with the Jacobian J of the rates, the curvature C of
the bins' terms and the constraints' P, the Hessian is ``P + J^T C J``. Data sets often have many
more parameters than bins. Then the system has the size of the bins (Woodbury's identity)::

    (P + J^T C J)^-1 = P^-1 - P^-1 J^T c (1 + c J P^-1 J^T c)^-1 c J P^-1,   c = C^1/2

so a step costs a third of Newton's. Damping follows the success of steps (Levenberg-Marquardt: J.
Nocedal and S. Wright, "Numerical Optimization", section 10.3). These steps end near minima and
prove none: what looks like another minimum is fitted by :mod:`palletfit.engine.newton`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.newton import Lanes
from palletfit.engine.toys.profiled import Linear, ProfiledModel

#: Damping of the first step, its smallest value, and by what failures multiply and successes
#: divide it.
_DAMPING, _UNDAMPED, _FACTOR = 1e-3, 1e-4, 10.0
#: Longest step in prefit standard deviations, as of Newton's.
_LONGEST = 3.0
#: Keeps directions without any influence from blowing up.
_TINY = 1e-12
#: How many blocks that suit Newton's method are treated together; the matrices are smaller.
_BLOCKS = 8


def descend(profile: ProfiledModel, lanes: Lanes, steps: int) -> tuple[FloatArray, FloatArray]:
    """Take Gauss-Newton steps from the starts of lanes.

    Parameters
    ----------
    profile
        Profile likelihood.
    lanes
        Starts and data, of the shared parameters as in
        :class:`~palletfit.engine.toys.profiled.ProfileSolver`.
    steps
        How many points are evaluated of each lane.

    Returns
    -------
    tuple
        The lowest points, ``(L, m)``, and their NLL, ``(L,)``; infinite where there is none.
    """
    point, value = lanes.start.copy(), np.full(len(lanes), np.inf)
    together = _BLOCKS * profile.lanes
    with np.errstate(all="ignore"):
        for first in range(0, len(lanes), together):
            piece = slice(first, first + together)
            point[piece], value[piece] = _descend(profile, lanes.take(piece), steps)
    return point, value


def _descend(profile: ProfiledModel, lanes: Lanes, steps: int) -> tuple[FloatArray, FloatArray]:
    state = {name: getattr(lanes, name) for name in ("data", "aux", "precision", "factor", "clip")}
    constrained = np.sqrt(lanes.precision + lanes.factor)
    narrow = np.where(
        constrained > 0, constrained, 2.0 / np.maximum(lanes.upper - lanes.lower, _TINY)
    )
    trial = np.where(lanes.fixed, lanes.start, np.clip(lanes.start, lanes.lower, lanes.upper))
    damping = np.full(len(lanes), _DAMPING)
    point, value = trial.copy(), np.full(len(lanes), np.inf)
    best: Linear | None = None
    for _ in range(steps):
        new = profile.linearize(state, trial)
        lower = (new.value < value) & np.all(np.isfinite(new.gradient), axis=1)
        if best is None:
            best = Linear(*(np.array(part) for part in new))
        else:
            for part, replacement in zip(best, new, strict=True):
                part[lower] = replacement[lower]
            damping = np.where(lower, np.maximum(damping / _FACTOR, _UNDAMPED), damping * _FACTOR)
        point[lower], value[lower] = trial[lower], new.value[lower]
        frozen = lanes.fixed | (point <= lanes.lower) & (best.gradient > 0)
        frozen |= (point >= lanes.upper) & (best.gradient < 0)
        step = _step(best, damping, frozen)
        longest = np.max(np.abs(step) * narrow, axis=1, initial=0.0)
        step *= np.minimum(1.0, _LONGEST / np.maximum(longest, _TINY))[:, None]
        trial = np.where(lanes.fixed, point, np.clip(point - step, lanes.lower, lanes.upper))
    return point, value


def _step(at: Linear, damping: FloatArray, frozen: NDArray[np.bool_]) -> FloatArray:
    """Solve the damped Gauss-Newton system of each lane, ``(L, m)``; frozen parameters stay."""
    root = at.jacobian * np.sqrt(at.curvature)[:, :, None]
    metric = at.prior + np.sum(root * root, axis=1)
    diagonal = at.prior + damping[:, None] * metric + _TINY
    free = np.where(frozen, 0.0, 1.0)
    _, bins, size = root.shape
    if bins >= size:
        root = root * free[:, None, :]
        matrix = np.swapaxes(root, 1, 2) @ root
        np.einsum("...ii->...i", matrix)[...] += np.where(frozen, 1.0, diagonal)
        return np.asarray(np.linalg.solve(matrix, (free * at.gradient)[:, :, None])[:, :, 0])
    inverse = free / diagonal
    matrix = (root * inverse[:, None, :]) @ np.swapaxes(root, 1, 2)
    np.einsum("...ii->...i", matrix)[...] += 1.0
    scaled = inverse * at.gradient
    by_bin = np.linalg.solve(matrix, root @ scaled[:, :, None])
    return np.asarray(scaled - inverse * (np.swapaxes(root, 1, 2) @ by_bin)[:, :, 0])
