"""The queue of tasks under every executor whose workers are elsewhere.

:class:`TaskQueue` owns futures, the thread that sends, deadlines, lost tasks and shutdown. A
:class:`Transport` brings tasks to workers and reports what became of them: Globus Compute is one,
the pools of Parsl and Dask are another.

A task is *queued*, then *sent*, and then it ends: finished, failed, or lost and queued again. Only
a task that is sent can end, so that late answers and answers to second copies change nothing.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from palletfit.config import ExecutorSettings
from palletfit.core.text import counted
from palletfit.errors import ExecutorError
from palletfit.runs import task as worker
from palletfit.runs.faults import DeadlineExceeded, TaskLost
from palletfit.runs.packing import unpack

logger = logging.getLogger(__name__)

#: Seconds between lines that say what is waited for.
_REPORT = 30.0
#: A task that never began is sent again so often before it counts as lost.
_REQUEUES = 100


@dataclass(eq=False)
class Task:
    """A call of :func:`palletfit.runs.task.run`.

    Attributes
    ----------
    content
        From :func:`palletfit.runs.task.make_task`.
    future
        What :meth:`TaskQueue.submit` returned.
    resent
        How often it was sent again after it was lost.
    requeued
        How often it was sent again since then because it never began.
    ready
        When it may be sent, in seconds of the monotonic clock.
    sent_at
        When it was last sent, in seconds since 1970; None: never.
    """

    content: bytes
    future: Future[bytes] = field(default_factory=Future, init=False)
    resent: int = field(default=0, init=False)
    requeued: int = field(default=0, init=False)
    ready: float = field(default=0.0, init=False)
    sent_at: float | None = field(default=None, init=False)

    @property
    def age(self) -> float:
        """Seconds since it was sent."""
        return 0.0 if self.sent_at is None else time.time() - self.sent_at

    @property
    def patches(self) -> list[str]:
        """Names of its patches."""
        return [patch["name"] for patch in unpack(self.content)["patches"]]


T = TypeVar("T", bound=Task)


class Pace(NamedTuple):
    """Seconds between looks: the least, the most, and how they grow without news."""

    quick: float
    slow: float
    growth: float


class Transport(Protocol[T]):
    """The way of tasks to workers and of results back.

    It reports to the queue it is attached to: :meth:`TaskQueue.finish`, :meth:`~TaskQueue.fail`,
    :meth:`~TaskQueue.lose`, :meth:`~TaskQueue.requeue` and :meth:`~TaskQueue.break_off` may be
    called at any time, by any thread. An :class:`ExecutorError` that :meth:`send` or :meth:`look`
    raises ends all tasks.

    Attributes
    ----------
    name
        Name of the thread that sends.
    workers
        How many tasks are expected to run side by side.
    largest_task
        Bytes that the content of a task may have.
    deadline
        Seconds from sending to result; infinite if workers end late tasks themselves.
    gather
        Seconds for which tasks that are submitted one after the other are gathered.
    pace
        Times between looks.
    outlives
        Whether tasks that are sent go on when this program ends.
    sent
        Number of tasks, and bytes, that were sent; zeros if nobody counts them.
    """

    name: str
    workers: int
    largest_task: float
    deadline: float
    gather: float
    pace: Pace
    outlives: bool
    sent: tuple[int, int]

    def attach(self, queue: TaskQueue[T]) -> None:
        """Report to a queue."""

    def accept(self, content: bytes, workspace: bytes) -> T:
        """Make the task of a call, with `sent_at` if an earlier program has sent it already."""

    def send(self, tasks: Sequence[T]) -> None:
        """Send tasks, and set their `sent_at`."""

    def look(self, tasks: Sequence[T]) -> bool:
        """Look for news of the tasks that are sent, and return whether there are any."""

    def give_up(self, task: T) -> None:
        """Note that a task ends with an error, before its future says so."""

    def describe(self, count: int) -> str:
        """Describe in a line what a number of tasks is waiting for."""

    def unusable(self, reason: str) -> ExecutorError:
        """Make the error for workers that cannot fit at all."""

    def close(self, *, cancelled: bool) -> None:
        """End what this program has started; after an error if `cancelled`."""


class TaskQueue(Executor, Generic[T]):
    """Calls of :func:`palletfit.runs.task.run` by workers elsewhere.

    Parameters
    ----------
    transport
        Brings them there.
    settings
        ``retries``: how often a task is sent again after it was lost.

    Attributes
    ----------
    workers, largest_task
        See :class:`Transport`.
    """

    def __init__(self, transport: Transport[T], settings: ExecutorSettings) -> None:
        self.workers, self.largest_task = transport.workers, transport.largest_task
        self._transport, self._retries = transport, settings.retries
        self._changed = threading.Condition()
        self._queued: list[T] = []
        #: A dictionary for its order.
        self._sent: dict[T, None] = {}
        self._sending = False
        self._broken: ExecutorError | None = None
        self._closing = False
        self._submitted = 0.0
        self._pause = transport.pace.quick
        transport.attach(self)
        self._thread = threading.Thread(target=self._work, name=transport.name, daemon=True)
        self._thread.start()

    @property
    def sent(self) -> tuple[int, int]:
        """Number of tasks, and bytes, that were sent so far, repetitions included."""
        return self._transport.sent

    @property
    def closing(self) -> bool:
        """True if nothing further should be started."""
        return self._closing

    # -- the interface of an executor

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call of :func:`palletfit.runs.task.run`.

        Raises
        ------
        ExecutorError
            Fits cannot run there any more.
        """
        if fn is not worker.run or kwargs:
            raise ValueError("remote workers are only asked for palletfit.runs.task.run")
        content, workspace = args
        task = self._transport.accept(content, workspace)
        task.future.set_running_or_notify_cancel()
        with self._changed:
            if self._broken is not None:
                raise self._broken
            if self._closing:
                raise RuntimeError("cannot submit after shutdown")
            if task.sent_at is None:
                self._queued.append(task)
            else:
                self._sent[task] = None
            self._submitted = time.monotonic()
            self._hurry()
        return task.future

    def flush(self) -> None:
        """Wait until everything submitted is sent.

        Raises
        ------
        ExecutorError
            It could not be sent.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: not (self._queued or self._sending) or self._broken is not None
            )
            if self._broken is not None:
                raise self._broken

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the queue.

        Tasks that end with this program are waited for, or cancelled if `cancel_futures`; others
        go on elsewhere, and nobody waits for them.
        """
        outlives, patient = self._transport.outlives, wait and not cancel_futures
        if patient and not outlives:
            concurrent.futures.wait([task.future for task in self._unfinished()])
        with self._changed:
            closed, self._closing = self._closing, True
            self._changed.notify_all()
        if patient or not outlives:
            # The thread may be about to start something that has to be ended.
            self._thread.join()
        if not closed:
            self._end_all(CancelledError())
            self._transport.close(cancelled=cancel_futures)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error nobody waits for the rest.
        self.shutdown(cancel_futures=exception_type is not None)

    # -- what a transport reports

    def finish(self, task: T, results: bytes) -> None:
        """End a task with its results."""
        if self._take(task):
            task.future.set_result(results)

    def fail(self, task: T, error: BaseException) -> None:
        """End a task with an error that concerns it alone."""
        if self._take(task):
            self._end(task, error)

    def lose(self, task: T, reason: str, *, late: bool = False) -> None:
        """Send a task again that was lost through no fault of its own, unless that is too often."""
        if not self._take(task):
            return
        if task.resent >= self._retries:
            self._end(task, DeadlineExceeded(reason) if late else TaskLost(reason))
            return
        task.resent, task.requeued = task.resent + 1, 0
        patches = counted(len(task.patches), "patch", "patches")
        logger.warning("a task of %s was lost (%s); sent again", patches, reason)
        self._append(task)

    def requeue(self, task: T, *, after: float = 0.0) -> None:
        """Send a task again that never began, in some seconds; too often, and it is lost."""
        if task.requeued >= _REQUEUES:
            self.lose(task, f"it never began, although it was sent {task.requeued} times")
        elif self._take(task):
            task.requeued += 1
            task.ready = time.monotonic() + after
            self._append(task)

    def break_off(self, error: ExecutorError) -> None:
        """End all tasks, now and later, with an error that concerns all of them."""
        with self._changed:
            if self._closing or self._broken is not None:
                return
            self._broken = error
            self._changed.notify_all()
        self._end_all(error)

    # -- states of tasks

    def awaits(self, task: T) -> bool:
        """Tell whether a task is sent and has not ended."""
        with self._changed:
            return task in self._sent

    def _unfinished(self) -> list[T]:
        with self._changed:
            return [*self._queued, *self._sent]

    def _sent_tasks(self) -> list[T]:
        with self._changed:
            return list(self._sent)

    def _take(self, task: T) -> bool:
        """Take a task out of those that are sent; False if it is not one of them any more."""
        with self._changed:
            if self._closing or self._broken is not None or task not in self._sent:
                return False
            del self._sent[task]
            return True

    def _append(self, task: T) -> None:
        with self._changed:
            if self._broken is None and not self._closing:
                self._queued.append(task)
                self._hurry()
                return
        task.future.set_exception(self._broken or CancelledError())

    def _hurry(self) -> None:
        self._pause = self._transport.pace.quick
        self._changed.notify_all()

    def _end(self, task: T, error: BaseException) -> None:
        try:
            self._transport.give_up(task)
        finally:
            task.future.set_exception(error)

    def _end_all(self, error: BaseException) -> None:
        with self._changed:
            tasks = self._unfinished()
            self._queued.clear()
            self._sent.clear()
        for task in tasks:
            task.future.set_exception(error)

    # -- the thread that sends and looks

    def _work(self) -> None:
        last_report = time.monotonic()
        while self._wait():
            try:
                self._send_queued()
                if self._transport.look(self._sent_tasks()):
                    self._pause = self._transport.pace.quick
                self._expire()
            except ExecutorError as error:
                self.break_off(error)
                return
            except Exception as error:
                logger.exception("the executor failed")
                self.break_off(self._transport.unusable(repr(error)))
                return
            if (count := len(self._sent)) and time.monotonic() - last_report > _REPORT:
                last_report = time.monotonic()
                logger.info("%s", self._transport.describe(count))

    def _wait(self) -> bool:
        """Wait until tasks can be sent or the next look is due; False at the end."""
        with self._changed:
            began = time.monotonic()
            while not self._closing and self._broken is None:
                now = time.monotonic()
                due = began + self._pause
                if any(task.ready <= now for task in self._queued):
                    due = min(due, self._submitted + self._transport.gather)
                if due <= now:
                    pace = self._transport.pace
                    self._pause = min(pace.slow, pace.growth * self._pause)
                    return True
                self._changed.wait(due - now)
            return False

    def _send_queued(self) -> None:
        with self._changed:
            now = time.monotonic()
            ready = [task for task in self._queued if task.ready <= now]
            self._queued = [task for task in self._queued if task.ready > now]
            self._sent |= dict.fromkeys(ready)
            self._sending = bool(ready)
        if ready:
            self._transport.send(ready)
        with self._changed:
            self._sending = False
            self._changed.notify_all()

    def _expire(self) -> None:
        deadline = self._transport.deadline
        for task in self._sent_tasks():
            if task.age > deadline:
                self.lose(task, f"no result within {deadline:.0f} s", late=True)
