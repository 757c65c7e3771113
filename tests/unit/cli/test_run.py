"""The command that starts Snakemake: where it finds the workflow, and what it passes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from palletfit.cli import run


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the project's."""
    root = tmp_path / "project"
    for name in ("config/config.yaml", "profiles/local/profile.yaml", "Snakefile", "docs/index.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    monkeypatch.setattr(run, "_snakemake", lambda: ["snakemake"])
    return root


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Path]]:
    """Programs that are started instead, with their folders."""
    calls: list[tuple[list[str], Path]] = []

    class Process:
        code = 0

        def __init__(self, words: list[str], cwd: Path) -> None:
            calls.append((words, cwd))

        def wait(self) -> int:
            return self.code

    monkeypatch.setattr(subprocess, "Popen", Process)
    return calls


@pytest.mark.parametrize("folder", [".", "docs"])
def test_the_workflow_is_the_one_above(
    palletfit, checkout: Path, started: list, monkeypatch, folder: str
) -> None:
    monkeypatch.chdir(checkout / folder)
    result = palletfit("run")
    assert result.exit_code == 0
    ((words, cwd),) = started
    assert words == ["snakemake", "--profile", str(checkout / "profiles" / "local")]
    assert cwd == checkout
    assert (str(checkout) in result.stderr) == (folder != ".")


def test_what_is_passed_on(palletfit, checkout: Path, started: list) -> None:
    words = ("--analysis", "1Lbb", "--analysis", "staus", "--profile", "slurm")
    passed = ("limits", "mu_scan", "--dry-run", "--config", "a=1")
    palletfit("run", "--folder", str(checkout), *words, *passed)
    palletfit("run", "--folder", str(checkout), "--analysis", "1Lbb", "toys", "-n")
    profile = ["snakemake", "--profile"]
    assert started[0][0] == [
        *profile, "slurm",
        *("--dry-run", "--config", "analyses=1Lbb,staus", "a=1", "--", "limits", "mu_scan"),
    ]  # fmt: skip
    assert started[1][0] == [
        *profile, str(checkout / "profiles" / "local"),
        *("--config", "analyses=1Lbb", "-n", "--", "toys"),
    ]  # fmt: skip


def test_an_analysis_file_of_the_present_folder(
    palletfit, checkout: Path, started: list, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    palletfit("run", "--folder", str(checkout), "--analysis", "mine.yaml")
    assert started[0][0][-2:] == ["--config", f"analyses={tmp_path / 'mine.yaml'}"]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 1), (-2, 130), (130, 130)])
@pytest.mark.usefixtures("started")
def test_the_exit_code(palletfit, checkout: Path, monkeypatch, code, expected) -> None:
    monkeypatch.setattr(subprocess.Popen, "code", code)
    assert palletfit("run", "--folder", str(checkout)).exit_code == expected


@pytest.mark.usefixtures("started")
def test_an_interruption_waits_for_snakemake(palletfit, checkout: Path, monkeypatch) -> None:
    waits = []

    def wait(_: object) -> int:
        waits.append(1)
        if len(waits) == 1:
            raise KeyboardInterrupt
        return 1

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    assert palletfit("run", "--folder", str(checkout)).exit_code == 1
    assert len(waits) == 2


def test_without_the_workflow_it_says_how_to_get_it(palletfit, tmp_path: Path, monkeypatch) -> None:
    installed = tmp_path / "a" / "b" / "palletfit" / "__init__.py"
    monkeypatch.setattr("palletfit.__file__", str(installed))
    monkeypatch.chdir(tmp_path)
    for words in ((), ("--folder", str(tmp_path))):
        result = palletfit("run", *words)
        assert result.exit_code == 2
        assert f"no workflow in {tmp_path}" in result.stderr
        assert "make env" in result.stderr


def test_without_snakemake_it_says_how_to_get_it(palletfit, checkout: Path, monkeypatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(run.sys, "executable", "/nowhere/python")
    monkeypatch.setattr(run.shutil, "which", lambda _: None)
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    result = palletfit("run", "--folder", str(checkout))
    assert (result.exit_code, "needs Snakemake" in result.stderr) == (2, True)
    monkeypatch.setattr(run, "find_spec", lambda _: object())
    assert run._snakemake() == ["/nowhere/python", "-m", "snakemake"]
