"""Plots of the diagnostics of one fit: pulls, ranking, correlations, yields."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch as Box
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from scipy.special import gammaincinv

from palletfit.config import Analysis
from palletfit.core.arrays import FloatArray
from palletfit.core.text import counted, printable
from palletfit.pallet.choosing import read_choice
from palletfit.planes.style import COLOURS, STYLE, Entry, new_figure, save_pages, title_lines
from palletfit.products.diagnostics.impacts import Impact
from palletfit.products.diagnostics.pulls import Pulls
from palletfit.products.diagnostics.records import Correlations, Diagnostics, Parameter
from palletfit.products.diagnostics.yield_tables import YieldTables
from palletfit.products.diagnostics.yields import Channel, Prediction
from palletfit.runs.product import Drawing, Product
from palletfit.runs.results import chosen_record

#: All plots of one fit.
PLOTS = ("pulls", "ranking", "correlations", "yields_prefit", "yields_postfit")
#: Rows of one page of pulls.
PULLS_A_PAGE = 42
#: Channels of one page of yields.
CHANNELS_A_PAGE = 8
#: Names longer than this are cut in the middle.
LONGEST_NAME = 44
#: Probability of a central interval of one standard deviation.
_ONE_SIGMA = math.erf(1 / math.sqrt(2))
#: Colours of stacked samples, after Okabe and Ito's palette, light and dark in turn.
_SAMPLES = (
    *("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#0072b2", "#cc79a7"),
    *("#bbbbbb", "#8c564b", "#a6d8c6", "#6a51a3", "#fdd0a2", "#525252"),
)
_UP, _DOWN = "#0072b2", "#e69f00"
_HATCH: dict[str, Any] = {
    "facecolor": "none",
    "edgecolor": "0.25",
    "hatch": "////",
    "linewidth": 0,
    "zorder": 3,
}
_DATA: dict[str, Any] = {
    "fmt": "o",
    "color": "black",
    "markersize": 4,
    "linewidth": 1.2,
    "zorder": 5,
}
_WIDER = 1.15
#: Impacts below this part of the largest one are none.
_NO_IMPACT = 1e-6
#: Title of a fit without a parameter of interest.
_NO_POI = "fit without a parameter of interest"


def write_patch(drawing: Drawing, product: type[Product]) -> None:
    """Write the plots of the patch whose record's file has this stem."""
    region, record = chosen_record(drawing.manifests, product, drawing.subject)
    folders = {path.parent.name: path.parent for path in drawing.manifests}
    blinded = read_choice(folders[region]).get("blinded", ())
    figures = draw_diagnostics(record, drawing.analysis, region, blinded)
    for name, paths in drawing.files.items():
        save_pages(figures[name], paths)


def draw_diagnostics(
    record: Mapping[str, Any], analysis: Analysis, region: str, blinded: Collection[str] = ()
) -> dict[str, list[Figure]]:
    """Draw all plots of one patch.

    Parameters
    ----------
    record
        Of the patch: ``patch``, ``status``, and what :meth:`Diagnostics.as_json` gives, or the
        ``error``.
    analysis
        Gives the title.
    region
        Name of the region.
    blinded
        Names of channels without observed events, whose data are not drawn.

    Returns
    -------
    dict
        The pages of ``pulls``, ``ranking``, ``correlations``, ``yields_prefit`` and
        ``yields_postfit``. Without diagnostics each is a page that gives the reason.
    """
    title = "\n".join([*title_lines(analysis), f"{shorten(record['patch'])}, region {region}"])
    if record["status"] == "failed":
        return {name: [draw_failure(title, record["error"])] for name in PLOTS}
    diagnostics = Diagnostics.from_json(record)
    channels = tuple(
        replace(channel, data=(math.nan,) * len(channel.data))
        if channel.name in blinded
        else channel
        for channel in diagnostics.channels
    )
    diagnostics = replace(diagnostics, channels=channels)
    return {
        "pulls": draw_pulls(diagnostics, title),
        "ranking": [draw_ranking(diagnostics, title)],
        "correlations": [draw_correlations(diagnostics, title)],
        "yields_prefit": draw_yields(diagnostics, title, "prefit"),
        "yields_postfit": draw_yields(diagnostics, title, "postfit"),
    }


