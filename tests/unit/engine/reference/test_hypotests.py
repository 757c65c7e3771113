"""The reference engine: against plain pyhf where that works, and right where it does not."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyhf
import pytest
from scipy.optimize import OptimizeResult

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.reference import hypotests as reference
from palletfit.engine.reference import optimizers
from palletfit.engine.reference.engine import ReferenceEngine
from palletfit.engine.reference.evidence import Likelihood
from palletfit.engine.reference.optimizers import Outcome, calls_of_a_run, calls_of_repetitions
from palletfit.errors import BackendError, FitError, PalletError
from palletfit.pallet.patches import Patch

from ... import models

TESTS = Path(__file__).parents[3]
EVERY_MODIFIER = tuple(models.MODIFIERS)


def hypotest(spec, **settings):
    return reference.hypotest(spec, FitSettings(engine="reference", **settings))


def plain(spec, kind, mu=1.0, **optimizer):
    """pyhf's own CLs (p0), and its five expected ones."""
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(**optimizer))
    model, data = models.model_and_data(spec)
    observed, expected = pyhf.infer.hypotest(
        0.0 if kind == "q0" else mu, data, model, test_stat=kind, return_expected_set=True
    )
    return float(observed), [float(value) for value in expected]


def exact(spec, kind, mu=1.0):
    # By default SLSQP stops at an edm of 1e-7, which moves an expected CLs by more than 1e-5.
    return plain(spec, kind, mu, tolerance=1e-11)


def assert_agrees(result, observed, expected, atol=2e-5):
    assert result.p_values.CLs_obs == pytest.approx(observed, abs=atol)
    np.testing.assert_allclose(result.p_values.CLs_exp, expected, atol=atol)


def modifiers_and_statistics():
    """Combine all; each modifier with qtilde and each statistic with a few are no studies."""
    for modifiers in ((), *((kind,) for kind in models.MODIFIERS), EVERY_MODIFIER):
        name = "+".join(modifiers) if len(modifiers) < 2 else "all"
        for kind in ("qtilde", "q", "q0"):
            few = kind == "qtilde" or modifiers in ((), ("normsys",))
            yield pytest.param(
                modifiers, kind, id=f"{name}-{kind}", marks=[pytest.mark.study] * (not few)
            )


@pytest.mark.parametrize(("modifiers", "kind"), [*modifiers_and_statistics()])
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")  # of plain pyhf
def test_agrees_with_pyhf(modifiers, kind):
    spec = models.full(*modifiers)
    result = hypotest(spec, test_statistic=kind)
    assert_agrees(result, *exact(spec, kind))
    assert result.status == "ok"
    assert result.remarks == ()


@pytest.mark.parametrize("kind", ["qtilde", "q0"])
@pytest.mark.parametrize(
    "observed",
    [(40.0, 22.0), (75.0, 68.0), pytest.param((61.0, 41.0), marks=pytest.mark.study)],
)
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_agrees_with_pyhf_for_deficits_and_excesses(observed, kind):
    spec = models.full("normsys", "staterror", observed=observed)
    assert_agrees(hypotest(spec, test_statistic=kind), *exact(spec, kind))


@pytest.mark.parametrize("mu", [0.1, 2.5])
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_agrees_with_pyhf_at_other_mu(mu):
    spec = models.full("normsys", "histosys")
    result = hypotest(spec, mu=mu)
    assert_agrees(result, *exact(spec, "qtilde", mu))
    assert result.fits["fixed"].mu == mu


def test_minuit_agrees_with_scipy():
    spec = models.full("normsys", "staterror")
    scipy, minuit = hypotest(spec), hypotest(spec, optimizer="minuit")
    assert_agrees(minuit, scipy.p_values.CLs_obs, scipy.p_values.CLs_exp)
    assert minuit.mu_hat == pytest.approx(scipy.mu_hat, abs=1e-4)
    assert {a.optimizer for fit in minuit.fits.values() for a in fit.attempts} == {"minuit"}


