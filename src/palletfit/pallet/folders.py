"""Files of a local folder that holds a pallet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from palletfit.core.patterns import starred


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