def draw_failure(title: str, error: Mapping[str, Any]) -> Figure:
    """Draw a page that gives the reason of a failure, instead of a plot."""
    words = f"Failed: {error['problem']}\n{error['remedy']}"
    lines = [part for line in words.splitlines() for part in textwrap.wrap(line, 80)]
    with mpl.rc_context(STYLE):
        figure = new_figure(7.2, 1.2 + 0.2 * len(lines))
        figure.suptitle(title, x=0.02, horizontalalignment="left", fontsize=10)
        axes = figure.add_subplot()
        axes.set_axis_off()
        text = "\n".join(lines).replace("$", r"\$")
        axes.text(0.013, 1.0, text, color=COLOURS["failed"], va="top", fontsize=10)
        figure.canvas.draw()
    return figure


def draw_pulls(
    diagnostics: Diagnostics | Pulls,
    title: str,
    *,
    max_parameters: int | None = None,
    per_page: int = PULLS_A_PAGE,
) -> list[Figure]:
    """Draw pulls and constraints of all parameters with a constraint, and free factors below.

    Parameters
    ----------
    diagnostics
        Diagnostics of the fit, or its pulls alone.
    title
        Name of the fit; may have several lines.
    max_parameters
        Largest number of parameters: those that the fit pulls or constrains most are drawn.
    per_page
        Largest number of parameters of one page.

    Returns
    -------
    list
        A figure a page; at least one.
    """
    constrained = [parameter for parameter in diagnostics.parameters if parameter.pull is not None]
    if max_parameters is not None:
        constrained = sorted(constrained, key=_conspicuous)[:max_parameters]
    constrained.sort(key=_alphabetical)
    factors = [
        parameter
        for parameter in diagnostics.parameters
        if parameter.prefit_width is None
        and parameter.state != "fixed"
        and parameter.error is not None
    ]
    # All pages have about the same length.
    rows = [*constrained, *factors]
    count = max(1, math.ceil(len(rows) / per_page))
    size = math.ceil(len(rows) / count)
    pages = [range(number * size, (number + 1) * size) for number in range(count)]
    words = (
        _subtitle(diagnostics) if isinstance(diagnostics, Diagnostics) else _of_pulls(diagnostics)
    )
    figures = []
    for number, page in enumerate(pages):
        of = f" ({number + 1} of {count})" if count > 1 else ""
        text = f"{title}\n{words}{of}"
        split = len(constrained)
        above = constrained[page.start : min(page.stop, split)]
        below = factors[max(page.start - split, 0) : max(page.stop - split, 0)]
        figures.append(_pull_page(text, above, below))
    return figures


def _conspicuous(parameter: Parameter) -> float:
    loss = 0.0 if parameter.constraint is None else abs(1 - parameter.constraint)
    return -max(abs(parameter.pull or 0.0), loss)


def _alphabetical(parameter: Parameter) -> tuple[bool, str]:
    # Parameters of single bins come last.
    return parameter.kind in ("staterror", "shapesys"), parameter.name.lower()


def _pull_page(
    title: str, constrained: Sequence[Parameter], factors: Sequence[Parameter]
) -> Figure:
    rows = [len(parameters) for parameters in (constrained, factors) if parameters] or [1]
    with mpl.rc_context(STYLE):
        figure = new_figure(7.2, 1.3 + 0.19 * sum(rows) + 0.7 * len(rows))
        figure.suptitle(title, x=0.02, horizontalalignment="left", fontsize=10)
        grid = figure.add_gridspec(len(rows), 1, height_ratios=[count + 1.0 for count in rows])
        axes = [figure.add_subplot(grid[number]) for number in range(len(rows))]
        drawn = iter(axes)
        if constrained or not factors:
            _pulls(next(drawn), constrained)
        if factors:
            _factors(next(drawn), factors)
        figure.canvas.draw()
    return figure


