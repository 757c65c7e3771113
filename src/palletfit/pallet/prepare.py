"""From an archive to one region's checked workspace and patchset."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, DownloadSettings
from palletfit.core.files import write_atomically, write_json
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.archive import unpack
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patchset import check_workspace, summarise_workspace, validate


def prepare_region(
    analysis: Analysis,
    region: str,
    archive: Path,
    workspace: Path,
    patchset: Path,
    page: Path,
    settings: DownloadSettings,
) -> dict[str, Any]:
    """Unpack the two files of a region, verify their pinned digests, check and describe them.

    Parameters
    ----------
    analysis, region
        What is prepared.
    archive
        The pallet.
    workspace, patchset
        Where the two files go, once they are found good.
    page
        Where their summary goes, as an HTML page, and as JSON beside it.
    settings
        Limits of unpacking.

    Returns
    -------
    dict
        The summary, see :func:`palletfit.pallet.patchset.validate`.

    Raises
    ------
    ConfigError
        The analysis has no such region.
    ArchiveError
        The archive is damaged or hostile, lacks a file, or a digest is wrong.
    PalletError
        Workspace or patchset are wrong; the error names the file in the archive.
    """
    if region not in analysis.regions:
        raise ConfigError(
            f"The analysis {analysis.name} has no region {region!r}.",
            remedy=f"Its regions are {', '.join(analysis.regions)}.",
        )
    if analysis.pallet is None:
        raise ConfigError(
            f"The analysis {analysis.name} is a combination and has no pallet.",
            remedy="Its workspace is made by scripts/combine_workspaces.py.",
        )
    files = analysis.regions[region]
    if files.patchset is None:
        raise ConfigError(
            f"The region {region} of {analysis.name} has no patchset, but `points`.",
            remedy="Ask for the target `points`.",
        )
    wanted = [files.workspace, files.patchset]
    pins = {name: digest for name, digest in analysis.pallet.sha256.items() if name in wanted}
    page.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=page.parent) as folder:
        found = unpack(archive, wanted, Path(folder), settings, sha256=pins)
        names = {str(path): f"{name} in {archive}" for name, path in found.items()}
        try:
            summary = validate(found[files.workspace], found[files.patchset], analysis.labels)
        except PalletError as error:
            raise PalletError(
                error.problem,
                remedy=error.remedy,
                file=names.get(str(error.file), error.file),
                patch=error.patch,
            ) from None
        found[files.workspace].replace(workspace)
        found[files.patchset].replace(patchset)
    write_summary(page, f"{analysis.name}/{region}", summary)
    return summary


def write_summary(page: Path, title: str, summary: Mapping[str, Any]) -> None:
    """Write a summary as an HTML page, and as JSON beside it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    write_json(page.with_suffix(".json"), summary)
    write_atomically(page, _page(title, summary))


def prepare_background(
    analysis: Analysis,
    region: str,
    archive: Path,
    workspace: Path,
    page: Path,
    settings: DownloadSettings,
) -> dict[str, Any]:
    """The same for a region whose signals are the points of a scan: it has no patchset.

    Raises
    ------
    ArchiveError, PalletError
        See :func:`prepare_region`.
    """
    name = analysis.regions[region].workspace
    known = analysis.pallet.sha256 if analysis.pallet is not None else {}
    pins = {item: digest for item, digest in known.items() if item == name}
    page.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=page.parent) as folder:
        found = unpack(archive, [name], Path(folder), settings, sha256=pins)[name]
        content = read_pallet_json(found)
        check_workspace(content, Path(f"{name} in {archive}"))
        found.replace(workspace)
    summary = summarise_workspace(content)
    write_json(page.with_suffix(".json"), summary)
    write_atomically(page, _page(f"{analysis.name}/{region}", summary))
    return summary


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
                ((name, *map(_plain, item.values())) for name, item in channels.items()),
            ),
            *_combination(summary.get("combination", {})),
            "</body></html>\n",
        ]
    )


def _combination(combination: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Iterator[str]:
    """What is one in a combination, and what it is called in each member."""
    for what, title in (("parameters", "common parameter"), ("channels", "channel")):
        rows = combination.get(what, {})
        members = list(dict.fromkeys(member for own in rows.values() for member in own))
        if rows:
            yield _table(
                [title, *members],
                (
                    (name, *(own.get(member, "") for member in members))
                    for name, own in rows.items()
                ),
            )


def _plain(number: float) -> str:
    return f"{number:.10g}"


def _table(header: Sequence[str], rows: Any) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"
