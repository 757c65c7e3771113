"""Plots of exclusion contours, for paper and slides."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from palletfit.config import Analysis, Plane
from palletfit.core.arrays import FloatArray
from palletfit.planes.contour import (
    ON_NO_POINT,
    ON_ONE_POINT,
    UNTESTED,
    Curve,
    Exclusion,
    curve_label,
)
from palletfit.planes.style import COLOURS, STYLE, Entry, new_figure, title_lines, write_legend
from palletfit.planes.view import marker_scale, view

PUBLISHED_LINES = {"observed": "-", "expected": (0, (6, 2, 1, 2))}
#: Line style of islands around no point.
ISLANDS = (0, (1, 1.2))
OTHER_LINES = {"observed": "-", "expected": "--"}
#: Largest number of points with which CLs is written next to each.
FEW_POINTS = 12


def draw_exclusion(
    exclusion: Exclusion, analysis: Analysis, plane: Plane, *, show_cls: bool | None = None
) -> Figure:
    """Draw the exclusion contours of one plane.

    Parameters
    ----------
    exclusion
        Contours and points.
    analysis
        Source of the title.
    plane
        Titles of the axes and label of the forbidden part.
    show_cls
        Whether to write the observed CLs next to the points, or the expected one of blinded
        points; None: only if there are few.

    Returns
    -------
    matplotlib.figure.Figure
        A figure with one pair of axes, and the title and legend above them.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 6.6)
        axes = figure.add_subplot()
        set_view(axes, exclusion)
        entries = [
            *_draw_curves(axes, exclusion),
            *draw_other(axes, exclusion),
            *draw_published(axes, exclusion),
            *draw_points(axes, exclusion),
            *draw_support(axes, exclusion),
        ]
        draw_forbidden(axes, exclusion, plane)
        if len(exclusion.points) <= FEW_POINTS if show_cls is None else show_cls:
            _write_cls(axes, exclusion)
        axes.set_xlabel(plane.x_title, loc="right", fontsize=13)
        axes.set_ylabel(plane.y_title, loc="top", fontsize=13)
        write_titles(figure, exclusion, analysis, plane, entries)
        # The layout is computed now, so that callers find every artist at its position.
        figure.canvas.draw()
    return figure


def set_view(axes: Axes, exclusion: Exclusion) -> None:
    """Set the ranges of the axes to show all points and published curves."""
    points = exclusion.points[["x", "y"]].to_numpy(dtype=np.float64)
    segments = [segment for curve in exclusion.published.values() for segment in curve]
    shown = np.concatenate([points, *segments])
    if not len(shown):
        return
    lower, upper = view(shown)
    axes.set_xlim(lower[0], upper[0])
    axes.set_ylim(lower[1], upper[1])


def _draw_curves(axes: Axes, exclusion: Exclusion) -> list[Entry]:
    bands: list[Artist] = []
    widths = [width for width in (2, 1) if f"expected_plus{width}" in exclusion.curves]
    for width in widths:
        colour = COLOURS[f"band{width}"]
        field = exclusion.band(width)
        if field is not None and np.nanmin(field, initial=0.0) < 0:
            _fill(axes, exclusion, field, colour)
        # The legend shows the bands as thick lines over each other.
        bands.append(Line2D([], [], color=colour, linewidth=6.5 * width, solid_capstyle="butt"))
    expected = exclusion.curves["expected"]
    dashed = draw_curve(axes, expected, color=COLOURS["expected"], linestyle="--", linewidth=1.6)
    sigma = ", ".join(rf"$\pm{width}$" for width in reversed(widths))
    band = rf" ({sigma} $\sigma_{{\mathrm{{exp}}}}$)" if widths else ""
    entries: list[Entry] = [((*bands, dashed), curve_label(f"Expected limit{band}", expected))]
    if not exclusion.blinded:
        observed = exclusion.curves["observed"]
        solid = draw_curve(axes, observed, color=COLOURS["observed"], linestyle="-", linewidth=2.2)
        entries.insert(0, (solid, curve_label("Observed limit", observed)))
    return entries


def draw_other(axes: Axes, exclusion: Exclusion) -> list[Entry]:
    """Draw the contours with another minimum of the likelihood, if there are some."""
    other = exclusion.other
    if other is None:
        return []
    entries: list[Entry] = []
    for name, linestyle in OTHER_LINES.items():
        if name not in other.curves:
            continue
        handle = draw_curve(
            axes, other.curves[name], color=COLOURS["other"], linestyle=linestyle, linewidth=1.0
        )
        entries.append((handle, curve_label(other.label(name), other.curves[name])))
    return entries


def _fill(axes: Axes, exclusion: Exclusion, field: FloatArray, colour: str) -> None:
    # Corners of cells at the border of the points are filled, too (corner_mask).
    axes.contourf(
        exclusion.grid_x,
        exclusion.grid_y,
        np.ma.masked_invalid(field),
        levels=[np.nanmin(field) - 1.0, 0.0],
        colors=[colour],
        corner_mask=True,
        zorder=1,
    )


def draw_curve(axes: Axes, curve: Curve, **style: Any) -> Line2D:
    """Draw all pieces of a curve, and return a handle for the legend."""
    for line in curve.lines:
        drawn = {**style, "linestyle": ISLANDS} if line.is_empty else style
        axes.plot(*line.vertices.T, zorder=4, solid_joinstyle="round", **drawn)
    return Line2D([], [], **style)


