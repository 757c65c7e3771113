"""Runs of a source instead of an analysis: its file, or the one that is proposed for it."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from palletfit.config import Analysis, DownloadSettings, with_members
from palletfit.config.catalogue import catalogue, named
from palletfit.core.files import write_atomically
from palletfit.core.version import __version__
from palletfit.errors import ConfigError
from palletfit.pallet.folders import folder_files

if TYPE_CHECKING:
    from palletfit.pallet.inspection import Inspection

#: Folder of the analysis files, one folder for each state of a source.
FOLDER = Path("resources/inspected")
#: Table of an inspection, beside the analysis files.
_NOTES = "inspection.txt"


def analyses_of(
    source: str, settings: DownloadSettings, analyses: Path, folder: Path = FOLDER
) -> list[Path]:
    """Find the analysis file of a source, or write those that are proposed for it.

    Parameters
    ----------
    source
        See :func:`palletfit.inspect`. A local one that changes is inspected again.
    settings
        Download cache, allowed hosts, and limits of archives.
    analyses
        Folder of named analyses. A name of the catalogue with an analysis file is not inspected.
    folder
        Folder below which the files are written, with the table of the inspection in
        ``inspection.txt``.

    Returns
    -------
    list
        The analysis files.

    Raises
    ------
    ConfigError
        Nothing in the source can be run, or it is ambiguous.
    ArchiveError, DownloadError
        See :func:`palletfit.inspect`.
    """
    file = _analysis_file(source, analyses)
    if file is not None:
        return [file]
    target = folder / _state(source)
    files = sorted(target.glob("*.yaml"))
    if files:
        return files
    from palletfit.pallet.inspection import inspect

    inspection = inspect(source, settings=settings)
    _require_certainty(inspection)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".inspect-", dir=folder) as scratch:
        new = Path(scratch) / "new"
        inspection.write(new / "analysis.yaml")
        write_atomically(new / _NOTES, inspection.table() + "\n")
        try:
            new.replace(target)
        except OSError:
            # Another process of this run was first; its files are the same.
            if not target.is_dir():
                raise
    return sorted(target.glob("*.yaml"))


def at_hand(analysis: Analysis, results: Path, settings: DownloadSettings, analyses: Path) -> bool:
    """Say whether an analysis has results, or files of which they can be made here.

    Parameters
    ----------
    analysis
        The analysis.
    results
        Folder of results, beside that of archives.
    settings
        Download cache, and whether the network may be used.
    analyses
        Folder of named analyses. A combination is at hand where all its members are.
    """
    archive = results.parent / "resources" / "pallets" / f"{analysis.name}.archive"
    if (results / analysis.name / "results.json").exists() or archive.exists():
        return True
    if analysis.combine is not None:
        members = with_members({analysis.name: analysis}, analyses)
        del members[analysis.name]
        return all(at_hand(member, results, settings, analyses) for member in members.values())
    pallet = analysis.pallet
    if pallet is None or pallet.builtin is not None or not settings.offline:
        return True
    if pallet.path is not None:
        return pallet.path.exists()
    # What fetches is heavy, and every process of a run asks.
    from palletfit.pallet.download import is_cached

    return is_cached(pallet, settings, analysis=analysis.name)


def notes(file: Path) -> str:
    """Describe where an analysis file of :func:`analyses_of` comes from."""
    table = file.with_name(_NOTES)
    if table.exists():
        return table.read_text(encoding="utf-8")
    return f"The catalogue has an analysis file of this likelihood: {file}\n"


def _analysis_file(source: str, analyses: Path) -> Path | None:
    """Return the analysis file of a name of the catalogue, before which a local file goes."""
    if Path(source).expanduser().exists():
        return None
    name = named(source)
    file = None if name is None else catalogue()[name].file
    return None if file is None else analyses / f"{file}.yaml"


def _require_certainty(inspection: Inspection) -> None:
    """Refuse a source of which a part is ambiguous, or cannot be run.

    Raises
    ------
    ConfigError
        Says which part.
    """
    remedy = (
        "Look at it with `palletfit inspect`, let it write an analysis file with --write, and run "
        "that file."
    )
    for orphan in inspection.pairing.orphans:
        if orphan.kind in ("patchset", "operations"):
            raise ConfigError(
                f"{orphan.name} belongs to no workspace for sure: {orphan.reason}.",
                remedy=remedy,
                file=inspection.source,
            )
    problems = [entry for entry in inspection.proposals if entry.problem is not None]
    if problems:
        raise ConfigError(
            f"The workflow cannot run {problems[0].name} yet: {problems[0].problem}.",
            remedy=remedy,
            file=inspection.source,
        )
    if not inspection.proposals:
        raise ConfigError(
            "There are no signal patches with a workspace, and no complete workspaces, in the "
            "source.",
            remedy="See with `palletfit inspect` what there is.",
            file=inspection.source,
        )


def _state(source: str) -> str:
    """Name the state of a source: local files by their times and sizes."""
    path = Path(source).expanduser()
    parts = [__version__, source]
    if path.exists():
        files = folder_files(path) if path.is_dir() else [path]
        for file in files:
            status = file.stat()
            parts.append(f"{file} {status.st_mtime_ns} {status.st_size}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
