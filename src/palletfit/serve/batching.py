"""Points that wait for the same question are fitted together, as many as there are.

A point that arrives while a worker is free is fitted at once. While all workers are busy points
wait, and the next batch is what has gathered. Results do not depend on the batch: each fit has the
same starts and the same proof of its minimum.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from palletfit.core.text import counted
from palletfit.errors import FitError, PalletfitError
from palletfit.executors import DeadlineExceeded, WorkerDied
from palletfit.serve import work
from palletfit.serve.protocol import Point, Question, failure
from palletfit.serve.work import Answer, Answers, ModelFile

logger = logging.getLogger(__name__)

#: Seconds that a batch waits for callers at most.
_LONGEST = 1.0

#: Model and question of the points that may be fitted together.
Group = tuple[ModelFile, Question]


class DroppedError(PalletfitError):
    """The service ended before a point was fitted."""


def dropped() -> DroppedError:
    """Make the error of a point that is not fitted because the service ends."""
    return DroppedError(
        "The service ended before this point was fitted.",
        remedy="Send it again to another service.",
    )


@dataclass
class Times:
    """Counts and times of the service so far.

    Attributes
    ----------
    points, failed, batches
        Points that were answered, those of them without a result, and batches.
    waited
        Seconds from the arrival of points to the begin of their batch, all together.
    fitted
        Seconds from the begin of batches to their end, all together.
    cpu
        Processor time of all batches in their workers, in seconds.
    lost
        Batches whose worker died, or took too long.
    by_model
        Number of points of each model.
    """

    points: int = 0
    failed: int = 0
    batches: int = 0
    waited: float = 0.0
    fitted: float = 0.0
    cpu: float = 0.0
    lost: int = 0
    by_model: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class _Waiting:
    """Point that waits for its answer."""

    point: Point
    answer: asyncio.Future[Answer]
    arrived: float
    alone: bool = False


class Batcher:
    """Gathers points into batches, and lets workers fit them.

    Parameters
    ----------
    executor
        Runs batches.
    workers
        So many batches run at the same time.
    size
        Largest number of points of a batch.
    patience
        After a batch the next one waits for the callers who got answers, for this part of the time
        that the batch took, and at most for a second.

    Attributes
    ----------
    times
        Counts and times.
    """

    def __init__(
        self, executor: Executor, *, workers: int, size: int = 32, patience: float = 0.05
    ) -> None:
        self._executor = executor
        self._size, self._patience = size, patience
        self._free = workers
        # So many points may wait when those who got answers have come back, until that time.
        self._returning, self._until = 0, 0.0
        self._groups: dict[Group, deque[_Waiting]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._fitting: set[_Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False
        self._ending = False
        self.times = Times()

    @property
    def waiting(self) -> int:
        """Number of points that wait for a worker."""
        return sum(map(len, self._groups.values()))

    @property
    def fitting(self) -> int:
        """Number of points that are fitted now."""
        return len(self._fitting)

    async def answer(self, model: ModelFile, question: Question, point: Point) -> Answer:
        """Answer a question for a point; one for which nobody waits is not fitted.

        Raises
        ------
        DroppedError
            The service ends.
        """
        if self._ending:
            raise dropped()
        waiting = _Waiting(point, asyncio.get_running_loop().create_future(), time.monotonic())
        self._put((model, question), [waiting])
        plain = await waiting.answer
        times = self.times
        times.points += 1
        times.failed += plain["status"] == "failed"
        times.by_model[model.name] = times.by_model.get(model.name, 0) + 1
        return plain

    def drop(self) -> int:
        """Answer all points that have no answer that they are dropped; return their number."""
        self._ending = True
        points = [*self._fitting, *(entry for group in self._groups.values() for entry in group)]
        self._groups.clear()
        left = [waiting for waiting in points if not waiting.answer.done()]
        for waiting in left:
            waiting.answer.set_exception(dropped())
        return len(left)

    def _put(self, group: Group, points: Sequence[_Waiting]) -> None:
        self._groups.setdefault(group, deque()).extend(points)
        # Lines that were read together are there before the first of their batches begins.
        self._look_again(0.0)

    def _schedule(self) -> None:
        """Begin batches while there are free workers, those of the longest waiting points first.

        Callers that wait for their answers send their next points soon after a batch has ended:
        they get a moment to come back.
        """
        self._timer, self._soon = None, False
        early = self._until - time.monotonic()
        if early > 0 and self.waiting < self._returning:
            self._look_again(early)
            return
        while self._free and self._groups:
            self._begin(min(self._groups, key=lambda group: self._groups[group][0].arrived))

    def _look_again(self, seconds: float) -> None:
        if self._soon:
            return  # points that keep arriving do not put it off
        if self._timer is not None:
            self._timer.cancel()
        self._soon = seconds == 0.0
        self._timer = asyncio.get_running_loop().call_later(seconds, self._schedule)

    def _begin(self, group: Group) -> None:
        """Fit the points that wait, or the share of a free worker of them."""
        waiting = self._groups[group]
        # One worker is left for each other question.
        workers = max(1, self._free - len(self._groups) + 1)
        count = min(self._size, math.ceil(len(waiting) / workers))
        points = [waiting.popleft()]
        while waiting and len(points) < count and not (points[0].alone or waiting[0].alone):
            points.append(waiting.popleft())
        if not waiting:
            del self._groups[group]
        # A caller that is gone waits for nothing.
        points = [entry for entry in points if not entry.answer.done()]
        if points:
            self._free -= 1
            self._fitting.update(points)
            task = asyncio.get_running_loop().create_task(self._fit(group, points))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _fit(self, group: Group, points: Sequence[_Waiting]) -> None:
        """Fit a batch; where that fails unexpectedly, its points alone."""
        began = time.monotonic()
        try:
            future = self._executor.submit(work.answer, *group, [entry.point for entry in points])
            answers: Answers = await asyncio.wrap_future(future)
        except Exception as error:  # noqa: BLE001
            self._fail(group, points, error)
            return
        finally:
            self._fitting.difference_update(points)
            self._end(len(points), time.monotonic() - began)
            self.times.waited += sum(began - entry.arrived for entry in points)
        self.times.cpu += answers.seconds
        for entry, plain in zip(points, answers.answers, strict=True):
            if not entry.answer.done():
                entry.answer.set_result(plain)

    def _end(self, count: int, seconds: float) -> None:
        """Let a worker be free after a batch, and callers come back."""
        self.times.batches += 1
        self.times.fitted += seconds
        self._free += 1
        self._returning = min(self._size, self.waiting + count)
        self._until = time.monotonic() + min(self._patience * seconds, _LONGEST)
        self._look_again(0.0)

    def _fail(self, group: Group, points: Sequence[_Waiting], error: Exception) -> None:
        """Fit points alone of which one made a batch fail; give the only one its error."""
        if isinstance(error, (DeadlineExceeded, WorkerDied)):
            self.times.lost += 1
        logger.info("%s failed: %r", counted(len(points), "point"), error)
        if len(points) > 1:
            for entry in points:
                entry.alone = True
            if not self._ending:
                self._put(group, points)
            return
        for entry in points:
            if not entry.answer.done():
                entry.answer.set_result(failure(_unexpected(error)))


def _unexpected(error: Exception) -> PalletfitError:
    """Translate the reason for which a batch of one point failed."""
    if isinstance(error, PalletfitError):
        return error
    if isinstance(error, DeadlineExceeded):
        return FitError(
            "The fits of this point took too long, and were stopped.",
            remedy="Look at its yields and its structure, or allow more time with --deadline.",
        )
    if isinstance(error, WorkerDied):
        return FitError(
            "The worker process died during the fits of this point.",
            remedy="Look at the memory of the machine; other points are not affected.",
        )
    return FitError(
        f"The fit raised an unexpected error: {type(error).__name__}: {error}.",
        remedy="Report it with this point; others are not affected.",
    )
