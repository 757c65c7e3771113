"""Scans of the likelihood against closed forms, a search by brute force, and their bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyhf
import pytest
from scipy.optimize import brentq

import palletfit
from palletfit.errors import ConfigError, PalletError
from palletfit.products.diagnostics.profile import best as best_module
from palletfit.products.diagnostics.profile.scan import LEVELS
from palletfit.products.diagnostics.pulls import LowestFit, _described, lowest_fit

from .....likelihoods import read_likelihood
from .... import models

#: Events of the signal, of the background, and observed ones.
EVENTS, EXPECTED, OBSERVED = 10.0, 50.0, 60.0


def rise(rate: float, observed: float) -> float:
    """2 NLL of a Poisson distribution above that of the observed rate."""
    return 2 * (rate - observed + observed * np.log(observed / rate))


def two_valleys(**options: float) -> dict[str, Any]:
    """A histosys that raises the yield in both directions, which makes two minima."""
    data = {"hi_data": [options.get("high", 80.0)], "lo_data": [options.get("low", 80.0)]}
    return models.counting(5.0, 50.0, 62.0, {"name": "theta", "type": "histosys", "data": data})


def test_a_counting_experiment_has_its_closed_form() -> None:
    scan = palletfit.likelihood_scan(models.counting(EVENTS, EXPECTED, OBSERVED), points=7).only
    assert (scan.parameter, scan.status, scan.best) == (models.POI, "ok", pytest.approx(1.0))
    assert scan.error == pytest.approx(OBSERVED**0.5 / EVENTS, rel=1e-6)
    expected = [rise(EXPECTED + EVENTS * mu, OBSERVED) for mu in scan.parameter_values]
    assert scan.rises == pytest.approx(expected, abs=1e-8)
    at_68, at_95 = scan.intervals
    assert (at_68.level, at_95.level) == LEVELS
    for end, bracket in ((at_68.lower, (0.0, 1.0)), (at_68.upper, (1.0, 9.0)),
                         (at_95.upper, (1.0, 9.0))):  # fmt: skip
        level = 1.0 if end in (at_68.lower, at_68.upper) else LEVELS[1]
        root = brentq(lambda mu: rise(EXPECTED + EVENTS * mu, OBSERVED) - level, *bracket)  # noqa: B023
        assert end.state == "found"
        assert end.value == pytest.approx(root, abs=1e-6)


def test_an_interval_is_open_at_a_bound() -> None:
    scan = palletfit.likelihood_scan(models.counting(EVENTS, EXPECTED, OBSERVED), points=3).only
    lower = scan.intervals[1].lower
    assert (lower.value, lower.state, scan.row()["lower_3.84"]) == (0.0, "at_bound", None)
    assert any("open" in remark and "lower bound 0" in remark for remark in scan.remarks)
    assert scan.as_json()["intervals"][1]["lower_state"] == "at_bound"
    below = palletfit.likelihood_scan(models.counting(EVENTS, EXPECTED, 40.0), points=3).only
    assert (below.best, below.error) == (0.0, None)
    assert [interval.lower.state for interval in below.intervals] == ["at_bound"] * 2
    root = brentq(lambda mu: rise(50 + 10 * mu, 40.0) - rise(50.0, 40.0) - 1.0, 0.0, 5.0)
    assert below.intervals[0].upper.value == pytest.approx(root, abs=1e-6)


def test_a_hump_parts_an_interval() -> None:
    scan = palletfit.likelihood_scan(two_valleys(), mu=0.0, parameter="theta", points=31).only
    at_68 = scan.intervals[0]
    ((lower, upper),) = at_68.further
    ends = sorted([lower.value, upper.value, at_68.lower.value, at_68.upper.value])
    # The likelihood is symmetric.
    assert ends == pytest.approx([-end for end in reversed(ends)], abs=1e-5)
    assert ends[1] < -0.05 < 0.05 < ends[2]
    assert any("further parts" in remark for remark in scan.remarks)


def test_it_follows_the_lowest_minimum_everywhere() -> None:
    """Which valley of the nuisance parameter is the lowest changes with mu."""
    spec = two_valleys(low=58.0)
    values = [0.0, 0.6, 1.2, 2.0, 3.0, 5.0]
    scan = palletfit.likelihood_scan(spec, points=values).only
    model = pyhf.Workspace(spec).model(
        modifier_settings={
            "normsys": {"interpcode": "code4"},
            "histosys": {"interpcode": "code4p"},
        }
    )
    data = pyhf.Workspace(spec).data(model)
    columns = [model.config.par_map[name]["slice"].start for name in (models.POI, "theta")]
    thetas = np.linspace(-2.0, 2.0, 161)
    for mu, above in zip(values, scan.rises, strict=True):
        points = np.zeros((len(thetas), 2))
        points[:, columns[0]], points[:, columns[1]] = mu, thetas
        brute = min(-2 * float(model.logpdf(point, data)[0]) for point in points)
        assert above is not None
        assert brute - 5e-3 < scan.twice_nll + above < brute + 1e-8


def test_a_lower_point_replaces_the_best_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def upper_valley(*arguments: Any) -> LowestFit:
        """Fit from a point near the higher of two minima only."""
        fit = lowest_fit(*arguments)
        tests, theta = fit.tests, list(fit.tests.batch.names[0]).index("theta")
        start = tests.batch.init.copy()
        start[0, theta] = -1.0
        fits = type(fit.fits)(fit.fits.data, fit.fits.aux, 0.0, tests.rows)
        tests.fitter.fit(fits, {"start": start})
        tests.fitter.sharpen(fits, tests.rows)
        assert fits.value[0] > fit.fits.value[0] + 0.1
        return _described(tests, fits)

    question: dict[str, Any] = {"mu": 0.0, "parameter": "theta", "points": 5}
    expected = palletfit.likelihood_scan(two_valleys(low=58.0), **question).only
    monkeypatch.setattr(best_module, "lowest_fit", upper_valley)
    scan = palletfit.likelihood_scan(two_valleys(low=58.0), **question).only
    assert scan.best == pytest.approx(expected.best, abs=1e-5)
    assert scan.twice_nll == pytest.approx(expected.twice_nll, abs=1e-8)
    assert "lower minimum than the first best fit" in scan.remarks[0]
    assert scan.intervals[0].upper.value == pytest.approx(
        expected.intervals[0].upper.value, abs=1e-5
    )


def test_real_minima_far_apart(shared, tmp_path) -> None:
    """The staus' nuisance parameter has two valleys; the Hessian sees the one at the best fit."""
    workspace, patches = read_likelihood(shared, tmp_path, "staus", "combined")
    name = "TopSystHardCodeSR1"
    operations = list(patches[10].operations)
    scan = palletfit.likelihood_scan(workspace, operations, parameter=name, points=11, check=False)
    at_68, _ = scan.only.intervals
    assert scan.only.error == pytest.approx(0.33, abs=0.01)
    assert at_68.upper.value - at_68.lower.value > 5 * scan.only.error
    assert min(value for value in scan.only.rises if value is not None) >= 0


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"parameter": "mu_SIGN"}, PalletError, "Did you mean 'mu_SIG'"),
        ({"parameter": "statistics"}, PalletError, r"statistics\[0\] to statistics\[1\]"),
        ({"parameter": "mu_SIG", "mu": 1.0}, PalletError, "`mu` fixes the parameter"),
        ({"parameter": "scale", "fix": {"scale": 0.0}}, PalletError, "is fixed in the model"),
        ({"range": (-1.0, 1.0)}, PalletError, "Choose values between 0 and 10"),
        ({"points": [1.0, 11.0]}, PalletError, "leaves the bounds"),
        ({"range": (1.0, 1.0)}, ConfigError, "does not rise"),
        ({"points": [0.5], "range": (0.0, 1.0)}, ConfigError, "values or a range"),
        ({"points": [float("nan")]}, ConfigError, "not finite"),
        ({"points": 1}, ConfigError, "cannot have 1 points"),
        ({"points": ["a"]}, ConfigError, "not a list of numbers"),
        ({"range": 3.0}, ConfigError, "not a list of numbers"),
        ({"levels": 1.0}, ConfigError, "not a list of numbers"),
        ({"levels": ["1"]}, ConfigError, "not a list of numbers"),
        ({"parameter": 3}, PalletError, "no parameter 3"),
        ({"parameter": ["scale"]}, PalletError, "no parameter .'scale'"),
        ({"parameter": "scale", "mu": float("nan")}, ConfigError, "cannot be fixed at nan"),
        ({"parameter": "scale", "mu": "1"}, ConfigError, "cannot be fixed at '1'"),
        ({"levels": [0.0]}, ConfigError, "not positive"),
        ({"levels": []}, ConfigError, "not positive"),
        ({"engine": "reference"}, ConfigError, "makes no scans of the likelihood"),
        ({"poi": ""}, PalletError, "no parameter of interest"),
    ],
)
def test_bad_questions(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    spec = models.full("normsys", "staterror")
    with pytest.raises(kind, match=words):
        _ = palletfit.likelihood_scan(spec, **arguments).only
