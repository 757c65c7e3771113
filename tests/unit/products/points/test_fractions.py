"""Excluded fractions: counted in bins, and drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from palletfit.config import Settings
from palletfit.errors import ConfigError
from palletfit.planes.colours import COLOURS
from palletfit.products.points import plots
from palletfit.products.points.fractions import excluded_fraction, few_points
from palletfit.products.points.plots import draw_fraction
from palletfit.runs.product import Drawing
from palletfit.runs.results import EXPECTED_COLUMNS

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


def scan_of(tmp_path, mass, kind):
    """A table of points that are excluded where the mass is below 2."""
    plane = {"x": "mass", "y": "kind", "x_title": "x", "y_title": "y"}
    table = tmp_path / "points.parquet"
    score = np.asarray(mass) - 2.0
    content = {
        "name": [f"p{n}" for n in range(len(mass))],
        "mass": mass,
        "kind": kind,
        "region": "A",
        "status": "ok",
        "CLs_obs": norm.sf(norm.isf(0.05) - score),
    }
    for name, shift in zip(EXPECTED_COLUMNS, (-1, -0.5, 0, 0.5, 1), strict=True):
        content[name] = norm.sf(norm.isf(0.05) - score - shift)
    pd.DataFrame(content).to_parquet(table)
    return table, scans.analysis({"table": "t.csv", "plot_bins": 2}, planes={"p": plane})


def test_few_points_have_a_contour(tmp_path):
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(5.0), np.arange(4.0)))
    table, made = scan_of(tmp_path, x, y)
    drawing = Drawing(
        made,
        Settings(),
        {"png": [tmp_path / "plot.png"], "pdf": []},
        "",
        {"table": table},
    )
    drawn = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "save", lambda figure, paths: drawn.append((figure, paths)))
        plots.write_plane(drawing)
    ((figure, paths),) = drawn
    assert paths == [tmp_path / "plot.png"]
    (legend,) = figure.legends
    assert "Observed limit" in [text.get_text() for text in legend.get_texts()]
    lines = [line for line in figure.axes[0].lines if line.get_color() == COLOURS["observed"]]
    np.testing.assert_allclose(np.concatenate([line.get_xdata() for line in lines]), 2.0, atol=0.02)


def test_many_points_or_two_at_one_place_have_no_contour(tmp_path, monkeypatch):
    table, made = scan_of(tmp_path, [0.0, 1.0, 1.0, 3.0], [0.0, 1.0, 1.0, 0.0])
    assert few_points(table, made, made.planes["p"]) is None
    table, made = scan_of(tmp_path, [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 1.0, 0.0])
    assert len(few_points(table, made, made.planes["p"])) == 4
    monkeypatch.setattr("palletfit.products.points.fractions.FEW", 3)
    assert few_points(table, made, made.planes["p"]) is None
