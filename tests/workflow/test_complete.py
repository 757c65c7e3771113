"""Complete workspaces, without a patchset, through the workflow."""

from __future__ import annotations

import csv
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
import yaml

import palletfit
from palletfit.pallet.patches import Patch, apply

from .conftest import Folder
from .pallets import TinyPallet

NO_POI = "The model has no parameter of interest, which the product {} needs."


def results(folder: Folder, name: str, product: str = "results") -> dict[str, dict[str, Any]]:
    return json.loads((folder.path / f"results/{name}/{product}.json").read_bytes())


def table(folder: Folder, name: str, product: str) -> dict[str, dict[str, str]]:
    with (folder.path / f"results/{name}/{product}.csv").open(newline="") as file:
        return {row["likelihood"]: row for row in csv.DictReader(file)}


def write(folder: Folder, analysis: dict[str, Any], name: str = "mine") -> None:
    (folder.path / f"{name}.yaml").write_text(yaml.safe_dump(analysis))
    folder.config["analyses"] = [str(folder.path / f"{name}.yaml")]


def complete(folder: Path) -> dict[str, Any]:
    """A workspace with its signal."""
    pallet = TinyPallet(folder)
    return apply(pallet.workspace, Patch("signal", (), pallet.patches[2]["patch"]))


@pytest.mark.slow
def test_questions_to_one_workspace(folder: Folder) -> None:
    """Each region asks the same workspace something else, with the values of the library."""
    (folder.path / "files").mkdir()
    file = folder.path / "files" / "whole.json"
    spec = complete(folder.path)
    file.write_text(json.dumps(spec))
    channel = spec["channels"][0]["name"]
    asked: dict[str, dict[str, Any]] = {
        "plain": {},
        "events": {"signal_in": f"{channel}:1"},
        "background": {"poi": ""},
    }
    files = {"workspace": "whole.json", "complete": True}
    regions = {name: {**files, **keys} for name, keys in asked.items()}
    write(folder, {"title": "Mine", "pallet": {"path": "files"}, "regions": regions})
    folder.config["fit"] = {"mu": 2.0}
    folder.config["diagnostics"] = {"impacts": False}
    tables = ("results", "diagnostics", "gof")
    files = [*(f"{name}.csv" for name in tables), "limits-by-name.png", "toys_patches.json"]
    targets = [f"results/mine/{file}" for file in files]
    run = folder.run(*targets)
    assert sorted(run.fitted) == sorted(asked)
    # Nothing of a kind that needs a parameter of interest is made of the background alone.
    of_tests = results(folder, "mine")
    assert of_tests["background"]["status"] == "failed"
    assert of_tests["background"]["problem"] == NO_POI.format("hypotest")
    for name, keys in asked.items():
        if name == "background":
            continue
        result = palletfit.hypotest(file, mu=2.0, **keys).only
        assert of_tests[name]["CLs_obs"] == result.p_values.CLs_obs, name
        assert of_tests[name]["CLs_exp"] == list(result.p_values.CLs_exp)
        assert of_tests[name]["region"] == name
    limits = table(folder, "mine", "limits")
    assert limits["background"]["remark"] == NO_POI.format("limits")
    (limit,) = palletfit.upper_limits(file, signal_in=f"{channel}:1").values()
    assert float(limits["events"]["mu_obs"]) == limit.observed.mu
    assert (folder.path / "results/mine/limits-by-name.png").stat().st_size > 10_000
    diagnosed = table(folder, "mine", "diagnostics")
    assert set(diagnosed) == set(asked)
    assert diagnosed["background"]["status"] == "ok"
    assert "no parameter of interest" in diagnosed["background"]["remark"]
    assert float(diagnosed["plain"]["significance"]) >= 0
    path = folder.path / "results/mine/background/diagnostics/background.json"
    record = json.loads(path.read_bytes())
    pulls = palletfit.pulls(file, poi="").only
    assert record["twice_nll"] == pulls.twice_nll
    assert [entry["name"] for entry in record["parameters"]] == [
        parameter.name for parameter in pulls.parameters
    ]
    goodness = table(folder, "mine", "gof")
    for name, keys in asked.items():
        expected = palletfit.goodness_of_fit(file, **keys).only
        # The stand-in for a missing parameter of interest adds zeros in another order.
        statistic, p_value = (float(goodness[name][key]) for key in ("statistic", "p_value"))
        assert statistic == pytest.approx(expected.statistic, rel=1e-12), name
        assert p_value == pytest.approx(expected.p_value, rel=1e-12)
        assert int(goodness[name]["degrees"]) == expected.degrees
    chosen = json.loads((folder.path / "results/mine/toys_patches.json").read_bytes())
    assert chosen == {name: [name] for name in asked}
    keys_of = {
        record["key"]["workspace"]
        for path, record in folder.records().items()
        if path.parent.name == "fits"
    }
    assert len(keys_of) == len(asked)
    # All is kept, also what says that there is no parameter of interest.
    assert folder.run(*targets).idle


def test_a_complete_workspace_as_a_source(folder: Folder) -> None:
    (folder.path / "whole.json").write_text(json.dumps(complete(folder.path)))
    folder.config["pallet"] = str(folder.path / "whole.json")
    run = folder.run("--dry-run")
    assert "whole: whole.json, complete" in run.output
    assert "whole/whole: fit all patches that have no result yet" in run.output


def published(shared: Path, folder: Path, name: str) -> Path:
    path = shared / "workspaces" / f"{name}.json.xz"
    if not path.exists():
        pytest.skip(f"needs {path.name}")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_bytes(lzma.decompress(path.read_bytes()))
    return folder / f"{name}.json"


def check_published(folder: Folder, shared: Path, regions: dict[str, str]) -> None:
    """Test a signal of one event in a channel of published workspaces, in the workflow and alone.

    Parameters
    ----------
    folder, shared
        Working directory, and folder of published likelihoods.
    regions
        The channel of each workspace.
    """
    files = {name: published(shared, folder.path / "files", name) for name in regions}
    write(
        folder,
        {
            "title": "Published",
            "pallet": {"path": "files"},
            "regions": {
                name: {"workspace": f"{name}.json", "complete": True, "signal_in": channel}
                for name, channel in regions.items()
            },
        },
    )
    folder.config["fit"] = {"mu": 10.0}
    folder.run("results/mine/results.csv")
    of_tests = results(folder, "mine")
    for name, channel in regions.items():
        result = palletfit.hypotest(files[name], mu=10.0, signal_in=channel).only
        assert of_tests[name]["status"] == result.status == "ok"
        assert of_tests[name]["CLs_obs"] == result.p_values.CLs_obs
        assert of_tests[name]["CLs_exp"] == list(result.p_values.CLs_exp)


@pytest.mark.slow
def test_published_workspaces(folder: Folder, shared: Path) -> None:
    names = {
        "SUSY-2018-22-MB-SSd-simplified": "SR_2_1000_10_cuts",
        "SUSY-2018-14-comb": "SRee_cuts",
    }
    check_published(folder, shared, names)


@pytest.mark.study
@pytest.mark.slow
def test_all_published_workspaces(folder: Folder, shared: Path) -> None:
    files = (shared / "workspaces").glob("*.json.xz")
    names = {}
    for file in files:
        channels = json.loads(lzma.decompress(file.read_bytes()))["channels"]
        signals = [channel["name"] for channel in channels if channel["name"].startswith("SR")]
        names[file.name.removesuffix(".json.xz")] = (signals or [channels[0]["name"]])[0]
    assert names
    check_published(folder, shared, names)
