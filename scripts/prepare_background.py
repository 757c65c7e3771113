"""Unpack, verify and describe the background of one region of a scan."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.pallet import prepare
from palletfit.workflow import choices, scripting


def main(
    *,
    analysis: Analysis,
    region: str,
    settings: Settings,
    archive: Path,
    workspace: Path,
    summary: Path,
) -> None:
    """Write a region's workspace and summary (HTML, and JSON beside it)."""
    choosing = choices.choosing(analysis.choice_of(region), settings.fit)
    prepare.prepare_background(
        analysis, region, archive, workspace, summary, settings.download, choosing
    )


if __name__ == "__main__":
    scripting.run(main, globals())
