"""Plots of profile likelihoods: scans, contours, and the impacts of groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from palletfit.planes.style import COLOURS, STYLE, Entry, new_figure, write_legend
from palletfit.products.diagnostics.plots import shorten
from palletfit.products.diagnostics.profile.contours import LikelihoodContours
from palletfit.products.diagnostics.profile.curve import Interval
from palletfit.products.diagnostics.profile.impacts import Errors, GroupedImpacts
from palletfit.products.diagnostics.profile.scan import LikelihoodScan

#: Probabilities of the usual levels, as they are written, with one parameter and with two.
_PROBABILITY = {1: {"1": "68%", "3.84": "95%"}, 2: {"2.3": "68%", "5.99": "95%"}}
#: Colours and lines of levels, from the lowest one.
_LINES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"))
#: Top of the axis of a scan, in parts of the highest level.
_TOP = 1.6
#: Longest name in the text of a plot, and of an axis.
_NAME, _AXIS = 40, 52
_BOUND: dict[str, Any] = {"color": "0.45", "linewidth": 1.4, "linestyle": (0, (1, 1))}


def draw_likelihood_scan(scan: LikelihoodScan, title: str) -> Figure:
    """Draw the profile likelihood of one parameter, with the parabola of the Hessian.

    Parameters
    ----------
    scan
        Scan.
    title
        Name of the fit, with formulas of matplotlib.
    """
    values = np.array(scan.parameter_values)
    rises = np.array([np.nan if rise is None else rise for rise in scan.rises])
    # The curve touches zero at the best fit, which is not among the values.
    position = np.searchsorted(values, scan.best)
    curve = np.insert(values, position, scan.best), np.insert(rises, position, 0.0)
    with mpl.rc_context(STYLE):
        figure = new_figure(7.2, 5.8)
        axes = figure.add_subplot()
        solid: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 3, "linewidth": 1.6}
        axes.plot(*curve, **solid)
        entries: list[Entry] = [(Line2D([], [], **solid), "Profile likelihood")]
        first, last = _wide(values)
        if scan.error is not None:
            fine = np.linspace(first, last, 400)
            dashed: dict[str, Any] = {"color": "0.5", "linestyle": "--", "linewidth": 1.3}
            axes.plot(fine, ((fine - scan.best) / scan.error) ** 2, **dashed)
            entries.append((Line2D([], [], **dashed), "Parabola of the Hessian"))
        highest = max(interval.level for interval in scan.intervals)
        for interval, (colour, _) in zip(scan.intervals, _cycle(), strict=False):
            line: dict[str, Any] = {"color": colour, "linewidth": 1.2}
            axes.axhline(interval.level, **line)
            for end in (interval.lower, interval.upper):
                if end.state == "found":
                    axes.plot([end.value, end.value], [0.0, interval.level], **line)
            words = f"{_level(interval.level, 1)}: {_in_words(interval)}"
            entries.append((Line2D([], [], **line), words))
        untrusted = ~np.array(scan.trusted)
        if untrusted.any():
            mark: dict[str, Any] = {"color": COLOURS["failed"], "marker": "x", "linestyle": "none"}
            axes.plot(values[untrusted], rises[untrusted], **mark)
            entries.append((Line2D([], [], **mark), "No proven minimum"))
        entries += _bounds(axes, scan.bounds, (first, last), vertical=True)
        axes.set_xlim(first, last)
        axes.set_ylim(0.0, _TOP * highest)
        axes.set_xlabel(shorten(scan.parameter, _AXIS), loc="right", fontsize=13)
        axes.set_ylabel(r"$2\,\Delta\,\mathrm{NLL}$", loc="top", fontsize=13)
        best = f"Best fit: {scan.best:.4g}"
        if scan.error is not None:
            best += rf" $\pm$ {scan.error:.3g}"
        write_legend(figure, [title, best], entries)
        figure.canvas.draw()
    return figure


def draw_likelihood_contours(contours: LikelihoodContours, title: str) -> Figure:
    """Draw the contours of the profile likelihood of two parameters.

    Parameters
    ----------
    contours
        Contours.
    title
        Name of the fit, with formulas of matplotlib.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(7.2, 6.4)
        axes = figure.add_subplot()
        entries: list[Entry] = []
        for contour, (colour, style) in zip(contours.contours, _cycle(), strict=False):
            line: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": 1.6}
            for piece in contour.lines:
                axes.plot(piece.x, piece.y, **line)
            words = _level(contour.level, 2) + ("" if contour.lines else ": not in this range")
            entries.append((Line2D([], [], **line), words))
        cross: dict[str, Any] = {"color": "black", "marker": "P", "markersize": 8}
        axes.plot(*contours.best, **cross, clip_on=False, zorder=5)
        words = f"Best fit: {contours.best[0]:.4g}, {contours.best[1]:.4g}"
        entries.append((Line2D([], [], linestyle="none", **cross), words))
        x, y = (_wide(np.array(axis)) for axis in (contours.x_values, contours.y_values))
        of_x = _bounds(axes, contours.x_bounds, x, vertical=True)
        of_y = _bounds(axes, contours.y_bounds, y, vertical=False)
        entries += (of_x or of_y)[:1]
        axes.set_xlim(*x)
        axes.set_ylim(*y)
        axes.set_xlabel(shorten(contours.x, _AXIS), loc="right", fontsize=13)
        axes.set_ylabel(shorten(contours.y, _NAME), loc="top", fontsize=13)
        write_legend(figure, [title], entries)
        figure.canvas.draw()
    return figure


