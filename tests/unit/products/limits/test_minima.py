"""Upper limits with both minima of a likelihood, and against hypothesis tests at the limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from palletfit.config import FitSettings, LimitSettings
from palletfit.engine.asymptotics import PValues, p_values
from palletfit.engine.choose import make_engine
from palletfit.engine.many_mu import Profile
from palletfit.engine.minima import with_other
from palletfit.engine.records import HypotestResult
from palletfit.pallet.patches import Patch
from palletfit.products.limits.compute import (
    KINDS,
    Limit,
    Limits,
    LimitSearch,
    asimov_root,
    upper_limits,
)
from palletfit.products.limits.schema import LimitsResult

from ....likelihoods import read_likelihood
from ... import models

ALL = Patch("all", (), ())
#: 0.04 events of this sample are 1.6 at one standard deviation: they explain an excess, or not.
RARE = {"name": "rare_rate", "type": "normsys", "data": {"hi": 40.0, "lo": 0.01}}
MINIMA = ("lowest", "nearest")
NORM = {"name": "norm", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}


def rare_background(*observed: float) -> models.Spec:
    samples = [
        models.sample("bkg", [6.0, 40.0], NORM),
        models.sample("rare", [0.04, 0.0], RARE),
        models.signal([5.0, 2.0]),
    ]
    return models.workspace({"SR": samples}, {"SR": observed})


def limit(spec: models.Spec, tolerance: float = 1e-4, **fit: Any) -> Limits:
    engine = make_engine(spec, FitSettings(**fit))
    ((_, result),) = upper_limits(engine, [ALL], 0.95, LimitSettings(tolerance=tolerance))
    assert isinstance(result, Limits), result
    return result


def six(limits: Any) -> list[Limit]:
    return [limits.observed, *limits.expected]


def test_limits_hold_both_minima_and_either_counts() -> None:
    lowest, nearest = (limit(rare_background(10, 38), 1e-3, minimum=name) for name in MINIMA)
    assert (lowest.minimum, nearest.minimum) == MINIMA
    assert lowest.other is not None
    assert nearest.other is not None
    assert (lowest.other.minimum, nearest.other.minimum) == MINIMA[::-1]
    for counted, other in ((lowest, nearest.other), (nearest, lowest.other)):
        for first, second in zip(six(counted), six(other), strict=True):
            assert first.mu == pytest.approx(second.mu, abs=first.tolerance + second.tolerance)
            assert second.state == "found"
            assert second.trusted
        assert counted.mu_hat == pytest.approx(other.mu_hat, abs=1e-5)
    ((_, test),) = make_engine(
        rare_background(10, 38), FitSettings(mu=lowest.other.observed.mu)
    ).hypotests([ALL])
    assert test.other.p_values.CLs_obs == pytest.approx(0.05, rel=1e-3)
    # With less background from the rare sample more is expected to be excluded.
    assert lowest.other.expected[2].mu < 0.7 * lowest.expected[2].mu
    assert lowest.remarks[0] == "the nearest minimum gives limits 2.031 observed, 1.271 expected"
    assert nearest.remarks[0] == "the lowest minimum gives limits 2.149 observed, 1.905 expected"


def test_a_record_holds_the_other_minimum() -> None:
    result = limit(rare_background(10, 38), 1e-2)
    plain = result.as_json()
    LimitsResult.model_validate(plain)
    other = plain["other_minimum"]
    assert (plain["minimum"], other["minimum"]) == MINIMA
    assert other["mu_obs"] == result.other.observed.mu
    assert other["mu_exp"] == [entry.mu for entry in result.other.expected]
    assert "other" not in plain
    # Records of earlier versions say nothing of minima.
    del plain["minimum"], plain["other_minimum"]
    assert LimitsResult.model_validate(plain).other_minimum is None


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Minima of the profiles that are made."""
    minima: list[str] = []
    original = Profile.__init__

    def noted(self: Profile, fits: Any, copies: int) -> None:
        minima.append(fits.settings.minimum)
        original(self, fits, copies)

    monkeypatch.setattr(Profile, "__init__", noted)
    return minima


def test_one_minimum_costs_no_further_fits(profiles: list[str]) -> None:
    result = limit(models.full("normsys", "histosys"))
    assert result.other is None
    assert result.as_json()["other_minimum"] is None
    assert not any("minimum gives" in remark for remark in result.remarks)
    assert profiles == ["lowest"]


def test_limits_of_a_minimum_that_is_not_reached_are_not_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Profile.evidence

    def evidence(self: Profile, row: int, *, on_data: bool) -> tuple[bool, str]:
        if self.settings.minimum == "nearest":
            return False, "not converged"
        return original(self, row, on_data=on_data)

    monkeypatch.setattr(Profile, "evidence", evidence)
    result = limit(rare_background(10, 38))
    assert (result.engine, result.other) == ("batched", None)


# --------------------------------------------------------------------------- patch by patch


