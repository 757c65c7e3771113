"""The back end of spey gives pyhf's likelihood, the fits of hypothesis tests, and their CLs."""

from __future__ import annotations

import atexit
import copy
import doctest
import json
import math
import pickle
import tarfile
import threading
import tomllib
from importlib.metadata import EntryPoint

import numpy as np
import pyhf
import pytest
from scipy.stats import norm

import palletfit
from palletfit.backends import likelihood as likelihoods
from palletfit.engine.fitter import Fitter
from palletfit.errors import PalletError, PalletfitError
from palletfit.pallet.demo import demo_patchset, demo_workspace
from palletfit.pallet.files import read_pallet_json

from .. import models

spey = pytest.importorskip("spey")
backend = pytest.importorskip("palletfit.backends.spey")
atexit.unregister(spey._print_thanks)

APRIORI = spey.ExpectationType.apriori
APOSTERIORI = spey.ExpectationType.aposteriori
CODES = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
#: The example of spey's pyhf back end, and what that gives.
EXAMPLE = models.workspace(
    {
        "singlechannel": [
            models.sample(
                "background",
                [50.0, 52.0],
                {"name": "uncorr_bkguncrt", "type": "shapesys", "data": [3.0, 7.0]},
            )
        ]
    },
    {"singlechannel": [51.0, 48.0]},
)
EXAMPLE_CLS = 0.9474850259721279


def model_of(background, operations):
    return spey.StatisticalModel(backend.PalletfitBackend(operations, background), "test")


def adding(*yields, channel=0):
    value = models.signal(yields)
    return [{"op": "add", "path": f"/channels/{channel}/samples/1", "value": value}]


@pytest.fixture(scope="module")
def demo():
    """The demo pallet, one of its patches, and its model of pyhf."""
    workspace = demo_workspace()
    entry = demo_patchset(workspace)["patches"][3]
    return workspace, entry, model_of_pyhf(workspace, entry["patch"])


@pytest.fixture(scope="module")
def small():
    """A likelihood of four bins and four nuisance parameters, in the form of :func:`demo`."""
    workspace = models.background("normsys", "staterror", "lumi", observed=(66.0, 49.0))
    entry = models.patch("signal", [1, 2])
    return workspace, entry, model_of_pyhf(workspace, entry["patch"])


def model_of_pyhf(workspace, operations):
    return pyhf.Workspace(workspace).model(patches=[operations], modifier_settings=CODES)


# --------------------------------------------------------------------------- the model


def test_the_entry_point_is_found(project, monkeypatch):
    content = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    group = "spey.backend.plugins"
    (pair,) = content["project"]["entry-points"][group].items()
    monkeypatch.setitem(spey._backend_entries, pair[0], EntryPoint(*pair, group))
    model = spey.get_backend("palletfit")(
        signal_patch=adding(12.0, 11.0), background_only_model=EXAMPLE, analysis="example"
    )
    assert model.backend_type == "palletfit"
    assert model.available_calculators == ["toy", "asymptotic", "chi_square"]
    assert spey.get_backend_metadata("palletfit")["version"] == palletfit.__version__
    tests = doctest.DocTestFinder().find(backend.PalletfitBackend, "PalletfitBackend")
    assert doctest.DocTestRunner().run(tests[0]).failed == 0


def test_the_example_of_the_pyhf_back_end():
    (excluded,) = model_of(EXAMPLE, adding(12.0, 11.0)).exclusion_confidence_level()
    assert excluded == pytest.approx(EXAMPLE_CLS, abs=1e-6)