def draw_grouped_impacts(impacts: GroupedImpacts, title: str, *, max_groups: int = 30) -> Figure:
    """Draw the parts of groups in the uncertainty of mu-hat, with the whole one.

    Parameters
    ----------
    impacts
        Impacts of groups.
    title
        Name of the fit, with formulas of matplotlib.
    max_groups
        Largest number of groups: those with the largest impacts are drawn.
    """
    rows: list[tuple[str, Errors, str]] = [
        ("total", impacts.total, "0.35"),
        ("statistical", impacts.statistical, "0.6"),
        ("systematic", impacts.systematic, "0.6"),
        *((group.name, group.impact, _LINES[0][0]) for group in impacts.groups[:max_groups]),
    ]
    with mpl.rc_context(STYLE):
        figure = new_figure(7.2, 1.9 + 0.26 * len(rows))
        axes = figure.add_subplot()
        asymmetric = impacts.total.up is not None or impacts.total.down is not None
        rows_of_bars = np.arange(len(rows))[::-1]
        for position, (_, errors, colour) in zip(rows_of_bars, rows, strict=True):
            pair = (errors.up, errors.down) if asymmetric else (errors.error, errors.error)
            axes.barh(position, pair[0] or 0.0, color=colour, height=0.66)
            axes.barh(position, -(pair[1] or 0.0), color=colour, height=0.66)
        axes.axhline(len(rows) - 3.5, color="black", linewidth=0.8)
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.set_yticks(rows_of_bars, [shorten(name, _NAME) for name, _, _ in rows], fontsize=9)
        axes.tick_params(axis="y", which="both", left=False, right=False)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        of_poi = shorten(impacts.poi, _NAME)
        axes.set_xlabel(f"Part in the uncertainty of {of_poi}", loc="right", fontsize=11)
        kind = "rise of 2 NLL by one" if asymmetric else "Hessian"
        words = [title, f"{of_poi} = {_with_errors(impacts.mu_hat, impacts.total)} ({kind})"]
        if len(impacts.groups) > max_groups:
            words.append(f"{max_groups} of {len(impacts.groups)} groups")
        figure.suptitle("\n".join(words), x=0.02, horizontalalignment="left", fontsize=10)
        figure.canvas.draw()
    return figure


def _with_errors(value: float, errors: Errors) -> str:
    """Write a value with its errors, asymmetric ones if there are some."""
    if errors.up is None and errors.down is None:
        return f"{value:.4g}" + ("" if errors.error is None else rf" $\pm$ {errors.error:.3g}")
    up, down = (
        "(bound)" if error is None else f"{error:.3g}" for error in (errors.up, errors.down)
    )
    return rf"{value:.4g} + {up} $-$ {down}"


def _cycle() -> Iterator[tuple[str, str]]:
    """Yield colours and lines of levels, again and again."""
    while True:
        yield from _LINES


def _wide(values: np.ndarray) -> tuple[float, float]:
    """Give the range of an axis; a single value has some room."""
    first, last = float(values[0]), float(values[-1])
    room = 0.5 * max(abs(first), 1.0) if first == last else 0.0
    return first - room, last + room


def _bounds(
    axes: Axes, bounds: tuple[float, float], limits: tuple[float, float], *, vertical: bool
) -> list[Entry]:
    """Draw the bounds of a parameter that the plot reaches."""
    drawn = [bound for bound in bounds if limits[0] <= bound <= limits[1]]
    for bound in drawn:
        line = axes.axvline if vertical else axes.axhline
        line(bound, **_BOUND, clip_on=False, zorder=4)
    return [(Line2D([], [], **_BOUND), "Bound of the parameter")] if drawn else []


def _level(level: float, parameters: int) -> str:
    """Write a level, and its probability if it is a usual one."""
    number = f"{level:.3g}"
    probability = _PROBABILITY[parameters].get(number)
    return f"{number} ({probability})" if probability else number


def _in_words(interval: Interval) -> str:
    """Write the ends of an interval; an open one says so."""
    words = {"found": "", "at_bound": " (bound)", "beyond": " (open)"}
    lower, upper = (
        f"{end.value:.4g}{words[end.state]}" for end in (interval.lower, interval.upper)
    )
    return f"{lower} to {upper}" + (" and more" if interval.further else "")
