"""Diagnostics of fits as a product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.runs.product import Drawing, Gathered, Output, Plot, Product

if TYPE_CHECKING:
    import pandas as pd

    from palletfit.config import Analysis, Settings
    from palletfit.engine.protocol import Engine
    from palletfit.errors import PalletfitError
    from palletfit.pallet.patches import Patch
    from palletfit.runs.schema import Result


def _output(kind: str, caption: str, label: str) -> Output:
    stem = f"diagnostics_{{stem}}_{kind}"
    return Output(
        (f"{stem}.png", f"{stem}.pdf"), f"diagnostics_{caption}.rst", f"{label}, {{stem}}"
    )


class Diagnostics(Product):
    """Pulls, impacts, correlations, yields and significance of the fits of chosen patches."""

    name = "diagnostics"
    version = "diagnostics-1"
    sections = ("diagnostics",)
    engines = frozenset({"batched"})
    needs_poi = False
    table = "diagnostics"
    caption, label, subcategory = "diagnostics.rst", "diagnostics", "diagnostics"
    compares = True
    chosen_from = "results"
    plots = (
        Plot(
            "plot_diagnostics",
            "patch",
            {
                "pulls": _output("pulls", "pulls", "pulls"),
                "ranking": _output("ranking", "ranking", "ranking"),
                "correlations": _output("correlations", "correlations", "correlations"),
                "yields_prefit": _output("yields_prefit", "yields", "yields before the fit"),
                "yields_postfit": _output("yields_postfit", "yields", "yields after the fit"),
            },
            table=False,
        ),
    )
    order = 3

    @classmethod
    def result_model(cls) -> type[Result]:
        """Return the schema of a result."""
        from palletfit.products.diagnostics.schema import DiagnosticsResult

        return DiagnosticsResult

    def compute(
        self, engine: Engine, patches: Sequence[Patch]
    ) -> Iterator[tuple[Patch, Mapping[str, Any] | PalletfitError]]:
        """Diagnose the fits of patches on a worker."""
        from palletfit.products.diagnostics.compute import compute

        return compute(engine, patches, self.settings)

    @classmethod
    def collect(cls, gathered: Gathered) -> dict[str, Any]:
        """Return the content of ``diagnostics.json``."""
        from palletfit.products.diagnostics import table
        from palletfit.products.hypotest.product import Hypotest
        from palletfit.runs.results import RegionResults

        regions = [RegionResults.read(path, cls) for path in gathered.manifests]
        tests = [RegionResults.read(path, Hypotest) for path in gathered.tests]
        return table.combine(regions, tests, gathered.analysis.labels)

    @classmethod
    def as_table(cls, entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
        """Return the content of ``diagnostics.csv``."""
        from palletfit.products.diagnostics import table

        return table.as_table(entries, labels)

    @classmethod
    def draw_patch(cls, drawing: Drawing) -> None:
        """Write the plots of a patch."""
        from palletfit.products.diagnostics.plots import write_patch

        write_patch(drawing, cls)

    @classmethod
    def last_words(cls, folder: Path, analysis: Analysis, settings: Settings) -> list[str]:  # noqa: ARG003
        """Give the number of fits with diagnostics, and the paths of plots and tables."""
        patches = cls.entries_made(folder, analysis)
        if patches is None:
            return []
        status = Counter(patch["status"] for patch in patches)
        points = "signal point" if len(patches) == 1 else "signal points"
        summary = (
            f"{folder.name}: diagnostics of {len(patches)} {points}, "
            f"{status['suspect']} suspect, {status['failed']} failed"
        )
        return [
            summary,
            f"  plots:   {folder / 'diagnostics_*.png'}",
            f"  results: {folder / 'diagnostics.csv'} and {folder / 'diagnostics.json'}",
        ]
