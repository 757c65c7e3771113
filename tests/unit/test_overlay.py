"""Published curves: what is found is kept as plain data, what is not is said."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from palletfit import overlay
from palletfit.config import DownloadSettings, Published, PublishedCurve

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
    found = json.loads(json.dumps(fetch(tmp_path, settings, observed="observed.csv")))
    assert list(found) == ["observed"]
    (segment,) = overlay.segments(found)["observed"]
    np.testing.assert_array_equal(segment, [[100, 0], [200, 50], [300, 0]])


def test_a_curve_that_cannot_be_had_is_described_and_costs_no_other(tmp_path, settings, caplog):
    with caplog.at_level(logging.WARNING):
        found = fetch(tmp_path, settings, observed="observed.csv", expected="missing.csv")
    assert "segments" in found["observed"]
    assert "missing.csv" in found["expected"]["problem"]
    assert "The published expected contour is left out." in caplog.text
    assert list(overlay.segments(found)) == ["observed"]


def test_a_table_of_something_else_is_described(tmp_path, settings):
    table = settings.cache / "published" / "search" / "words.csv"
    table.write_text("a,b\nx,y\n")
    found = fetch(tmp_path, settings, observed="words.csv")
    assert "words.csv" in found["observed"]["problem"]
    assert overlay.segments(found) == {}


def test_an_analysis_without_published_curves(tmp_path, settings):
    assert fetch(tmp_path, settings) == {}
    assert overlay.segments({}) == {}
