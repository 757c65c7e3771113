"""Pack the needed files of a local folder, so that it is read as an archive is."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from palletfit.config import DownloadSettings
from palletfit.core.patterns import starred
from palletfit.errors import DownloadError
from palletfit.pallet.download.cache import replacing


def folder_files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder in order; hidden ones and links are ignored."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if not name.startswith(".") and not path.is_symlink():
                yield path


def needed_files(folder: Path, members: Iterable[str]) -> list[Path]:
    """List the files of a folder that an analysis needs.

    Parameters
    ----------
    folder
        The folder.
    members
        Names, or patterns of names with ``*``; a name may lead into an archive.
    """
    needed: dict[Path, None] = {}
    for member in members:
        if "*" in member:
            needed |= dict.fromkeys(
                path
                for path in folder_files(folder)
                if _matches(path.relative_to(folder).as_posix(), member)
            )
            continue
        parts = PurePosixPath(member).parts
        paths = (folder.joinpath(*parts[: count + 1]) for count in range(len(parts)))
        file = next((path for path in paths if path.is_file() and not path.is_symlink()), None)
        if file is not None and ".." not in parts:
            needed[file] = None
    return list(needed)


def _matches(name: str, pattern: str) -> bool:
    """Return whether a pattern is that of a file, or leads into it."""
    return starred(name, pattern) is not None or pattern.startswith(f"{name}/")


def pack_folder(
    folder: Path, members: Iterable[str], destination: Path, settings: DownloadSettings
) -> Path:
    """Write a tar archive of the files of a folder that an analysis needs.

    The same files give the same archive.

    Parameters
    ----------
    folder
        The folder.
    members
        See :func:`needed_files`.
    destination
        The archive, written atomically.
    settings
        Limit of the size.

    Returns
    -------
    Path
        The destination.

    Raises
    ------
    DownloadError
        The folder has none of the files, they are too large, or one cannot be read.
    """
    names = list(members)
    files = needed_files(folder, names)
    if not files:
        raise DownloadError(
            f"The folder has none of the files that the analysis names: {', '.join(names[:5])}.",
            remedy="Correct pallet.path or the names of `regions` in the analysis file.",
            file=folder,
        )
    if sum(path.stat().st_size for path in files) > settings.max_archive_bytes:
        raise DownloadError(
            f"The files are larger than {settings.max_archive_bytes} bytes.",
            remedy="If you trust them, raise download.max_archive_bytes.",
            file=folder,
        )
    with replacing(destination) as temporary, tarfile.open(temporary, "w") as tar:
        for path in files:
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(entry, content)
    return destination
