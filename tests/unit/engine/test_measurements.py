"""Questions to a workspace: another parameter of interest, none, fixed ones, one event."""

from __future__ import annotations

import copy

import numpy as np
import pyhf
import pytest

import palletfit
from palletfit.core.text import did_you_mean
from palletfit.engine.measurements import NONE, Question, ask
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch

from .. import models

KINDS = ("normfactor", "normsys", "histosys", "staterror")


@pytest.fixture
def complete() -> dict:
    return models.full(*KINDS)


def by_pyhf(spec: dict, poi: str | None = None, **fixed: float) -> tuple:
    """The lowest NLL that pyhf finds, with its parameters by name."""
    spec = copy.deepcopy(spec)
    if poi is not None:
        spec["measurements"][0]["config"]["poi"] = poi
    model, data = models.model_and_data(spec)
    init, mask = model.config.suggested_init(), model.config.suggested_fixed()
    for name, value in fixed.items():
        index = model.config.par_names.index(name)
        init[index], mask[index] = value, True
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    point, value = pyhf.infer.mle.fit(
        data, model, init_pars=init, fixed_params=mask, return_fitted_val=True
    )
    return float(value), dict(zip(model.config.par_names, map(float, point), strict=True))


def test_the_usual_question_changes_nothing(complete: dict) -> None:
    prepared = ask(complete, None, Question())
    assert prepared.workspace is complete
    assert (prepared.poi, prepared.remarks) == (models.POI, ())
    background, patch = models.background(), Patch("signal", (), models.patch("s", ())["patch"])
    assert ask(background, None, Question(), [patch]).workspace is background


def test_another_parameter_of_interest_is_that_of_pyhf(complete: dict) -> None:
    complete["channels"][1]["samples"].append(models.sample("rest", [20.0, 15.0]))
    complete["measurements"][0]["config"]["parameters"] = [
        {"name": "norm", "inits": [1.0], "bounds": [[0.0, 5.0]]}
    ]
    test = palletfit.hypotest(complete, poi="norm", mu=1.2).only
    complete["measurements"][0]["config"]["poi"] = "norm"
    model, data = models.model_and_data(complete)
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    observed, expected = pyhf.infer.hypotest(1.2, data, model, return_expected_set=True)
    assert test.p_values.CLs_obs == pytest.approx(float(observed), abs=1e-5)
    np.testing.assert_allclose(test.p_values.CLs_exp, np.array(expected), atol=1e-5)


@pytest.mark.parametrize("fixed", [{"shape": 0.7}, {"norm": 1.1, "scale": -0.4}])
def test_fixed_parameters_are_fixed(complete: dict, fixed: dict) -> None:
    best = palletfit.fit(complete, fix=fixed)
    value, parameters = by_pyhf(complete, **fixed)
    assert {name: best.parameters[name] for name in fixed} == fixed
    assert all(best.errors[name] == 0.0 for name in fixed)
    assert best.twice_nll == pytest.approx(value, abs=1e-5)
    assert best.parameters == pytest.approx(parameters, abs=2e-3)


def test_a_parameter_is_fixed_where_it_was_suggested(complete: dict) -> None:
    complete["measurements"][0]["config"]["parameters"] = [{"name": "norm", "inits": [1.3]}]
    assert palletfit.fit(complete, fix={"norm": None}).parameters["norm"] == 1.3


def test_all_components_of_a_parameter_are_fixed(complete: dict) -> None:
    best = palletfit.fit(complete, fix={"statistics": 1.1})
    assert [best.parameters[f"statistics[{number}]"] for number in (0, 1)] == [1.1, 1.1]


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_a_fit_without_a_parameter_of_interest(engine: str) -> None:
    spec = models.background(*KINDS)
    best = palletfit.fit(spec, poi="", engine=engine)
    value, parameters = by_pyhf(spec, "")
    assert best.twice_nll == pytest.approx(value, abs=1e-5)
    assert best.parameters == pytest.approx(parameters, abs=2e-3)
    assert NONE not in best.errors
    assert best.covariance.shape == (len(parameters), len(parameters))
    spec["measurements"][0]["config"]["poi"] = ""  # the workspace asks for none itself
    assert palletfit.fit(spec, engine=engine).twice_nll == pytest.approx(value, abs=1e-5)


def test_patches_of_a_question_without_a_parameter_of_interest() -> None:
    background = models.background(*KINDS)
    remove = [{"op": "remove", "path": "/channels/0"}]
    best = palletfit.fits(background, remove, poi="").only
    assert "statistics[0]" not in best.parameters
    added = palletfit.fits(background, models.patch("signal", ())["patch"], poi="").only
    assert added.parameters[models.POI] > 0


