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

#: Seconds between heartbeats, and without any after which a node is given up. Parsl's defaults are
#: 30 and 120, for which a run would wait for the fits of a block that was cancelled.
_HEARTBEAT, _SILENCE = 5, 30
#: Seconds in which the interchange has to answer; it does so in milliseconds.
_ANSWER = 60.0
#: Parsl's interchange, which ends with this process; Parsl's own program outlives a killed client.
_INTERCHANGE = """
import os, runpy, signal, sys
from palletfit.core.processes import end_with
signal.signal(signal.SIGINT, signal.SIG_IGN)
end_with(int(sys.argv.pop(1)))
runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")
"""


class _Provider(SlurmProvider):  # type: ignore[misc]
    """Submits without a shell, and fails with the errors that all pools have."""

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:
        del timeout
        command = cmd.split()
        if command[0] != "sbatch":  # asks whether accounting is there, which nobody needs
            return 1, "", ""
        process = slurm.run(command)
        return process.returncode, process.stdout, process.stderr


class ParslPool:
    """Parsl's :class:`~palletfit.executors.cluster.pool.Pool`.

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
        several_nodes = cluster.nodes_per_block > 1
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
            # Without it srun asks for one core.
            launcher=SrunLauncher(overrides=f"--cpus-per-task={cores}")
            if several_nodes
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
        # Without it, sending to an interchange that is gone would block for ever.
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
        future: Future[dict[str, Any]] = Future()

        def take(answer: Future[dict[str, Any]]) -> None:
            error = answer.exception()
            if error is None:
                future.set_result(answer.result())
            elif isinstance(error, ParslWorkerLost):
                future.set_exception(WorkerLost(str(error)))
            elif isinstance(error, ManagerLost):
                future.set_exception(BlockLost(str(error)))
            else:
                future.set_exception(error)

        arguments = (content, workspace, dict(settings))
        if self._executor.interchange_proc.poll() is not None:
            raise self._ended()
        answer = self._executor.submit(isolated.call, {}, *arguments)
        answer.add_done_callback(take)
        return future

    def connected(self) -> Collection[str]:
        """Names of blocks with workers that are, or were, there.

        Raises
        ------
        ExecutorError
            The process that brings tasks to workers is gone, and no answer would come back.
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
            # Otherwise it waits for the interchange to take what was sent.
            self._executor.outgoing_q.zmq_socket.linger = 0
        with suppress(Exception):
            self._executor.shutdown()


def activation() -> str:
    """Make a shell line that puts the programs of this Python's environment first."""
    return f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'


def _address(interface: str) -> str:
    try:
        return str(address_by_interface(interface))
    except OSError as error:
        raise ExecutorError(
            f"There is no network interface {interface!r} with an address here: {error.strerror}.",
            remedy="Correct `executor.cluster.interface`; `ip -brief address` lists them.",
        ) from error
