"""Collect the results of all regions of an analysis."""

import json
from pathlib import Path

from palletfit.config import Analysis
from palletfit.runs import results as collected
from palletfit.runs.store import write_atomically
from palletfit.workflow import scripting


def main(*, analysis: Analysis, manifests: list[Path], results: Path, table: Path) -> None:
    """Write ``results.json`` and ``results.csv`` from the manifests of the regions."""
    regions = [collected.RegionResults.read(path.parent.name, path) for path in manifests]
    points = collected.combine(regions, analysis.labels)
    write_atomically(results, json.dumps(points, indent=1) + "\n")
    write_atomically(table, collected.as_table(points, analysis.labels).to_csv(index=False))


if __name__ == "__main__":
    scripting.run(main, globals())
