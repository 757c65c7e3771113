"""Plots for paper and slides, a module for each kind."""

from palletfit.plots.exclusion import draw_exclusion
from palletfit.plots.style import COLOURS, save

__all__ = ["COLOURS", "draw_exclusion", "save"]
