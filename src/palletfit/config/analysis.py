"""The models of an analysis file: its pallet, regions, planes and published results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from palletfit.config.base import Keyword, Model, Name, Positive, Sha256
from palletfit.config.expressions import require_condition, require_names
from palletfit.core.patterns import starred

#: Keys of a pallet of which exactly one is given.
PALLET_SOURCES = frozenset({"doi", "url", "path", "builtin"})

_SIGMAS = ("minus2", "minus1", "0", "plus1", "plus2")

#: Label of analyses of complete workspaces that name none: its value is the name of the region.
COMPLETE_LABEL = "likelihood"

_WITH_TOYS = ("CLs_obs", "CLsb_obs", "CLb_obs", *(f"CLs_exp_{name}" for name in _SIGMAS))

#: Columns other than labels of ``results.csv``, ``limits.csv``, ``diagnostics.csv`` and
#: ``toys.csv``.
RESULT_COLUMNS = frozenset(
    {
        *("patch", "region", "status", "CLs_obs", "mu_hat", "fit_time", "remark"),
        *(f"CLs_exp_{name}{end}" for name in _SIGMAS for end in ("", "_other", "_forecast")),
        *("minimum_other", "CLs_obs_other", "mu_hat_other", "CLs_obs_forecast"),
        *("origin", "fell", "jump"),
        *("mu_obs", "state_obs", "mu_max", "cross_section_pb", "cross_section_error_pb"),
        *("mu_obs_other", "state_obs_other", "upper_limit_obs_pb", "upper_limit_obs_pb_other"),
        *(
            f"{kind}_exp_{name}{end}"
            for kind in ("mu", "state")
            for name in _SIGMAS
            for end in ("", "_other")
        ),
        *(f"upper_limit_exp_{name}_pb{end}" for name in _SIGMAS for end in ("", "_other")),
        *("mu_hat_error", "p0", "significance", "p0_expected", "significance_expected"),
        "leading_impacts",
        *("toys", "q_obs", "CLs_obs_low", "CLs_obs_high", "failed_tested", "failed_alternative"),
        *(f"{name}{end}" for name in _WITH_TOYS for end in ("", "_error", "_asymptotic")),
    }
)

#: Columns of NLLs of the table of a scan of points, and all of its columns other than labels.
NLL_COLUMNS = tuple(
    f"nll{asimov}_{data}_{mu}" for data in ("obs", "exp") for asimov in ("", "A") for mu in (0, 1)
)
POINT_COLUMNS = RESULT_COLUMNS | {
    *("name", "edm", "starts_agreed", "engine", "reason", "retry", "derivatives")
}


class Pallet(Model):
    """Source of a pallet: exactly one of `doi`, `url`, `path`, `builtin`."""

    doi: str | None = None
    """DOI of the HEPData *resource* (not of the record)."""
    url: str | None = None
    """Address of the archive."""
    path: Path | None = None
    """Local archive, folder, or JSON file; relative paths start at the analysis file."""
    builtin: Literal["demo", "demo-hadronic"] | None = None
    """A pallet that palletfit makes itself."""
    archive: Name | None = None
    """File name of the archive in the download cache; none: the analysis' name."""
    sha256: dict[str, Sha256] = {}
    """Expected digests of files *inside* the archive (servers may re-pack archives); of a
    compressed file, or of its content."""

    @model_validator(mode="after")
    def _one_source(self) -> Pallet:
        sources = [
            key for key in ("doi", "url", "path", "builtin") if getattr(self, key) is not None
        ]
        if len(sources) != 1:
            names = ", ".join(sources) or "none"
            raise ValueError(f"needs exactly one of doi, url, path, builtin, but has {names}")
        return self


#: Keys of regions that are complete workspaces, and of those that are not.
_OF_COMPLETE = ("measurement", "poi", "fix", "signal_in")
_OF_PATCHES = ("patchset", "operations", "values", "name_as", "digest")


#: Bins of a channel that do not count, counted from zero.
_Bins = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
_Patterns = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]

