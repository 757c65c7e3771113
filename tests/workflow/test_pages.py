"""The live and the interactive page of real runs, in a real browser."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from palletfit.config import Analysis, parse
from palletfit.pages.live.page import Run, render
from palletfit.pages.live.snapshot import Point, Snapshot
from palletfit.products.hypotest import Hypotest

from ..browser import Browser, browser
from .conftest import Folder
from .pallets import TinyPallet

#: A number that there is not.
EMPTY = "\N{EN DASH}"
EVIL = "<script>document.title='evil'</script><b>S_350_40</b>"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here."""
    with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@contextmanager
def slow_run(folder: Folder, target: str, seconds: float = 0.4) -> Iterator[subprocess.Popen[Any]]:
    """A run whose fits take their time, in the background.

    Its live page may cost as much as it likes: on a machine with much else to do, the page would
    be written more rarely than these short runs last.
    """
    (folder.path / "sitecustomize.py").write_text(
        "import time\nimport palletfit.pages.live.watching\nimport palletfit.runs.task\n"
        "palletfit.pages.live.watching.SHARE = 0.9\n"
        f"def fit(*args, fit=palletfit.runs.task._fit):\n    time.sleep({seconds})\n"
        "    return fit(*args)\npalletfit.runs.task._fit = fit\n"
    )
    folder.variables["PYTHONPATH"] = f"{folder.path}{os.pathsep}{folder.project / 'src'}"
    folder.config["executor"] = {"patches_per_task": 1, "workers": 1}
    folder.config["live"] = {"interval": 0.3}
    with (folder.path / "run.log").open("w") as log:
        run = subprocess.Popen(
            folder.command(target),
            cwd=folder.project,
            env=folder.environment(),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield run
    finally:
        run.kill()
        run.wait()


def hostile(folder: Folder, count: int = 12) -> TinyPallet:
    """A pallet with a name and a title that would like to be more than text, and a broken patch."""
    pallet = TinyPallet(folder.path, count=count)
    pallet.patches[5]["metadata"]["name"] = EVIL
    pallet.patches[1]["patch"][0]["path"] = "/channels/7/samples/0"
    pallet.analysis["title"] = f"Tiny {EVIL}"
    pallet.analysis["planes"]["masses"]["x_title"] = r"$m(\tilde{\chi}^{0}_{2})$ [GeV]"
    pallet.write()
    folder.config["analyses"] = [str(pallet.analysis_path)]
    folder.config["on_failure"] = "continue"
    return pallet


def finished(shown: Browser) -> int:
    """How many patches the live page counts, at one moment: it loads itself again."""
    script = """
        const counts = [...document.querySelectorAll('tbody .count')].slice(0, 3);
        return counts.reduce((sum, item) => sum + Number(item.textContent), 0);
    """
    return shown.driver.execute_script(script)


@contextmanager
def server(folder: Folder) -> Iterator[str]:
    """The program that serves live pages; gives its address."""
    with subprocess.Popen(
        # Tests that a shell runs in the background ignore interrupts, and hand that down.
        [
            *("env", "--default-signal=INT", sys.executable),
            *("-m", "palletfit.pages.live", "results", "--port", "0"),
        ],
        cwd=folder.path,
        env={**os.environ, "PYTHONPATH": str(folder.project / "src")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[0]
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_the_live_page_follows_a_run_to_its_end(folder: Folder, chromium: Browser) -> None:
    pallet = hostile(folder, count=14)
    (folder.path / "results").mkdir()
    with server(folder) as address, slow_run(folder, pallet.hypotest()) as run:
        chromium.open(address)
        # From here on the page loads itself: nothing here does.
        chromium.wait(lambda: "tiny" in chromium.driver.current_url or run.poll() is not None)
        assert run.poll() is None, (folder.path / "run.log").read_text()
        assert chromium.driver.current_url == f"{address}tiny/live.html"
        seen = set()
        chromium.wait(lambda: seen.add(finished(chromium)) or len(seen) > 4)
        assert chromium.text("#state") == "fits are made"
        chromium.wait(lambda: chromium.text("#state") == "all fits are made")
        assert run.wait(60) == 0
    assert finished(chromium) == 14
    assert "The patch does not apply to the workspace" in chromium.text(".failures")
    assert EVIL in chromium.text(".about")
    assert chromium.driver.title == "tiny: hypothesis tests"
    titles = chromium.driver.execute_script(
        "return [...document.querySelectorAll('figure > svg title')].map(x => x.textContent)"
    )
    assert len(titles) == 14
    assert any(title.startswith(EVIL) for title in titles)
    assert chromium.all("figure > svg path.observed[d^=M]")
    assert f"live page: {Path('results/tiny/live.html')}" in (folder.path / "run.log").read_text()
    assert chromium.complaints() == []
    assert chromium.elsewhere() == []


def test_the_live_page_of_a_killed_run_says_so_and_the_next_run_goes_on(
    folder: Folder, chromium: Browser
) -> None:
    pallet = hostile(folder)
    page = folder.path / "results/tiny/live.html"
    with slow_run(folder, pallet.hypotest()) as run:
        chromium.wait(lambda: page.exists() or run.poll() is not None)
        assert page.exists(), (folder.path / "run.log").read_text()
        chromium.open(page)
        chromium.wait(lambda: finished(chromium) >= 3)  # it loaded itself again
        assert chromium.text("#state") == "fits are made"
        run.send_signal(signal.SIGKILL)
        run.wait()
    # Who writes it notices the end of the run within a second.
    chromium.wait(lambda: page.stat().st_mtime < time.time() - 2)
    kept = [item for item in folder.records().values() if item["status"] != "failed"]
    # As if more than the announced time had passed, and for a reader who opens the page only now.
    chromium.renew()
    text = page.read_text()
    (written,) = re.findall(r'data-written="([\d.]+)"', text)
    (silence,) = re.findall(r'data-silence="([\d.]+)"', text)
    page.write_text(text.replace(written, f"{float(written) - float(silence) - 1:.3f}"))
    chromium.open(page)
    assert chromium.text("#state") == "no news"
    assert "the same command goes on" in chromium.text("#news")
    (folder.path / "sitecustomize.py").unlink()
    folder.run(pallet.hypotest())
    chromium.open(page)
    assert chromium.text("#state") == "all fits are made"
    row = [cell.text for cell in chromium.all("tbody td")]
    assert row[6] == str(len(kept))  # from before
    assert chromium.complaints() == []
    assert chromium.elsewhere() == []


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Folder:
    """A folder with the interactive page of a run that had no live page."""
    folder = Folder(tmp_path_factory.mktemp("explored"), project)
    pallet = hostile(folder)
    cache = folder.path / "cache" / "published" / "tiny"
    cache.mkdir(parents=True)
    (cache / "observed.csv").write_text("x,y\n250,0\n280,20\n300,40\n")
    plane = pallet.analysis["planes"]["masses"]
    plane["published"] = {"observed": {"file": "observed.csv"}}
    plane["forbidden"] = {"y_above": "x - 100", "label": "$m_1 < m_2$"}
    pallet.write()
    folder.config["download"] = {"offline": True, "cache": str(folder.path / "cache")}
    folder.config["live"] = {"enabled": False}
    run = folder.run()
    assert "results/tiny/exclusion.html" in run.output
    assert "live page" not in run.output
    assert not list(folder.path.glob("results/tiny/**/*live*"))
    return folder


def opened(folder: Folder, shown: Browser) -> None:
    """Open the interactive page and wait until it is drawn."""
    shown.open(folder.path / "results/tiny/exclusion.html")
    shown.wait(lambda: shown.driver.execute_script("return document.body.dataset.ready"))


def snapshot(folder: Folder) -> Snapshot:
    """A snapshot of a run with all that the live page can show."""
    results = json.loads((folder.path / "results/tiny/results.json").read_text())
    points = tuple(
        Point(name, tuple(entry["mass_hypotheses"]), "ok", 0.1, 0.1)
        for name, entry in results.items()
    )
    return Snapshot(
        region="A",
        part="",
        executor="globus-compute, 12 workers",
        state="running",
        began=0.0,
        written=100.0,
        total=12345,
        kept=1000,
        counts={"ok": 2000, "suspect": 1, "failed": 1},
        labels=("m1", "m2"),
        points=points,
        stride=1,
        failures=((EVIL, "A_reason_without_a_space_" * 9),),
    )


def point(shown: Browser, name: str) -> Any:
    """The mark of a patch in the plot."""
    script = """
        for (const mark of document.querySelectorAll('.scatterlayer .trace .points path')) {
            const [data] = [].concat(mark.__data__);
            if (data.data === arguments[0]) { return mark; }
        }
        return null;
    """
    return shown.driver.execute_script(script, name)


def test_hover_and_click_show_a_point(explored: Folder, chromium: Browser) -> None:
    opened(explored, chromium)
    mark = point(chromium, EVIL)
    assert mark is not None
    ActionChains(chromium.driver).move_to_element(mark).perform()
    chromium.wait(lambda: "CLs" in chromium.text(".hoverlayer"))
    assert EVIL.replace(" ", "") in chromium.text(".hoverlayer").replace(" ", "")
    assert chromium.text("#panel h2") == EVIL
    assert "starts agree" in chromium.text("#panel")
    ActionChains(chromium.driver).move_to_element(mark).click().perform()
    chromium.wait(lambda: "kept" in chromium.text("#panel .pinned"))
    other = point(chromium, "S_300_20")
    ActionChains(chromium.driver).move_to_element(other).perform()
    chromium.wait(lambda: "S_300_20" in chromium.text(".hoverlayer"))
    assert chromium.text("#panel h2") == EVIL  # it is kept
    ActionChains(chromium.driver).move_to_element(other).click().perform()
    chromium.wait(lambda: chromium.text("#panel h2") == "S_300_20")
    failed = point(chromium, "S_150_20")
    ActionChains(chromium.driver).move_to_element(failed).perform()
    chromium.wait(lambda: "does not apply" in chromium.text(".hoverlayer"))
    assert chromium.driver.title == "tiny: exclusion"
    assert chromium.complaints() == []
    assert chromium.elsewhere() == []


def test_the_legend_switches_curves(explored: Folder, chromium: Browser) -> None:
    opened(explored, chromium)

    def lines() -> dict[str, bool]:
        script = """
            return Object.fromEntries(document.getElementById('plot')._fullData
                .map(trace => [trace.meta, trace.visible === true]));
        """
        return chromium.driver.execute_script(script)

    assert lines() == {
        **dict.fromkeys(("band1", "expected", "observed", "published_observed"), True),
        **dict.fromkeys(("forbidden", "rests_on", "points_ok", "points_failed"), True),
        "band2": False,
    }
    toggles = {
        item.find_element("css selector", ".legendtext").text: item
        for item in chromium.all(".legend .traces")
    }
    drawn = len(chromium.all(".scatterlayer .trace.scatter"))
    for name, meta, after in (
        ("Observed limit", "observed", False),
        ("Published observed limit", "published_observed", False),
        ("Expected ±2 \N{GREEK SMALL LETTER SIGMA}", "band2", True),
        ("Fit failed (1)", "points_failed", False),
    ):
        toggles[name].find_element("css selector", ".legendtoggle").click()
        chromium.wait(lambda: lines()[meta] is after)  # noqa: B023
        time.sleep(0.4)  # two clicks at once mean something else
    assert len(chromium.all(".scatterlayer .trace.scatter")) == drawn - 2
    assert chromium.complaints() == []


def test_points_can_be_coloured_by_their_values(explored: Folder, chromium: Browser) -> None:
    opened(explored, chromium)

    def fills() -> set[str]:
        marks = chromium.all(".scatterlayer .trace .points path")
        return {mark.value_of_css_property("fill") for mark in marks}

    plain = fills()
    (button,) = [item for item in chromium.all("#colouring button") if item.text == "observed CLs"]
    button.click()
    chromium.wait(lambda: len(fills()) > len(plain) + 3)
    assert chromium.all(".colorbar")
    chromium.all("#colouring button")[0].click()
    chromium.wait(lambda: fills() == plain)
    assert chromium.complaints() == []


def test_points_are_reached_by_keyboard(explored: Folder, chromium: Browser) -> None:
    opened(explored, chromium)
    script = "document.getElementById('plot').focus()"
    chromium.driver.execute_script(script)

    def press(*keys: str) -> None:
        ActionChains(chromium.driver).send_keys(*keys).perform()

    def rings() -> list[str]:
        script = """
            return document.getElementById('plot').layout.shapes
                .map(({ xanchor, yanchor, line }) => `${xanchor} ${yanchor} ${line.dash}`);
        """
        return chromium.driver.execute_script(script)

    press(Keys.ARROW_RIGHT)
    first = chromium.text("#panel h2")
    assert first
    assert first in chromium.text("#brief")
    press(Keys.ARROW_RIGHT)
    second = chromium.text("#panel h2")
    assert second != first
    press(Keys.ENTER, Keys.ARROW_LEFT)
    assert chromium.text("#panel h2") != second
    dashes = [ring.split()[-1] for ring in rings()]
    assert dashes == ["solid", "dot"]
    (kept,) = chromium.all("#rows tr.kept")
    assert kept.get_attribute("data-name") == second
    press(Keys.ESCAPE)
    assert not chromium.all("#rows tr.kept")
    assert chromium.complaints() == []


def test_the_table_is_sorted_filtered_and_copied(explored: Folder, chromium: Browser) -> None:
    opened(explored, chromium)

    def column(title: str) -> list[str]:
        script = """
            const heads = [...document.querySelectorAll('#rows th')];
            const index = heads.findIndex((head) => head.textContent === arguments[0]);
            return [...document.querySelectorAll('#rows tbody tr')]
                .map((row) => row.children[index].textContent);
        """
        return chromium.driver.execute_script(script, title)

    def sort(title: str) -> None:
        (button,) = [item for item in chromium.all("#rows th button") if item.text == title]
        button.click()

    assert len(column("point")) == 12
    assert EVIL in column("point")
    sort("CLs observed")
    values = [float(text) for text in column("CLs observed") if text != EMPTY]
    assert len(values) == 11
    assert values == sorted(values)
    # Small ones are written with their exponent.
    assert not [text for text in column("CLs observed") if text.startswith("0.000")]
    assert [text for text in column("CLs observed") if "e-" in text]
    assert column("CLs observed")[-1] == EMPTY  # the failed one
    sort("CLs observed")
    assert chromium.all("#rows th[aria-sort=descending]")
    assert [float(text) for text in column("CLs observed")[:-1]] == values[::-1]
    field = chromium.all("#filter")[0]
    field.send_keys("m1>200 ok")
    assert set(column("status")) == {"ok"}
    assert column("m1")
    assert min(map(float, column("m1"))) > 200
    field.clear()
    field.send_keys("<script>")
    assert column("point") == [EVIL]
    chromium.all("#copy")[0].click()
    copied = chromium.all("#csv")[0].get_attribute("value")
    ((name, *rest),) = csv.reader(copied.splitlines()[1:])
    assert name == EVIL
    header = copied.splitlines()[0].split(",")
    assert header[:3] == ["patch", "m1", "m2"]
    results = json.loads((explored.path / "results/tiny/results.json").read_text())
    shown = float(rest[header.index("CLs_obs") - 1])
    assert shown == pytest.approx(results[EVIL]["CLs_obs"], rel=1e-5)
    chromium.all("#rows tbody button")[0].click()
    assert "kept" in chromium.text("#panel .pinned")
    assert chromium.complaints() == []


def test_both_pages_suit_a_phone_and_the_dark(explored: Folder, chromium: Browser) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    chromium.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    live = explored.path / "results/tiny/live.html"
    regions = {"A": [snapshot(explored)]}
    analysis = TinyPallet(explored.path / "again", count=12).analysis
    live.write_text(
        render(
            Run(parse(Analysis, {**analysis, "name": "tiny"}, file="a"), Hypotest, 0.95, 5.0),
            regions,
            0.0,
        )
    )
    width = "return document.documentElement.scrollWidth"
    ground = "return getComputedStyle(document.body).backgroundColor"
    try:
        chromium.open(live)
        assert chromium.driver.execute_script(width) == 390
        assert chromium.driver.execute_script(ground) == "rgb(22, 24, 27)"
        opened(explored, chromium)
        assert chromium.driver.execute_script(width) == 390
        assert chromium.driver.execute_script(ground) == "rgb(22, 24, 27)"
        paper = "return document.querySelector('#plot .bg, #plot .main-svg').style"
        assert "rgb(22, 24, 27)" in chromium.driver.execute_script(f"{paper}.cssText")
        # A finger on a point shows it below, and no text over the plot.
        mark = point(chromium, "S_300_20")
        ActionChains(chromium.driver).move_to_element(mark).click().perform()
        chromium.wait(lambda: "S_300_20" in chromium.text("#brief"))
        assert not chromium.all(".hoverlayer .hovertext")
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        live.unlink()
    assert chromium.complaints() == []


def test_the_label_lies_along_the_border(explored: Folder, chromium: Browser) -> None:
    opened(explored, chromium)
    script = """
        const text = document.querySelector('.annotation-text').getBoundingClientRect();
        const axes = document.querySelector('.nsewdrag').getBoundingClientRect();
        return [text.left - axes.left, axes.right - text.right,
                text.top - axes.top, axes.bottom - text.bottom];
    """
    chromium.wait(lambda: min(chromium.driver.execute_script(script)) >= -1)
    angle = chromium.driver.execute_script(
        "return document.getElementById('plot').layout.annotations[0].textangle"
    )
    assert -90 < angle < -10


def test_the_page_is_the_same_again_and_in_the_report(explored: Folder) -> None:
    page = explored.path / "results/tiny/exclusion.html"
    first = page.read_bytes()
    page.unlink()
    explored.run("results/tiny/exclusion.html")
    assert page.read_bytes() == first
    explored.run("--report", "report.html")
    report = (explored.path / "report.html").read_text()
    assert "exclusion.html" in report
    assert "to explore" in report


def test_limits_that_are_there_are_shown_later(explored: Folder) -> None:
    page = explored.path / "results/tiny/exclusion.html"
    assert explored.run().idle
    (explored.path / "results/tiny/limits.json").write_text(
        '{"S_300_20": {"mu_obs": 1.5, "mu_exp": [0.5, 0.7, 1.0, 1.4, 2.0]}}'
    )
    assert explored.run().fitted == []
    assert '"limits":{"mu":[1.5,0.5,0.7,1.0,1.4,2.0]}' in page.read_text()
    assert explored.run().idle
