"""Processes that must not outlive others."""

from __future__ import annotations

import os
import select
import threading


def end_with(pid: int) -> None:
    """End this process when another one has ended for any reason.

    A killed client cannot stop its workers, which would otherwise run (or wait) forever.
    """

    def watch() -> None:
        _wait_for_end(pid)
        os._exit(75)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # no Linux, or an old one
        while _alive(pid):
            threading.Event().wait(0.5)
        return
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    ended.poll()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
