"""A likelihood with two minima through the workflow: which one counts, and that both are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium.webdriver.common.action_chains import ActionChains

from ..browser import Browser, browser
from .conftest import Folder, Run
from .pallets import TinyPallet

SENTENCE = "4 of 4 points have another minimum; the {} counts"
ADVICE = ", and `fit.minimum: {}` gives the other"


def bimodal(folder: Folder) -> TinyPallet:
    """Select four patches whose background explains an excess with an unlikely sample, or not."""
    pallet = TinyPallet(folder.path, count=4)
    pallet.workspace["observations"][0]["data"] = [10, 38]
    samples = pallet.workspace["channels"][0]["samples"]
    samples[0]["data"] = [6.0, 40.0]
    rate = {"name": "rare_rate", "type": "normsys", "data": {"hi": 40.0, "lo": 0.01}}
    samples.append({"name": "rare", "data": [0.04, 0.0], "modifiers": [rate]})
    for patch in pallet.patches:
        signal = patch["patch"][0]["value"]
        signal["data"] = [number / 2 for number in signal["data"]]
    pallet.write()
    folder.config["analyses"] = [str(pallet.analysis_path)]
    folder.config["live"] = {"enabled": False}
    return pallet


def read(folder: Folder, file: str) -> Any:
    return json.loads((folder.path / "results/tiny" / file).read_bytes())


@pytest.fixture(scope="module")
def lowest(tmp_path_factory: pytest.TempPathFactory, project: Path) -> tuple[Folder, Run]:
    """A finished run in which the lowest minimum counts, and what it said."""
    folder = Folder(tmp_path_factory.mktemp("minima"), project, {"download": {"offline": True}})
    bimodal(folder)
    return folder, folder.run("all", "limits")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as shown:
        yield shown


@pytest.mark.slow
def test_both_minima_are_in_tables_contours_and_words(lowest: tuple[Folder, Run]) -> None:
    folder, run = lowest
    sentence = SENTENCE.format("lowest")
    assert sentence + ADVICE.format("nearest") in run.output
    results = read(folder, "results.json")
    table = pd.read_csv(folder.path / "results/tiny/results.csv").set_index("patch")
    for name, point in results.items():
        other = point["other_minimum"]
        assert other["minimum"] == "nearest"
        # With less background from the rare sample more is expected to be excluded.
        assert other["CLs_exp"][2] < point["CLs_exp"][2]
        assert table.loc[name, "CLs_exp_0_other"] == pytest.approx(other["CLs_exp"][2], rel=1e-12)
        assert table.loc[name, "CLs_obs_other"] == pytest.approx(other["CLs_obs"], rel=1e-12)
        record = read(folder, f"SR/fits/{name}.json")
        assert record["other_minimum"]["fits"]["background"]["above"] > 0.1
    other = read(folder, "contour.json")["other_minimum"]
    assert (other["minimum"], other["points"]) == ("nearest", 4)
    assert other["curves"].keys() == {"observed", "expected"}
    folder.run("--report", "report.html")
    assert sentence in (folder.path / "report.html").read_text()


@pytest.mark.slow
def test_limits_hold_both_minima_too(lowest: tuple[Folder, Run]) -> None:
    folder, run = lowest
    sentence = "4 of 4 points have other limits at another minimum; the lowest counts"
    assert sentence + ADVICE.format("nearest") in run.output
    limits = read(folder, "limits.json")
    table = pd.read_csv(folder.path / "results/tiny/limits.csv").set_index("patch")
    for name, point in limits.items():
        other = point["other_minimum"]
        assert other["minimum"] == "nearest"
        assert other["mu_exp"][2] < point["mu_exp"][2]
        assert table.loc[name, "mu_exp_0_other"] == pytest.approx(other["mu_exp"][2], rel=1e-12)
        record = read(folder, f"SR/limits/{name}.json")
        assert record["minimum"] == "lowest"
        assert record["other_minimum"]["mu_obs"] == other["mu_obs"]
    contours = read(folder, "limit_contour.json")
    assert contours["other_minimum"]["points"] == 4
    assert contours["other_minimum"]["curves"]["expected"] != contours["curves"]["expected"]


@pytest.mark.slow
def test_the_page_shows_both_minima(lowest: tuple[Folder, Run], chromium: Browser) -> None:
    folder, _ = lowest
    chromium.open(folder.path / "results/tiny/exclusion.html")
    chromium.wait(lambda: chromium.driver.execute_script("return document.body.dataset.ready"))
    entries = [item.text for item in chromium.all(".legend .legendtext")]
    assert any(entry.startswith("Expected, nearest minimum") for entry in entries)
    mark = chromium.all(".scatterlayer .trace .points path")[0]
    ActionChains(chromium.driver).move_to_element(mark).perform()
    chromium.wait(lambda: "CLs, nearest minimum" in chromium.text(".hoverlayer"))
    chromium.wait(lambda: "CLs, nearest minimum" in chromium.text("#panel"))
    assert "The nearest minimum, which does not count" in chromium.text("#panel")
    assert "rare_rate" in chromium.text("#panel")
    assert chromium.complaints() == []


@pytest.mark.slow
def test_the_nearest_minimum_counts_if_it_is_asked_for(
    lowest: tuple[Folder, Run], folder: Folder
) -> None:
    bimodal(folder)
    folder.config["fit"] = {"minimum": "nearest"}
    run = folder.run("results/tiny/contour.json")
    assert SENTENCE.format("nearest") + ADVICE.format("lowest") in run.output
    theirs = read(lowest[0], "results.json")
    for name, point in read(folder, "results.json").items():
        assert point["CLs_exp"] == theirs[name]["other_minimum"]["CLs_exp"]
        assert point["CLs_obs"] == theirs[name]["other_minimum"]["CLs_obs"]
        assert point["other_minimum"]["CLs_exp"] == theirs[name]["CLs_exp"]
    contours = [read(place, "contour.json") for place in (folder, lowest[0])]
    expected = [contour["curves"]["expected"] for contour in contours]
    others = [contour["other_minimum"]["curves"]["expected"] for contour in contours]
    assert expected == others[::-1]
    assert expected[0] != expected[1]
