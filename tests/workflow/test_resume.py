"""A rerun makes exactly the fits that are needed: every test here counts them."""

from __future__ import annotations

import json
import os
import signal

import pytest

from ..disks import small_file_system
from ..integration.stack.processes import living, until
from .conftest import Folder, Snapshot
from .pallets import TinyPallet
from .preloaded import HOOK

Finished = tuple[Folder, TinyPallet]


def test_a_second_run_has_nothing_to_do(finished: Finished, finished_once: Snapshot) -> None:
    folder, tiny = finished
    first = finished_once.run
    assert first.fitted == tiny.names
    assert "results/tiny/results.csv" in first.output
    assert "results/tiny/exclusion.png" in first.output
    # A line a step, with what steps say: no lists of files, reasons or scheduling.
    assert "tiny/SR: fit all patches that have no result yet" in first.output
    for noise in ("localrule", "reason:", "Select jobs", "Job stats", "Host:"):
        assert noise not in first.output
    second = folder.run()
    assert second.idle
    assert second.fitted == []
    # What there is comes last, also if nothing was to be done.
    last = "  results: results/tiny/results.csv and results/tiny/results.json"
    assert first.output.splitlines()[-1] == second.output.splitlines()[-1] == last


def test_a_mistyped_target_is_recognized(finished: Finished) -> None:
    folder, _ = finished
    output = folder.run("limts", succeeds=False).output
    assert "Did you mean 'limits'?" in output.splitlines()[-1]


@pytest.mark.parametrize(
    "target", [pytest.param("all", marks=pytest.mark.study), "results/tiny/results.csv"]
)
def test_damaged_records_are_fitted_again(finished: Finished, target: str) -> None:
    folder, tiny = finished
    truncated, edited, lost = (tiny.record(name) for name in tiny.names[:3])
    kept = {path: path.read_bytes() for path in folder.records()}

    truncated.write_bytes(kept[truncated][:200])
    content = json.loads(kept[edited])
    content["CLs_obs"] = 0.01
    edited.write_text(json.dumps(content))
    lost.unlink()
    table = (folder.path / "results/tiny/results.csv").stat().st_mtime_ns
    folder.run(target, "-n")  # looking does not count as repairing
    run = folder.run(target)

    assert run.fitted == tiny.names[:3]
    for path in sorted(kept.keys() - {truncated, edited, lost}):
        assert path.read_bytes() == kept[path]
    assert json.loads(edited.read_bytes())["CLs_obs"] != 0.01
    assert (folder.path / "results/tiny/results.csv").stat().st_mtime_ns > table
    assert folder.run(target).idle


def test_a_copied_folder_needs_no_fits(finished: Finished) -> None:
    folder, tiny = finished
    for path in folder.records():
        os.utime(path)
    assert folder.run(tiny.hypotest()).idle


def test_another_mu_fits_all_and_the_first_one_comes_back(finished: Finished) -> None:
    folder, tiny = finished
    first = tiny.record(tiny.names[0]).read_bytes()
    folder.config["fit"] = {"mu": 0.5}
    assert folder.run(tiny.hypotest()).fitted == tiny.names
    assert tiny.record(tiny.names[0]).read_bytes() != first
    del folder.config["fit"]
    assert folder.run(tiny.hypotest()).fitted == []
    assert tiny.record(tiny.names[0]).read_bytes() == first


def test_one_changed_patch_is_one_fit(finished: Finished) -> None:
    folder, tiny = finished
    changed = tiny.patches[2]
    changed["patch"][0]["value"]["data"] = [3.0, 3.0]
    tiny.write()
    assert folder.run(tiny.hypotest()).fitted == [changed["metadata"]["name"]]


