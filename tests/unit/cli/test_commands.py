"""Each command: its numbers are the library's, as text and as JSON, and its plot is drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

import palletfit as library
from palletfit.planes.style import COLOURS

from .. import models

pytestmark = pytest.mark.usefixtures("files")

PATCHES = ("background.json", "--patchset", "patchset.json")


def document(result) -> dict:
    """The only JSON document on the standard output."""
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def entry(result) -> dict:
    (of_model,) = document(result)["results"]
    return of_model


def test_hypotest_of_a_complete_workspace(palletfit, likelihood) -> None:
    test = library.hypotest(likelihood["workspace"], mu=0.7).only
    plain = entry(palletfit("hypotest", "workspace.json", "--mu", "0.7", "--json"))
    assert plain["CLs_obs"] == pytest.approx(test.p_values.CLs_obs, abs=1e-12)
    assert plain["CLs_exp"] == pytest.approx(test.p_values.CLs_exp, abs=1e-12)
    assert (plain["patch"], plain["status"], plain["mu_hat"] > 0) == (None, "ok", True)
    text = palletfit("hypotest", "workspace.json", "--mu", "0.7").stdout
    assert text.splitlines()[0] == "CLs at mu = 0.7 (qtilde): workspace.json"
    assert f"CLs observed            {test.p_values.CLs_obs:#.4g}" in text


@pytest.mark.parametrize("words", [("counting.json.gz",), ("--background", "counting.json")])
def test_the_same_workspace_in_other_ways(palletfit, words) -> None:
    expected = entry(palletfit("hypotest", "counting.json", "--json"))
    assert entry(palletfit("hypotest", *words, "--json")) == expected


def test_a_workspace_from_the_standard_input(palletfit, files) -> None:
    expected = entry(palletfit("hypotest", "counting.json", "--json"))
    for name in ("counting.json", "counting.json.gz"):
        content = (files / name).read_bytes()
        assert entry(palletfit("hypotest", "-", "--json", input=content)) == expected
    result = palletfit("hypotest", "-", input=b"{")
    assert (result.exit_code, "file:   standard input" in result.stderr) == (2, True)


def test_an_hs3_document_is_a_workspace(palletfit, files) -> None:
    library.write_hs3(json.loads((files / "counting.json").read_text()), files / "hs3.json")
    expected = entry(palletfit("fit", "counting.json", "--json"))
    for words in (("hs3.json",), ("-",)):
        content = (files / "hs3.json").read_bytes()
        plain = entry(palletfit("fit", *words, "--json", input=content))
        assert plain["twice_nll"] == pytest.approx(expected["twice_nll"], abs=1e-8)


def test_patches_of_a_patchset(palletfit, likelihood) -> None:
    tests = library.hypotest(likelihood["background"], likelihood["patchset"])
    result = palletfit("hypotest", *PATCHES, "--json")
    entries = document(result)["results"]
    assert [plain["patch"] for plain in entries] == list(tests)
    for plain in entries:
        expected = tests[plain["patch"]].p_values.CLs_obs
        assert plain["CLs_obs"] == pytest.approx(expected, abs=1e-9)
    assert entries[0]["values"] == {"m1": 100, "m2": 50}
    chosen = palletfit("hypotest", *PATCHES, "--patch", "*_2*", "--patch", "signal_100_50")
    assert [line.split()[0] for line in chosen.stdout.splitlines()[2:]] == list(tests)[:2]


def test_operations_in_files(palletfit, files) -> None:
    (files / "other.json").write_bytes((files / "signal.json").read_bytes())
    expected = entry(palletfit("hypotest", *PATCHES, "--patch", "signal_100_50", "--json"))
    for words in (("--patch", "signal.json"), ("--patchset", "signal.json")):
        plain = entry(palletfit("hypotest", "background.json", *words, "--json"))
        assert plain["patch"] == "signal"
        assert plain["CLs_obs"] == pytest.approx(expected["CLs_obs"], abs=1e-9)
    both = ("--patch", "signal.json", "--patch", "other.json")
    result = document(palletfit("hypotest", "background.json", *both, "--json"))
    assert [plain["patch"] for plain in result["results"]] == ["signal", "other"]


def test_discovery(palletfit, likelihood) -> None:
    test = library.hypotest(likelihood["counting"], test_statistic="q0").only
    plain = entry(palletfit("hypotest", "counting.json", "--discovery", "--json"))
    assert plain["p0"] == pytest.approx(test.p_values.CLs_obs, abs=1e-12)
    assert plain["significance"] == pytest.approx(math.sqrt(test.p_values.q), abs=1e-9)
    assert "CLs_obs" not in plain
    assert "p0 observed" in palletfit("hypotest", "counting.json", "--discovery").stdout


def test_the_question_is_passed_on(palletfit, files, likelihood) -> None:
    question = ("--poi", "norm", "--fix", "scale=0.5", "--fix", "mu_SIG")
    result = document(palletfit("fit", "workspace.json", *question, "--json"))
    best = library.fit(likelihood["workspace"], poi="norm", fix={"scale": 0.5, "mu_SIG": None})
    assert result["results"][0]["parameters"] == pytest.approx(best.parameters, abs=1e-9)
    assert result["settings"]["fix"] == {"scale": 0.5, "mu_SIG": None}
    other = {**likelihood["workspace"], "measurements": []}
    other["measurements"] = [
        *likelihood["workspace"]["measurements"],
        {"name": "second", "config": {"poi": "norm", "parameters": []}},
    ]
    (files / "two.json").write_text(json.dumps(other), encoding="utf-8")
    plain = entry(palletfit("fit", "two.json", "--measurement", "second", "--mu", "1.1", "--json"))
    assert plain["parameters"]["norm"] == 1.1


def test_limit(palletfit, likelihood) -> None:
    limits = library.upper_limit(likelihood["counting"], tolerance=0.01)
    words = ("limit", "counting.json", "--tolerance", "0.01")
    plain = entry(palletfit(*words, "--json"))
    assert plain["mu_obs"] == pytest.approx(limits.observed.mu, abs=1e-9)
    assert plain["mu_exp"] == pytest.approx([limit.mu for limit in limits.expected], abs=1e-9)
    text = palletfit(*words).stdout
    assert text.startswith("Upper limits on mu at 95% CL: counting.json\n")
    assert f"{limits.observed.mu:#.4g}" in text


def test_a_limit_in_events(palletfit, likelihood) -> None:
    words = ("limit", "background.json", "--signal-in", "SR:2", "--tolerance", "0.01")
    result = palletfit(*words)
    limits = library.upper_limit(likelihood["background"], signal_in="SR:2", tolerance=0.01)
    assert result.stdout.startswith("Upper limits on events at 95% CL")
    assert f"{limits.observed.mu:#.4g}" in result.stdout


def test_the_yields_of_a_user(palletfit, likelihood) -> None:
    words = ("hypotest", "background.json", "--signal", "SR=1.0,2.5", "--uncertainty", "theory=0.2")
    plain = entry(palletfit(*words, "--json"))
    test = library.hypotest(
        likelihood["background"], signal={"SR": [1.0, 2.5]}, uncertainties={"theory": 0.2}
    ).only
    assert plain["CLs_obs"] == pytest.approx(test.p_values.CLs_obs, abs=1e-9)


def test_a_limit_beyond_the_bound_says_so(palletfit) -> None:
    result = palletfit("limit", "counting.json", "--mu-max", "0.01", "--tolerance", "0.01")
    assert "> 0.01" in result.stdout


def test_a_scan_shows_a_limit_beyond_the_bound(palletfit) -> None:
    words = ("scan", "counting.json", "--mu-max", "0.01", "--tolerance", "0.01", "--points", "3")
    lines = palletfit(*words).stdout.splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["limit", "observed", ">", "0.01"],
        ["limit", "expected", ">", "0.01"],
    ]


def test_titles_name_the_parameter_of_interest(palletfit) -> None:
    words = ("workspace.json", "--poi", "norm", "--mu", "1.1")
    signal = ("workspace.json", "--poi", "mu_SIG", "--mu", "1.1")
    titles = {
        ("hypotest", *signal): "CLs at mu_SIG = 1.1 (qtilde): workspace.json",
        ("fit", *words): "Best fit, norm = 1.1 fixed: workspace.json",
        ("gof", *words): "Goodness of fit in the saturated model, norm = 1.1 fixed: workspace.json",
        ("pulls", *words): "Pulls, norm = 1.1 fixed: workspace.json",
        ("toys", *signal, "--toys", "9"): "CLs at mu_SIG = 1.1 (qtilde) from 9 toys of each "
        "hypothesis: workspace.json",
    }
    for command, title in titles.items():
        assert palletfit(*command).stdout.splitlines()[0] == title


def test_scan(palletfit, likelihood) -> None:
    words = ("scan", "counting.json", "--points", "3", "--range", "0", "2", "--tolerance", "0.01")
    plain = entry(palletfit(*words, "--json"))
    assert plain["mu"] == [0.0, 1.0, 2.0]
    test = library.hypotest(likelihood["counting"]).only
    assert plain["CLs_obs"][1] == pytest.approx(test.p_values.CLs_obs, abs=1e-6)
    lines = palletfit(*words).stdout.splitlines()
    assert lines[-2].split()[:2] == ["1.000", f"{test.p_values.CLs_obs:#.4g}"]


def test_fit(palletfit, likelihood) -> None:
    best = library.fit(likelihood["workspace"])
    plain = entry(palletfit("fit", "workspace.json", "--json"))
    assert plain["twice_nll"] == pytest.approx(best.twice_nll, abs=1e-9)
    assert plain["parameters"] == pytest.approx(best.parameters, abs=1e-9)
    assert plain["errors"] == pytest.approx(best.errors, abs=1e-9)
    text = palletfit("fit", "workspace.json", "--mu", "0").stdout
    assert "mu_SIG" in text
    assert [line.split()[-1] for line in text.splitlines() if "mu_SIG" in line] == ["fixed"]


def test_fit_of_the_background_alone(palletfit, likelihood) -> None:
    best = library.fit(likelihood["background"], poi="")
    plain = entry(palletfit("fit", "background.json", "--poi", "", "--json"))
    assert plain["parameters"] == pytest.approx(best.parameters, abs=1e-9)


def test_pulls(palletfit, likelihood) -> None:
    pulls = library.pulls(likelihood["workspace"]).only
    plain = entry(palletfit("pulls", "workspace.json", "--json"))
    assert [p["name"] for p in plain["parameters"]] == [p.name for p in pulls.parameters]
    lines = palletfit("pulls", "workspace.json", "--top", "1").stdout.splitlines()
    largest = max((p for p in pulls.parameters if p.pull is not None), key=lambda p: abs(p.pull))
    assert lines[5].split()[:2] == [largest.name, f"{largest.pull:+.3f}"]
    assert [line.split()[1] for line in lines[6:]] == ["-", "-"]  # without a constraint


def test_impacts(palletfit, likelihood) -> None:
    diagnosed = library.diagnose(likelihood["workspace"]).only
    lines = palletfit("pulls", "workspace.json", "--impacts", "--top", "2").stdout.splitlines()
    assert [line.split()[0] for line in lines[5:]] == [
        impact.parameter for impact in diagnosed.impacts[:2]
    ]


def test_regions_and_blinded_data(palletfit, likelihood) -> None:
    words = ("fit", "workspace.json", "--channel", "S*", "--channel", "CR", "--mask", "SR[0]")
    result = document(palletfit(*words, "--blind", "SR", "--asimov", "0.5", "--json"))
    question = {"channels": ["S*", "CR"], "mask": {"SR": [0]}, "blind": ["SR"], "asimov": 0.5}
    best = library.fit(likelihood["workspace"], **question)
    assert result["settings"] == {"mu": None, **question}
    assert result["results"][0]["parameters"] == pytest.approx(best.parameters, abs=1e-9)
    text = palletfit(*words, "--asimov", "1").stdout
    assert text.startswith("Best fit: workspace.json, channels S* CR, Asimov data\n")
    assert "remark: blinded: the data are Asimov data" in text
    wrong = palletfit("fit", "workspace.json", "--blind", "SX")
    assert (wrong.exit_code, "(`--blind`)" in wrong.stderr) == (2, True)
    for mask in ("SR", "SR[]", "SR[a]", "[", ""):
        wrong = palletfit("fit", "workspace.json", "--mask", mask)
        assert (wrong.exit_code, "is not CHANNEL[BIN]" in wrong.stderr) == (2, True)


def test_yields(palletfit, likelihood, tmp_path: Path) -> None:
    tables = library.yields(likelihood["workspace"], channels=["CR"]).only
    words = ("yields", "workspace.json", "--channel", "CR")
    plain = entry(palletfit(*words, "--json"))
    assert plain["channels"][1]["postfit"]["model"]["total"] == pytest.approx(
        tables.channel("SR").postfit.model.total, abs=1e-9
    )
    csv, latex = tmp_path / "new" / "yields.csv", tmp_path / "new" / "yields.tex"
    text = palletfit(*words, "--csv", str(csv), "--latex", str(latex)).stdout
    assert text.splitlines()[-3].split()[-2:] == ["not", "fitted"]
    assert pd.read_csv(csv)["postfit"].tolist() == tables.to_dataframe()["postfit"].tolist()
    assert latex.read_text(encoding="utf-8") == tables.to_latex()
    group = ("--systematics", "--group", "both=s*", "--top", "1", "--csv", str(csv))
    text = palletfit("yields", *PATCHES, *group).stdout
    assert {*pd.read_csv(csv)["parameter"]} == {"both", "norm", "mu_SIG"}
    assert [*pd.read_csv(csv)["patch"].unique()] == [f"signal_{n}00_50" for n in (1, 2, 3)]
    for wrong in (("--group", "JES"), ("--bins", "--systematics"), ("--csv", str(tmp_path))):
        assert palletfit("yields", "workspace.json", *wrong).exit_code == 2


def test_likelihood(palletfit, likelihood) -> None:
    options = {"parameter": "scale", "range": (-1.0, 1.0), "points": 3, "levels": [0.5]}
    scan = library.likelihood_scan(likelihood["workspace"], **options).only
    words = ("likelihood", "workspace.json", "--parameter", "scale", "--range", "-1", "1")
    words = (*words, "--points", "3", "--level", "0.5")
    plain = entry(palletfit(*words, "--json"))
    assert plain["rises"] == pytest.approx(scan.rises, abs=1e-9)
    upper = scan.intervals[0].upper.value
    assert plain["intervals"][0]["upper"] == pytest.approx(upper, abs=1e-9)
    text = palletfit(*words).stdout
    assert text.splitlines()[0] == "Likelihood of scale: workspace.json"
    assert f" to {upper:#.4g}" in text


def test_contours(palletfit, likelihood) -> None:
    options = {"x": "mu_SIG", "y": "scale", "points": 4, "levels": [1.0]}
    contours = library.likelihood_contours(likelihood["workspace"], **options).only
    words = ("contours", "workspace.json", "--x", "mu_SIG", "--y", "scale", "--points", "4")
    plain = entry(palletfit(*words, "--level", "1", "--json"))
    (line,) = plain["contours"][0]["lines"]
    assert line["x"] == pytest.approx(contours.contours[0].lines[0].x, abs=1e-9)


def test_grouped_impacts(palletfit, likelihood) -> None:
    groups = {"both": ["norm", "sc*"]}
    impacts = library.grouped_impacts(likelihood["workspace"], groups=groups).only
    words = ("impacts", "workspace.json", "--group", "both=norm,sc*")
    plain = entry(palletfit(*words, "--json"))
    assert plain["groups"][0]["impact"]["error"] == impacts.group("both").impact.error
    assert "\n  both" in palletfit(*words).stdout
    assert "up" in palletfit(*words, "--asymmetric").stdout


@pytest.mark.parametrize("group", ["both", "=norm", "both=", "both=norm,,lumi"])
def test_a_group_has_a_name_and_patterns(palletfit, group: str) -> None:
    result = palletfit("impacts", "workspace.json", "--group", group)
    assert (result.exit_code, "is not NAME=PATTERN" in result.stderr) == (2, True)


def test_goodness_of_fit(palletfit, likelihood) -> None:
    goodness = library.goodness_of_fit(likelihood["background"], poi="", count=20).only
    words = ("gof", "background.json", "--poi", "", "--toys", "20")
    plain = entry(palletfit(*words, "--json"))
    assert plain["statistic"] == pytest.approx(goodness.statistic, abs=1e-9)
    assert plain["toys"]["p_value"] == goodness.toys.p_value
    assert "degrees of freedom           3" in palletfit(*words).stdout


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_a_fit_without_degrees_of_freedom_has_no_goodness(palletfit, engine: str) -> None:
    result = palletfit("gof", "counting.json", "--engine", engine)
    assert "degrees of freedom  0\n" in result.stdout
    assert "remark: there is no degree of freedom" in result.stdout


def test_toys(palletfit, likelihood) -> None:
    result = library.toys(likelihood["counting"], count=50, seed=3).only
    words = ("toys", "counting.json", "--toys", "50", "--seed", "3")
    plain = entry(palletfit(*words, "--json"))
    assert (plain["CLs_obs"], plain["toys"]) == (result.CLs_obs, 50)
    test = library.hypotest(likelihood["counting"]).only
    assert plain["asymptotic"] == pytest.approx(test.p_values.CLs_obs, abs=1e-9)
    texts = [palletfit(*words, *more).stdout for more in ((), ("--discovery",))]
    assert "p0 observed" in texts[1]
    assert [text.split("\n")[0] for text in texts] == [
        "CLs at mu = 1 (qtilde) from 50 toys of each hypothesis: counting.json",
        "p0 (q0) from 50 toys of each hypothesis: counting.json",
    ]


@pytest.mark.parametrize(
    "words",
    [
        # Those of names that look like formulas are drawn in test_output.py.
        ("limit", "background.json", "--signal-in", "SR:1", "--tolerance", "0.05"),
        ("pulls", "counting.json", "--impacts"),
        ("yields", "counting.json", "--mu", "1"),
        ("likelihood", "counting.json", "--points", "3"),
        ("contours", "workspace.json", "--x", "mu_SIG", "--y", "norm", "--points", "3"),
        ("impacts", "workspace.json"),
        ("gof", "counting.json", "--mu", "1", "--toys", "9"),
    ],
    ids=lambda words: "-".join(words[:1] + words[-1:]),
)
def test_plots(palletfit, words, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("palletfit.planes.style._DPI", 40)
    path = tmp_path / "new" / "plot.png"
    result = palletfit(*words, "--plot", str(path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_plot_of_bands_shows_the_numbers() -> None:
    from palletfit.products.limits.bands import draw_bands

    bands = {"a": (0.2, [0.01, 0.05, 0.1, 0.3, 0.6]), "b": (None, [None] * 5)}
    (figure,) = draw_bands(bands, "title; below", "CLs", 0.05)
    (axes,) = figure.axes
    boxes = {box.get_facecolor()[:3]: (box.get_x(), box.get_width()) for box in axes.patches}
    assert len(boxes) == 2
    assert (0.05, pytest.approx(0.25)) in boxes.values()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert COLOURS["failed"] in [line.get_color() for line in axes.lines]
    assert len(draw_bands({str(n): bands["a"] for n in range(41)}, "t", "CLs", None)) == 2


def test_published_workspaces(palletfit, shared, tmp_path: Path) -> None:
    import lzma

    path = shared / "workspaces" / "SUSY-2018-22-MB-SSd-simplified.json.xz"
    if not path.exists():
        pytest.skip(f"needs {path.name}")
    (tmp_path / "bkg.json").write_bytes(lzma.decompress(path.read_bytes()))
    assert "no signal" in palletfit("hypotest", str(tmp_path / "bkg.json")).stderr
    plain = entry(palletfit("gof", str(tmp_path / "bkg.json"), "--poi", "", "--json"))
    assert (plain["degrees"], plain["p_value"]) == (24, pytest.approx(0.84797, abs=1e-5))
    region = "SR_2_1000_10_cuts"
    words = ("hypotest", str(tmp_path / "bkg.json"), "--signal-in", region, "--json")
    plain = entry(palletfit(*words, "--mu", "20"))
    spec = json.loads((tmp_path / "bkg.json").read_text())
    for channel in spec["channels"]:
        if channel["name"] == region:
            channel["samples"].append(models.signal([1.0]))
    spec["measurements"][0]["config"]["parameters"].append(
        {"name": models.POI, "bounds": [[0.0, 1000.0]], "inits": [1.0]}
    )
    import pyhf

    model, data = models.model_and_data(spec)
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    assert plain["CLs_obs"] == pytest.approx(
        float(pyhf.infer.hypotest(20.0, data, model)), abs=1e-5
    )
