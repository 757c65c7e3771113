"""Yields of one's own go through every target as a published patchset does."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from palletfit.pallet.demo import electroweak
from palletfit.pallet.operations import patchset, with_digest

from .conftest import Folder, Run
from .hepdata import tables, validate
from .pallets import TinyPallet

TARGETS = ("all", "limits", "mu_scan", "diagnostics", "toys", "hepdata", "catalogue")
#: What has a table that is made without plots.
TABLES = ("limits", "diagnostics", "toys")
LABELS = ["m1", "m2", "kind"]
#: Points of each likelihood that is combined.
COMBINED = 3
#: A name that could leave the folder.
ODD = "../{odd} name%"

Row = dict[str, Any]

#: Few toys, scans of few points, and coarse contours.
CHEAP = {
    "contour": {"grid": 50},
    "toys": {"toys": 100},
    "mu_scan": {"points": 3, "range": [0.5, 1.5]},
    "diagnostics": {"impacts": False},
    "live": {"enabled": False},
    "executor": {"workers": 1},
}


def read(folder: Folder, analysis: str, file: str) -> Any:
    return json.loads((folder.path / "results" / analysis / file).read_bytes())


def write_table(path: Path, points: list[Row], channels: list[str]) -> None:
    """Write the points with the names of channels."""
    header = [key for row in points for key in row]
    names = {key: key for key in header} | {
        key: f"{channels[int(key[0])]}{key[1:]}" for key in header if key[0].isdigit()
    }
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(names.values()), restval=0.0)
        writer.writeheader()
        writer.writerows({names[key]: value for key, value in row.items()} for row in points)


# --------------------------------------------------------------------------- narrow, and always


def tiny_rows(tiny: TinyPallet) -> list[Row]:
    """The signals of the tiny pallet, the third of which has an odd name."""
    rows = [
        {
            "name": patch["metadata"]["name"],
            **dict(zip(("m1", "m2"), patch["metadata"]["values"], strict=True)),
            "kind": "wino",
            **{f"0[{i}]": events for i, events in enumerate(patch["patch"][0]["value"]["data"])},
        }
        for patch in tiny.patches
    ]
    rows[2]["name"] = ODD
    return rows


def write_mine(folder: Folder, tiny: TinyPallet, points: list[Row]) -> None:
    """Let the tiny pallet's background have the points of a table."""
    plane = {**tiny.analysis["planes"]["masses"], "select": 'kind == "wino"'}
    mine = {
        **tiny.analysis,
        "labels": LABELS,
        "planes": {"masses": plane},
        "regions": {"SR": {"workspace": "BkgOnly.json"}},
        "points": {"table": "points.csv"},
    }
    (folder.path / "mine.yaml").write_text(yaml.safe_dump(mine))
    write_table(folder.path / "points.csv", points, ["SR"])


def write_combination(folder: Folder) -> None:
    """Combine points of a function with the patchset of another pallet."""
    one, two = (TinyPallet(folder.path, name, COMBINED) for name in ("one", "two"))
    del one.analysis["regions"]["SR"]["patchset"]
    one.analysis["points"] = {"function": "given.py:points", "count": len(one.patches)}
    for observation, data in zip(two.workspace["observations"], ([44, 41], [188]), strict=True):
        observation["data"] = data
    for pallet in (one, two):
        pallet.write()
    points = [
        [patch["metadata"]["name"], patch["metadata"]["values"], patch["patch"]]
        for patch in one.patches
    ]
    code = f"import json\n\ndef points(first, stop):\n    return json.loads({json.dumps(points)!r})"
    (folder.path / "given.py").write_text(f"{code}[first:stop]\n")
    members = {name: {"analysis": f"{name}.yaml"} for name in ("one", "two")}
    both = {"extends": "one.yaml", "points": None, "title": "Both"}
    both["combine"] = {"members": members, "correlate": {"by": "name"}}
    (folder.path / "both.yaml").write_text(yaml.safe_dump(both))


