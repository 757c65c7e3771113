"""The scan of the signal strength as a product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palletfit.products.limits.product import OfLimits
from palletfit.runs import choice
from palletfit.runs.product import Drawing, Output, Plot

if TYPE_CHECKING:
    from palletfit.config import Settings
    from palletfit.engine.protocol import Engine
    from palletfit.errors import PalletfitError
    from palletfit.pallet.patches import Patch
    from palletfit.runs.schema import Result


class MuScan(OfLimits):
    """CLs as a function of the signal strength, for chosen patches."""

    name = "mu_scan"
    version = "mu_scan-3"
    sections = ("mu_scan", "limits")
    chosen_from = "limits"
    plots = (
        Plot(
            "plot_mu_scan",
            "patch",
            {
                "png": Output(("mu_scan_{stem}.png",), "mu_scan.rst", "CLs against mu, {stem}"),
                "pdf": Output(("mu_scan_{stem}.pdf",)),
            },
            table=False,
        ),
    )
    order = 2

    @classmethod
    def choose(
        cls, table: choice.Results, settings: Settings, *, analysis: str, all_patterns: bool
    ) -> dict[str, list[str]]:
        """Choose patches; without patterns the one whose expected limit is nearest to one."""
        from palletfit.products.mu_scan.compute import choose

        return choose(analysis, cls.patterns(settings), table, all_patterns=all_patterns)

    @classmethod
    def result_model(cls) -> type[Result]:
        """Return the schema of a result."""
        from palletfit.products.mu_scan.schema import ScanResult

        return ScanResult

    def compute(
        self, engine: Engine, patches: Sequence[Patch]
    ) -> Iterator[tuple[Patch, Mapping[str, Any] | PalletfitError]]:
        """Scan patches on a worker."""
        from palletfit.products.mu_scan.compute import compute

        return compute(engine, patches, self.settings)

    @classmethod
    def draw_patch(cls, drawing: Drawing) -> None:
        """Write the plot of a patch."""
        from palletfit.products.mu_scan.plots import write_patch

        write_patch(drawing, cls)