def test_a_failed_patch_costs_no_other_and_is_fitted_when_repaired(
    folder: Folder, tiny: TinyPallet
) -> None:
    broken = tiny.patches[1]
    name = broken["metadata"]["name"]
    broken["patch"][0]["path"] = "/channels/7/samples/0"
    tiny.write()
    run = folder.run(succeeds=False)
    assert f"{name}: The patch does not apply to the workspace" in run.output
    assert "1 of 6 patches of tiny/SR failed" in run.output
    assert "remedy:" in run.output
    assert "Traceback" not in run.output
    done = {path: path.read_bytes() for path in folder.records()}
    assert len(done) == 6  # five results and one failure

    broken["patch"][0]["path"] = "/channels/0/samples/1"
    tiny.write()
    run = folder.run(tiny.hypotest())
    assert run.fitted == [name]
    for path, content in done.items():
        assert path == tiny.record(name) or path.read_bytes() == content


def test_failures_can_be_tolerated_or_known(folder: Folder, tiny: TinyPallet) -> None:
    broken = tiny.patches[1]
    name = broken["metadata"]["name"]
    broken["patch"][0]["value"]["modifiers"][0]["name"] = "not_the_poi"
    tiny.write()
    folder.config["on_failure"] = "continue"
    target = "results/tiny/contour.json"
    folder.run(target)
    results = json.loads((folder.path / "results/tiny/results.json").read_bytes())
    assert results[name]["status"] == "failed"
    assert "no parameter of interest" in results[name]["problem"]
    contour = json.loads((folder.path / "results/tiny/contour.json").read_bytes())
    assert contour["failed"] == [name]
    assert folder.run(target).idle  # what is wrong with the pallet stays wrong

    del folder.config["on_failure"]
    tiny.analysis["regions"]["SR"]["known_failures"] = {name: "it has no signal"}
    tiny.write()
    run = folder.run(tiny.hypotest())
    assert run.fitted in ([], [name])


def test_patches_over_the_deadline_are_fitted_with_a_longer_one(
    folder: Folder, tiny: TinyPallet
) -> None:
    tiny.patches = tiny.patches[:2]
    tiny.write()
    # Fits that take their time: the tiny ones end before a clock looks at them.
    slow = folder.path / "slow.py"
    slow.write_text(
        "import time\nimport palletfit.runs.task\n"
        "def fit(*args, fit=palletfit.runs.task._fit):\n    time.sleep(1)\n    return fit(*args)\n"
        "palletfit.runs.task._fit = fit\n"
    )
    folder.variables[HOOK] = str(slow)
    folder.config["executor"] = {"deadline": 0.5}
    folder.config["on_failure"] = "continue"
    target = "results/tiny/results.json"
    folder.run(target)
    results = json.loads((folder.path / target).read_bytes())
    assert {result["problem"] for result in results.values()} == {
        "The fit did not end before the deadline."
    }
    folder.config["executor"] = {"deadline": 60}
    # Still slow: with the deadline of before, none would end.
    assert folder.run(target).fitted == tiny.names
    del folder.variables[HOOK]
    assert folder.run(target).idle


def test_a_new_engine_version_makes_records_outdated(finished: Finished) -> None:
    folder, tiny = finished
    # The workflow's own processes, with another version than the one in this checkout.
    newer = folder.path / "newer.py"
    newer.write_text(
        "from palletfit.engine.versions import VERSIONS\nVERSIONS['batched'] = 'batched-next'\n"
    )
    folder.variables[HOOK] = str(newer)
    run = folder.run(tiny.hypotest())
    assert run.fitted == tiny.names
    assert "tiny/SR: made again: 6 records are of engine batched-" in run.output
    assert folder.run(tiny.hypotest()).idle


def test_a_full_disk_keeps_what_is_finished(folder: Folder, tiny: TinyPallet) -> None:
    with small_file_system(folder.path / "results/tiny/SR/fits", 96) as disk:
        rest = disk / "other people's data"
        rest.write_bytes(bytes(64 * 1024))  # leaves room for some of the six records
        run = folder.run(tiny.hypotest(), succeeds=False)
        assert "The disk is full; finished patches are kept." in run.output
        assert "remedy: Free space there" in run.output
        assert "Traceback" not in run.output
        kept = {path: path.read_bytes() for path in folder.records()}
        assert 0 < len(kept) < 6
        rest.unlink()
        run = folder.run(tiny.hypotest())
        finished = {json.loads(content)["patch"] for content in kept.values()}
        assert run.fitted == sorted(set(tiny.names) - finished)


