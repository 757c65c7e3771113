"""Forecasts of hypothesis tests: from the background-only fit alone, without a fit of the signal.

Near the background-only fit the likelihood is Gaussian in the signal strength mu and the nuisance
parameters theta. With the expected events lambda and observed ones n, the signal's events s, the
derivatives J of the events by theta with that signal, and the curvature K of the constraints, the
profile likelihood has the information ::

    I = s^T W s - s^T W J (J^T W J + K)^-1 J^T W s,     W = 1 / (lambda + 2 s / 3),

and its maximum at ``mu-hat = s^T W (n - lambda) / I``, since the gradient by theta is zero at the
fit. The weights W give the Poisson test statistic of the Asimov data, ``2 [s - lambda ln(1 + s /
lambda)]`` in each bin, to the third order in s. Then ``q_asimov = I`` and q on the data is
``I (1 - mu-hat)^2``, less ``I mu-hat^2`` where mu-hat is below zero: Wald's approximation, G. Cowan
et al., Eur. Phys. J. C 71 (2011) 1554, arXiv:1007.1727, sec. 2 and 3.

A forecast says where tests are worthwhile. It is never a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.asymptotics import p_values
from palletfit.engine.batch import BatchFits
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.evaluation import solve_free
from palletfit.engine.fits import Fits
from palletfit.engine.hypothesis import tested_mu
from palletfit.engine.lowering import Lowered
from palletfit.pallet.patches import Patch

#: Rates below this count as this: bins in which the background-only fit expects nothing.
_LEAST = 1e-6


class Forecast(NamedTuple):
    """Rough result of a hypothesis test that was not made."""

    CLs_obs: float
    CLs_exp: tuple[float, ...]


def forecasts(engine: BatchedEngine, patches: Sequence[Patch]) -> dict[str, Forecast]:
    """Forecast the hypothesis tests of many patches.

    Parameters
    ----------
    engine
        Its workspace, data and test statistic count: one of upper limits, qtilde or q.
    patches
        Signal patches.

    Returns
    -------
    dict
        By patch name. A patch that does not apply, that this engine does not support, or whose
        background-only fit does not end, has none.

    Examples
    --------
    >>> from palletfit.config import FitSettings
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> from palletfit.pallet.patchset import parse_patchset
    >>> workspace = demo_workspace()
    >>> patches = parse_patchset(demo_patchset(workspace), "demo").patches[:3]
    >>> engine = BatchedEngine(workspace, FitSettings())
    >>> forecast = forecasts(engine, patches)[patches[0].name]
    >>> len(forecast.CLs_exp)
    5
    """
    by_name: dict[str, Forecast] = {}
    batches, _ = engine.lower(patches, testable=True)
    for batch, members in batches:
        by_name |= _of_batch(engine, batch, [patch.name for patch in members])
    return by_name


def _of_batch(engine: BatchedEngine, batch: Lowered, names: Sequence[str]) -> dict[str, Forecast]:
    tests = engine.batch_fits(batch, engine.settings.model_copy(update={"minimum": "nearest"}))
    background, _ = tests.without_and_with_signal(tests.rows)
    return {
        names[row]: forecast for row, forecast in _wald(tests, background, engine.settings).items()
    }


def _wald(tests: BatchFits, background: Fits, settings: FitSettings) -> Mapping[int, Forecast]:
    """Forecast rows whose background-only fit has ended."""
    likelihood, poi = tests.likelihood, tests.poi
    with_signal = background.point.copy()
    with_signal[:, poi] = tested_mu(settings)
    expected = np.maximum(likelihood.rates(background, background.point), _LEAST)
    lowest = tests.batch.lower[:, poi] / tested_mu(settings)
    by_row: dict[int, Forecast] = {}
    for part, derivatives, frozen in likelihood.derivatives(background, point=with_signal):
        frozen[:, poi] = True
        without = expected[part]
        signal = np.maximum(derivatives["rates"], 0.0) - without
        weights = 1.0 / np.maximum(without + 2.0 * signal / 3.0, _LEAST)
        information = _information(derivatives, frozen, signal, weights)
        score = np.sum(signal * weights * (background.data[part] - without), axis=1)
        for row, of_row, slope in zip(likelihood.rows[part], information, score, strict=True):
            if background.converged[row] and of_row > 0:
                least = 0.0 if settings.test_statistic == "qtilde" else lowest[row]
                by_row[int(row)] = _forecast(settings, float(of_row), float(slope / of_row), least)
    return by_row


def _information(
    derivatives: Mapping[str, FloatArray],
    frozen: NDArray[np.bool_],
    signal: FloatArray,
    weights: FloatArray,
) -> FloatArray:
    """Compute the information on mu with nuisance parameters profiled, ``(n,)``."""
    jacobian = np.where(frozen[:, None, :], 0.0, derivatives["jacobian"])
    weighted = jacobian * weights[..., None]
    hessian = np.swapaxes(weighted, 1, 2) @ jacobian
    diagonal = np.arange(hessian.shape[-1])
    hessian[:, diagonal, diagonal] += derivatives["prior"]
    mixed = np.einsum("nb,nbk->nk", signal, weighted)
    solution, proper = solve_free(hessian, frozen, mixed)
    information = np.sum(signal * weights * signal, axis=1) - np.sum(mixed * solution, axis=1)
    return np.where(proper, information, 0.0)


def _forecast(settings: FitSettings, information: float, mu_hat: float, least: float) -> Forecast:
    """Turn the information on mu and its best fit into CLs, in units of the tested mu.

    Where the best fit lies below `least`, the test compares with that value.
    """
    below = min(mu_hat - least, 0.0)
    q = information * max((1.0 - mu_hat) ** 2 - below**2, 0.0) if mu_hat < 1 else 0.0
    values = p_values(settings.test_statistic, q, information)
    return Forecast(values.CLs_obs, values.CLs_exp)
