"""Locks that allow one writer at a time and end with their holder.

The kernel holds a lock on an open file. A killed run therefore leaves no lock behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palletfit.errors import StoreError

logger = logging.getLogger(__name__)


def acquire(path: Path) -> int | None:
    """Take a lock, or return None if another process holds it.

    The lock is held until the returned file descriptor is closed or the process ends.

    Raises
    ------
    StoreError
        The file cannot be written, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
    except BlockingIOError:
        return None
    except OSError as error:
        raise StoreError(
            f"Cannot lock the folder against a second run: {error.strerror}.",
            remedy="Make it writable, or work on a file system with locks.",
            file=path,
        ) from error
    # The holder is information for people: without it, as on a full disk, the lock still holds.
    with contextlib.suppress(OSError):
        holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
    return descriptor


def holder(path: Path) -> str:
    """Read the name of the holder of a lock."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def hold_until_exit(path: Path, *, activity: str) -> None:
    """Take a lock for the rest of this process.

    Raises
    ------
    StoreError
        Another process holds it.
    """
    if acquire(path) is None:
        raise StoreError(
            f"Another run is {activity}: {holder(path)}.",
            remedy="Wait for it, or interrupt it (Ctrl-C there, or kill -INT); finished patches "
            "are kept in both cases.",
            file=path,
        )


@contextmanager
def waiting_lock(path: Path, *, activity: str) -> Iterator[None]:
    """Hold a lock for a block, waiting for another process that holds it."""
    warned = False
    while (descriptor := acquire(path)) is None:
        if not warned:
            logger.warning("Waiting: another run is %s: %s", activity, holder(path))
            warned = True
        time.sleep(0.5)
    try:
        yield
    finally:
        os.close(descriptor)
