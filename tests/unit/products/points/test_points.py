"""Large scans: what is read, what is fitted again, and what is left when something goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palletfit.config import FitSettings, PointSettings
from palletfit.engine.choose import make_engine
from palletfit.errors import ConfigError, FitError, PalletError, PalletfitError, StoreError
from palletfit.products.points import compute as summaries
from palletfit.products.points import parts, run
from palletfit.products.points.collect import collect, counts_of
from palletfit.products.points.fractions import excluded_fraction
from palletfit.products.points.plots import draw_fraction
from palletfit.products.points.signals import Signal
from palletfit.products.points.sources import FunctionSource
from palletfit.products.points.tables import TableSource

from ... import scans
from ...scans import Scan

NAMES = [f"p{number}" for number in range(10)]


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    project = Scan(tmp_path)
    project.write(10)
    return project


def patches(source):
    return [
        patch for _, chosen in source.chunks([range(3), range(3, source.count)]) for patch in chosen
    ]


# --------------------------------------------------------------------------- tables


def test_csv_and_parquet_give_the_same_points(tmp_path):
    content = scans.columns(7)
    points = []
    for ending in ("csv", "parquet"):
        project = Scan(tmp_path)
        project.points["table"] = str(scans.write_table(tmp_path / f"t.{ending}", content))
        points.append(patches(project.scan().source))
    assert points[0] == points[1]
    assert [patch.name for patch in points[0]] == content["name"]
    patch = points[0][3]
    assert patch.values == (103.0, "higgsino")  # noqa: PD011  no pandas
    (operation,) = patch.operations  # CR has no columns
    assert operation["path"] == "/channels/0/samples/-"
    assert operation["value"]["name"] == "signal"
    assert operation["value"]["data"] == [content["SR[0]"][3], content["SR[1]"][3]]
    size = content["unc"][3]
    assert operation["value"]["modifiers"] == [
        {"name": "mu_SIG", "type": "normfactor", "data": None},
        {"name": "SIG_xsec", "type": "normsys", "data": {"lo": 1 - size, "hi": 1 + size}},
    ]


def test_any_part_of_a_table_can_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "palletfit.products.points.tables._ROWS", 3
    )  # pieces and chunks do not match
    project = Scan(tmp_path)
    project.write(20)
    source = project.scan().source
    ranges = [range(2, 4), range(8, 15), range(15, 16), range(19, 20)]
    chunks = list(source.chunks(ranges))
    assert [chosen for chosen, _ in chunks] == ranges
    for chosen, group in chunks:
        assert [patch.name for patch in group] == [f"p{number}" for number in chosen]


def changed(row, **cells):
    def change(content):
        for name, value in cells.items():
            content[name][row] = value

    return change


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("cell", "value", "words"),
    [
        ("SR[1]", -0.5, ["Row 6 ", "'SR[1]'", "-0.5", "is negative", "p5"]),
        ("SR[0]", float("nan"), ["Row 6 ", "'SR[0]'", "not finite"]),
        ("SR[0]", float("inf"), ["Row 6 ", "'SR[0]'", "not finite"]),
        ("unc", 1.0, ["Row 6 ", "'unc'", "not between zero and one"]),
        ("mass", float("nan"), ["Row 6 ", "'mass'", "not finite"]),
        ("kind", "", ["Row 6 ", "'kind'", "nothing"]),
        ("name", "p2", ["points 3 and 6 have the same name", "p2"]),
        ("name", "", ["Row 6 ", "'name'"]),
        ("name", "x" * 501, ["Row 6 ", "501 characters"]),
    ],
)
def test_a_wrong_row_is_named(tmp_path, ending, cell, value, words):
    content = scans.columns(8)
    content[cell][5] = value
    project = Scan(tmp_path)
    project.points["table"] = str(scans.write_table(tmp_path / f"t.{ending}", content))
    with pytest.raises(PalletError) as caught:
        project.scan()
    for word in [*words, project.points["table"], "remedy"]:
        assert word in str(caught.value)


def test_a_text_among_yields_is_named(tmp_path):
    content = scans.columns(8)
    content["SR[0]"][5] = "many"
    project = Scan(tmp_path)
    project.points["table"] = str(scans.write_table(tmp_path / "t.csv", content))
    with pytest.raises(PalletError, match=r"Row 6 .*'many' in column 'SR\[0\]'"):
        project.scan()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("SR[1]"), "no column 'SR[1]'"),
        (lambda c: c.pop("mass"), "no column 'mass'"),
        (lambda c: c.pop("unc"), "no column 'unc'"),
        (lambda c: c.pop("name"), "no column 'name'"),
        (lambda c: [c.pop("SR[0]"), c.pop("SR[1]")], "no column 'SR[0]'"),
        (lambda c: c.update({"VR[0]": c["other"]}), "'VR[0]' is of a channel that the workspace"),
        (lambda c: c.update({"SR[2]": c["other"]}), "'SR[2]' is of a bin that the channel"),
        (lambda c: c.update({"SR[01]": c["other"]}), "'SR[01]' is of a bin that the channel"),
    ],
)
def test_columns_are_as_they_should_be(tmp_path, change, words):
    content = scans.columns(4)
    change(content)
    project = Scan(tmp_path)
    project.points["table"] = str(scans.write_table(tmp_path / "t.csv", content))
    with pytest.raises(ConfigError) as caught:
        project.scan()
    assert words in str(caught.value)
    assert project.points["table"] in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 columns"),
        (b"name,mass,kind,SR[0],SR[1],unc\n", "no rows"),
        (b"name,name\n", "two columns 'name'"),
        (b"PAR1 and nothing of it", "cannot be read"),
        (b"name,mass,kind,SR[0],SR[1],unc\na,1,k,1,1\n", "cannot be read"),
        (b"name,mass,kind,SR[0],SR[1],unc\n\xff\xfe,1,k,1,1,0.1\n", "cannot be read"),
        (b"name,mass,kind,SR[0],SR[1],unc\n" + b"x" * 3_000_000, "cannot be read"),
    ],
)
def test_what_is_no_table_is_refused(scan, content, words):
    Path(scan.points["table"]).write_bytes(content)
    with pytest.raises(PalletError, match=words):
        scan.scan()


def test_tables_are_limited(scan):
    for limit, words in (("max_points", "more than 5 rows"), ("max_table_bytes", "5 are allowed")):
        scan.settings["points"] = {limit: 5}
        with pytest.raises(ConfigError, match=words):
            scan.scan()
    scan.settings = {}
    scan.points["table"] = "nowhere.csv"
    with pytest.raises(ConfigError, match="No such file"):
        scan.scan()


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({"channels": ["VR"]}, "points.channels.*'VR'"),
        ({"channels": ["CR"]}, r"no column 'CR\[0\]'"),
        ({"sample": "background"}, "sample 'background' in channel 'SR' already"),
        ({"uncertainties": {"mu_SIG": 0.1}}, "the parameter of interest"),
        ({"lumi": "lumi"}, "gives it no width"),
    ],
)
def test_the_signal_has_to_fit_the_workspace(scan, points, words):
    scan.points |= points
    with pytest.raises(PalletfitError, match=words):
        scan.scan()


def test_luminosity_and_correlated_uncertainties(scan):
    parameter = {"name": "lumi", "sigmas": [0.02], "auxdata": [1.0], "inits": [1.0]}
    parameter["bounds"] = [[0.5, 1.5]]
    scan.background["measurements"][0]["config"]["parameters"] = [parameter]
    scan.points |= {"lumi": "lumi", "uncertainties": {"scale": 0.1}}
    source = scan.scan().source
    engine = make_engine(scan.background, FitSettings())
    (first, *_) = patches(source)
    fitted = engine.fit(first, None)
    assert set(fitted.parameters) == {"mu_SIG", "lumi", "scale"}


# --------------------------------------------------------------------------- functions

GOOD = """
ASKED = []

