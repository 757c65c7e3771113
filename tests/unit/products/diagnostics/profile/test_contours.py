"""Contours of the likelihood against closed forms, at bounds, and their bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

import palletfit
from palletfit.errors import ConfigError, PalletError
from palletfit.products.diagnostics.profile.contours import LEVELS, LikelihoodContours

from .... import models

#: Observed in the signal region, over 3 events of background, and in the control region.
SIGNAL_REGION, CONTROL_REGION = 8.0, 44.0
BACKGROUND, EXPECTED = 3.0, 40.0
NORM = {"name": "norm", "type": "normfactor", "data": None}


def spec(observed: float = SIGNAL_REGION) -> dict[str, Any]:
    """Two parameters, each of which is measured in a region of its own."""
    return models.workspace(
        {
            "SR": [models.sample("bkg", [BACKGROUND]), models.signal([4.0])],
            "CR": [models.sample("bkg", [EXPECTED], NORM)],
        },
        {"SR": [observed], "CR": [CONTROL_REGION]},
    )


def rise(rate: float, observed: float) -> float:
    """2 NLL of a Poisson distribution above that of the observed rate."""
    return 2 * (rate - observed + observed * np.log(observed / rate))


def both(mu: float, norm: float, observed: float = SIGNAL_REGION) -> float:
    """2 NLL of the model above its minimum without bounds."""
    signal_region = rise(BACKGROUND + 4.0 * mu, observed)
    return signal_region + rise(EXPECTED * norm, CONTROL_REGION)


@pytest.fixture(scope="module")
def contours() -> LikelihoodContours:
    return palletfit.likelihood_contours(spec(), x=models.POI, y="norm", points=13).only


def test_lines_are_where_the_closed_form_has_the_level(contours: LikelihoodContours) -> None:
    assert contours.status == "ok"
    assert contours.best == pytest.approx((1.25, 1.1), abs=1e-5)
    assert tuple(contour.level for contour in contours.contours) == LEVELS
    for contour in contours.contours:
        (line,) = contour.lines
        values = [both(mu, norm) for mu, norm in zip(line.x, line.y, strict=True)]
        assert values == pytest.approx([contour.level] * len(values), abs=2e-3)
        assert contour.miss == pytest.approx(
            max(abs(value - contour.level) for value in values), abs=1e-6
        )
    rises = np.array(contours.rises, dtype=float)
    grid = [[both(mu, norm) for mu in contours.x_values] for norm in contours.y_values]
    assert rises == pytest.approx(np.array(grid), abs=1e-8)


def test_they_are_open_at_a_bound_and_closed_elsewhere(contours: LikelihoodContours) -> None:
    inner, outer = contours.contours
    assert inner.lines[0].closed
    assert not outer.lines[0].closed
    assert {outer.lines[0].x[0], outer.lines[0].x[-1]} == {0.0}
    assert (outer.x.lower.value, outer.x.lower.state) == (0.0, "at_bound")
    assert any("open at the lower bound 0 of mu_SIG" in remark for remark in contours.remarks)


def test_they_go_as_far_as_the_profile(contours: LikelihoodContours) -> None:
    inner, _ = contours.contours
    root = brentq(lambda mu: rise(BACKGROUND + 4 * mu, SIGNAL_REGION) - LEVELS[0], 1.25, 9.0)
    assert inner.x.upper.value == pytest.approx(root, abs=1e-6)
    cell = contours.x_values[1] - contours.x_values[0]
    assert root - 0.1 * cell < max(inner.lines[0].x) < root + 1e-3
    # Room for all of the outer region.
    assert contours.x_values[-1] > contours.contours[1].x.upper.value


def test_a_best_fit_at_a_bound() -> None:
    result = palletfit.likelihood_contours(
        spec(2.0), x="norm", y=models.POI, points=9, levels=[4.0, 1.0]
    ).only
    assert result.best[1] == 0.0
    assert [contour.level for contour in result.contours] == [1.0, 4.0]
    least = both(0.0, 1.1, 2.0)
    for contour in result.contours:
        (line,) = contour.lines
        assert not line.closed
        values = [both(mu, norm, 2.0) - least for norm, mu in zip(line.x, line.y, strict=True)]
        assert values == pytest.approx([contour.level] * len(values), abs=2e-3)


def test_a_narrow_range_says_so() -> None:
    result = palletfit.likelihood_contours(
        spec(), x=models.POI, y="norm", points=5, x_range=(1.2, 1.3), y_range=(1.0, 1.2)
    ).only
    assert [contour.lines for contour in result.contours] == [(), ()]
    assert sum("beyond the grid" in remark for remark in result.remarks) == 4
    assert result.as_json()["contours"][0]["miss"] is None


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"x": "mu_SIG", "y": "norn"}, PalletError, "Did you mean 'norm'"),
        ({"x": "norm", "y": "norm"}, ConfigError, "Both parameters are 'norm'"),
        ({"x": "norm"}, ConfigError, "need two parameters"),
        ({"x": "norm", "y": "mu_SIG", "points": 2}, ConfigError, "cannot have 2 values"),
        ({"x": "norm", "y": "mu_SIG", "points": 3.5}, ConfigError, "cannot have 3.5 values"),
        ({"x": "norm", "y": "mu_SIG", "levels": [-1.0]}, ConfigError, "not positive"),
        ({"x": "norm", "y": "mu_SIG", "x_range": (2.0, 1.0)}, ConfigError, "does not rise"),
        ({"x": "norm", "y": "mu_SIG", "y_range": (-1.0, 1.0)}, PalletError, "between 0 and 10"),
    ],
)
def test_bad_questions(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        _ = palletfit.likelihood_contours(spec(), **arguments).only
