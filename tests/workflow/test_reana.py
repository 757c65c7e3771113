"""The files that other services read: reana.yaml, and that of the catalogue of workflows."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def specification() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "reana.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def command(specification) -> str:
    """The command of the only step, as REANA completes it."""
    (step,) = specification["workflow"]["specification"]["steps"]
    (command,) = step["commands"]
    return Template(command).substitute(specification["inputs"]["parameters"])


def test_parameters_are_those_of_the_command(specification):
    (step,) = specification["workflow"]["specification"]["steps"]
    used = set(re.findall(r"\$\{(.*?)\}", step["commands"][0]))
    assert used == set(specification["inputs"]["parameters"])


def test_environment_is_the_locked_one(command):
    assert "--require-hashes --requirement envs/workflow.txt" in command
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert f"python:{oldest[1]}\n" in (ROOT / "reana.yaml").read_text()


def test_uploaded_files_are_enough(specification, command, tmp_path):
    """Plan the run with nothing but what is uploaded."""
    for name in specification["inputs"]["files"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in specification["inputs"]["directories"]:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    words = shlex.split(command.rpartition(" && ")[2])
    assert words[0] == "snakemake"
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            *words[: words.index("--")],
            "--dry-run",
            *words[words.index("--") :],
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "demo/combined: fit all patches that have no result yet" in run.stdout + run.stderr


def test_file_of_the_workflow_catalogue():
    """By the rules of the catalogue: https://github.com/snakemake/snakemake-workflow-catalog."""
    path = ROOT / ".snakemake-workflow-catalog.yml"
    usage = yaml.safe_load(path.read_text(encoding="utf-8"))["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    profile = shlex.split(usage["mandatory-flags"]["flags"])
    assert profile[0] == "--profile"
    assert (ROOT / profile[1] / "profile.yaml").is_file()
    ways = usage["software-stack-deployment"]
    assert set(ways) == {"conda", "apptainer", "apptainer+conda", "report"}
    assert ways["conda"] == all(
        "conda:" in rule
        for file in ROOT.glob("rules/*.smk")
        for rule in re.split(r"^(?=rule )", file.read_text(), flags=re.MULTILINE)
        if re.match(r"rule .*^    script:", rule, re.DOTALL | re.MULTILINE)
    )
    assert not ways["apptainer"]  # no rule names a container
    # A workflow is listed if it has these.
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    assert (ROOT / "Snakefile").is_file()
    assert (ROOT / "config" / "README.md").is_file()
