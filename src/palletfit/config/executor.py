"""Settings of executors: where and how fits run."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, field_validator, model_validator

from palletfit.config.base import (
    Model,
    Positive,
    ShellLine,
    SlurmName,
    SlurmOption,
)


class ClusterSettings(Model):
    """Jobs of a Slurm cluster, for kinds `parsl` and `dask`. A block is one job."""

    partition: SlurmName | None = None
    """Partition; none: the cluster's default."""
    account: SlurmName | None = None
    """Account that is charged; none: your default."""
    walltime: Annotated[str, Field(pattern=r"^[0-9]{1,3}:[0-5][0-9]:[0-5][0-9]$")] = "01:00:00"
    """How long a block may last, as HH:MM:SS. What is cut off by its end is fitted again in the
    next block."""
    nodes_per_block: Annotated[int, Field(ge=1)] = 1
    """Nodes of a block. With `dask` every node is a block of its own, so that there are up to
    `max_blocks` times so many."""
    max_blocks: Annotated[int, Field(ge=1)] = 1
    """Blocks at a time; there are never more than the open patches need."""
    workers_per_node: Annotated[int, Field(ge=1)] = 1
    """Workers on a node, each with one task at a time."""
    cores_per_worker: Annotated[int, Field(ge=1)] = 1
    """Cores, and threads, of a worker."""
    memory_gb: Annotated[int | None, Field(ge=1)] = None
    """Memory on each node, in GB; none: the cluster's default."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """GPUs on each node; every worker gets one of them, in turn."""
    options: list[SlurmOption] = []
    """Further options of sbatch, such as `--qos=short`."""
    setup: list[ShellLine] = []
    """Shell lines that run before the workers of a block, such as `module load cuda`. The
    environment of this Python is activated after them: login and compute nodes share it."""
    interface: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_.:@-]+$")] = None
    """Network interface of the login node, and with `dask` of the compute nodes too, over which
    workers connect, such as `ib0`; none: found out."""
    folder: Path | None = None
    """Folder that login and compute nodes share, for the keys and logs of a run while it lasts;
    none: `palletfit/runs` in your cache folder (`~/.cache`)."""

    @field_validator("walltime")
    @classmethod
    def _at_least_a_minute(cls, value: str) -> str:
        if _seconds(value) < 60:
            raise ValueError("must be a minute at least")
        return value

    @property
    def workers_per_block(self) -> int:
        """Workers of one block."""
        return self.nodes_per_block * self.workers_per_node


class ExecutorSettings(Model):
    """Where and how fits run; nothing here changes a result."""

    kind: Literal["local", "globus-compute", "parsl", "dask"] = "local"
    """`local`: worker processes on this machine; `globus-compute`: an endpoint of Globus
    Compute; `parsl` and `dask`: jobs of the Slurm cluster on whose login node this runs."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Workers that fit side by side; 0: one process for each core that Snakemake may use, or for
    an endpoint, which has its own, four. With `parsl` and `dask` it is `cluster` that says it."""
    parts: Annotated[int, Field(ge=1)] = 1
    """Snakemake jobs that share the patches of a region; each fits with `kind: local`. More than
    one is for profiles whose jobs Snakemake itself sends to a cluster, such as `slurm`."""
    patches_per_task: Annotated[int, Field(ge=0)] = 0
    """Patches that are fitted together; 0: one with engine `reference`, and with `batched` up to
    32, so that every worker gets a few tasks."""
    deadline: Positive = 1800.0
    """Seconds after which a task is ended. Its patches are then fitted one by one, and one that
    exceeds the deadline alone is recorded as failed. For an endpoint the time counts from sending,
    so that waiting in the site's queue is part of it."""
    retries: Annotated[int, Field(ge=0)] = 1
    """How often a patch is sent again after its worker died or its task was lost (never after an
    error of the fit)."""
    endpoint: Annotated[UUID | None, Field(validate_default=True)] = None
    """Identifier of the endpoint, as `globus-compute-endpoint list` prints it; none: what the
    environment variable `PALLETFIT_ENDPOINT` says."""
    endpoint_config: dict[str, str | int | float | bool] = {}
    """Values for the endpoint's template, such as `partition`, `account` and `walltime`. Whole
    numbers and true or false are taken as such even in quotes, which do not survive `--config`; an
    account that is a number is written as `'"123"'`."""
    preflight: bool = True
    """Before the first task: is the endpoint online, do its workers have the same versions, and
    does a tiny fit give the same there as here?"""
    patience: Positive = 600.0
    """Seconds for which a service that does not answer, or is busy, is asked again."""
    cluster: ClusterSettings = ClusterSettings()
    """Jobs of the Slurm cluster, for `parsl` and `dask`."""

    @field_validator("endpoint_config", mode="before")
    @classmethod
    def _types_of_texts(cls, values: Any) -> Any:
        # All that Snakemake's --config gives inside a mapping is text.
        return {k: _typed(v) for k, v in values.items()} if isinstance(values, dict) else values

    @field_validator("endpoint", mode="before")
    @classmethod
    def _endpoint_of_environment(cls, value: Any) -> Any:
        return value or os.environ.get("PALLETFIT_ENDPOINT")

    @model_validator(mode="after")
    def _parts_of_kind(self) -> ExecutorSettings:
        if self.parts > 1 and self.kind != "local":
            raise ValueError(
                f"parts above 1 need kind local: with {self.kind} one job sends all patches"
            )
        return self

    @model_validator(mode="after")
    def _deadline_within_walltime(self) -> ExecutorSettings:
        walltime = self.cluster.walltime
        if self.kind in ("parsl", "dask") and self.deadline > _seconds(walltime):
            raise ValueError(
                f"deadline must not be above cluster.walltime ({walltime} is "
                f"{_seconds(walltime)} s): blocks would end before a hanging fit does"
            )
        return self

    @model_validator(mode="after")
    def _endpoint_of_kind(self) -> ExecutorSettings:
        if self.kind == "globus-compute" and self.endpoint is None:
            raise ValueError(
                "kind globus-compute needs an endpoint: set it, or PALLETFIT_ENDPOINT, to the "
                "identifier that `globus-compute-endpoint list` prints on the machine where it runs"
            )
        return self


def _seconds(walltime: str) -> int:
    hours, minutes, seconds = map(int, walltime.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def _typed(value: Any) -> Any:
    """What a text means on a command line."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value):
        return int(value)
    quoted = re.fullmatch(r'"(.*)"', value)
    return quoted.group(1) if quoted else {"true": True, "false": False}.get(value, value)
