"""Pack the needed files of a local folder, so that it is read as an archive is."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from pathlib import Path

from palletfit.config import DownloadSettings
from palletfit.errors import DownloadError
from palletfit.pallet.download.cache import replacing
from palletfit.pallet.folders import needed_files


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
        See :func:`palletfit.pallet.folders.needed_files`.
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
