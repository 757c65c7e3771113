"""Plots of upper limits: in a plane with their numbers, and along a line with their bands."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from palletfit.config import Analysis, Plane, Slice
from palletfit.core.arrays import FloatArray
from palletfit.core.files import read_json, write_json
from palletfit.planes import overlay
from palletfit.planes.contour import Exclusion, curve_label, other_label
from palletfit.planes.placement import Obstacles, put_beside
from palletfit.planes.plots import (
    OTHER_LINES,
    draw_curve,
    draw_forbidden,
    draw_other,
    draw_points,
    draw_published,
    draw_support,
    set_view,
)
from palletfit.planes.style import (
    COLOURS,
    STYLE,
    Entry,
    new_figure,
    save,
    save_pages,
    title_lines,
    write_legend,
)
from palletfit.products.limits.bands import draw_bands
from palletfit.products.limits.planes import Line, along, as_json, limit_contours, mu_field
from palletfit.products.limits.published import compare
from palletfit.products.limits.table import SIGMAS, read_table
from palletfit.runs.product import Drawing

logger = logging.getLogger(__name__)

#: Largest range of the colours: decades above and below one.
_DECADES = 2.0
#: Part of white in the colours, so that numbers can be read on them.
_PALE = 0.45
#: Free space beside the points of a line, in parts of its length.
_MARGIN = 0.02
#: Sizes of the numbers beside points, and the width of a digit in parts of them.
_SMALLEST, _LARGEST, _ASPECT = 3.5, 7.5, 0.62
#: Height of a number in parts of its size, and its smallest distance from the point.
_HEIGHT, _GAP = 0.85, 2.2


def write_plane(drawing: Drawing) -> None:
    """Write the plot of a plane's limits, and ``limit_contour.json``."""
    analysis = drawing.analysis
    plane = analysis.plane_of_suffix(drawing.subject)
    published = read_json(drawing.inputs["curves"])
    limits = read_table(drawing.inputs["table"])
    contours = limit_contours(
        limits,
        plane,
        drawing.settings.contour,
        overlay.segments(published),
        overlay.left_out(published),
    )
    content = as_json(contours)
    table = published.get(overlay.LIMITS, {})
    if contours.blinded:
        pass  # published limits are observed ones
    elif "points" in table:
        comparison = compare(contours.points, np.asarray(table["points"]), table["unit"])
        content["published_limits"] = comparison.as_json()
        logger.info("%s: %s", analysis.name, comparison)
    elif "problem" in table:
        content["published_limits"] = {"problem": table["problem"]}
    save(draw_limits(contours, analysis, plane), [*drawing.files["png"], *drawing.files["pdf"]])
    write_json(drawing.files["contour"][0], content)


def write_slice(drawing: Drawing) -> None:
    """Write the plot of limits along a line of signal points."""
    analysis, level = drawing.analysis, drawing.settings.contour.confidence_level
    chosen = analysis.slices[drawing.subject]
    line = along(read_table(drawing.inputs["table"]), chosen)
    figure = draw_slice(line, analysis, chosen, level)
    save(figure, [*drawing.files["png"], *drawing.files["pdf"]])