def test_interpolation_codes_reach_the_model():
    spec = models.full("normsys", "histosys")
    default = hypotest(spec).p_values.CLs_obs
    other = hypotest(spec, normsys="code1", histosys="code0").p_values.CLs_obs
    assert other == pytest.approx(default, abs=0.02)
    assert abs(other - default) > 1e-6


def test_more_starts_are_tried():
    result = hypotest(
        models.full("normsys", "staterror"), starts=["suggested", "background", "free"]
    )
    assert {attempt.start for attempt in result.fits["fixed"].attempts} == {
        "suggested",
        "background",
        "free",
    }


def test_another_measurement_is_fitted():
    spec = models.full("normsys")
    narrow = {"name": models.POI, "bounds": [[0.0, 5.0]]}
    other = {"name": "other", "config": {"poi": models.POI, "parameters": [narrow]}}
    spec["measurements"].append(other)
    with pytest.raises(PalletError, match="outside the bounds"):
        hypotest(spec, measurement="other", mu=6.0)
    with pytest.raises(PalletError, match="no measurement 'third'"):
        hypotest(spec, measurement="third")


def test_the_result_is_plain_json():
    result = hypotest(models.full("normsys")).as_json()
    copied = json.loads(json.dumps(result, allow_nan=False))
    assert copied["status"] == "ok"
    assert copied["CLs_obs"] == result["CLs_obs"]
    assert len(copied["CLs_exp"]) == 5
    assert set(copied["fits"]) == {"background", "free", "fixed", "asimov_fixed"}
    assert {"pyhf", "numpy", "scipy", "iminuit", "python"} <= set(copied["software"])
    assert copied["fit_time"] > 0
    attempt = copied["fits"]["free"]["attempts"][0]
    assert attempt["optimizer"] == "scipy"
    assert attempt["doubts"] == []


def test_the_backend_is_numpy_afterwards():
    hypotest(models.full("normsys"), optimizer="minuit")
    assert pyhf.tensorlib.name == "numpy"


# --- fits that go wrong -------------------------------------------------------------------------


def test_a_constraint_of_a_millionth_is_no_trap():
    """SLSQP stops after one iteration of such a fit, and says that it succeeded."""
    result, easy = hypotest(models.narrow(trap=True)), hypotest(models.narrow(trap=False))
    assert_agrees(result, easy.p_values.CLs_obs, easy.p_values.CLs_exp, atol=1e-3)
    assert result.mu_hat == pytest.approx(easy.mu_hat, abs=2e-3)
    assert result.status == "ok"
    free = result.fits["free"]
    assert "scipy stopped after 1 iteration" in free.attempts[0].doubts
    assert free.attempts[0].reported_success
    assert len(free.attempts) > 1
    assert {attempt.optimizer for attempt in free.attempts} > {"scipy"}
    assert any("NLL is uncertain by about" in remark for remark in result.remarks)
    assert easy.remarks == ()


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_the_trap_is_one_for_pyhf():
    observed, _ = plain(models.narrow(trap=True), "qtilde")
    assert math.isnan(observed) or observed > 0.9


def test_without_escalation_the_trap_is_suspect():
    result = hypotest(models.narrow(trap=True), escalate=False)
    assert result.status == "suspect"
    suspect = [fit for fit in result.fits.values() if not fit.trusted]
    assert suspect
    assert all(fit.reason for fit in suspect)
    assert all(len({attempt.optimizer for attempt in fit.attempts}) == 1 for fit in suspect)


@pytest.mark.parametrize("events", [0.0, 1e-9])
def test_a_signal_without_effect_excludes_nothing(events):
    result = hypotest(models.full("normsys", events=(events, events)))
    assert result.p_values.CLs_obs == 1.0
    assert result.p_values.CLs_exp == (1.0,) * 5
    assert "no sensitivity: the tested signal does not change the likelihood" in result.remarks
    assert result.status == "ok"


