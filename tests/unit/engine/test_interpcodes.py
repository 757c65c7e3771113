"""Interpolation codes against pyhf's, and their derivatives against differences."""

from __future__ import annotations

import numpy as np
import pyhf
import pytest

from palletfit.engine.interpcodes import KINKED, scale, scale_coefficients, shift
from palletfit.engine.reference.modifiers import Code2
from palletfit.engine.samples import TINY

SHIFTS = ("code0", "code2", "code4p")
SCALES = ("code1", "code4")
ALPHAS = np.array([-5.0, -2.5, -1.2, -1.0, -0.999, -0.3, 0.0, 0.4, 1.0, 1.001, 3.0, 5.0])
RNG = np.random.default_rng(20240607)
COUNT = 6  # parameters
NOMINAL = RNG.uniform(-5.0, 60.0, COUNT)
HIGH = NOMINAL + RNG.uniform(-10.0, 10.0, COUNT)
LOW = NOMINAL + RNG.uniform(-10.0, 10.0, COUNT)
HI = np.array([1.1, 0.7, 1.0, 1.6, 1.02, 0.9])
LO = np.array([0.9, 1.2, 1.0, 0.5, 1.03, 0.4])


def of_pyhf(code, low, nominal, high):
    """pyhf's interpolated values, (alphas, parameters)."""
    histograms = np.stack([low, nominal, high], axis=1)[:, None, :, None]
    interpolator = getattr(pyhf.interpolators, code)(histograms.tolist(), subscribe=False)
    return np.asarray(interpolator(np.tile(ALPHAS, (COUNT, 1))))[:, 0, :, 0].T


def shifts(code, alpha, side=None):
    """Value and two derivatives of the shift of each parameter's one bin."""
    side = np.where(alpha < 0, -1.0, 1.0) if side is None else side
    moved = shift(code, alpha, side, np)
    odd, even = (HIGH - LOW) / 2, (HIGH + LOW) / 2 - NOMINAL
    return (
        odd * moved.odd + even * moved.even,
        odd * moved.odd_slope + even * moved.even_slope,
        even * moved.even_curvature,
    )


def terms(hi, lo, *, shared):
    """Tables of factors, each ``(parameters, rows)``."""
    coefficients, log_hi, log_lo = scale_coefficients(hi, lo)
    tables = {"coefficients": coefficients, "log_hi": log_hi, "log_lo": log_lo}
    if shared:
        ones = np.ones_like(log_hi)[None]
        tables["polynomials"] = np.moveaxis(np.concatenate([ones, coefficients]), 1, 0)
    return tables


def scales(code, alpha, side=None, *, eager=True, shared=False):
    """Factor and its two derivatives, each ``(lanes, parameters, 2)``.

    There are two rows: factors of the parameters, and their inverse.
    """
    side = np.where(alpha < 0, -1.0, 1.0) if side is None else side
    hi, lo = np.stack([HI, 1 / HI], axis=1), np.stack([LO, 1 / LO], axis=1)
    tables = terms(hi, lo, shared=shared)
    if not shared:
        tables = {name: np.stack([values] * len(alpha)) for name, values in tables.items()}
    return scale(code, alpha, side, tables, np, eager=eager)


def everywhere(alphas=ALPHAS):
    """All parameters at the same value, lane by lane."""
    return np.repeat(np.asarray(alphas)[:, None], COUNT, axis=1)


@pytest.mark.parametrize("code", SHIFTS)
def test_shifts_are_those_of_pyhf(code):
    # Beyond |alpha| = 1 pyhf's code2 lacks a constant.
    rows = np.abs(ALPHAS) <= 1 if code == "code2" else slice(None)
    expected = of_pyhf(code, LOW, NOMINAL, HIGH)[rows]
    values = shifts(code, everywhere())[0][rows]
    np.testing.assert_allclose(values, expected, rtol=1e-13, atol=1e-12)


def test_code2_goes_on_as_a_straight_line():
    # Cranmer et al., CERN-OPEN-2012-016, eq. 10, and ROOT's PiecewiseInterpolation.
    a, b = (HIGH + LOW) / 2 - NOMINAL, (HIGH - LOW) / 2
    expected = {
        alpha: (b + 2 * a) * (alpha - 1) + HIGH - NOMINAL
        if alpha > 1
        else (b - 2 * a) * (alpha + 1) + LOW - NOMINAL
        for alpha in (-5.0, -1.001, 1.001, 3.0)
    }
    values = shifts("code2", everywhere(list(expected)))[0]
    np.testing.assert_allclose(values, list(expected.values()), rtol=1e-12, atol=1e-12)