def write_names(drawing: Drawing) -> None:
    """Write the plot of limits by the names of points; many take several pages of the PDF."""
    level = drawing.settings.contour.confidence_level
    limits = {
        str(point["patch"]): (
            _or_none(point["mu_obs"]),
            [_or_none(point[f"mu_exp_{sigma}"]) for sigma in SIGMAS],
        )
        for point in read_table(drawing.inputs["table"]).to_dict("records")
    }
    axis = f"{100 * level:g}% CL upper limit"
    pages = draw_bands(limits, title_lines(drawing.analysis), axis, None)
    save_pages(pages, [*drawing.files["png"], *drawing.files["pdf"]])


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def draw_limits(contours: Exclusion, analysis: Analysis, plane: Plane) -> Figure:
    """Draw the upper limits on mu in one plane.

    Numbers and colours are the observed limits, or the median expected ones where points are
    blinded. The contour lies where they cross one.

    Parameters
    ----------
    contours
        From :func:`palletfit.products.limits.planes.limit_contours`.
    analysis
        Gives the title.
    plane
        Gives the axes' titles and the label of the forbidden part.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(8.4, 7.2)
        axes = figure.add_subplot()
        set_view(axes, contours)
        _colour(figure, axes, contours)
        entries = [
            *_curves(axes, contours),
            *draw_other(axes, contours),
            *draw_published(axes, contours),
        ]
        marked = [*draw_points(axes, contours), *draw_support(axes, contours)]
        draw_forbidden(axes, contours, plane)
        axes.set_xlabel(plane.x_title, loc="right", fontsize=13)
        axes.set_ylabel(plane.y_title, loc="top", fontsize=13)
        level = (
            rf"Numbers: {_kind(contours)} upper limits on $\mu$ at "
            rf"{100 * contours.confidence_level:g}% CL"
        )
        if (contours.points[f"state_{_ending(contours)}"] == "beyond").any():
            level += r"; $>$: beyond the bound of the fit"
        words = [plane.title] if plane.title else []
        write_legend(figure, [*title_lines(analysis), *words, level], [*entries, *marked])
        _write_numbers(axes, contours)
        figure.canvas.draw()
    return figure


def _kind(contours: Exclusion) -> str:
    """Name the limits that numbers and colours show: those of blinded points are expected ones."""
    return "expected" if contours.blinded else "observed"


def _ending(contours: Exclusion) -> str:
    """Give the ending of the columns of these limits."""
    return "exp_0" if contours.blinded else "obs"


def _colour(figure: Figure, axes: Axes, contours: Exclusion) -> None:
    kind = _kind(contours)
    if kind not in contours.fields:
        return
    field = np.ma.masked_invalid(mu_field(contours, kind))
    fitted = contours.points.loc[contours.points["status"] != "failed"]
    values = fitted[f"mu_{_ending(contours)}"].fillna(fitted["mu_max"]).to_numpy(dtype=float)
    low = max(float(values.min()), 10**-_DECADES)
    high = min(float(values.max()), 10**_DECADES)
    if low >= high:
        low, high = low / 2, low * 2
    colours = mpl.colormaps["viridis_r"](np.linspace(0.0, 1.0, 256))
    colours[:, :3] = (1 - _PALE) * colours[:, :3] + _PALE
    mesh = axes.pcolormesh(
        contours.grid_x,
        contours.grid_y,
        np.clip(field, low, high),
        norm=LogNorm(low, high),
        cmap=ListedColormap(colours),
        rasterized=True,
        zorder=0,
    )
    ends = bool((values < low).any()), bool((values > high).any())
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(ends, "neither")
    bar = figure.colorbar(mesh, ax=axes, pad=0.015, extend=extend, aspect=32)
    bar.set_label(rf"{kind.capitalize()} upper limit on $\mu$", loc="top", fontsize=12)
    bar.ax.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())


def _curves(axes: Axes, contours: Exclusion) -> list[Entry]:
    """Draw where the limits are one: observed, expected, and the border of its band."""
    entries: list[Entry] = []
    if not contours.blinded:
        observed = contours.curves["observed"]
        handle = draw_curve(axes, observed, color=COLOURS["observed"], linestyle="-", linewidth=2.2)
        entries.append((handle, curve_label(r"Observed limit on $\mu$ is one", observed)))
    expected = contours.curves["expected"]
    handle = draw_curve(axes, expected, color=COLOURS["expected"], linestyle="--", linewidth=1.6)
    subject = r"Expected limit on $\mu$" if contours.blinded else "Expected limit"
    entries.append((handle, curve_label(f"{subject} is one", expected)))
    for width in (1, 2):
        names = [f"expected_{sign}{width}" for sign in ("minus", "plus")]
        if not set(names) <= set(contours.curves):
            continue
        for name in names:
            handle = draw_curve(
                axes, contours.curves[name], color=COLOURS["expected"], linestyle=":", linewidth=1.0
            )
        entries.append((handle, rf"$\pm{width}\,\sigma_{{\mathrm{{exp}}}}$"))
    return entries


def _write_numbers(axes: Axes, contours: Exclusion) -> None:
    """Write the shown limits beside their points; all that is drawn must be there already."""
    halo = [patheffects.withStroke(linewidth=1.4, foreground="white", alpha=0.75)]
    state, mu = f"state_{_ending(contours)}", f"mu_{_ending(contours)}"
    shown = contours.points[contours.points[state].isin(["found", "beyond"])]
    texts = [
        f">{short(point['mu_max'])}" if point[state] == "beyond" else short(point[mu])
        for point in shown.to_dict("records")
    ]
    points = shown[["x", "y"]].to_numpy(dtype=float)
    sizes = _sizes(axes, points, texts)
    boxes = np.array(
        [
            (_ASPECT * size * len(text), _HEIGHT * size)
            for size, text in zip(sizes, texts, strict=True)
        ]
    ).reshape(-1, 2)
    positions = _on_page(axes, points)
    centres = put_beside(positions, boxes, _obstacles(axes, contours), _GAP)
    for text, size, point, shift, of_point in zip(
        texts, sizes, points, centres - positions, shown[state], strict=True
    ):
        axes.annotate(
            text,
            tuple(point),
            xytext=tuple(shift),
            textcoords="offset points",
            horizontalalignment="center",
            verticalalignment="center_baseline",
            fontsize=size,
            color="black",
            fontstyle="italic" if of_point == "beyond" else "normal",
            path_effects=halo,
            zorder=8,  # over the label of the forbidden part
            clip_on=False,
        )


def _obstacles(axes: Axes, contours: Exclusion) -> Obstacles:
    """Collect what numbers should not cover: ticks, curves, the forbidden part and its label."""
    frame = np.reshape(axes.bbox.extents, (2, 2)) * 72 / axes.figure.dpi
    ticks = float(mpl.rcParams["xtick.major.size"])
    curves = [
        _on_page(axes, line.vertices)
        for curve in [
            *contours.curves.values(),
            *(contours.other.curves if contours.other else {}).values(),
        ]
        for line in curve.lines
    ]
    curves += [
        _on_page(axes, segment) for segments in contours.published.values() for segment in segments
    ]
    areas = []
    if contours.forbidden is not None and len(contours.forbidden) > 1:
        border = contours.forbidden
        top = max(float(axes.get_ylim()[1]), float(border[:, 1].max()))
        corners = np.array([[border[-1, 0], top], [border[0, 0], top]])
        areas.append(_on_page(axes, np.concatenate([border, corners])))
    return Obstacles(frame + np.array([[ticks], [-ticks]]), curves, areas)


def _on_page(axes: Axes, points: FloatArray) -> FloatArray:
    """Convert coordinates to points of the page, shape (n, 2)."""
    return np.asarray(axes.transData.transform(points) * 72 / axes.figure.dpi)


def _sizes(axes: Axes, points: FloatArray, texts: Sequence[str]) -> list[float]:
    """Choose sizes of numbers so that neighbours in a row do not cover each other."""
    axes.figure.canvas.draw()  # the layout fixes the positions
    positions = _on_page(axes, points)
    sizes = []
    for position, text in zip(positions, texts, strict=True):
        across, up = np.abs(positions - position).T
        beside = across[(up < _LARGEST) & (across > 0)]
        room = float(beside.min(initial=np.inf)) / (_ASPECT * len(text))
        sizes.append(min(max(room, _SMALLEST), _LARGEST))
    return sizes


def short(value: float) -> str:
    """Write a number with two significant digits, a large one as an integer."""
    if value >= 10:
        return f"{value:.0f}"
    if value >= 1:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def draw_slice(line: Line, analysis: Analysis, chosen: Slice, confidence_level: float) -> Figure:
    """Draw upper limits along a line of signal points, with the bands of the expected one.

    Parameters
    ----------
    line
        From :func:`palletfit.products.limits.planes.along`.
    analysis
        Gives the title.
    chosen
        Gives the axis' title.
    confidence_level
        Of the limits.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 5.8)
        axes = figure.add_subplot()
        entries = _limit_curves(axes, line) if len(line.points) else []
        axes.set_xlabel(chosen.x_title, loc="right", fontsize=13)
        quantity = r"$\sigma$ [pb]" if line.in_pb else r"$\mu = \sigma / \sigma_{\mathrm{theory}}$"
        axes.set_ylabel(f"{100 * confidence_level:g}% CL upper limit on {quantity}", loc="top")
        words = [chosen.title] if chosen.title else []
        if line.without:
            words.append(f"Without a limit: {', '.join(line.without)}")
        write_legend(figure, [*title_lines(analysis), *words], entries)
        figure.canvas.draw()
    return figure


