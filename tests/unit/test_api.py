"""The library in a notebook: pallets in, typed records out."""

from __future__ import annotations

import doctest
import inspect
import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyhf
import pytest

import palletfit
from palletfit import api
from palletfit.engine.batch import BatchFits
from palletfit.errors import ConfigError, FitError, PalletError

from . import models

#: What reads and writes other formats, and makes no fit; and what takes a network first, whose
#: example is in docs/referee.md.
OTHERS = {"hs3_document", "read_hs3", "write_hs3", "referee"}
#: pyhf tests one signal strength at a time.
COARSE = {"tolerance": 0.01}


@pytest.fixture
def content() -> tuple[dict, dict]:
    workspace = models.background("normsys", "histosys", "staterror")
    return workspace, models.patchset(workspace, models.grid())


@pytest.fixture
def small() -> tuple[dict, dict]:
    """Content that the reference engine fits quickly."""
    workspace = models.background("normsys")
    return workspace, models.patchset(workspace, models.grid())


def examples() -> dict[str, doctest.DocTest]:
    tests = doctest.DocTestFinder().find(api, "api")
    return {test.name.removeprefix("api."): test for test in tests if test.examples}


@pytest.mark.parametrize("name", examples())
def test_the_example_runs(name: str) -> None:
    assert doctest.DocTestRunner().run(examples()[name]).failed == 0


def test_every_function_has_an_example_and_the_same_arguments() -> None:
    functions = {name for name in palletfit.__all__ if name.islower() and name[0] != "_"} - OTHERS
    assert set(examples()) == functions | {"PointTests"}
    assert functions | OTHERS == {name for name in api.__all__ if name.islower()}
    for name in functions - {"inspect"}:
        parameters = inspect.signature(getattr(palletfit, name)).parameters
        assert next(iter(parameters)) == "workspace"
        assert parameters["settings"].kind is inspect.Parameter.VAR_KEYWORD
        if "patchset" in parameters:
            assert (parameters["patches"].default, parameters["check"].default) == ("*", True)
    assert set(palletfit.__all__) <= set(dir(palletfit))


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_later_schemas_give_the_same_results(engine: str) -> None:
    results = []
    for version in ("1.0.0", "1.1.0"):
        workspace = {**models.background("normsys"), "version": version}
        patchset = {**models.patchset(workspace, models.grid(1)), "version": version}
        (result,) = palletfit.hypotest(workspace, patchset, engine=engine).values()
        results.append(result.p_values)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "name",
    [
        "hypotest",
        *(pytest.param(name, marks=pytest.mark.study) for name in ("upper_limits", "mu_scan")),
    ],
)
def test_the_reference_engine_makes_the_fits_if_it_is_asked_for(
    small: tuple, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = small[1]["patches"][0]["metadata"]["name"]
    options = {"patches": patch} | {
        "hypotest": {},
        "upper_limits": COARSE,
        "mu_scan": {**COARSE, "points": 3},
    }[name]
    batched = getattr(palletfit, name)(*small, **options)
    monkeypatch.setattr(BatchFits, "__init__", None)  # the batched engine cannot fit any more
    reference = getattr(palletfit, name)(*small, **options, engine="reference")
    assert batched[patch].engine == "batched"
    assert reference[patch].engine == "reference"
    ours, theirs = reference.rows()[0], batched.rows()[0]
    assert ours.keys() == theirs.keys()
    assert ours["status"] == "ok"
    for column, value in ours.items():
        if isinstance(value, float) and column != "mu_hat_error":  # pyhf's fits have no error
            assert value == pytest.approx(theirs[column], rel=0.01, abs=1e-4), column


@pytest.mark.parametrize("mu", [None, pytest.param(0.5, marks=pytest.mark.study)])
def test_a_fit_of_the_reference_engine(content: tuple, mu: float | None) -> None:
    workspace, patchset = content
    batched = palletfit.fit(workspace, patchset["patches"][0], mu)
    reference = palletfit.fit(workspace, patchset["patches"][0], mu, engine="reference")
    assert (batched.engine, reference.engine) == ("batched", "reference")
    assert {attempt.optimizer for attempt in reference.evidence.attempts} >= {"scipy"}
    assert reference.twice_nll == pytest.approx(batched.twice_nll, abs=1e-6)
    order = [list(reference.parameters).index(name) for name in batched.parameters]
    assert reference.parameters == pytest.approx(batched.parameters, abs=1e-4)
    covariance = reference.covariance[np.ix_(order, order)]
    np.testing.assert_allclose(covariance, batched.covariance, rtol=1e-3, atol=1e-5)
    assert reference.errors == pytest.approx(batched.errors, rel=1e-3)


def test_a_limit_of_one_model(small: tuple) -> None:
    workspace, patchset = small
    patch = patchset["patches"][0]
    name = patch["metadata"]["name"]
    limits = palletfit.upper_limit(workspace, patch)
    assert limits == replace(
        palletfit.upper_limits(*small, patches=name)[name], fit_time=limits.fit_time
    )
    complete = pyhf.PatchSet(patchset).apply(workspace, name)
    assert palletfit.upper_limit(complete).observed.mu == pytest.approx(limits.observed.mu)
    reference = palletfit.upper_limit(complete, engine="reference", tolerance=0.1)
    assert reference.engine == "reference"
    assert reference.observed.mu == pytest.approx(limits.observed.mu, rel=0.1)
    patch["patch"][0]["path"] = "/channels/7/samples/-"
    with pytest.raises(PalletError, match="does not apply"):
        palletfit.upper_limit(workspace, patch)


@pytest.mark.parametrize("name", ["diagnose", "toys"])
def test_what_the_reference_engine_does_not_make(content: tuple, name: str) -> None:
    product = {"diagnose": "diagnostics"}.get(name, name)
    with pytest.raises(ConfigError, match=f"makes no {product}") as error:
        getattr(palletfit, name)(*content, engine="reference")
    assert "leave out" in error.value.remedy


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("upper_limits", {}),
        ("mu_scan", {"points": 3}),
        ("diagnose", {"impacts": False}),
        ("toys", {"count": 10}),
    ],
)
def test_errors_of_patches_are_kept(content: tuple, name: str, options: dict) -> None:
    workspace, patchset = content
    broken = patchset["patches"][1]
    broken["patch"][0]["path"] = "/channels/7/samples/-"
    results = getattr(palletfit, name)(workspace, patchset, **options)
    assert list(results.errors) == [broken["metadata"]["name"]]
    assert len(results) == len(patchset["patches"]) - 1
    rows = {row["patch"]: row for row in results.rows()}
    assert rows[broken["metadata"]["name"]]["status"] == "failed"
    assert {row["status"] for row in rows.values()} == {"failed", "ok"}


