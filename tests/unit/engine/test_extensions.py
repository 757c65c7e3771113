"""Interpolation codes of single modifiers, and constraints that a measurement sets."""

from __future__ import annotations

import copy
import math

import numpy as np
import pyhf
import pytest
from scipy.stats import norm

import palletfit
from palletfit.config import FitSettings
from palletfit.engine.reference.hypotests import build_model
from palletfit.errors import PalletError
from palletfit.pallet.extensions import extensions, without_extensions
from palletfit.pallet.schema import violation

from .. import models
from .likelihoods import Model

ADDITIVE = ("code0", "code2", "code4p")


def with_codes(spec, **codes):
    """A workspace whose modifiers of some types name their interpolation."""
    spec = copy.deepcopy(spec)
    for channel in spec["channels"]:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                if modifier["type"] in codes:
                    modifier["interpolation"] = codes[modifier["type"]]
    return spec


def with_setting(spec, **setting):
    spec = copy.deepcopy(spec)
    spec["measurements"][0]["config"]["parameters"].append(setting)
    return spec


def points(model, seed=3, count=4):
    """Random points, some beyond one standard deviation."""
    rng = np.random.default_rng(seed)
    init = model.lowered.init[0]
    for _ in range(count):
        yield init + rng.normal(size=init.shape) * np.where(init == 0, 1.3, 0.1)


def shift(code, alpha):
    """Even part of an additive interpolation, written from HistFactory's formulas."""
    if code == "code0":
        return abs(alpha)
    if code == "code2":
        return alpha**2 if abs(alpha) < 1 else 2 * abs(alpha) - 1
    return (3 * alpha**6 - 10 * alpha**4 + 15 * alpha**2) / 8 if abs(alpha) < 1 else abs(alpha)


# --------------------------------------------------------------------------- interpolation


@pytest.mark.parametrize("normsys", ["code1", "code4"])
@pytest.mark.parametrize("histosys", ADDITIVE)
def test_codes_of_modifiers_count_like_those_of_the_settings(normsys, histosys):
    plain = models.full("normsys", "histosys", "staterror")
    named = Model(with_codes(plain, normsys=normsys, histosys=histosys))
    by_settings = Model(plain, FitSettings(normsys=normsys, histosys=histosys))
    for point in points(named):
        one, other = named.derivatives(point), by_settings.derivatives(point)
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def mixed(*names):
    """A sample with normsys and histosys modifiers of all codes, or those with some names."""
    nominal = [60.0, 40.0]
    modifiers = [
        {
            "name": f"n_{code}",
            "type": "normsys",
            "data": {"hi": 1.2, "lo": 0.9},
            "interpolation": code,
        }
        for code in ("code1", "code4", *ADDITIVE)
    ] + [
        {
            "name": f"h_{code}",
            "type": "histosys",
            "data": {"hi_data": [64.0, 47.0], "lo_data": [58.0, 31.0]},
            "interpolation": code,
        }
        for code in ADDITIVE
    ]
    chosen = [modifier for modifier in modifiers if not names or modifier["name"] in names]
    spec = models.full()
    spec["channels"][0]["samples"][0] = models.sample("bkg", nominal, *chosen)
    return spec


def test_codes_may_differ_between_parameters():
    model = Model(mixed())
    rng = np.random.default_rng(5)
    names = [name for name in model.names if name[:2] in ("n_", "h_")]
    for _ in range(6):
        alphas = dict(zip(names, rng.normal(scale=1.2, size=len(names)), strict=True))
        factor = 1.2 ** alphas["n_code1"] if alphas["n_code1"] > 0 else 0.9 ** -alphas["n_code1"]
        code4 = pyhf.interpolators.code4([[[[0.9], [1.0], [1.2]]]])
        factor *= float(code4(np.array([[alphas["n_code4"]]])).ravel()[0])
        rate = np.array([60.0, 40.0])
        for code in ADDITIVE:
            alpha = alphas[f"n_{code}"]
            factor *= 1.0 + 0.15 * alpha + 0.05 * shift(code, alpha)
            alpha = alphas[f"h_{code}"]
            rate += np.array([3.0, 8.0]) * alpha + np.array([1.0, -1.0]) * shift(code, alpha)
        expected = factor * rate + np.array([8.0, 14.0])
        rates = model.derivatives(model.point(alphas)).rates[0]
        ordered = np.empty_like(rates)
        ordered[model.lowered.layout.bin_order] = rates
        np.testing.assert_allclose(ordered[2:], expected, rtol=1e-12)  # after CR


