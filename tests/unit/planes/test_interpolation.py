"""Interpolation of points from all others."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.interpolate import RBFInterpolator

from palletfit.config import ContourSettings
from palletfit.planes.interpolation import Geometry, predict


def test_all_points_at_once_are_interpolated_as_one_by_one():
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 1, (2, 80))
    x[1], y[1] = x[0] + 1e-4, y[0]  # two points of a scan that are nearly one
    geometry = Geometry.of(pd.DataFrame({"x": 1000 * x, "y": 30 * y}))
    values = np.column_stack([np.sin(4 * x) + y, rng.normal(size=80)])
    values[1] = values[0] + 1e-4
    inner, predicted = predict(geometry, values, ContourSettings(interpolation="rbf"))
    assert 60 < len(inner) < 80
    for index, prediction in zip(inner, predicted, strict=True):
        others = np.arange(80) != index
        spline = RBFInterpolator(
            geometry.scaled[others], values[others], kernel="thin_plate_spline"
        )
        np.testing.assert_allclose(prediction, spline(geometry.scaled[[index]])[0], atol=1e-8)