#: Keys of an analysis and of its regions that choose channels, bins and data.
OF_CHOICE = ("channels", "mask", "asimov", "blind")


@dataclass(frozen=True)
class Choice:
    """Channels, bins and data of the fits of a region.

    Attributes
    ----------
    channels
        Names or shell patterns of the channels that are fitted; None: all of them.
    mask
        Bins that do not count, counted from zero, by the name of their channel; None: none.
    asimov
        Signal strength of the expected data that stand for the observations; None: none do.
    blind
        Names or shell patterns of the channels whose observations are not read; None: see
        `asimov`.
    """

    channels: tuple[str, ...] | None = None
    mask: Mapping[str, tuple[int, ...]] | None = None
    asimov: float | None = None
    blind: tuple[str, ...] | None = None

    def __bool__(self) -> bool:
        """Return true if anything is chosen: else fits are those of all channels and bins."""
        return self.as_json() != {}

    @property
    def blinded(self) -> bool:
        """True if expected events stand for observed ones, in all channels or in some."""
        return self.asimov is not None or self.blind is not None

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names or shell patterns of the channels whose observations are not read."""
        if self.blind is not None:
            return self.blind
        return () if self.asimov is None else ("*",)

    def as_json(self) -> dict[str, Any]:
        """Give what is chosen as plain data, without what is not."""
        return {
            key: _plain(value) for key in OF_CHOICE if (value := getattr(self, key)) is not None
        }

    def words(self) -> str:
        """Write the choice for titles of plots and tables; empty if nothing is chosen."""
        parts = [] if self.channels is None else [f"channels {' '.join(self.channels)}"]
        if self.mask:
            bins = [f"{name}[{','.join(map(str, of))}]" for name, of in self.mask.items()]
            parts.append(f"without bins {' '.join(bins)}")
        strength = "" if not self.asimov else f" of mu = {self.asimov:g}"
        if self.blind is not None:
            parts.append(f"blinded {' '.join(self.blind)}: expected events{strength}")
        elif self.asimov is not None:
            parts.append(f"blinded: Asimov data{strength or ' of no signal'}")
        return ", ".join(parts)


class Region(Model):
    """One sub-likelihood: a background-only workspace and its patchset, or a complete workspace.

    A file of an archive in the archive is named as if the inner archive were a folder.
    """

    workspace: str = ""
    """The workspace inside the archive; the region of a combination has none."""
    patchset: str | None = None
    """The patchset inside the archive; none for a combination, for a complete workspace, or with
    `points`."""
    operations: Annotated[str, Field(pattern=r"^[^*]*\*[^*]*$")] | None = None
    """Instead of a patchset: the files of JSON-patch operations inside the archive, one for each
    signal point. `*` stands for any text: the name of the patch."""
    values: str | None = None
    """With `operations`: the name of a patch, with labels in braces where it holds their values,
    such as `sbottom_{msb}_{mn1}`. `100p5` is 100.5."""
    name_as: str | None = None
    """Further label whose value is the name of the patch. Points without masses, or with equal
    ones, are told apart by it."""
    digest: Literal["verify", "ignore"] = "verify"
    """The patchset's digest of the workspace: `ignore` takes a patchset that has none, or
    another one."""
    complete: bool = False
    """The workspace has its signal, or needs none, and is one point, which is named like the
    region."""
    measurement: str | None = None
    """With `complete`: name of the measurement; none: `fit.measurement`, or the first one."""
    poi: str | None = None
    """With `complete`: a normfactor as parameter of interest; an empty text for a fit without one;
    none: that of the measurement."""
    fix: dict[str, float | None] = {}
    """With `complete`: parameters that are fixed, and their values; null is the suggested one."""
    signal_in: Annotated[str, Field(min_length=1)] | None = None
    """With `complete`: channel, or `CHANNEL:BIN` with bins counted from 1, that gets a signal of
    one event. The parameter of interest is then the number of its events."""
    known_failures: dict[str, str] = {}
    """Patches that cannot be fitted, with the reason. They are shown, and do not fail a run."""
    channels: _Patterns | None = None
    """Channels of this region that are fitted, instead of `channels` of the analysis; null: all."""
    mask: dict[str, _Bins] | None = None
    """Bins of this region that do not count, instead of `mask` of the analysis; null: none."""
    asimov: float | None = None
    """Signal strength of this region's Asimov data, instead of `asimov` of the analysis."""
    blind: _Patterns | None = None
    """Channels of this region that are blinded, instead of `blind` of the analysis."""

    @model_validator(mode="after")
    def _one_source_of_patches(self) -> Region:
        if self.patchset is not None and self.operations is not None:
            raise ValueError("has both patchset and operations: remove one of them")
        if self.values is not None and self.operations is None:
            raise ValueError("values needs operations: a patchset has its own values")
        if self.operations is not None and self.values is None and self.name_as is None:
            raise ValueError("operations needs values, or name_as, for the labels of its points")
        return self

    @model_validator(mode="after")
    def _complete_or_not(self) -> Region:
        questions = [key for key in _OF_COMPLETE if key in self.model_fields_set]
        if questions and not self.complete:
            raise ValueError(f"{questions[0]} needs `complete: true`")
        with_patches = [key for key in _OF_PATCHES if key in self.model_fields_set]
        if with_patches and self.complete:
            raise ValueError(
                f"has {with_patches[0]} beside complete: a complete workspace has no patches"
            )
        if self.poi is not None and self.signal_in is not None:
            raise ValueError(
                "has both poi and signal_in, whose parameter of interest is the number of events: "
                "remove one of them"
            )
        return self

    @property
    def has_patches(self) -> bool:
        """True for a patchset, or files of operations."""
        return self.patchset is not None or self.operations is not None

    @property
    def members(self) -> list[str]:
        """Names, or patterns of names, of its files in the archive."""
        return [name for name in (self.workspace, self.patchset, self.operations) if name]


