"""Published likelihoods, read from their archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palletfit.config import DownloadSettings, load_analysis
from palletfit.pallet.archive import unpack
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import parse_patchset

ANALYSES = Path(__file__).parents[1] / "config" / "analyses"
#: Analysis and region of each likelihood in the shared folder.
REGIONS = [
    ("1Lbb", "1Lbb"),
    *(("staus", name) for name in ("combined", "lowMass", "highMass")),
    *(("sbottom", f"Region{letter}") for letter in "ABC"),
]


def read_likelihood(
    shared: Path, folder: Path, analysis: str, region: str
) -> tuple[Any, tuple[Patch, ...]]:
    """Workspace and patches of a region, unpacked into a folder."""
    loaded, _ = load_analysis(analysis, ANALYSES)
    files = loaded.regions[region]
    archive = shared / "pallets" / str(loaded.pallet.archive)
    members = [files.workspace, files.patchset]
    found = unpack(archive, members, folder, DownloadSettings(), sha256={})
    path = found[files.patchset]
    return read_pallet_json(found[files.workspace]), parse_patchset(
        read_pallet_json(path), path
    ).patches