def check_against_pyhf(background, operations, *, rel=1e-9):
    """Compare parameters, values, derivatives and expected data."""
    workspace = pyhf.Workspace(background)
    model = workspace.model(patches=[operations], modifier_settings=CODES)
    data = np.array(workspace.data(model))
    tested = backend.PalletfitBackend(operations, background)
    config, rng = tested.config(), np.random.default_rng(7)
    assert config.parameter_names == list(model.config.par_names)
    assert config.poi_index == model.config.poi_index
    assert config.suggested_fixed == model.config.suggested_fixed()
    bounds, others = np.array(model.config.suggested_bounds()), np.array(config.suggested_bounds)
    others[config.poi_index] = bounds[config.poi_index]
    assert np.array_equal(bounds, others)
    fixed, init = np.array(config.suggested_fixed), np.array(model.config.suggested_init())
    for _ in range(3):
        moved = np.clip(init + 0.1 * rng.normal(size=len(init)), *bounds.T)
        point = np.where(fixed, init, moved)
        expected = np.array(model.expected_data(point))
        assert tested.expected_data(point) == pytest.approx(expected, rel=1e-12)
        for counts in (None, 1.1 * expected):
            value = float(model.logpdf(point, data if counts is None else counts)[0])
            assert tested.get_logpdf_func(data=counts)(point) == pytest.approx(value, rel=rel)
        nll, gradient = tested.get_objective_function()(point)
        assert nll == pytest.approx(-float(model.logpdf(point, data)[0]), rel=rel)
        step = np.zeros(len(point))
        column = int(rng.choice(np.flatnonzero(~fixed)))
        step[column] = 1e-4
        above, below = (float(model.logpdf(point + s, data)[0]) for s in (step, -step))
        slope = -(above - below) / 2e-4
        assert gradient[column] == pytest.approx(slope, rel=1e-3, abs=1e-3)
    return tested


def test_values_are_those_of_pyhf(demo):
    workspace, entry, _ = demo
    check_against_pyhf(workspace, entry["patch"])


@pytest.mark.study
@pytest.mark.parametrize(
    ("archive", "folder"),
    [
        ("1Lbb-likelihoods-hepdata", ""),
        ("SUSY-2018-04_likelihoods", "Region-combined/"),
        ("SUSY-2018-31_likelihoods", "RegionA/"),
    ],
)
def test_values_are_those_of_pyhf_in_published_likelihoods(shared, archive, folder):
    workspace, patchset = published(shared, archive, folder)
    check_against_pyhf(workspace, patchset["patches"][3]["patch"])


@pytest.mark.study
@pytest.mark.parametrize(
    ("archive", "folder"),
    [
        ("1Lbb-likelihoods-hepdata", ""),
        ("3L-RJ-likelihoods", ""),
        ("SUSY-2018-31_likelihoods", "RegionB/"),
    ],
)
def test_cls_are_those_of_hypothesis_tests_in_published_likelihoods(shared, archive, folder):
    workspace, patchset = published(shared, archive, folder)
    patchset["patches"] = patchset["patches"][::20]
    results = palletfit.hypotest(workspace, patchset, check=False)
    for entry in patchset["patches"]:
        result = results[entry["metadata"]["name"]]
        (excluded,) = model_of(workspace, entry["patch"]).exclusion_confidence_level()
        assert 1 - excluded == pytest.approx(result.p_values.CLs_obs, abs=1e-8)


def published(shared, archive, folder):
    with tarfile.open(shared / "pallets" / f"{archive}.tar.gz") as members:
        by_name = {member.name.removeprefix("./"): member for member in members}
        names = (
            next(name for name in by_name if name.endswith(f"{folder}{file}"))
            for file in ("BkgOnly.json", "patchset.json")
        )
        return [json.load(members.extractfile(by_name[name])) for name in names]


def test_curvature_gives_the_error_of_the_signal_strength(small):
    workspace, entry, _ = small
    model = model_of(workspace, entry["patch"])
    result = palletfit.hypotest(workspace, entry["patch"]).only
    assert result.mu_hat > 0.1
    sigma = model.sigma_mu_from_hessian(poi_test=result.mu_hat)
    assert sigma == pytest.approx(result.mu_hat_error, rel=1e-3)


def test_curvature_without_effect_is_not_singular():
    # The control region's own staterror is zero, so that it is fixed.
    background = models.background("normsys")
    background["channels"][1]["samples"][0]["modifiers"] = [
        {"name": "none", "type": "staterror", "data": [0.0, 0.0]}
    ]
    model = model_of(background, adding(8.0, 14.0))
    assert 0 < model.sigma_mu_from_hessian(poi_test=0.5) < 2
    assert 0 < model.sigma_mu_from_hessian(poi_test=0.0) < 2


# --------------------------------------------------------------------------- the fits


