"""The script that times the workflow."""

from __future__ import annotations

import json
import subprocess
import sys


def test_times_of_command_and_jobs(project, tmp_path):
    output = tmp_path / "times.json"
    target = "resources/pallets/demo.archive"
    script = project / "benchmarks" / "workflow.py"
    done = subprocess.run(
        [sys.executable, str(script), target, "--cores", "1", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads(output.read_text())["runs"]
    (job,) = run["jobs"]
    assert job["job"] == "demo/download_pallet"
    assert 0 < job["seconds"] < run["seconds"]
    assert f"| demo/download_pallet | {job['seconds']:.1f} |" in done.stdout


def test_failed_run_is_an_error_with_its_output(project, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("fit: {mu: -1}\n")
    script = project / "benchmarks" / "workflow.py"
    done = subprocess.run(
        [sys.executable, str(script), "--cores", "1", "--settings", str(settings)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "fit.mu" in done.stderr
