"""Tests from references: what full tests give, whatever the order, and full tests where needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palletfit
from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fits import Fits
from palletfit.engine.records import HypotestResult
from palletfit.engine.warm import References, distance
from palletfit.engine.warm_tests import WarmHypotests, choose_references, disagreement
from palletfit.errors import ConfigError
from palletfit.pallet.patches import Patch

from ...likelihoods import read_likelihood
from .. import models

Results = dict[str, HypotestResult]
#: Two normalizations, a shape that acts in the same direction whatever its sign, and staterrors.
CHANNELS = {"CR": [200.0, 120.0], "SR": [30.0, 12.0, 4.0]}
OBSERVED = {"CR": [205.0, 115.0], "SR": [27.0, 14.0, 7.0]}


def workspace() -> Any:
    def background(events: list[float]) -> Any:
        up = [1.05 * count for count in events]
        return models.sample(
            "bkg",
            events,
            {"name": "norm", "type": "normfactor", "data": None},
            {"name": "scale", "type": "normsys", "data": {"hi": 1.1, "lo": 0.92}},
            {"name": "jes", "type": "histosys", "data": {"hi_data": up, "lo_data": events}},
        )

    return models.workspace(
        {name: [background(events)] for name, events in CHANNELS.items()}, OBSERVED
    )


def signal(number: int, size: float = 1.0, *, bent: bool = True) -> Patch:
    """Make one of many signals, whose rates bend with the background's jes."""
    rng = np.random.default_rng(number)
    operations = []
    for position, events in enumerate(CHANNELS.values()):
        counts = size * rng.lognormal(1.0, 0.5, len(events)) * (0.3 + position)
        same_side = {"hi_data": (1.3 * counts).tolist(), "lo_data": (1.2 * counts).tolist()}
        modifiers = [
            {"name": "xsec", "type": "normsys", "data": {"hi": 1.2, "lo": 0.8}},
            *([{"name": "jes", "type": "histosys", "data": same_side}] if bent else []),
        ]
        value = models.signal(counts.tolist(), *modifiers)
        path = f"/channels/{position}/samples/-"
        operations.append({"op": "add", "path": path, "value": value})
    return Patch(f"signal {number} {size:g}", (), operations)


def engine(**settings: Any) -> BatchedEngine:
    return BatchedEngine(workspace(), FitSettings(**settings))


def results_of(tests: Any, patches: Sequence[Patch], made: BatchedEngine | None = None) -> Results:
    results = {patch.name: result for patch, result in (made or engine()).calculate(tests, patches)}
    assert all(isinstance(result, HypotestResult) for result in results.values())
    return results


def full_results(patches: Sequence[Patch], **settings: Any) -> Results:
    return {patch.name: result for patch, result in engine(**settings).hypotests(patches)}


@pytest.fixture(scope="module")
def references() -> References:
    return choose_references(engine(), [signal(number) for number in range(24)], count=6)


#: Signals that are no references.
POINTS = [signal(number) for number in range(100, 116)]


@pytest.mark.parametrize(
    "settings", [{}, {"test_statistic": "q0"}, pytest.param({"mu": 0.5}, marks=pytest.mark.study)]
)
def test_results_are_those_of_full_tests(settings: Any) -> None:
    made = engine(**settings)
    chosen = choose_references(made, [signal(number) for number in range(12)], count=4)
    counts: Counter[str] = Counter()
    results = results_of(WarmHypotests(references=chosen, counts=counts), POINTS[:8], made)
    assert counts["warm"] >= 7
    for name, full in full_results(POINTS[:8], **settings).items():
        assert disagreement(results[name], full) == ""
        assert results[name].mu_hat == pytest.approx(full.mu_hat, abs=1e-5)
        assert results[name].mu_hat_error == pytest.approx(full.mu_hat_error, rel=1e-4)
        assert all(fit.trusted and fit.edm <= 1e-10 for fit in results[name].fits.values())


