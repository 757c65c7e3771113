"""The distance of a point from the minimum of pyhf's likelihood, and the last steps to it.

Everything is evaluated with pyhf's NumPy backend in double precision, whichever backend and
optimizer found the point, so that minima of different origin can be compared. The caller has to
have that backend set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray

#: Step of the central differences, in units of the parameters (all of order one in HistFactory).
_STEP = 1e-5
#: Step of second differences of the constraint terms.
_CURVATURE_STEP = 1e-4
#: Step of the Hessian's second differences, in standard deviations of each parameter.
_HESSIAN_STEP = 1e-2
#: Parameters of less curvature are taken to have this one.
_LEAST_CURVATURE = 1e-6
#: A parameter closer to its bound than this is at its bound.
_AT_BOUND = 1e-8
#: Directions of less curvature than this, after scaling the Hessian's diagonal to one, are flat.
_FLAT = 1e-12
#: Gradients up to this are noise of the differences.
_SLOPE = 1e-5
#: Bounds on a step have to enclose zero.
_TINY = 1e-15


@dataclass(frozen=True)
class Evidence:
    """Properties of the likelihood at one point.

    Attributes
    ----------
    twice_nll
        Twice the negative log-likelihood, constants included as pyhf includes them.
    edm
        Estimated distance to the minimum in units of the NLL; infinite where there is none.
    gradient_norm
        Largest component of the projected gradient of the NLL.
    step
        Newton step to the estimated minimum, one entry a parameter (zero where it is frozen).
    at_bounds
        Names of the parameters at a bound, POI and fixed ones excepted.
    """

    twice_nll: float
    edm: float
    gradient_norm: float
    step: FloatArray
    at_bounds: tuple[str, ...]


class Likelihood:
    """pyhf's likelihood of a model on given data, for one value (or none) of the POI.

    Parameters
    ----------
    model
        A ``pyhf.Model`` with a parameter of interest.
    data
        Observations followed by auxiliary data, shape ``(n,)``.
    mu
        Value at which the parameter of interest is fixed; None leaves it free.
    """

    def __init__(self, model: Any, data: FloatArray, mu: float | None) -> None:
        self.model = model
        self.data = np.asarray(data, dtype=float)
        self.mu = mu
        bounds = np.asarray(model.config.suggested_bounds(), dtype=float)
        self.lower, self.upper = bounds[:, 0], bounds[:, 1]
        self.fixed = np.asarray(model.config.suggested_fixed(), dtype=bool)
        if mu is not None:
            self.fixed[model.config.poi_index] = True

    def start(self, parameters: FloatArray) -> FloatArray:
        """Move a point into the bounds and the POI to its fixed value, shape ``(n,)``."""
        inside = np.clip(parameters, self.lower, self.upper)
        if self.mu is not None:
            inside[self.model.config.poi_index] = self.mu
        return inside

    def twice_nll(self, parameters: FloatArray) -> float:
        """Twice the negative log-likelihood; infinite where it is not defined."""
        with np.errstate(all="ignore"):
            value = -2.0 * float(self.model.logpdf(parameters, self.data)[0])
        return value if np.isfinite(value) else np.inf

    def evidence(self, parameters: FloatArray) -> Evidence:
        """Gradient by central differences and Fisher information at a point.

        The Hessian is replaced by the Fisher information of the Poisson terms, ``J^T J / lambda``
        with ``J = d lambda / d theta``, plus the exact curvature of the constraint terms. It is
        positive semidefinite everywhere and equals the Hessian in expectation. The edm is the
        decrease ``g^T H^-1 g / 2`` that a Newton step within the bounds promises.
        """
        twice_nll = self.twice_nll(parameters)
        gradient, information = self._derivatives(parameters)
        at_lower = parameters - self.lower <= _AT_BOUND
        at_upper = self.upper - parameters <= _AT_BOUND
        frozen = self.fixed | (at_lower & (gradient > 0)) | (at_upper & (gradient < 0))
        projected = np.where(frozen, 0.0, gradient)
        step, edm = _bounded_newton_step(
            gradient, information, self.lower - parameters, self.upper - parameters, ~self.fixed
        )
        names = self.model.config.par_names
        bounded = (at_lower | at_upper) & ~self.fixed
        bounded[self.model.config.poi_index] = False
        return Evidence(
            twice_nll=twice_nll,
            edm=edm if np.isfinite(twice_nll) else np.inf,
            gradient_norm=float(np.max(np.abs(projected), initial=0.0)),
            step=step,
            at_bounds=tuple(name for name, at in zip(names, bounded, strict=True) if at),
        )

    def at_bounds(self, parameters: FloatArray) -> tuple[str, ...]:
        """Name the parameters at a bound, also the parameter of interest, without fixed ones."""
        distance = np.minimum(parameters - self.lower, self.upper - parameters)
        at_bound = (distance <= _AT_BOUND) & ~self.fixed
        return tuple(self.model.config.par_names[index] for index in np.flatnonzero(at_bound))

    def covariance(self, parameters: FloatArray) -> FloatArray:
        """Invert the Hessian of the NLL at a minimum, by second differences; shape ``(n, n)``.

        Rows and columns of parameters that are fixed or at a bound are zero. The number of
        evaluations grows with the square of the number of parameters.
        """
        bounds = np.minimum(parameters - self.lower, self.upper - parameters)
        free = np.flatnonzero(~self.fixed & (bounds > _AT_BOUND))
        _, information = self._derivatives(parameters)
        curvature = np.maximum(np.diag(information)[free], _LEAST_CURVATURE)
        # Where rounding and the next order of the series are both small.
        steps = np.minimum(_HESSIAN_STEP / np.sqrt(curvature), bounds[free])

        def nll(*moves: tuple[int, float]) -> float:
            point = parameters.copy()
            for index, sign in moves:
                point[free[index]] += sign * steps[index]
            return 0.5 * self.twice_nll(point)

        hessian = np.zeros((len(free), len(free)))
        centre = nll()
        for i in range(len(free)):
            hessian[i, i] = nll((i, 1.0)) - 2 * centre + nll((i, -1.0))
            for j in range(i):
                same = nll((i, 1.0), (j, 1.0)) + nll((i, -1.0), (j, -1.0))
                opposite = nll((i, 1.0), (j, -1.0)) + nll((i, -1.0), (j, 1.0))
                hessian[i, j] = hessian[j, i] = (same - opposite) / 4
        covariance = np.zeros((len(parameters), len(parameters)))
        covariance[np.ix_(free, free)] = np.linalg.inv(hessian) * np.outer(steps, steps)
        return covariance

    def _derivatives(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        count, observed = len(parameters), self.model.config.nmaindata
        gradient = np.zeros(count)
        jacobian = np.zeros((count, observed))
        with np.errstate(all="ignore"):
            for index in np.flatnonzero(~self.fixed):
                up, down = parameters.copy(), parameters.copy()
                # One-sided at a bound: beyond it the likelihood need not exist.
                up[index] = min(up[index] + _STEP, self.upper[index])
                down[index] = max(down[index] - _STEP, self.lower[index])
                width = up[index] - down[index]
                # Value and rates of one point after each other: they share what pyhf evaluates.
                above, rates_above = self.twice_nll(up), self._rates(up)
                below, rates_below = self.twice_nll(down), self._rates(down)
                gradient[index] = (above - below) / (2 * width)
                jacobian[index] = (rates_above - rates_below) / width
            rates = self._rates(parameters)
            weights = np.divide(1.0, rates, out=np.zeros_like(rates), where=rates > 0)
            information = (jacobian * weights) @ jacobian.T
            information[np.diag_indices(count)] += self._constraint_curvature(parameters)
        return gradient, information

    def _rates(self, parameters: FloatArray) -> FloatArray:
        return np.asarray(self.model.expected_actualdata(parameters), dtype=float)

    def _constraint_curvature(self, parameters: FloatArray) -> FloatArray:
        auxdata = self.data[self.model.config.nmaindata :]
        # The model's own constraint_logpdf evaluates all its rates, too.
        constraints = self.model.constraint_model

        def nll(point: FloatArray) -> float:
            return -float(np.sum(constraints.make_pdf(point).log_prob(auxdata)))

        curvature = np.zeros(len(parameters))
        if not auxdata.size:  # no constraint terms
            return curvature
        for index in np.flatnonzero(~self.fixed):
            # Shifted inwards at a bound, where only one side exists.
            centre = np.clip(
                parameters[index],
                self.lower[index] + _CURVATURE_STEP,
                max(self.upper[index] - _CURVATURE_STEP, self.lower[index] + _CURVATURE_STEP),
            )
            values = []
            for shift in (-_CURVATURE_STEP, 0.0, _CURVATURE_STEP):
                point = parameters.copy()
                point[index] = centre + shift
                values.append(nll(point))
            curvature[index] = (values[0] - 2 * values[1] + values[2]) / _CURVATURE_STEP**2
        return np.where(np.isfinite(curvature), np.maximum(curvature, 0.0), 0.0)


def polish(
    likelihood: Likelihood, parameters: FloatArray, *, edm: float, steps: int = 8
) -> tuple[FloatArray, Evidence, int]:
    """Take Newton steps with the Fisher information while they lower the likelihood.

    Optimizers that stop on the change of the objective leave an edm of about 1e-7 (SLSQP) to
    1e-4 (Minuit): too much where the test statistic itself is that small.

    Parameters
    ----------
    likelihood
        What is minimised.
    parameters
        Where an optimizer stopped, shape ``(n,)``.
    edm
        Stop below this estimated distance to the minimum.
    steps
        Largest number of steps.

    Returns
    -------
    tuple
        The last point, its evidence, and the number of steps that were taken.
    """
    evidence = likelihood.evidence(parameters)
    for step_number in range(steps):
        if evidence.edm <= edm or not np.isfinite(evidence.edm):
            return parameters, evidence, step_number
        moved = _descend(likelihood, parameters, evidence)
        if moved is None:
            return parameters, evidence, step_number
        parameters, evidence = moved, likelihood.evidence(moved)
    return parameters, evidence, steps


def _descend(
    likelihood: Likelihood, parameters: FloatArray, evidence: Evidence
) -> FloatArray | None:
    for fraction in (1.0, 0.5, 0.25, 0.0625):
        trial = likelihood.start(parameters + fraction * evidence.step)
        if likelihood.twice_nll(trial) < evidence.twice_nll:
            return trial
    return None


def _bounded_newton_step(
    gradient: FloatArray,
    hessian: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    free: NDArray[np.bool_],
) -> tuple[FloatArray, float]:
    """Minimise ``g^T s + s^T H s / 2`` within bounds on the step `s`.

    Returns the step and the decrease that it promises, which is ``g^T H^-1 g / 2`` where no bound
    is in the way. The decrease is infinite where the gradient points along a direction without
    curvature.
    """
    step = np.zeros_like(gradient)
    if not (np.all(np.isfinite(gradient)) and np.all(np.isfinite(hessian))):
        return step, np.inf
    scale = np.sqrt(np.maximum(np.diag(hessian), 0.0))
    # Without curvature a parameter has no influence on the rates: it stays where it is.
    moving = free & (scale > 0)
    blocked = ((gradient > 0) & (lower >= -_AT_BOUND)) | ((gradient < 0) & (upper <= _AT_BOUND))
    if np.any(np.abs(gradient[free & ~moving & ~blocked]) > _SLOPE):
        return step, np.inf
    if not np.any(moving):
        return step, 0.0
    width = scale[moving]
    values, vectors = np.linalg.eigh(hessian[np.ix_(moving, moving)] / np.outer(width, width))
    along = vectors.T @ (gradient[moving] / width)
    curved = values > _FLAT
    if np.any(np.abs(along[~curved]) > _SLOPE):
        return step, np.inf
    from scipy.optimize import lsq_linear  # rarely needed, and slow to import

    # The same problem as least squares with bounds: min |A u - b| with H = A^T A, A^T b = -g.
    root = np.sqrt(values[curved])
    solution = lsq_linear(
        root[:, None] * vectors[:, curved].T,
        -along[curved] / root,
        bounds=(
            np.minimum(lower[moving] * width, -_TINY),
            np.maximum(upper[moving] * width, _TINY),
        ),
        method="bvls",
    ).x
    decrease = (
        -(gradient[moving] / width) @ solution
        - np.sum((root * (vectors[:, curved].T @ solution)) ** 2) / 2
    )
    step[moving] = solution / width
    return step, max(float(decrease), 0.0)
