"""The library in a notebook: pallets in, typed records out."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyhf
import pytest

import palletfit
from palletfit import api
from palletfit.errors import FitError, PalletError

from . import models


@pytest.fixture
def content() -> tuple[dict, dict]:
    workspace = models.background("normsys", "histosys", "staterror")
    return workspace, models.patchset(workspace, models.grid())


def test_the_example_runs() -> None:
    assert doctest.testmod(api).attempted > 3
    assert doctest.testmod(api).failed == 0


def test_files_and_their_content_give_the_same(tmp_path: Path, content: tuple) -> None:
    read = palletfit.hypotest(*content)
    written = palletfit.hypotest(*models.write(tmp_path, *content))
    assert (
        list(read) == list(written) == [item["metadata"]["name"] for item in content[1]["patches"]]
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
    names = [item["metadata"]["name"] for item in content[1]["patches"]]
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
