"""Scans whose points are tested from a few of them: equal results, and keys of their own."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from palletfit.errors import ConfigError
from palletfit.products.points import references

from ...scans import NAMES

COLUMNS = ["CLs_obs", "CLs_exp_0", "mu_hat"]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Learn from four points."""
    monkeypatch.setattr(references, "SAMPLE", 4)


def results(scan, chunk=4):
    """Run with one search; the table of results."""
    scan.settings["points"] = {"chunk": chunk, "search": "once"}
    scan.run()
    return table(scan)


def table(scan):
    return pd.concat([pd.read_parquet(path) for path in sorted(scan.parts.glob("*.parquet"))])


def test_results_are_those_of_full_searches(scan):
    scan.run()
    full = table(scan)
    once = results(scan)
    np.testing.assert_allclose(once[COLUMNS], full[COLUMNS], atol=1e-6)
    assert set(once.status) == {"ok"}
    manifest = json.loads(scan.manifest.read_bytes())
    assert manifest["disagreed"] == 0
    assert manifest["searched_in_full"] < 10
    # The parts of full searches come back.
    scan.settings["points"] = {"chunk": 4}
    assert scan.run() == []
    pd.testing.assert_frame_equal(table(scan), full)


def test_results_do_not_depend_on_chunks(scan):
    by_four, by_three = results(scan), results(scan, 3)
    np.testing.assert_allclose(by_four[COLUMNS], by_three[COLUMNS], atol=1e-12, rtol=0)
    assert by_four.reason.tolist() == by_three.reason.tolist()


def test_a_second_run_neither_learns_nor_fits(scan, monkeypatch):
    results(scan)
    monkeypatch.setattr(references, "_choose", None)
    assert scan.run() == []


def test_a_run_that_lost_a_part_gets_the_same(scan):
    before = results(scan)
    (scan.parts / "part-000001.parquet").unlink()
    after = results(scan)
    np.testing.assert_allclose(after[COLUMNS], before[COLUMNS], atol=1e-12, rtol=0)
    assert sorted(set(scan.executor.names)) == NAMES[4:8]


def test_damaged_references_are_chosen_again(scan):
    results(scan)
    (scan.parts / references.FILE).write_text("{")
    assert scan.run() == []  # the same ones


@pytest.mark.parametrize("damage", [{"references": {}}, {"references": None}, {"members": []}])
def test_references_that_were_changed_are_chosen_again(scan, damage):
    results(scan)
    path = scan.parts / references.FILE
    before = path.read_bytes()
    content = json.loads(before)
    content["references"] |= damage
    path.write_text(json.dumps(content if "members" in damage else {**content, **damage}))
    assert scan.run() == []
    assert path.read_bytes() == before


def test_references_that_fill_a_task_are_refused(scan):
    scan.executor.largest_task = 1000
    with pytest.raises(ConfigError, match="references of scan/SR, which go with each task"):
        results(scan)


@pytest.mark.parametrize("fit", [{"engine": "reference"}, {"minimum": "nearest"}])
def test_settings_without_references_are_refused(scan, fit):
    scan.settings["fit"] = fit
    with pytest.raises(ConfigError, match=r"engine|minimum"):
        results(scan)


def test_the_sample_depends_on_the_number_of_points_only(monkeypatch):
    monkeypatch.setattr(references, "SAMPLE", 256)
    numbers = references.sample(100_000)
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 256
    assert references.sample(3) == [0, 1, 2]
