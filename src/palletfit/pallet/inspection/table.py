"""Tables of an inspection: a text for people, and JSON for programs."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from palletfit.core.text import printable

if TYPE_CHECKING:
    from palletfit.pallet.inspection.finding import Workspace
    from palletfit.pallet.inspection.proposal import Proposal
    from palletfit.pallet.inspection.report import Inspection

_HEADER = ("likelihood", "channels", "bins", "parameters", "patches", "poi", "can be done")
#: Columns with numbers.
_NUMBERS = (1, 2, 3, 4)
#: Files that are listed of each sort.
_LISTED = 12

#: Kinds of files that other programs convert, or other modules of palletfit read.
_FORMATS = ("HS3", "ROOT file", "HistFactory XML", "datacard")

_WORKFLOW = "workflow"
_BACKGROUND_FIT = "background fit"
_COMPLETE = "fits, limits"
_BACKGROUND = "fits, points"
_REFUSED = "see note"

_EXPLANATIONS = {
    _WORKFLOW: "all targets of the workflow, with an analysis file as `--write` makes it",
    _BACKGROUND_FIT: "a background-only workspace, for the target `diagnostics` with an analysis "
    "file as `--write` makes it, for `palletfit.fit`, and with a table of your own signals for the "
    "target `points` (docs/scans.md)",
    _COMPLETE: "a complete model with a signal, for `palletfit.fit` and `palletfit.upper_limit`",
    _BACKGROUND: "a background-only workspace, for `palletfit.fit`, and with a table of your own "
    "signals for the target `points` of the workflow (docs/scans.md)",
    _REFUSED: "the workflow cannot run it yet, for the reason below",
}


def text(inspection: Inspection, width: int) -> str:
    """Describe an inspection as a text of at most `width` columns, long names apart."""
    kinds = Counter(document.kind for document in inspection.documents)
    lines = [
        f"{inspection.source}",
        "  " + ", ".join(f"{kind}: {count}" for kind, count in kinds.items()),
    ]
    rows = list(_rows(inspection))
    if rows:
        lines += ["", *_aligned([_HEADER, *(tuple(map(str, row)) for row in rows)], width)]
        lines.append("")
        for key in dict.fromkeys(row[-1] for row in rows):
            lines += _wrapped(f"{key}: {_EXPLANATIONS[key]}", width, "")
    for proposal in inspection.proposals:
        lines += ["", *_proposal_lines(proposal, width)]
    orphans: dict[str, list[str]] = {"Belongs to nothing:": [], "Other formats:": []}
    for orphan in inspection.pairing.orphans:
        heading = "Other formats:" if orphan.kind in _FORMATS else "Belongs to nothing:"
        orphans[heading].append(f"{orphan.name} ({orphan.kind}): {orphan.reason}")
    for heading, entries in {**orphans, "Remarks:": inspection.remarks}.items():
        lines += _section(heading, entries, width)
    if not rows and "HS3" not in kinds:
        lines += ["", "There is no likelihood in it that palletfit can fit."]
    return "\n".join(map(printable, lines))


def _section(heading: str, entries: Sequence[str], width: int) -> list[str]:
    if not entries:
        return []
    lines = ["", heading]
    for entry in entries[:_LISTED]:
        lines += _wrapped(entry, width)
    more = len(entries) - _LISTED
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _rows(inspection: Inspection) -> Iterator[tuple[str, int, int, int | str, int | str, str, str]]:
    for proposal in inspection.proposals:
        for region, pair in proposal.pairs.items():
            workspace = pair.workspace.workspace
            if workspace is None:
                continue
            label = region if len(inspection.proposals) == 1 else f"{proposal.name}/{region}"
            runs = proposal.problem is None and pair.model.parameters is not None
            can = _WORKFLOW if runs else _REFUSED
            yield (
                label,
                pair.model.channels,
                pair.model.bins,
                "-" if pair.model.parameters is None else pair.model.parameters,
                len(pair.patches.points.names),
                ", ".join(workspace.pois) or "-",
                can,
            )
        for region, document in proposal.complete.items():
            if document.workspace is None:
                continue
            label = region if len(inspection.proposals) == 1 else f"{proposal.name}/{region}"
            can = _WORKFLOW if document.workspace.has_signal else _BACKGROUND_FIT
            can = can if proposal.problem is None else _REFUSED
            yield _row(label, document.workspace, can)
    proposed = {
        document.name
        for proposal in inspection.proposals
        for document in proposal.complete.values()
    }
    for document in inspection.pairing.alone:
        if document.workspace is None or document.name in proposed:
            continue
        can = _COMPLETE if document.workspace.has_signal else _BACKGROUND
        yield _row(document.name, document.workspace, can)


def _row(
    label: str, workspace: Workspace, can: str
) -> tuple[str, int, int, int | str, int | str, str, str]:
    """Make the row of a workspace without patches."""
    parameters = sum(workspace.parameters.values())
    pois = ", ".join(workspace.pois) or "-"
    return label, len(workspace.channels), workspace.bins, parameters, "-", pois, can


def _aligned(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Align the columns of a table; where it is too wide, the first cell has its own line."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    apart = sum(widths) + 2 * (len(widths) - 1) > width
    if apart:
        widths[0] = 2
    lines = []
    for row in rows:
        if apart:
            lines.append(row[0])
        cells = ["" if apart else row[0], *row[1:]]
        line = "  ".join(
            cell.rjust(size) if number in _NUMBERS else cell.ljust(size)
            for number, (cell, size) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append(line.rstrip())
    return lines


def _wrapped(line: str, width: int, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        line,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _proposal_lines(proposal: Proposal, width: int) -> Iterator[str]:
    yield f"Proposed analysis {proposal.name}: {proposal.data['title']}"
    for region, pair in proposal.pairs.items():
        evidence = {
            "digest": "by digest",
            "digest*": "by digest, numbers are written in another way",
            "applies": "by what applies",
        }[pair.evidence]
        yield from _wrapped(
            f"{region}: {pair.workspace.name} with {pair.patches.name} ({evidence})", width
        )
    for region, document in proposal.complete.items():
        kind = " (HS3)" if document.kind == "HS3" else ""
        yield from _wrapped(f"{region}: {document.name}{kind}, complete", width)
    if proposal.labels:
        yield from _wrapped(f"labels: {', '.join(proposal.labels)}", width)
    for plane in proposal.planes:
        select = "" if plane.select is None else f" where {plane.select}"
        yield from _wrapped(
            f"plane {plane.name}: x = {plane.x}, y = {plane.y}{select}, {plane.points} points",
            width,
        )
    for remark in dict.fromkeys(proposal.remarks):
        yield from _wrapped(f"note: {remark}", width)
    if proposal.problem is not None:
        yield from _wrapped(f"not yet in the workflow: {proposal.problem}", width)


def as_json(inspection: Inspection) -> dict[str, Any]:
    """Describe an inspection for programs."""
    return {
        "source": inspection.source,
        "files": [
            {
                "name": document.name,
                "kind": document.kind,
                "sha256": document.sha256 or None,
                "remark": document.remark or None,
            }
            for document in inspection.documents
        ],
        "likelihoods": [
            dict(zip(("name", *_HEADER[1:-1], "can_be_done"), _plain(row), strict=True))
            for row in _rows(inspection)
        ],
        "analyses": [
            {
                "analysis": {"name": proposal.name, **proposal.data},
                "evidence": {region: pair.evidence for region, pair in proposal.pairs.items()},
                "remarks": list(proposal.remarks),
                "problem": proposal.problem,
            }
            for proposal in inspection.proposals
        ],
        "belongs_to_nothing": [
            {
                "name": orphan.name,
                "kind": orphan.kind,
                "reason": orphan.reason,
                "candidates": list(orphan.candidates),
            }
            for orphan in inspection.pairing.orphans
        ],
        "remarks": list(inspection.remarks),
    }


def _plain(row: Sequence[int | str]) -> list[int | str | None]:
    return [None if cell == "-" else cell for cell in row]
