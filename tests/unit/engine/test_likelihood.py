"""The likelihood and its derivatives against pyhf, differences and automatic differentiation."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from decimal import Decimal, localcontext
from functools import partial

import numpy as np
import pyhf
import pytest
from hypothesis import given, settings

from palletfit.config import FitSettings
from palletfit.engine.arrays import Arrays, JaxArrays
from palletfit.engine.likelihood import (
    CLIP_WIDTH,
    constants,
    evaluate,
    expected,
    information,
    own_arrays,
    shared_arrays,
    value,
)
from palletfit.engine.lowering import Background
from palletfit.engine.reference.hypotests import build_model
from palletfit.pallet.patches import Patch, apply, apply_sharing

from ...likelihoods import REGIONS, read_likelihood
from .. import histfactory, models


class Batch:
    """A lowered batch, and what its likelihood is called with."""

    def __init__(self, lowered) -> None:
        self.lowered = lowered
        self.shared, self.patch_samples = shared_arrays(lowered.layout), own_arrays(lowered)

    def lane(self, rows, with_own=True):
        """One lane for each of some rows."""
        rows, lowered = np.atleast_1d(rows), self.lowered
        arrays = {
            name: getattr(lowered, name)[rows] for name in ("data", "aux", "precision", "factor")
        }
        picked = {
            "rows": {name: array[rows] for name, array in self.patch_samples["rows"].items()},
            "blocks": [
                {name: a[rows] for name, a in part.items()} for part in self.patch_samples["blocks"]
            ],
        }
        clip = np.full(len(rows), CLIP_WIDTH)
        return {"own": picked if with_own else {}, "clip": clip, **arrays}

    def call(self, function, rows, points, *more, arrays=None, with_own=True):
        arrays = arrays or Arrays()
        with np.errstate(all="ignore"):  # as the solver does: far points have no finite value
            return function(
                arrays, self.lowered.layout, self.shared, self.lane(rows, with_own), points, *more
            )

    def evaluate(self, row, point):
        """Value (as pyhf has it) and derivatives of one row at one point, without lanes."""
        derivatives = self.call(evaluate, row, point[None], None)
        derivatives = type(derivatives)(*(np.asarray(element)[0] for element in derivatives))
        data, aux = self.lowered.data, self.lowered.aux
        return derivatives._replace(
            value=derivatives.value + constants(self.lowered, data, aux)[row]
        )

    def in_order(self, rates):
        """Rates in pyhf's order."""
        ordered = np.zeros_like(rates)
        ordered[..., self.lowered.layout.bin_order] = rates
        return ordered


def plain(model, data, point):
    """pyhf's NLL and rates."""
    with np.errstate(all="ignore"):
        nll = -float(model.logpdf(point, data)[0])
        return nll, model.expected_data(point, include_auxdata=False)


def check_values(pair, batch, rng, count):
    observed = pair.data[: pair.model.config.nmaindata]
    for point in pair.points(rng, count):
        nll, rates = plain(pair.model, pair.data, point)
        derivatives = batch.evaluate(pair.row, pair.to_columns(point))
        scale = np.abs(rates).max()
        ordered = batch.in_order(derivatives.rates)
        np.testing.assert_allclose(ordered, rates, rtol=1e-10, atol=1e-12 * scale + 1e-15)
        # A factor of zero is replaced by 1e-20, so that the least rates are not pyhf's.
        if np.any(rates[observed > 0] < 1e-7) and np.all(rates[observed > 0] >= 0):
            continue
        if np.isfinite(nll):
            assert derivatives.value == pytest.approx(nll, rel=1e-10, abs=1e-10)
        else:
            assert not np.isfinite(derivatives.value)


# --------------------------------------------------------------------------- values


def check_values_of(case):
    rng = np.random.default_rng(case.seed)
    for batch, pairs in itertools.groupby(histfactory.pairs(case), lambda pair: id(pair.batch)):
        pairs = list(pairs)
        batch = Batch(pairs[0].batch)
        for pair in pairs:
            check_values(pair, batch, rng, 3)


