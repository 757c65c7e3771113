"""A product of a user's own, in one folder: records, resume, table and plot, with no other file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from .conftest import Folder
from .pallets import TinyPallet

PRODUCT = Path(__file__).parent / "products" / "saturated"


@pytest.mark.slow
def test_a_folder_with_a_product_is_a_target(folder: Folder, tiny: TinyPallet) -> None:
    place = folder.path / "own" / "saturated"
    shutil.copytree(PRODUCT, place, ignore=shutil.ignore_patterns("__pycache__"))
    folder.config |= {"products": {"saturated": {"folder": str(place)}}}
    run = folder.run("saturated")
    assert "saturated of 6 points" in run.output
    results = folder.path / "results" / tiny.analysis_path.stem
    (manifest,) = results.glob("*/saturated.json")
    records = sorted((manifest.parent / "saturated").glob("*.json"))
    assert len(records) == 6
    table = pd.read_csv(results / "saturated.csv")
    assert table["p_value"].between(0, 1).all()
    assert set(table["status"]) == {"ok"}
    assert (results / "saturated.png").stat().st_size > 5_000
    key = json.loads(records[0].read_bytes())["key"]["product"]
    assert (key["name"], key["version"]) == ("saturated", "saturated-1")
    assert str(folder.path) not in json.dumps(key)  # where its code is does not matter

    assert folder.run("saturated").idle
    records[2].unlink()
    others = {path: path.stat().st_mtime_ns for path in records if path.exists()}
    folder.run("saturated")
    assert records[2].exists()
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_a_folder_without_a_product_is_named(folder: Folder) -> None:
    folder.config |= {"products": {"nothing": {"folder": str(folder.path / "nothing")}}}
    output = folder.run("nothing", succeeds=False).output
    assert "products.nothing.folder: there is no __init__.py." in output
    assert "docs/adding_a_product.md" in output
    assert "Traceback" not in output
