"""Answers: the numbers are those of a call of the library for each point."""

from __future__ import annotations

import json
import tarfile

import pytest

import palletfit
from palletfit.pallet.demo import demo_patchset, demo_workspace
from palletfit.serve import fits
from palletfit.serve.models import Models, Named
from palletfit.serve.protocol import Point, Question
from palletfit.serve.work import ModelFile

from .. import models

KINDS = ("normfactor", "normsys")
SMALL = {"SR": [4.0, 6.0]}
SIGNAL = {"SR_high": [0.2, 0.9, 2.4]}
WIDE = {"SR_high": [0.1, 0.6, 1.4], "SR_low": [0.5, 0.2]}
#: Far below what a user sees: the bounds of the fits' minima.
CLOSE = {"rel": 1e-7, "abs": 1e-9}


def answers(model: ModelFile, points: list[Point], **question: object) -> list[dict]:
    return fits.answer(model, Question(**question), points).answers


def test_points_of_all_kinds_have_in_one_batch_the_numbers_of_the_library(demo: Models) -> None:
    workspace = demo_workspace()
    operations = demo_patchset(workspace)["patches"][0]["patch"]
    points = [
        Point(SIGNAL, {"theory": 0.2}),
        Point(patch=operations),
        Point({"SR_hihg": [1.0]}),
        Point(WIDE),
        Point({"SR_high": [0.2, -0.9, 2.4]}),
        Point(patch={"op": "add"}),
        Point(),
    ]
    plain = answers(demo.file("demo"), points)
    expected = [
        palletfit.hypotest(workspace, signal=SIGNAL, uncertainties={"theory": 0.2}).only,
        palletfit.hypotest(workspace, operations).only,
        None,
        palletfit.hypotest(workspace, signal=WIDE).only,
    ]
    for answer, test in zip(plain, expected, strict=False):
        if test is not None:
            assert answer["CLs_obs"] == pytest.approx(test.p_values.CLs_obs, **CLOSE)
            assert answer["CLs_exp"] == pytest.approx(test.p_values.CLs_exp, **CLOSE)
            assert answer["mu_hat"] == pytest.approx(test.mu_hat, rel=1e-5)
            assert (answer["status"], answer["reasons"]) == ("ok", [])
            assert not {"fits", "fit_time", "software"} & answer.keys()
    problems = {number: answer["error"] for number, answer in enumerate(plain) if "error" in answer}
    assert problems.keys() == {2, 4, 5, 6}
    assert "no channel 'SR_hihg'" in problems[2]
    assert "Did you mean 'SR_high'?" in plain[2]["remedy"]
    assert "a yield of -0.9" in problems[4]
    assert "no list of operations" in problems[5]
    assert "has no signal" in problems[6]


@pytest.fixture
def small(tmp_path) -> ModelFile:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(models.background(*KINDS)), encoding="utf-8")
    return Models([Named("small", str(path))], tmp_path / "copies").file("small")


def test_limits_and_likelihoods_are_those_of_the_library(small) -> None:
    workspace = models.background(*KINDS)
    (limit,) = answers(small, [Point(SMALL)], kind="limit", mu=None, mu_max=2.0)
    expected = palletfit.upper_limits(workspace, signal=SMALL, mu_max=2.0).only
    assert limit["mu_max"] == 2.0
    states = [entry["state"] for entry in limit["expected"]]
    assert states == [entry.state for entry in expected.expected]
    assert {"found", "beyond"} == set(states)
    assert limit["mu_exp"][0] == pytest.approx(expected.expected[0].mu, rel=1e-3)
    for mu in (0.0, None):
        (answer,) = answers(small, [Point(SMALL)], kind="nll", mu=mu)
        best = palletfit.fits(workspace, added(SMALL), mu).only
        assert answer["nll"] == pytest.approx(best.twice_nll / 2, abs=1e-8)
        assert answer["mu"] == pytest.approx(best.evidence.mu, abs=1e-5)


def added(signal: dict[str, list[float]]) -> list[dict]:
    """The patch that a user would write for a signal in the first channel."""
    ((_, yields),) = signal.items()
    return [{"op": "add", "path": "/channels/0/samples/-", "value": models.signal(yields)}]


def test_details_are_the_evidence_of_the_fits(small) -> None:
    (answer,) = answers(small, [Point(SMALL)], details=True)
    assert answer["fits"].keys() == {"background", "free", "fixed", "asimov_fixed"}
    assert answer["software"]["pyhf"] == "0.7.6"


def test_a_worker_forgets_a_model_with_too_many_structures(small, monkeypatch) -> None:
    monkeypatch.setattr(fits, "_LAYOUTS", 1)
    answers(small, [Point(SMALL), Point(SMALL, {"theory": 0.1})])
    assert fits._engines.present((small.digest, None)) is None


@pytest.mark.study
def test_a_point_of_a_published_likelihood_has_the_numbers_of_the_library(shared, tmp_path) -> None:
    archive = shared / "pallets" / "1Lbb-likelihoods-hepdata.tar.gz"
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    known = Models([Named("1Lbb", str(tmp_path / "BkgOnly.json"))], tmp_path, check=False)
    name = "C1N2_Wh_hbb_700_150"
    paths = tmp_path / "BkgOnly.json", tmp_path / "patchset.json"
    patchset = json.loads(paths[1].read_bytes())
    patch = next(p["patch"] for p in patchset["patches"] if p["metadata"]["name"] == name)
    (answer,) = answers(known.file("1Lbb"), [Point(patch=patch)])
    test = palletfit.hypotest(paths[0], patch, check=False).only
    assert answer["CLs_obs"] == pytest.approx(test.p_values.CLs_obs, **CLOSE)
    assert answer["CLs_exp"] == pytest.approx(test.p_values.CLs_exp, **CLOSE)
    assert answer["mu_hat_error"] == pytest.approx(test.mu_hat_error, rel=1e-5)


@pytest.mark.study
@pytest.mark.filterwarnings("ignore:overflow")
def test_an_impossible_signal_is_excluded_or_no_result_is_trusted(demo: Models) -> None:
    [answer] = answers(demo.file("demo"), [Point({"SR_high": [1e300] * 3})])
    assert answer["status"] != "ok" or answer["CLs_obs"] == 0.0
