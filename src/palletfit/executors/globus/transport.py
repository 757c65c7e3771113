"""Fits as function calls at a Globus Compute endpoint (formerly funcX).

Tasks outlive this program: a :class:`~palletfit.runs.ledger.Ledger` says on disk what was sent, and
a task that is submitted again while the service has it is not sent again but waited for. See
:mod:`palletfit.executors.globus.group` for how nothing is lost or fitted twice.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from palletfit.config import ExecutorSettings
from palletfit.errors import ExecutorError
from palletfit.executors.globus import failures
from palletfit.executors.globus.group import BATCH, Call, TaskGroup
from palletfit.executors.globus.preflight import preflight, refuse_others
from palletfit.executors.globus.service import (
    REQUEST_LIMIT,
    Connection,
    Outcome,
    RequestTooLargeError,
)
from palletfit.executors.queue import Pace, Task, TaskQueue
from palletfit.runs import remote
from palletfit.runs.faults import BadAnswer, TaskTooLarge, worker_died
from palletfit.runs.ledger import Ledger

logger = logging.getLogger(__name__)

#: Bytes of one request.
_REQUEST = int(0.8 * REQUEST_LIMIT)
#: Seconds between looks for results, and for which tasks that are submitted one after the other
#: are gathered.
_LOOK, _GATHER = 0.5, 0.2
#: Seconds before a task is sent again whose endpoint cannot start just now.
_PASSES = 10.0
#: Seconds after which a task that the service should have and does not list is sent again.
_LISTED = 60.0


@dataclass(eq=False)
class GlobusTask(Task):
    """A task with what the service and its workers know of it.

    Attributes
    ----------
    digest
        Sha256 of its content, which is its name in the ledger and in answers.
    workspace
        Packed workspace.
    full
        Whether the workspace has to go with it the next time.
    sent_here
        Whether this process has sent it; an earlier one may have met troubles that are over.
    over
        The service's identifiers whose end is known.
    refused_since
        When an endpoint first said that it cannot start just now, in seconds of the monotonic
        clock; None: never.
    """

    digest: str
    workspace: bytes
    full: bool = False
    sent_here: bool = False
    over: set[str] = field(default_factory=set)
    refused_since: float | None = None


class GlobusTransport:
    """A :class:`~palletfit.executors.queue.Transport` to the workers of an endpoint.

    Parameters
    ----------
    service
        The endpoint.
    ledger
        What is in flight.
    settings
        ``workers``, ``deadline`` (from sending to result, waiting in the site's queue included),
        ``preflight``, ``patience``.
    collect
        Whether this process stays for the results. If not, every task carries the workspace.
    backend
        The backend whose device the probe reports.

    Raises
    ------
    ExecutorError
        The preflight found that fits cannot run there.
    """

    name = "globus-compute"
    #: So that a task fits into a request.
    largest_task: float = REQUEST_LIMIT // 5
    outlives = True
    _queue: TaskQueue[GlobusTask]

    def __init__(
        self,
        service: Connection,
        ledger: Ledger,
        settings: ExecutorSettings,
        *,
        collect: bool = True,
        backend: str = "numpy",
    ) -> None:
        self.workers = settings.workers or 4
        self.deadline = settings.deadline if collect else math.inf
        self.gather, self.pace = _GATHER, Pace(_LOOK, _LOOK, 1.0)
        self.sent = (0, 0)
        self._ledger, self._collects = ledger, collect
        self._patience = settings.patience
        self._group = TaskGroup(service, ledger, patience=settings.patience, backend=backend)
        self._sent_workspaces: Counter[bytes] = Counter()
        self._kept_workspaces: set[bytes] = set()
        preflight(self._group, settings, collect=collect)

    def attach(self, queue: TaskQueue[GlobusTask]) -> None:
        """Report to a queue."""
        self._queue = queue

    def accept(self, content: bytes, workspace: bytes) -> GlobusTask:
        """Make the task of a call, which the service may have from an earlier run."""
        task = GlobusTask(content, remote.content_digest(content), workspace)
        if (sent := self._ledger.in_flight.get(task.digest)) is not None:
            task.sent_at = sent.times[-1]
        return task

    def give_up(self, task: GlobusTask) -> None:
        """Note that a task's patches go other ways from here on."""
        self._ledger.ended(task.digest)

    def describe(self, count: int) -> str:
        """Describe what a number of tasks is waiting for."""
        return f"{count} tasks at the endpoint"

    def unusable(self, reason: str) -> ExecutorError:
        """Make the error for an endpoint that cannot fit."""
        return failures.unusable(reason)

    def close(self, *, cancelled: bool) -> None:
        """Leave what was sent to the endpoint."""
        if cancelled and (count := len(self._ledger.in_flight)):
            logger.warning(
                "%d tasks go on at the endpoint; the same command collects their results.", count
            )

    # -- sending

    def send(self, tasks: Sequence[GlobusTask]) -> None:
        """Send tasks, many in a request."""
        for batch in self._batches(tasks):
            self._send(batch)

    def _batches(self, tasks: Sequence[GlobusTask]) -> Iterator[list[GlobusTask]]:
        batch: list[GlobusTask] = []
        size = 0
        for task in tasks:
            added = self._group.size(self._call(task))
            if batch and (size + added > _REQUEST or len(batch) == BATCH):
                yield batch
                batch, size = [], 0
            batch.append(task)
            size += added
        if batch:
            yield batch

    def _call(self, task: GlobusTask) -> Call:
        kept = task.workspace in self._kept_workspaces
        enough = self._sent_workspaces[task.workspace] >= max(4, self.workers)
        if task.full or not self._collects or not (kept or enough):
            return "answer", remote.make_request(task.content, task.digest, task.workspace)
        return "answer", remote.make_request(task.content, task.digest)

    def _send(self, batch: Sequence[GlobusTask]) -> None:
        """Send tasks as one request, whatever the service answers first."""
        calls, size = [], 0
        for task in batch:
            call = self._call(task)
            self._sent_workspaces[task.workspace] += "workspace" in call[1]
            calls.append(call)
            task.sent_here = True
            size += self._group.size(call)
            self._ledger.label(task.digest, task.patches)
        try:
            self._group.send(calls, [task.digest for task in batch])
        except RequestTooLargeError as error:
            self._refuse_large(batch, error)
            return
        self.sent = self.sent[0] + len(batch), self.sent[1] + size
        for task in batch:
            task.sent_at = self._ledger.in_flight[task.digest].times[-1]

    def _refuse_large(self, batch: Sequence[GlobusTask], error: RequestTooLargeError) -> None:
        if len(batch) > 1:
            for task in batch:
                self._send([task])
            return
        (task,) = batch
        size = len(task.content) + len(task.workspace)
        self._queue.fail(task, TaskTooLarge(f"{size / 1e6:.1f} MB compressed: {error}"))

    # -- results

    def look(self, tasks: Sequence[GlobusTask]) -> bool:
        """Fetch what has ended, and send again what got lost."""
        if not (self._collects and tasks):
            return False
        by_identifier = {
            identifier: task
            for task in tasks
            for identifier in self._identifiers(task)
            if identifier not in task.over
        }
        by_digest = {task.digest: task for task in tasks}
        unclaimed: set[str] = set()
        if not all(self._identifiers(task) for task in tasks):
            unclaimed = self._group.unclaimed()
        outcomes = self._group.outcomes([*by_identifier, *unclaimed])
        for identifier, outcome in outcomes.items():
            if outcome.ended or outcome.state in ("dropped", "unreadable"):
                task = by_identifier.get(identifier) or by_digest.get(
                    self._claim(identifier, outcome)
                )
                # None, or not awaited: another copy ended before.
                if task is not None and self._queue.awaits(task) and identifier not in task.over:
                    task.over.add(identifier)
                    self._take(task, outcome)
        for identifier, task in by_identifier.items():
            if identifier not in outcomes and self._queue.awaits(task):
                task.over.add(identifier)
                self._lose_copy(task, "the service does not know it any more")
        for task in tasks:
            listed = bool(self._identifiers(task) or unclaimed)
            if not listed and _LISTED < task.age <= self.deadline:
                self._lose_unlisted(task)
        return not all(self._queue.awaits(task) for task in tasks)

    def _identifiers(self, task: GlobusTask) -> list[str]:
        sent = self._ledger.in_flight.get(task.digest)
        return [] if sent is None else sent.ids

    def _claim(self, identifier: str, outcome: Outcome) -> str:
        """Read the digest of an unclaimed task in its answer; empty if nobody waits for it."""
        answer = outcome.value
        digest = str(answer.get("digest", "")) if isinstance(answer, dict) else ""
        if digest not in self._ledger.in_flight:
            self._ledger.seen.add(identifier)  # a probe, or what nobody waits for
            return ""
        self._ledger.sent({digest: identifier})
        return digest

    def _take(self, task: GlobusTask, outcome: Outcome) -> None:
        """Act on what became of a copy of a task."""
        if outcome.error is not None:
            self._take_error(task, outcome.error)
        elif outcome.state == "dropped":
            self._lose_copy(task, "the service dropped its result")
        elif outcome.state == "unreadable":
            self._refuse(task, BadAnswer(str(outcome.value)))
        else:
            try:
                answer = remote.read_answer(outcome.value, task.digest)
            except BadAnswer as error:
                self._refuse(task, error)
            else:
                self._take_answer(task, answer)

    def _take_answer(self, task: GlobusTask, answer: remote.Answer) -> None:
        if answer.results is not None:
            self._kept_workspaces.add(task.workspace)
            self._queue.finish(task, answer.results)
        elif answer.other is not None and task.sent_here:
            self._ledger.ended(task.digest)
            refuse_others(answer.other, answer.engines)
            self._refuse(task, BadAnswer("it says that versions differ, but they do not"))
        elif answer.other is not None:
            self._queue.requeue(task)
        elif task.full:
            self._refuse(task, BadAnswer("it says that the workspace is missing, which was sent"))
        else:
            task.full = True
            self._queue.requeue(task)

    def _refuse(self, task: GlobusTask, error: BadAnswer) -> None:
        """Give up a task for an answer that is not usable, unless another copy may have one."""
        if not self._has_copy(task):
            self._queue.fail(task, error)

    def _take_error(self, task: GlobusTask, error: str) -> None:
        fatal = failures.fatal(error)
        if fatal is not None:
            if task.sent_here:
                self._ledger.ended(task.digest)
                raise fatal
            self._queue.requeue(task)
        elif self._has_copy(task):
            return
        elif "WorkerLost" in error:
            self._queue.fail(task, worker_died("the worker died"))
        elif "ManagerLost" in error:
            self._queue.lose(task, "its block of nodes ended")
        elif any(words in error for words in failures.PASSING):
            self._await_start(task, failures.last_line(error))
        else:
            # A fit that fails is an answer; anything else is the worker's trouble.
            self._queue.lose(task, failures.last_line(error))

    def _await_start(self, task: GlobusTask, reason: str) -> None:
        """Send a task again later, for as long as an endpoint may take to start."""
        now = time.monotonic()
        task.refused_since = now if task.refused_since is None else task.refused_since
        if now - task.refused_since < self._patience:
            self._queue.requeue(task, after=_PASSES)
        else:
            self._queue.lose(task, reason)

    def _lose_unlisted(self, task: GlobusTask) -> None:
        """Send a task again that the service never had."""
        if task.sent_here:
            self._queue.lose(task, "the service does not list it")
        else:
            self._queue.requeue(task)  # An earlier run ended before it was sent.

    def _has_copy(self, task: GlobusTask) -> bool:
        """Tell whether another copy of a task is with the service."""
        return bool(set(self._identifiers(task)) - task.over)

    def _lose_copy(self, task: GlobusTask, reason: str) -> None:
        if not self._has_copy(task):
            self._queue.lose(task, reason)
