"""The summary of a pallet as an HTML page."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palletfit.core.files import write_atomically, write_json


def write_summary(page: Path, title: str, summary: Mapping[str, Any]) -> None:
    """Write a summary as an HTML page, and as a JSON file next to it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    write_json(page.with_suffix(".json"), summary)
    write_atomically(page, _page(title, summary))


_STYLE = """
body { font: 15px/1.45 sans-serif; margin: 2em; max-width: 60em }
table { border-collapse: collapse; margin-bottom: 1.5em }
td, th { border-bottom: 1px solid #ccc; padding: .25em .8em; text-align: left }
td:not(:first-child) { font-variant-numeric: tabular-nums }
"""


def _page(title: str, summary: Mapping[str, Any]) -> str:
    channels = summary["channels"]
    overview = {
        "description": summary.get("description", ""),
        "channels": len(channels),
        "bins": summary["bins"],
        "samples (background)": len(summary["samples"]),
        "parameters (with signal)": summary.get("parameters"),
        "parameter of interest": summary["poi"],
        "measurements": ", ".join(summary["measurements"]),
        "patches": summary.get("patches"),
        **{f"{name} digest": digest for name, digest in summary.get("digests", {}).items()},
        **{f"remark {number}": text for number, text in enumerate(summary.get("remarks", []), 1)},
    }
    if "patches" not in summary:  # the signals are points of a scan
        for name in ("description", "parameters (with signal)", "patches"):
            del overview[name]
    labels = {
        name: f"{len(values)} values, {values[0]} to {values[-1]}"
        for name, values in summary.get("labels", {}).items()
    }
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            _table(["pallet", ""], overview.items()),
            _table(["label", "values"], labels.items()) if labels else "",
            _table(["modifier type", "number"], summary["modifiers"].items()),
            _table(
                ["channel", "bins", "samples", "observed events"],
                ((name, *map(_plain, channel.values())) for name, channel in channels.items()),
            ),
            *_combination(summary.get("combination", {})),
            "</body></html>\n",
        ]
    )


def _combination(combination: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Iterator[str]:
    """List common parameters and channels of a combination with their names in the members."""
    for key, title in (("parameters", "common parameter"), ("channels", "channel")):
        rows = combination.get(key, {})
        members = list(
            dict.fromkeys(member for member_names in rows.values() for member in member_names)
        )
        if rows:
            yield _table(
                [title, *members],
                (
                    (name, *(member_names.get(member, "") for member in members))
                    for name, member_names in rows.items()
                ),
            )


def _plain(number: float | None) -> str:
    return "blinded" if number is None else f"{number:.10g}"


def _table(header: Sequence[str], rows: Any) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"
