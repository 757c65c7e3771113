"""neighbours.json: what is read from it, and why the step is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palletfit.config import FitSettings
from palletfit.core.files import write_json
from palletfit.products.hypotest import PRODUCT
from palletfit.products.hypotest.neighbours import about_neighbours, amended, help_each_other
from palletfit.products.hypotest.table import as_table, combine, read_table
from palletfit.runs.results import RegionResults
from palletfit.runs.scan import Scan

from .test_table import LABELS, fitted

ORIGIN = {"neighbours": ["b"], "fell": {"free": 0.5, "fixed": 2.06}}
JUMP = [
    {"fit": "fixed", "neighbour": "b", "above": 0.3},
    {"fit": "asimov_fixed", "neighbour": "b", "above": None},
]


def entry(**content: Any) -> dict[str, Any]:
    return {"key": "k", "result": None, "origin": None, "jump": [], **content}


def records() -> dict[str, Any]:
    return {"a": fitted((1, 2), 0.1, remarks=["older"]), "b": fitted((2, 2), 0.2)}


def test_results_of_points_that_fell_replace_records(tmp_path: Path) -> None:
    result = {"CLs_obs": 0.7, "status": "ok", "remarks": ["newer"]}
    points = {"a": entry(result=result, origin=ORIGIN, jump=JUMP), "b": entry(key="another key")}
    write_json(tmp_path / "neighbours.json", {"points": points})
    changed = amended(records(), tmp_path)
    assert changed["a"]["CLs_obs"] == 0.7
    assert changed["a"]["values"] == {"m1": 1, "m2": 2}
    assert changed["a"]["remarks"] == [
        "2 NLL fell by up to 2.1 with a minimum of b (free, fixed)",
        "the lowest minimum changes between this point and b (fixed, asimov fixed)",
        "newer",
    ]
    assert changed["b"] == records()["b"]
    table = as_table(combine([RegionResults("SR", changed)], LABELS), LABELS)
    table.to_csv(tmp_path / "results.csv", index=False)
    back = read_table(tmp_path / "results.csv").set_index("patch")
    assert back["origin"].to_dict() == {"a": "b", "b": ""}
    assert back["jump"].to_dict() == {"a": "b", "b": ""}
    assert back["fell"].notna().to_dict() == {"a": True, "b": False}


def test_nothing_changes_where_neighbours_say_nothing(tmp_path: Path) -> None:
    assert amended(records(), tmp_path) == records()
    entries = combine([RegionResults("SR", records())], LABELS)
    assert entries["a"]["origin"] is None
    assert entries["a"]["jump"] == []
    assert not {"origin", "fell", "jump"} & {*as_table(entries, LABELS).columns}
    assert about_neighbours([*entries.values()]) == ""


def test_the_last_words_count_both() -> None:
    points = [{"origin": ORIGIN, "jump": JUMP}, {"origin": None, "jump": JUMP}, {}]
    assert about_neighbours(points) == (
        "1 point fell by up to 2.1 in 2 NLL with a neighbour's minimum; "
        "the lowest minimum changes between 2 points and neighbours of theirs"
    )


@pytest.mark.parametrize(
    ("fit", "enabled", "reason"),
    [
        ({}, False, "switched off"),
        ({"engine": "reference"}, True, "the engine reference"),
        ({"minimum": "nearest"}, True, "the nearest one counts"),
        ({}, True, "fewer than two results hold the ends"),
    ],
)
def test_the_step_says_why_it_is_skipped(fit: dict[str, Any], enabled: bool, reason: str) -> None:
    scan = Scan("t/SR", {}, Path("p.json"), (), ("m1",), FitSettings(**fit), PRODUCT())
    content = help_each_other(scan, {}, enabled=enabled)
    assert reason in content["skipped"]
    assert content["points"] == {}
