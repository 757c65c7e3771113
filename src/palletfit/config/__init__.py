"""What a user may configure, with defaults, as data models.

These models are the single source: ``config/schema.json``, ``config/analysis.schema.json`` and
the configuration reference in ``docs/configuration.md`` are generated from them (see
:mod:`palletfit.config.schema`), and the tests hold them together.
"""

from __future__ import annotations

import difflib
import os
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from uuid import UUID

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from palletfit.config.expressions import require_names
from palletfit.errors import ConfigError

#: One regular expression for analysis and region names, shared with Snakemake's wildcards.
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"

#: Keys of a pallet of which exactly one is given.
_SOURCES = frozenset({"doi", "url", "path", "builtin"})

_SIGMAS = ("minus2", "minus1", "0", "plus1", "plus2")
_WITH_TOYS = ("CLs_obs", "CLsb_obs", "CLb_obs", *(f"CLs_exp_{name}" for name in _SIGMAS))
#: Columns that labels stand beside, of ``results.csv``, ``limits.csv``, ``diagnostics.csv`` and
#: ``toys.csv``.
RESULT_COLUMNS = frozenset(
    {
        *("patch", "region", "status", "CLs_obs", "mu_hat", "fit_time", "remark"),
        *(f"CLs_exp_{name}" for name in _SIGMAS),
        *("mu_obs", "state_obs", "mu_max", "cross_section_pb", "cross_section_error_pb"),
        *(f"{kind}_exp_{name}" for kind in ("mu", "state") for name in _SIGMAS),
        *("upper_limit_obs_pb", *(f"upper_limit_exp_{name}_pb" for name in _SIGMAS)),
        *("mu_hat_error", "p0", "significance", "p0_expected", "significance_expected"),
        "leading_impacts",
        *("toys", "q_obs", "CLs_obs_low", "CLs_obs_high", "failed_tested", "failed_alternative"),
        *(f"{name}{end}" for name in _WITH_TOYS for end in ("", "_error", "_asymptotic")),
    }
)

#: The same of the table of a scan of points.
POINT_COLUMNS = RESULT_COLUMNS | {*("name", "edm", "starts_agreed", "engine", "reason", "retry")}

Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[float, Field(gt=0)]
#: HEPData's validator allows no longer one.
Keyword = Annotated[str, Field(min_length=1, max_length=128)]
#: What stands in a submit script: no line may become two.
SlurmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,@+-]*$")]
SlurmOption = Annotated[str, Field(pattern=r"^--?[A-Za-z][^\x00-\x1f]*$")]
ShellLine = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0a-\x1f]+$")]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class FitSettings(_Model):
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


class DiagnosticsSettings(_Model):
    """What is said about the fits of single patches."""

    patches: list[str] = []
    """Shell patterns of the patches; none: of each analysis the one whose median expected CLs is
    nearest to exclusion, in standard deviations."""
    impacts: bool = True
    """Whether the impacts of parameters on mu-hat are computed: four fits for each parameter."""
    parameters: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Shell patterns of the parameters whose impacts are computed. The name of a parameter with
    one component a bin means all of them."""


class ClusterSettings(_Model):
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


class ExecutorSettings(_Model):
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


class DownloadSettings(_Model):
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


class ContourSettings(_Model):
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


class LimitSettings(_Model):
    """Upper limits on the signal strength, at the confidence level of the contour."""

    tolerance: Annotated[float, Field(ge=1e-8, le=0.1)] = 1e-4
    """How well a limit is known, relative to it."""
    mu_max: Positive | None = None
    """Upper bound of the signal strength, in fits, too; none: the one of the measurement. No limit
    is searched for beyond it."""


class MuScanSettings(_Model):
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


class BenchmarkSettings(_Model):
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


class PointSettings(_Model):
    """How scans of points are cut into tasks, and what tables are accepted."""

    chunk: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Points of a task, and of one file of results. Another number makes all fits again."""
    max_points: Annotated[int, Field(gt=0)] = 10_000_000
    """Largest number of points."""
    max_table_bytes: Annotated[int, Field(gt=0)] = 8 * 1024**3
    """Largest table."""


class ToySettings(_Model):
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


class LiveSettings(_Model):
    """The page that shows a run while fits are made, `results/ANALYSIS/live.html`."""

    enabled: bool = True
    """Whether there is one."""
    interval: Annotated[float, Field(ge=0.2)] = 5.0
    """Seconds between two versions of the page; more where drawing it would take over 1% of the
    time."""