def test_kill_in_the_middle_loses_nothing(folder: Folder, tiny: TinyPallet) -> None:
    folder.config["executor"] = {"workers": 2, "patches_per_task": 1}
    target, log = tiny.hypotest(), folder.path / "run.log"
    with folder.running_held(target, count=2) as (first, _):
        until(lambda: len(folder.records()) >= 2 or first.poll() is not None, "no records", [log])
        assert first.poll() is None, log.read_text()
        # Snakemake alone: nobody is left to tell its jobs and workers.
        first.send_signal(signal.SIGKILL)
        first.wait()
        until(lambda: not living(folder.path), "workers stay", [log])
    before = {path: path.read_bytes() for path in folder.records()}
    run = folder.run(target)
    assert "nlock" not in run.output  # nothing about unlocking
    patches = json.loads((folder.path / target).read_bytes())["patches"]
    assert len(folder.records()) == len(patches) > len(before) >= 2
    for path, content in before.items():
        assert path.read_bytes() == content
    fitted = set(run.fitted)
    assert not fitted & {json.loads(content)["patch"] for content in before.values()}


def test_two_analyses_side_by_side(folder: Folder, tiny: TinyPallet) -> None:
    other = TinyPallet(folder.path, "other", count=2)
    other.write()
    folder.config["analyses"] = [str(tiny.analysis_path), str(other.analysis_path)]
    targets = (tiny.hypotest(), other.hypotest())
    assert folder.run(*targets).fitted == sorted(tiny.names + other.names)
    other.patches[0]["patch"][0]["value"]["data"] = [1.0, 1.0]
    other.write()
    assert folder.run(*targets).fitted == [other.patches[0]["metadata"]["name"]]


def test_two_runs_at_once_in_one_folder(folder: Folder, tiny: TinyPallet) -> None:
    target, log = tiny.hypotest(), folder.path / "run.log"
    with folder.running_held(target, count=0) as (first, held):
        lock = folder.path / "results/.run.lock"
        until(lambda: lock.exists() and lock.read_text() != "", "nothing is locked", [log])
        second = folder.run(succeeds=False)
        assert f"Another run is at work in this folder: process {first.pid} on" in second.output
        assert "remedy: Wait for it" in second.output
        held.unlink()
        assert first.wait() == 0, log.read_text()
    assert folder.run(target).idle


def test_parts_share_the_patches_and_only_failed_ones_are_fitted_again(
    folder: Folder, tiny: TinyPallet
) -> None:
    folder.config["executor"] = {"parts": 4}
    broken = tiny.patches[2]["patch"][0]["value"]
    sound, broken["data"] = broken["data"], [1.0]  # one bin of two
    tiny.write()
    first = folder.run(succeeds=False)
    name = tiny.patches[2]["metadata"]["name"]
    assert "1 of 6 patches of tiny/SR failed" in first.output
    assert name in first.output
    parts = folder.path / "results/tiny/SR/parts"
    assert len(list(parts.iterdir())) == 3  # the one with the failure is asked for again
    broken["data"] = sound
    tiny.write()
    second = folder.run(tiny.hypotest())
    assert second.fitted == [name]
    manifest = json.loads((folder.path / tiny.hypotest()).read_bytes())
    assert list(manifest["patches"]) == [item["metadata"]["name"] for item in tiny.patches]
    assert folder.run(tiny.hypotest()).idle
    tiny.record(tiny.names[0]).unlink()
    assert folder.run(tiny.hypotest()).fitted == tiny.names[:1]
