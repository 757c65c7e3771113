"""The live page: everything about one product of one analysis, in one HTML file."""

from __future__ import annotations

import html
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palletfit.config import Analysis
from palletfit.core.progress import duration
from palletfit.pages.document import head, title_parts
from palletfit.pages.live import plane as planes
from palletfit.pages.live.snapshot import Snapshot, merged
from palletfit.planes.mathtext import to_html
from palletfit.planes.quantities import SCALE, SHOWN, Quantity
from palletfit.runs.product import Product

_FOLDER = Path(__file__).parent
#: Nothing was written for so many intervals, or this many seconds: then something is wrong.
_SILENT_INTERVALS, _SILENT_SECONDS = 4, 30.0
#: How many failures are listed.
_NAMED_FAILURES = 12
#: Seconds after which a page loads itself again when no fit is made.
_IDLE_INTERVAL = 30.0

#: In the order of columns.
_STATUSES = ("ok", "suspect", "failed", "open")


@dataclass(frozen=True)
class Run:
    """What the page is about.

    Attributes
    ----------
    analysis
        Titles, planes and regions.
    product
        What is fitted.
    confidence_level
        Of the contour.
    interval
        Seconds between two versions of the page.
    """

    analysis: Analysis
    product: type[Product]
    confidence_level: float
    interval: float


def silence(interval: float) -> float:
    """Seconds without news after which a run seems to have ended without a word."""
    return max(_SILENT_INTERVALS * interval, _SILENT_SECONDS)


def render(run: Run, regions: Mapping[str, Sequence[Snapshot]], now: float) -> str:
    """The page.

    Parameters
    ----------
    run
        What it is about.
    regions
        By name, in order, snapshots of the parts of every region; none for one that waits.
    now
        Seconds since the epoch.
    """
    style, script = ((_FOLDER / name).read_text("utf-8") for name in ("page.css", "page.js"))
    title = html.escape(f"{run.analysis.name}: {run.product.words()}")
    state = _state(regions)
    interval = run.interval if state == "running" else _IDLE_INTERVAL
    data = {
        "state": state,
        "written": f"{now:.3f}",
        "interval": f"{interval:g}",
        "silence": f"{silence(interval):g}",
    }
    attributes = "".join(f' data-{name}="{value}"' for name, value in data.items())
    parts = [
        *head(title, style, [script], attributes=attributes, refresh=interval),
        *_header(run, state, now),
        *_table(run, regions, now),
        *_planes(run, regions),
        *_failures(regions),
        f"<script>{script}</script></body></html>\n",
    ]
    return "\n".join(parts)


def _state(regions: Mapping[str, Sequence[Snapshot]]) -> str:
    states = Counter(item.state for parts in regions.values() for item in parts)
    if states["interrupted"]:
        return "interrupted"
    waiting = any(not parts for parts in regions.values())
    return "running" if states["running"] or waiting else "ended"


def _header(run: Run, state: str, now: float) -> Iterator[str]:
    words = {"running": "fits are made", "ended": "all fits are made", "interrupted": "interrupted"}
    yield (
        f"<header><h1>{html.escape(run.analysis.name)} <small>{run.product.words()}</small></h1>"
        f'<p class="state {state}" id="state">{words[state]}</p></header>'
    )
    yield f"<p class=about>{'; '.join(title_parts(run.analysis))}</p>"
    yield (
        f'<p class=written>Last written <time id="written">{_clock(now)}</time>. '
        f'<span id="news">If that is more than {duration(silence(run.interval))} ago while fits '
        "are made, the run was killed.</span></p>"
    )


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(moment)).strip()


def _table(run: Run, regions: Mapping[str, Sequence[Snapshot]], now: float) -> Iterator[str]:
    names = ("region", "", *_STATUSES, "of", "from before", "rate", "remaining", "executor")
    yield "<table><thead><tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr></thead>"
    yield "<tbody>"
    for region, parts in regions.items():
        cells = _row(run, parts, now) if parts else ["", *[""] * 8, "waiting"]
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        yield f"<tr><th scope=row>{html.escape(region)}</th>{row}</tr>"
    yield "</tbody></table>"


def _row(run: Run, parts: Sequence[Snapshot], now: float) -> list[str]:
    counts = Counter[str]()
    for item in parts:
        counts.update({**item.counts, "open": item.open})
    total = sum(item.total for item in parts)
    shares = "".join(
        f'<i class="{name}" style="width:{100 * counts[name] / (total or 1):.2f}%"></i>'
        for name in _STATUSES[:3]
    )
    cells = [f'<div class="bar">{shares}</div>']
    cells += [
        f'<span class="count {name}{"" if counts[name] else " none"}">{counts[name]}</span>'
        for name in _STATUSES
    ]
    kept = sum(item.kept for item in parts)
    executors = html.escape(", ".join(dict.fromkeys(item.executor for item in parts)))
    return [*cells, str(total), str(kept), _rate(parts), _remaining(run, parts, now), executors]


