"""The models of ``config/config.yaml``: physics of fits, products, executors, plots."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, field_validator, model_validator

from palletfit.config.base import (
    Model,
    Name,
    Positive,
    ShellLine,
    SlurmName,
    SlurmOption,
    merge,
    parse,
    split_names,
)


class FitSettings(Model):
    """Physics of the hypothesis test: everything here is part of a record's key."""

    mu: Annotated[float, Field(ge=0)] = 1.0
    """Signal strength that is tested (the parameter of interest, POI)."""
    test_statistic: Literal["qtilde", "q", "q0"] = "qtilde"
    """`qtilde` (upper limits, mu-hat bounded from below), `q` (upper limits), `q0` (discovery)."""
    engine: Literal["batched", "reference"] = "batched"
    """`batched` fits many patches at once, exactly, with exact second derivatives; `reference` is
    pyhf itself, which also fits what the other does not support."""
    backend: Literal["numpy", "jax", "pytorch", "tensorflow"] = "numpy"
    """Array library: `numpy` for CPUs, `jax` for accelerators; `pytorch` and `tensorflow` are
    optional extras of the reference engine."""
    optimizer: Literal["scipy", "minuit"] = "scipy"
    """The optimizer that the reference engine tries first; suspicious fits go on to others."""
    normsys: Literal["code1", "code4"] = "code4"
    """Interpolation code of normsys modifiers."""
    histosys: Literal["code0", "code2", "code4p"] = "code4p"
    """Interpolation code of histosys modifiers."""
    measurement: str | None = None
    """Measurement of the workspace that is fitted; none: its first one."""
    starts: Annotated[list[Literal["suggested", "background", "free"]], Field(min_length=1)] = [
        "suggested"
    ]
    """Starting points that every fit of the reference engine tries: the workspace's own, the
    background-only fit, the free fit. The lowest minimum counts; more starts cost time and find
    local minima. The batched engine always tries all of them."""
    edm_tolerance: Positive = 1e-5
    """Largest estimated distance to the minimum, in units of the NLL, at which a fit is trusted."""
    nll_tolerance: Positive = 1e-5
    """Largest amount, in units of the NLL, by which a nested fit may lie below its parent."""
    escalate: bool = True
    """Try other optimizers and starts on suspicious fits of the reference engine."""

    @model_validator(mode="after")
    def _backend_of_engine(self) -> FitSettings:
        if self.engine == "batched" and self.backend not in ("numpy", "jax"):
            raise ValueError(
                f"backend {self.backend} needs engine reference (batched runs on numpy and jax)"
            )
        return self


class DiagnosticsSettings(Model):
    """What is said about the fits of single patches."""

    patches: list[str] = []
    """Shell patterns of the patches; none: of each analysis the one whose median expected CLs is
    nearest to exclusion, in standard deviations."""
    impacts: bool = True
    """Whether the impacts of parameters on mu-hat are computed: four fits for each parameter."""
    parameters: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Shell patterns of the parameters whose impacts are computed. The name of a parameter with
    one component a bin means all of them."""


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


class DownloadSettings(Model):
    """How pallets and published tables are fetched, and what is accepted."""

    cache: Path | None = None
    """Folder that is searched before the network: `pallets/ARCHIVE` and `published/ANALYSIS/FILE`.
    Fetched files are kept there, so that compute nodes without internet can use it."""
    offline: bool = False
    """Never use the network."""
    allowed_hosts: list[str] = ["doi.org", "www.hepdata.net", "hepdata.net"]
    """Hosts that may be asked, redirects included."""
    doi_resolver: str = "https://doi.org/"
    """Address that a DOI is appended to."""
    timeout: Positive = 30.0
    """Seconds without an answer or without data after which an attempt is given up."""
    retries: Annotated[int, Field(ge=0)] = 4
    """Further attempts after a time-out, a lost connection, or an answer of 429 or 5xx."""
    backoff: Annotated[float, Field(ge=0)] = 1.0
    """Seconds before the first further attempt; doubled each time."""
    max_archive_bytes: Annotated[int, Field(gt=0)] = 512 * 1024**2
    """Largest download."""
    max_unpacked_bytes: Annotated[int, Field(gt=0)] = 4 * 1024**3
    """Largest sum of the sizes of an archive's members."""
    max_members: Annotated[int, Field(gt=0)] = 10_000
    """Largest number of an archive's members."""


