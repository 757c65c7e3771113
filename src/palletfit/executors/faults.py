"""What befalls a task that is not its own fault."""

from __future__ import annotations

from pebble import ProcessExpired

#: Raised by a future whose worker process died.
WorkerDied = ProcessExpired
#: Raised by a future that exceeded the deadline.
DeadlineExceeded = TimeoutError


def worker_died(why: str) -> WorkerDied:
    """Make the error for a worker whose exit code is not known."""
    return WorkerDied(why, code=None)  # type: ignore[no-untyped-call]
