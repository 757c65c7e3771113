"""Blocks and tasks of a cluster, without the cluster."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import pytest

from palletfit.config import ClusterSettings, ExecutorSettings, parse
from palletfit.errors import ConfigError, ExecutorError
from palletfit.executors import DeadlineExceeded, WorkerDied, make_executor, open_ledger
from palletfit.executors.cluster import isolated, slurm
from palletfit.executors.cluster.folder import make_folder
from palletfit.executors.cluster.pool import BlockLost, WorkerLost
from palletfit.executors.cluster.transport import PoolTransport
from palletfit.executors.queue import TaskQueue
from palletfit.runs import task
from palletfit.runs.faults import BadAnswer, TaskLost

from ....waiting import LIMIT, until


class FakePool:
    """Workers that answer what a test says; jobs that live as long as it says."""

    def __init__(self, blocks: int = 2) -> None:
        self.blocks, self.workers_per_block = blocks, 2
        self.sent: list[Future] = []
        self.started = 0
        self.refusal: ExecutorError | None = None
        self.with_workers: set[str] = set()
        self.living: set[str] = set()
        self.closed = False

    def start_block(self):
        if self.refusal is not None:
            raise self.refusal
        self.started += 1
        self.living.add(f"job{self.started}")
        return f"b{self.started}", f"job{self.started}"

    def send(self, content, workspace, settings):  # noqa: ARG002
        self.sent.append(Future())
        return self.sent[-1]

    def connected(self):
        return set(self.with_workers)

    def close(self):
        self.closed = True


@pytest.fixture
def pool(monkeypatch):
    fake = FakePool()
    monkeypatch.setattr(
        slurm, "states", lambda jobs: {job: "running" for job in jobs if job in fake.living}
    )
    monkeypatch.setattr(slurm, "cancel", lambda jobs: fake.living.difference_update(jobs))
    return fake


@pytest.fixture
def executor(pool, tmp_path):
    settings = ExecutorSettings(kind="parsl", retries=1, cluster={"folder": tmp_path})
    with TaskQueue(PoolTransport(lambda *_: pool, settings), settings) as queue:
        yield queue
        queue.shutdown(cancel_futures=True)
    assert pool.closed
    assert not pool.living
    assert not list(tmp_path.iterdir())


CONTENT = task.pack({"patches": [{"name": "a"}]})


def ask(executor):
    return executor.submit(task.run, CONTENT, b"workspace")


def ask_sent(executor, pool):
    """Ask, and wait until the pool has the task."""
    future = ask(executor)
    until(lambda: pool.sent)
    return future


def test_as_many_blocks_as_are_needed(executor, pool):
    assert executor.workers == 4
    futures = [ask(executor) for _ in range(2)]
    until(lambda: pool.started == 1)
    futures += [ask(executor) for _ in range(7)]
    until(lambda: pool.started == 2 and len(pool.sent) == 9)
    for sent in pool.sent:
        sent.set_result({"results": b"good"})
    assert {future.result(timeout=LIMIT) for future in futures} == {b"good"}
    assert pool.started == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [({"died": -9}, WorkerDied), ({"late": True}, DeadlineExceeded), (WorkerLost(), WorkerDied)],
)
def test_the_end_of_a_task_is_reported(executor, pool, answer, error):
    future = ask_sent(executor, pool)
    if isinstance(answer, Exception):
        pool.sent[0].set_exception(answer)
    else:
        pool.sent[0].set_result(answer)
    with pytest.raises(error) as raised:
        future.result(timeout=LIMIT)
    if answer == {"died": -9}:
        assert raised.value.exitcode == -9
    assert len(pool.sent) == 1


@pytest.mark.parametrize("answer", [None, "text", {}, {"results": "text"}, {"died": "x"}, [1]])
def test_an_answer_that_no_worker_gives_concerns_its_task_alone(executor, pool, answer):
    future = ask_sent(executor, pool)
    pool.sent[0].set_result(answer)
    with pytest.raises(BadAnswer):
        future.result(timeout=LIMIT)
    second = ask(executor)
    until(lambda: len(pool.sent) == 2)
    pool.sent[1].set_result({"results": b"good"})
    assert second.result(timeout=LIMIT) == b"good"


def test_the_end_of_a_block_is_not_the_tasks_fault_so_often(executor, pool):
    future = ask_sent(executor, pool)
    pool.sent[0].set_exception(BlockLost())
    until(lambda: len(pool.sent) == 2)
    pool.sent[1].set_exception(BlockLost())
    with pytest.raises(TaskLost):
        future.result(timeout=LIMIT)


def test_blocks_that_ended_are_replaced(executor, pool):
    future = ask(executor)
    until(lambda: pool.started == 1)
    pool.with_workers.add("b1")
    time.sleep(1.5)  # one look
    pool.living.clear()
    until(lambda: pool.started == 2)
    pool.sent[0].set_result({"results": b"good"})
    assert future.result(timeout=LIMIT) == b"good"


def test_blocks_without_workers_are_given_up(executor, pool):
    future = ask(executor)
    for number in (1, 2):
        until(lambda number=number: pool.started == number)
        pool.living.clear()
    with pytest.raises(ExecutorError, match="2 blocks in a row ended"):
        future.result(timeout=LIMIT)
    with pytest.raises(ExecutorError):
        ask(executor)


def test_what_the_scheduler_refuses_ends_everything(executor, pool):
    pool.refusal = slurm.refused("sbatch: error:\n  invalid partition")
    futures = [ask(executor) for _ in range(3)]
    for future in futures:
        with pytest.raises(ExecutorError, match="sbatch: error: invalid partition"):
            future.result(timeout=LIMIT)


def test_a_worker_that_cannot_fit_ends_everything(executor, pool):
    future = ask_sent(executor, pool)
    pool.sent[0].set_result({"broken": "no module named numpy"})
    with pytest.raises(ExecutorError, match="no module named numpy"):
        future.result(timeout=LIMIT)


@pytest.mark.parametrize(
    "cluster",
    [
        {"partition": "a b"},
        {"partition": "a\n#SBATCH --uid=0"},
        {"account": "$(id)"},
        {"account": "-x"},
        {"options": ["--qos=a\nrm -r x"]},
        {"options": ["rm"]},
        {"setup": ["a\nb"]},
        {"walltime": "1h"},
        {"walltime": "00:00:30"},
        {"walltime": "00:10:00"},  # below the deadline
        {"interface": "a b"},
    ],
)
def test_settings_that_are_refused(cluster):
    with pytest.raises(ConfigError):
        parse(ExecutorSettings, {"kind": "dask", "cluster": cluster}, file="x")


@pytest.mark.parametrize("kind", ["parsl", "dask"])
def test_fits_in_a_cluster_end_with_their_run(kind, tmp_path):
    assert open_ledger(ExecutorSettings(kind=kind), tmp_path / "x") is None


@pytest.mark.parametrize(
    ("kind", "package"), [("parsl", "parsl.addresses"), ("dask", "dask_jobqueue")]
)
def test_a_missing_package_is_explained(kind, package, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, f"palletfit.executors.{kind}_pool", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    settings = ExecutorSettings(kind=kind, cluster={"folder": tmp_path})
    with pytest.raises(ExecutorError, match=r"envs/clusters\.txt"):
        make_executor(settings, cores=1)
    assert not list(tmp_path.iterdir())


def finished_process():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_folders_of_runs_that_ended_here_are_removed(tmp_path):
    host, pid = socket.gethostname(), finished_process()
    kept = [
        f"{host}-{os.getpid()}-abc",  # runs
        f"{host}-{pid}-{os.getpid()}-abc",  # of a host whose name begins like this one's
        f"other-{pid}-abc",
        "mine",
    ]
    for name in [*kept, f"{host}-{pid}-a_c"]:
        (tmp_path / name).mkdir()
    folder = make_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, folder.name}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["my folder", "$(id)", "a;b", "100%", "a\nb", "'"])
def test_folders_that_scripts_cannot_name_are_refused(tmp_path, name):
    with pytest.raises(ExecutorError, match="cannot hold"):
        make_folder(tmp_path / name)


def write_program(folder, text):
    folder.mkdir()
    for name in ("sbatch", "squeue", "sacct"):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)


def test_a_users_own_filters_hide_no_jobs(tmp_path, monkeypatch):
    write_program(tmp_path / "bin", 'test -z "$SQUEUE_STATES" && echo "7|RUNNING|None"; true')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    assert slurm.states(["7", "8"]) == {"7": "running"}


@pytest.fixture
def parsl_pool(tmp_path, monkeypatch):
    pytest.importorskip("parsl")
    from palletfit.executors.cluster import parsl_pool

    # Parsl leaves a socket open when it looks for the address.
    monkeypatch.setattr(parsl_pool, "_address", lambda _: "127.0.0.1")
    write_program(tmp_path / "bin", "echo its own words >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "run").mkdir(mode=0o700)
    pool = parsl_pool.ParslPool(ClusterSettings(interface="lo"), tmp_path / "run")
    yield pool
    pool.close()


def test_parsl_is_told_what_slurm_says(parsl_pool, tmp_path, monkeypatch):
    with pytest.raises(ExecutorError, match="its own words"):
        parsl_pool.start_block()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutorError, match="no program sbatch"):
        parsl_pool.start_block()


def test_the_end_of_parsls_interchange_is_noticed(parsl_pool):
    assert parsl_pool.connected() == set()
    process = parsl_pool._executor.interchange_proc
    process.kill()
    process.wait()
    for ask in (parsl_pool.connected, lambda: parsl_pool.send(b"", "", SETTINGS)):
        with pytest.raises(ExecutorError, match=r"interchange.* \(exit code -9\)"):
            ask()
    began = time.monotonic()
    parsl_pool.close()
    assert time.monotonic() - began < LIMIT


def test_dask_tells_the_end_of_a_block(tmp_path, monkeypatch):
    """A worker that its job's script starts dies with a task: nobody sends that again unasked."""
    dask_pool = pytest.importorskip("palletfit.executors.cluster.dask_pool")
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(isolated, "call", lambda *_: time.sleep(LIMIT))
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "dask"))
    (tmp_path / "run").mkdir(mode=0o700)
    pool = dask_pool.DaskPool(ClusterSettings(interface="lo", workers_per_node=1), tmp_path / "run")
    script = tmp_path / "block.sh"
    script.write_text(pool._cluster.job_script())
    block = subprocess.Popen(["bash", script], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        until(pool.connected)
        future = pool.send(b"", "", SETTINGS)
        workers = pool._cluster.scheduler.workers
        until(lambda: any(worker.processing for worker in list(workers.values())))
        os.killpg(block.pid, signal.SIGKILL)
        with pytest.raises(BlockLost):
            future.result(timeout=LIMIT)
        until(lambda: not pool.connected())
    finally:
        if block.poll() is None:
            os.killpg(block.pid, signal.SIGKILL)
        block.wait()
        pool.close()


@pytest.mark.usefixtures("parsl_pool")
def test_keys_are_for_their_owner_alone(tmp_path):
    dask_pool = pytest.importorskip("palletfit.executors.cluster.dask_pool")
    (tmp_path / "keys").mkdir()
    dask_pool._security(tmp_path / "keys")
    files = [*(tmp_path / "keys").iterdir(), *(tmp_path / "run").rglob("*.key_secret")]
    assert len(files) > 3
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


SETTINGS = {"deadline": 60, "threads": 1, "gpus": 0}


@pytest.fixture
def workspace(tmp_path):
    path = tmp_path / "workspace.zz"
    path.touch()
    yield str(path)
    isolated._close()


def test_a_process_that_dies_is_told_and_replaced(workspace):
    # An empty task fails in the process, which is its own trouble: exit code 1.
    assert isolated.call(b"no task", workspace, SETTINGS) == {"died": 1}
    pids = []

    def kill():
        until(lambda: isolated._fitter is not None)
        pids.append(isolated._fitter._process.pid)
        os.kill(pids[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert isolated.call(b"no task", workspace, SETTINGS) == {"died": -9}
    killer.join()


def test_a_process_at_its_deadline_is_ended(workspace):
    began = time.monotonic()
    assert isolated.call(b"", workspace, {**SETTINGS, "deadline": 0.0}) == {"late": True}
    assert time.monotonic() - began < LIMIT
    assert isolated._fitter is None


def test_a_process_that_is_silent_but_lives_is_ended(workspace, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec >&-\nexec sleep 3000\n")
    python.chmod(0o755)
    monkeypatch.setattr(isolated.sys, "executable", str(python))
    monkeypatch.setattr(isolated, "_GRACE", 0.2)
    began = time.monotonic()
    assert isolated.call(b"", workspace, SETTINGS) == {"died": -9}
    assert time.monotonic() - began < LIMIT


def test_a_workspace_that_is_not_there_is_nobodys_death(tmp_path):
    result = isolated.call(b"", str(tmp_path / "missing.zz"), SETTINGS)
    assert "missing.zz is not there" in result["broken"]


def test_every_worker_of_a_node_has_its_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("PARSL_WORKER_RANK", "3")
    assert isolated._environment(1, 2)["CUDA_VISIBLE_DEVICES"] == "5"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert isolated._environment(1, 4)["CUDA_VISIBLE_DEVICES"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in isolated._environment(1, 0)
