"""Lowering: parameters and data of random models are those of pyhf, and what is refused."""

from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings

from palletfit.config import FitSettings
from palletfit.engine.lowering import Background
from palletfit.engine.reference.hypotests import build_model
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch, apply, apply_sharing

from .. import histfactory, models

#: What is left to the reference engine although pyhf can make a model of it.
LIMITS = re.compile(
    # pyhf takes the first parameter of all for the bins that the shapefactor does not have.
    r"the shapefactor '\w+' couples channels of unlike size"
    r"|the staterror '\w+' couples other channels, too"
)


def refusal(spec, settings):
    """The reason why pyhf makes no model, or None."""
    try:
        build_model(spec, settings)
    except PalletError as error:
        return str(error)
    except AssertionError:
        return "a staterror is not in the same channels of all samples"
    return None


def lowered(background, *operations, settings=None):
    """Lower one patch: the batches, and why it is not supported (or None)."""
    patch = Patch("one", (1.0,), list(operations))
    lowered_batches = Background(background, settings or FitSettings()).lower(
        [apply_sharing(background, patch)]
    )
    return lowered_batches[0], lowered_batches[1].get(0)


def add(*modifiers, name="signal", events=(8.0, 14.0), channel=0):
    value = models.signal(list(events), *modifiers, name=name)
    return {"op": "add", "path": f"/channels/{channel}/samples/-", "value": value}


def replace(path, value):
    return {"op": "replace", "path": path, "value": value}


# --------------------------------------------------------------------------- against pyhf


def expected_auxiliary(config):
    """By name: auxiliary datum, one over the variance, and expected count of a constraint."""
    constraints = {}
    for name in config.auxdata_order:
        parameter_set = config.param_set(name)
        for number, datum in enumerate(parameter_set.auxdata):
            label = name if parameter_set.is_scalar else f"{name}[{number}]"
            poisson = parameter_set.pdf_type == "poisson"
            precision = 0.0 if poisson else parameter_set.width()[number] ** -2.0
            constraints[label] = (
                datum,
                precision,
                parameter_set.factors[number] if poisson else 0.0,
            )
    return constraints


def check_parameters_and_data(case):
    for pair in histfactory.pairs(case):
        config, batch, row = pair.model.config, pair.batch, pair.row
        names = [name for name in batch.names[row] if name is not None]
        assert sorted(names) == sorted(config.par_names)
        assert batch.names[row][batch.layout.poi] == config.poi_name
        present = np.array([name is not None for name in batch.names[row]])
        np.testing.assert_array_equal(batch.present[row], present)
        assert batch.fixed[row][~present].all()
        assert not batch.precision[row][~present].any()
        assert not batch.factor[row][~present].any()

        np.testing.assert_array_equal(batch.init[row][pair.columns], config.suggested_init())
        bounds = np.stack([batch.lower[row], batch.upper[row]], axis=1)
        np.testing.assert_array_equal(bounds[pair.columns], config.suggested_bounds())
        np.testing.assert_array_equal(batch.fixed[row][pair.columns], config.suggested_fixed())
        constraints = expected_auxiliary(config)
        columns = [constraints.get(name, (0.0, 0.0, 0.0)) for name in config.par_names]
        settings = np.stack([batch.aux[row], batch.precision[row], batch.factor[row]], axis=1)
        np.testing.assert_allclose(settings[pair.columns], columns, rtol=1e-13)
        data = pair.data[: config.nmaindata]
        np.testing.assert_array_equal(batch.data[row], data[batch.layout.bin_order])


def check_reasons(case):
    batches, unsupported, sound = histfactory.lower(case)
    supported = [int(index) for batch in batches for index in batch.index]
    assert sorted([*supported, *unsupported]) == sorted(sound)
    for index, reason in unsupported.items():
        assert LIMITS.fullmatch(reason) or refusal(sound[index], case.fit), reason
    for index in supported:
        assert refusal(sound[index], case.fit) is None


@settings(histfactory.FIXED, max_examples=30)
@given(histfactory.cases())
def test_parameters_and_data_are_those_of_pyhf(case):
    check_parameters_and_data(case)


