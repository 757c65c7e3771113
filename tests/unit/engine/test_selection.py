"""Chosen regions of patches, and blinded data."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import palletfit
from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.measurements import Question, ask
from palletfit.engine.selection import select
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch, apply

from .. import models

KINDS = ("normfactor", "normsys", "staterror")


@pytest.fixture
def complete() -> models.Spec:
    return models.full(*KINDS)


def patches(*kinds: str) -> tuple[models.Spec, list[models.Spec]]:
    """A background, and a patchset that adds signals, changes a sample and removes a channel."""
    background = models.background(*kinds)
    entries = models.grid(2)
    change = {"op": "replace", "path": "/channels/0/samples/0/data/1", "value": 41.0}
    entries[1]["patch"] += [change, {"op": "remove", "path": "/channels/1"}]
    return background, entries


def replaced(spec: models.Spec, data: FloatArray) -> models.Spec:
    """Replace the observations of SR and CR by expected ones in pyhf's order: CR, SR."""
    spec = copy.deepcopy(spec)
    by_name = {"CR": list(map(float, data[:2])), "SR": list(map(float, data[2:]))}
    spec["observations"] = [{"name": name, "data": by_name[name]} for name in ("SR", "CR")]
    return spec


# --------------------------------------------------------------------------- regions of patches


def test_regions_of_patches_are_those_of_full_workspaces() -> None:
    background, entries = patches(*KINDS)
    patchset = models.patchset(background, entries)
    fits = palletfit.fits(background, patchset, mask={"SR": [0]}, channels=["SR", "C?"])
    for entry in entries:
        name = entry["metadata"]["name"]
        spec = apply(background, Patch(name, (), entry["patch"]))
        assert fits[name].twice_nll == pytest.approx(
            palletfit.fit(spec, mask={"SR": [0]}).twice_nll, abs=1e-9
        )
    assert fits.values_of["signal_100_50"] == (100, 50)


def test_a_fit_of_channels_without_signal_has_no_parameter_of_interest() -> None:
    background, entries = patches(*KINDS)
    patchset = models.patchset(background, entries)
    fits = palletfit.fits(background, patchset, channels=["CR"])
    names = [entry["metadata"]["name"] for entry in entries]
    assert [*fits] == names[:1]
    assert [*fits[names[0]].parameters] == ["norm"]
    assert "None of the chosen channels" in fits.errors[names[1]].problem
    tests = palletfit.hypotest(background, patchset, channels=["CR"])
    assert "carries the parameter of interest" in tests.errors[names[0]].problem
    complete = models.full(*KINDS)
    assert [*palletfit.fit(complete, channels=["CR"], mu=0.0).parameters] == ["norm"]
    assert palletfit.pulls(complete, channels=["CR"]).only.poi == ""
    with pytest.raises(PalletError, match="carries the parameter of interest"):
        palletfit.upper_limit(complete, channels=["CR"])


# --------------------------------------------------------------------------- Asimov data


@pytest.mark.parametrize("mu", [0, 1.5])
def test_asimov_data_are_those_of_pyhf(complete: models.Spec, mu: float) -> None:
    best = palletfit.fit(complete, asimov=mu)
    model, _ = models.model_and_data(complete)
    init = np.array(model.config.suggested_init())
    init[model.config.poi_index] = mu
    expected = model.expected_data(init)
    by_hand = palletfit.fit(replaced(complete, expected[:4]))
    assert best.twice_nll == pytest.approx(by_hand.twice_nll, abs=1e-9)
    expected = dict(zip(model.config.par_names, init, strict=True))
    assert best.parameters == pytest.approx(expected, abs=1e-6)
    assert f"with mu_SIG = {mu:g}" in best.remarks[0]


def test_asimov_data_of_the_background_are_at_its_median(complete: models.Spec) -> None:
    test = palletfit.hypotest(complete, asimov=0).only
    assert test.p_values.CLs_obs == pytest.approx(test.p_values.CLs_exp[2], abs=1e-9)
    goodness = palletfit.goodness_of_fit(complete, asimov=1.0).only
    assert goodness.statistic == pytest.approx(0.0, abs=1e-9)


