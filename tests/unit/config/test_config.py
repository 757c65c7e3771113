"""Configuration: defaults, errors that print the fix, and analysis files that build on others."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from palletfit.config import (
    Analysis,
    ExecutorSettings,
    FitSettings,
    Settings,
    load_analyses,
    load_analysis,
    member_sources,
    parse,
    read_yaml,
    with_members,
)
from palletfit.errors import ConfigError

ROOT = Path(__file__).parents[3]
ANALYSES = ROOT / "config" / "analyses"

MINIMAL = {
    "title": "a search",
    "pallet": {"doi": "10.17182/hepdata.1.v1/r1", "sha256": {"bkg.json": "0" * 64}},
    "regions": {"SR": {"workspace": "bkg.json", "patchset": "patches.json"}},
    "labels": ["m1", "m2"],
    "planes": {"masses": {"x": "m1", "y": "m2", "x_title": "x", "y_title": "y"}},
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of analyses with one of them, ``base``."""
    write(tmp_path / "analyses" / "base.yaml", MINIMAL)
    return tmp_path / "analyses"


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def problems(data: dict, model=Settings) -> str:
    with pytest.raises(ConfigError) as error:
        parse(model, data, file="some.yaml")
    assert "file:   some.yaml" in str(error.value)
    return error.value.problem


def test_the_shipped_configuration_says_the_defaults():
    shipped = read_yaml(ROOT / "config" / "config.yaml")
    assert parse(Settings, shipped, file="config.yaml") == Settings()
    assert Settings().analysis_names == ["demo"]


@pytest.mark.parametrize("path", sorted(ANALYSES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_analysis_loads(path):
    analysis, files = load_analysis(path.stem, ANALYSES)
    assert analysis.name == path.stem
    assert files[0] == path


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"analysis": "demo"}, "analysis: unknown key; did you mean 'analyses'?"),
        ({"fit": {"optimiser": "minuit"}}, "fit.optimiser: unknown key; did you mean 'optimizer'?"),
        ({"fit": {"xyzzy": 1}}, "fit.xyzzy: unknown key; known keys: backend, "),
        ({"executor": {"worker": 2}}, "executor.worker: unknown key; did you mean 'workers'?"),
        ({"fit": {"mu": -1}}, "fit.mu: Input should be greater than or equal to 0 (it is -1)"),
        ({"fit": {"mu": math.inf}}, "fit.mu: Input should be a finite number (it is inf)"),
        ({"fit": {"backend": "cupy"}}, "fit.backend: Input should be 'numpy'"),
        ({"fit": {"starts": []}}, "fit.starts: List should have at least 1 item"),
        ({"analyses": ""}, "analyses: must name at least one analysis"),
        ({"analyses": ["1Lbb", ""]}, "must name at least one analysis, without empty names"),
        ({"analyses": "1Lbb,,staus"}, "must name at least one analysis, without empty names"),
    ],
)
def test_wrong_settings_are_explained(data, expected):
    assert expected in problems(data)