class Settings(_Model):
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
        merged = _merge(inherited, self.benchmark.executors[name])
        where = f"the configuration, below benchmark.executors.{name}"
        return parse(ExecutorSettings, merged, file=where)

    points: PointSettings = PointSettings()
    """How scans of points are cut into tasks."""
    live: LiveSettings = LiveSettings()
    """The page that shows a run while fits are made."""

    @field_validator("analyses")
    @classmethod
    def _named(cls, value: str | list[str]) -> str | list[str]:
        names = _split(value)
        if not names or not all(names):
            raise ValueError("must name at least one analysis, without empty names")
        return value

    @property
    def analysis_names(self) -> list[str]:
        """The selected analyses as a list, in the given order, each once."""
        return list(dict.fromkeys(_split(self.analyses)))


class Pallet(_Model):
    """Where a pallet comes from: exactly one of `doi`, `url`, `path`, `builtin`."""

    doi: str | None = None
    """DOI of the HEPData *resource* (not of the record)."""
    url: str | None = None
    """Address of the archive."""
    path: Path | None = None
    """Local archive; relative paths start at the analysis file."""
    builtin: Literal["demo", "demo-hadronic"] | None = None
    """A pallet that palletfit makes itself."""
    archive: Name | None = None
    """File name of the archive in the download cache; none: the analysis' name."""
    sha256: dict[str, Sha256] = {}
    """Expected digests of files *inside* the archive (servers may re-pack archives)."""

    @model_validator(mode="after")
    def _one_source(self) -> Pallet:
        given = [key for key in ("doi", "url", "path", "builtin") if getattr(self, key) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none"
            raise ValueError(f"needs exactly one of doi, url, path, builtin, but has {found}")
        return self


class Region(_Model):
    """One sub-likelihood: a background-only workspace and its patchset."""

    workspace: str = ""
    """The background-only workspace inside the archive; the region of a combination has none."""
    patchset: str | None = None
    """The patchset inside the archive; none for a combination, or beside `points`."""
    known_failures: dict[str, str] = {}
    """Patches that cannot be fitted, with the reason: they are shown, and do not fail a run."""


class CombinationMember(_Model):
    """One likelihood of a combination, and what is different in it."""

    analysis: str
    """Name of a file in `config/analyses`, or path of such a file; relative paths start at the
    combination's file."""
    region: Name | None = None
    """Region of that analysis; none: the only one that it fits."""
    measurement: str | None = None
    """Measurement of its workspace; none: the first one."""
    labels: dict[str, str] = {}
    """Labels that it calls otherwise: its name to the one in `labels` of the combination."""
    channels: dict[str, str] = {}
    """Channels that are renamed: its name to the combination's."""
    without: list[str] = []
    """Channels that are left out, such as a control region that another member has in another
    form."""


class Correlation(_Model):
    """Which parameters of the members are one parameter of the combination."""

    by: Literal["name", "table"]
    """`name`: parameters of one name are one parameter; `table`: only what `table` says is one
    parameter, all others get the member's name as a prefix."""
    table: dict[str, Annotated[dict[Name, str], Field(min_length=1)]] = {}
    """Parameters of the combination: for each one its name in the members that have it. With
    `by: name` it joins parameters of different names."""
    apart: list[str] = []
    """With `by: name`: parameters that are not the same in spite of their name; they get the
    member's name as a prefix."""

    @model_validator(mode="after")
    def _consistent(self) -> Correlation:
        if self.by == "table" and self.apart:
            raise ValueError("apart needs by: name; with by: table all is apart but the table")
        if self.by == "table" and not self.table:
            raise ValueError("by: table needs a table")
        entries = [item for names in self.table.values() for item in names.items()]
        for member, name in entries:
            if entries.count((member, name)) > 1:
                raise ValueError(f"table names the parameter {name!r} of {member} twice")
            if name in self.apart:
                raise ValueError(f"{name!r} is in both table and apart")
        return self


class ParameterSettings(_Model):
    """Settings of a parameter of the combination, where its members disagree."""

    inits: list[float] | None = None
    """Start values."""
    bounds: list[Annotated[list[float], Field(min_length=2, max_length=2)]] | None = None
    """Lower and upper bounds."""
    auxdata: list[float] | None = None
    """Centre of the constraint."""
    sigmas: list[float] | None = None
    """Width of the constraint."""
    fixed: bool | None = None
    """Whether it is held constant."""


class Combination(_Model):
    """Likelihoods that are fitted at once, with one parameter of interest."""

    members: Annotated[dict[Name, CombinationMember], Field(min_length=2)]
    """The likelihoods; their names here are the prefixes of what is kept apart."""
    poi: str | None = None
    """Name of the parameter of interest, which is that of every member; none: its name in the
    first one."""
    correlate: Correlation
    """Which parameters are one."""
    parameters: dict[str, ParameterSettings] = {}
    """Settings of parameters, by their name in the combination."""
    shared_channels: list[str] = []
    """Channels that several members have, the same in all of them: they are taken once."""
    missing: Literal["drop", "keep"] = "drop"
    """Signal points that some members lack: `drop` leaves them out, `keep` fits them with the
    members that have them."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Largest difference between the values of a label at which two points are the same one."""

    @model_validator(mode="after")
    def _table_names_members(self) -> Combination:
        named = {member for names in self.correlate.table.values() for member in names}
        unknown = sorted(named - set(self.members))
        if unknown:
            raise ValueError(
                f"correlate.table names members that do not exist: {', '.join(unknown)} "
                f"(there are {', '.join(self.members)})"
            )
        return self


class Points(_Model):
    """A large scan, in place of patchsets: signal points of a table, or of a function of yours."""

    table: Path | None = None
    """CSV or Parquet file with one row a point: its name, its labels, and its expected events, a
    column `CHANNEL[BIN]` for each bin, counted from zero. Relative paths start at the analysis
    file."""
    function: Annotated[str | None, Field(pattern=r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$")] = None
    """`FILE.py:NAME` beside the analysis file, or `MODULE:NAME`: code of yours that gives the
    points from one number to another. It runs on the machine that runs Snakemake, never where
    fits run."""
    count: Annotated[int | None, Field(ge=1)] = None
    """Number of points that the function can give."""
    depends: list[Path] = []
    """Further files that the function reads or imports: when one changes it is asked again."""
    name: str = "name"
    """The table's column that identifies points."""
    sample: Annotated[str, Field(min_length=1)] = "signal"
    """Name of the signal's sample, whose yields are multiplied by the parameter of interest."""
    channels: Annotated[list[str] | None, Field(min_length=1)] = None
    """Channels that have signal; none: those that the table has columns of, or the function gives
    yields for."""
    uncertainties: dict[str, Annotated[float, Field(ge=0, lt=1)] | str] = {}
    """Relative uncertainties of all yields of a point (normsys), by name: a number, or the
    table's column that holds it. One that the background has, too, is correlated with it."""
    lumi: str | None = None
    """Name of the measurement's luminosity, if it multiplies the signal, too."""
    plot_bins: Annotated[int, Field(ge=2, le=200)] = 30
    """Bins along each axis of the planes in which the excluded fraction is drawn."""

    @model_validator(mode="after")
    def _one_source(self) -> Points:
        if (self.table is None) == (self.function is None):
            raise ValueError("needs exactly one of table and function")
        if self.function is not None and self.count is None:
            raise ValueError("needs count, the number of points that the function can give")
        if self.table is not None and (self.count is not None or self.depends):
            raise ValueError("count and depends are those of a function; a table has its rows")
        columns = [item for item in self.uncertainties.values() if isinstance(item, str)]
        if self.function is not None and columns:
            raise ValueError(
                f"uncertainties names columns of a table ({columns[0]!r}), but there is none: give "
                "numbers, or let the function give patch operations"
            )
        return self

    @property
    def function_file(self) -> Path | None:
        """The file of the function, if it is one of a file."""
        place = (self.function or "").partition(":")[0]
        return Path(place) if place.endswith(".py") else None

    @property
    def files(self) -> list[Path]:
        """All files that points depend on."""
        found = [self.table, self.function_file, *self.depends]
        return [path for path in found if path is not None]


class Forbidden(_Model):
    """The part of a plane that kinematics forbids."""

    y_above: str
    """Upper limit of y as an expression of x, such as `x - 125`."""
    label: str | None = None
    """What is written along the boundary."""


class PublishedCurve(_Model):
    """One published curve, as a HEPData table in CSV."""

    file: str
    """File name in the download cache, below `published/ANALYSIS/`."""
    url: str | None = None
    """Address of the table in CSV; none: only the cache is searched."""


class PublishedLimits(_Model):
    """Published observed upper limits of a plane's points, as a HEPData table in CSV.

    The columns of x and y are those of the contours.
    """

    file: str
    """File name in the download cache, below `published/ANALYSIS/`."""
    url: str | None = None
    """Address of the table in CSV; none: only the cache is searched."""
    value: int | str = 2
    """Column of the limit: number or header."""
    unit: Literal["pb", "fb", "mu"] = "pb"
    """What the limit is on: the cross section, in pb or fb, or the signal strength."""


class Published(_Model):
    """The experiment's own result for a plane."""

    observed: PublishedCurve | None = None
    """The observed contour."""
    expected: PublishedCurve | None = None
    """The expected contour."""
    upper_limits: PublishedLimits | None = None
    """The observed upper limits, with which the ones found are compared."""
    x: int | str = 0
    """Column of x in the tables: number or header."""
    y: int | str = 1
    """Column of y in the tables: number or header."""


class Plane(_Model):
    """One plane of the signal model in which a contour is drawn."""

    x: str
    """Expression of the patchset's labels for the horizontal axis."""
    y: str
    """Expression of the patchset's labels for the vertical axis."""
    x_title: str
    """Title of the horizontal axis, with its unit in brackets; `$...$` is mathematics."""
    y_title: str
    """Title of the vertical axis."""
    select: str | None = None
    """Condition on the labels (a pandas query) for points of this plane, such as `mn1 == 60`."""
    title: str | None = None
    """Further words for the plot's legend."""
    forbidden: Forbidden | None = None
    """The kinematically forbidden part."""
    published: Published = Published()
    """The experiment's own contours, which are overlaid."""


class Slice(_Model):
    """A line of signal points, along which upper limits are drawn."""

    x: str
    """Expression of the labels for the horizontal axis."""
    x_title: str
    """Title of the horizontal axis, with its unit in brackets."""
    select: str | None = None
    """Condition on the labels for the points of the line, such as `m2 == 0`."""
    title: str | None = None
    """Further words for the plot, such as `$m_2 = 0$`."""


class CrossSection(_Model):
    """Theory cross sections of the signal points: a table in CSV, beside the analysis file.

    With it upper limits are given in pb, too. Lines that begin with `#` are comments.
    """

    file: Path
    """The table; relative paths start at the analysis file."""
    columns: Annotated[dict[str, str], Field(min_length=1)]
    """The column of each label that the cross section depends on, by label, such as
    `{m1: "mass [GeV]"}`. Other labels do not matter."""
    value: str
    """Column of the cross section, of the whole process that the patches' yields stand for."""
    unit: Literal["pb", "fb"]
    """Unit of the cross section."""
    uncertainty: str | None = None
    """Column of its uncertainty (one standard deviation), if there is one."""
    uncertainty_in: Literal["unit", "percent"] = "unit"
    """Whether the uncertainty has the unit of the cross section, or is in per cent of it."""
    interpolate: str | None = None
    """A label along which the logarithm of the cross section is interpolated linearly between the
    rows of the table, never beyond them; none: the table has to have each point."""

    @model_validator(mode="after")
    def _interpolates_a_column(self) -> CrossSection:
        if self.interpolate is not None and self.interpolate not in self.columns:
            raise ValueError(
                f"interpolate names {self.interpolate!r}, but columns has {', '.join(self.columns)}"
            )
        return self


class HepdataKeywords(_Model):
    """Words by which HEPData finds the tables; they stand in every table."""

    cmenergies: list[Positive] = []
    """Centre-of-mass energies in GeV, such as `13000`."""
    reactions: list[Keyword] = []
    """Reactions in HEPData's notation, such as `P P --> CHARGINO1 NEUTRALINO2 X`."""
    observables: list[Keyword] = []
    """Observables in HEPData's notation, such as `CLS`."""
    phrases: list[Keyword] = []
    """Other words, such as `Supersymmetry`."""


class Hepdata(_Model):
    """What a HEPData submission says about the analysis (target `hepdata`)."""

    comment: str | None = None
    """Abstract of the submission; none: made of title and reference."""
    location: Annotated[str, Field(max_length=256)] | None = None
    """Where a publication shows the tables, such as `Figure 7`; none: that they were fitted from
    the published likelihood."""
    keywords: HepdataKeywords = HepdataKeywords()
    """Words by which HEPData finds the tables."""
    units: dict[str, str] = {}
    """Units by label; a label that is an axis of a plane has the axis' unit."""


class PublishedTime(_Model):
    """Wall time of all fits as it was published, which the target `benchmark` shows beside ours."""

    source: str
    """Where, and on what."""
    patches: Annotated[int, Field(ge=1)]
    """Number of patches."""
    nodes_per_block: Annotated[int, Field(ge=1)] = 1
    """Nodes of a block."""
    max_blocks: Annotated[int, Field(ge=1)] = 1
    """Blocks at a time, at most."""
    repetitions: Annotated[int, Field(ge=1)]
    """How often it was measured."""
    mean: Positive
    """Mean in seconds."""
    deviation: Annotated[float, Field(ge=0)]
    """Standard deviation in seconds."""
    single_node: Positive | None = None
    """Seconds on a single node."""


class Analysis(_Model):
    """One file in `config/analyses`: a published likelihood and how its result is drawn."""

    name: Name
    """Short name; results go to `results/NAME`."""
    title: str
    """What the plots say about the search: experiment, energy, luminosity, process."""
    reference: str | None = None
    """Citation of the search."""
    pallet: Pallet | None = None
    """Where the archive comes from; a combination has none."""
    combine: Combination | None = None
    """Other analyses, which are combined, in place of a pallet."""
    regions: Annotated[dict[Name, Region], Field(min_length=1)]
    """Sub-likelihoods; with several, the one with the best expected CLs is taken per point. A
    combination has one, which is called `combined` unless it is named here."""
    use: list[Name] | None = None
    """Regions that are fitted; none: all."""
    labels: Annotated[list[str], Field(min_length=1)]
    """The patchset's labels, in its order."""
    patches: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Shell patterns of the patches that are fitted."""
    points: Points | None = None
    """A scan of points, in place of the regions' patchsets."""
    planes: dict[Name, Plane] = {}
    """Planes in which a contour is drawn; of a scan of `points`, the excluded fraction."""
    slices: dict[Name, Slice] = {}
    """Lines along which upper limits are drawn with their bands."""
    cross_section: CrossSection | None = None
    """Theory cross sections, for upper limits in pb."""
    hepdata: Hepdata = Hepdata()
    """What a HEPData submission says about the analysis."""
    published_time: PublishedTime | None = None
    """Wall time of all fits as it was published."""

    @model_validator(mode="before")
    @classmethod
    def _region_of_combination(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("combine") is not None and "regions" not in data:
            return {**data, "regions": {"combined": {}}}
        return data

    @model_validator(mode="after")
    def _one_source(self) -> Analysis:
        if (self.pallet is None) == (self.combine is None):
            found = "both" if self.pallet is not None else "neither"
            raise ValueError(f"needs either pallet or combine, but has {found}")
        if self.combine is not None and len(self.regions) > 1:
            raise ValueError("regions: a combination has one region only")
        if self.combine is not None and self.points is not None:
            raise ValueError("points need a pallet: a combination takes its members' patches")
        for name, region in self.regions.items():
            if self.combine is not None and (region.workspace or region.patchset):
                raise ValueError(f"regions.{name}: a combination has no workspace and patchset")
            if self.combine is None and not region.workspace:
                raise ValueError(f"regions.{name}.workspace: this key is missing")
        return self

    @field_validator("labels")
    @classmethod
    def _labels_are_columns(cls, labels: list[str]) -> list[str]:
        twice = sorted({label for label in labels if labels.count(label) > 1})
        taken = sorted(set(labels) & RESULT_COLUMNS)
        if twice:
            raise ValueError(f"must differ from one another, but {', '.join(twice)} is repeated")
        if taken:
            raise ValueError(
                f"must not be columns of results.csv or limits.csv, but {', '.join(taken)} is one"
            )
        return labels

    @model_validator(mode="after")
    def _patchsets_or_points(self) -> Analysis:
        if self.points is None:
            lacking = [name for name, region in self.regions.items() if not region.patchset]
            if lacking and self.combine is None:
                raise ValueError(f"regions.{lacking[0]}.patchset: this key is missing")
            if not self.planes:
                raise ValueError("planes: needs at least one plane")
            return self
        having = [name for name, region in self.regions.items() if region.patchset is not None]
        if having:
            raise ValueError(
                f"regions.{having[0]} has a patchset beside points: remove one of both"
            )
        taken = sorted(set(self.labels) & POINT_COLUMNS)
        if taken:
            raise ValueError(f"labels must not be columns of points.parquet, as {taken[0]} is")
        if self.patches != ["*"]:
            raise ValueError("patches are those of patchsets: remove the key beside points")
        return self

    @model_validator(mode="after")
    def _planes_use_labels(self) -> Analysis:
        for plane in self.planes.values():
            for expression in filter(None, (plane.x, plane.y, plane.select)):
                require_names(expression, set(self.labels), "the labels are")
            if plane.forbidden is not None:
                require_names(plane.forbidden.y_above, {"x"}, "it may only use")
        for line in self.slices.values():
            for expression in filter(None, (line.x, line.select)):
                require_names(expression, set(self.labels), "the labels are")
        return self

    @model_validator(mode="after")
    def _cross_section_uses_labels(self) -> Analysis:
        columns = self.cross_section.columns if self.cross_section is not None else {}
        unknown = sorted(set(columns) - set(self.labels))
        if unknown:
            raise ValueError(
                f"cross_section.columns names {', '.join(unknown)}, but the labels are: "
                f"{', '.join(self.labels)}"
            )
        return self

    @model_validator(mode="after")
    def _units_of_labels(self) -> Analysis:
        unknown = sorted(set(self.hepdata.units) - set(self.labels))
        if unknown:
            raise ValueError(
                f"hepdata.units names labels that do not exist: {', '.join(unknown)} "
                f"(there are {', '.join(self.labels)})"
            )
        return self

    @model_validator(mode="after")
    def _used_regions_exist(self) -> Analysis:
        unknown = sorted(set(self.use or ()) - set(self.regions))
        if unknown:
            raise ValueError(
                f"use names regions that do not exist: {', '.join(unknown)} "
                f"(there are {', '.join(self.regions)})"
            )
        if self.use == []:
            raise ValueError("use must name at least one region, or be left out")
        return self

    @model_validator(mode="after")
    def _pinned_files_are_used(self) -> Analysis:
        used = {item.workspace for item in self.regions.values()}
        used |= {item.patchset for item in self.regions.values() if item.patchset is not None}
        unknown = sorted(set(self.pallet.sha256 if self.pallet is not None else ()) - used)
        if unknown:
            # A misspelt name would otherwise leave a file unverified, silently.
            raise ValueError(
                f"pallet.sha256 names files that no region uses: {', '.join(unknown)} "
                f"(there are {', '.join(sorted(used))})"
            )
        return self

    def plane_suffix(self, plane: str) -> str:
        """What distinguishes a plane's files: nothing if there is only one plane."""
        return f"_{plane}" if len(self.planes) > 1 else ""

    def plane_of_suffix(self, suffix: str) -> Plane:
        """The plane that a suffix from :meth:`plane_suffix` means."""
        return {self.plane_suffix(name): plane for name, plane in self.planes.items()}[suffix]

    @property
    def used_regions(self) -> list[str]:
        """Names of the regions that are fitted, in order."""
        return list(self.regions) if self.use is None else list(dict.fromkeys(self.use))


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


def _split(names: str | list[str]) -> list[str]:
    return [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]


ModelT = TypeVar("ModelT", bound=_Model)


def parse(model: type[ModelT], data: Mapping[str, Any], *, file: str | Path) -> ModelT:
    """Validate configuration data; wrong data raises an error that prints the fix.

    Raises
    ------
    ConfigError
        With one line for each wrong key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_explain(model, detail) for detail in error.errors()]
        raise ConfigError(
            "The configuration is wrong:\n" + "\n".join(f"    {line}" for line in problems),
            remedy="Correct the keys above; docs/configuration.md lists all of them.",
            file=file,
        ) from None


def load_analysis(name: str, folder: Path) -> tuple[Analysis, list[Path]]:
    """Read one analysis by name or by path.

    An analysis file may say ``extends: OTHER`` (a name, or a path relative to the file): it then
    holds only what differs.

    Parameters
    ----------
    name
        Name of a file in `folder` (without its ending), or the path of a YAML file.
    folder
        Where named analyses are, usually ``config/analyses``.

    Returns
    -------
    tuple
        The analysis, and all files it was read from.

    Raises
    ------
    ConfigError
        There is no such analysis, or its file is wrong.
    """
    data, files = _load_extended(name, folder, ())
    analysis = parse(Analysis, data, file=files[0])
    return analysis, files


def load_analyses(settings: Settings, folder: Path) -> dict[str, Analysis]:
    """Read all selected analyses, by their name.

    Raises
    ------
    ConfigError
        See :func:`load_analysis`; also if two selected files give the same name.
    """
    analyses: dict[str, Analysis] = {}
    for selected in settings.analysis_names:
        analysis, files = load_analysis(selected, folder)
        if analysis.name in analyses:
            raise ConfigError(
                f"Two selected analyses have the name {analysis.name!r}.",
                remedy="Give one of them another `name`: results are kept by name.",
                file=files[0],
            )
        analyses[analysis.name] = analysis
    return analyses


def with_members(analyses: Mapping[str, Analysis], folder: Path) -> dict[str, Analysis]:
    """Add the members of combinations, their members and so on, to the selected analyses.

    Returns
    -------
    dict
        Analyses by their name; the selected ones come first.

    Raises
    ------
    ConfigError
        See :func:`load_analysis`; also if a member has no such region or other labels, if two
        different analyses have one name, or if combinations are members of each other.
    """
    known = dict(analyses)
    for analysis in analyses.values():
        _add_members(analysis, folder, known, (analysis.name,))
    return known


def member_sources(analysis: Analysis, folder: Path) -> list[tuple[str, str]]:
    """Analysis and region of each member of a combination, in its order.

    Raises
    ------
    ConfigError
        See :func:`with_members`.
    """
    if analysis.combine is None:
        raise ConfigError(
            f"The analysis {analysis.name} is no combination.",
            remedy="Name one whose file has the key `combine`.",
        )
    found = []
    for name, member in analysis.combine.members.items():
        source, _ = load_analysis(member.analysis, folder)
        found.append((source.name, _member_region(analysis, name, member, source)))
    return found


def _add_members(
    analysis: Analysis, folder: Path, known: dict[str, Analysis], above: tuple[str, ...]
) -> None:
    if analysis.combine is None:
        return
    for name, member in analysis.combine.members.items():
        source, files = load_analysis(member.analysis, folder)
        if source.name in above:
            raise ConfigError(
                f"Combinations are members of each other: {' > '.join([*above, source.name])}.",
                remedy="Remove one of the members.",
                file=files[0],
            )
        if known.setdefault(source.name, source) != source:
            raise ConfigError(
                f"Two different analyses have the name {source.name!r}; one of them is "
                f"{name} of the combination {analysis.name}.",
                remedy="Give one of them another `name`: results are kept by name.",
                file=files[0],
            )
        _member_region(analysis, name, member, source)
        _check_member_labels(analysis, name, member, source)
        _add_members(source, folder, known, (*above, source.name))


def _member_region(
    analysis: Analysis, name: str, member: CombinationMember, source: Analysis
) -> str:
    regions = source.used_regions if member.region is None else [member.region]
    if len(regions) != 1 or regions[0] not in source.regions:
        raise ConfigError(
            f"The member {name} of {analysis.name} needs one region of {source.name}, "
            f"but {'names ' + repr(member.region) if member.region else 'names none of several'}.",
            remedy=f"Set combine.members.{name}.region to one of {', '.join(source.regions)}.",
        )
    return regions[0]


def _check_member_labels(
    analysis: Analysis, name: str, member: CombinationMember, source: Analysis
) -> None:
    unknown = sorted(set(member.labels) - set(source.labels))
    found = [member.labels.get(label, label) for label in source.labels]
    if unknown or sorted(found) != sorted(analysis.labels):
        raise ConfigError(
            f"The labels of the member {name} of {analysis.name} are {', '.join(source.labels)}"
            + (f", which become {', '.join(found)}" if found != source.labels else "")
            + f"; the combination has {', '.join(analysis.labels)}.",
            remedy=f"Say in combine.members.{name}.labels which of its labels is which one of the "
            "combination's; there must be as many.",
        )


def _load_extended(
    name: str, folder: Path, seen: tuple[Path, ...]
) -> tuple[dict[str, Any], list[Path]]:
    path = _find_analysis(name, folder, base=seen[-1].parent if seen else Path())
    if path.resolve() in (file.resolve() for file in seen):
        raise ConfigError(
            "Analysis files extend each other in a circle.",
            remedy="Remove one of the `extends` keys.",
            file=path,
        )
    data = read_yaml(path)
    data.setdefault("name", path.stem)
    pallet = data.get("pallet")
    for section, key in ((pallet, "path"), (data.get("cross_section"), "file")):
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = str(path.parent / Path(section[key]).expanduser())
    if isinstance(data.get("points"), dict):
        data["points"] = _from_file(data["points"], path.parent)
    _resolve_members(data, path.parent)
    parent = data.pop("extends", None)
    if parent is None:
        return data, [path]
    base, files = _load_extended(str(parent), folder, (*seen, path))
    inherited = base.get("pallet")
    if isinstance(pallet, dict) and isinstance(inherited, dict) and _SOURCES & set(pallet):
        # Another source replaces the inherited one instead of standing beside it.
        base["pallet"] = {key: item for key, item in inherited.items() if key not in _SOURCES}
    for own, other in (("combine", "pallet"), ("pallet", "combine")):
        if own in data and own not in base and other in base:
            # A combination takes over what is drawn, not the files of one likelihood.
            base = {k: v for k, v in base.items() if k not in (other, "regions", "use", "patches")}
    return _merge(base, data), [path, *files]


def _resolve_members(data: dict[str, Any], folder: Path) -> None:
    """Let the paths of a combination's members start at its file."""
    combine = data.get("combine")
    members = combine.get("members") if isinstance(combine, dict) else None
    for member in members.values() if isinstance(members, dict) else ():
        name = member.get("analysis") if isinstance(member, dict) else None
        if isinstance(name, str) and name.endswith((".yaml", ".yml")):
            member["analysis"] = str(folder / Path(name).expanduser())


def _from_file(points: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A scan's section whose relative paths start at the folder of its file."""

    def resolve(value: Any) -> Any:
        return str(folder / Path(value).expanduser()) if isinstance(value, str) else value

    found = dict(points)
    if "table" in found:
        found["table"] = resolve(found["table"])
    if isinstance(found.get("depends"), list):
        found["depends"] = [resolve(item) for item in found["depends"]]
    place, colon, name = str(found.get("function", "")).partition(":")
    if place.endswith(".py"):
        found["function"] = f"{resolve(place)}{colon}{name}"
    return found


def _find_analysis(name: str, folder: Path, *, base: Path) -> Path:
    if name.endswith((".yaml", ".yml")):
        path = base / Path(name).expanduser()
        if path.is_file():
            return path
        raise ConfigError(
            f"There is no analysis file {name!r}.",
            remedy="Give the path of a YAML file shaped like config/analyses/demo.yaml.",
            file=path,
        )
    path = folder / f"{name}.yaml"
    known = sorted(entry.stem for entry in folder.glob("*.yaml"))
    if name in known:
        return path
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"There is no analysis {name!r}.",
        remedy=f"{hint}Known ones: {', '.join(known)}; "
        "or give the path of a YAML file shaped like config/analyses/demo.yaml.",
        file=folder,
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, or is not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"Cannot read the file: {error.strerror}.", remedy="Check its path.", file=path
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The file is not UTF-8 text: {error}.", remedy="Save it as UTF-8.", file=path
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(
            f"The file is not valid YAML: {' '.join(str(error).split())}",
            remedy="Correct the line named above.",
            file=path,
        ) from None
    if not isinstance(data, dict):
        raise ConfigError(
            "The file is not a mapping of keys to values.",
            remedy="Shape it like config/analyses/demo.yaml.",
            file=path,
        )
    return data


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        if isinstance(inherited, dict) and isinstance(value, dict):
            merged[key] = _merge(inherited, value)
        else:
            merged[key] = value
    return merged


def _explain(model: type[BaseModel], detail: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in detail["loc"]) or "(file)"
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, detail["loc"][:-1])
        close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"{where}: unknown key; {hint}"
    if detail["type"] == "missing":
        return f"{where}: this key is missing"
    message = str(detail["msg"]).removeprefix("Value error, ")
    given = detail["input"]
    # A whole mapping says nothing about what is wrong in it.
    return f"{where}: {message}" + ("" if isinstance(given, dict) else f" (it is {given!r})")


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] | None = model
    skip = False
    for part in location:
        if skip:  # the key of a mapping such as regions.NAME
            skip = False
            continue
        if current is None or part not in current.model_fields:
            return []
        annotation = current.model_fields[str(part)].annotation
        skip = get_origin(annotation) is dict
        current = _inner_model(annotation)
    return sorted(current.model_fields) if current else []


def _inner_model(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in get_args(annotation):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None
