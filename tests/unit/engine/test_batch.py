"""The batched engine: nobody finds a lower minimum, and nothing but the patch decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine import batch as batch_module
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fit_records import fit_records
from palletfit.engine.fits import Fits
from palletfit.engine.fitter import Fitter
from palletfit.engine.lowering import Lowered
from palletfit.engine.records import Fit, HypotestResult
from palletfit.engine.reference import hypotests as reference
from palletfit.engine.reference import optimizers
from palletfit.engine.reference.evidence import Likelihood, polish
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch

from .. import models, scans

Spec = dict[str, Any]

#: Nobody may find a 2 NLL that is lower by more than this.
ABOVE = 1e-6
NAMES = ("background", "free", "fixed", "asimov_fixed")


@dataclass
class Seen:
    """One run of the engine: results by patch, and the fits behind them."""

    results: dict[str, HypotestResult | PalletfitError]
    fits: list[tuple[Lowered, Fits, list[Fit]]]

    def points(self, row: int = 0) -> Iterator[tuple[Fits, Fit, dict[str, float]]]:
        """Fits of one patch, their records and best-fit parameters by name."""
        for lowered, fits, records in self.fits:
            named = zip(lowered.names[row], fits.point[row].tolist(), strict=True)
            parameters = {name: value for name, value in named if name is not None}
            yield fits, records[row], parameters


@pytest.mark.parametrize(
    ("free", "above"), [(9.0, False), (9.5 + 1e-9, False), (9.6, True), (11.0, True)]
)
def test_a_free_fit_above_another_one_is_no_result(free: float, above: bool) -> None:
    values = {"background": 9.5, "free": free, "fixed": 10.0}
    fits = {name: SimpleNamespace(value=np.array([value])) for name, value in values.items()}
    assert batch_module._ends_above(fits, 0) == above


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the engine and look at its fits: records hold no parameters."""
    recorded: list[tuple[Lowered, Fits, list[Fit]]] = []

    def keep(lowered: Lowered, fits: Fits, rows: Any, **options: Any) -> list[Fit]:
        records = fit_records(lowered, fits, rows, **options)
        # From the suggested values alone there is one attempt.
        if len(fits.attempts) > 1:
            recorded.append((lowered, fits, records))
        return records

    monkeypatch.setattr(batch_module, "fit_records", keep)

    def run(workspace: Spec, patches: Sequence[Patch] | None = None, **settings: Any) -> Seen:
        recorded.clear()
        engine = BatchedEngine(workspace, FitSettings(**settings))
        parameters = engine.hypotests(patches or [Patch("all", (), ())])
        return Seen({patch.name: result for patch, result in parameters}, list(recorded))

    return run


def likelihood_of(spec: Spec, fits: Fits, points: dict[str, FloatArray], **settings: Any) -> Any:
    """pyhf's likelihood of one of the four fits; Asimov data are made again from a best fit."""
    model, data = reference.build_model(spec, FitSettings(**settings))
    if "asimov" in points:
        data = np.asarray(model.expected_data(points["asimov"]), dtype=float)
    return Likelihood(model, data, fits.mu)


def rivals(likelihood: Likelihood, near: FloatArray, count: int) -> float:
    """The lowest 2 NLL that pyhf's optimizers find, from several starts and then polished."""
    config = likelihood.model.config
    suggested = np.asarray(config.suggested_init(), dtype=float)
    width = np.minimum((likelihood.upper - likelihood.lower) / 10, 1.0)
    rng = np.random.default_rng(5)
    starts = [("scipy", suggested), ("minuit", suggested), ("scipy", near)]
    for _ in range(count):
        displaced = suggested + width * rng.standard_normal(len(suggested))
        starts.append(("scipy", np.where(likelihood.fixed, suggested, displaced)))
    lowest = np.inf
    with reference._quiet():
        for optimizer, start in starts:
            begin = likelihood.start(start)
            parameters = optimizers.minimise(likelihood, optimizer, begin, "numpy").parameters
            point, evidence, _ = polish(likelihood, likelihood.start(parameters), edm=1e-9)
            assert likelihood.twice_nll(point) == evidence.twice_nll
            lowest = min(lowest, evidence.twice_nll)
    return lowest