def test_all_wrong_settings_are_named_at_once():
    message = problems({"fit": {"mu": "one", "edm_tolerance": 0}, "on_failure": "stop"})
    assert all(f"{key}: " in message for key in ("fit.mu", "fit.edm_tolerance", "on_failure"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"regions": {"SR": {"workspace": "a", "patchset": "b", "known_failure": {}}}},
            "regions.SR.known_failure: unknown key; did you mean 'known_failures'?",
        ),
        (
            {"planes": {"masses": {**MINIMAL["planes"]["masses"], "forbiden": None}}},
            "planes.masses.forbiden: unknown key; did you mean 'forbidden'?",
        ),
        (
            {
                "planes": {
                    "masses": {
                        **MINIMAL["planes"]["masses"],
                        "published": {"observed": {"file": "a.csv", "uri": "b"}},
                    }
                }
            },
            "planes.masses.published.observed.uri: unknown key; did you mean 'url'?",
        ),
        ({"regions": {}}, "regions: Dictionary should have at least 1 item"),
        ({"regions": {"S/R": MINIMAL["regions"]["SR"]}}, "regions.S/R"),
        ({"regions": {"hepdata": MINIMAL["regions"]["SR"]}}, "regions.hepdata: this folder"),
        ({"name": "../other"}, "name: String should match pattern"),
        ({"name": "new\n"}, "name: String should match pattern"),
        ({"use": ["CR"]}, "use names regions that do not exist: CR (there are SR)"),
        ({"use": []}, "use must name at least one region"),
        (
            {"pallet": {"doi": "a", "sha256": {"bgk.json": "0" * 64}}},
            "pallet.sha256 names files that no region uses: bgk.json (there are bkg.json, patches",
        ),
        ({"pallet": {}}, "needs exactly one of doi, url, path, builtin, but has none"),
        (
            {"pallet": {"doi": "a", "url": "b"}},
            "needs exactly one of doi, url, path, builtin, but has doi, url",
        ),
        ({"pallet": {"doi": "a", "sha256": {"f": "12"}}}, "pallet.sha256.f: String should match"),
    ],
)
def test_wrong_analyses_are_explained(change, expected):
    assert expected in problems({"name": "base", **MINIMAL, **change}, Analysis)


COMBINE = {
    "members": {"a": {"analysis": "base"}, "b": {"analysis": "other"}},
    "correlate": {"by": "name"},
}
COMBINED = {
    **{key: MINIMAL[key] for key in ("title", "labels", "planes")},
    "name": "both",
    "combine": COMBINE,
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"pallet": MINIMAL["pallet"]}, "needs either pallet or combine, but has both"),
        ({"regions": {"A": {}, "B": {}}}, "regions: a combination has one region only"),
        (
            {"regions": MINIMAL["regions"]},
            "regions.SR: a combination has no workspace and patchset",
        ),
        ({"combine": {**COMBINE, "members": {"a": {"analysis": "x"}}}}, "at least 2 items"),
        (
            {"combine": {"members": COMBINE["members"]}},
            "combine.correlate: this key is missing",
        ),
        (
            {"combine": {**COMBINE, "corelate": {}}},
            "combine.corelate: unknown key; did you mean 'correlate'?",
        ),
        (
            {"combine": {**COMBINE, "members": {"a": {"analysis": "x", "regoin": "SR"}}}},
            "combine.members.a.regoin: unknown key; did you mean 'region'?",
        ),
        (
            {"combine": {**COMBINE, "correlate": {"by": "table"}}},
            "by: table needs a table",
        ),
        (
            {
                "combine": {
                    **COMBINE,
                    "correlate": {"by": "table", "table": {"x": {"a": "x"}}, "apart": ["y"]},
                }
            },
            "apart needs by: name",
        ),
        (
            {
                "combine": {
                    **COMBINE,
                    "correlate": {"by": "name", "table": {"x": {"a": "n"}, "y": {"a": "n"}}},
                }
            },
            "table names the parameter 'n' of a twice",
        ),
        (
            {"combine": {**COMBINE, "correlate": {"by": "name", "table": {"x": {"c": "n"}}}}},
            "correlate.table names members that do not exist: c (there are a, b)",
        ),
        (
            {
                "combine": {
                    **COMBINE,
                    "correlate": {"by": "name", "table": {"x": {"a": "n"}}, "apart": ["n"]},
                }
            },
            "'n' is in both table and apart",
        ),
        ({"combine": {**COMBINE, "missing": "fail"}}, "combine.missing: Input should be 'drop'"),
        ({"combine": {**COMBINE, "tolerance": -1}}, "combine.tolerance: Input should be greater"),
    ],
)
def test_wrong_combinations_are_explained(change, expected):
    assert expected in problems({**COMBINED, **change}, Analysis)


