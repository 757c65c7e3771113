"""Waiting for events, on a machine of any speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

#: Seconds after which what should come counts as never coming: only a fault takes so long.
LIMIT = 300.0
T = TypeVar("T")


def until(
    ready: Callable[[], T],
    complaint: Callable[[], str] = lambda: "it did not come to that",
    *,
    pause: float = 0.02,
) -> T:
    """Wait until something is true, and return it.

    Raises:
        AssertionError: it did not become true; with the complaint as its words.
    """
    end = time.monotonic() + LIMIT
    while not (value := ready()):
        assert time.monotonic() < end, complaint()
        time.sleep(pause)
    return value
