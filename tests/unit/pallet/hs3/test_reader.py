"""HS3 documents become workspaces with the same likelihood, or an error that names the place."""

from __future__ import annotations

import copy
import doctest
import json
import math

import numpy as np
import pytest

import palletfit
from palletfit.errors import PalletError
from palletfit.pallet.hs3 import Hs3Error, reader
from palletfit.pallet.hs3.reader import read_hs3, read_workspace
from palletfit.pallet.schema import violation

from ...engine.likelihoods import Model
from . import documents
from .documents import (
    HISTOSYS,
    NORMFACTOR,
    NORMSYS,
    SHAPEFACTOR,
    SHAPESYS,
    STATERROR,
    channel,
    document,
    gauss,
    main_nll,
    poisson,
)


def named(modifier, interpolation):
    return {**copy.deepcopy(modifier), "interpolation": interpolation}


def unnamed(modifier, *keys):
    """A modifier without some of its keys."""
    return {key: value for key, value in copy.deepcopy(modifier).items() if key not in keys}


def setting(workspace, name):
    (entry,) = [
        entry
        for entry in workspace["measurements"][0]["config"]["parameters"]
        if entry["name"] == name
    ]
    return entry


def modifiers(workspace, kind=None):
    return [
        modifier
        for entry in workspace["channels"]
        for sample in entry["samples"]
        for modifier in sample["modifiers"]
        if kind is None or modifier["type"] == kind
    ]


def test_the_examples_run() -> None:
    assert doctest.testmod(reader).failed == 0


# --------------------------------------------------------------------------- likelihoods

VALUES = [
    {"mu": 1.0},
    {"mu": 0.4, "alpha_scale": 0.7, "alpha_shape": -0.6, "gamma_0": 1.04, "gamma_1": 0.88},
    {"mu": 2.3, "alpha_scale": -1.8, "alpha_shape": 1.4, "gamma_0": 0.9, "gamma_1": 1.2},
]


def check(spec, constraints, names=None):
    """Compare the engine's NLL with the standard's formulas; `constraints` gives their NLL."""
    model = Model(read_hs3(documents.through_json(spec)))
    point = {entry["name"]: entry["value"] for entry in spec["parameter_points"][0]["parameters"]}
    for moved in VALUES:
        values = {name: moved.get(name, value) for name, value in point.items()}
        translated = {(names or {}).get(name, name): value for name, value in values.items()}
        known = {name: value for name, value in translated.items() if name in model.names}
        assert known.keys() == set(filter(None, model.names))
        expected = main_nll(spec, values) + constraints(values)
        assert model.nll(known) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("of_norm", ["lin", "log", "parabolic", "poly6"])
@pytest.mark.parametrize("of_shape", ["lin", "log", "parabolic", "poly6"])
def test_interpolations_of_the_standard(of_norm, of_shape):
    spec = document(channel(named(NORMSYS, of_norm), named(HISTOSYS, of_shape)))
    check(spec, lambda at: gauss(0, at["alpha_scale"], 1) + gauss(0, at["alpha_shape"], 1))


@pytest.mark.parametrize("modifier", [STATERROR, SHAPESYS])
def test_parameters_of_bins_of_a_sample_that_a_histosys_multiplies(modifier):
    """One of its yields is zero, which has an uncertainty as one of a staterror only."""
    spec = document(channel(named(HISTOSYS, "log"), modifier))
    signal, background = spec["distributions"][0]["samples"]
    background["data"] = {"contents": [60.0, 0.0], "errors": [3.0, 4.0]}
    for side in ("hi", "lo"):
        background["modifiers"][0]["data"][side]["contents"][1] = 0.0
    if modifier is STATERROR:
        signal["modifiers"].append(modifier)
        signal["data"]["errors"] = [1.0, 2.0]
        counts = [68.0**2 / 10.0, 14.0**2 / 20.0]
    else:
        counts = [144.0]
    name = modifier["name"]
    model = Model(read_hs3(spec))
    for gammas in ((1.0, 1.0), (1.1, 0.9), (0.8, 1.3)):
        values = {"mu": 0.7, "alpha_shape": 1.3, "gamma_0": gammas[0], "gamma_1": 1.0}
        if modifier is STATERROR:
            values["gamma_1"] = gammas[1]
        terms = sum(poisson(n, values[f"gamma_{k}"] * n) for k, n in enumerate(counts))
        expected = main_nll(spec, values) + gauss(0, 1.3, 1) + terms
        bins = {f"{name}[{number}]": values.pop(f"gamma_{number}") for number in range(2)}
        assert model.nll(values | bins) == pytest.approx(expected, abs=1e-10)


def test_a_histosys_that_multiplies_is_alone():
    other = {**copy.deepcopy(HISTOSYS), "name": "other", "parameter": "alpha_other"}
    with pytest.raises(Hs3Error, match="has another histosys beside one that multiplies"):
        read_hs3(document(channel(named(HISTOSYS, "log"), named(other, "lin"))))
    same = {**copy.deepcopy(NORMSYS), "parameter": "alpha_shape"}
    with pytest.raises(Hs3Error, match="has a normsys with the parameter of the histosys 'shape'"):
        read_hs3(document(channel(named(HISTOSYS, "log"), same)))
    negative = named(HISTOSYS, "log")
    negative["data"]["lo"]["contents"][0] = -1.0
    with pytest.raises(Hs3Error, match="multiplies yields by a factor below zero"):
        read_hs3(document(channel(negative)))


