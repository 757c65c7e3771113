"""Sources of unusual layouts run as they are inspected, with an analysis file and without one."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from palletfit.pallet.inspection import inspect

from .conftest import Folder
from .pallets import TinyPallet


def pack(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def encoded(content: Any) -> bytes:
    return json.dumps(content).encode()


@pytest.fixture
def source(folder: Folder) -> Path:
    """A folder with a compressed workspace, and an archive with one file of operations a point."""
    pallet = TinyPallet(folder.path)
    path = folder.path / "stop"
    path.mkdir()
    (path / "BkgOnly.json.gz").write_bytes(gzip.compress(encoded(pallet.workspace)))
    patches = {
        f"patches/patch.{patch['metadata']['name']}.json": encoded(patch["patch"])
        for patch in pallet.patches
    }
    pack(path / "patches.tgz", patches)
    return path


def table(folder: Folder, name: str) -> list[dict[str, str]]:
    with (folder.path / f"results/{name}/results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_source_without_an_analysis_file(folder: Folder, source: Path) -> None:
    folder.config["pallet"] = str(source)
    target = "results/stop/results.csv"
    run = folder.run(target)
    assert "Proposed analysis stop" in run.output
    assert len(run.fitted) == 6
    rows = table(folder, "stop")
    assert [(row["m1"], row["m2"]) for row in rows][:2] == [("100", "0"), ("150", "20")]
    assert folder.run(target).idle
    # Another file of operations makes its own fit only.
    with tarfile.open(source / "patches.tgz") as tar:
        patches = {entry.name: tar.extractfile(entry).read() for entry in tar}
    patches["patches/patch.S_500_0.json"] = patches["patches/patch.S_100_0.json"]
    pack(source / "patches.tgz", patches)
    assert folder.run(target).fitted == ["S_500_0"]


@pytest.mark.slow
def test_points_without_masses_need_no_plane(folder: Folder) -> None:
    tiny = TinyPallet(folder.path)
    for number, patch in enumerate(tiny.patches):
        patch["metadata"] = {"name": f"discovery_{number}", "values": ["none", 0]}
    tiny.write()
    (written,) = inspect(folder.path / "tiny.tar.gz").write(folder.path / "mine.yaml")
    folder.config["analyses"] = [str(written)]
    run = folder.run()
    assert len(run.fitted) == 6
    assert [row["signal"] for row in table(folder, "tiny")] == [f"discovery_{n}" for n in range(6)]
    assert not list((folder.path / "results/tiny").glob("*.png"))


def test_what_is_ambiguous_is_not_run(folder: Folder) -> None:
    tiny = TinyPallet(folder.path)
    tiny.write()
    other = {**tiny.workspace, "observations": [dict(o) for o in tiny.workspace["observations"]]}
    other["observations"][1]["data"] = [210]
    files = {f"p{n}.json": encoded(patch["patch"]) for n, patch in enumerate(tiny.patches)}
    pack(
        folder.path / "a.tgz",
        {"a.json": encoded(tiny.workspace), "b.json": encoded(other), **files},
    )
    folder.config["pallet"] = str(folder.path / "a.tgz")
    run = folder.run(succeeds=False)
    assert "belongs to no workspace for sure: ambiguous: it applies to a.json, b.json" in run.output
    assert "Traceback" not in run.output


def test_a_name_of_the_catalogue_runs_its_analysis_file(folder: Folder, project: Path) -> None:
    folder.config["pallet"] = "ATLAS-SUSY-2018-04"
    run = folder.run("--dry-run")
    assert f"{project}/config/analyses/staus.yaml" in run.output
    assert "staus/combined: fit all patches that have no result yet" in run.output
    assert not (folder.path / "resources/inspected").exists()
