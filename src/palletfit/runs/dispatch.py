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
from palletfit.runs import answers, task
from palletfit.runs.faults import (
    BadAnswer,
    DeadlineExceeded,
    TaskLost,
    TaskTooLarge,
    WorkerDied,
)
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
    worker costs no other its result. A task whose answer is refused counts as lost, see
    :class:`palletfit.runs.answers.Checker`.

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
    checker: answers.Checker | None = None  # the tasks differ in their patches only
    pending: dict[Future[bytes], tuple[Task, int]] = {}
    while True:
        while len(pending) < in_flight and (new := next(waiting, None)) is not None:
            # What became of a task of an earlier run is no attempt of this one.
            attempt = -1 if ledger is not None and _flies(new[1], ledger) else 0
            pending[_send(executor, new[1], workspace)] = new, attempt
        if not pending:
            return
        done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in done:
            (patches, content), attempt = pending.pop(future)
            checker = checker or answers.Checker.of_task(content)
            outcome = _outcome(future, patches, checker)
            left = [patch for patch in patches if not recorded(patch)]
            error = outcome if isinstance(outcome, Exception) else None
            if isinstance(error, BadAnswer) and ledger is not None:
                ledger.ended(content_digest(content))  # or the same answer would be taken again
            again = _again(title, patches, left, content, make, error, settings, attempt)
            for sent_again in again:
                number = attempt + (len(patches) == 1)
                pending[_send(executor, sent_again[1], workspace)] = sent_again, number
            if not again:
                yield patches, _results(outcome, len(patches))
                if ledger is not None:  # only now that they are recorded
                    ledger.ended(content_digest(content))


def _send(executor: Executor, content: bytes, workspace: bytes) -> Future[bytes]:
    try:
        return executor.submit(task.run, content, workspace)
    except RuntimeError as error:  # a pool that broke down takes no more
        broken: Future[bytes] = Future()
        broken.set_exception(error)
        return broken


def _flies(content: bytes, ledger: Ledger) -> bool:
    return content_digest(content) in ledger.in_flight


def _outcome(
    future: Future[bytes], patches: Sequence[Patch], checker: answers.Checker
) -> list[dict[str, Any]] | Exception:
    """Return the results of a task that is over, or the reason why there are none.

    Raises
    ------
    ExecutorError
        Fits cannot run there.
    """
    error = future.exception()
    if isinstance(error, ExecutorError) or not isinstance(error, Exception | None):
        raise error
    if error is not None:
        return error
    try:
        return checker.check(patches, future.result())
    except BadAnswer as refused:
        return refused


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
    refused = isinstance(error, BadAnswer)
    lost = refused or isinstance(error, (WorkerDied, DeadlineExceeded, TaskLost, TaskTooLarge))
    if lost and len(patches) > 1:
        # In the end each alone, so that one that kills or blocks its worker costs no other.
        size = max(1, len(patches) // _PIECES)
        pieces = [left[first : first + size] for first in range(0, len(left), size)]
        manner = "one by one" if size == 1 else f"in {len(pieces)} tasks"
        words = f"refused the answer for %d patches ({error})" if refused else "lost %d patches"
        logger.warning(f"%s: {words}; sent again %s", title, len(patches), manner)
        return [(piece, make(piece)) for piece in pieces]
    if isinstance(error, WorkerDied) and attempt < settings.retries:
        logger.warning("%s: the worker of %s died; sent again", title, patches[0].name)
        return [(patches, content)]
    if refused and attempt < settings.retries:
        logger.warning(
            "%s: refused the answer for %s (%s); sent again", title, patches[0].name, error
        )
        return [(patches, content)]
    return []


def _results(outcome: list[dict[str, Any]] | Exception, count: int) -> list[dict[str, Any]]:
    """Return results, or a failure of each patch."""
    if isinstance(outcome, Exception):
        return [_failure(outcome)] * count
    return outcome


def _failure(error: Exception) -> dict[str, Any]:
    match error:
        case DeadlineExceeded():
            return task.failure(
                "DeadlineExceeded",
                "The fit did not end before the deadline.",
                "Raise `executor.deadline`, or look at this patch alone.",
            )
        case WorkerDied():
            return task.failure(
                "WorkerDied",
                f"The worker process died ({_exit(error)}), perhaps for lack of memory.",
                "Run again; use fewer `executor.workers` if memory is short.",
            )
        case TaskLost():
            return task.failure(
                "TaskLost",
                f"The task was lost as often as `executor.retries` allows: {error}.",
                "Run again; raise `executor.retries` if blocks of nodes end early.",
            )
        case BadAnswer():
            return task.failure(
                "BadAnswer",
                f"The answer was refused as often as `executor.retries` allows: {error}.",
                "Run again; if it happens again, restart the workers with this version of "
                "palletfit.",
            )
        case TaskTooLarge():
            return task.failure(
                "TaskTooLarge",
                f"The patch is larger than the service takes: {error}.",
                "Fit it with another executor, as `executor.kind: local`.",
            )
        case _:
            return task.failure(
                type(error).__name__,
                f"The executor could not run the fit: {error}",
                "Run again; if it happens again, check the environment of the workers.",
            )


def _exit(error: WorkerDied) -> str:
    return f"exit code {error.exitcode}" if error.exitcode is not None else "no exit code known"
