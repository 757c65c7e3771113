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
from parsl.executors.high_throughput.errors import ManagerLost
from parsl.executors.high_throughput.errors import WorkerLost as ParslWorkerLost
from parsl.launchers import SingleNodeLauncher, SrunLauncher
from parsl.providers import SlurmProvider
from parsl.providers.errors import SubmitException

from palletfit import isolated
from palletfit.config import ClusterSettings
from palletfit.errors import ExecutorError
from palletfit.executors import slurm
from palletfit.executors.cluster import BlockLost, WorkerLost

#: Seconds between signs of life, and without any after which a node is given up. Parsl's own are
#: 30 and 120: that is how long a run would wait for the fits of a block that was cancelled.
_HEARTBEAT, _SILENCE = 5, 30
#: Parsl starts this program by its name, and lets it live on when the client is killed.
_INTERCHANGE = """
import os, runpy, signal, sys
from palletfit.processes import end_with
signal.signal(signal.SIGINT, signal.SIG_IGN)
end_with(int(sys.argv.pop(1)))
runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")
"""


class ParslPool:
    """A :class:`~palletfit.executors.cluster.Pool` of Parsl's.

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
        self._provider = SlurmProvider(
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
            cmd_timeout=60,
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
        self._count = 0

    def start_block(self) -> tuple[str, str]:
        """Submit a block; see :class:`~palletfit.executors.cluster.Pool`.

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
        """Let a worker call :func:`palletfit.isolated.call`."""
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
        self._executor.submit(isolated.call, {}, *arguments).add_done_callback(take)
        return made

    def connected(self) -> Collection[str]:
        """Names of blocks with workers that are, or were, there."""
        return set(self._executor.connected_blocks())

    def close(self) -> None:
        """End everything on this machine."""
        with suppress(Exception):  # whatever remains ends with this process
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
