"""Draw pulls, ranking, correlations and yields of the fit of one patch."""

from pathlib import Path

from palletfit.config import Analysis
from palletfit.planes.style import save_pages
from palletfit.products.diagnostics.plots import draw_diagnostics
from palletfit.runs.results import chosen_record
from palletfit.workflow import scripting


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
    drawn = draw_diagnostics(record, analysis, region)
    save_pages(drawn["pulls"], pulls)
    save_pages(drawn["ranking"], ranking)
    save_pages(drawn["correlations"], correlations)
    save_pages(drawn["yields_prefit"], yields_prefit)
    save_pages(drawn["yields_postfit"], yields_postfit)


if __name__ == "__main__":
    scripting.run(main, globals())
