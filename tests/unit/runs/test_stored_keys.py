"""Keys of records that are stored somewhere: as long as they stay, nobody has to fit again.

``stored_keys.json`` holds 20 keys as version 0.1.0 wrote them, each with what it was made for. A
change of results is a new version of the engine or a product, and then a new file here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palletfit.config import Settings
from palletfit.engine.versions import VERSIONS
from palletfit.pallet.demo import electroweak, hadronic
from palletfit.pallet.patches import Patch, json_digest
from palletfit.pallet.patchset import parse_patchset
from palletfit.products.points.parts import content_digest
from palletfit.products.points.product import Points
from palletfit.products.toys.shards import shard
from palletfit.runs.registry import product_of
from palletfit.runs.store import Key, RecordStore, settings_of_key

CASES = json.loads((Path(__file__).parent / "stored_keys.json").read_text())


def _key(
    case: dict[str, Any], workspace_digest: str, patches: dict[str, Patch], settings: Settings
) -> tuple[Key, str | None]:
    """Make the key of a record, and the name of its file, as the workflow makes them."""
    engine = VERSIONS[settings.fit.engine]
    if case["product"] == "points":
        content = content_digest([patches[name] for name in case["points"]])
        plain = settings_of_key(settings.fit)
        return Key(workspace_digest, content, plain, engine, Points()), None
    patch = patches[case["patch"]]
    if "toys" in case:
        patch = shard(patch, *case["toys"])
    product = product_of(case["product"], settings)
    key = Key.of(workspace_digest, patch, settings.fit, engine, product)
    return key, str(RecordStore(Path(product.folder())).path(patch.name))


@pytest.fixture(scope="module")
def pallets():
    """Digest of the workspace and patches by name of the two pallets of the demo."""
    contents = {}
    for name, make_workspace, make_patchset in (
        ("demo", electroweak.demo_workspace, electroweak.demo_patchset),
        ("demo-hadronic", hadronic.hadronic_workspace, hadronic.hadronic_patchset),
    ):
        workspace = make_workspace()
        patchset = parse_patchset(make_patchset(workspace), Path(name))
        contents[name] = json_digest(workspace), {patch.name: patch for patch in patchset.patches}
    return contents


def test_all_products_are_among_the_stored_keys():
    assert len({case["key"]["digest"] for case in CASES}) == 20
    products = {"hypotest", "limits", "mu_scan", "diagnostics", "toys", "points"}
    assert {case["product"] for case in CASES} == products


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"]["digest"][:10])
def test_stored_records_are_found_again(case, pallets):
    settings = Settings.model_validate(case["configuration"])
    key, record = _key(case, *pallets[case["pallet"]], settings)
    assert key.as_json() == case["key"]
    assert key.digest == case["key"]["digest"]
    assert record == case.get("record")
