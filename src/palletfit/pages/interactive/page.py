"""Interactive page of a plane, in one HTML file."""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from palletfit.config import Analysis, Plane
from palletfit.pages.document import head, in_the_dark, title_parts
from palletfit.pages.interactive.figure import border, draw
from palletfit.planes.contour import Exclusion
from palletfit.planes.mathtext import to_html
from palletfit.planes.quantities import CLS, LIMIT, SCALE, SHOWN, Quantity

_FOLDER = Path(__file__).parent
_HELP = (
    "Hover over a point for its numbers, click or tap it to keep them. With the keyboard: arrow "
    "keys go from point to point, Enter keeps one, Escape frees it. Click an entry of the legend "
    "to switch it, twice to see it alone. Drag to zoom; click twice to go back."
)
_WORDS = "words, or as m1&gt;500 CLs_obs&lt;0.05"


def render(
    exclusion: Exclusion,
    analysis: Analysis,
    plane: Plane,
    details: Mapping[str, Any],
    *,
    shown_bands: Sequence[int] = (1,),
) -> str:
    """Render the page; the same input gives the same bytes.

    Parameters
    ----------
    exclusion
        Contours and points.
    analysis, plane
        Sources of the titles.
    details
        Result of :func:`palletfit.pages.interactive.details`.
    shown_bands
        Bands that are visible at first. Other bands of `exclusion` can be switched on.
    """
    style, script = ((_FOLDER / name).read_text("utf-8") for name in ("page.css", "page.js"))
    figure = draw(exclusion, plane, details, shown_bands)
    shown = {str(name): details[name] for name in exclusion.points["patch"] if name in details}
    colourings = list(_colourings(figure.data, shown, exclusion.confidence_level))
    name = html.escape(analysis.name)
    level = f"limits at {100 * exclusion.confidence_level:g}% CL"
    titles = [*title_parts(analysis), *([to_html(plane.title)] if plane.title else []), level]
    lines = [
        *head(f"{name}: exclusion", style, [get_plotlyjs(), script], images="data: blob:"),
        f"<header><h1>{name}</h1><p>{'; '.join(titles)}</p></header>",
        *_body(f"{_forbidden(plane)}{_HELP}{_minima(exclusion)}{_neighbours(shown)}", len(shown)),
        _data("figure", json.loads(figure.to_json())),
        _data("details", shown),
        _data("colourings", colourings),
        _data("border", border(exclusion, plane)),
        _data("dark", in_the_dark()),
        f'<script type="text/plain" id="library">{_packed_library()}</script>',
        f"<script>{script}</script></body></html>\n",
    ]
    return "\n".join(lines)


def _body(words: str, points: int) -> Iterator[str]:
    """Write the places that the script of the page fills."""
    yield '<main><section id="left"><div id="colouring"></div>'
    label = f"Plot of {points} signal points; arrow keys go from point to point"
    yield f'<div id="plot" tabindex="0" role="group" aria-label="{label}"></div>'
    yield '<p id="brief" aria-live="polite"></p>'
    yield f"<p class=help>{words}</p></section>"
    yield '<aside id="panel" aria-label="The chosen point"></aside></main>'
    yield '<section id="points"><h2>Points</h2><p class="controls"><label>Show only '
    yield f'<input id="filter" type="search" placeholder="{_WORDS}" size="34"></label>'
    yield '<button type="button" id="copy">Copy as CSV</button>'
    yield '<span id="count" role="status"></span></p>'
    yield '<textarea id="csv" readonly hidden rows="8" aria-label="The points as CSV"></textarea>'
    yield '<div id="rows" tabindex="0" role="region" aria-label="Table of points"></div></section>'


@functools.cache
def _packed_library() -> str:
    """Compress Plotly, which is nearly all of a page, to two fifths; browsers can unpack it."""
    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode()


def _forbidden(plane: Plane) -> str:
    """Say which part is hatched, also where the plot has no space for the label."""
    if plane.forbidden is None or not plane.forbidden.label:
        return ""
    return f"Hatched: {to_html(plane.forbidden.label)}. "


def _minima(exclusion: Exclusion) -> str:
    """Say how many points have another minimum, after the help; empty if there is none."""
    other = exclusion.other
    if other is None:
        return ""
    return (
        f" {other.points} of {len(exclusion.points)} points have another minimum of the "
        f"likelihood: thin green contours and the panel show what the {other.minimum} one gives, "
        "which does not count here."
    )


def _neighbours(details: Mapping[str, Any]) -> str:
    """Say what the points' neighbours say of their minima, after the help; empty if nothing."""
    fallen = sum("origin" in detail for detail in details.values())
    marked = sum("jump" in detail for detail in details.values())
    words = []
    if fallen:
        points = "1 point has" if fallen == 1 else f"{fallen} points have"
        words.append(f" {points} a minimum that a neighbour's fit led to.")
    if marked:
        words.append(
            f" {marked} points have a neighbour where another minimum is the lowest: "
            "CLs may jump there."
        )
    return "".join(words)


def _data(name: str, value: Any) -> str:
    """Embed data for the script of the page; the data cannot close their element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _colourings(
    traces: Sequence[Any], details: Mapping[str, Any], confidence_level: float
) -> Iterator[dict[str, Any]]:
    """Yield the quantities that colour points, with the scores of the points of each trace."""
    choices: tuple[tuple[str, Quantity, Callable[[Mapping[str, Any]], Any], int], ...] = (
        ("observed CLs", CLS, lambda detail: detail.get("CLs"), 0),
        ("expected CLs", CLS, lambda detail: detail.get("CLs"), 3),
        ("observed limit", LIMIT, lambda detail: detail.get("limits", {}).get("mu"), 0),
        ("expected limit", LIMIT, lambda detail: detail.get("limits", {}).get("mu"), 3),
    )
    marked = [
        (index, trace.customdata)
        for index, trace in enumerate(traces)
        if trace.meta in ("points_ok", "points_suspect")
    ]
    for title, quantity, values, position in choices:
        scores: dict[int, list[float | None]] = {}
        for index, names in marked:
            numbers = [(values(details.get(name, {})) or [None] * 6)[position] for name in names]
            values_here = np.array([np.nan if number is None else number for number in numbers])
            scored = quantity.score(values_here, confidence_level)
            scores[index] = [round(x, 3) if np.isfinite(x) else None for x in scored.tolist()]
        if any(score is not None for row in scores.values() for score in row):
            ticks = quantity.score(np.array([*quantity.ticks], dtype=float), confidence_level)
            yield {
                "title": title,
                "scores": scores,
                "scale": [[i / (len(SCALE) - 1), text] for i, text in enumerate(SCALE)],
                "range": [-SHOWN, SHOWN],
                "ticks": np.clip(ticks, -SHOWN, SHOWN).round(3).tolist(),
                "words": [*quantity.ticks.values()],
            }
