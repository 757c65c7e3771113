"""From four maximum-likelihood values to p-values and CLs.

Source of all formulas: Cowan, Cranmer, Gross, Vitells, "Asymptotic formulae for likelihood-based
tests of new physics", Eur. Phys. J. C 71 (2011) 1554, arXiv:1007.1727 (CCGV below), in the
conventions of pyhf's ``AsymptoticCalculator`` with its default ``calc_base_dist="normal"``.

SciPy is imported where it is called: every process that reads records imports this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TestStatistic = Literal["qtilde", "q", "q0"]

#: The expected values in pyhf's order, in standard deviations of the background-only hypothesis.
N_SIGMA = (-2, -1, 0, 1, 2)


@dataclass(frozen=True)
class PValues:
    """Observed and expected p-values of one hypothesis test.

    Attributes
    ----------
    CLs_obs, CLsb_obs, CLb_obs
        Observed values. For ``q0`` `CLs_obs` is the discovery p-value p0, as pyhf returns it.
    CLs_exp
        Five expected values of CLs (of p0 for ``q0``), for -2, -1, 0, 1, 2 standard deviations.
    q, q_asimov
        The test statistic on the data and on the Asimov data.
    """

    CLs_obs: float
    CLsb_obs: float
    CLb_obs: float
    CLs_exp: tuple[float, ...]
    q: float
    q_asimov: float


def profile_statistic(
    kind: TestStatistic,
    mu: float,
    mu_hat: float,
    twice_nll_fixed: float,
    twice_nll_free: float,
    twice_nll_background: float | None = None,
) -> float:
    """Profile likelihood ratio test statistic.

    ``q`` and ``qtilde`` are zero where the best fit lies above the tested value (CCGV eq. 14 and
    16); ``q0`` is zero where it lies below (CCGV eq. 12). Where the best fit lies below zero
    ``qtilde`` compares with the fit without signal (CCGV eq. 16), and ``q`` with the best fit. pyhf
    0.7.6 compares with the best fit in both.

    Parameters
    ----------
    kind
        Test statistic.
    mu
        Tested value of the parameter of interest.
    mu_hat
        Its value in the free fit.
    twice_nll_fixed, twice_nll_free, twice_nll_background
        Twice the negative log-likelihood at the minimum of the fit with the parameter of interest
        fixed at `mu` (at 0 for ``q0``), of the free fit, and of the fit without signal. The last
        one counts for ``qtilde`` with a negative `mu_hat` only.
    """
    if (kind == "q0" and mu_hat < 0) or (kind != "q0" and mu_hat > mu):
        return 0.0
    lowest = twice_nll_free
    if kind == "qtilde" and mu_hat < 0 and twice_nll_background is not None:
        lowest = twice_nll_background
    return max(twice_nll_fixed - lowest, 0.0)


def p_values(kind: TestStatistic, q: float, q_asimov: float) -> PValues:
    """Asymptotic p-values in the Wald approximation.

    With ``s = sqrt(q)`` and ``a = sqrt(q_asimov)`` the quantity ``t = s - a`` (for ``qtilde``
    above ``s = a``: ``t = (q - q_asimov) / 2a``, CCGV eq. 64-67) follows a unit Gaussian around
    ``-a`` under signal plus background and around 0 under background only.

    A model without any sensitivity has ``a = 0``: both distributions are one, and every CLs is
    1 (pyhf divides by zero there and returns NaN).

    Parameters
    ----------
    kind
        Test statistic.
    q, q_asimov
        Its values on the data and on the Asimov data, both at least zero.
    """
    from scipy.special import ndtr

    root, root_asimov = math.sqrt(q), math.sqrt(q_asimov)
    if kind == "qtilde" and root > root_asimov > 0:
        shifted = (q - q_asimov) / (2 * root_asimov)
    elif root_asimov > 0:
        shifted = root - root_asimov
    else:
        shifted = root if kind == "q0" else 0.0
    clsb, clb = float(ndtr(-shifted - root_asimov)), float(ndtr(-shifted))
    # The n-sigma background outcome has t = n; a large t is signal-like for q0 and
    # background-like for the others, and pyhf orders the five values by n in both cases.
    expected_clsb = [float(ndtr(-n - root_asimov)) for n in reversed(N_SIGMA)]
    if kind == "q0":
        return PValues(clsb, clsb, clb, tuple(expected_clsb), q, q_asimov)
    expected = [_cls(n, root_asimov) for n in reversed(N_SIGMA)]
    return PValues(_cls(shifted, root_asimov), clsb, clb, tuple(expected), q, q_asimov)


@dataclass(frozen=True)
class PValueSlopes:
    """Derivatives of the p-values of a test by its test statistics.

    Attributes
    ----------
    by_q, by_q_asimov
        Derivatives of the observed CLs (of p0 for ``q0``) by q on the data and on the Asimov data.
    expected
        Derivatives of the five expected values by q on the Asimov data.
    """

    by_q: float
    by_q_asimov: float
    expected: tuple[float, ...]


def p_value_slopes(kind: TestStatistic, q: float, q_asimov: float) -> PValueSlopes:
    """Differentiate :func:`p_values`.

    A root of zero counts as constant: q is zero on one side of such a point. Without sensitivity
    there is a kink, and no derivative.

    Parameters
    ----------
    kind, q, q_asimov
        As in :func:`p_values`.

    Examples
    --------
    >>> step = 1e-6
    >>> up, down = (p_values("qtilde", 2.0 + sign * step, 3.0).CLs_obs for sign in (1, -1))
    >>> abs((up - down) / (2 * step) / p_value_slopes("qtilde", 2.0, 3.0).by_q - 1) < 1e-6
    True
    """
    root, root_asimov = math.sqrt(q), math.sqrt(q_asimov)
    by_root = 0.5 / root if root > 0 else 0.0
    if root_asimov == 0:
        by_q = -_density(-root) * by_root if kind == "q0" else math.nan
        return PValueSlopes(by_q, 0.0 if kind == "q0" else math.nan, (math.nan,) * len(N_SIGMA))
    by_asimov = 0.5 / root_asimov
    if kind == "qtilde" and root > root_asimov:
        shifted = (q - q_asimov) / (2 * root_asimov)
        shift, asimov_shift = by_asimov, -by_asimov - shifted * by_asimov / root_asimov
    else:
        shifted, shift, asimov_shift = root - root_asimov, by_root, -by_asimov
    if kind == "q0":
        expected = [-_density(-n - root_asimov) * by_asimov for n in reversed(N_SIGMA)]
        return PValueSlopes(-_density(-root) * by_root, 0.0, tuple(expected))
    signal, background = _hazard(-shifted - root_asimov), _hazard(-shifted)
    cls = _cls(shifted, root_asimov)
    return PValueSlopes(
        cls * (background - signal) * shift,
        cls * ((background - signal) * asimov_shift - signal * by_asimov),
        tuple(
            -_cls(n, root_asimov) * _hazard(-n - root_asimov) * by_asimov for n in reversed(N_SIGMA)
        ),
    )


def _density(value: float) -> float:
    return math.exp(-0.5 * value * value) / math.sqrt(2 * math.pi)


def _hazard(value: float) -> float:
    """Differentiate the logarithm of the cumulative distribution of a unit Gaussian."""
    from scipy.special import log_ndtr

    return math.exp(-0.5 * value * value - float(log_ndtr(value))) / math.sqrt(2 * math.pi)


def survival(
    kind: TestStatistic, q: NDArray[np.float64], q_asimov: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rates of at least as large a test statistic, for the tested hypothesis and the other.

    One minus the cumulative distributions of CCGV eq. 50 (``q0``), 58 (``q``) and 65 (``qtilde``);
    at a positive q these are CLsb and CLb of :func:`p_values`. A part of both distributions is at
    zero, so that they jump there, to one.

    Parameters
    ----------
    kind
        Test statistic.
    q
        Its values, of any shape.
    q_asimov
        Its value on the Asimov data, above zero.
    """
    from scipy.special import ndtr

    root, root_asimov = np.sqrt(np.maximum(q, 0.0)), math.sqrt(q_asimov)
    shifted = root - root_asimov
    if kind == "qtilde":
        beyond = (q - q_asimov) / (2 * root_asimov)
        shifted = np.where(root > root_asimov, beyond, shifted)
    rates = ndtr(-shifted - root_asimov), ndtr(-shifted)
    tested, other = (np.where(q > 0, rate, 1.0) for rate in rates)
    return tested, other


def _cls(shifted: float, root_asimov: float) -> float:
    from scipy.special import log_ndtr

    # By logarithms, because both tails underflow together where q is far above q_asimov; their
    # ratio then tends to exp(-q / 2), which need not be small.
    return math.exp(float(log_ndtr(-shifted - root_asimov)) - float(log_ndtr(-shifted)))
