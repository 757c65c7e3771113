"""The solver by itself: how lanes end, and what decides about them."""

from __future__ import annotations

import numpy as np
import pytest

from palletfit.config import FitSettings
from palletfit.engine.arrays import Arrays, Instead, JaxArrays
from palletfit.engine.likelihood import CLIP_WIDTH, own_arrays, shared_arrays
from palletfit.engine.lowering import Background, Lowered
from palletfit.engine.newton import CONVERGED, EXHAUSTED, HOPELESS, Lanes, Solver
from palletfit.pallet.patches import Patch, apply_sharing

from .. import models


def lower(*kinds: str, count: int) -> Lowered:
    """Lower patches of different signals on one background."""
    spec = models.background(*kinds)
    specs = []
    for number in range(count):
        sample = models.signal([0.2 * number + 0.1, 8.0])
        patch = Patch(
            f"p{number}", (), [{"op": "add", "path": "/channels/0/samples/-", "value": sample}]
        )
        specs.append(apply_sharing(spec, patch))
    (batch,), unsupported = Background(spec, FitSettings()).lower(specs)
    assert not unsupported
    return batch


@pytest.fixture(scope="module")
def lowered() -> Lowered:
    """Forty patches on a background with many modifiers."""
    return lower("normsys", "histosys", "staterror", "shapesys", count=40)


def make(lowered: Lowered, arrays: Arrays | None = None, **options: int) -> Solver:
    arrays = arrays or Arrays()
    shared = arrays.put(shared_arrays(lowered.layout))
    solver = Solver(arrays, lowered.layout, shared, **options)
    solver.patch_samples = arrays.put(own_arrays(lowered))
    return solver


def lanes(lowered: Lowered, rows: np.ndarray, start: np.ndarray, *, scoring: bool = False) -> Lanes:
    return Lanes(
        patch=rows,
        scoring=np.full(len(rows), scoring),
        start=start,
        clip=np.full(len(rows), CLIP_WIDTH),
        **{
            name: getattr(lowered, name)[rows]
            for name in ("fixed", "lower", "upper", "data", "aux", "precision", "factor")
        },
    )


def displaced(lowered: Lowered, rows: np.ndarray, size: float) -> np.ndarray:
    rng = np.random.default_rng(5)
    return lowered.init[rows] + size * rng.normal(size=lowered.init[rows].shape)


@pytest.mark.parametrize("scoring", [False, True])
def test_every_start_ends_at_the_same_minimum(lowered: Lowered, scoring: bool) -> None:
    rows = np.arange(len(lowered))
    near = make(lowered).minimise(lanes(lowered, rows, lowered.init), 1e-12)
    far = lanes(lowered, rows, displaced(lowered, rows, 0.7), scoring=scoring)
    minima = make(lowered).minimise(far, 1e-12)
    assert np.all(near.outcome == CONVERGED)
    assert np.all(minima.outcome == CONVERGED)
    assert minima.edm.max() <= 1e-12
    np.testing.assert_allclose(minima.value, near.value, atol=1e-11)
    np.testing.assert_allclose(minima.point, near.point, atol=1e-4)


def test_lanes_that_wait_end_as_lanes_that_do_not(lowered: Lowered) -> None:
    rows = np.arange(len(lowered))
    starts = displaced(lowered, rows, 0.5)
    together = make(lowered).minimise(lanes(lowered, rows, starts), 1e-10)
    for row in (0, 17, 39):
        piece = rows[row : row + 1]
        alone = make(lowered).minimise(lanes(lowered, piece, starts[piece]), 1e-10)
        assert alone.iterations[0] == together.iterations[row]
        np.testing.assert_allclose(alone.point[0], together.point[row], rtol=1e-9, atol=1e-12)


def test_where_the_last_step_leads_is_known_without_going_there(lowered: Lowered) -> None:
    rows = np.arange(len(lowered))
    starts = lanes(lowered, rows, displaced(lowered, rows, 0.5))
    exact = make(lowered).minimise(starts, 1e-13)
    loose = make(lowered).minimise(starts, 1e-5)
    promised = make(lowered).minimise(starts, 1e-5, predict=True)
    assert promised.iterations.sum() == loose.iterations.sum() < exact.iterations.sum()
    assert np.abs(promised.value - exact.value).max() < 1e-7
    assert np.abs(loose.value - exact.value).max() > 1e-7


def test_minima_on_bounds(lowered: Lowered) -> None:
    rows = np.arange(len(lowered))
    free = lanes(lowered, rows, lowered.init)
    minima = make(lowered).minimise(free, 1e-10)
    column = int(
        np.argmax(np.where(lowered.fixed[0], 0, np.abs(minima.point[0] - lowered.init[0])))
    )
    edge = 0.5 * (minima.point[:, column] + lowered.init[:, column])
    free.upper[:, column] = np.where(minima.point[:, column] > edge, edge, free.upper[:, column])
    free.lower[:, column] = np.where(minima.point[:, column] < edge, edge, free.lower[:, column])
    bounded = make(lowered).minimise(free, 1e-10)
    assert np.all(bounded.outcome == CONVERGED)
    np.testing.assert_array_equal(bounded.point[:, column], edge)
    assert np.all(bounded.value > minima.value)
    assert bounded.gradient_norm.max() < 1e-3  # of what is not at a bound


