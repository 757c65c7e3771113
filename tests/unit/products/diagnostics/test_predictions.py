"""Yields of all channels at a fit of chosen ones, against cabinetry."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import cabinetry
import numpy as np
import pyhf
import pytest
from cabinetry import model_utils
from cabinetry.fit.results_containers import FitResults

import palletfit
from palletfit.engine.records import BestFit
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.files import read_pallet_json
from palletfit.products.diagnostics.yield_tables import YieldTables

from ... import models

KINDS = ("normfactor", "normsys", "histosys", "staterror", "lumi")

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")


def control_regions() -> models.Spec:
    """Two control regions that measure two backgrounds, and a signal region with both."""
    norms = [{"name": f"norm_{name}", "type": "normfactor", "data": None} for name in "ab"]
    scale, lumi = models.MODIFIERS["normsys"], models.MODIFIERS["lumi"]
    statistics = {"name": "stat_SR", "type": "staterror", "data": [1.0, 0.9]}
    other = {"name": "only_SR", "type": "normsys", "data": {"hi": 1.3, "lo": 0.8}}
    return models.workspace(
        {
            "CR_a": [
                models.sample("a", [200.0, 100.0], norms[0], scale),
                models.sample("b", [20.0, 10.0], norms[1]),
            ],
            "CR_b": [
                models.sample("a", [15.0], norms[0]),
                models.sample("b", [90.0], norms[1], scale),
            ],
            "SR": [
                models.sample("a", [6.0, 4.0], norms[0], scale, statistics, other),
                models.sample("b", [5.0, 3.0], norms[1], lumi, statistics),
                models.signal([4.0, 8.0]),
            ],
        },
        {"CR_a": [231.0, 108.0], "CR_b": [98.0], "SR": [14.0, 9.0]},
        [models.LUMI],
    )


def by_cabinetry(spec: models.Spec, channels: list[str], best: BestFit | None = None) -> Any:
    """Full model, its prediction after a fit of chosen channels, and the fit.

    Parameters
    ----------
    best
        Fit of palletfit that counts; None: cabinetry fits itself.
    """
    pyhf.set_backend("numpy")
    names = [channel["name"] for channel in spec["channels"]]
    pruned = pyhf.Workspace(spec).prune(channels=[name for name in names if name not in channels])
    pruned["measurements"][0]["config"]["poi"] = ""
    model, data = model_utils.model_and_data(pruned)
    if best is None:
        fit = cabinetry.fit.fit(model, data, tolerance=1e-3)
    else:
        order = [list(best.parameters).index(name) for name in model.config.par_names]
        errors = np.array(list(best.errors.values()))
        inverse = np.where(errors > 0, 1 / np.where(errors > 0, errors, 1.0), 0.0)
        correlation = best.covariance * np.outer(inverse, inverse)
        fit = FitResults(
            np.array(list(best.parameters.values()))[order],
            errors[order],
            model.config.par_names,
            correlation[np.ix_(order, order)],
            best.twice_nll,
        )
    full, _ = model_utils.model_and_data(spec)
    matched = model_utils.match_fit_results(full, fit)
    return full, model_utils.prediction(full, fit_results=matched), fit


def assert_same(tables: YieldTables, model: Any, predicted: Any, when: str, rtol: float) -> None:
    """Compare yields and their uncertainties, of bins and their sums, of samples and theirs."""
    assert [channel.name for channel in tables.channels] == model.config.channels
    for number, channel in enumerate(tables.channels):
        prediction = getattr(channel, when)
        bins = predicted.total_stdev_model_bins[number]
        totals = predicted.total_stdev_model_channels[number]
        total = np.sum(predicted.model_yields[number], axis=0)
        np.testing.assert_allclose(prediction.model.values, total, rtol=rtol)
        np.testing.assert_allclose(prediction.model.errors, bins[-1], rtol=rtol)
        assert prediction.model.total_error == pytest.approx(totals[-1], rel=rtol)
        for position, name in enumerate(model.config.samples):
            if name in prediction.samples:
                sample, yields = prediction.samples[name], predicted.model_yields[number][position]
                scale = 1e-12 * max(total)
                np.testing.assert_allclose(sample.values, yields, rtol=rtol, atol=scale)
                np.testing.assert_allclose(sample.errors, bins[position], rtol=rtol, atol=scale)


def test_control_regions_predict_what_cabinetry_does() -> None:
    spec = control_regions()
    tables = palletfit.yields(spec, channels=["CR_*"]).only
    best = palletfit.fit(spec, channels=["CR_*"])
    model, predicted, _ = by_cabinetry(spec, ["CR_a", "CR_b"], best)
    assert_same(tables, model, predicted, "postfit", 1e-9)
    assert_same(tables, model, model_utils.prediction(model), "prefit", 1e-9)
    model, predicted, fit = by_cabinetry(spec, ["CR_a", "CR_b"])
    # Minuit's errors are numerical, and those of its bounded parameters somewhat smaller.
    assert_same(tables, model, predicted, "postfit", 1e-2)
    assert tables.twice_nll == pytest.approx(float(fit.best_twice_nll), abs=1e-5)
    assert (tables.fitted, tables.mu) == (("CR_a", "CR_b"), 1.0)
    assert "not in the fit, predicted with mu_SIG = 1" in tables.remarks
    _, data = model_utils.model_and_data(spec)
    table = cabinetry.tabulate.yields(
        predicted, data, per_bin=False, per_channel=True, save_tables=False
    )
    totals = next(row for row in table["yields_per_channel"] if row["sample"] == "total")
    for channel in tables.channels:
        value, _, error = totals[channel.name].split()
        assert channel.postfit.model.total == pytest.approx(float(value), abs=0.02)
        assert channel.postfit.model.total_error == pytest.approx(float(error), abs=0.05)


def test_a_published_likelihood_predicts_what_cabinetry_does(shared: Path) -> None:
    spec = read_pallet_json(shared / "workspaces" / "SUSY-2019-09-onshell.json.xz")
    # Two of its signal regions: pyhf's model of all takes long.
    control = [f"WZ_CR_{name}_cuts" for name in ("0jets", "LowHT", "HighHT")]
    names = [*control, "SR1_WZ_cuts", "SR20_WZ_cuts"]
    others = [entry["name"] for entry in spec["channels"] if entry["name"] not in names]
    spec = pyhf.Workspace(spec).prune(channels=others)
    spec["measurements"][0]["config"]["poi"] = ""
    tables = palletfit.yields(spec, channels=["*_CR_*"]).only
    best = palletfit.fit(spec, channels=["*_CR_*"])
    model, predicted, _ = by_cabinetry(spec, control, best)
    assert_same(tables, model, predicted, "postfit", 1e-8)
    assert tables.channel("SR20_WZ_cuts").postfit.model.total_error > 0


def test_masked_bins_are_predicted_with_their_own_parameters() -> None:
    spec = control_regions()
    tables = palletfit.yields(spec, mask={"SR": [0], "CR_a": [1]}, mu=0.0).only
    masked = tables.channel("SR")
    best = palletfit.fit(spec, mask={"SR": [0], "CR_a": [1]}, mu=0.0)
    # The component that is left belongs to the second bin.
    assert {name for name in best.parameters if "stat" in name} == {"stat_SR[0]"}
    model, _ = model_utils.model_and_data(spec)
    point = np.array(model.config.suggested_init())
    for name, value in best.parameters.items():
        point[model.config.par_names.index(name.replace("stat_SR[0]", "stat_SR[1]"))] = value
    expected = model.expected_data(point, include_auxdata=False)
    np.testing.assert_allclose(masked.postfit.model.values, expected[-2:], rtol=1e-9)
    states = [row["state"] for row in tables.rows(per_bin=True) if row["kind"] == "total"]
    assert states == ["fitted", "masked", "fitted", "masked", "fitted"]
    assert (tables.mu, tables.mu_prefit) == (0.0, 0.0)
    assert masked.postfit.samples["signal"].total == 0.0


def test_all_channels_give_what_diagnostics_do() -> None:
    spec = models.full(*KINDS)
    tables = palletfit.yields(spec).only
    diagnostics = palletfit.diagnose(spec, impacts=False).only
    for ours, theirs in zip(tables.channels, diagnostics.channels, strict=True):
        assert ours.data == theirs.data
        assert ours.prefit == theirs.prefit
        assert ours.postfit.model.values == pytest.approx(theirs.postfit.model.values, rel=1e-6)
        assert ours.postfit.model.errors == pytest.approx(theirs.postfit.model.errors, rel=1e-6)
    assert tables.mu == pytest.approx(diagnostics.mu_hat, abs=1e-6)
    assert tables.signals == diagnostics.signals == ("signal",)


# --------------------------------------------------------------------------- systematics


def test_systematics_are_the_effects_of_parameters() -> None:
    spec = control_regions()
    tables = palletfit.yields(spec, poi="", groups={"both": ["scale", "only_*"]}).only
    by_name = {entry.parameter: entry for entry in tables.largest("SR", "a")}
    # Code 4 is between the factors: half of their difference, with 12% up and 9% down.
    other, scale = (1.3 - 0.8) / 2, (1.12 - 0.91) / 2
    assert by_name["both"].prefit == pytest.approx(math.hypot(other, scale), rel=1e-9)
    assert by_name["norm_a"].prefit == 0.0
    # Both samples share the statistical uncertainty of the sum, bin by bin.
    errors = 6 * math.sqrt(2) * 1.0 / 11, 4 * math.sqrt(2) * 0.9 / 7
    assert by_name["stat_SR"].prefit == pytest.approx(math.hypot(*errors) / 10, rel=1e-9)
    assert {"lumi"} == {entry.parameter for entry in tables.largest("SR", "b")} - {
        *by_name,
        "norm_b",
    }
    # All parameters together are the total, correlations and all.
    whole = palletfit.yields(spec, poi="", groups={"all": "*"}).only
    for channel in whole.channels:
        (entry,) = whole.largest(channel.name)
        model = channel.postfit.model
        assert entry.postfit == pytest.approx(model.total_error / model.total, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"groups": {"JES": ["JES*"]}}, "fits no parameter"),
        ({"groups": {"JES": [1]}}, "names or shell patterns of parameters"),
        ({"groups": ["JES"]}, "patterns by the name of a group"),
        ({"channels": ["X"]}, "No channel has the name 'X'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(PalletError, match=problem):
        _ = palletfit.yields(models.counting(), **arguments).only


def test_a_group_with_the_name_of_another_parameter_is_refused() -> None:
    spec = models.full("normsys", "staterror")
    with pytest.raises(PalletError, match="'scale' has the name of a parameter"):
        _ = palletfit.yields(spec, groups={"scale": ["statistics"]}).only
    both = palletfit.yields(spec, groups={"scale": ["statistics", "scale"]}).only
    assert {"scale"} < {entry.parameter for entry in both.systematics}


def test_a_value_of_no_parameter_is_refused() -> None:
    with pytest.raises(ConfigError, match="could be fixed at 1"):
        palletfit.yields(models.background(*KINDS), poi="", mu=1.0)
    with pytest.raises(ConfigError, match="batched"):
        palletfit.yields(models.counting(), engine="reference")


# --------------------------------------------------------------------------- patches


def test_yields_of_patches() -> None:
    background = models.background(*KINDS)
    patchset = models.patchset(background, models.grid(2))
    results = palletfit.yields(background, patchset, channels=["CR"], blind=["SR"])
    alone = palletfit.yields(models.full(*KINDS), channels=["CR"], blind=["SR"]).only
    assert [*results] == ["signal_100_50", "signal_200_50"]
    tables = results["signal_100_50"]
    ours, theirs = tables.channel("SR"), alone.channel("SR")
    assert ours.postfit.model.values == pytest.approx(theirs.postfit.model.values, rel=1e-8)
    assert tables.blinded == ("SR",)
    assert all(map(math.isnan, ours.data))
    assert tables.as_json()["channels"][1]["data"] == [None, None]
    other = copy.deepcopy(background)
    other["observations"][0]["data"] = [1.0, 2.0]
    again = palletfit.yields(other, patchset, check=False, channels=["CR"], blind=["SR"])
    assert again["signal_100_50"].as_json() == tables.as_json()
