"""Every minimum of the published likelihoods against the lowest ever found there by a peer."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.pallet.demo.electroweak import demo_patchset, demo_workspace
from palletfit.pallet.patchset import parse_patchset

from ...likelihoods import REGIONS, read_likelihood

#: Every so many patches are fitted here, and in the study.
_EVERY = 64
_EVERY_IN_STUDIES = 8
#: One region of each kind that is fitted here; the study has all.
_QUICK = (1, 4)
RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def likelihood_name(analysis: str, region: str) -> str:
    return region if region == analysis else f"{analysis}-{region}"


@pytest.mark.parametrize(
    ("analysis", "region", "every"),
    [
        *((*REGIONS[number], _EVERY) for number in _QUICK),
        *(pytest.param(*region, _EVERY_IN_STUDIES, marks=pytest.mark.study) for region in REGIONS),
    ],
)
def test_no_fit_ends_above_the_lowest_of_the_peers(load, shared, tmp_path, analysis, region, every):
    parity = load("parity")
    peers = parity.read_peers(RESULTS / f"parity-{likelihood_name(analysis, region)}.csv")
    workspace, patches = read_likelihood(shared, tmp_path, analysis, region)
    # All of 1Lbb and the staus are fitted by the workflow's tests and studies, and everything by
    # benchmarks/parity.py. What a patch gets does not depend on the others.
    patches = [patch for patch in patches if patch.name in peers][::every]
    rows = parity.compare(workspace, patches, peers)
    assert len(rows) == 3 * len(patches)
    assert not [row for row in rows if not row["above"] < 1e-6]  # nor NaN
    # Nor above what this engine found when the table was made.
    with (RESULTS / f"parity-{likelihood_name(analysis, region)}.csv").open(newline="") as file:
        then = {(row["patch"], row["fit"]): row["twice_nll"] for row in csv.DictReader(file)}
    lost = [row for row in rows if row["twice_nll"] > float(then[row["patch"], row["fit"]]) + 1e-6]
    assert not lost


def test_a_minimum_that_is_missed_is_seen(load, tmp_path):
    parity = load("parity")
    workspace = demo_workspace()
    spec = demo_patchset(workspace)
    spec["patches"] = spec["patches"][30:31]
    (patch,) = parse_patchset(spec, Path("patchset.json")).patches
    (_, result), *_ = BatchedEngine(workspace, FitSettings()).hypotests([patch])
    free = result.fits["free"].twice_nll
    table = tmp_path / "parity.csv"
    table.write_text(
        "patch,fit,twice_nll,above,scipy,minuit\n"
        f"{patch.name},background,0,0,,\n"
        f"{patch.name},free,{free},0,{free + 1},{free - 1}\n"
        f"{patch.name},fixed,0,0,{result.fits['fixed'].twice_nll + 0.5},\n"
        f"{patch.name},asimov_fixed,0,0,0,0\n"
    )
    rows = parity.compare(workspace, [patch], parity.read_peers(table))
    above = {row["fit"]: row["above"] for row in rows}
    expected = {"background": np.nan, "free": 1.0, "fixed": -0.5}
    assert above == pytest.approx(expected, abs=1e-9, nan_ok=True)