def test_a_region_of_a_pallet_needs_its_files():
    regions = {"SR": {"workspace": "bkg.json"}}
    data = {"name": "base", **MINIMAL, "pallet": {"doi": "a"}, "regions": regions}
    assert "regions.SR.patchset: this key is missing" in problems(data, Analysis)


@pytest.mark.parametrize(
    ("region", "problem"),
    [
        ({"patchset": "p.json", "operations": "p.*.json"}, "both patchset and operations"),
        ({"operations": "p.*.json"}, "operations needs values, or name_as"),
        ({"patchset": "p.json", "values": "S_{m1}"}, "values needs operations"),
        ({"operations": "p.json", "values": "S_{m1}"}, "regions.SR.operations: String should"),
        ({"operations": "*/*.json", "values": "S_{m1}"}, "regions.SR.operations: String should"),
    ],
)
def test_wrong_sources_of_patches_are_explained(region, problem):
    regions = {"SR": {"workspace": "bkg.json", **region}}
    data = {"name": "base", **MINIMAL, "pallet": {"doi": "a"}, "regions": regions}
    assert problem in problems(data, Analysis)


def test_operations_need_no_patchset_and_no_plane():
    regions = {"SR": {"workspace": "b.json", "operations": "p.*.json", "values": "S_{m1}"}}
    pins = {"p.S_1.json": "0" * 64}
    data = {**MINIMAL, "pallet": {"doi": "a", "sha256": pins}, "regions": regions, "planes": {}}
    analysis = Analysis(name="base", **data)
    assert analysis.members == ["b.json", "p.*.json"]
    with pytest.raises(ValueError, match=r"no region uses: q\.S_1\.json"):
        Analysis(
            name="base", **{**data, "pallet": {"doi": "a", "sha256": {"q.S_1.json": "0" * 64}}}
        )


def test_a_combination_brings_its_members(folder):
    files = folder / "files"
    write(files / "other.yaml", {**MINIMAL, "regions": {"A": MINIMAL["regions"]["SR"]}})
    members = {"a": {"analysis": "base"}, "b": {"analysis": "other.yaml", "region": "A"}}
    path = write(files / "both.yaml", {**COMBINED, "combine": {**COMBINE, "members": members}})
    nested = {**COMBINED, "name": "three", "combine": copy.deepcopy(COMBINE)}
    nested["combine"]["members"]["b"]["analysis"] = "../files/both.yaml"
    write(folder / "three.yaml", nested)
    selected = load_analyses(Settings(analyses="three"), folder)
    with pytest.raises(ConfigError, match="There is no analysis file"):
        with_members(selected, folder)
    nested["combine"]["members"]["b"]["analysis"] = "files/both.yaml"
    write(folder / "three.yaml", nested)
    selected = load_analyses(Settings(analyses="three"), folder)
    analyses = with_members(selected, folder)
    assert list(analyses) == ["three", "base", "both", "other"]
    assert analyses["both"].regions.keys() == {"combined"}
    assert member_sources(analyses["both"], folder) == [("base", "SR"), ("other", "A")]
    assert member_sources(analyses["three"], folder) == [("base", "SR"), ("both", "combined")]
    assert str(path) in analyses["three"].combine.members["b"].analysis
    with pytest.raises(ConfigError, match="The analysis base is no combination"):
        member_sources(analyses["base"], folder)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ({"analysis": "ohter"}, "There is no analysis 'ohter'"),
        ({"analysis": "other", "region": "C"}, "needs one region of other, but names 'C'"),
        ({"analysis": "other"}, "needs one region of other, but names none of several"),
        (
            {"analysis": "other", "region": "A", "labels": {"m2": "m3"}},
            "The labels of the member b of both are m1, m2, which become m1, m3; the combination",
        ),
        (
            {"analysis": "other", "region": "A", "labels": {"m9": "m1"}},
            "The labels of the member b of both are m1, m2; the combination has m1, m2",
        ),
        ({"analysis": "both"}, "Combinations are members of each other: both > both"),
        (
            {"analysis": "complete"},
            "The member b of both is the complete workspace SR of complete: a combination",
        ),
    ],
)
def test_wrong_members_are_explained(folder, member, message):
    region = MINIMAL["regions"]["SR"]
    write(folder / "other.yaml", {**MINIMAL, "regions": {"A": region, "B": region}})
    write(folder / "complete.yaml", COMPLETE)
    members = {"a": {"analysis": "base"}, "b": member}
    write(folder / "both.yaml", {**COMBINED, "combine": {**COMBINE, "members": members}})
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        with_members(load_analyses(Settings(analyses="both"), folder), folder)
    assert "remedy:" in str(error.value)


