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
from palletfit.engine.toys.profiled import SOFT, ProfiledModel
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
    clip = np.full(LANES, CLIP_WIDTH)
    best, _ = profile.settle(point[:, shared], sets.data, local_aux, clip)
    point[:, columns] = best[:, local.exists]
    state = {
        "data": sets.data,
        "aux": np.concatenate([sets.aux[:, shared], local_aux], axis=1),
        "precision": np.repeat(batch.precision[:, shared], LANES, axis=0),
        "factor": np.repeat(batch.factor[:, shared], LANES, axis=0),
        "clip": clip,
    }
    with np.errstate(all="ignore"):
        derivatives = profile.evaluate(state, point[:, shared])
    lane = {
        "own": own_of(own_arrays(batch), np.zeros(LANES, dtype=int)),
        "data": sets.data,
        "aux": sets.aux,
        "precision": np.repeat(batch.precision, LANES, axis=0),
        "factor": np.repeat(batch.factor, LANES, axis=0),
        "clip": clip,
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


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_codes_and_constraints_of_single_parameters(size: float) -> None:
    spec = models.full("normsys", "histosys", "staterror", "shapefactor")
    modifiers = spec["channels"][0]["samples"][0]["modifiers"]
    codes = {"normsys": ("code4", "code4p", "code2"), "histosys": ("code2", "code4p", "code2")}
    for modifier in [entry for entry in modifiers if entry["type"] in codes]:
        for number, code in enumerate(codes[modifier["type"]]):
            name = f"{modifier['name']}_{number}"
            modifiers.append({**modifier, "name": name, "interpolation": code})
    spec["measurements"][0]["config"]["parameters"] += [
        {"name": "statistics", "constraint": "Poisson"},
        {"name": "free", "constraint": ["Gauss", "none"], "sigmas": [0.1, 1.0]},
        {"name": "scale_1", "fixed": True, "inits": [0.7]},
        {"name": "shape_2", "fixed": True, "inits": [-1.4]},
    ]
    batch = lower(spec)
    assert not isinstance(batch.layout.codes[0], str)
    compare(batch, size)


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
    ("analysis", "region"),
    [
        *(("staus", "combined"), ("sbottom", "RegionB")),
        pytest.param("1Lbb", "1Lbb", marks=pytest.mark.study),
    ],
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


LOCAL = {
    "none": (),
    "Gaussian": ({"name": "statistics", "type": "staterror", "data": [0.3]},),
    "Poisson": ({"name": "uncorrelated", "type": "shapesys", "data": [0.3]},),
    "free": ({"name": "anything", "type": "shapefactor", "data": None},),
}


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("control", [pytest.param(None, marks=pytest.mark.study), 12.0])
def test_rates_below_zero_count_as_zero_in_empty_bins(kind: str, control: float | None) -> None:
    spec = models.below_zero(*LOCAL[kind], control=control)
    engine, batch = BatchedEngine(spec, FitSettings()), lower(spec)
    ensemble = Ensemble(engine, batch)
    sets, start = DataSets(batch.data, batch.aux), batch.init
    for mu in (0.0, 1.0):
        profiled = ensemble.fit(sets, start, mu)
        assert profiled.converged[0]
        ensemble.profiled = False
        full = ensemble.fit(sets, start, mu)
        ensemble.profiled = True
        assert full.converged[0]
        assert profiled.value[0] == pytest.approx(full.value[0], abs=2e-6)
        # Going on from there leads nowhere else.
        again = ensemble.fit(sets, profiled.point, mu, sharp=True)
        assert again.value[0] == pytest.approx(profiled.value[0], abs=1e-8)
        if control is not None and mu == 0.0 and kind != "free":
            # What the control region wants is far below zero: a wall would hold it.
            assert profiled.clipped[0]
            assert ensemble.rates(profiled.point)[0].min() < -0.5


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("width", [SOFT, 0.2])
def test_derivatives_at_the_corner(kind: str, width: float) -> None:
    batch = lower(models.below_zero(*LOCAL[kind], control=12.0))
    model = compact(batch)
    profile = ProfiledModel(model, precise=False)
    shape = np.linspace(-1.15, 1.0, LANES)
    point = np.repeat(batch.init[:, model.shared], LANES, axis=0)
    (column,) = np.flatnonzero(model.shared == list(batch.names[0]).index("shape"))
    point[:, column] = shape
    local_aux = np.where(model.local.exists, batch.aux[:, model.local.column], 1.0)
    state = {
        name: np.repeat(getattr(batch, name)[:, model.shared], LANES, axis=0)
        for name in ("aux", "precision", "factor")
    }
    state["aux"] = np.concatenate([state["aux"], np.repeat(local_aux, LANES, axis=0)], axis=1)
    state["data"] = np.repeat(batch.data, LANES, axis=0)
    state["clip"] = np.full(LANES, width)

    def at(moved: float) -> Any:
        near = point.copy()
        near[:, column] += moved
        with np.errstate(all="ignore"):
            return profile.evaluate(state, near)

    here, step = at(0.0), 1e-5
    regions = here.rates[:, 0] >= 0, here.rates[:, 0] <= -2 * width
    # Points are above zero, in the rounded part and in the flat part.
    assert any(region.any() for region in regions)
    assert not all(region.all() for region in regions)
    slope = (at(step).value - at(-step).value) / (2 * step)
    curvature = (at(step).gradient - at(-step).gradient)[:, column] / (2 * step)
    np.testing.assert_allclose(here.gradient[:, column], slope, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(here.hessian[:, column, column], curvature, rtol=1e-5, atol=1e-4)


def test_minima_on_the_other_side_of_a_hump(monkeypatch: pytest.MonkeyPatch) -> None:
    # The rate rises on both sides of zero, so that there are two minima.
    shape = {"name": "shape", "type": "histosys", "data": {"hi_data": [58.0], "lo_data": [58.0]}}
    spec = models.counting(0.01, 50.0, 64.0, shape)
    batch = lower(spec)
    ensemble = Ensemble(BatchedEngine(spec, FitSettings()), batch)
    column = list(batch.names[0]).index("shape")
    sets = DataSets(batch.data, batch.aux.copy())
    sets.aux[0, column] = -0.2
    ends = {}
    for side in (-1.3, 1.3):
        start = batch.init.copy()
        start[0, column] = side
        ends[side] = ensemble.fit(sets, start, 0.0)
    assert ends[-1.3].value[0] < ends[1.3].value[0] - 0.1
    # All starts are on the side of the higher one.
    monkeypatch.setattr(ensemble, "_starts", lambda *_: [start] * 3)
    pairs = ensemble.pairs(sets, start[0], 0.0)
    assert pairs.fixed.value[0] == pytest.approx(ends[-1.3].value[0], abs=1e-6)
    assert pairs.fixed.point[0, column] < -1.0


def test_values_alone_are_those_of_the_derivatives() -> None:
    batch = lower(models.full("normsys", "histosys", "staterror", "shapesys", "lumi"))
    model, sets, point = compact(batch), toys(batch), displaced(batch, 0.3)
    profile, shared = ProfiledModel(model, precise=False), model.shared
    local_aux = np.where(model.local.exists, sets.aux[:, model.local.column], 1.0)
    state = {
        "data": sets.data,
        "aux": np.concatenate([sets.aux[:, shared], local_aux], axis=1),
        "precision": np.repeat(batch.precision[:, shared], LANES, axis=0),
        "factor": np.repeat(batch.factor[:, shared], LANES, axis=0),
        "clip": np.full(LANES, SOFT),
    }
    with np.errstate(all="ignore"):
        value = profile.evaluate(state, point[:, shared]).value
    np.testing.assert_allclose(profile.values(state, point[:, shared]), value, rtol=1e-13)
