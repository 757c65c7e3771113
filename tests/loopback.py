"""A small HTTP server on the loopback interface, for tests of downloads."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the server answers to one request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    #: Content-Length that is announced; None: none is, and the end of the connection ends the body.
    length: int | None = -1
    #: Seconds before the answer, and before the second half of the body.
    delay: float = 0.0
    pause: float = 0.0
    #: Whether the connection is reset instead of an answer.
    reset: bool = False


@dataclass(frozen=True)
class Request:
    """What the server was asked."""

    path: str
    headers: dict[str, str]
    time: float


class Loopback:
    """A running server: `answers` maps a path to answers, the last of which is repeated."""

    def __init__(self, port: int, stopped: threading.Event) -> None:
        self.port = port
        self.stopped = stopped
        self.answers: dict[str, list[Answer] | Callable[[Request], Answer]] = {}
        self.requests: list[Request] = []

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        planned = self.answers.get(request.path)
        if planned is None:
            return Answer(b"there is nothing", status=404)
        if callable(planned):
            return planned(request)
        return planned[min(self.count(request.path), len(planned)) - 1]


class _Handler(BaseHTTPRequestHandler):
    loopback: Loopback

    def do_GET(self) -> None:
        request = Request(self.path, dict(self.headers.items()), time.monotonic())
        answer = self.loopback.answer(request)
        self.loopback.stopped.wait(answer.delay)
        if answer.reset:
            # A linger time of zero makes closing the connection a reset.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.length is not None:
            length = len(answer.body) if answer.length < 0 else answer.length
            self.send_header("Content-Length", str(length))
        self.end_headers()
        half = len(answer.body) // 2 if answer.pause else len(answer.body)
        self.wfile.write(answer.body[:half])
        self.loopback.stopped.wait(answer.pause)
        self.wfile.write(answer.body[half:])

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def shutdown_request(self, request: Any) -> None:
        """Close without the farewell that would turn a reset into a normal end."""
        self.close_request(request)

    def handle_error(self, *_: Any) -> None:
        """Clients that give up are part of the tests."""


@contextmanager
def serve() -> Iterator[Loopback]:
    """Run a server for the time of the context."""
    stopped = threading.Event()
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        loopback = Loopback(server.server_address[1], stopped)
        handler.loopback = loopback
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield loopback
        finally:
            stopped.set()
            server.shutdown()
            thread.join()