@settings(histfactory.FIXED, max_examples=15)
@given(histfactory.cases())
def test_values_are_those_of_pyhf(case):
    check_values_of(case)


@pytest.mark.study
@settings(histfactory.FIXED, max_examples=300)
@given(histfactory.cases())
def test_values_of_many_workspaces_are_those_of_pyhf(case):
    check_values_of(case)


@settings(histfactory.FIXED, max_examples=8)
@given(histfactory.cases())
def test_lanes_do_not_depend_on_each_other(case):
    rng = np.random.default_rng(case.seed)
    for lowered in histfactory.lower(case)[0]:
        batch = Batch(lowered)
        rows = rng.integers(len(lowered), size=5)
        points = lowered.init[rows] + 0.2 * rng.normal(size=lowered.init[rows].shape)
        together = batch.call(evaluate, rows, points, None)
        for lane, (row, point) in enumerate(zip(rows, points, strict=True)):
            alone = batch.call(evaluate, row, point[None], None)
            for one, other in zip(together, alone, strict=True):
                scale = np.abs(other[np.isfinite(other)]).max(initial=0.0)
                np.testing.assert_allclose(one[lane], other[0], rtol=1e-11, atol=1e-12 * scale)
        np.testing.assert_array_equal(batch.call(expected, rows, points), together.rates)
        np.testing.assert_allclose(batch.call(value, rows, points), together.value, rtol=1e-13)


def test_without_the_patches_own_samples():
    spec = models.background("normsys", "histosys", "staterror")
    signal = {"op": "add", "path": "/channels/0/samples/-", "value": models.signal([8.0, 14.0])}
    # Nothing but signal in a channel of another size.
    only = {"name": "VR", "samples": [models.signal([3.0])]}
    channel = {"op": "add", "path": "/channels/-", "value": only}
    observed = {"op": "add", "path": "/observations/-", "value": {"name": "VR", "data": [0.0]}}
    patch = Patch("x", (1.0,), [signal, channel, observed])
    (lowered,), _ = Background(spec, FitSettings()).lower([apply_sharing(spec, patch)])
    batch = Batch(lowered)
    point = lowered.init + 0.1
    point[:, lowered.layout.poi] = 0.0
    with_own = batch.call(evaluate, 0, point, None)
    without = batch.call(evaluate, 0, point, None, with_own=False)
    np.testing.assert_allclose(without.rates, with_own.rates, atol=1e-15)
    np.testing.assert_allclose(without.value, with_own.value, rtol=1e-14)
    other = np.arange(lowered.layout.parameters) != lowered.layout.poi
    np.testing.assert_allclose(without.gradient[:, other], with_own.gradient[:, other], rtol=1e-12)
    assert without.gradient[0, ~other] == 0
    assert with_own.gradient[0, ~other] != 0


def test_a_rate_that_is_not_positive():
    spec = models.counting(10.0, 50.0, 52.0)
    (lowered,), _ = Background(spec, FitSettings()).lower([spec])
    batch = Batch(lowered)
    assert np.isposinf(batch.call(value, 0, np.array([[-5.0]])))
    assert np.isposinf(batch.call(value, 0, np.array([[-6.0]])))
    empty = models.counting(10.0, 50.0, 0.0)
    (lowered,), _ = Background(empty, FitSettings()).lower([empty])
    # Where nothing is observed it counts as zero; pyhf has the rate itself, -10.
    assert Batch(lowered).call(value, 0, np.array([[-6.0]])) == pytest.approx(0.0, abs=1e-5)
    assert Batch(lowered).call(value, 0, np.array([[-4.0]])) == pytest.approx(10.0, abs=1e-9)


def test_a_rate_much_below_what_is_observed():
    # Written with log1p alone this would have an error of 1e-6.
    spec = models.counting(10.0, 0.0, 5.0)
    (lowered,), _ = Background(spec, FitSettings()).lower([spec])
    nll, _ = plain(*build_model(spec, FitSettings()), [1e-11])
    derivatives = Batch(lowered).evaluate(0, np.array([1e-11]))
    assert derivatives.value == pytest.approx(nll, rel=1e-14)


