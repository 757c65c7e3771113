"""The live page: what it says, when it is written, and that fits do not depend on it.

The whole package is tested here: its modules are parts of one page.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from palletfit.config import Analysis, Forbidden, Settings
from palletfit.errors import ConfigError
from palletfit.pages import live
from palletfit.pages.live import watching
from palletfit.pages.live.__main__ import Server, main
from palletfit.pages.live.page import Run, render
from palletfit.pages.live.plane import contour, draw, ticks
from palletfit.pages.live.snapshot import MOST_POINTS, Point, Snapshot, Tally, merged, read_region
from palletfit.planes.quantities import CLS, LIMIT, SCALE, colour
from palletfit.products.hypotest import Hypotest
from palletfit.products.limits import Limits
from palletfit.products.toys import Toys
from palletfit.runs import scan

from ... import models

EVIL = "<script>alert(1)</script>"


def analysis(*regions: str, **changes) -> Analysis:
    files = {"workspace": "b.json", "patchset": "p.json"}
    plane = {"x": "m1", "y": "m2", "x_title": r"$m(\tilde{\chi})$ [GeV]", "y_title": "m2 [GeV]"}
    content = {
        "name": "search",
        "title": r"$\sqrt{s} = 13$ TeV",
        "pallet": {"builtin": "demo"},
        "regions": dict.fromkeys(regions or ("A",), files),
        "labels": ["m1", "m2"],
        "planes": {"masses": plane},
    }
    return Analysis.model_validate({**content, **changes})


def make(count: int = 9, folder: Path | None = None) -> scan.Scan:
    """A scan of points on a grid with a side of three."""
    patches = [
        models.patch(f"signal_{i}", [100 + 100 * (i % 3), 50 * (i // 3)]) for i in range(count)
    ]
    background = models.background("normsys")
    paths = models.write(folder, background, models.patchset(background, patches))
    return scan.Scan.read("search/A", *paths, ["*"], Settings().fit, Hypotest())


def record(index: int, observed: float = 0.3, status: str = "ok", **more):
    name = f"signal_{index}"
    if status == "failed":
        error = {"kind": "FitError", "problem": f"no minimum in {name}"}
        return {"patch": name, "status": status, "error": error, **more}
    numbers = {"CLs_obs": observed, "CLs_exp": [0.1, 0.2, observed / 2, 0.4, 0.5]}
    return {"patch": name, "status": status, **numbers, **more}


def page_of(folder: Path, part: str = "", *regions: str) -> live.Page:
    return live.Page(folder, analysis(*regions), "A", Hypotest, part)


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def watch(folder: Path, kept=(), *, page=None, clock=None, interval: float = 5.0):
    page = page or page_of(folder)
    about = Run(page.analysis, page.product, 0.95, interval)
    records = {element["patch"]: element for element in kept}
    more = {} if clock is None else {"clock": clock}
    return watching.Watching(page, about, "local, 2 workers", make(folder=folder), records, **more)


def cells(page: str, region: str) -> list[str]:
    """What the row of a region says."""
    (row,) = re.findall(rf"<tr><th scope=row>{region}</th>(.*?)</tr>", page)
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall("<td[^>]*>(.*?)</td>", row)][1:]


def test_counts_rate_remaining_and_failures(tmp_path):
    clock = Clock()
    seen = watch(tmp_path, [record(0), record(1)], clock=clock)
    for element in (record(2), record(3, status="suspect"), record(4, status="failed")):
        seen.see(element)
    clock.now += 30.0
    seen.write("running")
    page = page_of(tmp_path).path.read_text()
    # 3 in 30 s are 6 a minute; the two that were there do not count.
    assert cells(page, "A") == [
        *("3", "1", "1", "4", "9", "2", "6/min", "about 40 s", "local, 2 workers"),
    ]
    assert "<b>signal_4</b> (A): no minimum in signal_4" in page
    assert 'data-state="running"' in page
    assert f'data-written="{clock.now:.3f}"' in page
    seen.write("ended")
    page = page_of(tmp_path).path.read_text()
    assert cells(page, "A")[7].startswith("ended ")
    assert 'data-state="ended"' in page


@pytest.mark.parametrize(
    ("rate", "words"), [(3.25, "3.25/s"), (0.5, "30/min"), (0.002, "7.2/h"), (250.0, "250/s")]
)
def test_rates_have_a_unit_that_suits_them(tmp_path, rate, words):
    clock = Clock()
    seen = watch(tmp_path, clock=clock)
    seen.see(record(0))
    clock.now += 1 / rate
    seen.write("running")
    assert cells(page_of(tmp_path).path.read_text(), "A")[6] == words


def test_all_regions_of_an_analysis_share_a_page(tmp_path):
    clock = Clock()
    first = watch(tmp_path, page=page_of(tmp_path, "", "A", "B"), clock=clock)
    first.write("running")
    page = page_of(tmp_path).path.read_text()
    assert cells(page, "B")[-1] == "waiting"
    for element in range(9):
        first.see(record(element))
    first.write("ended")
    assert 'data-state="running"' in page_of(tmp_path).path.read_text()  # B is still to come
    other = live.Page(tmp_path, analysis("A", "B"), "B", Hypotest)
    second = watch(tmp_path, page=other, clock=clock)
    second.write("running")
    clock.now += 100
    first.write("ended")
    page = page_of(tmp_path).path.read_text()
    assert cells(page, "A")[:5] == ["9", "0", "0", "0", "9"]
    assert cells(page, "B")[7].startswith("no news since ")


def test_parts_of_a_region_are_one_row_and_other_splittings_are_forgotten(tmp_path):
    clock = Clock()
    watch(tmp_path, page=page_of(tmp_path, "1-of-3"), clock=clock).write("ended")
    watch(tmp_path, page=page_of(tmp_path), clock=clock).write("ended")
    clock.now += 10
    for part in ("1-of-2", "2-of-2"):
        seen = watch(tmp_path, page=page_of(tmp_path, part), clock=clock)
        seen.see(record(0))
        seen.write("running")
    row = cells(page_of(tmp_path).path.read_text(), "A")
    assert (row[0], row[4]) == ("2", "18")
    limits = Limits
    watch(tmp_path, page=live.Page(tmp_path, analysis(), "A", limits), clock=clock).write("ended")
    assert len(read_region(tmp_path / "search" / "A", Hypotest, clock.now)) == 2
    assert len(read_region(tmp_path / "search" / "A", limits, clock.now)) == 1
    assert (tmp_path / "search" / "live-limits.html").exists()


def test_limits_have_a_contour_where_they_are_one(tmp_path):
    page = live.Page(tmp_path, analysis(), "A", Limits)
    seen = watch(tmp_path, page=page)
    for i in range(9):
        mu = 0.5 * 4.0 ** (i % 3)  # 0.5, 2, 8: one half way, in the logarithm, to 200
        seen.see({"patch": f"signal_{i}", "status": "ok", "mu_obs": mu, "mu_exp": [mu] * 5})
    seen.write("running")
    text = page.path.read_text()
    assert re.search(r'<path class="observed" d="M', text)
    assert "Upper limit on μ observed: 2" in text


def test_a_product_without_numbers_has_counts_only(tmp_path):
    page = live.Page(tmp_path, analysis(), "A", Toys)
    seen = watch(tmp_path, page=page)
    seen.see({"patch": "signal_0", "status": "ok"})
    seen.write("running")
    text = page.path.read_text()
    assert cells(text, "A")[0] == "1"
    assert "<figure>" not in text


def test_hostile_names_are_text():
    point = Point(EVIL, (1, 2), "ok", 0.1, 0.1)
    failure = (EVIL, f'"{EVIL}')
    shown = snapshot(points=(point,), failures=(failure,), counts={"failed": 1}, region=EVIL)
    about = Run(analysis(title=EVIL), Hypotest, 0.95, 5.0)
    page = render(about, {"A": [shown]}, 0.0)
    assert EVIL not in page
    assert page.count("<script>") == 1
    assert page.count("&lt;script&gt;") >= 4


def snapshot(**changes) -> Snapshot:
    content = {
        "region": "A",
        "part": "",
        "executor": "local",
        "state": "running",
        "began": 0.0,
        "written": 10.0,
        "total": 9,
        "kept": 0,
        "counts": {},
        "labels": ("m1", "m2"),
        "points": (),
        "stride": 1,
        "failures": (),
    }
    return Snapshot(**{**content, **changes})


def test_snapshots_come_back_and_damaged_ones_do_not(tmp_path):
    written = snapshot(
        points=(Point("p", (1, "a"), "ok", 0.1, 0.2), Point("q", (1.5, 2), "open")),
        failures=(("p", "why"),),
        counts={"ok": 1},
    )
    path = tmp_path / "snapshot.json"
    path.write_text(written.as_text())
    assert Snapshot.read(path) == written
    for text in ("", "[]", written.as_text()[:-30], '{"region": 1, "points": []}'):
        path.write_text(text)
        assert Snapshot.read(path) is None


def test_of_very_many_points_some_are_shown():
    class Many:
        patches = tuple(scan.Patch(f"p{i}", (i, 0), ()) for i in range(2 * MOST_POINTS + 1))

    tally = Tally(Many, {})
    assert tally.stride == 3
    assert len(tally.points) <= MOST_POINTS
    for i in range(5):
        tally.add({"patch": f"p{i}", "status": "ok", "CLs_obs": 0.1, "CLs_exp": [0.1] * 5})
    assert tally.counts["ok"] == 5
    assert [point.status for point in tally.points.values()][:3] == ["ok", "ok", "open"]
    points = tuple(tally.points.values())
    shown = snapshot(points=points, stride=tally.stride, total=len(Many.patches))
    page = render(Run(analysis(), Hypotest, 0.95, 5.0), {"A": [shown]}, 0.0)
    assert "one of 3 points" in page


def test_the_best_region_of_a_point_is_shown():
    def point(expected, status="ok"):
        return Point("p", (1, 2), status, 0.5, expected)

    def best(**points):
        ((region, _),) = merged(points.items())
        return region

    assert best(A=point(0.3), B=point(0.1)) == "B"
    assert best(A=point(None, "failed"), B=point(None, "open")) == "B"
    assert best(A=point(None, "failed"), B=point(0.9)) == "B"


# --------------------------------------------------------------------------- the picture


def test_the_contour_lies_where_the_linear_interpolation_says():
    x, y = (
        axis.ravel() for axis in np.meshgrid(np.arange(0.0, 1000, 100), np.arange(0.0, 300, 50))
    )
    (line,) = contour(np.column_stack([x, y]), (x + y - 620.0) / 100)
    np.testing.assert_allclose(line.sum(axis=1), 620.0)
    assert np.ptp(line[:, 1]) == 250.0  # across the whole plane, in one piece
    step = np.abs(np.diff(line, axis=0)).max(axis=1)
    assert step.max() <= 100.0


def test_a_closed_contour_is_one_line():
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(21.0), np.arange(21.0)))
    (line,) = contour(np.column_stack([x, y]), 30.5 - (x - 10) ** 2 - (y - 10) ** 2)
    np.testing.assert_array_equal(line[0], line[-1])
    np.testing.assert_allclose(np.hypot(*(line - 10).T), 5.52, atol=0.1)


@pytest.mark.parametrize(
    ("place", "score"),
    [
        ([[0, 0], [1, 0]], [1, -1]),
        ([[0, 0], [1, 0], [2, 0], [3, 0]], [1, -1, 1, -1]),
        ([[0, 0], [1, 0], [0, 1]], [1, 2, 3]),
        ([[0, 0], [1, 0], [0, 1], [1, 1]], [1, np.nan, -1, np.nan]),
        ([[0, 0], [0, 0], [0, 0]], [1, -1, 1]),
    ],
)
def test_where_there_is_no_contour_there_is_none(place, score):
    assert contour(np.array(place, dtype=float), np.array(score, dtype=float)) == []


def picture(points, **changes) -> ElementTree.Element:
    chosen = analysis(planes={"p": {**PLANE, **changes}}).planes["p"]
    text = draw(chosen, ["m1", "m2"], [("A", point) for point in points], CLS, 0.95)
    return ElementTree.fromstring(text)  # noqa: S314  our own


PLANE = {
    "x": "m1",
    "y": "m2 - m1",
    "x_title": "x & y",
    "y_title": "y",
    "select": "m1 < 1000",
    "forbidden": {"y_above": "x - 50", "label": "$m_1 < m_2$"},
}


def test_the_picture_shows_every_point_of_the_plane():
    points = [
        Point("done", (100, 150), "ok", 0.01, 0.02),
        Point("odd", (200, 280), "suspect", 0.6, 0.5),
        Point("broken", (300, 310), "failed"),
        Point("waits", (400, 500), "open"),
        Point("elsewhere", (2000, 5), "ok", 0.1, 0.1),
    ]
    shown = picture(points)
    titles = [element.text.splitlines() for element in shown.iter("title")]
    assert titles == [
        ["waits", "open"],
        ["done", "ok, region A", "CLs observed: 0.01", "CLs expected: 0.02"],
        ["odd", "suspect, region A", "CLs observed: 0.6", "CLs expected: 0.5"],
        ["broken", "failed, region A"],
    ]
    kinds = [element.get("class") for element in shown if element.find("title") is not None]
    assert kinds == ["open", "ok", "suspect", "failed"]
    classes = [element.get("class") for element in shown]
    assert [name for name in classes if name in ("forbidden", "along")] == ["forbidden", "along"]
    words = ["".join(element.itertext()) for element in shown.iter("text")]
    assert "x & y" in words


def test_a_plane_without_points_has_no_picture():
    chosen = analysis(planes={"p": {**PLANE, "select": "m1 > 1e6"}}).planes["p"]
    assert draw(chosen, ["m1", "m2"], [("A", Point("p", (1, 2), "ok", 0.1, 0.1))], CLS, 0.95) == ""


def test_labels_that_are_no_numbers_leave_the_rest_of_the_page():
    points = (Point("p", ("left", 1), "ok", 0.1, 0.1),)
    page = render(Run(analysis(), Hypotest, 0.95, 5.0), {"A": [snapshot(points=points)]}, 0.0)
    assert "The plane cannot be drawn" in page
    assert cells(page, "A")


def test_scores_are_zero_on_the_contour_and_colours_follow_them():
    cls = np.array([1e-30, 0.01, 0.05, 0.5, 1.0])
    score = CLS.score(cls, 0.95)
    np.testing.assert_allclose(score[2], 0.0, atol=1e-12)
    np.testing.assert_allclose(score[1], 2.3263478740 - 1.6448536270)
    assert (np.diff(score) < 0).all()
    assert np.isfinite(score).all()
    mu = LIMIT.score(np.array([0.0, 0.5, 1.0, 2.0]), 0.95)
    np.testing.assert_allclose(mu, [5.0, np.log(2), 0.0, -np.log(2)])
    assert (colour(-9), colour(0), colour(9)) == (SCALE[0], SCALE[2], SCALE[4])


@pytest.mark.parametrize(("low", "high"), [(0, 1000), (137.5, 138.1), (-3, 4), (0, 1e-7)])
def test_ticks_are_few_and_round(low, high):
    shown = ticks(low, high)
    assert 3 <= len(shown) <= 9
    assert low <= shown[0]
    assert shown[-1] <= high
    assert all(len(f"{tick:g}") <= 6 for tick in shown)


# --------------------------------------------------------------------------- when it is written


def test_the_page_takes_a_hundredth_of_the_time_at_most():
    for cost in (0.0, 0.01, 0.3, 20.0):
        wait = watching.pause(2.0, cost)
        assert wait >= 2.0
        assert cost / (cost + wait) <= 0.01 + 1e-12


class Event:
    """Instead of a :class:`threading.Event`: notes for how long it was waited for."""

    def __init__(self, waits: int) -> None:
        self.waits, self.pauses = waits, []

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return len(self.pauses) > self.waits


def test_a_slow_disk_makes_the_page_rare(tmp_path, monkeypatch):
    seen = watch(tmp_path)
    seen._ended = Event(4)
    costs = iter([0.01, 0.2, 1.5, 0.01])
    monkeypatch.setattr(seen, "write", lambda *_: next(costs))
    seen._run()
    assert seen._ended.pauses == pytest.approx([5.0, 5.0, 19.8, 148.5, 5.0])


def test_a_reader_is_told_how_long_the_next_page_takes(tmp_path):
    seen = watch(tmp_path)
    seen._pause = 148.5
    seen.write("running")
    page = page_of(tmp_path).path.read_text()
    assert 'data-interval="148"' in page
    assert 'data-silence="594"' in page


def test_the_page_is_written_while_nothing_is_recorded(tmp_path):
    seen = watch(tmp_path, interval=0.02)
    path = page_of(tmp_path).path
    seen.start()
    first = path.stat().st_mtime_ns
    deadline = threading.Event()
    for _ in range(200):
        if path.stat().st_mtime_ns != first:
            break
        deadline.wait(0.05)
    assert path.stat().st_mtime_ns != first
    seen.end("ended")
    assert 'data-state="ended"' in path.read_text()
    assert not seen._thread.is_alive()


def test_an_observer_follows_a_scan_to_its_end(tmp_path, caplog):
    caplog.set_level("INFO")
    page = page_of(tmp_path)
    observer = live.observer(page, Settings(), workers=1)
    with observer(make(folder=tmp_path), {"signal_0": record(0)}) as see:
        see(record(1))
    assert cells(page.path.read_text(), "A")[:6] == ["2", "0", "0", "7", "9", "1"]
    assert "local, 1 worker<" in page.path.read_text()
    assert str(page.path) in caplog.text

    def interrupted() -> None:
        with observer(make(folder=tmp_path), {}):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    text = page.path.read_text()
    assert 'data-state="interrupted"' in text
    assert cells(text, "A")[7].startswith("interrupted ")


def test_no_page_if_none_is_wanted(tmp_path):
    settings = Settings.model_validate({"live": {"enabled": False}})
    assert live.observer(page_of(tmp_path), settings, workers=1) is None


def test_a_page_that_cannot_be_written_is_given_up_with_a_word(tmp_path, caplog):
    page = page_of(tmp_path)
    page.path.parent.mkdir(parents=True)
    page.path.mkdir()  # where the page should be
    observer = live.observer(page, Settings(), workers=1)
    with observer(make(folder=tmp_path), {}) as see:
        see(record(0))
    assert caplog.text.count("The live page is not written any more") == 1


@pytest.mark.parametrize(
    ("interval", "words"), [(7.20794, "7.2"), (5.0, "5"), (28.83176, "29"), (0.3, "0.3")]
)
def test_intervals_are_written_for_people(interval, words):
    text = render(Run(analysis(), Hypotest, 0.95, interval), {"A": [snapshot()]}, 0.0)
    assert f'data-interval="{words}"' in text
    assert "20794" not in text


def test_results_are_linked_when_they_are_there(tmp_path):
    page = page_of(tmp_path)
    observer = live.observer(page, Settings(), workers=1)
    with observer(make(folder=tmp_path), {}):
        text = page.path.read_text()
        assert "exclusion.html" in text
        assert 'href="exclusion.html"' not in text
    text = page.path.read_text()
    assert 'Results: <a href="exclusion.html">exclusion.html</a>, <a href="results.csv">' in text
    discovery = Settings.model_validate({"fit": {"test_statistic": "q0"}})
    assert Hypotest.shown_files(page.analysis, discovery) == ["results.csv"]
    (page.path.parent / "exclusion.html").write_text("earlier")
    with observer(make(folder=tmp_path), {}):
        text = page.path.read_text()
        assert '<a href="exclusion.html">' in text
        assert "earlier run" in text


def test_a_label_that_would_be_cut_off_is_left_out():
    long = "$m(\\tilde{\\chi}) < m(b)$ and many more words than fit"
    for label, shown in (("$m_1 < m_2$", True), (long * 2, False)):
        plane = (
            analysis()
            .planes["masses"]
            .model_copy(update={"forbidden": Forbidden(y_above="x - 100", label=label)})
        )
        points = [("A", Point(f"p{i}", (100.0 * i, 50.0 * i), "ok")) for i in range(9)]
        assert ('class="along"' in draw(plane, ["m1", "m2"], points, CLS, 0.95)) is shown


# --------------------------------------------------------------------------- the server


@pytest.fixture
def served(tmp_path):
    """Ask a running server for a path: status, headers and content."""
    results = tmp_path / "project" / "results"
    for name in ("search", "other"):
        (results / name).mkdir(parents=True)
        (results / name / "results.json").write_text("{}")
    (results / "search" / "live.html").write_text("<!DOCTYPE html>\nthe page")
    (results / "search" / "live-limits.html").write_text("<!DOCTYPE html>\nlimits")
    with Server(results, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()

        def ask(path: str, host: str = "127.0.0.1", method: str = "GET"):
            connection = http.client.HTTPConnection(*server.server_address[:2], timeout=300)
            connection.request(method, path, headers={"Host": host})
            answer = connection.getresponse()
            content = answer.read().decode()
            connection.close()
            return answer.status, dict(answer.headers), content

        ask.results = results
        yield ask
        server.shutdown()
        thread.join()


def test_results_and_the_report_are_served(served):
    status, headers, content = served("/search/live.html")
    assert (status, content) == (200, "<!DOCTYPE html>\nthe page")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert served("/search/live.html", method="HEAD")[2] == ""
    assert served("/search/live-limits.html")[0] == 200
    records = served.results / "search" / "A b" / "fits"
    records.mkdir(parents=True)
    (records / "signal.json").write_text('{"status": "ok"}')
    (served.results.parent / "report.html").write_text("<!DOCTYPE html>\nreport")
    for path, kind, words in (
        ("/search/results.json", "application/json", "{}"),
        ("/search/A%20b/fits/signal.json", "application/json", '{"status": "ok"}'),
        ("/report.html", "text/html; charset=utf-8", "<!DOCTYPE html>\nreport"),
    ):
        status, headers, content = served(path)
        assert (status, headers["Content-Type"], content) == (200, kind, words), path


def test_nothing_else_is_served(served):
    results = served.results
    outside = results.parent.parent / "secret.json"
    outside.write_text("secret")
    (results.parent / "secret.json").write_text("secret")
    (results / "live.html").write_text("of no analysis")
    (results / "search" / "link.json").symlink_to(outside)
    (results / "search" / ".hidden.json").write_text("secret")
    (results / "search" / "notes.txt").write_text("secret")
    (results / "search" / "folder.json").mkdir()
    for path in (
        "/other/live.html",
        "/live.html",
        "/secret.json",
        "/../live.html",
        "/search/../../secret.json",
        "/%2e%2e/secret.json",
        "/search/..%2f..%2fsecret.json",
        "/search//results.json",
        "/search/link.json",
        "/search/.hidden.json",
        "/search/notes.txt",
        "/search/folder.json",
        "/search/a%00.json",
        "/search/live.html?x",
        "/search/",
        "search/live.html",
    ):
        status, _, content = served(path)
        assert status in (400, 404), path
        assert "secret" not in content
    assert served("/search/live.html", method="POST")[0] == 501


def test_the_list_of_pages(served):
    results = served.results
    (results.parent / "report.html").write_text("report")
    (results / "search" / "exclusion.html").write_text("page")
    (results / "search" / "a<b>.csv").write_text("")
    content = served("/")[2]
    links = re.findall('<a href="([^"]*)">', content)
    assert links == [
        "/report.html",
        "/search/live-limits.html",
        "/search/live.html",
        "/search/exclusion.html",
        "/search/a%3Cb%3E.csv",
    ]
    assert "a&lt;b&gt;.csv" in content
    for path in ("report.html", "results/search/exclusion.html", "results/search/a<b>.csv"):
        (results.parent / path).unlink()
    (results / "search" / "live-limits.html").unlink()
    # The only page is opened at once.
    status, headers, _ = served("/")
    assert (status, headers["Location"]) == (302, "/search/live.html")
    (results / "search" / "live.html").unlink()
    assert "no page yet" in served("/")[2]


def test_other_names_for_this_machine_are_refused(served):
    assert served("/search/live.html", host="localhost:1234")[0] == 200
    assert served("/search/live.html", host="evil.example")[0] == 403


def test_what_cannot_be_served_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        main([str(tmp_path / "nowhere")])
    with Server(tmp_path, 0) as server, pytest.raises(ConfigError, match="cannot be used"):
        main([str(tmp_path), "--port", str(server.server_address[1])])
    with pytest.raises(ConfigError, match="cannot be used"):
        main([str(tmp_path), "--port", "99999"])


def test_the_page_keeps_its_size_in_bounds():
    points = tuple(
        Point(f"signal_{i}", (i % 64, i // 64), "ok", 0.03 + 1e-5 * i, 0.05)
        for i in range(MOST_POINTS)
    )
    shown = snapshot(points=points, total=MOST_POINTS, counts={"ok": MOST_POINTS})
    page = render(Run(analysis(), Hypotest, 0.95, 5.0), {"A": [shown]}, 0.0)
    assert len(page) < 1_500_000
    assert len(json.loads(shown.as_text())["points"]) == MOST_POINTS


def test_a_path_without_a_slash_is_no_file(tmp_path: Path) -> None:
    with Server(tmp_path, 0) as server:
        assert server.find("x") is None
        assert server.find("") is None
        assert server.find("/..%2fx.html") is None
