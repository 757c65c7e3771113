"""Tables for people, documents for programs, and exit codes."""

from __future__ import annotations

import json
from dataclasses import replace

import click
import pytest

from palletfit import api
from palletfit.cli.output import coloured, lines_of, number, width, with_error

from .. import models

pytestmark = pytest.mark.usefixtures("files")

PATCHES = ("hypotest", "background.json", "--patchset", "patchset.json")


@pytest.fixture
def broken(files, likelihood):
    """A patchset whose second patch does not apply."""
    patchset = json.loads(json.dumps(likelihood["patchset"]))
    patchset["patches"][1]["patch"][0]["path"] = "/channels/77/samples/-"
    (files / "patchset.json").write_text(json.dumps(patchset), encoding="utf-8")
    return files


def test_numbers() -> None:
    values = (0.0620712, 123456.7, 1.0, 0.0, 3e-12, 12, None, "ok")
    assert list(map(number, values)) == [
        *("0.06207", "1.235e+05", "1.000", "0.000", "3.000e-12", "12", "-", "ok")
    ]
    assert with_error(1.23456, 0.0123) == ("1.23456", "0.01230")
    assert with_error(-1e-21, 1.0) == ("-0.000", "1.000")
    assert with_error(5.0, 0.0) == ("5.000", "-")
    assert with_error(1234.5, 456.7) == ("1234.5", "456.7")


def test_columns_are_aligned() -> None:
    assert lines_of([["a", "1"], ["long", "22"]], ["name", "n"]) == "name   n\na      1\nlong  22"


def test_a_status_has_a_colour_unless_that_is_unwanted(monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured("ok") == "ok"
    assert coloured("failed") == click.style("failed", fg="red")
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("failed") == "failed"


def test_the_width_is_that_of_the_terminal(monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert width() == 120  # the output of a test is no terminal
    monkeypatch.setenv("COLUMNS", "77")
    assert width() == 77


def test_a_table_fits_into_the_terminal(palletfit, likelihood, monkeypatch) -> None:
    results = api.hypotest(likelihood["background"], likelihood["patchset"])
    monkeypatch.setattr(api, "hypotest", lambda **_: results)
    for columns in (60, 80, 100, 140):
        lines = palletfit(*PATCHES, env={"COLUMNS": str(columns)}).stdout.splitlines()
        table = lines[1:5]
        assert max(map(len, table)) <= columns
        titles = table[0].split()
        assert titles[:3] == ["patch", "CLs", "obs"]
        assert ("mu-hat" in titles) == (columns >= 100)
        assert any("no room here for" in line for line in lines) == (columns < 100)
        ends = {line.rindex(line.split()[1]) + len(line.split()[1]) for line in table[1:]}
        assert ends == {table[0].index("CLs obs") + len("CLs obs")}


def test_the_document_has_stable_keys(palletfit) -> None:
    words = ("hypotest", "counting.json", "--json")
    documents = [json.loads(palletfit(*words).stdout) for _ in range(2)]
    assert documents[0] == documents[1]  # no times in it
    content = documents[0]
    assert list(content) == ["command", "version", "status", "settings", "results"]
    assert (content["command"], content["status"]) == ("hypotest", "ok")
    assert content["settings"] == {"mu": 1.0, "test_statistic": "qtilde"}
    assert list(content["results"][0])[:4] == ["patch", "values", "status", "CLs_obs"]


@pytest.mark.usefixtures("broken")
def test_a_patch_that_fails_is_a_row(palletfit) -> None:
    result = palletfit(*PATCHES)
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("signal_200_50 ")]
    assert line.split()[-1] == "failed"
    assert "signal_200_50: The patch does not apply to the workspace" in result.stdout
    document = palletfit(*PATCHES, "--json")
    assert (document.exit_code, document.stderr) == (1, "")
    content = json.loads(document.stdout)
    assert content["status"] == "failed"
    statuses = [entry["status"] for entry in content["results"]]
    assert statuses == ["ok", "failed", "ok"]
    assert content["results"][1]["error"]["type"] == "PalletError"


def test_a_plot_has_the_patches_that_there_are(palletfit, broken, monkeypatch) -> None:
    monkeypatch.setattr("palletfit.planes.style._DPI", 40)
    result = palletfit(*PATCHES, "--plot", "x.pdf")
    assert result.exit_code == 1
    assert (broken / "x.pdf").read_bytes().startswith(b"%PDF")


def test_a_fit_that_is_not_trusted(palletfit, monkeypatch) -> None:
    """The exit code, the status and the reason say so."""
    hypotest = api.hypotest

    def doubted(*args: object, **options: object) -> object:
        results = hypotest(*args, **options)
        for name, result in results.items():
            fits = {**result.fits, "free": replace(result.fits["free"], trusted=False, reason="x")}
            results.results[name] = replace(result, fits=fits)
        return results

    monkeypatch.setattr(api, "hypotest", doubted)
    result = palletfit("hypotest", "counting.json")
    assert result.exit_code == 1
    assert "suspect" in result.stdout
    assert "remark: free fit: x" in result.stdout
    result = palletfit(*PATCHES)
    assert "signal_100_50, signal_200_50, signal_300_50: free fit: x" in result.stdout
    assert json.loads(palletfit("hypotest", "counting.json", "--json").stdout)["status"] == (
        "suspect"
    )


def test_a_fit_without_a_minimum_is_no_wrong_input(palletfit, files) -> None:
    path = files / "impossible.json"
    path.write_text(json.dumps(models.counting(10.0, 0.0, 5.0)), encoding="utf-8")
    result = palletfit("pulls", str(path), "--mu", "0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: The fit found no finite minimum")


def test_messages_are_shown_if_they_are_wanted(palletfit) -> None:
    quiet, verbose = palletfit(*PATCHES), palletfit(*PATCHES, "--verbose")
    assert (quiet.stderr, verbose.stdout) == ("", quiet.stdout)
    assert "hypotest: 3 of 3 patches, 0 failed" in verbose.stderr
