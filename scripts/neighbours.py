"""Try the minima of neighbouring points of a region, once all of its patches have records."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import write_json
from palletfit.products.hypotest import Hypotest
from palletfit.products.hypotest.neighbours import help_each_other
from palletfit.runs import scan
from palletfit.runs.results import RegionResults
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    region: str,
    settings: Settings,
    workspace: Path,
    patchset: Path,
    manifest: Path,
    neighbours: Path,
) -> None:
    """Write the new results of patches that fell, and where the lowest minimum changes."""
    todo = scan.of_region(analysis, region, settings, Hypotest, workspace, patchset)
    records = RegionResults.read(manifest, Hypotest, amended=False).records
    write_json(neighbours, help_each_other(todo, records, enabled=settings.neighbours))


if __name__ == "__main__":
    scripting.run(main, globals())
