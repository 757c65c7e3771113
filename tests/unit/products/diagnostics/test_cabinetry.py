"""Diagnostics against cabinetry, which fits through pyhf with Minuit.

What does not depend on where a fit stops has to agree to rounding. What does, as well as Minuit's
own distance to the minimum allows: the function is 2 NLL, so that ``tolerance=1e-3`` asks for an
edm of 2e-6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cabinetry
import numpy as np
import pyhf
import pytest
from cabinetry import model_utils
from cabinetry.fit.results_containers import FitResults

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.pallet.demo.electroweak import demo_patchset, demo_workspace
from palletfit.pallet.patches import Patch, apply
from palletfit.pallet.patchset import parse_patchset
from palletfit.products.diagnostics.compute import Diagnostics, diagnose

from ....likelihoods import read_likelihood
from ... import models

KINDS = ("normfactor", "normsys", "histosys", "lumi", "shapesys", "staterror")
TOLERANCE = 1e-3
#: Of fits by Minuit, in units of 2 NLL.
EDM = 0.002 * TOLERANCE
#: Parameters whose impacts are compared: cabinetry needs four fits for each.
RANKED = 2

pytestmark = pytest.mark.filterwarnings(
    # What Minuit tries on its way.
    "ignore:.*encountered in:RuntimeWarning",
)


@dataclass
class Pair:
    """One model, as palletfit and cabinetry see it, with parameters in pyhf's order."""

    workspace: Any
    patch: Patch
    ours: Diagnostics
    model: Any
    data: Any
    fit: FitResults

    @property
    def values(self) -> np.ndarray:
        return np.array([self.ours.parameter(name).value for name in self.fit.labels])

    @property
    def errors(self) -> np.ndarray:
        return np.array([self.ours.parameter(name).error for name in self.fit.labels])

    @property
    def correlations(self) -> np.ndarray:
        """Ours; zero where a parameter is not free, as Minuit has it."""
        names = self.ours.correlations.parameters
        positions = [self.fit.labels.index(name) for name in names]
        matrix = np.zeros((len(self.fit.labels),) * 2)
        matrix[np.ix_(positions, positions)] = self.ours.correlations.matrix
        return matrix

    @property
    def our_fit(self) -> FitResults:
        """Our fit in cabinetry's form."""
        return FitResults(
            self.values, self.errors, self.fit.labels, self.correlations, self.ours.twice_nll
        )

    def twice_nll(self, point: np.ndarray) -> float:
        return -2 * float(self.model.logpdf(point, self.data)[0])


def read_demo() -> tuple[Any, Patch]:
    workspace = demo_workspace()
    patches = parse_patchset(demo_patchset(workspace), Path("patchset.json")).patches
    return workspace, next(patch for patch in patches if patch.name == "DEMO_C1N2_Wh_700_50")


@pytest.fixture(
    scope="module",
    # Minuit takes ten seconds for the demo, and a minute for the published likelihood.
    params=["hand", *(pytest.param(name, marks=pytest.mark.study) for name in ("demo", "staus"))],
)
def pair(request, tmp_path_factory) -> Iterator[Pair]:
    if request.param == "demo":
        workspace, patch = read_demo()
    elif request.param == "hand":
        workspace, patch = models.full(*KINDS, observed=(68.0, 57.0)), Patch("all", (), ())
    else:
        folder = tmp_path_factory.mktemp("staus")
        shared = request.getfixturevalue("shared")
        workspace, patches = read_likelihood(shared, folder, "staus", "lowMass")
        patch = next(patch for patch in patches if patch.name == "DS_140_1_Staus")
    pyhf.set_backend("numpy")
    model, data = model_utils.model_and_data(apply(workspace, patch))
    fit = cabinetry.fit.fit(model, data, tolerance=TOLERANCE)
    ((_, ours),) = diagnose(BatchedEngine(workspace, FitSettings()), [patch])
    assert ours.status == "ok"
    yield Pair(workspace, patch, ours, model, data, fit)
    pyhf.set_backend("numpy")


def test_best_fit(pair: Pair):
    assert {entry.name for entry in pair.ours.parameters} == {*pair.fit.labels}
    assert pair.ours.twice_nll == pytest.approx(pair.twice_nll(pair.values), abs=1e-9)
    above = pair.fit.best_twice_nll - pair.ours.twice_nll
    assert -1e-9 < above < 5 * EDM
    # A parameter that is n standard deviations off costs at least n**2 in 2 NLL.
    distance = np.abs(pair.fit.bestfit - pair.values) / pair.errors
    assert np.all(distance < 1.1 * np.sqrt(above) + 1e-6)