class TwoWidths:
    """Tests without nuisance parameters, as if mu were measured with one or another uncertainty."""

    def __init__(self, counted: float, other: float | None) -> None:
        self.settings = FitSettings(engine="reference")
        self.counted, self.other = counted, other

    def tests_of(self, patch: Patch) -> TwoWidths:
        assert patch is ALL
        return self

    def poi_bounds(self) -> tuple[float, float]:
        return 0.0, 10.0

    def test(self, mu: float | None = None) -> HypotestResult:
        result = HypotestResult(
            p_values=self.p_values(mu, self.counted),
            mu_hat=0.0,
            fits={},
            remarks=("a remark",),
            engine="reference",
            parameters=1,
            build_time=0.0,
            fit_time=0.0,
            mu_hat_error=self.counted,
        )
        if self.other is None:
            return result
        p_values = self.p_values(mu, self.other)
        return with_other(result, replace(result, p_values=p_values), "nearest", "qtilde", {})

    def p_values(self, mu: float | None, width: float) -> PValues:
        assert mu is not None
        return p_values("qtilde", (mu / width) ** 2, (mu / width) ** 2)


def by_patch(counted: float, other: float | None) -> Limits:
    search = LimitSearch(0.05, LimitSettings(tolerance=1e-3))
    return search.by_patch(TwoWidths(counted, other), ALL)


def test_patch_by_patch_limits_hold_the_other_minimum_of_tests() -> None:
    result = by_patch(1.0, 0.8)
    roots = asimov_root(np.array([0.0, -2.0, -1.0, 0.0, 1.0, 2.0]), 0.05)
    assert [entry.mu for entry in six(result)] == pytest.approx(roots, rel=1e-3)
    assert result.other is not None
    assert result.other.minimum == "nearest"
    assert [entry.mu for entry in six(result.other)] == pytest.approx(0.8 * roots, rel=1e-3)
    # What tests say of CLs at one signal strength is no remark on limits.
    assert result.remarks == (
        "a remark",
        "the nearest minimum gives limits 1.568 observed, 1.568 expected",
    )


def test_patch_by_patch_limits_beyond_the_bound_may_be_found_with_the_other_minimum() -> None:
    result = by_patch(5.0, 3.0)
    states = [entry.state for entry in six(result)]
    assert states == ["found", "found", "found", "found", "beyond", "beyond"]
    assert [entry.state for entry in six(result.other)] == ["found"] * 5 + ["beyond"]


@pytest.mark.parametrize("other", [None, 1.0005])
def test_patch_by_patch_limits_that_agree_are_no_other_limits(other: float | None) -> None:
    result = by_patch(1.0, other)
    assert result.other is None
    assert result.remarks == ("a remark",)


# --------------------------------------------------------------------------- against tests of mu

#: In these limits CLs changes by less than this power of mu.
STEEP = 10.0


#: The observed limit and a far one; the others are one root of the same function each.
FEW = ("obs", "exp_+2")
KINDS_COMPARED = pytest.mark.parametrize(
    "kinds", [FEW, pytest.param(KINDS, marks=pytest.mark.study)], ids=["few", "all"]
)


def check_limits(
    workspace: models.Spec, patches: Sequence[Patch], kinds: Sequence[str] = KINDS
) -> int:
    """Compare CLs of hypothesis tests at some limits of patches, and count the limits."""
    engine, settings = make_engine(workspace, FitSettings()), LimitSettings(tolerance=1e-3)
    compared = 0
    for patch, result in upper_limits(engine, patches, 0.95, settings):
        assert isinstance(result, Limits), (patch.name, result)
        assert result.engine == "batched"
        for position, (kind, entry) in enumerate(zip(KINDS, six(result), strict=True)):
            if kind not in kinds:
                continue
            mu = result.mu_max if entry.mu is None else entry.mu
            ((_, test),) = make_engine(workspace, FitSettings(mu=mu)).hypotests([patch])
            cls = (test.p_values.CLs_obs, *test.p_values.CLs_exp)[position]
            name = f"{patch.name}, {kind} at {mu}"
            compared += 1
            if entry.state == "beyond":
                assert cls > 0.05, name
            elif entry.jump is not None:
                below, above = entry.jump
                assert below > 0.05 > above, name
                assert above * (1 - 1e-3) <= cls <= below * (1 + 1e-3), name
            else:
                assert entry.state == "found", name
                assert abs(math.log(cls / 0.05)) <= STEEP * entry.tolerance / mu + 1e-5, name
    return compared


@pytest.mark.usefixtures("_points_at_random")
@KINDS_COMPARED
@pytest.mark.parametrize(
    "number", [7, *(pytest.param(number, marks=pytest.mark.study) for number in (14, 15))]
)
def test_limits_of_random_likelihoods_are_where_hypothesis_tests_have_them(
    load: Callable[[str], ModuleType], number: int, kinds: Sequence[str]
) -> None:
    workspace, operations = load("random_likelihoods").random_likelihood(number)
    patches = [Patch(f"p{at}", (), tuple(signal)) for at, signal in enumerate(operations)]
    patches = patches[: 1 if kinds is FEW else None]
    assert check_limits(workspace, patches, kinds) == len(patches) * len(kinds)


@pytest.mark.slow
@pytest.mark.study
@pytest.mark.usefixtures("_points_at_random")
@pytest.mark.parametrize("kinds", [FEW, KINDS], ids=["few", "all"])
@pytest.mark.parametrize("name", ["DS_220_1_Staus", "DS_220_40_Staus"])
def test_limits_of_the_staus_are_where_hypothesis_tests_have_them(
    shared: Path, tmp_path: Path, name: str, kinds: Sequence[str]
) -> None:
    workspace, patches = read_likelihood(shared, tmp_path, "staus", "combined")
    chosen = [patch for patch in patches if patch.name == name]
    assert check_limits(workspace, chosen, kinds) == len(kinds)
