"""Draw upper limits along a line of signal points."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.planes.style import save
from palletfit.products.limits import planes as limit_planes
from palletfit.products.limits.plots import draw_slice
from palletfit.products.limits.table import read_table
from palletfit.workflow import scripting


# The parameter is called as the wildcard is.
def main(
    *,
    analysis: Analysis,
    slice: str,  # noqa: A002
    settings: Settings,
    csv: Path,
    png: Path,
    pdf: Path,
) -> None:
    """Write the plot of a slice."""
    chosen = analysis.slices[slice]
    line = limit_planes.along(read_table(csv), chosen)
    level = settings.contour.confidence_level
    save(draw_slice(line, analysis, chosen, level), [png, pdf])


if __name__ == "__main__":
    scripting.run(main, globals())
