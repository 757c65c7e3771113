"""Evidence of a minimum: against a likelihood whose minimum is known, and exact derivatives."""

from __future__ import annotations

import numpy as np
import pyhf
import pytest

from palletfit.config import FitSettings
from palletfit.engine.reference.evidence import Likelihood, polish
from palletfit.engine.reference.hypotests import build_model

from ... import models
from ..likelihoods import Model

EVERY_MODIFIER = tuple(models.MODIFIERS)


@pytest.fixture(autouse=True)
def _numpy():
    pyhf.set_backend("numpy")


@pytest.fixture
def quadratic() -> Likelihood:
    """Background-only fit of one bin with a Gaussian constraint that the data do not touch."""
    # Zero effect of the normsys: only its constraint term, (alpha - 0)^2 / 2, depends on alpha.
    spec = models.counting(
        10.0, 50.0, 50.0, {"name": "alpha", "type": "normsys", "data": {"hi": 1.0, "lo": 1.0}}
    )
    return Likelihood(*models.model_and_data(spec), 0.0)


@pytest.fixture
def full_likelihood() -> Likelihood:
    return Likelihood(*models.model_and_data(models.full(*EVERY_MODIFIER)), None)


def position(likelihood: Likelihood, name: str) -> int:
    return likelihood.model.config.par_names.index(name)


@pytest.mark.parametrize("displacement", [0.0, 1e-3, -0.7, 2.0])
def test_the_edm_of_a_parabola_is_exact(quadratic, displacement):
    point = quadratic.start(np.asarray(quadratic.model.config.suggested_init()))
    index = position(quadratic, "alpha")
    point[index] = displacement
    evidence = quadratic.evidence(point)
    assert evidence.edm == pytest.approx(displacement**2 / 2, rel=1e-4, abs=1e-12)
    assert evidence.gradient_norm == pytest.approx(abs(displacement), rel=1e-5, abs=1e-8)
    assert evidence.step[index] == pytest.approx(-displacement, rel=1e-4, abs=1e-8)
    assert evidence.step[position(quadratic, models.POI)] == 0.0
    assert evidence.at_bounds == ()


def test_twice_nll_is_pyhfs(full_likelihood):
    point = np.asarray(full_likelihood.model.config.suggested_init())
    assert full_likelihood.twice_nll(point) == pytest.approx(
        float(pyhf.infer.mle.twice_nll(point, full_likelihood.data, full_likelihood.model)[0]),
        rel=1e-14,
    )


def test_twice_nll_is_infinite_where_rates_are_negative(full_likelihood):
    point = np.asarray(full_likelihood.model.config.suggested_init())
    point[position(full_likelihood, models.POI)] = -50.0
    assert full_likelihood.twice_nll(point) == np.inf


def test_the_edm_promises_what_the_fit_delivers(full_likelihood):
    point = np.asarray(full_likelihood.model.config.suggested_init())
    promised = full_likelihood.evidence(point).edm
    minimum, evidence, _ = polish(full_likelihood, point, edm=1e-9)
    delivered = (full_likelihood.twice_nll(point) - full_likelihood.twice_nll(minimum)) / 2
    assert delivered > 0.5
    assert promised == pytest.approx(delivered, rel=0.3)
    assert evidence.edm <= 1e-9


def test_polish_reaches_the_minimum_from_a_displaced_point(full_likelihood):
    count = full_likelihood.model.config.npars
    rng = np.random.default_rng(1)
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    best, value = pyhf.infer.mle.fit(
        full_likelihood.data, full_likelihood.model, return_fitted_val=True
    )
    displaced = full_likelihood.start(best + 0.1 * rng.standard_normal(count))
    reached, evidence, steps = polish(full_likelihood, displaced, edm=1e-9)
    assert full_likelihood.twice_nll(displaced) > value + 0.1
    assert 1 <= steps <= 8
    assert evidence.twice_nll == pytest.approx(float(value), abs=1e-6)
    # The rates, because a free norm and a free shape of the same sample are not unique.
    expected = full_likelihood.model.expected_data
    np.testing.assert_allclose(expected(reached), expected(best), rtol=1e-4, atol=1e-3)


