"""Settings of ``config/config.yaml``: physics of fits, products, downloads, plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from palletfit.config.base import (
    Model,
    Name,
    Positive,
    merge,
    parse,
    split_names,
)
from palletfit.config.executor import ExecutorSettings


class DerivativeSettings(Model):
    """Derivatives of test statistics, CLs and limits by the yields of samples."""

    samples: list[str] = []
    """Shell patterns of the samples; none: those that the parameter of interest multiplies."""
    uncertainties: Literal["absolute", "relative"] = "absolute"
    """Data of histosys, staterror and shapesys modifiers of a yield that changes: `absolute` keeps
    them, as if only the number in the sample's `data` changed; `relative` scales them with it."""


class FitSettings(Model):
    """Physics of the hypothesis test. All of it is part of a record's key."""

    mu: Annotated[float, Field(ge=0)] = 1.0
    """Signal strength that is tested (the parameter of interest, POI)."""
    test_statistic: Literal["qtilde", "q", "q0"] = "qtilde"
    """`qtilde` (upper limits, mu-hat bounded from below), `q` (upper limits), `q0` (discovery)."""
    engine: Literal["batched", "reference"] = "batched"
    """`batched` fits many patches at once, with exact second derivatives. `reference` is pyhf
    itself, which also fits models that the other does not support."""
    backend: Literal["numpy", "jax", "pytorch", "tensorflow"] = "numpy"
    """Array library: `numpy` for CPUs, `jax` for accelerators; `pytorch` and `tensorflow` are
    optional extras of the reference engine."""
    optimizer: Literal["scipy", "minuit"] = "scipy"
    """The first optimizer of the reference engine. Suspicious fits are repeated with others."""
    normsys: Literal["code1", "code4"] = "code4"
    """Interpolation code of normsys modifiers."""
    histosys: Literal["code0", "code2", "code4p"] = "code4p"
    """Interpolation code of histosys modifiers."""
    minimum: Literal["lowest", "nearest"] = "lowest"
    """Minimum of the likelihood that counts where there are several: the lowest one that the
    search sees, or the one that is reached from the suggested values, as by pyhf and most
    fits with MIGRAD. Results show both."""
    measurement: str | None = None
    """Measurement of the workspace that is fitted; none: its first one."""
    starts: Annotated[list[Literal["suggested", "background", "free"]], Field(min_length=1)] = [
        "suggested"
    ]
    """Starting points of each fit of the reference engine: those of the workspace, of the
    background-only fit, of the free fit. The lowest minimum is taken. More starts cost time and
    reveal local minima. The batched engine always tries all of them."""
    edm_tolerance: Positive = 1e-5
    """Largest estimated distance to the minimum, in units of the NLL, at which a fit is trusted."""
    nll_tolerance: Positive = 1e-5
    """Largest amount, in units of the NLL, by which a nested fit may lie below its parent."""
    escalate: bool = True
    """Try other optimizers and starts on suspicious fits of the reference engine."""
    derivatives: bool | DerivativeSettings = False
    """Add derivatives by the yields of the signal to results, or by those of other samples:
    docs/derivatives.md."""

    @model_validator(mode="after")
    def _backend_of_engine(self) -> FitSettings:
        if self.engine == "batched" and self.backend not in ("numpy", "jax"):
            raise ValueError(
                f"backend {self.backend} needs engine reference (batched runs on numpy and jax)"
            )
        if self.engine == "reference" and self.wanted_derivatives is not None:
            raise ValueError("derivatives need engine batched")
        return self

    @property
    def wanted_derivatives(self) -> DerivativeSettings | None:
        """Derivatives that results have; None: they have none."""
        if isinstance(self.derivatives, DerivativeSettings):
            return self.derivatives
        return DerivativeSettings() if self.derivatives else None

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is younger than keys of records where it has its default value."""
        content: dict[str, Any] = plain(self)
        if content.get("derivatives") is False:
            del content["derivatives"]
        return content


class DiagnosticsSettings(Model):
    """Diagnostics of the fits of single patches."""

    patches: list[str] = []
    """Shell patterns of the patches; none: in each analysis the patch whose median expected CLs
    is nearest to exclusion, in standard deviations."""
    impacts: bool = True
    """Compute the impacts of parameters on mu-hat, with four fits for each."""
    parameters: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Shell patterns of the parameters whose impacts are computed. The name of a parameter with
    one component for each bin selects all of them."""