@pytest.mark.slow
def test_every_target_takes_points(finished: tuple[Folder, TinyPallet]) -> None:
    folder, tiny = finished
    points = tiny_rows(tiny)
    write_mine(folder, tiny, points)
    folder.config |= {"analyses": [str(folder.path / "mine.yaml")], **CHEAP}
    tables = [f"results/mine/{name}.json" for name in TABLES]
    run = folder.run(*(target for target in TARGETS if target not in TABLES), *tables)
    assert f"mine: {len(points)} signal points" in run.output
    require_products(folder)
    for name in TABLES:
        table = read(folder, "mine", f"{name}.json")
        assert table.keys() & {point["name"] for point in points}, name
    same = ("status", "region", "CLs_obs", "CLs_exp", "mu_hat")
    mine, published = (list(read(folder, a, "results.json").values()) for a in ("mine", "tiny"))
    assert [[entry[key] for key in same] for entry in mine] == [
        [entry[key] for key in same] for entry in published
    ]

    # Of a changed table only what changed is fitted again; a combination takes points, too.
    points[1]["0[0]"] *= 2  # yields
    points[3]["m2"] += 1  # only a label
    points.append({**points[4], "name": "new", "m1": 321})
    write_mine(folder, tiny, points)
    write_combination(folder)
    folder.config["analyses"].append(str(folder.path / "both.yaml"))
    run = folder.run("results/mine/results.json", "results/both/results.json")
    assert run.fitted == sorted([*tiny.names[:COMBINED], points[1]["name"], "new"])
    results = read(folder, "mine", "results.json")
    assert len(results) == len(points)
    assert results[points[3]["name"]]["mass_hypotheses"] == [250, 1, "wino"]


def require_products(folder: Folder) -> None:
    """Require the files of every target but the plots of what has a table."""
    where = folder.path / "results/mine"
    assert "wino" in (where / "exclusion.html").read_text()
    for pattern in (
        *("exclusion.png", "mu_scan_*.png", "SR/neighbours.json"),
        "SR/fits/%2E.%2F%7Bodd%7D%20name%25.json",
    ):
        assert list(where.glob(pattern)), pattern
    validate(where / "hepdata.tar.gz")
    assert (folder.path / "results/_catalogue/mine/index.html").exists()
    assert not list(folder.path.parent.glob("*{odd}*"))


# --------------------------------------------------------------------------- wide, as a study


def rows() -> list[Row]:
    """Six points with the yields of the demo's own patches."""
    patches = electroweak.demo_patchset(electroweak.demo_workspace())["patches"][8:68:10]
    columns = []
    for number, patch in enumerate(patches):
        m1, m2 = patch["metadata"]["values"]
        row: Row = {"name": patch["metadata"]["name"], "m1": m1, "m2": m2, "kind": "wino"}
        row["unc"] = 0.1 + 0.01 * number
        for operation in patch["patch"]:
            channel = int(operation["path"].split("/")[2])
            for place, events in enumerate(operation["value"]["data"]):
                row[f"{channel}[{place}]"] = events
        columns.append(row)
    columns[3]["name"] = ODD
    return columns


def operations(row: Row, bins: dict[int, int]) -> list[dict[str, Any]]:
    """Write the patch of a point by hand."""
    modifiers = [
        {"name": "mu_SIG", "type": "normfactor", "data": None},
        {"name": "lumi", "type": "lumi", "data": None},
        {"name": "SIG_all", "type": "normsys", "data": {"lo": 0.95, "hi": 1.05}},
        {
            "name": "SIG_one",
            "type": "normsys",
            "data": {"lo": 1.0 - row["unc"], "hi": 1.0 + row["unc"]},
        },
    ]
    return [
        {
            "op": "add",
            "path": f"/channels/{channel}/samples/-",
            "value": {
                "name": "signal",
                "data": [row.get(f"{channel}[{place}]", 0.0) for place in range(count)],
                "modifiers": modifiers,
            },
        }
        for channel, count in bins.items()
    ]


