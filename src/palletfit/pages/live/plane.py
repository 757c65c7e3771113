"""The plane of an analysis as a picture: points by state and value, and the contour so far.

The picture is SVG, which this module writes itself: matplotlib takes longer to import than some
runs last. The contour is where the linear interpolation between the points that are fitted passes
through the level; the final one is interpolated as the settings say.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palletfit.config import Plane
from palletfit.config.expressions import evaluate
from palletfit.core.arrays import FloatArray
from palletfit.pages.live.snapshot import Point
from palletfit.planes.mathtext import to_html
from palletfit.planes.quantities import Quantity, colour
from palletfit.planes.view import view

#: Size of the picture, and what is left free around the axes: left, top, right, bottom.
_WIDTH, _HEIGHT = 720, 500
_LEFT, _TOP, _RIGHT, _BOTTOM = 68, 14, 18, 52
#: Shift of sub- and superscripts.
_SHIFTS = {"sub": 4, "sup": -5}


@dataclass(frozen=True)
class _Frame:
    """From the units of the plane to those of the picture."""

    lower: FloatArray
    upper: FloatArray

    def place(self, points: FloatArray) -> FloatArray:
        """Shape (n, 2) to (n, 2)."""
        scaled = (points - self.lower) / (self.upper - self.lower)
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return np.column_stack([_LEFT + width * scaled[:, 0], _TOP + height * (1 - scaled[:, 1])])


def draw(
    plane: Plane,
    labels: Sequence[str],
    points: Sequence[tuple[str, Point]],
    quantity: Quantity,
    confidence_level: float,
) -> str:
    """The picture of one plane.

    Parameters
    ----------
    plane
        Its axes, and which points belong to it.
    labels
        Names of the points' values.
    points
        Regions and points in them.
    quantity
        What points are coloured by.
    confidence_level
        Of the contour.

    Returns
    -------
    str
        An ``svg`` element; empty if no point lies in the plane.

    Raises
    ------
    ValueError, TypeError
        The plane's expressions have no numbers.
    """
    place, chosen = _coordinates(plane, labels, [point for _, point in points])
    if not len(place):
        return ""
    some = [points[index] for index in chosen]
    frame = _Frame(*view(place))
    observed, expected = (
        quantity.score(_array([getattr(point, name) for _, point in some]), confidence_level)
        for name in ("observed", "expected")
    )
    parts = [
        *_axes(frame),
        *_forbidden(plane, frame),
        _contour(place, expected, frame, "expected"),
        _contour(place, observed, frame, "observed"),
        *_points(frame.place(place), some, observed, quantity.name),
        *_titles(plane),
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">\n'
        '<defs><pattern id="hatch" width="9" height="9" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path d="M0 0V9" class="hatch"/></pattern></defs>\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _coordinates(
    plane: Plane, labels: Sequence[str], points: Sequence[Point]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Coordinates of the points of the plane, shape (n, 2), and which of all points they are."""
    columns = {
        label: np.array([point.values[index] for point in points])
        for index, label in enumerate(labels)
    }
    x, y = (evaluate(text, columns).astype(np.float64) for text in (plane.x, plane.y))
    inside = np.isfinite(x) & np.isfinite(y)
    if plane.select is not None:
        inside &= evaluate(plane.select, columns).astype(bool)
    return np.column_stack([x, y])[inside], np.flatnonzero(inside)


def _array(values: Sequence[float | None]) -> FloatArray:
    return np.array([math.nan if value is None else value for value in values])


def _contour(place: FloatArray, score: FloatArray, frame: _Frame, name: str) -> str:
    lines = [_path(frame.place(line)) for line in contour(place, score)]
    return f'<path class="{name}" d="{"".join(lines)}"/>'


def contour(place: FloatArray, score: FloatArray) -> list[FloatArray]:
    """Where the linear interpolation between points passes through zero.

    Parameters
    ----------
    place
        Coordinates, shape (n, 2).
    score
        Shape (n,); NaN where there is no value yet.

    Returns
    -------
    list
        Lines of shape (m, 2); none if there are too few points.
    """
    known = np.isfinite(score)
    place, score = place[known], score[known]
    if len(score) < 3 or not score.min() < 0 < score.max():
        return []
    # Not above: they are not needed before there is a contour.
    import shapely
    from scipy.spatial import Delaunay, QhullError

    low = place.min(axis=0)
    size = np.maximum(np.ptp(place, axis=0), np.finfo(float).tiny)
    try:
        triangles = Delaunay((place - low) / size).simplices
    except QhullError:  # all on one line
        return []
    # Where the value has one sign at one corner and another at the two others, a line passes from
    # the sides that begin at this corner to each other.
    above = score[triangles] > 0
    crossed = triangles[(above.any(axis=1)) & (~above.all(axis=1))]
    above = score[crossed] > 0
    alone = np.argmax(above == (above.sum(axis=1) == 1)[:, None], axis=1)
    corner = np.take_along_axis(crossed, alone[:, None], axis=1)
    ends = np.stack(
        [
            _crossing(place, score, corner[:, 0], np.take_along_axis(crossed, at, axis=1)[:, 0])
            for at in ((alone[:, None] + 1) % 3, (alone[:, None] + 2) % 3)
        ],
        axis=1,
    )
    merged = shapely.line_merge(shapely.multilinestrings(shapely.linestrings(ends)))
    return [shapely.get_coordinates(part) for part in shapely.get_parts(merged)]