def test_asimov_data_outside_of_the_bounds_are_remarked(complete: models.Spec) -> None:
    remarks = palletfit.fit(complete, asimov=20.0).remarks
    assert any("within its bounds 0 to 10" in remark for remark in remarks)
    assert not any("bounds" in remark for remark in palletfit.fit(complete, asimov=1.0).remarks)


def test_blinded_channels_expect_what_the_others_do(complete: models.Spec) -> None:
    test = palletfit.hypotest(complete, blind=["S*"], asimov=1.0).only
    control = palletfit.fit(complete, channels=["CR"])
    model, data = models.model_and_data(complete)
    point = np.array(model.config.suggested_init())
    point[model.config.poi_index] = 1.0
    point[model.config.par_names.index("norm")] = control.parameters["norm"]
    expected = model.expected_data(point, include_auxdata=False)
    hybrid = np.concatenate([data[:2], expected[2:]])
    by_hand = palletfit.hypotest(replaced(complete, hybrid)).only
    assert test.p_values.CLs_obs == pytest.approx(by_hand.p_values.CLs_obs, abs=1e-8)
    assert test.remarks[0].startswith("blinded channels: 'SR'; their data")


@pytest.mark.parametrize(
    ("call", "question"),
    [("goodness_of_fit", {"asimov": 0.5}), ("pulls", {"blind": ["SR"]}), ("fits", {"asimov": 0})],
)
def test_blinded_observations_are_not_read(call: str, question: dict[str, Any]) -> None:
    background, entries = patches(*KINDS)
    entries = entries[:1]
    function = getattr(palletfit, call)
    rows = [
        function(spec, entries[0]["patch"], check=False, **question).rows()[0]
        for spec in (background, {**background, "observations": _other(background)})
    ]
    assert rows[0] == rows[1]
    assert "blinded" in rows[0]["remark"]


def _other(background: models.Spec) -> list[models.Spec]:
    """Observations that differ in the signal region; they are not even numbers of events."""
    return [
        {**entry, "data": [1000.0, float("nan")]} if entry["name"] == "SR" else entry
        for entry in background["observations"]
    ]


def test_data_of_each_patch_are_those_of_its_model() -> None:
    background, entries = patches(*KINDS)
    patchset = models.patchset(background, entries)
    names = [entry["metadata"]["name"] for entry in entries]
    specs = [apply(background, Patch("", (), entry["patch"])) for entry in entries]
    fits = palletfit.fits(background, patchset, asimov=1.0)
    for name, spec in zip(names, specs, strict=True):
        alone = palletfit.fit(spec, asimov=1.0)
        assert fits[name].twice_nll == pytest.approx(alone.twice_nll, abs=1e-9)
    blinded = palletfit.fits(background, patchset, blind=["SR"])
    alone = palletfit.fit(specs[0], blind=["SR"])
    assert blinded[names[0]].twice_nll == pytest.approx(alone.twice_nll, abs=1e-9)
    # The second patch has no control region, to which blinded data could be fitted.
    assert "None of the chosen channels" in blinded.errors[names[1]].problem


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ({"asimov": float("nan")}, "signal strength of Asimov data"),
        ({"asimov": True}, "signal strength of Asimov data"),
        ({"asimov": "1"}, "signal strength of Asimov data"),
        ({"asimov": -20.0}, "fewer than zero events are expected"),
        ({"asimov": 1.0, "poi": ""}, "no parameter of interest that could be 1"),
        ({"blind": ["SX"]}, "No channel has the name 'SX'"),
        ({"blind": "*"}, "All chosen channels are blinded"),
        ({"blind": "CR", "channels": "CR"}, "All chosen channels are blinded"),
    ],
)
def test_bad_questions_are_refused(
    complete: models.Spec, question: dict[str, Any], problem: str
) -> None:
    with pytest.raises(PalletError, match=problem):
        palletfit.fit(complete, **question)


def test_settings_of_no_region_change_nothing(complete: models.Spec) -> None:
    prepared = ask(complete, None, Question())
    selection = select(prepared, Question(), None, FitSettings(), needs_poi=True)
    assert selection.fitted.workspace is complete
    assert selection.fitted is selection.predicted
    assert (selection.remarks, selection.refused) == ((), {})
