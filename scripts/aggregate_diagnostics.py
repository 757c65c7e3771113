"""Collect the diagnostics of the chosen patches of all regions of an analysis."""

from pathlib import Path

from palletfit.config import Analysis
from palletfit.core.files import write_atomically, write_json
from palletfit.products.diagnostics import table as diagnostics_results
from palletfit.runs.results import RegionResults
from palletfit.workflow import scripting


def main(
    *, analysis: Analysis, manifests: list[Path], tests: list[Path], diagnostics: Path, csv: Path
) -> None:
    """Write ``diagnostics.json`` and ``diagnostics.csv`` from the manifests of the regions."""
    regions = [RegionResults.read(path.parent.name, path, "diagnostics") for path in manifests]
    tested = [RegionResults.read(path.parent.name, path) for path in tests]
    found = diagnostics_results.combine(regions, tested, analysis.labels)
    write_json(diagnostics, found)
    write_atomically(csv, diagnostics_results.as_table(found, analysis.labels).to_csv(index=False))


if __name__ == "__main__":
    scripting.run(main, globals())
