"""Goodness of fit against cabinetry, and against what toys have to give."""

from __future__ import annotations

import copy
import json
import lzma

import cabinetry
import pyhf
import pytest
from scipy import stats

import palletfit
from palletfit.errors import ConfigError, FitError

from .. import models

ALL = ("normfactor", "normsys", "histosys", "shapesys", "staterror", "lumi")


def cabinetrys(spec: dict, point: dict[str, float]) -> float:
    """cabinetry's p-value, of the given minimum: its own fit ends less sharply."""
    model, data = models.model_and_data(spec)
    pyhf.set_backend("numpy")
    value = -2 * model.logpdf([point[name] for name in model.config.par_names], data)[0]
    return float(cabinetry.fit._goodness_of_fit(model, data, value))


def channels(count: int) -> dict:
    """More bins than parameters."""
    spec = models.full(*ALL)
    for number in range(count):
        name = f"VR{number}"
        spec["channels"].append({"name": name, "samples": [models.sample("bkg", [50.0, 30.0])]})
        spec["observations"].append({"name": name, "data": [55.0 + number, 22.0]})
    return spec


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_it_is_cabinetrys(engine: str) -> None:
    spec = channels(2)
    goodness = palletfit.goodness_of_fit(spec, engine=engine).only
    best = palletfit.fit(spec)
    assert goodness.p_value == pytest.approx(cabinetrys(spec, best.parameters), abs=1e-8)
    assert (goodness.bins, goodness.free, goodness.degrees) == (8, 2, 6)
    assert goodness.p_value == pytest.approx(stats.chi2.sf(goodness.statistic, 6), rel=1e-9)
    assert goodness.engine == engine


@pytest.mark.parametrize("name", ["SUSY-2018-14-comb", "SUSY-2019-09-onshell-simplified"])
def test_it_is_cabinetrys_on_published_workspaces(shared, name: str) -> None:
    path = shared / "workspaces" / f"{name}.json.xz"
    if not path.exists():
        pytest.skip(f"needs {path.name}")
    spec = json.loads(lzma.decompress(path.read_bytes()))
    spec["measurements"][0]["config"]["poi"] = ""
    goodness = palletfit.goodness_of_fit(spec).only
    best = palletfit.fit(spec)
    assert goodness.p_value == pytest.approx(cabinetrys(spec, best.parameters), abs=1e-8)
    model, data = models.model_and_data(spec)
    _, value = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    assert goodness.twice_nll < float(value) + 1e-6


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_a_fixed_parameter_has_no_part(engine: str) -> None:
    """Its constraint term is no disagreement of the data with the model."""
    spec = channels(1)
    fixed = palletfit.goodness_of_fit(spec, fix={"scale": 2.0}, engine=engine).only
    without = copy.deepcopy(spec)
    bkg = without["channels"][0]["samples"][0]
    bkg["modifiers"] = [entry for entry in bkg["modifiers"] if entry["name"] != "scale"]
    nominal = palletfit.goodness_of_fit(spec, fix={"scale": 0.0}, engine=engine).only
    alone = palletfit.goodness_of_fit(without, engine=engine).only
    assert nominal.statistic == pytest.approx(alone.statistic, abs=1e-8)
    assert fixed.degrees == alone.degrees
    rise = palletfit.fit(spec, fix={"scale": 2.0}).twice_nll - palletfit.fit(spec).twice_nll
    free = palletfit.goodness_of_fit(spec).only
    assert rise == pytest.approx(fixed.statistic + 2.0**2 - free.statistic, abs=1e-6)


def test_a_fixed_signal_strength_is_no_free_parameter() -> None:
    spec = channels(1)
    free = palletfit.goodness_of_fit(spec).only
    fixed = palletfit.goodness_of_fit(spec, mu=0.0).only
    assert fixed.degrees == free.degrees + 1
    assert fixed.statistic > free.statistic
    assert (fixed.mu, free.mu > 0) == (0.0, True)


def test_no_degree_of_freedom_has_no_p_value() -> None:
    goodness = palletfit.goodness_of_fit(models.counting()).only
    assert (goodness.degrees, goodness.p_value) == (0, None)
    assert goodness.statistic == pytest.approx(0.0, abs=1e-9)
    assert goodness.as_json()["p_value"] is None
    (remark,) = goodness.remarks  # and none on chi-squared as an approximation
    assert remark.startswith("there is no degree of freedom")


def test_few_events_are_remarked() -> None:
    spec = models.counting(1.0, 2.0, 3.0)
    (remark,) = palletfit.goodness_of_fit(spec, mu=0.0).only.remarks
    assert "1 of 1 bins expect fewer than 5" in remark
    assert palletfit.goodness_of_fit(spec, mu=0.0, count=100).only.remarks == ()


def test_toys_give_the_distribution() -> None:
    """One bin without parameters: the statistic is known for each count."""
    spec = models.counting(0.0, 3.0, 7.0)
    goodness = palletfit.goodness_of_fit(spec, mu=0.0, count=2560).only
    counts = range(60)
    rates = stats.poisson.pmf(counts, 3.0)

    def statistic(count: int) -> float:
        return 2 * (
            stats.poisson.logpmf(count, max(count, 1e-300)) - stats.poisson.logpmf(count, 3)
        )

    exact = sum(rates[count] for count in counts if statistic(count) >= statistic(7) - 1e-9)
    assert goodness.statistic == pytest.approx(statistic(7), abs=1e-8)
    assert goodness.toys.p_value == pytest.approx(exact, abs=4 * goodness.toys.p_value_error)
    assert goodness.toys.failed == 0


def test_toys_of_constrained_parameters_follow_chi_squared() -> None:
    spec = models.background("normsys", "shapesys", observed=[1058.0, 945.0])
    spec["channels"][0]["samples"][0]["data"] = [1000.0, 900.0]
    spec["channels"][0]["samples"][0]["modifiers"][1]["data"] = [30.0, 30.0]
    question = {"poi": "", "fix": {"scale": 0.4}, "seed": 3}
    goodness = palletfit.goodness_of_fit(spec, count=1024, **question).only
    assert goodness.degrees == 4
    assert goodness.toys.p_value == pytest.approx(
        goodness.p_value, abs=4 * goodness.toys.p_value_error
    )
    assert goodness.toys.median == pytest.approx(stats.chi2.median(4), rel=0.1)
    again, same, other = (
        palletfit.goodness_of_fit(spec, count=256, **{**question, "seed": seed}).only.toys
        for seed in (3, 3, 4)
    )
    assert again == same
    assert again.median != other.median


def test_toys_need_the_batched_engine() -> None:
    with pytest.raises(ConfigError, match="makes no toys"):
        palletfit.goodness_of_fit(models.full(), engine="reference", count=10)


def test_a_fit_without_a_minimum_is_an_error() -> None:
    spec = models.counting(10.0, 0.0, 5.0)
    with pytest.raises(FitError, match="no finite minimum"):
        _ = palletfit.goodness_of_fit(spec, mu=0.0).only