def test_files_and_their_content_give_the_same(tmp_path: Path, content: tuple) -> None:
    read = palletfit.hypotest(*content)
    written = palletfit.hypotest(*models.write(tmp_path, *content))
    assert (
        list(read)
        == list(written)
        == [entry["metadata"]["name"] for entry in content[1]["patches"]]
    )
    for name, result in read.items():
        assert result.p_values == written[name].p_values


def test_cls_is_that_of_pyhf(content: tuple) -> None:
    workspace, patchset = content
    results = palletfit.hypotest(workspace, patchset, mu=0.7)
    for name, result in results.items():
        complete = pyhf.PatchSet(patchset).apply(workspace, name)
        model, data = models.model_and_data(complete)
        observed, expected = pyhf.infer.hypotest(0.7, data, model, return_expected_set=True)
        assert result.p_values.CLs_obs == pytest.approx(float(observed), abs=1e-5)
        np.testing.assert_allclose(result.p_values.CLs_exp, np.array(expected), atol=1e-5)


def test_patches_are_chosen_by_name(content: tuple) -> None:
    names = [entry["metadata"]["name"] for entry in content[1]["patches"]]
    assert list(palletfit.hypotest(*content, patches=names[1])) == [names[1]]
    assert list(palletfit.hypotest(*content, patches=[names[2], names[0]])) == [names[0], names[2]]


def test_a_patch_that_fails_is_an_error_when_it_is_read(content: tuple) -> None:
    workspace, patchset = content
    broken = patchset["patches"][1]
    broken["patch"][0]["path"] = "/channels/7/samples/-"
    results = palletfit.hypotest(workspace, patchset)
    name = broken["metadata"]["name"]
    assert name not in list(results)
    assert len(results) == len(patchset["patches"]) - 1
    with pytest.raises(PalletError, match=name):
        results[name]
    rows = {row["patch"]: row for row in results.rows()}
    assert rows[name]["status"] == "failed"
    assert rows[name]["remark"]
    assert {row["status"] for title, row in rows.items() if title != name} == {"ok"}