def test_fits_and_cls_are_those_of_a_hypothesis_test(demo):
    workspace, entry, _ = demo
    model = model_of(workspace, entry["patch"])
    result = palletfit.hypotest(workspace, entry["patch"]).only
    fits = {name: fit.twice_nll / 2 for name, fit in result.fits.items()}
    close = {"abs": 1e-7}
    mu_hat, nll = model.maximize_likelihood(allow_negative_signal=False)
    assert (mu_hat, nll) == (
        pytest.approx(result.mu_hat, abs=1e-5),
        pytest.approx(fits["free"], **close),
    )
    assert model.likelihood(poi_test=0.0) == pytest.approx(fits["background"], **close)
    assert model.likelihood(poi_test=1.0) == pytest.approx(fits["fixed"], **close)
    assert model.asimov_likelihood(poi_test=1.0) == pytest.approx(fits["asimov_fixed"], **close)
    assert model.maximize_asimov_likelihood()[0] == pytest.approx(0.0, abs=1e-9)
    (observed,) = model.exclusion_confidence_level()
    assert 1 - observed == pytest.approx(result.p_values.CLs_obs, abs=1e-7)
    expected = model.exclusion_confidence_level(expected=APOSTERIORI)
    assert 1 - np.array(expected) == pytest.approx(result.p_values.CLs_exp, abs=1e-7)


def test_parameters_of_a_fit_have_its_likelihood(small):
    workspace, entry, model = small
    tested = model_of(workspace, entry["patch"])
    nll, parameters = tested.likelihood(poi_test=0.7, return_parameters=True)
    data = pyhf.Workspace(workspace).data(model)
    assert -float(model.logpdf(parameters, data)[0]) == pytest.approx(nll, abs=1e-9)
    assert parameters[model.config.poi_index] == 0.7


def test_a_priori_data_are_the_background_before_any_fit(small):
    workspace, entry, model = small
    totals = {
        channel["name"]: np.sum([sample["data"] for sample in channel["samples"]], axis=0)
        for channel in workspace["channels"]
    }
    data = np.concatenate([totals[name] for name in model.config.channels])
    data = [*data, *model.config.auxdata]
    tested = model_of(workspace, entry["patch"])
    nll = tested.likelihood(poi_test=1.0, expected=APRIORI)
    assert tested.likelihood(poi_test=1.0, data=data) == pytest.approx(nll, abs=1e-10)
    fit = pyhf.infer.mle.fixed_poi_fit(1.0, data, model, return_fitted_val=True)
    assert nll == pytest.approx(float(fit[1]) / 2, abs=1e-4)
    assert nll <= float(fit[1]) / 2 + 1e-9
    observed, expected = pyhf.infer.hypotest(1.0, data, model, return_expected_set=True)
    ours = tested.exclusion_confidence_level(expected=APRIORI)
    assert 1 - np.array(ours) == pytest.approx(np.array(expected), abs=2e-3)
    assert 1 - ours[2] == pytest.approx(float(observed), abs=2e-3)


def test_signal_strength_below_zero_where_asked():
    background = models.background("normsys", observed=(50.0, 30.0))
    model = model_of(background, adding(8.0, 14.0))
    config = model.backend.config()
    assert config.minimum_poi == pytest.approx(-40.0 / 14.0)
    assert config.suggested_bounds[config.poi_index] == (pytest.approx(-40.0 / 14.0), 10.0)
    mu_hat, nll = model.maximize_likelihood()
    positive, higher = model.maximize_likelihood(allow_negative_signal=False)
    assert mu_hat < -0.2
    assert positive == 0.0
    assert nll < higher
    at = model.likelihood(poi_test=mu_hat)
    assert at == pytest.approx(nll, abs=1e-8)
    assert model.likelihood(poi_test=mu_hat - 0.2) > nll
    # The minimum is where pyhf's is.
    spec = pyhf.Workspace(background)
    pdf = spec.model(patches=[adding(8.0, 14.0)], modifier_settings=CODES)
    bounds = pdf.config.suggested_bounds()
    bounds[pdf.config.poi_index] = (-2.5, 10.0)
    fit = pyhf.infer.mle.fit(spec.data(pdf), pdf, par_bounds=bounds, return_fitted_val=True)
    assert float(fit[0][pdf.config.poi_index]) == pytest.approx(mu_hat, abs=1e-3)
    assert nll <= float(fit[1]) / 2 + 1e-9
    left, right = model.chi2_test(confidence_level=0.68)
    assert left < mu_hat < right


def test_upper_limits_are_those_of_the_library(small):
    workspace, entry, _ = small
    model = model_of(workspace, entry["patch"])
    limits = palletfit.upper_limit(workspace, entry)
    assert model.poi_upper_limit() == pytest.approx(limits.observed.mu, rel=3e-4)
    expected = model.poi_upper_limit(expected=APOSTERIORI)
    assert expected == pytest.approx(limits.expected[2].mu, rel=3e-4)