def staterror_terms(kind):
    widths = [3.0 / 60.0, 4.0 / 40.0]
    if kind == "Gauss":
        return lambda at: sum(gauss(1, at[f"gamma_{n}"], w) for n, w in enumerate(widths))
    return lambda at: sum(
        poisson(w**-2.0, at[f"gamma_{n}"] * w**-2.0) for n, w in enumerate(widths)
    )


GAMMAS = {f"gamma_{number}": f"stat[{number}]" for number in range(2)}


@pytest.mark.parametrize("kind", ["Gauss", "Poisson"])
def test_staterror(kind):
    spec = document(channel({**STATERROR, "constraint": kind}))
    check(spec, staterror_terms(kind), GAMMAS)


@pytest.mark.parametrize("key", ["constraint_type", "constraint"])
def test_a_channel_says_the_constraint_of_its_staterrors(key):
    spec = document(channel(unnamed(STATERROR, "constraint"), staterror={key: "Gauss"}))
    check(spec, staterror_terms("Gauss"), GAMMAS)


def test_a_staterror_without_a_constraint_is_poisson():
    spec = document(channel(unnamed(STATERROR, "constraint")))
    check(spec, staterror_terms("Poisson"), GAMMAS)


def test_a_staterror_is_one_of_all_samples_that_carry_it():
    spec = document(channel({**STATERROR, "constraint": "Gauss"}))
    signal = spec["distributions"][0]["samples"][0]
    signal["data"]["errors"] = [1.0, 0.0]
    signal["modifiers"].append({**STATERROR, "constraint": "Gauss"})
    widths = [math.hypot(3.0, 1.0) / 68.0, 4.0 / 54.0]
    check(
        spec,
        lambda at: sum(gauss(1, at[f"gamma_{n}"], w) for n, w in enumerate(widths)),
        GAMMAS,
    )


def test_staterrors_below_the_threshold_are_fixed():
    settings = {"relThreshold": 0.07, "constraint_type": "Gauss"}
    workspace = read_hs3(document(channel(unnamed(STATERROR, "constraint"), staterror=settings)))
    assert setting(workspace, "stat")["fixed"] == [True, False]


def shapesys_terms(counts):
    return lambda at: sum(
        poisson(count, at[f"gamma_{n}"] * count) for n, count in enumerate(counts)
    )


BINS = {f"gamma_{number}": f"bins[{number}]" for number in range(2)}


def test_shapesys_with_absolute_uncertainties():
    check(document(channel(SHAPESYS)), shapesys_terms([144.0, (40 / 6) ** 2]), BINS)


def test_shapesys_of_root_has_relative_uncertainties():
    modifier = {**SHAPESYS, "data": {"vals": [0.1, 0.2]}}
    spec = document(channel(modifier), packages=["ROOT"])
    check(spec, shapesys_terms([100.0, 25.0]), BINS)
    spec["metadata"]["packages"] = {"ROOT": "6.36"}
    check(spec, shapesys_terms([100.0, 25.0]), BINS)
    absolute = read_hs3(spec, shapesys="absolute")
    assert modifiers(absolute, "shapesys")[0]["data"] == [0.1, 0.2]


def test_large_relative_uncertainties_are_remarked(caplog):
    read_hs3(document(channel(SHAPESYS), packages=["ROOT"]))
    assert "are read as relative uncertainties, of up to 6" in caplog.text


def test_shapesys_with_gaussian_constraint():
    spec = document(channel({**SHAPESYS, "constraint": "Gauss"}))
    terms = [5.0 / 60.0, 6.0 / 40.0]
    check(spec, lambda at: sum(gauss(1, at[f"gamma_{n}"], w) for n, w in enumerate(terms)), BINS)


def test_shapesys_of_two_samples():
    relative = {**SHAPESYS, "data": {"vals": [0.1, 0.2]}}
    spec = document(channel(relative), packages=["ROOT"])
    spec["distributions"][0]["samples"][0]["modifiers"].append(relative)
    check(spec, shapesys_terms([100.0, 25.0]), BINS)


def test_shapefactor_of_two_channels():
    other = channel(SHAPEFACTOR, name="model_CR")
    spec = document(channel(SHAPEFACTOR), other)
    check(spec, lambda _: 0.0, {f"gamma_{number}": f"free[{number}]" for number in range(2)})


def test_a_normfactor_with_a_constraint_of_its_type():
    lumi = {"type": "normfactor", "name": "Lumi", "parameter": "Lumi", "constraint": "Gauss"}
    check(document(channel(lumi)), lambda at: gauss(1.0, at["Lumi"], 1.0))