def test_mu_zero_is_never_excluded():
    result = hypotest(models.full("normsys"), mu=0.0)
    assert result.p_values.CLs_obs == 1.0


def test_a_deficit_has_mu_hat_zero():
    result = hypotest(models.full("normsys", observed=(40.0, 22.0)))
    assert result.mu_hat == 0.0
    assert result.status == "ok"
    assert result.fits["free"].twice_nll == pytest.approx(
        result.fits["background"].twice_nll, abs=1e-6
    )


@pytest.mark.parametrize(("kind", "remarks"), [("qtilde", 1), ("q", 0)])
def test_a_negative_mu_hat_is_remarked_where_it_has_no_meaning(kind, remarks):
    spec = models.full("normsys", observed=(40.0, 22.0))
    parameter = {"name": models.POI, "inits": [1.0], "bounds": [[-5.0, 10.0]]}
    spec["measurements"][0]["config"]["parameters"] = [parameter]
    result = hypotest(spec, test_statistic=kind)
    assert result.mu_hat < -0.5
    assert [remark.split(",")[0] for remark in result.remarks] == ["mu-hat is negative"] * remarks


def test_an_excess_beyond_the_bounds_of_mu_is_remarked():
    result = hypotest(models.full("normsys", events=(1.0, 1.0), observed=(90.0, 80.0)))
    assert "mu-hat is at its upper bound" in result.remarks


def test_nuisance_parameters_at_a_bound_are_remarked():
    spec = models.full("normfactor", observed=(58.0, 45.0))
    spec["measurements"][0]["config"]["parameters"] = [
        {"name": "norm", "inits": [1.2], "bounds": [[1.1, 2.0]]}
    ]
    result = hypotest(spec)
    assert any(remark.startswith("free fit: 1 nuisance parameters") for remark in result.remarks)


def test_nothing_expected_and_nothing_observed():
    result = hypotest(models.counting(3.0, 0.0, 0.0))
    # The exact Poisson result is exp(-3); in the asymptotic one q = qA = 2 * 3.
    assert result.p_values.q == pytest.approx(6.0, abs=1e-4)
    assert result.mu_hat == pytest.approx(0.0, abs=1e-5)
    assert result.status == "ok"


def stuck(monkeypatch, *, mu=None, times=math.inf):
    """Let scipy return its start as the minimum of the free fit, or of that at a value of mu."""
    minimise = reference.minimise
    calls = []

    def replaced(likelihood, optimizer, start, backend):
        if optimizer == "scipy" and likelihood.mu == mu and len(calls) < times:
            calls.append(start)
            return Outcome(start, True, "stuck", 5, 50)
        return minimise(likelihood, optimizer, start, backend)

    monkeypatch.setattr(reference, "minimise", replaced)
    # Newton steps would make a bad point good.
    monkeypatch.setattr(
        reference, "polish", lambda likelihood, point, **_: (point, likelihood.evidence(point), 0)
    )


def test_a_free_fit_above_its_nested_fits_is_repeated(monkeypatch):
    spec = models.full("normsys", "staterror")
    expected = hypotest(spec)
    # Blind to the edm, only the comparison of nested fits can see it.
    stuck(monkeypatch, times=1)
    result = hypotest(spec, edm_tolerance=1e3)
    assert_agrees(result, expected.p_values.CLs_obs, expected.p_values.CLs_exp, atol=1e-4)
    assert result.status == "ok"
    tried = [(attempt.optimizer, attempt.start) for attempt in result.fits["free"].attempts]
    assert tried[0] == ("scipy", "suggested")
    assert tried[1] == ("scipy", "nested")


def test_a_free_fit_far_from_its_minimum_is_repeated(monkeypatch):
    spec = models.full("normsys", "staterror")
    expected = hypotest(spec)
    stuck(monkeypatch)
    result = hypotest(spec)
    assert_agrees(result, expected.p_values.CLs_obs, expected.p_values.CLs_exp, atol=1e-4)
    assert result.status == "ok"
    free = result.fits["free"]
    assert free.reason.startswith("minuit")
    assert free.attempts[0].doubts[0].startswith("edm of")


