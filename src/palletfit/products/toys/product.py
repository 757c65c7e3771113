"""Pseudo-experiments as a product."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.core.files import read_json
from palletfit.pallet.patches import file_stem
from palletfit.runs.product import Drawing, Gathered, Output, Plot, Product
from palletfit.runs.store import RecordStore

if TYPE_CHECKING:
    import pandas as pd

    from palletfit.config import Analysis, Settings
    from palletfit.engine.protocol import Engine
    from palletfit.errors import PalletfitError
    from palletfit.pallet.patches import Patch
    from palletfit.runs.scan import Scan
    from palletfit.runs.schema import Result


class Toys(Product):
    """CLs from pseudo-experiments for chosen patches, in shards that merge exactly."""

    name = "toys"
    version = "toys-2"
    sections = ("toys",)
    extent_keys = frozenset({"patches", "toys", "precision", "toys_per_task"})
    engines = frozenset({"batched"})
    unit = ("shard", "shards")
    alone = True
    table = "toys"
    caption, label = "toys.rst", "CLs from toys"
    compares = True
    chosen_from = "results"
    plots = (
        Plot(
            "plot_toys",
            "patch",
            {
                "png": Output(("toys_{stem}.png",), "toys_patch.rst", "toys, {stem}"),
                "pdf": Output(("toys_{stem}.pdf",)),
            },
        ),
    )
    order = 4

    @classmethod
    def extent(cls, settings: Settings) -> dict[str, Any]:
        """Return the settings of the number of toys."""
        return {"extent": settings.toys.model_dump(mode="json", include={"toys", "precision"})}

    @classmethod
    def result_model(cls) -> type[Result]:
        """Return the schema of a result."""
        from palletfit.products.toys.schema import ShardResult

        return ShardResult

    def compute(
        self, engine: Engine, patches: Sequence[Patch]
    ) -> Iterator[tuple[Patch, Mapping[str, Any] | PalletfitError]]:
        """Make shards on a worker."""
        from palletfit.products.toys.compute import compute

        return compute(engine, patches, self.settings)

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
        """Make toys shard by shard, and in rounds if a precision is set."""
        from palletfit.products.toys.shards import make

        return make(scan, fit, store, settings.toys, part, workers=workers)

    @classmethod
    def words(cls) -> str:
        """Name several results of the product, for people."""
        return "shards of toys"

    @classmethod
    def collect(cls, gathered: Gathered) -> dict[str, Any]:
        """Return the content of ``toys.json``."""
        from palletfit.pallet.choosing import read_choice
        from palletfit.products.hypotest.product import Hypotest
        from palletfit.products.toys import table
        from palletfit.runs.results import RegionResults

        entries = table.combine(
            read_json(gathered.results) if gathered.results is not None else {},
            [RegionResults.read(path, Hypotest) for path in gathered.tests],
            [RegionResults.read(path, cls) for path in gathered.manifests],
            gathered.settings.toys,
        )
        remarks = {
            path.parent.name: read_choice(path.parent).get("remarks", ())
            for path in gathered.manifests
        }
        entries = table.with_remarks(entries, remarks)
        return table.blinded(entries) if gathered.analysis.blinded else entries

    @classmethod
    def as_table(cls, entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
        """Return the content of ``toys.csv``."""
        from palletfit.products.toys import table

        return table.as_table(entries, labels)

    @classmethod
    def draw_patch(cls, drawing: Drawing) -> None:
        """Write the distribution of a patch's test statistic."""
        from palletfit.products.toys.plots import write_patch

        write_patch(drawing, cls)

    @classmethod
    def last_words(cls, folder: Path, analysis: Analysis, settings: Settings) -> list[str]:  # noqa: ARG003
        """Give CLs of each chosen point, and the paths of plots and tables."""
        points = cls.entries_made(folder, analysis)
        if points is None:
            return []
        plots = [folder / f"toys_{file_stem(point['patch'])}.png" for point in points]
        return [
            *(_summary(folder.name, point) for point in points),
            *(f"  plot:    {path}" for path in plots if path.exists()),
            f"  results: {folder / 'toys.csv'} and {folder / 'toys.json'}",
        ]


def _summary(analysis: str, point: Mapping[str, Any]) -> str:
    if point["status"] == "failed":
        return f"{analysis}: no toys of {point['patch']}: {point['problem']}"
    name, index = ("CLs_exp", 2) if point.get("blinded") else ("CLs_obs", None)
    value, error, formulae = (
        values if index is None or values is None else values[index]
        for values in (
            point[name],
            point["CLs_exp_errors" if index else "CLs_obs_error"],
            point["asymptotic"].get(name),
        )
    )
    result = "not defined" if value is None else f"{value:.4g} +- {error:.2g}"
    result += " expected (blinded)" if index else ""
    comparison = "" if formulae is None else f" (asymptotic {formulae:.4g})"
    quantity = "p0" if point["test_statistic"] == "q0" else "CLs"
    return (
        f"{analysis}: {quantity} of {point['patch']} from {point['toys']} toys of each hypothesis: "
        f"{result}{comparison}, {point['status']}"
    )
