"""The meaning of an endpoint's errors, of which only the text arrives."""

from __future__ import annotations

import re

from palletfit.errors import ExecutorError

#: Words of an endpoint that cannot start a user endpoint just now: the one before it was killed and
#: counts as alive for three heartbeats, or it was asked while it was not running.
PASSING = ("Another instance of this endpoint is running", "Command too old")


def fatal(error: str) -> ExecutorError | None:
    """Return the error that a task's error text means for all tasks, if it means one."""
    if "BadStateException" in error:
        return ExecutorError(
            f"The endpoint cannot start workers: {_scheduler_words(error)}",
            remedy="Correct `executor.endpoint_config` (partition, account, walltime) in the "
            "profile, or the endpoint's template, then run again.",
        )
    if re.search(r"(ModuleNotFoundError|ImportError)", error):
        return ExecutorError(
            f"The worker cannot import what a fit needs: {last_line(error)}",
            remedy="Install the environment of envs/endpoint.txt and this checkout where the "
            "endpoint's `worker_init` points, then restart the endpoint.",
        )
    raised = ("Traceback", "WorkerLost", "ManagerLost", *PASSING)
    return None if any(words in error for words in raised) else unusable(error)


def unusable(error: str) -> ExecutorError:
    """Make the error for an endpoint that cannot run fits."""
    return ExecutorError(
        f"The endpoint cannot run fits: {last_line(error)}",
        remedy="Look at the endpoint's log (`globus-compute-endpoint logs NAME` on its machine).",
    )


def last_line(text: str) -> str:
    """Return the last line of a text that says anything."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no reason given"


def _scheduler_words(error: str) -> str:
    """Find the scheduler's words in Parsl's report of failed blocks."""
    match = re.search(r"STDERR:?\s*(.+?)(?:\n\s*\n|$)", error, flags=re.DOTALL | re.IGNORECASE)
    words = match[1] if match else last_line(error)
    return " ".join(words.split())[:500]
