"""Choose the patches that a product of chosen ones is made for, from the results."""

import json
from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.runs.choice import choose
from palletfit.runs.store import write_atomically
from palletfit.workflow import scripting


def main(
    *, analysis: Analysis, product: str, settings: Settings, results: Path, chosen: Path
) -> None:
    """Write the names of the chosen patches by region."""
    names = choose(
        getattr(settings, product).patches,
        json.loads(results.read_bytes()),
        settings.contour.confidence_level,
        analysis=analysis.name,
        section=product,
        every=len(settings.analysis_names) == 1,
    )
    write_atomically(chosen, json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    scripting.run(main, globals())
