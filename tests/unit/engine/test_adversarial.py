"""Models that lead optimizers astray: where a fit is trusted, nobody finds a lower minimum."""

from __future__ import annotations

import functools
from typing import Any

import pyhf
import pytest

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.records import HypotestResult
from palletfit.engine.reference import hypotests as reference
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch

from .. import models
from ..models import Spec, sample, signal, workspace


def histosys(name: str, lo: list[float], hi: list[float]) -> Spec:
    return {"name": name, "type": "histosys", "data": {"lo_data": lo, "hi_data": hi}}


def normsys(name: str, lo: float, hi: float) -> Spec:
    return {"name": name, "type": "normsys", "data": {"lo": lo, "hi": hi}}


def plain(name: str, kind: str = "normfactor", data: Any = None) -> Spec:
    return {"name": name, "type": kind, "data": data}


def one(*samples: Spec, observed: list[float], parameters: tuple[Spec, ...] = ()) -> Spec:
    return workspace({"SR": samples}, {"SR": observed}, parameters)


def many_bins(count: int) -> Spec:
    numbers = range(count)
    statistics = plain("a", "staterror", [1.5] * count)
    return one(
        sample("bkg", [20.0 + i % 7 for i in numbers], statistics),
        signal([0.3 * (i % 5) for i in numbers], normsys("b", 0.8, 1.1)),
        observed=[19.0 + (3 * i) % 11 for i in numbers],
    )


MODELS: dict[str, Spec] = {
    "two norms that cannot be told apart": one(
        sample("bkg", [50.0, 40.0], plain("a"), plain("b")), signal([5.0, 9.0]), observed=[55, 47]
    ),
    "a norm of nothing": one(
        sample("bkg", [50.0]), sample("none", [0.0], plain("a")), signal([8.0]), observed=[55]
    ),
    "a modifier without effect": one(
        sample("bkg", [50.0], normsys("a", 1.0, 1.0)), signal([8.0]), observed=[55]
    ),
    "a norm at its bound": workspace(
        {"SR": [sample("bkg", [50.0]), signal([8.0])], "CR": [sample("x", [20.0], plain("a"))]},
        {"SR": [52], "CR": [0]},
    ),
    "a nuisance parameter at its bound": one(
        sample("bkg", [50.0], histosys("a", [49.0], [51.0])), signal([1.0]), observed=[900]
    ),
    "a gamma at its bound": one(
        sample("bkg", [5.0], plain("a", "shapesys", [4.9])), signal([3.0]), observed=[0]
    ),
    "one-sided uncertainties": one(
        sample("bkg", [50.0, 30.0]),
        signal(
            [20.0, 10.0],
            histosys("a", [4.0, 8.0], [6.0, 3.0]),
            histosys("b", [9.0, 2.0], [3.0, 7.0]),
        ),
        observed=[49, 33],
    ),
    "a signal that may be negative": one(
        sample("bkg", [50.0, 30.0]),
        signal([3.0, 2.0], histosys("a", [-9.0, 4.0], [2.0, -7.0])),
        observed=[45, 33],
    ),
    "a narrow constraint": models.narrow(trap=True),
    "empty bins": one(
        sample("bkg", [0.5, 3.0], normsys("a", 0.8, 1.2)), signal([2.0, 1.0]), observed=[0, 4]
    ),
    "no background": one(sample("bkg", [0.0, 3.0]), signal([2.0, 1.0]), observed=[0, 3]),
    "many events": one(
        sample("bkg", [1e8], normsys("a", 0.999, 1.001)), signal([1e5]), observed=[100_020_000]
    ),
    "few events": one(sample("bkg", [1e-3], normsys("a", 0.8, 1.3)), signal([1e-4]), observed=[0]),
    "a signal of zero": one(
        sample("bkg", [50.0], normsys("a", 0.9, 1.1)), signal([0.0]), observed=[52]
    ),
    "mu-hat at its upper bound": one(sample("bkg", [5.0]), signal([0.5]), observed=[40]),
    "far too many events": one(
        sample("bkg", [50.0], normsys("a", 0.9, 1.1)), signal([5.0]), observed=[400]
    ),
    "a fixed parameter": one(
        sample("bkg", [50.0], normsys("a", 0.9, 1.1)),
        signal([8.0]),
        observed=[55],
        parameters=({"name": "a", "fixed": True, "inits": [0.5]},),
    ),
    "mu below zero": one(
        sample("bkg", [50.0], normsys("a", 0.9, 1.1)),
        signal([8.0]),
        observed=[35],
        parameters=({"name": models.POI, "bounds": [[-5.0, 5.0]]},),
    ),
    "many bins": many_bins(12),
    "sixty bins": many_bins(60),
}


def batched(spec: Spec, **settings: Any) -> HypotestResult:
    engine = BatchedEngine(spec, FitSettings(**settings))
    ((_, result),) = engine.hypotests([Patch("", (), ())])
    assert not isinstance(result, PalletfitError), result
    return result