def test_the_reference_engine_has_the_same_code2():
    histograms = np.stack([LOW, NOMINAL, HIGH], axis=1)[:, None, :, None]
    interpolator = Code2(histograms.tolist(), subscribe=False)
    values = np.asarray(interpolator(np.tile(ALPHAS, (COUNT, 1))))[:, 0, :, 0].T
    np.testing.assert_allclose(values, shifts("code2", everywhere())[0], rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("code", SCALES)
def test_scales_are_those_of_pyhf(code, eager, shared):
    scale_values = scales(code, everywhere(), eager=eager, shared=shared)[0]
    one = np.ones(COUNT)
    np.testing.assert_allclose(scale_values[..., 0], of_pyhf(code, LO, one, HI), rtol=1e-12)
    np.testing.assert_allclose(scale_values[..., 1], of_pyhf(code, 1 / LO, one, 1 / HI), rtol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("code", SCALES)
def test_both_ways_to_scale_agree(code, shared):
    alpha = np.random.default_rng(1).normal(0.0, 1.5, (50, COUNT))
    ways = [scales(code, alpha, eager=eager, shared=shared) for eager in (True, False)]
    for one, other in zip(*ways, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


@pytest.mark.parametrize(
    ("code", "function"), [*((c, shifts) for c in SHIFTS), *((c, scales) for c in SCALES)]
)
def test_derivatives_against_differences(code, function):
    step = 1e-5
    at = everywhere([-4.0, -1.7, -0.8, -0.2, 0.1, 0.6, 0.97, 1.3, 4.5])
    _, slope, curvature = function(code, at)
    above, below = function(code, at + step), function(code, at - step)
    np.testing.assert_allclose(slope, (above[0] - below[0]) / (2 * step), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(curvature, (above[1] - below[1]) / (2 * step), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("code", "function"), [*((c, shifts) for c in SHIFTS), *((c, scales) for c in SCALES)]
)
def test_the_side_decides_at_zero(code, function):
    zero, step = everywhere([0.0]), 1e-7
    slopes = []
    for side in (-1.0, 1.0):
        value, slope, _ = function(code, zero, np.full_like(zero, side))
        moved = function(code, zero + side * step)[0]
        np.testing.assert_allclose(slope, (moved - value) / (side * step), rtol=1e-5, atol=1e-4)
        slopes.append(slope)
    # Only where a code says so the slope depends on the side.
    assert np.allclose(*slopes) == (code not in KINKED)


def test_codes_are_smooth_where_they_change():
    # The second derivative of code2 jumps.
    for code, function, orders in (
        ("code4p", shifts, 3),
        ("code4", scales, 3),
        ("code2", shifts, 2),
    ):
        for edge in (-1.0, 1.0):
            inside = function(code, everywhere([edge * (1 - 1e-12)]))
            outside = function(code, everywhere([edge * (1 + 1e-12)]))
            for one, other in zip(inside[:orders], outside[:orders], strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_a_factor_of_zero_is_the_limit_of_small_ones(eager, shared):
    alpha = np.linspace(-4.0, 4.0, 33)[:, None] * np.ones(COUNT)
    ways = []
    for smallest in (TINY, 1e-14):
        tables = terms(HI[:, None], np.full((COUNT, 1), smallest), shared=shared)
        if not shared:
            tables = {name: np.stack([values] * len(alpha)) for name, values in tables.items()}
        side = np.where(alpha < 0, -1.0, 1.0)
        ways.append(scale("code4", alpha, side, tables, np, eager=eager))
    for limit, small in zip(*ways, strict=True):
        assert np.isfinite(limit).all()
        np.testing.assert_allclose(limit, small, atol=1e-9)


@pytest.mark.parametrize("code", SCALES)
def test_a_modifier_of_no_effect(code):
    alpha = np.linspace(-5.0, 5.0, 21)[:, None] * np.ones(COUNT)
    value, slope, curvature = scales(code, alpha)
    neutral = 2  # hi and lo are one
    np.testing.assert_allclose(value[:, neutral], 1.0, atol=1e-13)
    np.testing.assert_allclose(slope[:, neutral], 0.0, atol=1e-12)
    np.testing.assert_allclose(curvature[:, neutral], 0.0, atol=1e-11)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("code", SCALES)
def test_without_parameters(code, eager):
    none = np.zeros((3, 0))
    empty = np.zeros((0, 2))
    tables = {
        "coefficients": np.zeros((6, 0, 2)),
        "log_hi": empty,
        "log_lo": empty,
        "polynomials": np.zeros((0, 7, 2)),
    }
    for values in scale(code, none, none, tables, np, eager=eager):
        assert values.shape == (3, 0, 2)