def test_derivatives_with_codes_that_differ():
    model = Model(mixed())
    step = 1e-5
    for point in points(model, count=3):
        exact = model.derivatives(point)
        for column in np.flatnonzero(model.lowered.present[0]):
            moved = [point + sign * step * np.eye(len(point))[column] for sign in (1, -1)]
            up, down = (model.derivatives(at) for at in moved)
            slope = (up.value[0] - down.value[0]) / (2 * step)
            assert exact.gradient[0, column] == pytest.approx(slope, rel=1e-5, abs=1e-5)
            row = (up.gradient[0] - down.gradient[0]) / (2 * step)
            np.testing.assert_allclose(exact.hessian[0, column], row, rtol=2e-4, atol=2e-4)


def test_codes_that_differ_are_fitted_with_kinks_and_toys():
    spec = mixed("n_code1", "n_code4", "h_code0")
    best = palletfit.fit(spec)
    model = Model(spec)
    assert best.twice_nll == pytest.approx(2 * model.nll(best.parameters), abs=1e-8)
    signal = spec["channels"][0]["samples"].pop()
    patch = {
        "metadata": {"name": "signal", "values": [1, 1]},
        "patch": [{"op": "add", "path": "/channels/0/samples/-", "value": signal}],
    }
    patchset = models.patchset(spec, [patch])
    toys = palletfit.toys(spec, patchset, count=5)["signal"]
    assert 0.0 <= toys.CLs_obs <= 1.0


@pytest.mark.parametrize(
    ("code", "problem"),
    [("code3", "no interpolation code 'code3'"), (4, "no interpolation code 4")],
)
def test_an_unknown_code_is_refused(code, problem):
    spec = with_codes(models.full("histosys"), histosys=code)
    with pytest.raises(PalletError, match=problem):
        palletfit.fit(spec)


def test_two_codes_of_one_parameter_are_refused():
    spec = models.full("normsys")
    other = {**models.MODIFIERS["normsys"], "interpolation": "code1"}
    spec["channels"][1]["samples"][0]["modifiers"].append(other)
    with pytest.raises(PalletError, match="the interpolation code1 in one sample and code4"):
        palletfit.fit(spec)


def test_a_patch_cannot_change_the_code_of_a_parameter():
    background = with_codes(models.background("normsys"), normsys="code1")
    patch = models.patch("one", [1, 1])
    patch["patch"][0]["value"]["modifiers"].append(models.MODIFIERS["normsys"])
    with pytest.raises(PalletError, match="has the interpolation code4, where its parameter has"):
        palletfit.fit(background, patch)


# --------------------------------------------------------------------------- constraints


def test_a_staterror_with_poisson_constraint():
    plain = models.full("staterror")
    poisson = Model(with_setting(plain, name="statistics", constraint="Poisson"))
    gauss = Model(plain)
    widths = np.array([3.0 / 60.0, 4.0 / 40.0])
    for gammas in ([1.0, 1.0], [1.03, 0.9], [0.8, 1.3]):
        values = {f"statistics[{number}]": gamma for number, gamma in enumerate(gammas)}
        tau = widths**-2.0
        log_poisson = [
            count * math.log(count * gamma) - count * gamma - math.lgamma(count + 1)
            for count, gamma in zip(tau, gammas, strict=True)
        ]
        change = norm.logpdf(gammas, 1.0, widths).sum() - sum(log_poisson)
        assert poisson.nll(values) - gauss.nll(values) == pytest.approx(change, abs=1e-10)


def test_widths_of_a_poisson_staterror_follow_the_signal():
    statistics = {**models.MODIFIERS["staterror"], "data": [1.0, 2.0]}
    background = with_setting(
        models.background("staterror"), name="statistics", constraint="Poisson"
    )
    patch = models.patch("one", [1, 1])
    patch["patch"][0]["value"]["modifiers"].append(statistics)
    best = palletfit.fit(background, patch)
    full = copy.deepcopy(background)
    full["channels"][0]["samples"].append(patch["patch"][0]["value"])
    model = Model(full)
    assert model.setting("statistics[0]", "factor") == pytest.approx(68.0**2 / 10.0)
    assert best.twice_nll == pytest.approx(2 * model.nll(best.parameters), abs=1e-8)


