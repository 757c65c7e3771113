"""The live and the interactive page of real runs, in a real browser."""

from __future__ import annotations

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

from ..browser import Browser, browser
from .conftest import Folder
from .pallets import TinyPallet

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
        chromium.wait(lambda: "tiny" in chromium.driver.current_url or run.poll() is not None, 120)
        assert run.poll() is None, (folder.path / "run.log").read_text()
        assert chromium.driver.current_url == f"{address}tiny/live.html"
        seen = set()
        chromium.wait(lambda: seen.add(finished(chromium)) or len(seen) > 4, 60)
        assert chromium.text("#state") == "fits are made"
        chromium.wait(lambda: chromium.text("#state") == "all fits are made", 60)
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
        chromium.wait(lambda: page.exists() or run.poll() is not None, 120)
        assert page.exists(), (folder.path / "run.log").read_text()
        chromium.open(page)
        chromium.wait(lambda: finished(chromium) >= 3, 60)  # it loaded itself again
        assert chromium.text("#state") == "fits are made"
        run.send_signal(signal.SIGKILL)
        run.wait()
    # Who writes it notices the end of the run within a second.
    chromium.wait(lambda: page.stat().st_mtime < time.time() - 2, 20)
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
        **dict.fromkeys(("points_ok", "points_failed"), True),
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
