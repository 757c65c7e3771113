"""Plots that only commands draw: bands of several signals, goodness of fit, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from palletfit.planes.style import COLOURS, STYLE, Entry, new_figure, write_legend
from palletfit.products.diagnostics.plots import shorten

if TYPE_CHECKING:
    from palletfit.engine.goodness import GoodnessOfFit
    from palletfit.engine.records import BestFit

#: Signals of one page.
_ROWS = 40
#: A logarithmic axis begins here, where values are smaller.
_SMALLEST = 1e-6
#: Bins of the distribution of toys.
_BINS = 40

Bands = Mapping[str, tuple[float | None, Sequence[float | None]]]


def draw_bands(
    results: Bands, title: str, axis: str, line: float | None, *, rows: int = _ROWS
) -> list[Figure]:
    """Draw observed values and expected bands of signals, one below the other.

    Parameters
    ----------
    results
        By name the observed value, and the five expected ones; None where there is none.
    title
        Title; semicolons part its lines.
    axis
        Title of the axis.
    line
        Value that is marked; None marks none.
    rows
        Signals of one page.
    """
    names = list(results)
    pages = [names[first : first + rows] for first in range(0, len(names), rows)]
    return [
        _page({name: results[name] for name in page}, title.split("; "), axis, line)
        for page in pages
    ]


def _page(results: Bands, lines: Sequence[str], axis: str, line: float | None) -> Figure:
    with mpl.rc_context(STYLE):
        figure = new_figure(7.4, 2.4 + 0.24 * len(results))
        axes = figure.add_subplot()
        axes.set_xscale("log")
        rows = np.arange(len(results))[::-1]
        for row, (observed, expected) in zip(rows, results.values(), strict=True):
            for width in (2, 1):
                low, high = expected[2 - width], expected[2 + width]
                if low is not None and high is not None:
                    low, high = sorted((max(low, _SMALLEST), max(high, _SMALLEST)))
                    box = Rectangle((low, row - 0.4), high - low, 0.8, lw=0)
                    box.set_facecolor(COLOURS[f"sigma{width}"])
                    axes.add_patch(box)
            for value, style in ((expected[2], "--"), (observed, "-")):
                if value is not None:
                    at = max(value, _SMALLEST)
                    axes.plot([at, at], [row - 0.4, row + 0.4], color="black", linestyle=style)
            if observed is not None:
                axes.plot([max(observed, _SMALLEST)], [row], "ko", markersize=3.5)
        entries: list[Entry] = [
            (Line2D([], [], color="black", marker="o", markersize=3.5), "Observed"),
            (Line2D([], [], color="black", linestyle="--"), "Expected (median)"),
            *(
                (Patch(facecolor=COLOURS[f"sigma{n}"]), rf"Expected $\pm{n}\,\sigma$")
                for n in (1, 2)
            ),
        ]
        if line is not None:
            axes.axvline(line, color=COLOURS["failed"], linewidth=1.2)
            entries.append((Line2D([], [], color=COLOURS["failed"]), f"{shorten(axis)} = {line:g}"))
        axes.set_ylim(-0.7, len(results) - 0.3)
        axes.set_yticks(rows, [shorten(name) for name in results], fontsize=8)
        axes.tick_params(axis="y", which="both", left=False, right=False)
        axes.set_xlabel(shorten(axis), loc="right", fontsize=13)
        axes.autoscale(axis="x")
        write_legend(figure, [shorten(text, 80) for text in lines], entries)
        figure.canvas.draw()
    return figure


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