@pytest.mark.parametrize(("name", "kind"), [("lumi", "lumi"), ("Lumi", "normfactor")])
@pytest.mark.parametrize("place", ["aux", "modifier", "data"])
def test_a_luminosity_with_a_width(name, kind, place):
    lumi = {"type": "normfactor", "name": name, "parameter": name}
    gaussian = {"name": "c", "type": "gaussian_dist", "mean": name, "sigma": 0.017, "x": "nom"}
    if place == "modifier":
        lumi["constraint"] = "c"
    spec = document(channel(lumi), distributions=[gaussian])
    if place == "aux":
        spec["likelihoods"][0]["aux_distributions"] = ["c"]
    if place == "data":
        spec["likelihoods"][0]["distributions"].append("c")
        spec["likelihoods"][0]["data"].append(1.01)
    else:
        point = spec["parameter_points"][0]["parameters"]
        point.append({"name": "nom", "value": 1.01, "const": True})
    workspace = read_hs3(spec)
    assert {entry["type"] for entry in modifiers(workspace) if entry["name"] == name} == {kind}
    model = Model(workspace)
    free = Model(read_hs3(document(channel(unnamed(lumi, "constraint")))))
    for value in (0.98, 1.0, 1.03):
        change = model.nll({name: value}) - free.nll({name: value})
        assert change == pytest.approx(gauss(1.01, value, 0.017), abs=1e-9)


def test_constraints_of_bins_may_be_distributions():
    modifier = {**unnamed(SHAPESYS, "constraint"), "constraints": ["c_0", "c_1"]}
    terms = [
        {"name": "c_0", "type": "poisson_dist", "x": "nom_0", "mean": "scaled"},
        {"name": "c_1", "type": "gaussian_dist", "x": "gamma_1", "mean": 1.0, "sigma": 0.2},
    ]
    functions = [{"name": "scaled", "type": "product", "factors": ["gamma_0", "tau"]}]
    values = {"nom_0": 105.0, "tau": 100.0}
    spec = document(channel(modifier), distributions=terms, values=values, functions=functions)
    model = Model(read_hs3(spec))
    point = {"bins[0]": 1.1, "bins[1]": 0.9}
    expected = main_nll(spec, {"mu": 1.0, "gamma_0": 1.1, "gamma_1": 0.9})
    expected += poisson(105.0, 110.0) + gauss(1.0, 0.9, 0.2)
    assert model.nll(point) == pytest.approx(expected, abs=1e-10)


def test_null_is_no_constraint():
    modifier = {**unnamed(SHAPEFACTOR), "constraints": ["c", None]}
    term = {"name": "c", "type": "gaussian_dist", "x": "gamma_0", "mean": 1.0, "sigma": 0.2}
    workspace = read_hs3(document(channel(modifier), distributions=[term]))
    assert setting(workspace, "free")["constraint"] == ["Gauss", "none"]
    assert "fixed" not in setting(workspace, "free")


def test_a_constraint_with_a_shifted_centre_is_one_of_pyhf():
    term = {"name": "c", "type": "gaussian_dist", "x": 0.4, "mean": "alpha_scale", "sigma": 1.0}
    spec = document(channel({**NORMSYS, "constraint": "c"}), distributions=[term])
    workspace = read_hs3(spec)
    assert setting(workspace, "alpha_scale")["auxdata"] == [0.4]
    assert violation(workspace, "workspace.json") is None


def test_a_workspace_without_additions_is_one_of_pyhf():
    other = channel(NORMSYS, HISTOSYS, SHAPEFACTOR, name="model_CR")
    spec = document(channel(NORMSYS, {**STATERROR, "parameters": ["a", "b"]}), other)
    spec["distributions"][0]["samples"][1]["modifiers"][1]["constraint"] = "Gauss"
    assert violation(read_hs3(spec), "workspace.json") is None


# --------------------------------------------------------------------------- interpolation


@pytest.mark.parametrize(
    ("value", "normsys", "histosys"),
    [
        (0, "code0", "code0"),
        (1, "code1", "code1"),
        (2, "code2", "code2"),
        (4, None, "default"),
        ("poly6", "code4p", "default"),
        ({"type": "add", "in": "poly1", "out": None}, "code0", "code0"),
        ({"type": "add", "in": "poly2", "out": "poly1"}, "code2", "code2"),
        ({"type": "add", "in": "poly6", "out": "poly1"}, "code4p", "default"),
        (5, None, None),
        ({"type": "mult", "in": "exp", "out": None}, "code1", "code1"),
        ({"type": "mult", "in": "poly6", "out": "exp"}, None, None),
        ({"type": "mult", "in": "poly6", "out": "poly1"}, "code4p", "code4p"),
        ("log", "code1", "code1"),
        ("code4p", "code4p", "default"),
    ],
)
@pytest.mark.parametrize("place", ["modifier", "data", "channel"])
def test_interpolations_of_programs(value, normsys, histosys, place):
    """A histosys that multiplies becomes a normsys; none stands for pyhf's default of that."""
    for modifier, code in ((NORMSYS, normsys), (HISTOSYS, histosys)):
        changed, extra = copy.deepcopy(modifier), {}
        if place == "channel":
            extra = {"default_interpolation": value}
        else:
            (changed if place == "modifier" else changed["data"])["interpolation"] = value
        spec = document(channel(changed, **extra))
        multiplies = modifier is HISTOSYS and code in (None, "code1", "code4p")
        kind = "normsys" if multiplies else modifier["type"]
        entries = modifiers(read_hs3(spec), kind)
        assert len(entries) == (2 if multiplies else 1)
        assert {entry.get("interpolation") for entry in entries} == {
            None if code == "default" else code
        }


