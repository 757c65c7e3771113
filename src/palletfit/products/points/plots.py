"""Plots of the excluded fraction of a scan's points."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from palletfit.config import Analysis, Plane
from palletfit.planes.contour import exclusion
from palletfit.planes.plots import draw_exclusion
from palletfit.planes.style import COLOURS, STYLE, new_figure, save, title_lines
from palletfit.products.points.fractions import Fraction, excluded_fraction, few_points
from palletfit.runs.product import Drawing

#: Lightness grows with the fraction, in print in grey and for the colour-blind, too.
COLOUR_MAP = "viridis"


def write_plane(drawing: Drawing) -> None:
    """Write the plot of a plane: a contour between few points, fractions in bins of many."""
    analysis, settings = drawing.analysis, drawing.settings.contour
    plane, table = analysis.plane_of_suffix(drawing.subject), drawing.inputs["table"]
    points = few_points(table, analysis, plane)
    if points is not None:
        figure = draw_exclusion(exclusion(points, plane, settings, {}), analysis, plane)
    else:
        fraction = excluded_fraction(table, analysis, plane, settings.confidence_level)
        figure = draw_fraction(fraction, analysis, plane)
    save(figure, [*drawing.files["png"], *drawing.files["pdf"]])


def draw_fraction(fraction: Fraction, analysis: Analysis, plane: Plane) -> Figure:
    """Draw the fraction of points that the data exclude, and where one half is expected.

    The fraction of blinded data is the expected one.

    Parameters
    ----------
    fraction
        Fractions in the bins of the plane.
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
        kind = "expected" if analysis.blinded else "observed"
        shown = np.ma.masked_invalid(fraction.of(kind))
        mesh = axes.pcolormesh(
            fraction.x, fraction.y, shown.T, cmap=COLOUR_MAP, vmin=0.0, vmax=1.0, rasterized=True
        )
        scale = figure.colorbar(mesh, ax=axes)
        words = "fraction excluded as expected" if analysis.blinded else "fraction excluded"
        scale.set_label(f"{words} at {100 * fraction.confidence_level:g}% CL", loc="top")
        _outline(axes, fraction)
        axes.set_xlabel(plane.x_title, loc="right", fontsize=13)
        axes.set_ylabel(plane.y_title, loc="top", fontsize=13)
        count = int(fraction.points.sum())
        summary = f"{count:,} points".replace(",", "\u2009")
        if fraction.failed:
            summary += f", {fraction.failed} more failed"
        lines = [*title_lines(analysis), summary]
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


def _outline(axes: Axes, fraction: Fraction) -> None:
    """Draw lines around the bins in which the expectation excludes half of the points."""
    inside = np.nan_to_num(fraction.of("expected")) >= 0.5
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
        axes.vlines(fraction.x[columns], fraction.y[rows], fraction.y[rows + 1], **style)
    columns, rows = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    for style in (line, dashes):
        axes.hlines(fraction.y[rows], fraction.x[columns], fraction.x[columns + 1], **style)