@functools.cache
def batched_result(title: str) -> HypotestResult:
    """The batched engine's result of a model, fitted once for all tests."""
    return batched(MODELS[title])


def of_pyhf(spec: Spec, optimizer: str = "scipy", **settings: Any) -> HypotestResult:
    """The reference engine's result of a model, from several starts."""
    starts = ["suggested", "background", "free"]
    chosen = FitSettings(engine="reference", optimizer=optimizer, starts=starts, **settings)
    return reference.hypotest(spec, chosen)


@functools.cache
def reference_result(title: str) -> HypotestResult:
    """The reference engine's result of a model, fitted once for all tests."""
    return of_pyhf(MODELS[title])


def lowest_of(*results: HypotestResult) -> dict[str, float]:
    """2 NLL of each fit on the data, the lowest of some results."""
    lowest: dict[str, float] = {}
    for result in results:
        for name, fit in result.fits.items():
            if name != "asimov_fixed":  # its data depend on another fit
                lowest[name] = min(lowest.get(name, float("inf")), fit.twice_nll)
    return lowest


#: Models whose like the tests of batches have, against the same peers.
IN_STUDIES = {
    *("a modifier without effect", "a gamma at its bound", "empty bins", "many events"),
    *("mu-hat at its upper bound", "far too many events", "a fixed parameter", "mu below zero"),
    *("many bins", "sixty bins"),
}
TITLES = [
    pytest.param(title, marks=[pytest.mark.study] * (title in IN_STUDIES)) for title in MODELS
]


@pytest.fixture(autouse=True)
def _numpy():
    pyhf.set_backend("numpy")


@pytest.mark.parametrize("title", TITLES)
def test_nobody_finds_a_lower_minimum(title):
    spec, result = MODELS[title], batched_result(title)
    # pyhf's own value has rounding errors of this size where a constraint is narrow.
    tolerance = 5e-3 if title == "a narrow constraint" else 1e-6
    minuit = of_pyhf(spec, "minuit")
    for name, value in lowest_of(reference_result(title), minuit).items():
        assert result.fits[name].trusted, (name, result.fits[name].reason)
        assert result.fits[name].twice_nll <= value + tolerance, name
    fits = result.fits
    assert fits["free"].twice_nll <= fits["fixed"].twice_nll + 1e-9
    assert fits["free"].twice_nll <= fits["background"].twice_nll + 1e-9


@pytest.mark.parametrize("title", TITLES)
def test_cls_is_that_of_the_reference_engine(title):
    result = batched_result(title)
    plain_result = reference_result(title)
    lower = [
        name
        for name, fit in result.fits.items()
        if fit.twice_nll < plain_result.fits[name].twice_nll - 1e-5
    ]
    expected = pytest.approx(
        plain_result.p_values.CLs_obs, abs=2e-4 if title == "a narrow constraint" else 2e-5
    )
    # Unless pyhf's optimizer ended in a higher minimum.
    assert lower or result.p_values.CLs_obs == expected


@pytest.mark.parametrize(
    "codes",
    [
        ("code1", "code2"),
        *(
            pytest.param(codes, marks=pytest.mark.study)
            for codes in (("code1", "code0"), ("code4", "code0"))
        ),
    ],
)
def test_other_interpolation_codes(codes):
    spec = one(
        sample(
            "bkg",
            [50.0, 30.0],
            histosys("a", [48.0, 31.0], [49.0, 33.0]),
            normsys("b", 0.95, 1.15),
            normsys("c", 1.1, 1.1),
        ),
        signal([6.0, 2.0], histosys("a", [5.0, 2.5], [7.0, 2.1])),
        observed=[55, 31],
    )
    settings = {"normsys": codes[0], "histosys": codes[1]}
    result = batched(spec, **settings)
    optimizers = ("scipy", "minuit")
    peers = [of_pyhf(spec, optimizer, **settings) for optimizer in optimizers]
    for name, value in lowest_of(*peers).items():
        assert result.fits[name].twice_nll <= value + 1e-6, name


def test_a_model_that_is_not_supported_is_fitted_by_pyhf():
    # The patch extends a staterror of the background to another channel.
    statistics = plain("stat", "staterror", [3.0])
    background = workspace(
        {"SR": [sample("bkg", [50.0], statistics)], "CR": [sample("other", [80.0])]},
        {"SR": [55], "CR": [88]},
    )
    operations = [
        {"op": "add", "path": f"/channels/{number}/samples/-", "value": value}
        for number, value in enumerate([signal([8.0]), sample("bkg", [9.0], statistics)])
    ]
    engine = BatchedEngine(background, FitSettings())
    ((_, result),) = engine.hypotests([Patch("", (), operations)])
    assert isinstance(result, HypotestResult), result
    assert result.engine == "reference"
    assert "the staterror 'stat' couples other channels" in result.remarks[0]
