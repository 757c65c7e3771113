"""Draw pulls, ranking, correlations and yields of the fit of one patch."""

from pathlib import Path

from palletfit import plots, scripting
from palletfit.config import Analysis
from palletfit.results import chosen_record


def main(
    *,
    analysis: Analysis,
    stem: str,
    manifests: list[Path],
    pulls: list[Path],
    ranking: list[Path],
    correlations: list[Path],
    yields_prefit: list[Path],
    yields_postfit: list[Path],
) -> None:
    """Write the plots of the patch whose record's file has this stem."""
    region, record = chosen_record(manifests, "diagnostics", stem)
    drawn = plots.draw_diagnostics(record, analysis, region)
    plots.save_pages(drawn["pulls"], pulls)
    plots.save_pages(drawn["ranking"], ranking)
    plots.save_pages(drawn["correlations"], correlations)
    plots.save_pages(drawn["yields_prefit"], yields_prefit)
    plots.save_pages(drawn["yields_postfit"], yields_postfit)


if __name__ == "__main__":
    scripting.run(main, globals())
