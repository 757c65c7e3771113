"""From an archive to one region's checked workspace and patchset."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, DownloadSettings
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.archive import unpack
from palletfit.pallet.files import read_pallet_json
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
    write_summary(page, f"{analysis.name}/{region}", summary)
    return summary
