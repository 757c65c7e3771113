"""Worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from multiprocessing.connection import Connection
from types import TracebackType
from typing import ParamSpec, TypeVar

from pebble import ProcessPool

from palletfit.core.processes import end_with

#: Seconds that workers which are about to start get before the pool ends under them.
_STARTING = 20.0
P = ParamSpec("P")
T = TypeVar("T")


def thread_limits(threads: int) -> dict[str, str]:
    """Environment that limits the threads of BLAS, OpenMP, XLA and TensorFlow.

    Workers that each start a thread on every core slow one another down by a factor of ten and
    more.
    """
    count = str(threads)
    limits = dict.fromkeys(
        (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "BLIS_NUM_THREADS",
            "VECLIB_MAXIMUM_THREADS",
            "NUMEXPR_NUM_THREADS",
            "TF_NUM_INTRAOP_THREADS",
            "TF_NUM_INTEROP_THREADS",
            "NPROC",  # the size of XLA's thread pool on CPUs
        ),
        count,
    )
    flags = os.environ.get("XLA_FLAGS", "")
    if threads == 1 and "xla_cpu_multi_thread_eigen" not in flags:
        limits["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    return limits


class LocalExecutor(Executor):
    """Worker processes on this machine, each with its share of threads, and a deadline for tasks.

    A worker that dies or exceeds the deadline costs its own task only: its future raises
    :data:`~palletfit.executors.WorkerDied` or
    :data:`~palletfit.executors.DeadlineExceeded`, and a new worker takes its place.

    Parameters
    ----------
    workers
        Number of processes.
    threads
        Threads that numerical libraries may use in each.
    deadline
        Seconds that one task may run.

    Attributes
    ----------
    workers
        Number of processes.
    """

    def __init__(self, *, workers: int, threads: int, deadline: float) -> None:
        self.workers = workers
        self._deadline = deadline
        self._limits = thread_limits(threads)
        self._saved = {name: os.environ.get(name) for name in self._limits}
        # Workers inherit the environment. It has to be set before they import anything, which with
        # the spawn method is when they start; they may start (again) at any time.
        os.environ.update(self._limits)
        # A fork would copy the threads' locks of this process in an unknown state.
        context = multiprocessing.get_context("spawn")
        self._earlier = {child.pid for child in multiprocessing.active_children()}
        self._started: set[int] = set()
        self._greetings, greet = context.Pipe(duplex=False)
        self._pool = ProcessPool(
            max_workers=workers,
            initializer=_start_worker,
            initargs=(self._limits, os.getpid(), greet),
            context=context,
        )

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule a call; see :meth:`concurrent.futures.Executor.submit`."""
        self._hear_greetings()
        future: Future[T] = self._pool.schedule(
            fn, args=args, kwargs=kwargs, timeout=self._deadline
        )
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers, at once and with their tasks if `cancel_futures`."""
        if cancel_futures:
            self._pool.stop()  # type: ignore[no-untyped-call]
        else:
            self._pool.close()  # type: ignore[no-untyped-call]
        if wait:
            if cancel_futures:
                self._await_starting()
            self._pool.join()
        for name, value in self._saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _hear_greetings(self) -> None:
        while self._greetings.poll():
            self._started.add(int(self._greetings.recv_bytes()))

    def _await_starting(self) -> None:
        """Wait for workers that have not begun: the pool's locks vanish before it ends them.

        They would end, too, but with a traceback in the user's terminal.
        """
        until = time.monotonic() + _STARTING
        while time.monotonic() < until:
            self._hear_greetings()
            living = {child.pid for child in multiprocessing.active_children()}
            if living <= self._earlier | self._started:
                return
            time.sleep(0.02)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error nobody waits for the rest.
        self.shutdown(cancel_futures=exception_type is not None)


def _start_worker(limits: dict[str, str], client: int, greet: Connection) -> None:
    greet.send_bytes(str(os.getpid()).encode())
    os.environ.update(limits)
    # An interrupt from the terminal reaches every process; the client decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(client)
