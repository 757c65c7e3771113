"""Callers: bad ones, several at once, one that disappears, and more than there is room for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from typing import Any

import pytest

from palletfit.serve.batching import Batcher
from palletfit.serve.connections import Bounds, Service
from palletfit.serve.work import Answers

from ...waiting import LIMIT


class Workers(Executor):
    """Answers each point with its own yields, now or when the test lets it."""

    def __init__(self, *, held: bool = False) -> None:
        self.held = held
        self.waiting: list[Callable[[], None]] = []
        self.fitted: list[Any] = []

    def submit(self, _, __, ___, points):  # type: ignore[no-untyped-def]
        future: Future[Answers] = Future()
        answers = [{"status": "ok", "signal": point.signal} for point in points]
        self.fitted += [point.signal for point in points]
        end = lambda: future.set_result(Answers(answers, 0.0, 1))  # noqa: E731
        self.waiting.append(end) if self.held else end()
        return future

    def release(self) -> None:
        self.held = False
        for end in self.waiting:
            end()


class Caller:
    """One side of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, **request: Any) -> None:
        self.writer.write(json.dumps(request).encode() + b"\n")

    async def line(self) -> dict:
        async with asyncio.timeout(LIMIT):
            return json.loads(await self.reader.readline())

    async def rest(self) -> list[dict]:
        """Close this side, and read all further answers."""
        self.writer.write_eof()
        async with asyncio.timeout(LIMIT):
            lines = (await self.reader.read()).splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def scene(demo, tmp_path) -> Callable[..., None]:
    """Run a scene with a service at a Unix socket."""

    def run(scenario: Callable[..., Coroutine], workers: Workers, **bounds: Any) -> None:
        async def main() -> None:
            batcher = Batcher(workers, workers=1)
            service = Service(demo, batcher, Bounds(**bounds))
            path = tmp_path / "s"
            talks: list[asyncio.Task] = []

            async def connected(*streams: Any) -> None:
                talks.append(asyncio.current_task())
                await service.talk(*streams)

            limit = service.bounds.line
            async with await asyncio.start_unix_server(connected, path, limit=limit):

                @asynccontextmanager
                async def connect() -> AsyncIterator[Caller]:
                    reader, writer = await asyncio.open_unix_connection(path)
                    yield Caller(reader, writer)
                    writer.close()

                await scenario(service, connect)
                async with asyncio.timeout(LIMIT):
                    await asyncio.gather(*talks)

        asyncio.run(main())

    return run


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.001)


def test_bad_lines_never_end_a_connection(scene) -> None:
    async def scenario(service: Service, connect: Any) -> None:
        async with connect() as caller:
            caller.writer.write(
                b"nonsense\n\n" + b"x" * 5000 + b"\n" + b'{"id":1,"workspace":"b"}\n'
            )
            caller.writer.write(b'{"id":2,"signal":{"a":[1]}}\n' + b"[" * 900 + b"\n")
            caller.writer.write(b'{"id":3,"signal":{"b":[1]}}')
            answers = await caller.rest()
        by_id = {answer["id"]: answer for answer in answers if answer["id"] is not None}
        problems = [answer["error"] for answer in answers if answer["id"] is None]
        assert [problem.split(":")[0] for problem in problems] == [
            "The line is not JSON",
            "The line is longer than 1000 bytes.",
            "The line is not JSON",
        ]
        assert by_id[1]["error"] == "There is no workspace 'b'."
        assert [by_id[number]["status"] for number in (2, 3)] == ["ok", "ok"]
        assert (service.refused, service.accepted) == (3, 3)

    scene(scenario, Workers(), line=1000)


def test_a_long_line_that_ends_with_the_connection(scene) -> None:
    async def scenario(_: Service, connect: Any) -> None:
        async with connect() as caller:
            caller.writer.write(b"x" * 100_000)
            (answer,) = await caller.rest()
        assert "longer than" in answer["error"]

    scene(scenario, Workers(), line=1000)


def test_two_callers_at_once_get_their_own_answers(scene) -> None:
    workers = Workers(held=True)

    async def scenario(service: Service, connect: Any) -> None:
        async with connect() as first, connect() as second:
            for caller, name in ((first, "a"), (second, "b")):
                for number in range(3):
                    caller.send(id=number, signal={name: [number]})
            await until(lambda: service.accepted == 6)
            second.send(id="s", ask="status")
            status = await second.line()
            assert (status["connections"], status["accepted"], status["answered"]) == (2, 6, 0)
            assert status["waiting"] + status["fitting"] == 6
            workers.release()
            for caller, name in ((first, "a"), (second, "b")):
                answers = await caller.rest()
                assert {answer["id"]: answer["signal"] for answer in answers} == {
                    number: {name: [number]} for number in range(3)
                }

    scene(scenario, workers)


