"""The likelihoods of the patches of one batch, evaluated at any points."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.arrays import Arrays
from palletfit.engine.fits import Fits
from palletfit.engine.layout import Layout
from palletfit.engine.likelihood import (
    CLIP_WIDTH,
    EMPTY,
    NEXT_TO_NONE,
    by_sample,
    evaluate,
    expected,
    own_arrays,
    own_of,
    shared_arrays,
    value,
    values_along,
)
from palletfit.engine.lowering import Lowered
from palletfit.engine.newton import PATIENT, UNDAMPED, Solver

#: After how many evaluations a fit in a long valley gives up.
_PATIENCE = 400


class Compiled:
    """Functions of one layout, compiled once, and the shared arrays.

    Parameters
    ----------
    arrays
        Array library.
    layout
        Columns of parameters and shared samples.
    """

    def __init__(self, arrays: Arrays, layout: Layout) -> None:
        self.arrays = arrays
        self.shared = arrays.put(shared_arrays(layout))
        self.expected = arrays.compile(partial(expected, arrays, layout))
        self.evaluate = arrays.compile(partial(evaluate, arrays, layout))
        self.value = arrays.compile(partial(value, arrays, layout))
        self.values_along = arrays.compile(partial(values_along, arrays, layout))
        self.by_sample = arrays.compile(partial(by_sample, arrays, layout))
        #: With the patches' own samples, and without.
        self.solvers = {with_own: Solver(arrays, layout, self.shared) for with_own in (True, False)}
        #: The same for long curved valleys.
        self.patient = {
            with_own: Solver(arrays, layout, self.shared, iterations=_PATIENCE, damping=PATIENT)
            for with_own in (True, False)
        }


class BatchLikelihood:
    """The likelihoods of the patches of one batch.

    Parameters
    ----------
    compiled
        Functions of the batch's layout.
    batch
        The patches, P of them.

    Attributes
    ----------
    rows
        Positions of all patches, ``(P,)``.
    poi
        Column of the parameter of interest.
    patch_samples
        The patches' own samples, for the compiled functions.
    """

    def __init__(self, compiled: Compiled, batch: Lowered) -> None:
        self.compiled, self.batch = compiled, batch
        self.arrays = compiled.arrays
        self.patch_samples = self.arrays.put(own_arrays(batch))
        self.rows = np.arange(len(batch))
        self.poi = batch.layout.poi

    def with_yields(self, shared: Any, patch_samples: Any) -> BatchLikelihood:
        """Give the likelihoods with other yields of the same samples.

        Parameters
        ----------
        shared, patch_samples
            Arrays of the shared samples, and of the patches' own.
        """
        other = copy.copy(self)
        other.compiled = copy.copy(self.compiled)
        other.compiled.shared, other.patch_samples = shared, patch_samples
        return other

    @cached_property
    def only_signal(self) -> bool:
        """True if all samples of the patches vanish with the signal."""
        return all(
            np.all((part["factors"][..., 0] > 0) | ~np.any(part["nominal"] != 0, axis=-1))
            and np.all((part["factors"][..., 0] > 0) | ~np.any(part["odd"] != 0, axis=(-2, -1)))
            and np.all((part["factors"][..., 0] > 0) | ~np.any(part["even"] != 0, axis=(-2, -1)))
            for part in self.batch.parts
        )

    @cached_property
    def without_signal(self) -> NDArray[np.int64]:
        """First one, for each patch, that is the same where there is no signal."""
        batch = self.batch
        if not self.only_signal:
            return self.rows
        settings = ("data", "aux", "precision", "factor", "init", "lower", "upper", "fixed")
        columns = [np.asarray(getattr(batch, name), dtype=float) for name in settings]
        _, first, group = np.unique(
            np.concatenate(columns, axis=1), axis=0, return_index=True, return_inverse=True
        )
        return np.asarray(first[group.ravel()])

    def lanes_at(
        self,
        fits: Fits,
        point: FloatArray,
        rows: NDArray[np.int64],
        clip: FloatArray | None = None,
    ) -> Iterator[tuple[slice, dict[str, Any], Any]]:
        """Prepare evaluations, in pieces of one size.

        Parameters
        ----------
        fits
            Fits whose data count.
        point
            A point for each of the rows, ``(len(rows), K)``.
        rows
            Patches, any of them several times.
        clip
            Widths of :func:`palletfit.engine.likelihood.clipped`, ``(len(rows), B)``; by default
            the usual one.

        Yields
        ------
        tuple
            Which of the rows, what these have of their own, and their points.
        """
        batch, arrays = self.batch, self.arrays
        size = arrays.lanes_of(batch.layout.size)
        for first in range(0, len(rows), size):
            part = slice(first, min(first + size, len(rows)))
            positions = np.arange(part.start, part.stop)
            # Compiled code has one size: the first row again, which nobody reads.
            positions = positions if arrays.flexible else np.resize(positions, size)
            piece = rows[positions]
            widths = np.full(len(piece), CLIP_WIDTH) if clip is None else clip[positions]
            lane = {
                "own": own_of(self.patch_samples, piece),
                "data": arrays.put(fits.data[piece]),
                "aux": arrays.put(fits.aux[piece]),
                "precision": arrays.put(batch.precision[piece]),
                "factor": arrays.put(batch.factor[piece]),
                "clip": arrays.put(widths),
            }
            yield part, lane, arrays.put(point[positions])

    def values(self, fits: Fits, point: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
        """Compute the NLL without constants of some rows, each at a point."""
        return self._at(self.compiled.value, fits, point, rows, ())

    def rates(
        self, fits: Fits, point: FloatArray, rows: NDArray[np.int64] | None = None
    ) -> FloatArray:
        """Compute the expected counts of some rows, by default of all, each at a point."""
        rows = self.rows if rows is None else rows
        return self._at(self.compiled.expected, fits, point, rows, fits.data.shape[1:])

    def values_along(
        self, fits: Fits, point: FloatArray, rows: NDArray[np.int64], goals: FloatArray
    ) -> FloatArray:
        """Compute the NLL of some rows with one alpha at a time at its goal, ``(n, alphas)``.

        Parameters
        ----------
        fits, point, rows
            As :meth:`values`.
        goals
            ``(n, alphas)``.
        """
        results = np.zeros(goals.shape)
        with np.errstate(all="ignore"):
            for part, lane, at in self.lanes_at(fits, point, rows):
                goal = np.resize(goals[part], (len(at), goals.shape[1]))
                values = self.compiled.values_along(
                    self.compiled.shared, lane, at, self.arrays.put(goal)
                )
                results[part] = self.arrays.get(values)[: part.stop - part.start]
        return results

    def _at(
        self,
        function: Callable[..., Any],
        fits: Fits,
        point: FloatArray,
        rows: NDArray[np.int64],
        shape: tuple[int, ...],
    ) -> FloatArray:
        results = np.zeros((len(rows), *shape))
        with np.errstate(all="ignore"):
            for part, lane, at in self.lanes_at(fits, point, rows):
                values = self.arrays.get(function(self.compiled.shared, lane, at))
                results[part] = values[: part.stop - part.start]
        return results

    def asimov_data(self, fits: Fits, point: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Compute main and auxiliary data that are exactly as expected at a point of each row.

        A rate below zero counts as zero, see :func:`palletfit.engine.likelihood.clipped`.
        """
        batch = self.batch
        aux = np.where(batch.precision > 0, point, point * batch.factor)
        rates = self.rates(fits, point)
        least = np.where(fits.data <= EMPTY, NEXT_TO_NONE, EMPTY)
        return np.where(rates > least, rates, 0.0), aux

    def hessians(
        self,
        fits: Fits,
        rows: NDArray[np.int64] | None = None,
        point: FloatArray | None = None,
    ) -> Iterator[tuple[slice, FloatArray, NDArray[np.bool_]]]:
        """Compute Hessians of the NLL, in pieces; see :meth:`derivatives`."""
        for part, derivatives, frozen in self.derivatives(fits, rows, point):
            yield part, derivatives["hessian"], frozen

    def derivatives(
        self,
        fits: Fits,
        rows: NDArray[np.int64] | None = None,
        point: FloatArray | None = None,
    ) -> Iterator[tuple[slice, dict[str, FloatArray], NDArray[np.bool_]]]:
        """Compute Hessians of the NLL, and Jacobians of the rates, in pieces.

        Parameters
        ----------
        fits
            Fits.
        rows
            Their rows; by default all.
        point
            A point for each of the rows; by default the minima.

        Yields
        ------
        tuple
            Which of the rows; their ``gradient`` ``(n, K)``, ``hessian`` ``(n, K, K)``,
            ``jacobian`` ``(n, B, K)``, ``rates`` ``(n, B)`` and ``prior`` ``(n, K)``; and the
            parameters that are fixed or at a bound in the minimum, ``(n, K)``.
        """
        batch = self.batch
        at_bound = (fits.point <= batch.lower) | (fits.point >= batch.upper)
        rows = self.rows if rows is None else rows
        point = fits.point[rows] if point is None else point
        for part, lane, at in self.lanes_at(fits, point, rows):
            with np.errstate(all="ignore"):
                derivatives = self.compiled.evaluate(self.compiled.shared, lane, at, None)
            count = part.stop - part.start
            values = {
                name: np.array(self.arrays.get(getattr(derivatives, name)))[:count]
                for name in ("gradient", "hessian", "jacobian", "rates", "prior")
            }
            yield part, values, (batch.fixed | at_bound)[rows[part]]


