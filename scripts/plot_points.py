"""Draw the excluded fraction of a scan's points in a plane."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.planes.style import save
from palletfit.products.points.fractions import excluded_fraction
from palletfit.products.points.plots import draw_fraction
from palletfit.workflow import scripting


def main(
    *, analysis: Analysis, plane: str, settings: Settings, table: Path, png: Path, pdf: Path
) -> None:
    """Write the plot of a plane."""
    chosen = analysis.plane_of_suffix(plane)
    level = settings.contour.confidence_level
    found = excluded_fraction(table, analysis, chosen, level)
    save(draw_fraction(found, analysis, chosen), [png, pdf])


if __name__ == "__main__":
    scripting.run(main, globals())
