"""Tasks that were sent to a remote service and have not come back yet.

The service keeps working when this program ends, however it ends. From this file the next run knows
which tasks to collect. It is a list of events, one JSON object a line, each on disk before the next
step is taken. Only the last line can be cut by a crash, and the next run works without it. A line
that lacks its end, as an editor or a copy may leave it, is ended before the next one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from palletfit.core.files import write_atomically
from palletfit.errors import StoreError

_EVENTS = ("registered", "opened", "closed", "sending", "sent", "ended")


@dataclass
class Sent:
    """A task that the service has, or may have.

    Attributes
    ----------
    digest
        Sha256 of the task's content.
    patches
        Names of its patches, in order.
    group
        The service's task group.
    ids
        The service's identifiers of it; empty if this program ended before the service's answer.
    times
        When it was sent, in seconds since 1970; one for each time.
    """

    digest: str
    patches: tuple[str, ...]
    group: str
    ids: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class Ledger:
    """The tasks of one region that are in flight.

    Parameters
    ----------
    path
        Its file; it need not exist.
    target
        Where tasks are sent to (an endpoint's identifier). Tasks sent elsewhere are ignored.

    Attributes
    ----------
    group
        The task group that is used for further tasks, or None.
    function
        Digest and identifier of the function that is registered with the service, or None.
    in_flight
        Tasks by digest.
    seen
        Identifiers of all tasks of the group that this ledger has seen, ended ones included.
    """

    def __init__(self, path: Path, target: str) -> None:
        self.path, self.target = path, target
        self.group: str | None = None
        self.function: tuple[str, str] | None = None
        self.in_flight: dict[str, Sent] = {}
        self.seen: set[str] = set()
        self._names: dict[str, tuple[str, ...]] = {}
        self._read()

    def label(self, digest: str, patches: Sequence[str]) -> None:
        """Tell which patches a task has, before it is sent."""
        self._names[digest] = tuple(patches)

    def registered(self, digest: str, function: str) -> None:
        """Note a registered function."""
        self._note({"event": "registered", "digest": digest, "function": function})

    def opened(self, group: str, task: str) -> None:
        """Note the task group that following tasks belong to, and the task that opened it."""
        self._note({"event": "opened", "group": group, "id": task})

    def closed(self) -> None:
        """Note that the service does not take tasks for the group any more."""
        self._note({"event": "closed"})

    def sending(self, digests: Iterable[str]) -> None:
        """Note that tasks are about to be sent."""
        tasks = {digest: list(self._names[digest]) for digest in digests}
        self._note({"event": "sending", "group": self.group, "tasks": tasks, "time": time.time()})

    def sent(self, ids: Mapping[str, str]) -> None:
        """Note the service's identifiers of tasks that it took, by digest."""
        self._note({"event": "sent", "ids": dict(ids)})

    def ended(self, digest: str) -> None:
        """Note that a task's results are here, or given up."""
        if digest in self.in_flight:
            self._note({"event": "ended", "digest": digest})

    def withdrawn(self, digest: str) -> None:
        """Note that a task was not taken after all, unless a copy of it was sent before."""
        if digest in self.in_flight and not self.in_flight[digest].ids:
            self.ended(digest)

    def _note(self, event: dict[str, Any]) -> None:
        event = {**event, "target": self.target}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                _append(file, _line(event).encode())
        except OSError as error:
            raise StoreError(
                f"Cannot note which tasks are sent: {error.strerror}.",
                remedy="Make room or make the folder writable; what was sent before is kept.",
                file=self.path,
            ) from error
        self._apply(event)

    def _apply(self, event: Mapping[str, Any]) -> None:
        if event["target"] == self.target:
            getattr(self, f"_on_{event['event']}")(event)

    def _on_registered(self, event: Mapping[str, Any]) -> None:
        self.function = event["digest"], event["function"]

    def _on_opened(self, event: Mapping[str, Any]) -> None:
        self.group = event["group"]
        self.seen.add(event["id"])

    def _on_closed(self, _: Mapping[str, Any]) -> None:
        self.group = None

    def _on_sending(self, event: Mapping[str, Any]) -> None:
        for digest, names in event["tasks"].items():
            sent = Sent(digest, tuple(map(str, names)), event["group"])
            self.in_flight.setdefault(digest, sent).times.append(float(event["time"]))

    def _on_sent(self, event: Mapping[str, Any]) -> None:
        for digest, identifier in event["ids"].items():
            self.seen.add(str(identifier))
            if digest in self.in_flight:
                self.in_flight[digest].ids.append(str(identifier))

    def _on_ended(self, event: Mapping[str, Any]) -> None:
        self.in_flight.pop(event["digest"], None)

    def _read(self) -> None:
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(
                f"Cannot read which tasks are sent: {error.strerror}.",
                remedy="Make the file readable, or remove it: its tasks are then sent again.",
                file=self.path,
            ) from error
        for number, line in enumerate(lines):
            applied: list[Mapping[str, Any]] = []
            try:
                for event in _events(line):
                    self._apply(event)
                    applied.append(event)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                if number == len(lines) - 1:
                    # The last line was cut. The next event must begin on a new line.
                    lines_before = b"".join(lines[:-1]).decode("utf-8", errors="replace")
                    write_atomically(self.path, lines_before + "".join(map(_line, applied)))
                    return
                raise StoreError(
                    f"Line {number + 1} of the list of sent tasks is damaged.",
                    remedy="Remove the file: tasks in flight are then sent again.",
                    file=self.path,
                ) from None


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(event) + "\n"


def _append(file: BinaryIO, line: bytes) -> None:
    """Append a line durably, and nothing if that is not possible."""
    size = file.tell()
    try:
        file.write(line if _ends_line(file.name, size) else b"\n" + line)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            os.truncate(file.name, size)
        raise


def _ends_line(path: str, size: int) -> bool:
    if not size:
        return True
    with Path(path).open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _events(line: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a line: several, where an earlier line had lost its end.

    Raises
    ------
    ValueError, KeyError, TypeError
        The line is damaged.
    """
    rest = line.decode().strip()
    while True:
        event, end = json.JSONDecoder().raw_decode(rest)
        if event["event"] not in _EVENTS:
            raise ValueError("no event")
        yield event
        rest = rest[end:].lstrip()
        if not rest:
            return
