"""Derivatives of points: a column of their table, which can be read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palletfit.config import FitSettings
from palletfit.engine.choose import make_engine
from palletfit.products.points import collect
from palletfit.products.points.compute import compute

from ...scans import LABELS, NAMES, Scan, analysis, by_function, patches

#: Three points, the second without any effect.
POINTS = """
def points(first, stop):
    yields = [[5.0, 3.0], [0.0, 0.0], [1.0, 2.0]]
    for number in range(first, stop):
        yield f"p{number}", {"mass": number, "kind": "wino"}, {"SR": yields[number]}
"""


@pytest.mark.parametrize("nlls", [True, pytest.param(False, marks=pytest.mark.study)])
def test_points_have_a_column_of_derivatives(scan: Scan, tmp_path: Path, *, nlls: bool) -> None:
    by_function(scan, POINTS, count=3, nlls=nlls)
    scan.run()
    scan.settings["fit"] = {"derivatives": True}
    assert scan.run() == NAMES[:3]
    assert scan.run() == []
    path = tmp_path / "points.parquet"
    collect.collect([scan.manifest], LABELS, path, 0.95)
    table = pd.read_parquet(path)
    first, second, _ = (json.loads(text)["SR"]["signal"] for text in table["derivatives"])
    engine = make_engine(scan.background, FitSettings())
    patch = patches(scan.scan().source)[0]
    step = 0.01
    cls = []
    for change in (step, -step):
        plain = json.loads(json.dumps(patch.operations))
        plain[0]["value"]["data"][0] += change
        ((_, changed),) = compute(engine, [type(patch)(patch.name, (), plain)], {})
        cls.append(changed["CLs_obs"])
    assert first["CLs_obs"][0] == pytest.approx((cls[0] - cls[1]) / (2 * step), rel=1e-3)
    assert np.shape(first["CLs_exp"]) == (5, 2)
    assert second["CLs_obs"] == [None, None]
    assert "no sensitivity" in table["reason"][1]


def test_no_label_has_the_name_of_the_column() -> None:
    with pytest.raises(ValueError, match="as derivatives is"):
        analysis({"table": "points.csv"}, labels=["derivatives"])
