"""Ways to the service: the standard streams, a Unix socket, a TCP port; and its end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palletfit.errors import ConfigError
from palletfit.serve.connections import Service

#: Seconds for the last answers after everything has been dropped.
_LAST = 2.0
#: Bytes that are copied at once, and seconds between two looks at a thread.
_CHUNK, _MOMENT = 65536, 0.005


@dataclass(frozen=True)
class Doors:
    """Ways to the service.

    Attributes
    ----------
    socket
        Path of a Unix socket, which only this user can open; None: there is none.
    port
        TCP port; zero is a free one. None: there is none.
    host
        Address to listen at.
    """

    socket: Path | None = None
    port: int | None = None
    host: str = "127.0.0.1"

    @property
    def standard_streams(self) -> bool:
        """True if requests come from the standard input."""
        return self.socket is None and self.port is None

    @property
    def beyond_loopback(self) -> bool:
        """True if other machines may connect."""
        if self.port is None or self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True  # a name


async def run(service: Service, doors: Doors, *, say: Callable[[str], None]) -> int:
    """Serve until the standard input ends, or a signal comes.

    The first SIGINT or SIGTERM ends reading, and accepted requests are answered. After the grace
    period, or at the second signal, what is left is answered that it is dropped.

    Parameters
    ----------
    service
        The service.
    doors
        Ways to it.
    say
        Called with lines for the user, such as the port.

    Returns
    -------
    int
        Number of requests that were dropped.

    Raises
    ------
    ConfigError
        It cannot listen there.
    """
    ending, hurry = asyncio.Event(), asyncio.Event()
    talks: set[asyncio.Task[None]] = set()

    def begin(talk: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(talk)
        talks.add(task)
        task.add_done_callback(talks.discard)
        return task

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await begin(service.talk(reader, writer))

    with _signals(ending, hurry):
        async with AsyncExitStack() as stack:
            if doors.standard_streams:
                streams = await stack.enter_async_context(_standard_streams(service, hurry))
                begin(service.talk(*streams, local=True)).add_done_callback(lambda _: ending.set())
            if doors.socket is not None:
                stack.enter_context(_unix_server(doors.socket))
                server = await _listening(connected, service, path=doors.socket)
                stack.callback(server.close)
                say(f"listening at {doors.socket}")
            if doors.port is not None:
                server = await _listening(connected, service, host=doors.host, port=doors.port)
                stack.callback(server.close)
                for listener in server.sockets:
                    address, port, *_ = listener.getsockname()
                    say(f"listening at {address} port {port}")
            await ending.wait()
            service.stop_reading()
            await _finish(service, talks, hurry)
    return service.dropped


async def _finish(service: Service, talks: set[asyncio.Task[None]], hurry: asyncio.Event) -> None:
    """Answer what was accepted; drop what is left after the grace period, or in a hurry."""
    if not talks:
        return
    talking: asyncio.Future[Any] = asyncio.gather(*talks, return_exceptions=True)
    hurried: asyncio.Future[Any] = asyncio.create_task(hurry.wait())
    await asyncio.wait(
        [hurried, talking], timeout=service.bounds.grace, return_when=asyncio.FIRST_COMPLETED
    )
    hurried.cancel()
    for end in (service.drop, service.abort, talking.cancel):
        if talking.done():
            return
        end()
        await asyncio.wait([talking], timeout=_LAST)


@contextmanager
def _signals(ending: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """Set an event at the first signal to end, and another one at the second."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        (hurry if ending.is_set() else ending).set()

    kinds = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    for kind in kinds:
        loop.add_signal_handler(kind, end)
    try:
        yield
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)


# --------------------------------------------------------------------------- sockets


async def _listening(
    connected: Callable[..., Any],
    service: Service,
    *,
    path: Path | None = None,
    host: str | None = None,
    port: int | None = None,
) -> asyncio.Server:
    """Begin to listen at a path or a port."""
    limit = service.bounds.line
    try:
        if path is not None:
            mask = os.umask(0o177)
            try:
                return await asyncio.start_unix_server(connected, path, limit=limit)
            finally:
                os.umask(mask)
        return await asyncio.start_server(connected, host, port, limit=limit)
    except OSError as error:
        address = f"{path}" if path is not None else f"{host} port {port}"
        raise ConfigError(
            f"The service cannot listen at {address}: {error.strerror or error}.",
            remedy="Choose a short path in a folder of yours."
            if path is not None
            else "Choose another port, or 0 for a free one, and an address of this machine.",
        ) from None


@contextmanager
def _unix_server(path: Path) -> Iterator[None]:
    """Refuse a path at which a service listens, or that is no socket; remove ours in the end.

    Raises
    ------
    ConfigError
        The path is taken.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        mode = None
    if mode is not None and (not stat.S_ISSOCK(mode) or _answers(path)):
        raise ConfigError(
            "There is a file at the path of the socket."
            if not stat.S_ISSOCK(mode)
            else "A service listens at this path already.",
            remedy="Choose another path with --socket, or remove it.",
            file=path,
        )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _answers(path: Path) -> bool:
    """Say whether a process listens at a Unix socket; one that was killed leaves its file."""
    with socket.socket(socket.AF_UNIX) as probe:
        # A service that is busy, or stopped, takes no further connection at once.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


# --------------------------------------------------------------------------- standard streams


@asynccontextmanager
async def _standard_streams(
    service: Service, hurry: asyncio.Event
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give the standard input and output as streams, whatever they are: pipes, files, a terminal.

    Two threads copy between them and a pair of sockets, because not all of them can be watched. In
    the meantime all other output, such as a library's, goes to the standard error, also in workers.
    """
    if sys.__stdout__ is None:
        raise ConfigError(
            "The standard output, to which answers go, is closed.",
            remedy="Leave it open, or listen with --socket.",
        )
    output = os.dup(1)
    os.dup2(2, 1)
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours, limit=service.bounds.line)
    # Where it was closed at the start of Python, another file has its number.
    source = None if sys.__stdin__ is None else 0
    threads = [
        threading.Thread(target=_copy_in, args=(theirs, source), daemon=True),
        threading.Thread(target=_copy_out, args=(theirs, output), daemon=True),
    ]
    try:
        for thread in threads:
            thread.start()
        yield reader, writer
    finally:
        writer.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + service.bounds.grace
        # A thread that waits for a caller ends with the program.
        while threads[1].is_alive() and loop.time() < until and not hurry.is_set():
            await asyncio.sleep(_MOMENT)
        os.dup2(output, 1)


def _copy_in(theirs: socket.socket, descriptor: int | None) -> None:
    """Copy the standard input up to its end; None: it is closed."""
    with contextlib.suppress(OSError):
        while descriptor is not None and (chunk := os.read(descriptor, _CHUNK)):
            theirs.sendall(chunk)
    with contextlib.suppress(OSError):
        theirs.shutdown(socket.SHUT_WR)


def _copy_out(theirs: socket.socket, descriptor: int) -> None:
    """Copy answers to the standard output up to their end; if it is closed, so is the service."""
    try:
        while chunk := theirs.recv(_CHUNK):
            left = memoryview(chunk)
            while left:
                left = left[os.write(descriptor, left) :]
    except OSError:
        with contextlib.suppress(OSError):
            theirs.shutdown(socket.SHUT_RDWR)