def draw_published(axes: Axes, exclusion: Exclusion) -> list[Entry]:
    """Draw the published contours."""
    entries: list[Entry] = []
    for name, segments in exclusion.published.items():
        style: dict[str, Any] = {
            "color": COLOURS["published"],
            "linestyle": PUBLISHED_LINES[name],
            "linewidth": 1.0,
        }
        for segment in segments:
            axes.plot(*segment.T, zorder=5, **style)
        entries.append((Line2D([], [], **style), f"Published {name} limit"))
    empty = Line2D([], [], linestyle="none")
    left_out = [(empty, f"Published {name} limit: left out") for name in exclusion.left_out]
    return [*entries, *left_out]


def draw_points(axes: Axes, exclusion: Exclusion) -> list[Entry]:
    """Draw the signal points, with one marker for each status."""
    lost_near = len(exclusion.failed_near_contour)
    size = 3.5 * marker_scale(len(exclusion.points))
    near = f", {lost_near} next to the contour" if lost_near else ""
    styles: dict[str, tuple[str, dict[str, Any]]] = {
        "ok": ("Signal points", {"marker": ".", "color": COLOURS["points"], "markersize": size}),
        "suspect": (
            "Fit not trusted ({count})",
            {
                "marker": "D",
                "color": COLOURS["suspect"],
                "markerfacecolor": "white",
                "markersize": 5,
            },
        ),
        UNTESTED: (
            "Forecast, not tested ({count})",
            {
                "marker": "o",
                "color": COLOURS["points"],
                "markerfacecolor": "none",
                "markersize": 0.8 * size,
                "markeredgewidth": 0.6,
                "alpha": 0.6,
            },
        ),
        "failed": (
            f"Fit failed ({{count}}{near})",
            {"marker": "x", "color": COLOURS["failed"], "markersize": 6, "markeredgewidth": 1.6},
        ),
    }
    entries: list[Entry] = []
    for status, (label, style) in styles.items():
        rows = exclusion.points[exclusion.points["status"] == status]
        if rows.empty:
            continue
        (marks,) = axes.plot(
            rows["x"], rows["y"], linestyle="none", zorder=6, clip_on=False, **style
        )
        entries.append((marks, label.format(count=len(rows))))
    return entries


def draw_support(axes: Axes, exclusion: Exclusion) -> list[Entry]:
    """Mark where contours rest on one point alone, or on none."""
    entries: list[Entry] = []
    rows = exclusion.rests_on()
    if len(rows):
        (marks,) = axes.plot(
            rows["x"],
            rows["y"],
            linestyle="none",
            marker="o",
            markersize=8,
            markerfacecolor="none",
            markeredgecolor="0.25",
            markeredgewidth=0.8,
            zorder=6,
            clip_on=False,
        )
        entries.append((marks, f"{ON_ONE_POINT} ({len(rows)})"))
    if any(line.is_empty for curve in exclusion.curves.values() for line in curve.lines):
        line = Line2D([], [], color=COLOURS["observed"], linestyle=ISLANDS, linewidth=2.0)
        entries.append((line, ON_NO_POINT))
    return entries


def draw_forbidden(axes: Axes, exclusion: Exclusion, plane: Plane) -> None:
    """Hatch the kinematically forbidden part of the plane."""
    if plane.forbidden is None or exclusion.forbidden is None:
        return
    x, y = exclusion.forbidden.T
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.fill_between(
        x, y, max(top, float(y.max())), facecolor="0.93", hatch="////", linewidth=0, zorder=2
    )
    axes.plot(x, y, color="0.45", linewidth=0.8, zorder=3)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    if plane.forbidden.label:
        _write_along(axes, x, y, plane.forbidden.label)


def _write_along(axes: Axes, x: FloatArray, y: FloatArray, label: str) -> None:
    """Write a label above a line, in the middle of its visible part."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    visible = np.flatnonzero((x > left) & (x < right) & (y > bottom) & (y < top))
    if len(visible) < 2:
        return
    middle = visible[len(visible) // 2]
    before, after = visible[0], visible[-1]
    slope = math.degrees(math.atan2(y[after] - y[before], x[after] - x[before]))
    up = ScaledTranslation(0, 5 / 72, axes.figure.dpi_scale_trans)
    axes.text(
        x[middle],
        y[middle],
        label,
        transform=axes.transData + up,
        rotation=slope,
        rotation_mode="anchor",
        transform_rotates_text=True,
        horizontalalignment="center",
        verticalalignment="bottom",
        fontsize=10,
        color="0.25",
        zorder=7,
        bbox={"facecolor": "0.93", "edgecolor": "none", "pad": 1.0},
    )


def _write_cls(axes: Axes, exclusion: Exclusion) -> None:
    column = "CLs_exp_0" if exclusion.blinded else "CLs_obs"
    for _, point in exclusion.points.iterrows():
        if np.isfinite(point[column]):
            axes.annotate(
                f"{point[column]:.2g}",
                (point["x"], point["y"]),
                xytext=(0, 4),
                textcoords="offset points",
                horizontalalignment="center",
                fontsize=7,
                color=COLOURS["points"],
                zorder=7,
            )


def write_titles(
    figure: Figure, exclusion: Exclusion, analysis: Analysis, plane: Plane, entries: list[Entry]
) -> None:
    """Write the analysis' title and the legend above the axes."""
    level = f"All limits at {100 * exclusion.confidence_level:g}% CL"
    line = level if plane.title is None else f"{plane.title}; {level[0].lower()}{level[1:]}"
    write_legend(figure, [*title_lines(analysis), line], entries)
