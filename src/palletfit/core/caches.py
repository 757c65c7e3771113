"""Where palletfit keeps what it can make again, on each machine that it runs on."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache(name: str) -> Path:
    """A folder in the user's cache (XDG Base Directory Specification); it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "palletfit" / name
