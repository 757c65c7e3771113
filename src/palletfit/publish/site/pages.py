"""The pages of the site: an index, and a page for each analysis that has results."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from palletfit.config import Analysis
from palletfit.config.catalogue import STATES, Likelihood, catalogue, for_hepdata
from palletfit.core.files import write_atomically
from palletfit.core.text import printable
from palletfit.core.version import __version__
from palletfit.pages.document import head, title_parts
from palletfit.planes.contour import UNTESTED
from palletfit.planes.mathtext import to_html, to_text
from palletfit.publish.site.gather import Evidence, Fitted, PlaneResult
from palletfit.runs.results import notes

#: File that HEPData reads.
HEPDATA = "hepdata.json"
#: So many minima that are not trusted are listed.
_DOUBTS = 20
_FITS = {
    "free": "all parameters free",
    "fixed": "signal at the tested strength",
    "background": "no signal",
    "asimov_free": "Asimov data, all parameters free",
    "asimov_fixed": "Asimov data, signal at the tested strength",
    "asimov_background": "Asimov data, no signal",
}


def write(
    fitted: Sequence[Fitted],
    lacking: Sequence[Analysis],
    folder: Path,
    *,
    level: float,
    address: str | None = None,
) -> list[Path]:
    """Write the site.

    Parameters
    ----------
    fitted
        Analyses with results.
    lacking
        Selected analyses without results.
    folder
        Folder of the site.
    level
        Confidence level of exclusions.
    address
        Public address of the folder; with it, the list that HEPData reads is written, too, if an
        analysis has a number in INSPIRE.

    Returns
    -------
    list
        The files, the index first.

    Raises
    ------
    ConfigError
        The address is none.
    """
    pages: dict[Path, Iterable[str]] = {Path("index.html"): _index(fitted, lacking, level)}
    for result in fitted:
        pages[Path(result.analysis.name, "index.html")] = _analysis(result, level)
    listed = {
        result.entry[0]: result.entry[1]
        for result in fitted
        if result.entry is not None and result.entry[1].inspire is not None
    }
    if address is not None and listed:
        content = for_hepdata(listed, f"{address.rstrip('/')}/{{name}}/index.html")
        pages[Path(HEPDATA)] = [json.dumps(content, indent=2)]
    for path, lines in pages.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / path, "\n".join(lines) + "\n")
    return [folder / path for path in pages]


# --------------------------------------------------------------------------- index


def _index(fitted: Sequence[Fitted], lacking: Sequence[Analysis], level: float) -> Iterator[str]:
    yield from _begin("Fitted likelihoods")
    yield '<main id="content"><h1>Fitted likelihoods</h1>'
    yield "<p>Published likelihoods, and fits of all of their signal points with palletfit.</p>"
    yield "<h2>Fitted</h2>"
    if fitted:
        titles = ["analysis", "title", "points", f"excluded at {100 * level:g}% CL", "suspect"]
        titles += ["failed", "mean distance to the published contour"]
        rows = [_index_row(result, level) for result in fitted]
        yield from _table("Analyses with results", titles, rows)
    else:
        yield "<p>No results were at hand.</p>"
    if lacking:
        yield "<h2>Selected, but not here</h2><ul>"
        for analysis in lacking:
            reason = "neither results nor the archive were at hand"
            if analysis.points is not None:
                reason = "a scan of points, which has tables of its own"
            yield f"<li>{_text(analysis.name)}: {reason}</li>"
        yield "</ul>"
    names = {result.entry[0] for result in fitted if result.entry is not None}
    unfitted = {name: entry for name, entry in catalogue().items() if name not in names}
    yield "<h2>Known, but not fitted here</h2>"
    yield (
        "<p>The catalogue says what is known of them. Nothing on this site was made from their "
        "files.</p>"
    )
    rows = [_catalogue_row(name, entry) for name, entry in unfitted.items()]
    titles = ["name", "title", "experiment", "format", "knowledge", "DOI"]
    yield from _table("Likelihoods of the catalogue without results here", titles, rows)
    yield "<h3>Knowledge</h3><dl>"
    for state, meaning in STATES.items():
        yield f"<dt>{_text(state)}</dt><dd>{_text(meaning)}</dd>"
    yield "</dl></main>"
    yield from _end()


def _index_row(result: Fitted, level: float) -> list[str]:
    name, counts = result.analysis.name, result.counts
    excluded = result.excluded(level)
    kind = "expected" if result.analysis.blinded else "observed"
    distances = "; ".join(filter(None, (_nearness(plane, kind) for plane in result.planes)))
    return [
        _head(f'<a href="{_text(name)}/index.html">{_text(name)}</a>'),
        _cell("; ".join(title_parts(result.analysis)), "wide"),
        _number(len(result.points)),
        _number("p0" if excluded is None else excluded),
        _number(counts.get("suspect", 0)),
        _number(counts.get("failed", 0)),
        _cell(distances or "no published contour at hand"),
    ]


def _nearness(plane: PlaneResult, kind: str) -> str:
    distance = plane.contour["distance_to_published"].get(kind)
    if not distance:
        return ""
    return f"{_text(plane.name)}: {100 * distance['relative']['mean']:.2g}% of the axes"


def _catalogue_row(name: str, entry: Likelihood) -> list[str]:
    return [
        _head(_text(name)),
        _cell(_text(entry.title), "wide"),
        _cell(_text(entry.experiment)),
        _cell(_text(entry.format)),
        _cell(_text(entry.state)),
        _cell(_doi(entry.doi or entry.record)),
    ]


# --------------------------------------------------------------------------- one analysis


def _analysis(result: Fitted, level: float) -> Iterator[str]:
    analysis = result.analysis
    title = "; ".join(to_text(part.strip()) for part in analysis.title.split(";"))
    yield from _begin(f"{analysis.name}: {title}", up=True)
    yield f'<main id="content"><h1>{_text(analysis.name)}: {"; ".join(title_parts(analysis))}</h1>'
    yield "<dl>"
    for term, text in _facts(result, level):
        yield f"<dt>{term}</dt><dd>{text}</dd>"
    yield "</dl>"
    if result.planes or result.images:
        yield "<h2>Results</h2>"
    for plane in result.planes:
        yield from _plane(result, plane)
    for caption, image in result.images.items():
        yield _figure(image, caption, f"{caption} of {analysis.name}")
    yield from _minima(result)
    yield "<h2>Signal points</h2>"
    yield from _points(result)
    if result.missing:
        yield "<h2>Not at hand</h2><ul>"
        yield from (f"<li>{_text(text)}</li>" for text in result.missing)
        yield "</ul>"
    yield "</main>"
    yield from _end()


def _facts(result: Fitted, level: float) -> Iterator[tuple[str, str]]:
    analysis, counts = result.analysis, result.counts
    if analysis.reference is not None:
        yield "reference", to_html(analysis.reference)
    if result.entry is not None:
        entry = result.entry[1]
        if entry.analysis is not None:
            yield "analysis", _text(entry.analysis)
        if entry.arxiv is not None:
            yield "arXiv", _link(f"https://arxiv.org/abs/{entry.arxiv}", entry.arxiv)
        yield "likelihood", _doi(entry.doi or entry.record)
    elif analysis.pallet is not None and analysis.pallet.doi is not None:
        yield "likelihood", _doi(analysis.pallet.doi)
    yield (
        "signal points",
        f"{len(result.points)}, "
        + ", ".join(f"{counts.get(status, 0)} {status}" for status in ("ok", "suspect", "failed"))
        + (f", {counts[UNTESTED]} not tested but forecast" if counts.get(UNTESTED) else ""),
    )
    observed, expected = result.excluded(level), result.excluded(level, expected=True)
    if observed is not None:
        words = f"{observed} observed, {expected} expected"
        if result.analysis.blinded:
            words = f"{expected} expected (blinded)"
        yield f"excluded at {100 * level:g}% CL", words
    settings = result.key.get("settings", {})
    if settings:
        test = f"{settings.get('test_statistic')}, mu = {settings.get('mu')}"
        yield "hypothesis test", _text(test)
        yield "engine", _text(str(result.key.get("engine")))


def _plane(result: Fitted, plane: PlaneResult) -> Iterator[str]:
    settings = result.analysis.planes[plane.name]
    heading = to_html(settings.title) if settings.title else _text(plane.name)
    yield f"<h3>Plane {heading}</h3>"
    axes = f"{to_text(settings.y_title)} against {to_text(settings.x_title)}"
    if plane.image is not None:
        described = f"Exclusion contour of {result.analysis.name}: {axes}"
        caption = f"{to_html(settings.y_title)} against {to_html(settings.x_title)}"
        yield _figure(plane.image, caption, described)
    failed = plane.contour.get("failed_near_contour")
    if failed:
        names = ", ".join(map(_text, failed))
        yield f'<p class="failed">Points without a result next to the contour: {names}</p>'
    published = result.analysis.published_of(settings)
    named = (published.observed, published.expected)
    yield from _distances(any(curve is not None for curve in named), plane.contour)


def _distances(is_published: bool, contour: Mapping[str, Any]) -> Iterator[str]:
    """Write the distance of contours to published ones, or why there is none."""
    distances = {
        name: distance
        for name, distance in contour["distance_to_published"].items()
        if distance is not None
    }
    if not distances:
        reason = (
            "The published contour was not at hand, or cannot be compared."
            if is_published
            else "The analysis file names no published contour."
        )
        reasons = [reason, *map(_text, contour.get("left_out", {}).values())]
        yield f"<p>Distance to the published contour: none. {' '.join(reasons)}</p>"
        return
    units = contour["units"]
    unit = units["x"] if units["x"] == units["y"] else "units of the axes"
    rows = [
        [
            _head(_text(name)),
            *(_number(f"{distance['symmetric'][key]:.3g}") for key in _SPREAD),
            *(_number(f"{100 * distance['relative'][key]:.2g}%") for key in _SPREAD),
        ]
        for name, distance in distances.items()
    ]
    titles = [f"{key}, {_text(str(unit))}" for key in _SPREAD]
    titles += [f"{key}, of the axes" for key in _SPREAD]
    yield from _table("Distance to the published contour", ["contour", *titles], rows)


_SPREAD = ("mean", "median", "maximum")


def _minima(result: Fitted) -> Iterator[str]:
    """Write how the minima of all fits are known to be minima."""
    yield "<h2>How minima were proven</h2>"
    if not result.evidence:
        yield "<p>The records of the fits were not at hand.</p>"
        return
    yield (
        "<p>Every fit has several starts. Its minimum is trusted if enough of them end there, and "
        "the estimated distance to the minimum (edm) is small.</p>"
    )
    rows = [_evidence_row(kind, evidence) for kind, evidence in result.evidence.items()]
    titles = ("fit", "fits", "trusted", "fewest starts that agree", "largest edm in 2 NLL")
    yield from _table("Evidence by the kind of fit, over all points and regions", titles, rows)
    points = result.points.values()
    fell = sum(bool(point.get("origin")) for point in points)
    other = sum(bool(point.get("other_minimum")) for point in points)
    jumps = sum(bool(point.get("jump")) for point in points)
    engines = ", ".join(f"{count} by {name}" for name, count in sorted(result.engines.items()))
    yield "<ul>"
    yield f"<li>Points by engine: {_text(engines)}.</li>"
    yield f"<li>Points with another minimum that gives another CLs: {other}.</li>"
    yield f"<li>Points that fell with the minimum of a neighbour: {fell}.</li>"
    yield f"<li>Points next to which the lowest minimum changes: {jumps}.</li>"
    yield "</ul>"
    if not result.doubts:
        yield "<p>There is no fit whose minimum is not trusted.</p>"
        return
    shown = result.doubts[:_DOUBTS]
    rows = [
        [_head(_text(patch)), _cell(_text(_FITS.get(kind, kind))), _cell(_text(reason), "wide")]
        for patch, kind, reason in shown
    ]
    caption = f"{len(result.doubts)} minima that are not trusted"
    if len(shown) < len(result.doubts):
        caption += f", the first {len(shown)}"
    yield from _table(caption, ("patch", "fit", "reason"), rows)


def _evidence_row(kind: str, evidence: Evidence) -> list[str]:
    return [
        _head(_text(_FITS.get(kind, kind))),
        _number(evidence.fits),
        _number(evidence.trusted),
        _number(f"{evidence.agreed} of {evidence.tried}" if evidence.tried else "-"),
        _number(f"{evidence.edm:.1e}"),
    ]


def _points(result: Fitted) -> Iterator[str]:
    quantity = "p0" if result.excluded(0.95) is None else "CLs"
    titles = ["patch", *map(_text, result.analysis.labels), "region", "status"]
    titles += [f"{quantity} observed", f"{quantity} expected", "-1 to +1 sigma", "best fit"]
    titles += ["limit observed", "limit expected"] if result.limits else []
    rows = [
        _point_row(name, point, result.limits.get(name), limits=bool(result.limits))
        for name, point in result.points.items()
    ]
    yield from _table(f"{len(rows)} points", [*titles, "remarks"], rows, tall=True)


def _point_row(
    name: str, point: Mapping[str, Any], limit: Mapping[str, Any] | None, *, limits: bool
) -> list[str]:
    status = str(point["status"])
    expected = point["CLs_exp"] or [None] * 5
    band = "-" if expected[1] is None else f"{_short(expected[1])} to {_short(expected[3])}"
    further = []
    if limits:
        values = (None, None) if limit is None else (limit["mu_obs"], limit["mu_exp"][2])
        further = [_number(_short(value)) for value in values]
    return [
        _head(_text(name)),
        *(_number(_text(str(value))) for value in point["mass_hypotheses"]),
        _cell(_text(point["region"])),
        _cell(_text(status), status if status in ("ok", "suspect", "failed") else ""),
        _number(_short(point["CLs_obs"])),
        _number(_short(expected[2])),
        _number(band),
        _number(_short(point.get("mu_hat"))),
        *further,
        _cell(_text("; ".join(notes(point))), "wide"),
    ]


# --------------------------------------------------------------------------- parts


def _begin(title: str, *, up: bool = False) -> Iterator[str]:
    style = (files(__package__) / "page.css").read_text(encoding="utf-8")
    yield from head(_text(title), style, ())
    yield '<a class="skip" href="#content">To the content</a>'
    if up:
        yield '<nav aria-label="Site"><a href="../index.html">All fitted likelihoods</a></nav>'


def _end() -> Iterator[str]:
    yield f"<footer>Made by palletfit {_text(__version__)}, from its records.</footer>"
    yield "</body></html>"


def _table(
    caption: str, titles: Sequence[str], rows: Sequence[Sequence[str]], *, tall: bool = False
) -> Iterator[str]:
    """Write a table of cells; wide ones scroll, also with the keyboard.

    Parameters
    ----------
    caption
        Caption, as text.
    titles
        Titles of columns, as HTML.
    rows
        Cells, as HTML with their tags.
    tall
        Let a long table scroll in itself.
    """
    label = _text(caption)
    kind = "scroll tall" if tall else "scroll"
    # The visible caption does not scroll with the table; readers of the table have its own.
    yield f'<p class="caption" aria-hidden="true">{label}</p>'
    yield f'<div class="{kind}" tabindex="0" role="region" aria-label="{label}"><table>'
    yield f"<caption>{label}</caption><thead><tr>"
    yield "".join(f'<th scope="col">{title}</th>' for title in titles)
    yield "</tr></thead><tbody>"
    yield from (f"<tr>{''.join(row)}</tr>" for row in rows)
    yield "</tbody></table></div>"


def _figure(image: Path, caption: str, alternative: str) -> str:
    """Embed an image: a page is one file."""
    data = base64.b64encode(image.read_bytes()).decode()
    source = f"data:image/png;base64,{data}"
    return (
        f'<figure><img src="{source}" alt="{_text(alternative)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _head(content: str) -> str:
    return f'<th scope="row">{content}</th>'


def _cell(content: str, kind: str = "") -> str:
    return f'<td class="{kind}">{content}</td>' if kind else f"<td>{content}</td>"


def _number(content: str | float) -> str:
    return _cell(str(content), "number")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _doi(doi: str) -> str:
    return _link(f"https://doi.org/{doi}", doi)


def _link(address: str, content: str) -> str:
    return f'<a href="{_text(address)}">{_text(content)}</a>'


def _text(content: str) -> str:
    """Escape a text of any origin for HTML, and for its attributes."""
    # Formulas have thin spaces, which are none that terminals are guarded against.
    return html.escape(printable("".join(" " if c.isspace() else c for c in content)))
