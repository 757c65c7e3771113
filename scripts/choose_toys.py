"""Choose the patches whose CLs is found with toys."""

import json
from pathlib import Path

from palletfit import choice, scripting
from palletfit.config import Analysis, Settings
from palletfit.jsonfiles import read_json
from palletfit.store import write_atomically


def main(*, analysis: Analysis, settings: Settings, results: Path, chosen: Path) -> None:
    """Write the names of the chosen patches by region."""
    names = choice.choose(
        settings.toys.patches,
        read_json(results),
        settings.contour.confidence_level,
        analysis=analysis.name,
        section="toys",
        every=False,
    )
    write_atomically(chosen, json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    scripting.run(main, globals())
