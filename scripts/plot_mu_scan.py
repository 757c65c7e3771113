"""Draw CLs against the signal strength for one patch."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.errors import FitError
from palletfit.planes.style import save
from palletfit.products.mu_scan.plots import draw_mu_scan
from palletfit.runs.results import chosen_record
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    stem: str,
    settings: Settings,
    manifests: list[Path],
    png: Path,
    pdf: Path,
) -> None:
    """Write the plot of the patch whose record's file has this stem."""
    region, record = chosen_record(manifests, "mu_scan", stem)
    if record["status"] == "failed":
        raise FitError(
            f"There is no scan to draw: {record['error']['problem']}",
            remedy=record["error"]["remedy"],
            patch=record["patch"],
        )
    level = settings.contour.confidence_level
    save(draw_mu_scan(record, analysis, region, level), [png, pdf])


if __name__ == "__main__":
    scripting.run(main, globals())
