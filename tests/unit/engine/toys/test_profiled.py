"""The profile likelihood against the whole one, and its minima against the engine's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palletfit.config import FitSettings
from palletfit.engine.arrays import Arrays
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.likelihood import (
    CLIP_WIDTH,
    evaluate,
    own_arrays,
    own_of,
    poisson_term,
    shared_arrays,
)
from palletfit.engine.lowering import Background, Lowered
from palletfit.engine.toys.compact import compact
from palletfit.engine.toys.ensembles import DataSets, Ensemble
from palletfit.engine.toys.profiled import ProfiledModel
from palletfit.pallet.patches import Patch, apply_sharing

from ....likelihoods import read_likelihood
from ... import models

#: Combinations of modifiers. In the last one two parameters share every bin.
KINDS = [
    ("shapesys",),
    ("staterror",),
    ("shapefactor",),
    ("normfactor", "lumi"),
    ("normsys", "histosys"),
    ("normfactor", "normsys", "histosys", "shapesys"),
    ("normsys", "histosys", "staterror", "shapesys", "lumi"),
]
NAMES = ["+".join(kinds) for kinds in KINDS]
LANES = 12


def lower(spec: Any, patch: Patch | None = None) -> Lowered:
    (batch,), unsupported = Background(spec, FitSettings()).lower(
        [apply_sharing(spec, patch or Patch("p", (), []))]
    )
    assert not unsupported
    return batch


def toys(batch: Lowered, seed: int = 1, lanes: int = LANES) -> DataSets:
    """Data sets like the observed one, with empty bins where those are likely."""
    rng = np.random.default_rng(seed)
    shape = lanes, batch.init.shape[1]
    width = 1 / np.sqrt(np.maximum(batch.precision, 1e-30))
    aux = np.where(
        batch.precision > 0,
        batch.aux + width * rng.normal(size=shape),
        rng.poisson(np.where(batch.factor > 0, batch.aux, 0.0), size=shape),
    )
    data = rng.poisson(batch.data, size=(lanes, batch.data.shape[1])).astype(float)
    return DataSets(data, aux)


def displaced(batch: Lowered, size: float, seed: int = 2, lanes: int = LANES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    width = np.where(batch.precision > 0, 1 / np.sqrt(np.maximum(batch.precision, 1e-30)), 0.3)
    moved = batch.init + size * width * rng.normal(size=(lanes, batch.init.shape[1]))
    return np.where(batch.fixed, batch.init, np.clip(moved, batch.lower, batch.upper))


def compare(batch: Lowered, size: float) -> None:
    """Value, gradient and Schur complement at points where all bin-local gradients vanish."""
    model, sets, point = compact(batch), toys(batch), displaced(batch, size)
    local, shared = model.local, model.shared
    columns, local_columns = local.column[local.exists], local.column
    profile = ProfiledModel(model, precise=False)
    local_aux = np.where(local.exists, sets.aux[:, local_columns], 1.0)
    point[:, columns] = profile.locals_at(point[:, shared], sets.data, local_aux)[:, local.exists]
    state = {
        "data": sets.data,
        "aux": np.concatenate([sets.aux[:, shared], local_aux], axis=1),
        "precision": np.repeat(batch.precision[:, shared], LANES, axis=0),
        "factor": np.repeat(batch.factor[:, shared], LANES, axis=0),
    }
    with np.errstate(all="ignore"):
        derivatives = profile.evaluate(state, point[:, shared])
    lane = {
        "own": own_of(own_arrays(batch), np.zeros(LANES, dtype=int)),
        "data": sets.data,
        "aux": sets.aux,
        "precision": np.repeat(batch.precision, LANES, axis=0),
        "factor": np.repeat(batch.factor, LANES, axis=0),
        "clip": np.full(LANES, CLIP_WIDTH),
    }
    full = evaluate(Arrays(), batch.layout, shared_arrays(batch.layout), lane, point, None)
    # Parameters that no bin knows of, and fixed ones.
    gauss = 0.5 * batch.precision * (point - sets.aux) ** 2
    counts = np.where(batch.factor > 0, sets.aux, 0.0)
    rest = gauss + poisson_term(counts, np.where(batch.factor > 0, point * batch.factor, 0.0), np)
    value = full.value - np.sum(rest[:, model.rest], axis=1)
    usable = np.isfinite(value) & np.all(full.rates > 0, axis=1)
    assert usable.sum() > LANES / 2
    inner = (point > batch.lower) & (point < batch.upper)
    stationary = np.abs(full.gradient * inner)[:, columns][usable]
    assert np.max(stationary, initial=0.0) < 1e-9
    hessian = np.array(full.hessian)
    schur = hessian[:, shared][:, :, shared]
    mixed = hessian[:, shared][:, :, columns] * inner[:, None, columns]
    diagonal = np.where(inner[:, columns], np.einsum("...ii->...i", hessian)[:, columns], 1.0)
    schur = schur - (mixed / diagonal[:, None]) @ np.swapaxes(mixed, 1, 2)
    scale = np.abs(schur).max()
    np.testing.assert_allclose(derivatives.value[usable], value[usable], rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(
        derivatives.gradient[usable], full.gradient[:, shared][usable], atol=1e-11 * scale
    )
    np.testing.assert_allclose(derivatives.hessian[usable], schur[usable], atol=1e-11 * scale)


@pytest.mark.parametrize("kinds", KINDS, ids=NAMES)
@pytest.mark.parametrize("size", [0.2, 1.0])
def test_profile_is_the_whole_likelihood(kinds: tuple[str, ...], size: float) -> None:
    compare(lower(models.full(*kinds)), size)


@pytest.mark.parametrize("kinds", KINDS, ids=NAMES)
def test_fixed_parameters_are_folded_in(kinds: tuple[str, ...]) -> None:
    spec = models.full(*kinds)
    for name, value in (("scale", 0.7), ("shape", -1.3), ("norm", 1.2)):
        spec["measurements"][0]["config"]["parameters"].append(
            {"name": name, "inits": [value], "fixed": True}
        )
    batch = lower(spec)
    compare(batch, 0.4)
    fixed = np.flatnonzero(batch.fixed[0])
    assert not set(fixed) & set(compact(batch).shared)


def test_every_second_parameter_of_a_bin_is_shared() -> None:
    batch = lower(models.full("staterror", "shapesys"))
    model = compact(batch)
    # Two bins of the signal region have two each; the control region has none.
    assert model.local.exists.sum() == 2
    assert len(model.shared) == 3
    assert not model.linear


@pytest.mark.parametrize(
    ("analysis", "region"), [("1Lbb", "1Lbb"), ("staus", "combined"), ("sbottom", "RegionB")]
)
def test_profile_of_published_likelihoods(
    shared: Path, tmp_path: Path, analysis: str, region: str
) -> None:
    spec, patches = read_likelihood(shared, tmp_path, analysis, region)
    compare(lower(spec, patches[7]), 0.3)


@pytest.mark.parametrize("kinds", KINDS, ids=NAMES)
@pytest.mark.parametrize("mu", [None, 1.0])
def test_minima_are_those_of_the_whole_likelihood(kinds: tuple[str, ...], mu: float | None) -> None:
    engine = BatchedEngine(models.full(*kinds), FitSettings())
    batch = lower(engine.workspace)
    sets, start = toys(batch), np.repeat(batch.init, LANES, axis=0)
    ensemble = Ensemble(engine, batch)
    derivatives = ensemble.fit(sets, start, mu)
    ensemble.profiled = False
    full = ensemble.fit(sets, start, mu)
    assert derivatives.converged.all()
    assert full.converged.all()
    np.testing.assert_allclose(derivatives.value, full.value, atol=1e-9)
    np.testing.assert_allclose(derivatives.point, full.point, atol=1e-3)


def test_large_counts_do_not_cancel() -> None:
    spec = models.narrow(trap=True)
    engine = BatchedEngine(spec, FitSettings())
    batch = lower(spec)
    assert batch.factor.max() > 1e10
    ensemble = Ensemble(engine, batch)
    sets, start = toys(batch), np.repeat(batch.init, LANES, axis=0)
    derivatives = ensemble.fit(sets, start, 1.0)
    ensemble.profiled = False
    full = ensemble.fit(sets, start, 1.0)
    assert derivatives.converged.all()
    np.testing.assert_allclose(derivatives.value, full.value, atol=1e-8)


def wild() -> Any:
    """A signal region where nothing is seen, and whose background a histosys drives below zero."""
    shape = {"name": "shape", "type": "histosys", "data": {"hi_data": [3.0], "lo_data": [-2.5]}}
    return models.counting(2.0, 0.5, 0.0, shape)


def test_rates_of_empty_bins_end_at_the_wall() -> None:
    spec = wild()
    engine, batch = BatchedEngine(spec, FitSettings()), lower(spec)
    ensemble = Ensemble(engine, batch)
    free = ensemble.fit(DataSets(batch.data, batch.aux), batch.init, 0.0)
    assert free.converged[0]
    assert -0.03 < ensemble.rates(free.point)[0, 0] < 0.0
    # The engine's own solver has no wall: rates below zero count as zero.
    ensemble.profiled = False
    full = ensemble.fit(DataSets(batch.data, batch.aux), batch.init, 0.0)
    assert full.value[0] >= free.value[0] - 0.01
