"""The table of a scan: results of the engine, each from its most sensitive region."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from palletfit.config import FitSettings
from palletfit.engine.choose import make_engine
from palletfit.errors import StoreError
from palletfit.products.points.collect import collect, counts_of

from ... import scans
from ...scans import NAMES, Scan, patches


def test_results_are_those_of_the_engine(scan):
    scan.run()
    table = scan.folder / "points.parquet"
    collect([scan.manifest], scan.labels, table, 0.95)
    found = pd.read_parquet(table).set_index("name")
    engine = make_engine(scan.background, FitSettings())
    for patch, result in engine.hypotests(patches(scan.scan().source)):
        row = found.loc[patch.name]
        assert row.CLs_obs == pytest.approx(result.p_values.CLs_obs, rel=1e-9)
        assert row.CLs_exp_plus1 == pytest.approx(result.p_values.CLs_exp[3], rel=1e-9)
        assert row.mu_hat == pytest.approx(result.mu_hat, rel=1e-6)
        error = float("nan") if result.mu_hat_error is None else result.mu_hat_error
        assert row.mu_hat_error == pytest.approx(error, rel=1e-6, nan_ok=True)
        assert (row.status, row.engine, row.region) == ("ok", "batched", "SR")
        assert row.starts_agreed >= 2
        assert 0 <= row.edm < 1e-9
    assert found.mass.tolist() == [100.0 + number for number in range(10)]
    assert found.kind.tolist() == ["wino", "higgsino"] * 5
    counts = counts_of(table)
    assert counts["points"] == counts["ok"] == 10
    assert counts["excluded"] == (found.CLs_obs < 0.05).sum()


def test_of_several_regions_the_most_sensitive_one_counts(scan):
    scan.run()
    other = Scan(scan.folder / "other")
    other.folder.mkdir()
    content = scans.columns(10)
    content["SR[0]"] = [9.0] * 10
    scans.write_table(Path(other.points["table"]), content)
    other.run()
    moved = scan.folder / "B"
    other.manifest.parent.rename(moved)
    table = scan.folder / "points.parquet"
    collect([scan.manifest, moved / "points.json"], scan.labels, table, 0.95)
    found = pd.read_parquet(table)
    mine = pd.concat(pd.read_parquet(path) for path in sorted(scan.parts.glob("*.parquet")))
    its = pd.concat(pd.read_parquet(path) for path in sorted((moved / "points").glob("*.parquet")))
    better = mine.CLs_exp_0.to_numpy() <= its.CLs_exp_0.to_numpy()
    assert 0 < better.sum() < 10
    assert found.region.tolist() == ["SR" if item else "B" for item in better]
    assert found.name.tolist() == NAMES


def test_a_damaged_part_is_not_collected(scan):
    scan.run()
    path = scan.parts / "part-000002.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match="missing, damaged") as caught:
        collect([scan.manifest], scan.labels, scan.folder / "points.parquet", 0.95)
    assert path.name in str(caught.value)
    assert not (scan.folder / "points.parquet").exists()