def test_a_signal_of_one_event_is_that_of_a_user() -> None:
    background = models.background(*KINDS)
    limits = palletfit.upper_limit(background, signal_in="SR:2")
    spec = copy.deepcopy(background)
    spec["channels"][0]["samples"].append(models.signal([0.0, 1.0]))
    spec["measurements"][0]["config"]["parameters"] = [
        {"name": models.POI, "inits": [1.0], "bounds": [[0.0, 1000.0]]}
    ]
    by_hand = palletfit.upper_limit(spec)
    assert limits.observed.mu == pytest.approx(by_hand.observed.mu, rel=2e-4)
    assert limits.mu_max > 5 * limits.observed.mu
    assert limits.remarks == ()


def test_a_signal_of_yields_is_that_of_a_patch() -> None:
    background = models.background(*KINDS)
    uncertainties = {"theory": 0.2}
    ours = palletfit.hypotest(
        background, signal={"SR": [1.0, 2.5]}, uncertainties=uncertainties
    ).only
    sample = models.signal([1.0, 2.5])
    sample["modifiers"] = [
        {"name": models.POI, "type": "normfactor", "data": None},
        {"name": "theory", "type": "normsys", "data": {"lo": 0.8, "hi": 1.2}},
    ]
    operations = [{"op": "add", "path": "/channels/0/samples/-", "value": sample}]
    by_patch = palletfit.hypotest(background, operations).only
    assert ours.p_values.CLs_obs == pytest.approx(by_patch.p_values.CLs_obs, rel=1e-9)
    assert ours.p_values.CLs_exp == pytest.approx(by_patch.p_values.CLs_exp, rel=1e-9)
    assert ours.status == "ok"
    limit = palletfit.upper_limit(background, signal={"SR": [1.0, 2.5]})
    assert limit.observed.mu > 0


def test_an_uncertainty_of_a_name_of_the_background_is_correlated() -> None:
    background = models.background("normsys")
    name = background["channels"][0]["samples"][0]["modifiers"][0]["name"]
    ours = palletfit.hypotest(
        background, signal={"SR": [8.0, 14.0]}, uncertainties={name: 0.2}
    ).only
    sample = models.signal([8.0, 14.0])
    shared = {"name": name, "type": "normsys", "data": {"lo": 0.8, "hi": 1.2}}
    sample["modifiers"] = [sample["modifiers"][0], shared]
    operations = [{"op": "add", "path": "/channels/0/samples/-", "value": sample}]
    by_patch = palletfit.hypotest(background, operations).only
    assert ours.p_values.CLs_obs == pytest.approx(by_patch.p_values.CLs_obs, rel=1e-9)
    apart = palletfit.hypotest(
        background, signal={"SR": [8.0, 14.0]}, uncertainties={"theory": 0.2}
    ).only
    assert abs(apart.p_values.CLs_obs - ours.p_values.CLs_obs) > 1e-6


def test_a_discovery_does_not_depend_on_the_size_of_the_signal() -> None:
    background = models.background("normsys", observed=(70.0, 60.0))
    values = [
        palletfit.hypotest(
            background, signal={"SR": [0.8 * size, 1.4 * size]}, test_statistic="q0"
        ).only.p_values.CLs_obs
        for size in (0.01, 1.0, 10.0)
    ]
    assert values == pytest.approx([values[1]] * 3, rel=1e-5)


def test_the_signal_of_the_workspace_is_off_beside_yields(complete: dict) -> None:
    result = palletfit.hypotest(complete, signal={"SR": [1.0, 2.5]}).only
    alone = palletfit.hypotest(models.background(*KINDS), signal={"SR": [1.0, 2.5]}).only
    assert result.p_values.CLs_obs == pytest.approx(alone.p_values.CLs_obs, abs=1e-6)
    assert "'mu_SIG' is fixed at 0" in result.remarks[0]


def test_a_channel_of_one_bin_and_a_taken_name() -> None:
    spec = models.background()
    for part in (*spec["channels"], *spec["observations"]):
        if part["name"] == "SR":
            for holder in part.get("samples", [part]):
                holder["data"] = holder["data"][:1]
    spec["channels"][0]["samples"][0]["name"] = "signal"
    prepared = ask(spec, None, Question(signal={"SR": 2.0}, poi="strength"))
    added = prepared.workspace["channels"][0]["samples"][-1]
    assert (added["name"], added["data"], prepared.poi) == ("signal_", [2.0], "strength")


def test_a_signal_without_a_bin_is_spread_and_says_so() -> None:
    prepared = ask(models.background(), None, Question(signal_in="CR"))
    (sample,) = prepared.workspace["channels"][1]["samples"][1:]
    assert sample["data"] == [0.5, 0.5]
    assert prepared.poi == "events_CR"
    assert "spread evenly over the 2 bins" in prepared.remarks[0]


def test_the_signal_of_the_workspace_is_off_beside_that_of_one_event(complete: dict) -> None:
    limits = palletfit.upper_limits(complete, signal_in="SR:2").only
    alone = palletfit.upper_limit(models.background(*KINDS), signal_in="SR:2")
    assert limits.observed.mu == pytest.approx(alone.observed.mu, rel=2e-4)
    assert "'mu_SIG' is fixed at 0" in limits.remarks[0]


