"""The target `hepdata`: a submission that HEPData's own validator accepts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import Folder
from .pallets import TinyPallet


def validate(archive: Path) -> str:
    """Run HEPData's program, where nothing beyond this machine is reached."""
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "127.0.0.1:9")
    done = subprocess.run(
        [Path(sys.executable).with_name("hepdata-validate"), "--archive", str(archive)],
        env={**os.environ, **dead},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tables(folder: Path) -> dict[str, dict]:
    _, *docs = yaml.safe_load_all((folder / "submission.yaml").read_text())
    return {doc["name"]: yaml.safe_load((folder / doc["data_file"]).read_text()) for doc in docs}


@pytest.mark.slow
def test_demo(folder: Folder) -> None:
    run = folder.run("hepdata")
    assert "demo: 70 signal points" in run.output
    made = folder.path / "results" / "demo"
    assert "cls.yaml is valid HEPData data YAML" in validate(made / "hepdata.tar.gz")
    results = json.loads((made / "results.json").read_text())
    found = tables(made / "hepdata")
    observed = found["CLs"]["dependent_variables"][0]["values"]
    assert [item["value"] for item in observed] == [
        float(f"{result['CLs_obs']:.6g}") for result in results.values()
    ]
    curves = json.loads((made / "contour.json").read_text())["curves"]
    assert len(found) == 1 + len(curves)
    provenance = json.loads((made / "hepdata" / "provenance.json").read_text())
    digests = yaml.safe_load((folder.project / "config/analyses/demo.yaml").read_text())["pallet"]
    region = provenance["regions"]["combined"]
    assert region["sha256"]["workspace"] == digests["sha256"]["BkgOnly.json"]
    assert region["sha256"]["patchset"] == digests["sha256"]["patchset.json"]
    assert provenance["fits"][0]["patches"] == 70
    # The same results give the same archive; and limits, once there are some, a table more.
    before = (made / "hepdata.tar.gz").read_bytes()
    (made / "hepdata.tar.gz").unlink()
    assert folder.run("hepdata").fitted == []
    assert (made / "hepdata.tar.gz").read_bytes() == before
    limits = {
        name: {
            "mass_hypotheses": result["mass_hypotheses"],
            "status": "ok",
            "mu_obs": 1.0,
            "mu_exp": [0.5, 0.7, 1.0, 1.4, 2.0],
        }
        for name, result in results.items()
    }
    (made / "limits.json").write_text(json.dumps(limits))
    folder.run("hepdata")
    assert "upper_limits.yaml is valid" in validate(made / "hepdata.tar.gz")


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
