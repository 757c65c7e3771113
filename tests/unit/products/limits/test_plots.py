"""Plots of upper limits: numbers keep clear of what is drawn."""

import numpy as np
import pandas as pd

from palletfit.config import Analysis, ContourSettings
from palletfit.products.limits.planes import limit_contours
from palletfit.products.limits.plots import draw_limits
from palletfit.products.limits.table import SIGMAS

ANALYSIS = Analysis.model_validate(
    {
        "name": "toy",
        "title": "a search",
        "pallet": {"builtin": "demo"},
        "regions": {"A": {"workspace": "b.json", "patchset": "p.json"}},
        "labels": ["m1", "m2"],
        "planes": {
            "masses": {
                "x": "m1",
                "y": "m2",
                "x_title": "m1",
                "y_title": "m2",
                "forbidden": {"y_above": "x - 100", "label": "not possible"},
            }
        },
    }
)
PLANE = ANALYSIS.planes["masses"]


def limits() -> pd.DataFrame:
    """Limits that are one where m1 is 490; points lie on the axis and beside the border."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(110, 810, 8), [0.0, 150.0, 300.0]))
    allowed = y < x - 100
    x, y = x[allowed], y[allowed]
    mu = np.exp((x - 490) / 200)
    factors = dict(zip(SIGMAS, (0.5, 0.7, 1.0, 1.4, 2.0), strict=True))
    columns = {f"mu_exp_{name}": mu * factor for name, factor in factors.items()}
    states = {f"state_exp_{name}": "found" for name in SIGMAS}
    names = [f"signal_{a:g}_{b:g}" for a, b in zip(x, y, strict=True)]
    base = {"patch": names, "m1": x, "m2": y, "region": "A", "status": "ok", "mu_obs": mu}
    return pd.DataFrame({**base, "state_obs": "found", "mu_max": 10.0, **columns, **states})


def test_numbers_keep_clear_of_axes_curves_and_the_forbidden_part():
    table = limits()
    contours = limit_contours(table, PLANE, ContourSettings(grid=60, bands=[1]), {})
    figure = draw_limits(contours, ANALYSIS, PLANE)
    axes = figure.axes[0]
    numbers = [text for text in axes.texts if text.get_text().replace(".", "").isdigit()]
    assert len(numbers) == len(table)
    boxes = np.array([text.get_window_extent().get_points() for text in numbers])
    frame = axes.get_window_extent().get_points()
    ticks = 6 * figure.dpi / 72
    assert (boxes[:, 0] > frame[0] + ticks).all()
    assert (boxes[:, 1] < frame[1] - ticks).all()
    corner = axes.transData.inverted().transform(np.column_stack([boxes[:, 0, 0], boxes[:, 1, 1]]))
    assert (corner[:, 1] < corner[:, 0] - 100).all()
    (line,) = contours.curves["observed"].lines
    curve = axes.transData.transform(line.vertices)
    for low, high in boxes:
        inside = ((curve > low) & (curve < high)).all(axis=1)
        assert not inside.any()