def test_a_wrong_workspace_is_refused_unless_that_is_wanted(content: tuple) -> None:
    workspace, patchset = content
    workspace["observations"][0]["data"][0] += 1.0
    with pytest.raises(PalletError, match="made for another workspace"):
        palletfit.hypotest(workspace, patchset)
    assert palletfit.hypotest(workspace, patchset, check=False)


def test_the_best_fit_and_its_covariance(content: tuple) -> None:
    workspace, patchset = content
    best = palletfit.fit(workspace, patchset["patches"][0])
    complete = pyhf.PatchSet(patchset).apply(workspace, patchset["patches"][0]["metadata"]["name"])
    assert palletfit.fit(complete).parameters == best.parameters
    fixed = palletfit.fit(workspace, patchset["patches"][0], mu=0.0)
    assert best.parameters["mu_SIG"] > 0
    assert fixed.parameters["mu_SIG"] == 0.0
    assert fixed.errors["mu_SIG"] == 0.0
    assert fixed.twice_nll > best.twice_nll
    np.testing.assert_allclose(best.covariance, best.covariance.T, atol=1e-12)
    np.testing.assert_allclose(
        np.sqrt(np.diag(best.covariance)), list(best.errors.values()), rtol=1e-12
    )
    # The parabola of the profile likelihood at the minimum: one unit at one standard deviation.
    step = 0.05 * best.errors["mu_SIG"]
    beside = palletfit.fit(workspace, patchset["patches"][0], mu=best.parameters["mu_SIG"] + step)
    rise = beside.twice_nll - best.twice_nll
    assert rise == pytest.approx(0.05**2, rel=0.05)


def test_a_fit_without_a_minimum_says_so() -> None:
    empty = models.counting(10.0, 0.0, 5.0)
    empty["measurements"][0]["config"]["parameters"] = [
        {"name": "mu_SIG", "bounds": [[0.0, 0.0]], "inits": [0.0]}
    ]
    with pytest.raises((FitError, PalletError)):
        palletfit.fit(empty)


def test_importing_the_package_costs_no_physics() -> None:
    code = "import palletfit, sys; assert not {'numpy', 'pyhf', 'jax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_complete_workspace_needs_no_patchset(content: tuple) -> None:
    workspace, patchset = content
    name = patchset["patches"][0]["metadata"]["name"]
    complete = pyhf.PatchSet(patchset).apply(workspace, name)
    alone = palletfit.hypotest(complete)
    assert alone.only.p_values.CLs_obs == pytest.approx(
        palletfit.hypotest(*content)[name].p_values.CLs_obs, abs=1e-9
    )
    assert alone.rows()[0]["status"] == "ok"
    with pytest.raises(ValueError, match="too many"):
        _ = palletfit.hypotest(*content).only
    complete["channels"][0]["samples"][0]["data"].append(1.0)
    with pytest.raises(PalletError, match="inconsistent"):
        palletfit.hypotest(complete)


def test_the_operations_of_a_patch_are_a_patchset(tmp_path: Path, content: tuple) -> None:
    workspace, patchset = content
    entry = patchset["patches"][0]
    path = tmp_path / "my_signal.json"
    path.write_text(json.dumps(entry["patch"]), encoding="utf-8")
    result = palletfit.hypotest(workspace, path)["my_signal"]
    expected = palletfit.hypotest(*content)[entry["metadata"]["name"]]
    assert result.p_values.CLs_obs == pytest.approx(expected.p_values.CLs_obs, abs=1e-9)


def test_a_pattern_that_fits_no_patch_is_an_error(content: tuple) -> None:
    with pytest.raises(PalletError, match="'signal_100_5'") as error:
        palletfit.hypotest(*content, patches=["signal_200_50", "signal_100_5"])
    assert "Did you mean 'signal_100_50'" in error.value.remedy


def test_progress_is_counted(
    content: tuple, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Packages that other tests use disable all loggers but their own.
    monkeypatch.setattr(logging.getLogger("palletfit.core.progress"), "disabled", False)
    with caplog.at_level("INFO", logger="palletfit.core.progress"):
        palletfit.hypotest(*content)
        assert not progress_lines(caplog)
        palletfit.hypotest(*content, progress=True)
        assert progress_lines(caplog)[-1].startswith("hypotest: 3 of 3 patches, 0 failed")
        palletfit.toys(*content, patches="signal_100_50", count=10, progress=True)
    assert progress_lines(caplog)[-1].startswith("toys: 10 of 10 toys")


def progress_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Lines of progress: threads that other tests left in this process have lines of their own."""
    records = [record for record in caplog.records if record.name == "palletfit.core.progress"]
    return [record.getMessage() for record in records]
