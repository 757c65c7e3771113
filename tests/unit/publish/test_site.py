"""The static site: what it says of results, of their evidence, and of what is missing."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from palletfit.config import Analysis, DownloadSettings, load_analysis
from palletfit.config.analysis import Pallet
from palletfit.errors import ConfigError
from palletfit.publish import site
from palletfit.publish.site.gather import entry_of
from palletfit.runs import manifest
from palletfit.runs.store import RecordStore
from palletfit.workflow.sources import at_hand

EVIL = "<img src=x onerror=alert(1)>\"'"
PLANE = {"x": "m1", "y": "m2", "x_title": "$m_1$ [GeV]", "y_title": "$m_2$ [GeV]"}


def fit(**changes: Any) -> dict[str, Any]:
    attempts = [{"start": "suggested"}, {"start": "displaced"}]
    return {
        "trusted": True,
        "reason": "2 agree",
        "edm": 1e-9,
        "agreed": 2,
        "attempts": attempts,
    } | changes


@pytest.fixture
def analysis() -> Analysis:
    return Analysis.model_validate(
        {
            "name": "1Lbb",
            "title": f"{EVIL}; $x^2$",
            "pallet": {"doi": "10.17182/hepdata.90607.v3/r3"},
            "regions": {"SR": {"workspace": "b.json", "patchset": "p.json"}},
            "labels": ["m1", "m2"],
            "planes": {"masses": PLANE},
        }
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of two points, of which one has a fit that is not trusted."""
    folder = tmp_path / "results" / "1Lbb"
    store = RecordStore(folder / "SR" / "fits")
    points, entries = {}, {}
    doubted = fit(trusted=False, reason=f"not converged {EVIL}", edm=None, agreed=1)
    for name, cls, fixed in (("good", 0.01, fit()), (EVIL, 0.3, doubted)):
        status = "ok" if fixed["trusted"] else "suspect"
        key = {"digest": "a", "engine": "batched-6", "settings": {"mu": 1.0, "test_statistic": "q"}}
        record = {"patch": name, "status": status, "values": {"m1": 1, "m2": 2}, "key": key}
        record |= {"engine": "batched", "fits": {"fixed": fixed, "free": fit(edm=2e-8)}}
        entries[name] = manifest.entry(store.write(name, record), record)
        points[name] = {
            "mass_hypotheses": [1, 2],
            "CLs_obs": cls,
            "CLs_exp": [0.001, 0.01, 0.1, 0.2, 0.3],
            "mu_hat": 0.5,
            "status": status,
            "region": "SR",
            "regions": {},
            "doubts": [] if fixed["trusted"] else [fixed["reason"]],
            "remarks": [],
        }
    spread = {"mean": 3.5, "median": 2.0, "maximum": 12.0}
    relative = {"mean": 0.01, "median": 0.005, "maximum": 0.03}
    contour = {
        "units": {"x": "GeV", "y": "GeV"},
        "failed_near_contour": [],
        "distance_to_published": {"observed": {"symmetric": spread, "relative": relative}},
    }
    (folder / "SR" / "hypotest.json").write_text(json.dumps({"patches": entries}))
    (folder / "results.json").write_text(json.dumps(points))
    (folder / "contour.json").write_text(json.dumps(contour))
    (folder / "exclusion.png").write_bytes(b"\x89PNG")
    return folder.parent


def written(results: Path, analysis: Analysis, **options: Any) -> dict[str, str]:
    """Text of each page, without tags."""
    result = site.gather(analysis, results)
    fitted, lacking = ([result], []) if result is not None else ([], [analysis])
    files = site.write(fitted, lacking, results / "_catalogue", level=0.95, **options)
    texts = {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".html":
            check(text)
            text = html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL))
        texts[file.relative_to(results / "_catalogue").as_posix()] = " ".join(text.split())
    return texts


