"""The choice of points that a contour needs, on planes whose significances are known."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from palletfit.config import Settings
from palletfit.core.arrays import FloatArray
from palletfit.errors import ConfigError
from palletfit.products.hypotest import Hypotest
from palletfit.products.hypotest.adaptive import Chooser, View
from palletfit.products.hypotest.table import as_table, combine
from palletfit.publish.hepdata.tables import tally
from palletfit.runs.results import RegionResults, with_choice

LEVEL = 1.645


def plane(count: int = 12) -> FloatArray:
    x, y = np.meshgrid(np.linspace(0, 1, count), np.linspace(0, 1, count))
    return np.column_stack([x.ravel(), y.ravel()])


def truth(scaled: FloatArray) -> FloatArray:
    """Return significances whose contour is a quarter of a circle, in six columns."""
    radius = np.hypot(*scaled.T)
    return np.clip((4.0 - 4.0 * radius)[:, None] + np.array([0.2, -2, -1, 0, 1, 2]), -5, 5)


def chooser(scaled: FloatArray, error: float = 0.3, **changes: Any) -> Chooser:
    """Make a chooser whose forecasts are off by something smooth."""
    off = error * np.sin(3 * scaled[:, :1]) * np.cos(2 * scaled[:, 1:])
    settings: dict[str, Any] = {
        "names": [f"p{row}" for row in range(len(scaled))],
        "views": [View(np.arange(len(scaled)), scaled)],
        "forecast": truth(scaled) + off,
        "level": LEVEL,
        "precision": 0.005,
        "columns": (0, 3),
    }
    return Chooser(**settings | changes)


def play(points: Chooser, values: FloatArray, most: int = 8) -> list[list[int]]:
    """Test what is asked for until nothing is; return the rounds."""
    rounds, rows = [], points.first()
    while len(rows):
        rounds.append(rows.tolist())
        for row in rows:
            points.take(row, None if np.isnan(values[row]).any() else ndtr(-values[row]).tolist())
        rows = points.next(most)
    return rounds


def test_a_part_of_the_points_gives_the_contour() -> None:
    scaled = plane()
    points = chooser(scaled)
    rounds = play(points, truth(scaled))
    assert {*rounds[0]} == {0, 11, 132, 143}  # the corners
    assert all(len(rows) <= 8 for rows in rounds[1:])
    tested = [row for rows in rounds for row in rows]
    assert len(tested) == len({*tested}) == points.done.sum() < len(scaled) / 3
    # The wanted precision, by the slope of 4 standard deviations across the plane.
    error = np.abs(points.values() - truth(scaled))[:, [0, 3]]
    near = np.abs(truth(scaled)[:, [0, 3]] - LEVEL) < 0.5
    assert error[near].max() < 4 * 0.005 * 2
    assert error[tested].max() < 1e-9


def test_more_precision_needs_more_points_and_a_better_forecast_fewer() -> None:
    scaled = plane()
    counts = [
        sum(map(len, play(chooser(scaled, **changes), truth(scaled))))
        for changes in ({"precision": 0.02}, {}, {"precision": 0.001}, {"error": 1.0})
    ]
    assert counts[0] < counts[1] < counts[2]
    assert counts[1] <= counts[3]


def test_the_choice_does_not_depend_on_how_often_a_run_was_resumed() -> None:
    scaled = plane()
    assert play(chooser(scaled), truth(scaled)) == play(chooser(scaled), truth(scaled))


def test_failed_points_do_not_stop_it_and_are_no_forecasts() -> None:
    scaled = plane()
    values = truth(scaled)
    values[[0, 54, 66]] = np.nan
    points = chooser(scaled)
    tested = {row for rows in play(points, values) for row in rows}
    assert 0 in tested
    assert np.isfinite(points.values()[~points.done]).all()
    assert np.isnan(points.values()[0]).all()


def test_points_without_a_forecast_or_a_plane_are_tested() -> None:
    scaled = plane()
    forecast = truth(scaled)
    forecast[77] = np.nan
    inside = np.arange(100)
    points = chooser(scaled, forecast=forecast, views=[View(inside, scaled[inside])])
    assert {77, *range(100, 144)} <= {*points.first().tolist()}


@pytest.mark.parametrize(
    "scaled",
    [np.array([[0.5, 0.5]]), np.column_stack([np.linspace(0, 1, 9), np.linspace(0, 1, 9)])],
)
def test_points_that_span_no_plane_are_all_tested(scaled: FloatArray) -> None:
    assert sum(map(len, play(chooser(scaled), truth(scaled)))) == len(scaled)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fit": {"test_statistic": "q0"}}, "q0 does not have"),
        ({"executor": {"kind": "local", "parts": 2}}, "executor.parts"),
    ],
)
def test_there_has_to_be_a_contour_and_one_job(changes: dict[str, Any], words: str) -> None:
    Hypotest.check(Settings.model_validate(changes))
    with pytest.raises(ConfigError, match=words):
        Hypotest.check(Settings.model_validate({**changes, "points": {"choose": "adaptive"}}))


def test_a_failed_point_without_a_forecast_does_not_hide_its_neighbours() -> None:
    scaled = plane()
    forecast, values = truth(scaled), truth(scaled)
    hidden = np.flatnonzero(np.abs(truth(scaled)[:, 0] - LEVEL) < 0.4)[::2]
    forecast[hidden] = values[hidden] = np.nan
    points = chooser(scaled, forecast=forecast)
    tested = {row for rows in play(points, values) for row in rows}
    near = np.abs(truth(scaled)[:, 0] - LEVEL) < 0.2
    assert {*np.flatnonzero(near)} <= tested


def test_tables_for_hepdata_count_what_was_not_tested() -> None:
    points = {
        name: {"status": status}
        for name, status in zip("abc", ("ok", "untested", "failed"), strict=True)
    }
    words = "1 failed, 1 not tested, which the contours do not need (c)."
    assert tally(points) == f"3 signal points, 0 suspect, {words}"


def test_tests_on_one_line_but_for_one_do_not_end_the_choice() -> None:
    scaled = plane(5)
    points = chooser(scaled, error=1.0)
    # The line y = 0 and one corner: without that the others span no plane.
    for row in [0, 1, 2, 3, 4, 20]:
        points.take(row, ndtr(-truth(scaled)[row]).tolist())
    assert len(points.next(8))
    assert np.isfinite(points._error_rate(points.views[0])).all()


def test_a_forecast_that_is_off_where_no_corner_is_does_not_end_the_choice() -> None:
    scaled = np.random.default_rng(2).random((400, 2))
    bump = np.exp(-((scaled - 0.42) ** 2).sum(axis=1, keepdims=True) / 0.01)
    points = chooser(scaled, forecast=truth(scaled) + bump)
    assert len(play(points, truth(scaled))) > 1
    along = np.abs(truth(scaled)[:, 0] - LEVEL) < 0.1
    view = points.views[0]
    assert view.to_nearest(np.flatnonzero(points.done))[along].max() < 0.2
    assert np.abs(points.values() - truth(scaled))[along, 0].mean() < 0.15


def test_blinded_observations_have_no_forecast() -> None:
    forecast = {"CLs_obs": 0.2, "CLs_exp": [0.1, 0.2, 0.3, 0.4, 0.5]}
    point = {"status": "untested", "values": {"m": 1.0}, "forecast": forecast, "remarks": []}
    shown = with_choice(point, {"blinded": True, "remarks": ["blinded"]})
    table = as_table(combine([RegionResults("A", {"p": shown})], ["m"]), ["m"])
    assert table["CLs_obs_forecast"].isna().all()
    assert table["CLs_exp_0_forecast"].tolist() == [0.3]


def test_thousands_of_points_are_chosen_from_in_seconds() -> None:
    scaled = np.random.default_rng(1).random((2000, 2))
    points = chooser(scaled)
    for row in points.first():
        points.take(row, ndtr(-truth(scaled)[row]).tolist())
    began = time.process_time()
    assert len(points.next(8)) == 8
    assert time.process_time() - began < 5
