"""The timing scripts run, and their own arithmetic is right."""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

import palletfit
from palletfit.config import FitSettings
from palletfit.engine.asymptotics import p_values
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fits import Fits
from palletfit.pallet.demo.electroweak import demo_patchset, demo_workspace
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import parse_patchset

from .. import models, scans

#: Few events, or forty times as many; and events that nearly explain the data without them.
BENT = {"name": "bent", "data": {"hi": 40.0, "lo": 0.01}}
OTHER = {"hi": 1.15, "lo": 0.85}
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SOURCE = Path(palletfit.__file__).parents[1]


@pytest.fixture
def pallet(tmp_path):
    """Files of a small pallet with two patches."""
    workspace = models.background("normsys", "histosys", "staterror")
    return models.write(tmp_path, workspace, models.patchset(workspace, models.grid(2)))


@pytest.fixture
def run(load, monkeypatch, capsys):
    """Run a script in this process, which has imported what it imports; give what it prints."""

    def script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / f"{name}.py"), *map(str, arguments)])
        for variable in sys.modules["common"]._THREADS:
            monkeypatch.setenv(variable, "1")
        monkeypatch.setenv("PYTHONPATH", str(SOURCE))
        # Scripts silence what is logged, which others are to hear again.
        disabled, level = logging.root.manager.disable, logging.getLogger("pyhf").level
        try:
            load(name).main()
        finally:
            logging.disable(disabled)
            logging.getLogger("pyhf").setLevel(level)
        return capsys.readouterr().out

    return script


def test_a_script_runs_again_where_threads_are_not_limited(load, monkeypatch):
    load("scaling")
    common, runs = sys.modules["common"], []
    monkeypatch.setattr(sys, "argv", ["script.py", "--sample", "1"])
    monkeypatch.setattr(
        common.subprocess,
        "run",
        lambda words, env, check: runs.append((words, env)) or Namespace(returncode=int(check) + 3),
    )
    for variable in common._THREADS:
        monkeypatch.setenv(variable, "1")
    common.use_one_thread()
    assert runs == []
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with pytest.raises(SystemExit) as ended:
        common.use_one_thread()
    assert ended.value.code == 3
    ((words, variables),) = runs
    assert words == [sys.executable, "script.py", "--sample", "1"]
    assert {variables[name] for name in common._THREADS} == {"1"}


def test_against_peers_times_and_compares(run, monkeypatch, pallet, tmp_path):
    monkeypatch.setitem(sys.modules, "nextstat", None)
    output = tmp_path / "times.json"
    printed = run("against_peers", *pallet, "--sample", 1, "--repeats", 2, "--output", output)
    assert "Without NextStat (" in printed
    assert ": pip install -r envs/benchmarks.in" in printed
    assert "| palletfit | 2, 2 times |" in printed
    record = json.loads(output.read_text())
    assert len(record["palletfit"]) == 2
    assert record["patches"] == 2
    (name,) = record["sample"]
    (test,) = record["peers"]["pyhf"]
    assert test["error"] == ""
    assert test["building"] > 0
    assert test["fitting"] > 0
    for ours in record["palletfit"]:
        assert len(ours["values"]) == 2
        assert ours["values"][name] == pytest.approx(test["values"], abs=1e-4)


def test_scaling_makes_as_many_patches_as_asked(run, pallet, tmp_path):
    """It runs itself in a process of its own for each size."""
    output = tmp_path / "scaling.json"
    printed = run("scaling", *pallet, "--sizes", 5, "--chunk", 2, "--output", output)
    (record,) = json.loads(output.read_text())["sizes"]
    assert record["patches"] == record["ok"] == 5
    assert record["peak_mib"] >= record["peak_mib_at_start"] > 10
    assert 0 < record["ms_a_patch"] < 1e3 * record["seconds"] / 5
    assert f"| 5 | cpu | {record['ms_a_patch']:.4g} |" in printed


def test_diagnostics_are_timed_against_cabinetry(run, pallet, tmp_path):
    output = tmp_path / "diagnostics.json"
    printed = run("diagnostics", *pallet, "--ranked", 1, "--output", output)
    record = json.loads(output.read_text())
    assert record["fits"] == 4
    # Four for each of the nuisance parameters.
    assert record["all_fits"] == 4 * 4
    for seconds in (*record["palletfit"], *record["cabinetry"].values()):
        assert seconds > 0
    assert "cabinetry: impacts, 4 of 16 fits" in printed


def test_missed_minima_are_counted(run, pallet, tmp_path):
    output = tmp_path / "missed.csv"
    printed = run("missed_minima", *pallet, "--starts", "5", "--output", output)
    rows = output.read_text().splitlines()
    assert rows[0] == "patch,fit,lowest_twice_nll,above,converged"
    assert len(rows) == 1 + 4 * 2
    assert "8 fits: 0 missed, 0 not converged" in printed


