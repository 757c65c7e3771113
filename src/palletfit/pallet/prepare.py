"""Prepare the workspace and patchset of a region from an archive."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, DownloadSettings
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.archive import unpack
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.hs3 import Hs3Error, convert_hs3
from palletfit.pallet.patchset import check_workspace, summarise_workspace, validate
from palletfit.pallet.summary_page import write_summary


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
    names = [files.workspace, files.patchset]
    pins = {name: digest for name, digest in analysis.pallet.sha256.items() if name in names}
    page.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=page.parent) as folder:
        paths = unpack(archive, names, Path(folder), settings, sha256=pins)
        sources = {str(path): f"{name} in {archive}" for name, path in paths.items()}
        try:
            convert_hs3(paths[files.workspace])
            summary = validate(paths[files.workspace], paths[files.patchset], analysis.labels)
        except PalletError as error:
            raise PalletError(
                error.problem,
                remedy=error.remedy,
                file=sources.get(str(error.file), error.file),
                patch=error.patch,
            ) from None
        paths[files.workspace].replace(workspace)
        paths[files.patchset].replace(patchset)
    write_summary(page, f"{analysis.name}/{region}", summary)
    return summary


def prepare_background(
    analysis: Analysis,
    region: str,
    archive: Path,
    workspace: Path,
    page: Path,
    settings: DownloadSettings,
) -> dict[str, Any]:
    """Unpack, verify and describe the workspace of a region without a patchset.

    The signals of such a region are the points of a scan.

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
        path.replace(workspace)
    summary = summarise_workspace(content)
    write_summary(page, f"{analysis.name}/{region}", summary)
    return summary
