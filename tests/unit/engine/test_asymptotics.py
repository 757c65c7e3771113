"""p-values against pyhf's own asymptotic calculator."""

from __future__ import annotations

import itertools
import math
from unittest.mock import patch

import numpy as np
import pyhf
import pytest
from pyhf.infer.calculators import AsymptoticCalculator

from palletfit.engine.asymptotics import p_values, profile_statistic, survival

# q below, at and above qA, from no sensitivity worth the name to far beyond discovery.
PAIRS = list(itertools.product((0.0, 1e-6, 0.3, 1.0, 2.5, 9.0, 40.0), (1e-6, 0.2, 1.0, 4.0, 30.0)))


def calculated(kind: str, q: float, q_asimov: float):
    """pyhf's p-values of two values of the test statistic."""
    model = pyhf.simplemodels.uncorrelated_background([5.0], [50.0], [7.0])
    calculator = AsymptoticCalculator([50.0, *model.config.auxdata], model, test_stat=kind)
    pars = model.config.suggested_init()
    values = iter([q, q_asimov])

    def statistic(*_: object, **__: object):
        return np.asarray(next(values)), (pars, pars)

    with (
        patch("pyhf.infer.utils.get_test_stat", return_value=statistic),
        patch.object(
            pyhf.infer.calculators, "generate_asimov_data", return_value=([1.0, 1.0], pars)
        ),
    ):
        observed = calculator.teststatistic(1.0)
        distributions = calculator.distributions(1.0)
    return (
        calculator.pvalues(observed, *distributions),
        calculator.expected_pvalues(*distributions),
    )


@pytest.mark.parametrize("kind", ["qtilde", "q", "q0"])
@pytest.mark.parametrize(("q", "q_asimov"), PAIRS)
def test_agrees_with_pyhf(kind, q, q_asimov):
    with np.errstate(invalid="ignore"):
        (clsb, clb, cls), (clsb_exp, _, cls_exp) = calculated(kind, q, q_asimov)
    result = p_values(kind, q, q_asimov)
    np.testing.assert_allclose(result.CLsb_obs, clsb, rtol=1e-10)
    np.testing.assert_allclose(result.CLb_obs, clb, rtol=1e-10)
    if kind == "q0":
        assert result.CLs_obs == result.CLsb_obs
    elif clb > 0:
        np.testing.assert_allclose(result.CLs_obs, cls, rtol=1e-10)
    else:  # pyhf: NaN
        np.testing.assert_allclose(result.CLs_obs, math.exp(-q / 2), rtol=2e-2)
    expected = clsb_exp if kind == "q0" else cls_exp
    np.testing.assert_allclose(result.CLs_exp, np.ravel(expected), rtol=1e-10)
    assert (result.q, result.q_asimov) == (q, q_asimov)


def test_qtilde_is_continuous_where_its_formula_changes():
    below, above = p_values("qtilde", 4.0 - 1e-9, 4.0), p_values("qtilde", 4.0 + 1e-9, 4.0)
    assert below.CLs_obs == pytest.approx(above.CLs_obs, abs=1e-8)


@pytest.mark.parametrize("kind", ["qtilde", "q"])
@pytest.mark.parametrize("q", [0.0, 1e-12, 3.0])
def test_no_sensitivity_excludes_nothing(kind, q):
    result = p_values(kind, q, 0.0)
    assert result.CLs_obs == 1.0
    assert result.CLs_exp == (1.0,) * 5


def test_no_sensitivity_is_where_pyhf_gives_nan():
    with np.errstate(all="ignore"):
        (_, _, cls), _ = calculated("qtilde", 1e-12, 0.0)
    assert np.isnan(cls)


def test_discovery_without_sensitivity_keeps_the_observed_p_value():
    # With qA = 0 the expected outcomes are those of the background-only hypothesis.
    result = p_values("q0", 4.0, 0.0)
    assert result.CLs_obs == pytest.approx(0.0227501, rel=1e-5)
    assert result.CLs_exp[2] == 0.5


@pytest.mark.parametrize(
    ("q", "q_asimov", "expected"),
    [
        (0.3, 1e-6, math.exp(-0.15)),  # both tails are zero in double precision
        (1e5, 9.0, 0.0),
    ],
)
def test_cls_has_its_limit_where_both_tails_underflow(q, q_asimov, expected):
    result = p_values("qtilde", q, q_asimov)
    assert result.CLb_obs == 0.0
    assert result.CLs_obs == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "mu_hat", "expected"),
    [
        ("qtilde", 0.4, 3.0),
        ("qtilde", 1.0, 3.0),
        ("qtilde", 1.1, 0.0),  # the best fit lies above the tested value
        ("q", 1.1, 0.0),
        ("q", -0.4, 3.0),
        ("q0", 1.1, 3.0),
        ("q0", 0.0, 3.0),
        ("q0", -0.1, 0.0),  # a deficit is no discovery
    ],
)
def test_one_sided_statistics(kind, mu_hat, expected):
    assert profile_statistic(kind, 1.0, mu_hat, 13.0, 10.0) == expected


@pytest.mark.parametrize("kind", ["qtilde", "q", "q0"])
@pytest.mark.parametrize("q_asimov", [0.2, 1.0, 30.0])
def test_distributions_are_those_of_the_p_values(kind, q_asimov):
    q = np.array([0.0, 1e-6, 0.3, 1.0, 2.5, 9.0, 40.0])
    tested, other = survival(kind, q, q_asimov)
    assert (tested[0], other[0]) == (1.0, 1.0)
    for at, *rates in zip(q[1:], tested[1:], other[1:], strict=True):
        result = p_values(kind, at, q_asimov)
        assert rates == pytest.approx([result.CLsb_obs, result.CLb_obs], rel=1e-12)
    # What is at zero: half of the tested hypothesis' toys have a best fit on the wrong side.
    assert tested[1] == pytest.approx(0.5, abs=1e-3)
    assert np.all(np.diff(other) < 0)


def test_the_statistic_is_never_negative():
    assert profile_statistic("qtilde", 1.0, 0.5, 10.0, 10.0 + 1e-9) == 0.0
