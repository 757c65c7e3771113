"""Hypothesis tests with a learned likelihood, as SModelS makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.engine.asymptotics import p_values
from palletfit.learned.likelihood import LearnedLikelihood

#: Signal strengths from zero to one where the minimum is looked for, and steps to it.
_STRENGTHS, _STEPS = 33, 30
#: NLLs that CLs need: the observed one at any signal strength, and both on Asimov data.
_OBSERVED, _ASIMOV = "nll_obs_1", ("nllA_obs_0", "nllA_obs_1")
#: Part of a bracket that a step of the golden-section search keeps.
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
#: Rows that are evaluated together.
_ROWS = 65_536


@dataclass(frozen=True)
class LearnedTests:
    """Tests of signals at a signal strength of one.

    Attributes
    ----------
    nlls
        By name, ``(N,)``.
    CLs_obs, CLs_exp
        Observed and median expected CLs, ``(N,)``; None if the network lacks an NLL for them, NaN
        where it gives no number.
    """

    nlls: dict[str, FloatArray]
    CLs_obs: FloatArray | None
    CLs_exp: FloatArray | None


def learned_tests(likelihood: LearnedLikelihood, signals: FloatArray) -> LearnedTests:
    """Test signals.

    q-tilde is twice the observed NLL at one minus its minimum between zero and one (CCGV eq. 16,
    see :mod:`palletfit.engine.asymptotics`). Where that lies at one, the best fit does not lie
    below, and q is zero. The NLL at a signal strength is that of the signal times this strength.
    The Asimov data are those of the observed data's fit without signal.

    Parameters
    ----------
    likelihood
        Network.
    signals
        Expected events by input, ``(N, n)``.
    """
    nlls = likelihood.nlls(signals)
    names = {*nlls, *(["nllA_obs_0"] if "nllA_obs_1" in likelihood.differences else [])}
    if not names.issuperset(_ASIMOV):
        return LearnedTests(nlls, None, None)
    # Of a difference the value at zero is none.
    q_asimov = 2 * (nlls["nllA_obs_1"] - nlls.get("nllA_obs_0", 0.0))
    expected = np.array([_cls(0.0, asimov)[1] for asimov in q_asimov])
    if _OBSERVED not in nlls:
        return LearnedTests(nlls, None, expected)
    lowest = np.minimum(nlls[_OBSERVED], _lowest(likelihood, signals))
    q = 2 * (nlls[_OBSERVED] - lowest)
    observed = [_cls(*pair)[0] for pair in zip(q, q_asimov, strict=True)]
    return LearnedTests(nlls, np.array(observed), expected)


def _cls(q: float, q_asimov: float) -> tuple[float, float]:
    """Compute observed and expected CLs; NaN where a statistic is no number."""
    if not (np.isfinite(q) and np.isfinite(q_asimov)):
        return np.nan, np.nan
    values = p_values("qtilde", max(float(q), 0.0), max(float(q_asimov), 0.0))
    return values.CLs_obs, values.CLs_exp[2]


def _lowest(likelihood: LearnedLikelihood, signals: FloatArray) -> FloatArray:
    """Find the minimum of the observed NLL between a signal strength of zero and one, ``(N,)``."""
    grid = np.linspace(0.0, 1.0, _STRENGTHS)
    values = np.stack([_observed(likelihood, signals, np.full(len(signals), mu)) for mu in grid])
    # NaN at a signal strength hides no minimum elsewhere; a point with nothing else stays NaN.
    filled = np.where(np.isfinite(values), values, np.inf)
    best = np.argmin(filled, axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _STRENGTHS - 1)]
    lowest = np.min(filled, axis=0, initial=np.inf)
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        pair = _observed(likelihood, signals, left), _observed(likelihood, signals, right)
        lowest = np.fmin(lowest, np.fmin(*pair))
        down = pair[0] <= pair[1]
        low, high = np.where(down, low, left), np.where(down, right, high)
    return np.where(np.isfinite(lowest), lowest, np.nan)


def _observed(likelihood: LearnedLikelihood, signals: FloatArray, mu: FloatArray) -> FloatArray:
    """Compute the observed NLL at a signal strength of each signal, ``(N,)``."""
    pieces = [
        likelihood.nlls(mu[first : first + _ROWS, None] * signals[first : first + _ROWS])[_OBSERVED]
        for first in range(0, len(signals), _ROWS)
    ]
    return np.concatenate([np.zeros(0), *pieces])
