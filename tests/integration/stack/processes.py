"""Programs of the stack: started, watched, and ended with everything they left behind."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

GUARD = Path(__file__).with_name("guard.py")
#: Where programs are looked for: those of this Python environment first, daemons too.
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
#: Seconds after which what should come counts as never coming, as in tests/waiting.py: the stack is
#: imported on its own, too.
LIMIT = 300.0
T = TypeVar("T")


class StackError(AssertionError):
    """A part of the stack did not do what it should; the message has the end of its log."""


class Program:
    """One program that runs in the foreground, in a session of its own, under a guard."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str],
        *,
        folder: Path,
        grace: float = 10.0,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self._pid_file = log.with_suffix(".pid")
        self._pid_file.unlink(missing_ok=True)
        arguments = [str(os.getpid()), str(self._pid_file), str(grace), *self.command]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The program's own process (not the guard's)."""
        return until(self._read_pid, f"{self.command[0]} has no process", [self.log])

    def _read_pid(self) -> int | None:
        with suppress(OSError, ValueError):
            return int(self._pid_file.read_text())
        return None

    @property
    def alive(self) -> bool:
        """Whether the program itself runs."""
        return self._guard.poll() is None and Path(f"/proc/{self.pid}").exists()

    def stop(self, *, at_once: bool = False, timeout: float = LIMIT) -> None:
        """End the program and all that came of it."""
        if self._guard.poll() is None:
            self._guard.send_signal(signal.SIGHUP if at_once else signal.SIGTERM)
        self._guard.wait(timeout)


def until(ready: Callable[[], T | None], complaint: str, logs: Sequence[Path] = ()) -> T:
    """Wait for something that is true."""
    deadline = time.monotonic() + LIMIT
    pause = 0.02
    while True:
        if found := ready():
            return found
        if time.monotonic() > deadline:
            raise StackError(f"{complaint} after {LIMIT:g} s\n{tails(logs)}")
        time.sleep(pause)
        # Looking costs time of the processors that what is waited for needs.
        pause = min(1.5 * pause, 0.3)


def tails(logs: Sequence[Path], lines: int = 20) -> str:
    """The ends of some logs."""
    parts = []
    for log in logs:
        text = log.read_text(errors="replace") if log.is_file() else "(there is none)"
        parts += [f"--- the end of {log}", *text.splitlines()[-lines:]]
    return "\n".join(parts)


def free_ports(count: int) -> list[int]:
    """Free ports below those which the kernel gives to outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(15000, 32000)  # noqa: S311
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found += [port] * (port not in found)
    return found


@dataclass(frozen=True)
class Process:
    """What the kernel tells of one running process."""

    pid: int
    parent: int
    #: Clock ticks since the start of the machine.
    began: int
    command: str
    #: Not shown: there may be secrets in it.
    environment: dict[str, str] = field(repr=False)
    folder: str


def processes() -> Iterator[Process]:
    """All running processes, without dead ones that nobody waited for."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] == "Z":
                continue
            words = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            yield Process(
                int(entry.name),
                int(fields[1]),
                int(fields[19]),
                (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " "),
                dict(word.split("=", 1) for word in words if "=" in word),
                str((entry / "cwd").readlink()),
            )


def living(folder: Path) -> list[Process]:
    """The processes, other than this one, that have to do with a folder."""
    name = str(folder)
    return [
        process
        for process in processes()
        if process.pid != os.getpid()
        and (
            name in process.command
            or process.folder.startswith(name)
            or any(name in value for value in process.environment.values())
        )
    ]
