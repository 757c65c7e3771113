"""Quick descents: where they lead, and what they bring to the fits of toys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palletfit.config import FitSettings, Settings, ToySettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.toys import descents
from palletfit.engine.toys.compact import compact
from palletfit.engine.toys.descents import descend
from palletfit.engine.toys.ensembles import SOFT, DataSets, Ensemble
from palletfit.engine.toys.profiled import ProfiledModel, ProfileSolver
from palletfit.pallet.patches import Patch
from palletfit.products.toys.compute import Toys as Maker
from palletfit.products.toys.product import Toys

from ... import models
from .test_profiled import displaced, lower, toys


def lanes_of(spec: Any, size: float) -> tuple[ProfiledModel, Any]:
    batch = lower(spec)
    ensemble = Ensemble(BatchedEngine(spec, FitSettings()), batch)
    lanes = ensemble._narrow(toys(batch), displaced(batch, size), None, SOFT)
    return ProfiledModel(compact(batch), precise=False), lanes


@pytest.mark.parametrize(
    "kinds",
    [
        # More parameters than bins, and fewer.
        ("normsys", "histosys", "staterror", "lumi"),
        ("normsys", "shapesys"),
    ],
)
def test_descents_end_at_minima(kinds: tuple[str, ...]) -> None:
    profile, lanes = lanes_of(models.full(*kinds), 0.3)
    _, value = descend(profile, lanes, 60)
    minima = ProfileSolver(profile).minimise(lanes, 1e-8)
    assert minima.converged.all()
    np.testing.assert_allclose(value, minima.value, atol=1e-4)
    _, early = descend(profile, lanes, 3)
    assert np.all(early >= value - 1e-12)


def test_steps_are_the_same_from_few_bins_and_from_few_parameters() -> None:
    random = np.random.default_rng(3)
    at = descents.Linear(
        value=np.zeros(4),
        gradient=random.normal(size=(4, 6)),
        jacobian=random.normal(size=(4, 5, 6)),
        curvature=random.uniform(0.1, 2.0, (4, 5)),
        prior=np.ones((4, 6)),
    )
    frozen = random.uniform(size=(4, 6)) < 0.3
    by_bins = descents._step(at, np.full(4, 0.1), frozen)
    # The same system with bins that say nothing is solved by parameters.
    empty = np.zeros((4, 3, 6))
    wider = at._replace(
        jacobian=np.concatenate([at.jacobian, empty], axis=1),
        curvature=np.concatenate([at.curvature, np.ones((4, 3))], axis=1),
    )
    by_parameters = descents._step(wider, np.full(4, 0.1), frozen)
    np.testing.assert_allclose(by_bins, by_parameters, rtol=1e-9, atol=1e-12)
    assert np.all(by_bins[frozen] == 0.0)


def test_points_without_a_likelihood_stay_where_they_are() -> None:
    profile, lanes = lanes_of(models.full("normsys", "histosys"), 0.3)
    lanes.start[0] = np.nan
    point, value = descend(profile, lanes, 5)
    assert np.isinf(value[0])
    assert np.isnan(point[0]).all()
    assert np.isfinite(value[1:]).all()


def two_valleys() -> tuple[Ensemble, DataSets, np.ndarray, int]:
    """One data set whose starts are all in the higher of two valleys."""
    shape = {"name": "shape", "type": "histosys", "data": {"hi_data": [58.0], "lo_data": [58.0]}}
    spec = models.counting(0.01, 50.0, 64.0, shape)
    batch = lower(spec)
    ensemble = Ensemble(BatchedEngine(spec, FitSettings()), batch, descents=32)
    column = list(batch.names[0]).index("shape")
    sets = DataSets(batch.data, batch.aux.copy())
    sets.aux[0, column] = -0.2
    start = batch.init.copy()
    start[0, column] = 1.3
    return ensemble, sets, start, column


@pytest.mark.parametrize("held", [True, False])
def test_descents_find_the_lower_valley(held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, sets, start, column = two_valleys()
    monkeypatch.setattr(ensemble, "_starts", lambda *_: [start] * 3)
    # Nothing else looks there.
    monkeypatch.setattr("palletfit.engine.toys.ensembles._PROBED", (0, 0, 3))
    if not held:
        monkeypatch.setattr("palletfit.engine.toys.ensembles._DISTANCES", ())
        monkeypatch.setattr("palletfit.engine.toys.ensembles._DISPLACEMENT", (2.0, 3.0))
    pairs = ensemble.pairs(sets, start[0], 0.0)
    assert pairs.fixed.point[0, column] < -1.0
    ensemble.descents = 0
    assert ensemble.pairs(sets, start[0], 0.0).fixed.point[0, column] > 0.5


def test_keys_of_shards_know_of_descents_only_where_there_are_any() -> None:
    assert Toys.of(Settings()).settings == {"toys": {"seed": 1}}
    deeper = Settings.model_validate({"toys": {"descents": 24}})
    assert Toys.of(deeper).settings == {"toys": {"seed": 1, "descents": 24}}
    assert ToySettings.model_validate({"seed": 1}).descents == 0


def test_descents_do_not_depend_on_how_many_are_made_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = models.full("normsys", "histosys", "staterror")
    batch = lower(spec)
    sets, start = toys(batch), batch.init[0]

    def values() -> tuple[np.ndarray, np.ndarray]:
        ensemble = Ensemble(BatchedEngine(spec, FitSettings()), batch, descents=6)
        pairs = ensemble.pairs(sets, start, 1.0)
        return pairs.fixed.value, pairs.free.value

    together = values()
    monkeypatch.setattr("palletfit.engine.toys.ensembles._ROOM", 1)
    for one, all_of_them in zip(values(), together, strict=True):
        np.testing.assert_allclose(one, all_of_them, atol=1e-9)


def test_descents_that_cannot_be_made_are_said() -> None:
    settings = FitSettings(normsys="code1")
    spec = models.full("normsys", "histosys")
    idle = Maker(BatchedEngine(spec, settings), Patch("p", (), []), ToySettings(descents=4))
    assert any("does nothing" in remark for remark in idle.remarks)
    made = Maker(BatchedEngine(spec, FitSettings()), Patch("p", (), []), ToySettings(descents=4))
    assert made.remarks == []
