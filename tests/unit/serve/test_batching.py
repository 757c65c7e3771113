"""Batches: points that wait are fitted together, and one that fails costs no other its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from palletfit.runs.faults import worker_died
from palletfit.serve.batching import Batcher, DroppedError
from palletfit.serve.protocol import Point, Question
from palletfit.serve.work import Answers, ModelFile

from ...waiting import LIMIT

MODEL = ModelFile("model", Path("model.json"), "digest")
FIRST, SECOND = Question(mu=1.0), Question(mu=2.0)


class Workers(Executor):
    """Batches that end when a test says so; points are numbers, and so are their answers."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Any], Question]] = []
        self.futures: list[Future[Answers]] = []

    def submit(self, _, __, question, points):  # type: ignore[no-untyped-def]
        self.batches.append(([point.signal for point in points], question))
        self.futures.append(Future())
        return self.futures[-1]

    def end(self, number: int, error: Exception | None = None) -> None:
        if error is not None:
            self.futures[number].set_exception(error)
            return
        answers = [{"status": "ok", "point": point} for point in self.batches[number][0]]
        self.futures[number].set_result(Answers(answers, 0.1, 1))


def ask(batcher: Batcher, points: range, question: Question = FIRST) -> list[asyncio.Task]:
    return [
        asyncio.create_task(batcher.answer(MODEL, question, Point(number))) for number in points
    ]


async def batches(workers: Workers, count: int) -> list[list[Any]]:
    """Wait until so many batches have begun, and a moment longer."""
    async with asyncio.timeout(LIMIT):
        while len(workers.batches) < count:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    return [points for points, _ in workers.batches]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_points_that_wait_are_one_batch() -> None:
    async def scenario() -> None:
        workers = Workers()
        batcher = Batcher(workers, workers=1, size=8)
        first = ask(batcher, range(1))
        assert await batches(workers, 1) == [[0]]
        others = ask(batcher, range(1, 12))
        await asyncio.sleep(0.02)
        assert (len(workers.batches), batcher.waiting, batcher.fitting) == (1, 11, 1)
        workers.end(0)
        assert await batches(workers, 2) == [[0], [*range(1, 9)]]
        workers.end(1)
        assert (await batches(workers, 3))[2] == [9, 10, 11]
        workers.end(2)
        answers = await asyncio.gather(*first, *others)
        assert [answer["point"] for answer in answers] == [*range(12)]
        assert (batcher.times.points, batcher.times.batches) == (12, 3)

    run(scenario())


def test_callers_that_wait_for_their_answers_stay_together() -> None:
    async def scenario() -> None:
        workers = Workers()
        batcher = Batcher(workers, workers=1, patience=5.0)
        waiting = ask(batcher, range(4))
        assert await batches(workers, 1) == [[0, 1, 2, 3]]
        late = ask(batcher, range(4, 5))
        workers.end(0)
        await asyncio.gather(*waiting)
        again = ask(batcher, range(4))
        assert (await batches(workers, 2))[1] == [4, 0, 1, 2, 3]
        workers.end(1)
        await asyncio.gather(*late, *again)

    run(scenario())


def test_free_workers_share_points_and_questions_are_apart() -> None:
    async def scenario() -> None:
        workers = Workers()
        batcher = Batcher(workers, workers=3)
        tasks = ask(batcher, range(4)) + ask(batcher, range(4, 5), SECOND)
        assert sorted(await batches(workers, 3)) == [[0, 1], [2, 3], [4]]
        assert {question.mu for _, question in workers.batches} == {1.0, 2.0}
        for number in range(3):
            workers.end(number)
        await asyncio.gather(*tasks)

    run(scenario())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (worker_died("gone", 9), "worker process died"),
        (TimeoutError(), "took too long"),
        (ZeroDivisionError("zero"), "ZeroDivisionError: zero"),
    ],
)
def test_points_of_a_batch_that_fails_are_fitted_alone(error, words) -> None:
    async def scenario() -> None:
        workers = Workers()
        batcher = Batcher(workers, workers=1)
        tasks = ask(batcher, range(3))
        await batches(workers, 1)
        workers.end(0, error)
        for number, alone in enumerate(([0], [1], [2]), 1):
            assert (await batches(workers, number + 1))[number] == alone
            workers.end(number, error if alone == [1] else None)
        answers = await asyncio.gather(*tasks)
        assert [answer["status"] for answer in answers] == ["ok", "failed", "ok"]
        assert words in answers[1]["error"]

    run(scenario())


def test_a_point_for_which_nobody_waits_is_not_fitted() -> None:
    async def scenario() -> None:
        workers = Workers()
        batcher = Batcher(workers, workers=1)
        tasks = ask(batcher, range(4))
        await asyncio.sleep(0)
        tasks[1].cancel()
        assert await batches(workers, 1) == [[0, 2, 3]]
        tasks[2].cancel()
        workers.end(0)
        assert [(await tasks[number])["point"] for number in (0, 3)] == [0, 3]

    run(scenario())


def test_points_without_an_answer_are_dropped_in_the_end() -> None:
    async def scenario() -> None:
        workers = Workers()
        batcher = Batcher(workers, workers=1, size=2)
        tasks = ask(batcher, range(5))
        await batches(workers, 1)
        assert batcher.drop() == 5
        tasks += ask(batcher, range(1))
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in errors] == [DroppedError] * 6
        workers.end(0)
        await asyncio.sleep(0)
        assert len(workers.batches) == 1

    run(scenario())