def test_normsys_that_add_up_are_refused():
    first, second = named(NORMSYS, 0), {**named(NORMSYS, 0), "parameter": "alpha_other"}
    with pytest.raises(Hs3Error, match="2 normsys modifiers that add up"):
        read_hs3(document(channel(first, second)))


# --------------------------------------------------------------------------- deviations


def test_names_are_roots_where_parameters_are_missing():
    spec = document(
        channel(
            unnamed(NORMSYS, "parameter"),
            unnamed(HISTOSYS, "parameter"),
            unnamed(STATERROR, "parameters"),
            unnamed(SHAPESYS, "parameters"),
            {"type": "normfactor", "name": "norm"},
        ),
        values={"gamma_stat_SR_bin_1": 1.1, "gamma_bins_bin_0": 1.2, "alpha_scale": 0.3},
    )
    workspace = read_hs3(spec)
    names = [entry["name"] for entry in modifiers(workspace)]
    assert names == ["mu", "alpha_scale", "alpha_shape", "stat", "bins", "norm"]
    assert setting(workspace, "stat")["inits"] == [1.0, 1.1]
    assert setting(workspace, "bins")["inits"] == [1.2, 1.0]
    assert setting(workspace, "alpha_scale")["inits"] == [0.3]


def test_names_of_bins_that_two_channels_have_become_two():
    nameless = unnamed(STATERROR, "parameters")
    spec = document(channel(nameless), channel(nameless, name="model_CR"))
    names = {entry["name"] for entry in modifiers(read_hs3(spec), "staterror")}
    assert names == {"gamma_stat_SR", "gamma_stat_CR"}


@pytest.mark.parametrize("point", ["without", "free", "const"])
def test_const_is_no_constraint(point):
    """ROOT fixes such parameters, and then takes what the parameter point says."""
    modifier = {**SHAPESYS, "constraint": "Const", "data": {"vals": [0.0, 0.0]}}
    spec = document(channel(modifier), const=["gamma_0", "gamma_1"] * (point == "const"))
    if point == "without":
        parameters = spec["parameter_points"][0]["parameters"]
        parameters[:] = [entry for entry in parameters if entry["name"] == "mu"]
    workspace = read_hs3(spec)
    assert modifiers(workspace, "shapefactor")[0]["name"] == "bins"
    assert setting(workspace, "bins").get("fixed", False) == (point != "free")
    assert Model(workspace).setting("bins[0]", "precision") == 0.0


def test_const_of_a_normsys():
    spec = document(channel({**NORMSYS, "constraint": "Const"}))
    assert setting(read_hs3(spec), "alpha_scale") == {
        "name": "alpha_scale",
        "inits": [0.0],
        "bounds": [[-5.0, 5.0]],
        "constraint": "none",
    }


def test_lists_of_one_name():
    modifier = {**unnamed(NORMSYS, "parameter", "constraint"), "parameters": ["alpha_scale"]}
    modifier["constraints"] = [None]
    assert setting(read_hs3(document(channel(modifier))), "alpha_scale")["constraint"] == "none"


def test_a_factor_below_zero_counts_as_zero(caplog):
    modifier = {**NORMSYS, "data": {"hi": 2.1, "lo": -0.1}}
    (entry,) = modifiers(read_hs3(document(channel(modifier))), "normsys")
    assert entry["data"] == {"hi": 2.1, "lo": 0.0}
    assert "is below zero and counts as zero" in caplog.text
    with pytest.raises(Hs3Error, match="is below zero"):
        read_hs3(document(channel(named(modifier, "log"))))


def test_a_sample_without_a_name_and_a_channel_without_axes():
    spec = document(channel(NORMSYS))
    del spec["distributions"][0]["axes"], spec["distributions"][0]["samples"][1]["name"]
    names = [sample["name"] for sample in read_hs3(spec)["channels"][0]["samples"]]
    assert names == ["signal", "sample_1"]


@pytest.mark.parametrize("version", ["0.1.90", "0.2", "0.2.9", "0.3"])
def test_versions(version, caplog):
    spec = document(channel())
    spec["metadata"]["hs3_version"] = version
    assert read_hs3(spec)["version"] == "1.0.0"
    assert ("is read like 0.2" in caplog.text) == (version == "0.3")


# --------------------------------------------------------------------------- settings


def test_start_values_bounds_and_constants():
    spec = document(
        channel(NORMSYS, STATERROR),
        values={"mu": 0.5, "gamma_1": 1.2},
        bounds={"mu": (-1.0, 4.0), "gamma_0": (0.5, 2.0)},
        const=["gamma_1"],
    )
    model = Model(read_hs3(spec))
    assert [model.setting("mu", key) for key in ("init", "lower", "upper")] == [0.5, -1.0, 4.0]
    assert [model.setting("stat[0]", key) for key in ("lower", "upper")] == [0.5, 2.0]
    assert model.setting("stat[1]", "fixed")
    assert model.setting("stat[1]", "init") == 1.2
    assert not model.setting("stat[0]", "fixed")


def test_the_point_of_the_analysis_counts_more_than_the_default():
    spec = document(channel(NORMSYS), values={"alpha_scale": 0.5})
    default = {"name": "default_values", "parameters": [{"name": "alpha_scale", "value": 2.0}]}
    default["parameters"].append({"name": "mu", "value": 3.0, "const": True})
    spec["parameter_points"].append(default)
    workspace = read_hs3(spec)
    assert setting(workspace, "alpha_scale")["inits"] == [0.5]
    del spec["parameter_points"][0]["parameters"][1]
    assert setting(read_hs3(spec), "mu")["inits"] == [3.0]