def test_the_fits_of_a_limit_search_once_outside_and_once_inside(small):
    """Between two searched signal strengths with one minimum, agreeing starts are enough."""
    workspace, entry, _ = small
    model = model_of(workspace, entry["patch"])
    before = [model.likelihood(poi_test=mu) for mu in (0.5, 2.0)]
    data_set = next(iter(model.backend._likelihood._data_sets.pairs()))[1]
    searched = len(data_set._searched)
    between = model.likelihood(poi_test=1.1)
    assert len(data_set._searched) == searched
    assert min(before) < between + 100
    alone = model_of(workspace, entry["patch"]).likelihood(poi_test=1.1)
    assert between == pytest.approx(alone, abs=1e-9)
    model.likelihood(poi_test=5.0)
    assert len(data_set._searched) == searched + 1


def test_discovery(small):
    workspace, entry, _ = small
    model = model_of(workspace, entry["patch"])
    result = palletfit.hypotest(workspace, entry["patch"], test_statistic="q0").only
    _, root, (p_value,), _ = model.significance()
    assert p_value == pytest.approx(result.p_values.CLs_obs, abs=1e-6)
    assert norm.sf(root) == pytest.approx(p_value, abs=1e-9)


def test_other_parameters_by_name_and_index(small):
    workspace, entry, model = small
    tested = model_of(workspace, entry["patch"])
    poi, name = model.config.poi_name, "lumi"
    index = model.config.par_names.index(name)
    fixed = tested.likelihood(poi_test={poi: 1.0, name: 1.02})
    assert fixed > tested.likelihood(poi_test=1.0)
    assert tested.likelihood(poi_test={model.config.poi_index: 1.0, index: 1.02}) == fixed
    free = tested.likelihood(poi_test={name: 1.02})
    assert free < fixed
    values, nll = tested.maximize_likelihood(poi_indices=[name, index])
    assert values[name] == values[index]
    at = tested.maximize_likelihood(poi_indices=[name], fixed_poi_value=1.0)
    assert at[1] == pytest.approx(tested.likelihood(poi_test=1.0), abs=1e-9)
    assert nll <= at[1]
    assert tested.likelihood(poi_test={poi: 1.0, name: at[0][name]}) == pytest.approx(at[1])
    _, background = tested.likelihood(poi_test=0.0, return_parameters=True)
    data = tested.backend.expected_data(background)
    on_asimov = tested.asimov_likelihood(poi_test={poi: 1.0, name: 1.02})
    on_data = tested.likelihood(poi_test={poi: 1.0, name: 1.02}, data=data)
    assert on_asimov == pytest.approx(on_data, abs=1e-8)
    with pytest.raises(PalletError, match="no parameter 'lumni'"):
        tested.likelihood(poi_test={"lumni": 1.0})


def test_bounds_of_a_caller_are_kept(small):
    workspace, entry, model = small
    tested = model_of(workspace, entry["patch"])
    bounds = model.config.suggested_bounds()
    bounds[model.config.poi_index] = (2.0, 10.0)
    mu_hat, nll = tested.maximize_likelihood(par_bounds=bounds)
    assert mu_hat == 2.0
    assert nll == pytest.approx(tested.likelihood(poi_test=2.0), abs=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"poi_test": math.nan}, "nan of the signal strength is no finite number"),
        ({"poi_test": {"mu": "much"}}, "'much' of the parameter 'mu' is no finite number"),
        ({"par_bounds": [(1.0, -1.0)]}, "are 1.0 and -1.0, and no value"),
        ({"par_bounds": [(math.nan, 1.0)]}, "are nan and 1.0, and no value"),
        ({"data": ["many", 2.0]}, "data are no list of numbers"),
    ],
)
def test_values_that_are_no_numbers_are_errors(arguments, message):
    with pytest.raises(PalletError, match=message):
        model_of(EXAMPLE, adding(12.0, 11.0)).backend.negative_loglikelihood(**arguments)


