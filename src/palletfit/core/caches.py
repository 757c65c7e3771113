"""Cache of files that palletfit can make again, on each machine."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache(name: str) -> Path:
    """Choose a folder in the user's cache (XDG Base Directory Specification); it may not exist."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "palletfit" / name
