"""A small file system, for tests of what happens when it is full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_file_system(folder: Path, kilobytes: int = 64) -> Iterator[Path]:
    """Mount some space at a folder; without root the test is skipped, but not in CI."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    done = None
    with suppress(OSError):
        done = subprocess.run(command, capture_output=True, check=False)
    if done is None or done.returncode != 0:
        missing = "mounting a small file system needs root and is not permitted here"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