@settings(histfactory.FIXED, max_examples=30)
@given(histfactory.cases())
def test_every_patch_is_lowered_or_there_is_a_reason(case):
    check_reasons(case)


@pytest.mark.study
@settings(histfactory.FIXED, max_examples=200)
@given(histfactory.cases())
def test_many_workspaces_are_lowered_as_pyhf_does_or_there_is_a_reason(case):
    check_parameters_and_data(case)
    check_reasons(case)


# --------------------------------------------------------------------------- batches


def test_patches_of_one_shape_make_one_batch():
    background = models.background(*models.MODIFIERS)
    specs = [
        apply_sharing(background, Patch("a", (1.0,), [add(models.MODIFIERS["normsys"])])),
        apply_sharing(background, Patch("b", (1.0,), [add(name="other", events=(1.0, 2.0))])),
        apply_sharing(background, Patch("c", (1.0,), [{"op": "remove", "path": "/channels/1"}])),
        apply_sharing(background, Patch("d", (1.0,), [add(), replace("/version", "1.0")])),
        apply_sharing(
            background, Patch("e", (1.0,), [add(), {"op": "remove", "path": "/channels/1"}])
        ),
    ]
    batches, unsupported = Background(background, FitSettings()).lower(specs)
    assert sorted(batch.index.tolist() for batch in batches) == [[0, 1, 3], [4]]
    assert unsupported == {2: "the parameter of interest 'mu_SIG' is not a normfactor"}


