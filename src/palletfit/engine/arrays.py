"""The array libraries that the batched engine runs on: one source, two back ends.

The likelihood and the solver are written against the namespace that an :class:`Arrays` brings.
NumPy needs nothing compiled, and is the better choice on CPUs; JAX compiles one solver step for
each structure and keeps it, also on disk, which pays off on accelerators.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from palletfit.core.caches import user_cache
from palletfit.errors import BackendError

ArrayBackend = Literal["numpy", "jax"]
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

#: Damping that a factorization which failed is tried with next, relative to the metric.
FIRST_DAMPING = 1e-2
#: Every further attempt multiplies the damping by this.
DAMPING_FACTOR = 3.0
#: Damping beyond this moves nothing.
LARGEST_DAMPING = 1e12
#: So many unknowns at most are eliminated for all lanes together: LAPACK, called lane by lane,
#: costs small systems more than their arithmetic.
_FEW = 32
#: Numbers in the temporary arrays of all lanes that stay in the caches, and the most lanes.
_CACHED, _MOST_LANES = 250_000, 256


class Instead(NamedTuple):
    """Matrices to be taken where others are not positive definite.

    Attributes
    ----------
    lanes
        Where there are any, ``(lanes,)``.
    matrices
        Gives those of some lanes.
    """

    lanes: Any
    matrices: Callable[[Any], Any]


class Arrays:
    """NumPy as the array library.

    Attributes
    ----------
    name
        ``numpy`` or ``jax``.
    xp
        The array namespace.
    eager
        Whether arrays hold values while a function runs (and not while it is traced), so that
        work which depends on values can be left out.
    lanes
        How many fits advance together at least, see :meth:`lanes_of`.
    """

    name: ArrayBackend = "numpy"
    xp: Any = np
    eager = True
    lanes = 16
    #: Whether blocks of lanes may shrink as lanes finish; compiled code has one size.
    flexible = True

    def lanes_of(self, size: int) -> int:
        """Choose how many fits advance together, so that temporary arrays stay in the caches.

        Parameters
        ----------
        size
            Numbers that one fit has in its largest temporary arrays.
        """
        return max(self.lanes, min(_CACHED // max(size, 1), _MOST_LANES))

    def compile(self, function: FunctionT) -> FunctionT:
        """Compile a pure function of arrays; here it stays as it is."""
        return function

    def put(self, values: Any) -> Any:
        """Copy NumPy arrays (or nested dictionaries of them) to where fits run."""
        return values

    def get(self, values: Any) -> NDArray[Any]:
        """Copy an array back to NumPy."""
        return np.asarray(values)

    def select(self, mask: Any, new: Any, old: Any) -> Any:
        """Take rows of `new` where `mask` is true, else of `old`; may return one of the two."""
        if mask.all():
            return new
        return np.where(mask.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    def add(self, target: Any, index: Any, values: Any) -> Any:
        """Add to a part of an array that nobody else uses; the result may be the same array."""
        target[index] += values
        return target

    def add_diagonal(self, matrices: Any, values: Any) -> Any:
        """Add to the diagonals of ``(…, K, K)``, see :meth:`add`."""
        np.einsum("...ii->...i", matrices)[...] += values
        return matrices

    def without_diagonal(self, matrices: Any) -> Any:
        """Set the diagonals of ``(…, K, K)`` to zero, see :meth:`add`."""
        np.einsum("...ii->...i", matrices)[...] = 0.0
        return matrices

    def solve(
        self,
        matrix: Any,
        metric: Any,
        right: Any,
        damping: Any,
        free: Any,
        instead: Instead | None = None,
    ) -> tuple[Any, Any, Any, Any]:
        """Solve ``(matrix + damping * diag(metric)) s = right`` by Cholesky factorization.

        Parameters
        ----------
        matrix
            Symmetric, shape ``(lanes, K, K)``; nobody else uses it.
        metric, right
            Shape ``(lanes, K)``.
        damping
            Shape ``(lanes,)``. Where the factorization fails, the damping is raised until it
            does not.
        free
            The unknowns, ``(lanes, K)``; all others are zero.
        instead
            Where the factorization fails, take other matrices before the damping is raised.

        Returns
        -------
        tuple
            The solutions, shape ``(lanes, K)``; the damping of each that was needed; the
            matrices that were used; and whether they are other ones, ``(lanes,)``.
        """
        needed = np.array(damping, dtype=float)
        if right.shape[1] <= _FEW:
            return _solve_together(matrix, metric, right, needed, free, instead)
        solution, replaced = np.zeros_like(right), np.zeros(len(right), dtype=bool)
        for lane in range(len(right)):
            frozen = np.flatnonzero(~free[lane])
            while needed[lane] <= LARGEST_DAMPING:
                lane_solution = _solve(
                    matrix[lane], metric[lane], right[lane], needed[lane], frozen
                )
                if lane_solution is not None:
                    solution[lane] = lane_solution
                    break
                if instead is not None and instead.lanes[lane] and not replaced[lane]:
                    matrix[lane], replaced[lane] = instead.matrices(lane), True
                else:
                    # Without a positive diagonal it would fail again.
                    ratio = np.diagonal(matrix[lane])[free[lane]] / metric[lane][free[lane]]
                    needed[lane] = next_damping(needed[lane])
                    while needed[lane] < min(-ratio.min(), LARGEST_DAMPING):
                        needed[lane] = next_damping(needed[lane])
        return solution, needed, matrix, replaced


def _solve_together(
    matrix: NDArray[np.float64],
    metric: NDArray[np.float64],
    right: NDArray[np.float64],
    needed: NDArray[np.float64],
    free: NDArray[np.bool_],
    instead: Instead | None,
) -> tuple[Any, Any, Any, Any]:
    """As :meth:`Arrays.solve`, which see, for all lanes at once; `needed` is the damping."""
    solution, proper = _eliminate(matrix, metric, right, needed, free)
    replaced = np.zeros(len(right), dtype=bool)
    rest = np.flatnonzero(~proper)
    while len(rest):
        exchanged = np.zeros(len(rest), dtype=bool)
        if instead is not None:
            exchanged = np.asarray(instead.lanes)[rest] & ~replaced[rest]
            if exchanged.any():
                matrix[rest[exchanged]] = instead.matrices(rest[exchanged])
                replaced[rest[exchanged]] = True
        raised = rest[~exchanged]
        diagonal = np.einsum("...ii->...i", matrix)[raised]
        ratio = np.where(free[raised], diagonal / metric[raised], np.inf).min(axis=1, initial=0.0)
        needed[raised] = next_damping(needed[raised])
        # Without a positive diagonal it would fail again.
        while (short := needed[raised] < np.minimum(-ratio, LARGEST_DAMPING)).any():
            needed[raised[short]] = next_damping(needed[raised[short]])
        rest = rest[needed[rest] <= LARGEST_DAMPING]
        solution[rest], proper = _eliminate(
            matrix[rest], metric[rest], right[rest], needed[rest], free[rest]
        )
        rest = rest[~proper]
    return solution, needed, matrix, replaced


def _eliminate(
    matrix: NDArray[np.float64],
    metric: NDArray[np.float64],
    right: NDArray[np.float64],
    damping: NDArray[np.float64],
    free: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Solve all lanes, and say where the damped matrix is positive definite.

    Gaussian elimination without a choice of pivots, whose pivots are the squares of the Cholesky
    factor's diagonal (Golub and Van Loan, "Matrix Computations", section 4.2). Lanes are the last
    axis, along which every operation runs.
    """
    size = right.shape[1]
    both_free = free[:, :, None] & free[:, None, :]
    damped = np.empty((size, size + 1, len(right)))
    damped[:, :size] = np.where(both_free, matrix, 0.0).transpose(1, 2, 0)
    damped[np.arange(size), np.arange(size)] += np.where(free, damping[:, None] * metric, 1.0).T
    damped[:, size] = np.where(free, right, 0.0).T
    proper = np.ones(len(right), dtype=bool)
    for step in range(size):
        pivot = damped[step, step]
        good = (pivot > 0) & (pivot < np.inf)
        proper &= good
        damped[step, step] = np.where(good, pivot, 1.0)
        ratio = damped[step, step + 1 :] / damped[step, step]
        damped[step + 1 :, step + 1 :] -= damped[step + 1 :, step][:, None] * ratio
        damped[step, step + 1 :] = ratio
    solution = damped[:, size]
    for step in range(size - 1, 0, -1):
        solution[:step] -= damped[:step, step] * solution[step]
    return np.where(proper & free.T, solution, 0.0).T, proper


