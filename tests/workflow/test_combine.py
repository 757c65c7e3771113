"""Combinations, from the members' archives to the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from palletfit.config import FitSettings
from palletfit.core.files import read_json
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.reference.hypotests import hypotest
from palletfit.pallet.patches import apply
from palletfit.pallet.patchset import parse_patchset

from .conftest import Folder
from .pallets import TinyPallet


def results(folder: Folder, name: str) -> dict[str, dict[str, Any]]:
    return json.loads((folder.path / f"results/{name}/results.json").read_bytes())


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    pairs = zip(
        [one["CLs_obs"], *one["CLs_exp"]], [other["CLs_obs"], *other["CLs_exp"]], strict=True
    )
    return max(abs(a - b) for a, b in pairs)


def alone(folder: Folder, region: str, name: str, engine: str = "batched") -> dict[str, Any]:
    """CLs of a patch of a prepared region."""
    path = folder.path / "results" / region / "patchset.json"
    (patch,) = parse_patchset(read_json(path), path).select([name])
    workspace = read_json(path.parent / "workspace.json")
    if engine == "reference":
        found = hypotest(apply(workspace, patch), FitSettings(engine=engine)).p_values
    else:
        ((_, result),) = BatchedEngine(workspace, FitSettings()).hypotests([patch])
        found = result.p_values
    return {"CLs_obs": found.CLs_obs, "CLs_exp": found.CLs_exp}


@pytest.mark.slow
def test_demo(folder: Folder) -> None:
    both, lepton = "DEMO_C1N2_Wh_800_0", "DEMO_C1N2_Wh_300_125"
    hadronic = "hadronic_C11200_LSP0"
    patches = [both, lepton, hadronic, "DEMO_C1N2_Wh_600_[14]00"]
    some = {"extends": "demo-combined", "name": "demo-combined", "patches": patches}
    (folder.path / "some.yaml").write_text(yaml.safe_dump(some))
    folder.config["analyses"] = [str(folder.path / "some.yaml")]
    run = folder.run("combine")
    assert "3 points that lepton lacks are fitted without lepton" in run.output
    assert "demo-combined: 5 signal points" in run.output
    combined = results(folder, "demo-combined")
    assert {item["status"] for item in combined.values()} == {"ok"}
    assert (folder.path / "results/demo-combined/exclusion.png").stat().st_size > 10_000
    expected = alone(folder, "demo-combined/combined", both, "reference")
    assert largest_difference(combined[both], expected) < 1e-5
    parts = [
        alone(folder, "demo/combined", both),
        alone(folder, "demo-hadronic/SR", "hadronic_C1800_LSP0"),
    ]
    assert combined[both]["CLs_exp"][2] < min(part["CLs_exp"][2] for part in parts) - 0.02
    # What only one of the two has is its own result.
    for region, name in (("demo/combined", lepton), ("demo-hadronic/SR", hadronic)):
        assert largest_difference(combined[name], alone(folder, region, name)) < 1e-5


@pytest.fixture
def pair(folder: Folder, tiny: TinyPallet) -> tuple[TinyPallet, TinyPallet, dict[str, Any]]:
    """Two tiny pallets, and the analysis that combines them."""
    other = TinyPallet(folder.path, "other")
    for observation, data in zip(other.workspace["observations"], ([44, 41], [188]), strict=True):
        observation["data"] = data
    other.write()
    analysis = {
        "extends": "tiny.yaml",
        "combine": {
            "members": {"one": {"analysis": "tiny.yaml"}, "two": {"analysis": "other.yaml"}},
            "correlate": {"by": "name"},
        },
    }
    write(folder, analysis)
    folder.config["analyses"] = [str(folder.path / "both.yaml")]
    return tiny, other, analysis


def write(folder: Folder, analysis: dict[str, Any]) -> None:
    (folder.path / "both.yaml").write_text(yaml.safe_dump(analysis))


@pytest.mark.slow
def test_what_changes_is_combined_and_fitted_again(
    folder: Folder, pair: tuple[TinyPallet, TinyPallet, dict[str, Any]]
) -> None:
    tiny, other, analysis = pair
    target = "results/both/combined/hypotest.json"
    assert folder.run(target).fitted == tiny.names
    assert not (folder.path / "results/tiny/SR/fits").exists()

    changed = other.patches[2]
    changed["patch"][0]["value"]["data"] = [3.0, 3.0]
    del other.patches[0]
    other.write()
    run = folder.run(target)
    assert "1 points that two lacks were left out: S_100_0" in run.output
    assert run.fitted == [changed["metadata"]["name"]]

    analysis["combine"]["correlate"]["apart"] = ["scale"]
    write(folder, analysis)
    assert folder.run(target).fitted == tiny.names[1:]
    summary = json.loads((folder.path / "results/both/combined/summary.json").read_bytes())
    assert list(summary["combination"]["parameters"]) == ["mu_SIG"]
    assert folder.run(target).idle


@pytest.mark.slow
def test_what_is_wrong_is_said(
    folder: Folder, pair: tuple[TinyPallet, TinyPallet, dict[str, Any]]
) -> None:
    tiny, other, analysis = pair
    other.workspace["observations"][1]["data"] = [205]
    other.write()
    run = folder.run(succeeds=False)
    assert "The channel CR of one and the channel CR of two have the same observed" in run.output
    assert "remedy: If it is one channel, list it under combine.shared_channels" in run.output
    assert "Traceback" not in run.output
    analysis["combine"]["shared_channels"] = ["CR"]
    write(folder, analysis)
    # One broken patch costs no other point its result.
    broken = other.patches[1]
    broken["patch"][0]["path"] = "/channels/7/samples/0"
    other.write()
    run = folder.run(succeeds=False)
    assert "1 of 6 patches of both/combined failed" in run.output
    assert f"{broken['metadata']['name']} of two: The patch does not apply" in run.output
    folder.config["analyses"] = [str(tiny.analysis_path)]
    run = folder.run("combine", succeeds=False)
    assert "None of the selected analyses (tiny) is a combination." in run.output


@pytest.mark.slow
def test_staus_against_the_published_combination(folder: Folder, shared: Path) -> None:
    patches = [f"DS_{masses}_Staus" for masses in ("220_40",)]
    files = {
        "ours": {"extends": "staus-lowhigh", "patches": patches},
        "published": {"extends": "staus", "patches": patches},
    }
    for name, content in files.items():
        (folder.path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    folder.config["analyses"] = [str(folder.path / f"{name}.yaml") for name in files]
    folder.config["download"]["cache"] = str(shared)
    folder.run(*(f"results/{name}/results.json" for name in files))
    ours, published = (results(folder, name) for name in files)
    assert len(ours) == 1
    assert ours.keys() == published.keys()
    for name, result in ours.items():
        # The same likelihood: samples and modifiers only come in another order.
        assert largest_difference(result, published[name]) < 1e-9, name