def test_own_names_share_columns():
    background = models.background("normsys")
    shape = {"hi_data": [9.0, 15.0], "lo_data": [7.0, 13.0]}
    additions = [
        [
            add(
                {"name": f"isr_{n}", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
                {"name": f"isr_{n}", "type": "histosys", "data": shape},
            )
        ]
        for n in range(2)
    ]
    additions.append([add()])
    specs = [apply_sharing(background, Patch("x", (1.0,), operations)) for operations in additions]
    (batch,), _ = Background(background, FitSettings()).lower(specs)
    assert len(batch) == 3
    column = batch.names[0].index("isr_0")
    assert [names[column] for names in batch.names] == ["isr_0", "isr_1", None]
    assert batch.present[:, column].tolist() == [True, True, False]
    assert batch.fixed[:, column].tolist() == [False, False, True]
    assert batch.layout.parameters == 3  # mu, the background's alpha, and theirs


def test_neither_patches_nor_background_are_changed():
    background = models.background(*models.MODIFIERS)
    patch = Patch("a", (1.0,), [add(*models.MODIFIERS.values())])
    before = copy.deepcopy((background, patch.operations))
    spec = apply_sharing(background, patch)
    Background(background, FitSettings()).lower([spec])
    assert (background, patch.operations) == before


def test_an_equal_copy_counts_as_the_same_sample():
    background = models.background(*models.MODIFIERS)
    same = copy.deepcopy(background["channels"][0]["samples"][0])
    (batch,), _ = lowered(background, replace("/channels/0/samples/0", same), add())
    assert [block.added for block in batch.layout.blocks] == [1]
    changed = copy.deepcopy(same)
    changed["data"][0] += 1.0
    (batch,), _ = lowered(background, replace("/channels/0/samples/0", changed), add())
    assert [block.added for block in batch.layout.blocks] == [2]


def test_of_several_measurements_the_wanted_one():
    background = models.background("normsys")
    other = copy.deepcopy(background["measurements"][0])
    other["name"] = "other"
    other["config"]["parameters"] = [{"name": "scale", "inits": [0.5]}]
    background["measurements"].append(other)
    for measurement, init in ((None, 0.0), ("fit", 0.0), ("other", 0.5)):
        (batch,), _ = lowered(background, add(), settings=FitSettings(measurement=measurement))
        assert batch.init[0, batch.names[0].index("scale")] == init
    _, reason = lowered(background, add(), settings=FitSettings(measurement="none"))
    assert reason == "there is no measurement 'none'"


# --------------------------------------------------------------------------- what is refused

SAMPLE = "/channels/0/samples/0"
MODIFIER = f"{SAMPLE}/modifiers"  # normsys, histosys, shapesys, staterror, normfactor
PARAMETERS = "/measurements/0/config/parameters"


def parameter(name, **values):
    return replace(PARAMETERS, [{"name": name, **values}])


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (replace("/observations/0/data/0", math.nan), "an observed count is not finite"),
        (replace("/observations/0/data/0", -3.0), "an observed count .* below zero"),
        (replace("/observations/0/data/0", "3"), "a count is a text"),
        (replace(f"{SAMPLE}/data/0", math.nan), "a yield is not finite"),
        (replace(f"{SAMPLE}/data/0", "3"), "a yield is a text"),
        (replace(f"{SAMPLE}/data", [True, True]), "a yield is a text, or true or false"),
        (replace("/observations/0/data/0", 10**400), "larger than any floating-point number"),
        (replace(f"{SAMPLE}/data/0", 10**400), "larger than any floating-point number"),
        (replace(f"{MODIFIER}/0/data/hi", 10**400), "larger than any floating-point number"),
        (replace(f"{MODIFIER}/3/data/0", 10**400), "larger than any floating-point number"),
        (parameter("scale", inits=[10**400]), "'inits' of 'scale' do not fit"),
        ({"op": "remove", "path": MODIFIER}, r"another shape .*'modifiers'"),
        (replace(MODIFIER, None), "another shape"),
        ({"op": "remove", "path": f"{MODIFIER}/0/type"}, r"another shape .*'type'"),
        (replace(f"{MODIFIER}/0/type", "what"), "type 'what' of 'scale' is unknown"),
        (replace(f"{MODIFIER}/0/data", None), "another shape"),
        (replace(f"{MODIFIER}/0/data/hi", "1.1"), "factor of the normsys 'scale' is a text"),
        (replace(f"{MODIFIER}/0/data/hi", -0.1), "'scale' has a factor that is negative"),
        (replace(f"{MODIFIER}/0/data/lo", math.nan), "'scale' has a factor .* not finite"),
        ({"op": "remove", "path": f"{MODIFIER}/1/data/lo_data"}, "another shape .*'lo_data'"),
        (replace(f"{MODIFIER}/1/data/lo_data", [1.0]), "another number of bins"),
        (replace(f"{MODIFIER}/1/data/lo_data/0", math.inf), "a modifier is not finite"),
        (replace(f"{MODIFIER}/1/data/lo_data/0", "1.0"), "a modifier's datum is a text"),
        (replace(f"{MODIFIER}/2/data", [1.0]), "another number of bins"),
        (replace(f"{MODIFIER}/3/data", [[1.0], 2.0]), "one number a bin"),
        (replace(f"{MODIFIER}/1/name", "uncorrelated"), "names a alpha and a shapesys"),
        (replace("/channels/1/samples", []), "another shape"),
        (replace("/measurements", []), "there is no measurement"),
        ({"op": "remove", "path": "/measurements/0/config"}, "another shape .*'config'"),
        (replace("/measurements/0/config/poi", None), "interest None is not a normfactor"),
        (replace("/measurements/0/config/poi", "scale"), "'scale' is not a normfactor"),
        (replace("/measurements/0/config/poi", ["x"]), "another shape"),
        (replace(PARAMETERS, 3), "another shape"),
        (replace(PARAMETERS, [{"inits": [1.0]}]), "another shape .*'name'"),
        (replace(PARAMETERS, [{"name": "scale"}] * 2), "configures 'scale' twice"),
        (parameter("scale", bounds=[[0.0]]), "'bounds' of 'scale' do not fit"),
        (parameter("statistics", bounds=[[0.0, 1.0], [0.0]]), "'bounds' of .* do not fit"),
        (parameter("statistics", bounds=[[0.1, 2.0]]), "'bounds' of 'statistics' do not fit"),
        (parameter("scale", bounds=[[3.0, -3.0]]), "lower bound of 'scale' is above"),
        (parameter("scale", inits=["x"]), "'inits' of 'scale' do not fit"),
        (parameter("scale", inits=[math.nan]), "'inits' of 'scale' do not fit"),
        (parameter("scale", inits=[[1.0]]), "'inits' of 'scale' do not fit"),
        (parameter("scale", sigmas=[1.0]), r"sets \['sigmas'\] of 'scale'"),
        (parameter("norm", auxdata=[1.0]), r"sets \['auxdata'\] of 'norm'"),
        (parameter("scale", fixed=[True, False]), "'fixed' of 'scale' is neither"),
        (parameter("scale", fixed="yes"), "'fixed' of 'scale' is neither"),
        (parameter("statistics", sigmas=[0.1, -0.1]), "a width of 'statistics'"),
        (parameter("uncorrelated", factors=[0.0, 3.0]), "a factor of 'uncorrelated'"),
        (parameter("uncorrelated", auxdata=[-1.0, 3.0]), "its data are below"),
        (
            add(models.MODIFIERS["lumi"], name="two"),
            "does not set auxdata, bounds, inits, sigmas of 'lumi'",
        ),
        (parameter("scale", fixed=True, inits=[6.0]), r"at \[6\], outside of its bounds \[-5, 5\]"),
        (add(models.MODIFIERS["shapesys"], name="two"), "'uncorrelated' stands at more"),
        (add(models.MODIFIERS["staterror"], name="two", channel=1), "couples other channels"),
        (
            add({"name": "scale", "type": "shapefactor", "data": None}, name="two"),
            "'scale' names a alpha and a shapefactor",
        ),
    ],
)
def test_one_bad_patch_does_not_stop_the_others(operation, reason):
    kinds = ("normsys", "histosys", "shapesys", "staterror", "normfactor")
    background = models.background(*kinds)
    specs = [
        apply_sharing(background, Patch("x", (1.0,), operations))
        for operations in ([add()], [add(), operation], [add(name="last")])
    ]
    batches, unsupported = Background(background, FitSettings()).lower(specs)
    assert sorted(i for batch in batches for i in batch.index) == [0, 2]
    assert list(unsupported) == [1]
    assert re.search(reason, unsupported[1])