def check_all_fits(
    seen: Seen, spec: Spec, *, row: int = 0, displaced: int = 0, **settings: Any
) -> None:
    """Values are pyhf's at the engine's points, and none of pyhf's fits ends lower."""
    model, _ = reference.build_model(spec, FitSettings(**settings))
    names = model.config.par_names
    source = "fixed" if settings.get("test_statistic") == "q0" else "background"
    asimov: dict[str, FloatArray] = {}
    points = {}
    for title, (fits, record, parameters) in zip(NAMES, seen.points(row), strict=True):
        assert set(parameters) == set(names)
        point = np.array([parameters[name] for name in names])
        points[title] = point
        if title == "asimov_fixed":
            asimov = {"asimov": points[source]}
        likelihood = likelihood_of(spec, fits, asimov, **settings)
        free = ~likelihood.fixed
        assert np.all((point >= likelihood.lower) & (point <= likelihood.upper) | ~free)
        value = likelihood.twice_nll(point)
        rounding = 1e-13 * np.sum(np.abs(likelihood.data[likelihood.data > 0]) ** 1.1)
        assert record.twice_nll == pytest.approx(value, abs=1e-8 + rounding), title
        assert record.trusted, title
        assert value <= rivals(likelihood, point, displaced) + ABOVE + rounding, title


# --------------------------------------------------------------------------- adversarial models

NORM: Spec = {"name": "norm", "type": "normfactor", "data": None}


def factor(name: str) -> Spec:
    return {"name": name, "type": "normfactor", "data": None}


def normsys(name: str, hi: float, lo: float) -> Spec:
    return {"name": name, "type": "normsys", "data": {"hi": hi, "lo": lo}}


def histosys(name: str, hi: Sequence[float], lo: Sequence[float]) -> Spec:
    return {"name": name, "type": "histosys", "data": {"hi_data": [*hi], "lo_data": [*lo]}}


def two_bins(
    *modifiers: Spec,
    observed: Sequence[float] = (58.0, 45.0),
    expected: Sequence[float] = (60.0, 40.0),
    events: Sequence[float] = (8.0, 14.0),
    signal: Sequence[Spec] = (),
    parameters: Sequence[Spec] = (),
) -> Spec:
    return models.workspace(
        {"SR": [models.sample("bkg", expected, *modifiers), models.signal(events, *signal)]},
        {"SR": observed},
        parameters,
    )


def many_bins(count: int) -> Spec:
    rng = np.random.default_rng(1)
    shape = np.linspace(80.0, 5.0, count)
    bump = 12.0 * np.exp(-0.5 * ((np.arange(count) - count / 2) / 3.0) ** 2)
    tilt = np.linspace(-0.1, 0.1, count)
    modifiers = [
        histosys("tilt", shape * (1 + tilt), shape * (1 - tilt)),
        normsys("scale", 1.1, 0.92),
        {"name": "statistics", "type": "staterror", "data": (0.05 * shape).tolist()},
    ]
    observed = rng.poisson(shape * 1.02).tolist()
    return two_bins(*modifiers, observed=observed, expected=shape.tolist(), events=bump.tolist())


def with_control(*modifiers: Spec, **options: Any) -> Spec:
    """Two bins with a free normalization, which a control region measures."""
    spec = two_bins(NORM, *modifiers, **options)
    control = models.sample("bkg", [300.0], NORM)
    spec["channels"].append({"name": "CR", "samples": [control]})
    spec["observations"].append({"name": "CR", "data": [310.0]})
    return spec


def zero_sample() -> Spec:
    spec = models.full("normsys")
    spec["channels"][0]["samples"].append(models.sample("none", [0.0, 0.0], factor("idle")))
    return spec


