"""Draw CLs against the signal strength for one patch."""

from pathlib import Path

from palletfit import plots, scripting
from palletfit.config import Analysis, Settings
from palletfit.errors import FitError
from palletfit.patches import file_stem
from palletfit.results import RegionResults


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
    for path in manifests:
        region = RegionResults.read(path.parent.name, path, "mu_scan")
        for name, record in region.records.items():
            if file_stem(name) != stem:
                continue
            if record["status"] == "failed":
                raise FitError(
                    f"There is no scan to draw: {record['error']['problem']}",
                    remedy=record["error"]["remedy"],
                    patch=name,
                )
            level = settings.contour.confidence_level
            plots.save(plots.draw_mu_scan(record, analysis, region.name, level), [png, pdf])
            return
    raise FitError(
        f"No patch that was scanned has the file name {stem!r}.",
        remedy="Name it under mu_scan.patches.",
    )


if __name__ == "__main__":
    scripting.run(main, globals())
