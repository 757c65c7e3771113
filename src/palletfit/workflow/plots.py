"""Bar plot of wall times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from palletfit.planes.style import STYLE, new_figure
from palletfit.workflow.timing import PUBLISHED, Row, spread

#: After Okabe and Ito; there may be more executors than colours, but each bar has its name.
BARS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
#: What was published, and on a single node.
HATCHED: dict[str, Any] = {"facecolor": "white", "edgecolor": "0.35", "hatch": "////"}
DOTTED: dict[str, Any] = {"facecolor": "white", "edgecolor": "0.6", "hatch": "...."}
#: Space between analyses, in bars.
GAP = 0.9
#: Ratio of times from which on the axis is logarithmic.
FAR = 20.0


def draw_times(rows: Sequence[Row]) -> Figure:
    """Draw mean and standard deviation of every row, and each repetition as a dot.

    Parameters
    ----------
    rows
        From :func:`palletfit.workflow.timing.fold`.

    Returns
    -------
    matplotlib.figure.Figure
        With one bar a row, and beside what was published its single node.
    """
    names = list(dict.fromkeys(row.executor for row in rows if row.executor != PUBLISHED))
    colours = {name: BARS[number % len(BARS)] for number, name in enumerate(names)}
    analyses = list(dict.fromkeys(row.analysis for row in rows))
    bars = sum(2 if _has_single_node(row) else 1 for row in rows)
    with mpl.rc_context(STYLE):
        figure = new_figure(8.0, 1.4 + 0.36 * (bars + GAP * len(analyses)))
        axes = figure.add_subplot()
        position, ticks = 0.0, {}
        for analysis in analyses:
            of_one = [row for row in rows if row.analysis == analysis]
            ticks[_words(analysis, of_one)] = position
            for row in of_one:
                _draw(axes, row, position, colours.get(row.executor, ""))
                position += 1
                if _has_single_node(row) and row.single_node is not None:
                    _draw_single_node(axes, row.single_node, position)
                    position += 1
            position += GAP
        axes.invert_yaxis()
        axes.set_yticks(list(ticks.values()), list(ticks))
        axes.tick_params(axis="y", which="both", length=0, right=False)
        axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        times = [time for row in rows for time in (row.mean, row.single_node, *row.times) if time]
        if max(times) > FAR * min(times):
            axes.set_xscale("log")
            axes.set_xlim(min(times) / 2, max(times) * 6)
            axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        else:
            axes.set_xlim(0, max(times) * 1.4)
        axes.set_xlabel("wall time of all fits [s]", loc="right", fontsize=13)
        _write_legend(figure, rows, colours)
        figure.canvas.draw()
    return figure


def _words(analysis: str, rows: Sequence[Row]) -> str:
    patches = sorted({row.patches for row in rows if row.executor != PUBLISHED})
    return f"{analysis}\n{', '.join(map(str, patches))} patches"


def _has_single_node(row: Row) -> bool:
    return row.executor == PUBLISHED and row.single_node is not None


def _draw(axes: Axes, row: Row, position: float, colour: str) -> None:
    style = HATCHED if row.executor == PUBLISHED else {"color": colour}
    axes.barh(position, row.mean, height=0.8, **style)
    if row.deviation:
        axes.errorbar(
            row.mean, position, xerr=row.deviation, color="black", linewidth=1.2, capsize=3
        )
    axes.plot(
        row.times,
        [position] * len(row.times),
        linestyle="none",
        marker="o",
        markersize=3,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=0.7,
        zorder=5,
    )
    failed = f", {row.failed} failed" if row.failed else ""
    _write(axes, row, position, f"{spread(row)} s{failed}")


def _draw_single_node(axes: Axes, seconds: float, position: float) -> None:
    axes.barh(position, seconds, height=0.8, **DOTTED)
    axes.annotate(
        f"{seconds:g} s",
        (seconds, position),
        xytext=(8, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=10,
    )


def _write(axes: Axes, row: Row, position: float, words: str) -> None:
    end = max([row.mean + (row.deviation or 0.0), *row.times])
    axes.annotate(
        words,
        (end, position),
        xytext=(8, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=10,
    )


def _write_legend(figure: Figure, rows: Sequence[Row], colours: dict[str, str]) -> None:
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    sources = dict.fromkeys(row.kind for row in rows if row.executor == PUBLISHED)
    handles += [Patch(label=source, **HATCHED) for source in sources]
    if any(map(_has_single_node, rows)):
        handles.append(Patch(label="the same on a single node", **DOTTED))
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=1 if any(row.executor == PUBLISHED for row in rows) else 3,
        frameon=False,
        fontsize=10,
        title="Mean, standard deviation and every repetition",
        title_fontsize=11,
        alignment="left",
    )