def test_its_own_optimizer_begins_at_the_lowest_minimum(small):
    workspace, entry, pdf = small
    model = model_of(workspace, entry["patch"])
    _, parameters = model.likelihood(poi_test=0.0, return_parameters=True)
    assert model.backend.config().suggested_init == parameters.tolist()
    data = model.generate_asimov_data()
    assert data == pytest.approx(model.backend.expected_data(parameters), rel=1e-6)
    # From the measurement's values it goes there, too.
    start = {"init_pars": pdf.config.suggested_init()}
    assert model.generate_asimov_data(**start) == pytest.approx(data, rel=2e-3)


def test_asimov_data_where_the_optimizer_of_spey_does_not_move():
    spec = models.narrow(trap=True)
    operations = [{"op": "remove", "path": "/channels/1/samples/1"}, *adding(8.0, channel=1)]
    model = model_of(spec, operations)
    _, parameters = model.likelihood(poi_test=0.0, return_parameters=True)
    best = model.backend.expected_data(parameters)
    assert model.generate_asimov_data() == pytest.approx(best, rel=1e-6)
    nominal = [
        entry if name != "mu_SIG" else 0.0
        for name, entry in zip(
            model.backend.config().parameter_names,
            model.backend._likelihood.batch.init[0][model.backend._likelihood.order.columns],
            strict=True,
        )
    ]
    stuck = model.generate_asimov_data(init_pars=nominal)
    assert stuck != pytest.approx(best, rel=1e-3)


# --------------------------------------------------------------------------- toys, combinations


def test_samples_have_the_expected_mean(small):
    workspace, entry, model = small
    tested = backend.PalletfitBackend(entry["patch"], workspace)
    tested.random = np.random.default_rng(3)
    point = np.array(model.config.suggested_init())
    sampler = tested.get_sampler(point)
    drawn, main = sampler(1000), sampler(1000, include_auxiliary=False)
    expected = np.array(model.expected_data(point))
    assert drawn.shape == (1000, len(expected))
    assert main.shape == (1000, model.config.nmaindata)
    scale = 5 * np.sqrt(np.maximum(drawn.var(axis=0), 1e-3) / 1000)
    assert np.all(np.abs(drawn.mean(axis=0) - expected) < scale)
    tested.random = np.random.default_rng(3)
    assert np.array_equal(tested.get_sampler(point)(1000), drawn)


def test_cls_of_toys():
    model = model_of(EXAMPLE, adding(12.0, 11.0))
    model.ntoys = 2
    model.backend.random = np.random.default_rng(5)
    (excluded,) = model.exclusion_confidence_level(calculator="toy", verbose=False)
    assert 0.5 <= excluded <= 1.0
    (chi_square,) = model.exclusion_confidence_level(calculator="chi_square")
    assert 0.5 < chi_square <= 1.0


def test_combination_of_two():
    right = models.background("normsys", "lumi")
    one, two = model_of(EXAMPLE, adding(12.0, 11.0)), model_of(right, adding(8.0, 14.0))
    together = one @ two
    # Without common parameters but the signal strength likelihoods multiply.
    for mu in (0.0, 0.6):
        product = one.likelihood(poi_test=mu) + two.likelihood(poi_test=mu)
        assert together.likelihood(poi_test=mu) == pytest.approx(product, abs=1e-8)
    # A common parameter enters once.
    same = two @ model_of(renamed(right), adding(8.0, 14.0))
    assert same.likelihood(poi_test=0.6) > 2 * two.likelihood(poi_test=0.6) - 3
    assert len(same.backend.config().parameter_names) == len(two.backend.config().parameter_names)
    apart = two.combine(
        model_of(renamed(right), adding(8.0, 14.0)),
        correlate={"by": "name", "apart": ["scale"]},
    )
    assert len(apart.backend.config().parameter_names) == 4


def renamed(spec):
    """The same of other events."""
    spec = copy.deepcopy(spec)
    for number, channel in enumerate(spec["channels"]):
        channel["name"] = spec["observations"][number]["name"] = f"other{number}"
        spec["observations"][number]["data"][0] += 1.0
    return spec


def test_combination_with_other_back_ends():
    one = model_of(EXAMPLE, adding(12.0, 11.0))
    other = spey.get_backend("default.poisson")(
        signal_yields=[3.0], background_yields=[10.0], data=[9], analysis="poisson"
    )
    with pytest.raises(spey.system.exceptions.CombinerNotAvailable):
        one.combine(other)
    together = spey.UnCorrStatisticsCombiner(one, other)
    sum_of_both = one.likelihood(poi_test=0.8) + other.likelihood(poi_test=0.8)
    assert together.likelihood(poi_test=0.8) == pytest.approx(sum_of_both, abs=1e-9)
    (excluded,) = together.exclusion_confidence_level()
    assert one.exclusion_confidence_level()[0] < excluded < 1


