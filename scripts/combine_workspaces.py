"""Combine the likelihoods of several analyses into one."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.pallet import combination
from palletfit.workflow import choices, scripting


def main(
    *,
    analysis: Analysis,
    region: str,
    settings: Settings,
    workspaces: list[Path],
    patchsets: list[Path],
    workspace: Path,
    patchset: Path,
    summary: Path,
) -> None:
    """Write the combined workspace, patchset and summary (HTML, and JSON beside it)."""
    choosing = choices.choosing(analysis.choice_of(region), settings.fit)
    combination.combine_region(
        analysis, workspaces, patchsets, workspace, patchset, summary, choosing
    )


if __name__ == "__main__":
    scripting.run(main, globals())
