"""Combine the likelihoods of several analyses into one."""

from pathlib import Path

from palletfit.config import Analysis
from palletfit.pallet import combination
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    workspaces: list[Path],
    patchsets: list[Path],
    workspace: Path,
    patchset: Path,
    summary: Path,
) -> None:
    """Write the combined workspace, patchset and summary (HTML, and JSON beside it)."""
    combination.combine_region(analysis, workspaces, patchsets, workspace, patchset, summary)


if __name__ == "__main__":
    scripting.run(main, globals())