# --------------------------------------------------------------------------- odd input


def test_a_patch_without_signal():
    background = models.background("normsys")
    for operations in ([], adding(0.0, 0.0)):
        model = model_of(background, operations)
        assert not model.is_alive
        assert model.exclusion_confidence_level() == [0.0]
        assert model.poi_upper_limit() == np.inf
        assert model.backend.config().minimum_poi == -np.inf


def test_yields_below_zero():
    background = models.background("normsys")
    model = model_of(background, adding(-8.0, 14.0))
    assert model.is_alive
    assert model.backend.config().minimum_poi == pytest.approx(-40.0 / 14.0)
    assert 0 < model.exclusion_confidence_level()[0] < 1
    only = model_of(background, adding(-8.0, -4.0))
    assert only.is_alive
    assert only.backend.config().minimum_poi == -np.inf
    assert 0 < only.exclusion_confidence_level()[0] < 1


def test_impossible_signal_strengths_are_excluded():
    background = models.counting(expected=5.0, observed=3.0)
    background["channels"][0]["samples"].pop()
    model = model_of(background, adding(-10.0))
    assert model.likelihood(poi_test=1.0) == likelihoods.IMPOSSIBLE
    assert model.likelihood(poi_test=0.4) < 10
    assert model.exclusion_confidence_level() == [1.0]
    assert model.exclusion_confidence_level(expected=APRIORI)[2] == 1.0
    assert 0.4 < model.poi_upper_limit() < 0.5


def test_parameters_make_room_for_negative_yields():
    """All starts are impossible at mu = 1.5: both bins need their parameter far away."""
    shapes = [
        {
            "name": f"bin{number}",
            "type": "histosys",
            "data": {
                "hi_data": [14.0 if number == other else 10.0 for other in range(2)],
                "lo_data": [6.0 if number == other else 10.0 for other in range(2)],
            },
        }
        for number in range(2)
    ]
    background = models.workspace(
        {"SR": [models.sample("bkg", [10.0, 10.0], *shapes)]}, {"SR": [5.0, 5.0]}
    )
    model, pdf = (make(background, adding(-12.0, -12.0)) for make in (model_of, model_of_pyhf))
    data = pyhf.Workspace(background).data(pdf)
    for mu in (1.5, 2.0):
        # Both bins are alike, so that a scan of one value finds the minimum.
        points = np.full((501, 3), np.linspace(0.0, 5.0, 501)[:, None])
        points[:, pdf.config.poi_index] = mu
        with np.errstate(all="ignore"):
            scan = [float(pdf.logpdf(point, data)[0]) for point in points]
        assert model.likelihood(poi_test=mu) == pytest.approx(-np.nanmax(scan), abs=2e-3)


def test_tiny_counts_are_none():
    """SModelS writes 1e-8 where nothing is observed."""
    background = models.workspace(
        {"SR": [models.sample("bkg", [0.5, 3.0], models.MODIFIERS["normsys"])]}, {"SR": [1e-8, 4.0]}
    )
    model = model_of(background, adding(-0.4, 2.0))
    without = copy.deepcopy(background)
    without["observations"][0]["data"] = [0.0, 4.0]
    for mu in (0.5, 2.0):
        alike = model_of(without, adding(-0.4, 2.0)).likelihood(poi_test=mu)
        assert model.likelihood(poi_test=mu) == pytest.approx(alike, abs=1e-6)
    assert 0 < model.exclusion_confidence_level()[0] < 1


def test_arrays_of_numpy_are_taken():
    operations = adding(12.0, 11.0)
    operations[0]["value"]["data"] = np.array([12.0, 11.0])
    (excluded,) = model_of(EXAMPLE, operations).exclusion_confidence_level()
    assert excluded == pytest.approx(EXAMPLE_CLS, abs=1e-6)


