"""Scans and impacts of groups against cabinetry's fits, whose numbers are stored with its version.

Fits of cabinetry are Minuit's, of pyhf's likelihood with ``tolerance=1e-3``: an edm of 2e-6 in
2 NLL. A minimum here is never above one of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cabinetry
import numpy as np
import pytest

import palletfit

from .....likelihoods import read_likelihood
from .... import models

STORED = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
#: Distance to the minimum that is allowed to Minuit, in 2 NLL.
NEAR = 1e-4


def by_hand() -> dict[str, Any]:
    kinds = ("normfactor", "normsys", "histosys", "lumi", "shapesys", "staterror")
    return models.full(*kinds, observed=(68.0, 57.0))


def below(scan: Any, stored: dict[str, list[float]], step: int = 1) -> np.ndarray:
    """How far the minima lie below cabinetry's, in 2 NLL."""
    assert scan.parameter_values == pytest.approx(stored["values"][::step])
    ours = scan.twice_nll + np.array(scan.rises, dtype=float)
    return np.array(stored["twice_nll"][::step]) - ours


def internal(error: float, value: float, bounds: tuple[float, float]) -> float:
    """Error as Minuit gives it for a parameter with bounds, see ``../test_cabinetry.py``."""
    half, centre = (bounds[1] - bounds[0]) / 2, sum(bounds) / 2
    inner = np.arcsin((value - centre) / half)
    width = error / (half * np.cos(inner))
    ends = [centre + half * np.sin(inner + sign * width) for sign in (1, -1)]
    return float((abs(ends[0] - value) + abs(ends[1] - value)) / 2)


@pytest.mark.parametrize("name", ["mu_SIG", "scale", "norm"])
def test_a_scan_of_a_workspace_made_by_hand(name: str) -> None:
    stored = STORED["hand"]["scans"][name]
    scan = palletfit.likelihood_scan(by_hand(), parameter=name, points=stored["values"]).only
    difference = below(scan, stored)
    assert np.all((difference > -1e-9) & (difference < NEAR))


def test_groups_of_a_workspace_made_by_hand() -> None:
    stored = STORED["hand"]
    groups = {name: held["patterns"] for name, held in stored["held"].items()}
    impacts = palletfit.grouped_impacts(by_hand(), groups=groups, asymmetric=True).only
    down, up = stored["minos"]
    assert impacts.total.up == pytest.approx(up, abs=1e-4)
    assert impacts.total.down == pytest.approx(-down, abs=1e-4)
    bounds = (0.0, 10.0)
    for name, held in stored["held"].items():
        error = impacts.group(name).remaining.error
        assert error is not None
        assert internal(error, impacts.mu_hat, bounds) == pytest.approx(held["error"], rel=2e-3)


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.study)])
@pytest.mark.parametrize("name", sorted(STORED["1Lbb"]["scans"]))
def test_a_scan_of_a_published_likelihood(shared, tmp_path, name: str, step: int) -> None:
    stored = STORED["1Lbb"]
    workspace, patches = read_likelihood(shared, tmp_path, "1Lbb", "1Lbb")
    (patch,) = [patch for patch in patches if patch.name == stored["patch"]]
    values = stored["scans"][name]["values"][::step]
    scan = palletfit.likelihood_scan(
        workspace, list(patch.operations), parameter=name, points=values, check=False
    ).only
    difference = below(scan, stored["scans"][name], step)
    assert np.all((difference > -1e-7) & (difference < NEAR))


@pytest.mark.study
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_the_stored_numbers_are_cabinetrys() -> None:
    model, data = cabinetry.model_utils.model_and_data(by_hand())
    for name, stored in STORED["hand"]["scans"].items():
        limits = stored["values"][0], stored["values"][-1]
        scan = cabinetry.fit.scan(
            model, data, name, par_range=limits, n_steps=len(stored["values"]), tolerance=1e-3
        )
        rises = np.array(stored["twice_nll"]) - STORED["hand"]["twice_nll"]
        assert scan.delta_nlls == pytest.approx(rises, abs=NEAR)
