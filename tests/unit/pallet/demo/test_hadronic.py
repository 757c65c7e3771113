"""The second built-in pallet: pinned, valid, and unlike the first where its combination says so."""

import hashlib
import json
import tarfile
from pathlib import Path

import pyhf

from palletfit.config import load_analysis
from palletfit.pallet.demo import electroweak as demo
from palletfit.pallet.demo.hadronic import (
    hadronic_patchset,
    hadronic_workspace,
    make_hadronic_pallet,
)
from palletfit.pallet.patchset import check

ANALYSES = Path(__file__).parents[4] / "config" / "analyses"


def test_files_have_the_digests_that_the_analysis_pins(tmp_path):
    analysis, _ = load_analysis("demo-hadronic", ANALYSES)
    with tarfile.open(make_hadronic_pallet(tmp_path / "hadronic.tar.gz")) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    assert b"no measurement" in files["README.md"]
    for name, digest in analysis.pallet.sha256.items():
        assert hashlib.sha256(files[name]).hexdigest() == digest
        pyhf.schema.validate(json.loads(files[name]), f"{name.replace('BkgOnly', 'workspace')}")


def test_it_shares_a_grid_with_the_demo_but_not_all_points():
    workspace = hadronic_workspace()
    patches = check(workspace, hadronic_patchset(workspace), ["m_LSP", "m_C1"]).patches
    points = {patch.values[::-1] for patch in patches}
    others = {(m1, m2) for m1, m2s in demo.POINTS.items() for m2 in m2s}
    assert points & others
    assert points - others
    assert others - points
