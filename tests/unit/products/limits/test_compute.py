"""Upper limits: closed forms, pyhf's own, and what cannot be limited."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pyhf
import pytest
from pyhf.infer.intervals.upper_limits import upper_limit
from scipy.optimize import brentq
from scipy.special import ndtr

from palletfit.config import ContourSettings, ExecutorSettings, FitSettings, LimitSettings, Settings
from palletfit.engine.choose import make_engine
from palletfit.engine.many_mu import Profile
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.patches import Patch
from palletfit.planes.published import read_limits
from palletfit.products.limits import compute as limits
from palletfit.products.limits.compute import Limits, asimov_root, upper_limits
from palletfit.products.limits.published import compare
from palletfit.products.limits.schema import LimitsResult
from palletfit.runs import run as runs
from palletfit.runs import scan
from palletfit.runs.registry import product_of
from palletfit.runs.store import RecordStore

from ....likelihoods import read_likelihood
from ... import models
from ...runs.test_scan import Counting

ALL = Patch("all", (), ())
SHARP = LimitSettings(tolerance=1e-7)
#: A measurement that allows more than pyhf's default bound of ten.
WIDE = {"name": models.POI, "bounds": [[0.0, 200.0]], "inits": [1.0]}


def limit(spec: Any, settings: LimitSettings = SHARP, level: float = 0.95, **fit: Any) -> Limits:
    engine = make_engine(spec, FitSettings(**fit))
    ((_, result),) = upper_limits(engine, [ALL], level, settings)
    assert isinstance(result, Limits), result
    return result


def values(result: Limits) -> list[float | None]:
    return [entry.mu for entry in (result.observed, *result.expected)]


def poisson(mu: float, signal: float, background: float, data: float) -> float:
    """NLL of one bin without nuisance parameters, without its constant."""
    rate = mu * signal + background
    return rate - data * math.log(rate)


def closed_form(signal: float, background: float, data: float, alpha: float) -> list[float]:
    """The limits of one bin: CLs written out, and its root by scipy."""

    def q(mu: float, events: float) -> float:
        best = max((events - background) / signal, 0.0)
        if best > mu:
            return 0.0
        terms = [poisson(at, signal, background, events) for at in (mu, best)]
        return 2 * (terms[0] - terms[1])

    def observed(mu: float) -> float:
        root, asimov = math.sqrt(q(mu, data)), math.sqrt(q(mu, background))
        shifted = (root**2 - asimov**2) / (2 * asimov) if root > asimov else root - asimov
        return ndtr(-shifted - asimov) / ndtr(-shifted) - alpha

    def expected(n: int, mu: float) -> float:
        return ndtr(n - math.sqrt(q(mu, background))) / ndtr(n) - alpha

    result = [brentq(observed, 1e-3, 100, xtol=1e-12)]
    return result + [
        brentq(lambda mu, n=n: expected(n, mu), 1e-3, 100, xtol=1e-12) for n in (-2, -1, 0, 1, 2)
    ]


@pytest.mark.parametrize(
    ("signal", "background", "data", "level"),
    [
        (10.0, 50.0, 52.0, 0.9),
        (10.0, 50.0, 70.0, 0.95),
        (3.0, 5.0, 1.0, 0.95),
        (1.0, 90.0, 80.0, 0.95),
    ],
)
def test_one_bin_without_nuisance_parameters(signal, background, data, level):
    spec = models.counting(signal, background, data)
    spec["measurements"][0]["config"]["parameters"] = [WIDE]
    # The background-only "fit" has nothing to fit, so that its Asimov data are the background.
    result = limit(spec, level=level)
    expected = closed_form(signal, background, data, 1 - level)
    assert values(result) == pytest.approx(expected, rel=1e-6)
    for entry, value in zip((result.observed, *result.expected), expected, strict=True):
        assert abs(entry.mu - value) <= entry.tolerance + 1e-9 * value
        assert entry.tolerance <= 1.001e-7 * value
        assert entry.CLs == pytest.approx(1 - level, rel=1e-6)
    assert result.status == "ok"
    assert result.remarks == ()


def test_the_tolerance_is_kept_and_said():
    spec = models.full("normsys", "histosys")
    exact = values(limit(spec))
    for tolerance in (0.05, 1e-3):
        result = limit(spec, LimitSettings(tolerance=tolerance))
        for entry, value in zip((result.observed, *result.expected), exact, strict=True):
            assert abs(entry.mu - value) <= entry.tolerance + 1e-7 * value
            assert entry.tolerance <= tolerance * entry.mu


def test_expected_roots_invert_the_formula():
    n = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    root = asimov_root(n, 0.05)
    assert ndtr(n - root) / ndtr(n) == pytest.approx(0.05)
    assert root[2] == pytest.approx(1.959964, rel=1e-6)


@pytest.mark.parametrize(
    ("engine", "statistic"), [("batched", "qtilde"), ("batched", "q"), ("reference", "qtilde")]
)
def test_pyhf_has_the_level_at_the_limits(engine, statistic):
    settings = LimitSettings(tolerance=1e-5 if engine == "batched" else 1e-3)
    spec = models.full("normsys") if engine == "batched" else models.counting()
    result = limit(spec, settings, engine=engine, test_statistic=statistic)
    assert result.engine == engine
    assert values(result)[1:] == sorted(values(result)[1:])
    model, data = models.model_and_data(spec)
    pyhf.set_backend("numpy")  # another test may have left another optimizer
    for position, mu in enumerate(values(result)):
        observed, expected = pyhf.infer.hypotest(
            mu, data, model, test_stat=statistic, return_expected_set=True
        )
        cls = float([observed, *expected][position])
        # CLs falls with less than the fifth power of mu; pyhf's fits are as good as SLSQP's.
        assert cls == pytest.approx(0.05, rel=5 * (2e-4 + settings.tolerance)), position


@pytest.mark.study
@pytest.mark.parametrize("statistic", ["qtilde", "q"])
def test_pyhf_finds_the_same_limits(statistic):
    model, data = models.model_and_data(models.full("normsys"))
    pyhf.set_backend("numpy")
    observed, expected = upper_limit(data, model, rtol=1e-5, test_stat=statistic)
    result = limit(models.full("normsys"), test_statistic=statistic)
    peers = [float(observed), *map(float, expected)]
    assert values(result) == pytest.approx(peers, rel=2e-4)


def test_an_excess_and_a_deficit():
    few, medium, many = (
        limit(models.counting(10.0, 50.0, data), LimitSettings()) for data in (40.0, 50.0, 65.0)
    )
    assert few.observed.mu < medium.observed.mu < many.observed.mu
    assert few.mu_hat == 0.0  # at its bound


def test_a_bound_below_zero_is_said():
    spec = models.full("normsys", observed=(50.0, 25.0))
    spec["measurements"][0]["config"]["parameters"] = [{**WIDE, "bounds": [[-5.0, 10.0]]}]
    result = limit(spec)
    assert result.mu_hat < 0
    assert "negative" in " ".join(result.remarks)


@pytest.fixture
def calls(monkeypatch):
    """Count the signal strengths that are looked at, one after the other."""
    seen: list[int] = []
    test = Profile.test

    def count(self, rows, mu, **options):
        seen.append(len(rows))
        return test(self, rows, mu, **options)

    monkeypatch.setattr(Profile, "test", count)
    return seen


def test_limits_beyond_the_bound(calls):
    result = limit(models.counting(1.0, 500.0, 500.0))
    all_limits = (result.observed, *result.expected)
    assert [entry.state for entry in all_limits] == ["beyond"] * 6
    assert values(result) == [None] * 6
    assert all(entry.tolerance is None and entry.CLs > 0.05 for entry in all_limits)
    assert all(entry.trusted for entry in all_limits)
    assert result.status == "ok"
    assert result.mu_max == 10.0
    assert "limits above 10," in result.remarks[0]
    assert len(calls) < 10


def test_some_limits_beyond_the_bound():
    result = limit(models.counting(10.0, 50.0, 52.0), LimitSettings(mu_max=2.0))
    states = [entry.state for entry in result.expected]
    assert states == ["found", "found", "found", "beyond", "beyond"]
    assert values(result)[1:4] == sorted(values(result)[1:4])
    plain = result.as_json()
    assert plain["mu_exp"][3:] == [None, None]
    json.dumps(plain, allow_nan=False)


def test_a_lower_bound_takes_its_start_along():
    # The suggested start of 1 would lie outside.
    for engine in ("batched", "reference"):
        result = limit(models.counting(100.0, 50.0, 52.0), LimitSettings(mu_max=0.5), engine=engine)
        assert result.mu_max == 0.5
        assert result.status == "ok"
        assert all(0.05 < mu < 0.5 for mu in values(result))


@pytest.mark.parametrize("bound", [pytest.param(10.0, marks=pytest.mark.study), 1e6])
def test_no_sensitivity_and_no_endless_doubling(calls, bound):
    # The free norm of the signal region does whatever the signal does.
    free = {"name": "free", "type": "normfactor", "data": None}
    spec = models.counting(10.0, 50.0, 52.0, free)
    wide = {**WIDE, "bounds": [[0.0, bound]]}
    huge = {"name": "free", "bounds": [[-1e9, 1e9]], "inits": [1.0]}
    spec["measurements"][0]["config"]["parameters"] = [wide, huge]
    result = limit(spec)
    assert [entry.state for entry in (result.observed, *result.expected)] == ["beyond"] * 6
    assert result.observed.CLs == pytest.approx(1.0, abs=1e-3)
    assert len(calls) < 12


def test_evaluations_of_an_ordinary_limit(calls):
    limit(models.full("normsys", "histosys"), LimitSettings())
    assert len(calls) < 16
    assert sum(calls) < 60  # of six limits


def test_a_patch_that_does_not_apply():
    engine = make_engine(models.background("normsys"), FitSettings())
    bad = Patch("bad", (), ({"op": "remove", "path": "/channels/7"},))
    good = Patch("good", (), models.patch("good", [1, 2])["patch"])
    comparison = {patch.name: result for patch, result in upper_limits(engine, [bad, good])}
    assert isinstance(comparison["bad"], PalletError)
    assert comparison["bad"].patch == "bad"
    assert comparison["good"].status == "ok"


def test_no_room_above_zero():
    spec = models.counting()
    spec["measurements"][0]["config"]["parameters"] = [
        {"name": models.POI, "bounds": [[-1.0, 0.0]], "inits": [0.0]}
    ]
    for engine in ("batched", "reference"):
        ((_, result),) = upper_limits(make_engine(spec, FitSettings(engine=engine)), [ALL])
        assert isinstance(result, PalletError)
        assert "above zero" in result.problem


def test_what_the_engine_does_not_support_is_left_to_the_other():
    # A free shape of one bin is a normfactor, but not of the kind that the engine takes.
    spec = models.counting(10.0, 50.0, 52.0)
    expected = values(limit(spec, LimitSettings()))
    spec["channels"][0]["samples"][1]["modifiers"][0]["type"] = "shapefactor"
    result = limit(spec, LimitSettings(tolerance=1e-3))
    assert result.engine == "reference"
    assert "fitted by the reference engine: " in result.remarks[0]
    assert result.status == "ok"
    assert values(result) == pytest.approx(expected, rel=2e-3)


def test_a_fit_without_proof_is_left_to_the_other(monkeypatch):
    monkeypatch.setattr(Profile, "evidence", lambda *_, **__: (False, "not converged"))
    result = limit(models.counting(), LimitSettings(tolerance=0.01))
    assert result.engine == "reference"
    assert result.remarks[0] == "fitted by the reference engine: its obs limit: not converged"


def test_a_likelihood_that_is_not_finite_is_left_to_the_other(monkeypatch):
    test = Profile.test

    def lost(self, rows, mu, **options):
        q, q_asimov = test(self, rows, mu, **options)
        return q, np.where(mu > 0.6, np.nan, q_asimov)

    monkeypatch.setattr(Profile, "test", lost)
    result = limit(models.counting(), LimitSettings(tolerance=0.01))
    assert result.engine == "reference"
    assert "no finite likelihood" in result.remarks[0]


def test_discovery_has_no_upper_limit():
    engine = make_engine(models.full(), FitSettings(test_statistic="q0"))
    with pytest.raises(ConfigError, match="q0"):
        list(upper_limits(engine, [ALL]))


def test_a_lower_minimum_moves_the_limit(monkeypatch):
    """A search without all starts is not believed."""
    spec = models.full("normsys")
    expected = limit(spec)
    test = Profile.test
    found_lower: set[int] = set()

    def blind(self, rows, mu, *, on_data, thorough):
        """Fits that miss the lower minimum on the data until one from all starts finds it."""
        q, q_asimov = test(self, rows, mu, on_data=on_data, thorough=thorough)
        if thorough:
            found_lower.update(rows[on_data])
        missed = on_data & ~np.isin(rows, list(found_lower))
        return np.where(missed, q + 0.5, q), q_asimov

    monkeypatch.setattr(Profile, "test", blind)
    result = limit(spec)
    assert result.observed.mu == pytest.approx(expected.observed.mu, rel=1e-6)
    assert result.status == "ok"


def test_minima_without_end_are_a_state(monkeypatch):
    test = Profile.test
    rounds = [0]

    def jumping(self, rows, mu, *, on_data, thorough):
        q, q_asimov = test(self, rows, mu, on_data=on_data, thorough=thorough)
        rounds[0] += thorough
        return q, q_asimov * (1.0 + 0.01 * rounds[0])

    monkeypatch.setattr(Profile, "test", jumping)
    result = limit(models.counting(), LimitSettings())
    assert {entry.state for entry in result.expected} == {"unsettled"}
    assert values(result)[1:] == [None] * 5
    assert result.status == "suspect"
    assert "jumps" in result.expected[0].reason


def test_patches_do_not_disturb_one_another():
    engine = make_engine(models.background("normsys", "histosys"), FitSettings())
    patches = [Patch(entry["metadata"]["name"], (), entry["patch"]) for entry in models.grid(3)]
    together = {patch.name: values(result) for patch, result in upper_limits(engine, patches)}
    for patch in patches[::2]:
        ((_, alone),) = upper_limits(engine, [patch])
        assert together[patch.name] == pytest.approx(values(alone), rel=2e-4)
    ordered = [together[patch.name][3] for patch in patches]
    assert ordered == sorted(ordered)  # weaker signals have higher limits


# --------------------------------------------------------------------------- published likelihoods


@pytest.mark.usefixtures("_points_at_random")
@pytest.mark.parametrize(
    ("region", "names"),
    [
        ("RegionA", ["sbottom_850_180_50"]),
        pytest.param("RegionC", ["sbottom_800_250_60"], marks=pytest.mark.study),
        pytest.param(
            "RegionA", ["sbottom_500_131_1", "sbottom_650_131_1"], marks=pytest.mark.study
        ),
        pytest.param(
            "RegionC", ["sbottom_700_250_60", "sbottom_900_530_400"], marks=pytest.mark.study
        ),
    ],
)
def test_likelihoods_with_many_minima(shared, tmp_path, region, names):
    """Minima that change places with mu: nearby fits follow another one than the lowest."""
    workspace, patches = read_likelihood(shared, tmp_path, "sbottom", region)
    chosen = [patch for patch in patches if patch.name in names]
    comparison = list(upper_limits(make_engine(workspace, FitSettings()), chosen))
    assert len(comparison) == len(names)
    for patch, result in comparison:
        assert isinstance(result, Limits), (patch.name, result)
        assert result.status == "ok", (patch.name, result)
        values_known = [entry.mu for entry in result.expected if entry.mu is not None]
        assert values_known == sorted(values_known)
        for entry in (result.observed, *result.expected):
            if entry.state == "found":
                assert entry.CLs == pytest.approx(0.05, rel=1e-3)
                assert entry.tolerance <= 1e-4 * entry.mu


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.study)])
def test_published_limits_of_the_staus(shared, tmp_path, step, request):
    """They are on the cross section, which depends on the stau's mass alone.

    And they are those of the background's nearer minimum: at the lower one they are weaker.
    """
    if step == 1:
        request.getfixturevalue("_points_at_random")
    workspace, patches = read_likelihood(shared, tmp_path, "staus", "combined")
    masses = {patch.name: patch.values for patch in patches}  # noqa: PD011  nothing of pandas
    chosen = [patch for patch in patches if masses[patch.name][0] == 320][::step]
    table = read_limits(shared / "published/staus/upper_limits.csv", 0, 1, 2)

    answers = list(upper_limits(make_engine(workspace, FitSettings()), chosen))

    def against_published(observed):
        rows = [
            {"patch": name, **dict(zip("xy", masses[name], strict=True)), "mu_obs": mu}
            for name, mu in observed.items()
        ]
        result = compare(pd.DataFrame(rows), table, "pb")
        assert result.matched == len(chosen) == len(range(0, 6, step))
        return result.spread["largest"]

    lowest = {patch.name: result.observed.mu for patch, result in answers}
    assert (0.02 if step == 1 else 0.002) < against_published(lowest) < 0.04
    nearer = {patch.name: result.other.observed.mu for patch, result in answers}
    assert against_published(nearer) < 0.002
    assert all(1.002 < lowest[name] / nearer[name] < 1.06 for name in lowest)


# --------------------------------------------------------------------------- as a product


def make(tmp_path, count=2, **settings):
    background = models.background()
    content = models.patchset(background, models.grid(count))
    paths = models.write(tmp_path, background, content)
    chosen = Settings(**settings)
    product = product_of("limits", chosen)
    return scan.Scan.read("search/SR limits", *paths, ["*"], chosen.fit, product)


def run(todo, tmp_path, executor):
    store = RecordStore(tmp_path / todo.product.folder())
    return runs.run(todo, store, executor, ExecutorSettings()), store


def test_records_of_limits_and_their_resume(tmp_path):
    executor = Counting()
    todo = make(tmp_path)
    result, store = run(todo, tmp_path, executor)
    assert result["fitted"] == 2
    assert store.folder.name == "limits"
    record = store.read(store.path("signal_200_50"))
    assert record["key"]["product"]["name"] == "limits"
    assert record["mu_exp"] == sorted(record["mu_exp"])
    assert record["observed"]["state"] == "found"
    store.path("signal_200_50").unlink()
    again, _ = run(make(tmp_path), tmp_path, executor)
    assert again["fitted"] == 1
    assert executor.tasks.count("signal_200_50") == 2
    assert executor.tasks.count("signal_100_50") == 1


def test_settings_decide_which_limits_are_found_anew(tmp_path):
    executor = Counting()
    run(make(tmp_path, 1), tmp_path, executor)
    for other in (
        {"limits": LimitSettings(tolerance=1e-3)},
        {"limits": LimitSettings(mu_max=5.0)},
        {"contour": ContourSettings(confidence_level=0.9)},
        {"fit": FitSettings(test_statistic="q")},
    ):
        assert run(make(tmp_path, 1, **other), tmp_path, executor)[0]["fitted"] == 1, other
    # The first one is kept, and belongs to settings of other things, too.
    other = {"contour": ContourSettings(grid=100), "executor": ExecutorSettings(workers=3)}
    for same in ({}, other):
        assert run(make(tmp_path, 1, **same), tmp_path, executor)[0]["fitted"] == 0


def test_a_worker_says_what_failed(tmp_path):
    executor = Counting()
    todo = make(tmp_path)
    bad = Patch("bad", (1, 2), ({"op": "remove", "path": "/channels/7"},))
    todo = scan.replace(todo, patches=(*todo.patches, bad))
    result, store = run(todo, tmp_path, executor)
    assert result["patches"]["bad"]["status"] == "failed"
    assert result["patches"]["signal_100_50"]["status"] == "ok"
    assert store.read(store.path("bad"))["error"]["kind"] == "PalletError"


def test_compute_is_what_the_worker_calls():
    engine = make_engine(models.full("normsys"), FitSettings())
    settings = product_of("limits", Settings()).settings
    ((patch, plain),) = limits.compute(engine, [ALL], settings)
    assert patch.name == "all"
    assert plain["mu_obs"] == plain["observed"]["mu"]
    assert pyhf.__version__ == plain["software"]["pyhf"]


# --------------------------------------------------------------------------- jumps


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sqrt(q) on Asimov data jump by one at mu = 1.2, as if a minimum were lost there."""
    original = Profile.test

    def test(self, rows, mu, **choices):
        q, q_asimov = original(self, rows, mu, **choices)
        return q, np.where(mu > 1.2, (np.sqrt(q_asimov) + 1.0) ** 2, q_asimov)

    monkeypatch.setattr(Profile, "test", test)


@pytest.mark.usefixtures("jumping")
def test_a_limit_where_cls_jumps_says_so():
    result = limit(models.counting(10.0, 50.0, 52.0), LimitSettings())
    for entry in result.expected:
        assert (entry.jump is not None) == (abs(entry.mu - 1.2) < 1e-3)
        if entry.jump is not None:
            below, above = entry.jump
            assert below > 0.05 > above
            assert entry.state == "found"
        else:
            assert entry.CLs == pytest.approx(0.05, rel=1e-3)
    jumps = [entry.jump for entry in result.expected if entry.jump is not None]
    assert jumps
    assert sum("CLs jumps from" in remark for remark in result.remarks) >= len(jumps)
    plain = result.as_json()
    LimitsResult.model_validate(plain)
    assert [entry["jump"] for entry in plain["expected"]].count(None) == 5 - len(jumps)


def test_an_ordinary_limit_has_no_jump():
    for tolerance in (0.05, 1e-4):
        result = limit(models.counting(10.0, 50.0, 52.0), LimitSettings(tolerance=tolerance))
        assert all(entry.jump is None for entry in (result.observed, *result.expected))
