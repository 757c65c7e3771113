"""Workers of Parsl's HighThroughputExecutor, in jobs of its SlurmProvider."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from parsl.addresses import address_by_interface
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.errors import (
    CommandClientBadError,
    CommandClientTimeoutError,
    ManagerLost,
)
from parsl.executors.high_throughput.errors import WorkerLost as ParslWorkerLost
from parsl.launchers import SingleNodeLauncher, SrunLauncher
from parsl.providers import SlurmProvider
from parsl.providers.errors import SubmitException

from palletfit.config import ClusterSettings
from palletfit.errors import ExecutorError
from palletfit.executors.cluster import isolated, slurm
from palletfit.executors.cluster.pool import BlockLost, WorkerLost

#: Seconds between signs of life, and without any after which a node is given up. Parsl's own are
#: 30 and 120: that is how long a run would wait for the fits of a block that was cancelled.
_HEARTBEAT, _SILENCE = 5, 30
#: Seconds in which the interchange has to answer; it does so in milliseconds.
_ANSWER = 60.0
#: Parsl starts this program by its name, and lets it live on when the client is killed.
_INTERCHANGE = """
import os, runpy, signal, sys
from palletfit.core.processes import end_with
signal.signal(signal.SIGINT, signal.SIG_IGN)
end_with(int(sys.argv.pop(1)))
runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")
"""


class _Provider(SlurmProvider):  # type: ignore[misc]
    """Submits without a shell, and fails with the words that all pools have."""

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:
        del timeout
        command = cmd.split()
        if command[0] != "sbatch":  # whether accounting is there: nobody asks it here
            return 1, "", ""
        done = slurm.run(command)
        return done.returncode, done.stdout, done.stderr


class ParslPool:
    """A :class:`~palletfit.executors.cluster.pool.Pool` of Parsl's.

    Parameters
    ----------
    cluster
        The jobs.
    folder
        For scripts, keys and logs.

    Raises
    ------
    ExecutorError
        There is no such network interface.
    """

    def __init__(self, cluster: ClusterSettings, folder: Path) -> None:
        logging.getLogger("parsl").setLevel(logging.CRITICAL)
        self.blocks, self.workers_per_block = cluster.max_blocks, cluster.workers_per_block
        cores = cluster.workers_per_node * cluster.cores_per_worker
        several = cluster.nodes_per_block > 1
        self._provider = _Provider(
            partition=cluster.partition,
            account=cluster.account,
            walltime=cluster.walltime,
            nodes_per_block=cluster.nodes_per_block,
            cores_per_node=cores,
            mem_per_node=cluster.memory_gb,
            gpus_per_node=cluster.gpus_per_node or None,
            scheduler_options="\n".join(f"#SBATCH {option}" for option in cluster.options),
            worker_init="\n".join([*cluster.setup, activation()]),
            exclusive=False,
            init_blocks=0,
            max_blocks=cluster.max_blocks,
            # srun asks for one core unless it is told.
            launcher=SrunLauncher(overrides=f"--cpus-per-task={cores}")
            if several
            else SingleNodeLauncher(),
        )
        self._provider.script_dir = str(folder / "scripts")
        Path(self._provider.script_dir).mkdir()
        self._executor = HighThroughputExecutor(
            label="palletfit",
            provider=self._provider,
            address=_address(cluster.interface) if cluster.interface else None,
            interchange_launch_cmd=[sys.executable, "-c", _INTERCHANGE, str(os.getpid())],
            cores_per_worker=cluster.cores_per_worker,
            max_workers_per_node=cluster.workers_per_node,
            heartbeat_period=_HEARTBEAT,
            heartbeat_threshold=_SILENCE,
            # Nobody else on the cluster's network may send tasks, or read them.
            encrypted=True,
        )
        self._executor.run_dir = str(folder)
        self._executor.run_id = folder.name
        try:
            self._executor.start()
        except BaseException:
            self.close()
            raise
        for key in folder.rglob("*.key_secret"):
            key.chmod(0o600)
        # Without it a task for an interchange that is gone would be waited with for ever.
        self._executor.outgoing_q.zmq_socket.sndtimeo = int(1000 * _ANSWER)
        self._count = 0

    def start_block(self) -> tuple[str, str]:
        """Submit a block; see :class:`~palletfit.executors.cluster.pool.Pool`.

        Raises
        ------
        ExecutorError
            With the words of sbatch.
        """
        name = f"palletfit{self._count}"
        self._count += 1
        command = self._executor.launch_cmd.format(block_id=name)
        try:
            return name, str(self._provider.submit(command, 1, name))
        except SubmitException as error:
            raise slurm.refused(error.stderr or error.stdout or str(error)) from error

    def send(
        self, content: bytes, workspace: str, settings: Mapping[str, Any]
    ) -> Future[dict[str, Any]]:
        """Let a worker call :func:`palletfit.executors.cluster.isolated.call`.

        Parsl's counter of tasks and its socket are for one thread at a time.

        Raises
        ------
        ExecutorError
            See :meth:`connected`.
        """
        made: Future[dict[str, Any]] = Future()

        def take(answered: Future[dict[str, Any]]) -> None:
            error = answered.exception()
            if error is None:
                made.set_result(answered.result())
            elif isinstance(error, ParslWorkerLost):
                made.set_exception(WorkerLost(str(error)))
            elif isinstance(error, ManagerLost):
                made.set_exception(BlockLost(str(error)))
            else:
                made.set_exception(error)

        arguments = (content, workspace, dict(settings))
        if self._executor.interchange_proc.poll() is not None:
            raise self._ended()
        answered = self._executor.submit(isolated.call, {}, *arguments)
        answered.add_done_callback(take)
        return made

    def connected(self) -> Collection[str]:
        """Names of blocks with workers that are, or were, there.

        Raises
        ------
        ExecutorError
            The process that brings tasks to workers is gone: nothing would ever come back.
        """
        process = self._executor.interchange_proc
        try:
            if process.poll() is None:
                return set(self._executor.command_client.run("CONNECTED_BLOCKS", timeout_s=_ANSWER))
        except (CommandClientBadError, CommandClientTimeoutError):
            process.kill()
        raise self._ended()

    def _ended(self) -> ExecutorError:
        code = self._executor.interchange_proc.wait()
        return ExecutorError(
            "Parsl's interchange, a process on this machine, has ended or did not answer "
            f"(exit code {code}).",
            remedy="Run the same command again; finished fits are kept. If it happens again, the "
            "login node may limit the memory or time of processes.",
        )

    def close(self) -> None:
        """End everything on this machine."""
        with suppress(Exception):  # whatever remains ends with this process
            # Tasks that the interchange did not take would be waited for.
            self._executor.outgoing_q.zmq_socket.linger = 0
        with suppress(Exception):
            self._executor.shutdown()


def activation() -> str:
    """A shell line that puts the programs of this Python's environment first."""
    return f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'


def _address(interface: str) -> str:
    try:
        return str(address_by_interface(interface))
    except OSError as error:
        raise ExecutorError(
            f"There is no network interface {interface!r} with an address here: {error.strerror}.",
            remedy="Correct `executor.cluster.interface`; `ip -brief address` lists them.",
        ) from error
