"""Runs of snakemake without imports, which cost more than many a run.

As a program it imports what runs import once, and then forks for every command line that it reads,
for every script of a run's jobs, and for every worker of a script. What runs is the same code in a
process of its own, with the folder, the environment and the output that are asked for. What it
imports is there already.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
#: What functions of the package import only when they are called.
_LATE = (
    *("hepdata_lib", "hepdata_validator", "matplotlib.backends.backend_agg"),
    *("matplotlib.backends.backend_pdf", "matplotlib.pyplot", "pandas", "pebble", "plotly"),
    *("pyarrow.parquet", "pyhf", "scipy.optimize", "scipy.spatial", "scipy.special", "shapely"),
)
#: Names a file that each run executes first: what it changes is changed in all its processes.
HOOK = "PALLETFIT_TEST_HOOK"
#: Bytes of a request: a file's name and an environment.
_REQUEST = 1 << 17
_SET_CHILD_SUBREAPER = 36
#: No process here has so many open files.
_HIGH = 500


class Snakemake:
    """A process that has imported Snakemake, and forks for each run.

    Attributes
    ----------
    more
        Names of modules that it imports besides, if it does not run yet.
    """

    def __init__(self) -> None:
        self.more: tuple[str, ...] = ()
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
        timeout: float,
    ) -> int:
        """Run snakemake to its end.

        Parameters
        ----------
        arguments
            Its command line, without the program.
        folder, environment
            Where it runs.
        output
            File for what it prints.
        timeout
            Seconds.

        Returns
        -------
        int
            Its exit status.

        Raises
        ------
        TimeoutError
            It did not end in time, and was killed.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, __file__, *self.more],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        request = [list(arguments), str(folder), dict(environment), str(output)]
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        if not select.select([stdout], [], [], timeout)[0]:
            self.close()
            raise TimeoutError(f"snakemake did not end within {timeout:g} s: {output.read_text()}")
        return int(stdout.readline())

    def close(self) -> None:
        """End the process, and a run that has not ended."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None


class Nursery:
    """A process without threads that forks for this one, which may have some.

    Made in a process that has no threads. Each process that is forked is that process's child.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._pid = os.fork()
        if self._pid == 0:
            self._socket.close()
            raise Forked(*_fork_on_request(requests))
        requests.close()

    def fork(self, content: Any, descriptors: Sequence[int] = ()) -> int:
        """Let a process begin, in which `Forked` is raised; give its number."""
        answer, theirs = socket.socketpair()
        with self._lock, answer, theirs:
            message = [json.dumps(content).encode()]
            socket.send_fds(self._socket, message, [theirs.fileno(), *descriptors])
            theirs.close()
            return int(answer.recv(16))


class Forked(BaseException):
    """This is the new process, and has what was asked for it: the content, and descriptors."""

    def __init__(self, content: Any, descriptors: Sequence[int]) -> None:
        super().__init__(content)
        self.content, self.descriptors = content, descriptors


