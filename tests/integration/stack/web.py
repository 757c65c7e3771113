"""HTTP for the stand-in of the hosted service: counts what comes in, and fails when told to."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Call:
    """A request as the service sees it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Answer:
    """What is answered; `lost`: all was done, but the connection breaks before the answer."""

    content: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    lost: bool = False


def refusal(status: int, reason: str, code: str = "", headers: Mapping[str, str] = {}) -> Answer:
    """An error in the shape in which the hosted service describes one."""
    content = {"status": "Failed", "code": code or str(status), "http_status_code": status}
    return Answer({**content, "reason": reason, "error_args": []}, status, headers or {})


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path matches."""

    path: re.Pattern[str]
    times: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    lost: bool = False
    #: How many requests it has met.
    hits: int = 0


@dataclass(frozen=True)
class Record:
    """One answered request."""

    method: str
    path: str
    status: int
    received: int
    moment: float


class Web:
    """A server on the loopback interface.

    It also understands requests made to a proxy, so that a client whose service has a fixed address
    can be led here by `http_proxy`.
    """

    def __init__(self, answer: Callable[[Call], Answer]) -> None:
        self._answer = answer
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        #: All requests that were answered, in order.
        self.records: list[Record] = []
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(
        self, path: str, status: int, *, times: int = 1, headers: Mapping[str, str] | None = None
    ) -> Fault:
        """Answer the next requests whose path matches with an error, without handling them."""
        return self._add(Fault(re.compile(path), times, status, headers or {}))

    def delay(self, path: str, seconds: float, *, times: int = 1) -> Fault:
        """Handle the next requests whose path matches only after some time."""
        return self._add(Fault(re.compile(path), times, delay=seconds))

    def lose_answer(self, path: str, *, times: int = 1) -> Fault:
        """Handle the next requests whose path matches, but break the connection unanswered."""
        return self._add(Fault(re.compile(path), times, lost=True))

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def count(self, path: str = "", *, status: int | None = None) -> int:
        """How many requests there were."""
        return len(self._select(path, status))

    def received(self, path: str = "") -> int:
        """How many bytes came in the bodies of requests."""
        return sum(record.received for record in self._select(path, None))

    def _select(self, path: str, status: int | None) -> list[Record]:
        return [
            record
            for record in list(self.records)
            if re.search(path, record.path) and status in (None, record.status)
        ]

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def _met(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.hits < fault.times and fault.path.search(path):
                    fault.hits += 1
                    return fault
        return None

    def handle(self, call: Call) -> Answer:
        """Answer one request, or what a fault makes of it."""
        fault = self._met(call.path)
        if fault:
            self._stopped.wait(fault.delay)
        if fault and fault.status is not None:
            answer = refusal(fault.status, "as the test wants it", headers=fault.headers)
        else:
            answer = self._answer(call)
        if fault and fault.lost:
            answer = Answer(answer.content, answer.status, answer.headers, lost=True)
        record = Record(call.method, call.path, answer.status, len(call.body), time.monotonic())
        self.records.append(record)
        return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        if url.hostname not in (None, "localhost", "127.0.0.1"):
            answer = refusal(502, f"{url.hostname} cannot be reached from a test")
        else:
            call = Call(self.command, url.path, dict(self.headers.items()), body)
            answer = self.web.handle(call)
        if answer.lost:
            # A linger time of zero makes closing the connection a reset.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        content = json.dumps(answer.content).encode()
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in {**headers, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    #: A client that keeps its connection open must not keep the server from ending.
    daemon_threads = True
    block_on_close = False

    def shutdown_request(self, request: Any) -> None:
        """Close without the farewell that would turn a reset into a normal end."""
        with suppress(OSError):
            self.close_request(request)

    def handle_error(self, *_: Any) -> None:
        """Clients that give up are part of the tests."""