#: Each model with the engine that has to make it: None where either may.
HARD: dict[str, tuple[Spec, str | None]] = {
    # Flat directions.
    "degenerate factors": (two_bins(factor("a"), factor("b")), None),
    "degenerate factors with control": (with_control(factor("twin")), None),
    "modifier without effect": (
        two_bins(normsys("idle", 1.0, 1.0), normsys("scale", 1.1, 0.9)),
        "batched",
    ),
    "factor of a zero sample": (zero_sample(), "batched"),
    # Bounds.
    "pull at +5": (two_bins(normsys("scale", 1.05, 0.95), observed=(200.0, 140.0)), "batched"),
    "pull at -5": (two_bins(normsys("scale", 1.05, 0.95), observed=(20.0, 10.0)), "batched"),
    "gamma at its bound": (
        two_bins(
            {"name": "free", "type": "shapefactor", "data": None},
            observed=(900.0, 20.0),
            events=(0.5, 0.1),
        ),
        None,
    ),
    "factor at zero": (
        models.workspace(
            {
                "SR": [
                    models.sample("bkg", [50.0]),
                    models.sample("other", [20.0], NORM),
                    models.signal([5.0]),
                ]
            },
            {"SR": [35.0]},
        ),
        "batched",
    ),
    "mu-hat at zero": (models.counting(10.0, 50.0, 30.0, normsys("s", 1.1, 0.9)), "batched"),
    "mu-hat at its upper bound": (models.counting(1.0, 50.0, 90.0), "batched"),
    # Constraints and yields of extreme size.
    "narrow shapesys": (models.narrow(trap=True), "batched"),
    "huge yields": (
        two_bins(
            normsys("scale", 1.1, 0.9),
            observed=(1.0003e8, 0.9998e8),
            expected=(1e8, 1e8),
            events=(2e4, 5e4),
        ),
        "batched",
    ),
    "tiny yields": (
        two_bins(
            normsys("scale", 1.1, 0.9),
            observed=(0.0, 0.0),
            expected=(1e-6, 2e-6),
            events=(1e-6, 1e-6),
        ),
        "batched",
    ),
    "empty bins": (two_bins(normsys("s", 1.2, 0.8), observed=(0.0, 0.0)), "batched"),
    "no background in a bin": (
        two_bins(normsys("s", 1.2, 0.8), observed=(55.0, 0.0), expected=(60.0, 0.0)),
        "batched",
    ),
    "no background, but events": (
        two_bins(normsys("s", 1.2, 0.8), observed=(55.0, 3.0), expected=(60.0, 0.0)),
        "failed",
    ),
    "far away": (
        two_bins(normsys("scale", 1.1, 0.9), observed=(180.0, 5.0)),
        "batched",
    ),
    "single bin": (models.counting(), "batched"),
    "many bins": (many_bins(8), "batched"),
    "fifty bins": (many_bins(50), "batched"),
    # Signals.
    "weak signal": (two_bins(normsys("s", 1.1, 0.9), events=(1e-4, 1e-4)), "batched"),
    "signal with negative yields": (
        two_bins(normsys("s", 1.1, 0.9), events=(-4.0, 14.0)),
        "batched",
    ),
    "interference": (two_bins(normsys("s", 1.1, 0.9), events=(-4.0, -5.0)), "batched"),
    "negative mu allowed": (
        two_bins(
            normsys("s", 1.1, 0.9),
            observed=(40.0, 20.0),
            parameters=[{"name": models.POI, "inits": [1.0], "bounds": [[-5.0, 5.0]]}],
        ),
        "batched",
    ),
    # Several minima.
    "one-sided shape": (
        two_bins(histosys("shape", (75.0, 40.0), (72.0, 40.0)), observed=(80.0, 41.0)),
        "batched",
    ),
    "one-sided shapes": (
        with_control(
            histosys("first", (75.0, 42.0), (78.0, 41.0)),
            histosys("second", (64.0, 50.0), (63.0, 52.0)),
            normsys("third", 1.1, 1.13),
            observed=(85.0, 60.0),
        ),
        "batched",
    ),
    "asymmetric scale": (
        with_control(normsys("scale", 3.0, 1.5), observed=(110.0, 90.0)),
        "batched",
    ),
    # Symmetric: the suggested start is a saddle point.
    "saddle at the start": (
        models.counting(10.0, 60.0, 90.0, histosys("even", (80.0,), (80.0,))),
        "batched",
    ),
    # Fixed parameters.
    "fixed": (
        two_bins(
            normsys("scale", 1.1, 0.9),
            normsys("held", 1.3, 0.8),
            parameters=[{"name": "held", "inits": [0.7], "fixed": True}],
        ),
        "batched",
    ),
    "all fixed": (
        two_bins(
            normsys("held", 1.3, 0.8),
            parameters=[{"name": "held", "inits": [0.7], "fixed": True}],
        ),
        "batched",
    ),
}


#: Models that other ones are like, or that tests of adversarial models have, too.
IN_STUDIES = {
    *("fifty bins", "degenerate factors", "pull at -5", "narrow shapesys", "single bin"),
    *("factor of a zero sample", "one-sided shape", "signal with negative yields", "all fixed"),
}


@pytest.mark.parametrize("displaced", [0, pytest.param(3, marks=pytest.mark.study)])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.study] * (name in IN_STUDIES)) for name in HARD],
)
def test_nobody_beats_a_trusted_fit(name: str, displaced: int, watch: Any) -> None:
    spec, engine = HARD[name]
    seen = watch(spec)
    result = seen.results["all"]
    if engine == "failed":
        assert isinstance(result, PalletfitError)
        return
    assert isinstance(result, HypotestResult)
    assert engine in (None, result.engine)
    if result.engine == "batched":
        check_all_fits(seen, spec, displaced=displaced)
        assert result.status == "ok"
    else:
        assert result.remarks[0].startswith("fitted by the reference engine: its ")


