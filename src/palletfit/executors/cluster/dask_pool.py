"""Workers of Dask.distributed, in jobs as dask-jobqueue writes them."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from palletfit.config import ClusterSettings
from palletfit.errors import ExecutorError
from palletfit.executors.cluster import isolated, slurm
from palletfit.executors.cluster.pool import BlockLost

#: Seconds without its scheduler after which a worker ends.
_DEATH = 60
#: Seconds that fetching a result may take.
_FETCH = 60.0
#: No task is sent to a worker that is busy, or again unless this program sends it.
_SETTINGS = {
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 0,
}
#: The job's name in dask-jobqueue's script, which each block replaces.
_DUMMY = "dummy-name"


class DaskPool:
    """Dask's :class:`~palletfit.executors.cluster.pool.Pool`, whose scheduler is this process.

    Parameters
    ----------
    cluster
        The jobs; each has one node.
    folder
        For scripts, keys and logs.

    Raises
    ------
    ExecutorError
        There is no such network interface.
    """

    def __init__(self, cluster: ClusterSettings, folder: Path) -> None:
        # dask-jobqueue writes a commented file of its settings there when it is imported.
        os.environ.setdefault("DASK_CONFIG", str(folder / "dask"))
        import dask
        from dask_jobqueue import SLURMCluster
        from distributed import Client

        for name in ("distributed", "dask_jobqueue"):  # they log to the terminal
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.blocks = cluster.max_blocks * cluster.nodes_per_block
        self.workers_per_block = workers = cluster.workers_per_node
        self._folder, self._count = folder, 0
        for name in ("scripts", "keys"):
            (folder / name).mkdir(mode=0o700)
        dask.config.set(_SETTINGS)
        options = list(cluster.options)
        if cluster.gpus_per_node:
            options.append(f"--gpus-per-node={cluster.gpus_per_node}")
        try:
            self._cluster = SLURMCluster(
                n_workers=0,
                queue=cluster.partition,
                account=cluster.account,
                walltime=cluster.walltime,
                cores=workers,
                processes=workers,
                job_cpu=workers * cluster.cores_per_worker,
                memory=f"{cluster.memory_gb or 1}GiB",
                job_mem=f"{cluster.memory_gb}G" if cluster.memory_gb else None,
                job_directives_skip=[] if cluster.memory_gb else ["--mem="],
                job_name=_DUMMY,
                job_extra_directives=["--nodes=1", *options],
                job_script_prologue=list(cluster.setup),
                python=shlex.quote(sys.executable),
                # Fits run in other processes than the workers; Slurm limits their memory.
                worker_extra_args=[
                    *("--memory-limit", "0"),
                    *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
                ],
                death_timeout=_DEATH,
                log_directory=str(folder / "scripts"),
                interface=cluster.interface,
                scheduler_options={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                # Nobody else on the cluster's network may send tasks, or read them.
                security=_security(folder / "keys"),
                silence_logs=logging.CRITICAL,
            )
        except ValueError as error:
            if cluster.interface is None or cluster.interface not in str(error):
                raise
            raise ExecutorError(
                f"There is no network interface {cluster.interface!r} here: {error}",
                remedy="Correct `executor.cluster.interface`; `ip -brief address` lists them.",
            ) from error
        try:
            self._client = Client(self._cluster, set_as_default=False)
        except BaseException:
            self._cluster.close()
            raise

    def start_block(self) -> tuple[str, str]:
        """Submit a block; see :class:`~palletfit.executors.cluster.pool.Pool`.

        Raises
        ------
        ExecutorError
            With the words of sbatch.
        """
        name = f"palletfit{self._count}"
        self._count += 1
        script = self._folder / "scripts" / f"{name}.sh"
        script.write_text(self._cluster.job_script().replace(_DUMMY, name))
        return name, slurm.submit(script)

    def send(
        self, content: bytes, workspace: str, settings: Mapping[str, Any]
    ) -> Future[dict[str, Any]]:
        """Let a worker call :func:`palletfit.executors.cluster.isolated.call`."""
        future: Future[dict[str, Any]] = Future()
        arguments = (content, workspace, dict(settings))
        dask_future = self._client.submit(isolated.call, *arguments, pure=False, retries=0)

        def take(answer: Any) -> None:
            from distributed import KilledWorker

            try:
                if answer.cancelled():  # it would never have a result
                    raise CancelledError
                future.set_result(answer.result(timeout=_FETCH))
            except (KilledWorker, TimeoutError) as error:
                future.set_exception(BlockLost(str(error)))
            except BaseException as error:  # noqa: BLE001  cancelled ones, too
                future.set_exception(error)

        dask_future.add_done_callback(take)
        return future

    def connected(self) -> Collection[str]:
        """Names of blocks with workers that are there."""
        names = [str(worker.name) for worker in list(self._cluster.scheduler.workers.values())]
        return {name.partition("-")[0] for name in names}

    def close(self) -> None:
        """End everything on this machine."""
        for part in (self._client, self._cluster):
            with suppress(Exception):  # whatever remains ends with this process
                part.close(timeout=10)


def _security(folder: Path) -> Any:
    """Make keys for one run, in files that only this user may read."""
    from distributed import Security

    generated = Security.temporary().get_tls_config_for_role("worker")
    files = {}
    for name in ("ca_file", "cert", "key"):
        path = folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_text(generated[name])
        files[name] = str(path)
    roles = {
        f"tls_{role}_{name}": files[name]
        for role in ("client", "scheduler", "worker")
        for name in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=files["ca_file"], **roles)