class DownloadSettings(Model):
    """Downloads of pallets and published tables, and their limits."""

    cache: Path | None = None
    """Folder that is searched before the network: `pallets/ARCHIVE` and `published/ANALYSIS/FILE`.
    Fetched files are kept there, for example for compute nodes without internet."""
    offline: bool = False
    """Never use the network."""
    allowed_hosts: list[str] = ["doi.org", "www.hepdata.net", "hepdata.net"]
    """Allowed hosts, redirects included."""
    doi_resolver: str = "https://doi.org/"
    """Address to which a DOI is appended."""
    timeout: Positive = 30.0
    """Seconds without an answer or data after which an attempt fails."""
    retries: Annotated[int, Field(ge=0)] = 4
    """Further attempts after a time-out, a lost connection, or an answer of 429 or 5xx."""
    backoff: Annotated[float, Field(ge=0)] = 1.0
    """Seconds before the first further attempt; they double each time."""
    max_archive_bytes: Annotated[int, Field(gt=0)] = 512 * 1024**2
    """Largest download."""
    max_unpacked_bytes: Annotated[int, Field(gt=0)] = 4 * 1024**3
    """Largest sum of the sizes of an archive's members."""
    max_members: Annotated[int, Field(gt=0)] = 10_000
    """Largest number of an archive's members."""


class ContourSettings(Model):
    """Exclusion contour from the CLs of the points."""

    confidence_level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """A point is excluded if its CLs is below one minus this level."""
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
    """Relative precision of a limit."""
    mu_max: Positive | None = None
    """Upper bound of the signal strength, in fits, too; none: that of the measurement. Limits
    beyond it are not searched."""


class MuScanSettings(Model):
    """CLs against the signal strength, for chosen patches."""

    patches: list[str] = []
    """Shell patterns of the patches; none: in each analysis the patch whose expected upper limit
    is nearest to one."""
    points: Annotated[int, Field(ge=3, le=1000)] = 41
    """Signal strengths, at equal distances."""
    range: (
        Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)] | None
    ) = None
    """First and last signal strength; none: from zero to slightly above the largest limit of the
    patch, but not beyond the bound of the measurement."""

    @model_validator(mode="after")
    def _range_rises(self) -> MuScanSettings:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError("range must rise, such as [0, 3]")
        return self


class GoodnessSettings(Model):
    """Goodness of fit in the saturated model, for chosen patches."""

    patches: list[str] = []
    """Shell patterns of the patches; none: in each analysis the patch whose median expected CLs
    is nearest to exclusion, in standard deviations."""
    mu: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Fixed value of the parameter of interest, such as 0 for the background alone; none: it is
    free."""
    toys: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Pseudo-experiments of each patch, for a p-value beside that of chi-squared."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Seed of the random numbers."""


class CatalogueSettings(Model):
    """The static site of the target `catalogue`."""

    address: Annotated[str, Field(pattern="^https://")] | None = None
    """Public address of the site, for the list that HEPData reads; none: there is no list."""


class BenchmarkSettings(Model):
    """Executors that the target `benchmark` compares."""

    repetitions: Annotated[int, Field(ge=1)] = 10
    """Number of times that each executor fits all patches. Finished repetitions are kept."""
    executors: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)] = {
        "configured": {},
        "one-worker": {"kind": "local", "workers": 1},
    }
    """Executors by name, each with the settings that differ from `executor`, such as
    `{kind: parsl, cluster: {max_blocks: 4}}`. A local worker has one thread."""
    single_node: Name | None = None
    """Executor whose time is that of a single node, for the comparison; none: the first of kind
    `local`."""
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
    """Choice of the points that are tested, limits of your own ones, and tasks of `points`."""

    choose: Literal["all", "adaptive"] = "all"
    """Points that get a hypothesis test. `all`, or `adaptive`: those that the exclusion contour
    needs, chosen round by round: docs/adaptive.md."""
    precision: Annotated[float, Field(gt=0, lt=1)] = 0.005
    """With `adaptive`, the wanted precision of the contour, in units of the axes' ranges."""
    round: Annotated[int, Field(ge=1)] = 16
    """With `adaptive`, the largest number of points of a round: as many as workers fit at once, or
    fewer to test fewer."""
    chunk: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Points of a task, and of one file of results. A change repeats all fits of the target
    `points`."""
    max_patches: Annotated[int, Field(gt=0)] = 5_000
    """Largest number of points with which all targets work. Each point then has a record. The
    target `points` takes more."""
    max_points: Annotated[int, Field(gt=0)] = 10_000_000
    """Largest number of points."""
    max_table_bytes: Annotated[int, Field(gt=0)] = 8 * 1024**3
    """Largest table."""
    search: Literal["full", "once"] = "full"
    """Places where lower minima are searched for. `full`: at every point. `once`: at 256 points of
    a region; all others start from the minima of the nearest ones, and are searched in full where
    these do not tell enough: docs/scans.md."""


class ToySettings(Model):
    """Pseudo-experiments ("toys"), the alternative to asymptotic formulae."""

    toys: Annotated[int, Field(ge=100, le=10**8)] = 10_000
    """Toys of each of the two hypotheses; with `precision`, their largest number."""
    precision: Annotated[float | None, Field(gt=0, lt=1)] = None
    """Absolute statistical uncertainty of the observed CLs at which no more toys are made; none:
    all `toys` are made."""
    toys_per_task: Annotated[int | None, Field(ge=1, le=10**6)] = None
    """Toys of each hypothesis in one task, preferably a multiple of 256; none: so many, from 256
    to 2048, that every worker gets two tasks. It does not change results: each toy is independent
    of the task that makes it."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Seed of the random numbers."""
    descents: Annotated[int, Field(ge=0, le=10_000)] = 0
    """From how many further points each fit of a toy looks for other minima. docs/toys.md says how
    many minima are missed with how many, and what they cost."""

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is younger than keys of shards where it has its default value."""
        content: dict[str, Any] = plain(self)
        if content.get("descents") == 0:
            del content["descents"]
        return content


class ToyTargetSettings(ToySettings):
    """Pseudo-experiments ("toys") of chosen patches, for the target `toys`."""

    patches: list[str] = []
    """Shell patterns of the patches; none: in each analysis the patch whose median expected CLs,
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
    """Page that shows a run during its fits, `results/ANALYSIS/live.html`."""

    enabled: bool = True
    """Write the page."""
    interval: Annotated[float, Field(ge=0.2)] = 5.0
    """Seconds between two versions of the page. They are more if drawing it would take over 1% of
    the time."""