def test_polish_takes_no_step_at_the_minimum(quadratic):
    point = quadratic.start(np.asarray(quadratic.model.config.suggested_init()))
    reached, evidence, steps = polish(quadratic, point, edm=1e-9)
    assert steps == 0
    assert reached is point
    assert evidence.edm <= 1e-9


def test_polish_never_goes_uphill(full_likelihood):
    rng = np.random.default_rng(2)
    init = np.asarray(full_likelihood.model.config.suggested_init())
    for _ in range(10):
        point = full_likelihood.start(init + rng.standard_normal(len(init)))
        before = full_likelihood.twice_nll(point)
        reached, evidence, _ = polish(full_likelihood, point, edm=1e-9, steps=2)
        assert evidence.twice_nll <= before
        assert np.all((reached >= full_likelihood.lower) & (reached <= full_likelihood.upper))


def test_a_deficit_ends_at_the_bound_with_an_edm_of_zero():
    # Without the bound, mu-hat would be -1.
    likelihood = Likelihood(*models.model_and_data(models.counting(10.0, 50.0, 40.0)), None)
    reached, evidence, _ = polish(likelihood, np.array([0.8]), edm=1e-9)
    assert reached[0] == 0.0
    assert evidence.edm < 1e-12
    assert evidence.gradient_norm == 0.0
    # The POI at its bound is a result, not a remark.
    assert evidence.at_bounds == ()


def test_nuisance_parameters_at_a_bound_are_named():
    spec = models.counting(10.0, 50.0, 900.0, models.MODIFIERS["normfactor"])
    spec["measurements"][0]["config"]["parameters"] = [
        {"name": "norm", "inits": [1.0], "bounds": [[0.5, 2.0]]}
    ]
    likelihood = Likelihood(*models.model_and_data(spec), 0.0)
    reached, evidence, _ = polish(
        likelihood, likelihood.start(np.asarray(likelihood.model.config.suggested_init())), edm=1e-9
    )
    assert reached[position(likelihood, "norm")] == 2.0
    assert evidence.at_bounds == ("norm",)
    assert evidence.edm < 1e-12


def test_start_respects_bounds_and_the_fixed_poi(full_likelihood):
    fixed = Likelihood(full_likelihood.model, full_likelihood.data, 1.5)
    inside = fixed.start(np.full(full_likelihood.model.config.npars, 1e3))
    assert np.all(inside <= full_likelihood.upper)
    assert inside[position(full_likelihood, models.POI)] == 1.5


def test_fixed_parameters_stay():
    spec = models.full("normsys")
    spec["measurements"][0]["config"]["parameters"] = [
        {"name": "scale", "inits": [0.5], "fixed": True}
    ]
    likelihood = Likelihood(*models.model_and_data(spec), None)
    start = np.asarray(likelihood.model.config.suggested_init())
    reached, evidence, _ = polish(likelihood, start, edm=1e-9)
    index = position(likelihood, "scale")
    assert (reached[index], evidence.step[index]) == (0.5, 0.0)
    assert evidence.edm <= 1e-9


def test_a_parameter_without_effect_is_no_distance():
    spec = models.full("normsys")
    spec["channels"][0]["samples"].append(
        models.sample("empty", [0.0, 0.0], {"name": "idle", "type": "normfactor", "data": None})
    )
    likelihood = Likelihood(*models.model_and_data(spec), None)
    start = np.asarray(likelihood.model.config.suggested_init())
    reached, evidence, _ = polish(likelihood, start, edm=1e-9)
    assert evidence.edm <= 1e-9
    assert reached[position(likelihood, "idle")] == 1.0


def test_two_parameters_of_one_effect_have_a_minimum():
    spec = models.full("normfactor")
    for channel in spec["channels"]:
        channel["samples"][0]["modifiers"].append(
            {"name": "twin", "type": "normfactor", "data": None}
        )
    likelihood = Likelihood(*models.model_and_data(spec), None)
    start = np.asarray(likelihood.model.config.suggested_init()) * 1.05
    _, evidence, _ = polish(likelihood, start, edm=1e-9)
    assert evidence.edm <= 1e-9