def test_a_member_may_not_have_the_name_of_another_analysis(folder):
    write(folder / "other.yaml", {**MINIMAL, "title": "another search", "name": "base"})
    write(folder / "both.yaml", COMBINED)
    with pytest.raises(ConfigError, match="Two different analyses have the name 'base'"):
        with_members(load_analyses(Settings(analyses="both"), folder), folder)


def test_a_combination_that_extends_an_analysis_takes_what_is_drawn(folder):
    write(folder / "other.yaml", MINIMAL)
    write(folder / "both.yaml", {"extends": "base", "combine": COMBINE})
    both, _ = load_analysis("both", folder)
    assert (both.pallet, both.title, both.labels) == (None, "a search", ["m1", "m2"])
    assert both.used_regions == ["combined"]
    write(folder / "some.yaml", {"extends": "both", "patches": ["signal_1*"]})
    assert load_analysis("some", folder)[0].combine == both.combine
    pallet = {"pallet": MINIMAL["pallet"], "regions": MINIMAL["regions"]}
    write(folder / "own.yaml", {"extends": "both", **pallet})
    assert load_analysis("own", folder)[0].combine is None


def test_missing_keys_are_named():
    assert "labels: this key is missing" in problems(
        {key: value for key, value in MINIMAL.items() if key != "labels"}, Analysis
    )


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        FitSettings().mu = 2.0


@pytest.mark.parametrize(
    "selected", ["base,other", " base , other ", ["base", "other"], ["base", "other", "base"]]
)
def test_analyses_are_selected_by_string_or_list(folder, selected):
    write(folder / "other.yaml", MINIMAL)
    result = load_analyses(Settings(analyses=selected), folder)
    assert list(result) == ["base", "other"]


def test_an_analysis_is_selected_by_path(folder, tmp_path, monkeypatch):
    path = write(tmp_path / "mine" / "search.yml", MINIMAL)
    assert load_analysis(str(path), folder)[0].name == "search"
    monkeypatch.chdir(tmp_path)
    assert load_analysis("mine/search.yml", folder)[0].name == "search"


def test_a_name_beats_the_file_name(folder):
    write(folder / "other.yaml", {**MINIMAL, "name": "chosen"})
    assert list(load_analyses(Settings(analyses="other"), folder)) == ["chosen"]


@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        ("bsae", "Did you mean 'base'? Known ones: base;"),
        ("zzz", "Known ones: base;"),
        ("missing.yaml", "There is no analysis file 'missing.yaml'"),
        ("../analyses/base", "There is no analysis '../analyses/base'"),
    ],
)
def test_unknown_analyses_are_explained(folder, selected, expected):
    with pytest.raises(ConfigError) as error:
        load_analysis(selected, folder)
    assert expected in str(error.value)