class CombinationMember(Model):
    """One likelihood of a combination, and its names of regions, labels and channels."""

    analysis: str
    """Name of a file in `config/analyses`, or path of such a file; relative paths start at the
    combination's file."""
    region: Name | None = None
    """Region of that analysis; none: the only one that it fits."""
    measurement: str | None = None
    """Measurement of its workspace; none: the first one."""
    labels: dict[str, str] = {}
    """Labels of other names: from its name to that in `labels` of the combination."""
    channels: dict[str, str] = {}
    """Channels that are renamed: from its name to that of the combination."""
    without: list[str] = []
    """Channels that are left out, such as a control region that another member has, too."""


class Correlation(Model):
    """Parameters of the members that are one parameter of the combination."""

    by: Literal["name", "table"]
    """`name`: parameters of one name are one parameter. `table`: only those of `table` are; all
    others get the member's name as a prefix."""
    table: dict[str, Annotated[dict[Name, str], Field(min_length=1)]] = {}
    """Parameters of the combination: for each one, its name in the members that have it. With
    `by: name`, the table joins parameters of different names."""
    apart: list[str] = []
    """With `by: name`: parameters of one name that are different. They get the member's name as a
    prefix."""

    @model_validator(mode="after")
    def _consistent(self) -> Correlation:
        if self.by == "table" and self.apart:
            raise ValueError("apart needs by: name; with by: table all is apart but the table")
        if self.by == "table" and not self.table:
            raise ValueError("by: table needs a table")
        entries = [entry for names in self.table.values() for entry in names.items()]
        for member, name in entries:
            if entries.count((member, name)) > 1:
                raise ValueError(f"table names the parameter {name!r} of {member} twice")
            if name in self.apart:
                raise ValueError(f"{name!r} is in both table and apart")
        return self


class ParameterSettings(Model):
    """Settings of a parameter of the combination whose members disagree."""

    inits: list[float] | None = None
    """Start values."""
    bounds: list[Annotated[list[float], Field(min_length=2, max_length=2)]] | None = None
    """Lower and upper bounds."""
    auxdata: list[float] | None = None
    """Centre of the constraint."""
    sigmas: list[float] | None = None
    """Width of the constraint."""
    fixed: bool | None = None
    """Keep the parameter constant in fits."""


