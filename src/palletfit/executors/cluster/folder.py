"""The folder that a run shares with its workers."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

from palletfit.core.caches import user_cache
from palletfit.errors import ExecutorError

#: A character that a path in a script's `#SBATCH` lines must not have, or that a shell interprets.
_UNSAFE = re.compile(r"[^\w/.,:@+=~-]")


def make_folder(root: Path | None) -> Path:
    """Make the folder of a run, and remove those of earlier runs here that were killed."""
    if root is None:
        root = user_cache("runs")
    prefix = f"{socket.gethostname()}-"
    # All of the name: folders of a host `login-2` begin with `login-`, too.
    pattern = re.compile(rf"{re.escape(prefix)}(\d+)-\w+")
    try:
        root.mkdir(parents=True, exist_ok=True)
        if unsafe := _UNSAFE.search(str(root.resolve())):
            raise ExecutorError(
                f"The folder for runs has {unsafe.group()!r} in its path, which scripts for Slurm "
                "cannot hold.",
                remedy="Set `executor.cluster.folder` to another folder that the compute nodes "
                "share.",
                file=root,
            )
        for old in root.iterdir():
            if (match := pattern.fullmatch(old.name)) and not _alive(int(match.group(1))):
                shutil.rmtree(old, ignore_errors=True)
        folder = tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=root.resolve())
    except OSError as error:
        raise ExecutorError(
            f"Cannot make a folder for the run: {error.strerror}.",
            remedy="Set `executor.cluster.folder` to a folder that you may write to and that the "
            "compute nodes share.",
            file=root,
        ) from None
    return Path(folder)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
