"""Picture of a plane during the fits: points by state and value, and the contour so far.

This module writes SVG itself: the import of matplotlib takes longer than some runs. The contour
uses the linear interpolation between fitted points. The final contour uses the interpolation of
the settings.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
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

#: Size of the picture, and margins around the axes: left, top, right, bottom.
_WIDTH, _HEIGHT = 720, 500
_LEFT, _TOP, _RIGHT, _BOTTOM = 84, 14, 18, 58
#: Width of a letter of the label along the forbidden part, on a phone.
_LETTER = 11.0
#: Shift of sub- and superscripts.
_SHIFTS = {"sub": 4, "sup": -5}


@dataclass(frozen=True)
class _Frame:
    """Conversion from the units of the plane to those of the picture."""

    lower: FloatArray
    upper: FloatArray

    def to_picture(self, points: FloatArray) -> FloatArray:
        """Convert points of shape (n, 2)."""
        scaled = (points - self.lower) / (self.upper - self.lower)
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return np.column_stack([_LEFT + width * scaled[:, 0], _TOP + height * (1 - scaled[:, 1])])


def draw(
    plane: Plane,
    labels: Sequence[str],
    points: Sequence[tuple[str, Point]],
    quantity: Quantity,
    confidence_level: float,
    *,
    blinded: bool = False,
) -> str:
    """Draw one plane.

    Parameters
    ----------
    plane
        Axes of the plane, and the condition on its points.
    labels
        Names of the values of points.
    points
        Regions and their points.
    quantity
        Quantity that colours points.
    confidence_level
        Confidence level of the contour.
    blinded
        Colour points by the expected value, because they have no observed one.

    Returns
    -------
    str
        An ``svg`` element; empty if no point lies in the plane.

    Raises
    ------
    ValueError, TypeError
        The expressions of the plane give no numbers.
    """
    positions, indices = _coordinates(plane, labels, [point for _, point in points])
    if not len(positions):
        return ""
    plane_points = [points[index] for index in indices]
    frame = _Frame(*view(positions))
    observed, expected = (
        quantity.score(
            _array([getattr(point, name) for _, point in plane_points]), confidence_level
        )
        for name in ("observed", "expected")
    )
    elements = [
        *_axes(frame),
        *_forbidden(plane, frame),
        _contour(positions, expected, frame, "expected"),
        _contour(positions, observed, frame, "observed"),
        *_points(
            frame.to_picture(positions),
            plane_points,
            expected if blinded else observed,
            quantity.name,
        ),
        *_titles(plane),
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">\n'
        '<defs><pattern id="hatch" width="9" height="9" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path d="M0 0V9" class="hatch"/></pattern></defs>\n'
        + "\n".join(elements)
        + "\n</svg>"
    )


def _coordinates(
    plane: Plane, labels: Sequence[str], points: Sequence[Point]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Compute coordinates of the points of the plane, shape (n, 2), and their indices."""
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


def _contour(positions: FloatArray, score: FloatArray, frame: _Frame, name: str) -> str:
    lines = [_path(frame.to_picture(line)) for line in contour(positions, score)]
    return f'<path class="{name}" d="{"".join(lines)}"/>'


def contour(positions: FloatArray, score: FloatArray) -> list[FloatArray]:
    """Compute the lines on which the linear interpolation between points is zero.

    Parameters
    ----------
    positions
        Coordinates, shape (n, 2).
    score
        Scores, shape (n,); NaN where there is no value yet.

    Returns
    -------
    list
        Lines of shape (m, 2); empty if there are too few points.
    """
    fitted = np.isfinite(score)
    positions, score = positions[fitted], score[fitted]
    if len(score) < 3 or not score.min() < 0 < score.max():
        return []
    # Imported here, because they are only needed when there is a contour.
    import shapely
    from scipy.spatial import Delaunay, QhullError

    low = positions.min(axis=0)
    size = np.maximum(np.ptp(positions, axis=0), np.finfo(float).tiny)
    try:
        triangles = Delaunay((positions - low) / size).simplices
    except QhullError:  # all on one line
        return []
    # If one corner of a triangle differs in sign from the two others, a line connects the two sides
    # that start at this corner.
    above = score[triangles] > 0
    crossed = triangles[(above.any(axis=1)) & (~above.all(axis=1))]
    above = score[crossed] > 0
    single = np.argmax(above == (above.sum(axis=1) == 1)[:, None], axis=1)
    corner = np.take_along_axis(crossed, single[:, None], axis=1)
    ends = np.stack(
        [
            _crossing(
                positions, score, corner[:, 0], np.take_along_axis(crossed, column, axis=1)[:, 0]
            )
            for column in ((single[:, None] + 1) % 3, (single[:, None] + 2) % 3)
        ],
        axis=1,
    )
    merged = shapely.line_merge(shapely.multilinestrings(shapely.linestrings(ends)))
    return [shapely.get_coordinates(line) for line in shapely.get_parts(merged)]


def _crossing(
    positions: FloatArray, score: FloatArray, first: NDArray[np.int64], second: NDArray[np.int64]
) -> FloatArray:
    """Compute the points at which sides of triangles are zero, shape (n, 2)."""
    # The order of ends gives both triangles at a side the same bits, so that their lines meet.
    low, high = np.minimum(first, second), np.maximum(first, second)
    fraction = score[low] / (score[low] - score[high])
    return np.asarray(positions[low] + fraction[:, None] * (positions[high] - positions[low]))


def _path(positions: FloatArray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in positions)


