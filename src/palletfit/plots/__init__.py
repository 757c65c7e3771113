"""Plots for paper and slides, a module for each kind."""

from palletfit.plots.diagnostics import (
    draw_correlations,
    draw_diagnostics,
    draw_pulls,
    draw_ranking,
    draw_yields,
)
from palletfit.plots.exclusion import draw_exclusion
from palletfit.plots.limits import draw_limits, draw_slice
from palletfit.plots.mu_scan import draw_mu_scan
from palletfit.plots.scaling import draw_times
from palletfit.plots.style import COLOURS, save, save_pages, save_thumbnail
from palletfit.plots.toys import draw_toys

__all__ = [
    "COLOURS",
    "draw_correlations",
    "draw_diagnostics",
    "draw_exclusion",
    "draw_limits",
    "draw_mu_scan",
    "draw_pulls",
    "draw_ranking",
    "draw_slice",
    "draw_times",
    "draw_toys",
    "draw_yields",
    "save",
    "save_pages",
    "save_thumbnail",
]
