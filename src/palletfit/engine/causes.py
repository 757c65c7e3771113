"""Reasons why a fit has not converged, in words: what the likelihood looks like where it ended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.evaluation import BatchLikelihood
from palletfit.engine.fits import MOST_EVALUATIONS, Fits
from palletfit.engine.likelihood import EMPTY
from palletfit.errors import FitError

#: Curvatures below this are none, if the Hessian's diagonal is scaled to one.
_FLAT = 1e-8
#: Parameters with at least this part of the largest component of a direction are named, so many.
_PART, _NAMED = 0.3, 4
#: Rates of empty bins this close to zero are at the corner.
_AT_CORNER = 1e-2

_REMEDY = (
    "Fix or constrain the parameters that the reason names, give free ones narrower bounds, or "
    "join bins of few events. `fit.engine: reference` fits with pyhf."
)


def stopped(title: str, reason: str) -> FitError:
    """Make the error of a fit that has not converged within the bound on evaluations.

    Parameters
    ----------
    title, reason
        Which fit, or what it is for; and why it has not converged.
    """
    return FitError(
        f"The {title} is stopped by the bound of {MOST_EVALUATIONS:,} evaluations: {reason}.",
        remedy=_REMEDY,
    )


def cause(likelihood: BatchLikelihood, fits: Fits, row: int) -> str:
    """Say why the fit of a patch has not converged; empty where nothing stands out.

    Parameters
    ----------
    likelihood
        The likelihoods of the batch.
    fits, row
        Fits, and the position of the patch.
    """
    if not np.isfinite(fits.value[row]):
        return ""
    ((_, derivatives, frozen),) = likelihood.derivatives(fits, np.array([row]))
    if fits.mu is not None:
        frozen[:, likelihood.poi] = True
    free = np.flatnonzero(~frozen[0])
    names = [str(likelihood.batch.names[row][column]) for column in free]
    hessian = derivatives["hessian"][0][np.ix_(free, free)]
    reasons = []
    direction = _direction(hessian, names)
    if direction:
        reasons.append(direction)
    corner = (fits.data[row] <= EMPTY) & (np.abs(derivatives["rates"][0]) < _AT_CORNER)
    if corner.any():
        bins = "a bin" if corner.sum() == 1 else f"{corner.sum()} bins"
        reasons.append(f"the rate of {bins} without events is zero, where the NLL has a corner")
    return "; ".join(reasons)


def _direction(hessian: FloatArray, names: Sequence[str]) -> str:
    """Name the direction of least curvature, if there is none along it, or it is negative."""
    diagonal = np.diagonal(hessian)
    without = np.flatnonzero(np.abs(diagonal) < 1e-14)
    if len(without):
        return f"the data do not determine {', '.join(names[i] for i in without[:_NAMED])}"
    if not np.isfinite(hessian).all():
        return "the second derivatives of the NLL are not finite"
    width = np.sqrt(np.abs(diagonal))
    values, vectors = np.linalg.eigh(hessian / np.outer(width, width))
    if values[0] > _FLAT:
        return ""
    combination = _combination(vectors[:, 0] / width, vectors[:, 0], names)
    if values[0] < -_FLAT:
        return f"the NLL bends down along {combination}"
    return f"the data do not determine {combination}: the NLL is flat there"


def _combination(direction: FloatArray, weight: NDArray[np.float64], names: Sequence[str]) -> str:
    """Write a direction as a sum of its largest parts, such as ``mu_3 - 0.5 mu_7``."""
    order = np.argsort(-np.abs(weight), kind="stable")[:_NAMED]
    order = order[np.abs(weight[order]) >= _PART * np.abs(weight[order[0]])]
    parts = direction[order] / direction[order[0]]
    text = str(names[order[0]])
    for part, index in zip(parts[1:], order[1:], strict=True):
        size = f"{abs(part):.2g} " if f"{abs(part):.2g}" != "1" else ""
        text += f" {'+' if part > 0 else '-'} {size}{names[index]}"
    return text
