"""``palletfit inspect``: its output, files and exit codes."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from palletfit.cli import main
from palletfit.config import load_analysis

from ..pallet.inspection.layouts import background, grid, patchset, source


@pytest.fixture
def archive(tmp_path):
    workspace = background()
    files = {"BkgOnly.json": workspace, "patchset.json": patchset(workspace, grid())}
    return source(tmp_path, "search.tar.gz", files)


def run(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_the_table(archive):
    result = run(archive)
    assert (result.exit_code, result.stderr) == (0, "")
    header, row = result.stdout.splitlines()[3:5]
    assert " ".join(header.split()) == (
        "likelihood channels bins parameters patches poi can be done"
    )
    assert row.split() == ["search", "1", "2", "3", "6", "mu_SIG", "workflow"]


def test_json_for_programs(archive, tmp_path):
    result = run(archive, "--json", "--write", tmp_path / "mine.yaml")
    content = json.loads(result.stdout)
    assert content["written"] == [str(tmp_path / "mine.yaml")]
    assert content["analyses"][0]["analysis"]["labels"] == ["m1", "m2"]
    assert content["likelihoods"][0] == {
        "name": "search",
        "channels": 1,
        "bins": 2,
        "parameters": 3,
        "patches": 6,
        "poi": "mu_SIG",
        "can_be_done": "workflow",
    }


def test_the_analysis_file_is_written_once(archive, tmp_path):
    target = tmp_path / "mine.yaml"
    result = run(archive, "--write", target, "--name", "mine")
    assert f"Written: {target}" in result.stdout
    analysis, _ = load_analysis(str(target), tmp_path)
    assert (analysis.name, analysis.pallet.path) == ("mine", archive)
    assert "path: search.tar.gz" in target.read_text()
    again = run(archive, "--write", target)
    assert again.exit_code == 2
    assert "error: The file exists" in again.stderr
    assert "remedy:" in again.stderr
    assert run(archive, "--write", target, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["none.tgz"], "There is no file or folder 'none.tgz'"),
        ([], "Missing argument 'SOURCE'"),
        (["10.17182/hepdata.1.v2/r3", "--offline"], "--offline forbids the network"),
        (["https://example.org/a.tgz"], "The host example.org:443 is not allowed"),
    ],
)
def test_bad_input(arguments, problem):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert problem in result.stderr
    assert result.stdout == ""


def test_a_file_that_is_no_likelihood(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    result = run(tmp_path / "a.txt")
    assert result.exit_code == 0
    assert "There is no likelihood in it" in result.stdout
    assert run(tmp_path / "a.txt", "--write", tmp_path / "a.yaml").exit_code == 2
