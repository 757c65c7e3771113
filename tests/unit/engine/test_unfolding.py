"""Likelihoods of unfolded measurements: many free normalizations, and rates below zero."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import iminuit
import numpy as np
import pytest

from palletfit.config import FitSettings, LimitSettings
from palletfit.engine.batch import BatchFits
from palletfit.engine.causes import cause
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fits import MOST_EVALUATIONS, Fits
from palletfit.engine.hypotests import Hypotests
from palletfit.engine.likelihood import constants
from palletfit.engine.protocol import Calculation
from palletfit.engine.records import HypotestResult
from palletfit.engine.reference import hypotests
from palletfit.engine.reference.engine import ReferenceEngine
from palletfit.engine.reference.hypotests import build_model
from palletfit.engine.reference.optimizers import calls_of_a_run, calls_of_repetitions
from palletfit.engine.search import Search
from palletfit.errors import FitError
from palletfit.pallet.patches import Patch, apply
from palletfit.products.limits.compute import LimitSearch
from palletfit.products.mu_scan.compute import MuTestsAt

#: Few events in all, so that many bins are empty and rates of others go to zero.
TINY = {"truth": 4, "channels": 1, "bins": 6, "systematics": 3, "events": 6, "smearing": 2.0}
SMALL = {"truth": 6, "channels": 2, "bins": 6, "systematics": 6, "events": 12, "smearing": 2.0}
LARGE = {"truth": 16, "channels": 4, "bins": 10, "systematics": 60, "events": 60, "smearing": 2.0}

Load = Callable[[str], ModuleType]


def unfolding(load: Load, number: int, **shape: Any) -> tuple[Any, Patch]:
    module = load("unfolding_likelihoods")
    workspace, operations = module.unfolding_likelihood(number, module.Shape(**shape))
    return workspace, Patch("all", (), operations)


def batch_fits(workspace: Any, patch: Patch) -> BatchFits:
    engine = BatchedEngine(workspace, FitSettings())
    ((batch, _),), refused = engine.lower([patch])
    assert not refused
    return engine.batch_fits(batch)


@pytest.mark.parametrize(
    ("number", "shape", "most", "calls"),
    [
        # Half of the 1,987 evaluations that it took without the active set.
        (5, TINY, 1_000, 300),
        # Half of 64,321, with points that are drawn at random.
        pytest.param(3, SMALL, 32_000, 4_000, marks=pytest.mark.study),
    ],
    ids=["tiny", "small"],
)
def test_fits_with_rates_at_zero_cost_little_and_nobody_ends_lower(
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    shape: dict[str, Any],
    most: int,
    calls: int,
) -> None:
    if shape is TINY:
        monkeypatch.setattr("palletfit.engine.search._WORK", 0)
    workspace, patch = unfolding(load, number, **shape)
    tests = batch_fits(workspace, patch)
    fits = tests.four_fits()
    for name, kind in fits.items():
        assert kind.converged.all(), name
    assert sum(kind.spent[0] for kind in fits.values()) < most
    free = fits["free"]
    rates = tests.likelihood.rates(free, free.point)
    assert np.any((free.data <= 0) & (np.abs(rates) < 1e-5)), "no rate is at zero"
    model, data = build_model(apply(workspace, patch), FitSettings(engine="reference"))

    def twice_nll(point: Any) -> float:
        with np.errstate(all="ignore"):
            value = -2.0 * float(model.logpdf(np.asarray(point), data)[0])
        return value if np.isfinite(value) else 1e10

    by_name = dict(zip(tests.batch.names[0], free.point[0], strict=True))
    ours = np.array([by_name[name] for name in model.config.par_names])
    lowest = twice_nll(ours)
    constant = constants(tests.batch, tests.batch.data, tests.batch.aux)[0]
    assert lowest == pytest.approx(2 * (free.value[0] + constant), abs=1e-4)
    for start in (np.array(model.config.suggested_init()), ours):
        minuit = iminuit.Minuit(twice_nll, start)
        minuit.limits = model.config.suggested_bounds()
        minuit.strategy = 0
        minuit.migrad(ncall=calls)
        assert lowest < minuit.fval + 1e-4


@pytest.mark.study
@pytest.mark.slow
def test_a_large_one_converges(load: Load) -> None:
    """Without the active set of :mod:`palletfit.engine.corners` three of four starts did not."""
    tests = batch_fits(*unfolding(load, 0, **LARGE))
    for name, kind in tests.four_fits().items():
        assert kind.converged.all(), name
        assert all(minima.converged.all() for _, _, minima, _ in kind.attempts), name
        assert kind.spent[0] < 5_000, name


def test_a_flat_direction_is_named(load: Load) -> None:
    """Of products of two normalizations only the product is determined."""
    tests = batch_fits(*unfolding(load, 0, **SMALL, overall=True))
    fits = Fits(tests.batch.data, tests.batch.aux, None, tests.rows)
    tests.fitter.fit(fits, {"suggested": tests.batch.init})
    assert fits.converged.all()
    reason = cause(tests.likelihood, fits, 0)
    assert reason.startswith("the data do not determine")
    assert "the NLL is flat there" in reason
    assert "mu_0" in reason or "bin_" in reason


def test_the_search_of_a_fit_ends_at_a_bound(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a round may take over the bound is bounded, too."""
    bound, over = 200, 5_000
    monkeypatch.setattr("palletfit.engine.fits.MOST_EVALUATIONS", bound)
    workspace, patch = unfolding(load, 5, **TINY)
    tests = batch_fits(workspace, patch)
    fits = tests.four_fits()
    spent = {name: int(kind.spent[0]) for name, kind in fits.items()}
    assert max(spent.values()) > bound
    assert max(spent.values()) < bound + over
    monkeypatch.setattr(BatchFits, "four_fits", lambda _: fits)
    ((_, result),) = tests.hypotests()
    assert isinstance(result, HypotestResult)
    ended = [name for name, count in spent.items() if count >= bound]
    for name in ended:
        assert "the search for lower minima ended after" in result.fits[name].reason
        remark = f"{name} fit: the search for lower minima ended at its bound on evaluations"
        assert remark in result.remarks