def points(first, stop):
    ASKED.append((first, stop))
    for number in range(first, stop):
        yield f"p{number}", {"mass": 100 + number, "kind": "wino"}, {"SR": [number + 1, 2.0]}
"""


def by_function(scan: Scan, code: str, **points) -> Scan:
    path = scan.folder / "mine.py"
    path.write_text(code)
    scan.points = {"function": f"{path}:points", "count": 10, **points}
    return scan


def test_a_function_is_asked_for_what_is_missing(scan):
    by_function(scan, GOOD)
    assert scan.run() == NAMES
    (scan.parts / "part-000001.parquet").unlink()
    todo = scan.scan()
    run.run(todo, scan.parts, scan.executor, run.ExecutorSettings())
    assert todo.source._function.__globals__["ASKED"] == [(4, 8)]


def test_a_function_may_change_without_its_points(scan):
    by_function(scan, GOOD)
    scan.run()
    before = (scan.parts / "part-000000.parquet").stat().st_mtime_ns
    by_function(scan, GOOD + "# only a remark\n")
    assert scan.run() == []
    assert (scan.parts / "part-000000.parquet").stat().st_mtime_ns > before  # says so from now on
    by_function(scan, GOOD.replace("2.0", "2.0 + (number == 6)"))
    assert scan.run() == ["p4", "p5", "p6", "p7"]


def test_a_function_may_give_operations(scan):
    code = """
