"""Tables for people, documents for programs, and exit codes."""

from __future__ import annotations

import json
from dataclasses import replace

import click
import pytest

from palletfit import api
from palletfit.cli.output import Output, coloured, lines_of, number, width, with_error
from palletfit.core.text import columns_of

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


#: Escape sequence, a bell, an end of a line, a mark that turns the direction of writing.
HOSTILE = "a\x1b[31m\x07\n\u202e$\\b"


def renamed(files, likelihood, *names: str) -> None:
    patchset = json.loads(json.dumps(likelihood["patchset"]))
    for patch, name in zip(patchset["patches"], names, strict=False):
        patch["metadata"]["name"] = name
    (files / "patchset.json").write_text(json.dumps(patchset), encoding="utf-8")


def test_nothing_from_a_file_controls_the_terminal(palletfit, files, likelihood) -> None:
    renamed(files, likelihood, HOSTILE)
    text = (files / "workspace.json").read_text(encoding="utf-8")
    workspace = text.replace('"scale"', json.dumps(HOSTILE))
    (files / f"{HOSTILE}.json").write_text(workspace, encoding="utf-8")
    outputs = [
        palletfit(*PATCHES),
        palletfit(*PATCHES, "--patch", "a*"),
        palletfit("fit", f"{HOSTILE}.json"),
        palletfit("fit", f"{HOSTILE}.json", "--measurement", HOSTILE),
        palletfit("fit", f"{HOSTILE}.json", "--mu", HOSTILE),
        palletfit("fit", f"{HOSTILE}.nothing"),
        palletfit("pulls", f"{HOSTILE}.json", "--impacts"),
    ]
    for result in outputs:
        lines = f"{result.stdout}{result.stderr}".splitlines()
        assert all(line.isprintable() for line in lines), lines
    assert "a?[31m???$\\b.json" in outputs[2].stdout


@pytest.mark.parametrize(
    "words",
    [
        ("hypotest", "--patchset", "patchset.json"),
        ("toys", "--patchset", "patchset.json", "--patch", "a*", "--toys", "9"),
        (
            *("scan", "--patchset", "patchset.json", "--patch", "a*"),
            *("--points", "3", "--tolerance", "0.1"),
        ),
        ("fit", "--patchset", "patchset.json", "--patch", "a*"),
        ("pulls", "--patchset", "patchset.json", "--patch", "a*"),
    ],
    ids=lambda words: words[0],
)
def test_names_in_a_plot_are_no_formulas(palletfit, files, likelihood, monkeypatch, words) -> None:
    monkeypatch.setattr("palletfit.planes.style._DPI", 40)
    renamed(files, likelihood, f"{HOSTILE}$", "x")
    (files / "$\\b$;.json").write_bytes((files / "background.json").read_bytes())
    result = palletfit(words[0], "$\\b$;.json", *words[1:], "--plot", "new/x.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (files / "new" / "x.png").read_bytes().startswith(b"\x89PNG")


def test_wide_characters_count_two_columns(palletfit, files, likelihood) -> None:
    renamed(files, likelihood, "\u4fe1\u53f7", "abcd", "e\u0301")
    lines = palletfit(*PATCHES).stdout.splitlines()[1:5]
    assert len({columns_of(line) for line in lines}) == 1


def test_a_long_name_leaves_room_for_numbers(palletfit, files, likelihood) -> None:
    renamed(files, likelihood, f"first_{'x' * 200}_last")
    for columns in (60, 80, 120):
        lines = palletfit(*PATCHES, env={"COLUMNS": str(columns)}).stdout.splitlines()
        assert max(map(len, lines)) <= columns
        assert lines[2].startswith("first_")
        assert "_last " in lines[2]
        assert lines[2].endswith(" ok")


def test_further_tables_fit_into_the_terminal(palletfit) -> None:
    for words in (
        ("pulls", "workspace.json", "--impacts"),
        ("scan", "counting.json", "--points", "3", "--tolerance", "0.1"),
    ):
        lines = palletfit(*words, env={"COLUMNS": "50"}).stdout.splitlines()
        assert max(map(len, lines[1:])) <= 50  # below the title
        assert "no room here for" in "".join(lines)


def test_remarks_have_a_least_width(palletfit) -> None:
    result = palletfit("gof", "counting.json", env={"COLUMNS": "5"})
    assert "remark: there is no degree of freedom,\n" in result.stdout


def test_a_number_that_is_not_finite_is_null(capsys) -> None:
    Output().document("x", {"a": float("nan")}, [{"status": "ok", "b": [float("inf"), 1.0]}])
    content = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (content["settings"], content["results"][0]["b"]) == ({"a": None}, [None, 1.0])


def test_a_plot_of_failed_patches_alone_is_no_wrong_input(palletfit, broken) -> None:
    result = palletfit(*PATCHES, "--patch", "signal_200_50", "--plot", "x.png")
    assert (result.exit_code, "could be drawn" in result.stderr) == (1, True)
    assert not (broken / "x.png").exists()


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