def _limit_curves(axes: Axes, line: Line) -> list[Entry]:
    x = line.points["x"].to_numpy(dtype=float)
    axes.set_yscale("log")
    entries: list[Entry] = []
    for width in (2, 1):
        colour = COLOURS[f"sigma{width}"]
        # An upper end beyond the bound is drawn at the bound, a lower one not at all.
        low, high = _within_bound(line, f"exp_minus{width}"), line.limit(f"exp_plus{width}")
        axes.fill_between(x, low, high, facecolor=colour, linewidth=0, zorder=width * -1 + 3)
        entries.append((Patch(facecolor=colour), rf"Expected $\pm{width}\,\sigma$"))
    style: dict[str, Any] = {"color": COLOURS["expected"], "linestyle": "--", "linewidth": 1.6}
    axes.plot(x, _within_bound(line, "exp_0"), zorder=4, **style)
    expected: Entry = (Line2D([], [], **style), "Expected limit")
    observed_style: dict[str, Any] = {
        "color": "black",
        "marker": "o",
        "markersize": 4,
        "linewidth": 1.6,
    }
    observed: list[Entry] = []
    if not line.blinded:
        axes.plot(x, _within_bound(line, "obs"), zorder=6, clip_on=False, **observed_style)
        observed = [(Line2D([], [], **observed_style), "Observed limit")]
    entries = [
        *observed,
        expected,
        *reversed(entries),
        *_other_curves(axes, line, x),
        _theory(axes, line, x),
    ]
    kinds = ("exp_minus2", "exp_minus1", "exp_0", "exp_plus1", "exp_plus2", "obs")
    cut = np.any([line.beyond(kind) for kind in kinds], axis=0)
    if cut.any():
        bound = line.points["mu_max"].to_numpy(dtype=float) * (line.theory if line.in_pb else 1.0)
        (marks,) = axes.plot(
            x[cut], bound[cut], "^", color="0.35", markersize=5, zorder=7, clip_on=False
        )
        entries.append((marks, "A limit lies beyond the bound of the fit"))
    margin = _MARGIN * (x.max() - x.min() or 1.0)
    axes.set_xlim(x.min() - margin, x.max() + margin)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return entries