def check(page: str) -> None:
    """Check that tags are closed in order, and that nothing of a name became one."""
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert not {name for name, _ in attrs} & {"onerror", "onload"}
            assert tag != "script"
            if tag not in ("meta", "link", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []


def test_a_page_says_how_minima_were_proven(results: Path, analysis: Analysis) -> None:
    page = written(results, analysis)["1Lbb/index.html"]
    assert "signal points 2, 1 ok, 1 suspect, 0 failed" in page
    assert "excluded at 95% CL 1 observed, 0 expected" in page
    assert "all parameters free 2 2 2 of 2 2.0e-08" in page
    assert "signal at the tested strength 2 1 2 of 2 1.0e-09" in page
    assert "1 minima that are not trusted" in page
    assert f"not converged {EVIL}" in page
    assert "observed 3.5 2 12 1% 0.5% 3%" in page
    assert "upper limits (target `limits`)" in page
    assert "10.17182/hepdata.90607.v3/r3" in page


def test_the_index_says_what_was_fitted_and_what_was_not(results: Path, analysis: Analysis) -> None:
    index = written(results, analysis)["index.html"]
    fitted, known = index.split("Known, but not fitted here")
    assert "masses: 1% of the axes" in fitted
    assert "Selected, but not here" not in fitted
    assert "staus" in known
    assert "1Lbb" not in known.replace("10.17182", "")
    (results / "1Lbb" / "results.json").unlink()
    index = written(results, analysis)["index.html"]
    assert "No results were at hand." in index
    assert "1Lbb: neither results nor the archive were at hand" in index


def test_forecasts_are_counted_and_called_so(results: Path, analysis: Analysis) -> None:
    file = results / "1Lbb" / "results.json"
    points = json.loads(file.read_text())
    forecast = {"CLs_obs": 0.001, "CLs_exp": [0.001] * 5}
    none = {"CLs_obs": None, "CLs_exp": None, "mu_hat": None, "status": "untested"}
    points["far"] = {**points["good"], **none, "forecast": forecast}
    file.write_text(json.dumps(points))
    page = written(results, analysis)["1Lbb/index.html"]
    assert "3, 1 ok, 1 suspect, 0 failed, 1 not tested but forecast" in page
    assert "2 observed, 1 expected" in page


def test_what_is_missing_is_said(results: Path, analysis: Analysis) -> None:
    (results / "1Lbb" / "contour.json").unlink()
    (results / "1Lbb" / "SR" / "hypotest.json").unlink()
    page = written(results, analysis)["1Lbb/index.html"]
    assert "The records of the fits were not at hand." in page
    assert "contour of the plane masses" in page
    assert "records of the region SR: " in page


def test_hepdata_reads_a_list(results: Path, analysis: Analysis) -> None:
    assert "hepdata.json" not in written(results, analysis)
    text = written(results, analysis, address="https://example.org/a/")["hepdata.json"]
    content = json.loads(text)
    assert content["url_templates"] == {"main_url": "https://example.org/a/{name}/index.html"}
    assert [entry["inspire_id"] for entry in content["analyses"]] == [1755298]
    assert [entry["implementations"] for entry in content["analyses"]] == [[{"name": "1Lbb"}]]
    with pytest.raises(ConfigError, match="is no address"):
        written(results, analysis, address="http://example.org")


def test_a_blinded_analysis_has_expected_results_only(results: Path, analysis: Analysis) -> None:
    assert entry_of(analysis) is not None
    blinded = analysis.model_copy(update={"asimov": 0.0, "title": "x"})
    contour = json.loads((results / "1Lbb" / "contour.json").read_text())
    distances = contour["distance_to_published"]
    distances["expected"] = {**distances["observed"], "relative": {"mean": 0.07}}
    distances["expected"]["relative"] |= {"median": 0.05, "maximum": 0.09}
    del distances["observed"]
    (results / "1Lbb" / "contour.json").write_text(json.dumps(contour))
    texts = written(results, blinded, address="https://example.org")
    # It is none of the published results, and HEPData does not link it.
    assert entry_of(blinded) is None
    assert "hepdata.json" not in texts
    assert "masses: 7% of the axes" in texts["index.html"]


def test_an_analysis_is_at_hand_where_it_can_be_fitted(
    tmp_path: Path, analysis: Analysis, project: Path
) -> None:
    results, offline = (
        tmp_path / "results",
        DownloadSettings(offline=True, cache=tmp_path / "cache"),
    )
    folder = project / "config" / "analyses"
    assert at_hand(analysis, results, DownloadSettings(), folder)
    assert not at_hand(analysis, results, offline, folder)
    demo, _ = load_analysis("demo", folder)
    assert at_hand(demo, results, offline, folder)
    (tmp_path / "cache" / "pallets").mkdir(parents=True)
    (tmp_path / "cache" / "pallets" / "1Lbb.tgz").touch()
    assert at_hand(analysis, results, offline, folder)
    (tmp_path / "cache" / "pallets" / "1Lbb.tgz").unlink()
    (results / "1Lbb").mkdir(parents=True)
    (results / "1Lbb" / "results.json").touch()
    assert at_hand(analysis, results, offline, folder)
    # A combination needs its members.
    both, _ = load_analysis("demo-combined", folder)
    assert at_hand(both, results, offline, folder)
    published, _ = load_analysis("staus-lowhigh", folder)
    assert not at_hand(published, results, offline, folder)
    assert at_hand(published, results, DownloadSettings(), folder)


def test_a_pallet_of_ones_own_is_not_the_published_one(analysis: Analysis) -> None:
    found = entry_of(analysis)
    assert found is not None
    assert found[1].file == "1Lbb"
    foreign = analysis.model_copy(update={"pallet": Pallet(path=Path("mine"))})
    assert entry_of(foreign) is None