def test_several_parameters_of_interest():
    other = {"type": "normfactor", "name": "mu_b", "parameter": "mu_b"}
    spec = document(channel(other))
    spec["analyses"][0]["parameters_of_interest"] = ["mu", "mu_b"]
    workspace = read_hs3(spec)
    pois = {entry["name"]: entry["config"]["poi"] for entry in workspace["measurements"]}
    assert pois == {"fit/mu": "mu", "fit/mu_b": "mu_b"}
    best = palletfit.fit(spec, mu=1.0, measurement="fit/mu_b")
    assert best.parameters["mu_b"] == 1.0


def test_a_parameter_without_a_domain_has_pyhfs_bounds(caplog):
    spec = document(channel(NORMSYS))
    axes = spec["domains"][0]["axes"]
    axes[:] = [axis for axis in axes if axis["name"] != "alpha_scale"]
    model = Model(read_hs3(spec))
    assert [model.setting("alpha_scale", key) for key in ("lower", "upper")] == [-5.0, 5.0]
    assert "without a domain" in caplog.text


def test_infinite_bounds():
    spec = document(channel(NORMSYS), bounds={"alpha_scale": (-math.inf, math.inf)})
    model = Model(read_hs3(spec))
    assert [model.setting("alpha_scale", key) for key in ("lower", "upper")] == [-5.0, 5.0]
    for axis in ({"name": "mu", "min": 0.0}, {"name": "mu", "min": 0.0, "max": math.inf}):
        spec["domains"][0]["axes"] = [axis]
        with pytest.raises(Hs3Error, match="The domain of the parameter 'mu' is infinite"):
            read_hs3(spec)
    spec["parameter_points"][0]["parameters"].append({"name": "mu", "value": 1.0, "const": True})
    assert setting(read_hs3(spec), "mu")["fixed"] is True


# --------------------------------------------------------------------------- choice and data


def two_analyses():
    spec = document(channel(NORMSYS))
    asimov = {**spec["data"][0], "name": "asimovData_SR", "contents": [61.0, 41.0]}
    spec["data"].append(asimov)
    spec["likelihoods"].append(
        {"name": "asimov", "distributions": ["model_SR"], "data": ["asimovData_SR"]}
    )
    spec["analyses"].append({**spec["analyses"][0], "name": "other", "likelihood": "asimov"})
    return spec


def test_of_several_analyses_that_of_the_observed_data_is_read():
    spec = two_analyses()
    assert read_hs3(spec)["observations"][0]["data"] == [66.0, 52.0]
    assert read_hs3(spec, "other")["observations"][0]["data"] == [61.0, 41.0]
    assert read_hs3(spec, data="asimovData")["observations"][0]["data"] == [61.0, 41.0]
    assert read_hs3(spec, data="asimovData_SR")["observations"][0]["data"] == [61.0, 41.0]
    with pytest.raises(Hs3Error, match="There are no data 'toys'"):
        read_hs3(spec, data="toys")
    for entry in spec["data"]:
        entry["name"] = entry["name"].replace("obsData", "measured")
    spec["likelihoods"][0]["data"] = ["measured_SR"]
    with pytest.raises(Hs3Error, match="has 2 analyses, and which one is meant") as raised:
        read_hs3(spec)
    assert "'fit', 'other'" in raised.value.remedy
    with pytest.raises(Hs3Error, match="There is no analysis 'third'"):
        read_hs3(spec, "third")


def test_a_likelihood_without_an_analysis():
    spec = document(channel(NORMSYS))
    del spec["analyses"]
    workspace = read_hs3(spec)
    assert workspace["measurements"][0]["config"]["poi"] == ""
    assert setting(workspace, "mu")["bounds"] == [[0.0, 10.0]]
    with pytest.raises(PalletError, match="names no parameter of interest"):
        palletfit.hypotest(workspace)
    assert palletfit.fit(workspace).evidence.trusted


def test_data_in_the_likelihood():
    spec = document(channel())
    spec["likelihoods"][0]["data"] = [[70.0, 50.0]]
    assert read_hs3(spec)["observations"][0]["data"] == [70.0, 50.0]


@pytest.mark.parametrize("weights", [None, [2.0, 1.0, 0.5]])
def test_unbinned_data_are_counted(weights):
    spec = document(channel())
    spec["data"][0] |= {"type": "unbinned", "entries": [[0.2], [1.5], [2.0]], "weights": weights}
    counts = [1.0, 2.0] if weights is None else [2.0, 1.5]
    assert read_hs3(spec)["observations"][0]["data"] == counts


def test_a_product_of_distributions():
    spec = document(channel(NORMSYS))
    product = {"name": "both", "type": "product_dist", "factors": ["model_SR"]}
    spec["distributions"].append(product)
    spec["likelihoods"][0]["distributions"] = ["both"]
    assert read_hs3(spec)["channels"][0]["name"] == "SR"
    product["factors"].append("both")
    with pytest.raises(Hs3Error, match="The product 'both' contains itself"):
        read_hs3(spec)


