"""Unpack, verify and describe one region of a pallet."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.pallet import prepare
from palletfit.workflow import complete, scripting


def main(
    *,
    analysis: Analysis,
    region: str,
    settings: Settings,
    archive: Path,
    workspace: Path,
    patchset: Path,
    summary: Path,
) -> None:
    """Write a region's workspace, patchset and summary (HTML, and JSON beside it)."""
    asking = complete.asking(analysis.regions[region], settings.fit)
    prepare.prepare_region(
        analysis, region, archive, workspace, patchset, summary, settings.download, asking
    )


if __name__ == "__main__":
    scripting.run(main, globals())