def test_signals_are_made_up_for_a_workspace_alone(run, pallet, tmp_path):
    output = tmp_path / "missed.csv"
    run("missed_minima", pallet[0], "--signals", "2", "--starts", "1", "--output", output)
    assert {line.split(",")[0] for line in output.read_text().splitlines()[1:]} == {
        "signal_0",
        "signal_1",
    }


def test_a_deep_search_goes_beyond_the_nearest_minimum(load):
    few = models.sample("few", [0.04], models.MODIFIERS["normsys"] | BENT)
    other = models.sample("other", [6.0], models.MODIFIERS["normsys"] | {"data": OTHER})
    spec = models.workspace({"SR": [models.signal([1.0]), few, other]}, {"SR": [10.0]})
    ((batch, _),), _ = BatchedEngine(spec, FitSettings()).lower([Patch("all", (), ())])
    tests = BatchedEngine(spec, FitSettings()).batch_fits(batch)
    fits = Fits(batch.data, batch.aux, 0.0, tests.rows)
    tests.fitter.fit(fits, {"suggested": batch.init})
    before = float(fits.value[0])
    load("missed_minima").deepen(tests, fits, [np.random.default_rng(1)], 50)
    assert before - fits.value[0] == pytest.approx(0.1916, abs=1e-3)


def test_a_wrong_file_is_an_error_that_names_it(load, tmp_path):
    missing = tmp_path / "missing.json"
    arguments = Namespace(workspace=missing, patchset=missing)
    with pytest.raises(SystemExit, match=r"missing\.json"):
        load("scaling").read_pallet(arguments)


def test_random_patches_scale_everything_that_is_in_events(load):
    scaling = load("scaling")
    workspace = demo_workspace()
    (patch, *_) = parse_patchset(demo_patchset(workspace), Path("patchset")).patches[30:]
    before = json.dumps(patch.operations)
    made = list(scaling.randomised([patch], 1, 3))
    assert json.dumps(patch.operations) == before
    assert len({item.name for item in made}) == 3
    factors = []
    for item in made:
        ratios = []
        for old, new in zip(patch.operations, item.operations, strict=True):
            assert (new["op"], new["path"]) == (old["op"], old["path"])
            ratio = np.divide(new["value"]["data"], old["value"]["data"])
            ratios += ratio.tolist()
            pairs = zip(old["value"]["modifiers"], new["value"]["modifiers"], strict=True)
            for was, now in pairs:
                if was["type"] == "histosys":
                    for side in ("hi_data", "lo_data"):
                        expected = ratio * was["data"][side]
                        assert now["data"][side] == pytest.approx(expected.tolist())
                elif was["type"] == "staterror":
                    assert now["data"] == pytest.approx((ratio * was["data"]).tolist())
                else:
                    assert now == was
        assert 0 < np.std(ratios) / np.mean(ratios) < 0.1
        factors.append(np.mean(ratios))
    assert np.std(factors) > 0.05
    # The same patches again, whatever their number.
    again = next(scaling.randomised([patch], 1, 1))
    assert again.operations == made[0].operations
    assert next(scaling.randomised([patch], 2, 1)).operations != made[0].operations


def test_time_of_nested_compilations_counts_once(load, monkeypatch):
    scaling = load("scaling")
    now = iter([2.0, 3.0, 10.0, 11.0])
    monkeypatch.setattr(scaling.time, "perf_counter", lambda: next(now))
    compiling = scaling.Compiling()
    compiling.listen("/jax/core/compile/jaxpr_trace_duration", 1.0)
    compiling.listen("/jax/core/compile/jaxpr_trace_duration", 3.0)
    compiling.listen("/jax/core/compile/backend_compile_duration", 2.0)
    compiling.listen("/jax/compilation_cache/something_else", 1.0)
    assert compiling.seconds == 5.0


@pytest.mark.parametrize(("q", "q_asimov"), [(0.0, 1.3), (2.0, 5.0), (7.0, 4.0)])
def test_expected_cls_from_tail_probabilities(load, q, q_asimov):
    expected = p_values("qtilde", q, q_asimov)
    found = load("against_peers").expected_cls(expected.CLsb_obs, expected.CLb_obs)
    assert found == pytest.approx(expected.CLs_exp, rel=1e-9)


@pytest.mark.parametrize("tails", [(0.0, 0.0), (float("nan"), 0.5), (0.1, float("nan"))])
def test_no_expected_cls_without_tail_probabilities(load, tails):
    with pytest.raises(ArithmeticError):
        load("against_peers").expected_cls(*tails)


def test_a_tool_that_fails_does_not_stop_the_others(load):
    def fail():
        raise ValueError("no such\nmodel")

    test = load("against_peers").timed(fail, lambda _: ())
    assert test.values is None
    assert test.error == "ValueError: no such model"


@pytest.mark.parametrize(
    ("count", "wanted", "expected"), [(125, 3, [0, 62, 124]), (2, 10, [0, 1]), (5, 1, [0])]
)
def test_samples_are_spread_evenly(load, count, wanted, expected):
    assert load("against_peers").spread(count, wanted) == expected


