"""Diagnostics on models whose answers are known in closed form, and bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from palletfit.config import DiagnosticsSettings, FitSettings, Settings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.search import Search
from palletfit.errors import PalletError, PalletfitError
from palletfit.pallet.demo.electroweak import demo_patchset, demo_workspace
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import parse_patchset
from palletfit.products.diagnostics.compute import Diagnostics, compute, diagnose, invert
from palletfit.products.diagnostics.records import Correlations
from palletfit.runs.registry import product_of

from ....likelihoods import read_likelihood
from ... import models

Spec = dict[str, Any]
ALL = Patch("all", (), ())


def run(workspace: Spec, patch: Patch = ALL, **settings: Any) -> Diagnostics | PalletfitError:
    engine = BatchedEngine(workspace, FitSettings())
    ((_, result),) = diagnose(engine, [patch], DiagnosticsSettings(**settings))
    return result


def sound(workspace: Spec, patch: Patch = ALL, **settings: Any) -> Diagnostics:
    result = run(workspace, patch, **settings)
    assert isinstance(result, Diagnostics), result
    assert (result.status, result.reasons) == ("ok", ())
    return result


def linear(name: str, size: float, nominal: float) -> Spec:
    """A histosys modifier that is linear in its parameter."""
    data = {"hi_data": [nominal + size], "lo_data": [nominal - size]}
    return {"name": name, "type": "histosys", "data": data}


# --------------------------------------------------------------------------- closed forms


def test_a_counting_experiment():
    signal, background, observed = 10.0, 50.0, 62.0
    diagnosis = sound(models.counting(signal, background, observed))
    assert diagnosis.mu_hat == pytest.approx((observed - background) / signal)
    assert diagnosis.mu_hat_error == pytest.approx(math.sqrt(observed) / signal)
    assert diagnosis.impacts == ()
    assert diagnosis.correlations == Correlations((models.POI,), ((1.0,),))
    (channel,) = diagnosis.channels
    assert (channel.name, channel.data, diagnosis.signals) == ("SR", (observed,), ("signal",))
    # The signal strength has no width before the fit; after it the data are met exactly.
    assert channel.prefit.model.values == pytest.approx((signal + background,))
    assert channel.prefit.model.errors == (0.0,)
    assert channel.postfit.model.values == pytest.approx((observed,))
    assert channel.postfit.model.errors == pytest.approx((math.sqrt(observed),))
    q0 = 2 * (background - observed + observed * math.log(observed / background))
    total = signal + background
    expected = 2 * (background - total + total * math.log(total / background))
    assert diagnosis.discovery.significance == pytest.approx(math.sqrt(q0))
    assert diagnosis.discovery.p0 == pytest.approx(norm.sf(math.sqrt(q0)))
    assert diagnosis.discovery.significance_expected == pytest.approx(math.sqrt(expected))
    assert diagnosis.discovery.p0_expected == pytest.approx(norm.sf(math.sqrt(expected)))


def test_impacts_of_what_only_the_constraint_knows():
    # mu s + b + d alpha events: mu absorbs whatever alpha does.
    signal, background, observed, size = 10.0, 50.0, 62.0, 6.0
    diagnosis = sound(
        models.counting(signal, background, observed, linear("shape", size, background))
    )
    alpha = diagnosis.parameter("shape")
    assert (alpha.kind, alpha.state, alpha.prefit_value, alpha.prefit_width) == (
        *("alpha", "free"),
        *(0.0, 1.0),
    )
    assert alpha.pull == pytest.approx(0.0, abs=1e-9)
    assert alpha.constraint == pytest.approx(1.0)
    assert diagnosis.mu_hat_error == pytest.approx(math.sqrt(observed + size**2) / signal)
    (impact,) = diagnosis.impacts
    shift = size / signal
    assert (impact.postfit_up, impact.postfit_down) == pytest.approx((-shift, shift), abs=1e-8)
    assert (impact.prefit_up, impact.prefit_down) == pytest.approx((-shift, shift), abs=1e-8)
    assert impact.size == pytest.approx(shift)
    correlation = diagnosis.correlations.matrix[0][1]
    assert correlation == pytest.approx(-size / math.sqrt(observed + size**2))
    (channel,) = diagnosis.channels
    assert channel.prefit.model.errors == pytest.approx((size,))
    # Of the sum less is left than of its parts, because these are anticorrelated.
    assert channel.postfit.model.errors == pytest.approx((math.sqrt(observed),))
    assert channel.postfit.samples["bkg"].errors == pytest.approx((size,))


def test_pull_and_constraint_by_a_control_region():
    # B + D alpha events expected, N observed: D - N D / (B + D alpha) + alpha = 0.
    b, d, n = 100.0, 20.0, 130.0
    workspace = models.workspace(
        {
            "CR": [models.sample("bkg", [b], linear("shape", d, b))],
            "SR": [models.sample("bkg", [50.0]), models.signal([10.0])],
        },
        {"CR": [n], "SR": [55.0]},
    )
    diagnosis = sound(workspace)
    # d alpha**2 + (b + d**2) alpha + d (b - n) = 0
    middle = b + d * d
    alpha = (-middle + math.sqrt(middle**2 - 4 * d * d * (b - n))) / (2 * d)
    width = 1 / math.sqrt(1 + n * d * d / (b + d * alpha) ** 2)
    pulled = diagnosis.parameter("shape")
    assert pulled.pull == pytest.approx(alpha)
    assert pulled.constraint == pytest.approx(width)
    (impact,) = diagnosis.impacts
    # It does not touch the signal region.
    assert impact.size == pytest.approx(0.0, abs=1e-9)
    control, _ = diagnosis.channels
    assert control.prefit.model.errors == pytest.approx((d,))
    assert control.postfit.model.errors == pytest.approx((d * width,))


def test_widths_are_those_of_each_kind_of_constraint():
    diagnosis = sound(models.full("normsys", "staterror", "lumi", "normfactor"), impacts=False)
    of = {entry.name: entry for entry in diagnosis.parameters}
    assert {name: entry.kind for name, entry in of.items()} == {
        "scale": "alpha",
        "lumi": "lumi",
        "norm": "normfactor",
        models.POI: "normfactor",
        "statistics[0]": "staterror",
        "statistics[1]": "staterror",
    }
    assert (of["lumi"].prefit_value, of["lumi"].prefit_width) == pytest.approx((1.0, 0.05))
    assert of["statistics[0]"].prefit_width == pytest.approx(3.0 / 60.0)
    assert of["statistics[0]"].pull == pytest.approx(20 * (of["statistics[0]"].value - 1))
    assert (of["norm"].prefit_width, of["norm"].pull, of["norm"].constraint) == (None, None, None)
    shapesys = sound(models.full("shapesys"), impacts=False).parameter("uncorrelated[1]")
    assert (shapesys.kind, shapesys.prefit_value) == ("shapesys", 1.0)
    assert shapesys.prefit_width == pytest.approx(6.0 / 40.0)


def test_parameters_that_share_a_direction_are_not_determined():
    covariance, loose = invert(np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 4]]))
    assert loose.tolist() == [0, 1]
    np.testing.assert_allclose(covariance, np.diag([0, 0, 0.25]), atol=1e-12)
    exact = np.array([[2.0, 0.3], [0.3, 5.0]])
    covariance, loose = invert(np.linalg.inv(exact))
    assert loose.tolist() == []
    np.testing.assert_allclose(covariance, exact, rtol=1e-12)
    assert invert(np.zeros((0, 0)))[0].shape == (0, 0)

    twice = [{"name": name, "type": "normfactor", "data": None} for name in ("one", "other")]
    workspace = models.workspace(
        {
            "CR": [models.sample("bkg", [100.0], *twice)],
            "SR": [models.sample("bkg", [50.0]), models.signal([10.0])],
        },
        {"CR": [130.0], "SR": [55.0]},
    )
    diagnosis = sound(workspace)
    for name in ("one", "other"):
        assert diagnosis.parameter(name).state == "undetermined"
        assert diagnosis.parameter(name).error is None
    assert diagnosis.impacts == ()
    assert diagnosis.correlations.parameters == (models.POI,)
    assert any("not determined by the data: one, other" in remark for remark in diagnosis.remarks)


def test_mu_at_its_bound_is_said():
    diagnosis = sound(models.counting(10.0, 50.0, 40.0, linear("shape", 6.0, 50.0)))
    assert diagnosis.mu_hat == 0.0
    assert diagnosis.parameter(models.POI).state == "at_bound"
    assert "mu-hat is at its lower bound" in diagnosis.remarks[0]
    assert models.POI not in diagnosis.correlations.parameters
    # q0 is zero but for rounding, of which p0 sees the root.
    assert diagnosis.discovery.p0 == pytest.approx(0.5, abs=1e-6)
    assert diagnosis.discovery.significance == pytest.approx(0.0, abs=1e-6)
    (impact,) = diagnosis.impacts
    # The downward fit of the background lets mu go up to (40 - 44) / 10 only: not above zero.
    assert impact.size == 0.0


def test_a_held_parameter_stays_inside_its_bounds():
    modifier = linear("shape", 6.0, 50.0)
    workspace = models.counting(10.0, 50.0, 62.0, modifier)
    settings = {"name": "shape", "inits": [0.0], "bounds": [[-0.5, 5.0]]}
    workspace["measurements"][0]["config"]["parameters"] = [settings]
    (impact,) = sound(workspace).impacts
    assert impact.postfit_up == pytest.approx(-0.6, abs=1e-8)
    assert impact.postfit_down == pytest.approx(0.3, abs=1e-8)


def test_correlations_are_pruned():
    matrix = ((1.0, 0.5, 0.0, 0.01), (0.5, 1.0, -0.2, 0), (0, -0.2, 1.0, 0), (0.01, 0, 0, 1.0))
    correlations = Correlations(("a", "b", "c", "mu"), matrix)
    assert correlations.pruned(0.3).parameters == ("a", "b")
    assert correlations.pruned(0.3, keep=["mu"]).parameters == ("a", "b", "mu")
    assert correlations.pruned(limit=2, keep=["mu"]).parameters == ("a", "mu")
    assert correlations.pruned(0.1, 3).matrix == ((1.0, 0.5, 0.0), (0.5, 1.0, -0.2), (0, -0.2, 1.0))
    assert Correlations((), ()).pruned(0.5) == Correlations((), ())


# --------------------------------------------------------------------------- many patches


@pytest.fixture(scope="module")
def demo() -> tuple[Spec, list[Patch]]:
    workspace = demo_workspace()
    patches = parse_patchset(demo_patchset(workspace), Path("patchset.json")).patches
    return workspace, [patches[number] for number in (30, 45, 69)]


def test_records_are_plain_and_do_not_depend_on_other_patches(demo):
    workspace, patches = demo[0], demo[1][::2]
    engine, settings = (
        BatchedEngine(workspace, FitSettings()),
        DiagnosticsSettings(parameters=["J*"]),
    )
    plain = product_of("diagnostics", Settings(diagnostics=settings)).settings
    together = {patch.name: result for patch, result in compute(engine, patches, plain)}
    assert {*together} == {patch.name for patch in patches}
    for patch in patches:
        record = together[patch.name]
        read = json.loads(json.dumps(record, allow_nan=False))
        assert Diagnostics.from_json(read).as_json() == record
        ((_, alone),) = diagnose(engine, [patch], settings)
        assert alone.twice_nll == pytest.approx(record["twice_nll"], abs=1e-9)
        values = {entry.name: entry.value for entry in alone.parameters}
        for entry in record["parameters"]:
            assert entry["value"] == pytest.approx(values[entry["name"]], abs=1e-6)
        shifts = {entry.parameter: entry.postfit_up for entry in alone.impacts}
        for entry in record["impacts"]:
            assert entry["postfit_up"] == pytest.approx(shifts[entry["parameter"]], abs=1e-6)


def test_impacts_are_ranked_and_chosen_by_patterns(demo):
    workspace, patches = demo
    diagnosis = sound(workspace, patches[-1], parameters=["JE*", "staterror_SR_med", "btag_B"])
    names = [impact.parameter for impact in diagnosis.impacts]
    assert sorted(names) == sorted(
        [
            *("JER", "JES_Detector", "JES_Flavour", "JES_Modelling", "btag_B"),
            *(f"staterror_SR_med[{number}]" for number in range(3)),
        ]
    )
    sizes = [impact.size for impact in diagnosis.impacts]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0
    # The full name of one component works, too.
    one = sound(workspace, patches[-1], parameters=["staterror_SR_med[1]"])
    assert [impact.parameter for impact in one.impacts] == ["staterror_SR_med[1]"]


def test_the_fits_are_those_of_the_hypothesis_test(demo):
    workspace, patches = demo
    ((_, test),) = BatchedEngine(workspace, FitSettings(test_statistic="q0")).hypotests(
        patches[-1:]
    )
    diagnosis = sound(workspace, patches[-1], impacts=False)
    assert diagnosis.impacts == ()
    assert diagnosis.mu_hat == pytest.approx(test.mu_hat, abs=1e-8)
    assert diagnosis.mu_hat_error == pytest.approx(test.mu_hat_error, rel=1e-6)
    assert diagnosis.discovery.p0 == pytest.approx(test.p_values.CLs_obs, abs=1e-9)
    assert diagnosis.discovery.p0_expected == pytest.approx(test.p_values.CLs_exp[2], abs=1e-9)
    best = BatchedEngine(workspace, FitSettings()).fit(patches[-1], None)
    for entry in diagnosis.parameters:
        assert entry.error == pytest.approx(best.errors[entry.name], rel=1e-6)


def test_an_impact_fit_that_ends_below_the_best_fit_corrects_it(shared, tmp_path, monkeypatch):
    # The background-only minimum that usual starts find, pyhf's optimizers' too, is 217.1876.
    workspace, patches = read_likelihood(shared, tmp_path, "staus", "combined")
    (patch,) = (patch for patch in patches if patch.name == "DS_340_1_Staus")
    ((_, test),) = BatchedEngine(workspace, FitSettings()).hypotests([patch])
    assert test.fits["background"].twice_nll == pytest.approx(217.067118, abs=1e-6)
    # As if the engine did not look there.
    for name in ("lower", "explore", "exchange"):
        monkeypatch.setattr(Search, name, lambda *_: None)
    ((_, test),) = BatchedEngine(workspace, FitSettings()).hypotests([patch])
    assert test.fits["background"].twice_nll == pytest.approx(217.1876, abs=1e-4)
    diagnosis = sound(workspace, patch, parameters=["TopSystHardCodeSR1"])
    assert diagnosis.twice_nll == pytest.approx(217.067118, abs=1e-6)
    # The other fits follow: there is no evidence for a signal that is not there.
    assert diagnosis.mu_hat == 0.0
    assert diagnosis.discovery.p0 == pytest.approx(0.5, abs=1e-6)


@pytest.mark.slow  # most of it is compilation
@pytest.mark.parametrize("which", ["small", pytest.param("demo", marks=pytest.mark.study)])
def test_jax_gives_the_same(demo, which):
    pytest.importorskip("jax")
    if which == "demo":
        workspace, patch, pattern = demo[0], demo[1][-1], "JES_*"
    else:
        workspace = models.full("normsys", "staterror")
        patch, pattern = ALL, "s*"
    settings = DiagnosticsSettings(parameters=[pattern])
    ((_, expected),) = diagnose(BatchedEngine(workspace, FitSettings()), [patch], settings)
    engine = BatchedEngine(workspace, FitSettings(backend="jax"))
    ((_, diagnosis),) = diagnose(engine, [patch], settings)
    assert diagnosis.status == "ok"
    assert len(diagnosis.impacts) > 1
    for one, other in zip(diagnosis.impacts, expected.impacts, strict=True):
        assert one.parameter == other.parameter
        # An edm of 1e-14 leaves 1.4e-7 standard deviations, in each of the two fits.
        assert one.postfit_up == pytest.approx(other.postfit_up, abs=3e-7)
    for one, other in zip(diagnosis.channels, expected.channels, strict=True):
        assert one.postfit.model.errors == pytest.approx(other.postfit.model.errors, rel=1e-6)


# --------------------------------------------------------------------------- bad input


def test_a_pattern_that_fits_nothing_is_an_error_with_near_names(demo):
    workspace, patches = demo
    error = run(workspace, patches[0], parameters=["JES_Detektor"])
    assert isinstance(error, PalletError)
    assert error.patch == patches[0].name
    assert "'JES_Detektor' fits no parameter" in error.problem
    assert "Did you mean 'JES_Detector'" in error.remedy


def test_a_patch_without_the_parameter_of_interest_is_an_error():
    operation = {
        "op": "add",
        "path": "/channels/0/samples/-",
        "value": models.sample("other", [3.0, 4.0]),
    }
    error = run(models.background("normsys"), Patch("empty", (), [operation]))
    assert isinstance(error, PalletError)
    assert error.patch == "empty"
    assert "no sample carries a modifier 'mu_SIG'" in error.problem


def test_a_patch_that_does_not_apply_is_an_error_and_costs_no_other_one():
    workspace = models.background("normsys", "staterror")
    specs = models.grid(3)
    specs[1]["patch"][0]["path"] = "/channels/9/samples/-"
    patches = [Patch(entry["metadata"]["name"], (), entry["patch"]) for entry in specs]
    diagnosis = {
        patch.name: result
        for patch, result in diagnose(BatchedEngine(workspace, FitSettings()), patches)
    }
    assert [isinstance(diagnosis[patch.name], Diagnostics) for patch in patches] == [
        *(True, False),
        True,
    ]
    assert diagnosis[patches[1].name].patch == patches[1].name


def with_fixed(workspace: Spec, *names: str) -> Spec:
    workspace["measurements"][0]["config"]["parameters"] = [
        {"name": name, "fixed": True} for name in names
    ]
    return workspace


def test_a_fixed_parameter_of_interest_is_free_here():
    free = run(models.full("normsys"))
    fixed = run(with_fixed(models.full("normsys"), models.POI))
    assert fixed.mu_hat == free.mu_hat
    assert fixed.impacts == free.impacts
    assert not free.remarks
    assert "marks its parameter of interest 'mu_SIG' as fixed" in fixed.remarks[0]


def test_fixed_nuisance_parameters_are_named_and_have_no_impact():
    diagnosis = sound(with_fixed(models.full("normsys", "histosys"), "scale", "shape"))
    for name in ("scale", "shape"):
        entry = diagnosis.parameter(name)
        assert (entry.state, entry.error, entry.prefit_width, entry.pull) == (
            "fixed",
            0.0,
            None,
            None,
        )
    assert diagnosis.impacts == ()
    control, signal = diagnosis.channels
    assert control.prefit.model.errors == (0.0,) * 2
    assert signal.prefit.model.errors == (0.0,) * 2


def test_a_signal_strength_of_one_out_of_bounds_leaves_no_significance():
    workspace = models.full("normsys")
    settings = {"name": models.POI, "bounds": [[0.0, 0.5]], "inits": [0.1]}
    workspace["measurements"][0]["config"]["parameters"] = [settings]
    diagnosis = sound(workspace)
    assert diagnosis.discovery is None
    assert any("no significance" in remark and "bounds" in remark for remark in diagnosis.remarks)
    assert Diagnostics.from_json(diagnosis.as_json()).discovery is None


def test_a_fit_without_a_proven_minimum_is_suspect(monkeypatch):
    from palletfit.engine import newton

    workspace = models.full("normsys", "histosys")
    engine = BatchedEngine(workspace, FitSettings())
    ((_, diagnosis),) = diagnose(engine, [ALL])
    assert diagnosis.status == "ok"
    minimise = newton.Solver.minimise

    def worse(solver: Any, lanes: Any, *arguments: Any, **options: Any) -> Any:
        minima = minimise(solver, lanes, *arguments, **options)
        # Fits with one nuisance parameter held.
        minima.outcome[lanes.fixed[:, 0]] = newton.STUCK
        return minima

    monkeypatch.setattr(newton.Solver, "minimise", worse)
    ((_, diagnosis),) = diagnose(engine, [ALL])
    assert diagnosis.status == "suspect"
    assert diagnosis.reasons
    assert all("has no proven minimum" in reason for reason in diagnosis.reasons)