class Pair:
    """The same signals as points of a table, and as a patchset."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.points = folder, rows()
        self.workspace = electroweak.demo_workspace()
        self.channels = [channel["name"] for channel in self.workspace["channels"]]
        self._write_analyses()
        self.write_points()
        self._write_patchset()

    def _write_analyses(self) -> None:
        axes = {"x": "m1", "y": "m2", "x_title": "m1 [GeV]", "y_title": "m2 [GeV]"}
        common = {
            "title": "Yields of my own",
            "labels": LABELS,
            "planes": {"masses": {**axes, "select": 'kind == "wino"'}},
        }
        mine = {
            **common,
            "pallet": {"builtin": "demo"},
            "regions": {"SR": {"workspace": "BkgOnly.json"}},
            "points": {
                "table": "points.csv",
                "lumi": "lumi",
                "uncertainties": {"SIG_all": 0.05, "SIG_one": "unc"},
            },
        }
        patched = {
            **common,
            "pallet": {"path": "patched"},
            "regions": {"SR": {"workspace": "BkgOnly.json", "patchset": "patchset.json"}},
        }
        for name, content in {"mine": mine, "patched": patched}.items():
            (self.folder.path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        self.folder.config["analyses"] = [
            str(self.folder.path / f"{name}.yaml") for name in ("mine", "patched")
        ]

    def write_points(self) -> None:
        write_table(self.folder.path / "points.csv", self.points, self.channels)

    def _write_patchset(self) -> None:
        signal = {int(key.partition("[")[0]) for row in self.points for key in row if "[" in key}
        bins = {
            number: len(channel["samples"][0]["data"])
            for number, channel in enumerate(self.workspace["channels"])
            if number in signal
        }
        entries = [
            {
                "metadata": {"name": row["name"], "values": [row[label] for label in LABELS]},
                "patch": operations(row, bins),
            }
            for row in self.points
        ]
        spec, _ = with_digest(patchset("by hand", LABELS, entries), self.workspace)
        where = self.folder.path / "patched"
        where.mkdir()
        (where / "BkgOnly.json").write_text(json.dumps(self.workspace))
        (where / "patchset.json").write_text(json.dumps(spec))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, project: Path) -> tuple[Folder, Run]:
    """A folder after a run of all targets for both, and that run."""
    folder = Folder(tmp_path_factory.mktemp("mine"), project, {"download": {"offline": True}})
    Pair(folder)
    folder.config |= CHEAP
    return folder, folder.run(*TARGETS, timeout=3000)


def timeless(value: Any) -> Any:
    """Leave out what differs from one fit to the same one: times, and who made it."""
    if isinstance(value, dict):
        dropped = ("fit_time", "build_time", "time", "seconds", "worker", "sha256")
        return {key: timeless(entry) for key, entry in value.items() if key not in dropped}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.study
@pytest.mark.timeout(3000)
def test_points_become_the_same_patchset(done: tuple[Folder, Run]) -> None:
    folder, _ = done
    mine, patched = (read(folder, name, "SR/patchset.json") for name in ("mine", "patched"))
    assert mine["patches"] == patched["patches"]
    assert mine["metadata"]["digests"] == patched["metadata"]["digests"]
    assert read(folder, "mine", "SR/signals.json")["patches"] == len(rows())


@pytest.mark.study
@pytest.mark.parametrize("file", ["results", "limits", "toys", "contour", "SR/neighbours"])
def test_tables_are_equal(done: tuple[Folder, Run], file: str) -> None:
    folder, _ = done
    mine, patched = (
        json.dumps(timeless(read(folder, name, f"{file}.json"))) for name in ("mine", "patched")
    )
    assert mine == patched.replace("patched", "mine")
    assert len(mine) > 100 or file.endswith("neighbours")


@pytest.mark.study
@pytest.mark.parametrize("kind", ["fits", "limits", "mu_scan", "diagnostics", "toys"])
def test_records_are_equal(done: tuple[Folder, Run], kind: str) -> None:
    folder, _ = done
    mine, patched = (
        {
            path.name: timeless(json.loads(path.read_bytes()))
            for path in (folder.path / f"results/{name}/SR/{kind}").glob("*.json")
        }
        for name in ("mine", "patched")
    )
    assert mine
    assert mine == patched


@pytest.mark.study
def test_all_files_are_there(done: tuple[Folder, Run]) -> None:
    folder, run = done
    assert f"mine: {len(rows())} signal points" in run.output
    require_products(folder)
    for pattern in ("limits.png", "diagnostics_*_pulls.png", "toys_*.png"):
        assert list((folder.path / "results/mine").glob(pattern)), pattern
    mine, patched = (tables(folder.path / f"results/{a}/hepdata") for a in ("mine", "patched"))
    assert mine == patched
