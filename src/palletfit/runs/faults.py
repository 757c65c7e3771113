"""Errors of tasks that come from outside their fits."""

from __future__ import annotations

from pebble import ProcessExpired

#: Raised by a future whose worker process died.
WorkerDied = ProcessExpired
#: Raised by a future that exceeded the deadline.
DeadlineExceeded = TimeoutError


class TaskLost(Exception):  # noqa: N818  named like WorkerDied
    """Raised by a future whose task was lost too often, for reasons outside its worker."""


class TaskTooLarge(Exception):  # noqa: N818
    """Raised by a future whose task is larger than a service takes."""


class BadAnswer(Exception):  # noqa: N818
    """Raised for an answer that is not what was asked for; it says why in a line."""


def worker_died(reason: str, code: int | None = None) -> WorkerDied:
    """Make the error for a worker of an exit code, or one that is not known."""
    return WorkerDied(reason, code=code)  # type: ignore[no-untyped-call]
