"""Set-up shared by tests of back ends."""

from __future__ import annotations

import os

# spey asks a registry for its newest version when it is imported.
os.environ.setdefault("SPEY_CHECKUPDATE", "OFF")
