"""Fits in a separate process, which may die or hang without loss of the worker that asks.

Parsl and Dask run :func:`call` on their workers. It keeps one further process, which does the fits:
a worker can then say that a fit killed its process (and with which exit code), or that it had to be
ended at its deadline, and goes on with the next task.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

#: Bytes of a length on the pipes.
_LENGTH = 8
#: Characters of the last words of a process.
_TAIL = 2000
#: Seconds for the end of a process that has closed its output.
_GRACE = 10.0
_fitter: _Fitter | None = None


def call(content: bytes, workspace: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Run a task in the process that this worker keeps for that.

    Parameters
    ----------
    content
        From :func:`palletfit.runs.task.make_task`.
    workspace
        Path of the packed workspace, which is read when the process does not have it yet.
    settings
        ``deadline`` in seconds, ``threads``, and ``gpus`` of this node.

    Returns
    -------
    dict
        One of ``results`` (as :func:`palletfit.runs.task.run` returns them), ``died`` (the exit
        code), ``late`` (ended at the deadline), or ``broken`` (no fits are possible here, and why).
    """
    global _fitter
    began = time.time()
    if not Path(workspace).is_file():
        host = socket.gethostname()
        return {"broken": f"{workspace} is not there on {host}, in a folder that all should share"}
    if _fitter is None:
        _fitter = _Fitter(int(settings["threads"]), int(settings["gpus"]))
        atexit.register(_close)
    try:
        return _fitter.ask(content, workspace, began, began + float(settings["deadline"]))
    finally:
        if not _fitter.usable:
            _close()


def _close() -> None:
    global _fitter
    if _fitter is not None:
        _fitter.close()
        _fitter = None


class _Fitter:
    """The process that fits, seen from the worker."""

    def __init__(self, threads: int, gpus: int) -> None:
        self.usable = True
        self._greeted = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
        self._process = subprocess.Popen(  # noqa: S603  this Python
            # Also with what started the worker: a worker whose block ends may wait for its task.
            [sys.executable, "-m", __name__, str(os.getpid()), str(os.getppid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_environment(threads, gpus)},
        )

    def ask(self, content: bytes, workspace: str, began: float, until: float) -> dict[str, Any]:
        """Run one task; afterwards the process may not be usable any more."""
        self.usable = False
        try:
            if not self._greeted:
                self._read(until)
                self._greeted = True
            header = json.dumps({"workspace": workspace, "began": began}).encode()
            assert self._process.stdin is not None  # noqa: S101
            _write(self._process.stdin, header)
            _write(self._process.stdin, content)
            results = self._read(until)
        except TimeoutError:
            return {"late": True}
        except (EOFError, BrokenPipeError):
            code = self._code()
            if self._greeted or code < 0:  # a signal ended it
                return {"died": code}
            return {
                "broken": f"the process for fits ended with exit code {code}: {self._last_words()}"
            }
        self.usable = True
        return {"results": results}

    def _code(self) -> int:
        """Return the exit code of a process that will not answer any more."""
        try:
            return self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:  # libraries' threads can block the end of a Python
            self._process.kill()
            return self._process.wait()

    def close(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._errors.close()

    def _read(self, until: float) -> bytes:
        size = int.from_bytes(self._bytes(_LENGTH, until), "big")
        return self._bytes(size, until)

    def _bytes(self, count: int, until: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101
        descriptor, parts = self._process.stdout.fileno(), []
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while count:
                if not selector.select(max(0.0, until - time.time())):
                    raise TimeoutError
                part = os.read(descriptor, count)
                if not part:
                    raise EOFError
                parts.append(part)
                count -= len(part)
        return b"".join(parts)

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-_TAIL:] or "it said nothing"


def _environment(threads: int, gpus: int) -> dict[str, str]:
    """Make the variables that limit the threads of a process and give it its GPU."""
    from palletfit.executors.local import thread_limits

    limits = thread_limits(threads)
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        devices = [name for name in visible if name] or [str(number) for number in range(gpus)]
        limits["CUDA_VISIBLE_DEVICES"] = devices[_rank() % len(devices)]
    return limits


def _rank() -> int:
    """Return the number of this worker on its node."""
    if (rank := os.environ.get("PARSL_WORKER_RANK")) is not None:
        return int(rank)
    if "distributed" in sys.modules:
        from distributed import get_worker

        # NAME-0, NAME-1 ... if there are several.
        name = str(get_worker().name).rpartition("-")[2]
        return int(name) if name.isdigit() else 0
    return 0


def _write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(len(data).to_bytes(_LENGTH, "big") + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    size = pipe.read(_LENGTH)
    return pipe.read(int.from_bytes(size, "big")) if len(size) == _LENGTH else None


def main(above: Sequence[int]) -> None:
    """Fit the tasks that arrive on standard input, until it or one of the processes above ends."""
    from palletfit.core.processes import end_with

    for pid in above:
        end_with(pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Answers go to a copy of standard output, to which no library prints.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        from palletfit.runs import task
        from palletfit.runs.packing import unpack

        _write(answers, b"ready")
        while (header := _read(sys.stdin.buffer)) is not None:
            content = _read(sys.stdin.buffer)
            if content is None:
                return
            request = json.loads(header)
            warm = task.knows(unpack(content)["workspace"])
            workspace = b"" if warm else Path(request["workspace"]).read_bytes()
            _write(answers, task.run(content, workspace, began=request["began"]))


if __name__ == "__main__":
    main([int(pid) for pid in sys.argv[1:]])
