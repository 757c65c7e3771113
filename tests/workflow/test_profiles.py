"""What `make` does for people who run elsewhere: links to profiles, and endpoints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import Folder
from .pallets import TinyPallet

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

ENDPOINT = "11111111-2222-3333-4444-555555555555"


def make(project: Path, *arguments: str, succeeds: bool = True, **variables: str) -> str:
    done = subprocess.run(
        ["make", "--silent", *arguments],
        cwd=project,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode == 0) is succeeds, done.stdout
    return done.stdout


def test_a_profile_is_found_by_its_name(folder: Folder, tiny: TinyPallet) -> None:
    configuration = folder.path / "xdg"
    own = configuration / "snakemake" / "slurm"
    own.mkdir(parents=True)
    # Of another checkout, which is no longer there.
    (own.parent / "delta").symlink_to(folder.path / "gone")
    for _ in range(2):
        said = make(folder.project, "profiles", XDG_CONFIG_HOME=str(configuration))
        assert "snakemake --profile expanse" in said
        assert f"kept: {own} is your own" in said
    links = {path.name: path.resolve() for path in own.parent.iterdir()}
    profiles = folder.project / "profiles"
    assert links.pop("slurm") == own
    assert links == {
        path.name: path for path in profiles.iterdir() if path.is_dir() and path.name != "slurm"
    }
    folder.profile = "expanse"
    folder.variables = {"XDG_CONFIG_HOME": str(configuration), "PALLETFIT_ENDPOINT": ENDPOINT}
    output = folder.run("-n", tiny.hypotest()).output
    assert "Using profile expanse" in output
    assert "This was a dry-run" in output
    # A plan needs no endpoint, a run does; the profile's own file says that fits go to one.
    del folder.variables["PALLETFIT_ENDPOINT"]
    for target in (tiny.hypotest(), "submit"):
        output = folder.run("-n", target).output
        assert "Warning: no endpoint is named" in output
        assert "This was a dry-run" in output
    output = folder.run("submit", succeeds=False).output
    assert "There is no endpoint to fit on" in output
    assert "make endpoint SITE=expanse" in output
    assert "docs/remote.md" in output
    assert "Traceback" not in output
    assert not list(folder.path.glob("results/tiny/*"))  # nothing was begun


@pytest.fixture
def login(tmp_path: Path, project: Path) -> Path:
    """A checkout on a login node, whose environment is this one; pip only notes what it is asked.

    What pip would install is locked, and checked with the locks.
    """
    for name in ("Makefile", "envs", "profiles", "src", "pyproject.toml"):
        (tmp_path / name).symlink_to(project / name)
    python = tmp_path / ".venv-endpoint" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f"""#!/bin/sh
        if [ "$1 $2" = "-m pip" ]; then shift 2; echo "$@" >> {tmp_path}/pip; exit; fi
        exec {sys.executable} "$@"
        """
    )
    python.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "name", "requirements"),
    [
        (["SITE=expanse"], "palletfit-expanse", "profiles/expanse/endpoint/requirements.txt"),
        (["SITE=river", "VARIANT=condor"], "palletfit-river-condor", "envs/endpoint.txt"),
    ],
)
def test_an_endpoint_is_set_up_with_one_command(
    login: Path, arguments: list[str], name: str, requirements: str
) -> None:
    pytest.importorskip("globus_compute_endpoint")
    home = login / "home"
    variables = {"GLOBUS_COMPUTE_USER_DIR": str(home), "HOME": str(login), "PYTHONPATH": ""}
    (login / "pip").touch()
    # Twice: saying it again brings an endpoint up to date.
    for _ in range(2):
        said = make(login, "endpoint", *arguments, **variables)
        assert f"globus-compute-endpoint start {name}" in said
        template = home / name / "user_config_template.yaml.j2"
        site = arguments[0].removeprefix("SITE=")
        assert f"label: {site}" in template.read_text()
        template.write_text("outdated")
    assert (login / "pip").read_text().splitlines() == 2 * [
        f"install --quiet --require-hashes -r {requirements}",
        "install --quiet --no-deps --no-build-isolation -e .",
    ]
    environment = yaml.safe_load((home / name / "user_environment.yaml").read_text())
    assert environment["PALLETFIT_ENV"] == sys.prefix
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))


def test_what_a_login_node_needs_is_added_with_one_command(login: Path) -> None:
    environment = login / ".venv"
    (login / ".venv-endpoint").rename(environment)
    (environment / ".installed-workflow").write_text(f"{login}\n")
    (environment / ".installed-palletfit").touch()
    for _ in range(2):
        make(login, "clusters")
    (line,) = (login / "pip").read_text().splitlines()
    assert line.startswith("install")
    assert line.endswith("--no-deps --require-hashes -r envs/clusters.txt")


def test_a_site_that_is_not_there_is_said(login: Path) -> None:
    said = make(login, "endpoint", "SITE=expance", succeeds=False)
    assert "there is no folder profiles/expance/endpoint" in said
    assert "make endpoint SITE=expanse" in said
