"""Plots of the excluded fraction of a scan's points."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from palletfit.config import Analysis, Plane
from palletfit.planes.style import COLOURS, STYLE, new_figure, save
from palletfit.products.points.fractions import Fraction, excluded_fraction
from palletfit.runs.product import Drawing

#: Lightness grows with the fraction, in print in grey and for the colour-blind, too.
COLOUR_MAP = "viridis"


def write_plane(drawing: Drawing) -> None:
    """Write the plot of a plane."""
    analysis, level = drawing.analysis, drawing.settings.contour.confidence_level
    plane = analysis.plane_of_suffix(drawing.subject)
    fraction = excluded_fraction(drawing.inputs["table"], analysis, plane, level)
    save(draw_fraction(fraction, analysis, plane), [*drawing.files["png"], *drawing.files["pdf"]])


def draw_fraction(found: Fraction, analysis: Analysis, plane: Plane) -> Figure:
    """Draw which fraction of points the data exclude, and where half of them are expected to be.

    Parameters
    ----------
    found
        What is drawn.
    analysis, plane
        Give the titles.

    Returns
    -------
    matplotlib.figure.Figure
        With the axes first, and the scale of colours.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(7.4, 6.6)
        axes = figure.add_subplot()
        observed = np.ma.masked_invalid(found.of("observed"))
        mesh = axes.pcolormesh(
            found.x, found.y, observed.T, cmap=COLOUR_MAP, vmin=0.0, vmax=1.0, rasterized=True
        )
        scale = figure.colorbar(mesh, ax=axes)
        scale.set_label(f"fraction excluded at {100 * found.confidence_level:g}% CL", loc="top")
        _outline(axes, found)
        axes.set_xlabel(plane.x_title, loc="right", fontsize=13)
        axes.set_ylabel(plane.y_title, loc="top", fontsize=13)
        count = int(found.points.sum())
        said = f"{count:,} points".replace(",", "\u2009")
        if found.failed:
            said += f", {found.failed} more failed"
        lines = [*(part.strip() for part in analysis.title.split(";")), said]
        handle = Line2D([], [], color=COLOURS["expected"], linestyle="--")
        figure.legend(
            [handle],
            ["half of the points excluded, median expectation"],
            title="\n".join(lines if plane.title is None else [*lines, plane.title]),
            title_fontsize=11,
            alignment="left",
            loc="outside upper left",
            frameon=False,
            fontsize=10,
            borderaxespad=0.2,
        )
        figure.canvas.draw()
    return figure


def _outline(axes: Axes, found: Fraction) -> None:
    """Lines between bins in which the expectation excludes half of the points, and others."""
    inside = np.nan_to_num(found.of("expected")) >= 0.5
    padded = np.pad(inside, 1)
    line: dict[str, Any] = {"color": "white", "linewidth": 3.0, "zorder": 3}
    dashes: dict[str, Any] = {
        "color": COLOURS["expected"],
        "linewidth": 1.4,
        "linestyle": "--",
        "zorder": 4,
    }
    columns, rows = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    for style in (line, dashes):
        axes.vlines(found.x[columns], found.y[rows], found.y[rows + 1], **style)
    columns, rows = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    for style in (line, dashes):
        axes.hlines(found.y[rows], found.x[columns], found.x[columns + 1], **style)