def test_a_caller_that_disappears_costs_others_nothing(scene) -> None:
    workers = Workers(held=True)

    async def scenario(service: Service, connect: Any) -> None:
        async with connect() as gone, connect() as caller:
            gone.send(id=0, signal="fitting")
            await until(lambda: service.batcher.fitting == 1)
            for number in range(200):
                gone.send(id=number, signal="gone")
            caller.send(id="mine", signal="mine")
            await until(lambda: service.accepted == 202)
            gone.writer.transport.abort()
            workers.release()
            assert (await caller.line())["signal"] == "mine"
        await until(lambda: not service.status()["connections"])
        assert service.room.used == 0

    scene(scenario, workers)


def test_a_full_queue_stops_reading(scene) -> None:
    workers = Workers(held=True)

    async def scenario(service: Service, connect: Any) -> None:
        async with connect() as first, connect() as second:
            for caller in (first, second):
                for number in range(10):
                    caller.send(id=number, signal=number)
            await until(lambda: service.accepted == 3)
            await asyncio.sleep(0.02)
            assert service.accepted == 3
            workers.release()
            for caller in (first, second):
                assert len(await caller.rest()) == 10
        assert service.accepted == 20

    scene(scenario, workers, queue=3, connection=2)


def test_large_lines_take_the_room_of_several(scene) -> None:
    workers = Workers(held=True)

    async def scenario(service: Service, connect: Any) -> None:
        async with connect() as caller:
            for number in range(4):
                caller.send(id=number, signal="x" * 1000)
            await until(lambda: service.accepted == 2)
            await asyncio.sleep(0.02)
            assert service.accepted == 2
            workers.release()
            assert len(await caller.rest()) == 4

    scene(scenario, workers, queue_bytes=2500)


def test_a_caller_that_does_not_read_is_left(scene) -> None:
    async def scenario(service: Service, connect: Any) -> None:
        async with connect() as deaf, connect() as caller:
            for number in range(40):
                deaf.send(id=number, signal="x" * 100_000)
            await until(lambda: service.status()["connections"] == 1)
            caller.send(signal="mine")
            assert (await caller.line())["signal"] == "mine"
            deaf.writer.transport.abort()

    scene(scenario, Workers(), patience=0.1)


def test_more_connections_than_allowed_and_browsers_are_refused(scene) -> None:
    async def scenario(service: Service, connect: Any) -> None:
        async with connect() as first:
            await until(lambda: service.status()["connections"] == 1)
            async with connect() as second:
                assert "has 1 connections" in (await second.line())["error"]
                assert await second.reader.read() == b""
            first.writer.write(b'POST / HTTP/1.1\r\nHost: a\r\n\r\n{"signal": "browser"}\n')
            assert "speaks HTTP" in (await first.line())["error"]
            assert await first.reader.read() == b""
        assert service.accepted == 0

    scene(scenario, Workers(), connections=1)


def test_the_end_of_the_service_answers_what_it_accepted(scene) -> None:
    workers = Workers(held=True)

    async def scenario(service: Service, connect: Any) -> None:
        async with connect() as caller, connect() as late:
            for number in range(3):
                caller.send(id=number, signal=number)
            await until(lambda: service.accepted == 2)
            await asyncio.sleep(0.02)
            service.stop_reading()
            # It was read, but there was no room for it.
            answer = await caller.line()
            assert (answer["id"], answer["type"]) == (2, "DroppedError")
            assert await late.reader.read() == b""
            workers.release()
            answers = await caller.rest()
            assert {answer["id"]: answer["status"] for answer in answers} == {0: "ok", 1: "ok"}
        assert service.dropped == 1

    scene(scenario, workers, queue=2)


def test_what_is_left_after_the_grace_period_is_dropped(scene) -> None:
    async def scenario(service: Service, connect: Any) -> None:
        async with connect() as caller:
            for number in range(2):
                caller.send(id=number, signal=number)
            await until(lambda: service.accepted == 2)
            service.stop_reading()
            service.drop()
            answers = await caller.rest()
        assert [answer["type"] for answer in answers] == ["DroppedError"] * 2
        assert service.dropped == 2

    scene(scenario, Workers(held=True))
