"""Collect the results of all regions of an analysis."""

from pathlib import Path

from palletfit.config import Analysis
from palletfit.core.files import write_atomically, write_json
from palletfit.runs import results as collected
from palletfit.workflow import scripting


def main(*, analysis: Analysis, manifests: list[Path], results: Path, table: Path) -> None:
    """Write ``results.json`` and ``results.csv`` from the manifests of the regions."""
    regions = [collected.RegionResults.read(path.parent.name, path) for path in manifests]
    points = collected.combine(regions, analysis.labels)
    write_json(results, points)
    write_atomically(table, collected.as_table(points, analysis.labels).to_csv(index=False))


if __name__ == "__main__":
    scripting.run(main, globals())