def test_without_escalation_a_bad_free_fit_is_suspect_and_says_so(monkeypatch):
    stuck(monkeypatch)
    result = hypotest(models.full("normsys", "staterror"), escalate=False)
    assert result.status == "suspect"
    assert not result.fits["free"].trusted
    assert "is above" in result.fits["free"].reason
    assert result.fits["background"].trusted
    assert result.as_json()["status"] == "suspect"


def test_a_nested_fit_that_stays_lower_is_suspect_and_says_so(monkeypatch):
    minimise = reference.minimise

    def replaced(likelihood, optimizer, start, backend):
        if likelihood.mu is None:
            bad = np.array(start)
            bad[likelihood.model.config.poi_index] = 3.0
            return Outcome(bad, True, "bad", 5, 50)
        return minimise(likelihood, optimizer, start, backend)

    monkeypatch.setattr(reference, "minimise", replaced)
    monkeypatch.setattr(
        reference, "polish", lambda likelihood, point, **_: (point, likelihood.evidence(point), 0)
    )
    result = hypotest(models.full("normsys"), edm_tolerance=1e3)
    assert result.status == "suspect"
    assert "a nested fit is lower by" in result.fits["free"].reason


def test_a_bad_asimov_fit_does_not_look_like_no_sensitivity(monkeypatch):
    spec = models.full("normsys")
    expected = hypotest(spec)
    stuck(monkeypatch, mu=1.0)
    result = hypotest(spec, escalate=False)
    assert result.status == "suspect"
    assert not any("no sensitivity" in remark for remark in result.remarks)
    assert result.p_values.q_asimov > 0.5 * expected.p_values.q_asimov


def test_newton_steps_reach_the_minimum_where_all_optimizers_raise(monkeypatch):
    expected = hypotest(models.full("normsys"))

    def raising(*_, **__):
        raise ValueError("no")

    monkeypatch.setattr(pyhf.infer.mle, "fit", raising)
    result = hypotest(models.full("normsys"))
    assert_agrees(result, expected.p_values.CLs_obs, expected.p_values.CLs_exp)
    assert result.fits["free"].attempts[0].message == "ValueError: no"
    assert not result.fits["free"].attempts[0].reported_success


def test_optimizers_that_all_fail_are_an_error(monkeypatch):
    failing = pyhf.exceptions.FailedMinimization(
        OptimizeResult(x=np.full(2, np.nan), success=False, message="lost")
    )

    def lost(*_, **__):
        raise failing

    monkeypatch.setattr(pyhf.infer.mle, "fit", lost)
    monkeypatch.setattr(Likelihood, "twice_nll", lambda *_: np.inf)
    with pytest.raises(FitError, match="The background fit found no finite minimum"):
        hypotest(models.full("normsys"))


def test_no_finite_minimum_is_an_error():
    # Two events where less than nothing is expected: the likelihood without signal is zero.
    with pytest.raises(FitError, match="The background fit found no finite minimum"):
        hypotest(models.counting(3.0, -1.0, 2.0))


def test_events_without_background_are_an_error_that_names_the_bin():
    with pytest.raises(PalletError, match="'SR' has an observed count of 2 in bin 1 of 1"):
        hypotest(models.counting(3.0, 0.0, 2.0))


@pytest.mark.parametrize("mu", [10.5, 11.0])
def test_mu_outside_its_bounds_is_refused(mu):
    with pytest.raises(PalletError, match=r"outside the bounds \[0, 10\]"):
        hypotest(models.full("normsys"), mu=mu)


def test_mu_at_its_bound_is_fitted():
    assert hypotest(models.full("normsys"), mu=10.0).p_values.CLs_obs < 1e-6


def test_a_patch_without_signal_is_refused():
    with pytest.raises(PalletError, match=r"no parameter of interest.*'mu_SIG'"):
        hypotest(models.background("normsys"))