def test_files_are_taken(tmp_path):
    background, entry = models.background("normsys"), models.patch("signal", [1, 2])
    paths = models.write(tmp_path, background, entry)
    from_files = model_of(*map(str, paths)).likelihood()
    assert from_files == model_of(background, entry["patch"]).likelihood()
    assert read_pallet_json(paths[0]) == background


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ([{"op": "add", "path": "/channels/9/samples/1", "value": {}}], "does not apply"),
        ("nothing.json", r"nothing\.json"),
        ({"name": "signal"}, "no list of operations"),
        ([{"op": "add", "path": "/channels/0/samples/1", "value": {1j}}], "not JSON"),
    ],
)
def test_wrong_patches_are_errors(operations, message):
    with pytest.raises(PalletfitError, match=message):
        backend.PalletfitBackend(operations, models.background("normsys"))


def test_wrong_workspaces_are_errors(tmp_path):
    with pytest.raises(PalletError, match="background_only_model"):
        backend.PalletfitBackend([], {"channels": []})
    with pytest.raises(PalletfitError, match=r"none\.json"):
        backend.PalletfitBackend([], tmp_path / "none.json")


def test_unsupported_models_name_another_back_end():
    background = models.background("normsys")
    couples = {"name": "scale", "type": "shapesys", "data": [1.0, 1.0]}
    operations = adding(8.0, 14.0)
    operations[0]["value"]["modifiers"].append(couples)
    with pytest.raises(PalletError, match=r"spey.get_backend\('pyhf'\)|two kinds|other"):
        backend.PalletfitBackend(operations, background)


def test_options_are_known_or_refused():
    model = model_of(EXAMPLE, adding(12.0, 11.0))
    assert model.likelihood(minimizer="minuit", maxiter=5) == model.likelihood()
    with pytest.raises(PalletError, match="no option 'strength'"):
        model.likelihood(strength=1.0)
    with pytest.raises(PalletError, match="'constraints'"):
        model.likelihood(constraints=[{"type": "eq"}])


def test_minima_without_proof_are_told(monkeypatch, caplog):
    model = model_of(EXAMPLE, adding(12.0, 11.0))
    doubt = likelihoods.Minimum(1.0, model.backend._likelihood.batch.init[0], False, "said so")
    monkeypatch.setattr(likelihoods.DataSet, "at", lambda *_: doubt)
    monkeypatch.setattr(backend.log, "propagate", True)
    with caplog.at_level("WARNING", "Spey"):
        assert model.likelihood() == 1.0
    assert "at mu = 1 has no proven minimum: said so" in caplog.text


# --------------------------------------------------------------------------- what is shared


def test_a_background_is_read_once(monkeypatch):
    background = models.background("normsys", "staterror", observed=(57.0, 46.0))
    first = backend.PalletfitBackend(adding(8.0, 14.0), background)
    monkeypatch.setattr(likelihoods, "check_workspace", None)
    again = backend.PalletfitBackend(adding(3.0, 2.0), copy.deepcopy(background))
    assert again._likelihood.background is first._likelihood.background
    assert again._likelihood.batch.layout is first._likelihood.batch.layout
    # A change of the caller's own object is another background.
    monkeypatch.undo()
    nll = spey.StatisticalModel(first, "first").likelihood()
    background["observations"][0]["data"][0] = 80.0
    changed = model_of(background, adding(8.0, 14.0))
    assert changed.likelihood() != nll
    assert spey.StatisticalModel(first, "again").likelihood() == nll


def test_the_background_only_fit_is_shared_where_it_is_the_same(monkeypatch):
    background = models.background("normsys", "histosys", observed=(52.0, 47.0))
    searches = []
    both = likelihoods.BatchFits.without_and_with_signal
    monkeypatch.setattr(
        likelihoods.BatchFits,
        "without_and_with_signal",
        lambda *arguments: searches.append(1) or both(*arguments),
    )
    one = model_of(background, adding(8.0, 14.0))
    two = model_of(background, adding(2.0, 1.0))
    assert one.likelihood(poi_test=0.0) == pytest.approx(two.likelihood(poi_test=0.0), abs=1e-12)
    assert len(searches) == 1
    # The staterror of a signal changes the width of the channel's: another fit.
    statistics = {"name": "statistics", "type": "staterror", "data": [3.0, 4.0]}
    with_statistics = models.background("staterror", observed=(52.0, 47.0))
    model_of(with_statistics, adding(8.0, 14.0)).likelihood(poi_test=0.0)
    operations = adding(2.0, 1.0)
    operations[0]["value"]["modifiers"].append(statistics)
    model_of(with_statistics, operations).likelihood(poi_test=0.0)
    assert len(searches) == 3