class Combination(Model):
    """Likelihoods that are fitted together, with one parameter of interest."""

    members: Annotated[dict[Name, CombinationMember], Field(min_length=2)]
    """The likelihoods. Their names here are the prefixes of parameters and channels."""
    poi: str | None = None
    """Name of the parameter of interest, which all members share; none: its name in the first
    member."""
    correlate: Correlation
    """Parameters that are common to members."""
    parameters: dict[str, ParameterSettings] = {}
    """Settings of parameters, by their name in the combination."""
    shared_channels: list[str] = []
    """Channels that are the same in several members. They enter the combination once."""
    missing: Literal["drop", "keep"] = "drop"
    """Signal points that some members lack: `drop` leaves them out, `keep` fits them with the
    other members."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Largest difference between values of a label at which two points are the same."""

    @model_validator(mode="after")
    def _table_names_members(self) -> Combination:
        members = {member for names in self.correlate.table.values() for member in names}
        unknown = sorted(members - set(self.members))
        if unknown:
            raise ValueError(
                f"correlate.table names members that do not exist: {', '.join(unknown)} "
                f"(there are {', '.join(self.members)})"
            )
        return self


class Points(Model):
    """Signal points of a table, or of your own function, instead of patchsets."""

    table: Path | None = None
    """CSV or Parquet file with one row for each point: its name, its labels, and its expected
    events in columns `CHANNEL[BIN]`, with bins counted from zero. Relative paths start at the
    analysis file."""
    function: Annotated[str | None, Field(pattern=r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$")] = None
    """`FILE.py:NAME` relative to the analysis file, or `MODULE:NAME`: your function that returns
    the points from one number to another. It runs where Snakemake runs, not where fits run."""
    count: Annotated[int | None, Field(ge=1)] = None
    """Number of points of the function."""
    depends: list[Path] = []
    """Further files that the function reads or imports. It is called again when one changes."""
    name: str = "name"
    """Column of the table with the names of points."""
    sample: Annotated[str, Field(min_length=1)] = "signal"
    """Name of the signal sample, whose yields are multiplied by the parameter of interest."""
    channels: Annotated[list[str] | None, Field(min_length=1)] = None
    """Channels with signal; none: those of the table's columns, or of the function's yields."""
    uncertainties: dict[str, Annotated[float, Field(ge=0, lt=1)] | str] = {}
    """Relative uncertainties of all yields of a point (normsys), by name: a number, or a column of
    the table. An uncertainty of a name that the background has, too, is correlated with it."""
    lumi: str | None = None
    """Name of the luminosity of the measurement, if it multiplies the signal, too."""
    negative: bool = False
    """Allow yields below zero, with which the space around small signals is sampled."""
    nlls: bool = False
    """Add eight NLLs of each point to the results: at a signal strength of 0 and of 1, on observed
    and expected data, and on the Asimov data of each. Learned likelihoods are trained on them."""
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
        columns = [value for value in self.uncertainties.values() if isinstance(value, str)]
        if self.function is not None and columns:
            raise ValueError(
                f"uncertainties names columns of a table ({columns[0]!r}), but there is none: give "
                "numbers, or let the function give patch operations"
            )
        return self

    def content(self, *left_out: str) -> dict[str, Any]:
        """Give what points depend on, as plain data; results depend on more."""
        return self.model_dump(mode="json", exclude={"plot_bins", "negative", "nlls", *left_out})

    @property
    def function_file(self) -> Path | None:
        """File of the function, unless it is in a module."""
        module = (self.function or "").partition(":")[0]
        return Path(module) if module.endswith(".py") else None

    @property
    def files(self) -> list[Path]:
        """All files that points depend on."""
        paths = [self.table, self.function_file, *self.depends]
        return [path for path in paths if path is not None]


class Forbidden(Model):
    """Part of a plane that is kinematically forbidden."""

    y_above: str
    """Upper limit of y as an expression of x, such as `x - 125`."""
    label: str | None = None
    """Text along the boundary."""


class PublishedCurve(Model):
    """One published curve, as a HEPData table in CSV."""

    file: str
    """File name in the download cache, below `published/ANALYSIS/`."""
    url: str | None = None
    """Address of the table in CSV; none: only the cache is searched."""


class PublishedLimits(Model):
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
    """Quantity of the limit: the cross section, in pb or fb, or the signal strength."""


class Published(Model):
    """Result of the experiment for a plane."""

    observed: PublishedCurve | None = None
    """The observed contour."""
    expected: PublishedCurve | None = None
    """The expected contour."""
    upper_limits: PublishedLimits | None = None
    """The observed upper limits, for a comparison."""
    x: int | str = 0
    """Column of x in the tables: number or header."""
    y: int | str = 1
    """Column of y in the tables: number or header."""


class Plane(Model):
    """One plane of the signal model in which a contour is drawn.

    Expressions hold numbers, labels (in backticks if they are no plain names), `+ - * / // % **`,
    comparisons, `and`, `or`, `not`, and quoted texts next to `==` or `!=`.
    """

    x: str
    """Expression of the patchset's labels for the horizontal axis."""
    y: str
    """Expression of the patchset's labels for the vertical axis."""
    x_title: str
    """Title of the horizontal axis, with its unit in brackets; `$...$` is mathematics."""
    y_title: str
    """Title of the vertical axis."""
    select: str | None = None
    """Condition on the labels for points of this plane, such as `mn1 == 60`."""
    title: str | None = None
    """Further text of the plot's legend."""
    forbidden: Forbidden | None = None
    """The kinematically forbidden part."""
    published: Published = Published()
    """Contours of the experiment, which are overlaid."""


class Slice(Model):
    """A line of signal points, along which upper limits are drawn."""

    x: str
    """Expression of the labels for the horizontal axis."""
    x_title: str
    """Title of the horizontal axis, with its unit in brackets."""
    select: str | None = None
    """Condition on the labels for the points of the line, such as `m2 == 0`."""
    title: str | None = None
    """Further text of the plot, such as `$m_2 = 0$`."""


class CrossSection(Model):
    """Theory cross sections of the signal points, from a table in CSV.

    With it, upper limits are given in pb, too. Lines that begin with `#` are comments.
    """

    file: Path
    """The table; relative paths start at the analysis file."""
    columns: Annotated[dict[str, str], Field(min_length=1)]
    """The column of each label that the cross section depends on, such as
    `{m1: "mass [GeV]"}`."""
    value: str
    """Column of the cross section of the process whose yields the patches hold."""
    unit: Literal["pb", "fb"]
    """Unit of the cross section."""
    uncertainty: str | None = None
    """Column of its uncertainty (one standard deviation), if there is one."""
    uncertainty_in: Literal["unit", "percent"] = "unit"
    """Unit of the uncertainty: that of the cross section, or per cent of it."""
    interpolate: str | None = None
    """Label along which the logarithm of the cross section is interpolated linearly between rows
    of the table, but not beyond them; none: the table must have each point."""

    @model_validator(mode="after")
    def _interpolates_a_column(self) -> CrossSection:
        if self.interpolate is not None and self.interpolate not in self.columns:
            raise ValueError(
                f"interpolate names {self.interpolate!r}, but columns has {', '.join(self.columns)}"
            )
        return self


class HepdataKeywords(Model):
    """Keywords of every table, by which HEPData finds it."""

    cmenergies: list[Positive] = []
    """Centre-of-mass energies in GeV, such as `13000`."""
    reactions: list[Keyword] = []
    """Reactions in HEPData's notation, such as `P P --> CHARGINO1 NEUTRALINO2 X`."""
    observables: list[Keyword] = []
    """Observables in HEPData's notation, such as `CLS`."""
    phrases: list[Keyword] = []
    """Other words, such as `Supersymmetry`."""


class Hepdata(Model):
    """Description of the analysis in a HEPData submission (target `hepdata`)."""

    comment: str | None = None
    """Abstract of the submission; none: title and reference."""
    location: Annotated[str, Field(max_length=256)] | None = None
    """Location of the tables in a publication, such as `Figure 7`; none: a note that they were
    fitted from the published likelihood."""
    keywords: HepdataKeywords = HepdataKeywords()
    """Keywords by which HEPData finds the tables."""
    units: dict[str, str] = {}
    """Units by label. A label that is an axis of a plane has the unit of the axis."""


class PublishedTime(Model):
    """Published wall time of all fits, for the comparison of the target `benchmark`."""

    source: str
    """Publication and hardware."""
    patches: Annotated[int, Field(ge=1)]
    """Number of patches."""
    nodes_per_block: Annotated[int, Field(ge=1)] = 1
    """Nodes of a block."""
    max_blocks: Annotated[int, Field(ge=1)] = 1
    """Blocks at a time, at most."""
    repetitions: Annotated[int, Field(ge=1)]
    """Number of measurements."""
    mean: Positive
    """Mean in seconds."""
    deviation: Annotated[float, Field(ge=0)]
    """Standard deviation in seconds."""
    single_node: Positive | None = None
    """Seconds on a single node."""


class Analysis(Model):
    """One file in `config/analyses`: a published likelihood and the planes of its result."""

    name: Name
    """Short name; results go to `results/NAME`."""
    title: str
    """Title of plots: experiment, energy, luminosity, process."""
    reference: str | None = None
    """Citation of the search."""
    pallet: Pallet | None = None
    """Source of the archive; none for a combination."""
    combine: Combination | None = None
    """Other analyses that are combined, instead of a pallet."""
    regions: Annotated[dict[Name, Region], Field(min_length=1)]
    """Sub-likelihoods. With several, each point takes the one with the best expected CLs. A
    combination has one, which is called `combined` unless it is named here."""
    use: list[Name] | None = None
    """Regions that are fitted; none: all."""
    labels: Annotated[list[str], Field(min_length=1)]
    """The patchset's labels, in its order. Complete workspaces have one, the name of the region,
    which is called `likelihood` unless it is named here."""
    patches: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Shell patterns of the patches that are fitted."""
    points: Points | None = None
    """Signal points of your own, instead of the regions' patchsets."""
    channels: _Patterns | None = None
    """Names or shell patterns of the channels that are fitted, such as `["CR*"]`; none: all.
    [regions.md](regions.md) explains this and the next three keys."""
    mask: dict[str, _Bins] | None = None
    """Bins that do not count, by the name of their channel: `{SR: [0, 1]}`. They are counted
    from 0."""
    asimov: float | None = None
    """Blind all channels: Asimov data with this signal strength stand for the observations. With
    `blind`, the signal strength in the blinded channels; none: 0."""
    blind: _Patterns | None = None
    """Names or shell patterns of channels whose observations are not read. What the fit to the
    other channels expects there stands for them."""
    planes: dict[Name, Plane] = {}
    """Planes in which a contour is drawn; by the target `points`, the excluded fraction."""
    slices: dict[Name, Slice] = {}
    """Lines along which upper limits are drawn with their bands."""
    cross_section: CrossSection | None = None
    """Theory cross sections, for upper limits in pb."""
    hepdata: Hepdata = Hepdata()
    """Description of the analysis in a HEPData submission."""
    published_time: PublishedTime | None = None
    """Published wall time of all fits."""

    @model_validator(mode="before")
    @classmethod
    def _region_of_combination(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("combine") is not None and "regions" not in data:
            return {**data, "regions": {"combined": {}}}
        return data

    @model_validator(mode="before")
    @classmethod
    def _label_of_complete_workspaces(cls, data: Any) -> Any:
        regions = data.get("regions") if isinstance(data, dict) else None
        if isinstance(regions, dict) and regions and "labels" not in data:
            complete = [r.get("complete") is True for r in regions.values() if isinstance(r, dict)]
            if len(complete) == len(regions) and all(complete):
                return {**data, "labels": [COMPLETE_LABEL]}
        return data

    @model_validator(mode="after")
    def _one_source(self) -> Analysis:
        if (self.pallet is None) == (self.combine is None):
            sources = "both" if self.pallet is not None else "neither"
            raise ValueError(f"needs either pallet or combine, but has {sources}")
        if self.combine is not None and len(self.regions) > 1:
            raise ValueError("regions: a combination has one region only")
        if self.combine is not None and self.points is not None:
            raise ValueError("points need a pallet: a combination takes its members' patches")
        if "hepdata" in self.regions:
            raise ValueError(
                "regions.hepdata: this folder of results is that of HEPData submissions, so give "
                "the region another name"
            )
        for name, region in self.regions.items():
            if self.combine is not None and region.members:
                raise ValueError(f"regions.{name}: a combination has no workspace and patchset")
            if self.combine is None and not region.workspace:
                raise ValueError(f"regions.{name}.workspace: this key is missing")
        return self

    @field_validator("labels")
    @classmethod
    def _labels_are_columns(cls, labels: list[str]) -> list[str]:
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        reserved = sorted(set(labels) & RESULT_COLUMNS)
        if repeated:
            raise ValueError(f"must differ from one another, but {', '.join(repeated)} is repeated")
        if reserved:
            raise ValueError(
                "must not be columns of results.csv or limits.csv, "
                f"but {', '.join(reserved)} is one"
            )
        return labels

    @model_validator(mode="after")
    def _patchsets_or_points(self) -> Analysis:
        if self.points is None:
            lacking = [
                name
                for name, region in self.regions.items()
                if not region.has_patches and not region.complete
            ]
            if lacking and self.combine is None:
                raise ValueError(
                    f"regions.{lacking[0]}.patchset: this key is missing; a workspace that has its "
                    "signal needs `complete: true` instead"
                )
            return self
        with_patches = [name for name, region in self.regions.items() if region.has_patches]
        if with_patches:
            raise ValueError(
                f"regions.{with_patches[0]} has a patchset beside points: remove one of both"
            )
        reserved = sorted(set(self.labels) & POINT_COLUMNS)
        if self.points.nlls:
            reserved += sorted(set(self.labels) & {*NLL_COLUMNS})
        if reserved:
            raise ValueError(f"labels must not be columns of points.parquet, as {reserved[0]} is")
        if self.patches != ["*"]:
            raise ValueError("patches are those of patchsets: remove the key beside points")
        return self

    @model_validator(mode="after")
    def _complete_workspaces(self) -> Analysis:
        complete = [name for name, region in self.regions.items() if region.complete]
        if not complete:
            return self
        with_patches = [name for name in self.regions if name not in complete]
        if self.combine is not None:
            raise ValueError(f"regions.{complete[0]}: a combination has no complete workspace")
        if self.points is not None:
            raise ValueError(
                f"regions.{complete[0]} is complete, so it takes no points: remove one of both"
            )
        if with_patches:
            raise ValueError(
                f"regions.{complete[0]} is complete and regions.{with_patches[0]} has patches, so "
                "that their points differ: write an analysis file for each kind"
            )
        if len(self.labels) != 1:
            raise ValueError("labels of complete workspaces are one label, or are left out")
        if self.patches != ["*"]:
            raise ValueError("patches are those of patchsets: choose complete workspaces by `use`")
        return self

    @model_validator(mode="after")
    def _expressions_can_be_evaluated(self) -> Analysis:
        labels = set(self.labels)
        for name, plane in self.planes.items():
            for key in ("x", "y", "select"):
                _check_expression(f"planes.{name}.{key}", getattr(plane, key), labels)
            if plane.forbidden is not None:
                key = f"planes.{name}.forbidden.y_above"
                _check_expression(key, plane.forbidden.y_above, {"x"}, "it may only use")
        for name, line in self.slices.items():
            for key in ("x", "select"):
                _check_expression(f"slices.{name}.{key}", getattr(line, key), labels)
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
    def _blinded_in_all_regions(self) -> Analysis:
        choices = {name: self.choice_of(name) for name in self.used_regions}
        blinded = [name for name, choice in choices.items() if choice.blinded]
        open_ = [name for name in choices if name not in blinded]
        if blinded and open_:
            raise ValueError(
                f"regions.{blinded[0]} is blinded and regions.{open_[0]} is not, but a point is "
                "taken from its most sensitive region: blind all regions, or none"
            )
        if self.points is not None and any(choice.asimov for choice in choices.values()):
            raise ValueError(
                "asimov has to be 0 beside points: data that expect a signal differ from point to "
                "point, and all points share the data of their background"
            )
        return self

    @model_validator(mode="after")
    def _pinned_files_are_used(self) -> Analysis:
        used = self.members
        unknown = sorted(
            file
            for file in (self.pallet.sha256 if self.pallet is not None else ())
            if not any(file == name or starred(file, name) for name in used)
        )
        if unknown:
            # A misspelt name would silently leave a file unverified.
            raise ValueError(
                f"pallet.sha256 names files that no region uses: {', '.join(unknown)} "
                f"(there are {', '.join(sorted(used))})"
            )
        return self

    def plane_suffix(self, plane: str) -> str:
        """Return the suffix of a plane's files, which is empty if there is only one plane."""
        return f"_{plane}" if len(self.planes) > 1 else ""

    def plane_of_suffix(self, suffix: str) -> Plane:
        """Return the plane of a suffix from :meth:`plane_suffix`."""
        return {self.plane_suffix(name): plane for name, plane in self.planes.items()}[suffix]

    @property
    def members(self) -> list[str]:
        """Names, or patterns of names, of all files of regions in the archive."""
        return list(dict.fromkeys(name for r in self.regions.values() for name in r.members))

    @property
    def complete(self) -> bool:
        """True if its regions are complete workspaces, each of them one point."""
        return all(region.complete for region in self.regions.values())

    def choice_of(self, region: str) -> Choice:
        """Give channels, bins and data of a region: its own keys come before the analysis' ones."""
        keys = {
            key: getattr(
                self.regions[region] if key in self.regions[region].model_fields_set else self, key
            )
            for key in OF_CHOICE
        }
        channels, mask, blind = keys["channels"], keys["mask"], keys["blind"]
        return Choice(
            None if channels is None else tuple(channels),
            {name: tuple(bins) for name, bins in mask.items()} if mask else None,
            keys["asimov"],
            None if blind is None else tuple(blind),
        )

    @property
    def blinded(self) -> bool:
        """True if expected events stand for observed ones in what is fitted."""
        return any(self.choice_of(region).blinded for region in self.used_regions)

    def published_of(self, plane: Plane) -> Published:
        """Give the published tables that may be read: those of a blinded analysis are expected."""
        if not self.blinded:
            return plane.published
        return plane.published.model_copy(update={"observed": None, "upper_limits": None})

    @property
    def choice_words(self) -> list[str]:
        """Lines for titles with channels, bins and data; one for each region if they differ."""
        words = {region: self.choice_of(region).words() for region in self.used_regions}
        if len({*words.values()}) == 1:
            return [_capitalised(text) for text in {*words.values()} if text]
        return [f"{region}: {text or 'all channels'}" for region, text in words.items()]

    @property
    def used_regions(self) -> list[str]:
        """Names of the regions that are fitted, in order."""
        return list(self.regions) if self.use is None else list(dict.fromkeys(self.use))


def _plain(value: Any) -> Any:
    """Give tuples and mappings as lists and dictionaries."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _check_expression(
    key: str, expression: str | None, allowed: set[str], description: str = "the labels are"
) -> None:
    if expression is None:
        return
    try:
        require_names(expression, allowed, description)
        if key.endswith(".select"):
            require_condition(expression)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
