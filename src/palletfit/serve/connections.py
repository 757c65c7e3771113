"""Connections of the service: lines of a caller in, answers out, within bounds.

A service that has accepted as much as its bounds allow stops reading: callers then wait when they
write. A caller that does not read its answers is not read from either.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from palletfit.core.version import __version__
from palletfit.errors import PalletfitError
from palletfit.serve.batching import Batcher, dropped
from palletfit.serve.models import Models
from palletfit.serve.protocol import Request, RequestError, answer_line, failure, read_request

logger = logging.getLogger(__name__)

#: A browser that a page of the web sends here speaks HTTP.
_HTTP = re.compile(rb"[A-Z]+ \S+ HTTP/[0-9.]+\s*")


@dataclass(frozen=True)
class Bounds:
    """Bounds of the service.

    Attributes
    ----------
    line
        Bytes of a request.
    queue
        Requests that are accepted and have no answer yet.
    queue_bytes
        Bytes of their lines.
    connection
        The same number for one connection.
    connections
        Connections at the same time.
    patience
        Seconds that a caller of a socket may take to read an answer.
    grace
        Seconds after a signal, in which accepted requests are answered.
    """

    line: int = 4 * 1024**2
    queue: int = 1024
    queue_bytes: int = 256 * 1024**2
    connection: int = 256
    connections: int = 64
    patience: float = 60.0
    grace: float = 60.0


class Room:
    """Room for accepted requests, by number and by bytes.

    Parameters
    ----------
    count, size
        Largest number of requests and of bytes. One request has room whatever its size.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._turn, self._changed = asyncio.Lock(), asyncio.Event()
        self.used = self._bytes = 0

    async def take(self, size: int) -> None:
        """Wait until there is room for a request of so many bytes, in the order of the calls."""
        async with self._turn:
            while self.used >= self._count or (self.used and self._bytes + size > self._size):
                self._changed.clear()
                await self._changed.wait()
            self.used += 1
            self._bytes += size

    def give(self, size: int) -> None:
        """Give the room of a request back."""
        self.used -= 1
        self._bytes -= size
        self._changed.set()


class LineTooLongError(Exception):
    """A line is longer than the bound; the rest of it was skipped."""


class Service:
    """Answers requests, wherever they come from.

    Parameters
    ----------
    models
        Models that requests may name.
    batcher
        Fits points.
    bounds
        Bounds.
    """

    def __init__(self, models: Models, batcher: Batcher, bounds: Bounds) -> None:
        self.models, self.batcher, self.bounds = models, batcher, bounds
        self.room = Room(bounds.queue, bounds.queue_bytes)
        self.accepted = self.refused = self.dropped = 0
        self._began = time.monotonic()
        self._readers: dict[asyncio.Task[None], Connection] = {}
        self._ending = False

    # ------------------------------------------------------------------ connections

    async def talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, local: bool = False
    ) -> None:
        """Answer a caller until it has closed its side and has all answers, or is gone.

        Parameters
        ----------
        reader, writer
            Both directions; the limit of the reader is the bound of a line.
        local
            The caller has started the service: it may take its time to read answers.
        """
        connection = Connection(self, reader, writer, None if local else self.bounds.patience)
        if self._ending or len(self._readers) >= self.bounds.connections:
            await connection.refuse(self._full())
            return
        reading = asyncio.create_task(connection.read())
        self._readers[reading] = connection
        try:
            await asyncio.wait([reading])
            if not reading.cancelled() and reading.exception() is not None:
                logger.error("reading ended: %r", reading.exception())
            await connection.finish()
        finally:
            reading.cancel()
            del self._readers[reading]
            await connection.close()

    def stop_reading(self) -> None:
        """Accept no further requests."""
        self._ending = True
        for reading in self._readers:
            reading.cancel()

    def drop(self) -> None:
        """Answer all accepted requests that have no answer that they are dropped."""
        self.batcher.drop()

    def abort(self) -> None:
        """Close all connections without waiting for callers that do not read."""
        for connection in self._readers.values():
            connection.abort()

    def _full(self) -> PalletfitError:
        if self._ending:
            return dropped()
        return RequestError(
            f"The service has {self.bounds.connections} connections, and takes no more.",
            remedy="Try later, or allow more with --connections.",
        )

    # ------------------------------------------------------------------ requests

    async def answer(self, request: Request) -> dict[str, Any]:
        """Answer a request; an error is an answer, too."""
        try:
            if request.ask == "status":
                return self.status()
            name = self.models.check_name(request.workspace)
            model = self.models.present(name)
            if model is None:
                model = await asyncio.to_thread(self.models.file, name)
            return await self.batcher.answer(model, request.question, request.point)
        except PalletfitError as error:
            return failure(error)

    def status(self) -> dict[str, Any]:
        """Give counts and times."""
        times = asdict(self.batcher.times)
        batches, points = times["batches"], times["points"]
        return {
            "status": "ok",
            "version": __version__,
            "uptime": time.monotonic() - self._began,
            "models": {name: times["by_model"].get(name, 0) for name in self.models.names},
            "connections": len(self._readers),
            "accepted": self.accepted,
            "answered": points,
            "failed": times["failed"],
            "refused": self.refused,
            "dropped": self.dropped,
            "waiting": self.batcher.waiting,
            "fitting": self.batcher.fitting,
            "batches": batches,
            "points_per_batch": points / batches if batches else None,
            "seconds_waiting": times["waited"] / points if points else None,
            "seconds_per_batch": times["fitted"] / batches if batches else None,
            "cpu_seconds_per_point": times["cpu"] / points if points else None,
            "batches_lost": times["lost"],
            "cpu_seconds": time.process_time(),
        }


