"""Collect the upper limits of all regions of an analysis."""

from pathlib import Path

from palletfit.config import Analysis
from palletfit.core.files import write_atomically, write_json
from palletfit.products.limits import table as limit_results
from palletfit.products.limits.cross_sections import Table
from palletfit.runs.results import RegionResults
from palletfit.workflow import scripting


def main(*, analysis: Analysis, manifests: list[Path], limits: Path, csv: Path) -> None:
    """Write ``limits.json`` and ``limits.csv`` from the manifests of the regions."""
    source = analysis.cross_section
    theory = Table.read(source) if source is not None else None
    regions = [RegionResults.read(path.parent.name, path, "limits") for path in manifests]
    found = limit_results.combine(regions, analysis.labels, theory)
    write_json(limits, found)
    write_atomically(csv, limit_results.as_table(found, analysis.labels).to_csv(index=False))


if __name__ == "__main__":
    scripting.run(main, globals())
