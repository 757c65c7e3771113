"""Plotly figure of a plane, with the content of :mod:`palletfit.planes.plots`."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import contourpy
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from palletfit.config import Plane
from palletfit.core.arrays import FloatArray
from palletfit.planes.colours import COLOURS, SURFACES
from palletfit.planes.contour import (
    ON_NO_POINT,
    ON_ONE_POINT,
    UNTESTED,
    Curve,
    Exclusion,
    curve_label,
)
from palletfit.planes.mathtext import to_html
from palletfit.planes.view import marker_scale, view

_FONT = '"DejaVu Sans", "Segoe UI", "Helvetica Neue", Arial, sans-serif'
#: Digits after the point of coordinates, relative to the range of the axes.
_DIGITS = 5
_PAGE, _TEXT, _AXIS, _BORDER, _FORBIDDEN, _HATCH = (
    SURFACES[name][0] for name in ("page", "text", "axis", "border", "forbidden", "hatch")
)
#: Name of the annotation that the script of the page puts along the forbidden part.
FORBIDDEN = "forbidden"
#: Markers by status.
_MARKERS: dict[str, dict[str, Any]] = {
    "ok": {"symbol": "circle", "color": COLOURS["points"], "size": 6},
    "suspect": {
        "symbol": "diamond",
        "color": _PAGE,
        "size": 10,
        "line": {"color": COLOURS["suspect"], "width": 2},
    },
    UNTESTED: {"symbol": "circle-open", "color": COLOURS["points"], "size": 5, "opacity": 0.6},
    "failed": {
        "symbol": "x-thin",
        "size": 9,
        "line": {"color": COLOURS["failed"], "width": 2.2},
    },
}
_STATUS_LABELS = {
    "ok": "Signal points",
    "suspect": "Fit not trusted",
    UNTESTED: "Forecast, not tested",
    "failed": "Fit failed",
}


def draw(
    exclusion: Exclusion, plane: Plane, details: Mapping[str, Any], shown_bands: Sequence[int]
) -> go.Figure:
    """Draw the figure.

    Parameters
    ----------
    exclusion
        Contours and points.
    plane
        Titles of the axes, and the label of the forbidden part.
    details
        Result of :func:`palletfit.pages.interactive.details`, for the text next to the pointer.
    shown_bands
        Bands that are visible at first. Others are switched on in the legend.
    """
    low, high = _range(exclusion)
    digits = _digits(high - low)
    traces = [
        *_bands(exclusion, shown_bands, digits),
        *_forbidden(exclusion, plane, high, digits),
        _curve("expected", "Expected limit", exclusion.curves["expected"], digits),
        *(
            _curve("observed", "Observed limit", exclusion.curves[name], digits)
            for name in exclusion.curves
            if name == "observed"  # blinded points have none
        ),
        *_islands(exclusion, digits),
        *_other(exclusion, digits),
        *_published(exclusion, digits),
        *_rests_on(exclusion, shown_bands),
        *_points(exclusion.points, details),
    ]
    axis = {
        "showline": True,
        "linecolor": _AXIS,
        "mirror": True,
        "ticks": "inside",
        "ticklen": 7,
        "tickcolor": _AXIS,
        "showgrid": False,
        "zeroline": False,
        "minor": {"ticks": "inside", "ticklen": 3.5, "tickcolor": _AXIS},
    }
    layout = {
        "font": {"family": _FONT, "size": 13, "color": _TEXT},
        "paper_bgcolor": _PAGE,
        "plot_bgcolor": _PAGE,
        "margin": {"l": 76, "r": 40, "t": 20, "b": 60},
        "hovermode": "closest",
        "hoverdistance": 12,
        "hoverlabel": {
            "bgcolor": _PAGE,
            "bordercolor": _BORDER,
            "align": "left",
            "font": {"color": _TEXT},
        },
        "modebar": {"orientation": "v", "bgcolor": _PAGE, "color": _BORDER, "activecolor": _AXIS},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {**axis, "range": [low[0], high[0]], "title": {"text": to_html(plane.x_title)}},
        "yaxis": {**axis, "range": [low[1], high[1]], "title": {"text": to_html(plane.y_title)}},
        "annotations": list(_label(exclusion, plane, low, high)),
        # Choices of the user remain when the figure changes.
        "uirevision": "same",
    }
    return go.Figure(traces, layout)


def _range(exclusion: Exclusion) -> tuple[FloatArray, FloatArray]:
    points = exclusion.points[["x", "y"]].to_numpy(dtype=np.float64)
    segments = [segment for curve in exclusion.published.values() for segment in curve]
    shown = np.concatenate([points, *segments])
    return view(shown) if len(shown) else (np.zeros(2), np.ones(2))


def _digits(size: FloatArray) -> int:
    return int(np.clip(_DIGITS - math.floor(math.log10(size.max())), 0, 12))


def _lines(lines: Sequence[FloatArray], digits: int) -> dict[str, list[float | None]]:
    """Convert lines to columns x and y, with gaps between the lines."""
    x: list[float | None] = []
    y: list[float | None] = []
    for number, line in enumerate(lines):
        gap: list[float | None] = [None] if number else []
        x += [*gap, *np.round(line[:, 0], digits).tolist()]
        y += [*gap, *np.round(line[:, 1], digits).tolist()]
    # The legend omits a trace without points.
    return {"x": x or [None], "y": y or [None]}


def _bands(exclusion: Exclusion, shown: Sequence[int], digits: int) -> Iterator[go.Scatter]:
    for width in (2, 1):
        field = exclusion.band(width)
        if field is None:
            continue
        yield go.Scatter(
            **_lines(_filled(exclusion, field), digits),
            name=f"Expected ±{width} \N{GREEK SMALL LETTER SIGMA}",
            meta=f"band{width}",
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=COLOURS[f"band{width}"],
            hoverinfo="skip",
            visible=True if width in shown else "legendonly",
        )


def _filled(exclusion: Exclusion, field: FloatArray) -> list[FloatArray]:
    """Compute the borders of the area where a field is negative; holes have the other direction."""
    if not np.nanmin(field, initial=0.0) < 0:
        return []
    generator = contourpy.contour_generator(
        exclusion.grid_x,
        exclusion.grid_y,
        np.ma.masked_invalid(field),
        corner_mask=True,
        fill_type=contourpy.FillType.OuterOffset,
    )
    # Two lists for each area: points, and the indices at which its borders start.
    areas = zip(*generator.filled(float(np.nanmin(field)) - 1.0, 0.0)[:2], strict=True)
    return [
        np.asarray(points[start:end], dtype=np.float64)
        for points, offsets in areas
        for start, end in itertools.pairwise(offsets)
    ]


def _forbidden(
    exclusion: Exclusion, plane: Plane, high: FloatArray, digits: int
) -> Iterator[go.Scatter]:
    if plane.forbidden is None or exclusion.forbidden is None or not len(exclusion.forbidden):
        return
    border = exclusion.forbidden
    top = max(float(high[1]), float(border[:, 1].max()))
    corners = np.array([[border[-1, 0], top], [border[0, 0], top]])
    # The border is smooth: a tenth of its points suffices.
    outline = np.concatenate([border[::10], border[-1:], corners])
    yield go.Scatter(
        **_lines([outline], digits),
        name="Forbidden",
        meta="forbidden",
        mode="lines",
        line={"color": _BORDER, "width": 0.8},
        fill="toself",
        fillcolor=_FORBIDDEN,
        fillpattern={"shape": "/", "fgcolor": _HATCH, "bgcolor": _FORBIDDEN, "size": 9},
        hoverinfo="skip",
        showlegend=False,
    )


def _label(
    exclusion: Exclusion, plane: Plane, low: FloatArray, high: FloatArray
) -> Iterator[dict[str, Any]]:
    """Write the label of the forbidden part; the script of the page puts it along the border."""
    if plane.forbidden is None or not plane.forbidden.label or exclusion.forbidden is None:
        return
    border = exclusion.forbidden
    visible = border[((border > low) & (border < high)).all(axis=1)]
    if len(visible) < 2:
        return
    x, y = visible[len(visible) // 2]
    yield {
        "name": FORBIDDEN,
        "x": float(x),
        "y": float(y),
        "text": to_html(plane.forbidden.label),
        "showarrow": False,
        "bgcolor": _FORBIDDEN,
        "borderpad": 1,
        "font": {"size": 12, "color": _TEXT},
        "xanchor": "center",
        "yanchor": "middle",
    }


def border(exclusion: Exclusion, plane: Plane) -> list[list[float]]:
    """Give points of the border of the forbidden part, which its label follows; maybe none."""
    if plane.forbidden is None or exclusion.forbidden is None or not len(exclusion.forbidden):
        return []
    low, high = _range(exclusion)
    outline = exclusion.forbidden
    points = np.concatenate([outline[::10], outline[-1:]])
    return [[x, y] for x, y in np.round(points, _digits(high - low)).tolist()]


def _curve(kind: str, name: str, curve: Curve, digits: int) -> go.Scatter:
    width, dash = {"observed": (2.6, "solid"), "expected": (2.0, "dash")}[kind]
    return go.Scatter(
        **_lines([line.vertices for line in curve.lines if not line.is_empty], digits),
        name=curve_label(name, curve),
        meta=kind,
        mode="lines",
        line={"color": COLOURS[kind], "width": width, "dash": dash},
        hoverinfo="skip",
    )


def _islands(exclusion: Exclusion, digits: int) -> Iterator[go.Scatter]:
    """Yield the closed pieces of contours around no point, if there are some."""
    for kind in ("expected", *(() if exclusion.blinded else ("observed",))):
        curve = exclusion.curves[kind]
        lines = [line.vertices for line in curve.lines if line.is_empty]
        if lines:
            yield go.Scatter(
                **_lines(lines, digits),
                name=f"{ON_NO_POINT}, {kind}",
                meta=f"island_{kind}",
                mode="lines",
                line={"color": COLOURS[kind], "width": 2.0, "dash": "dot"},
                hoverinfo="skip",
            )


def _rests_on(exclusion: Exclusion, bands: Sequence[int]) -> Iterator[go.Scatter]:
    """Yield rings around the points of which one alone holds a contour where it is."""
    rows = exclusion.rests_on(bands)
    if len(rows):
        yield go.Scatter(
            x=rows["x"].tolist(),
            y=rows["y"].tolist(),
            name=f"{ON_ONE_POINT} ({len(rows)})",
            meta="rests_on",
            mode="markers",
            marker={
                "symbol": "circle-open",
                "color": _BORDER,
                "size": 14,
                "line": {"width": 1.2, "color": _BORDER},
            },
            cliponaxis=False,
            hoverinfo="skip",
        )


def _other(exclusion: Exclusion, digits: int) -> Iterator[go.Scatter]:
    """Yield the contours with another minimum of the likelihood, if there are some."""
    other = exclusion.other
    if other is None:
        return
    for kind, dash in (("expected", "dash"), ("observed", "solid")):
        if kind not in other.curves:
            continue
        curve = other.curves[kind]
        yield go.Scatter(
            **_lines([line.vertices for line in curve.lines], digits),
            name=curve_label(other.label(kind), curve),
            meta=f"other_{kind}",
            mode="lines",
            line={"color": COLOURS["other"], "width": 1.3, "dash": dash},
            hoverinfo="skip",
        )


def _published(exclusion: Exclusion, digits: int) -> Iterator[go.Scatter]:
    dashes = {"observed": "solid", "expected": "dashdot"}
    for kind, segments in exclusion.published.items():
        yield go.Scatter(
            **_lines(segments, digits),
            name=f"Published {kind} limit",
            meta=f"published_{kind}",
            mode="lines",
            line={"color": COLOURS["published"], "width": 1.3, "dash": dashes[kind]},
            hoverinfo="skip",
        )


def _points(points: pd.DataFrame, details: Mapping[str, Any]) -> Iterator[go.Scatter]:
    for status, marker in _MARKERS.items():
        rows = points[points["status"] == status]
        if rows.empty:
            continue
        names = [str(name) for name in rows["patch"]]
        if status == "ok":
            marker = {**marker, "size": round(marker["size"] * marker_scale(len(points)), 1)}
        count = "" if status == "ok" else f" ({len(rows)})"
        yield go.Scatter(
            x=rows["x"].tolist(),
            y=rows["y"].tolist(),
            name=_STATUS_LABELS[status] + count,
            meta=f"points_{status}",
            mode="markers",
            marker=marker,
            cliponaxis=False,
            customdata=names,
            hoverinfo="text",
            hovertext=[_hover(name, details.get(name, {})) for name in names],
        )


def _hover(name: str, detail: Mapping[str, Any]) -> str:
    """Write the text next to the pointer, with the few tags that Plotly supports."""
    values = ", ".join(f"{label} = {value}" for label, value in detail.get("labels", []))
    lines = [f"<b>{_plain(name)}</b>", _plain(values)]
    other, limits = detail.get("other", {}), detail.get("limits", {})
    other_limits = limits.get("other", {})
    for title, numbers in (
        ("CLs", detail.get("CLs")),
        ("CLs, forecast", detail.get("forecast")),
        (f"CLs, {other.get('minimum')} minimum", other.get("CLs")),
        ("upper limit on μ", limits.get("mu")),
        (f"upper limit on μ, {other_limits.get('minimum')} minimum", other_limits.get("mu")),
        ("upper limit in pb", limits.get("pb")),
    ):
        if numbers:
            observed, low, median, high = (_short(numbers[index]) for index in (0, 2, 3, 4))
            observed = "blinded" if detail.get("blinded") else f"<b>{observed}</b> observed"
            lines.append(f"{title}: {observed}")
            lines.append(f"   {median} expected ({low} to {high})")
    fits = detail.get("fits", [])
    edm = [fit["edm"] for fit in fits if fit["edm"] is not None]
    evidence = f", edm ≤ {_short(max(edm))}" if edm else ""
    lines.append(f"{detail.get('status', '')}, region {_plain(detail.get('region', ''))}{evidence}")
    lines += [_plain(fit["reason"]) for fit in fits if not fit["trusted"]]
    if "problem" in detail:
        lines.append(_plain(detail["problem"]))
    return "<br>".join(line for line in lines if line)


def _plain(text: str) -> str:
    shortened = text if len(text) <= 80 else f"{text[:79]}…"
    return html.escape(shortened, quote=False)


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
