"""Plots of the test statistic's distributions in pseudo-experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from palletfit.core.arrays import FloatArray
from palletfit.core.files import read_json
from palletfit.engine.asymptotics import survival
from palletfit.planes.style import (
    COLOURS,
    STYLE,
    Entry,
    Titled,
    new_figure,
    save,
    title_lines,
    write_legend,
)
from palletfit.runs.product import Drawing, Product
from palletfit.runs.results import RegionResults

#: Signal plus background red and background blue, as usual.
_SIGNAL, _BACKGROUND = COLOURS["signal"], COLOURS["published"]
_BINS = 50
#: Largest fraction of toys beyond the end of the axis, which is beyond the observed value.
_TAIL = 1e-3
_LARGEST_RATIO = 4.0
#: Precision of fits. Many toys have the value zero.
_ZERO = 1e-6
_SYMBOLS = {"qtilde": r"\tilde{q}_\mu", "q": r"q_\mu", "q0": r"q_0"}


def write_patch(drawing: Drawing, product: type[Product]) -> None:
    """Write the plot of the patch whose name makes this file name."""
    from palletfit.products.toys import table  # imports pandas

    entry = table.find(read_json(drawing.inputs["table"]), drawing.subject)
    (region,) = [
        RegionResults.read(path, product)
        for path in drawing.manifests
        if path.parent.name == entry["region"]
    ]
    figure = draw_toys(entry, table.statistics(region, entry), drawing.analysis)
    save(figure, [*drawing.files["png"], *drawing.files["pdf"]])


def draw_toys(
    entry: Mapping[str, Any], statistics: Mapping[str, FloatArray], analysis: Titled
) -> Figure:
    """Draw the distributions of the test statistic in toys of both hypotheses, and asymptotically.

    The first bin holds the toys whose test statistic is zero. Below are the ratios of both, with
    binomial uncertainties. They are one where asymptotic formulae hold.

    Parameters
    ----------
    entry
        Of the signal point in ``toys.json``, see :func:`palletfit.products.toys.table.combine`.
    statistics
        Test statistics by hypothesis, see :func:`palletfit.products.toys.table.statistics`.
    analysis
        Gives the title.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 6.8, h_pad=0.02)
        of_region = f", region {entry['region']}" if "region" in entry else ""
        words = [*title_lines(analysis), f"{entry['patch']}{of_region}"]
        if entry["status"] == "failed":
            write_legend(figure, [*words, "There are no toys"], [])
            axes = figure.add_subplot()
            axes.set_axis_off()
            axes.text(0, 1, entry["problem"], va="top", wrap=True, color=COLOURS["failed"])
            figure.canvas.draw()
            return figure
        above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        edges = _edges(entry, statistics)
        for hypothesis, q in statistics.items():
            _draw_one(above, below, entry, hypothesis, q, edges)
        for axes in (above, below):
            if entry["q"] is not None:  # blinded data have none
                axes.axvline(entry["q"], color="black", linewidth=1.6)
        above.set_yscale("log")
        smallest = min(len(q) for q in statistics.values())
        above.set_ylim(0.5 / max(smallest, 1), 2.0)
        above.set_ylabel("Fraction of toys per bin", loc="top", fontsize=13)
        below.axhline(1.0, color="0.4", linewidth=0.8)
        below.set_yscale("log")
        below.set_ylim(1 / _LARGEST_RATIO, _LARGEST_RATIO)
        below.set_yticks([0.5, 1, 2], ["0.5", "1", "2"])
        below.yaxis.set_minor_formatter(NullFormatter())
        below.set_ylabel("Toys / asymptotic", fontsize=10)
        below.set_xlim(edges[0], edges[-1])
        symbol = _SYMBOLS[entry["test_statistic"]]
        below.set_xlabel(rf"Test statistic ${symbol}$", loc="right", fontsize=13)
        write_legend(figure, [*words, *_values(entry)], _entries(entry))
        figure.canvas.draw()
    return figure


def _edges(entry: Mapping[str, Any], statistics: Mapping[str, FloatArray]) -> FloatArray:
    tails = [float(np.quantile(q, 1 - _TAIL)) for q in statistics.values() if len(q)]
    return np.linspace(0.0, max(1.15 * (entry["q"] or 0.0), *tails, 1.0), _BINS + 1)


