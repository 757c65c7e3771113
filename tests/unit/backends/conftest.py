"""Set-up shared by tests of back ends."""

from __future__ import annotations

import contextlib
import logging
import os

# spey asks a registry for its newest version when it is imported.
os.environ.setdefault("SPEY_CHECKUPDATE", "OFF")

# It also adds a handler to the root logger, which changes the messages of all others.
_handlers = logging.root.handlers[:]
with contextlib.suppress(ImportError):
    import spey  # noqa: F401
logging.root.handlers[:] = _handlers
