"""Executors, which run fits: each is a ``concurrent.futures.Executor``.

Physics does not know this package, and this package does not know physics.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.config import ExecutorSettings
from palletfit.errors import ExecutorError
from palletfit.executors.local import LocalExecutor, thread_limits
from palletfit.runs.faults import DeadlineExceeded, WorkerDied
from palletfit.runs.ledger import Ledger

if TYPE_CHECKING:
    from palletfit.executors.queue import TaskQueue

__all__ = [
    "DeadlineExceeded",
    "LocalExecutor",
    "WorkerDied",
    "make_executor",
    "open_ledger",
    "thread_limits",
]


def open_ledger(settings: ExecutorSettings, path: Path) -> Ledger | None:
    """Open the ledger of tasks in flight, for executors whose tasks outlive this program.

    Raises
    ------
    ConfigError
        They need an endpoint, and none is named.
    """
    if settings.kind != "globus-compute":
        return None
    settings.require_endpoint()
    return Ledger(path, str(settings.endpoint))


def make_executor(
    settings: ExecutorSettings,
    *,
    cores: int,
    ledger: Ledger | None = None,
    collect: bool = True,
    backend: str = "numpy",
) -> LocalExecutor | TaskQueue[Any]:
    """Make the executor that the configuration asks for.

    Parameters
    ----------
    settings
        Kind, number of workers, deadline of one task in seconds, and more.
    cores
        Cores that may be used on this machine.
    ledger
        From :func:`open_ledger`.
    collect
        Whether this process waits for the results.
    backend
        The fits' backend, whose device the preflight reports.

    Raises
    ------
    ExecutorError
        Fits cannot run there.
    """
    if settings.kind == "local":
        workers = settings.workers or cores
        threads = max(1, cores // workers)
        return LocalExecutor(workers=workers, threads=threads, deadline=settings.deadline)
    if settings.kind in ("parsl", "dask"):
        return _make_cluster_executor(settings)
    if ledger is None:
        raise ValueError("a remote executor needs a ledger")
    return _make_globus_executor(settings, ledger, collect=collect, backend=backend)


def _make_globus_executor(
    settings: ExecutorSettings, ledger: Ledger, *, collect: bool, backend: str
) -> TaskQueue[Any]:
    from palletfit.executors.queue import TaskQueue

    try:
        from palletfit.executors.globus.service import Service
        from palletfit.executors.globus.transport import GlobusTransport
    except ModuleNotFoundError as error:
        raise _not_installed(
            settings, error, "Install the environment of envs/workflow.txt."
        ) from error
    service = Service(str(settings.endpoint), settings.endpoint_config)
    transport = GlobusTransport(service, ledger, settings, collect=collect, backend=backend)
    return TaskQueue(transport, settings)


def _make_cluster_executor(settings: ExecutorSettings) -> TaskQueue[Any]:
    from palletfit.executors.cluster.transport import PoolTransport
    from palletfit.executors.queue import TaskQueue

    try:
        if settings.kind == "parsl":
            from palletfit.executors.cluster.parsl_pool import ParslPool

            transport = PoolTransport(ParslPool, settings)
        else:
            from palletfit.executors.cluster.dask_pool import DaskPool

            transport = PoolTransport(DaskPool, settings)
    except ModuleNotFoundError as error:
        remedy = "Say `make clusters`, which installs envs/clusters.txt."
        raise _not_installed(settings, error, remedy) from error
    return TaskQueue(transport, settings)


def _not_installed(
    settings: ExecutorSettings, error: ModuleNotFoundError, remedy: str
) -> ExecutorError:
    return ExecutorError(
        f"The package {error.name} is not installed, which `executor.kind: {settings.kind}` needs.",
        remedy=remedy,
    )
