"""Workspaces written as HS3 documents and read again have the same likelihood."""

from __future__ import annotations

import copy
import doctest
import json
import lzma
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyhf
import pytest
from hypothesis import given, settings

import palletfit
from palletfit.config import FitSettings
from palletfit.errors import PalletError
from palletfit.pallet.hs3 import writer
from palletfit.pallet.hs3.reader import read_hs3
from palletfit.pallet.hs3.writer import hs3_document, write_hs3
from palletfit.pallet.patches import apply

from ....likelihoods import read_likelihood
from ... import histfactory, models
from ...engine.likelihoods import Model
from . import documents

Spec = dict[str, Any]
BIN_TYPES = ("staterror", "shapesys", "shapefactor")


def test_the_examples_run() -> None:
    assert doctest.testmod(writer).failed == 0


def written(spec: Spec, measurement: str | None = None) -> tuple[Spec, Spec]:
    """The document of a workspace, and the workspace of the document."""
    document = documents.through_json(hs3_document(spec, measurement))
    return document, read_hs3(document)


def components(spec: Spec) -> Iterator[tuple[Any, str]]:
    """Place of each parameter in the samples of a workspace, and its name in pyhf's notation."""
    first: dict[str, dict[str, int]] = {}
    size: dict[str, int] = {}
    channels = sorted(spec["channels"], key=lambda entry: entry["name"])
    for entry in channels:
        for sample in entry["samples"]:
            bins = len(sample["data"])
            for number, modifier in enumerate(sample["modifiers"]):
                name, kind = modifier["name"], modifier["type"]
                place = entry["name"], sample["name"], number
                if kind not in BIN_TYPES:
                    yield (*place, 0), name
                    continue
                begin = first.setdefault(name, {})
                if entry["name"] not in begin:
                    begin[entry["name"]] = size.get(name, 0) if kind == "staterror" else 0
                    size[name] = begin[entry["name"]] + bins
                for bin_number in range(bins):
                    yield (*place, bin_number), f"{name}[{begin[entry['name']] + bin_number}]"


def translation(spec: Spec, other: Spec) -> dict[str, str]:
    """Names of the parameters of one workspace in another with the same modifiers."""
    pairs = list(zip(components(spec), components(other), strict=True))
    assert all(place == other_place for (place, _), (other_place, _) in pairs)
    return {name: other_name for (_, name), (_, other_name) in pairs}


def random_points(model: Model, count: int, seed: int) -> Iterator[dict[str, float]]:
    """Start values, and values around them within the bounds."""
    rng = np.random.default_rng(seed)
    lowered = model.lowered
    for number in range(count):
        steps = rng.normal(size=lowered.init[0].shape) * np.where(lowered.init[0] == 0, 1.0, 0.15)
        moved = np.clip(lowered.init[0] + (number > 0) * steps, lowered.lower[0], lowered.upper[0])
        values = np.where(lowered.fixed[0], lowered.init[0], moved)
        yield {name: value for name, value in zip(model.names, values, strict=True) if name}


def assert_same(spec: Spec, count: int = 3, seed: int = 0) -> tuple[Spec, Spec]:
    """Compare the likelihoods, bounds and constants of a workspace and of its document."""
    document, back = written(spec)
    before, after = Model(spec), Model(back)
    names = translation(spec, back)
    for name, other in names.items():
        for key in ("init", "lower", "upper", "fixed"):
            assert before.setting(name, key) == after.setting(other, key), (name, key)
    for values in random_points(before, count, seed):
        expected = before.nll(values)
        moved = {names[name]: value for name, value in values.items()}
        assert after.nll(moved) == pytest.approx(expected, rel=1e-13, abs=1e-10)
    return document, back


def pyhf_nll(spec: Spec, values: Mapping[str, float]) -> float:
    workspace = pyhf.Workspace(spec, validate=False)
    model = workspace.model(
        validate=False,
        modifier_settings={
            "normsys": {"interpcode": "code4"},
            "histosys": {"interpcode": "code4p"},
        },
    )
    point = [values[name] for name in names_of(model)]
    return -float(model.logpdf(point, workspace.data(model))[0])


def names_of(model: Any) -> list[str]:
    names: list[str] = []
    for name in model.config.par_order:
        parameter = model.config.param_set(name)
        count = parameter.n_parameters
        scalar = parameter.is_scalar
        names += [name] if scalar else [f"{name}[{number}]" for number in range(count)]
    return names


# --------------------------------------------------------------------------- likelihoods