def test_two_analyses_of_one_name_are_refused(folder, tmp_path):
    path = write(tmp_path / "mine" / "base.yaml", MINIMAL)
    with pytest.raises(ConfigError, match="Two selected analyses have the name 'base'"):
        load_analyses(Settings(analyses=["base", str(path)]), folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "The file is not valid YAML"),
        ("- a\n- b\n", "The file is not a mapping"),
        ("", "The file is not a mapping"),
        (b"a: \xff", "The file is not UTF-8 text"),
    ],
)
def test_unreadable_files_are_explained(tmp_path, text, expected):
    path = tmp_path / "some.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=expected):
        read_yaml(path)


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read the file: No such file"):
        read_yaml(tmp_path / "some.yaml")


def test_an_extending_file_says_only_what_differs(folder):
    write(
        folder / "child.yaml",
        {
            "extends": "base",
            "labels": ["m"],
            "planes": {"masses": {"x": "m", "y": "2 * m"}},
            "patches": ["signal_1*"],
        },
    )
    child, files = load_analysis("child", folder)
    base, _ = load_analysis("base", folder)
    assert files == [folder / "child.yaml", folder / "base.yaml"]
    assert (child.name, child.title, child.pallet) == ("child", base.title, base.pallet)
    assert child.labels == ["m"]  # lists are replaced, not joined
    plane = child.planes["masses"]
    assert (plane.x, plane.y, plane.x_title) == ("m", "2 * m", base.planes["masses"].x_title)
    assert base.planes["masses"].x == "m1"


def test_another_source_replaces_the_inherited_one_and_keeps_the_pins(folder, tmp_path):
    path = write(
        tmp_path / "mine" / "local.yaml", {"extends": "base", "pallet": {"path": "pallet.tgz"}}
    )
    pallet = load_analysis(str(path), folder)[0].pallet
    assert pallet.doi is None
    assert pallet.path == path.parent / "pallet.tgz"
    assert pallet.sha256 == MINIMAL["pallet"]["sha256"]


def test_files_extend_files_beside_them(folder, tmp_path):
    write(tmp_path / "mine" / "first.yaml", {**MINIMAL, "pallet": {"path": "data/pallet.tgz"}})
    second = write(tmp_path / "mine" / "second" / "child.yaml", {"extends": "../first.yaml"})
    analysis, files = load_analysis(str(second), folder)
    assert len(files) == 2
    # The inherited path still starts at the file that says it.
    assert analysis.pallet.path.resolve() == tmp_path / "mine" / "data" / "pallet.tgz"


@pytest.mark.parametrize("pallet", [None, {"path": "pallet.tgz"}])
def test_a_file_that_extends_an_incomplete_one_is_explained(folder, pallet):
    incomplete = {key: value for key, value in MINIMAL.items() if key != "pallet"}
    write(folder / "incomplete.yaml", incomplete)
    write(
        folder / "child.yaml", {"extends": "incomplete", **({"pallet": pallet} if pallet else {})}
    )
    if pallet:
        assert load_analysis("child", folder)[0].pallet.path == folder / "pallet.tgz"
    else:
        with pytest.raises(ConfigError, match="needs either pallet or combine, but has neither"):
            load_analysis("child", folder)


@pytest.mark.parametrize("path", ["a", "a.yaml", "./a.yaml", "../analyses/a.yaml"])
def test_a_circle_is_refused(folder, path):
    write(folder / "a.yaml", {"extends": "b"})
    write(folder / "b.yaml", {"extends": path})
    with pytest.raises(ConfigError, match="extend each other in a circle"):
        load_analysis("a", folder)


def test_planes_have_suffixes_only_where_there_are_several():
    plane = MINIMAL["planes"]["masses"]
    single = Analysis.model_validate({"name": "a", **MINIMAL})
    double = Analysis.model_validate({"name": "a", **MINIMAL, "planes": {"p": plane, "q": plane}})
    assert single.plane_suffix("masses") == ""
    assert double.plane_suffix("q") == "_q"
    assert double.plane_of_suffix("_q") is double.planes["q"]