class Connection:
    """One caller.

    Parameters
    ----------
    service
        The service.
    reader, writer
        Both directions.
    patience
        Seconds that the caller may take to read an answer; None: as many as it likes.
    """

    def __init__(
        self,
        service: Service,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        patience: float | None,
    ) -> None:
        self._service, self._reader, self._writer = service, reader, writer
        self._patience = patience
        self._slots = asyncio.Semaphore(service.bounds.connection)
        self._writing = asyncio.Lock()
        self._answering: set[asyncio.Task[None]] = set()
        self._gone = False

    async def read(self) -> None:
        """Read requests, and begin to answer each; stop while there is no room for more."""
        async for line in self._lines():
            if isinstance(line, LineTooLongError):
                await self._refuse(_too_long(self._service.bounds.line))
                continue
            if _HTTP.fullmatch(line):
                await self._refuse(_http())
                return
            await self._accept(line)
            if self._gone:
                return

    async def _accept(self, line: bytes) -> None:
        """Begin to answer a line, once there is room for it."""
        service, size = self._service, len(line)
        try:
            request = read_request(line)
        except RequestError as error:
            await self._refuse(error)
            return
        if request.ask == "status":
            await self._send(answer_line(request.id, await service.answer(request)))
            return
        try:
            await self._slots.acquire()
            await service.room.take(size)
        except asyncio.CancelledError:
            # It was read, but the service ends.
            service.dropped += 1
            self._answering.add(
                asyncio.create_task(self._send(answer_line(request.id, failure(dropped()))))
            )
            raise
        service.accepted += 1
        task = asyncio.create_task(self._answer(request, size))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, request: Request, size: int) -> None:
        try:
            answer = await self._service.answer(request)
            self._service.dropped += answer.get("type") == "DroppedError"
            await self._send(answer_line(request.id, answer))
        finally:
            self._slots.release()
            self._service.room.give(size)

    async def _refuse(self, error: RequestError) -> None:
        self._service.refused += 1
        await self._send(answer_line(error.id, failure(error)))

    async def refuse(self, error: PalletfitError) -> None:
        """Say why the service does not talk to this caller, and close the connection."""
        self._service.refused += 1
        await self._send(answer_line(None, failure(error)))
        await self.close()

    async def _send(self, line: bytes) -> None:
        """Send an answer; a caller that does not take it is gone."""
        if self._gone:
            return
        try:
            async with asyncio.timeout(self._patience), self._writing:
                self._writer.write(line)
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            logger.info("a caller is gone: %s", error or "it does not read its answers")
            self._leave()

    def _leave(self) -> None:
        """Stop what is done for a caller that is gone."""
        self.abort()
        present = asyncio.current_task()
        for task in self._answering:
            if task is not present:
                task.cancel()

    def abort(self) -> None:
        """Close the connection now."""
        self._gone = True
        self._writer.transport.abort()

    async def finish(self) -> None:
        """Wait until all accepted requests are answered."""
        while self._answering:
            done, _ = await asyncio.wait(self._answering)
            self._answering -= done

    async def close(self) -> None:
        """Close the connection, once what was written is on its way."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._patience):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

    async def _lines(self) -> AsyncIterator[bytes | LineTooLongError]:
        """Give lines that are not blank; the last one may lack its end."""
        skipping = False
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                # What is too long is read, and forgotten, up to its end.
                await self._reader.readexactly(error.consumed)
                skipping = True
                continue
            except asyncio.IncompleteReadError as error:
                if skipping:
                    yield LineTooLongError()
                elif error.partial.strip():
                    yield error.partial
                return
            except OSError:
                return
            if skipping:
                skipping = False
                yield LineTooLongError()
            elif line.strip():
                yield line


def _too_long(limit: int) -> RequestError:
    return RequestError(
        f"The line is longer than {limit} bytes.",
        remedy="Send one request a line; --line allows longer ones.",
    )


def _http() -> RequestError:
    return RequestError(
        "The caller speaks HTTP.",
        remedy="Connect with a plain socket, and send one JSON object a line.",
    )
