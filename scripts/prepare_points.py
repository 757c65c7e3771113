"""Write the points of one region as a patchset."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.products.points import patchsets
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    region: str,
    settings: Settings,
    workspace: Path,
    patchset: Path,
    summary: Path,
) -> None:
    """Write a region's patchset and its summary (HTML, and JSON beside it)."""
    patchsets.prepare_patchset(analysis, region, settings, workspace, patchset, summary)


if __name__ == "__main__":
    scripting.run(main, globals())
