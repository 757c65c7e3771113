"""Published curves: what is found is kept as plain data, what is not is said."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from palletfit.config import DownloadSettings, Published, PublishedCurve, PublishedLimits
from palletfit.planes import overlay

CSV = "#: name: Obs\nm1 [GEV],m2 [GEV]\n100,0\n200,50\n300,0\n"


@pytest.fixture
def settings(tmp_path):
    """Offline, with one table in the cache."""
    cache = tmp_path / "cache"
    (cache / "published" / "search").mkdir(parents=True)
    (cache / "published" / "search" / "observed.csv").write_text(CSV)
    return DownloadSettings(cache=cache, offline=True)


def fetch(tmp_path, settings, **curves):
    published = Published(**{name: PublishedCurve(file=file) for name, file in curves.items()})
    return overlay.fetch(published, tmp_path / "curves", settings, analysis="search")


def test_a_curve_is_kept_as_plain_data(tmp_path, settings):
    result = json.loads(json.dumps(fetch(tmp_path, settings, observed="observed.csv")))
    assert list(result) == ["observed"]
    (segment,) = overlay.segments(result)["observed"]
    np.testing.assert_array_equal(segment, [[100, 0], [200, 50], [300, 0]])


def test_a_curve_that_cannot_be_had_is_described_and_costs_no_other(tmp_path, settings, caplog):
    with caplog.at_level(logging.WARNING):
        result = fetch(tmp_path, settings, observed="observed.csv", expected="missing.csv")
    assert "segments" in result["observed"]
    assert "missing.csv" in result["expected"]["problem"]
    assert "The published expected contour is left out." in caplog.text
    assert list(overlay.segments(result)) == ["observed"]


def test_a_table_of_something_else_is_described(tmp_path, settings):
    table = settings.cache / "published" / "search" / "words.csv"
    table.write_text("a,b\nx,y\n")
    result = fetch(tmp_path, settings, observed="words.csv")
    assert "words.csv" in result["observed"]["problem"]
    assert overlay.segments(result) == {}


def test_an_analysis_without_published_curves(tmp_path, settings):
    assert fetch(tmp_path, settings) == {}
    assert overlay.segments({}) == {}


def fetch_limits(tmp_path, settings, text, **more):
    (settings.cache / "published" / "search" / "limits.csv").write_text(text)
    published = Published(upper_limits=PublishedLimits(file="limits.csv", **more))
    return overlay.fetch(published, tmp_path / "curves", settings, analysis="search")


def test_published_limits_are_kept_with_their_unit(tmp_path, settings):
    text = "#: name: UL\nm1,m2,UL [fb]\n100,0,2.5\n200,50,-\n300,0,0.5\n"
    result = fetch_limits(tmp_path, settings, text, unit="fb")
    assert result == {
        "upper_limits": {"points": [[100.0, 0.0, 2.5], [300.0, 0.0, 0.5]], "unit": "fb"}
    }
    assert overlay.segments(result) == {}


@pytest.mark.parametrize(
    ("text", "more", "problem"),
    [
        ("m1,m2\n1,2\n", {}, "The published limit has no columns 0 and 1 and 2."),
        ("m1,m2,a\n1,2,3\n", {"value": "UL"}, "published.upper_limits.value"),
        ("m1,m2,a\n1,2,0\n", {}, "holds no limit"),
        ("m1,m2,a\n1,2,low\n", {}, "Line 2 of the published limit is not numbers: 1, 2, low."),
    ],
)
def test_published_limits_that_are_none(tmp_path, settings, caplog, text, more, problem):
    with caplog.at_level(logging.WARNING):
        result = fetch_limits(tmp_path, settings, text, **more)
    assert problem in result["upper_limits"]["problem"]
    assert "The published upper limits are left out." in caplog.text
