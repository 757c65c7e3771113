"""Pseudo-experiments: the same toys however they are split, and the right CLs from them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyhf
import pytest
from scipy.stats import poisson

from palletfit.config import FitSettings, ToySettings, parse
from palletfit.engine.asymptotics import p_values
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.likelihood import constants
from palletfit.engine.toys.ensembles import Ends, Pairs
from palletfit.errors import ConfigError, FitError, PalletError, StoreError
from palletfit.pallet.patches import Patch
from palletfit.products.toys import compute as toys
from palletfit.products.toys import results as toy_results
from palletfit.products.toys.compute import ALTERNATIVE, BLOCK, HYPOTHESES, TESTED, Toys, run_shard
from palletfit.products.toys.results import enough, merge, toys_needed

from ... import models

NO_PATCH = Patch("p", (), [])
SYSTEMATIC = ("normfactor", "normsys", "histosys", "staterror")


def make(spec: Any, *, seed: int = 1, **settings: Any) -> Toys:
    return Toys(BatchedEngine(spec, FitSettings(**settings)), NO_PATCH, ToySettings(seed=seed))


def result(spec: Any, count: int, *, seed: int = 1, **settings: Any) -> toy_results.ToyResult:
    return merge([make(spec, seed=seed, **settings).shard(0, count)])


# ---------------------------------------------------------------------- fits and test statistics


def to_pyhf(maker: Toys, model: Any, data: np.ndarray, aux: np.ndarray) -> np.ndarray:
    """One toy in pyhf's order."""
    batch = maker.batch
    main = np.zeros(len(data))
    main[batch.layout.bin_order] = data
    column = {name: index for index, name in enumerate(batch.names[0])}
    extra = []
    for name in model.config.auxdata_order:
        size = model.config.param_set(name).n_parameters
        scalar = model.config.param_set(name).is_scalar
        extra += [aux[column[name if scalar else f"{name}[{n}]"]] for n in range(size)]
    return np.array([*main, *extra])


#: Each kind of modifier and each hypothesis once; the other pairs are studies.
KINDS_AND_HYPOTHESES = [
    *((SYSTEMATIC, TESTED), (("staterror", "lumi"), ALTERNATIVE), (("shapesys",), ALTERNATIVE)),
    *(
        pytest.param(kinds, hypothesis, marks=pytest.mark.study)
        for kinds, hypothesis in (
            *((SYSTEMATIC, ALTERNATIVE), (("staterror", "lumi"), TESTED)),
            (("shapesys",), TESTED),
        )
    ),
]


@pytest.mark.parametrize(("kinds", "hypothesis"), KINDS_AND_HYPOTHESES)
def test_both_fits_of_a_toy_are_those_of_pyhf(kinds: Sequence[str], hypothesis: str) -> None:
    spec = models.full(*kinds)
    maker, (model, observed) = make(spec), models.model_and_data(spec)
    np.testing.assert_allclose(
        to_pyhf(maker, model, maker.batch.data[0], maker.batch.aux[0]), observed, rtol=1e-15
    )
    sets = maker.draw(hypothesis, np.arange(4))
    pairs = maker.fit(hypothesis, sets)
    assert pairs.converged.all()
    constant = constants(maker.batch, sets.data, sets.aux)
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(strategy=1))
    for row in range(len(sets)):
        toy = to_pyhf(maker, model, sets.data[row], sets.aux[row])
        for ends, fit in (
            (pairs.free, pyhf.infer.mle.fit),
            (pairs.fixed, lambda *args, **more: pyhf.infer.mle.fixed_poi_fit(1.0, *args, **more)),
        ):
            _, theirs = fit(toy, model, return_fitted_val=True)
            ours = 2 * (ends.value[row] + constant[row])
            # The lower one is right.
            assert ours < float(theirs) + 1e-6
            assert ours == pytest.approx(float(theirs), abs=2e-3)


def test_statistic_is_that_of_the_asymptotics_module() -> None:
    mu_hat, fixed, free = np.array([-0.5, 0.3, 1.7]), np.array([5.0, 4, 3]), np.array([4.0, 3.5, 3])
    np.testing.assert_array_equal(toys.statistic("qtilde", 1.0, mu_hat, fixed, free), [2, 1, 0])
    np.testing.assert_array_equal(toys.statistic("q0", 0.0, mu_hat, fixed, free), [0, 1, 0])


