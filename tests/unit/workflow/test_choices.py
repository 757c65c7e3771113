"""Prepared files of chosen channels, bins and data give the numbers of the library."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import palletfit
from palletfit.config import Analysis, Choice, DownloadSettings, FitSettings
from palletfit.core.files import read_json
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.measurements import has_no_poi
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.choosing import read_choice
from palletfit.pallet.patchset import parse_patchset
from palletfit.pallet.prepare import prepare_background, prepare_region
from palletfit.products.points.signals import Signal
from palletfit.products.toys.table import with_remarks
from palletfit.runs.results import with_choice
from palletfit.workflow import choices, complete

from .. import models
from ..pallet.test_prepare import make_archive

KINDS = ("normfactor", "normsys", "staterror")
BACKGROUND = models.background(*KINDS)
PATCHSET = models.patchset(BACKGROUND, models.grid(2))


def make_analysis(region: dict[str, Any] | None = None, **keys: Any) -> Analysis:
    files = {"workspace": "BkgOnly.json", "patchset": "patchset.json"}
    return Analysis.model_validate(
        {
            "name": "search",
            "title": "a search",
            "pallet": {"path": "pallet.tgz"},
            "regions": {"A": {**files, **(region or {})}},
            "labels": models.LABELS,
            **keys,
        }
    )


def prepare(folder: Path, analysis: Analysis, **contents: Any) -> tuple[Any, Any]:
    """Write the prepared files of the region, and read workspace and patchset."""
    folder.mkdir(exist_ok=True)
    files = {"BkgOnly.json": BACKGROUND, "patchset.json": PATCHSET, **contents}
    archive = make_archive(folder / "pallet.tgz", files)
    paths = folder / "workspace.json", folder / "patchset.json", folder / "summary.html"
    region, fit = analysis.regions["A"], FitSettings()
    prepare_region(
        analysis,
        "A",
        archive,
        *paths,
        DownloadSettings(),
        complete.asking(region, fit) if region.complete else None,
        choices.choosing(analysis.choice_of("A"), fit, complete=region.complete),
    )
    return read_json(paths[0]), parse_patchset(read_json(paths[1]), paths[1])


@pytest.mark.parametrize(
    "choice",
    [
        {"channels": ["S*"], "mask": {"SR": [0]}},
        {"asimov": 0.0},
        {"asimov": 1.5, "mask": {"CR": [1]}},
        {"blind": ["SR"]},
        {"blind": ["SR"], "asimov": 1.0},
    ],
    ids=str,
)
def test_prepared_files_give_the_numbers_of_the_library(
    tmp_path: Path, choice: dict[str, Any]
) -> None:
    workspace, patchset = prepare(tmp_path, make_analysis(**choice))
    tests = palletfit.hypotest(BACKGROUND, PATCHSET, **choice)
    engine = BatchedEngine(workspace, FitSettings())
    for patch, result in engine.hypotests(patchset.patches):
        assert result.p_values == tests[patch.name].p_values
    summary = read_choice(tmp_path)
    remarks = tests[patchset.patches[0].name].remarks
    assert tuple(summary["remarks"]) == remarks[: len(summary["remarks"])]
    assert {*choice} <= {*summary}


def test_keys_of_a_region_come_before_those_of_the_analysis(tmp_path: Path) -> None:
    analysis = make_analysis({"mask": None, "channels": ["SR"]}, mask={"CR": [0]}, asimov=0.0)
    assert analysis.choice_of("A") == Choice(channels=("SR",), asimov=0.0)
    assert analysis.choice_words == ["Channels SR, blinded: Asimov data of no signal"]
    assert [entry["name"] for entry in prepare(tmp_path, analysis)[0]["observations"]] == ["SR"]


def test_nothing_chosen_leaves_files_as_they_are(tmp_path: Path) -> None:
    assert choices.choosing(make_analysis().choice_of("A"), FitSettings()) is None
    workspace, patchset = prepare(tmp_path, make_analysis())
    assert (workspace, [patch.operations for patch in patchset.patches]) == (
        BACKGROUND,
        [entry["patch"] for entry in PATCHSET["patches"]],
    )
    assert read_choice(tmp_path) == {}


@pytest.mark.parametrize("choice", [{"asimov": 0.5}, {"blind": ["SR"]}], ids=str)
def test_blinded_observations_are_not_read(tmp_path: Path, choice: dict[str, Any]) -> None:
    other = json.loads(json.dumps(BACKGROUND))
    next(entry for entry in other["observations"] if entry["name"] == "SR")["data"] = [9.0, 777.0]
    patchset = models.patchset(other, models.grid(2))
    files = {"BkgOnly.json": other, "patchset.json": patchset}
    analysis = make_analysis(**choice)
    first, second = tmp_path / "first", tmp_path / "second"
    prepare(first, analysis)
    prepare(second, analysis, **files)
    for name in ("workspace.json", "patchset.json", "summary.json", "summary.html"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert "777" not in (second / name).read_text()
    assert "<td>blinded</td>" in (first / "summary.html").read_text()


def test_a_patch_without_such_a_fit_says_why(tmp_path: Path) -> None:
    entries = models.grid(2)
    entries[1]["patch"] = [{"op": "remove", "path": "/channels/0"}]  # that of the signal
    patchset = models.patchset(BACKGROUND, entries)
    files = {"patchset.json": patchset}
    workspace, prepared = prepare(tmp_path, make_analysis(channels=["SR"]), **files)
    tests = BatchedEngine(workspace, FitSettings()).hypotests(prepared.patches)
    results = {patch.name: result for patch, result in tests}
    fitted, refused = (results[patch.name] for patch in prepared.patches)
    assert fitted.status == "ok"
    assert "None of the chosen channels is in the model" in refused.problem


def test_channels_without_signal_have_no_parameter_of_interest(tmp_path: Path) -> None:
    workspace, patchset = prepare(tmp_path, make_analysis(channels=["CR"]))
    assert has_no_poi(workspace, None)
    assert [list(patch.operations) for patch in patchset.patches] == [[], []]
    summary = read_json(tmp_path / "summary.json")
    assert (summary["poi"], [*summary["channels"]]) == ("", ["CR"])


def test_complete_workspaces_are_chosen_from_as_they_are_asked(tmp_path: Path) -> None:
    spec = models.full(*KINDS)
    region = {"workspace": "BkgOnly.json", "complete": True, "fix": {"norm": 1.1}}
    analysis = Analysis.model_validate(
        {
            "name": "search",
            "title": "a search",
            "pallet": {"path": "pallet.tgz"},
            "regions": {"A": {**region, "mask": {"SR": [1]}, "blind": ["SR"]}},
        }
    )
    workspace, patchset = prepare(tmp_path, analysis, **{"BkgOnly.json": spec})
    expected = palletfit.hypotest(spec, mask={"SR": [1]}, blind=["SR"], fix={"norm": 1.1}).only
    ((_, result),) = BatchedEngine(workspace, FitSettings()).hypotests(patchset.patches)
    assert result.p_values == expected.p_values


def test_points_follow_the_channels_and_bins(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "pallet.tgz", {"BkgOnly.json": BACKGROUND})
    analysis = Analysis.model_validate(
        {
            "name": "search",
            "title": "a search",
            "pallet": {"path": "pallet.tgz"},
            "regions": {"A": {"workspace": "BkgOnly.json"}},
            "labels": ["m1"],
            "points": {"table": "points.csv"},
            "mask": {"SR": [0]},
            "blind": ["SR"],
        }
    )
    prepare_background(
        analysis,
        "A",
        archive,
        tmp_path / "workspace.json",
        tmp_path / "summary.html",
        DownloadSettings(),
        choices.choosing(analysis.choice_of("A"), FitSettings()),
    )
    workspace = read_json(tmp_path / "workspace.json")
    assert analysis.points is not None
    signal = Signal.of(workspace, analysis.points, FitSettings(), read_choice(tmp_path))
    yields = {"SR": [4.0, 6.0]}
    assert signal.problem(yields) is None
    operations = signal.operations(yields, {})
    library = palletfit.hypotest(
        BACKGROUND, signal=yields, poi=models.POI, mask={"SR": [0]}, blind=["SR"]
    ).only
    tests = palletfit.hypotest(workspace, operations, check=False).only
    assert tests.p_values.CLs_obs == pytest.approx(library.p_values.CLs_obs, abs=1e-6)


@pytest.mark.parametrize(
    ("keys", "problem", "remedy"),
    [
        ({"channels": ["SX"]}, "No channel has the name 'SX'", "There are 'CR', 'SR'"),
        ({"blind": ["sr"]}, "No channel has the name 'sr'", "Did you mean 'SR'"),
        ({"mask": {"SR": [2]}}, "no bin 2", "its last one is 1"),
        ({"mask": {"CR": [0]}, "channels": ["SR"]}, "not among the channels", "Take it out"),
    ],
)
def test_names_that_are_not_there_are_refused(
    tmp_path: Path, keys: dict[str, Any], problem: str, remedy: str
) -> None:
    with pytest.raises(PalletError, match=problem) as caught:
        prepare(tmp_path, make_analysis(**keys))
    assert remedy in caught.value.remedy
    assert "BkgOnly.json" in str(caught.value.file)
    assert not (tmp_path / "workspace.json").exists()


def test_records_of_blinded_data_show_no_observed_numbers() -> None:
    limit = {"mu": 1.0, "state": "found", "tolerance": 1e-3, "CLs": 0.05, "trusted": True}
    record = {
        "CLs_obs": 0.1,
        "CLs_exp": [0.1] * 5,
        "remarks": ["remark"],
        "limits": {"mu_obs": 1.0, "observed": limit, "expected": [limit]},
        "observed": {"q": 1.0},
    }
    shown = with_choice(record, {"blinded": ["SR"], "remarks": ["blinded"]})
    assert (shown["CLs_obs"], shown["CLs_exp"]) == (None, [0.1] * 5)
    assert shown["remarks"] == ["blinded", "remark"]
    limits = shown["limits"]
    assert (limits["mu_obs"], limits["observed"]["state"]) == (None, "blinded")
    assert limits["observed"]["mu"] is None
    assert limits["expected"] == [limit]
    assert with_choice(record, {"blinded": [], "remarks": []})["CLs_obs"] == 0.1
    assert with_choice(record, {}) is record


def test_observed_values_of_any_product_are_taken_out() -> None:
    choice = {"blinded": ["SR"], "remarks": []}
    for value in (3.0, [1.0, 2.0], None):
        assert with_choice({"observed": value, "x": 1}, choice) == {"observed": None, "x": 1}


def test_toys_say_what_is_chosen() -> None:
    entry = {"region": "SR", "status": "ok", "remarks": ["few toys"]}
    failed = {"region": "SR", "status": "failed", "problem": "none"}
    said = with_remarks({"a": entry, "b": failed}, {"SR": ["blinded"]})
    assert said == {"a": {**entry, "remarks": ["blinded", "few toys"]}, "b": failed}


def test_published_observed_results_of_a_blinded_analysis_are_not_read() -> None:
    curve = {"file": "curve.csv"}
    published = {"observed": curve, "expected": curve, "upper_limits": curve}
    axes = {"x": "m1", "y": "m2", "x_title": "x", "y_title": "y"}
    planes = {"masses": {**axes, "published": published}}
    analysis, blinded = (make_analysis(planes=planes, **keys) for keys in ({}, {"asimov": 0.0}))
    plane = analysis.planes["masses"]
    assert analysis.published_of(plane) == plane.published
    left = blinded.published_of(plane).model_dump(exclude_none=True, exclude={"x", "y"})
    assert left == {"expected": {"file": "curve.csv"}}


def test_wrong_choices_are_refused_when_they_are_read() -> None:
    regions = {
        name: {"workspace": f"{name}.json", "patchset": f"{name}.p.json"} for name in ("A", "B")
    }
    regions["B"]["blind"] = ["SR"]  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"regions.B is blinded and regions.A is not"):
        make_analysis(regions=regions)
    assert make_analysis(regions=regions, use=["B"]).blinded
    with pytest.raises(ValueError, match=r"mask\.SR\.0"):
        make_analysis(mask={"SR": [-1]})
    with pytest.raises(ValueError, match="asimov"):
        make_analysis(asimov=math.inf)


def test_members_of_a_combination_are_not_blinded(tmp_path: Path) -> None:
    from palletfit.config import load_analysis, member_sources

    project = Path(palletfit.__file__).parents[2] / "config" / "analyses"
    member = tmp_path / "blinded.yaml"
    member.write_text("extends: demo\nname: blinded\nasimov: 0\n")
    file = tmp_path / "both.yaml"
    file.write_text(
        f"extends: demo-combined\ncombine: {{members: {{electroweak: {{analysis: {member}}}}}}}\n"
    )
    analysis, _ = load_analysis(str(file), project)
    with pytest.raises(ConfigError, match="electroweak of both is blinded"):
        member_sources(analysis, project)
