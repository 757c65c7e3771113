"""What a user may configure, with defaults, as data models.

These models are the single source: ``config/schema.json``, ``config/analysis.schema.json`` and
the configuration reference in ``docs/configuration.md`` are generated from them (see
:mod:`palletfit.schema`), and the tests hold them together.
"""

from __future__ import annotations

import difflib
import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from uuid import UUID

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from palletfit.errors import ConfigError
from palletfit.expressions import require_names

#: One regular expression for analysis and region names, shared with Snakemake's wildcards.
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"

#: Keys of a pallet of which exactly one is given.
_SOURCES = frozenset({"doi", "url", "path", "builtin"})

#: Columns of ``results.csv`` that labels stand beside.
RESULT_COLUMNS = frozenset(
    {
        *("patch", "region", "status", "CLs_obs", "mu_hat", "fit_time", "remark"),
        *(f"CLs_exp_{name}" for name in ("minus2", "minus1", "0", "plus1", "plus2")),
    }
)

Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[float, Field(gt=0)]
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
    """Values for the endpoint's template, such as `partition`, `account` and `walltime`."""
    preflight: bool = True
    """Before the first task: is the endpoint online, do its workers have the same versions, and
    does a tiny fit give the same there as here?"""
    patience: Positive = 600.0
    """Seconds for which a service that does not answer, or is busy, is asked again."""
    cluster: ClusterSettings = ClusterSettings()
    """Jobs of the Slurm cluster, for `parsl` and `dask`."""

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

    tolerance: Annotated[float, Field(ge=1e-9, le=0.1)] = 1e-4
    """How well a limit is known, relative to it."""
    mu_max: Positive | None = None
    """Upper bound of the signal strength, in fits, too; none: the one of the measurement. No limit
    is searched for beyond it."""


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
    builtin: Literal["demo"] | None = None
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

    workspace: str
    """The background-only workspace inside the archive."""
    patchset: str
    """The patchset inside the archive."""
    known_failures: dict[str, str] = {}
    """Patches that cannot be fitted, with the reason: they are shown, and do not fail a run."""


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


class Published(_Model):
    """The experiment's own result for a plane."""

    observed: PublishedCurve | None = None
    """The observed contour."""
    expected: PublishedCurve | None = None
    """The expected contour."""
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


class Analysis(_Model):
    """One file in `config/analyses`: a published likelihood and how its result is drawn."""

    name: Name
    """Short name; results go to `results/NAME`."""
    title: str
    """What the plots say about the search: experiment, energy, luminosity, process."""
    reference: str | None = None
    """Citation of the search."""
    pallet: Pallet
    """Where the archive comes from."""
    regions: Annotated[dict[Name, Region], Field(min_length=1)]
    """Sub-likelihoods; with several, the one with the best expected CLs is taken per point."""
    use: list[Name] | None = None
    """Regions that are fitted; none: all."""
    labels: Annotated[list[str], Field(min_length=1)]
    """The patchset's labels, in its order."""
    patches: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Shell patterns of the patches that are fitted."""
    planes: Annotated[dict[Name, Plane], Field(min_length=1)]
    """Planes in which a contour is drawn."""

    @field_validator("labels")
    @classmethod
    def _labels_are_columns(cls, labels: list[str]) -> list[str]:
        twice = sorted({label for label in labels if labels.count(label) > 1})
        taken = sorted(set(labels) & RESULT_COLUMNS)
        if twice:
            raise ValueError(f"must differ from one another, but {', '.join(twice)} is repeated")
        if taken:
            raise ValueError(f"must not be columns of results.csv, but {', '.join(taken)} is one")
        return labels

    @model_validator(mode="after")
    def _planes_use_labels(self) -> Analysis:
        for plane in self.planes.values():
            for expression in filter(None, (plane.x, plane.y, plane.select)):
                require_names(expression, set(self.labels), "the labels are")
            if plane.forbidden is not None:
                require_names(plane.forbidden.y_above, {"x"}, "it may only use")
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
        used = {name for item in self.regions.values() for name in (item.workspace, item.patchset)}
        unknown = sorted(set(self.pallet.sha256) - used)
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
    if isinstance(pallet, dict) and isinstance(pallet.get("path"), str):
        pallet["path"] = str(path.parent / Path(pallet["path"]).expanduser())
    parent = data.pop("extends", None)
    if parent is None:
        return data, [path]
    base, files = _load_extended(str(parent), folder, (*seen, path))
    inherited = base.get("pallet")
    if isinstance(pallet, dict) and isinstance(inherited, dict) and _SOURCES & set(pallet):
        # Another source replaces the inherited one instead of standing beside it.
        base["pallet"] = {key: item for key, item in inherited.items() if key not in _SOURCES}
    return _merge(base, data), [path, *files]


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