# --------------------------------------------------------------------------- narrow constraints


def exact_poisson(count: Decimal, rate: Decimal) -> Decimal:
    """``-log Poisson(count | rate)``, with Stirling's series for a large count."""
    if count < 1000:
        logarithm = sum((Decimal(n).ln() for n in range(2, int(count) + 1)), Decimal(0))
    else:
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
        series = 1 / (12 * count) - 1 / (360 * count**3) + 1 / (1260 * count**5)
        logarithm = (count + Decimal("0.5")) * count.ln() - count + (2 * pi).ln() / 2 + series
    return rate - count * rate.ln() + logarithm


def test_a_narrow_shapesys_is_exact_where_pyhf_is_not():
    spec = models.narrow(trap=True)
    (lowered,), _ = Background(spec, FitSettings()).lower([spec])
    names = lowered.names[0]
    model, data = build_model(spec, FitSettings())
    batch = Batch(lowered)
    worst_of_pyhf = 0.0
    # A standard deviation of the parameter is 2.3e-6.
    for gamma in (1.0, 1.0 + 1e-6, 1.0 - 3e-6, 1.0 + 7e-6, 1.0 - 1e-5):
        at = {"mu_SIG": 0.25, "norm": 1.125, "narrow[0]": gamma, "theory": 0.0}
        with localcontext() as context:
            context.prec = 60
            mu, norm, wide = (Decimal(at[name]) for name in ("mu_SIG", "norm", "narrow[0]"))
            counts = (Decimal(435) / Decimal("0.001")) ** 2
            two_pi = 2 * Decimal("3.14159265358979323846264338327950288419716939937510582097")
            exact = (
                exact_poisson(Decimal(441), 435 * norm * wide)
                + exact_poisson(Decimal(22), 20 * norm + 8 * mu)
                + exact_poisson(counts, counts * wide)
                + two_pi.ln() / 2
            )
        derivatives = batch.evaluate(0, np.array([at[name] for name in names]))
        assert abs(Decimal(float(derivatives.value)) - exact) < Decimal("1e-9")
        nll, _ = plain(model, data, [at[name] for name in model.config.par_names])
        worst_of_pyhf = max(worst_of_pyhf, abs(float(Decimal(nll) - exact)))
    assert 1e-6 < worst_of_pyhf < 1e-2


# --------------------------------------------------------------------------- derivatives


def inner_point(pair, rng, reach=0.8):
    """A point within the bounds and away from the kinks at zero and one."""
    lower, upper = np.array(pair.model.config.suggested_bounds()).T
    init = np.clip(pair.model.config.suggested_init(), lower, upper)
    moved = init + rng.uniform(0.05, reach, len(init)) * rng.choice([1, -1], len(init))
    far = (pair.columns < pair.batch.layout.alphas) & (rng.random(len(init)) < 0.3)
    point = np.clip(np.where(far, 3.3 * moved, moved), lower + 0.02, upper - 0.02)
    for kink in (0.0, 1.0, -1.0):
        point = np.where(np.abs(point - kink) < 0.02, kink + 0.02, point)
    return point


