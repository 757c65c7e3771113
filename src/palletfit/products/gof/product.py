"""The goodness of fit as a product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palletfit.errors import ConfigError
from palletfit.runs.product import Drawing, Gathered, Output, Plot, Product

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from palletfit.config import Analysis, Settings
    from palletfit.engine.protocol import Engine
    from palletfit.errors import PalletfitError
    from palletfit.pallet.patches import Patch
    from palletfit.runs.schema import Result


class Goodness(Product):
    """Goodness of the fits of chosen patches in the saturated model."""

    name = "gof"
    version = "gof-1"
    sections = ("gof",)
    needs_poi = False
    table = "gof"
    caption, label, subcategory = "gof.rst", "goodness of fit", "goodness of fit"
    chosen_from = "results"
    plots = (
        Plot(
            "plot_gof",
            "patch",
            {
                "png": Output(("gof_{stem}.png",), "gof_plot.rst", "goodness of fit, {stem}"),
                "pdf": Output(("gof_{stem}.pdf",)),
            },
            table=False,
        ),
    )
    order = 4

    @classmethod
    def check(cls, settings: Settings) -> None:
        """Refuse toys of an engine that makes none.

        Raises
        ------
        ConfigError
            The engine is not the batched one.
        """
        super().check(settings)
        if settings.gof.toys and settings.fit.engine != "batched":
            raise ConfigError(
                f"The engine {settings.fit.engine} makes no toys, and `gof.toys` asks for some.",
                remedy="Set `fit.engine: batched`, or `gof.toys: 0`.",
            )

    @classmethod
    def result_model(cls) -> type[Result]:
        """Return the schema of a result."""
        from palletfit.products.gof.schema import GoodnessResult

        return GoodnessResult

    def compute(
        self, engine: Engine, patches: Sequence[Patch]
    ) -> Iterator[tuple[Patch, Mapping[str, Any] | PalletfitError]]:
        """Compare the best fits of patches with the saturated model, on a worker."""
        from palletfit.products.gof.compute import compute

        return compute(engine, patches, self.settings)

    @classmethod
    def collect(cls, gathered: Gathered) -> dict[str, Any]:
        """Return the content of ``gof.json``: what records have, but for single toys."""
        from palletfit.products.gof.compute import without_statistics

        return without_statistics(super().collect(gathered))

    @classmethod
    def as_table(cls, entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
        """Return the content of ``gof.csv``."""
        from palletfit.products.gof.compute import as_table

        return as_table(entries, labels)

    @classmethod
    def draw_patch(cls, drawing: Drawing) -> None:
        """Write the plot of a patch."""
        from palletfit.products.gof.plots import write_patch

        write_patch(drawing, cls)

    @classmethod
    def last_words(cls, folder: Path, analysis: Analysis, settings: Settings) -> list[str]:
        """Give the number of fits, and the paths of tables and plots."""
        lines = super().last_words(folder, analysis, settings)
        return [*lines, f"  plots:   {folder / 'gof_*.png'}"] if lines else []

    @classmethod
    def words(cls) -> str:
        """Name the product in many, for people."""
        return "goodness of fit"