def test_uncertainties(pair: Pair):
    """Minuit moves a parameter with limits by the sine of an internal one.

    Its uncertainty is the mean of the two distances to which one internal standard deviation
    leads, which with limits of +-5 is 0.7 % short of a width of one: MINUIT manual (F. James,
    CERN D506), section 1.3, and the code of `MnUserTransformation::Int2extError`.
    """
    bounds = np.array(pair.model.config.suggested_bounds())
    half, centre = (bounds[:, 1] - bounds[:, 0]) / 2, bounds.mean(axis=1)
    inner = np.arcsin((pair.values - centre) / half)
    width = pair.errors / (half * np.cos(inner))
    ends = [centre + half * np.sin(inner + sign * width) for sign in (1, -1)]
    expected = (np.abs(ends[0] - pair.values) + np.abs(ends[1] - pair.values)) / 2
    # Minuit's second derivatives are numerical.
    np.testing.assert_allclose(pair.fit.uncertainty, expected, rtol=2e-3)


def test_correlations(pair: Pair):
    np.testing.assert_allclose(pair.fit.corr_mat, pair.correlations, atol=4e-3)


def test_yields_before_and_after_the_same_fit(pair: Pair):
    for when, predicted in {
        "prefit": model_utils.prediction(pair.model),
        "postfit": model_utils.prediction(pair.model, fit_results=pair.our_fit),
    }.items():
        assert [entry.name for entry in pair.ours.channels] == pair.model.config.channels
        for number, channel in enumerate(pair.ours.channels):
            prediction = getattr(channel, when)
            data = pair.model.config.channel_slices[channel.name]
            assert channel.data == tuple(pair.data[data])
            bins = predicted.total_stdev_model_bins[number]
            np.testing.assert_allclose(prediction.model.errors, bins[-1], rtol=1e-9)
            total = predicted.total_stdev_model_channels[number]
            assert prediction.model.total_error == pytest.approx(total[-1], rel=1e-9)
            scale = max(prediction.model.values)
            for position, name in enumerate(pair.model.config.samples):
                yields = np.array(predicted.model_yields[number][position])
                if name not in prediction.samples:
                    assert not yields.any()
                    continue
                sample = prediction.samples[name]
                np.testing.assert_allclose(sample.values, yields, rtol=1e-9, atol=1e-12 * scale)
                np.testing.assert_allclose(
                    sample.errors, bins[position], rtol=1e-9, atol=1e-12 * scale
                )
                assert sample.total_error == pytest.approx(
                    total[position], rel=1e-9, abs=1e-12 * scale
                )


def test_impacts(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    ranked = pair.ours.impacts[:RANKED]
    chosen = np.isin(pair.fit.labels, [entry.parameter for entry in ranked])
    widths = model_utils.prefit_uncertainties(pair.model)
    # cabinetry leaves out what has no width.
    monkeypatch.setattr(model_utils, "prefit_uncertainties", lambda _: widths * chosen)
    fit = pair.our_fit._replace(uncertainty=pair.errors * chosen)
    theirs = cabinetry.fit.ranking(pair.model, pair.data, fit_results=fit, tolerance=TOLERANCE)
    # By how much mu may be off where 2 NLL is by a few edm.
    precision = pair.ours.mu_hat_error * np.sqrt(5 * EDM)
    for entry in ranked:
        position = theirs.labels.index(entry.parameter)
        for name in ("postfit_up", "postfit_down", "prefit_up", "prefit_down"):
            shift = getattr(theirs, name)[position]
            assert (getattr(entry, name) or 0.0) == pytest.approx(shift, abs=precision)
    assert max(abs(entry.postfit_up) for entry in ranked) > 20 * precision


def test_significance(pair: Pair):
    engine = BatchedEngine(pair.workspace, FitSettings())
    (((batch, _),), _) = engine.lower([pair.patch])
    fits = engine.batch_fits(batch, FitSettings(test_statistic="q0")).four_fits()
    named = dict(zip(batch.names[0], fits["background"].point[0].tolist(), strict=True))
    background = [named[name] for name in pair.fit.labels]
    q0 = pair.twice_nll(np.array(background)) - pair.twice_nll(pair.values)
    ours = pair.ours.discovery
    assert ours.significance**2 == pytest.approx(q0, abs=1e-7)
    theirs = cabinetry.fit.significance(pair.model, pair.data, tolerance=TOLERANCE)
    # Where theirs is larger, their background-only fit stopped at a higher minimum than ours.
    above = theirs.observed_significance**2 - q0
    assert above > -5 * EDM
    if above > 5 * EDM:
        _, lower = pyhf.infer.mle.fixed_poi_fit(
            0.0, pair.data, pair.model, init_pars=background, return_fitted_val=True
        )
        assert float(lower) - pair.ours.twice_nll == pytest.approx(q0, abs=5 * EDM)
    # The Asimov data depend on the fit at mu = 1 to first order, unlike its minimum.
    expected = theirs.expected_significance
    assert ours.significance_expected == pytest.approx(expected, abs=np.sqrt(5 * EDM))