def _fork_on_request(requests: socket.socket) -> tuple[Any, list[int]]:
    """Fork for each request, and return what it holds in the new process."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, _REQUEST, 32)
        if not message:
            os._exit(0)
        heard, said = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child == 0:
                break
            os.write(said, str(child).encode())
            os._exit(0)
        # Only now the child is that of the process that asked for it.
        os.waitpid(between, 0)
        os.write(descriptors[0], os.read(heard, 16))
        for descriptor in (heard, said, *descriptors):
            os.close(descriptor)
    os.close(heard)
    os.close(said)
    requests.close()
    os.close(descriptors[0])
    return json.loads(message), descriptors[1:]


def _serve() -> list[str]:
    """Fork for each request; give the command line in the process that has to run it."""
    for line in sys.stdin:
        arguments, folder, environment, output = json.loads(line)
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            _set_environment(environment)
            target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, number in ((nothing, 0), (target, 1), (target, 2)):
                os.dup2(source, number)
            if HOOK in environment:
                runpy.run_path(environment[HOOK])
            return ["snakemake", *arguments]
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    os._exit(0)


def _set_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _fork_for_scripts(nursery: Nursery) -> None:
    """Let Snakemake fork for a script instead of starting a process."""
    from snakemake.benchmark import benchmarked
    from snakemake.script import PythonScript

    def execute_script(self: Any, fname: str, edit: bool = False) -> None:  # noqa: ARG001
        threads = str(self.threads)
        environment = {
            **os.environ,
            **dict.fromkeys(
                ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads
            ),
            "TMPDIR": str(self.resources.get("tmpdir")),
        }
        child = nursery.fork([fname, str(Path.cwd()), environment])
        measured = benchmarked(child, self.bench_record) if self.bench_record else nullcontext()
        with measured:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise subprocess.CalledProcessError(status, f"{sys.executable} {fname}")

    PythonScript.execute_script = execute_script


def _fork_for_workers(nursery: Nursery) -> None:
    """Let processes of `multiprocessing` be forked where they would be started anew."""
    from multiprocessing import util

    def spawnv_passfds(_: str, arguments: Sequence[bytes], descriptors: Sequence[int]) -> int:
        command = [os.fsdecode(argument) for argument in arguments]
        content = [command, list(descriptors), str(Path.cwd()), dict(os.environ)]
        return nursery.fork(content, descriptors)

    util.spawnv_passfds = spawnv_passfds


def main() -> None:
    """Import, fork for runs, and be one of them."""
    from snakemake import cli

    # Its plugins, and what else it and the Snakefile import.
    cli.get_argument_parser()
    importlib.import_module("smart_open")
    for name in (*_LATE, *sys.argv[1:]):
        importlib.import_module(name)
    for script in sorted((PROJECT / "scripts").glob("*.py")):
        runpy.run_path(str(script), run_name="preloaded")
    # These tables of fonts take half the time of writing a PDF, which does not use them.
    subset = importlib.import_module("fontTools.subset")
    subset.Options._drop_tables_default += ["GDEF", "GPOS", "GSUB"]
    # The folder of this file, which a run has not on its path.
    del sys.path[0]
    # What is shared stays shared: neither collecting garbage nor the end of Python looks at it.
    gc.collect()
    gc.freeze()
    sys.argv = _serve()
    _end_with(_snakemake)


def _snakemake() -> None:
    """Run snakemake, or in a process forked for it, a script, or a worker of that."""
    from snakemake import cli

    script = _forked(_fork_for_scripts)
    if script is None:
        cli.main()
        return
    name, folder, environment = script.content
    os.chdir(folder)
    _set_environment(environment)
    sys.argv = [name]
    worker = _forked(_fork_for_workers)
    if worker is None:
        runpy.run_path(name, run_name="__main__")
    else:
        _worker(worker)


def _forked(prepare: Callable[[Nursery], None]) -> Forked | None:
    """Prepare this process with a nursery; in a process that is forked there, give its task."""
    try:
        prepare(Nursery())
    except Forked as forked:
        return forked
    return None


def _worker(forked: Forked) -> None:
    """Be the process that `multiprocessing` starts with a command."""
    command, wanted, folder, environment = forked.content
    os.chdir(folder)
    _set_environment(environment)
    # Out of the way of the numbers that the command names.
    high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _HIGH) for number in forked.descriptors]
    for descriptor in forked.descriptors:
        os.close(descriptor)
    for descriptor, number in zip(high, wanted, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    source = command.index("-c") + 1
    sys.argv = ["-c", *command[source + 1 :]]
    exec(command[source], {"__name__": "__main__"})  # noqa: S102


def _end_with(function: Callable[[], None]) -> None:
    """End this process with a call, as Python would, but without taking its modules down."""
    status: Any = 0
    try:
        function()
    except SystemExit as end:
        status = end.code
    except BaseException:  # noqa: BLE001  as Python does
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    if isinstance(status, str):
        sys.stderr.write(f"{status}\n")
        status = 1
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    main()
