"""Impacts of groups against fits with the group fixed, default groups, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

import palletfit
from palletfit.errors import ConfigError, PalletError
from palletfit.products.diagnostics.profile.groups import default_groups
from palletfit.products.diagnostics.profile.impacts import GroupedImpacts
from palletfit.products.diagnostics.records import Parameter

from .... import models

KINDS = ("normfactor", "normsys", "histosys", "lumi", "shapesys", "staterror")
GROUPS = {"simulation": ["statistics", "uncorrelated[[]0[]]"], "shape": "sh*", "norm": "norm"}


def spec() -> dict[str, Any]:
    return models.full(*KINDS, observed=(68.0, 57.0))


@pytest.fixture(scope="module")
def impacts() -> GroupedImpacts:
    return palletfit.grouped_impacts(spec(), groups=GROUPS, asymmetric=True).only


def test_they_are_what_fits_with_the_group_fixed_lack(impacts: GroupedImpacts) -> None:
    best = palletfit.fit(spec())
    assert impacts.total.error == pytest.approx(best.errors[models.POI], rel=1e-6)
    for group in impacts.groups:
        # A parameter with a component for each bin is fixed as a whole, so that these are alone.
        if group.name == "simulation":
            continue
        fixed = palletfit.fit(
            spec(), fix={name: best.parameters[name] for name in group.parameters}
        )
        held = fixed.errors[models.POI]
        assert group.remaining.error == pytest.approx(held, rel=1e-5)
        assert group.impact.error == pytest.approx(
            (best.errors[models.POI] ** 2 - held**2) ** 0.5, rel=1e-4
        )
    sizes = [group.impact.size for group in impacts.groups]
    assert sizes == sorted(sizes, reverse=True)


def test_asymmetric_errors_are_where_a_scan_rises_by_one(impacts: GroupedImpacts) -> None:
    scan = palletfit.likelihood_scan(spec(), points=2).only
    interval = scan.intervals[0]
    assert impacts.total.up == pytest.approx(interval.upper.value - scan.best, abs=1e-5)
    assert impacts.total.down == pytest.approx(scan.best - interval.lower.value, abs=1e-5)
    shape = impacts.group("shape")
    best = palletfit.fit(spec()).parameters
    held = palletfit.likelihood_scan(spec(), points=2, fix={"shape": best["shape"]}).only
    up = held.intervals[0].upper.value - held.best
    assert shape.remaining.up == pytest.approx(up, abs=1e-5)
    assert impacts.total.up is not None
    assert shape.impact.up == pytest.approx((impacts.total.up**2 - up**2) ** 0.5, rel=1e-3)


def test_the_statistical_part_holds_what_is_constrained(impacts: GroupedImpacts) -> None:
    best = palletfit.fit(spec()).parameters
    alone = [name for name in best if name not in (models.POI, "norm")]
    fixed = {name.partition("[")[0]: best[name] for name in alone if "[" not in name}
    counting = palletfit.fit(spec(), fix={**fixed, "statistics": 1.0, "uncorrelated": 1.0})
    # The bins' own parameters stand within 0.6% of one.
    assert impacts.statistical.error == pytest.approx(counting.errors[models.POI], rel=1e-2)
    assert impacts.total.error is not None
    assert impacts.statistical.error is not None
    assert impacts.systematic.error == pytest.approx(
        (impacts.total.error**2 - impacts.statistical.error**2) ** 0.5
    )
    assert set(impacts.ungrouped) == {"scale", "lumi", "uncorrelated[1]"}
    assert impacts.as_json()["groups"][0]["impact"]["error"] > 0


def test_an_error_may_not_exist_at_a_bound() -> None:
    counting = models.counting(10.0, 50.0, 52.0)
    impacts = palletfit.grouped_impacts(counting, asymmetric=True).only
    root = brentq(lambda up: 2 * (10 * up - 52 * np.log1p(10 * up / 52)) - 1, 0.1, 9.0)
    assert impacts.total.up == pytest.approx(root, abs=1e-6)
    assert impacts.total.down is None
    assert "no down error" in impacts.remarks[-1]
    assert impacts.groups == ()


def entry(name: str, kind: str) -> Parameter:
    return Parameter(name, kind, "free", 0.0, 1.0, 0.0, 1.0, 0.0, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("alphas", "groups"),
    [
        (["JES_1", "JES_2", "JER", "lumi_x", "btag_B"],
         {"JES_*": 2, "other systematics": 3}),
        (["alpha_JES_1", "alpha_JES_2", "alpha_JER"],
         {"alpha_JES_*": 2, "other systematics": 1}),
        # Upper and lower case could be a mistake, or not.
        (["Jet_1", "Jet_2", "JET_1", "JET_2", "tau_1", "tau_2"],
         {"other systematics": 4, "tau_*": 2}),
        (["MUON_1", "MUON_2", "MUONS_1", "MUONS_2"], {"MUON_*": 2, "MUONS_*": 2}),
        (["pileup", "JVT"], {"systematics": 2}),
        (["_", "_a", "a_", "a_", "x__y"], {"systematics": 5}),
        (["alone_x"], {"systematics": 1}),
        (["same_", "same_x", "same_y"], {"same_*": 2, "other systematics": 1}),
    ],
)  # fmt: skip
def test_default_groups_of_alphas(alphas: list[str], groups: dict[str, int]) -> None:
    sorted_names = default_groups([entry(name, "alpha") for name in alphas])
    assert {name: len(names) for name, names in sorted_names.items()} == groups


def test_default_groups_are_by_kind() -> None:
    names = {group.name for group in palletfit.grouped_impacts(spec()).only.groups}
    assert names == {"lumi", "normalizations", "shapesys", "staterror", "systematics"}


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"groups": {"a": "statistic"}}, PalletError, "'statistic' of the group 'a' fits no"),
        ({"groups": {"a": []}}, ConfigError, "group 'a' has no pattern"),
        ({"groups": {}}, ConfigError, "no group"),
        ({"groups": ["a"]}, ConfigError, "a mapping from names"),
        ({"groups": {"a": [1]}}, ConfigError, "no text"),
        ({"groups": {"a": 1}}, ConfigError, "no text"),
        ({"poi": ""}, PalletError, "parameter of interest"),
        ({"engine": "reference"}, ConfigError, "makes no grouped impacts"),
    ],
)
def test_bad_questions(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        _ = palletfit.grouped_impacts(spec(), **arguments).only


def test_groups_may_overlap_or_be_fixed() -> None:
    groups = {"all": "*", "scale": "scale", "lumi": "lumi", "signal": "mu_SIG"}
    impacts = palletfit.grouped_impacts(spec(), groups=groups, fix={"lumi": 1.0}).only
    assert "in more than one group: scale" in impacts.remarks
    words = "these groups have no free parameter other than mu_SIG: lumi, signal"
    assert words in impacts.remarks
    assert impacts.group("lumi").impact.error == 0.0
