"""Processes that must not outlive others."""

from __future__ import annotations

import os
import select
import threading


def end_with(pid: int) -> None:
    """End this process when another one is gone, however it ended.

    A client that is killed cannot tell its workers, and they would go on (or wait) for ever.
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
