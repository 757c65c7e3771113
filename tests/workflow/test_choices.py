"""Analysis files that choose channels, bins and data: the workflow gives the library's numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import palletfit
from palletfit.products.hypotest.table import read_table

from .conftest import Folder
from .pallets import TinyPallet

CHOICES: dict[str, dict[str, Any]] = {
    "cut": {"channels": ["S*"], "mask": {"SR": [0]}},
    "asimov": {"asimov": 0.5},
    "blind": {"blind": ["SR"]},
}
#: Observed events that no file and no line of a blinded run may hold.
SECRET = 76543


@pytest.fixture
def analyses(folder: Folder) -> TinyPallet:
    """An analysis file for each choice, of one pallet."""
    tiny = TinyPallet(folder.path)
    tiny.workspace["observations"][0]["data"] = [52, SECRET]
    tiny.write()
    files = []
    for name, choice in CHOICES.items():
        file = folder.path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"extends": str(tiny.analysis_path), "name": name} | choice))
        files.append(str(file))
    folder.config["analyses"] = files
    return tiny


def test_chosen_channels_bins_and_data_give_the_numbers_of_the_library(
    folder: Folder, analyses: TinyPallet
) -> None:
    blinded = [name for name, choice in CHOICES.items() if "SR" not in choice.get("mask", {})]
    targets = [f"results/{name}/results.csv" for name in CHOICES]
    run = folder.run(*targets, "results/blind/exclusion.html", "results/blind/exclusion.png")
    metadata = {"labels": ["m1", "m2"]}
    patchset = {"version": "1.0.0", "metadata": metadata, "patches": analyses.patches}
    for name, choice in CHOICES.items():
        tests = palletfit.hypotest(analyses.workspace, patchset, check=False, **choice)
        records = {
            path.stem: record for path, record in folder.records().items() if _of(path, name)
        }
        assert {*records} == {*tests}
        for patch, test in tests.items():
            assert records[patch]["CLs_obs"] == test.p_values.CLs_obs
            assert tuple(records[patch]["CLs_exp"]) == test.p_values.CLs_exp
        table = read_table(folder.path / "results" / name / "results.csv")
        assert table["CLs_obs"].isna().all() == (name in blinded)
        remark = tests[analyses.names[0]].remarks[0]
        assert table["remark"].str.contains(remark, regex=False).all()
    assert len({record["key"]["workspace"] for record in folder.records().values()}) == 3
    assert "excluded as expected (blinded)" in run.output
    for name in blinded:
        _holds_nothing_observed(folder.path / "results" / name)
    contour = json.loads((folder.path / "results/blind/contour.json").read_text())
    assert "expected" in contour["curves"]
    assert "observed" not in contour["curves"]


def _of(path: Path, name: str) -> bool:
    return path.parts[-4] == name


def _holds_nothing_observed(folder: Path) -> None:
    number = re.compile(rb"(?<![0-9.])%d(?![0-9])" % SECRET)
    for path in folder.rglob("*"):
        if path.is_file():
            assert number.search(path.read_bytes()) is None, path


def test_a_channel_that_is_not_there_ends_the_run_with_a_hint(
    folder: Folder, tiny: TinyPallet
) -> None:
    tiny.analysis["channels"] = ["CRR"]
    tiny.write()
    run = folder.run(tiny.hypotest(), succeeds=False)
    assert "No channel has the name 'CRR'" in run.output
    assert "Did you mean 'CR'" in run.output
