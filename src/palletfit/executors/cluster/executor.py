"""Fits in jobs of a Slurm cluster, which a run on its login node starts and ends.

Parsl or Dask brings tasks to workers and results back; what is common to both is here: how many
blocks there are, what their end means, and what becomes of tasks that were lost with them.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from palletfit.config import ClusterSettings, ExecutorSettings
from palletfit.errors import ExecutorError
from palletfit.executors.cluster import slurm
from palletfit.executors.cluster.folder import make_folder
from palletfit.runs import task
from palletfit.runs.faults import DeadlineExceeded, TaskLost, worker_died

logger = logging.getLogger(__name__)

#: Seconds between looks at the blocks: the least, the most, and how they grow without news.
_QUICK, _SLOW, _GROWTH = 1.0, 10.0, 1.2
#: Seconds between lines that say what is waited for, and between attempts to start a block.
_REPORT, _RETRY = 30.0, 30.0
#: Blocks in a row that may end before a worker of theirs was there.
_BARREN = 2
#: Seconds that ended blocks get before their logs are removed.
_GRACE = 3.0
#: Characters of a block's log in an error.
_TAIL = 1500


class WorkerLost(Exception):  # noqa: N818  what happened
    """Raised by a pool's future whose worker died while its block went on."""


class BlockLost(Exception):  # noqa: N818
    """Raised by a pool's future whose block, or connection to it, ended."""


class Pool(Protocol):
    """What Parsl and Dask have to offer: workers in blocks, each of which is one job.

    Attributes
    ----------
    blocks
        How many blocks there may be.
    workers_per_block
        Workers of each.
    """

    blocks: int
    workers_per_block: int

    def start_block(self) -> tuple[str, str]:
        """Submit one; returns its name and the identifier of its job."""

    def send(
        self, content: bytes, workspace: str, settings: Mapping[str, Any]
    ) -> Future[dict[str, Any]]:
        """Let a worker call :func:`palletfit.executors.cluster.isolated.call`."""

    def connected(self) -> Collection[str]:
        """Names of blocks with workers that are, or were, there."""

    def close(self) -> None:
        """End everything on this machine."""


@dataclass(eq=False)
class _Task:
    content: bytes
    workspace: str
    future: Future[bytes]
    again: int = 0


