"""Choose the patches for which CLs is shown against the signal strength."""

import json
from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.products.mu_scan import compute as mu_scan
from palletfit.runs.store import write_atomically
from palletfit.workflow import scripting


def main(*, analysis: Analysis, settings: Settings, limits: Path, chosen: Path) -> None:
    """Write the names of the chosen patches by region."""
    found = json.loads(limits.read_bytes())
    every = len(settings.analysis_names) == 1
    names = mu_scan.choose(analysis.name, settings.mu_scan.patches, found, every=every)
    write_atomically(chosen, json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    scripting.run(main, globals())
