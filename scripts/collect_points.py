"""Write one table of all points of a scan."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.products.points.collect import collect
from palletfit.workflow import scripting


def main(*, analysis: Analysis, settings: Settings, manifests: list[Path], table: Path) -> None:
    """Write ``points.parquet`` from the files of the regions."""
    collect(manifests, analysis.labels, table, settings.contour.confidence_level)


if __name__ == "__main__":
    scripting.run(main, globals())
