"""Why records are made again is said, by what of their keys differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palletfit.config import FitSettings, Settings
from palletfit.pallet.patches import Patch
from palletfit.products.hypotest import Hypotest
from palletfit.products.limits import Limits
from palletfit.runs.again import reasons
from palletfit.runs.store import Key, RecordStore

PATCHES = [Patch(name, (1, 2), []) for name in ("p", "q", "r")]


def keys(product=None, **changes) -> dict[str, Key]:
    product = product or Hypotest.of(Settings())
    made = {p.name: Key.of("w", p, FitSettings(), "batched-6", product) for p in PATCHES}
    return {name: replace(key, **changes) for name, key in made.items()}


def write(store: RecordStore, of: dict[str, Key], status: str = "ok") -> None:
    for name, key in of.items():
        store.write(name, {"patch": name, "key": key.as_json(), "status": status})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"engine": "batched-3"}, "of engine batched-3"),
        ({"workspace": "v"}, "of another background"),
        ({"patch": "v"}, "of a patch that has changed"),
        ({"settings": {}}, "of other settings (fit.backend, "),
        (
            {"settings": FitSettings(mu=2.0).model_dump(mode="json", exclude={"minimum"})},
            "of other settings (fit.mu)",
        ),
    ],
)
def test_a_change_is_named(tmp_path, changes, reason):
    store = RecordStore(tmp_path)
    write(store, keys(**changes))
    (phrase,) = reasons(store, PATCHES, keys())
    assert phrase.startswith(f"3 records are {reason}")


def test_of_a_product_settings_and_versions_are_named(tmp_path):
    store = RecordStore(tmp_path)
    write(store, keys(Limits.of(Settings())))
    other = Limits.of(Settings.model_validate({"limits": {"tolerance": 0.01}}))
    (phrase,) = reasons(store, PATCHES, keys(other))
    assert phrase == "3 records are of other settings (limits.tolerance)"


def test_each_reason_is_counted_and_new_patches_have_none(tmp_path):
    store = RecordStore(tmp_path)
    write(store, {"p": keys()["p"]}, status="failed")
    store.path("q").write_text("{")
    assert sorted(reasons(store, PATCHES, keys())) == [
        "1 record is damaged",
        "1 record is of a fit that failed",
    ]
    assert reasons(RecordStore(tmp_path / "new"), PATCHES, keys()) == []
