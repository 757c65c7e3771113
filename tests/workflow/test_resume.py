"""A rerun makes exactly the fits that are needed: every test here counts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from .conftest import Folder
from .pallets import TinyPallet


def test_a_second_run_has_nothing_to_do(folder: Folder, tiny: TinyPallet) -> None:
    first = folder.run()
    assert first.fitted == tiny.names
    assert "results/tiny/results.csv" in first.output
    assert "results/tiny/exclusion.png" in first.output
    second = folder.run()
    assert second.idle
    assert second.fitted == []


def test_damaged_records_are_fitted_again(folder: Folder, tiny: TinyPallet) -> None:
    folder.run(tiny.hypotest())
    truncated, edited, lost = (tiny.record(name) for name in tiny.names[:3])
    kept = {path: path.read_bytes() for path in folder.records()}

    truncated.write_bytes(kept[truncated][:200])
    content = json.loads(kept[edited])
    content["CLs_obs"] = 0.01
    edited.write_text(json.dumps(content))
    lost.unlink()
    run = folder.run(tiny.hypotest())

    assert run.fitted == tiny.names[:3]
    for path in sorted(kept.keys() - {truncated, edited, lost}):
        assert path.read_bytes() == kept[path]
    assert json.loads(edited.read_bytes())["CLs_obs"] != 0.01
    assert folder.run(tiny.hypotest()).idle


def test_a_copied_folder_needs_no_fits(folder: Folder, tiny: TinyPallet) -> None:
    folder.run(tiny.hypotest())
    for path in folder.records():
        os.utime(path)
    assert folder.run(tiny.hypotest()).idle


def test_another_mu_fits_all_and_the_first_one_comes_back(folder: Folder, tiny: TinyPallet) -> None:
    folder.run(tiny.hypotest())
    first = tiny.record(tiny.names[0]).read_bytes()
    folder.config["fit"] = {"mu": 0.5}
    assert folder.run(tiny.hypotest()).fitted == tiny.names
    assert tiny.record(tiny.names[0]).read_bytes() != first
    del folder.config["fit"]
    assert folder.run(tiny.hypotest()).fitted == []
    assert tiny.record(tiny.names[0]).read_bytes() == first


def test_one_changed_patch_is_one_fit(folder: Folder, tiny: TinyPallet) -> None:
    folder.run(tiny.hypotest())
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
    run = folder.run()
    assert run.fitted == [name]
    for path, content in done.items():
        assert path == tiny.record(name) or path.read_bytes() == content


def test_failures_can_be_tolerated_or_known(folder: Folder, tiny: TinyPallet) -> None:
    broken = tiny.patches[1]
    name = broken["metadata"]["name"]
    broken["patch"][0]["value"]["modifiers"][0]["name"] = "not_the_poi"
    tiny.write()
    folder.config["on_failure"] = "continue"
    folder.run()
    results = json.loads((folder.path / "results/tiny/results.json").read_bytes())
    assert results[name]["status"] == "failed"
    assert "no parameter of interest" in results[name]["problem"]
    contour = json.loads((folder.path / "results/tiny/contour.json").read_bytes())
    assert contour["failed"] == [name]
    assert folder.run().idle  # what is wrong with the pallet stays wrong

    del folder.config["on_failure"]
    tiny.analysis["regions"]["SR"]["known_failures"] = {name: "it has no signal"}
    tiny.write()
    run = folder.run()
    assert run.fitted in ([], [name])


def test_kill_in_the_middle_loses_nothing(folder: Folder) -> None:
    folder.config["analyses"] = "demo"
    target = "results/demo/combined/hypotest.json"
    with (folder.path / "first.log").open("w") as log:
        first = subprocess.Popen(
            folder.command(target),
            cwd=folder.project,
            env=folder.environment(),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        _wait(lambda: len(folder.records()) >= 4 or first.poll() is not None, 120, folder)
        assert first.poll() is None, (folder.path / "first.log").read_text()
    finally:
        # Snakemake alone: nobody is left to tell its jobs and workers.
        first.send_signal(signal.SIGKILL)
        first.wait()
    before = {path: path.read_bytes() for path in folder.records()}
    run = folder.run(target)
    assert "nlock" not in run.output  # nothing about unlocking
    patches = json.loads((folder.path / target).read_bytes())["patches"]
    assert len(folder.records()) == len(patches) > len(before) >= 4
    for path, content in before.items():
        assert path.read_bytes() == content
    fitted = set(run.fitted)
    assert not fitted & {json.loads(content)["patch"] for content in before.values()}


def _wait(condition, seconds: float, folder: Folder) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail((folder.path / "first.log").read_text())
        time.sleep(0.1)


def test_two_analyses_side_by_side(folder: Folder, tiny: TinyPallet) -> None:
    other = TinyPallet(folder.path, "other", count=4)
    other.write()
    folder.config["analyses"] = [str(tiny.analysis_path), str(other.analysis_path)]
    targets = (tiny.hypotest(), other.hypotest())
    assert folder.run(*targets).fitted == sorted(tiny.names + other.names)
    other.patches[0]["patch"][0]["value"]["data"] = [1.0, 1.0]
    other.write()
    assert folder.run(*targets).fitted == [other.patches[0]["metadata"]["name"]]


def test_two_runs_at_once_in_one_folder(folder: Folder, tiny: TinyPallet) -> None:
    lock = folder.path / "results/.run.lock"
    lock.parent.mkdir()
    with lock.open("w") as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 1234 on elsewhere")
        file.flush()
        run = folder.run(succeeds=False)
    assert "Another run is at work in this folder: process 1234 on elsewhere" in run.output
    assert "remedy: Wait for it" in run.output
    assert run.fitted == []
    assert folder.run(tiny.hypotest()).fitted == tiny.names
