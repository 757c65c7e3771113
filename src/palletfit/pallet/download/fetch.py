"""Fetch pallets and published tables, from the cache, the network or a local file."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from palletfit.config import DownloadSettings, Pallet, PublishedCurve
from palletfit.errors import ConfigError, DownloadError
from palletfit.pallet.download.addresses import public_address
from palletfit.pallet.download.cache import (
    ARCHIVE_ENDINGS,
    Source,
    by_hand,
    cached_file,
    copy_checked,
    keep_in_cache,
    replacing,
    slot_for,
)
from palletfit.pallet.download.content import ARCHIVE, TABLE
from palletfit.pallet.download.folder import pack_folder
from palletfit.pallet.download.network import download

logger = logging.getLogger(__name__)


def fetch_pallet(
    pallet: Pallet,
    destination: Path,
    settings: DownloadSettings,
    *,
    analysis: str,
    members: Iterable[str] = (),
) -> Path:
    """Fetch the archive of a pallet; of a folder, make one.

    Parameters
    ----------
    pallet
        Source of the pallet: a DOI, an address, or a local file or folder.
    destination
        The file that is written, atomically.
    settings
        The cache, the hosts that may be asked, time-outs, retries and limits.
    analysis
        Name of the analysis, for the cache: the archive is searched there as
        ``pallets/ARCHIVE``, or as ``pallets/ANALYSIS`` with one of :data:`ARCHIVE_ENDINGS`.
    members
        Names, or patterns of names with ``*``, of the files that are needed of a folder.

    Returns
    -------
    Path
        The destination.

    Raises
    ------
    DownloadError
        The archive could not be fetched, or the file is no archive.
    ConfigError
        The pallet is built in and has no file, or its DOI is malformed.
    """
    if pallet.path is not None:
        path = pallet.path.expanduser()
        if path.is_dir():
            return pack_folder(path, members, destination, settings)
        return _take_local(path, destination)
    if pallet.url is not None:
        url = pallet.url
    elif pallet.doi is not None:
        url = _doi_address(pallet.doi, settings)
    else:
        raise ConfigError(
            f"The pallet of {analysis} is built in; there is nothing to fetch.",
            remedy="Give the pallet a doi, url or path.",
        )
    return _fetch(Source(url, ARCHIVE, _slots(pallet, analysis)), destination, settings)


def is_cached(pallet: Pallet, settings: DownloadSettings, *, analysis: str) -> bool:
    """Say whether the archive of a pallet is in the download cache."""
    return cached_file(Source(None, ARCHIVE, _slots(pallet, analysis)), settings) is not None


def _slots(pallet: Pallet, analysis: str) -> tuple[Path, ...]:
    """Return the paths of an archive in the cache, the preferred one first."""
    endings = ("",) if pallet.archive else ARCHIVE_ENDINGS
    name = pallet.archive or analysis
    return tuple(Path("pallets", name + ending) for ending in endings)


def fetch_published(
    curve: PublishedCurve, destination: Path, settings: DownloadSettings, *, analysis: str
) -> Path:
    """Fetch a published curve as a CSV table.

    Parameters
    ----------
    curve
        Address of the table, and its file name in the cache.
    destination
        The file that is written, atomically.
    settings
        The cache, the hosts that may be asked, time-outs, retries and limits.
    analysis
        Name of the analysis: the table is searched in the cache as ``published/ANALYSIS/FILE``.

    Returns
    -------
    Path
        The destination.

    Raises
    ------
    DownloadError
        The table could not be fetched, or the file is no table.
    ConfigError
        The name of the file leads out of the cache.
    """
    return _fetch(_table(curve, analysis), destination, settings)


def circumstances(
    curve: PublishedCurve, settings: DownloadSettings, *, analysis: str
) -> dict[str, Any]:
    """Describe what decides here whether a published curve can be fetched, as plain data.

    That is the file in the cache, and whether and where the network may be used.
    """
    try:
        cached = cached_file(_table(curve, analysis), settings)
    except ConfigError:  # its name leads out of the cache
        cached = None
    status = cached.stat() if cached is not None else None
    return {
        "cached": None if status is None else [str(cached), status.st_mtime_ns, status.st_size],
        "offline": settings.offline,
        "allowed_hosts": sorted(settings.allowed_hosts),
        "max_archive_bytes": settings.max_archive_bytes,
    }


def _table(curve: PublishedCurve, analysis: str) -> Source:
    file = Path(curve.file)
    if file.is_absolute() or ".." in file.parts or not file.parts:
        raise ConfigError(
            f"The file name {curve.file!r} of a published curve leads out of the download cache.",
            remedy="Give a plain file name in the analysis file.",
        )
    return Source(curve.url, TABLE, (Path("published", analysis, file),))


def _doi_address(doi: str, settings: DownloadSettings) -> str:
    if not doi.startswith("10.") or "/" not in doi:
        raise ConfigError(
            f"{doi!r} is not a DOI.",
            remedy="Write it without an address before it, such as 10.17182/hepdata.90607.v3/r3.",
        )
    return settings.doi_resolver.rstrip("/") + "/" + quote(doi, safe="/:;()")


def _take_local(path: Path, destination: Path) -> Path:
    remedy = "Correct pallet.path in the analysis file; a relative path starts at that file."
    if not path.is_file():
        raise DownloadError(
            "There is no such archive.",
            remedy=remedy,
            file=path,
        )
    copy_checked(path, destination, ARCHIVE, remedy=remedy)
    return destination


def _fetch(source: Source, destination: Path, settings: DownloadSettings) -> Path:
    cached = cached_file(source, settings)
    if cached is not None:
        logger.info("Using %s from the download cache", cached)
        copy_checked(cached, destination, source.kind, remedy="Delete this file and run again.")
        return destination
    if settings.offline or source.url is None:
        reason = "download.offline forbids the network" if settings.offline else "it has no url"
        raise DownloadError(
            f"The {source.kind.name} is not in the download cache, and {reason}.",
            remedy=by_hand(source, settings),
            file=None if source.url is None else public_address(source.url),
        )
    with replacing(destination) as temporary:
        download(source, source.url, temporary, settings)
    if settings.cache is not None:
        keep_in_cache(destination, settings.cache.expanduser() / slot_for(source, destination))
    return destination
