"""Draw the exclusion contour of a plane."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_json
from palletfit.errors import ConfigError
from palletfit.planes import contour as contours
from palletfit.planes import overlay
from palletfit.planes.plots import draw_exclusion
from palletfit.planes.style import save
from palletfit.runs.results import read_table
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    plane: str,
    settings: Settings,
    table: Path,
    curves: Path,
    contour: Path,
    png: Path,
    pdf: Path,
) -> None:
    """Write ``contour.json`` and the plot of a plane."""
    if settings.fit.test_statistic == "q0":
        raise ConfigError(
            "There is no exclusion contour for the test statistic q0.",
            remedy="Use results.csv (CLs_obs is then p0), or set `fit.test_statistic: qtilde`.",
        )
    chosen = analysis.plane_of_suffix(plane)
    segments = overlay.segments(read_json(curves))
    exclusion = contours.exclusion(read_table(table), chosen, settings.contour, segments)
    save(draw_exclusion(exclusion, analysis, chosen), [png, pdf])
    write_json(contour, exclusion.as_json())


if __name__ == "__main__":
    scripting.run(main, globals())
