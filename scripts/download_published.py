"""Fetch the published contours of a plane."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import write_json
from palletfit.planes import overlay
from palletfit.workflow import scripting


def main(*, analysis: Analysis, plane: str, settings: Settings, curves: Path) -> None:
    """Write the published curves, or why there are none, as JSON."""
    content = overlay.fetch(
        analysis.published_of(analysis.plane_of_suffix(plane)),
        folder=curves.with_suffix(""),
        settings=settings.download,
        analysis=analysis.name,
    )
    write_json(curves, content)


if __name__ == "__main__":
    scripting.run(main, globals())
