"""Fetch, take or make the archive of an analysis."""

from pathlib import Path

from palletfit import scripting
from palletfit.config import Analysis, Settings
from palletfit.demo import make_demo_pallet
from palletfit.download import fetch_pallet


def main(*, analysis: Analysis, settings: Settings, archive: Path) -> None:
    """Write the archive of an analysis to `archive`."""
    if analysis.pallet.builtin == "demo":
        make_demo_pallet(archive)
    else:
        fetch_pallet(analysis.pallet, archive, settings.download, analysis=analysis.name)


if __name__ == "__main__":
    scripting.run(main, globals())
