"""Write the static site of all selected analyses that have results."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.publish import site as sites
from palletfit.workflow import scripting


def main(*, settings: Settings, analyses: dict[str, Analysis], site: Path) -> None:
    """Write the site from results beside its folder; an analysis without results is listed."""
    results = {name: sites.gather(analysis, site.parent) for name, analysis in analyses.items()}
    sites.write(
        [result for result in results.values() if result is not None],
        [analyses[name] for name, result in results.items() if result is None],
        site,
        level=settings.contour.confidence_level,
        address=settings.catalogue.address,
    )


if __name__ == "__main__":
    scripting.run(main, globals())