class Settings(Model):
    """All settings of `config/config.yaml`."""

    analyses: str | list[str] = "demo"
    """Names of files in `config/analyses`, or paths of such files: one, a list, or, on the command
    line, a comma-separated text."""
    pallet: Annotated[str, Field(min_length=1)] | None = None
    """A source that is inspected instead of `analyses`: a DOI, an address, an archive, a folder, a
    file, or a name that `palletfit catalogue` lists. Analysis files are proposed as `palletfit
    inspect` does, in `resources/inspected`. A name with a file in `config/analyses` takes that."""
    on_failure: Literal["fail", "continue"] = "fail"
    """After all patches were tried: `fail` ends with an error that names the failed ones.
    `continue` shows them as failed in every table and plot."""
    fit: FitSettings = FitSettings()
    """Physics of the hypothesis tests."""
    neighbours: bool = True
    """Try the minima of neighbouring points at each other once all patches of a region have
    records, and mark points between which the lowest minimum changes. No record depends on it."""
    executor: ExecutorSettings = ExecutorSettings()
    """Execution of fits."""
    download: DownloadSettings = DownloadSettings()
    """Downloads of pallets and published tables."""
    contour: ContourSettings = ContourSettings()
    """Exclusion contours."""
    limits: LimitSettings = LimitSettings()
    """Upper limits."""
    mu_scan: MuScanSettings = MuScanSettings()
    """CLs against the signal strength."""
    diagnostics: DiagnosticsSettings = DiagnosticsSettings()
    """Pulls, impacts, correlations and yields."""
    gof: GoodnessSettings = GoodnessSettings()
    """Goodness of fit in the saturated model."""
    toys: ToyTargetSettings = ToyTargetSettings()
    """Pseudo-experiments ("toys") of chosen patches."""
    products: dict[Name, FurtherProductSettings] = {}
    """Products of your own, which have targets of their names."""
    catalogue: CatalogueSettings = CatalogueSettings()
    """The static site of the target `catalogue`."""
    benchmark: BenchmarkSettings = BenchmarkSettings()
    """Executors that the target `benchmark` compares."""

    @model_validator(mode="after")
    def _benchmark_executors(self) -> Settings:
        for name in self.benchmark.executors:
            self.benchmark_executor(name)
        return self

    def benchmark_executor(self, name: str) -> ExecutorSettings:
        """Build the settings of an executor of the benchmark.

        Raises
        ------
        ConfigError
            They are wrong.
        """
        inherited = self.executor.model_dump(mode="json", exclude_unset=True)
        # Patches are not split over jobs here: a repetition is one job.
        inherited.pop("parts", None)
        merged = merge(inherited, self.benchmark.executors[name])
        source = f"the configuration, below benchmark.executors.{name}"
        return parse(ExecutorSettings, merged, file=source)

    points: PointSettings = PointSettings()
    """Points that you give yourself."""
    live: LiveSettings = LiveSettings()
    """Page that shows a run during its fits."""

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
        """Selected analyses, in the given order, each once."""
        return list(dict.fromkeys(split_names(self.analyses)))