class ContourSettings(Model):
    """How the exclusion contour is made from the CLs of the points."""

    confidence_level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """A point is excluded where CLs is below one minus this."""
    interpolation: Literal["linear", "cubic", "rbf"] = "rbf"
    """Interpolation of the significance between points: on triangles (`linear`, or `cubic` for
    Clough-Tocher), or thin-plate splines (`rbf`)."""
    bands: list[Literal[1, 2]] = [1]
    """Bands of the expected contour in standard deviations."""
    grid: Annotated[int, Field(ge=50, le=2000)] = 400
    """Points of the interpolation grid along each axis."""


class LimitSettings(Model):
    """Upper limits on the signal strength, at the confidence level of the contour."""

    tolerance: Annotated[float, Field(ge=1e-8, le=0.1)] = 1e-4
    """How well a limit is known, relative to it."""
    mu_max: Positive | None = None
    """Upper bound of the signal strength, in fits, too; none: the one of the measurement. No limit
    is searched for beyond it."""


class MuScanSettings(Model):
    """CLs against the signal strength, for chosen patches."""

    patches: list[str] = []
    """Shell patterns of the patches; none: of each analysis the one whose expected upper limit is
    nearest to one."""
    points: Annotated[int, Field(ge=3, le=1000)] = 41
    """Signal strengths, at equal distances."""
    range: (
        Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)] | None
    ) = None
    """First and last signal strength; none: from zero to somewhat beyond the largest of the
    patch's limits, but not beyond the bound of the measurement."""

    @model_validator(mode="after")
    def _range_rises(self) -> MuScanSettings:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError("range must rise, such as [0, 3]")
        return self


class BenchmarkSettings(Model):
    """What the target `benchmark` times."""

    repetitions: Annotated[int, Field(ge=1)] = 10
    """How often each executor fits all patches; finished repetitions are kept."""
    executors: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)] = {
        "configured": {},
        "one-worker": {"kind": "local", "workers": 1},
    }
    """Executors by a name of their own: what differs from `executor`, such as
    `{kind: parsl, cluster: {max_blocks: 4}}`. A local worker has one thread."""
    single_node: Name | None = None
    """Which of them stands beside all others as the time of a single node; none: the first of
    kind `local`."""
    patches: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Shell patterns of the patches that are fitted, of those of the analysis."""

    @model_validator(mode="after")
    def _single_node_exists(self) -> BenchmarkSettings:
        if self.single_node is not None and self.single_node not in self.executors:
            raise ValueError(
                f"single_node names {self.single_node}, which is not one of executors "
                f"({', '.join(self.executors)})"
            )
        return self


class PointSettings(Model):
    """How scans of points are cut into tasks, and what tables are accepted."""

    chunk: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Points of a task, and of one file of results. Another number makes all fits again."""
    max_points: Annotated[int, Field(gt=0)] = 10_000_000
    """Largest number of points."""
    max_table_bytes: Annotated[int, Field(gt=0)] = 8 * 1024**3
    """Largest table."""


class ToySettings(Model):
    """Pseudo-experiments ("toys"), the alternative to asymptotic formulae."""

    toys: Annotated[int, Field(ge=100, le=10**8)] = 10_000
    """Toys of each of both hypotheses; with `precision` the largest number of them."""
    precision: Annotated[float | None, Field(gt=0, lt=1)] = None
    """Absolute statistical uncertainty of the observed CLs at which no more toys are made; none:
    all of `toys` are."""
    toys_per_task: Annotated[int, Field(ge=1, le=10**6)] = 2048
    """Toys of each hypothesis that one task makes, best a multiple of 256. It does not change a
    result: toys are the same however they are split."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Seed of the random numbers."""


