"""The pools of workers that Parsl and Dask offer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any, Protocol


class WorkerLost(Exception):  # noqa: N818  what happened
    """Raised by a pool's future whose worker died while its block went on."""


class BlockLost(Exception):  # noqa: N818
    """Raised by a pool's future whose block, or connection to it, ended."""


class Pool(Protocol):
    """Workers in blocks, each of which is one job.

    Attributes
    ----------
    blocks
        How many blocks there may be.
    workers_per_block
        Workers of each.
    """

    blocks: int
    workers_per_block: int

    def start_block(self) -> tuple[str, str]:
        """Submit one; returns its name and the identifier of its job."""

    def send(
        self, content: bytes, workspace: str, settings: Mapping[str, Any]
    ) -> Future[dict[str, Any]]:
        """Let a worker call :func:`palletfit.executors.cluster.isolated.call`."""

    def connected(self) -> Collection[str]:
        """Names of blocks with workers that are, or were, there."""

    def close(self) -> None:
        """End everything on this machine."""
