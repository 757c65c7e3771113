"""The hypothesis tests of a large scan as a product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.core.text import counted
from palletfit.runs.product import Drawing, Gathered, Output, Plot, Product, is_newer, plot_files

if TYPE_CHECKING:
    from palletfit.config import Analysis, Region, Settings
    from palletfit.engine.protocol import Engine
    from palletfit.errors import PalletfitError
    from palletfit.pallet.patches import Patch
    from palletfit.runs.schema import Result


class Points(Product):
    """A hypothesis test of every point of a large scan, reduced to a few numbers."""

    name = "points"
    version = "points-1"
    unit = ("point", "points")
    records = False
    table = "points"
    endings = ("parquet",)
    plots = (
        Plot(
            "plot_points",
            "plane",
            {
                "png": Output(("excluded{plane}.png",), "excluded.rst", "excluded fraction{plane}"),
                "pdf": Output(("excluded{plane}.pdf",)),
            },
        ),
    )
    order = 5

    @classmethod
    def result_model(cls) -> type[Result]:
        """Return the schema of a result."""
        from palletfit.products.points.schema import PointResult

        return PointResult

    def compute(
        self, engine: Engine, patches: Sequence[Patch]
    ) -> Iterator[tuple[Patch, Mapping[str, Any] | PalletfitError]]:
        """Test points on a worker."""
        from palletfit.products.points.compute import compute

        return compute(engine, patches, self.settings)

    @classmethod
    def is_complete(cls, content: Mapping[str, Any], folder: Path, region: Region) -> bool:  # noqa: ARG003
        """Return true if a manifest leaves nothing to fit."""
        # Imported for points only: the import of Parquet takes long.
        from palletfit.products.points.run import is_complete

        return is_complete(content, folder / cls.folder())

    @classmethod
    def table_settings(cls, analysis: Analysis, settings: Settings) -> Any:  # noqa: ARG003
        """Return the level at which points count as excluded."""
        return settings.contour.confidence_level

    @classmethod
    def write_table(cls, gathered: Gathered, files: Mapping[str, Path]) -> None:
        """Write the table of all points in bounded memory."""
        from palletfit.products.points.collect import collect

        level = gathered.settings.contour.confidence_level
        collect(
            gathered.manifests,
            gathered.analysis.labels,
            files["parquet"],
            level,
            blinded=gathered.analysis.blinded,
        )

    @classmethod
    def plots_of(cls, settings: Settings) -> tuple[Plot, ...]:
        """Return the excluded fractions; p0 of q0 excludes nothing."""
        return () if settings.fit.test_statistic == "q0" else cls.plots

    @classmethod
    def plane_settings(cls, analysis: Analysis) -> dict[str, Any]:
        """Return the number of the plot's bins."""
        return {"bins": analysis.points.plot_bins} if analysis.points is not None else {}

    @classmethod
    def draw_plane(cls, drawing: Drawing) -> None:
        """Write the excluded fraction in the bins of a plane."""
        from palletfit.products.points.plots import write_plane

        write_plane(drawing)

    @classmethod
    def last_words(cls, folder: Path, analysis: Analysis, settings: Settings) -> list[str]:  # noqa: ARG003
        """Give the number of excluded points, and the paths of plots and the table."""
        table = folder / "points.parquet"
        manifests = [folder / region / "points.json" for region in analysis.used_regions]
        if not is_newer(table, manifests):
            return []  # the run made another target
        from palletfit.products.points.collect import counts_of

        counts = counts_of(table)
        level = f"{100 * counts['confidence_level']:.4g}% CL"
        summary = (
            f"{folder.name}: {counted(counts['points'], 'point')}, "
            f"{counts['excluded']} excluded{' as expected (blinded)' * analysis.blinded} at "
            f"{level}, "
            f"{counts['suspect']} suspect, {counts['failed']} failed"
        )
        return [
            summary,
            *(
                f"  plot:    {path}"
                for path in plot_files(folder, "excluded", analysis, ("png", "pdf"))
            ),
            f"  results: {table}",
        ]
