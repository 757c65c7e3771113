"""Parameters of a fit: values, uncertainties, pulls and constraints."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import BatchFits
from palletfit.engine.fits import Fits
from palletfit.engine.lowering import Lowered, prefit_values
from palletfit.products.diagnostics.records import Correlations, Kind, Parameter

#: Directions with less curvature than this, the Hessian's diagonal scaled to one, are flat.
_FLAT = 1e-9
#: A parameter with more than this (squared) in a flat direction is not determined.
_PART = 1e-6
#: A second derivative of the NLL below this is none.
_NO_CURVATURE = 1e-14


def covariance_of(tests: BatchFits, row: int, fits: Fits) -> tuple[FloatArray, NDArray[np.str_]]:
    """Inverse of the Hessian of what is free and determined, ``(K, K)``; and all states."""
    batch, point = tests.batch, fits.point[row]
    ((_, hessian, _),) = tests.likelihood.hessians(fits, np.array([row]))
    state = np.full(len(point), "free", dtype="<U12")
    state[(point <= batch.lower[row]) | (point >= batch.upper[row])] = "at_bound"
    state[batch.fixed[row]] = "fixed"
    if fits.mu is not None:
        state[tests.poi] = "fixed"
    covariance = np.zeros((len(point), len(point)))
    mobile = np.flatnonzero(state == "free")
    inverse, flat = invert(hessian[0][np.ix_(mobile, mobile)])
    state[mobile[flat]] = "undetermined"
    covariance[np.ix_(mobile, mobile)] = inverse
    return covariance, state


def correlation_of(covariance: FloatArray) -> FloatArray:
    """Divide a covariance by the errors; rows and columns of zeros stay so."""
    errors = np.sqrt(np.diag(covariance))
    inverse = np.where(errors > 0, 1.0 / np.where(errors > 0, errors, 1.0), 0.0)
    matrix = covariance * np.outer(inverse, inverse)
    # Exactly, where rounding leaves almost one.
    np.fill_diagonal(matrix, np.where(errors > 0, 1.0, 0.0))
    return np.asarray(np.clip(matrix, -1.0, 1.0))


def correlations(names: Sequence[str | None], covariance: FloatArray) -> Correlations:
    """Describe the correlations of what is free and determined; a name for each column."""
    columns = np.flatnonzero(np.diag(covariance) > 0)
    matrix = correlation_of(covariance)[np.ix_(columns, columns)]
    chosen = tuple(str(names[column]) for column in columns.tolist())
    return Correlations(chosen, tuple(tuple(line) for line in matrix.tolist()))


def constraint_widths(batch: Lowered, row: int) -> FloatArray:
    """Widths of the constraints, as pyhf has them; zero where there is none."""
    curvature = batch.precision[row] + batch.factor[row]
    constrained = curvature > 0
    return np.where(constrained, 1.0 / np.sqrt(np.where(constrained, curvature, 1.0)), 0.0)


def parameters_of(
    batch: Lowered,
    row: int,
    point: FloatArray,
    covariance: FloatArray,
    state: NDArray[np.str_],
) -> tuple[Parameter, ...]:
    """Describe all parameters of a patch at the end of a fit.

    Parameters
    ----------
    batch, row
        The patch.
    point, covariance, state
        End of the fit ``(K,)``; and what :func:`covariance_of` gives.
    """
    before, widths = prefit_values(batch, row), constraint_widths(batch, row)
    errors = np.sqrt(np.diag(covariance))
    parameters = []
    for column in np.flatnonzero(batch.present[row]):
        loose = state[column] == "undetermined"
        error = None if loose else float(errors[column])
        value, prefit = float(point[column]), float(before[column])
        bound = widths[column] > 0 and state[column] != "fixed"
        width = float(widths[column]) if bound else None
        parameters.append(
            Parameter(
                name=str(batch.names[row][column]),
                kind=_kind(batch, row, int(column)),
                state=str(state[column]),  # type: ignore[arg-type]
                value=value,
                error=error,
                prefit_value=prefit,
                prefit_width=width,
                pull=None if width is None else (value - prefit) / width,
                constraint=None if width is None or error is None else error / width,
            )
        )
    return tuple(parameters)


def _kind(batch: Lowered, row: int, column: int) -> Kind:
    layout = batch.layout
    gaussian = bool(batch.precision[row, column] > 0)
    if column < layout.alphas:
        return "alpha"
    if column < layout.alphas + layout.factors:
        return "lumi" if gaussian else "normfactor"
    if gaussian:
        return "staterror"
    return "shapesys" if batch.factor[row, column] > 0 else "shapefactor"


def fits_pattern(pattern: str, name: str) -> bool:
    """Match a pattern with a parameter, by its full name or without its component.

    Examples
    --------
    >>> fits_pattern("gamma", "gamma[0]"), fits_pattern("gamma[0]", "gamma[0]")
    (True, True)
    >>> fits_pattern("JES_*", "JES_1"), fits_pattern("JES", "JES_1")
    (True, False)
    """
    without_component = name.rpartition("[")[0] if name.endswith("]") else name
    return name == pattern or any(
        fnmatchcase(candidate, pattern) for candidate in (name, without_component)
    )


def invert(hessian: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Covariance of the parameters that a Hessian determines.

    Parameters
    ----------
    hessian
        Second derivatives of the NLL, ``(n, n)``.

    Returns
    -------
    tuple
        The covariance ``(n, n)``, with rows and columns of zeros for parameters that share a
        direction without curvature; and the positions of these.
    """
    diagonal = np.diag(hessian)
    scale = 1.0 / np.sqrt(np.where(diagonal > _NO_CURVATURE, diagonal, 1.0))
    scaled = hessian * np.outer(scale, scale)
    values, vectors = np.linalg.eigh(scaled)
    flat = values < _FLAT
    loose = np.sum(vectors[:, flat] ** 2, axis=1) > _PART
    curved = vectors[:, ~flat] / np.sqrt(values[~flat])
    covariance = (curved @ curved.T) * np.outer(scale, scale)
    covariance[loose] = 0.0
    covariance[:, loose] = 0.0
    return covariance, np.flatnonzero(loose)
