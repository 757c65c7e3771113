"""The main job: the built-in demo pallet with the project's own configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from .conftest import Folder
from .hepdata import tables, validate


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Folder:
    """A folder in which the demo was run."""
    folder = Folder(tmp_path_factory.mktemp("demo"), project)
    folder.variables["DONE"] = folder.run(plain=True).output
    return folder


def test_results(demo: Folder) -> None:
    results = json.loads((demo.path / "results/demo/results.json").read_bytes())
    assert len(results) >= 60
    for name, result in results.items():
        assert result["status"] == "ok", (name, result)
        assert result["CLs_exp"] == sorted(result["CLs_exp"])
        assert {"mass_hypotheses", "CLs_obs", "CLs_exp", "fit_time"} <= result.keys()
    excluded = [name for name, result in results.items() if result["CLs_obs"] < 0.05]
    assert 10 < len(excluded) < len(results) - 10
    table = (demo.path / "results/demo/results.csv").read_text().splitlines()
    assert len(table) == len(results) + 1


def test_every_minimum_has_its_evidence(demo: Folder) -> None:
    for record in demo.records().values():
        assert record["fits"].keys() == {"background", "free", "fixed", "asimov_fixed"}
        for fit in record["fits"].values():
            assert fit["trusted"], (record["patch"], fit)
            assert fit["edm"] < 1e-5
            lowest = min(item["twice_nll"] for item in fit["attempts"])
            assert fit["twice_nll"] == pytest.approx(lowest, abs=1e-8)  # it was sharpened
        free = record["fits"]["free"]["twice_nll"]
        assert free <= record["fits"]["fixed"]["twice_nll"] + 2e-5
        assert free <= record["fits"]["background"]["twice_nll"] + 2e-5


def test_contour_crosses_the_plane(demo: Folder) -> None:
    contour = json.loads((demo.path / "results/demo/contour.json").read_bytes())
    for name in ("observed", "expected", "expected_minus1", "expected_plus1"):
        widths = []
        for line in contour["curves"][name]["lines"]:
            masses = [vertex[0] for vertex in line["vertices"]]
            widths.append(max(masses) - min(masses))
        assert max(widths) > 400, name
    assert contour["leave_one_out"]["observed"]["all_points"]["rms"] < 1.0
    for ending in ("png", "pdf"):
        assert (demo.path / f"results/demo/exclusion.{ending}").stat().st_size > 10_000


def test_a_second_run_has_nothing_to_do(demo: Folder) -> None:
    run = demo.run()
    assert run.idle
    assert run.fitted == []


def test_report(demo: Folder) -> None:
    demo.run("--report", "report.html")
    page = (demo.path / "report.html").read_text()
    for name in ("exclusion.png", "results.csv", "summary.html"):
        assert name in page
    assert "significance of the" in page  # a caption


def test_logs_are_plain_lines(demo: Folder) -> None:
    log = (demo.path / "logs/demo/combined/hypotest.log").read_text()
    assert re.search(r"demo/combined: 70 of 70 patches, 0 failed", log)
    assert "\r" not in log
    assert "\x1b" not in log


def test_toys_and_their_report(demo: Folder) -> None:
    demo.config["toys"] = {"toys": 256}
    demo.run("toys")
    (entry,) = json.loads((demo.path / "results/demo/toys.json").read_bytes()).values()
    assert (entry["status"], entry["toys"]) == ("ok", 256)
    # Hundreds of events: the formulae nearly hold.
    difference = entry["CLs_obs"] - entry["asymptotic"]["CLs_obs"]
    assert abs(difference) < 4 * entry["CLs_obs_error"]
    # A report is of all that is there, without naming its target.
    demo.run("--report", "toys.html")
    page = (demo.path / "toys.html").read_text()
    assert f"toys_{entry['patch']}.png" in page
    assert "pseudo-experiments" in page  # a caption


def test_a_submission_of_it_to_hepdata(demo: Folder) -> None:
    assert "demo: 70 signal points" in demo.variables["DONE"]
    run = demo.run("hepdata")
    assert run.fitted == []
    assert "demo: HEPData submission\n  hepdata: results/demo/hepdata.tar.gz" in run.output
    made = demo.path / "results" / "demo"
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
    digests = yaml.safe_load((demo.project / "config/analyses/demo.yaml").read_text())["pallet"]
    region = provenance["regions"]["combined"]
    assert region["sha256"]["workspace"] == digests["sha256"]["BkgOnly.json"]
    assert region["sha256"]["patchset"] == digests["sha256"]["patchset.json"]
    assert provenance["fits"][0]["patches"] == 70
    # The same results give the same archive; and limits, once there are some, a table more.
    before = (made / "hepdata.tar.gz").read_bytes()
    (made / "hepdata.tar.gz").unlink()
    assert demo.run("hepdata").fitted == []
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
    demo.run("hepdata")
    assert "upper_limits.yaml is valid" in validate(made / "hepdata.tar.gz")
