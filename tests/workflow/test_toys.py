"""Target toys, as a user asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Folder
from .pallets import TinyPallet

#: Target of what needs no plots.
TABLE = "results/tiny/toys.json"
#: The patch that is nearest to exclusion, one that does not apply, and one with a name.
NEAREST, BAD, ODD = "S_250_0", "S_350_40", "../{odd} name%"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Folder:
    """A folder in which toys were made without a choice of patches."""
    folder = Folder(tmp_path_factory.mktemp("toys"), project, {"download": {"offline": True}})
    tiny = TinyPallet(folder.path)
    tiny.patches[2]["metadata"]["name"] = ODD
    tiny.patches[5]["patch"][0]["path"] = "/channels/9/samples/0"
    tiny.write()
    folder.config |= {
        "analyses": [str(tiny.analysis_path)],
        "on_failure": "continue",
        "toys": {"toys": 1200, "toys_per_task": 512},
    }
    folder.variables["DONE"] = folder.run("toys").output
    return folder


def table(folder: Folder) -> dict[str, dict[str, Any]]:
    """Content of ``toys.json`` but for times."""
    found = json.loads((folder.path / TABLE).read_bytes())
    return {name: {**entry, "fit_time": None} for name, entry in found.items()}


def records(folder: Folder) -> dict[str, int]:
    """Time of every shard's record."""
    found = (folder.path / "results/tiny/SR/toys").glob("*.json")
    return {path.stem: path.stat().st_mtime_ns for path in found}


def test_toys_of_the_patch_nearest_to_exclusion(made: Folder) -> None:
    results = made.path / "results/tiny"
    assert json.loads((results / "toys_patches.json").read_bytes()) == {"SR": [NEAREST]}
    ends = ("0-511", "512-1023", "1024-1199")
    assert sorted(records(made)) == sorted(f"{NEAREST}.toys_{end}" for end in ends)
    ((name, entry),) = table(made).items()
    assert (name, entry["status"], entry["toys"]) == (NEAREST, "ok", 1200)
    # A hundred events: asymptotic formulae hold.
    test = json.loads((results / "results.json").read_bytes())[NEAREST]
    assert entry["asymptotic"]["CLs_obs"] == test["CLs_obs"]
    assert abs(entry["CLs_obs"] - test["CLs_obs"]) < 4 * entry["CLs_obs_error"]
    for file in (f"toys_{NEAREST}.png", f"toys_{NEAREST}.pdf"):
        assert (results / file).stat().st_size > 10_000, file
    assert (results / "toys.csv").read_text().splitlines()[1].startswith(f"{NEAREST},250,0,SR,ok,")
    assert "tiny/SR toys: 3 shards\n" in made.variables["DONE"]
    said = f"tiny: CLs of {NEAREST} from 1200 toys of each hypothesis: {entry['CLs_obs']:.4g} +- "
    assert said in made.variables["DONE"]
    assert "shards of toys</small>" in (results / "live-toys.html").read_text()


def test_only_a_lost_shard_is_made_again_and_splitting_changes_nothing(made: Folder) -> None:
    before, answer = records(made), table(made)
    # How many toys a task makes is no reason to make any.
    made.config["toys"]["toys_per_task"] = 300
    assert made.run("toys").idle
    lost = f"{NEAREST}.toys_512-1023"
    (made.path / f"results/tiny/SR/toys/{lost}.json").unlink()
    made.run(TABLE)
    after = records(made)
    again = [f"{NEAREST}.toys_{end}" for end in ("512-599", "600-899", "900-1023")]
    assert sorted(name for name in after if before.get(name) != after[name]) == sorted(again)
    assert table(made) == answer


def test_a_precision_ends_toys_early_and_keeps_those_there_are(made: Folder) -> None:
    before = records(made)
    (entry,) = table(made).values()
    precision = 0.7 * entry["CLs_obs_error"]
    made.config["toys"] = {"toys": 100_000, "precision": precision}
    made.run(TABLE)
    (entry,) = table(made).values()
    assert 1200 < entry["toys"] < 5000
    assert entry["CLs_obs_error"] <= precision
    assert entry["remarks"] == []
    assert before.items() <= records(made).items()


def test_a_wrong_choice_says_what_to_do_and_costs_nothing(made: Folder) -> None:
    before = records(made)
    made.config["toys"] = {"patches": ["nobody"]}
    output = made.run("toys", succeeds=False).output
    assert "No patch of tiny matches 'nobody'." in output
    assert "toys.patches" in output
    assert records(made) == before


def test_a_bad_patch_costs_no_other_and_names_are_only_names(made: Folder) -> None:
    made.config["toys"] = {"toys": 200, "patches": ["../*", BAD]}
    output = made.run("toys").output
    found = table(made)
    assert found[ODD]["toys"] == 200
    assert found[BAD]["status"] == "failed"
    assert f"no toys of {BAD}: The patch does not apply" in output
    plots = {path.name for path in (made.path / "results/tiny").glob("toys_*.png")}
    assert {"toys_%2E.%2F%7Bodd%7D%20name%25.png", f"toys_{BAD}.png"} < plots
