"""Fits in jobs of a Slurm cluster, which a run on its login node starts and ends.

Parsl or Dask brings tasks to workers and results back. What is common to both is here: the folder
that workers share, and the meaning of a pool's answers.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from palletfit.config import ClusterSettings, ExecutorSettings
from palletfit.errors import ExecutorError
from palletfit.executors.cluster.blocks import Blocks
from palletfit.executors.cluster.folder import make_folder
from palletfit.executors.cluster.pool import BlockLost, Pool, WorkerLost
from palletfit.executors.queue import Pace, Task, TaskQueue
from palletfit.runs.faults import BadAnswer, DeadlineExceeded, worker_died

logger = logging.getLogger(__name__)

#: Seconds between looks at the blocks: the least, the most, and how they grow without news.
_PACE = Pace(1.0, 10.0, 1.2)


@dataclass(eq=False)
class PoolTask(Task):
    """A task with the path of its workspace."""

    workspace: str


class PoolTransport:
    """A :class:`~palletfit.executors.queue.Transport` to workers in jobs of a Slurm cluster.

    Parameters
    ----------
    make_pool
        Makes the pool, for a cluster and with a folder for what it writes.
    settings
        ``cluster``, ``deadline`` (of one task, from its begin), ``patience`` (with a scheduler that
        takes no more blocks).

    Raises
    ------
    ExecutorError
        Fits cannot run there.
    """

    name = "blocks"
    largest_task = math.inf
    #: Workers count the time from the begin of a task.
    deadline = math.inf
    gather = 0.0
    pace = _PACE
    outlives = False
    sent = (0, 0)
    _queue: TaskQueue[PoolTask]

    def __init__(
        self, make_pool: Callable[[ClusterSettings, Path], Pool], settings: ExecutorSettings
    ) -> None:
        self._folder = make_folder(settings.cluster.folder)
        try:
            self._pool = make_pool(settings.cluster, self._folder)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self.workers = self._pool.blocks * self._pool.workers_per_block
        self._blocks = Blocks(self._pool, self._folder, settings.patience)
        self._worker_settings = {
            "deadline": settings.deadline,
            "threads": settings.cluster.cores_per_worker,
            "gpus": settings.cluster.gpus_per_node,
        }
        self._workspaces: set[str] = set()

    def attach(self, queue: TaskQueue[PoolTask]) -> None:
        """Report to a queue."""
        self._queue = queue

    def accept(self, content: bytes, workspace: bytes) -> PoolTask:
        """Make the task of a call, and put its workspace where every worker can read it."""
        path = self._folder / f"{hashlib.sha256(workspace).hexdigest()}.zz"
        if path.name not in self._workspaces:
            temporary = path.with_suffix(".new")
            temporary.write_bytes(workspace)
            temporary.replace(path)
            self._workspaces.add(path.name)
        return PoolTask(content, str(path))

    def send(self, tasks: Sequence[PoolTask]) -> None:
        """Send tasks one by one."""
        for task in tasks:
            task.sent_at = time.time()
            try:
                answer = self._pool.send(task.content, task.workspace, self._worker_settings)
            except ExecutorError:
                raise
            except Exception as error:
                logger.debug("a task could not be sent", exc_info=True)
                raise self.unusable(repr(error)) from error
            answer.add_done_callback(partial(self._take, task))

    def look(self, tasks: Sequence[PoolTask]) -> bool:
        """Start the blocks that tasks need."""
        return self._blocks.adjust(len(tasks), lambda: self._queue.closing)

    def give_up(self, task: PoolTask) -> None:
        """Note that a worker had a task."""
        del task
        self._blocks.note_worker()

    def describe(self, count: int) -> str:
        """Describe what a number of tasks is waiting for."""
        states = ", ".join(sorted(self._blocks.states.values())) or "none"
        return f"{count} tasks open; blocks: {states}"

    def unusable(self, reason: str) -> ExecutorError:
        """Make the error for workers that cannot fit."""
        return ExecutorError(
            f"The workers of the cluster cannot run fits: {reason}",
            remedy="Check `executor.cluster` (setup, folder), and that compute nodes see this "
            "environment and folder.",
        )

    def close(self, *, cancelled: bool) -> None:
        """End the blocks, and remove the folder."""
        del cancelled
        self._blocks.cancel()
        self._pool.close()
        self._blocks.await_end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self, task: PoolTask, answer: Future[Any]) -> None:
        """Report what a pool's answer means for a task."""
        error: BaseException | None = CancelledError()
        if not answer.cancelled():
            error = answer.exception()
        if error is None:
            self._take_result(task, answer.result())
        elif isinstance(error, WorkerLost):
            self._queue.fail(task, worker_died("the worker died"))
        elif isinstance(error, (BlockLost, CancelledError)):
            self._queue.lose(task, "its block of nodes ended")
        else:
            self._queue.break_off(self.unusable(f"{type(error).__name__}: {error}"))

    def _take_result(self, task: PoolTask, result: Any) -> None:
        match result:
            case {"results": bytes(results)}:
                self._blocks.note_worker()
                self._queue.finish(task, results)
            case {"late": True}:
                self._queue.fail(task, DeadlineExceeded("ended at the deadline"))
            case {"died": int(code)}:
                self._queue.fail(task, worker_died("the process of the fit died", code))
            case {"broken": str(reason)}:
                self._queue.break_off(self.unusable(reason))
            case _:
                self._queue.fail(task, BadAnswer("it is not what workers give"))