def test_p_values_and_percentiles_are_those_of_pyhf() -> None:
    shard = make(models.full("shapesys")).shard(0, 700)
    merged = merge([shard])
    pyhf.set_backend("numpy")
    pvalues = pyhf.infer.calculators.ToyCalculator.pvalues
    dist = pyhf.infer.calculators.EmpiricalDistribution
    distributions = [dist(np.array(shard[name]["q"])) for name in HYPOTHESES]
    observed = pvalues(None, merged.q, *distributions)
    np.testing.assert_allclose([merged.CLsb_obs, merged.CLb_obs, merged.CLs_obs], observed)
    # pyhf's own expected_pvalues asks NumPy for an option that newer versions do not have.
    each = [pvalues(None, q, *distributions)[2] for q in distributions[1].samples]
    bands = np.percentile(each, [2.27501319, 15.86552539, 50.0, 84.13447461, 97.72498681])
    np.testing.assert_allclose(merged.CLs_exp, bands, atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "mu", "count"),
    [
        ("qtilde", 1.0, 20),
        pytest.param("qtilde", 1.0, 100, marks=pytest.mark.study),
        pytest.param("q0", 0.0, 100, marks=pytest.mark.study),  # a test of discovery is below
    ],
)
def test_cls_agree_with_pyhfs_toys(kind: str, mu: float, count: int) -> None:
    spec = models.full("shapesys")
    merged = result(spec, 8 * BLOCK, test_statistic=kind)
    model, data = models.model_and_data(spec)
    pyhf.set_backend("numpy")
    np.random.seed(4)  # noqa: NPY002  what pyhf draws with
    calculator = pyhf.infer.calculators.ToyCalculator(
        data, model, test_stat=kind, ntoys=count, track_progress=False
    )
    q = calculator.teststatistic(mu)
    assert merged.q == pytest.approx(float(q), abs=1e-4)
    clsb, clb, _ = map(float, calculator.pvalues(q, *calculator.distributions(mu)))
    for ours, pyhfs in ((merged.CLsb_obs, clsb), (merged.CLb_obs, clb)):
        assert abs(ours - pyhfs) < 4 * np.sqrt(ours * (1 - ours) / count)


# ---------------------------------------------------------------------- what CLs have to be


def counting_exact(signal: float, expected: float, seen: int) -> tuple[float, list[float]]:
    """Observed and expected CLs of a counting experiment, by sums of Poisson probabilities."""
    counts = np.arange(200)

    def nll(mu: np.ndarray) -> np.ndarray:
        rate = mu * signal + expected
        return rate - counts * np.log(rate)

    best = np.clip((counts - expected) / signal, 0.0, 10.0)
    q = np.where(best > 1.0, 0.0, 2 * (nll(np.ones(200)) - nll(best)))
    more = q[None, :] >= q[:, None] - 1e-9
    tested, alternative = poisson.pmf(counts, signal + expected), poisson.pmf(counts, expected)
    cls = more @ tested / (more @ alternative)
    order = np.argsort(cls)
    cumulative = np.cumsum(alternative[order])
    at = [0.02275, 0.158655, 0.5, 0.841345, 0.97725]
    return cls[seen], [cls[order][np.searchsorted(cumulative, level)] for level in at]


@pytest.mark.parametrize(
    ("seen", "blocks"),
    [(3, 20), *(pytest.param(seen, 40, marks=pytest.mark.study) for seen in (0, 1))],
)
def test_few_events_have_the_exact_answer_and_not_the_asymptotic_one(
    seen: int, blocks: int
) -> None:
    merged = result(models.counting(4.0, 1.0, seen), blocks * BLOCK)
    exact, expected = counting_exact(4.0, 1.0, seen)
    assert abs(merged.CLs_obs - exact) < 4 * merged.CLs_obs_error
    for ours, error, theirs in zip(merged.CLs_exp, merged.CLs_exp_errors, expected, strict=True):
        assert abs(ours - theirs) < 4 * error
    ((_, asymptotic),) = BatchedEngine(models.counting(4.0, 1.0, seen), FitSettings()).hypotests(
        [NO_PATCH]
    )
    assert asymptotic.p_values.q == pytest.approx(merged.q, abs=1e-8)
    assert abs(asymptotic.p_values.CLs_obs - exact) > 4 * merged.CLs_obs_error