@pytest.mark.parametrize("product", ["hypotest", "limits", "mu_scan"])
def test_a_fit_that_is_stopped_is_a_failure_with_cause_and_remedy(
    product: str, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference engine is not asked: it would take minutes."""
    # A search would not change where the fits are stopped.
    for name in ("lower", "explore", "exchange"):
        monkeypatch.setattr(Search, name, lambda *_, **__: None)
    workspace, patch = unfolding(load, 0, **SMALL, overall=True)
    both, four = BatchFits.without_and_with_signal, BatchFits.four_fits

    def stop(free: Fits) -> None:
        # Where the product is determined, and not its factors.
        free.point[:] = free.from_start("suggested").point
        free.converged[:], free.spent[:] = False, MOST_EVALUATIONS

    def stopped(self: BatchFits, same: Any) -> tuple[Fits, Fits]:
        background, free = both(self, same)
        stop(free)
        return background, free

    def stopped_four(self: BatchFits) -> dict[str, Fits]:
        fits = four(self)
        stop(fits["free"])
        return fits

    monkeypatch.setattr(BatchFits, "without_and_with_signal", stopped)
    monkeypatch.setattr(BatchFits, "four_fits", stopped_four)
    monkeypatch.setattr(ReferenceEngine, "calculate", forbidden)
    calculation: Calculation[Any] = {
        "hypotest": Hypotests(),
        "limits": LimitSearch(0.05, LimitSettings()),
        "mu_scan": MuTestsAt((0.5, 1.0)),
    }[product]
    ((_, error),) = BatchedEngine(workspace, FitSettings()).calculate(calculation, [patch])
    assert isinstance(error, FitError)
    assert "The free fit is stopped by the bound of 10,000 evaluations" in error.problem
    assert "the data do not determine" in error.problem
    assert "Fix or constrain the parameters that the reason names" in str(error.remedy)


@pytest.mark.study  # a reported likelihood shows it in tests of the reference engine
@pytest.mark.slow
def test_the_reference_engine_ends_or_says_why(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, patch = unfolding(load, 3, **SMALL)
    calls = []
    build = hypotests.build_model

    def counting(*arguments: Any) -> tuple[Any, Any]:
        model, data = build(*arguments)
        logpdf = model.logpdf
        model.logpdf = lambda *of: (calls.append(1), logpdf(*of))[1]
        return model, data

    monkeypatch.setattr(hypotests, "build_model", counting)
    ((_, result),) = ReferenceEngine(workspace, FitSettings()).hypotests([patch])
    assert isinstance(result, HypotestResult)
    size = result.parameters
    # Four fits, what repeats them, and one more; each with the errors of Minuit and Newton's steps.
    run = calls_of_a_run(size) + size * (size + 1)
    assert len(calls) < 5 * run + calls_of_repetitions(size)
    for fit in result.fits.values():
        assert fit.trusted or "evaluations for further attempts is reached" in fit.reason


def forbidden(*_: Any) -> Any:
    raise AssertionError("the reference engine is asked")