def _draw_one(
    above: Axes,
    below: Axes,
    entry: Mapping[str, Any],
    hypothesis: str,
    q: FloatArray,
    edges: FloatArray,
) -> None:
    colour = _colour(entry, hypothesis)
    counts, _ = np.histogram(q, edges)
    toys = max(len(q), 1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    fraction = counts / toys
    error = np.sqrt(fraction * (1 - fraction) / toys)
    above.stairs(fraction, edges, fill=True, facecolor=colour, alpha=0.18, linewidth=0)
    shown = counts > 0
    marks: dict[str, Any] = {"color": colour, "fmt": "o", "markersize": 3, "linewidth": 1.0}
    above.errorbar(centres[shown], fraction[shown], error[shown], **marks)
    expected = _asymptotic(entry, hypothesis, edges)
    if expected is None:
        return
    above.plot(centres, expected, color=colour, linewidth=1.5)
    # Ratios of a few toys say nothing.
    compared = shown & (expected * toys > 3)
    ratio, spread = fraction[compared] / expected[compared], error[compared] / expected[compared]
    below.errorbar(centres[compared], ratio, spread, **marks)


def _colour(entry: Mapping[str, Any], hypothesis: str) -> str:
    with_signal = (hypothesis == "tested") is (entry["test_statistic"] != "q0")
    return _SIGNAL if with_signal else _BACKGROUND


def _asymptotic(entry: Mapping[str, Any], hypothesis: str, edges: FloatArray) -> FloatArray | None:
    """Compute the fraction of each bin by asymptotic formulae; None without sensitivity."""
    q_asimov = entry["asymptotic"].get("q_asimov", 0.0)
    if not q_asimov > 0:
        return None
    tested, other = survival(entry["test_statistic"], edges, q_asimov)
    return np.asarray(-np.diff(tested if hypothesis == "tested" else other))


def _values(entry: Mapping[str, Any]) -> list[str]:
    """Write values from toys and from asymptotic formulae in words."""

    def shown(value: float | None, error: float | None) -> str:
        if value is None:
            return "not defined"
        # As many decimals as the uncertainty has with two digits.
        decimals = max(3, 1 - math.floor(math.log10(error))) if error else 3
        return f"{value:.{decimals}f}"

    def pair(value: float | None, error: float | None, other: float | None) -> str:
        spread = rf" $\pm$ {shown(error, error)}" if value is not None else ""
        return f"{shown(value, error)}{spread} ({shown(other, error)})"

    formulae = entry["asymptotic"]
    discovery = entry["test_statistic"] == "q0"
    names = {"CLs_obs": r"p$_0$" if discovery else r"CL$_{\mathrm{s}}$"}
    if not discovery:
        names |= {"CLsb_obs": r"CL$_{\mathrm{s+b}}$", "CLb_obs": r"CL$_{\mathrm{b}}$"}
    values = [
        f"{words} = {pair(entry[name], entry[f'{name}_error'], formulae.get(name))}"
        for name, words in names.items()
    ]
    further = ", ".join(values[1:])
    median = formulae["CLs_exp"][2] if "CLs_exp" in formulae else None
    expected = pair(entry["CLs_exp"][2], entry["CLs_exp_errors"][2], median)
    lines = [f"{entry['toys']} toys of each hypothesis (asymptotic values in brackets)"]
    if entry.get("blinded"):
        lines.append(f"{names['CLs_obs']} = {expected} expected")
    else:
        lines += [f"{values[0]} observed, {expected} expected", *filter(None, [further])]
    lost = sum(entry["failed"].values())
    if lost and entry.get("blinded"):
        lines.append(f"{lost} toy{'s' * (lost != 1)} without a test statistic")
    elif lost:
        low, high = entry["CLs_obs_range"]
        error = entry["CLs_obs_error"]
        lines.append(
            f"{lost} toy{'s' * (lost != 1)} without a test statistic: {names['CLs_obs']} is "
            f"between {shown(low, error)} and {shown(high, error)}"
        )
    return lines


def _shown_q(q: float) -> str:
    return f"{q:.3g}" if q > _ZERO else "0"


def _entries(entry: Mapping[str, Any]) -> list[Entry]:
    discovery = entry["test_statistic"] == "q0"
    mu = entry["mu"]
    words = {
        "tested": "background" if discovery else rf"signal ($\mu$ = {mu:g}) + background",
        "alternative": r"signal ($\mu$ = 1) + background" if discovery else "background",
    }
    entries: list[Entry] = []
    for hypothesis, text in words.items():
        colour = _colour(entry, hypothesis)
        marks = (
            Patch(facecolor=colour, alpha=0.18),
            Line2D([], [], color=colour, marker="o", markersize=4, linestyle="none"),
        )
        entries.append((marks, f"Toys, {text}"))
        line = Line2D([], [], color=colour, linewidth=1.5)
        entries.append((line, f"Asymptotic, {text}"))
    # The first column has one more than the second.
    symbol = _SYMBOLS[entry["test_statistic"]]
    if entry["q"] is None:
        return entries
    observed = (
        Line2D([], [], color="black", linewidth=1.6),
        rf"Observed ${symbol}$ = {_shown_q(entry['q'])}",
    )
    return [*entries[:2], observed, *entries[2:]]
