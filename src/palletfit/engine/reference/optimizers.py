"""pyhf's optimizers, each run with a bound on how often it evaluates the likelihood.

The bound counts evaluations, and not seconds, so that the same fit ends in the same way on any
machine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.engine.reference.evidence import Likelihood
from palletfit.errors import BackendError

#: One run may take so many evaluations, and so many more for each parameter.
_CALLS, _CALLS_A_PARAMETER = 1_000, 150
#: Suspicious fits of a patch are repeated until that has taken so many times the bound of a run.
_RUNS = 2
#: Minuit's tolerance in units of 0.002 * errordef: its default stops at an edm of 1e-4.
_MINUIT_TOLERANCE = 1e-2


def calls_of_a_run(parameters: int) -> int:
    """Give the number of evaluations after which one run of an optimizer ends."""
    return _CALLS + _CALLS_A_PARAMETER * parameters


def _calls_of_errors(parameters: int) -> int:
    """Give the number of evaluations that Minuit may take for errors, after its last step."""
    return parameters * (parameters + 1)


def calls_of_repetitions(parameters: int) -> int:
    """Give the number of evaluations after which no fit of a patch is repeated any more."""
    return _RUNS * calls_of_a_run(parameters)


@dataclass(frozen=True)
class Outcome:
    """End of one run of an optimizer.

    Attributes
    ----------
    parameters
        Where it ended, ``(n,)``; the start if it gave no finite point.
    moved
        Whether the optimizer gave a point of its own.
    success, message, iterations, evaluations
        What it says of itself.
    calls
        Evaluations of the likelihood that it made.
    """

    parameters: FloatArray
    moved: bool
    success: bool
    message: str
    iterations: int | None = None
    evaluations: int | None = None
    calls: int = 0


class _OutOfCallsError(Exception):
    """The bound on evaluations is reached."""


class _Counter:
    """Counts evaluations of an objective, keeps its lowest point, and ends it at a bound.

    Attributes
    ----------
    calls
        Evaluations so far.
    point
        Where the objective was lowest, ``(n,)``; None before the first finite value.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.calls = 0
        self.point: FloatArray | None = None
        self._value = np.inf

    def wrap(self, objective: Callable[..., Any]) -> Callable[..., Any]:
        """Count the calls of an objective, which gives a value, or a value and a gradient."""

        def counted(parameters: Any, *arguments: Any) -> Any:
            if self.calls >= self.limit:
                raise _OutOfCallsError
            self.calls += 1
            result = objective(parameters, *arguments)
            first = result[0] if isinstance(result, tuple) else result
            value = float(np.asarray(first).reshape(-1)[0])
            if value < self._value:
                self._value = value
                self.point = np.array(parameters, dtype=float)
            return result

        return counted


def minimise(likelihood: Likelihood, optimizer: str, start: FloatArray, backend: str) -> Outcome:
    """Minimise with one of pyhf's optimizers in one of its backends; NumPy is set again after.

    Parameters
    ----------
    likelihood
        What is minimised.
    optimizer
        ``scipy`` or ``minuit``, the latter optionally with ``-strategy`` and a number.
    start
        Where to begin, ``(n,)``.
    backend
        pyhf's backend.

    Raises
    ------
    BackendError
        The backend is not installed.
    """
    import pyhf

    if np.all(likelihood.fixed):
        return Outcome(start, True, True, "there is nothing to fit")
    calls = calls_of_a_run(len(start))
    counter = _Counter(calls if optimizer == "scipy" else calls + _calls_of_errors(len(start)))
    _set_backend(backend, optimizer, counter, calls)
    data = pyhf.tensorlib.astensor(likelihood.data)
    arguments = {"init_pars": start.tolist(), "return_result_obj": True}
    try:
        if likelihood.mu is None:
            _, result = pyhf.infer.mle.fit(data, likelihood.model, **arguments)
        else:
            _, result = pyhf.infer.mle.fixed_poi_fit(
                likelihood.mu, data, likelihood.model, **arguments
            )
    except pyhf.exceptions.FailedMinimization as error:
        result = error.result
    except _OutOfCallsError:
        return Outcome(
            parameters=start if counter.point is None else counter.point,
            moved=counter.point is not None,
            success=False,
            message=f"the bound of {counter.limit} evaluations is reached",
            evaluations=counter.calls,
            calls=counter.calls,
        )
    except (
        ArithmeticError,
        AttributeError,  # pyhf's Minuit where hesse finds no covariance matrix
        RuntimeError,
        ValueError,
        np.linalg.LinAlgError,
    ) as error:
        return Outcome(start, False, False, f"{type(error).__name__}: {error}", calls=counter.calls)
    finally:
        pyhf.set_backend("numpy")
    point = np.asarray(result.x, dtype=float).reshape(-1)
    usable = point.shape == start.shape and bool(np.all(np.isfinite(point)))
    return Outcome(
        parameters=point if usable else start,
        moved=usable,
        success=bool(result.success) and usable,
        message=str(result.message) if usable else "its parameters are not finite",
        iterations=int(result.nit) if "nit" in result else None,
        evaluations=int(result.nfev) if "nfev" in result else None,
        calls=counter.calls,
    )


def _set_backend(backend: str, optimizer: str, counter: _Counter, calls: int) -> None:
    import pyhf

    try:
        pyhf.set_backend(backend, _optimizer(optimizer, counter, calls), precision="64b")
    except pyhf.exceptions.ImportBackendError as error:
        pyhf.set_backend("numpy")
        raise BackendError(
            f"pyhf's backend {backend} is not installed: {error}.",
            remedy=f"Install palletfit[{backend}] where the fits run, or choose another "
            "`fit.backend`.",
        ) from error


def _optimizer(name: str, counter: _Counter, calls: int) -> Any:
    import pyhf

    if name == "scipy":
        chosen = _counting(pyhf.optimize.scipy_optimizer)()
        chosen.counter = counter
        return chosen
    _, _, strategy = name.partition("-strategy")
    chosen = _counting(pyhf.optimize.minuit_optimizer)(
        strategy=int(strategy) if strategy else None,
        tolerance=_MINUIT_TOLERANCE,
        maxiter=calls,
    )
    chosen.counter = counter
    return chosen


@functools.cache
def _counting(kind: Any) -> Any:
    """Make a kind of pyhf's optimizers that counts evaluations."""

    class Counting(kind):  # type: ignore[misc]
        """Optimizer with a bound on evaluations."""

        counter: _Counter

        def _internal_minimize(self, func: Any, *arguments: Any, **options: Any) -> Any:
            return super()._internal_minimize(self.counter.wrap(func), *arguments, **options)

    return Counting
