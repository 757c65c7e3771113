"""Summaries of points: those of both engines are alike."""

from __future__ import annotations

import pytest

from palletfit.config import FitSettings
from palletfit.engine.choose import make_engine
from palletfit.products.points import compute as summaries

from ...scans import patches


def test_both_engines_summarise_alike(scan):
    some = patches(scan.scan().source)[:2]
    found = {}
    for engine in ("batched", "reference"):
        made = make_engine(scan.background, FitSettings(engine=engine))
        found[engine] = {patch.name: item for patch, item in summaries.compute(made, some, {})}
    for name, item in found["batched"].items():
        other = found["reference"][name]
        assert other["CLs_obs"] == pytest.approx(item["CLs_obs"], abs=1e-5)
        assert (item["engine"], other["engine"]) == ("batched", "reference")
        assert set(item) == set(other)
