"""Targets limits and mu_scan, as a user asks for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Folder
from .pallets import TinyPallet

PATCHES = [f"DEMO_C1N2_Wh_{m1}_{m2}" for m1, m2 in ((400, 0), (700, 50), (900, 100))]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Folder:
    """A folder in which limits of some of the demo's patches, and a scan, were made."""
    folder = Folder(tmp_path_factory.mktemp("limits"), project, {"download": {"offline": True}})
    mine = folder.path / "some.yaml"
    demo = project / "config" / "analyses" / "demo.yaml"
    mine.write_text(f"extends: {demo}\npatches: {json.dumps(PATCHES)}\n")
    folder.config |= {"analyses": [str(mine)], "mu_scan": {"points": 5}}
    folder.variables["DONE"] = folder.run("limits", "mu_scan").output
    return folder


def limits(folder: Folder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.path / "results/some/limits.json").read_bytes())
    return found


def test_limits_and_their_plots(demo: Folder) -> None:
    found = limits(demo)
    assert list(found) == PATCHES
    for entry in found.values():
        assert entry["status"] == "ok"
        known = [mu for mu in entry["mu_exp"] if mu is not None]
        assert known == sorted(known)
        pb = entry["mu_obs"] * entry["cross_section_pb"]
        assert entry["upper_limit_obs_pb"] == pytest.approx(pb)
    assert found[PATCHES[0]]["mu_obs"] < 1 < found[PATCHES[2]]["mu_obs"]
    assert found[PATCHES[2]]["states"]["exp"][4] == "found"
    results = demo.path / "results/some"
    stems = ("limits", "limits_slice_massless", f"mu_scan_{PATCHES[1]}")
    for name in (f"{stem}.{ending}" for stem in stems for ending in ("png", "pdf")):
        assert (results / name).stat().st_size > 10_000, name
    assert json.loads((results / "limit_contour.json").read_bytes())["limit"] == 1.0
    assert "some: 3 upper limits at 95% CL, 2 below mu = 1, 0 beyond" in demo.variables["DONE"]
    assert (
        f"some: mu scan of 1 point\n  plot:    results/some/mu_scan_{PATCHES[1]}.png"
        in (demo.variables["DONE"])
    )


def test_the_scan_is_of_the_patch_nearest_to_one(demo: Folder) -> None:
    chosen = json.loads((demo.path / "results/some/mu_scan_patches.json").read_bytes())
    assert chosen == {"combined": [PATCHES[1]]}
    (path,) = (demo.path / "results/some/combined/mu_scan").glob("*.json")
    record = json.loads(path.read_bytes())
    assert len(record["mu"]) == 5
    wanted = limits(demo)[PATCHES[1]]
    assert record["limits"]["mu_obs"] == pytest.approx(wanted["mu_obs"], rel=2e-4)


def test_only_a_lost_limit_is_found_again(demo: Folder) -> None:
    assert demo.run("limits", "mu_scan").idle
    records = demo.path / "results/some/combined/limits"
    before = {path: path.stat().st_mtime_ns for path in records.glob("*.json")}
    lost = records / f"{PATCHES[1]}.json"
    lost.unlink()
    # Without its plots.
    demo.run("results/some/limits.json")
    after = {path: path.stat().st_mtime_ns for path in records.glob("*.json")}
    assert [path for path in after if before[path] != after[path]] == [lost]


def test_jobs_share_limits_and_names_are_only_names(tiny: TinyPallet, folder: Folder) -> None:
    tiny.patches = tiny.patches[:3]
    tiny.patches[2]["metadata"]["name"] = "../{odd} name%"
    tiny.write()
    folder.config |= {
        "executor": {"parts": 2},
        "mu_scan": {"patches": ["../*"], "points": 5},
    }
    folder.run("mu_scan")
    results = folder.path / "results/tiny"
    assert len(json.loads((results / "limits.json").read_bytes())) == 3
    parts = sorted(path.name for path in (results / "SR/parts/limits").glob("*.json"))
    assert parts == ["1-of-2.json", "2-of-2.json"]
    made = sorted(path.name for path in results.glob("mu_scan_*.png"))
    assert made == ["mu_scan_%2E.%2F%7Bodd%7D%20name%25.png"]


@pytest.mark.usefixtures("tiny")
def test_wrong_choices_say_what_to_do(folder: Folder) -> None:
    folder.config |= {"mu_scan": {"patches": ["nobody"]}}
    output = folder.run("mu_scan", succeeds=False).output
    assert "No patch of tiny matches 'nobody'." in output
    assert "mu_scan.patches" in output
    folder.config |= {"fit": {"test_statistic": "q0"}}
    output = folder.run("limits", succeeds=False).output
    assert "There is no upper limit for the test statistic q0." in output
