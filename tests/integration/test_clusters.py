"""Fits in jobs of the real Slurm, brought there by Parsl and by Dask, and what can befall them."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from .site import Site
from .stack import HOOKED, WITH_HOOKS, Stack
from .stack.processes import processes, until

pytestmark = pytest.mark.slow


class Login(Site):
    """The login node: a user without a Globus account, who may submit jobs."""

    def __init__(self, kind: str, stack: Stack, *others) -> None:
        super().__init__(stack, *others)
        self.home = stack.folder / "home"
        self.folder.variables = {
            "HOME": str(self.home),
            "TMPDIR": str(stack.folder / "tmp"),
            "OMP_NUM_THREADS": "1",
            **stack.slurm.environment,
        }
        variables = {**HOOKED, "PALLETFIT_TEST_CONTROL": self.control}
        self.folder.config["executor"] = {
            "kind": kind,
            "patches_per_task": 1,
            "deadline": 600,
            "retries": 2,
            "cluster": {
                "partition": "debug",
                "walltime": "00:20:00",
                "workers_per_node": 2,
                "interface": "lo",
                "setup": [
                    f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()
                ],
            },
        }

    def set_cluster(self, **settings) -> None:
        self.folder.config["executor"]["cluster"].update(settings)

    def fitters(self) -> list[int]:
        """Processes that have, or wait for, tasks of this site."""
        return [
            process.pid
            for process in processes()
            if "palletfit.executors.cluster.isolated" in process.command
            and process.environment.get("PALLETFIT_TEST_CONTROL") == str(self.control)
        ]

    def until_held(self, count: int = 2) -> None:
        """Wait until so many workers have tasks."""
        output = self.folder.path / "output"
        until(lambda: len(self.held()) >= count, "no worker has a task", [output])

    def assert_clean(self) -> None:
        """No job and no file of a run that has ended is left."""
        until(lambda: not self.stack.slurm.squeue(), "jobs stay")
        assert not list((self.home / ".cache" / "palletfit" / "runs").iterdir())
        left = {path.name for path in self.folder.path.iterdir()}
        assert not left & {"runinfo", "dask-scratch-space", "dask-worker-space", "cmd_parsl"}
        assert not (self.home / ".config" / "dask").exists()


@pytest.fixture(params=["parsl", "dask"])
def login(request, services: Stack, prepared, tmp_path_factory) -> Iterator[Login]:
    made = Login(request.param, services, *prepared, tmp_path_factory.mktemp("control"))
    yield made
    made.release()
    services.slurm.cancel_all()


def test_the_profile_as_it_is_fits_in_slurm_jobs(login: Login) -> None:
    login.pallet.analysis["patches"] = login.pallet.names[:2]
    login.pallet.write()
    executor = login.folder.config["executor"]
    kept = {name: executor["cluster"][name] for name in ("partition", "interface", "setup")}
    account = f"{executor['kind']}-1"
    login.folder.profile = str(login.folder.project / "profiles" / f"{executor['kind']}-slurm")
    login.folder.config["executor"] = {"cluster": {**kept, "account": account}}
    run = login.run()
    assert run.fitted == login.pallet.names[:2]
    assert login.fitted == Counter(login.pallet.names[:2])
    login.assert_clean()
    jobs = login.stack.slurm.run("scontrol", "show", "jobs", "--oneliner").splitlines()
    # Two tasks for four workers a block.
    (job,) = [job for job in jobs if f"Account={account} " in job]
    for words in ("TimeLimit=01:00:00", "CPUs/Task=4", "MinMemoryNode=8G", "NumNodes=1"):
        assert words in job


# The two ends of a fit's process: tests/unit/executors/cluster/test_transport.py.
@pytest.mark.study
def test_a_patch_that_kills_or_blocks_its_workers_fails_alone(login: Login) -> None:
    login.set(patches_per_task=3, retries=1)
    victim = login.pallet.names[1]
    (login.control / f"kill-{victim}").touch()
    output = login.run(succeeds=False).output
    assert "1 of 6 patches of tiny/SR failed" in output
    records = {record["patch"]: record for record in login.folder.records().values()}
    assert records[victim]["error"]["kind"] == "WorkerDied"
    assert "exit code -9" in records[victim]["error"]["problem"]
    others = [name for name in login.pallet.names if name != victim]
    assert {records[name]["status"] for name in others} == {"ok"}
    assert login.fitted == Counter(others)
    # Now it hangs, and the others are not fitted again.
    (login.control / f"kill-{victim}").unlink()
    login.hold()
    login.set(deadline=5)
    output = login.run(succeeds=False).output
    assert "1 of 6 patches of tiny/SR failed" in output
    assert "did not end before the deadline" in output
    assert login.fitted == Counter(others)
    login.assert_clean()


# What becomes of a fit is the same code under both: fits are in processes of their own. The end of
# a block is noticed under both where its workers do not even start, below.
@pytest.mark.parametrize(
    "login", ["parsl", pytest.param("dask", marks=pytest.mark.study)], indirect=True
)
def test_killed_workers_and_a_cancelled_block_cost_nothing_but_time(login: Login) -> None:
    login.set_cluster(gpus_per_node=1)
    login.hold()
    with login.running() as run:
        login.until_held()
        for pid in login.held():
            os.kill(pid, signal.SIGKILL)
        login.until_held()
        (job,) = login.stack.slurm.squeue()
        held = set(login.fitters())
        login.stack.slurm.cancel(job.id)
        # Slurm gives them some seconds, in which they might fit.
        until(lambda: not held & set(login.fitters()), "workers stay")
        login.release()
        output = login.finish(run)
    assert "died; sent again" in output
    assert "has ended" in output
    login.assert_all_fitted_once()
    assert any(record["worker"]["warm"] for record in login.folder.records().values())
    assert login.gpus == {"0"}  # the one of the node
    login.assert_clean()


def test_the_schedulers_words_reach_the_user(login: Login) -> None:
    login.set_cluster(partition="nowhere")
    output = login.run(succeeds=False).output
    assert "invalid partition specified: nowhere" in output
    assert "executor.cluster" in output
    assert not login.folder.records()
    login.assert_clean()


def test_blocks_without_workers_are_given_up(login: Login) -> None:
    login.set_cluster(setup=["echo no such module >&2", "exit 3"])
    output = login.run(succeeds=False).output
    assert "blocks in a row ended before a worker" in output
    assert "no such module" in output
    assert not login.folder.records()
    login.assert_clean()


@pytest.mark.parametrize(
    ("login", "end"),
    [
        # An interrupted run ends its jobs itself, whoever brought workers there.
        pytest.param("parsl", signal.SIGINT, id="parsl-interrupted", marks=pytest.mark.study),
        pytest.param("parsl", signal.SIGKILL, id="parsl-killed"),
        pytest.param("dask", signal.SIGINT, id="dask-interrupted"),
        pytest.param("dask", signal.SIGKILL, id="dask-killed"),
    ],
    indirect=["login"],
)
def test_a_run_that_ends_early_ends_its_jobs(login: Login, end: signal.Signals) -> None:
    login.hold()
    # Workers miss a run that was killed only after some time, which is a minute elsewhere.
    login.folder.variables |= {
        "PYTHONPATH": WITH_HOOKS,
        "PALLETFIT_TEST_CONSTANTS": json.dumps(
            {
                "palletfit.executors.cluster.dask_pool": {"_DEATH": 30},
                "palletfit.executors.cluster.parsl_pool": {"_HEARTBEAT": 3, "_SILENCE": 9},
            }
        ),
    }
    with login.running_alone() as process:
        login.until_held()
        os.killpg(process.pid, end)
        process.wait(timeout=300)
        until(lambda: not login.stack.slurm.squeue(), "jobs stay")
        until(lambda: not login.fitters(), "workers stay")
    assert not login.fitted
    if end is signal.SIGINT:
        login.assert_clean()