class ToyTargetSettings(ToySettings):
    """Pseudo-experiments ("toys") of chosen patches, what the target `toys` makes."""

    patches: list[str] = []
    """Shell patterns of the patches; none: of each analysis the one whose median expected CLs,
    from asymptotic formulae, is nearest to exclusion."""


class FurtherProductSettings(Model):
    """A product that does not come with palletfit, by its name."""

    folder: Path
    """Folder with its code, which has the product's name; docs/adding_a_product.md says what is in
    it."""
    patches: list[str] = []
    """Shell patterns of the patches, where the product is made for chosen ones; none: the product
    chooses."""
    settings: dict[str, Any] = {}
    """The product's own settings; part of the key of its records."""


class LiveSettings(Model):
    """The page that shows a run while fits are made, `results/ANALYSIS/live.html`."""

    enabled: bool = True
    """Whether there is one."""
    interval: Annotated[float, Field(ge=0.2)] = 5.0
    """Seconds between two versions of the page; more where drawing it would take over 1% of the
    time."""


class Settings(Model):
    """The whole of `config/config.yaml`."""

    analyses: str | list[str] = "demo"
    """Names of files in `config/analyses`, or paths of such files; one or a list (a
    comma-separated string works on the command line)."""
    on_failure: Literal["fail", "continue"] = "fail"
    """After all patches were tried: `fail` ends with an error that names the failed ones,
    `continue` goes on and shows them as failed in every table and plot."""
    fit: FitSettings = FitSettings()
    """Physics of the hypothesis tests."""
    executor: ExecutorSettings = ExecutorSettings()
    """Where and how fits run."""
    download: DownloadSettings = DownloadSettings()
    """How pallets and published tables are fetched."""
    contour: ContourSettings = ContourSettings()
    """How exclusion contours are made."""
    limits: LimitSettings = LimitSettings()
    """How upper limits are found."""
    mu_scan: MuScanSettings = MuScanSettings()
    """For which patches CLs is shown against the signal strength, and where."""
    diagnostics: DiagnosticsSettings = DiagnosticsSettings()
    """Which fits pulls, impacts, correlations and yields are shown of."""
    toys: ToyTargetSettings = ToyTargetSettings()
    """For which patches pseudo-experiments are made, and how many."""
    products: dict[Name, FurtherProductSettings] = {}
    """Products of your own, which have targets of their names."""
    benchmark: BenchmarkSettings = BenchmarkSettings()
    """What the target `benchmark` times."""

    @model_validator(mode="after")
    def _benchmark_executors(self) -> Settings:
        for name in self.benchmark.executors:
            self.benchmark_executor(name)
        return self

    def benchmark_executor(self, name: str) -> ExecutorSettings:
        """Settings of one of the executors that are timed.

        Raises
        ------
        ConfigError
            They are wrong.
        """
        inherited = self.executor.model_dump(mode="json", exclude_unset=True)
        # Patches are not split over jobs here: a repetition is one job.
        inherited.pop("parts", None)
        merged = merge(inherited, self.benchmark.executors[name])
        where = f"the configuration, below benchmark.executors.{name}"
        return parse(ExecutorSettings, merged, file=where)

    points: PointSettings = PointSettings()
    """How scans of points are cut into tasks."""
    live: LiveSettings = LiveSettings()
    """The page that shows a run while fits are made."""

    @field_validator("analyses")
    @classmethod
    def _named(cls, value: str | list[str]) -> str | list[str]:
        names = split_names(value)
        if not names or not all(names):
            raise ValueError("must name at least one analysis, without empty names")
        return value

    def section(self, name: str) -> Any:
        """Return the section of a product, of palletfit's or of the user's own."""
        return self.products[name] if name in self.products else getattr(self, name)

    @property
    def analysis_names(self) -> list[str]:
        """The selected analyses as a list, in the given order, each once."""
        return list(dict.fromkeys(split_names(self.analyses)))


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
