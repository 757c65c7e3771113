"""The base class of products: a question to each patch, and what becomes of the answers.

A hypothesis test is one product of a patch; upper limits are another. All go the same way: a task
through an executor, one record a unit under a key that holds the product's settings, a table of all
records, plots. A product says what is its own on this way; rules and scripts are the same for all.

Imports nothing heavy: every process of the workflow has to know which records are outdated. What a
worker computes, tables and plots are imported where they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from palletfit.core.files import read_json, write_atomically, write_json
from palletfit.errors import ConfigError, StoreError
from palletfit.runs import choice, manifest
from palletfit.runs.store import RecordStore

if TYPE_CHECKING:
    import pandas as pd

    from palletfit.config import Analysis, Region, Settings
    from palletfit.engine.protocol import Engine
    from palletfit.errors import PalletfitError
    from palletfit.pallet.patches import Patch
    from palletfit.planes.quantities import Quantity
    from palletfit.runs.scan import Scan
    from palletfit.runs.schema import Result

#: Each patch once, in any order, with its result (plain data with ``status``: ``ok`` or
#: ``suspect``) or the error that explains why there is none.
Answers = Iterator[tuple["Patch", "Mapping[str, Any] | PalletfitError"]]


@dataclass(frozen=True)
class Output:
    """Files that a plot's rule writes together.

    Attributes
    ----------
    files
        Patterns below ``results/ANALYSIS`` with ``{plane}``, ``{slice}`` or ``{stem}``.
    caption
        File in ``report/`` that explains the first of the files there; empty: not in the report.
    label
        Its label in the report.
    """

    files: tuple[str, ...]
    caption: str = ""
    label: str = ""


@dataclass(frozen=True)
class Plot:
    """A plot of a product, drawn by its method ``draw_plane``, ``draw_slice`` or ``draw_patch``.

    Attributes
    ----------
    rule
        Name of the rule that draws it.
    of
        What there is one plot for.
    outputs
        By name.
    curves
        Whether published curves of the plane are drawn, too.
    table
        Whether the product's table is read.
    """

    rule: str
    of: Literal["plane", "slice", "patch"]
    outputs: Mapping[str, Output]
    curves: bool = False
    table: bool = True


@dataclass(frozen=True)
class Gathered:
    """The sources of a product's table.

    Attributes
    ----------
    analysis, settings
        The configuration.
    manifests
        Of the product, one for each region that is fitted.
    tests
        The same of the hypothesis tests, if the product compares with them.
    results
        ``results.json``, if the product compares with it.
    """

    analysis: Analysis
    settings: Settings
    manifests: Sequence[Path]
    tests: Sequence[Path] = ()
    results: Path | None = None


@dataclass(frozen=True)
class Drawing:
    """The sources of a plot, and the files that it goes to.

    Attributes
    ----------
    analysis, settings
        The configuration.
    files
        Files of each of the plot's outputs, by its name.
    inputs
        ``table``: the product's table; ``curves``: published curves; as far as the plot reads them.
    manifests
        Of the product, for plots of a patch.
    subject
        Suffix of the plane's files, name of the slice, or stem of the patch's record.
    """

    analysis: Analysis
    settings: Settings
    files: Mapping[str, Sequence[Path]]
    subject: str
    inputs: Mapping[str, Path] = field(default_factory=dict)
    manifests: Sequence[Path] = ()


@dataclass(frozen=True)
class Product:
    """A question to every patch: a subclass for each product, an instance for given settings.

    Attributes
    ----------
    settings
        Plain data; part of the key of every record.
    name
        Such as ``limits``; also the name of its section of the configuration.
    version
        Part of the key of every record: raise it when a change of the product changes results.
        Empty: the engine's version is enough.
    sections
        Sections of the configuration that its records depend on.
    extent_keys
        Keys of its section that change which records there are, but none of them.
    engines
        Those that make it.
    unit
        What a record is of, for people: one of them, and many.
    records
        Whether it is kept in a record a unit.
    alone
        Whether each unit is a task by itself.
    table
        Stem of its table; None: there is none.
    endings
        Of its table's files.
    caption, label
        File in ``report/`` that explains its table there, and the table's label.
    subcategory
        Of its files in the report.
    compares
        Whether its table needs the hypothesis tests.
    chosen_from
        Table that its patches are chosen from; None: it is made for all patches.
    plots
        At most one of each kind.
    order
        Products are listed by it.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar[str]
    version: ClassVar[str] = ""
    sections: ClassVar[tuple[str, ...]] = ()
    extent_keys: ClassVar[frozenset[str]] = frozenset({"patches", "folder"})
    engines: ClassVar[frozenset[str]] = frozenset({"batched", "reference"})
    unit: ClassVar[tuple[str, str]] = ("patch", "patches")
    records: ClassVar[bool] = True
    alone: ClassVar[bool] = False
    table: ClassVar[str | None] = None
    endings: ClassVar[tuple[str, ...]] = ("json", "csv")
    caption: ClassVar[str] = ""
    label: ClassVar[str] = ""
    subcategory: ClassVar[str] = ""
    compares: ClassVar[bool] = False
    chosen_from: ClassVar[str | None] = None
    plots: ClassVar[tuple[Plot, ...]] = ()
    order: ClassVar[int] = 100

    # ------------------------------------------------------------------ what is asked

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take from a configuration what records of the product depend on."""
        return cls(
            {
                section: settings.section(section).model_dump(mode="json", exclude=cls.extent_keys)
                for section in cls.sections
            }
        )

    @classmethod
    def check(cls, settings: Settings) -> None:
        """Refuse a configuration under which the product cannot be made.

        Raises
        ------
        ConfigError
            The engine does not make it.
        """
        if settings.fit.engine not in cls.engines:
            raise ConfigError(
                f"The engine {settings.fit.engine} makes no {cls.name}.",
                remedy=f"Set `fit.engine: {min(cls.engines)}`.",
            )

    @classmethod
    def patterns(cls, settings: Settings) -> Sequence[str]:
        """Return the shell patterns by which the configuration chooses patches."""
        patterns: Sequence[str] = settings.section(cls.name).patches
        return patterns

    @classmethod
    def choose(
        cls, table: choice.Results, settings: Settings, *, analysis: str, all_patterns: bool
    ) -> dict[str, list[str]]:
        """Choose patches by region; without patterns the one that is nearest to exclusion.

        Parameters
        ----------
        table
            Content of the table :attr:`chosen_from`.
        settings
            The configuration.
        analysis, all_patterns
            See :func:`palletfit.runs.choice.matching`.

        Raises
        ------
        ConfigError
            A pattern matches no patch, or no patch is near to exclusion.
        """
        return choice.choose(
            cls.patterns(settings),
            table,
            settings.contour.confidence_level,
            analysis=analysis,
            section=cls.name,
            all_patterns=all_patterns,
        )

    @classmethod
    def extent(cls, settings: Settings) -> dict[str, Any]:  # noqa: ARG003
        """Return what changes which records there are, but none of them."""
        return {}

    def as_json(self) -> dict[str, Any]:
        """Return what a key and a task say of the product."""
        return {
            "product": {
                "name": self.name,
                "version": self.version,
                "settings": dict(self.settings),
            }
        }

    # ------------------------------------------------------------------ how it is made

    def compute(self, engine: Engine, patches: Sequence[Patch]) -> Answers:
        """Answer for some patches, on a worker."""
        raise NotImplementedError

    @classmethod
    def result_model(cls) -> type[Result]:
        """Return the schema of a result that is not a failure.

        A result that does not have it is no record. Without a method of its own the results of a
        product have a status, and plain data.
        """
        from palletfit.runs.schema import Result

        return Result

    def make(
        self,
        scan: Scan,
        fit: Callable[[Scan], dict[str, Any]],
        store: RecordStore,  # noqa: ARG002
        settings: Settings,  # noqa: ARG002
        part: tuple[int, int] = (1, 1),
    ) -> dict[str, Any]:
        """Make what is asked of a region.

        Parameters
        ----------
        scan
            The patches.
        fit
            Makes the units of a scan that have no record yet, see :func:`palletfit.runs.run.run`.
        store
            Where records are.
        settings
            The configuration.
        part
            Which part of the region, of how many.

        Returns
        -------
        dict
            The manifest.
        """
        return fit(scan.part(*part) if part[1] > 1 else scan)

    @classmethod
    def folder(cls) -> str:
        """Return the name of the folder of its records, beside the manifest."""
        return cls.name

    @classmethod
    def file(cls, stem: str) -> str:
        """Return the name of a file beside the records, which other products have, too."""
        return f"{stem}-{cls.name}"

    @classmethod
    def title(cls, region: str) -> str:
        """Name what is made of a region, for people."""
        return f"{region} {cls.name}"

    @classmethod
    def is_complete(cls, content: Mapping[str, Any], folder: Path, region: Region) -> bool:
        """Say whether a manifest leaves nothing to make.

        Parameters
        ----------
        content
            The manifest.
        folder
            Where it is.
        region
            The region of the analysis.
        """
        return manifest.is_complete(content, RecordStore(folder / cls.folder()), region)

    # ------------------------------------------------------------------ what becomes of it

    @classmethod
    def amended(
        cls,
        records: Mapping[str, Mapping[str, Any]],
        folder: Path,  # noqa: ARG003
    ) -> Mapping[str, Mapping[str, Any]]:
        """Replace records of a region, by patch, by later results in the region's folder."""
        return records

    @classmethod
    def words(cls) -> str:
        """Name the product in many, for people."""
        return cls.name.replace("_", " ")

    @classmethod
    def quantity(cls) -> Quantity | None:
        """Return what a point's value says about exclusion, if it says anything."""
        return None

    @classmethod
    def table_files(cls, analysis: Analysis) -> list[Path]:  # noqa: ARG003
        """Return further files that the table is made from."""
        return []

    @classmethod
    def table_settings(cls, analysis: Analysis, settings: Settings) -> Any:  # noqa: ARG003
        """Return what the table depends on beside files, as plain data."""
        return cls.extent(settings)

    @classmethod
    def write_table(cls, gathered: Gathered, files: Mapping[str, Path]) -> None:
        """Write the table's files, by their ending."""
        labels = gathered.analysis.labels
        entries = cls.collect(gathered)
        write_json(files["json"], entries)
        write_atomically(files["csv"], cls.as_table(entries, labels).to_csv(index=False))

    @classmethod
    def collect(cls, gathered: Gathered) -> dict[str, Any]:
        """Return an entry for each signal point, by its name.

        Without a method of its own the entry of a product is its record, without what all records
        have, of each region in which there is one.
        """
        from palletfit.runs.results import RegionResults, plain_entries

        regions = [RegionResults.read(path, cls) for path in gathered.manifests]
        return plain_entries(regions, gathered.analysis.labels)

    @classmethod
    def as_table(cls, entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
        """Return a row for each entry.

        Without a method of its own the columns of a product are what all tables have, and all that
        is no list or mapping.
        """
        from palletfit.runs.results import plain_table

        return plain_table(entries, labels)

    @classmethod
    def plane_settings(cls, analysis: Analysis) -> dict[str, Any]:  # noqa: ARG003
        """Return what the plot of a plane depends on beside files and what all planes have."""
        return {}

    @classmethod
    def draw_plane(cls, drawing: Drawing) -> None:
        """Write the plot of a plane."""
        raise NotImplementedError

    @classmethod
    def draw_slice(cls, drawing: Drawing) -> None:
        """Write the plot along a line of points."""
        raise NotImplementedError

    @classmethod
    def draw_patch(cls, drawing: Drawing) -> None:
        """Write the plot of a patch."""
        raise NotImplementedError

    @classmethod
    def plots_of(cls, settings: Settings) -> tuple[Plot, ...]:  # noqa: ARG003
        """Return the plots that there are under a configuration."""
        return cls.plots

    @classmethod
    def files_of(cls, name: str, analysis: Analysis, settings: Settings) -> list[str]:
        """Return the files of an analysis that no choice of patches decides about: tables, plots.

        Parameters
        ----------
        name
            Of the analysis, which is that of its folder.
        analysis, settings
            The configuration.
        """
        files = [] if cls.table is None else [f"{cls.table}.{ending}" for ending in cls.endings]
        for plot in cls.plots_of(settings):
            patterns = [file for output in plot.outputs.values() for file in output.files]
            if plot.of == "plane":
                suffixes = [analysis.plane_suffix(plane) for plane in analysis.planes]
                files += [file.format(plane=suffix) for suffix in suffixes for file in patterns]
            elif plot.of == "slice":
                files += [file.format(slice=line) for line in analysis.slices for file in patterns]
        return [f"results/{name}/{file}" for file in files]

    @classmethod
    def shown_files(cls, analysis: Analysis, settings: Settings) -> list[str]:
        """Return the names of those of :meth:`files_of` that a browser shows.

        Parameters
        ----------
        analysis, settings
            The configuration.
        """
        paths = cls.files_of(analysis.name, analysis, settings)
        return [Path(path).name for path in paths if path.endswith((".png", ".csv"))]

    @classmethod
    def files_of_patch(cls, name: str, stem: str) -> list[str]:
        """Return the plots of a chosen patch, see :meth:`files_of`."""
        return [
            f"results/{name}/{file.format(stem=stem)}"
            for plot in cls.plots
            if plot.of == "patch"
            for output in plot.outputs.values()
            for file in output.files
        ]

    @classmethod
    def label_of(cls, folder: Path, analysis: Analysis) -> str:  # noqa: ARG003
        """Label the table in the report, once it is made.

        Parameters
        ----------
        folder
            ``results/ANALYSIS``.
        analysis
            The analysis.
        """
        return cls.label

    @classmethod
    def last_words(cls, folder: Path, analysis: Analysis, settings: Settings) -> list[str]:  # noqa: ARG003
        """Say at the end of a run what there is and where, if it was made by now.

        Parameters
        ----------
        folder
            ``results/ANALYSIS``.
        analysis, settings
            The configuration.
        """
        entries = cls.entries_made(folder, analysis)
        if entries is None:
            return []
        files = " and ".join(str(folder / f"{cls.table}.{e}") for e in reversed(cls.endings))
        return [f"{analysis.name}: {cls.words()} of {len(entries)} points", f"  results: {files}"]

    @classmethod
    def entries_made(cls, folder: Path, analysis: Analysis) -> list[Mapping[str, Any]] | None:
        """Return the entries of a table that is newer than its regions' manifests.

        None if there is none: another target than this was asked for.
        """
        table = folder / f"{cls.table}.json"
        manifests = [folder / region / f"{cls.name}.json" for region in analysis.used_regions]
        if not is_newer(table, manifests):
            return None
        try:
            entries: Mapping[str, Any] = read_json(table)
        except StoreError:
            return None
        return list(entries.values())


def is_newer(file: Path, sources: Sequence[Path]) -> bool:
    """Say whether a file and its sources are there, and none of them is newer than the file."""
    try:
        written = file.stat().st_mtime
        return written >= max(path.stat().st_mtime for path in sources)
    except (OSError, ValueError):
        return False


def plot_files(folder: Path, stem: str, analysis: Analysis, endings: Sequence[str]) -> list[Path]:
    """Return the plots of all planes of an analysis that are there."""
    paths = [
        folder / f"{stem}{suffix}.{ending}"
        for suffix in map(analysis.plane_suffix, analysis.planes)
        for ending in endings
    ]
    return [path for path in paths if path.exists()]


def about_minima(
    points: Sequence[Mapping[str, Any]], *, brief: bool = False, words: str = "another minimum"
) -> str:
    """Say how many points have another minimum, and which one counts; empty if there is none.

    Parameters
    ----------
    points
        Entries of ``results.json``, or of ``limits.json``.
    brief
        Leave out the setting that gives the other minimum.
    words
        What such points have.
    """
    minima = [other["minimum"] for point in points if (other := point.get("other_minimum"))]
    if not minima:
        return ""
    counted = "nearest" if minima[0] == "lowest" else "lowest"
    sentence = f"{len(minima)} of {len(points)} points have {words}; the {counted} counts"
    return sentence if brief else f"{sentence}, and `fit.minimum: {minima[0]}` gives the other"