def _points(
    positions: FloatArray, points: Sequence[tuple[str, Point]], score: FloatArray, name: str
) -> Iterator[str]:
    radius = float(np.clip(70 / math.sqrt(len(points)), 1.6, 5.0))
    # Points that need attention are drawn last.
    order = {"open": 0, "ok": 1, "suspect": 2, "failed": 3}
    for index in sorted(range(len(points)), key=lambda index: order[points[index][1].status]):
        (x, y), (region, point) = positions[index], points[index]
        title = f"<title>{_tooltip(region, point, name)}</title>"
        has_score = math.isfinite(score[index])
        fill = f' fill="{colour(score[index])}"' if has_score else ""
        if point.status == "failed":
            r = radius + 0.5
            cross = f"M{x - r:.1f} {y - r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}"
            yield f'<path class="failed" d="{cross}l{-2 * r:.1f} {2 * r:.1f}">{title}</path>'
        elif point.status == "suspect":
            r = radius + 1.5
            shape = f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}z"
            yield f'<path class="suspect" d="{shape}"{fill}>{title}</path>'
        else:
            r = radius if point.status == "ok" else 0.6 * radius
            circle = f'cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"'
            yield f'<circle class="{point.status}" {circle}{fill}>{title}</circle>'


def _tooltip(region: str, point: Point, name: str) -> str:
    lines = [point.patch, f"{point.status}, region {region}" if point.status != "open" else "open"]
    for kind in ("observed", "expected"):
        value = getattr(point, kind)
        if value is not None:
            lines.append(f"{name} {kind}: {value:.3g}")
    return html.escape("\n".join(lines))


def _axes(frame: _Frame) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for tick in ticks(frame.lower[0], frame.upper[0]):
        x = frame.to_picture(np.array([[tick, frame.lower[1]]]))[0, 0]
        yield f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 6}" dy=".8em" text-anchor="middle">{tick:g}</text>'
    for tick in ticks(frame.lower[1], frame.upper[1]):
        y = frame.to_picture(np.array([[frame.lower[0], tick]]))[0, 1]
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y:.1f}" dy=".35em" text-anchor="end">{tick:g}</text>'
    yield f'<path class="axes" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'


def ticks(low: float, high: float) -> list[float]:
    """Choose about six round numbers from `low` to `high`."""
    step = 10.0 ** math.floor(math.log10((high - low) / 6))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 8)
    lowest, highest = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 12) for number in range(lowest, highest + 1)]


def _titles(plane: Plane) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    x, y = (to_svg(to_html(title)) for title in (plane.x_title, plane.y_title))
    position = f'x="{_WIDTH - _RIGHT}" y="{bottom + 46}"'
    yield f'<text class="title" {position} text-anchor="end">{x}</text>'
    yield (
        f'<text class="title" transform="translate(20 {_TOP}) rotate(-90)" '
        f'text-anchor="end">{y}</text>'
    )


def _forbidden(plane: Plane, frame: _Frame) -> Iterator[str]:
    if plane.forbidden is None:
        return
    x = np.linspace(frame.lower[0], frame.upper[0], 200)
    y = evaluate(plane.forbidden.y_above, {"x": x}).astype(np.float64)
    border = np.column_stack([x, np.clip(y, frame.lower[1], frame.upper[1])])[np.isfinite(y)]
    visible = border[border[:, 1] < frame.upper[1]]
    if len(visible) < 2:
        return
    top = np.array([[visible[-1, 0], frame.upper[1]], [visible[0, 0], frame.upper[1]]])
    outline = frame.to_picture(np.concatenate([visible, top]))
    yield f'<path class="forbidden" d="{_path(outline)}z"/>'
    line = visible[visible[:, 1] > frame.lower[1]]
    if len(line) < 2:
        return
    yield f'<path class="border" d="{_path(frame.to_picture(line))}"/>'
    label = to_svg(to_html(plane.forbidden.label or ""))
    path = frame.to_picture(line)
    # On a phone the letters are larger; where they would be cut off there is no label.
    if label and _LETTER * _letters(label) < np.linalg.norm(path[-1] - path[0]):
        yield _along(path, label)


def _letters(label: str) -> int:
    """Count the letters of a label without its tags; accents over letters are not counted."""
    text = html.unescape(re.sub(r"<[^>]*>", "", label))
    return sum(not unicodedata.combining(letter) and letter != "\u200b" for letter in text)


def _along(line: FloatArray, label: str) -> str:
    x, y = line[len(line) // 2]
    slope = math.degrees(math.atan2(*(line[-1] - line[0])[::-1]))
    return (
        f'<text class="along" text-anchor="middle" '
        f'transform="translate({x:.1f} {y:.1f}) rotate({slope:.1f})" dy="-7">{label}</text>'
    )


def to_svg(text: str) -> str:
    """Convert the tags of :func:`palletfit.planes.mathtext.to_html` to those of SVG.

    Examples
    --------
    >>> to_svg("<i>m</i>")
    '<tspan font-style="italic">m</tspan>'
    """
    text = text.replace("<i>", '<tspan font-style="italic">').replace("</i>", "</tspan>")
    for tag, shift in _SHIFTS.items():
        text = text.replace(f"<{tag}>", f'<tspan class="script" dy="{shift}">')
        # A character without width ends the shift, which otherwise continues.
        text = text.replace(f"</{tag}>", f'</tspan><tspan dy="{-shift}">&#8203;</tspan>')
    return re.sub(r">\s+<", "> <", text)