def _rate(parts: Sequence[Snapshot]) -> str:
    rates = [item.rate for item in parts if item.rate is not None]
    if not rates:
        return ""
    rate = sum(rates)
    for unit, seconds in (("s", 1), ("min", 60)):
        if rate * seconds >= 1:
            return f"{rate * seconds:.3g}/{unit}"
    return f"{rate * 3600:.3g}/h"


def _remaining(run: Run, parts: Sequence[Snapshot], now: float) -> str:
    """When the last part will end, or how it ended."""
    running = [item for item in parts if item.state == "running"]
    if not running:
        last = max(parts, key=lambda item: item.written)
        words = "interrupted" if any(item.state == "interrupted" for item in parts) else "ended"
        return f"{words} {_clock(last.written).split()[1]}"
    silent = min(running, key=lambda item: item.written)
    if now - silent.written > silence(run.interval):
        return f"no news since {_clock(silent.written).split()[1]}"
    times = [item.open / item.rate for item in running if item.rate is not None]
    return f"about {duration(max(times))}" if times and max(times) > 0 else "…"


def _planes(run: Run, regions: Mapping[str, Sequence[Snapshot]]) -> Iterator[str]:
    quantity = run.product.quantity()
    every = [item for parts in regions.values() for item in parts]
    if quantity is None or not every:
        return
    points = merged((item.region, point) for item in every for point in item.points)
    labels, stride = every[0].labels, max(item.stride for item in every)
    for name, plane in run.analysis.planes.items():
        try:
            picture = planes.draw(plane, labels, points, quantity, run.confidence_level)
        except (ValueError, TypeError) as error:
            picture = f"<p>The plane cannot be drawn: {html.escape(str(error))}.</p>"
        if not picture:
            continue
        words = to_html(plane.title or (name if len(run.analysis.planes) > 1 else ""))
        yield f"<figure><figcaption><b>{words}</b> {_legend(run, quantity)}</figcaption>"
        yield f"{picture}{_scale(run, quantity)}</figure>"
    if stride > 1:
        yield f"<p>The picture shows one of {stride} points.</p>"


def _legend(run: Run, quantity: Quantity) -> str:
    level = f"{100 * run.confidence_level:g}% CL, linear between the points so far"
    keys = [
        ("observed", "M0 6H26", "observed"),
        ("expected", "M0 6H26", f"expected contour ({level})"),
    ]
    lines = "".join(
        f'<span><svg class="key" viewBox="0 0 26 12"><path class="{name}" d="{path}"/></svg>'
        f"{words}</span>"
        for name, path, words in keys
    )
    marks = "".join(
        f'<span><svg class="key" viewBox="0 0 12 12">{mark}</svg>{words}</span>'
        for mark, words in (
            ('<circle class="open" cx="6" cy="6" r="3"/>', "open"),
            (f'<circle class="ok" cx="6" cy="6" r="4.5" fill="{SCALE[-1]}"/>', quantity.name),
            ('<path class="suspect" d="M6 1l5 5l-5 5l-5 -5z" fill="white"/>', "suspect"),
            ('<path class="failed" d="M2 2l8 8m0 -8l-8 8"/>', "failed"),
        )
    )
    return f'<span class="legend">{lines}{marks}</span>'


def _scale(run: Run, quantity: Quantity) -> str:
    scores = quantity.score(np.array([*quantity.ticks], dtype=float), run.confidence_level)
    marks = "".join(
        f'<span style="left:{100 * (score + SHOWN) / (2 * SHOWN):.1f}%">{words}</span>'
        for words, score in zip(
            quantity.ticks.values(), np.clip(scores, -SHOWN, SHOWN), strict=True
        )
    )
    name = html.escape(f"{quantity.name}, observed")
    return (
        f'<div class="scale"><b>{name}</b><div><i style="background:linear-gradient(to right,'
        f'{",".join(SCALE)})"></i>{marks}</div></div>'
    )


def _failures(regions: Mapping[str, Sequence[Snapshot]]) -> Iterator[str]:
    found: Iterable[tuple[str, str, str]] = (
        (region, patch, reason)
        for region, parts in regions.items()
        for item in parts
        for patch, reason in item.failures
    )
    last = list(found)[-_NAMED_FAILURES:]
    if not last:
        return
    total = sum(item.counts.get("failed", 0) for parts in regions.values() for item in parts)
    yield f"<h2>{'The last failures' if total > len(last) else 'Failures'}</h2><ul class=failures>"
    for region, patch, reason in reversed(last):
        name = html.escape(patch)
        yield f"<li><b>{name}</b> ({html.escape(region)}): {html.escape(reason)}</li>"
    yield "</ul>"