def test_a_model_that_pyhf_refuses_is_explained():
    spec = models.full("normsys")
    spec["channels"][0]["samples"][0]["modifiers"][0]["type"] = "unknown"
    with pytest.raises(PalletError, match="pyhf cannot make a model of the workspace"):
        hypotest(spec)


# --- backends -----------------------------------------------------------------------------------

BACKEND = """
import sys
from palletfit.engine.reference import hypotests as reference
from palletfit.config import FitSettings
from unit import models
import pyhf

kinds = sys.argv[3:]
few = models.counting(10.0, 50.0, 52.0, models.MODIFIERS["normsys"])
spec = models.full(*kinds) if kinds else few
expected = reference.hypotest(spec, FitSettings(engine="reference")).p_values
found = reference.hypotest(spec, FitSettings(engine="reference", backend=sys.argv[1]))
assert found.status == "ok"
assert pyhf.tensorlib.name == "numpy"
for one, other in zip((expected.CLs_obs, *expected.CLs_exp),
                      (found.p_values.CLs_obs, *found.p_values.CLs_exp)):
    assert abs(one - other) < 1e-5, (one, other)
assert found.software[sys.argv[2]]
print("agree")
"""


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # In another process, because backends change global state and start threads.
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        cwd=TESTS,
        env=models.environment(PYTHONPATH=TESTS),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def need(module: str) -> None:
    """Skip without an optional package, but not where it has to be there."""
    if os.environ.get("CI") and os.environ.get("PALLETFIT_EXTRAS") == "1":
        __import__(module)
    pytest.importorskip(module, reason=f"the optional backend {module} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize(
    "modifiers",
    [(), pytest.param(EVERY_MODIFIER, marks=pytest.mark.study)],
    ids=["one bin", "all"],
)
@pytest.mark.parametrize(
    ("backend", "modules"),
    [
        ("jax", ["jax"]),
        ("pytorch", ["torch"]),
        ("tensorflow", ["tensorflow", "tensorflow_probability"]),
    ],
)
def test_other_backends_agree_with_numpy(backend, modules, modifiers):
    for module in modules:
        # Not imported here: only looked for.
        if importlib.util.find_spec(module) is None:
            need(module)
    done = run_python(BACKEND, backend, modules[0], *modifiers)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "agree"


def test_a_missing_backend_is_an_error_that_says_what_to_install(monkeypatch):
    set_backend = pyhf.set_backend

    def missing(name, *arguments, **options):
        if name == "pytorch":
            raise pyhf.exceptions.ImportBackendError("There was a problem importing PyTorch.")
        set_backend(name, *arguments, **options)

    monkeypatch.setattr(pyhf, "set_backend", missing)
    with pytest.raises(BackendError, match="backend pytorch is not installed") as error:
        hypotest(models.full("normsys"), backend="pytorch")
    assert "palletfit[pytorch]" in error.value.remedy
    assert pyhf.tensorlib.name == "numpy"


# --- bounds on cost -----------------------------------------------------------------------------


def test_an_optimizer_ends_at_its_bound_and_says_so(monkeypatch):
    monkeypatch.setattr(optimizers, "_CALLS", 12)
    monkeypatch.setattr(optimizers, "_CALLS_A_PARAMETER", 0)
    result = hypotest(models.full(*EVERY_MODIFIER))
    attempt = result.fits["free"].attempts[0]
    assert attempt.evaluations == 12
    assert attempt.message == "the bound of 12 evaluations is reached"
    assert not attempt.reported_success
    assert attempt.moved
    assert "scipy reports failure (the bound of 12 evaluations is reached)" in attempt.doubts


