"""The download cache, and files that replace others atomically."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from palletfit.config import DownloadSettings
from palletfit.errors import DownloadError, UnreachableError
from palletfit.pallet.download.addresses import public_address
from palletfit.pallet.download.content import Kind, check_content
from palletfit.pallet.members import archive_format, read_head

logger = logging.getLogger(__name__)
#: Endings under which an archive without a configured name is searched in the cache.
ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip", ".tar.bz2", ".tar.xz")
_ENDING_OF_FORMAT = {
    "gzip": ".tar.gz",
    "tar": ".tar",
    "zip": ".zip",
    "bzip2": ".tar.bz2",
    "xz": ".tar.xz",
}


@dataclass(frozen=True)
class Source:
    """File on the network, and its paths in the download cache."""

    url: str | None
    kind: Kind
    #: Paths relative to the cache folder, the preferred one first.
    slots: tuple[Path, ...]


def cached_file(source: Source, settings: DownloadSettings) -> Path | None:
    """Find a file in the download cache."""
    if settings.cache is None:
        return None
    candidates = (settings.cache.expanduser() / slot for slot in source.slots)
    return next((path for path in candidates if path.is_file()), None)


def slot_for(source: Source, fetched: Path) -> Path:
    """Choose the path in the cache whose ending matches the format of the file."""
    if len(source.slots) == 1:
        return source.slots[0]
    kind = archive_format(read_head(fetched))
    ending = _ENDING_OF_FORMAT[kind or "tar"]
    return next(slot for slot in source.slots if slot.name.endswith(ending))


def keep_in_cache(fetched: Path, slot: Path) -> None:
    """Copy a fetched file into the download cache."""
    try:
        with replacing(slot) as temporary:
            shutil.copyfile(fetched, temporary)
    except DownloadError as error:
        # This run has the file; the cache only saves the next one the network.
        logger.warning("The download could not be kept in the cache: %s (%s)", error.problem, slot)


def by_hand(source: Source, settings: DownloadSettings) -> str:
    """Tell the user how to fetch a file by other means, and where to put it."""
    slot = source.slots[0]
    if settings.cache is None:
        instruction = f"Set download.cache to a folder and put the file there as {slot}"
    else:
        instruction = f"Put the file at {settings.cache.expanduser() / slot}"
    if len(source.slots) > 1:
        instruction += f" (or with the ending that it has of {', '.join(ARCHIVE_ENDINGS)})"
    if source.url is None:
        return f"{instruction}, or give its url in the analysis file."
    accept = f"Accept: {source.kind.accept}"
    command = ["curl", "--fail", "--location", "--header", accept, "--output", slot.name]
    address = public_address(source.url, query=True)
    return f"{instruction}; on a machine with internet access, get it by: " + shlex.join(
        [*command, address]
    )


def copy_checked(path: Path, target: Path, kind: Kind, *, remedy: str) -> None:
    """Copy a local file if it is of the expected kind."""
    try:
        head = read_head(path)
    except OSError as error:
        raise DownloadError(
            f"The file cannot be read: {error.strerror}.", remedy=remedy, file=path
        ) from None
    check_content(head, "", kind, file=str(path), remedy=remedy)
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give the path of a temporary file that replaces `target` once it is complete."""
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UnreachableError(
            f"The file cannot be written: {error.strerror}.",
            remedy="Check the folder's permissions and the free space.",
            file=target,
        ) from error
