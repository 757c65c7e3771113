"""Write the HEPData submission of an analysis."""

from pathlib import Path

from palletfit.config import Analysis
from palletfit.core.files import read_json
from palletfit.products.hypotest import Hypotest
from palletfit.publish import hepdata
from palletfit.runs.results import RegionResults
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    results: Path,
    manifests: list[Path],
    contours: list[Path] = (),
    images: list[Path] = (),
    limits: list[Path] = (),
    submission: Path,
    archive: Path,
) -> None:
    """Write the submission's files and their archive, if HEPData's validator finds it good.

    Workspace and patchset of a region are beside its manifest; contours and images come in the
    order of the analysis' planes.
    """
    regions = [RegionResults.read(path, Hypotest) for path in manifests]
    publication = hepdata.Publication(
        analysis=analysis,
        results=read_json(results),
        regions=regions,
        files={
            path.parent.name: {
                name: hepdata.file_sha256(path.with_name(f"{name}.json"))
                for name in ("workspace", "patchset")
            }
            for path in manifests
        },
        contours=dict(zip(analysis.planes, map(read_json, contours), strict=False)),
        images=dict(zip(analysis.planes, images, strict=False)),
        limits=read_json(limits[0]) if limits else None,
    )
    hepdata.write(publication, submission.parent, archive)


if __name__ == "__main__":
    scripting.run(main, globals())