def _pulls(axes: Axes, parameters: Sequence[Parameter]) -> None:
    rows = _rows(len(parameters))
    pulls = np.array([parameter.pull for parameter in parameters], dtype=float)
    widths = np.array([parameter.constraint or 0.0 for parameter in parameters])
    reach = max(2.6, float(np.max(np.abs(pulls) + widths, initial=0.0)) * 1.05)
    for width, colour in ((2, COLOURS["two_sigma"]), (1, COLOURS["one_sigma"])):
        axes.axvspan(-width, width, color=colour, linewidth=0, zorder=0)
    axes.axvline(0.0, color="0.35", linestyle=":", linewidth=1.0, zorder=1)
    axes.errorbar(pulls, rows, xerr=widths, fmt="o", color="black", markersize=3.2, linewidth=1.1)
    _mark_stuck(axes, parameters, pulls, rows)
    _name_rows(axes, [parameter.name for parameter in parameters], rows)
    axes.set_xlim(-reach, reach)
    axes.set_xlabel(r"$(\hat{\theta} - \theta_0)\,/\,\Delta\theta$", loc="right")


def _mark_stuck(
    axes: Axes, parameters: Sequence[Parameter], values: FloatArray, rows: FloatArray
) -> None:
    stuck = [index for index, parameter in enumerate(parameters) if parameter.state != "free"]
    if stuck:
        axes.plot(
            values[stuck],
            rows[stuck],
            linestyle="none",
            marker="D",
            markersize=5,
            color=COLOURS["suspect"],
            markerfacecolor="white",
            label="at a bound, or not determined",
        )
        axes.legend(loc="upper right", fontsize=8, frameon=False)


def _factors(axes: Axes, parameters: Sequence[Parameter]) -> None:
    rows = _rows(len(parameters))
    values = np.array([parameter.value for parameter in parameters])
    errors = np.array([parameter.error or 0.0 for parameter in parameters])
    axes.axvline(1.0, color="0.35", linestyle=":", linewidth=1.0, zorder=1)
    axes.errorbar(values, rows, xerr=errors, fmt="o", color="black", markersize=3.2, linewidth=1.1)
    for row, parameter in zip(rows, parameters, strict=True):
        text = f"{parameter.value:.2f} $\\pm$ {parameter.error:.2f}"
        if parameter.state == "at_bound":
            text = f"{parameter.value:.3g} (at a bound)"
        axes.annotate(
            text,
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            verticalalignment="center",
            fontsize=8,
        )
    _name_rows(axes, [parameter.name for parameter in parameters], rows)
    axes.set_xlabel("Parameters without a constraint", loc="right")


def _rows(count: int) -> FloatArray:
    """Compute the heights of rows, from top to bottom."""
    return np.arange(count, dtype=float)[::-1]


def _name_rows(axes: Axes, names: Sequence[str], rows: FloatArray) -> None:
    axes.set_ylim(-0.8, len(names) - 0.2)
    axes.set_yticks(rows, [shorten(name) for name in names], fontsize=8)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="y", which="both", left=False, right=False)


# --------------------------------------------------------------------------- ranking