def test_a_channel_whose_name_has_a_colon() -> None:
    spec = models.background()
    for part in (spec["channels"][0], spec["observations"][0]):
        part["name"] = "SR:1"
    assert ask(spec, None, Question(signal_in="SR:1")).poi == "events_SR:1"
    assert ask(spec, None, Question(signal_in="SR:1:2")).poi == "events_SR:1_bin2"


@pytest.mark.parametrize(
    ("question", "problem", "remedy"),
    [
        ({"measurement": "fitt"}, "no measurement 'fitt'", "Did you mean 'fit'"),
        ({"poi": "Norm"}, "no parameter 'Norm'", "Did you mean 'norm'"),
        ({"poi": "shape"}, "'shape' is no normfactor", "normfactors are 'mu_SIG', 'norm'"),
        ({"poi": ""}, "needs a parameter of interest", "need none"),
        ({"fix": {"shap": 1.0}}, "no parameter 'shap'", "Did you mean 'shape'"),
        ({"fix": {"mu_SIG": 1.0}}, "'mu_SIG' cannot be fixed", "with `mu`"),
        ({"fix": {"shape": 9.0}}, r"fixes 'shape' at \[9\], outside", ""),
        ({"signal_in": "S"}, "no channel 'S'", "It has 'CR', 'SR'"),
        ({"signal_in": "SR:3"}, "no bin 3", "its last one is 2"),
        ({"signal_in": "SR:0"}, "no bin 0", "counted from 1"),
        ({"signal_in": "SR", "poi": "norm"}, "of its own, and not 'norm'", "Leave out"),
        ({"signal": {"S": 1.0}}, "no channel 'S'", "It has 'CR', 'SR'"),
        ({"signal": {"SR": 1.0}}, "1 yields in the channel 'SR', which has 2", "each bin"),
        ({"signal": {"SR": [1.0, -0.1]}}, "yield of -0.1", "zero or above"),
        ({"signal": {"SR": [1.0, float("nan")]}}, "yield of nan", "finite"),
        ({"signal": {"SR": [0.0, 0.0]}}, "no events", "that have some"),
        ({"signal": {"SR": [1.0, 1.0]}, "poi": "norm"}, "cannot be 'norm'", "does not have"),
        ({"signal": {"SR": [1.0, 1.0]}, "poi": ""}, "A signal has a parameter", "leave it out"),
        ({"signal": {"SR": [1.0, 1.0]}, "signal_in": "SR"}, "only one", "Leave out"),
        ({"uncertainties": {"theory": 0.2}}, "there is none", "Give the yields"),
        (
            {"signal_in": "SR:1", "uncertainties": {"theory": 0.2}},
            "there is none",
            "Give the yields",
        ),
        ({"signal": [1.0, 2.0]}, "`signal` is no mapping", "dictionary"),
        ({"signal": {"SR": "34"}}, "no numbers", "each bin"),
        (
            {"signal": {"SR": [1.0, 1.0]}, "uncertainties": {"theory": 1.5}},
            "'theory' of the signal is 1.5",
            "0.1 is 10%",
        ),
        (
            {"signal": {"SR": [1.0, 1.0]}, "uncertainties": {"norm": 0.1}},
            "no systematic uncertainty",
            "another name",
        ),
    ],
)
def test_a_question_without_an_answer(
    complete: dict, question: dict, problem: str, remedy: str
) -> None:
    with pytest.raises(PalletError, match=problem) as error:
        _ = palletfit.hypotest(complete, **question).only
    assert remedy in error.value.remedy
    assert error.value.patch is None


def test_a_workspace_without_a_signal_says_what_can_be_asked() -> None:
    with pytest.raises(PalletError, match="workspace has no signal") as error:
        palletfit.hypotest(models.background("normfactor"))
    assert "The normfactors are 'norm'" in error.value.remedy


def test_patches_bring_parameters_that_may_be_fixed() -> None:
    background = models.background()
    patches = models.grid()
    modifier = {"name": "theory", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    patches[2]["patch"][0]["value"]["modifiers"].append(modifier)
    patchset = models.patchset(background, patches)
    tests = palletfit.hypotest(background, patchset, fix={"theory": 0.5})
    assert [row["status"] for row in tests.rows()] == ["ok"] * 3
    with pytest.raises(PalletError, match="no parameter 'teory'") as error:
        palletfit.hypotest(background, patchset, fix={"teory": 0.5})
    assert "Did you mean 'theory'" in error.value.remedy


def test_close_names_are_offered_whatever_their_case() -> None:
    assert did_you_mean("MU_sig", ["mu_SIG"]) == "Did you mean 'mu_SIG'? "
    assert did_you_mean("x", ["mu_SIG"]) == ""