def test_many_events_agree_with_the_asymptotic_answer() -> None:
    spec = models.workspace(
        {
            "SR": [
                models.sample("bkg", [9000.0, 8000.0], models.MODIFIERS["shapesys"]),
                models.signal([180.0, 250.0]),
            ]
        },
        {"SR": [9020.0, 8110.0]},
    )
    merged = result(spec, 12 * BLOCK)
    ((_, asymptotic),) = BatchedEngine(spec, FitSettings()).hypotests([NO_PATCH])
    assert abs(asymptotic.p_values.CLs_obs - merged.CLs_obs) < 4 * merged.CLs_obs_error
    # Above the median qtilde of the toys is zero, which the formulae do not show.
    for number in (1, 2):
        difference = asymptotic.p_values.CLs_exp[number] - merged.CLs_exp[number]
        assert abs(difference) < 4 * merged.CLs_exp_errors[number]


def test_discovery() -> None:
    spec = models.full("shapesys", observed=(85.0, 70.0))
    merged = result(spec, 16 * BLOCK, test_statistic="q0")
    ((_, asymptotic),) = BatchedEngine(spec, FitSettings(test_statistic="q0")).hypotests([NO_PATCH])
    assert merged.mu == 0.0
    assert merged.q == pytest.approx(asymptotic.p_values.q, abs=1e-8)
    assert abs(merged.CLs_obs - asymptotic.p_values.CLs_obs) < 4 * merged.CLs_obs_error
    assert merged.CLs_obs == merged.CLsb_obs


def scattered(spec: Any, times: int) -> list[toy_results.ToyResult]:
    """Results of different toys."""
    maker = make(spec)
    shards = [maker.shard(number * BLOCK, BLOCK) for number in range(times)]
    return [merge([{**shard, "first": 0}]) for shard in shards]


def test_uncertainties_are_as_large_as_results_scatter() -> None:
    exact, _ = counting_exact(4.0, 1.0, 3)
    spec = models.counting(4.0, 1.0, 3.0)
    merged = scattered(spec, 20)
    pulls = np.array([(entry.CLs_obs - exact) / entry.CLs_obs_error for entry in merged])
    assert abs(pulls.mean()) < 0.5
    assert 0.7 < pulls.std() < 1.3
    # The percentiles of a continuous statistic.
    spec = models.full("shapesys")
    merged = scattered(spec, 8)
    for number in (1, 2, 3):
        values = np.array([entry.CLs_exp[number] for entry in merged])
        errors = np.mean([entry.CLs_exp_errors[number] for entry in merged])
        assert 0.5 < values.std() / errors < 1.5


# ---------------------------------------------------------------------- empty bins


@pytest.mark.parametrize(
    ("settings", "control"),
    [
        ({"test_statistic": "q0"}, 12.0),
        ({"histosys": "code0"}, 12.0),  # of all parameters, and not of a profile
        pytest.param({}, None, marks=pytest.mark.study),
        pytest.param({}, 12.0, marks=pytest.mark.study),
        pytest.param({"histosys": "code0"}, None, marks=pytest.mark.study),
        pytest.param({"test_statistic": "q0"}, None, marks=pytest.mark.study),
    ],
)
def test_rates_below_zero_count_as_in_hypothesis_tests(
    settings: dict[str, Any], control: float | None
) -> None:
    spec = models.below_zero(control=control)
    ((_, test),) = BatchedEngine(spec, FitSettings(**settings)).hypotests([NO_PATCH])
    maker = make(spec, **settings)
    assert maker.observed["q"] == pytest.approx(test.p_values.q, abs=1e-6)
    for hypothesis in HYPOTHESES:
        assert maker.fit(hypothesis, maker.draw(hypothesis, np.arange(8))).converged.all()


# ---------------------------------------------------------------------- shards


@pytest.fixture(scope="module")
def maker() -> Toys:
    return make(models.full(*SYSTEMATIC))


def test_toys_are_the_same_however_they_are_split(maker: Toys) -> None:
    count = BLOCK + 90
    complete = maker.shard(0, count)
    again = make(models.full(*SYSTEMATIC))
    # Neither at the borders of blocks, nor in order, nor in one process.
    edges = [0, 1, 200, BLOCK + 1, 300, count]
    parts = [
        json.loads(json.dumps(again.shard(first, end - first)))
        for first, end in itertools.pairwise(edges)
    ]
    for hypothesis in HYPOTHESES:
        together = [q for part in parts for q in part[hypothesis]["q"]]
        assert together == complete[hypothesis]["q"]
    assert merge(parts[::-1]) == merge([complete])
    # A shard that was made twice, because a run was resumed, counts once.
    assert merge([*parts, parts[2]]) == merge([complete])