@pytest.mark.parametrize("kinds", [*([kind] for kind in models.MODIFIERS), [*models.MODIFIERS]])
def test_every_modifier(kinds):
    spec = models.full(*kinds)
    _, back = assert_same(spec)
    for values in random_points(Model(spec), 3, 1):
        assert Model(back).nll(values) == pytest.approx(pyhf_nll(spec, values), abs=1e-10)
    assert [entry["name"] for entry in back["channels"]] == ["CR", "SR"]
    assert set(translation(spec, back).items()) == {(name, name) for name in Model(spec).names}


SETTINGS = [
    ("staterror", {"name": "statistics", "sigmas": [0.1, 0.2]}),
    ("staterror", {"name": "statistics", "auxdata": [1.1, 0.9], "fixed": True}),
    ("staterror", {"name": "statistics", "constraint": "Poisson"}),
    ("staterror", {"name": "statistics", "constraint": "Poisson", "factors": [30.0, 40.0]}),
    ("staterror", {"name": "statistics", "constraint": "none"}),
    ("shapesys", {"name": "uncorrelated", "factors": [90.0, 30.0]}),
    ("shapesys", {"name": "uncorrelated", "constraint": "Gauss"}),
    ("shapesys", {"name": "uncorrelated", "auxdata": [140.0, 40.0], "bounds": [[0.5, 2.0]] * 2}),
    ("shapefactor", {"name": "free", "fixed": [True, False]}),
    ("shapefactor", {"name": "free", "constraint": ["none", "Gauss"], "sigmas": [1.0, 0.1]}),
    ("normsys", {"name": "scale", "auxdata": [0.4], "inits": [0.2]}),
    ("normsys", {"name": "scale", "constraint": "none"}),
    ("normsys", {"name": "scale", "constraint": "Gauss", "sigmas": [0.4]}),
    ("normfactor", {"name": "norm", "constraint": "Gauss", "sigmas": [0.1]}),
    ("normfactor", {"name": "norm", "fixed": True, "inits": [1.2], "bounds": [[1.0, 1.5]]}),
]


@pytest.mark.parametrize(("kind", "setting"), SETTINGS)
def test_settings_of_measurements(kind, setting):
    spec = models.full(kind)
    spec["measurements"][0]["config"]["parameters"].append(setting)
    assert_same(spec)


def test_interpolations():
    spec = models.full("normsys", "histosys")
    for code in ("code0", "code1", "code2", "code4", "code4p"):
        for modifier in spec["channels"][0]["samples"][0]["modifiers"]:
            if modifier["type"] == "normsys" or code not in ("code1", "code4"):
                modifier["interpolation"] = code
        assert_same(spec)


def test_two_staterrors_of_a_channel():
    spec = models.full("staterror")
    other = {**models.MODIFIERS["staterror"], "name": "signal_statistics", "data": [1.0, 0.0]}
    spec["channels"][0]["samples"][1]["modifiers"].append(other)
    document, _ = assert_same(spec)
    types = {
        modifier["type"]
        for sample in document["distributions"][1]["samples"]
        for modifier in sample["modifiers"]
    }
    assert types == {"normfactor", "shapefactor"}


def test_a_bin_without_uncertainty_that_is_not_fixed():
    zero = {**models.MODIFIERS["staterror"], "data": [3.0, 0.0]}
    spec = models.full()
    spec["channels"][0]["samples"][0]["modifiers"].append(zero)
    assert_same(spec)
    spec["measurements"][0]["config"]["parameters"].append({"name": "statistics", "fixed": False})
    assert_same(spec)


def test_a_luminosity_without_width_is_constant():
    spec = models.full("lumi")
    spec["measurements"][0]["config"]["parameters"][0]["sigmas"] = [0.0]
    model = Model(written(spec)[1])
    assert model.setting("lumi", "fixed")
    assert model.setting("lumi", "init") == 1.0


def test_relative_uncertainties():
    spec = models.full("shapesys")
    spec["channels"][0]["samples"][0]["data"] = [60.0, 0.0]
    document = documents.through_json(hs3_document(spec, shapesys="relative"))
    (background, _) = document["distributions"][1]["samples"]
    assert background["modifiers"][0]["data"]["vals"] == [5.0 / 60.0, 0.0]
    before, after = Model(spec), Model(read_hs3(document, shapesys="relative"))
    for gamma in (0.9, 1.1):
        values = {"uncorrelated[0]": gamma}
        change = after.nll(values) - before.nll(values)
        assert change == pytest.approx(after.nll({}) - before.nll({}), abs=1e-10)


def test_channels_say_the_constraint_of_their_staterror_too():
    document, _ = written(models.full("staterror"))
    assert document["distributions"][1]["staterror"] == {"constraint_type": "Gauss"}
    assert "staterror" not in document["distributions"][0]