@pytest.mark.parametrize(
    ("kind", "name", "settings", "centre", "width"),
    [
        ("normsys", "scale", {"auxdata": [0.3], "sigmas": [0.7]}, 0.3, 0.7),
        ("normfactor", "norm", {"auxdata": [1.1], "sigmas": [0.2]}, 1.1, 0.2),
        ("normfactor", "norm", {"sigmas": [0.2]}, 1.0, 0.2),
    ],
)
def test_a_gaussian_of_any_width(kind, name, settings, centre, width):
    spec = models.full(kind)
    free = Model(with_setting(spec, name=name, constraint="none"))
    bound = Model(with_setting(spec, name=name, constraint="Gauss", **settings))
    for value in (0.6, 1.0, 1.7):
        change = bound.nll({name: value}) - free.nll({name: value})
        assert change == pytest.approx(-norm.logpdf(value, centre, width), abs=1e-10)


def test_components_have_constraints_of_their_own():
    spec = models.full("shapefactor")
    free = Model(spec)
    setting = {
        "constraint": ["Gauss", "none"],
        "auxdata": [1.0, 1.0],
        "sigmas": [0.1, 1.0],
        "fixed": [False, True],
    }
    bound = Model(with_setting(spec, name="free", **setting))
    assert list(bound.lowered.fixed[0][bound.lowered.layout.alphas + 1 :]) == [False, True]
    change = bound.nll({"free[0]": 1.2}) - free.nll({"free[0]": 1.2})
    assert change == pytest.approx(-norm.logpdf(1.2, 1.0, 0.1), abs=1e-10)
    assert palletfit.fit(with_setting(spec, name="free", **setting)).parameters["free[1]"] == 1.0


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"constraint": "Cauchy"}, "'constraint' of 'scale' is not one of"),
        ({"constraint": ["Gauss", "Gauss"]}, "'constraint' of 'scale' is not one of"),
        ({"constraint": "Gauss", "sigmas": [0.0]}, "not above zero"),
        ({"constraint": "Gauss"}, "does not set 'sigmas' of 'scale'"),
        ({"constraint": "Poisson", "factors": [-2.0]}, "not above zero"),
        ({"constraint": "Gauss", "sigma": [1.0]}, r"sets \['sigma'\] of 'scale'"),
        ({"fixed": [True, False]}, "'fixed' of 'scale' is neither"),
    ],
)
def test_wrong_constraints_are_refused(setting, problem):
    spec = with_setting(models.full("normsys"), name="scale", **setting)
    with pytest.raises(PalletError, match=problem):
        palletfit.fit(spec)


# --------------------------------------------------------------------------- pyhf


def test_pyhf_gets_codes_that_are_those_of_the_settings():
    spec = with_codes(models.full("normsys", "histosys"), normsys="code1", histosys="code0")
    model, _ = build_model(spec, FitSettings(normsys="code1", histosys="code0"))
    assert model.config.npars == 3
    with pytest.raises(PalletError, match="the normsys 'scale' has the interpolation 'code1'"):
        build_model(spec, FitSettings())


@pytest.mark.parametrize(
    "setting",
    [{"constraint": "Poisson"}, {"fixed": [True, False]}],
)
def test_the_reference_engine_refuses_additions(setting):
    spec = with_setting(models.full("staterror"), name="statistics", **setting)
    with pytest.raises(PalletError, match="pyhf cannot make a model of the workspace: the measu"):
        build_model(spec, FitSettings())


def test_without_additions_a_workspace_is_one_of_pyhf():
    plain = models.full("normsys", "staterror")
    assert without_extensions(plain) is plain
    spec = with_codes(plain, normsys="code1")
    spec = with_setting(spec, name="statistics", constraint="Poisson", fixed=[True, False])
    assert len(list(extensions(spec))) == 3
    stripped = without_extensions(spec)
    assert violation(spec, "workspace.json") is not None
    assert violation(stripped, "workspace.json") is None
    assert list(extensions(stripped)) == []


@pytest.mark.parametrize("spec", [None, [], {"channels": 3}, {"measurements": [{"config": None}]}])
def test_content_that_is_no_workspace_is_ignored(spec):
    assert without_extensions(spec) is spec
