"""Workers that hang, die or are left behind. Tasks are functions of the standard library."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import pytest

from palletfit.config import ExecutorSettings
from palletfit.core import processes
from palletfit.executors import (
    DeadlineExceeded,
    LocalExecutor,
    WorkerDied,
    make_executor,
    thread_limits,
)

from ...waiting import LIMIT, until
from .. import models


@pytest.fixture(scope="module")
def executor():
    with LocalExecutor(workers=2, threads=1, deadline=2.0) as pool:
        pool.submit(math.sqrt, 1.0).result(timeout=LIMIT)  # workers are up
        yield pool


def test_results_and_errors_come_back(executor):
    assert executor.submit(math.sqrt, 16.0).result(timeout=LIMIT) == 4.0
    assert executor.submit(sorted, [2, 1], reverse=True).result(timeout=LIMIT) == [2, 1]
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        executor.submit(math.sqrt, -1.0).result(timeout=LIMIT)


def test_tasks_run_in_other_processes(executor):
    assert executor.submit(os.getpid).result(timeout=LIMIT) != os.getpid()


def test_the_deadline_ends_a_hanging_task_and_the_pool_goes_on(executor):
    began = time.monotonic()
    hanging = [executor.submit(time.sleep, 600) for _ in range(2)]
    with pytest.raises(DeadlineExceeded):
        hanging[0].result(timeout=LIMIT)
    assert time.monotonic() - began > 1.9
    with pytest.raises(DeadlineExceeded):
        hanging[1].result(timeout=LIMIT)
    assert executor.submit(math.sqrt, 9.0).result(timeout=LIMIT) == 3.0


@pytest.mark.parametrize("death", [(os._exit, 3), (signal.raise_signal, 9)])
def test_a_worker_that_dies_costs_its_own_task_only(executor, death):
    before = [executor.submit(math.sqrt, 4.0) for _ in range(3)]
    dying = executor.submit(*death)
    after = [executor.submit(math.sqrt, 25.0) for _ in range(3)]
    with pytest.raises(WorkerDied):
        dying.result(timeout=LIMIT)
    assert [future.result(timeout=LIMIT) for future in before] == [2.0] * 3
    assert [future.result(timeout=LIMIT) for future in after] == [5.0] * 3


def test_threads_are_limited_where_fits_run(executor):
    for name, value in thread_limits(1).items():
        assert executor.submit(os.getenv, name).result(timeout=LIMIT) == value


def test_cores_are_shared_among_workers(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert thread_limits(3)["OMP_NUM_THREADS"] == "3"
    assert "XLA_FLAGS" not in thread_limits(3)
    with make_executor(ExecutorSettings(workers=2), cores=9):
        assert os.environ["OMP_NUM_THREADS"] == "4"
    with make_executor(ExecutorSettings(workers=8), cores=2):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    with make_executor(ExecutorSettings(), cores=4):  # as many workers as cores
        assert os.environ["OMP_NUM_THREADS"] == "1"


def test_flags_of_the_user_are_kept(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere")
    assert thread_limits(1)["XLA_FLAGS"].startswith("--xla_dump_to=/nowhere --xla_cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true")
    assert "XLA_FLAGS" not in thread_limits(1)


def test_the_environment_is_restored(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with LocalExecutor(workers=1, threads=2, deadline=60):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "2"
    assert dict(os.environ) == before


def test_after_an_error_nobody_waits_for_the_rest():
    began = time.monotonic()

    def failing() -> None:
        with LocalExecutor(workers=1, threads=1, deadline=3000) as pool:
            futures.extend(pool.submit(time.sleep, 3000) for _ in range(3))
            while not futures[0].running():
                time.sleep(0.02)
            raise RuntimeError("stop")

    futures: list = []
    with pytest.raises(RuntimeError, match="stop"):
        failing()
    assert time.monotonic() - began < LIMIT


#: Pebble removes the locks, and ends the workers a little later; here there is time between.
HASTY = """
import math, time
from pebble.pool.process import WorkerManager
from palletfit.executors import LocalExecutor

def slow_stop(manager, stop=WorkerManager.force_stop_workers):
    time.sleep(2.0)
    stop(manager)

WorkerManager.force_stop_workers = slow_stop
if __name__ == "__main__":
    pool = LocalExecutor(workers=2, threads=1, deadline=3000)
    pool.submit(math.sqrt, 1.0)
    pool.shutdown(cancel_futures=True)
else:
    time.sleep(1.0)  # a worker, before it has opened the locks of its pool
"""


def test_a_pool_that_ends_while_its_workers_start_ends_in_silence(tmp_path):
    script = tmp_path / "client.py"
    script.write_text(HASTY)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=models.environment(),
        timeout=LIMIT,
        check=True,
    )
    assert done.stderr == ""


CLIENT = """
import os, sys, time
from palletfit.executors import LocalExecutor
if __name__ == "__main__":
    pool = LocalExecutor(workers=2, threads=1, deadline=3000)
    pids = set()
    while len(pids) < 2:
        pids |= {future.result() for future in [pool.submit(os.getpid) for _ in range(8)]}
    # One worker is busy, the other waits for work.
    pool.submit(time.sleep, 600)
    time.sleep(0.5)
    print(*pids, flush=True)
    time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"  # ended, and waiting for whoever collects it


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_workers_end_when_their_client_is_killed(tmp_path):
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=models.environment(),
    ) as client:
        try:
            assert client.stdout is not None
            pids = [int(pid) for pid in client.stdout.readline().split()]
            assert len(pids) == 2
            assert not any(gone(pid) for pid in pids)
        finally:
            client.kill()
        client.wait(timeout=LIMIT)
        until(lambda: all(gone(pid) for pid in pids), lambda: "workers stay")


ORPHAN = """
import sys, time
from palletfit.core.processes import end_with
end_with(int(sys.argv[1]))
time.sleep(600)
"""


def test_a_worker_whose_client_is_gone_already_ends_at_once():
    with subprocess.Popen([sys.executable, "-c", ""]) as finished:
        finished.wait(timeout=LIMIT)
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN, str(finished.pid)],
        env=models.environment(),
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 75


def test_watching_is_possible_without_pidfd(monkeypatch):
    def old(_pid):
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", old)
    with subprocess.Popen(["sleep", "0.3"]) as other:
        # It is a child of this process, so it is there until someone waits for it.
        collector = threading.Thread(target=other.wait)
        collector.start()
        processes._wait_for_end(other.pid)
        with pytest.raises(ProcessLookupError):
            os.kill(other.pid, 0)
        collector.join(timeout=LIMIT)


def test_several_deaths_in_one_worker_leave_nothing_undone():
    with LocalExecutor(workers=1, threads=1, deadline=60) as pool:
        futures = [
            pool.submit(os._exit, 3) if i % 2 else pool.submit(math.sqrt, 1.0) for i in range(4)
        ]
        _, pending = wait(futures, timeout=LIMIT)
        assert not pending
        assert [future.exception() is None for future in futures] == [True, False] * 2
