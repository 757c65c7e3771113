"""Runs of large scans: what is fitted again, and what is left when something goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palletfit.errors import FitError
from palletfit.products.points import run

from ... import scans
from ...scans import GOOD, NAMES, by_function


def test_a_second_run_fits_nothing(scan):
    assert scan.run() == NAMES
    assert scan.executor.sizes == [4, 4, 2]
    before = {path: path.read_bytes() for path in scan.parts.glob("*")}
    assert scan.run() == []
    assert {path: path.read_bytes() for path in scan.parts.glob("*")} == before
    assert run.is_complete(json.loads(scan.manifest.read_bytes()), scan.parts)


def test_a_killed_run_goes_on_where_it_was(scan):
    def kill(names):
        if "p4" in names:
            raise KeyboardInterrupt

    scan.executor.disturb = kill
    with pytest.raises(KeyboardInterrupt):
        scan.run()
    scan.executor.disturb = lambda _: None
    # A task in flight is not recorded any more; the first chunk may be.
    there = [path.name for path in scan.parts.glob("*.parquet")]
    fitted = scan.run()
    assert fitted == (NAMES[4:] if there else NAMES)


def test_the_third_chunk_is_asked_for_when_the_first_is_recorded(scan):
    scan.settings["points"]["chunk"] = 1
    scan.write(6)
    recorded = []

    def look(names):
        recorded.append((int(names[0][1:]), len(list(scan.parts.glob("*.parquet")))))

    scan.executor.disturb = look
    scan.run()
    assert sorted(number for number, _ in recorded) == [*range(6)]
    # At most so many are in flight: chunks are made one by one, not all at once.
    assert all(number - there <= 3 for number, there in recorded)


def damage(path: Path, how: str) -> None:
    """Damage a part in one of several ways."""
    if how == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif how == "lost":
        path.unlink()
    elif how == "foreign":
        path.write_bytes((path.parent / "part-000000.parquet").read_bytes())
    else:
        table = pq.read_table(path)
        values = pa.array([0.5] * len(table))
        place = table.column_names.index("CLs_obs")
        pq.write_table(table.set_column(place, "CLs_obs", values), path)


def test_a_damaged_part_is_made_again(scan):
    scan.settings["points"]["chunk"] = 2
    scan.write(5)
    scan.run()
    path = scan.parts / "part-000001.parquet"
    for how in ("cut", "changed", "lost", "foreign"):
        damage(path, how)
        assert not run.is_complete(json.loads(scan.manifest.read_bytes()), scan.parts), how
        assert scan.run() == ["p2", "p3"], how
        assert pd.read_parquet(path).name.tolist() == ["p2", "p3"], how


def test_rows_that_are_added_are_fitted_with_their_chunk(scan):
    scan.run()
    content = scans.columns(10)
    for name, values in content.items():
        values.append(f"p{len(values)}" if name == "name" else values[-1])
    scans.write_table(Path(scan.points["table"]), content)
    assert scan.run() == ["p8", "p9", "p10"]


def test_labels_change_without_a_fit(scan):
    scan.run()
    content = scans.columns(10)
    content["mass"][2] = 7.5
    scans.write_table(Path(scan.points["table"]), content)
    assert scan.run() == []
    assert pd.read_parquet(scan.parts / "part-000000.parquet").mass[2] == 7.5


def test_another_mu_fits_all_and_the_first_one_comes_back(scan):
    scan.run()
    first = (scan.parts / "part-000000.parquet").read_bytes()
    scan.settings["fit"] = {"mu": 0.5}
    assert scan.run() == NAMES
    del scan.settings["fit"]
    assert scan.run() == []
    assert (scan.parts / "part-000000.parquet").read_bytes() == first


def test_a_shorter_scan_leaves_nothing_behind(scan):
    scan.run()
    scan.write(3)
    scan.run()
    assert len(pd.read_parquet(scan.parts / "part-000000.parquet")) == 3
    assert [path.name for path in scan.parts.glob("*.parquet")] == ["part-000000.parquet"]


def test_a_point_that_kills_its_worker_costs_no_other(scan):
    def kill(names):
        if "p5" in names:
            raise scans.died()

    scan.executor.disturb = kill
    assert scan.run(retries=1) == [name for name in NAMES if name != "p5"]
    table = pd.read_parquet(scan.parts / "part-000001.parquet").set_index("name")
    assert table.status.to_dict() == {"p4": "ok", "p5": "failed", "p6": "ok", "p7": "ok"}
    assert "worker process died" in table.reason["p5"]
    manifest = json.loads(scan.manifest.read_bytes())
    assert (manifest["ok"], manifest["failed"]) == (9, 1)
    assert not run.is_complete(manifest, scan.parts)
    scan.executor.disturb = lambda _: None
    assert scan.run() == ["p5"]
    assert run.is_complete(json.loads(scan.manifest.read_bytes()), scan.parts)
    assert set(pd.read_parquet(scan.parts / "part-000001.parquet").status) == {"ok"}


def test_a_scan_without_any_result_fails(scan):
    code = GOOD.replace('{"SR": [number + 1, 2.0]}', '[{"op": "remove", "path": "/nothing"}]')
    by_function(scan, code)
    with pytest.raises(FitError, match=r"All 10 points of scan/SR failed.*does not apply"):
        scan.run()


def test_tasks_that_are_too_large_are_cut(scan):
    scan.executor.largest_task = 500
    assert scan.run() == NAMES
    assert max(scan.executor.sizes) < 4
    assert len(pd.read_parquet(scan.parts / "part-000000.parquet")) == 4
