"""Excluded fractions: counted in bins, and drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from palletfit.errors import ConfigError
from palletfit.products.points.fractions import excluded_fraction
from palletfit.products.points.plots import draw_fraction

from ... import scans


def test_the_excluded_fraction_is_counted_in_bins(tmp_path, monkeypatch):
    monkeypatch.setattr("palletfit.products.points.fractions._ROWS", 4)  # several pieces
    plane = {"x": "mass", "y": "10 * kind", "x_title": "x", "y_title": "y", "select": "mass < 9"}
    made = scans.analysis({"table": "t.csv", "plot_bins": 2}, planes={"p": plane})
    table = tmp_path / "points.parquet"
    content = {
        "mass": [0.0, 0.1, 8.0, 7.9, 8.0, 1.0, 9.0],
        "kind": [0.0, 0.0, 0.0, 1.0, 1.0, 0.9, 5.0],
        "CLs_obs": [0.01, 0.2, 0.01, 0.06, 0.04, None, 0.01],
        "CLs_exp_0": [0.2, 0.2, 0.01, 0.01, 0.01, None, 0.01],
    }
    pd.DataFrame(content).to_parquet(table)
    found = excluded_fraction(table, made, made.planes["p"], 0.95)
    assert found.x.tolist() == [0.0, 4.0, 8.0]
    assert found.y.tolist() == [0.0, 5.0, 10.0]
    np.testing.assert_array_equal(found.points, [[2, 0], [1, 2]])
    np.testing.assert_array_equal(found.of("observed"), [[0.5, np.nan], [1.0, 0.5]])
    np.testing.assert_array_equal(found.of("expected"), [[0.0, np.nan], [1.0, 1.0]])
    assert found.failed == 1
    figure = draw_fraction(found, made, made.planes["p"])
    (title,) = (legend.get_title().get_text() for legend in figure.legends)
    assert title == "scan\n5 points, 1 more failed"
    (mesh,) = (item for item in figure.axes[0].collections if item.get_array() is not None)
    np.testing.assert_array_equal(mesh.get_array().filled(-1), [[0.5, 1.0], [-1, 0.5]])


def test_a_plane_without_points_is_told(tmp_path):
    plane = {"x": "mass", "y": "mass", "x_title": "x", "y_title": "y", "select": "mass > 9"}
    made = scans.analysis({"table": "t.csv"}, planes={"p": plane})
    table = tmp_path / "points.parquet"
    content = {"mass": [1.0], "kind": [1.0], "CLs_obs": [0.1], "CLs_exp_0": [0.1]}
    pd.DataFrame(content).to_parquet(table)
    with pytest.raises(ConfigError, match="No point lies in the plane"):
        excluded_fraction(table, made, made.planes["p"], 0.95)