def test_prefixes_of_channels_stay_where_names_would_be_equal():
    spec = document(channel(), channel(name="SR"))
    spec["data"] = spec["data"][:1]
    assert [entry["name"] for entry in read_hs3(spec)["channels"]] == ["model_SR", "SR"]


def test_a_document_as_root_lays_it_out():
    """Analyses for Asimov and observed data, domains by kind, and points of both names."""
    lumi = {"type": "normfactor", "name": "Lumi", "parameter": "Lumi"}
    spec = two_analyses()
    for sample in spec["distributions"][0]["samples"]:
        sample["modifiers"].insert(0, lumi)
    axes = {axis["name"]: axis for axis in spec["domains"][0]["axes"]}
    parts = {"nuisance_parameters": ["alpha_scale"], "parameters_of_interest": ["mu"]}
    spec["domains"] = [
        {"name": name, "type": "product_domain", "axes": [axes[axis] for axis in members]}
        for name, members in {**parts, "default_domain": ["alpha_scale", "mu"]}.items()
    ]
    values = [*spec["parameter_points"][0]["parameters"]]
    values.append({"name": "Lumi", "value": 1.0, "const": True})
    spec["parameter_points"] = [
        {"name": name, "parameters": values} for name in ("default_values", "NominalParamValues")
    ]
    for analysis in spec["analyses"]:
        del analysis["domain"], analysis["init"]
        analysis["domains"] = list(parts)
    workspace = read_hs3(documents.through_json(spec))
    assert setting(workspace, "Lumi") == {"name": "Lumi", "inits": [1.0], "fixed": True}
    model = Model(workspace)
    nll = model.nll({"mu": 0.4, "alpha_scale": 0.0})
    plain = Model(read_hs3(two_analyses())).nll({"mu": 0.4, "alpha_scale": 0.0})
    assert nll == pytest.approx(plain, abs=1e-12)


# --------------------------------------------------------------------------- recognition


def test_every_function_recognises_a_document_by_its_content(tmp_path):
    spec = document(channel(NORMSYS), packages=["ROOT"])
    file = tmp_path / "likelihood.txt"
    file.write_text(json.dumps(spec))
    best = palletfit.fit(file)
    assert palletfit.fit(str(file)).twice_nll == palletfit.fit(spec).twice_nll == best.twice_nll
    assert palletfit.upper_limit(file).observed.state == "found"
    assert read_workspace(file) == read_hs3(file)
    workspace = read_hs3(spec)
    file.write_text(json.dumps(workspace))
    assert read_workspace(file) == workspace


def test_errors_name_the_file(tmp_path):
    file = tmp_path / "broken.json"
    file.write_text(json.dumps({"metadata": {"hs3_version": "0.2"}}))
    for function in (palletfit.fit, palletfit.read_hs3, read_workspace):
        with pytest.raises(Hs3Error, match="neither `analyses` nor `likelihoods`") as raised:
            function(file)
        assert raised.value.file == str(file)
        assert raised.value.remedy


# --------------------------------------------------------------------------- refusals


def changed(path, value):
    """A document with one value changed; the path as text, such as ``data/0/type``."""
    spec = document(channel(NORMSYS, HISTOSYS, STATERROR, {**SHAPESYS, "parameters": ["a", "b"]}))
    place = spec
    *above, last = path.split("/")
    for step in above:
        place = place[int(step) if isinstance(place, list) else step]
    if value is KeyError:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return spec


