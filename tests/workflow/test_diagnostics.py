"""Target diagnostics, as a user asks for it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from .conftest import Folder
from .pallets import TinyPallet

PLOTS = ("pulls", "ranking", "correlations", "yields_prefit", "yields_postfit")
#: The patch that is nearest to exclusion, and one whose model lacks a parameter.
NEAREST, OTHER = "S_250_0", "S_300_20"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Folder:
    """A folder in which diagnostics were made without a choice of patches."""
    folder = Folder(tmp_path_factory.mktemp("diagnostics"), project)
    tiny = TinyPallet(folder.path)
    modifier = {"name": "special", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    for patch in tiny.patches:
        if patch["metadata"]["name"] != OTHER:
            patch["patch"][0]["value"]["modifiers"].append(modifier)
    tiny.write()
    folder.config |= {
        "analyses": [str(tiny.analysis_path)],
        "download": {"offline": True},
        "diagnostics": {"parameters": ["special"]},
    }
    folder.variables["DONE"] = folder.run("diagnostics").output
    return folder


def table(folder: Folder) -> dict[str, dict[str, str]]:
    with (folder.path / "results/tiny/diagnostics.csv").open() as file:
        return {row["patch"]: row for row in csv.DictReader(file)}


def records(folder: Folder) -> dict[str, int]:
    """Time of every record of diagnostics."""
    found = (folder.path / "results/tiny/SR/diagnostics").glob("*.json")
    return {path.stem: path.stat().st_mtime_ns for path in found}


def test_without_a_choice_it_is_the_patch_nearest_to_exclusion(made: Folder) -> None:
    results = made.path / "results/tiny"
    assert json.loads((results / "diagnostics_patches.json").read_bytes()) == {"SR": [NEAREST]}
    stems = [f"diagnostics_{NEAREST}_{plot}" for plot in PLOTS]
    for name in (f"{stem}.{ending}" for stem in stems for ending in ("png", "pdf")):
        assert (results / name).stat().st_size > 5_000, name
    (row,) = table(made).values()
    assert (row["region"], row["status"]) == ("SR", "ok")
    record = json.loads((results / f"SR/diagnostics/{NEAREST}.json").read_bytes())
    assert float(row["mu_hat"]) == record["mu_hat"]
    assert float(row["significance"]) == record["discovery"]["significance"]
    assert row["leading_impacts"].startswith("special (")
    test = json.loads((results / f"SR/fits/{NEAREST}.json").read_bytes())
    assert record["mu_hat"] == pytest.approx(test["mu_hat"], abs=1e-6)
    assert "tiny: diagnostics of 1 signal point, 0 suspect, 0 failed" in made.variables["DONE"]
    assert made.run("diagnostics").idle


def test_bad_choices_cost_no_finished_work(made: Folder) -> None:
    before = records(made)
    settings = {"parameters": ["special"], "patches": ["nobody", NEAREST]}
    made.config["diagnostics"] = settings
    output = made.run("diagnostics", succeeds=False).output
    assert "No patch of tiny matches 'nobody'." in output
    assert "diagnostics.patches" in output
    settings["patches"] = [OTHER, NEAREST]
    wanted = "results/tiny/diagnostics.csv"
    output = made.run(wanted, succeeds=False).output
    assert f"{OTHER}: The pattern 'special' fits no parameter of the model." in output
    made.config["on_failure"] = "continue"
    made.run(wanted)
    assert records(made)[NEAREST] == before[NEAREST]
    rows = table(made)
    assert {name: row["status"] for name, row in rows.items()} == {NEAREST: "ok", OTHER: "failed"}
    assert "'special' fits no parameter" in rows[OTHER]["remark"]