def sound(case: histfactory.Case) -> Iterator[Spec]:
    """Full workspaces of a case that are sound."""
    for patch in case.patches:
        try:
            full = apply(case.workspace, patch)
            Model(full)
        except (PalletError, AssertionError):
            continue
        if not _some_bins_are_shared(full):
            yield full


def _some_bins_are_shared(spec: Spec) -> bool:
    """Whether a shapefactor is in channels of unlike size, which the reader refuses."""
    sizes: dict[str, set[int]] = {}
    for entry in spec["channels"]:
        for sample in entry["samples"]:
            for modifier in sample["modifiers"]:
                if modifier["type"] == "shapefactor":
                    sizes.setdefault(modifier["name"], set()).add(len(sample["data"]))
    return any(len(bins) > 1 for bins in sizes.values())


def check_case(case: histfactory.Case) -> None:
    for full in sound(case):
        assert_same(full, seed=case.seed)


@settings(histfactory.FIXED, max_examples=12)
@given(histfactory.cases(patches=1))
def test_random_workspaces(case):
    check_case(case)


@pytest.mark.study
@settings(histfactory.FIXED, max_examples=1000)
@given(histfactory.cases())
def test_many_random_workspaces(case):
    check_case(case)


def with_signal(spec: Spec) -> Spec:
    """A background-only workspace with a small signal in all channels."""
    full = copy.deepcopy(spec)
    poi = full["measurements"][0]["config"]["poi"]
    strength = {"name": poi, "type": "normfactor", "data": None}
    for entry in full["channels"]:
        bins = len(entry["samples"][0]["data"])
        entry["samples"].append(models.sample("a signal", [1.5] * bins, strength))
    return full


#: Real workspaces; the others of the folder are simplified ones.
WORKSPACES = [
    "SUSY-2018-05-ewk-simplified",
    "SUSY-2018-16-sleptons",
    pytest.param("SUSY-2018-05-ewk", marks=pytest.mark.study),
    pytest.param("SUSY-2018-14-comb", marks=pytest.mark.study),
    pytest.param("SUSY-2018-22-MB-SSd-simplified", marks=pytest.mark.study),
    pytest.param("SUSY-2019-09-onshell-simplified", marks=pytest.mark.study),
    pytest.param("SUSY-2019-09-onshell", marks=pytest.mark.study),
]


@pytest.mark.parametrize("name", WORKSPACES)
def test_real_workspaces(shared: Path, name: str):
    file = shared / "workspaces" / f"{name}.json.xz"
    if not file.exists():
        pytest.skip(f"needs {file.name} in ../shared")
    assert_same(with_signal(json.loads(lzma.decompress(file.read_bytes()))), count=2)


@pytest.mark.parametrize("points", [1, pytest.param(3, marks=pytest.mark.study)])
def test_a_published_background_with_its_patches(shared: Path, tmp_path: Path, points: int):
    background, patches = read_likelihood(shared, tmp_path, "1Lbb", "1Lbb")
    # Patches need the channels in their order.
    order = [entry["name"] for entry in background["channels"]]
    document, back = written(background)
    back["channels"].sort(key=lambda entry: order.index(entry["name"]))
    full, other = (apply(spec, patches[7]) for spec in (background, back))
    before, after = Model(full), Model(other)
    # The first point is that of the start values.
    for values in list(random_points(before, points + 1, 3))[1:]:
        assert after.nll(values) == pytest.approx(before.nll(values), abs=1e-10)
    if points > 1:
        assert_same(with_signal(background), count=2)
        assert after.nll(values) == pytest.approx(pyhf_nll(full, values), abs=1e-10)
    assert document["analyses"][0]["parameters_of_interest"] == ["mu_SIG"]


def test_both_engines_read_a_document():
    spec = models.full("normsys", "histosys", "staterror", "shapesys", "lumi")
    _, back = written(spec)
    batched = palletfit.fit(back)
    assert batched.twice_nll == pytest.approx(palletfit.fit(spec).twice_nll, abs=1e-8)
    values = {name: batched.parameters[name] for name in batched.parameters}
    assert 2 * pyhf_nll(back, values) == pytest.approx(batched.twice_nll, abs=1e-8)


# --------------------------------------------------------------------------- files


def test_a_file_is_written_and_read(tmp_path: Path):
    spec = models.full("normsys", "shapesys")
    source, target = tmp_path / "workspace.json", tmp_path / "document.json"
    source.write_text(json.dumps(spec))
    write_hs3(source, str(target))
    assert json.loads(target.read_text()) == hs3_document(spec)
    assert palletfit.fit(target).twice_nll == pytest.approx(palletfit.fit(source).twice_nll)