def _solve(
    matrix: NDArray[np.float64],
    metric: NDArray[np.float64],
    right: NDArray[np.float64],
    damping: float,
    frozen: NDArray[np.int64],
) -> NDArray[np.float64] | None:
    """Solve one lane; None if the damped matrix is not positive definite."""
    # A copy, which the factorization overwrites.
    damped = matrix.copy()
    damped.flat[:: len(metric) + 1] += damping * metric
    damped[frozen], damped[:, frozen] = 0.0, 0.0
    damped[frozen, frozen] = 1.0
    # The transpose of a symmetric matrix is itself, and in the order that LAPACK likes.
    _, solution, info = lapack.dposv(damped.T, right, overwrite_a=True)
    if info != 0:
        return None
    solution[frozen] = 0.0
    return cast(NDArray[np.float64], solution)


def next_damping(damping: Any, xp: Any = np) -> Any:
    """Choose the damping after a factorization or a step failed."""
    return xp.maximum(damping * DAMPING_FACTOR, FIRST_DAMPING)


class JaxArrays(Arrays):
    """JAX as the array library, in double precision.

    Parameters
    ----------
    cache
        Folder where compiled steps are kept, so that the next process need not compile them; None
        keeps them in memory only.

    Raises
    ------
    BackendError
        JAX is not installed.
    """

    name: ArrayBackend = "jax"
    eager = False
    flexible = False

    def __init__(self, cache: Path | None = None) -> None:
        try:
            import jax
        except ImportError as error:
            raise BackendError(
                f"JAX is not installed: {error}.",
                remedy="Install palletfit[jax] where the fits run, or choose `fit.backend: numpy`.",
            ) from error
        jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
        if cache is not None:
            jax.config.update("jax_compilation_cache_dir", str(cache))  # type: ignore[no-untyped-call]
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # type: ignore[no-untyped-call]
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)  # type: ignore[no-untyped-call]
        self._jax = jax
        self.xp = jax.numpy
        self.lanes = 16 if jax.default_backend() == "cpu" else 1024

    def lanes_of(self, size: int) -> int:  # noqa: ARG002
        """One number for all models; an accelerator has room for many."""
        return self.lanes

    def compile(self, function: FunctionT) -> FunctionT:
        """Compile at the first call with arguments of each shape."""
        return cast(FunctionT, self._jax.jit(function))

    def put(self, values: Any) -> Any:
        """Copy NumPy arrays (or nested dictionaries of them) to the device."""
        return self._jax.tree_util.tree_map(self.xp.asarray, values)

    def select(self, mask: Any, new: Any, old: Any) -> Any:
        """See :meth:`Arrays.select`."""
        return self.xp.where(mask.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    def add(self, target: Any, index: Any, values: Any) -> Any:
        """See :meth:`Arrays.add`."""
        return target.at[index].add(values)

    def add_diagonal(self, matrices: Any, values: Any) -> Any:
        """See :meth:`Arrays.add_diagonal`."""
        return matrices + values[..., None] * self.xp.eye(matrices.shape[-1])

    def without_diagonal(self, matrices: Any) -> Any:
        """See :meth:`Arrays.without_diagonal`."""
        return self.xp.where(self.xp.eye(matrices.shape[-1], dtype=bool), 0.0, matrices)

    def solve(
        self,
        matrix: Any,
        metric: Any,
        right: Any,
        damping: Any,
        free: Any,
        instead: Instead | None = None,
    ) -> tuple[Any, Any, Any, Any]:
        """See :meth:`Arrays.solve`; all lanes are factorized again while one fails."""
        xp, lax = self.xp, self._jax.lax
        unit = xp.eye(right.shape[-1])

        def factorize(matrices: Any, damping: Any) -> Any:
            diagonal = xp.where(free, damping[:, None] * metric, 1.0)
            damped = matrices * free[:, :, None] * free[:, None, :]
            return xp.linalg.cholesky(damped + diagonal[:, :, None] * unit)

        def failed(factor: Any) -> Any:
            return ~xp.all(xp.isfinite(factor), axis=(1, 2))

        def another(state: Any) -> Any:
            matrices, damping, replaced, factor = state
            bad = failed(factor)
            if instead is not None:
                first = bad & ~replaced & instead.lanes
                exchanged = instead.matrices(slice(None))
                matrices = xp.where(first[:, None, None], exchanged, matrices)
                replaced = replaced | first
                bad = bad & ~first
            damping = xp.where(bad, next_damping(damping, xp), damping)
            return matrices, damping, replaced, factorize(matrices, damping)

        def unfinished(state: Any) -> Any:
            return xp.any(failed(state[3]) & (state[1] <= LARGEST_DAMPING))

        none = xp.zeros(len(right), dtype=bool)
        start = (matrix, damping, none, factorize(matrix, damping))
        matrix, damping, replaced, factor = lax.while_loop(unfinished, another, start)
        bad = failed(factor)
        factor = xp.where(bad[:, None, None], unit, factor)
        right = xp.where(free, right, 0.0)
        solution = self._jax.scipy.linalg.cho_solve((factor, True), right[:, :, None])[:, :, 0]
        return xp.where(bad[:, None], 0.0, solution), damping, matrix, replaced


def make_arrays(backend: ArrayBackend) -> Arrays:
    """Make the array library of a name.

    Raises
    ------
    BackendError
        It is not installed.
    """
    return JaxArrays(user_cache("jax")) if backend == "jax" else Arrays()
