"""Plots of the errors of a learned likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from palletfit.learned.referee import LEVEL, Referee, RefereedPoint
from palletfit.planes.style import COLOURS, STYLE, Entry, new_figure, write_legend

#: Smallest CLs of a logarithmic axis, and smallest error of a symmetric one that is not linear.
_SMALLEST, _LINEAR_CLS, _LINEAR_NLL = 1e-6, 1e-4, 1e-3
#: Marker, colour and words of points by verdict.
_KINDS = {
    "right": (".", "0.35", "Right side of 95% CL"),
    "wrongly excluded": ("v", COLOURS["failed"], "Wrongly excluded"),
    "wrongly allowed": ("^", "tab:blue", "Wrongly allowed"),
}


def draw_referee(verdict: Referee, title: str) -> list[Figure]:
    """Draw the errors of CLs over the exact ones, and those of NLLs over the size of the signal.

    Parameters
    ----------
    verdict
        Verdict; only its compared points are drawn.
    title
        Name of the network and the likelihood.

    Returns
    -------
    list
        A figure of each kind for which there are numbers.
    """
    title = title.replace("$", r"\$")  # of the name of a file, which is no formula
    figures = []
    for name, words in (("CLs_obs", "observed"), ("CLs_exp", "expected")):
        points = [point for point in verdict.compared if point.verdict(name)]
        if points:
            figures.append(_cls(points, name, words, title))
    outputs = [name for name in verdict.outputs if name.endswith("_1") and name in verdict.errors]
    if outputs:
        figures.append(_nlls(verdict.compared, outputs, title))
    return figures


def _cls(points: Sequence[RefereedPoint], name: str, words: str, title: str) -> Figure:
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 5.2)
        axes = figure.add_subplot()
        # Before anything is drawn: the margins are those of these scales.
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=_LINEAR_CLS)
        entries: list[Entry] = []
        for verdict, (marker, colour, label) in _KINDS.items():
            kind = [point for point in points if point.verdict(name) == verdict]
            for outside in (False, True):
                shown = [point for point in kind if bool(point.outside) == outside]
                x = np.maximum([point.exact[name] or 0.0 for point in shown], _SMALLEST)
                y = np.array([point.error(name) for point in shown], dtype=float)
                face = "none" if outside else colour
                axes.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=6)
            line = Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6)
            entries.append((line, f"{label}: {len(kind)} of {len(points)}"))
        entries += _outside(points)
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.axvline(LEVEL, color="black", linestyle=":", linewidth=1.2)
        axes.set_xlabel(f"Exact {words} CLs", loc="right", fontsize=13)
        axes.set_ylabel("Learned minus exact CLs", loc="top", fontsize=13)
        write_legend(figure, [title], entries)
        figure.canvas.draw()
    return figure


def _nlls(points: Sequence[RefereedPoint], outputs: Sequence[str], title: str) -> Figure:
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 5.2)
        axes = figure.add_subplot()
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_yscale("symlog", linthresh=_LINEAR_NLL)
        entries: list[Entry] = []
        for name, marker in zip(outputs, "ovs^", strict=False):
            pairs = [(_rise(point, name), point.error(name)) for point in points]
            values = np.array([pair for pair in pairs if None not in pair], dtype=float)
            (line,) = axes.plot(*values.reshape(-1, 2).T, marker, markersize=3.5, alpha=0.7)
            entries.append((line, name))
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set_xlabel(
            r"Exact 2 NLL at $\mu = 1$ minus that at $\mu = 0$", loc="right", fontsize=13
        )
        axes.set_ylabel("Learned minus exact 2 NLL", loc="top", fontsize=13)
        write_legend(figure, [title], entries)
        figure.canvas.draw()
    return figure


def _rise(point: RefereedPoint, name: str) -> float | None:
    """Give twice the distance of the exact NLL to the one without signal."""
    zero, value = point.exact.get(f"{name.removesuffix('_1')}_0"), point.exact.get(name)
    return None if zero is None or value is None else 2 * (value - zero)


def _outside(points: Sequence[RefereedPoint]) -> list[tuple[Any, str]]:
    """Explain open markers, where there are some."""
    count = sum(bool(point.outside) for point in points)
    if not count:
        return []
    line = Line2D(
        [], [], color="0.35", marker="o", markerfacecolor="none", linestyle="", markersize=6
    )
    return [(line, f"Open: outside of the training range ({count})")]