def inverse_free(hessian: FloatArray, frozen: NDArray[np.bool_]) -> FloatArray:
    """Invert Hessians without the frozen parameters, whose rows and columns become zero.

    Parameters
    ----------
    hessian, frozen
        ``(L, K, K)`` and ``(L, K)``.

    Returns
    -------
    ndarray
        ``(L, K, K)``; zero where one of them is singular.
    """
    count = hessian.shape[-1]
    masked_out = frozen[:, :, None] | frozen[:, None, :]
    masked = np.where(masked_out, np.eye(count), hessian)
    try:
        inverse = np.linalg.inv(masked)
    except np.linalg.LinAlgError:
        inverse = np.stack([_inverse_or_zero(matrix) for matrix in masked])
    return np.where(masked_out | ~np.isfinite(inverse), 0.0, inverse)


def _inverse_or_zero(matrix: FloatArray) -> FloatArray:
    try:
        return np.asarray(np.linalg.inv(matrix))
    except np.linalg.LinAlgError:
        return np.zeros_like(matrix)


def solve_free(
    hessian: FloatArray, frozen: NDArray[np.bool_], right: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Solve linear equations without the frozen parameters.

    Parameters
    ----------
    hessian, frozen, right
        Matrices ``(L, K, K)``, frozen parameters ``(L, K)``, and right-hand sides ``(L, K)``.

    Returns
    -------
    tuple
        Solutions ``(L, K)``, and whether each matrix is positive definite, ``(L,)``.
    """
    metric = np.maximum(np.abs(np.einsum("...ii->...i", hessian)), 1e-10)
    undamped = np.full(len(right), UNDAMPED)
    with np.errstate(all="ignore"):
        solution, damping, *_ = Arrays().solve(hessian, metric, right, undamped, ~frozen)
    return solution, damping <= UNDAMPED


def solve_undamped(
    hessian: FloatArray, frozen: NDArray[np.bool_], right: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Solve linear equations without the frozen parameters, and without any damping.

    The damping of :func:`solve_free` is relative to the diagonal. Where that is large, as at the
    corner of an empty bin, it is felt in other directions. Here only directions without any
    influence are damped.

    Parameters
    ----------
    hessian, frozen, right
        Matrices ``(L, K, K)``, frozen parameters ``(L, K)``, and m right-hand sides ``(L, K, m)``.

    Returns
    -------
    tuple
        Solutions ``(L, K, m)``, zero where a matrix is not positive definite; and whether each is,
        ``(L,)``.
    """
    from scipy.linalg import cho_solve

    masked_out = frozen[:, :, None] | frozen[:, None, :]
    masked = np.where(masked_out, np.eye(hessian.shape[-1]), hessian)
    diagonal = np.einsum("...ii->...i", masked)
    scale = np.where(diagonal > 0, diagonal, 1.0) ** -0.5
    scaled = scale[:, :, None] * masked * scale[:, None, :]
    solution, proper = np.zeros(right.shape), np.zeros(len(right), dtype=bool)
    for lane in range(len(right)):
        factor = _factor(scaled[lane])
        if factor is not None:
            values = np.where(frozen[lane][:, None], 0.0, right[lane]) * scale[lane][:, None]
            solution[lane] = cho_solve(factor, values) * scale[lane][:, None]
            proper[lane] = True
    return solution, proper


def _factor(matrix: FloatArray) -> tuple[FloatArray, bool] | None:
    """Factorize a matrix with ones on its diagonal, damped only if it has to be; None if not."""
    from scipy.linalg import cho_factor

    for damping in (0.0, UNDAMPED):
        try:
            factor: tuple[FloatArray, bool] = cho_factor(
                matrix + damping * np.eye(len(matrix)), lower=True
            )
        except (np.linalg.LinAlgError, ValueError):
            continue
        return factor
    return None
