"""Derivatives by yields, against central differences of fits that are made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palletfit
from palletfit.config import FitSettings
from palletfit.engine.asymptotics import p_value_slopes, p_values
from palletfit.engine.many_mu import Profile
from palletfit.engine.records import HypotestResult
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.patches import Patch

from ...likelihoods import read_likelihood
from .. import models
from .differences import Differences, numbers

#: Relative precision of derivatives, and derivatives that count as zero.
_PRECISION, _ZERO = 1e-5, 1e-8


def _modifiers(channel: str, events: list[float]) -> list[Any]:
    """Give modifiers of all kinds but shapesys, which is no signal's."""
    up, down = ([factor * count for count in events] for factor in (1.2, 0.93))
    return [
        {"name": "scale", "type": "normsys", "data": {"hi": 1.13, "lo": 0.9}},
        {"name": "jes", "type": "histosys", "data": {"hi_data": up, "lo_data": down}},
        {"name": "lumi", "type": "lumi", "data": None},
        {
            "name": f"stat_{channel}",
            "type": "staterror",
            "data": [0.1 * count for count in events],
        },
    ]


def workspace(
    observed: tuple[float, ...] = (27.0, 14.0, 9.0), bounds: tuple[float, float] = (-5.0, 10.0)
) -> Any:
    """Make a background with modifiers of all kinds."""

    def samples(channel: str, events: list[float]) -> list[Any]:
        norm = {"name": "norm", "type": "normfactor", "data": None}
        shape = {"name": "shape", "type": "shapesys", "data": [0.3 * count for count in events]}
        minor = [0.2 * count for count in events]
        shapes = {"name": "fake", "type": "shapefactor", "data": None}
        further = [shape] if channel == "SR" else [shapes] if channel == "VR" else []
        return [
            models.sample("bkg", events, norm, *_modifiers(channel, events)),
            models.sample("minor", minor, *_modifiers(channel, minor), *further),
        ]

    channels = {"CR": [200.0, 120.0], "SR": [30.0, 12.0, 4.0], "VR": [10.0]}
    counts = {"CR": [205.0, 115.0], "SR": list(observed), "VR": [14.0]}
    made = models.workspace({name: samples(name, data) for name, data in channels.items()}, counts)
    config = made["measurements"][0]["config"]
    lumi = {"auxdata": [1.0], "sigmas": [0.02], "bounds": [[0.5, 1.5]], "inits": [1.0]}
    config["parameters"] = [
        {"name": "lumi", **lumi},
        {"name": config["poi"], "bounds": [list(bounds)], "inits": [1.0]},
    ]
    return made


def signal(size: float = 1.0) -> Patch:
    operations = []
    for position, (name, events) in enumerate({"CR": [0.4, 1.0], "SR": [1.2, 4.0, 6.0]}.items()):
        yields = [size * count for count in events]
        value = models.signal(yields, *_modifiers(name, yields))
        operations.append({"op": "add", "path": f"/channels/{position}/samples/-", "value": value})
    return Patch("signal", (), operations)


def assert_exact(differences: Differences, *, relative: bool = False, most: int = 99) -> None:
    """Compare the derivatives of all samples with differences.

    Yields of zero in bins without data are at a kink. Without sensitivity
    CLs is, too, and mu-hat is anywhere.
    """
    blind = any("no sensitivity" in remark for remark in differences.derivatives.remarks)
    data = {entry["name"]: entry["data"] for entry in differences.spec["observations"]}
    samples = [
        (channel, sample, slopes)
        for channel, of_channel in differences.derivatives.channels.items()
        for sample, slopes in of_channel.items()
    ]
    assert samples
    for channel, sample, slopes in samples[:most]:
        expected = differences.by_yields(channel, sample, relative=relative)
        smooth = (slopes.yields != 0) | (np.array(data[channel]) != 0)
        first = 9 if blind else 0  # only NLLs depend on nothing but minima
        np.testing.assert_allclose(
            numbers(slopes)[first:, smooth],
            expected[first:, smooth],
            rtol=_PRECISION,
            atol=_ZERO,
            err_msg=f"{channel} {sample}",
        )


