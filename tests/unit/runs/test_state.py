"""What a run makes of what an earlier one left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from palletfit.config import (
    Analysis,
    ContourSettings,
    DownloadSettings,
    FitSettings,
    Settings,
)
from palletfit.errors import StoreError
from palletfit.pallet.download import circumstances
from palletfit.products.hypotest import Hypotest
from palletfit.products.limits import Limits
from palletfit.runs import manifest
from palletfit.runs.state import (
    asked_for,
    claim,
    further,
    note_incomplete,
    note_left_out,
    outcome,
    refits,
)
from palletfit.runs.store import RecordStore

from .. import models


def analysis(known_failures=None, planes=("masses",), use=None) -> Analysis:
    plane = {"x": "m1", "y": "m2", "x_title": "x", "y_title": "y"}
    region = {
        "workspace": "a",
        "patchset": "b",
        "known_failures": dict.fromkeys(known_failures or (), "known"),
    }
    return Analysis.model_validate(
        {
            "name": "search",
            "title": "a search",
            "pallet": {"builtin": "demo"},
            "regions": {"A": region, "B": region},
            "use": use,
            "labels": ["m1", "m2"],
            "planes": dict.fromkeys(planes, plane),
        }
    )


def fill(results: Path, region="A", **failures: str) -> Path:
    """Records of two good patches and some failed ones, with their manifest."""
    folder = results / "search" / region
    store = RecordStore(folder / "fits")
    entries = {}
    for name, kind in {"p": None, "q": None, **failures}.items():
        record = {"patch": name, "key": {"digest": "k"}, "status": "failed" if kind else "ok"}
        if kind:
            record["error"] = {"kind": kind, "problem": "it broke"}
        entries[name] = manifest.entry(store.write(name, record), record)
    path = folder / "hypotest.json"
    path.write_text(json.dumps({"patches": entries}))
    return path


def note(results: Path, chosen: Analysis) -> list[Path]:
    return note_incomplete(results, {"search": chosen})


def test_complete_manifests_are_not_noted(tmp_path):
    paths = [fill(tmp_path, "A"), fill(tmp_path, "B")]
    assert note(tmp_path, analysis()) == []
    assert all(path.exists() for path in paths)


def test_nothing_is_there_at_first(tmp_path):
    assert note(tmp_path, analysis()) == []


@pytest.mark.parametrize("damage", ["lost", "cut", "edited", "empty manifest", "cut manifest"])
def test_records_that_are_not_what_they_were_are_noted(tmp_path, damage):
    path, other = fill(tmp_path, "A"), fill(tmp_path, "B")
    record = path.parent / "fits" / "q.json"
    if damage == "lost":
        record.unlink()
    elif damage == "cut":
        record.write_bytes(record.read_bytes()[:-9])
    elif damage == "edited":
        record.write_text(record.read_text().replace('"ok"', '"suspect"'))
    elif damage == "empty manifest":
        path.write_text("{}")
    else:
        path.write_bytes(path.read_bytes()[:-9])
    assert refits(tmp_path, "search", "A", Hypotest) == 0
    assert note(tmp_path, analysis()) == [path]
    assert refits(tmp_path, "search", "A", Hypotest) == 1
    assert refits(tmp_path, "search", "B", Hypotest) == 0
    # Neither manifests nor records are touched.
    assert path.exists()
    assert other.exists()
    assert (path.parent / "fits" / "p.json").exists()


@pytest.mark.parametrize(
    ("kind", "noted"),
    [
        ("WorkerDied", True),
        ("DeadlineExceeded", True),
        ("BackendError", True),
        ("FitError", False),
        ("PalletError", False),
    ],
)
def test_failures_that_may_pass_are_noted(tmp_path, kind, noted):
    path = fill(tmp_path, bad=kind)
    assert note(tmp_path, analysis()) == ([path] if noted else [])


def test_known_failures_are_not_noted(tmp_path):
    fill(tmp_path, bad="DeadlineExceeded")
    assert note(tmp_path, analysis(known_failures=["bad"])) == []


def test_regions_that_are_not_used_are_not_looked_at(tmp_path):
    path = fill(tmp_path, "B", bad="WorkerDied")
    assert note(tmp_path, analysis(use=["A"])) == []
    assert path.exists()


def point(status="ok", observed=0.5):
    return {"status": status, "CLs_obs": observed}


def test_the_outcome_counts_points_and_names_files(tmp_path):
    folder = fill(tmp_path).parents[1]
    fill(tmp_path, "B")
    points = [
        point(observed=0.01),
        point(observed=0.05),
        point("suspect", 0.02),
        point("failed", None),
    ]
    (folder / "results.json").write_text(json.dumps(dict(enumerate(points))))
    for suffix in ("_p.png", "_p.pdf", "_q.png"):
        (folder / f"exclusion{suffix}").touch()
    assert outcome(tmp_path, {"search": analysis(planes=("p", "q"))}, Settings()).splitlines() == [
        "search: 4 signal points, 2 excluded at 95% CL, 1 suspect, 1 failed",
        f"  contour: {folder / 'exclusion_p.png'}",
        f"  contour: {folder / 'exclusion_p.pdf'}",
        f"  contour: {folder / 'exclusion_q.png'}",
        f"  results: {folder / 'results.csv'} and {folder / 'results.json'}",
    ]


@pytest.mark.parametrize(("other", "counted"), [("nearest", "lowest"), ("lowest", "nearest")])
def test_the_outcome_says_which_minimum_counts(tmp_path, other, counted):
    folder = fill(tmp_path).parents[1]
    fill(tmp_path, "B")
    points = [point() | {"other_minimum": {"minimum": other}}, point(), point("failed", None)]
    (folder / "results.json").write_text(json.dumps(dict(enumerate(points))))
    sentence = f"1 of 3 points have another minimum; the {counted} counts"
    words = outcome(tmp_path, {"search": analysis()}, Settings())
    assert words.splitlines()[1] == (
        f"  minima:  {sentence}, and `fit.minimum: {other}` gives the other"
    )
    assert Hypotest.label_of(folder, analysis()) == f"results: {sentence}"
    discovery = Settings(fit=FitSettings(test_statistic="q0"))
    assert sentence in outcome(tmp_path, {"search": analysis()}, discovery)


def test_the_outcome_says_which_points_have_other_limits(tmp_path):
    folder = tmp_path / "search"
    for region in ("A", "B"):
        (folder / region).mkdir(parents=True)
        (folder / region / "limits.json").write_text("{}")
    limits = {"status": "ok", "mu_obs": 0.5, "states": {"obs": "found"}}
    entries = [limits | {"other_minimum": {"minimum": "nearest"}}, limits]
    (folder / "limits.json").write_text(json.dumps(dict(enumerate(entries))))
    sentence = "1 of 2 points have other limits at another minimum; the lowest counts"
    words = Limits.last_words(folder, analysis(), Settings())
    assert words[1] == f"  minima: {sentence}, and `fit.minimum: nearest` gives the other"
    assert Limits.label_of(folder, analysis()) == f"upper limits: {sentence}"
    (folder / "limits.json").write_text(json.dumps({"a": limits}))
    assert "minim" not in "".join(Limits.last_words(folder, analysis(), Settings()))
    assert Limits.label_of(folder, analysis()) == "upper limits"


def test_the_outcome_is_silent_about_minima_where_there_is_one_each(tmp_path):
    folder = fill(tmp_path).parents[1]
    fill(tmp_path, "B")
    points = [point() | {"other_minimum": None}, point()]
    (folder / "results.json").write_text(json.dumps(dict(enumerate(points))))
    assert "minim" not in outcome(tmp_path, {"search": analysis()}, Settings())
    assert Hypotest.label_of(folder, analysis()) == "results"


def test_an_analysis_without_results_has_no_outcome(tmp_path):
    assert outcome(tmp_path, {"search": analysis()}, Settings()) == ""


CLAIM = """
import sys
from pathlib import Path
from palletfit.runs.state import claim
claim(Path(sys.argv[1]))
print("claimed", flush=True)
sys.stdin.read()
"""


def test_a_second_run_in_a_folder_is_refused(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(tmp_path)],
        env=models.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "claimed\n"
        with pytest.raises(StoreError, match=f"at work in this folder: process {first.pid} on"):
            claim(tmp_path)
        first.kill()


def test_the_outcome_follows_the_settings(tmp_path):
    folder = fill(tmp_path).parents[1]
    fill(tmp_path, "B")
    (folder / "results.json").write_text(json.dumps({"a": point(observed=0.07)}))
    settings = Settings(contour=ContourSettings(confidence_level=0.9))
    assert "1 excluded at 90% CL" in outcome(tmp_path, {"search": analysis()}, settings)
    discovery = Settings(fit=FitSettings(test_statistic="q0"))
    assert "excluded" not in outcome(tmp_path, {"search": analysis()}, discovery)


def test_the_outcome_counts_diagnostics(tmp_path):
    folder = fill(tmp_path).parents[1]
    for region in ("A", "B"):
        (folder / region).mkdir(exist_ok=True)
        (folder / region / "diagnostics.json").write_text("{}")
    statuses = {"p": {"status": "ok"}, "q": {"status": "failed"}}
    (folder / "diagnostics.json").write_text(json.dumps(statuses))
    assert outcome(tmp_path, {"search": analysis()}, Settings()).splitlines() == [
        "search: diagnostics of 2 signal points, 0 suspect, 1 failed",
        f"  plots:   {folder / 'diagnostics_*.png'}",
        f"  results: {folder / 'diagnostics.csv'} and {folder / 'diagnostics.json'}",
    ]
    # Another target was asked for since.
    os.utime(folder / "diagnostics.json", ns=(1, 1))
    assert outcome(tmp_path, {"search": analysis()}, Settings()) == ""


def test_further_products_are_known_with_their_time(tmp_path):
    assert further(tmp_path, "search") == {}
    paths = [tmp_path / "search" / "limits.json", tmp_path / "search" / "A" / "diagnostics.json"]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    before = further(tmp_path, "search")
    assert list(before) == [str(path) for path in paths]
    os.utime(paths[1], ns=(1, 1))
    assert further(tmp_path, "search") != before


def with_published(cache: Path) -> tuple[dict[str, Analysis], DownloadSettings]:
    """Give an analysis with a published contour, and settings that find it in a cache only."""
    content = analysis().model_dump(mode="json", exclude_unset=True)
    content["planes"]["masses"]["published"] = {"observed": {"file": "observed.csv"}}
    known = {"search": Analysis.model_validate(content)}
    return known, DownloadSettings(cache=cache, offline=True)


def test_what_was_left_out_is_asked_for_again_once_it_may_be_there(tmp_path):
    known, settings = with_published(tmp_path / "cache")
    curves = tmp_path / "published" / "search" / "curves.json"
    assert note_left_out(tmp_path, known, settings) == []
    curves.parent.mkdir(parents=True)
    state = circumstances(
        known["search"].planes["masses"].published.observed, settings, analysis="search"
    )
    curves.write_text(json.dumps({"observed": {"problem": "no", "asked": state}}))
    assert note_left_out(tmp_path, known, settings) == []
    assert asked_for(tmp_path, "search", "") == 0
    table = tmp_path / "cache" / "published" / "search" / "observed.csv"
    table.parent.mkdir(parents=True)
    table.write_text("m1,m2\n1,2\n")
    assert note_left_out(tmp_path, known, settings) == [curves]
    assert asked_for(tmp_path, "search", "") == 1
    # A damaged file, or one of before this was noted, is made again.
    for content in ('{"observed": {"problem": "no"}}', "{"):
        curves.write_text(content)
        assert note_left_out(tmp_path, known, settings) == [curves]
    curves.write_text('{"observed": {"segments": []}}')
    assert note_left_out(tmp_path, known, settings) == []


def test_the_outcome_names_what_is_left_out_with_the_remedy(tmp_path):
    folder = fill(tmp_path / "results").parents[1]
    fill(tmp_path / "results", "B")
    (folder / "results.json").write_text(json.dumps({"p": point()}))
    contour = {"left_out": {"observed": "The server\x1b is away."}}
    (folder / "contour.json").write_text(json.dumps(contour))
    words = outcome(tmp_path / "results", {"search": analysis()}, Settings())
    assert "  missing: the published observed contour (The server? is away)" in words
    assert f"{tmp_path / 'logs' / 'search' / 'download_published*.log'} says where" in words
    published = {"published_limits": {"problem": "It is no table.\n  remedy: Take one."}}
    (folder / "limit_contour.json").write_text(json.dumps(published))
    assert Limits.left_out(folder, analysis()) == ["the published upper limits (It is no table)"]
    assert Hypotest.left_out(tmp_path / "nowhere", analysis()) == []


def test_the_outcome_names_submissions_and_what_only_targets_make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Path("results")
    folder = fill(results).parents[1]
    fill(results, "B")
    (folder / "results.json").write_text(json.dumps({"p": point()}))
    (folder / "hepdata.tar.gz").touch()
    known = {"search": analysis()}
    words = outcome(results, known, Settings())
    assert "search: HEPData submission\n  hepdata: results/search/hepdata.tar.gz" in words
    sent = {"sent": 5, "in_flight_before": 1, "time": 0.0}
    (folder / "A" / "submitted.json").write_text(json.dumps(sent))
    assert "sent" not in outcome(results, known, Settings())
    assert "5 patches sent, 1 in flight from before" in outcome(
        results, known, Settings(), ["submit"]
    )
    (results / "_benchmark").mkdir()
    (results / "_benchmark" / "times.csv").touch()
    assert "results/_benchmark/times.csv" in outcome(results, known, Settings(), ["benchmark"])
    summary = folder / "A" / "summary.html"
    summary.touch()
    assert f"file: {summary}" in outcome(results, known, Settings(), [str(summary)])


def test_the_outcome_names_plots_of_a_product_without_a_table(tmp_path):
    folder = tmp_path / "search"
    for region in ("A", "B"):
        (folder / region).mkdir(parents=True)
        (folder / region / "mu_scan.json").write_text("{}")
    (folder / "mu_scan_patches.json").write_text(json.dumps({"A": ["p"], "B": ["q/r"]}))
    assert "mu scan" not in outcome(tmp_path, {"search": analysis()}, Settings())
    for stem in ("p", "q%2Fr"):
        (folder / f"mu_scan_{stem}.png").touch()
    assert outcome(tmp_path, {"search": analysis()}, Settings()).splitlines() == [
        "search: mu scan of 2 points",
        f"  plot:    {folder / 'mu_scan_p.png'}",
        f"  plot:    {folder / 'mu_scan_q%2Fr.png'}",
    ]
