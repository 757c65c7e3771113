"""The hypothesis test as a product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.core.text import counted
from palletfit.errors import ConfigError, PalletfitError
from palletfit.products.hypotest.neighbours import about_neighbours
from palletfit.runs.product import (
    Drawing,
    Gathered,
    Output,
    Plot,
    Product,
    about_left_out,
    about_minima,
    left_out,
    plot_files,
)

if TYPE_CHECKING:
    import pandas as pd

    from palletfit.config import Analysis, Settings
    from palletfit.engine.protocol import Engine
    from palletfit.pallet.patches import Patch
    from palletfit.planes.quantities import Quantity
    from palletfit.runs.scan import Scan
    from palletfit.runs.schema import Result
    from palletfit.runs.store import RecordStore


class Hypotest(Product):
    """CLs of every patch at one signal strength.

    It depends on settings of fits only, which keys and tasks hold anyway.
    """

    name = "hypotest"
    table = "results"
    caption, label = "results.rst", "results"
    plots = (
        Plot(
            "plot_contour",
            "plane",
            {
                "contour": Output(("contour{plane}.json",)),
                "png": Output(("exclusion{plane}.png",), "exclusion.rst", "contour{plane}"),
                "pdf": Output(("exclusion{plane}.pdf",)),
            },
            curves=True,
        ),
    )
    order = 0

    def as_json(self) -> dict[str, Any]:
        """Return nothing: a key or a task that names no product is of a hypothesis test."""
        return {}

    @classmethod
    def shown_files(cls, analysis: Analysis, settings: Settings) -> list[str]:
        """Return the page of each plane first; p0 of q0 has none."""
        files = super().shown_files(analysis, settings)
        suffixes = map(analysis.plane_suffix, analysis.planes if cls.plots_of(settings) else ())
        return [*(f"exclusion{suffix}.html" for suffix in suffixes), *files]

    @classmethod
    def result_model(cls) -> type[Result]:
        """Return the schema of a result."""
        from palletfit.products.hypotest.schema import HypotestResult

        return HypotestResult

    def compute(
        self, engine: Engine, patches: Sequence[Patch]
    ) -> Iterator[tuple[Patch, Mapping[str, Any] | PalletfitError]]:
        """Test patches on a worker."""
        for patch, result in engine.hypotests(patches):
            yield patch, result if isinstance(result, PalletfitError) else result.as_json()

    @classmethod
    def check(cls, settings: Settings) -> None:
        """Refuse a choice of points where there is nothing to choose by.

        Raises
        ------
        ConfigError
            Points are to be chosen for a test of discovery, or by jobs that do not know each other.
        """
        super().check(settings)
        if settings.points.choose == "all":
            return
        if settings.fit.test_statistic == "q0":
            raise ConfigError(
                "`points.choose: adaptive` chooses points by an exclusion contour, which the test "
                "statistic q0 does not have.",
                remedy="Set `fit.test_statistic: qtilde`, or `points.choose: all`.",
            )
        if settings.executor.parts > 1:
            raise ConfigError(
                "`points.choose: adaptive` goes from round to round, and `executor.parts` splits a "
                "region over jobs that do not wait for each other.",
                remedy="Set `executor.parts: 1`, or `points.choose: all`.",
            )

    @classmethod
    def extent(cls, settings: Settings) -> dict[str, Any]:
        """Return by what points are chosen; nothing where all are tested."""
        if settings.points.choose == "all":
            return {}
        return {
            "choose": settings.points.choose,
            "precision": settings.points.precision,
            "round": settings.points.round,
            "confidence_level": settings.contour.confidence_level,
        }

    def make(
        self,
        scan: Scan,
        fit: Callable[[Scan], dict[str, Any]],
        store: RecordStore,
        settings: Settings,
        part: tuple[int, int] = (1, 1),
        *,
        workers: int = 1,
    ) -> dict[str, Any]:
        """Test all patches, or those that the contours need."""
        if settings.points.choose == "all":
            return super().make(scan, fit, store, settings, part, workers=workers)
        # It imports the engine, and what computes contours.
        from palletfit.products.hypotest.adaptive import make

        return make(scan, fit, store, settings)

    @classmethod
    def folder(cls) -> str:
        """Return the name of the folder of its records."""
        return "fits"

    @classmethod
    def file(cls, stem: str) -> str:
        """Return the name of a file beside the records: here without the product's name."""
        return stem

    @classmethod
    def title(cls, region: str) -> str:
        """Name the results of a region, for people."""
        return region

    @classmethod
    def words(cls) -> str:
        """Name several results of the product, for people."""
        return "hypothesis tests"

    @classmethod
    def quantity(cls) -> Quantity | None:
        """Return CLs, which decides whether a point is excluded."""
        from palletfit.planes.quantities import CLS

        return CLS

    @classmethod
    def amended(
        cls, records: Mapping[str, Mapping[str, Any]], folder: Path
    ) -> Mapping[str, Mapping[str, Any]]:
        """Take the results of patches that fell with a neighbour's minimum."""
        from palletfit.products.hypotest import neighbours

        return neighbours.amended(records, folder)

    @classmethod
    def collect(cls, gathered: Gathered) -> dict[str, Any]:
        """Return the content of ``results.json``."""
        from palletfit.products.hypotest import table
        from palletfit.runs.results import RegionResults

        regions = [RegionResults.read(path, cls) for path in gathered.manifests]
        return table.combine(regions, gathered.analysis.labels)

    @classmethod
    def as_table(cls, entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
        """Return the content of ``results.csv``."""
        from palletfit.products.hypotest import table

        return table.as_table(entries, labels)

    @classmethod
    def plots_of(cls, settings: Settings) -> tuple[Plot, ...]:
        """Return the contours; p0 of q0 has none."""
        return () if settings.fit.test_statistic == "q0" else cls.plots

    @classmethod
    def draw_plane(cls, drawing: Drawing) -> None:
        """Write the exclusion contour of a plane."""
        from palletfit.products.hypotest.plots import write_contour

        write_contour(drawing)

    @classmethod
    def label_of(cls, folder: Path, analysis: Analysis) -> str:
        """Say in the report that points have another minimum, or one of a neighbour."""
        points = cls.entries_made(folder, analysis) or []
        minima = "; ".join(
            filter(None, [about_minima(points, brief=True), about_neighbours(points)])
        )
        return f"{cls.label}: {minima}" if minima else cls.label

    @classmethod
    def left_out(cls, folder: Path, analysis: Analysis) -> list[str]:
        """Say which published tables the plots lack, and why."""
        return left_out(folder, "contour", analysis)

    @classmethod
    def last_words(cls, folder: Path, analysis: Analysis, settings: Settings) -> list[str]:
        """Give the number of excluded points, and the paths of contours and tables."""
        points = cls.entries_made(folder, analysis)
        if points is None:
            return []
        kinds = ("png", "pdf", "html") if cls.plots_of(settings) else ()
        contours = plot_files(folder, "exclusion", analysis, kinds)
        minima = [about_minima(points), about_neighbours(points)]
        return [
            _summary(analysis, points, settings),
            *(f"  minima:  {line}" for line in minima if line),
            *(f"  contour: {path}" for path in contours),
            *about_left_out(folder, cls.left_out(folder, analysis)),
            f"  results: {folder / 'results.csv'} and {folder / 'results.json'}",
        ]


def _summary(analysis: Analysis, points: Sequence[Mapping[str, Any]], settings: Settings) -> str:
    status = Counter(point["status"] for point in points)
    level = settings.contour.confidence_level
    size = round(1 - level, 12)  # 0.05, not 0.05 and a rounding error
    numbers = [point.get("forecast") or point for point in points]
    values = [
        (point["CLs_exp"] and point["CLs_exp"][2]) if analysis.blinded else point["CLs_obs"]
        for point in numbers
    ]
    excluded = sum(value is not None and value < size for value in values)
    expected = " as expected (blinded)" if analysis.blinded else ""
    exclusion = (
        ""
        if settings.fit.test_statistic == "q0"
        else f"{excluded} excluded{expected} at {100 * level:.4g}% CL, "
    )
    untested = status["untested"]
    tested = f" ({len(points) - untested} tested, others forecast)" if untested else ""
    return (
        f"{analysis.name}: {counted(len(points), 'signal point')}{tested}, {exclusion}"
        f"{status['suspect']} suspect, {status['failed']} failed"
    )
