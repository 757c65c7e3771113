"""Choose the patches for which CLs is shown against the signal strength."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_json
from palletfit.products.mu_scan import compute as mu_scan
from palletfit.workflow import scripting


def main(*, analysis: Analysis, settings: Settings, limits: Path, chosen: Path) -> None:
    """Write the names of the chosen patches by region."""
    found = read_json(limits)
    every = len(settings.analysis_names) == 1
    names = mu_scan.choose(analysis.name, settings.mu_scan.patches, found, every=every)
    write_json(chosen, names)


if __name__ == "__main__":
    scripting.run(main, globals())
