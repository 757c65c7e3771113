"""`make` in folders whose names Snakemake or Python cannot take in paths of an environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

#: An interpreter whose environments are empty, and whose pip does nothing but the editable link.
PYTHON = """#!/bin/sh
case "$1 $2" in
    "-m venv")
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp {snakemake} "$3/bin/snakemake"
        exit;;
    "-m pip")
        case "$*" in *" -e ."*)
            packages="$(dirname "$(dirname "$0")")/lib/python3.11/site-packages"
            mkdir -p "$packages"; echo "$PWD/src" > "$packages/_palletfit.pth";;
        esac
        exit;;
    "-W ignore") exit;;
esac
exec {python} "$@"
"""


@pytest.fixture
def make(tmp_path, project):
    """Run make in a copy of the checkout with a name, and return what it prints."""
    snakemake, python = tmp_path / "snakemake", tmp_path / "python"
    snakemake.write_text('#!/bin/sh\necho "runs in $0"\n')
    python.write_text(PYTHON.format(python=sys.executable, snakemake=snakemake))
    for program in (snakemake, python):
        program.chmod(0o755)

    def run(name: str, *arguments: str, succeeds: bool = True, cache: str = "cache") -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file in ("Makefile", "envs", "profiles", "src", "pyproject.toml"):
            if not (folder / file).exists():
                (folder / file).symlink_to(project / file)
        done = subprocess.run(
            ["make", *arguments, f"PYTHON={python}"],
            cwd=folder,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / cache), "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode == 0) is succeeds, done.stdout
        return done.stdout

    return run


def environment(said: str) -> Path:
    """Path of the environment in which Snakemake was run."""
    (line,) = [line for line in said.splitlines() if line.startswith("runs in ")]
    return Path(line.removeprefix("runs in ")).parents[1]


@pytest.mark.parametrize("name", ["with space", "prüfung", "it's ($HOME)"])
def test_the_environment_has_a_plain_path(make, tmp_path, name):
    said = make(name, "run")
    assert "because this folder's name has characters" in said
    place = environment(said)
    assert place.is_relative_to(tmp_path / "cache" / "palletfit" / "environments")
    link = tmp_path / name / ".venv"
    assert link.resolve() == place.resolve()
    # No Python of it reads the folder's name, which LC_ALL=C could not decode.
    (file,) = place.glob("lib/python3.11/site-packages/*.pth")
    assert (file.parent / file.read_text().strip()).resolve() == (tmp_path / name / "src").resolve()
    assert file.read_text().isascii()
    # It is there now, and goes with the rest.
    assert environment(make(name, "run")) == place
    assert "Making" not in make(name, "run")
    make(name, "clean")
    assert not place.exists()
    assert not link.is_symlink()


def test_two_checkouts_have_environments_of_their_own(make):
    assert environment(make("one ü", "run")) != environment(make("two ü", "run"))


def test_steps_of_a_set_up_are_shown_and_a_plain_folder_keeps_its_environment(make, tmp_path):
    said = make("plain", "run")
    for step in ("- 1 of 3: an empty environment", "- 2 of 3: ", "- 3 of 3: compiling"):
        assert step in said
    assert environment(said) == tmp_path / "plain" / ".venv"
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_is_no_better_is_said_before_anything_is_installed(make, tmp_path):
    said = make("with space", "run", succeeds=False, cache="my cache")
    assert "has spaces or letters beyond ASCII" in said
    assert "remedy: say XDG_CACHE_HOME=" in said
    assert not (tmp_path / "my cache").exists()
    assert not (tmp_path / "with space" / ".venv").exists()


def test_an_endpoint_is_refused_there(make):
    said = make("with space", "endpoint", "SITE=expanse", succeeds=False)
    assert "the path of this folder has spaces" in said