def draw_ranking(diagnostics: Diagnostics, title: str, *, max_parameters: int = 20) -> Figure:
    """Draw the impacts of the leading parameters on mu-hat, with their pulls.

    Parameters
    ----------
    diagnostics
        Diagnostics of the fit.
    title
        Name of the fit; may have several lines.
    max_parameters
        Largest number of parameters; those that do not move mu-hat are left out.

    Returns
    -------
    matplotlib.figure.Figure
        Its axes: pulls (below), impacts (above).
    """
    largest = max(map(_reach, diagnostics.impacts), default=0.0)
    # With mu-hat at a bound most parameters do not move it.
    shown = [
        impact
        for impact in diagnostics.impacts[:max_parameters]
        if _reach(impact) > _NO_IMPACT * largest
    ]
    parameters = [diagnostics.parameter(impact.parameter) for impact in shown]
    rows = _rows(len(shown))
    with mpl.rc_context(STYLE):
        figure = new_figure(7.4, 2.4 + 0.3 * max(len(shown), 3))
        pulls = figure.add_subplot()
        impacts = pulls.twiny()
        # Pulls are drawn over the boxes.
        pulls.set_zorder(impacts.get_zorder() + 1)
        pulls.patch.set_visible(False)
        for row, impact in zip(rows, shown, strict=True):
            _boxes(impacts, row, impact.prefit_up, impact.prefit_down, filled=False)
            _boxes(impacts, row, impact.postfit_up, impact.postfit_down, filled=True)
        reach = max(map(_reach, shown), default=0.0) or 1.0
        impacts.set_xlim(-_WIDER * reach, _WIDER * reach)
        of_poi = f" ({shorten(diagnostics.poi)})" if diagnostics.poi else ""
        impacts.set_xlabel(rf"$\Delta\hat{{\mu}}${of_poi}", loc="right")
        _ranked_pulls(pulls, parameters, rows)
        _name_rows(pulls, [impact.parameter for impact in shown], rows)
        for axes, side in ((pulls, "bottom"), (impacts, "top")):
            axes.tick_params(axis="x", which="both", top=side == "top", bottom=side == "bottom")
        if not shown:
            centred: dict[str, Any] = {"transform": pulls.transAxes, "ha": "center", "va": "center"}
            box = {"facecolor": "white", "linewidth": 0}
            pulls.text(0.5, 0.5, "no impacts", bbox=box, **centred)
        words = _ranked(len(shown), len(diagnostics.impacts), max_parameters)
        _ranking_legend(figure, f"{title}\n{_subtitle(diagnostics)}; {words}")
        figure.canvas.draw()
    return figure


def _ranked(shown: int, computed: int, max_parameters: int) -> str:
    """Describe the choice of parameters."""
    if shown == 0 < computed:
        return rf"none of {computed} parameters moves $\hat{{\mu}}$"
    of = f"{shown} of {computed} parameters"
    if shown < min(max_parameters, computed):
        return rf"{of}, no other one moves $\hat{{\mu}}$"
    return f"{of}, by post-fit impact"


def _reach(impact: Impact) -> float:
    shifts = (impact.prefit_up, impact.prefit_down, impact.postfit_up, impact.postfit_down)
    return max(abs(shift) for shift in shifts if shift is not None)


def _boxes(axes: Axes, row: float, up: float | None, down: float | None, *, filled: bool) -> None:
    """Draw the two boxes of one parameter; of two on one side the smaller one is on top."""
    shifts = [(up, _UP), (down, _DOWN)]
    for shift, colour in sorted(shifts, key=lambda box: -abs(box[0] or 0.0)):
        if shift is None:
            continue
        if filled:
            axes.barh(row, shift, height=0.56, color=colour, linewidth=0, zorder=2)
        else:
            axes.barh(row, shift, height=0.8, fill=False, edgecolor=colour, linewidth=1.1, zorder=3)


def _ranked_pulls(axes: Axes, parameters: Sequence[Parameter], rows: FloatArray) -> None:
    for line in (-1, 0, 1):
        axes.axvline(line, color="0.45", linestyle="--", linewidth=0.8, zorder=1)
    reach = 2.0
    for row, parameter in zip(rows, parameters, strict=True):
        free = parameter.pull is None
        value = (
            parameter.value - parameter.prefit_value if parameter.pull is None else parameter.pull
        )
        width = (parameter.error if free else parameter.constraint) or 0.0
        reach = max(reach, 1.05 * (abs(value) + width))
        axes.errorbar(
            value,
            row,
            xerr=width,
            fmt="o",
            color="black",
            markerfacecolor="white" if free else "black",
            markersize=4.5,
            linewidth=1.3,
            zorder=5,
        )
    axes.set_xlim(-reach, reach)
    axes.set_xlabel(r"$(\hat{\theta} - \theta_0)\,/\,\Delta\theta$", loc="right")


