"""Choose the patches that a product of chosen ones is made for, from the results."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_json
from palletfit.runs.choice import choose
from palletfit.workflow import scripting


def main(
    *, analysis: Analysis, product: str, settings: Settings, results: Path, chosen: Path
) -> None:
    """Write the names of the chosen patches by region."""
    names = choose(
        getattr(settings, product).patches,
        read_json(results),
        settings.contour.confidence_level,
        analysis=analysis.name,
        section=product,
        every=len(settings.analysis_names) == 1,
    )
    write_json(chosen, names)


if __name__ == "__main__":
    scripting.run(main, globals())
