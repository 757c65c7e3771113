"""Jobs of the Slurm cluster on whose login node this runs."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from palletfit.errors import ExecutorError

logger = logging.getLogger(__name__)

#: Seconds that one of Slurm's commands may take; a busy controller takes its time.
_TIMEOUT = 60.0
_REMEDY = (
    "Correct `executor.cluster` (partition, account, walltime, options) in the profile, then run "
    "again; nothing that was fitted is lost."
)


def refused(words: str) -> ExecutorError:
    """Make the error for a job that Slurm does not take."""
    reason = " ".join(words.split())[:1000] or "no reason given"
    return ExecutorError(f"Slurm does not take the job of a block: {reason}", remedy=_REMEDY)


def submit(script: Path) -> str:
    """Submit a script.

    Returns
    -------
    str
        The job's identifier.

    Raises
    ------
    ExecutorError
        With the words of sbatch.
    """
    process = run(["sbatch", "--parsable", str(script)])
    if process.returncode != 0:
        raise refused(process.stderr or process.stdout)
    return process.stdout.strip().splitlines()[-1].split(";")[0]


def states(jobs: Collection[str]) -> dict[str, str] | None:
    """Find those of the jobs that wait or run, with a word on each.

    Returns
    -------
    dict or None
        None if the controller does not answer.
    """
    if not jobs:
        return {}
    try:
        process = run(["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%T|%r"])
    except ExecutorError as error:
        logger.warning("%s", error.problem)
        return None
    if process.returncode != 0:
        logger.warning("squeue: %s", " ".join(process.stderr.split()))
        return None
    living = {}
    for line in process.stdout.splitlines():
        job, state, reason = (part.strip() for part in line.split("|", 2))
        if job in jobs and state != "COMPLETING":
            word = state.lower()
            living[job] = f"{word} ({reason})" if state == "PENDING" else word
    return living


def cancel(jobs: Sequence[str]) -> None:
    """End jobs, unless they have ended."""
    if not jobs:
        return
    try:
        process = run(["scancel", *jobs])
    except ExecutorError as error:
        logger.warning("%s Its jobs: %s", error.problem, ", ".join(jobs))
        return
    if process.returncode != 0:
        logger.warning("scancel: %s", " ".join(process.stderr.split()))


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's programs.

    Raises
    ------
    ExecutorError
        It is not there, or does not answer.
    """
    # A user's own filters would hide jobs, which then seem to have ended.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")
    }
    try:
        return subprocess.run(  # noqa: S603  Slurm's programs
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            env=environment,
            # An interrupt from the terminal is for the run, which ends its jobs then.
            start_new_session=True,
        )
    except FileNotFoundError:
        raise ExecutorError(
            f"There is no program {command[0]} on this machine.",
            remedy="Run on a login node of a Slurm cluster, or choose another `executor.kind`.",
        ) from None
    except subprocess.TimeoutExpired:
        raise ExecutorError(
            f"Slurm's {command[0]} did not answer within {_TIMEOUT:.0f} s.",
            remedy="Run the same command later; nothing that was fitted is lost.",
        ) from None
