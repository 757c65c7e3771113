"""Signals of points: they fit the workspace, and share its parameters."""

from __future__ import annotations

import pytest

from palletfit.config import FitSettings
from palletfit.engine.choose import make_engine
from palletfit.errors import PalletfitError

from ...scans import patches


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({"channels": ["VR"]}, "points.channels.*'VR'"),
        ({"channels": ["CR"]}, r"no column 'CR\[0\]'"),
        ({"sample": "background"}, "sample 'background' in channel 'SR' already"),
        ({"uncertainties": {"mu_SIG": 0.1}}, "the parameter of interest"),
        ({"lumi": "lumi"}, "gives it no width"),
    ],
)
def test_the_signal_has_to_fit_the_workspace(scan, points, words):
    scan.points |= points
    with pytest.raises(PalletfitError, match=words):
        scan.scan()


def test_luminosity_and_correlated_uncertainties(scan):
    parameter = {"name": "lumi", "sigmas": [0.02], "auxdata": [1.0], "inits": [1.0]}
    parameter["bounds"] = [[0.5, 1.5]]
    scan.background["measurements"][0]["config"]["parameters"] = [parameter]
    scan.points |= {"lumi": "lumi", "uncertainties": {"scale": 0.1}}
    source = scan.scan().source
    engine = make_engine(scan.background, FitSettings())
    (first, *_) = patches(source)
    fitted = engine.fit(first, None)
    assert set(fitted.parameters) == {"mu_SIG", "lumi", "scale"}