SAMPLE = "distributions/0/samples/1"
MODIFIER = f"{SAMPLE}/modifiers"
HUGE = 10**400


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("metadata/hs3_version", 2, "The HS3 version 2 is not known"),
        ("metadata/hs3_version", "1.0", "The HS3 version '1.0' is not known"),
        ("distributions", {}, "`distributions` in `distributions` is not a list of objects"),
        ("distributions/0/name", 3, "an entry of `distributions` has no text `name`: 3"),
        ("distributions/0/type", "gaussian_dist", r"has no histfactory_dist, but 'model_SR \(gaus"),
        ("distributions/0/type", "mixture_dist", "the type 'mixture_dist': it is no HistFactory"),
        ("distributions/0/type", "generic_dist", "the type 'generic_dist': it is no HistFactory"),
        ("distributions/0/samples", [], "The distribution 'model_SR' has no samples"),
        ("distributions/0/barlow_beeston_method", "full", "the Barlow-Beeston method 'full'"),
        ("distributions/0/axes/0/nbins", 3, "have 3 bins, and its samples 2"),
        ("distributions/0/axes/0/nbins", -1, "has no number of bins: -1"),
        (f"{SAMPLE}/name", "signal", "Two samples of the distribution 'model_SR'"),
        (f"{SAMPLE}/data", KeyError, "'bkg' of the distribution 'model_SR' has no object `data`"),
        (f"{SAMPLE}/data/contents", [1.0], "`errors` of .* has 2 numbers, and not 1"),
        (f"{SAMPLE}/data/contents/0", math.nan, "is not a finite number: nan"),
        (f"{SAMPLE}/data/contents/0", HUGE, "is not a finite number: a number of many digits"),
        (f"{SAMPLE}/data/contents/0", "1", "is not a finite number: '1'"),
        (f"{SAMPLE}/data/contents/0", True, "is not a finite number: True"),
        (f"{SAMPLE}/data/errors", KeyError, "The staterror 'stat' .* needs `errors`"),
        (f"{SAMPLE}/data/errors", [1.0], "`errors` of .* has 1 numbers, and not 2"),
        (f"{MODIFIER}/0/type", "custom", "a modifier 'scale' of the type 'custom'"),
        (f"{MODIFIER}/0/parameter", "mu", "is one of the normsys .* and of a normfactor"),
        (f"{MODIFIER}/0/parameter", ["a"], "`parameter` of the normsys 'scale' .* is no name"),
        (f"{MODIFIER}/0/parameter", "model_SR", "depends on the distribution 'model_SR'"),
        (f"{MODIFIER}/0/parameters", ["a", "b"], "needs the name of one `parameter`"),
        (f"{MODIFIER}/0/data", KeyError, "The normsys 'scale' .* has no object `data`"),
        (f"{MODIFIER}/0/data/hi", None, "`hi` of the normsys 'scale' .*: None"),
        (f"{MODIFIER}/0/constraint", "LogNormal", "has the constraint 'LogNormal'"),
        (f"{MODIFIER}/0/constraint", "Poisson", "The constraint Poisson of .* has no meaning"),
        (f"{MODIFIER}/0/constraint", "nothing", "neither a type nor the name of a distribution"),
        (f"{MODIFIER}/0/constraint", ["Gauss"], "The constraint of .* is no text"),
        (f"{MODIFIER}/0/interpolation", "cubic", "The interpolation 'cubic' of .* is unknown"),
        (f"{MODIFIER}/0/interpolation", 9, "The interpolation 9 of .* is unknown"),
        (f"{MODIFIER}/0/interpolation", {"type": []}, "The interpolation .* of .* is unknown"),
        (f"{MODIFIER}/1/data/hi/contents", [1.0], "`hi` of .* has 1 numbers, and not 2"),
        (f"{MODIFIER}/1/type", "normsys", "`lo` of the normsys 'shape' .* is not a finite number"),
        (f"{MODIFIER}/2/parameters", ["a"], "has 1 parameters for 2 bins"),
        (f"{MODIFIER}/2/parameters", ["c", "c"], "A parameter stands twice in"),
        (f"{MODIFIER}/2/parameters", ["c", "a"], "The parameter 'a' of .* is one of"),
        (f"{MODIFIER}/2/parameters", ["c", "mu"], "The parameter 'mu' of .* is one of"),
        (f"{MODIFIER}/3/data", {}, "The shapesys 'bins' .* needs `vals` in its `data`"),
        (f"{MODIFIER}/3/constraints", ["c"], "is not one name, or null, for each parameter"),
        (f"{MODIFIER}/3/constraints", ["c", "d"], "names the distribution 'c', which is not"),
        ("data/0/type", "point", "have the type 'point', and not binned"),
        ("data/0/contents", [1.0, 2.0, 3.0], "have 3 bins, and the distribution 'model_SR' has 2"),
        ("data/0/uncertainty", {}, "have an `uncertainty`"),
        ("likelihoods/0/data", [], "has 1 distributions, and not as many `data`"),
        ("likelihoods/0/data/0", "other", "names the data 'other', which is not there"),
        ("likelihoods/0/distributions/0", "other", "names the distribution 'other'"),
        ("likelihoods/0/distributions", ["model_SR", "model_SR"], "and not as many `data`"),
        ("likelihoods/0/aux_distributions", ["model_SR"], "is no constraint that palletfit fits"),
        ("domains/0/type", "simplex_domain", "has the type 'simplex_domain'"),
        ("domains/0/axes/0/min", 20.0, "lower bound of .* is above the upper one"),
        ("domains/0/axes/0/min", 5.0, "is outside of its domain"),
        ("domains/0/axes/0/max", "inf", "is not a finite number: 'inf'"),
        ("parameter_points/0/parameters/0/value", None, "is not a finite number: None"),
        ("parameter_points/0/parameters/0/const", 1, "`const` of .* is neither true nor false"),
        ("analyses/0/likelihood", "other", "names the likelihood 'other', which is not there"),
        ("analyses/0/domain", "other", "names the domain 'other', which is not there"),
        ("analyses/0/init", "other", "names the parameter point 'other', which is not there"),
        ("analyses/0/parameters_of_interest", "mu", "is not a list of texts"),
    ],
)
def test_refusals_name_the_place(path, value, problem):
    with pytest.raises(PalletError, match=problem) as raised:
        read_hs3(changed(path, value))
    assert raised.value.remedy


def test_two_parts_of_one_name():
    spec = document(channel())
    spec["distributions"].append(channel())
    with pytest.raises(Hs3Error, match="Two entries of `distributions` are called 'model_SR'"):
        read_hs3(spec)


def test_a_modifier_that_stands_twice():
    with pytest.raises(Hs3Error, match="has two normsys modifiers with the parameter 'alpha_scal"):
        read_hs3(document(channel(NORMSYS, NORMSYS)))


def test_a_function_is_not_evaluated():
    spec = document(channel({**NORMFACTOR, "parameter": "f"}))
    spec["functions"] = [
        {"name": "f", "type": "generic_function", "expression": "__import__('os').abort()"}
    ]
    with pytest.raises(Hs3Error, match="depends on the function 'f' of the type 'generic_func"):
        read_hs3(spec)