def test_threads_share_a_background():
    background = models.background("normsys", "staterror", observed=(61.0, 39.0))
    signals = [adding(8.0 + number, 14.0 - number) for number in range(2)]
    alone = [model_of(background, signal).exclusion_confidence_level()[0] for signal in signals]
    together = {}

    def test(number):
        model = model_of(background, signals[number])
        together[number] = model.exclusion_confidence_level()[0]

    threads = [threading.Thread(target=test, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[number] for number in range(2)] == pytest.approx(alone, abs=1e-9)


def test_all_fits_hold_the_lock(monkeypatch):
    background = models.background("normsys", "staterror", observed=(62.0, 39.0))
    model = model_of(background, adding(8.0, 14.0))
    lock = model.backend._likelihood.lock
    fit = Fitter.fit

    def checked(*arguments, **options):
        assert lock._is_owned()
        return fit(*arguments, **options)

    monkeypatch.setattr(Fitter, "fit", checked)
    model.significance()
    model.asimov_likelihood(poi_test=1.0)
    model.exclusion_confidence_level()


def test_an_impossible_background_has_no_asimov_data():
    empty = models.counting(2.0, 0.0, 1.0)
    sample = empty["channels"][0]["samples"].pop()
    operations = [{"op": "add", "path": "/channels/0/samples/-", "value": sample}]
    model = model_of(empty, operations)
    with pytest.raises(PalletError, match="no Asimov data"):
        model.exclusion_confidence_level()


def test_nothing_expected_and_nothing_observed():
    empty = models.counting(2.0, 0.0, 0.0)
    sample = empty["channels"][0]["samples"].pop()
    operations = [{"op": "add", "path": "/channels/0/samples/-", "value": sample}]
    _, root, _, _ = model_of(empty, operations).significance()
    assert np.isfinite(root)


def test_an_asimov_fit_at_zero_beside_bounds_without_it(small):
    workspace, entry, _ = small
    model = model_of(workspace, entry["patch"])
    at_zero = model.backend.asimov_negative_loglikelihood(poi_test=0.0)
    config = model.backend.config()
    bounds = [list(bound) for bound in config.suggested_bounds]
    bounds[config.poi_index] = [0.5, 10.0]
    fresh = model_of(workspace, entry["patch"])
    beside = fresh.backend.asimov_negative_loglikelihood(poi_test=0.0, par_bounds=bounds)
    assert beside == pytest.approx(at_zero, abs=1e-6)


def test_a_combination_keeps_the_measurements():
    background = models.background("normsys", observed=(61.0, 39.0))
    first = background["measurements"][0]
    fixed = [{"name": "scale", "inits": [0.0], "fixed": True}]
    config = {**first["config"], "parameters": [*first["config"]["parameters"], *fixed]}
    background["measurements"].append({"name": "second", "config": config})
    name = models.background("normsys")["channels"][0]["samples"][0]["modifiers"][0]["name"]
    fixed[0]["name"] = name
    one = backend.PalletfitBackend(adding(8.0, 14.0), background, measurement="second")
    other = copy.deepcopy(background)
    for part in (*other["channels"], *other["observations"]):
        part["name"] += "_other"
    other["observations"] = [
        {**entry, "data": [count + 1.0 for count in entry["data"]]}
        for entry in other["observations"]
    ]
    two = backend.PalletfitBackend(adding(8.0, 14.0), other, measurement="second")
    both = one.combine(two)
    apart = sum(each.negative_loglikelihood(1.0) for each in (one, two))
    # The constraint of the fixed parameter, with its constant, enters once.
    once = apart - 0.5 * np.log(2.0 * np.pi)
    assert both.negative_loglikelihood(1.0) == pytest.approx(once, abs=1e-6)


def test_a_measurement_that_is_not_there():
    with pytest.raises(PalletError, match="no measurement 'missing'"):
        backend.PalletfitBackend(adding(1.0, 2.0), models.background(), measurement="missing")


def test_a_model_is_sent_to_another_process():
    model = model_of(EXAMPLE, adding(12.0, 11.0))
    copied = pickle.loads(pickle.dumps(model.backend))  # noqa: S301
    assert spey.StatisticalModel(copied, "copy").likelihood() == model.likelihood()
    assert copied.random.normal() == model.backend.random.normal()