def test_a_toy_depends_on_nothing_but_its_key(maker: Toys) -> None:
    numbers = np.array([5, 3_000_000_000])
    sets = maker.draw(TESTED, numbers)
    np.testing.assert_array_equal(maker.draw(TESTED, numbers[1:]).data[0], sets.data[1])
    np.testing.assert_array_equal(maker.draw(TESTED, numbers[1:]).aux[0], sets.aux[1])
    shifted = [
        maker.draw(ALTERNATIVE, numbers),
        make(models.full(*SYSTEMATIC), seed=2).draw(TESTED, numbers),
    ]
    for other in shifted:
        assert np.all(np.any(other.aux != sets.aux, axis=1))
    # Even fitted alone a toy has the same q, but for rounding.
    together = maker.fit(TESTED, maker.draw(TESTED, np.arange(64)))
    alone = maker.fit(TESTED, maker.draw(TESTED, np.arange(5, 6)))
    assert alone.free.value[0] == pytest.approx(together.free.value[5], abs=1e-9)


def test_toys_are_drawn_from_the_model(maker: Toys) -> None:
    sets, batch, source = maker.draw(TESTED, np.arange(4000)), maker.batch, maker.sources[TESTED]
    np.testing.assert_allclose(sets.data.mean(axis=0), source.expected, rtol=0.02)
    np.testing.assert_allclose(sets.data.var(axis=0), source.expected, rtol=0.12)
    gauss = batch.precision[0] > 0
    pulls = ((sets.aux - source.point) * np.sqrt(batch.precision))[:, gauss]
    assert np.abs(pulls.mean(axis=0)).max() < 0.07
    assert np.abs(pulls.std(axis=0) - 1).max() < 0.05
    assert source.mu == 1.0
    assert maker.sources[ALTERNATIVE].mu == 0.0


def test_shards_that_do_not_belong_together() -> None:
    maker = make(models.counting())
    first, second = maker.shard(0, 10), maker.shard(10, 10)
    other = make(models.counting(), seed=7).shard(10, 10)
    moved = {**second, "observed": {**second["observed"], "q": second["observed"]["q"] + 1e-3}}
    for shards, problem in (
        ([], "no toys"),
        ([second], "Toys 0 to 9 are missing"),
        ([first, maker.shard(20, 5)], "Toys 10 to 19 are missing"),
        ([first, maker.shard(8, 5)], "Toys 8 to 9 come twice"),
        ([first, other], "'seed'"),
        ([first, moved], "observed q"),
    ):
        with pytest.raises(StoreError, match=problem):
            merge(shards)


# ---------------------------------------------------------------------- failures


def failing(rows: Sequence[int]) -> Callable[[Pairs], Pairs]:
    def spoil(pairs: Pairs) -> Pairs:
        bad: Ends = pairs.free
        bad.converged[list(rows)] = False
        bad.outcome[list(rows)] = 3
        return pairs

    return spoil


def test_toys_without_a_minimum_are_counted_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = make(models.full("shapesys"))
    complete = maker.shard(0, BLOCK)
    fit, spoil = maker.fit, failing([3, 100])

    def spoiled(hypothesis: str, sets: Any) -> Pairs:
        pairs = fit(hypothesis, sets)
        return spoil(pairs) if hypothesis == ALTERNATIVE else pairs

    monkeypatch.setattr(maker, "fit", spoiled)
    shard = json.loads(json.dumps(maker.shard(0, BLOCK)))
    assert shard[ALTERNATIVE]["q"][3] is None
    assert [entry["toy"] for entry in shard[ALTERNATIVE]["failed"]] == [3, 100]
    assert "free fit: too many iterations" in shard[ALTERNATIVE]["failed"][0]["reason"]
    merged = merge([shard])
    assert merged.status == "suspect"
    assert merged.failed == {TESTED: [], ALTERNATIVE: [3, 100]}
    assert merged.remarks == ("2 toys have no test statistic under the alternative hypothesis",)
    low, high = merged.CLs_obs_range
    assert low < high
    assert low <= merge([complete]).CLs_obs <= high
    assert merge([complete]).status == "ok"
    assert maker.shard(BLOCK, 1)[ALTERNATIVE]["failed"] == []


