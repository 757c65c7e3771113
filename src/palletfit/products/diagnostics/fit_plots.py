"""Plots of one fit: its parameters, and its goodness on the distributions of toys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from palletfit.planes.style import COLOURS, STYLE, Entry, new_figure, write_legend
from palletfit.products.diagnostics.plots import shorten

if TYPE_CHECKING:
    from palletfit.engine.goodness import GoodnessOfFit
    from palletfit.engine.records import BestFit

#: Bins of the distribution of toys.
_BINS = 40


def draw_goodness(result: GoodnessOfFit, title: str) -> Figure:
    """Draw the statistic of a goodness of fit on its distributions.

    Parameters
    ----------
    result
        Goodness of fit, with or without toys.
    title
        Name of the fit, with formulas of matplotlib.
    """
    from scipy.stats import chi2

    toys = result.toys
    statistics = np.zeros(0) if toys is None else toys.statistics
    highest = max(result.statistic * 1.15, *statistics, 3.0 * max(result.degrees, 1))
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 5.0)
        axes = figure.add_subplot()
        entries: list[Entry] = []
        if toys is not None and toys.p_value is not None:
            counts, edges = np.histogram(statistics, bins=_BINS, range=(0.0, highest))
            density = counts / (len(statistics) * np.diff(edges))
            colour = COLOURS["published"]
            axes.stairs(density, edges, fill=True, facecolor=colour, alpha=0.25)
            words = f"{len(statistics)} toys: p = {toys.p_value:.3g}"
            entries.append((Patch(facecolor=colour, alpha=0.25), words))
        if result.p_value is not None:
            values = np.linspace(0.0, highest, 400)[1:]
            axes.plot(values, chi2.pdf(values, result.degrees), color=COLOURS["signal"])
            words = rf"$\chi^2$, {result.degrees} degrees of freedom: p = {result.p_value:.3g}"
            entries.append((Line2D([], [], color=COLOURS["signal"]), words))
        axes.axvline(result.statistic, color="black", linewidth=1.6)
        observed = Line2D([], [], color="black", linewidth=1.6)
        entries.append((observed, f"Observed: {result.statistic:.4g}"))
        axes.set_xlim(0.0, highest)
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("Statistic of the saturated model", loc="right", fontsize=13)
        axes.set_ylabel("Probability density", loc="top", fontsize=13)
        write_legend(figure, [title], entries)
        figure.canvas.draw()
    return figure


def draw_parameters(fit: BestFit, title: str) -> Figure:
    """Draw the parameters of a fit with their uncertainties.

    Parameters
    ----------
    fit
        Best fit.
    title
        Name of the fit, with formulas of matplotlib.
    """
    names = list(fit.parameters)
    values = np.array([fit.parameters[name] for name in names])
    errors = np.array([fit.errors[name] for name in names])
    rows = np.arange(len(names))[::-1]
    marks: dict[str, Any] = {"fmt": "o", "color": "black", "markersize": 3.2, "linewidth": 1.1}
    with mpl.rc_context(STYLE):
        figure = new_figure(7.2, 1.6 + 0.19 * len(names))
        axes = figure.add_subplot()
        axes.errorbar(values, rows, xerr=errors, **marks)
        for value in (0.0, 1.0):
            axes.axvline(value, color="0.35", linestyle=":", linewidth=1.0, zorder=1)
        axes.set_ylim(-0.8, len(names) - 0.2)
        axes.set_yticks(rows, [shorten(name) for name in names], fontsize=8)
        axes.tick_params(axis="y", which="both", left=False, right=False)
        axes.set_xlabel("Best fit", loc="right")
        words = f"{title}\n2 NLL = {fit.twice_nll:.4f}"
        figure.suptitle(words, x=0.02, horizontalalignment="left", fontsize=10)
        figure.canvas.draw()
    return figure