def test_used_regions_keep_their_order_and_come_once():
    region = MINIMAL["regions"]["SR"]
    data = {"name": "a", **MINIMAL, "regions": {"A": region, "B": region, "C": region}}
    assert Analysis.model_validate(data).used_regions == ["A", "B", "C"]
    assert Analysis.model_validate({**data, "use": ["C", "A", "C"]}).used_regions == ["C", "A"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["m1", "m1"]}, "m1 is repeated"),
        (
            {"labels": ["m1", "status"]},
            "must not be columns of results.csv or limits.csv, but status is one",
        ),
        ({"patches": []}, "at least 1 item"),
        ({"planes": {"masses": {"x": "m3"}}}, "uses m3, but the labels are: m1, m2"),
        ({"planes": {"masses": {"select": "@os.system('x')"}}}, "is not an expression"),
        ({"planes": {"masses": {"y": "m1.to_csv('x')"}}}, "more than numbers, labels"),
        ({"planes": {"masses": {"forbidden": {"y_above": "m1"}}}}, "uses m1, but it may only use"),
    ],
)
def test_what_planes_and_labels_may_not_be(folder, changes, message):
    write(folder / "child.yaml", {"extends": "base", **changes})
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_analysis("child", folder)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2", 2),
        (2, 2),
        ("-1", -1),
        ("0", 0),
        ("007", "007"),
        ("true", True),
        ("false", False),
        (True, True),
        ('"123"', "123"),
        ("abc", "abc"),
        ("01:00:00", "01:00:00"),
        ("1.5", "1.5"),
    ],
)
def test_values_for_an_endpoint_have_types_although_the_command_line_has_none(given, meant):
    data = {"endpoint_config": {"x": given}}
    result = parse(ExecutorSettings, data, file="x").endpoint_config["x"]
    assert (result, type(result)) == (meant, type(meant))


COMPLETE = {
    "title": "a search",
    "pallet": {"path": "files"},
    "regions": {"SR": {"workspace": "w.json", "complete": True}},
}


def test_complete_workspaces_have_one_label():
    plain = parse(Analysis, {"name": "a", **COMPLETE}, file="f")
    assert (plain.labels, plain.complete) == (["likelihood"], True)
    named = parse(Analysis, {"name": "a", **COMPLETE, "labels": ["region_name"]}, file="f")
    assert named.labels == ["region_name"]
    assert not parse(Analysis, {"name": "a", **MINIMAL}, file="f").complete


@pytest.mark.parametrize(
    ("region", "change", "problem"),
    [
        ({"complete": False}, {"labels": ["m"]}, "a workspace that has its signal needs `complete"),
        ({"complete": False, "poi": "mu"}, {"labels": ["m"]}, "poi needs `complete: true`"),
        ({"patchset": "p.json"}, {}, "has patchset beside complete"),
        ({"digest": "ignore"}, {}, "has digest beside complete"),
        ({"poi": "mu", "signal_in": "SR"}, {}, "has both poi and signal_in"),
        ({}, {"labels": ["a", "b"]}, "are one label, or are left out"),
        ({}, {"patches": ["SR"]}, "choose complete workspaces by `use`"),
        ({}, {"points": {"table": "t.csv"}}, "regions.SR is complete, so it takes no points"),
        ({"measurment": "x"}, {}, "did you mean 'measurement'"),
    ],
)
def test_wrong_complete_workspaces(region, change, problem):
    regions = {"SR": {**COMPLETE["regions"]["SR"], **region}}
    assert problem in problems({"name": "a", **COMPLETE, "regions": regions, **change}, Analysis)


def test_complete_workspaces_are_not_beside_patches():
    regions = {**COMPLETE["regions"], **MINIMAL["regions"]}
    regions["other"] = MINIMAL["regions"]["SR"]
    regions["SR"] = COMPLETE["regions"]["SR"]
    data = {"name": "a", **COMPLETE, "labels": ["m"], "regions": regions}
    assert "regions.SR is complete and regions.other has patches" in problems(data, Analysis)
