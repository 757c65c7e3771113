"""The target `hepdata`: a submission that HEPData's own validator accepts."""

from __future__ import annotations

import json

import pytest

from .conftest import Folder
from .hepdata import tables, validate
from .pallets import TinyPallet


def test_failed_points_are_in_the_table(tiny: TinyPallet, folder: Folder) -> None:
    del tiny.patches[2]["patch"][0]["value"]["modifiers"][0]  # no parameter of interest
    tiny.write()
    folder.config["on_failure"] = "continue"
    folder.run("hepdata")
    made = folder.path / "results" / "tiny"
    validate(made / "hepdata.tar.gz")
    (failed,) = (
        number
        for number, result in enumerate(json.loads((made / "results.json").read_text()).values())
        if result["status"] == "failed"
    )
    columns = {
        part["header"]["name"]: part["values"]
        for part in tables(made / "hepdata")["CLs"]["dependent_variables"]
    }
    assert columns["Observed CLs"][failed]["value"] == "-"
    assert columns["Status"][failed]["value"] == "failed"
    assert len(columns["Status"]) == len(tiny.patches)


@pytest.mark.usefixtures("tiny")
def test_discovery_has_no_contours(folder: Folder) -> None:
    folder.config["fit"] = {"test_statistic": "q0", "mu": 0.0}
    folder.run("hepdata")
    made = folder.path / "results" / "tiny"
    validate(made / "hepdata.tar.gz")
    assert set(tables(made / "hepdata")) == {"p0"}
