"""Live page of one product of one analysis, in one HTML file."""

from __future__ import annotations

import html
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

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
#: Intervals and seconds without news after which a run seems to have ended.
_SILENT_INTERVALS, _SILENT_SECONDS = 4, 30.0
#: Largest number of failures that are listed.
_NAMED_FAILURES = 12
#: Seconds after which a page loads itself again while no fits run.
_IDLE_INTERVAL = 30.0

#: Statuses in the order of columns.
_STATUSES = ("ok", "suspect", "failed", "open")


@dataclass(frozen=True)
class Run:
    """Subject of the page.

    Attributes
    ----------
    analysis
        Titles, planes and regions.
    product
        What is fitted.
    confidence_level
        Confidence level of the contour.
    interval
        Seconds between two versions of the page.
    results
        Files beside the page that the workflow makes of the fits, and whether they exist.
    """

    analysis: Analysis
    product: type[Product]
    confidence_level: float
    interval: float
    results: Mapping[str, bool] = field(default_factory=dict)


def silence(interval: float) -> float:
    """Compute the seconds without news after which a run seems to have been killed."""
    return max(_SILENT_INTERVALS * interval, _SILENT_SECONDS)


def seconds(interval: float) -> str:
    """Write an interval for people: two digits, and no tenths from ten on.

    Examples
    --------
    >>> seconds(7.20794), seconds(5.0), seconds(28.83176), seconds(0.031)
    ('7.2', '5', '29', '0.031')
    """
    return f"{interval:.0f}" if interval >= 10 else f"{interval:.2g}"


