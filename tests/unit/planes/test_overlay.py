"""Published curves: what is found is kept as plain data, what is not is said."""

from __future__ import annotations

import json
import logging
import socket

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


def worth_asking(overlay_content, settings, **curves):
    published = Published(**{name: PublishedCurve(**curve) for name, curve in curves.items()})
    return overlay.is_worth_asking(overlay_content, published, settings, analysis="search")


def test_what_is_left_out_is_worth_asking_for_when_circumstances_change(tmp_path, settings):
    curve = {"file": "missing.csv", "url": "https://www.hepdata.net/missing.csv"}
    result = json.loads(json.dumps(fetch(tmp_path, settings, observed="missing.csv")))
    assert overlay.left_out(result) == {
        "observed": "The CSV table is not in the download cache, and download.offline forbids "
        "the network."
    }
    assert not worth_asking(result, settings, observed=curve)
    online = settings.model_copy(update={"offline": False})
    assert worth_asking(result, online, observed=curve)
    (settings.cache / "published" / "search" / "missing.csv").write_text(CSV)
    assert worth_asking(result, settings, observed=curve)
    result = json.loads(json.dumps(fetch(tmp_path, settings, observed="missing.csv")))
    assert overlay.left_out(result) == {}
    assert not worth_asking(result, settings, observed=curve)


def test_a_damaged_file_in_the_cache_is_read_again_when_it_was_replaced(tmp_path, settings):
    table = settings.cache / "published" / "search" / "words.csv"
    table.write_text("a,b\nx,y\n")
    result = json.loads(json.dumps(fetch(tmp_path, settings, observed="words.csv")))
    assert not worth_asking(result, settings, observed={"file": "words.csv"})
    table.write_text(CSV)
    assert worth_asking(result, settings, observed={"file": "words.csv"})


def test_a_server_that_was_out_of_reach_is_asked_again_once_its_name_is_known(
    tmp_path, settings, monkeypatch
):
    known = {"127.0.0.1"}

    def look_up(host, *_):
        if host not in known:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    online = settings.model_copy(update={"offline": False, "backoff": 0.0, "retries": 0})
    curve = {"file": "missing.csv", "url": "https://www.hepdata.net/missing.csv"}
    published = Published(observed=PublishedCurve(**curve))
    result = overlay.fetch(published, tmp_path / "curves", online, analysis="search")
    assert "www.hepdata.net cannot be resolved" in result["observed"]["reason"]
    assert not worth_asking(result, online, observed=curve)
    known.add("www.hepdata.net")
    assert worth_asking(result, online, observed=curve)
