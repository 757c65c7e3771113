"""Fetch, take or make the archive of an analysis."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.pallet.demo.electroweak import make_demo_pallet
from palletfit.pallet.demo.hadronic import make_hadronic_pallet
from palletfit.pallet.download import fetch_pallet
from palletfit.workflow import scripting

BUILTIN = {"demo": make_demo_pallet, "demo-hadronic": make_hadronic_pallet}


def main(*, analysis: Analysis, settings: Settings, archive: Path) -> None:
    """Write the archive of an analysis to `archive`."""
    if analysis.pallet.builtin is not None:
        BUILTIN[analysis.pallet.builtin](archive)
    else:
        fetch_pallet(
            analysis.pallet,
            archive,
            settings.download,
            analysis=analysis.name,
            members=analysis.members,
        )


if __name__ == "__main__":
    scripting.run(main, globals())