@settings(histfactory.FIXED, max_examples=15)
@given(histfactory.cases())
def test_derivatives_against_differences(case):
    """Of the value and the gradient; the value is compared with pyhf's above."""
    rng, step = np.random.default_rng(case.seed), 1e-5
    for pair in histfactory.pairs(case):
        batch, row = Batch(pair.batch), pair.row
        point = pair.to_columns(inner_point(pair, rng))
        size = len(point)
        around = np.concatenate([point + step * np.eye(size), point - step * np.eye(size)])
        near = batch.call(evaluate, [row] * len(around), around, None)
        derivatives = batch.evaluate(row, point)
        if not np.all(np.isfinite(near.value)) or derivatives.rates.min() < 1e-2:
            continue
        scale = np.abs(derivatives.hessian).max()

        def slopes(values, size=size):
            return (values[:size] - values[size:]) / (2 * step)

        noise = 1e-7 * (np.abs(derivatives.value) + scale)
        np.testing.assert_allclose(derivatives.gradient, slopes(near.value), rtol=1e-5, atol=noise)
        np.testing.assert_allclose(
            derivatives.hessian, slopes(near.gradient), rtol=1e-5, atol=1e-6 * scale
        )
        np.testing.assert_allclose(
            derivatives.hessian, derivatives.hessian.T, rtol=1e-12, atol=1e-12 * scale
        )
        lowered = pair.batch
        fisher = (slopes(near.rates) ** 2 / derivatives.rates).sum(axis=1) + lowered.precision[row]
        poisson = lowered.factor[row] > 0
        fisher[poisson] += lowered.aux[row][poisson] / point[poisson] ** 2
        largest = np.abs(fisher).max()
        np.testing.assert_allclose(derivatives.fisher, fisher, rtol=1e-5, atol=1e-6 * largest)


@settings(histfactory.FIXED, max_examples=15)
@given(histfactory.cases())
def test_the_information_is_the_hessian_of_data_as_expected(case):
    rng = np.random.default_rng(case.seed)
    for pair in histfactory.pairs(case):
        batch, lowered = Batch(pair.batch), pair.batch
        point = pair.to_columns(inner_point(pair, rng))[None]
        derivatives = batch.call(evaluate, pair.row, point, None)
        if derivatives.rates.min() < 1e-2:
            continue
        matrix = information(Arrays(), derivatives, slice(None))
        np.testing.assert_allclose(np.einsum("...ii->...i", matrix), derivatives.fisher, rtol=1e-12)
        # Auxiliary counts are not expected values here: their term is taken as it is.
        lowered.data[pair.row] = derivatives.rates[0]
        asimov = batch.call(evaluate, pair.row, point, None)
        scale = np.abs(matrix).max()
        np.testing.assert_allclose(asimov.hessian, matrix, rtol=1e-9, atol=1e-11 * scale)


@pytest.fixture
def jax() -> Iterator:
    """JAX; pyhf is on NumPy again after the test."""
    yield pytest.importorskip("jax")
    pyhf.set_backend("numpy")


ALL_MODIFIERS = tuple(models.MODIFIERS)


def rich(normsys, histosys):
    """All types of modifiers, shared and not; one patch with its own of all types."""
    spec = models.background(*ALL_MODIFIERS)
    theory = {"name": "theory", "type": "normsys", "data": {"hi": 1.2, "lo": 0.85}}
    shape = {"name": "shape", "type": "normsys", "data": {"hi": 0.9, "lo": 1.07}}
    other = {
        "name": "theory",
        "type": "histosys",
        "data": {"hi_data": [11.0, 4.0], "lo_data": [8.0, 6.0]},
    }
    scale = {
        "name": "scale",
        "type": "histosys",
        "data": {"hi_data": [9.0, 13.5], "lo_data": [6.5, 14.5]},
    }
    spec["channels"][0]["samples"][0]["modifiers"] += [copy.deepcopy(shape)]
    spec["channels"][0]["samples"] += [
        models.sample("second", [9.0, 5.0], theory, other, models.MODIFIERS["staterror"])
    ]
    patch = Patch(
        "signal",
        (1.0,),
        [
            {
                "op": "add",
                "path": "/channels/0/samples/-",
                "value": models.signal(
                    [8.0, 14.0],
                    scale,
                    theory,
                    {"name": "isr", "type": "normsys", "data": {"hi": 1.3, "lo": 0.8}},
                    {"name": "k", "type": "normfactor", "data": None},
                    {"name": "own", "type": "shapesys", "data": [2.0, 3.0]},
                    {"name": "free_signal", "type": "shapefactor", "data": None},
                    models.MODIFIERS["staterror"],
                    models.MODIFIERS["lumi"],
                ),
            },
            {
                "op": "add",
                "path": "/channels/-",
                "value": {"name": "VR", "samples": [models.sample("bkg", [30.0], theory, shape)]},
            },
            {"op": "add", "path": "/observations/-", "value": {"name": "VR", "data": [0.0]}},
        ],
    )
    return spec, patch, FitSettings(normsys=normsys, histosys=histosys)