def render(run: Run, regions: Mapping[str, Sequence[Snapshot]], now: float) -> str:
    """Render the page.

    Parameters
    ----------
    run
        Subject of the page.
    regions
        Snapshots of the parts of each region, by name. A region that waits has none.
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
        "interval": seconds(interval),
        "silence": seconds(silence(interval)),
    }
    attributes = "".join(f' data-{name}="{value}"' for name, value in data.items())
    lines = [
        *head(title, style, [script], attributes=attributes, refresh=interval),
        *_header(run, state, now),
        *_results(run.results, state),
        *_table(run, regions, now),
        *_planes(run, regions),
        *_failures(regions),
        f"<script>{script}</script></body></html>\n",
    ]
    return "\n".join(lines)


def _state(regions: Mapping[str, Sequence[Snapshot]]) -> str:
    states = Counter(snapshot.state for snapshots in regions.values() for snapshot in snapshots)
    if states["interrupted"]:
        return "interrupted"
    waiting = any(not snapshots for snapshots in regions.values())
    return "running" if states["running"] or waiting else "ended"


def _header(run: Run, state: str, now: float) -> Iterator[str]:
    labels = {
        "running": "fits are made",
        "ended": "all fits are made",
        "interrupted": "interrupted",
    }
    yield (
        f"<header><h1>{html.escape(run.analysis.name)} <small>{run.product.words()}</small></h1>"
        f'<p class="state {state}" id="state">{labels[state]}</p></header>'
    )
    yield f"<p class=about>{'; '.join(title_parts(run.analysis))}</p>"
    yield (
        f'<p class=written>Last written <time id="written">{_clock(now)}</time>. '
        f'<span id="news">If that is more than {duration(silence(run.interval))} ago while fits '
        "are made, the run was killed.</span></p>"
    )


def _results(files: Mapping[str, bool], state: str) -> Iterator[str]:
    """Link the results, which the workflow writes after the fits."""
    if not files:
        return
    links = ", ".join(
        f'<a href="{quote(name)}">{html.escape(name)}</a>'
        if exists or state == "ended"
        else html.escape(name)
        for name, exists in files.items()
    )
    words = "Results" if state == "ended" else "Results, when the workflow has ended"
    earlier = " (links lead to those of an earlier run)" if state != "ended" else ""
    yield f"<p class=results>{words}: {links}{earlier if any(files.values()) else ''}</p>"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(moment)).strip()


def _table(run: Run, regions: Mapping[str, Sequence[Snapshot]], now: float) -> Iterator[str]:
    names = ("region", "", *_STATUSES, "of", "from before", "rate", "remaining", "executor")
    head = "".join(f"<th scope=col>{name}</th>" for name in names)
    yield f"<table><thead><tr>{head}</tr></thead>"
    yield "<tbody>"
    for region, snapshots in regions.items():
        cells = _row(run, snapshots, now) if snapshots else ["", *[""] * 8, "waiting"]
        row = "".join(
            f'<td data-label="{name}">{cell}</td>' if name and cell else f"<td>{cell}</td>"
            for name, cell in zip(names[1:], cells, strict=True)
        )
        yield f"<tr><th scope=row>{html.escape(region)}</th>{row}</tr>"
    yield "</tbody></table>"


def _row(run: Run, snapshots: Sequence[Snapshot], now: float) -> list[str]:
    counts = Counter[str]()
    for snapshot in snapshots:
        counts.update({**snapshot.counts, "open": snapshot.open})
    total = sum(snapshot.total for snapshot in snapshots)
    shares = "".join(
        f'<i class="{name}" style="width:{100 * counts[name] / (total or 1):.2f}%"></i>'
        for name in _STATUSES[:3]
    )
    cells = [f'<div class="bar">{shares}</div>']
    cells += [
        f'<span class="count {name}{"" if counts[name] else " none"}">{counts[name]}</span>'
        for name in _STATUSES
    ]
    finished_before = sum(snapshot.kept for snapshot in snapshots)
    executors = html.escape(", ".join(dict.fromkeys(snapshot.executor for snapshot in snapshots)))
    return [
        *cells,
        str(total),
        str(finished_before),
        _rate(snapshots),
        _remaining(run, snapshots, now),
        executors,
    ]


def _rate(snapshots: Sequence[Snapshot]) -> str:
    rates = [snapshot.rate for snapshot in snapshots if snapshot.rate is not None]
    if not rates:
        return ""
    rate = sum(rates)
    for unit, seconds in (("s", 1), ("min", 60)):
        if rate * seconds >= 1:
            return f"{rate * seconds:.3g}/{unit}"
    return f"{rate * 3600:.3g}/h"


def _remaining(run: Run, snapshots: Sequence[Snapshot], now: float) -> str:
    """Describe when the last part will end, or how it ended."""
    running = [snapshot for snapshot in snapshots if snapshot.state == "running"]
    if not running:
        latest = max(snapshots, key=lambda snapshot: snapshot.written)
        outcome = (
            "interrupted"
            if any(snapshot.state == "interrupted" for snapshot in snapshots)
            else "ended"
        )
        return f"{outcome} {_clock(latest.written).split()[1]}"
    silent = min(running, key=lambda snapshot: snapshot.written)
    if now - silent.written > silence(run.interval):
        return f"no news since {_clock(silent.written).split()[1]}"
    times = [snapshot.open / snapshot.rate for snapshot in running if snapshot.rate is not None]
    return f"about {duration(max(times))}" if times and max(times) > 0 else "…"


def _planes(run: Run, regions: Mapping[str, Sequence[Snapshot]]) -> Iterator[str]:
    quantity = run.product.quantity()
    snapshots = [snapshot for region_snapshots in regions.values() for snapshot in region_snapshots]
    if quantity is None or not snapshots:
        return
    points = merged((snapshot.region, point) for snapshot in snapshots for point in snapshot.points)
    labels, stride = snapshots[0].labels, max(snapshot.stride for snapshot in snapshots)
    for name, plane in run.analysis.planes.items():
        try:
            picture = planes.draw(
                plane,
                labels,
                points,
                quantity,
                run.confidence_level,
                blinded=run.analysis.blinded,
            )
        except (ValueError, TypeError) as error:
            picture = f"<p>The plane cannot be drawn: {html.escape(str(error))}.</p>"
        if not picture:
            continue
        title = to_html(plane.title or (name if len(run.analysis.planes) > 1 else ""))
        yield f"<figure><figcaption><b>{title}</b> {_legend(run, quantity)}</figcaption>"
        yield f"{picture}{_scale(run, quantity)}</figure>"
    if stride > 1:
        yield f"<p>The picture shows one of {stride} points.</p>"


def _legend(run: Run, quantity: Quantity) -> str:
    level = f"{100 * run.confidence_level:g}% CL, linear between the points so far"
    keys = [
        *([] if run.analysis.blinded else [("observed", "M0 6H26", "observed")]),
        ("expected", "M0 6H26", f"expected contour ({level})"),
    ]
    lines = "".join(
        f'<span><svg class="key" viewBox="0 0 26 12"><path class="{name}" d="{path}"/></svg>'
        f"{label}</span>"
        for name, path, label in keys
    )
    marks = "".join(
        f'<span><svg class="key" viewBox="0 0 12 12">{mark}</svg>{label}</span>'
        for mark, label in (
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
        f'<span style="left:{100 * (score + SHOWN) / (2 * SHOWN):.1f}%">{label}</span>'
        for label, score in zip(
            quantity.ticks.values(), np.clip(scores, -SHOWN, SHOWN), strict=True
        )
    )
    kind = "expected" if run.analysis.blinded else "observed"
    name = html.escape(f"{quantity.name}, {kind}")
    return (
        f'<div class="scale"><b>{name}</b><div><i style="background:linear-gradient(to right,'
        f'{",".join(SCALE)})"></i>{marks}</div></div>'
    )


def _failures(regions: Mapping[str, Sequence[Snapshot]]) -> Iterator[str]:
    failures: Iterable[tuple[str, str, str]] = (
        (region, patch, reason)
        for region, snapshots in regions.items()
        for snapshot in snapshots
        for patch, reason in snapshot.failures
    )
    latest = list(failures)[-_NAMED_FAILURES:]
    if not latest:
        return
    total = sum(
        snapshot.counts.get("failed", 0) for snapshots in regions.values() for snapshot in snapshots
    )
    title = "The last failures" if total > len(latest) else "Failures"
    yield f"<h2>{title}</h2><ul class=failures>"
    for region, patch, reason in reversed(latest):
        name = html.escape(patch)
        yield f"<li><b>{name}</b> ({html.escape(region)}): {html.escape(reason)}</li>"
    yield "</ul>"