def _ranking_legend(figure: Figure, words: str) -> None:
    up, down = r"\hat{\theta} + ", r"\hat{\theta} - "
    before, after = r"\Delta\theta", r"\Delta\hat{\theta}"
    point: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 4.5, "linewidth": 1.3}
    hollow: dict[str, Any] = {"fill": False, "linewidth": 1.1}
    entries: list[Entry] = [
        (Box(edgecolor=_UP, **hollow), rf"pre-fit impact, $\theta = {up}{before}$"),
        (Box(color=_UP, linewidth=0), rf"post-fit impact, $\theta = {up}{after}$"),
        (Box(edgecolor=_DOWN, **hollow), rf"pre-fit impact, $\theta = {down}{before}$"),
        (Box(color=_DOWN, linewidth=0), rf"post-fit impact, $\theta = {down}{after}$"),
        (Line2D([], [], **point), "pull (lower axis)"),
        (
            Line2D([], [], markerfacecolor="white", **point),
            r"without a constraint: $\hat{\theta} - \theta_0$",
        ),
    ]
    _write_legend(figure, words, entries, columns=3, fontsize=8.5)


def _write_legend(
    figure: Figure, words: str, entries: Sequence[Entry], *, columns: int, fontsize: float
) -> None:
    """Write lines and a legend above the axes."""
    figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        title=words,
        title_fontsize=10,
        alignment="left",
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=fontsize,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


# --------------------------------------------------------------------------- correlations


def draw_correlations(
    diagnostics: Diagnostics, title: str, *, threshold: float = 0.1, max_parameters: int = 25
) -> Figure:
    """Draw the correlations of the most correlated parameters, and of mu with them.

    Parameters
    ----------
    diagnostics
        Diagnostics of the fit.
    title
        Name of the fit; may have several lines.
    threshold, max_parameters
        See :meth:`palletfit.products.diagnostics.records.Correlations.pruned`.
    """
    correlations = diagnostics.correlations
    pruned = correlations.pruned(threshold, max_parameters, keep=[diagnostics.poi])
    count = len(pruned.parameters)
    side = 2.6 + 0.27 * max(count, 4)
    with mpl.rc_context({**STYLE, "xtick.minor.visible": False, "ytick.minor.visible": False}):
        figure = new_figure(side + 0.9, side + 0.4)
        selection = (
            "the most correlated"
            if count == max_parameters
            else f"correlated by {threshold:g} or more"
        )
        words = f"{count} of {len(correlations.parameters)} free parameters, {selection}"
        figure.suptitle(
            f"{title}\n{_subtitle(diagnostics)}\n{words}",
            x=0.02,
            horizontalalignment="left",
            fontsize=10,
        )
        axes = figure.add_subplot()
        if count:
            _matrix(figure, axes, pruned)
        else:
            axes.text(0.5, 0.5, "no correlations", transform=axes.transAxes, ha="center")
        figure.canvas.draw()
    return figure


