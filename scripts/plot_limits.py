"""Draw the upper limits of a plane, and compare them with published ones."""

import logging
from pathlib import Path

import numpy as np

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_json
from palletfit.planes import overlay
from palletfit.planes.style import save
from palletfit.products.limits import planes as limit_planes
from palletfit.products.limits.plots import draw_limits
from palletfit.products.limits.published import compare
from palletfit.products.limits.table import read_table
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    plane: str,
    settings: Settings,
    csv: Path,
    curves: Path,
    contour: Path,
    png: Path,
    pdf: Path,
) -> None:
    """Write the plot of a plane's limits, and ``limit_contour.json``."""
    chosen = analysis.plane_of_suffix(plane)
    published = read_json(curves)
    limits = read_table(csv)
    found = limit_planes.limit_contours(
        limits, chosen, settings.contour, overlay.segments(published)
    )
    content = limit_planes.as_json(found)
    table = published.get(overlay.LIMITS, {})
    if "points" in table:
        comparison = compare(found.points, np.asarray(table["points"]), table["unit"])
        content["published_limits"] = comparison.as_json()
        logging.info("%s: %s", analysis.name, comparison)
    elif "problem" in table:
        content["published_limits"] = table
    save(draw_limits(found, analysis, chosen), [png, pdf])
    write_json(contour, content)


if __name__ == "__main__":
    scripting.run(main, globals())
