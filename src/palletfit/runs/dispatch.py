"""Sending tasks to an executor, and lost ones again, until each has a result or a reason."""

from __future__ import annotations

import concurrent.futures
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from palletfit.config import ExecutorSettings
from palletfit.errors import ExecutorError
from palletfit.pallet.patches import Patch
from palletfit.runs import task
from palletfit.runs.faults import DeadlineExceeded, TaskLost, TaskTooLarge, WorkerDied
from palletfit.runs.ledger import Ledger
from palletfit.runs.remote import content_digest

logger = logging.getLogger(__name__)


#: Into so many tasks, about, a lost one is cut.
_PIECES = 32


#: Some patches, and the task that asks for them.
Task = tuple[Sequence[Patch], bytes]


def fitting_tasks(
    patches: Sequence[Patch], make: Callable[[Sequence[Patch]], bytes], executor: Executor
) -> Iterator[Task]:
    """One task for some patches, or several if it would be larger than the executor takes."""
    content = make(patches)
    if len(content) > getattr(executor, "largest_task", math.inf) and len(patches) > 1:
        half = len(patches) // 2
        yield from fitting_tasks(patches[:half], make, executor)
        yield from fitting_tasks(patches[half:], make, executor)
    else:
        yield patches, content


def dispatch(
    tasks: Iterable[Task],
    make: Callable[[Sequence[Patch]], bytes],
    workspace: bytes,
    executor: Executor,
    settings: ExecutorSettings,
    *,
    title: str,
    recorded: Callable[[Patch], bool] = lambda _: False,
    ledger: Ledger | None = None,
    in_flight: float = math.inf,
) -> Iterator[tuple[Sequence[Patch], list[dict[str, Any]]]]:
    """Send tasks and yield their results as they arrive, in any order.

    What a lost task held is sent again in smaller ones, so that a patch that kills or blocks its
    worker costs no other its result.

    Parameters
    ----------
    tasks
        Taken one by one, when there is room for them.
    make
        Makes a task of some patches.
    workspace
        Packed background-only workspace.
    executor, settings
        Where fits run; how often a patch is sent again.
    title
        What warnings call the scan.
    recorded
        Whether a patch needs no fit any more.
    ledger
        Where tasks that are over are noted, once the caller asks for the next results.
    in_flight
        How many tasks are in flight at a time.

    Raises
    ------
    ExecutorError
        Fits cannot run there.
    """
    waiting = iter(tasks)
    pending: dict[Future[bytes], tuple[Task, int]] = {}
    while True:
        while len(pending) < in_flight and (new := next(waiting, None)) is not None:
            pending[_send(executor, new[1], workspace)] = new, 0
        if not pending:
            return
        done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in done:
            (patches, content), attempt = pending.pop(future)
            if isinstance(future.exception(), ExecutorError):
                future.result()
            left = [patch for patch in patches if not recorded(patch)]
            error = future.exception()
            again = _again(title, patches, left, content, make, error, settings, attempt)
            for sent_again in again:
                number = attempt + (len(patches) == 1)
                pending[_send(executor, sent_again[1], workspace)] = sent_again, number
            if not again:
                yield patches, _results(future, len(patches))
                if ledger is not None:  # only now that they are recorded
                    ledger.ended(content_digest(content))


def _send(executor: Executor, content: bytes, workspace: bytes) -> Future[bytes]:
    try:
        return executor.submit(task.run, content, workspace)
    except RuntimeError as error:  # a pool that broke down takes no more
        broken: Future[bytes] = Future()
        broken.set_exception(error)
        return broken


def _again(
    title: str,
    patches: Sequence[Patch],
    left: Sequence[Patch],
    content: bytes,
    make: Callable[[Sequence[Patch]], bytes],
    error: BaseException | None,
    settings: ExecutorSettings,
    attempt: int,
) -> list[Task]:
    """Return the tasks that are sent again after one was lost."""
    lost = isinstance(error, (WorkerDied, DeadlineExceeded, TaskLost, TaskTooLarge))
    if lost and len(patches) > 1:
        # In the end each alone, so that one that kills or blocks its worker costs no other.
        size = max(1, len(patches) // _PIECES)
        pieces = [left[first : first + size] for first in range(0, len(left), size)]
        manner = "one by one" if size == 1 else f"in {len(pieces)} tasks"
        logger.warning("%s: lost %d patches; sent again %s", title, len(patches), manner)
        return [(piece, make(piece)) for piece in pieces]
    if isinstance(error, WorkerDied) and attempt < settings.retries:
        logger.warning("%s: the worker of %s died; sent again", title, patches[0].name)
        return [(patches, content)]
    return []


def _results(future: Future[bytes], count: int) -> list[dict[str, Any]]:
    try:
        results: list[dict[str, Any]] = task.unpack(future.result())
    except DeadlineExceeded:
        failed = task.failure(
            "DeadlineExceeded",
            "The fit did not end before the deadline.",
            "Raise `executor.deadline`, or look at this patch alone.",
        )
    except WorkerDied as error:
        failed = task.failure(
            "WorkerDied",
            f"The worker process died ({_exit(error)}), perhaps for lack of memory.",
            "Run again; use fewer `executor.workers` if memory is short.",
        )
    except TaskLost as error:
        failed = task.failure(
            "TaskLost",
            f"The task was lost as often as `executor.retries` allows: {error}.",
            "Run again; raise `executor.retries` if blocks of nodes end early.",
        )
    except TaskTooLarge as error:
        failed = task.failure(
            "TaskTooLarge",
            f"The patch is larger than the service takes: {error}.",
            "Fit it with another executor, as `executor.kind: local`.",
        )
    except Exception as error:  # noqa: BLE001  a failure of one task must not end the others
        failed = task.failure(
            type(error).__name__,
            f"The executor could not run the fit: {error}",
            "Run again; if it happens again, check the environment of the workers.",
        )
    else:
        return results
    return [failed] * count


def _exit(error: WorkerDied) -> str:
    return f"exit code {error.exitcode}" if error.exitcode is not None else "no exit code known"