def _matrix(figure: Figure, axes: Axes, shown: Correlations) -> None:
    image = axes.imshow(shown.matrix, vmin=-1, vmax=1, cmap="RdBu_r")
    names = [shorten(name) for name in shown.parameters]
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(which="both", length=0, labelsize=7.5)
    for row, line in enumerate(shown.matrix):
        for column, value in enumerate(line):
            if row != column and abs(value) >= 0.005:
                _write_correlation(axes, row, column, value)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("Correlation", fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _write_correlation(axes: Axes, row: int, column: int, value: float) -> None:
    text = f"{value:.2f}".replace("0.", ".").replace("-", "\N{MINUS SIGN}")
    axes.text(
        column,
        row,
        text,
        ha="center",
        va="center",
        fontsize=6,
        color="white" if abs(value) > 0.6 else "black",
    )


# --------------------------------------------------------------------------- yields


def draw_yields(
    diagnostics: Diagnostics | YieldTables,
    title: str,
    when: Literal["prefit", "postfit"] = "postfit",
    *,
    per_page: int = CHANNELS_A_PAGE,
) -> list[Figure]:
    """Draw data and expected yields of all channels.

    Parameters
    ----------
    diagnostics
        Diagnostics of the fit, or its yields alone.
    title
        Name of the fit; may have several lines.
    when
        Before or after the fit.
    per_page
        Channels of one page.

    Returns
    -------
    list
        A figure a page.
    """
    colours = _sample_colours(diagnostics)
    channels = diagnostics.channels
    count = max(1, math.ceil(len(channels) / per_page))
    size = math.ceil(len(channels) / count)
    figures = []
    for number in range(count):
        page = channels[number * size : (number + 1) * size]
        of = f" ({number + 1} of {count})" if count > 1 else ""
        figures.append(_yield_page(diagnostics, f"{title}{of}", when, page, colours))
    return figures


def _sample_colours(diagnostics: Diagnostics | YieldTables) -> dict[str, str]:
    """Choose a colour for each sample, in the order of the stack: signals are on top."""
    sizes: dict[str, float] = {}
    for channel in diagnostics.channels:
        total = max(abs(channel.postfit.model.total), 1e-12)
        for name, sample in channel.postfit.samples.items():
            # Parts of channels: a large control region does not decide alone.
            sizes[name] = sizes.get(name, 0.0) + sample.total / total
    backgrounds = sorted(
        (name for name in sizes if name not in diagnostics.signals), key=sizes.__getitem__
    )
    colours = {
        name: _SAMPLES[number % len(_SAMPLES)] for number, name in enumerate(reversed(backgrounds))
    }
    ordered = {name: colours[name] for name in backgrounds}
    return ordered | dict.fromkeys(
        (name for name in diagnostics.signals if name in sizes), COLOURS["signal"]
    )


def _yield_page(
    diagnostics: Diagnostics | YieldTables,
    title: str,
    when: Literal["prefit", "postfit"],
    channels: Sequence[Channel],
    colours: dict[str, str],
) -> Figure:
    # In two rows, if not in one.
    columns = max(len(channels), 1) if len(channels) <= 3 else math.ceil(len(channels) / 2)
    lines = max(1, math.ceil(len(channels) / columns))
    with mpl.rc_context({**STYLE, "hatch.linewidth": 0.7, "hatch.color": "0.25"}):
        figure = new_figure(max(3.1 * columns, 6.6), 1.3 + 3.4 * lines, h_pad=0.015)
        # One grid, so that the columns of all lines are as wide.
        grid = figure.add_gridspec(2 * lines, columns, height_ratios=[2.6, 1.0] * lines)
        for number, channel in enumerate(channels):
            line, column = divmod(number, columns)
            upper = figure.add_subplot(grid[2 * line, column])
            lower = figure.add_subplot(grid[2 * line + 1, column], sharex=upper)
            prediction = channel.prefit if when == "prefit" else channel.postfit
            _stack(upper, channel, prediction, colours)
            _ratio(lower, channel, prediction)
            if column == 0:
                upper.set_ylabel("Events", loc="top")
                lower.set_ylabel("Data / model", fontsize=9)
            if number + columns >= len(channels):
                lower.set_xlabel("Bin", loc="right", fontsize=10)
        names = [
            name for name in colours if any(name in channel.prefit.samples for channel in channels)
        ]
        _yield_legend(figure, diagnostics, title, when, names, colours)
        figure.canvas.draw()
    return figure


def _edges(channel: Channel) -> FloatArray:
    return np.arange(len(channel.data) + 1, dtype=np.float64) + 0.5


def _steps(edges: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.repeat(edges, 2)[1:-1], np.repeat(values, 2)


def _stack(axes: Axes, channel: Channel, prediction: Prediction, colours: dict[str, str]) -> None:
    edges = _edges(channel)
    bottom = np.zeros(len(channel.data))
    for name, colour in colours.items():
        if name not in prediction.samples:
            continue
        top = bottom + np.array(prediction.samples[name].values)
        x, low = _steps(edges, bottom)
        _, high = _steps(edges, top)
        axes.fill_between(x, low, high, color=colour, linewidth=0)
        bottom = top
    model, errors = np.array(prediction.model.values), np.array(prediction.model.errors)
    x, middle = _steps(edges, model)
    axes.plot(x, middle, color="black", linewidth=0.9)
    _, low = _steps(edges, model - errors)
    _, high = _steps(edges, model + errors)
    axes.fill_between(x, low, high, **_HATCH)
    data = np.array(channel.data)
    below, above = poisson_errors(data)
    centres = (edges[1:] + edges[:-1]) / 2
    axes.errorbar(centres, data, yerr=[below, above], **_DATA)
    _yield_scale(axes, model + errors, data + above, np.concatenate([model, data]))
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(axis="x", which="both", labelbottom=False, top=False, bottom=False)
    axes.text(
        0.04, 0.95, shorten(channel.name, 30), transform=axes.transAxes, va="top", fontsize=10
    )


def _yield_scale(axes: Axes, model: FloatArray, data: FloatArray, values: FloatArray) -> None:
    """Set a linear scale from zero, or a logarithmic one if bins differ by more than 100."""
    observed = np.max(data, initial=0.0, where=np.isfinite(data))  # blinded data are NaN
    top = float(max(np.max(model, initial=0.0), observed)) or 1.0
    least = float(np.min(values[values > 0], initial=np.inf))
    if top > 100 * least:
        axes.set_yscale("log")
        axes.set_ylim(least / 5, top * 20)
    else:
        axes.set_ylim(0.0, 1.4 * top)
        axes.yaxis.set_major_locator(MaxNLocator(5, prune="lower"))


def _ratio(axes: Axes, channel: Channel, prediction: Prediction) -> None:
    edges = _edges(channel)
    centres = (edges[1:] + edges[:-1]) / 2
    model, errors = np.array(prediction.model.values), np.array(prediction.model.errors)
    positive = model > 0
    safe = np.where(positive, model, 1.0)
    x, high = _steps(edges, np.where(positive, 1 + errors / safe, np.nan))
    _, low = _steps(edges, np.where(positive, 1 - errors / safe, np.nan))
    axes.fill_between(x, low, high, **_HATCH)
    axes.axhline(1.0, color="black", linewidth=0.9)
    data = np.array(channel.data)
    below, above = poisson_errors(data)
    ratio = np.where(positive, data / safe, np.nan)
    axes.errorbar(centres, ratio, yerr=[below / safe, above / safe], **_DATA)
    top = 2.0
    axes.set_ylim(0.0, top)
    # Arrows point to what lies outside.
    outside = ratio > top
    axes.plot(
        centres[outside],
        np.full(np.count_nonzero(outside), 0.93 * top),
        linestyle="none",
        marker="^",
        color=COLOURS["suspect"],
        markersize=6,
        zorder=6,
    )
    axes.set_yticks([0.5, 1.0, 1.5])
    axes.tick_params(axis="x", which="both", top=False, bottom=False, labelsize=9)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(centres[:: math.ceil(len(centres) / 12)].tolist()))


def _yield_legend(
    figure: Figure,
    diagnostics: Diagnostics | YieldTables,
    title: str,
    when: str,
    names: Sequence[str],
    colours: dict[str, str],
) -> None:
    data = Line2D([], [], color="black", marker="o", markersize=4, linewidth=1.2)
    total = Box(**{**_HATCH, "edgecolor": "0.25"})
    strength = 0.0
    if isinstance(diagnostics, YieldTables):
        strength = (diagnostics.mu if when == "postfit" else diagnostics.mu_prefit) or 0.0
    elif diagnostics.poi:
        mu = diagnostics.parameter(diagnostics.poi)
        strength = mu.value if when == "postfit" else mu.prefit_value
    hidden = [channel for channel in diagnostics.channels if not np.isfinite(channel.data).any()]
    of_data = "Data" + f" (blinded in {counted(len(hidden), 'channel')})" * bool(hidden)
    entries: list[Entry] = [(data, of_data), (total, "Total uncertainty")]
    for name in reversed(names):
        words = shorten(name, 30)
        if name in diagnostics.signals:
            words += rf" ($\mu = {strength:.3g}$)"
        entries.append((Box(facecolor=colours[name], linewidth=0), words))
    subtitle = (
        _of_regions(diagnostics) if isinstance(diagnostics, YieldTables) else _subtitle(diagnostics)
    )
    words = "Before the fit" if when == "prefit" else f"After the fit; {subtitle}"
    _write_legend(figure, f"{title}\n{words}", entries, columns=4, fontsize=9)


def poisson_errors(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute the distances to the ends of the central 68.3 % interval for a Poisson mean.

    Source: Garwood, Biometrika 28 (1936) 437. The ends are half the quantiles of chi-squared with
    2n and 2n + 2 degrees of freedom. Inverse incomplete gamma functions give them for any count,
    also for one that is not an integer.
    """
    tail = (1 - _ONE_SIGMA) / 2
    counts = np.asarray(counts, dtype=float)
    positive = counts > 0
    lower = np.where(positive, gammaincinv(np.where(positive, counts, 1.0), tail), 0.0)
    upper = gammaincinv(counts + 1, 1 - tail)
    return np.asarray(counts - lower), np.asarray(upper - counts)


def _subtitle(diagnostics: Diagnostics) -> str:
    words = _NO_POI
    if diagnostics.poi:
        words = f"best fit {_strength(diagnostics)}"
        if diagnostics.parameter(diagnostics.poi).state == "at_bound":
            words += ", at its bound"
    return words if diagnostics.status == "ok" else f"{words} (fit not trusted)"


def _of_regions(tables: YieldTables) -> str:
    """Say which channels the fit of some tables is one of."""
    fitted, count = len(tables.fitted), len(tables.channels)
    words = "all channels fitted" if fitted == count else f"{fitted} of {count} channels fitted"
    words += f", {len(tables.blinded)} blinded" if tables.blinded else ""
    return words if tables.status == "ok" else f"{words} (fit not trusted)"


def _of_pulls(pulls: Pulls) -> str:
    words = _NO_POI
    if pulls.mu is not None:
        words = rf"fit, {shorten(pulls.poi)} = {pulls.mu:.3g}"
    return words if pulls.status == "ok" else f"{words} (fit not trusted)"


def _strength(diagnostics: Diagnostics) -> str:
    """Write the best fit, with two digits of its uncertainty."""
    if not diagnostics.mu_hat_error:
        return rf"$\hat{{\mu}} = {diagnostics.mu_hat:.3g}$"
    value, error = diagnostics.mu_hat, diagnostics.mu_hat_error
    digits = max(0, 1 - math.floor(math.log10(error)))
    return rf"$\hat{{\mu}} = {value:.{digits}f} \pm {error:.{digits}f}$"


def shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """Cut a long name in the middle, and escape the sign that starts mathematics.

    Characters that are not printable are replaced.
    """
    name = printable(name)
    if len(name) > longest:
        half = (longest - 1) // 2
        name = f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"
    return name.replace("$", r"\$")
