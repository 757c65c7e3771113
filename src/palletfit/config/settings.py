"""Settings of ``config/config.yaml``: physics of fits, products, downloads, plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from palletfit.config.base import (
    Model,
    Name,
    Positive,
    merge,
    parse,
    split_names,
)
from palletfit.config.executor import ExecutorSettings


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

    @property
    def analysis_names(self) -> list[str]:
        """The selected analyses as a list, in the given order, each once."""
        return list(dict.fromkeys(split_names(self.analyses)))
