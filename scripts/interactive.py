"""Write the page on which the exclusion in a plane can be explored."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_atomically
from palletfit.pages import interactive
from palletfit.planes import contour as contours
from palletfit.planes import overlay
from palletfit.products.hypotest import Hypotest
from palletfit.products.hypotest.table import read_table
from palletfit.runs.results import RegionResults
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    plane: str,
    settings: Settings,
    results: Path,
    table: Path,
    manifests: list[Path],
    curves: Path,
    page: Path,
) -> None:
    """Write the page; limits and diagnostics are on it if they are beside the results."""
    chosen = analysis.plane_of_suffix(plane)
    bands = settings.contour.model_copy(update={"bands": [1, 2]})
    published = read_json(curves)
    exclusion = contours.exclusion(
        read_table(table),
        chosen,
        bands,
        overlay.segments(published),
        overlay.left_out(published),
    )
    limits = results.with_name("limits.json")
    details = interactive.details(
        read_json(results),
        [RegionResults.read(path, Hypotest) for path in manifests],
        analysis.labels,
        limits=read_json(limits) if limits.exists() else None,
        folder=results.parent,
        blinded=analysis.blinded,
    )
    shown = settings.contour.bands
    write_atomically(
        page, interactive.render(exclusion, analysis, chosen, details, shown_bands=shown)
    )


if __name__ == "__main__":
    scripting.run(main, globals())