def _crossing(
    place: FloatArray, score: FloatArray, one: NDArray[np.int64], other: NDArray[np.int64]
) -> FloatArray:
    """Where sides of triangles pass through zero, shape (n, 2)."""
    # The same for both triangles at a side, to the last bit, so that their lines meet.
    low, high = np.minimum(one, other), np.maximum(one, other)
    part = score[low] / (score[low] - score[high])
    return np.asarray(place[low] + part[:, None] * (place[high] - place[low]))


def _path(place: FloatArray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in place)


def _points(
    place: FloatArray, points: Sequence[tuple[str, Point]], score: FloatArray, name: str
) -> Iterator[str]:
    radius = float(np.clip(70 / math.sqrt(len(points)), 1.6, 5.0))
    # What needs attention is drawn last.
    order = {"open": 0, "ok": 1, "suspect": 2, "failed": 3}
    for index in sorted(range(len(points)), key=lambda index: order[points[index][1].status]):
        (x, y), (region, point) = place[index], points[index]
        about = f"<title>{_about(region, point, name)}</title>"
        known = math.isfinite(score[index])
        fill = f' fill="{colour(score[index])}"' if known else ""
        if point.status == "failed":
            r = radius + 0.5
            cross = f"M{x - r:.1f} {y - r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}"
            yield f'<path class="failed" d="{cross}l{-2 * r:.1f} {2 * r:.1f}">{about}</path>'
        elif point.status == "suspect":
            r = radius + 1.5
            shape = f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}z"
            yield f'<path class="suspect" d="{shape}"{fill}>{about}</path>'
        else:
            r = radius if point.status == "ok" else 0.6 * radius
            circle = f'cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"'
            yield f'<circle class="{point.status}" {circle}{fill}>{about}</circle>'


def _about(region: str, point: Point, name: str) -> str:
    lines = [point.patch, f"{point.status}, region {region}" if point.status != "open" else "open"]
    for kind in ("observed", "expected"):
        value = getattr(point, kind)
        if value is not None:
            lines.append(f"{name} {kind}: {value:.3g}")
    return html.escape("\n".join(lines))


def _axes(frame: _Frame) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for tick in ticks(frame.lower[0], frame.upper[0]):
        x = frame.place(np.array([[tick, frame.lower[1]]]))[0, 0]
        yield f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>'
    for tick in ticks(frame.lower[1], frame.upper[1]):
        y = frame.place(np.array([[frame.lower[0], tick]]))[0, 1]
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    yield f'<path class="axes" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, about six of them."""
    step = 10.0 ** math.floor(math.log10((high - low) / 6))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 8)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _titles(plane: Plane) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    x, y = (to_svg(to_html(title)) for title in (plane.x_title, plane.y_title))
    place = f'x="{_WIDTH - _RIGHT}" y="{bottom + 42}"'
    yield f'<text class="title" {place} text-anchor="end">{x}</text>'
    yield (
        f'<text class="title" transform="translate(18 {_TOP}) rotate(-90)" '
        f'text-anchor="end">{y}</text>'
    )


def _forbidden(plane: Plane, frame: _Frame) -> Iterator[str]:
    if plane.forbidden is None:
        return
    x = np.linspace(frame.lower[0], frame.upper[0], 200)
    y = evaluate(plane.forbidden.y_above, {"x": x}).astype(np.float64)
    border = np.column_stack([x, np.clip(y, frame.lower[1], frame.upper[1])])[np.isfinite(y)]
    seen = border[border[:, 1] < frame.upper[1]]
    if len(seen) < 2:
        return
    top = np.array([[seen[-1, 0], frame.upper[1]], [seen[0, 0], frame.upper[1]]])
    yield f'<path class="forbidden" d="{_path(frame.place(np.concatenate([seen, top])))}z"/>'
    line = seen[seen[:, 1] > frame.lower[1]]
    if len(line) < 2:
        return
    yield f'<path class="border" d="{_path(frame.place(line))}"/>'
    if plane.forbidden.label:
        yield _along(frame.place(line), to_svg(to_html(plane.forbidden.label)))


def _along(line: FloatArray, words: str) -> str:
    x, y = line[len(line) // 2]
    slope = math.degrees(math.atan2(*(line[-1] - line[0])[::-1]))
    return (
        f'<text class="along" text-anchor="middle" '
        f'transform="translate({x:.1f} {y:.1f}) rotate({slope:.1f})" dy="-7">{words}</text>'
    )


def to_svg(words: str) -> str:
    """What :func:`palletfit.planes.mathtext.to_html` gives, with SVG's own tags.

    Examples
    --------
    >>> to_svg("<i>m</i>")
    '<tspan font-style="italic">m</tspan>'
    """
    words = words.replace("<i>", '<tspan font-style="italic">').replace("</i>", "</tspan>")
    for tag, shift in _SHIFTS.items():
        words = words.replace(f"<{tag}>", f'<tspan class="script" dy="{shift}">')
        # The shift lasts until it is undone, on a character that takes no room.
        words = words.replace(f"</{tag}>", f'</tspan><tspan dy="{-shift}">&#8203;</tspan>')
    return re.sub(r">\s+<", "> <", words)
