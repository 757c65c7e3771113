"""Records of regions, by their manifests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palletfit.errors import StoreError
from palletfit.products.hypotest import Hypotest
from palletfit.runs.results import RegionResults
from palletfit.runs.store import RecordStore

LABELS = ["m1", "m2"]


def fitted(values, expected, observed=0.3, *, status="ok", remarks=(), **more):
    trusted = {"trusted": status == "ok", "reason": "edm of 1 is above 1e-5"}
    return {
        "patch": "signal",
        "values": dict(zip(LABELS, values, strict=True)),
        "key": {"digest": "k"},
        "status": status,
        "CLs_obs": observed,
        "CLs_exp": [expected * f for f in (0.1, 0.4, 1.0, 1.7, 2.3)],
        "CLsb_obs": 0.1,
        "CLb_obs": 0.5,
        "mu_hat": 0.25,
        "fit_time": 1.5,
        "fits": {"free": trusted, "fixed": {"trusted": True, "reason": "fine"}},
        "remarks": list(remarks),
        **more,
    }


@pytest.fixture
def region(tmp_path) -> Path:
    """A manifest with the records of two patches."""
    store = RecordStore(tmp_path / "SR" / "fits")
    for name in ("a/b", "c"):
        store.write(name, {**fitted((1, 2), 0.1), "patch": name})
    path = tmp_path / "SR" / "hypotest.json"
    path.write_text(json.dumps({"patches": {name: {"key": "k"} for name in ("a/b", "c")}}))
    return path


def test_records_are_read_by_their_manifest(region):
    found = RegionResults.read(region, Hypotest)
    assert found.name == "SR"
    assert list(found.records) == ["a/b", "c"]
    assert found.records["c"]["CLs_obs"] == 0.3


@pytest.mark.parametrize("damage", ["lost", "cut", "another"])
def test_a_damaged_record_is_named(region, damage):
    store = RecordStore(region.parent / "fits")
    path = store.path("a/b")
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        store.write("a/b", {**fitted((1, 2), 0.1), "patch": "a/b", "key": {"digest": "other"}})
    with pytest.raises(StoreError, match="missing or damaged") as error:
        RegionResults.read(region, Hypotest)
    assert error.value.patch == "a/b"
    assert error.value.file == str(path)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(StoreError, match="A file of this run is missing"):
        RegionResults.read(tmp_path / "hypotest.json", Hypotest)