def rich_pair(normsys, histosys):
    spec, patch, fit = rich(normsys, histosys)
    (lowered,), unsupported = Background(spec, fit).lower([apply_sharing(spec, patch)])
    assert not unsupported
    return histfactory.pair(apply(spec, patch), lowered, 0, fit)


def check_gradient_against_jax(jax, pair, points):
    """Value and gradient by automatic differentiation of pyhf's NLL."""
    pyhf.set_backend("jax", precision="64b")
    data = jax.numpy.asarray(pair.data)
    compiled = jax.jit(jax.value_and_grad(lambda point: -pair.model.logpdf(point, data)[0]))
    batch = Batch(pair.batch)
    for point in points:
        derivatives = batch.evaluate(pair.row, pair.to_columns(point))
        nll, gradient = compiled(point)
        assert derivatives.value == pytest.approx(float(nll), rel=1e-10)
        scale = np.abs(derivatives.hessian).max()
        np.testing.assert_allclose(
            derivatives.gradient[pair.columns], gradient, rtol=1e-9, atol=1e-12 * scale
        )


def check_against_jax(jax, pair, points, directions):
    """Gradient, and Hessian along some directions, by automatic differentiation of pyhf's NLL."""
    # Only now: JAX would compile each step in which pyhf makes a model.
    pyhf.set_backend("jax", precision="64b")
    data = jax.numpy.asarray(pair.data)
    nll_and_gradient = jax.value_and_grad(lambda point: -pair.model.logpdf(point, data)[0])
    # Forward over reverse: one function to compile.
    compiled = jax.jit(lambda point, along: jax.jvp(nll_and_gradient, (point,), (along,)))
    batch, columns = Batch(pair.batch), pair.columns
    for point in points:
        derivatives = batch.evaluate(pair.row, pair.to_columns(point))
        assert np.isfinite(derivatives.value)
        hessian = derivatives.hessian[np.ix_(columns, columns)]
        scale = np.abs(hessian).max()
        for direction in directions:
            (nll, gradient), (_, curvature) = compiled(point, direction)
            assert derivatives.value == pytest.approx(float(nll), rel=1e-10)
            np.testing.assert_allclose(
                derivatives.gradient[columns], gradient, rtol=1e-9, atol=1e-12 * scale
            )
            np.testing.assert_allclose(
                hessian @ direction, curvature, rtol=1e-9, atol=1e-12 * scale
            )


def test_the_gradient_against_automatic_differentiation(jax):
    """Other modifiers, and the Hessian, are compared with differences above."""
    pair = next(histfactory.pairs(plain_case("normsys", "histosys", "shapesys")))
    rng = np.random.default_rng(5)
    check_gradient_against_jax(jax, pair, [inner_point(pair, rng) for _ in range(4)])


@pytest.mark.study
@pytest.mark.parametrize(("normsys", "histosys"), [("code4", "code4p"), ("code1", "code2")])
def test_derivatives_against_automatic_differentiation(jax, normsys, histosys):
    pair = rich_pair(normsys, histosys)
    rng = np.random.default_rng(5)
    points = [inner_point(pair, rng) for _ in range(4)]
    check_against_jax(jax, pair, points, np.eye(len(points[0])))


#: Interpolation whose derivatives jump at zero.
KINKS = {"normsys": "code1", "histosys": "code0"}