def test_results_depend_on_the_signal_and_the_references_only(references: References) -> None:
    tests = WarmHypotests(references=references)
    points = POINTS[:6]
    together = results_of(tests, points)
    backwards = results_of(tests, points[::-1])
    for patch in points:
        alone = results_of(tests, [patch])[patch.name]
        for other in (together[patch.name], backwards[patch.name]):
            assert other.p_values.CLs_obs == pytest.approx(alone.p_values.CLs_obs, abs=1e-12)
            assert other.remarks == alone.remarks


def test_references_do_not_depend_on_the_order_of_signals(references: References) -> None:
    backwards = [signal(number) for number in reversed(range(24))]
    again = choose_references(engine(), backwards, count=6)
    assert [member.name for member in again.members] == [m.name for m in references.members]
    assert again.distrusted == references.distrusted


@pytest.mark.usefixtures("_points_at_random")
def test_few_evaluations_are_made(references: References) -> None:
    made = engine()
    ((batch, _),), _ = made.lower(POINTS[:6])
    tests = made.batch_fits(batch)
    warm = palletfit.engine.warm.WarmFits(tests, references.members).four_fits()
    full = tests.four_fits()
    spent, all_spent = (sum(kind.spent.sum() for kind in fits.values()) for fits in (warm, full))
    assert spent < all_spent / 10


def test_signals_far_from_all_references_are_searched_in_full(references: References) -> None:
    far = signal(7, 20.0)
    counts: Counter[str] = Counter()
    result = results_of(WarmHypotests(references=references, counts=counts), [far])[far.name]
    assert counts == {"it is far from all references": 1}
    assert result.remarks[-1] == "searched in full, because it is far from all references"


