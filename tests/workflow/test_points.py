"""A large scan through the workflow, at a small size: no job and no file a point, and resume."""

from __future__ import annotations

import importlib
import json
import signal
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ..integration.stack.processes import living, until
from .conftest import Folder


@pytest.fixture
def scan(folder: Folder, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Analysis file of a scan of 24 points, which is selected."""
    monkeypatch.syspath_prepend(str(project / "benchmarks"))
    made = folder.path / "made"
    script = importlib.import_module("points")
    script.write_scan(made, 24, 1, script.MadeUp())
    folder.config |= {"analyses": [str(made / "scan.yaml")], "points": {"chunk": 8}}
    return made / "scan.yaml"


def parts(folder: Folder) -> dict[str, bytes]:
    where = folder.path / "results/scan/SR/points"
    return {path.name: path.read_bytes() for path in sorted(where.glob("*.parquet"))}


def fitted(folder: Folder) -> int:
    return json.loads((folder.path / "results/scan/SR/points.json").read_bytes())["fitted"]


def test_a_wrong_table_is_told_and_a_scan_becomes_one_table(folder: Folder, scan: Path) -> None:
    made = Path(yaml.safe_load(scan.read_text())["points"]["table"])
    points = pd.read_parquet(made)
    wrong = points.copy()
    wrong.loc[17, "SRmid[2]"] = -1.0
    wrong.to_parquet(made)
    refused = folder.run("points", succeeds=False)
    assert "Row 18 of the table" in refused.output
    assert "is negative" in refused.output
    assert "Traceback" not in refused.output
    points.to_parquet(made)

    run = folder.run("points")
    table = folder.path / "results/scan/points.parquet"
    assert "scan: 24 points" in run.output
    assert str(table.relative_to(folder.path)) in run.output
    assert table.with_name("excluded.png").stat().st_size > 10_000
    found = pd.read_parquet(table)
    assert found.name.tolist() == [f"model_{number:07d}" for number in range(24)]
    assert set(found.status) == {"ok"}
    assert found.CLs_obs.between(0, 1).all()
    assert 2 < (found.CLs_obs < 0.05).sum() < 22
    # Jobs and files do not grow with the points.
    assert len(list((folder.path / "results/scan").rglob("*"))) < 20
    assert len(parts(folder)) == 3
    assert folder.run("points").idle
    # With more points than may have records, other targets say so before they fit.
    folder.config["points"]["max_patches"] = 23
    refused = folder.run(succeeds=False)
    assert "more than 23 points" in refused.output
    assert "Ask for the target `points`" in refused.output
    assert refused.fitted == []

    before = parts(folder)
    (folder.path / "results/scan/SR/points/part-000002.parquet").write_bytes(b"PAR1")
    folder.run("points")
    assert fitted(folder) == 8
    assert pd.read_parquet(table).CLs_obs.tolist() == pytest.approx(found.CLs_obs.tolist())
    now = parts(folder)
    assert all(now[name] == before[name] for name in before if name != "part-000002.parquet")
    assert folder.run("points").idle


@pytest.mark.slow
@pytest.mark.usefixtures("scan")
def test_a_killed_scan_goes_on(folder: Folder) -> None:
    folder.config["points"] = {"chunk": 2}
    results, log = "results/scan/SR/points/*.parquet", folder.path / "run.log"
    with folder.running_held("points", results=results, count=3) as (first, _):
        until(lambda: len(parts(folder)) >= 3 or first.poll() is not None, "no parts", [log])
        assert first.poll() is None, log.read_text()
        first.send_signal(signal.SIGKILL)
        first.wait()
        # Workers end with the run that is gone.
        until(lambda: not living(folder.path), "workers stay", [log])
    before = parts(folder)
    assert 3 <= len(before) < 12, log.read_text()
    folder.run("points")
    assert fitted(folder) == 2 * (12 - len(before))
    now = parts(folder)
    assert len(now) == 12
    assert all(now[name] == content for name, content in before.items())
