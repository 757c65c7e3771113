"""Unpack, verify and describe one region of a pallet."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.pallet import prepare
from palletfit.workflow import choices, complete, scripting


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
    files = analysis.regions[region]
    prepare.prepare_region(
        analysis,
        region,
        archive,
        workspace,
        patchset,
        summary,
        settings.download,
        complete.asking(files, settings.fit),
        choices.choosing(analysis.choice_of(region), settings.fit, complete=files.complete),
    )


if __name__ == "__main__":
    scripting.run(main, globals())
