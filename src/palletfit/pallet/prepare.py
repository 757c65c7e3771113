"""Prepare the workspace and patchset of a region from an archive."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from palletfit.config import Analysis, DownloadSettings, Region
from palletfit.core.files import write_atomically
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.archive import matching, unpack
from palletfit.pallet.choosing import Choosing, chosen_patchset, summary_of, without_stand_in
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.hs3 import Hs3Error, convert_hs3
from palletfit.pallet.operations import named, patchset_of, patchset_of_one, with_digest
from palletfit.pallet.patches import canonical_json
from palletfit.pallet.patchset import (
    check_patchset,
    check_workspace,
    summarise,
    summarise_workspace,
    validate,
)
from palletfit.pallet.summary_page import write_summary


class CompleteWorkspace(NamedTuple):
    """A complete workspace that asks what its region's settings say.

    Attributes
    ----------
    workspace
        The workspace with one measurement.
    poi
        Parameter of interest; empty where there is none.
    remarks
        What a reader of results should know.
    """

    workspace: Mapping[str, Any]
    poi: str
    remarks: tuple[str, ...] = ()


#: Lets a complete workspace ask what its region's settings say.
Asking = Callable[[Mapping[str, Any]], CompleteWorkspace]


def prepare_region(
    analysis: Analysis,
    region: str,
    archive: Path,
    workspace: Path,
    patchset: Path,
    page: Path,
    settings: DownloadSettings,
    asking: Asking | None = None,
    choosing: Choosing | None = None,
) -> dict[str, Any]:
    """Unpack the files of a region, verify their pinned digests, check and describe them.

    A patchset is taken as it is, unless the region's settings ask for a change. A complete
    workspace gets a patchset of one point without operations.

    A workspace that is an HS3 document is written as a workspace.

    Parameters
    ----------
    analysis, region
        The analysis, and the name of its region.
    archive
        Archive of the pallet.
    workspace, patchset
        Paths of the two files, which are written after all checks.
    page
        Path of their summary as an HTML page. Its JSON file is next to it.
    settings
        Limits of unpacking.
    asking
        Lets a complete workspace ask what the region's settings say; none: it stays as it is.
    choosing
        Takes channels, bins and observations out that the analysis does not choose; none: all
        stay.

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
    if not files.has_patches and not files.complete:
        raise ConfigError(
            f"The region {region} of {analysis.name} has no patchset, but `points`.",
            remedy="Its patchset is made by scripts/prepare_points.py.",
        )
    of_patches: Mapping[str, str] = {}
    if files.patchset is not None:
        of_patches = {files.patchset: ""}
    elif files.operations is not None:
        of_patches = matching(archive, files.operations, settings)
    names = [files.workspace, *of_patches]
    pins = {name: digest for name, digest in analysis.pallet.sha256.items() if name in names}
    page.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=page.parent) as folder:
        paths = unpack(archive, names, Path(folder) / "files", settings, sha256=pins)
        sources = {str(path): f"{name} in {archive}" for name, path in paths.items()}
        prepared = Path(folder) / "patchset.json"
        remarks: list[str] = []
        try:
            convert_hs3(paths[files.workspace])
            if files.complete:
                summary = _write_complete(
                    analysis, region, paths[files.workspace], prepared, asking, choosing
                )
            elif files.operations or files.name_as is not None or files.digest == "ignore":
                by_patch = {name: paths[file] for file, name in of_patches.items()}
                remarks = _write_patchset(files, paths[files.workspace], by_patch, prepared)
                sources[str(prepared)] = f"{files.patchset or files.operations} in {archive}"
            else:
                prepared = paths[names[1]]
            if not files.complete:
                summary = _choose(analysis, region, paths[files.workspace], prepared, choosing)
        except PalletError as error:
            raise PalletError(
                error.problem,
                remedy=error.remedy,
                file=sources.get(str(error.file), error.file),
                patch=error.patch,
            ) from None
        summary["remarks"] += remarks
        paths[files.workspace].replace(workspace)
        prepared.replace(patchset)
    write_summary(page, f"{analysis.name}/{region}", summary)
    return summary


def _choose(
    analysis: Analysis, region: str, path: Path, prepared: Path, choosing: Choosing | None
) -> dict[str, Any]:
    """Check a workspace and its patchset, write the chosen part of them, and describe it."""
    summary = validate(path, prepared, analysis.labels)
    if choosing is None:
        return summary
    content, spec = read_pallet_json(path), read_pallet_json(prepared)
    try:
        chosen, changed = chosen_patchset(content, spec, choosing)
    except PalletError as error:
        raise PalletError(error.problem, remedy=error.remedy, file=path) from None
    patchset = check_patchset(changed, analysis.labels, prepared)
    write_atomically(path, canonical_json(chosen.workspace).decode() + "\n")
    write_atomically(prepared, canonical_json(changed).decode() + "\n")
    summary = summarise(chosen.workspace, changed, patchset)
    return summary_of(analysis.choice_of(region), chosen, summary)


