"""Bad input of all kinds: an error with a remedy, no traceback, exit code 2."""

from __future__ import annotations

import json

import pytest

HYPOTEST = ("hypotest", "workspace.json")
PATCHES = ("hypotest", "background.json", "--patchset", "patchset.json")


@pytest.fixture
def bad(files, likelihood):
    """Files that are not what they should be."""
    content = (files / "workspace.json").read_text()
    packed = (files / "counting.json.gz").read_bytes()
    wrong = json.loads((files / "signal.json").read_text())
    wrong[0]["path"] = "/channels/77/samples/-"
    texts = {
        "text.json": "hello",
        "empty.json": "",
        "cut.json": content[: len(content) // 2],
        "other.json": '{"a": 1}',
        "nan.json": content.replace("60.0", "NaN"),
        "deep.json": "[" * 200 + "]" * 200,
        "wrong_patch.json": json.dumps(wrong),
        "inconsistent.json": content.replace("[58.0, 45.0]", "[58.0]"),
        "no_poi.json": content.replace('"poi": "mu_SIG"', '"poi": ""'),
        "no_measurement.json": json.dumps({**likelihood["workspace"], "measurements": []}),
    }
    for name, text in texts.items():
        (files / name).write_text(text, encoding="utf-8")
    (files / "cut.json.gz").write_bytes(packed[: len(packed) // 2])
    (files / "folder").mkdir()
    return files


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (("hypotest", "missing.json"), "No such file", "Check its path"),
        (("hypotest", "folder"), "Is a directory", "Check its path"),
        (("hypotest", "text.json"), "not JSON", "Fetch it again"),
        (("hypotest", "empty.json"), "not JSON", "Fetch it again"),
        (("hypotest", "cut.json"), "not JSON", "Fetch it again"),
        (("hypotest", "cut.json.gz"), "compressed file is damaged", "Fetch it again"),
        (("hypotest", "deep.json"), "nests too deeply", ""),
        (("hypotest", "other.json"), "violates pyhf's schema", ""),
        (("hypotest", "nan.json"), "not finite: /channels/0/samples/0/data/0", "Correct"),
        (("hypotest", "inconsistent.json"), "inconsistent", "Correct"),
        (("hypotest", "patchset.json"), "is a patchset", "this file as the patchset"),
        (("hypotest", "signal.json"), "operations of a patch", "this file as the patch"),
        (("hypotest", "background.json"), "has no signal", "`--signal-in`"),
        (("hypotest", "no_poi.json"), "names no parameter of interest", "`--poi`"),
        (("hypotest", "no_measurement.json"), "measurement", ""),
        (("hypotest", "background.json", "--patch", "missing.json"), "No such file", ""),
        (("hypotest", "background.json", "--patch", "patchset.json"), "no operations", "--patch"),
        (("hypotest", "background.json", "--patchset", "other.json"), "not a patchset", ""),
        (("hypotest", "patchset.json", "--patchset", "background.json"), "is a patchset", "first"),
        (
            ("hypotest", "patchset.json", "--no-check", "--patchset", "background.json"),
            *("is a patchset", "first"),
        ),
        (("hypotest", "background.json", "--patchset", "workspace.json"), "is a workspace", ""),
        (
            ("hypotest", "workspace.json", "--patchset", "patchset.json"),
            "another workspace",
            "`--no-check`",
        ),
        ((*PATCHES, "--patch", "signal_100_5"), "'signal_100_5'", "Did you mean 'signal_100_50'"),
        ((*HYPOTEST, "--poi", "mu_sig"), "no parameter 'mu_sig'", "Did you mean 'mu_SIG'"),
        ((*HYPOTEST, "--poi", "scale"), "no normfactor", "'mu_SIG', 'norm'"),
        ((*HYPOTEST, "--poi", ""), "needs a parameter of interest", "`--poi`"),
        ((*HYPOTEST, "--measurement", "fut"), "no measurement 'fut'", "Did you mean 'fit'"),
        ((*HYPOTEST, "--fix", "mu_SIG=1"), "cannot be fixed", "`--mu`"),
        ((*HYPOTEST, "--fix", "scal=1"), "no parameter 'scal'", "Did you mean 'scale'"),
        ((*HYPOTEST, "--fix", "scale=x"), "Invalid value for '--fix': 'x'", "hypotest --help"),
        ((*HYPOTEST, "--fix", "scale=nan"), "Invalid value for '--fix': nan is not a finite", ""),
        ((*HYPOTEST, "--fix"), "'--fix' requires an argument", "palletfit hypotest --help"),
        ((*HYPOTEST, "--fix", "scale=9"), "outside of its bounds", ""),
        ((*HYPOTEST, "--signal-in", "S"), "no channel 'S'", "'CR', 'SR'"),
        ((*HYPOTEST, "--signal", "SR=1"), "1 yields in the channel 'SR'", "each bin"),
        ((*HYPOTEST, "--uncertainty", "theory=0.1"), "`--uncertainty`", "`--signal`"),
        ((*HYPOTEST, "--signal", "SR=1,2", "--signal", "SR=3,4"), "'SR' is there twice", ""),
        ((*HYPOTEST, "--signal-in", "SR:3"), "no bin 3", "its last one is 2"),
        ((*HYPOTEST, "--mu", "-1"), "not in the range", "--help"),
        ((*HYPOTEST, "--mu", "nan"), "finite number", ""),
        ((*HYPOTEST, "--mu", "50"), "outside the bounds [0, 10]", "`--mu`"),
        ((*HYPOTEST, "--plot", "x.jpg"), "cannot be written", ".png or .pdf"),
        ((*HYPOTEST, "--plot", "workspace.json/x.png"), "cannot be written", "another file"),
        ((*HYPOTEST, "--plot", "/dev/null/x.png"), "cannot be written", "another file"),
        ((*HYPOTEST, "--discovery", "--mu", "2"), "leave out --mu", "--help"),
        (("toys", "workspace.json", "--discovery", "--mu", "2"), "leave out --mu", "--help"),
        ((*HYPOTEST, "--discovery", "--test-statistic", "q"), "of its own", "--help"),
        ((*HYPOTEST, "--nope"), "No such option: --nope", "--help"),
        ((*HYPOTEST, "more"), "unexpected extra argument", "--help"),
        ((*HYPOTEST, "--background", "b.json"), "give one of them", "--help"),
        (("hypotest",), "no WORKSPACE", "--help"),
        (("limit", "workspace.json", "--tolerance", "5"), "'--tolerance': 5", "limit --help"),
        (("limit", "workspace.json", "--level", "nan"), "'--level': nan is not a finite", "--help"),
        (("limit", "workspace.json", "--mu-max", "inf"), "'--mu-max': inf is not a finite", ""),
        (("scan", "workspace.json", "--range", "0", "inf"), "'--range': inf is not", "--help"),
        (("fit", "workspace.json", "--mu", "nan"), "'--mu': nan is not a finite", "--help"),
        (("fit", "workspace.json", "--show", "mu_sig"), "Did you mean 'mu_SIG'", "fit --help"),
        (("limit", "workspace.json", "--level", "2"), "not in the range", "--help"),
        (
            ("scan", "workspace.json", "--range", "3", "1"),
            "Invalid value for '--range': The range must rise",
            "--help",
        ),
        (("fit", "background.json", "--poi", "", "--mu", "1"), "could be fixed at 1", "`--poi`"),
        (("pulls", "workspace.json", "--impacts", "--mu", "1"), "leave out --mu", "--help"),
        (("pulls", "background.json", "--poi", "", "--impacts"), "parameter of interest", ""),
        (("gof", "workspace.json", "--toys", "9", "--engine", "reference"), "makes no toys", ""),
        (("toys", "workspace.json", "--toys", "9", "--discovery", "--test-statistic", "q"), "", ""),
        (("limt",), "No such command 'limt'. Did you mean 'limit'?", "palletfit --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("bad")
def test_it_is_said_what_is_wrong(palletfit, words, problem, remedy) -> None:
    result = palletfit(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert problem in result.stderr
    assert remedy in result.stderr.partition("  remedy: ")[2]
    assert "Traceback" not in result.stderr


def test_a_plot_without_matplotlib(palletfit, files, monkeypatch) -> None:
    monkeypatch.setattr("palletfit.cli.output.find_spec", lambda _: None)
    result = palletfit(*HYPOTEST, "--plot", "x.png")
    assert (result.exit_code, "pip install matplotlib" in result.stderr) == (2, True)
    assert not (files / "x.png").exists()


def test_a_plot_in_a_folder_that_is_no_folder_costs_no_fit(palletfit, bad, monkeypatch) -> None:
    monkeypatch.setattr("palletfit.hypotest", None)
    for path in (bad / "text.json" / "x.png", bad / "text.json" / "new" / "x.png"):
        assert palletfit(*HYPOTEST, "--plot", str(path)).exit_code == 2


@pytest.mark.usefixtures("bad")
def test_a_patch_that_fails_alone_fails_as_in_a_set(palletfit) -> None:
    words = ("hypotest", "background.json", "--patch", "wrong_patch.json")
    result = palletfit(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not apply" in result.stderr
    assert "digest" in result.stderr.partition("  remedy: ")[2]
    both = json.loads(palletfit(*words, "--patch", "signal.json", "--json").stdout)
    alone = palletfit(*words, "--json")
    assert (alone.exit_code, alone.stderr) == (1, "")
    assert json.loads(alone.stdout)["results"] == both["results"][:1]
    assert both["results"][0]["error"]["type"] == "PalletError"


def test_two_files_of_one_name(palletfit, files) -> None:
    (files / "more").mkdir()
    (files / "more" / "signal.json").write_bytes((files / "signal.json").read_bytes())
    words = ("--patch", "signal.json", "--patch", "more/signal.json")
    result = palletfit("hypotest", "background.json", *words)
    assert (result.exit_code, "Two files of patches" in result.stderr) == (2, True)