def test_engine_runs_before_between_and_after_the_peers(load):
    peers = load("against_peers")
    order = []
    tools = {name: lambda index, name=name: order.append((name, index)) for name in "ab"}
    peers.interleave(lambda: order.append("engine"), tools, [0, 5, 9], 3)
    turns = [[("a", index), ("b", index)] for index in (0, 5, 9)]
    assert order == ["engine", *turns[0], *turns[1], "engine", *turns[2], "engine"]


def test_live_counts_pages_and_their_time(run, monkeypatch, pallet, tmp_path):
    """With fits in this process instead of workers."""
    monkeypatch.setattr("palletfit.executors.make_executor", lambda *_, **__: scans.Local())
    output = tmp_path / "live.json"
    arguments = ("--workers", 1, "--repeats", 1, "--interval", 0.2, "--output", output)
    printed = run("live", *pallet, *arguments)
    without, with_page = json.loads(output.read_text())["runs"]
    assert (without["page"], without["pages"], without["page_bytes"]) == (False, 0, 0)
    assert with_page["pages"] >= 2
    assert with_page["page_bytes"] > 5000
    assert 0 < with_page["page_seconds"] < with_page["fits"]
    assert "| with | 1 |" in printed


def test_against_spey_counts_which_likelihood_is_lower(load):
    script = load("against_spey")
    points = [
        script.Point("one", 0.5, 10.0, 0.1, 0.3, [2e-3, -2e-6, 1e-7]),
        script.Point("two", 0.5, 20.0, 0.1, None, [float("nan")], peer_error="ValueError"),
    ]
    rows = dict(
        line.strip("| ").split(" | ") for line in script.table(points, 1.0).splitlines()[2:]
    )
    assert rows["without an answer: palletfit, pyhf"] == "0, 1"
    assert rows["ours higher by more than 1e-06"] == "1"
    assert rows["pyhf higher by more than 0.001"] == "1"
    assert rows["pyhf not a number"] == "1"
    assert rows["largest difference of values"] == "0.2"
    assert rows["ratio"] == "30.00 (20.00 to 40.00)"


def test_against_spey_stops_a_test_that_catches_exceptions(load):
    script = load("against_spey")

    def endless():
        with script.time_limit(1):
            while True:
                try:
                    while True:
                        pass
                except Exception:  # noqa: BLE001, S110
                    pass

    _, error = script.timed(endless)
    assert error == "TooSlowError: longer than 1 s"


def test_serve_counts_all_processor_time_and_compares_what_rows_share(load):
    serve = load("serve")
    status = {"cpu_seconds": 2.0, "cpu_seconds_per_point": 0.5, "answered": 10}
    assert serve.cpu_seconds(status) == 7.0
    rows = [
        {"kind": kind, "points": 2, "seconds": 4.0, "cpu_seconds": 1.0, "points_per_batch": 2.0}
        for kind in ("calls", "callers")
    ]
    rows[0]["CLs_obs"], rows[1]["CLs_obs"] = {"a": 0.1}, {"a": 0.101, "b": 0.5}
    assert serve.largest_difference(rows) == pytest.approx(0.001)
    assert "| callers | 2 | 0.50 | 500 | 2.0 |" in serve.table(rows)


def test_warm_points_mixes_signals_and_says_who_is_lower(run, pallet, tmp_path):
    output = tmp_path / "warm.json"
    run("warm_points", *pallet, "--learn", 6, "--points", 4, "--full", 2, "--output", output)
    (record,) = json.loads(output.read_text())["records"]
    assert (record["points"], record["compared"], record["higher"], record["cls"]) == (4, 2, 0, 0)
    assert 1 <= record["references"] <= 6


def test_points_of_a_published_likelihood_are_mixtures(load, pallet):
    source = load("points").Published(*pallet)
    rows = source.rows_of(range(20), 1)
    assert rows.num_rows == 20
    bins = [name for name in rows.column_names if "[" in name]
    channels = {
        entry["name"]: entry["samples"][0]["data"] for entry in source.workspace()["channels"]
    }
    assert bins == [f"{name}[{n}]" for name, data in channels.items() for n in range(len(data))]
    yields = np.array([rows[name].to_numpy() for name in bins])
    assert (yields >= 0).all()
    assert len(np.unique(yields[yields > 0])) > 20


def test_mixtures_are_between_two_signals(load):
    value = models.signal(
        [2.0, 4.0], {"name": "a", "type": "normsys", "data": {"hi": 2, "lo": 0.5}}
    )
    doubled = {**value, "data": [4.0, 8.0]}
    patches = [
        Patch(name, (), [{"op": "add", "path": "/channels/0/samples/-", "value": sample}])
        for name, sample in (("one", value), ("two", doubled))
    ]
    (mixture,) = load("warm_points").mixtures(patches, 1, 1, spread=0.0)
    (operation,) = mixture.operations
    first, second = operation["value"]["data"]
    assert 2.0 < first < 4.0
    assert second == pytest.approx(2 * first)
    assert operation["value"]["modifiers"][1]["data"] == {"hi": 2, "lo": 0.5}
