"""Files of the project itself: write them atomically, and check them when they are read.

A run reads files of earlier runs. A file that was truncated, edited or lost is an error with a
remedy: the run makes it again. Files of pallets are read by :mod:`palletfit.pallet.files`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from palletfit.errors import StoreError


def read_json(path: Path) -> Any:
    """Read a JSON file that :func:`write_json` wrote.

    Raises
    ------
    StoreError
        The file is missing, or damaged: truncated or edited.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(
            "A file of this run is missing.",
            remedy="Run the same command again: it is made again, and finished fits are kept.",
            file=path,
        ) from None
    except OSError as error:
        raise StoreError(
            f"Cannot read a file of this run: {error.strerror}.",
            remedy="Make it readable and run the same command again.",
            file=path,
        ) from None
    except (ValueError, RecursionError) as error:
        problem = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise StoreError(
            f"A file of this run is damaged ({problem}).",
            remedy="Remove it and run the same command again: it is made again, and finished "
            "fits are kept.",
            file=path,
        ) from None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically.

    Raises
    ------
    StoreError
        The disk is full or the folder cannot be written.
    """
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file atomically: after a crash it is complete or absent.

    Parameters
    ----------
    path
        Path of the file; its folder is created.
    content
        Text is written as UTF-8.
    durable
        See :func:`atomic_file`.

    Raises
    ------
    StoreError
        The disk is full or the folder cannot be written.
    """
    with atomic_file(path, durable=durable) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing, which appears at its path when the block ends without an error.

    Parameters
    ----------
    path
        Path of the file; its folder is created.
    durable
        Wait until the file is on the disk, so that it survives a power cut.

    Raises
    ------
    StoreError
        The disk is full or the folder cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        # Temporary files are private; results get the permissions of the user's other files.
        os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101
        os.replace(temporary, path)  # noqa: PTH105
        temporary = None
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise writing_error(error, path) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems refuse this; the file itself is on the disk.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writing_error(error: OSError, path: Path) -> StoreError:
    """Translate an operating system error on writing into a user error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            "The disk is full; finished patches are kept.",
            remedy="Free space there and run the same command again: only the missing patches "
            "are fitted.",
            file=path,
        )
    return StoreError(
        f"Cannot write: {error.strerror}; finished patches are kept.",
        remedy="Make the folder writable and run the same command again.",
        file=path,
    )
