"""A minimum that one point missed, and a neighbour knows, through the workflow."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.pallet.patches import Patch
from palletfit.runs.store import RecordStore

from .conftest import Folder
from .test_minima import bimodal


def read(folder: Folder, file: str) -> Any:
    return json.loads((folder.path / "results/tiny" / file).read_bytes())


@pytest.mark.slow
def test_a_point_that_missed_the_lowest_minimum_takes_it_from_a_neighbour(folder: Folder) -> None:
    pallet = bimodal(folder)
    folder.config["neighbours"] = False
    folder.run("results/tiny/SR/neighbours.json")
    assert "switched off" in read(folder, "SR/neighbours.json")["skipped"]
    # As if the search of this patch had seen the nearest minimum only.
    name = pallet.names[2]
    store = RecordStore(pallet.record(name).parent)
    record = store.read(store.path(name))
    assert record is not None
    ends = nearest(pallet.workspace, pallet.patches, name)
    store.write(name, {key: value for key, value in {**record, **ends}.items() if key != "sha256"})
    before = {patch: pallet.record(patch).stat().st_mtime_ns for patch in pallet.names}
    folder.config["neighbours"] = True
    run = folder.run("results/tiny/results.csv", "results/tiny/exclusion.html")
    assert "1 point fell by up to " in run.output
    # The step makes no record anew.
    assert {patch: pallet.record(patch).stat().st_mtime_ns for patch in pallet.names} == before
    neighbours = read(folder, "SR/neighbours.json")
    assert neighbours["skipped"] is None
    origin = neighbours["points"][name]["origin"]
    assert origin["fell"]["background"] > 0.1
    point = read(folder, "results.json")[name]
    assert point["origin"] == origin
    assert point["CLs_obs"] == pytest.approx(record["CLs_obs"], abs=1e-6)
    assert point["CLs_obs"] != pytest.approx(ends["CLs_obs"], abs=1e-6)
    table = pd.read_csv(folder.path / "results/tiny/results.csv").set_index("patch")
    assert table.loc[name, "origin"] == ", ".join(origin["neighbours"])
    assert table.loc[name, "fell"] == pytest.approx(max(origin["fell"].values()))
    assert "2 NLL fell by up to" in table.loc[name, "remark"]
    assert table["fell"].notna().sum() == 1
    assert "2 NLL fell by up to" in (folder.path / "results/tiny/exclusion.html").read_text()


def nearest(workspace: Any, patches: list[Any], name: str) -> dict[str, Any]:
    """Make the result of a patch with the nearest minimum."""
    (spec,) = (patch for patch in patches if patch["metadata"]["name"] == name)
    patch = Patch(name, tuple(spec["metadata"]["values"]), spec["patch"])
    ((_, result),) = BatchedEngine(workspace, FitSettings(minimum="nearest")).hypotests([patch])
    assert not isinstance(result, Exception)
    plain: dict[str, Any] = result.as_json()
    return plain