def test_fits_that_do_not_converge_are_tried_from_all_starts(
    monkeypatch: pytest.MonkeyPatch, maker: Toys
) -> None:
    sets = maker.draw(TESTED, np.arange(20))
    real, starts = maker.ensemble.fit, []

    def stubborn(
        sets: Any, start: Any, mu: float | None, *, patient: bool = False, **options: Any
    ) -> Ends:
        ends = real(sets, start, mu, patient=patient, **options)
        starts.append((len(sets), patient))
        if len(sets) == 20:
            ends.converged[4] = False
        elif not patient:
            ends.converged[:] = False
        return ends

    monkeypatch.setattr(maker.ensemble, "fit", stubborn)
    pairs = maker.fit(TESTED, sets)
    # The last attempt of the toy goes on from the best end with more patience.
    assert starts.count((1, True)) == 2
    assert starts.count((1, False)) >= 4
    assert pairs.converged.all()
    assert pairs.searched[4]


def test_no_toy_reaches_the_observed_statistic() -> None:
    merged = result(models.counting(30.0, 60.0, 20.0), BLOCK)
    assert np.isnan(merged.CLs_obs)
    assert merged.CLs_obs_error > 0
    assert merged.status == "suspect"
    assert merged.as_json()["CLs_obs"] is None
    assert not enough(merged, 0.5)
    assert "not defined" in merged.remarks[-1]


def test_how_many_toys_are_enough() -> None:
    spec = models.full("shapesys")
    merged = result(spec, 2 * BLOCK)
    assert enough(merged, 1.01 * merged.CLs_obs_error)
    assert not enough(merged, 0.99 * merged.CLs_obs_error)
    precision = merged.CLs_obs_error / 2
    needed = toys_needed(merged, precision)
    assert needed == pytest.approx(4 * merged.toys, rel=0.01)
    assert result(spec, needed).CLs_obs_error == pytest.approx(precision, rel=0.1)


# ---------------------------------------------------------------------- bad input


def test_bad_settings() -> None:
    for bad in ({"toys": 10}, {"seed": -1}, {"precision": 0.0}, {"toys_per_task": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            parse(ToySettings, bad, file="config.yaml")
    maker = make(models.counting())
    for first, count in ((-1, 5), (0, 0)):
        with pytest.raises(ConfigError, match="no shard"):
            maker.shard(first, count)


def test_a_test_that_the_measurement_does_not_allow() -> None:
    with pytest.raises(PalletError, match="outside the bounds") as caught:
        make(models.counting(), mu=20.0)
    assert caught.value.patch == "p"


def test_a_model_that_the_engine_does_not_support() -> None:
    spec = models.full("shapesys")
    spec["channels"][0]["samples"].append(
        models.sample("more", [1.0, 1.0], models.MODIFIERS["shapesys"])
    )
    with pytest.raises(PalletError, match="does not support") as caught:
        run_shard(BatchedEngine(spec, FitSettings()), NO_PATCH, ToySettings(), 0, 10)
    assert "toybased" in caught.value.remedy


def test_more_events_than_can_be_drawn() -> None:
    with pytest.raises(FitError, match="too many to be drawn"):
        make(models.counting(1e14, 1e16, 1e16))


# ---------------------------------------------------------------------- other ways to fit


@pytest.mark.parametrize("settings", [{"normsys": "code1", "histosys": "code0"}])
def test_interpolation_codes_with_kinks(settings: dict[str, Any]) -> None:
    maker = make(models.full("normsys", "histosys", "staterror"), **settings)
    assert not maker.ensemble.profiled
    merged = merge([maker.shard(0, 100)])
    assert merged.status == "ok"
    usual = result(models.full("normsys", "histosys", "staterror"), 100)
    assert merged.CLs_obs == pytest.approx(usual.CLs_obs, abs=0.1)


@pytest.mark.slow  # most of it is compilation
def test_jax_gives_the_same_toys_and_statistics() -> None:
    spec = models.full("staterror")
    shards = [make(spec, backend=backend).shard(0, 8) for backend in ("numpy", "jax")]
    for hypothesis in HYPOTHESES:
        ours, theirs = (np.array(shard[hypothesis]["q"]) for shard in shards)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_asymptotic_formulae_of_the_same_statistic() -> None:
    # The observed q goes into both.
    spec = models.full(*SYSTEMATIC)
    ((_, asymptotic),) = BatchedEngine(spec, FitSettings()).hypotests([NO_PATCH])
    observed = make(spec).observed["q"]
    again = p_values("qtilde", observed, asymptotic.p_values.q_asimov)
    assert again.CLs_obs == pytest.approx(asymptotic.p_values.CLs_obs, abs=1e-8)
