"""Pulls of one fit: those of the diagnostics, and of fits that have none."""

from __future__ import annotations

import pytest

import palletfit
from palletfit.errors import ConfigError, FitError

from ... import models

KINDS = ("normfactor", "normsys", "shapesys", "staterror")


def test_they_are_those_of_the_diagnostics() -> None:
    spec = models.full(*KINDS)
    pulls = palletfit.pulls(spec).only
    diagnosed = palletfit.diagnose(spec, impacts=False).only
    assert [entry.name for entry in pulls.parameters] == [
        entry.name for entry in diagnosed.parameters
    ]
    for ours, theirs in zip(pulls.parameters, diagnosed.parameters, strict=True):
        assert (ours.kind, ours.state) == (theirs.kind, theirs.state)
        assert ours.value == pytest.approx(theirs.value, abs=1e-6)
        assert ours.error == pytest.approx(theirs.error, rel=1e-5)
        assert (ours.pull is None) == (theirs.pull is None)
    assert pulls.mu == pytest.approx(diagnosed.mu_hat, abs=1e-6)
    assert pulls.row()["largest_pull"] == max(abs(p.pull or 0) for p in pulls.parameters)


def test_a_fixed_signal_strength_has_no_uncertainty() -> None:
    pulls = palletfit.pulls(models.full(*KINDS), mu=0.0).only
    (poi,) = [entry for entry in pulls.parameters if entry.name == models.POI]
    assert (poi.state, poi.value, poi.error) == ("fixed", 0.0, 0.0)


def test_a_fit_without_a_parameter_of_interest_has_pulls() -> None:
    spec = models.background(*KINDS)
    pulls = palletfit.pulls(spec, poi="").only
    best = palletfit.fit(spec, poi="")
    assert (pulls.poi, pulls.mu) == ("", None)
    assert {entry.name: entry.value for entry in pulls.parameters} == pytest.approx(
        best.parameters, abs=1e-6
    )
    assert {entry.name: entry.error for entry in pulls.parameters} == pytest.approx(
        best.errors, rel=1e-5
    )
    assert pulls.as_json()["parameters"][0]["name"] == pulls.parameters[0].name
    with pytest.raises(ConfigError, match="no parameter of interest that could be fixed"):
        palletfit.pulls(spec, poi="", mu=1.0)


def test_the_reference_engine_has_none() -> None:
    with pytest.raises(ConfigError, match="makes no pulls"):
        palletfit.pulls(models.full(), engine="reference")


def test_a_fit_without_a_minimum_is_an_error() -> None:
    with pytest.raises(FitError, match="no finite minimum"):
        _ = palletfit.pulls(models.counting(10.0, 0.0, 5.0), mu=0.0).only