def test_signals_that_are_searched_in_full_are_searched_together(
    references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = engine()
    monkeypatch.setattr(made, "chunk_size", lambda: 2)
    sizes = []
    batch_fits = made.batch_fits

    def noted(batch: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append(len(batch))
        return batch_fits(batch, *arguments, **options)

    monkeypatch.setattr(made, "batch_fits", noted)
    # One of each chunk is far.
    points = [signal(7, 20.0), POINTS[0], POINTS[1], signal(8, 20.0), POINTS[2]]
    counts: Counter[str] = Counter()
    results = results_of(WarmHypotests(references=references, counts=counts), points, made)
    assert list(results) == [
        POINTS[0].name,
        POINTS[1].name,
        points[0].name,
        points[3].name,
        POINTS[2].name,
    ]
    assert sizes == [2, 2, 2, 1]
    assert counts == {"warm": 3, "it is far from all references": 2}


def test_signals_of_other_data_are_far(references: References) -> None:
    operations = [
        *signal(8).operations,
        {"op": "replace", "path": "/observations/0/data/0", "value": 210.0},
    ]
    counts: Counter[str] = Counter()
    tests = WarmHypotests(references=references, counts=counts)
    results_of(tests, [Patch("other", (), operations)])
    assert counts == {"it is far from all references": 1}


def test_signals_near_a_distrusted_reference_are_searched_in_full(references: References) -> None:
    distrusted = replace(references, distrusted=frozenset(range(len(references.members))))
    counts: Counter[str] = Counter()
    results_of(WarmHypotests(references=distrusted, counts=counts), POINTS[:2])
    assert counts == {"checks near its nearest reference had other results": 2}


def rare(number: int) -> Patch:
    """Make signals beside an excess that a rare sample's unlikely rate explains better."""
    counts = [0.5 + 0.02 * number, 4.0 + 0.1 * number]
    value = models.signal(counts)
    return Patch(
        f"rare {number}", (), [{"op": "add", "path": "/channels/0/samples/-", "value": value}]
    )


def rare_workspace() -> Any:
    rate = {"name": "rare_rate", "type": "normsys", "data": {"hi": 40.0, "lo": 0.01}}
    norm = {"name": "norm", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    samples = [models.sample("bkg", [6.0, 40.0], norm), models.sample("rare", [0.04, 0.0], rate)]
    return models.workspace({"SR": samples}, {"SR": [10.0, 38.0]})


@pytest.mark.usefixtures("_points_at_random")
def test_missed_minima_are_found_by_checks() -> None:
    made = BatchedEngine(rare_workspace(), FitSettings())
    chosen = choose_references(made, [rare(number) for number in range(4)], count=2)
    # References that know the valley near the suggested values only.
    members = [
        replace(member, ends={name: 0.0 * ends[:1] for name, ends in member.ends.items()})
        for member in chosen.members
    ]
    counts: Counter[str] = Counter()
    patches = [rare(number) for number in range(10, 13)]
    tests = WarmHypotests(references=References(tuple(members), check_period=1), counts=counts)
    results = results_of(tests, patches, made)
    assert counts["checked"] == counts["disagreed"] == 3
    for patch, full in made.hypotests(patches):
        assert disagreement(results[patch.name], full) == ""
        assert "tested from references it" in results[patch.name].remarks[-1]


def test_checks_that_agree_are_counted(references: References) -> None:
    counts: Counter[str] = Counter()
    results_of(
        WarmHypotests(references=replace(references, check_period=1), counts=counts), POINTS[:3]
    )
    assert (counts["checked"], counts["disagreed"], counts["warm"]) == (3, 0, 0)


def test_distance_is_in_standard_deviations() -> None:
    # The root of 121 expected events is 11, and its standard deviation 1/2.
    assert distance(np.array([[21.0, 0.0]]), np.zeros(2), np.array([100.0, 5.0])) == 2.0


def test_one_alpha_at_a_time_has_the_value_of_single_points() -> None:
    made = engine()
    ((batch, _),), _ = made.lower(POINTS[:3])
    tests = made.batch_fits(batch)
    rng = np.random.default_rng(1)
    spread = np.where(batch.fixed, 0.0, 0.3 * tests.fitter.widths)
    point = batch.init + spread * rng.standard_normal(batch.init.shape)
    goals = rng.normal(0, 1.2, (3, batch.layout.alphas))
    fits = Fits(batch.data, batch.aux, 1.0, tests.rows)
    values = tests.likelihood.values_along(fits, point, tests.rows, goals)
    for column in range(batch.layout.alphas):
        moved = point.copy()
        moved[:, column] = goals[:, column]
        expected = tests.likelihood.values(fits, moved, tests.rows)
        np.testing.assert_allclose(values[:, column], expected, atol=1e-10)


@pytest.mark.parametrize("settings", [{"minimum": "nearest"}, {"engine": "reference"}])
def test_settings_without_references_are_refused(settings: Any) -> None:
    with pytest.raises(ConfigError):
        palletfit.PointTests(workspace(), signal(0).operations, check=False, **settings)


def test_signals_of_other_parameters_start_from_suggested_values(references: References) -> None:
    """A reference's ends are placed by name."""
    plain = signal(101, bent=False)
    results = results_of(WarmHypotests(references=references), [plain])
    assert disagreement(results[plain.name], full_results([plain])[plain.name]) == ""


@pytest.mark.study
@pytest.mark.usefixtures("_points_at_random")
@pytest.mark.parametrize(("analysis", "region"), [("1Lbb", "1Lbb"), ("sbottom", "RegionA")])
def test_published_signals(shared: Path, tmp_path: Path, analysis: str, region: str) -> None:
    """Every second published signal is tested from the others."""
    background, patches = read_likelihood(shared, tmp_path, analysis, region)
    made = BatchedEngine(background, FitSettings())
    chosen = choose_references(made, patches[::2])
    counts: Counter[str] = Counter()
    results = results_of(WarmHypotests(references=chosen, counts=counts), patches[1::2], made)
    assert counts["warm"] > 0
    higher = [
        patch.name
        for patch, full in made.hypotests(patches[1::2])
        if max(
            results[patch.name].fits[name].twice_nll - full.fits[name].twice_nll
            for name in ("background", "free", "fixed")
        )
        > 0.01
    ]
    assert len(higher) <= 1