def test_a_lane_that_takes_too_long_gives_up(lowered: Lowered) -> None:
    rows = np.arange(3)
    minima = make(lowered, iterations=2).minimise(
        lanes(lowered, rows, displaced(lowered, rows, 1.0)), 1e-10
    )
    assert set(minima.outcome) == {EXHAUSTED}
    assert set(minima.iterations) == {2}
    assert not minima.converged.any()


def test_a_start_without_a_likelihood_costs_its_own_lane_only(lowered: Lowered) -> None:
    rows = np.arange(3)
    starts = lowered.init[rows].copy()
    starts[1] = np.nan
    minima = make(lowered).minimise(lanes(lowered, rows, starts), 1e-10)
    assert minima.outcome.tolist() == [CONVERGED, HOPELESS, CONVERGED]


@pytest.mark.study  # that JAX ends at the same minima is tested with impacts
def test_jax_takes_the_same_way() -> None:
    pytest.importorskip("jax")
    lowered, rows = lower("normsys", count=5), np.arange(5)
    # One solver for both, because most of the time is compilation.
    on_jax, on_numpy = make(lowered, JaxArrays()), make(lowered)
    for scoring in (False, True):
        starts = lanes(lowered, rows, displaced(lowered, rows, 0.7), scoring=scoring)
        ours, expected = (solver.minimise(starts, 1e-10) for solver in (on_jax, on_numpy))
        assert np.all(ours.outcome == CONVERGED)
        np.testing.assert_array_equal(ours.iterations, expected.iterations)
        np.testing.assert_allclose(ours.value, expected.value, atol=1e-9)


@pytest.mark.parametrize("arrays", [Arrays, JaxArrays])
def test_an_indefinite_matrix_is_replaced_or_damped(arrays: type[Arrays]) -> None:
    library = arrays()
    matrix = np.stack([np.diag([2.0, 1.0]), np.diag([2.0, -1.0]), np.diag([2.0, -1.0])])
    right, metric = np.ones((3, 2)), np.ones((3, 2))
    free = np.array([[True, True], [True, True], [True, True]])
    instead = Instead(
        library.put(np.array([True, True, False])),
        lambda lanes: library.put(np.broadcast_to(4.0 * np.eye(2), (3, 2, 2)))[lanes],
    )
    arguments = (library.put(array) for array in (matrix.copy(), metric, right, np.zeros(3), free))
    solved = library.solve(*arguments, instead)
    solution, damping, used, replaced = (library.get(array) for array in solved)
    assert replaced.tolist() == [False, True, False]
    np.testing.assert_allclose(solution[:2], [[0.5, 1.0], [0.25, 0.25]])
    np.testing.assert_allclose(solution[2], 1.0 / (np.array([2.0, -1.0]) + damping[2]))
    np.testing.assert_allclose(used[1], 4.0 * np.eye(2))
    np.testing.assert_array_equal(used[[0, 2]], matrix[[0, 2]])
    assert damping[:2].tolist() == [0.0, 0.0]
    assert damping[2] > 1.0


@pytest.mark.parametrize("instead", [False, True])
def test_few_unknowns_are_solved_as_many_are(monkeypatch, instead):
    rng = np.random.default_rng(1)
    lanes, size = 60, 9
    half = rng.normal(size=(lanes, size, size))
    matrix = half @ np.swapaxes(half, 1, 2)
    # A third is indefinite, some without a positive diagonal, and one has nothing free.
    matrix[::3] -= 3.0 * np.eye(size) * rng.uniform(0.2, 3.0, (len(matrix[::3]), 1, 1))
    metric = rng.uniform(0.5, 2.0, (lanes, size))
    right = rng.normal(size=(lanes, size))
    free = rng.uniform(size=(lanes, size)) < 0.8
    free[7] = False
    damping = np.where(rng.uniform(size=lanes) < 0.5, 1e-11, 0.3)
    positive = half @ np.swapaxes(half, 1, 2) + np.eye(size)
    replacement = Instead(rng.uniform(size=lanes) < 0.5, lambda rows: positive[rows])
    solutions = []
    for few in (0, 32):
        monkeypatch.setattr("palletfit.engine.arrays._FEW", few)
        system = (matrix.copy(), metric, np.where(free, right, 0.0), damping, free)
        solutions.append(Arrays().solve(*system, replacement if instead else None))
    by_lane, together = solutions
    assert (by_lane[1] != damping).any()
    assert by_lane[3].any() == instead
    np.testing.assert_allclose(together[0], by_lane[0], rtol=1e-9, atol=1e-12)
    for one, other in zip(by_lane[1:], together[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_lanes_are_as_many_as_the_caches_hold():
    arrays = Arrays()
    assert [arrays.lanes_of(size) for size in (10, 2_000, 10_000, 100_000)] == [256, 125, 25, 16]
