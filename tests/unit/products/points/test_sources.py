"""Functions that give points, and which of the two sources an analysis has."""

from __future__ import annotations

import pandas as pd
import pytest

from palletfit.config import FitSettings, PointSettings
from palletfit.errors import PalletError, PalletfitError
from palletfit.products.points import run
from palletfit.products.points.collect import collect
from palletfit.products.points.signals import Signal
from palletfit.products.points.sources import FunctionSource
from palletfit.products.points.tables import TableSource

from ... import scans
from ...scans import GOOD, NAMES, by_function


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


@pytest.mark.parametrize(
    ("points", "others", "words"),
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
def test_wrong_sections_are_told(points, others, words):
    with pytest.raises(ValueError, match=words):
        scans.analysis(points, **others)


def test_sources_are_of_one_kind(scan):
    signal = Signal.of(scan.background, scans.analysis(scan.points).points, FitSettings())
    of = scans.analysis({"function": "m:f", "count": 1}).points, scans.LABELS
    with pytest.raises(ValueError, match="no table's"):
        TableSource(*of, signal, PointSettings())
    of = scans.analysis(scan.points).points, scans.LABELS
    with pytest.raises(ValueError, match="no function's"):
        FunctionSource(*of, signal, PointSettings())