def test_fits_that_are_the_same_without_signal_are_made_once(
    watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = models.background("normsys", "staterror")
    wide = {"type": "staterror", "name": "staterror_SR", "data": [3.0, 3.0]}
    signals = {
        "weak": models.signal([1.0, 2.0]),
        "strong": models.signal([9.0, 15.0]),
        "uncertain": models.signal([9.0, 15.0], wide),
    }
    patches = [
        Patch(name, (), [{"op": "add", "path": "/channels/0/samples/-", "value": signal}])
        for name, signal in signals.items()
    ]
    alone = {patch.name: watch(workspace, [patch]).results[patch.name] for patch in patches}
    lane_counts: list[tuple[float | None, int]] = []
    lanes = Fitter.lanes

    def count(fitter: Fitter, fits: Fits, *args: Any, **options: Any) -> Any:
        lane_counts.append((fits.mu, len(args[1])))
        return lanes(fitter, fits, *args, **options)

    monkeypatch.setattr(Fitter, "lanes", count)
    together = watch(workspace, patches).results
    assert lane_counts[0] == (0.0, 2)  # the widths of "uncertain" are others
    assert next(number for mu, number in lane_counts if mu is None) == 3
    for name, result in together.items():
        for title in NAMES:
            ours, theirs = result.fits[title], alone[name].fits[title]
            assert ours.twice_nll == pytest.approx(theirs.twice_nll, abs=1e-9)
            assert len(ours.attempts) == len(theirs.attempts)


def test_a_parameter_with_a_large_effect_in_one_direction_is_tried_far_away() -> None:
    """As in a published likelihood of ATLAS: few events, or forty times as many."""
    few = models.sample("few", [0.04], normsys("bent", 40.0, 0.01))
    other = models.sample("other", [6.0], normsys("scale", 1.15, 0.85))
    spec = models.workspace({"SR": [models.signal([1.0]), few, other]}, {"SR": [10.0]})
    ((batch, _),), _ = BatchedEngine(spec, FitSettings()).lower([Patch("all", (), ())])
    tests = BatchedEngine(spec, FitSettings()).batch_fits(batch)
    fits = Fits(batch.data, batch.aux, 0.0, tests.rows)
    tests.fitter.fit(fits, {"suggested": batch.init})
    column = list(batch.names[0]).index("bent")
    assert fits.converged[0]
    assert fits.point[0, column] == pytest.approx(0.2337, abs=1e-3)
    nearby = float(fits.value[0])
    tests.search.explore(fits, tests.rows)
    assert fits.point[0, column] == pytest.approx(1.1654, abs=1e-3)
    lowest = float(fits.value[0])
    assert nearby - lowest == pytest.approx(0.1916, abs=1e-3)
    # Both are minima, and there is no lower one.
    grid = batch.init[0] * np.ones((601 * 61, 1))
    grid[:, tests.poi] = 0.0
    grid[:, column] = np.tile(np.linspace(-3, 3, 601), 61)
    grid[:, list(batch.names[0]).index("scale")] = np.repeat(np.linspace(-3, 3, 61), 601)
    values = tests.likelihood.values(fits, grid, np.zeros(len(grid), dtype=int))
    assert lowest <= values.min() < lowest + 1e-3


@pytest.mark.parametrize("events", [8.0, pytest.param(1.0, marks=pytest.mark.study)])
def test_a_mu_hat_of_zero_has_an_error(events: float) -> None:
    background = scans.workspace()
    background["observations"][0]["data"] = [45, 38]  # fewer than expected
    poi = {"name": "mu_SIG", "type": "normfactor", "data": None}
    sample = {"name": "signal", "data": [events, 0.5 * events], "modifiers": [poi]}
    patch = Patch("s", (), [{"op": "add", "path": "/channels/0/samples/-", "value": sample}])
    engine = BatchedEngine(background, FitSettings())
    ((_, result),) = engine.hypotests([patch])
    assert isinstance(result, HypotestResult)
    assert result.mu_hat == 0
    step = 0.02
    values = [engine.fit(patch, mu).twice_nll for mu in (0.0, step, 2 * step)]
    curvature = (values[0] - 2 * values[1] + values[2]) / step**2
    assert result.mu_hat_error == pytest.approx((curvature / 2) ** -0.5, rel=0.02)
