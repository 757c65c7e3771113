"""Blocks of workers: as many jobs as the tasks need, and new ones for those that have ended."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from palletfit.errors import ExecutorError
from palletfit.executors.cluster import slurm
from palletfit.executors.cluster.pool import Pool

logger = logging.getLogger(__name__)

#: Seconds between attempts to start a block that was refused.
_RETRY = 30.0
#: Blocks in a row that may end before a worker of theirs was there.
_FAILED_IN_A_ROW = 2
#: Seconds that ended blocks get before their logs are removed.
_GRACE = 3.0
#: Characters of a block's log in an error.
_TAIL = 1500


class Blocks:
    """The blocks of a pool.

    Parameters
    ----------
    pool
        Starts them.
    folder
        Where logs of their jobs are.
    patience
        Seconds for which a scheduler that takes no more blocks is asked again.

    Attributes
    ----------
    states
        A word on each living block, by its job.
    """

    def __init__(self, pool: Pool, folder: Path, patience: float) -> None:
        self.states: dict[str, str] = {}
        self._pool, self._folder, self._patience = pool, folder, patience
        #: Jobs of living blocks by the blocks' names, and all that were started.
        self._jobs: dict[str, str] = {}
        self._started: list[str] = []
        self._had_workers: set[str] = set()
        self._failed_in_a_row = 0
        self._refused_since: float | None = None
        self._last_refused = 0.0

    def note_worker(self) -> None:
        """Note that a worker of some block did a task."""
        self._failed_in_a_row = 0

    def adjust(self, tasks: int, stopping: Callable[[], bool]) -> bool:
        """Start blocks that are needed, also instead of those that have ended.

        Parameters
        ----------
        tasks
            How many tasks are open.
        stopping
            Whether no further block should be started.

        Returns
        -------
        bool
            Whether a block has ended.

        Raises
        ------
        ExecutorError
            The scheduler takes no blocks, or they end before a worker is there.
        """
        states = slurm.states(self._jobs.values())
        self.states = states or {}
        if states is None:
            return False
        connected = set(self._pool.connected())
        if connected - self._had_workers:
            self._failed_in_a_row = 0
        self._had_workers |= connected
        ended = {name: job for name, job in self._jobs.items() if job not in states}
        for name, job in ended.items():
            del self._jobs[name]
            self._handle_ended_block(name, job)
        needed = math.ceil(tasks / self._pool.workers_per_block)
        for _ in range(min(self._pool.blocks, needed) - len(self._jobs)):
            if stopping() or not self._start_block():
                break
        return bool(ended)

    def cancel(self) -> None:
        """End all blocks."""
        slurm.cancel(self._started)

    def await_end(self) -> None:
        """Wait until no block writes logs any more, but not for long."""
        until = time.monotonic() + _GRACE
        while self._jobs and time.monotonic() < until:
            if not slurm.states(self._jobs.values()):
                return
            time.sleep(0.2)

    def _handle_ended_block(self, name: str, job: str) -> None:
        if name in self._had_workers:
            logger.warning("block %s (job %s) has ended", name, job)
            return
        self._failed_in_a_row += 1
        log = self._log(name)
        logger.warning("block %s (job %s) ended before a worker was there: %s", name, job, log)
        if self._failed_in_a_row >= _FAILED_IN_A_ROW:
            raise ExecutorError(
                f"{self._failed_in_a_row} blocks in a row ended before a worker of theirs was "
                f"there; the last was job {job}: {log}",
                remedy="Correct `executor.cluster` (setup, interface, memory_gb) in the profile; "
                "compute nodes need this environment and this machine's network.",
            )

    def _log(self, name: str) -> str:
        """Return the end of what a block's job wrote."""
        parts = []
        for path in sorted(self._folder.glob(f"scripts/{name}[-.]*")):
            if path.suffix in (".err", ".out", ".stderr", ".stdout"):
                with suppress(OSError):
                    parts.append(path.read_text(errors="replace").strip())
        return "\n".join(part for part in parts if part)[-_TAIL:] or "it wrote nothing"

    def _start_block(self) -> bool:
        now = time.monotonic()
        if self._refused_since is not None and now - self._last_refused < _RETRY:
            return False
        try:
            name, job = self._pool.start_block()
        except ExecutorError as error:
            since = self._refused_since if self._refused_since is not None else now
            # The first one shows what is wrong; later ones may meet limits that pass.
            if not self._started or (not self._jobs and now - since > self._patience):
                raise
            self._refused_since, self._last_refused = since, now
            logger.warning("%s Trying again.", error.problem)
            return False
        self._refused_since = None
        self._jobs[name] = job
        self._started.append(job)
        logger.info("block %s is job %s", name, job)
        return True
