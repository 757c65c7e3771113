"""Settings of executors."""

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
from palletfit.errors import ConfigError


class ClusterSettings(Model):
    """Jobs of a Slurm cluster, for kinds `parsl` and `dask`. A block is one job."""

    partition: SlurmName | None = None
    """Partition; none: the cluster's default."""
    account: SlurmName | None = None
    """Account that is charged; none: your default."""
    walltime: Annotated[str, Field(pattern=r"^[0-9]{1,3}:[0-5][0-9]:[0-5][0-9]$")] = "01:00:00"
    """Time limit of a block, as HH:MM:SS. Fits that its end interrupts are repeated in the next
    block."""
    nodes_per_block: Annotated[int, Field(ge=1)] = 1
    """Nodes of a block. With `dask`, each node is a separate job: there are up to `max_blocks`
    times as many jobs."""
    max_blocks: Annotated[int, Field(ge=1)] = 1
    """Largest number of blocks at a time. There are not more than the open patches need."""
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
    """Network interface over which workers connect, such as `ib0`: that of the login node, and
    with `dask` also of the compute nodes; none: it is detected."""
    folder: Path | None = None
    """Folder that login and compute nodes share, for keys and logs during a run; none:
    `palletfit/runs` in your cache folder (`~/.cache`)."""

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
    """Execution of fits. These settings do not change results."""

    kind: Literal["local", "globus-compute", "parsl", "dask"] = "local"
    """`local`: worker processes on this machine; `globus-compute`: an endpoint of Globus
    Compute; `parsl` and `dask`: jobs of the Slurm cluster on whose login node this runs."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Workers that fit in parallel; 0: one process for each core that Snakemake may use, or four
    for an endpoint, which has its own workers. With `parsl` and `dask`, `cluster` sets them."""
    parts: Annotated[int, Field(ge=1)] = 1
    """Snakemake jobs that share the patches of a region; each fits with `kind: local`. More than
    one is for profiles with which Snakemake sends jobs to a cluster, such as `slurm`."""
    patches_per_task: Annotated[int, Field(ge=0)] = 0
    """Patches that are fitted together; 0: one with engine `reference`, and up to 32 with
    `batched`, so that every worker gets a few tasks."""
    deadline: Positive = 1800.0
    """Seconds after which a task is ended. Its patches are then fitted one by one. A patch that
    exceeds the deadline alone is recorded as failed. For an endpoint, the time includes waiting in
    the site's queue."""
    retries: Annotated[int, Field(ge=0)] = 1
    """Further attempts of a patch after its worker died, its task was lost, or the answer was
    refused. A fit that ended with an error is not repeated."""
    endpoint: Annotated[UUID | None, Field(validate_default=True)] = None
    """Identifier of the endpoint, as `globus-compute-endpoint list` prints it; none: the value of
    the environment variable `PALLETFIT_ENDPOINT`."""
    endpoint_config: dict[str, str | int | float | bool] = {}
    """Values for the endpoint's template, such as `partition`, `account` and `walltime`. A text
    that is a whole number, true or false is converted, because `--config` drops quotes. An account
    that is a number is written as `'"123"'`."""
    preflight: bool = True
    """Check before the first task that the endpoint is online, that its workers have the same
    versions, and that a tiny fit gives the same result there."""
    patience: Positive = 600.0
    """Seconds during which requests to a service that is busy, or does not answer, are repeated."""
    cluster: ClusterSettings = ClusterSettings()
    """Jobs of the Slurm cluster, for `parsl` and `dask`."""

    @field_validator("endpoint_config", mode="before")
    @classmethod
    def _types_of_texts(cls, values: Any) -> Any:
        # Snakemake's --config gives text for all values of a mapping.
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

    @property
    def lacks_endpoint(self) -> bool:
        """Say that fits go to an endpoint which is not named; a dry-run does not need it."""
        return self.kind == "globus-compute" and self.endpoint is None

    def require_endpoint(self) -> None:
        """Refuse fits on an endpoint that is not named.

        Raises
        ------
        ConfigError
            Says how to get and name one.
        """
        if self.lacks_endpoint:
            raise ConfigError(
                "There is no endpoint to fit on: executor.kind is globus-compute, and "
                "executor.endpoint is not set.",
                remedy="Set PALLETFIT_ENDPOINT (or executor.endpoint) to the identifier that "
                "`globus-compute-endpoint list` prints on the login node. There "
                "`make endpoint SITE=expanse`, or another folder of profiles/, sets one up; "
                "docs/remote.md is the guide.",
            )


def _seconds(walltime: str) -> int:
    hours, minutes, seconds = map(int, walltime.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def _typed(value: Any) -> Any:
    """Convert a text of a command line to the value that it stands for."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value):
        return int(value)
    quoted = re.fullmatch(r'"(.*)"', value)
    return quoted.group(1) if quoted else {"true": True, "false": False}.get(value, value)