@pytest.mark.parametrize(
    "uncertainties", ["absolute", pytest.param("relative", marks=pytest.mark.study)]
)
def test_all_samples_and_modifiers(uncertainties: str) -> None:
    wanted = {"samples": ["*"], "uncertainties": uncertainties}
    differences = Differences(workspace(), signal(), derivatives=wanted)
    channels = differences.derivatives.channels
    assert {name: [*samples] for name, samples in channels.items()} == {
        "CR": ["bkg", "minor", "signal"],
        "SR": ["bkg", "minor", "signal"],
        "VR": ["bkg", "minor"],
    }
    assert_exact(differences, relative=uncertainties == "relative")


def test_uncertainties_that_scale_with_the_yields() -> None:
    wanted = {"samples": ["minor"], "uncertainties": "relative"}
    assert_exact(Differences(workspace(), signal(), derivatives=wanted), relative=True, most=1)


@pytest.mark.parametrize(
    ("statistic", "observed", "bounds", "regime"),
    [
        ("qtilde", (33.0, 18.0, 13.0), (0.0, 10.0), "lies beyond"),  # mu-hat is above one
        ("qtilde", (18.0, 5.0, 0.0), (-5.0, 10.0), ""),  # mu-hat is below zero, q above q_asimov
        ("qtilde", (18.0, 5.0, 0.0), (0.0, 10.0), "at a bound"),
        pytest.param("q", (18.0, 5.0, 0.0), (-5.0, 10.0), "", marks=pytest.mark.study),
        ("q0", (33.0, 18.0, 9.0), (-5.0, 10.0), ""),
        pytest.param("q0", (18.0, 5.0, 1.0), (-5.0, 10.0), "lies beyond", marks=pytest.mark.study),
    ],
)
def test_regimes(
    statistic: str, observed: tuple[float, ...], bounds: tuple[float, float], regime: str
) -> None:
    made = workspace(observed, bounds)
    differences = Differences(made, signal(), derivatives=True, test_statistic=statistic)
    remarks = "; ".join(differences.derivatives.remarks)
    assert regime in remarks
    assert bool(regime) == bool(remarks)
    assert_exact(differences)


def test_settings_of_the_measurement_do_not_follow_yields() -> None:
    made = workspace()
    made["measurements"][0]["config"]["parameters"] += [
        {"name": "stat_SR", "sigmas": [0.1, 0.1, 0.1]},
        {"name": "shape", "auxdata": [0.5, 0.4, 0.45]},
    ]
    wanted = {"samples": ["minor"]}
    assert_exact(Differences(made, signal(), derivatives=wanted), most=2)


SMALL = models.background("normsys", "staterror")
PATCH = Patch("small", (), models.patch("small", [1.0])["patch"])


def test_limits_follow_yields() -> None:
    made, patch = SMALL, PATCH
    limits = palletfit.upper_limits(made, patch.operations, tolerance=1e-6, derivatives=True).only
    ((channel, samples),) = limits.derivatives.channels.items()
    slopes = samples["small"]
    for kind, limit in (("observed", limits.observed), ("expected", limits.expected[3])):
        steps = [limit.mu * factor for factor in (1.0, 1.001, 0.999)]
        at, above, below = (Differences(made, patch, mu=mu, derivatives=True) for mu in steps)
        tested = at.derivatives.channels[channel]["small"]
        cls = [
            entry.result.p_values.CLs_obs
            if kind == "observed"
            else entry.result.p_values.CLs_exp[3]
            for entry in (above, below)
        ]
        by_mu = (cls[0] - cls[1]) / (steps[1] - steps[2])
        by_yields = tested.CLs_obs if kind == "observed" else tested.CLs_exp[3]
        limit_slopes = slopes.observed if kind == "observed" else slopes.expected[3]
        np.testing.assert_allclose(limit_slopes, -by_yields / by_mu, rtol=1e-5)


def test_limits_without_derivative_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    differentiate = Profile.derivatives

    def unconverged(*arguments: Any) -> Any:
        derivatives, slopes = differentiate(*arguments)
        return derivatives, dict(list(slopes.items())[1:])

    monkeypatch.setattr(Profile, "derivatives", unconverged)
    made = models.background("normsys")
    limits = palletfit.upper_limits(made, PATCH.operations, derivatives=True).only
    assert limits.derivatives.remarks == (
        "the obs limit has no derivative: a fit has not converged",
    )