class ClusterExecutor(Executor):
    """Calls of :func:`palletfit.runs.task.run` by workers in jobs of a Slurm cluster.

    Parameters
    ----------
    make_pool
        Makes the pool, for a cluster and with a folder for what it writes.
    settings
        ``cluster``, ``deadline`` (of one task, from its begin), ``retries`` (after the end of a
        task's block), ``patience`` (with a scheduler that takes no more blocks).

    Attributes
    ----------
    workers
        How many tasks may run side by side.

    Raises
    ------
    ExecutorError
        Fits cannot run there.
    """

    def __init__(
        self, make_pool: Callable[[ClusterSettings, Path], Pool], settings: ExecutorSettings
    ) -> None:
        self._settings = settings
        self._folder = make_folder(settings.cluster.folder)
        try:
            self._pool = make_pool(settings.cluster, self._folder)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self.workers = self._pool.blocks * self._pool.workers_per_block
        self._asked = {
            "deadline": settings.deadline,
            "threads": settings.cluster.cores_per_worker,
            "gpus": settings.cluster.gpus_per_node,
        }
        self._changed = threading.Condition()
        self._open: set[_Task] = set()
        self._broken: ExecutorError | None = None
        self._closing = False
        self._workspaces: set[str] = set()
        #: Jobs of living blocks by the blocks' names, and all that were started.
        self._blocks: dict[str, str] = {}
        self._jobs: list[str] = []
        self._fertile: set[str] = set()
        self._barren = 0
        self._refused_since: float | None = None
        self._last_refused = 0.0
        self._pause = _QUICK
        self._thread = threading.Thread(target=self._work, name="blocks", daemon=True)
        self._thread.start()

    # -- the interface of an executor

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call of :func:`palletfit.runs.task.run`.

        Raises
        ------
        ExecutorError
            Fits cannot run there any more.
        """
        if fn is not task.run or kwargs:
            raise ValueError("the workers of a cluster are only asked for palletfit.runs.task.run")
        content, workspace = args
        future: Future[bytes] = Future()
        future.set_running_or_notify_cancel()
        made = _Task(content, self._keep(workspace), future)
        with self._changed:
            if self._broken is not None:
                raise self._broken
            if self._closing:
                raise RuntimeError("cannot submit after shutdown")
            self._open.add(made)
            self._pause = _QUICK
            self._changed.notify_all()
        self._send(made)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the blocks, at once and with their tasks if `cancel_futures`."""
        if wait and not cancel_futures:
            with self._changed:
                waited = [made.future for made in self._open]
            concurrent.futures.wait(waited)
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        # The thread may be about to start one more block.
        self._thread.join()
        slurm.cancel(self._jobs)
        self._give_up(CancelledError())
        self._pool.close()
        self._await_end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error nobody waits for the rest.
        self.shutdown(cancel_futures=exception_type is not None)

    # -- tasks

    def _keep(self, workspace: bytes) -> str:
        """Put a workspace where every worker can read it; tasks say where."""
        path = self._folder / f"{hashlib.sha256(workspace).hexdigest()}.zz"
        if path.name not in self._workspaces:
            temporary = path.with_suffix(".new")
            temporary.write_bytes(workspace)
            temporary.replace(path)
            self._workspaces.add(path.name)
        return str(path)

    def _send(self, made: _Task) -> None:
        try:
            answered = self._pool.send(made.content, made.workspace, self._asked)
        except ExecutorError as error:
            self._break(error)
            return
        except Exception as error:
            logger.debug("a task could not be sent", exc_info=True)
            self._break(_unusable(repr(error)))
            return
        answered.add_done_callback(lambda future: self._take(made, future))

    def _take(self, made: _Task, answered: Future[dict[str, Any]]) -> None:
        """Make of a pool's answer what it means for a task."""
        error: BaseException | None = CancelledError()
        if not answered.cancelled():
            error = answered.exception()
        if self._closing or self._broken is not None:
            return
        if error is None:
            answer = answered.result()
            if "results" in answer:
                self._end(made, result=answer["results"])
            elif "late" in answer:
                self._end(made, error=DeadlineExceeded("ended at the deadline"))
            elif "died" in answer:
                code = int(answer["died"])
                self._end(made, error=worker_died("the process of the fit died", code))
            else:
                self._break(_unusable(answer["broken"]))
        elif isinstance(error, WorkerLost):
            self._end(made, error=worker_died("the worker died"))
        elif isinstance(error, (BlockLost, CancelledError)):
            self._again(made)
        else:
            self._break(_unusable(f"{type(error).__name__}: {error}"))

    def _again(self, made: _Task) -> None:
        if made.again >= self._settings.retries:
            self._end(made, error=TaskLost("its block of nodes ended"))
            return
        made.again += 1
        count = len(task.unpack(made.content)["patches"])
        logger.warning(
            "a task of %d patches was lost (its block of nodes ended); sent again", count
        )
        with self._changed:
            self._pause = _QUICK
            self._changed.notify_all()
        self._send(made)

    def _end(self, made: _Task, *, result: bytes = b"", error: BaseException | None = None) -> None:
        with self._changed:
            self._open.discard(made)
            self._barren = 0
        with suppress(InvalidStateError):
            if error is not None:
                made.future.set_exception(error)
            else:
                made.future.set_result(result)

    def _break(self, error: ExecutorError) -> None:
        with self._changed:
            if self._broken is None:
                self._broken = error
            self._changed.notify_all()
        self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        with self._changed:
            lost = list(self._open)
            self._open.clear()
        for made in lost:
            with suppress(InvalidStateError):
                made.future.set_exception(error)

    # -- blocks

    def _work(self) -> None:
        last_report = time.monotonic()
        while not self._closing and self._broken is None:
            try:
                states = self._look()
            except ExecutorError as error:
                self._break(error)
                return
            except Exception as error:
                logger.exception("the executor failed")
                self._break(_unusable(repr(error)))
                return
            if self._open and time.monotonic() - last_report > _REPORT:
                last_report = time.monotonic()
                said = ", ".join(sorted(states.values())) or "none"
                logger.info("%d tasks open; blocks: %s", len(self._open), said)
            with self._changed:
                if not self._closing:
                    self._changed.wait(self._pause)
            self._pause = min(_SLOW, _GROWTH * self._pause)

    def _look(self) -> dict[str, str]:
        """Start blocks that are needed, in the place of those that have ended, too."""
        states = slurm.states(self._blocks.values())
        if states is None:
            return {}
        there = set(self._pool.connected())
        if there - self._fertile:
            self._barren = 0
        self._fertile |= there
        for name, job in list(self._blocks.items()):
            if job not in states:
                del self._blocks[name]
                self._pause = _QUICK
                self._mourn(name, job)
        with self._changed:
            needed = math.ceil(len(self._open) / self._pool.workers_per_block)
        for _ in range(min(self._pool.blocks, needed) - len(self._blocks)):
            if self._closing or not self._start_block():
                break
        return states

    def _mourn(self, name: str, job: str) -> None:
        if name in self._fertile:
            logger.warning("block %s (job %s) has ended", name, job)
            return
        self._barren += 1
        said = self._said(name)
        logger.warning("block %s (job %s) ended before a worker was there: %s", name, job, said)
        if self._barren >= _BARREN:
            raise ExecutorError(
                f"{self._barren} blocks in a row ended before a worker of theirs was there; the "
                f"last was job {job}: {said}",
                remedy="Correct `executor.cluster` (setup, interface, memory_gb) in the profile; "
                "compute nodes need this environment and this machine's network.",
            )

    def _said(self, name: str) -> str:
        """The end of what a block's job wrote."""
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
            if not self._jobs or (not self._blocks and now - since > self._settings.patience):
                raise
            self._refused_since, self._last_refused = since, now
            logger.warning("%s Trying again.", error.problem)
            return False
        self._refused_since = None
        self._blocks[name] = job
        self._jobs.append(job)
        logger.info("block %s is job %s", name, job)
        return True

    def _await_end(self) -> None:
        until = time.monotonic() + _GRACE
        while self._blocks and time.monotonic() < until:
            if not slurm.states(self._blocks.values()):
                return
            time.sleep(0.2)


def _unusable(why: str) -> ExecutorError:
    return ExecutorError(
        f"The workers of the cluster cannot run fits: {why}",
        remedy="Check `executor.cluster` (setup, folder), and that compute nodes see this "
        "environment and folder.",
    )
