"""Merge the toys of all regions of an analysis."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_atomically, write_json
from palletfit.products.toys import table as toy_tables
from palletfit.runs.results import RegionResults
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    settings: Settings,
    results: Path,
    tests: list[Path],
    manifests: list[Path],
    toys: Path,
    csv: Path,
) -> None:
    """Write ``toys.json`` and ``toys.csv`` from the manifests of the regions."""
    found = toy_tables.combine(
        read_json(results),
        [RegionResults.read(path.parent.name, path) for path in tests],
        [RegionResults.read(path.parent.name, path, "toys") for path in manifests],
        settings.toys,
    )
    write_json(toys, found)
    write_atomically(csv, toy_tables.as_table(found, analysis.labels).to_csv(index=False))


if __name__ == "__main__":
    scripting.run(main, globals())
