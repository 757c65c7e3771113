"""Parts of a scan say what they are of."""

from __future__ import annotations

import json

import pyarrow.parquet as pq

from palletfit.products.points import parts


def test_parts_say_what_they_are_of(scan):
    scan.run()
    said = json.loads(pq.read_metadata(scan.parts / "part-000000.parquet").metadata[parts.METADATA])
    assert said["key"]["engine"].startswith("batched")
    assert said["key"]["settings"]["mu"] == 1.0
    assert said["key"]["product"]["name"] == "points"
    assert len(said["key"]["workspace"]) == 64
