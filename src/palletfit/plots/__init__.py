"""Plots for paper and slides, a module for each kind."""

from palletfit.plots.diagnostics import (
    draw_correlations,
    draw_pulls,
    draw_ranking,
    draw_yields,
)
from palletfit.plots.exclusion import draw_exclusion
from palletfit.plots.style import COLOURS, save

__all__ = [
    "COLOURS",
    "draw_correlations",
    "draw_exclusion",
    "draw_pulls",
    "draw_ranking",
    "draw_yields",
    "save",
]
