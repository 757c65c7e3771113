"""A scan of ten points, which takes no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from ...scans import Scan


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    """A scan whose table is written."""
    made = Scan(tmp_path)
    made.write(10)
    return made
