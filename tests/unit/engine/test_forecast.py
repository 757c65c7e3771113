"""Forecasts of hypothesis tests, against the tests themselves."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from scipy.special import ndtri

from palletfit.config import FitSettings
from palletfit.engine.asymptotics import p_values
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.forecast import forecasts
from palletfit.pallet.demo import demo_patchset, demo_workspace
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import parse_patchset

COUNTING = {
    "version": "1.0.0",
    "channels": [{"name": "SR", "samples": [{"name": "b", "data": [1e4], "modifiers": []}]}],
    "observations": [{"name": "SR", "data": [10_060.0]}],
    "measurements": [{"name": "main", "config": {"poi": "mu", "parameters": []}}],
}


def signal(events: float) -> Patch:
    sample = {
        "name": "s",
        "data": [events],
        "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
    }
    operation = {"op": "add", "path": "/channels/0/samples/-", "value": sample}
    return Patch(f"S{events:g}", (events,), [operation])


@pytest.mark.parametrize("statistic", ["qtilde", "q"])
@pytest.mark.parametrize("observed", [10_060.0, 9_950.0])
def test_one_bin_of_many_events_is_gaussian(statistic: str, observed: float) -> None:
    workspace = copy.deepcopy(COUNTING)
    workspace["observations"] = [{"name": "SR", "data": [observed]}]
    engine = BatchedEngine(workspace, FitSettings(test_statistic=statistic))
    (forecast,) = forecasts(engine, [signal(150.0)]).values()
    sigma = math.sqrt(1e4 + 2 * 150 / 3)
    mu_hat, q_asimov = (observed - 1e4) / 150, (150 / sigma) ** 2
    # The signal strength of the measurement is not below zero.
    q = q_asimov * ((1 - mu_hat) ** 2 - min(mu_hat, 0.0) ** 2)
    expected = p_values(statistic, q, q_asimov)
    assert forecast.CLs_obs == pytest.approx(expected.CLs_obs, rel=1e-6)
    assert forecast.CLs_exp == pytest.approx(expected.CLs_exp, rel=1e-6)
    ((_, test),) = engine.hypotests([signal(150.0)])
    assert forecast.CLs_obs == pytest.approx(test.p_values.CLs_obs, rel=2e-3)


def test_forecasts_are_near_the_tests_of_a_search() -> None:
    workspace = demo_workspace()
    patches = parse_patchset(demo_patchset(workspace), "demo").patches[20:60:5]
    engine = BatchedEngine(workspace, FitSettings())
    by_name = forecasts(engine, patches)
    counted = 0
    for patch, test in engine.hypotests(patches):
        values = test.p_values
        tested = -ndtri(np.clip([values.CLs_obs, *values.CLs_exp], 1e-6, 1 - 1e-6))
        forecast = by_name[patch.name]
        ahead = -ndtri(np.clip([forecast.CLs_obs, *forecast.CLs_exp], 1e-6, 1 - 1e-6))
        # Of the observed and the median expected value, next to the contour: half a standard
        # deviation. The patches differ by up to six.
        near = (np.abs(tested - 1.645) < 1.0)[[0, 3]]
        assert (np.abs(ahead - tested)[[0, 3]][near] < 0.5).all(), patch.name
        counted += near.sum()
    assert counted > 4


def test_what_cannot_be_forecast_has_none() -> None:
    missing = Patch("missing", (1.0,), [{"op": "remove", "path": "/channels/7"}])
    nothing = signal(0.0)
    engine = BatchedEngine(COUNTING, FitSettings())
    assert [*forecasts(engine, [missing, nothing, signal(100.0)])] == ["S100"]