@pytest.mark.parametrize(
    "make",
    [
        partial(rich_pair, "code4", "code4p"),
        lambda: next(histfactory.pairs(plain_case("normsys", "histosys", codes=KINKS))),
        *(
            pytest.param(make, marks=pytest.mark.study)
            for make in (
                partial(rich_pair, "code1", "code0"),
                lambda: next(histfactory.pairs(plain_case("shapesys"))),
                lambda: next(histfactory.pairs(plain_case("histosys"))),
            )
        ),
    ],
    ids=["all", "few with kinks", "all with kinks", "without alphas", "without normsys"],
)
def test_jax_gives_the_same(make):
    pytest.importorskip("jax")
    arrays = JaxArrays()
    pair = make()
    batch = Batch(pair.batch)
    rng = np.random.default_rng(11)
    points = np.stack([pair.to_columns(point) for point in pair.points(rng, 7)])
    rows = np.zeros(len(points), dtype=int)
    side = np.where(points < 0, -1.0, 1.0)
    plainly = batch.call(evaluate, rows, points, side)
    compiled = arrays.compile(partial(evaluate, arrays, pair.batch.layout))
    derivatives = compiled(
        arrays.put(batch.shared), arrays.put(batch.lane(rows)), arrays.put(points), side
    )
    for name in plainly._fields:
        one, other = np.asarray(getattr(derivatives, name)), getattr(plainly, name)
        for lane in np.flatnonzero(np.isfinite(plainly.value)):
            scale = np.abs(other[lane]).max()
            np.testing.assert_allclose(one[lane], other[lane], rtol=1e-12, atol=1e-12 * scale)
    assert np.isfinite(plainly.value).sum() >= 4
    np.testing.assert_array_equal(np.isfinite(derivatives.value), np.isfinite(plainly.value))


def plain_case(*kinds, codes=None):
    operation = {"op": "add", "path": "/channels/0/samples/-", "value": models.signal([8.0, 14.0])}
    patch = Patch("signal", (1.0,), [operation])
    return histfactory.Case(models.background(*kinds), [patch], FitSettings(**codes or {}), 1)


# --------------------------------------------------------------------------- published pallets


def published_pairs(workspace, patches, fit):
    specs = [apply_sharing(workspace, patch) for patch in patches]
    batches, unsupported = Background(workspace, fit).lower(specs)
    assert not unsupported
    for lowered in batches:
        for row, index in enumerate(lowered.index):
            spec = apply(workspace, patches[int(index)])
            yield histfactory.pair(spec, lowered, row, fit), Batch(lowered)


@pytest.mark.parametrize(
    ("analysis", "region"),
    [
        REGIONS[4],
        *(pytest.param(*REGIONS[i], marks=pytest.mark.study) for i in (0, 1, 2, 3, 5, 6)),
    ],
)
def test_values_of_published_pallets(shared, tmp_path, analysis, region):
    workspace, patches = read_likelihood(shared, tmp_path, analysis, region)
    chosen = [patches[0], patches[len(patches) // 2], patches[-1]]
    rng = np.random.default_rng(17)
    for pair, batch in published_pairs(workspace, chosen, FitSettings()):
        check_values(pair, batch, rng, 4)


@pytest.mark.study  # a compilation of up to a minute for each
@pytest.mark.parametrize(("analysis", "region"), [REGIONS[number] for number in (2, 1, 0, 4)])
def test_derivatives_of_published_pallets(jax, shared, tmp_path, analysis, region):
    workspace, patches = read_likelihood(shared, tmp_path, analysis, region)
    rng = np.random.default_rng(23)
    for pair, _ in published_pairs(workspace, [patches[len(patches) // 3]], FitSettings()):
        # Between 0.01 and 100 code4 goes below zero, where pyhf's second derivatives are NaN.
        drawn = (inner_point(pair, rng, reach=0.2) for _ in range(100))
        positive = (point for point in drawn if smallest_factor(pair, point) > 0)
        points = list(itertools.islice(positive, 2))
        check_against_jax(jax, pair, points, rng.normal(size=(3, len(points[0]))))


def smallest_factor(pair, point):
    with np.errstate(all="ignore"):
        _, factors = pair.model._modifications(point)
    return min(float(np.min(factor)) for factor in factors)