def test_signal_without_effect_has_no_derivative_of_cls() -> None:
    patch = models.patch("none", [1.0], events=[0.0, 0.0])["patch"]
    result = palletfit.hypotest(SMALL, patch, derivatives=True).only
    ((channel, samples),) = result.derivatives.channels.items()
    assert np.isnan(samples["none"].CLs_obs).all()
    assert np.isfinite(samples["none"].twice_nll["fixed"]).all()
    assert "no sensitivity" in result.derivatives.remarks[0]
    plain = result.as_json()["derivatives"]["channels"]
    assert plain[channel]["none"]["CLs_obs"] == [None] * 2


def test_results_are_the_same_without_derivatives() -> None:
    plain = palletfit.hypotest(SMALL, PATCH.operations).only
    with_derivatives = palletfit.hypotest(SMALL, PATCH.operations, derivatives=True).only
    assert "derivatives" not in plain.as_json()
    assert "derivatives" not in FitSettings().model_dump()
    assert abs(plain.p_values.CLs_obs - with_derivatives.p_values.CLs_obs) < 1e-9
    table = with_derivatives.derivatives.to_dataframe()
    assert table.columns[:4].tolist() == ["channel", "sample", "bin", "yields"]
    assert len(table) == 2


def test_unknown_samples_are_refused() -> None:
    results = palletfit.hypotest(SMALL, PATCH.operations, derivatives={"samples": ["smal"]})
    with pytest.raises(PalletError, match="'smal'") as error:
        _ = results.only
    assert "Did you mean 'small'?" in error.value.remedy


def test_the_reference_engine_has_none() -> None:
    with pytest.raises(ConfigError, match="derivatives need engine batched"):
        palletfit.hypotest(workspace(), derivatives=True, engine="reference")


@pytest.mark.parametrize("kind", ["qtilde", "q", "q0"])
@pytest.mark.parametrize(("q", "q_asimov"), [(0.0, 2.0), (1.0, 2.0), (5.0, 2.0), (900.0, 700.0)])
def test_p_values_follow_test_statistics(kind: Any, q: float, q_asimov: float) -> None:
    step = 1e-5

    def values(*point: float) -> np.ndarray:
        result = p_values(kind, *point)
        return np.array([result.CLs_obs, *result.CLs_exp])

    slope = p_value_slopes(kind, q, q_asimov)
    by_asimov = (values(q, q_asimov + step) - values(q, q_asimov - step)) / (2 * step)
    np.testing.assert_allclose([slope.by_q_asimov, *slope.expected], by_asimov, rtol=1e-6)
    if q > 0:
        by_q = (values(q + step, q_asimov) - values(q - step, q_asimov)) / (2 * step)
        np.testing.assert_allclose(slope.by_q, by_q[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("analysis", "region", "name", "most"),
    [
        ("staus", "combined", "", 1),
        pytest.param("1Lbb", "1Lbb", "C1N2_Wh_hbb_700_150", 3, marks=pytest.mark.study),
        pytest.param("sbottom", "RegionC", "", 9, marks=pytest.mark.study),
    ],
)
def test_published_likelihoods(
    shared: Path, tmp_path: Path, analysis: str, region: str, name: str, most: int
) -> None:
    made, patches = read_likelihood(shared, tmp_path, analysis, region)
    patch = next(patch for patch in patches if name in (patch.name, ""))
    assert_exact(Differences(made, patch, derivatives=True), most=most)


@pytest.mark.study
@pytest.mark.usefixtures("_points_at_random")
@pytest.mark.parametrize("number", range(12))
def test_random_likelihoods(load: Any, number: int) -> None:
    made, patches = load("random_likelihoods").random_likelihood(number)
    wanted = {"samples": ["*"]}
    differences = Differences(made, Patch("random", (), patches[0]), derivatives=wanted)
    assert isinstance(differences.result, HypotestResult)
    assert_exact(differences)
