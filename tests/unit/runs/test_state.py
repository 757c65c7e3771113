"""What a run makes of what an earlier one left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from palletfit.config import Analysis, ContourSettings, FitSettings, Settings
from palletfit.errors import StoreError
from palletfit.products.hypotest import Hypotest
from palletfit.products.limits import Limits
from palletfit.runs import manifest
from palletfit.runs.state import claim, further, note_incomplete, outcome, refits
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
