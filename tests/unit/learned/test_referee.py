"""The referee finds no error in an exact network, and the right ones in a wrong network."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import palletfit
from palletfit.engine.asymptotics import p_values
from palletfit.errors import ConfigError, PalletError
from palletfit.learned.likelihood import LearnedLikelihood
from palletfit.learned.referee import ExactTest, _point

from . import networks

NAMES = (*networks.OUTPUTS, *networks.EXPECTED)
CONVENTIONS = {
    "inputs": ["SR", "CR"],
    "yields": "signal",
    "outputs": {name: column for column, name in enumerate(networks.OUTPUTS)},
}
SIGNALS = {
    "small": [3.0, 2.0, 0.5],
    "middle": [14.0, 6.0, 0.0],
    "large": [40.0, 9.0, 2.0],
    "none": [0.0, 0.0, 0.0],
}


def referee(model, folder: Path, signals=SIGNALS, **options):
    path = networks.save(model, folder)
    return palletfit.referee(path, networks.workspace(), networks.patchset(signals), **options)


def test_an_exact_network_has_no_error(tmp_path):
    outputs = {name: column for column, name in enumerate(NAMES)}
    verdict = referee(
        networks.counting(), tmp_path, conventions={**CONVENTIONS, "outputs": outputs}
    )
    assert verdict.status == "ok"
    assert [point.verdict() for point in verdict.points] == ["right"] * 4
    assert verdict.errors.keys() == {*NAMES, "CLs_obs", "CLs_exp"}
    # Of no signal q is zero but for rounding, and CLs depends on its root.
    assert all(errors.largest < 1e-6 for errors in verdict.errors.values())
    assert all(verdict.errors[name].largest < 1e-12 for name in NAMES)
    assert verdict.points[1].exact["CLs_obs"] == pytest.approx(_cls(SIGNALS["middle"]), abs=1e-9)


def _cls(signal, weights=networks.OBSERVED) -> float:
    """CLs of Poisson distributions, with these weights of logarithms instead of the data."""

    def twice_nll(mu, data):
        total = networks.BACKGROUND + mu * np.array(signal)
        return 2 * float(np.sum(total - data * np.log(total)))

    best = minimize_scalar(twice_nll, bounds=(0, 1), args=(weights,), options={"xatol": 1e-9})
    lowest = min(best.fun, twice_nll(0, weights), twice_nll(1, weights))
    background = networks.BACKGROUND
    q_asimov = twice_nll(1, background) - twice_nll(0, background)
    return p_values("qtilde", twice_nll(1, weights) - lowest, q_asimov).CLs_obs


@pytest.mark.parametrize("legacy", [False, True])
def test_metadata_of_smodels_say_all(tmp_path, legacy):
    verdict = referee(networks.smodels(legacy=legacy), tmp_path)
    assert verdict.inputs == ("SR-0", "SR-1", "CR-0")
    assert verdict.remarks == ()
    assert all(verdict.errors[name].largest < 1e-11 for name in NAMES)
    assert max(map(abs, verdict.at_zero.values())) < 1e-11


def test_control_regions_of_smodels_start_at_the_observed_events(tmp_path):
    channels = [{"SR": "SR", "CR": "CR"}]
    verdict = referee(networks.smodels(channels=channels), tmp_path)
    total = networks.BACKGROUND.copy()
    total[2] = networks.OBSERVED[2]
    moved = np.sum(total - networks.OBSERVED * np.log(total))
    background = networks.BACKGROUND
    shift = 2 * (moved - np.sum(background - networks.OBSERVED * np.log(background)))
    assert verdict.at_zero["nll_obs_1"] == pytest.approx(shift, abs=1e-10)


def test_a_changed_weight_is_found_with_the_right_numbers(tmp_path):
    """The weight of log(b + s) of the first bin is wrong by 4: NLL is too large by 4 log(b + s)."""
    change = {(0, "nll_obs_1"): 4.0}
    verdict = referee(networks.counting(change=change), tmp_path, conventions=CONVENTIONS)
    for point in verdict.points:
        wrong = 2 * 4.0 * math.log(50.0 + SIGNALS[point.name][0])
        assert point.error("nll_obs_1") == pytest.approx(wrong, rel=1e-12)
        assert point.error("nllA_obs_1") == pytest.approx(0.0, abs=1e-12)
    errors = verdict.errors["nll_obs_1"]
    assert (errors.worst, errors.largest) == ("large", pytest.approx(8 * math.log(90.0)))
    assert errors.median == pytest.approx(4 * (math.log(53.0) + math.log(64.0)))
    assert verdict.at_zero["nll_obs_1"] == pytest.approx(8 * math.log(50.0))
    # Four events fewer were seen in this network: the signal is excluded sooner.
    weights = networks.OBSERVED - np.array([4.0, 0.0, 0.0])
    for point in verdict.points[:3]:
        signal = SIGNALS[point.name]
        assert point.learned["CLs_obs"] == pytest.approx(_cls(signal, weights), abs=1e-7)
        assert point.exact["CLs_obs"] == pytest.approx(_cls(signal), abs=1e-7)
    sizes = {name: abs(_cls(signal, weights) - _cls(signal)) for name, signal in SIGNALS.items()}
    assert verdict.worst(1)[0].name == max(sizes, key=sizes.get)


def test_wrong_sides_of_exclusion_are_counted(tmp_path):
    signals = {f"signal_{events}": [float(events), 4.0, 0.0] for events in range(10, 22, 3)}
    exact = {name: _cls(signal) for name, signal in signals.items()}
    for events, verdict_word in ((6.0, "excluded"), (-6.0, "allowed")):
        model = networks.counting(change={(0, "nll_obs_1"): events})
        verdict = referee(model, tmp_path, signals, conventions=CONVENTIONS)
        weights = networks.OBSERVED - np.array([events, 0.0, 0.0])
        learned = {name: _cls(signal, weights) for name, signal in signals.items()}
        wrong = [name for name in signals if (exact[name] < 0.05) != (learned[name] < 0.05)]
        assert [point.name for point in verdict.wrongly(verdict_word)] == wrong
        assert wrong
        counts = verdict.summary()["verdicts"]["CLs_obs"][f"wrongly_{verdict_word}"]
        assert counts == {"points": len(wrong), "share": len(wrong) / 4, "names": wrong}


def test_outputs_that_are_differences_or_twice(tmp_path):
    """Differences without a value at zero stand on the exact one."""
    conventions = {**CONVENTIONS, "outputs": {"nllA_obs_1": 3, "nll_obs_1": 1}}
    zeros = {name: networks.exact(name, [0, 0, 0]) for name in ("nll_obs_0", "nllA_obs_0")}
    shifted = {"steps": ["standardization"], "mean": [-value for value in zeros.values()]}
    conventions |= {"differences": True, "output_scaling": {**shifted, "std": [1.0]}}
    verdict = referee(networks.counting(), tmp_path, conventions=conventions)
    assert verdict.errors["nll_obs_1"].largest < 1e-12
    assert verdict.errors["CLs_obs"].largest < 1e-6
    assert "compared as differences" in verdict.remarks[0]
    twice = {**CONVENTIONS, "twice": True}
    verdict = referee(networks.counting(), tmp_path, conventions=twice)
    exact = verdict.points[0].exact["nll_obs_1"]
    assert verdict.points[0].error("nll_obs_1") == pytest.approx(-exact)


def test_points_that_cannot_be_compared_are_kept_with_reasons(tmp_path):
    # The logarithm of a negative number of events is none.
    signals = {**SIGNALS, "negative": [-51.0, 0.0, 0.0], "broken": [1.0, 1.0, 1.0]}
    patchset = networks.patchset(signals)
    patchset["patches"][-1]["patch"][0]["path"] = "/channels/7/samples/-"
    path = networks.save(networks.counting(), tmp_path)
    verdict = palletfit.referee(path, networks.workspace(), patchset, conventions=CONVENTIONS)
    assert verdict.status == "suspect"
    negative, broken = verdict.points[-2:]
    assert (negative.status, broken.status) == ("failed", "failed")
    assert negative.reason
    assert "does not apply" in broken.reason
    assert len(verdict.compared) == 4
    assert len(verdict.to_dataframe()) == 6


def test_a_network_without_numbers_fails_point_by_point(tmp_path):
    graph = networks.Graph()
    roots = graph.add("Sqrt", graph.add("Sub", "features", graph.weight([5.0, 0.0, 0.0])))
    model = graph.model(roots)
    conventions = {**CONVENTIONS, "outputs": {"nll_obs_1": 0}}
    verdict = referee(model, tmp_path, conventions=conventions)
    assert {point.name: point.status for point in verdict.points} == {
        **dict.fromkeys(("small", "none"), "failed"),
        **dict.fromkeys(("middle", "large"), "ok"),
    }
    assert "no finite number for nll_obs_1" in verdict.points[0].reason
    assert "no observed CLs" in verdict.remarks[0]
    assert verdict.errors.keys() == {"nll_obs_1"}


def test_random_points_and_the_training_range(tmp_path):
    ranges = {"SR[0]": (0.0, 20.0), "SR[1]": (0.0, 5.0), "CR[0]": (0.0, 1.0)}
    conventions = {**CONVENTIONS, "ranges": ranges}
    path = networks.save(networks.counting(), tmp_path)

    def drawn(**options):
        return palletfit.referee(
            path, networks.workspace(), random=6, conventions=conventions, **options
        )

    verdict = drawn(seed=3)
    yields = np.array([point.yields for point in verdict.points])
    assert yields.shape == (6, 3)
    assert np.all((yields >= 0) & (yields <= [20.0, 5.0, 1.0]))
    assert [point.outside for point in verdict.points] == [False] * 6
    wider = drawn(seed=3, ranges={"SR[0]": (25.0, 40.0)}).points
    # The same random numbers, and another range in one bin.
    assert [point.yields[1:] for point in wider] == [point.yields[1:] for point in verdict.points]
    assert {point.outside for point in wider} == {True, False}
    conventions = {**CONVENTIONS, "yields": "total", "ranges": {"CR": (8.0, 9.0)}}
    totals = referee(networks.counting(), tmp_path, conventions=conventions)
    assert [point.outside for point in totals.points] == [False, False, True, False]


def test_ranges_and_backgrounds_of_a_channel_are_those_of_its_bins(tmp_path):
    """A bin takes precedence, in both spellings."""
    signals = {"first": [30.0, 1.0, 0.0], "second": [1.0, 30.0, 0.0], "control": [1.0, 1.0, 9.0]}
    ranges = {"SR": (0.0, 20.0), "SR-0": (0.0, 40.0), "CR[0]": (0.0, 5.0)}
    conventions = {**CONVENTIONS, "ranges": ranges}
    verdict = referee(networks.counting(), tmp_path, signals, conventions=conventions)
    assert [point.outside for point in verdict.points] == [False, True, True]
    total = {**CONVENTIONS, "inputs": ["SR-0", "SR-1", "CR"], "yields": "total"}
    total |= {"background": {"SR": 70.0, "SR[0]": 90.0, "CR[0]": 9.5}}
    path = networks.save(networks.counting(), tmp_path)
    likelihood = LearnedLikelihood.of(path, networks.workspace(), "mu", total)
    assert likelihood.base.tolist() == [90.0, 70.0, 9.5]


def test_ranges_that_nothing_is_drawn_from(tmp_path):
    with pytest.raises(ConfigError, match="none is drawn"):
        referee(networks.counting(), tmp_path, ranges={"*": (0, 1)}, conventions=CONVENTIONS)
    path = networks.save(networks.counting(), tmp_path)
    wide = {"*": (-1.5e308, 1.5e308)}  # of an infinite width
    with pytest.raises(ConfigError, match="between which yields"):
        palletfit.referee(
            path, networks.workspace(), random=2, ranges=wide, conventions=CONVENTIONS
        )


def test_a_point_that_is_not_compared_has_no_verdict():
    test = ExactTest({"nll_obs_1": math.nan}, math.nan, 0.2, "suspect", "the fit did not converge")
    signal = np.array([1.0])
    point = _point("one", test, signal, {"CLs_obs": 0.01, "CLs_exp": 0.01}, frozenset())
    assert (point.verdict("CLs_obs"), point.verdict("CLs_exp")) == ("", "")
    assert point.exact == {"nll_obs_1": None, "CLs_obs": None, "CLs_exp": 0.2}


def test_points_of_a_table(tmp_path):
    table = tmp_path / "points.csv"
    table.write_text("name,SR[0],SR[1],CR[0]\none,3,2,0.5\ntwo,14,6,0\n", encoding="utf-8")
    path = networks.save(networks.counting(), tmp_path)
    verdict = palletfit.referee(path, networks.workspace(), points=table, conventions=CONVENTIONS)
    assert [point.name for point in verdict.points] == ["one", "two"]
    assert verdict.errors["nll_obs_1"].largest < 1e-12


def test_uncertainties_of_signals_may_be_left_out(tmp_path):
    """The network knows yields only; with an uncertainty of 50% the exact NLL is another one."""
    patchset = networks.patchset({"middle": SIGNALS["middle"]})
    for operation in patchset["patches"][0]["patch"]:
        size = {"name": "theory", "type": "normsys", "data": {"hi": 1.5, "lo": 0.5}}
        operation["value"]["modifiers"].append(size)
    path = networks.save(networks.counting(), tmp_path)
    arguments = (path, networks.workspace(), patchset)
    with_them = palletfit.referee(*arguments, conventions=CONVENTIONS)
    without = palletfit.referee(*arguments, conventions=CONVENTIONS, yields_only=True)
    assert with_them.errors["nll_obs_1"].largest > 0.1
    assert without.errors["nll_obs_1"].largest < 1e-12


@pytest.mark.parametrize(
    ("changed", "problem", "remedy"),
    [
        ({"inputs": None}, "which bins its 3 inputs are", "conventions.inputs"),
        ({"yields": None}, "signal, or of background", "conventions.yields"),
        ({"outputs": {}}, "which NLLs its 8 outputs are", "conventions.outputs"),
        ({"outputs": {"nll_obs_1": 8}}, "8 columns", "Correct"),
        ({"outputs": {"nll_ob_1": 0}}, "Did you mean 'nll_obs_1'", "Correct"),
        ({"inputs": ["SR"]}, "3 inputs, and 2 bins", "workspace"),
        ({"inputs": ["SR", "SR[0]"]}, r"Two inputs are the bin SR\[0\]", "Correct"),
        ({"inputs": ["SR", "CRR"]}, "'CRR', but 'CRR' is no channel", "Did you mean 'CR'"),
        ({"inputs": ["SR[2]", "CR"]}, "'SR' has 2 bins", "trained for"),
        ({"input_scalin": {}}, "did you mean 'input_scaling'", "Correct"),
        (
            {"input_scaling": {"steps": ["standardization"], "mean": [1, 2], "std": [1]}},
            *("2 numbers as `mean`, and there are 3 inputs", "Correct"),
        ),
        ({"ranges": {"VR": (0.0, 1.0)}}, "`ranges` has 'VR', which is no input", "Correct"),
        (
            {"yields": "total", "background": {"CRR[0]": 7.0}},
            *(r"`background` has 'CRR\[0\]', which is no input", "Did you mean 'CR[0]'"),
        ),
    ],
)
def test_what_cannot_be_told_is_asked_for(tmp_path, changed, problem, remedy):
    conventions = {**CONVENTIONS, **changed}
    with pytest.raises((ConfigError, PalletError), match=problem) as raised:
        referee(networks.counting(), tmp_path, conventions=conventions)
    assert remedy in str(raised.value)


#: A short text whose aliases stand for 9^9 words.
BOMB = "\n".join(
    [
        "a: &a [x, x, x, x, x, x, x, x, x]",
        *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise("abcdefghi")),
        "data: {trafos: {fvs_standardized: *i}, nLL_trafos: []}",
    ]
)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bkg_yields", "__import__('os').abort()"),
        ("bkg_yields", [["SR-0", "many"]]),
        ("standardization", "{'features_mean': [[1]]}"),
        ("run_config", "data: {trafos: {}}"),
        ("run_config", "!!python/object/apply:os.abort []"),
        ("run_config", "data: 2001-99-99"),
        ("run_config", BOMB),
        ("remove_channels", "7"),
        ("nLL_obs_mu0", "1" + 400 * "0"),
        ("bkg_yields", f'[["SR-0", 1{400 * "0"}]]'),
        ("channels", "7"),
        ("nLL_obs_mu0", "NaN"),
    ],
)
def test_wrong_metadata_are_refused_and_never_run(tmp_path, key, value):
    with pytest.raises(PalletError, match=f"metadata '{key}'"):
        referee(networks.smodels(**{key: value}), tmp_path)


def test_another_background_is_remarked(tmp_path):
    pairs = [["SR-0", 50.0], ["SR-1", 26.0], ["CR-0", 8.0], ["VR-0", 3.0]]
    verdict = referee(networks.smodels(bkg_yields=pairs), tmp_path)
    assert "SR[1] (26, not 20)" in verdict.remarks[0]