def test_a_shapesys_that_stands_twice_in_the_background():
    background = models.background("shapesys")
    twice = copy.deepcopy(models.MODIFIERS["shapesys"])
    background["channels"][1]["samples"][0]["modifiers"].append(twice)
    _, reason = lowered(background, add())
    assert reason == "the shapesys 'uncorrelated' stands at more than one sample"
    assert refusal(apply(background, Patch("x", (1.0,), [add()])), FitSettings())


@pytest.mark.parametrize("value", [10**400, "x"])
def test_a_background_that_cannot_be_read(value):
    background = models.background()
    background["channels"][1]["samples"][0]["data"][0] = value
    batches, reason = lowered(background, add())
    assert not batches
    assert re.search("larger than any floating-point number|is a text", reason)


def test_a_deep_list_in_a_sample():
    deep = 1.0
    for _ in range(35_000):
        deep = [deep]
    batches, reason = lowered(models.background(), add(events=(deep, 1.0)))
    assert not batches
    assert "another shape" in reason


def test_a_staterror_in_unlike_channels_of_two_samples():
    background = models.background("staterror")
    statistics = models.MODIFIERS["staterror"]
    background["channels"][1]["samples"][0]["modifiers"].append(copy.deepcopy(statistics))
    (batch,), reason = lowered(background, add())
    assert reason is None
    assert [f"statistics[{n}]" in batch.names[0] for n in range(5)] == [True] * 4 + [False]
    _, reason = lowered(background, add(statistics))
    assert reason == "the staterror 'statistics' is not in the same channels of all samples"
    assert refusal(apply(background, Patch("x", (1.0,), [add(statistics)])), FitSettings())


@pytest.mark.parametrize("kind", models.MODIFIERS)
def test_equal_modifiers_of_the_background_are_not_supported(kind):
    background = models.background(kind)
    background["channels"][0]["samples"][0]["modifiers"].append(
        copy.deepcopy(models.MODIFIERS[kind])
    )
    _, reason = lowered(background, add())
    assert reason == f"the {kind} {models.MODIFIERS[kind]['name']!r} stands twice in one sample"
