"""Tests at many signal strengths agree with hypothesis tests at each of them."""

from __future__ import annotations

import numpy as np
import pytest

from palletfit.config import FitSettings
from palletfit.engine import many_mu as profiles
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.many_mu import Profile
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch

from .. import models

STRENGTHS = (0.3, 1.0, 4.0)


def patches(count: int = 2) -> list[Patch]:
    return [Patch(item["metadata"]["name"], (), item["patch"]) for item in models.grid(count)]


def profile(engine: BatchedEngine, some: list[Patch], copies: int = len(STRENGTHS)) -> Profile:
    ((batch, _),) = engine.lower(some)[0]
    return Profile(engine.batch_fits(batch), copies)


@pytest.mark.parametrize("statistic", ["qtilde", "q"])
@pytest.mark.parametrize("thorough", [True, False])
def test_the_same_as_a_test_at_each_strength(statistic, thorough):
    spec = models.background("normsys", "histosys", "staterror")
    some = patches()
    made = profile(BatchedEngine(spec, FitSettings(test_statistic=statistic)), some)
    mu = np.repeat(STRENGTHS, len(some))
    q, q_asimov = made.test(made.rows, mu, on_data=np.ones(len(made), bool), thorough=thorough)
    found = profiles.tested(made.settings, q, q_asimov)
    for number, strength in enumerate(STRENGTHS):
        engine = BatchedEngine(spec, FitSettings(test_statistic=statistic, mu=strength))
        results = {patch.name: result for patch, result in engine.hypotests(some)}
        for place, patch in enumerate(some):
            wanted = results[patch.name]
            p_values = found[number * len(some) + place]
            assert p_values.CLs_obs == pytest.approx(wanted.p_values.CLs_obs, abs=1e-8)
            assert p_values.CLs_exp == pytest.approx(wanted.p_values.CLs_exp, abs=1e-8)
            assert made.mu_hat[place] == pytest.approx(wanted.mu_hat, abs=1e-4)
            assert made.mu_error[place] == pytest.approx(wanted.mu_hat_error, rel=1e-4)
            if thorough:
                trusted, reason = made.evidence(number * len(some) + place, on_data=True)
                assert trusted
                assert "asimov: " in reason
                assert "data: " in reason


def test_rows_without_data_are_not_fitted_there():
    made = profile(BatchedEngine(models.background("normsys"), FitSettings()), patches(), 2)
    rows = np.array([1, 2])
    on_data = np.array([False, True])
    q, q_asimov = made.test(rows, np.array([1.0, 2.0]), on_data=on_data, thorough=True)
    assert np.isnan(q[0])
    assert q[1] >= 0
    assert np.all(q_asimov > 0)
    assert made.evidence(1, on_data=False)[0]
    with pytest.raises(KeyError):
        made.evidence(1, on_data=True)


def test_a_free_fit_is_not_above_a_fixed_one():
    """Where a fit at a signal strength ends lower, the free fit goes on from there."""
    made = profile(BatchedEngine(models.background("normsys"), FitSettings()), patches(1), 1)
    true = made.mu_hat[0]
    value = made._free.value[0]
    # As if the free fit had stopped early.
    made._free.point[0] = made._background.point[0]
    made._free.value[0] = made._background.value[0] + 1.0
    made.test(np.array([0]), np.array([0.5]), on_data=np.array([True]), thorough=False)
    assert made._free.value[0] == pytest.approx(value, abs=1e-9)
    assert made.mu_hat[0] == pytest.approx(true, abs=1e-5)


def test_what_stands_against_tests():
    spec = models.counting()
    spec["measurements"][0]["config"]["parameters"] = [
        {"name": models.POI, "bounds": [[0.5, 2.0]], "inits": [1.0]}
    ]
    found = profile(BatchedEngine(spec, FitSettings()), [Patch("all", (), ())], 1).unsound()
    assert isinstance(found[0], PalletError)
    sound = profile(BatchedEngine(models.counting(), FitSettings()), [Patch("all", (), ())], 1)
    assert sound.unsound() == {}
    sound._free.converged[0] = False
    assert sound.unsound() == {0: "its free fit did not converge"}
