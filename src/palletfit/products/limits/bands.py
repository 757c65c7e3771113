"""Plot of observed values and expected bands, by the names of signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from palletfit.planes.style import COLOURS, STYLE, Entry, new_figure, write_legend
from palletfit.products.diagnostics.plots import shorten

#: Signals of one page.
_ROWS = 40
#: A logarithmic axis begins here, where values are smaller.
_SMALLEST = 1e-6

Bands = Mapping[str, tuple[float | None, Sequence[float | None]]]


def draw_bands(
    results: Bands,
    title: str | Sequence[str],
    axis: str,
    line: float | None,
    *,
    rows: int = _ROWS,
) -> list[Figure]:
    """Draw observed values and expected bands of signals, one below the other.

    Parameters
    ----------
    results
        By name the observed value, and the five expected ones; None where there is none.
    title
        Title; semicolons part its lines. A list has lines with formulas of matplotlib.
    axis
        Title of the axis.
    line
        Value that is marked; None marks none.
    rows
        Signals of one page.
    """
    if isinstance(title, str):
        title = [shorten(text, 80) for text in title.split("; ")]
    names = list(results)
    pages = [names[first : first + rows] for first in range(0, len(names), rows)]
    return [_page({name: results[name] for name in page}, title, axis, line) for page in pages]


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
            if observed is None and expected[2] is None:
                beside = axes.get_yaxis_transform()
                axes.text(0.01, row, "no value", va="center", fontsize=8, transform=beside)
            if observed is not None:
                axes.plot([max(observed, _SMALLEST)], [row], "ko", markersize=3.5)
        entries: list[Entry] = [
            *(
                [(Line2D([], [], color="black", marker="o", markersize=3.5), "Observed")]
                if any(observed is not None for observed, _ in results.values())
                else []
            ),
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
        write_legend(figure, lines, entries)
        figure.canvas.draw()
    return figure