def test_nothing_expected_and_nothing_observed():
    # The NLL is linear in mu: no curvature, and the minimum is where the bound is.
    likelihood = Likelihood(*models.model_and_data(models.counting(3.0, 0.0, 0.0)), None)
    at_bound, inside = likelihood.evidence(np.array([0.0])), likelihood.evidence(np.array([0.5]))
    assert at_bound.edm == 0.0
    assert inside.edm > 0.5


def test_without_a_finite_likelihood_the_edm_is_infinite():
    likelihood = Likelihood(*models.model_and_data(models.counting(3.0, 0.0, 2.0)), None)
    assert likelihood.evidence(np.array([0.0])).edm == np.inf


def test_a_point_is_evaluated_once_for_value_rates_and_constraints(monkeypatch):
    """Modifiers are most of what a fit costs."""
    model, data = build_model(models.full(*EVERY_MODIFIER), FitSettings(engine="reference"))
    evaluated = []
    evaluate = model.main_model.expected_data

    def counting(parameters, **options):
        evaluated.append(np.array(parameters))
        return evaluate(parameters, **options)

    monkeypatch.setattr(model.main_model, "expected_data", counting)
    likelihood = Likelihood(model, data, None)
    init = np.asarray(model.config.suggested_init(), dtype=float)
    likelihood.evidence(init)
    # Two for each derivative, and the point itself before and after them.
    assert len(evaluated) == 2 * model.config.npars + 2
    # A point that was changed in place is another one.
    first = likelihood.twice_nll(init)
    init[model.config.poi_index] += 0.5
    second = likelihood.twice_nll(init)
    assert first != second
    plain, _ = models.model_and_data(models.full(*EVERY_MODIFIER))
    assert second == -2 * float(plain.logpdf(init, data)[0])
    np.testing.assert_array_equal(likelihood._rates(init), plain.expected_actualdata(init))


def test_a_density_is_not_kept_for_another_backend():
    model, data = build_model(models.full("normsys", "staterror"), FitSettings(engine="reference"))
    likelihood = Likelihood(model, data, None)
    init = np.asarray(model.config.suggested_init(), dtype=float)
    wide = likelihood.twice_nll(init)
    pyhf.set_backend("numpy", precision="32b")
    try:
        narrow = np.asarray(model.expected_actualdata(init))
    finally:
        pyhf.set_backend("numpy", precision="64b")
    assert narrow.dtype == np.float32
    assert likelihood._rates(init).dtype == np.float64
    assert likelihood.twice_nll(init) == wide


@pytest.fixture
def points(full_likelihood) -> list[np.ndarray]:
    """Points near the suggested values."""
    rng = np.random.default_rng(3)
    init = np.asarray(full_likelihood.model.config.suggested_init())
    return [full_likelihood.start(init + 0.05 * rng.standard_normal(len(init))) for _ in range(5)]


def test_the_gradient_agrees_with_that_of_the_batched_engine(full_likelihood, points):
    """Which is compared with automatic differentiation in its own tests."""
    exact, names = Model(models.full(*EVERY_MODIFIER)), full_likelihood.model.config.par_names
    columns = [exact.names.index(name) for name in names]
    for point in points:
        there = exact.point(dict(zip(names, point, strict=True)))
        expected = exact.derivatives(there).gradient[0, columns]
        numeric = full_likelihood._derivatives(point)[0]
        np.testing.assert_allclose(numeric, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.study
def test_the_gradient_agrees_with_automatic_differentiation(full_likelihood, points):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    model, data = full_likelihood.model, full_likelihood.data
    numeric = [full_likelihood._derivatives(point)[0] for point in points]
    pyhf.set_backend("jax", precision="64b")
    try:
        counts = pyhf.tensorlib.astensor(data)
        exact = jax.jit(jax.grad(lambda point: -model.logpdf(point, counts)[0]))
        gradients = [exact(pyhf.tensorlib.astensor(point)) for point in points]
    finally:
        pyhf.set_backend("numpy")
    for ours, expected in zip(numeric, gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-5)