def _write_complete(
    analysis: Analysis,
    region: str,
    path: Path,
    prepared: Path,
    asking: Asking | None,
    choosing: Choosing | None,
) -> dict[str, Any]:
    """Write the patchset of a complete workspace, and the workspace as it is asked; describe both.

    Parameters
    ----------
    analysis, region
        The analysis, whose only label has the name of the region as its value, as its point has.
    path
        The workspace.
    prepared
        The patchset that is written.
    asking
        Lets the workspace ask what the settings say.
    choosing
        Takes channels, bins and observations out that are not chosen.
    """
    label = analysis.labels[0]
    content = read_pallet_json(path)
    check_workspace(content, path)
    try:
        complete = CompleteWorkspace(content, "") if asking is None else asking(content)
        chosen = None if choosing is None else choosing(complete.workspace, None)
    except PalletError as error:
        raise PalletError(error.problem, remedy=error.remedy, file=path) from None
    if chosen is not None:
        complete = complete._replace(workspace=chosen.workspace, poi=chosen.poi)
    if complete.workspace != content:
        write_atomically(path, canonical_json(complete.workspace).decode() + "\n")
    spec, _ = with_digest(patchset_of_one(region, label), complete.workspace)
    patchset = check_patchset(spec, [label], prepared)
    write_atomically(prepared, canonical_json(spec).decode() + "\n")
    summary = summarise(complete.workspace, spec, patchset)
    if asking is not None and not complete.poi:
        summary |= without_stand_in(content)
    summary["remarks"] += complete.remarks
    return summary if chosen is None else summary_of(analysis.choice_of(region), chosen, summary)


def _write_patchset(
    region: Region, workspace: Path, files: Mapping[str, Path], prepared: Path
) -> list[str]:
    """Write the patchset of a region whose files are none, or need a change, and say the changes.

    Parameters
    ----------
    region
        Its settings.
    workspace
        Its workspace.
    files
        Its patchset; or its files of operations, by patch.
    prepared
        The file that is written.
    """
    remarks: list[str] = []
    if region.operations is not None:
        spec = patchset_of(files, region)
    else:
        spec = read_pallet_json(next(iter(files.values())))
    if region.name_as is not None:
        spec = named(spec, region.name_as)
    if region.operations is not None or region.digest == "ignore":
        spec, remark = with_digest(spec, read_pallet_json(workspace))
        if region.operations is None and remark is not None:
            remarks = [remark]
    write_atomically(prepared, canonical_json(spec).decode() + "\n")
    return remarks


def prepare_background(
    analysis: Analysis,
    region: str,
    archive: Path,
    workspace: Path,
    page: Path,
    settings: DownloadSettings,
    choosing: Choosing | None = None,
) -> dict[str, Any]:
    """Unpack, verify and describe the workspace of a region without a patchset.

    The signals of such a region are the points of a scan.
    With `choosing`, channels, bins and observations that are not chosen are taken out.

    Raises
    ------
    ArchiveError, PalletError
        See :func:`prepare_region`.
    """
    name = analysis.regions[region].workspace
    digests = analysis.pallet.sha256 if analysis.pallet is not None else {}
    pins = {file: digest for file, digest in digests.items() if file == name}
    page.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=page.parent) as folder:
        path = unpack(archive, [name], Path(folder), settings, sha256=pins)[name]
        source = Path(f"{name} in {archive}")
        try:
            convert_hs3(path)
        except Hs3Error as error:
            raise Hs3Error(error.problem, remedy=error.remedy, file=source) from None
        content = read_pallet_json(path)
        check_workspace(content, source)
        try:
            chosen = None if choosing is None else choosing(content, None)
        except PalletError as error:
            raise PalletError(error.problem, remedy=error.remedy, file=source) from None
        if chosen is not None:
            write_atomically(path, canonical_json(chosen.workspace).decode() + "\n")
        path.replace(workspace)
    summary = summarise_workspace(content if chosen is None else chosen.workspace)
    if chosen is not None:
        summary = summary_of(analysis.choice_of(region), chosen, {"remarks": [], **summary})
        summary["poi"] = content["measurements"][0]["config"]["poi"]
    write_summary(page, f"{analysis.name}/{region}", summary)
    return summary