def points(first, stop):
    for number in range(first, stop):
        sample = {"name": "s", "data": [number, 1], "modifiers": [
            {"name": "mu_SIG", "type": "normfactor", "data": None}]}
        place = 0 if number != 5 else 7
        yield f"p{number}", [number, number], [
            {"op": "add", "path": f"/channels/{place}/samples/0", "value": sample}]
"""
    by_function(scan, code)
    assert scan.run() == NAMES
    table = pd.read_parquet(scan.parts / "part-000001.parquet").set_index("name")
    assert table.status.to_dict() == {"p4": "ok", "p5": "failed", "p6": "ok", "p7": "ok"}
    assert "The patch does not apply" in table.reason["p5"]
    assert table.kind["p4"] == 4.0
    assert scan.run() == []  # it fails whenever it is fitted


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def points(first, stop:", "SyntaxError"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("def others(first, stop): pass", "no function 'points'"),
        ("def points(first, stop):\n    yield 1 / 0", r"ZeroDivisionError.*line 2 of mine.py"),
        (GOOD.replace("stop):\n        y", "stop - 1):\n        y"), "gives 3 points"),
        (
            "import itertools\n" + GOOD.replace("range(first, stop)", "itertools.count()"),
            "gives more",
        ),
        (GOOD.replace("2.0", "-2.0"), r"Point 0 .*bin 1 of channel 'SR' is negative"),
        (GOOD.replace("2.0", "float('nan')"), "Point 0 .*not a finite number"),
        (GOOD.replace(", 2.0", ""), "Point 0 .*'SR' has 2 bins, not 1"),
        (GOOD.replace('"SR"', '"VR"'), "Point 0 .*no channel 'VR'"),
        (GOOD.replace('"kind": "wino"', ""), "Point 0 .*1 values for 2 labels"),
        (GOOD.replace('f"p{number}", {', "number, {"), "Point 0 .*has no name"),
        (GOOD.replace("p{number}", "p{number // 2}"), "points 1 and 2 have the same name"),
    ],
)
def test_a_wrong_function_is_told(scan, code, words):
    by_function(scan, code)
    with pytest.raises(PalletfitError, match=words):
        scan.run()


def test_names_that_repeat_in_other_chunks_are_found_in_the_end(scan):
    by_function(scan, GOOD.replace("p{number}", "p{number % 27}"), count=28)
    scan.run()
    with pytest.raises(PalletError, match="points 1 and 28 have the same name") as caught:
        collect([scan.manifest], scan.labels, scan.folder / "points.parquet", 0.95)
    assert "p0" in str(caught.value)


def test_functions_depend_on_files_that_are_named(scan):
    data = scan.folder / "data.txt"
    data.write_text("2.0")
    by_function(scan, GOOD, depends=[str(data)])
    first = scan.scan().source.identity
    data.write_text("3.0")
    assert scan.scan().source.identity != first


# --------------------------------------------------------------------------- resume


def test_a_second_run_fits_nothing(scan):
    assert scan.run() == NAMES
    assert scan.executor.sizes == [4, 4, 2]
    before = {path: path.read_bytes() for path in scan.parts.glob("*")}
    assert scan.run() == []
    assert {path: path.read_bytes() for path in scan.parts.glob("*")} == before
    assert run.is_complete(json.loads(scan.manifest.read_bytes()), scan.parts)


def test_a_killed_run_goes_on_where_it_was(scan):
    def kill(names):
        if "p4" in names:
            raise KeyboardInterrupt

    scan.executor.disturb = kill
    with pytest.raises(KeyboardInterrupt):
        scan.run()
    scan.executor.disturb = lambda _: None
    # A task in flight is not recorded any more; the first chunk may be.
    written = [path.name for path in scan.parts.glob("*.parquet")]
    fitted = scan.run()
    assert fitted == (NAMES[4:] if written else NAMES)


def test_the_third_chunk_is_asked_for_when_the_first_is_recorded(scan):
    scan.settings["points"]["chunk"] = 1
    recorded = []

    def look(names):
        recorded.append((int(names[0][1:]), len(list(scan.parts.glob("*.parquet")))))

    scan.executor.disturb = look
    scan.run()
    # At most so many are in flight: chunks are made one by one, not all at once.
    assert all(number - written <= 3 for number, written in recorded)


@pytest.mark.parametrize("damage", ["cut", "changed", "lost", "foreign"])
def test_a_damaged_part_is_made_again(scan, damage):
    scan.run()
    path = scan.parts / "part-000001.parquet"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:500])
    elif damage == "lost":
        path.unlink()
    elif damage == "foreign":
        path.write_bytes((scan.parts / "part-000000.parquet").read_bytes())
    else:
        table = pq.read_table(path)
        values = pa.array([0.5] * len(table))
        position = table.column_names.index("CLs_obs")
        pq.write_table(table.set_column(position, "CLs_obs", values), path)
    assert not run.is_complete(json.loads(scan.manifest.read_bytes()), scan.parts)
    assert scan.run() == ["p4", "p5", "p6", "p7"]
    assert pd.read_parquet(path).name.tolist() == ["p4", "p5", "p6", "p7"]


def test_rows_that_are_added_are_fitted_with_their_chunk(scan):
    scan.run()
    content = scans.columns(10)
    for name, values in content.items():
        values.append(f"p{len(values)}" if name == "name" else values[-1])
    scans.write_table(Path(scan.points["table"]), content)
    assert scan.run() == ["p8", "p9", "p10"]


def test_labels_change_without_a_fit(scan):
    scan.run()
    content = scans.columns(10)
    content["mass"][2] = 7.5
    scans.write_table(Path(scan.points["table"]), content)
    assert scan.run() == []
    assert pd.read_parquet(scan.parts / "part-000000.parquet").mass[2] == 7.5


def test_another_mu_fits_all_and_the_first_one_comes_back(scan):
    scan.run()
    first = (scan.parts / "part-000000.parquet").read_bytes()
    scan.settings["fit"] = {"mu": 0.5}
    assert scan.run() == NAMES
    del scan.settings["fit"]
    assert scan.run() == []
    assert (scan.parts / "part-000000.parquet").read_bytes() == first


def test_a_shorter_scan_leaves_nothing_behind(scan):
    scan.run()
    scan.write(3)
    scan.run()
    assert len(pd.read_parquet(scan.parts / "part-000000.parquet")) == 3
    assert [path.name for path in scan.parts.glob("*.parquet")] == ["part-000000.parquet"]


# --------------------------------------------------------------------------- failures


def test_a_point_that_kills_its_worker_costs_no_other(scan):
    def kill(names):
        if "p5" in names:
            raise scans.died()

    scan.executor.disturb = kill
    assert scan.run(retries=1) == [name for name in NAMES if name != "p5"]
    table = pd.read_parquet(scan.parts / "part-000001.parquet").set_index("name")
    assert table.status.to_dict() == {"p4": "ok", "p5": "failed", "p6": "ok", "p7": "ok"}
    assert "worker process died" in table.reason["p5"]
    manifest = json.loads(scan.manifest.read_bytes())
    assert (manifest["ok"], manifest["failed"]) == (9, 1)
    assert not run.is_complete(manifest, scan.parts)
    scan.executor.disturb = lambda _: None
    assert scan.run() == ["p5"]
    assert run.is_complete(json.loads(scan.manifest.read_bytes()), scan.parts)
    assert set(pd.read_parquet(scan.parts / "part-000001.parquet").status) == {"ok"}


def test_a_scan_without_any_result_fails(scan):
    code = GOOD.replace('{"SR": [number + 1, 2.0]}', '[{"op": "remove", "path": "/nothing"}]')
    by_function(scan, code)
    with pytest.raises(FitError, match=r"All 10 points of scan/SR failed.*does not apply"):
        scan.run()


def test_tasks_that_are_too_large_are_cut(scan):
    scan.executor.largest_task = 500
    assert scan.run() == NAMES
    assert max(scan.executor.sizes) < 4
    assert len(pd.read_parquet(scan.parts / "part-000000.parquet")) == 4


# --------------------------------------------------------------------------- results


def test_results_are_those_of_the_engine(scan):
    scan.run()
    table = scan.folder / "points.parquet"
    collect([scan.manifest], scan.labels, table, 0.95)
    results = pd.read_parquet(table).set_index("name")
    engine = make_engine(scan.background, FitSettings())
    for patch, result in engine.hypotests(patches(scan.scan().source)):
        row = results.loc[patch.name]
        assert row.CLs_obs == pytest.approx(result.p_values.CLs_obs, rel=1e-9)
        assert row.CLs_exp_plus1 == pytest.approx(result.p_values.CLs_exp[3], rel=1e-9)
        assert row.mu_hat == pytest.approx(result.mu_hat, rel=1e-6)
        error = float("nan") if result.mu_hat_error is None else result.mu_hat_error
        assert row.mu_hat_error == pytest.approx(error, rel=1e-6, nan_ok=True)
        assert (row.status, row.engine, row.region) == ("ok", "batched", "SR")
        assert row.starts_agreed >= 2
        assert 0 <= row.edm < 1e-9
    assert results.mass.tolist() == [100.0 + number for number in range(10)]
    assert results.kind.tolist() == ["wino", "higgsino"] * 5
    counts = counts_of(table)
    assert counts["points"] == counts["ok"] == 10
    assert counts["excluded"] == (results.CLs_obs < 0.05).sum()


def test_both_engines_summarise_alike(scan):
    chosen = patches(scan.scan().source)[:2]
    results = {}
    for engine in ("batched", "reference"):
        fitting = make_engine(scan.background, FitSettings(engine=engine))
        results[engine] = {
            patch.name: entry for patch, entry in summaries.compute(fitting, chosen, {})
        }
    for name, entry in results["batched"].items():
        other = results["reference"][name]
        assert other["CLs_obs"] == pytest.approx(entry["CLs_obs"], abs=1e-5)
        assert (entry["engine"], other["engine"]) == ("batched", "reference")
        assert set(entry) == set(other)


def test_of_several_regions_the_most_sensitive_one_counts(scan):
    scan.run()
    other = Scan(scan.folder / "other")
    other.folder.mkdir()
    content = scans.columns(10)
    content["SR[0]"] = [9.0] * 10
    scans.write_table(Path(other.points["table"]), content)
    other.run()
    moved = scan.folder / "B"
    other.manifest.parent.rename(moved)
    table = scan.folder / "points.parquet"
    collect([scan.manifest, moved / "points.json"], scan.labels, table, 0.95)
    results = pd.read_parquet(table)
    mine = pd.concat(pd.read_parquet(path) for path in sorted(scan.parts.glob("*.parquet")))
    its = pd.concat(pd.read_parquet(path) for path in sorted((moved / "points").glob("*.parquet")))
    better = mine.CLs_exp_0.to_numpy() <= its.CLs_exp_0.to_numpy()
    assert 0 < better.sum() < 10
    assert results.region.tolist() == ["SR" if entry else "B" for entry in better]
    assert results.name.tolist() == NAMES


def test_a_damaged_part_is_not_collected(scan):
    scan.run()
    path = scan.parts / "part-000002.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match="missing, damaged") as caught:
        collect([scan.manifest], scan.labels, scan.folder / "points.parquet", 0.95)
    assert path.name in str(caught.value)
    assert not (scan.folder / "points.parquet").exists()


def test_parts_say_what_they_are_of(scan):
    scan.run()
    metadata = json.loads(
        pq.read_metadata(scan.parts / "part-000000.parquet").metadata[parts.METADATA]
    )
    assert metadata["key"]["engine"].startswith("batched")
    assert metadata["key"]["settings"]["mu"] == 1.0
    assert metadata["key"]["product"]["name"] == "points"
    assert len(metadata["key"]["workspace"]) == 64


def test_the_excluded_fraction_is_counted_in_bins(tmp_path, monkeypatch):
    monkeypatch.setattr("palletfit.products.points.fractions._ROWS", 4)  # several pieces
    plane = {"x": "mass", "y": "10 * kind", "x_title": "x", "y_title": "y", "select": "mass < 9"}
    analysis = scans.analysis({"table": "t.csv", "plot_bins": 2}, planes={"p": plane})
    table = tmp_path / "points.parquet"
    content = {
        "mass": [0.0, 0.1, 8.0, 7.9, 8.0, 1.0, 9.0],
        "kind": [0.0, 0.0, 0.0, 1.0, 1.0, 0.9, 5.0],
        "CLs_obs": [0.01, 0.2, 0.01, 0.06, 0.04, None, 0.01],
        "CLs_exp_0": [0.2, 0.2, 0.01, 0.01, 0.01, None, 0.01],
    }
    pd.DataFrame(content).to_parquet(table)
    fraction = excluded_fraction(table, analysis, analysis.planes["p"], 0.95)
    assert fraction.x.tolist() == [0.0, 4.0, 8.0]
    assert fraction.y.tolist() == [0.0, 5.0, 10.0]
    np.testing.assert_array_equal(fraction.points, [[2, 0], [1, 2]])
    np.testing.assert_array_equal(fraction.of("observed"), [[0.5, np.nan], [1.0, 0.5]])
    np.testing.assert_array_equal(fraction.of("expected"), [[0.0, np.nan], [1.0, 1.0]])
    assert fraction.failed == 1
    figure = draw_fraction(fraction, analysis, analysis.planes["p"])
    (title,) = (legend.get_title().get_text() for legend in figure.legends)
    assert title == "scan\n5 points, 1 more failed"
    (mesh,) = (entry for entry in figure.axes[0].collections if entry.get_array() is not None)
    np.testing.assert_array_equal(mesh.get_array().filled(-1), [[0.5, 1.0], [-1, 0.5]])


def test_a_plane_without_points_is_told(tmp_path):
    plane = {"x": "mass", "y": "mass", "x_title": "x", "y_title": "y", "select": "mass > 9"}
    analysis = scans.analysis({"table": "t.csv"}, planes={"p": plane})
    table = tmp_path / "points.parquet"
    content = {"mass": [1.0], "kind": [1.0], "CLs_obs": [0.1], "CLs_exp_0": [0.1]}
    pd.DataFrame(content).to_parquet(table)
    with pytest.raises(ConfigError, match="No point lies in the plane"):
        excluded_fraction(table, analysis, analysis.planes["p"], 0.95)


# --------------------------------------------------------------------------- analysis files


@pytest.mark.parametrize(
    ("points", "further", "words"),
    [
        ({}, {}, "exactly one of table and function"),
        ({"table": "a.csv", "function": "m:f", "count": 1}, {}, "exactly one of"),
        ({"function": "m:f"}, {}, "needs count"),
        ({"function": "m", "count": 1}, {}, "pattern"),
        ({"table": "a.csv", "count": 3}, {}, "those of a function"),
        ({"function": "m:f", "count": 1, "uncertainties": {"a": "b"}}, {}, "columns of a table"),
        ({"table": "a.csv"}, {"labels": ["edm"]}, "columns of points.parquet"),
        (
            {"table": "a.csv"},
            {"regions": {"SR": {"workspace": "w", "patchset": "p"}}},
            "has a patchset beside points",
        ),
        (None, {}, "patchset: this key is missing"),
    ],
)
def test_wrong_sections_are_told(points, further, words):
    with pytest.raises(ValueError, match=words):
        scans.analysis(points, **further)


def test_sources_are_of_one_kind(scan):
    signal = Signal.of(scan.background, scans.analysis(scan.points).points, FitSettings())
    of = scans.analysis({"function": "m:f", "count": 1}).points, scans.LABELS
    with pytest.raises(ValueError, match="no table's"):
        TableSource(*of, signal, PointSettings())
    of = scans.analysis(scan.points).points, scans.LABELS
    with pytest.raises(ValueError, match="no function's"):
        FunctionSource(*of, signal, PointSettings())