def test_a_patch_without_end_is_suspect_with_a_reason(shared, monkeypatch):
    """An empty bin in which 100 events are expected: Minuit goes on there for minutes."""
    # A tenth of the usual bound: what ends at it ends at any.
    monkeypatch.setattr(optimizers, "_CALLS", 100)
    monkeypatch.setattr(optimizers, "_CALLS_A_PARAMETER", 15)
    folder = shared / "cases" / "28-reference-hangs"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    workspace = json.loads((folder / "BkgOnly.json").read_text())
    patch = json.loads((folder / "patchset.json").read_text())["patches"][0]
    ((_, result),) = ReferenceEngine(workspace, FitSettings(engine="reference")).hypotests(
        [Patch("p0", (), patch["patch"])]
    )
    assert result.status == "suspect"
    bound = calls_of_a_run(result.parameters) + result.parameters * (result.parameters + 1)
    calls = [a.evaluations for fit in result.fits.values() for a in fit.attempts if a.evaluations]
    assert max(calls) <= bound
    # Four fits, what repeats them, and the last attempt over the bound of these.
    assert sum(calls) <= 4 * bound + calls_of_repetitions(result.parameters) + bound
    reasons = [fit.reason for fit in result.fits.values() if not fit.trusted]
    assert any("evaluations for further attempts is reached" in reason for reason in reasons)


# --- both minima --------------------------------------------------------------------------------

#: Twenty more events in the first bin are explained by either sign of this parameter.
BENT = {
    "name": "bent",
    "type": "histosys",
    "data": {"hi_data": [18.0, 9.0], "lo_data": [24.0, 11.0]},
}


def bent_background():
    samples = [models.sample("bkg", [10.0, 10.0], BENT), models.signal([4.0, 1.0])]
    return models.workspace(
        {"SR": samples}, {"SR": [30.0, 10.0]}, [{"name": "bent", "inits": [0.1]}]
    )


ALL_STARTS = {"starts": ["suggested", "background", "free"]}


def test_both_minima_are_recorded_and_either_counts():
    spec = bent_background()
    lowest, nearest = (hypotest(spec, minimum=name, **ALL_STARTS) for name in ("lowest", "nearest"))
    assert (lowest.minimum, nearest.minimum) == ("lowest", "nearest")
    assert lowest.other.minimum == "nearest"
    assert nearest.other.minimum == "lowest"
    assert set(lowest.other.fits) == set(nearest.other.fits) == {"fixed"}
    difference = nearest.fits["fixed"].twice_nll - lowest.fits["fixed"].twice_nll
    assert difference > 1.0
    assert lowest.other.fits["fixed"].above == pytest.approx(difference, abs=1e-9)
    assert nearest.other.fits["fixed"].above == pytest.approx(-difference, abs=1e-9)
    assert lowest.other.fits["fixed"].parameters["bent"] == pytest.approx((-0.981, 1.420), abs=1e-2)
    assert lowest.other.p_values == nearest.p_values
    assert nearest.other.p_values == lowest.p_values
    assert lowest.remarks[0].startswith("the nearest minimum gives CLs")
    assert lowest.status == nearest.status == "ok"


def test_the_nearest_minimum_is_that_of_the_batched_engine():
    spec = bent_background()
    nearest = hypotest(spec, minimum="nearest", **ALL_STARTS)
    engine = BatchedEngine(spec, FitSettings(minimum="nearest"))
    ((_, batched),) = engine.hypotests([Patch("all", (), ())])
    assert nearest.p_values.CLs_obs == pytest.approx(batched.p_values.CLs_obs, abs=1e-5)
    np.testing.assert_allclose(nearest.p_values.CLs_exp, batched.p_values.CLs_exp, atol=1e-4)
    for name, fit in nearest.fits.items():
        assert fit.twice_nll == pytest.approx(batched.fits[name].twice_nll, abs=1e-5)


def test_from_one_start_one_minimum_is_looked_for():
    spec = bent_background()
    words = "one minimum was looked for, from the suggested values"
    one, several = hypotest(spec), hypotest(spec, **ALL_STARTS)
    assert one.other is None
    assert all(words in fit.reason for fit in one.fits.values())
    assert words not in several.fits["fixed"].reason
