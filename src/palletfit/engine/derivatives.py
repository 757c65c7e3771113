"""Derivatives of fits, CLs and limits by the yields of samples, exact and without further fits.

**Fits.** At a minimum the parameters count to second order only, so that the derivative of the
lowest NLL is the partial one (the envelope theorem)::

    d NLL / d s = dL/ds = sum_bin (1 - n / lambda) dlambda/ds + constraints

**Parameters** at a minimum follow from ``dL/dtheta = 0`` (the implicit function theorem)::

    d theta / d s = -H^-1 d2L/(dtheta ds)

with those that are fixed or at a bound held there.

**Asimov data** are what the fit without signal expects (of ``q0``: the fit at mu = 1), so they
depend on yields through its parameters, and directly through its expected counts. A chain over
these needs one linear equation a fit, whatever the number of yields: ``(dD/dtheta)^T dL_A/dD`` is
multiplied with ``H^-1`` first (the adjoint method).

**Limits** are where ``CLs(mu, s)`` is constant: ``d mu / d s = -(dCLs/ds) / (dCLs/dmu)``.

All of it holds at the minimum that counts. Where another minimum becomes the lowest one, the NLL
has a kink, and the derivative is that of the side on which the result is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from palletfit.config import DerivativeSettings, FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.arrays import Arrays
from palletfit.engine.asymptotics import PValueSlopes, p_value_slopes, profile_statistic
from palletfit.engine.derivative_records import Derivatives, HypotestSlopes
from palletfit.engine.evaluation import BatchLikelihood, solve_undamped
from palletfit.engine.fits import Fits
from palletfit.engine.likelihood import CLIP_WIDTH, poisson_slopes
from palletfit.engine.yields import Yields
from palletfit.errors import PalletError

#: A q on Asimov data below this is rounding.
_NO_SENSITIVITY = 1e-12
#: Above this many counts two terms of the series of the digamma function are exact.
_SERIES = 1e4

_CLIPPED = "q is zero, as mu-hat lies beyond the tested value: so is its derivative"
_ONE_SIDED = "mu-hat is the tested value: the derivative of CLs is that of the side where q is zero"
_BLIND = "no sensitivity: CLs has a kink where the signal has no effect, and no derivative"
_INDEFINITE = "a Hessian is not positive definite: derivatives through its parameters are missing"
_AT_BOUND = "mu-hat is at a bound, and stays there"


@dataclass(frozen=True)
class Gradients:
    """Derivatives of the fits of some rows by all yields of the layers; each is ``(T, n, B)``.

    Attributes
    ----------
    nll
        By the name of a fit those of its NLL with all constants.
    fits
        By the name of a fit on data those of its NLL without constants, as `value` of the fits.
    half_q_asimov
        Those of the NLL of the fit to Asimov data, above that of the point that generated these.
    mu_hat
        Those of the best-fit signal strength.
    proper
        Where the Hessians that are needed are positive definite, ``(n,)``.
    """

    nll: Mapping[str, FloatArray]
    fits: Mapping[str, FloatArray]
    half_q_asimov: FloatArray
    mu_hat: FloatArray
    proper: NDArray[np.bool_]


class YieldDerivatives:
    """Derivatives of the fits of the patches of one batch.

    Parameters
    ----------
    likelihood
        The likelihoods of the patches.
    settings
        Physics of the tests.
    choice
        Samples, and what becomes of their uncertainties.
    """

    def __init__(
        self, likelihood: BatchLikelihood, settings: FitSettings, choice: DerivativeSettings
    ) -> None:
        self._likelihood, self._settings, self._choice = likelihood, settings, choice
        self._batch = likelihood.batch
        self.yields = Yields(likelihood, choice)
        self._discovery = settings.test_statistic == "q0"

    def tests(
        self, fits: Mapping[str, Fits], rows: NDArray[np.int64]
    ) -> dict[int, Derivatives | PalletError]:
        """Compute the derivatives of hypothesis tests.

        Parameters
        ----------
        fits
            ``background``, ``free``, ``fixed`` and ``asimov_fixed``, all of them sharp.
        rows
            Rows whose fits have converged.

        Returns
        -------
        dict
            By row; the error where a pattern fits no sample.
        """
        with np.errstate(all="ignore"):  # rows without a derivative have NaN
            gradients = self.gradients(fits, rows)
        return {
            int(row): self.yields.unknown[row] or self._test(fits, gradients, int(row), position)
            for position, row in enumerate(rows)
        }

    def limits(self, fits: Mapping[str, Fits], rows: NDArray[np.int64]) -> dict[int, FloatArray]:
        """Compute the derivatives of the signal strengths where CLs has its present value.

        Parameters
        ----------
        fits, rows
            As in :meth:`tests`.

        Returns
        -------
        dict
            By row those where the observed CLs, and each of the five expected ones, is constant,
            ``(6, T, B)``.
        """
        poi = self._likelihood.poi
        by_mu = np.zeros((2, len(rows)))
        with np.errstate(all="ignore"):  # rows without a derivative have NaN
            gradients = self.gradients(fits, rows)
            for number, name in enumerate(("fixed", "asimov_fixed")):
                for part, derivatives, _ in self._likelihood.derivatives(fits[name], rows):
                    by_mu[number, part] = 2.0 * derivatives["gradient"][:, poi]
            slopes = {}
            for position, row in enumerate(rows):
                slope, _ = self._slope(fits, int(row))
                by_q, by_asimov = self._statistics(fits, gradients, int(row), position)
                q_mu = by_mu[0, position] if self._counts(fits, int(row)) else 0.0
                along_mu = _chain(slope, np.array(q_mu), by_mu[1, position])
                by_yields = _chain(slope, by_q, by_asimov)
                slopes[int(row)] = -by_yields / along_mu[:, None, None]
        return slopes

    def _statistics(
        self, fits: Mapping[str, Fits], gradients: Gradients, row: int, position: int
    ) -> tuple[FloatArray, FloatArray]:
        """Give the derivatives of q on the data and on the Asimov data, ``(T, B)``."""
        lowest, tested = self._compared(fits, row)
        by_q = 2.0 * (gradients.fits[tested] - gradients.fits[lowest])[:, position]
        by_q = by_q if self._counts(fits, row) else np.zeros_like(by_q)
        return by_q, 2.0 * gradients.half_q_asimov[:, position]

    def _test(
        self, fits: Mapping[str, Fits], gradients: Gradients, row: int, position: int
    ) -> Derivatives:
        """Put the derivatives of one row together."""
        slope, remarks = self._slope(fits, row)
        by_q, by_asimov = self._statistics(fits, gradients, row, position)
        by_yields = _chain(slope, by_q, by_asimov)
        if not gradients.proper[position]:
            remarks = (*remarks, _INDEFINITE)
        if self._is_at_bound(fits["free"], row):
            remarks = (*remarks, _AT_BOUND)
        channels: dict[str, dict[str, HypotestSlopes]] = {}
        for target, channel, nominal in self.yields.nominal(row):
            at = target.layer, target.bins
            channels.setdefault(channel, {})[target.name] = HypotestSlopes(
                yields=nominal,
                CLs_obs=by_yields[0][at],
                CLs_exp=by_yields[(slice(1, None), *at)],
                q=by_q[at],
                q_asimov=by_asimov[at],
                mu_hat=gradients.mu_hat[target.layer, position, target.bins],
                twice_nll={
                    name: 2.0 * by[target.layer, position, target.bins]
                    for name, by in gradients.nll.items()
                },
            )
        return Derivatives(channels, self._choice.uncertainties, remarks)

    def _compared(self, fits: Mapping[str, Fits], row: int) -> tuple[str, str]:
        """Give the names of the lowest and of the tested fit of q."""
        if self._discovery:
            return "free", "background"
        negative = self._settings.test_statistic == "qtilde" and self._mu_hat(fits, row) < 0
        return ("background" if negative else "free"), "fixed"

    def _mu_hat(self, fits: Mapping[str, Fits], row: int) -> float:
        return float(fits["free"].point[row, self._likelihood.poi])

    def _tested(self, fits: Mapping[str, Fits], row: int) -> float:
        """Give the tested signal strength of a row."""
        return float(fits["fixed"].point[row, self._likelihood.poi])

    def _counts(self, fits: Mapping[str, Fits], row: int) -> bool:
        """Say whether q is more than zero by its definition."""
        mu_hat = self._mu_hat(fits, row)
        return mu_hat >= 0 if self._discovery else mu_hat <= self._tested(fits, row)

    def _is_at_bound(self, fits: Fits, row: int) -> bool:
        """Say whether mu-hat is at a bound."""
        batch, poi = self._batch, self._likelihood.poi
        at = fits.point[row, poi]
        return bool(at <= batch.lower[row, poi] or at >= batch.upper[row, poi])

    def _slope(self, fits: Mapping[str, Fits], row: int) -> tuple[PValueSlopes, tuple[str, ...]]:
        """Give derivatives of p-values by the test statistics, with remarks."""
        lowest, tested = self._compared(fits, row)
        kind = self._settings.test_statistic
        q = profile_statistic(
            kind,
            self._tested(fits, row),
            self._mu_hat(fits, row),
            2.0 * float(fits[tested].value[row]),
            2.0 * float(fits[lowest].value[row]),
        )
        q_asimov = 2.0 * float(fits["asimov_fixed"].value[row])
        remarks = []
        if not self._counts(fits, row):
            remarks.append(_CLIPPED)
        elif q == 0 and q_asimov > _NO_SENSITIVITY:
            remarks.append(_ONE_SIDED)
        if q_asimov <= _NO_SENSITIVITY:
            q_asimov = 0.0
            remarks.append(_BLIND)
        return p_value_slopes(kind, q, q_asimov), tuple(remarks)

    # ------------------------------------------------------------------ gradients

    def gradients(self, fits: Mapping[str, Fits], rows: NDArray[np.int64]) -> Gradients:
        """Compute the derivatives of all fits of some rows."""
        on_data = {
            name: self._partial(fits[name], rows, self.yields.constraints.aux)
            for name in ("background", "free", "fixed")
        }
        nll = {
            name: by + self._constant(fits[name], rows, self.yields.constraints.aux)
            for name, by in on_data.items()
        }
        half_q, constant, proper = self._asimov(fits, rows)
        poi = np.zeros((1, len(rows), self._batch.init.shape[1]))
        poi[..., self._likelihood.poi] = 1.0
        mu_hat, definite = self._through_parameters(fits["free"], rows, poi)
        return Gradients(
            nll={**nll, "asimov_fixed": half_q + constant},
            fits=on_data,
            half_q_asimov=half_q,
            mu_hat=mu_hat[0],
            proper=proper & definite,
        )

    def _partial(self, fits: Fits, rows: NDArray[np.int64], aux_slopes: FloatArray) -> FloatArray:
        """Differentiate the NLL without constants, with parameters and main data held.

        Parameters
        ----------
        fits, rows
            Fits and their rows.
        aux_slopes
            Derivatives of auxiliary data in the order of the constraints.
        """
        point = fits.point[rows]
        slope, _ = self._poisson(fits, rows)
        partial = slope * self.yields.rates(fits, rows)
        constraints, at = self.yields.constraints, self._at(rows)
        theta, aux = self._of_constraints(point, rows), self._of_constraints(fits.aux[rows], rows)
        factor = self._of_constraints(self._batch.factor[rows], rows)
        distance = theta - aux
        terms = 0.5 * distance * distance * constraints.precision[at]
        terms += np.where(
            factor > 0,
            (theta - aux / factor) * constraints.factor[at]
            + np.log(_positive(aux) / _positive(factor * theta)) * aux_slopes[at],
            0.0,
        )
        np.add.at(partial, self._indices(rows), terms)
        return partial

    def _constant(self, fits: Fits, rows: NDArray[np.int64], aux_slopes: FloatArray) -> FloatArray:
        """Differentiate the constants of :func:`palletfit.engine.likelihood.constants`, by widths.

        ``log(sigma)`` of Gaussian terms, and the smallest value of Poisson terms.
        """
        constant = np.zeros((self.yields.layers, len(rows), fits.data.shape[1]))
        constraints, at = self.yields.constraints, self._at(rows)
        precision = self._of_constraints(self._batch.precision[rows], rows)
        aux = self._of_constraints(fits.aux[rows], rows)
        gaussian = -0.5 * constraints.precision[at] / np.where(precision > 0, precision, 1.0)
        np.add.at(constant, self._indices(rows), gaussian + _saturated_slope(aux) * aux_slopes[at])
        return constant

    def _asimov(
        self, fits: Mapping[str, Fits], rows: NDArray[np.int64]
    ) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Differentiate the fit to Asimov data: without constants, constants, and where proper."""
        source, asimov = fits["fixed" if self._discovery else "background"], fits["asimov_fixed"]
        batch, likelihood = self._batch, self._likelihood
        data, aux, point = asimov.data[rows], asimov.aux[rows], asimov.point[rows]
        gaussian, poisson = batch.precision[rows], batch.factor[rows]
        rates = likelihood.rates(asimov, point, rows)
        # Derivatives of the NLL by main and auxiliary data; of constants the same.
        by_data = np.where(data > 0, np.log(_positive(data) / _positive(rates)), 0.0)
        by_aux = gaussian * (aux - point) + np.where(
            poisson > 0, np.log(_positive(aux) / _positive(point * poisson)), 0.0
        )
        constant_by_data = np.where(data > 0, _saturated_slope(data), 0.0)
        constant_by_aux = np.where(poisson > 0, _saturated_slope(aux), 0.0)
        # Auxiliary data are the parameters, or expected counts of Poisson constraints.
        scale = np.where(gaussian > 0, 1.0, poisson)
        right = np.stack([by_aux * scale, constant_by_aux * scale])
        for part, derivatives, _ in likelihood.derivatives(source, rows):
            for number, weights in enumerate((by_data, constant_by_data)):
                right[number, part] += (weights[part, None] @ derivatives["jacobian"])[:, 0]
        through, proper = self._through_parameters(source, rows, right)
        unit = self.yields.rates(source, rows)
        theta = self._of_constraints(source.point[rows], rows)
        aux_slopes = np.zeros(len(self.yields.constraints.row))
        aux_slopes[self._at(rows)] = theta * self.yields.constraints.factor[self._at(rows)]
        value = self._partial(asimov, rows, aux_slopes) + by_data * unit + through[0]
        constant = self._constant(asimov, rows, aux_slopes) + constant_by_data * unit + through[1]
        return value, constant, proper

    def _through_parameters(
        self, fits: Fits, rows: NDArray[np.int64], right: FloatArray
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Differentiate linear functions of the parameters at minima.

        Parameters
        ----------
        fits, rows
            Fits and their rows.
        right
            Derivatives of the functions by the parameters, ``(m, n, K)``.

        Returns
        -------
        tuple
            Derivatives by yields, ``(m, T, n, B)``; and where the Hessian is positive definite.
        """
        adjoint, along = np.zeros(right.shape), np.zeros((len(right), *fits.data[rows].shape))
        proper = np.ones(len(rows), dtype=bool)
        for part, derivatives, frozen in self._likelihood.derivatives(fits, rows):
            if fits.mu is not None:
                frozen[:, self._likelihood.poi] = True
            vectors = np.moveaxis(right[:, part], 0, -1)
            solution, proper[part] = solve_undamped(derivatives["hessian"], frozen, vectors)
            adjoint[:, part] = np.moveaxis(solution, -1, 0)
            moved = derivatives["jacobian"] @ solution
            along[:, part] = np.moveaxis(moved, -1, 0)
        mixed = self._mixed(fits, rows, adjoint, along)
        return np.where(proper[:, None], -mixed, np.nan), proper

    def _mixed(
        self, fits: Fits, rows: NDArray[np.int64], direction: FloatArray, along: FloatArray
    ) -> FloatArray:
        """Compute second derivatives by yields and along directions, ``(m, T, n, B)``.

        Parameters
        ----------
        fits, rows
            Fits and their rows.
        direction, along
            Directions ``(m, n, K)``, and the change of expected counts along these, ``(m, n, B)``.
        """
        slope, curvature = self._poisson(fits, rows)
        mixed = (curvature * along)[:, None] * self.yields.rates(fits, rows)
        mixed += slope * self.yields.changes(fits, rows, direction)
        constraints, at = self.yields.constraints, self._at(rows)
        theta, aux = (self._of_constraints(values[rows], rows) for values in (fits.point, fits.aux))
        pull = (theta - aux) * constraints.precision[at] + constraints.factor[at]
        poisson = self._of_constraints(self._batch.factor[rows], rows) > 0
        pull -= np.where(poisson, constraints.aux[at] / np.where(poisson, theta, 1.0), 0.0)
        for number, vector in enumerate(direction):
            np.add.at(mixed[number], self._indices(rows), pull * self._of_constraints(vector, rows))
        return mixed

    def _poisson(self, fits: Fits, rows: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """Give derivatives of the Poisson terms by the expected counts at minima, ``(n, B)``."""
        rates = self._likelihood.rates(fits, fits.point[rows], rows)
        slope, curvature = poisson_slopes(Arrays(), fits.data[rows], rates, CLIP_WIDTH)
        return slope, curvature

    # ------------------------------------------------------------------ constraints of rows

    def _at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find the constraints that belong to some rows."""
        return np.flatnonzero(np.isin(self.yields.constraints.row, rows))

    def _positions(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the positions of the constraints' rows among some rows."""
        position = np.full(len(self._batch), -1)
        position[rows] = np.arange(len(rows))
        return position[self.yields.constraints.row[self._at(rows)]]

    def _indices(self, rows: NDArray[np.int64]) -> tuple[Any, ...]:
        """Give the places of the constraints of some rows in gradients."""
        constraints, at = self.yields.constraints, self._at(rows)
        return constraints.layer[at], self._positions(rows), constraints.bin[at]

    def _of_constraints(self, values: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
        """Take the parameters of the constraints of some rows from ``(n, K)``."""
        column = self.yields.constraints.column[self._at(rows)]
        return np.asarray(values[self._positions(rows), column])


def _chain(slope: PValueSlopes, q: FloatArray, q_asimov: FloatArray) -> FloatArray:
    """Differentiate the observed and the five expected values, ``(6, …)``, from derivatives of q.

    There is no part where a factor is zero, even if the other one is missing.
    """
    parts = [
        factor * values if factor != 0 else np.zeros_like(values)
        for factor, values in ((slope.by_q, q), (slope.by_q_asimov, q_asimov))
    ]
    expected = [factor * q_asimov for factor in slope.expected]
    return np.stack([parts[0] + parts[1], *expected])


def _positive(values: FloatArray) -> FloatArray:
    """Replace what is not positive by one, where it has no meaning."""
    return np.where(values > 0, values, 1.0)


def _saturated_slope(count: FloatArray) -> FloatArray:
    """Differentiate ``n - n log n + log n!`` by n."""
    safe = _positive(count)
    series = 1 / (2 * safe) - 1 / (12 * safe * safe)
    return np.where(safe > _SERIES, series, digamma(safe + 1.0) - np.log(safe))