def test_the_measurement_is_chosen():
    spec = models.full("normsys", "normfactor")
    other = copy.deepcopy(spec["measurements"][0])
    other["name"] = "second"
    other["config"] = {"poi": "norm", "parameters": [{"name": "scale", "inits": [0.5]}]}
    spec["measurements"].append(other)
    document, back = written(spec, "second")
    assert document["analyses"][0]["name"] == back["measurements"][0]["name"] == "second"
    assert back["measurements"][0]["config"]["poi"] == "norm"
    assert Model(back).setting("scale", "init") == 0.5
    assert hs3_document(spec) == hs3_document(spec, "fit")
    with pytest.raises(PalletError, match="has no measurement 'third'") as raised:
        hs3_document(spec, "third")
    assert "'fit', 'second'" in raised.value.remedy


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda spec: spec.pop("version"), "violates pyhf's schema"),
        (lambda spec: spec["observations"].pop(), "has no observation"),
        (lambda spec: spec["measurements"][0]["config"]["parameters"].clear(), "sets no `auxdata`"),
        (
            lambda spec: spec["measurements"][0]["config"]["parameters"].append(
                {"name": "scale", "inits": [1.0, 2.0]}
            ),
            "has 2 `inits` of 'scale', and not 1",
        ),
        (
            lambda spec: spec["channels"][1]["samples"][0]["modifiers"].append(
                {"name": "scale", "type": "normfactor", "data": None}
            ),
            "'scale' is that of normfactor and of alpha modifiers",
        ),
    ],
)
def test_wrong_workspaces_are_refused(change, problem, tmp_path: Path):
    spec = models.full("normsys", "lumi")
    change(spec)
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(spec))
    with pytest.raises(PalletError, match=problem) as raised:
        hs3_document(file)
    assert raised.value.file == str(file)


# --------------------------------------------------------------------------- pyhs3


@pytest.fixture(scope="module")
def pyhs3_log_likelihood(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Spec, list[dict[str, float]]], list[float]]:
    """The likelihood of the only channel of a document as pyhs3 has it, with all constraints."""
    with pytest.MonkeyPatch.context() as patched:
        folder = tmp_path_factory.mktemp("pytensor")
        patched.setenv("PYTENSOR_FLAGS", f"base_compiledir={folder},cxx=,mode=FAST_COMPILE")
        # Its import sets up logging of the whole process, and disables all other loggers.
        patched.setattr("logging.config.dictConfig", lambda _: None)
        pyhs3 = pytest.importorskip("pyhs3", reason="pyhs3 is not installed")
        import pytensor
        from pytensor import tensor

    def values_of(document: Spec, points: list[dict[str, float]]) -> list[float]:
        (name,) = document["likelihoods"][0]["distributions"]
        channel = pyhs3.Workspace(**document).distributions[name]
        symbols = {parameter: tensor.dscalar(parameter) for parameter in points[0]}
        observed = tensor.constant(np.array(document["data"][0]["contents"]))
        context = pyhs3.context.Context({**symbols, f"{name}_observed": observed})
        value = tensor.log(channel.likelihood(context)) + tensor.log(
            channel.extended_likelihood(context)
        )
        compiled = pytensor.function([*symbols.values()], value, on_unused_input="ignore")
        return [float(compiled(*values.values())) for values in points]

    return values_of


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normsys", "histosys", "shapesys", "staterror", "shapefactor"])
def test_pyhs3_has_the_same_likelihood(kind, pyhs3_log_likelihood):
    """Differences between points: pyhs3 0.4.2 computes some constants in single precision."""
    spec = models.full(kind)
    del spec["channels"][1], spec["observations"][1]
    document, back = written(spec)
    (point,) = document["parameter_points"]
    start = {entry["name"]: entry["value"] for entry in point["parameters"]}
    rng = np.random.default_rng(2)
    points = [start, *({n: v + 0.2 * rng.normal() for n, v in start.items()} for _ in range(3))]
    theirs = np.array(pyhs3_log_likelihood(document, points))
    model = Model(back)
    ours = np.array([-model.nll({_in_pyhf(n): v for n, v in values.items()}) for values in points])
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def _in_pyhf(component: str) -> str:
    name, mark, number = component.rpartition("_bin_")
    return f"{name}[{number}]" if mark else component


def test_settings_without_fits_are_those_of_the_fit():
    """The document does not depend on interpolation codes, which are settings of the fit."""
    spec = models.full("normsys")
    one, other = Model(spec, FitSettings(normsys="code1")), Model(written(spec)[1])
    assert one.lowered.layout.codes != other.lowered.layout.codes
    back = Model(written(spec)[1], FitSettings(normsys="code1"))
    assert back.nll({"scale": 0.7}) == one.nll({"scale": 0.7})