def _other_curves(axes: Axes, line: Line, x: FloatArray) -> list[Entry]:
    """Draw the limits with another minimum of the likelihood, if points have some."""
    minimum = line.other_minimum
    if minimum is None:
        return []
    entries: list[Entry] = []
    for name, kind in (("observed", "obs"), ("expected", "exp_0")):
        if line.blinded and name == "observed":
            continue
        style: dict[str, Any] = {
            "color": COLOURS["other"],
            "linestyle": OTHER_LINES[name],
            "linewidth": 1.2,
            # Green on the green band.
            "path_effects": [patheffects.withStroke(linewidth=2.6, foreground="white")],
        }
        axes.plot(x, line.other_limit(kind), zorder=5, **style)
        entries.append((Line2D([], [], **style), other_label(name, minimum)))
    return entries


def _within_bound(line: Line, kind: str) -> FloatArray:
    """Return limits of a kind, with NaN where they lie beyond the bound."""
    return np.where(line.beyond(kind), np.nan, line.limit(kind))


def _theory(axes: Axes, line: Line, x: FloatArray) -> Entry:
    style: dict[str, Any] = {"color": COLOURS["suspect"], "linewidth": 1.6}
    axes.plot(x, line.theory, zorder=4.5, **style)
    error = line.theory_error
    words = r"$\sigma_{\mathrm{theory}}$" if line.in_pb else r"$\mu = 1$"
    handle = Line2D([], [], **style)
    if error is None:
        return handle, words
    low = np.maximum(line.theory - error, 1e-3 * line.theory)
    axes.fill_between(
        x, low, line.theory + error, color=COLOURS["suspect"], alpha=0.3, linewidth=0, zorder=4.2
    )
    band = Line2D([], [], color=COLOURS["suspect"], alpha=0.3, linewidth=7, solid_capstyle="butt")
    return (band, handle), words + r" $\pm 1\,\sigma$"
