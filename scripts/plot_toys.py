"""Draw how the test statistic of one patch is distributed in toys."""

from pathlib import Path

from palletfit.config import Analysis
from palletfit.core.files import read_json
from palletfit.planes.style import save
from palletfit.products.toys import table as toy_tables
from palletfit.products.toys.plots import draw_toys
from palletfit.runs.results import RegionResults
from palletfit.workflow import scripting


def main(
    *, analysis: Analysis, stem: str, toys: Path, manifests: list[Path], png: Path, pdf: Path
) -> None:
    """Write the plot of the patch whose name makes this file name."""
    entry = toy_tables.find(read_json(toys), stem)
    (region,) = [
        RegionResults.read(path.parent.name, path, "toys")
        for path in manifests
        if path.parent.name == entry["region"]
    ]
    save(draw_toys(entry, toy_tables.statistics(region, entry), analysis), [png, pdf])


if __name__ == "__main__":
    scripting.run(main, globals())
