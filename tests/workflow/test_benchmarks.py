"""The script that times the workflow."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def script(project: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, whose runs may use compiled modules and caches that are there."""
    monkeypatch.syspath_prepend(str(project / "benchmarks"))
    module = importlib.import_module("workflow")
    environment = module._environment(Path("new"))
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "PYTHONPYCACHEPREFIX"):
        assert environment.pop(name).startswith("new/")
    monkeypatch.setattr(module, "_environment", lambda _: environment)
    return module


def measure(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["workflow.py", *arguments, "--cores", "1"])
    script.main()


def test_times_of_command_and_jobs(script, tmp_path, monkeypatch, capsys):
    output = tmp_path / "times.json"
    measure(script, monkeypatch, "resources/pallets/demo.archive", "--output", str(output))
    (run,) = json.loads(output.read_text())["runs"]
    (job,) = run["jobs"]
    assert job["job"] == "demo/download_pallet"
    assert 0 < job["seconds"] < run["seconds"]
    assert f"| demo/download_pallet | {job['seconds']:.1f} |" in capsys.readouterr().out


def test_failed_run_is_an_error_with_its_output(script, tmp_path, monkeypatch):
    settings = tmp_path / "settings.yaml"
    settings.write_text("fit: {mu: -1}\n")
    with pytest.raises(SystemExit, match=r"fit\.mu[^$]*The run failed"):
        measure(script, monkeypatch, "--settings", str(settings))
