"""Likelihoods of unfolded measurements: many free normalizations, and rates below zero."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import iminuit
import numpy as np
import pytest

from palletfit.config import FitSettings
from palletfit.engine.batch import BatchFits
from palletfit.engine.causes import cause
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fits import Fits
from palletfit.engine.reference.hypotests import build_model
from palletfit.pallet.patches import Patch, apply

#: Few events in all, so that many bins are empty and rates of others go to zero.
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


def test_fits_with_rates_at_zero_cost_little_and_nobody_ends_lower(load: Load) -> None:
    workspace, patch = unfolding(load, 3, **SMALL)
    tests = batch_fits(workspace, patch)
    fits = tests.four_fits()
    for name, kind in fits.items():
        assert kind.converged.all(), name
    assert sum(kind.spent[0] for kind in fits.values()) < 25_000
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
    assert lowest == pytest.approx(tests.best_fit(None, None).twice_nll, abs=1e-4)
    for start in (np.array(model.config.suggested_init()), ours):
        minuit = iminuit.Minuit(twice_nll, start)
        minuit.limits = model.config.suggested_bounds()
        minuit.strategy = 0
        minuit.migrad(ncall=4_000)
        assert lowest < minuit.fval + 1e-4


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


def test_a_fit_that_does_not_converge_ends_after_a_bound(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is left of the budget, its record says why."""
    monkeypatch.setattr("palletfit.engine.search.MOST_EVALUATIONS", 200)
    monkeypatch.setattr("palletfit.engine.fit_records.MOST_EVALUATIONS", 200)
    workspace, patch = unfolding(load, 3, **SMALL)
    ((_, result),) = BatchedEngine(workspace, FitSettings()).hypotests([patch])
    reasons = " ".join(fit.reason for fit in result.fits.values())
    assert "the search for lower minima ended after" in reasons
