"""Upper limits as a product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from palletfit.core.text import counted
from palletfit.errors import ConfigError
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
    from palletfit.errors import PalletfitError
    from palletfit.pallet.patches import Patch
    from palletfit.planes.quantities import Quantity
    from palletfit.runs.schema import Result

#: What points with two minima have.
_OTHER = "other limits at another minimum"


class OfLimits(Product):
    """A product of upper limits, which do not exist for a test of discovery."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take from a configuration the settings of records, the confidence level included."""
        sections = super().of(settings).settings
        return cls({**sections, "confidence_level": settings.contour.confidence_level})

    @classmethod
    def check(cls, settings: Settings) -> None:
        """Refuse the test statistic of a discovery.

        Raises
        ------
        ConfigError
            It is asked for.
        """
        if settings.fit.test_statistic == "q0":
            raise ConfigError(
                "There is no upper limit for the test statistic q0.",
                remedy="Set `fit.test_statistic: qtilde`.",
            )
        super().check(settings)


class Limits(OfLimits):
    """Observed and expected upper limits on the signal strength of every patch."""

    name = "limits"
    version = "limits-3"
    sections = ("limits",)
    table = "limits"
    caption, label = "limits.rst", "upper limits"
    plots = (
        Plot(
            "plot_limits",
            "plane",
            {
                "contour": Output(("limit_contour{plane}.json",)),
                "png": Output(("limits{plane}.png",), "limits_plane.rst", "upper limits{plane}"),
                "pdf": Output(("limits{plane}.pdf",)),
            },
            curves=True,
        ),
        Plot(
            "plot_limit_slice",
            "slice",
            {
                "png": Output(
                    ("limits_slice_{slice}.png",), "limits_slice.rst", "upper limits along {slice}"
                ),
                "pdf": Output(("limits_slice_{slice}.pdf",)),
            },
        ),
        Plot(
            "plot_limit_names",
            "names",
            {
                "png": Output(("limits-by-name.png",), "limits_names.rst", "upper limits by name"),
                "pdf": Output(("limits-by-name.pdf",)),
            },
        ),
    )
    order = 1

    @classmethod
    def result_model(cls) -> type[Result]:
        """Return the schema of a result."""
        from palletfit.products.limits.schema import LimitsResult

        return LimitsResult

    def compute(
        self, engine: Engine, patches: Sequence[Patch]
    ) -> Iterator[tuple[Patch, Mapping[str, Any] | PalletfitError]]:
        """Compute the limits of patches on a worker."""
        from palletfit.products.limits.compute import compute

        return compute(engine, patches, self.settings)

    @classmethod
    def quantity(cls) -> Quantity | None:
        """Return the limit, which decides whether a point is excluded."""
        from palletfit.planes.quantities import LIMIT

        return LIMIT

    @classmethod
    def table_files(cls, analysis: Analysis) -> list[Path]:
        """Return the table of theory cross sections, if there is one."""
        return [analysis.cross_section.file] if analysis.cross_section is not None else []

    @classmethod
    def table_settings(cls, analysis: Analysis, settings: Settings) -> Any:  # noqa: ARG003
        """Return the settings of that table; a change makes other limits in pb."""
        source = analysis.cross_section
        return source.model_dump(mode="json") if source is not None else None

    @classmethod
    def collect(cls, gathered: Gathered) -> dict[str, Any]:
        """Return the content of ``limits.json``."""
        from palletfit.products.limits import table
        from palletfit.products.limits.cross_sections import Table
        from palletfit.runs.results import RegionResults

        source = gathered.analysis.cross_section
        theory = Table.read(source) if source is not None else None
        regions = [RegionResults.read(path, cls) for path in gathered.manifests]
        return table.combine(regions, gathered.analysis.labels, theory)

    @classmethod
    def as_table(cls, entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
        """Return the content of ``limits.csv``."""
        from palletfit.products.limits import table

        return table.as_table(entries, labels)

    @classmethod
    def draw_plane(cls, drawing: Drawing) -> None:
        """Write the limits in a plane, compared with published ones."""
        from palletfit.products.limits.plots import write_plane

        write_plane(drawing)

    @classmethod
    def draw_slice(cls, drawing: Drawing) -> None:
        """Write the limits along a line of points, with their bands."""
        from palletfit.products.limits.plots import write_slice

        write_slice(drawing)

    @classmethod
    def draw_names(cls, drawing: Drawing) -> None:
        """Write the limits of complete workspaces, by their names."""
        from palletfit.products.limits.plots import write_names

        write_names(drawing)

    @classmethod
    def label_of(cls, folder: Path, analysis: Analysis) -> str:
        """Say in the report that points have other limits at another minimum."""
        limits = cls.entries_made(folder, analysis) or []
        minima = about_minima(limits, brief=True, words=_OTHER)
        return f"{cls.label}: {minima}" if minima else cls.label

    @classmethod
    def left_out(cls, folder: Path, analysis: Analysis) -> list[str]:
        """Say which published tables the plots lack, and why."""
        return left_out(folder, "limit_contour", analysis)

    @classmethod
    def last_words(cls, folder: Path, analysis: Analysis, settings: Settings) -> list[str]:
        """Give the number of limits, and the paths of plots and tables."""
        limits = cls.entries_made(folder, analysis)
        if limits is None:
            return []
        plots = plot_files(folder, "limits", analysis, ("png", "pdf", "html"))
        plots += [path for path in [folder / "limits-by-name.png"] if path.exists()]
        minima = about_minima(limits, words=_OTHER)
        return [
            _summary(analysis, limits, settings),
            *([f"  minima: {minima}"] if minima else []),
            *(f"  limits: {path}" for path in plots),
            *about_left_out(folder, cls.left_out(folder, analysis)),
            f"  limits: {folder / 'limits.csv'} and {folder / 'limits.json'}",
        ]


def _summary(analysis: Analysis, limits: Sequence[Mapping[str, Any]], settings: Settings) -> str:
    status = Counter(limit["status"] for limit in limits)
    values, states = (
        [limit["mu_exp"][2] if analysis.blinded else limit["mu_obs"] for limit in limits],
        [limit["states"]["exp"][2] if analysis.blinded else limit["states"]["obs"]
         for limit in limits],
    )  # fmt: skip
    below = sum(value is not None and value < 1 for value in values)
    beyond = states.count("beyond")
    kind = "expected upper limit" if analysis.blinded else "upper limit"
    return (
        f"{analysis.name}: {counted(len(limits), kind)}{' (blinded)' * analysis.blinded} at "
        f"{100 * settings.contour.confidence_level:.4g}% CL, {below} below mu = 1, {beyond} beyond "
        f"the bound, {status['suspect']} suspect, {status['failed']} failed"
    )