def test_functions_that_name_each_other_are_not_followed():
    modifier = {**unnamed(SHAPESYS, "constraint"), "constraints": ["c", None]}
    term = {"name": "c", "type": "poisson_dist", "x": 1.0, "mean": "f"}
    functions = [
        {"name": "f", "type": "product", "factors": ["gamma_0", "g"]},
        {"name": "g", "type": "product", "factors": ["f"]},
    ]
    spec = document(channel(modifier), distributions=[term], functions=functions)
    with pytest.raises(Hs3Error, match="The name 'g', a factor of 'f', has no value"):
        read_hs3(spec)


@pytest.mark.parametrize(
    ("term", "problem"),
    [
        ({"type": "gaussian_dist", "x": "alpha_scale", "mean": 0.0, "sigma": 0.0}, "not above"),
        ({"type": "gaussian_dist", "x": 1.0, "mean": 0.0, "sigma": 1.0}, "no parameter"),
        ({"type": "gaussian_dist", "x": "mu", "mean": 0.0, "sigma": 1.0}, "is one of 'mu'"),
        ({"type": "gaussian_dist", "x": "alpha_scale", "mean": "mu"}, "more than one parameter"),
        ({"type": "gaussian_dist", "x": "alpha_scale", "mean": "n"}, "'n', .* has no value"),
        ({"type": "lognormal_dist", "x": "alpha_scale"}, "the type 'lognormal_dist'"),
        ({"type": "poisson_dist", "x": -1.0, "mean": "alpha_scale"}, "not above zero"),
        ({"type": "poisson_dist", "x": 1.0, "mean": 3.0}, "no parameter"),
    ],
)
def test_constraints_that_are_refused(term, problem):
    spec = document(channel({**NORMSYS, "constraint": "c"}), distributions=[{"name": "c", **term}])
    with pytest.raises(Hs3Error, match=problem):
        read_hs3(spec)


def test_two_constraints_of_one_parameter_are_refused():
    term = {"name": "c", "type": "gaussian_dist", "x": 0.0, "mean": "alpha_scale", "sigma": 0.5}
    spec = document(channel(NORMSYS), distributions=[term])
    spec["likelihoods"][0]["aux_distributions"] = ["c"]
    with pytest.raises(Hs3Error, match="'alpha_scale' is constrained twice, by 'c' and by 'Gau"):
        read_hs3(spec)
    modifier = spec["distributions"][0]["samples"][1]["modifiers"][0]
    del modifier["constraint"]
    assert setting(read_hs3(spec), "alpha_scale")["sigmas"] == [0.5]
    modifier["constraint"] = "c"
    assert setting(read_hs3(spec), "alpha_scale")["sigmas"] == [0.5]
    gammas = document(channel(SHAPESYS), distributions=[{**term, "mean": "gamma_0"}])
    gammas["likelihoods"][0]["aux_distributions"] = ["c"]
    with pytest.raises(Hs3Error, match="are constrained twice, by Poisson and by"):
        read_hs3(gammas)


def test_depth_is_bounded(tmp_path):
    spec = document(channel())
    spec["misc"] = json.loads("[" * 300 + "]" * 300)
    with pytest.raises(PalletError, match="nests too deeply"):
        read_hs3(spec)
    file = tmp_path / "deep.json"
    file.write_text(json.dumps(spec))
    with pytest.raises(PalletError, match="nests too deeply"):
        palletfit.fit(file)


def test_an_axis_of_many_bins_takes_no_memory():
    spec = document(channel())
    spec["data"][0] |= {"type": "unbinned", "entries": [[0.2]]}
    spec["distributions"][0]["axes"][0]["nbins"] = 10**12
    with pytest.raises(Hs3Error, match="1000000000000 bins, and its samples 2"):
        read_hs3(spec)


def test_a_document_without_metadata_is_none():
    spec = document(channel())
    del spec["metadata"]
    with pytest.raises(Hs3Error, match="`metadata` does not name the `hs3_version`"):
        read_hs3(spec)


def test_random_damage_gives_an_error_or_a_workspace():
    """No value of another type gives another error than one of palletfit."""
    rng = np.random.default_rng(1)
    values = [None, [], {}, "x", -1, 3.5, True, [None], math.nan, HUGE]
    modifier = {**unnamed(SHAPESYS, "constraint"), "constraints": ["c", None]}
    terms = [{"name": "c", "type": "gaussian_dist", "x": "gamma_0", "mean": 1.0, "sigma": 0.2}]
    whole = document(
        channel(NORMSYS, HISTOSYS, modifier, staterror={"relThreshold": 0.1}), distributions=terms
    )
    for _ in range(400):
        spec = copy.deepcopy(whole)
        place, last = spec, "distributions"
        while isinstance(place[last], (dict, list)) and place[last] and rng.random() < 0.9:
            place = place[last]
            keys = list(place) if isinstance(place, dict) else range(len(place))
            last = keys[rng.integers(len(keys))]
        if place is spec:
            last = list(spec)[rng.integers(len(spec))]
        place[last] = values[rng.integers(len(values))]
        try:
            read_hs3(spec)
        except PalletError:
            continue
