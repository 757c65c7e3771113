"""The command that compares a network with exact fits."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("onnx")

from ..learned import networks  # needs onnx

NAMES = ("nll_obs_0", "nll_obs_1", "nllA_obs_0", "nllA_obs_1")
CONVENTIONS = (
    *("--inputs", "SR,CR", "--yields", "signal"),
    *("--outputs", "nll_obs_0=0,nll_obs_1=1", "--outputs", "nllA_obs_0=2,nllA_obs_1=3"),
)
FILES = ("referee", "network.onnx", "BkgOnly.json")
PATCHES = (*FILES, "--patchset", "patchset.json")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of a network that takes six events for two more than there are."""
    signals = {"small": [3.0, 2.0, 0.5], "wrong": [12.0, 4.0, 0.0], "large": [40.0, 9.0, 2.0]}
    networks.save(networks.counting(NAMES, change={(0, "nll_obs_1"): 6.0}), tmp_path)
    networks.save(networks.smodels(), tmp_path, "smodels.onnx")
    for name, content in (
        ("BkgOnly", networks.workspace()),
        ("patchset", networks.patchset(signals)),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_report(palletfit, folder):
    result = palletfit(*PATCHES, *CONVENTIONS, "--csv", "all.csv")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["Learned likelihood: network.onnx, BkgOnly.json", "3 points, 3 compared"]
    (excluded,) = (line for line in lines if "wrongly excluded" in line and "33.3%" in line)
    assert excluded.split() == ["wrongly", "excluded", "1", "33.3%", "wrong"]
    with (folder / "all.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["right", "wrongly excluded", "right"]
    assert float(rows[1]["SR[0]"]) == 12.0


def test_a_plot_of_a_network_whose_name_is_a_wrong_formula(palletfit, folder):
    """The legend has the name, not as a formula."""
    (folder / "network.onnx").rename(folder / "$\\frac{$.onnx")
    words = ("referee", "$\\frac{$.onnx", *PATCHES[2:], *CONVENTIONS[:4])
    result = palletfit(*words, "--outputs", "nll_obs_1=1", "--plot", "errors.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Learned likelihood: $\\frac{$.onnx, BkgOnly.json")
    assert (folder / "errors.png").stat().st_size > 10_000


@pytest.mark.usefixtures("folder")
def test_json_has_a_summary_and_all_points(palletfit):
    result = palletfit(*PATCHES, *CONVENTIONS, "--json")
    content = json.loads(result.stdout)
    assert (content["command"], content["status"]) == ("referee", "ok")
    wrong = content["summary"]["verdicts"]["CLs_obs"]["wrongly_excluded"]
    assert wrong["names"] == ["wrong"]
    assert [entry["patch"] for entry in content["results"]] == ["small", "wrong", "large"]
    assert content["results"][0]["yields"] == {"SR[0]": 3.0, "SR[1]": 2.0, "CR[0]": 0.5}


@pytest.mark.usefixtures("folder")
def test_a_network_of_smodels_needs_no_options(palletfit):
    result = palletfit("referee", "smodels.onnx", *PATCHES[2:])
    assert result.exit_code == 0
    assert "wrongly excluded       0     0%" in result.stdout


def test_conventions_of_a_file_and_random_points(palletfit, folder):
    content = "inputs: [SR, CR]\nyields: signal\noutputs: {nll_obs_1: 1}\n"
    (folder / "mine.yaml").write_text(content, encoding="utf-8")
    drawn = (*FILES, "--random", "5", "--range", "0,9", "--range", "CR=0,1")
    result = palletfit(*drawn, "--conventions", "mine.yaml")
    assert result.exit_code == 0
    assert "5 points, 5 compared" in result.stdout
    assert "no observed CLs of the network" in result.stdout


def test_a_point_without_a_number_is_a_code_of_its_own(palletfit, folder):
    table = "name,SR[0],SR[1],CR[0]\ngood,3,2,1\nbad,-51,2,1\n"
    (folder / "points.csv").write_text(table, encoding="utf-8")
    result = palletfit(*FILES, "--points", "points.csv", *CONVENTIONS)
    assert result.exit_code == 1
    assert "2 points, 1 compared, 1 failed" in result.stdout
    assert "bad is failed: " in result.stdout


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (PATCHES, "which bins its 3 inputs are", "with `--inputs`"),
        ((*PATCHES, *CONVENTIONS[:2]), "which NLLs its 4 outputs", "with `--outputs`"),
        ((*PATCHES, *CONVENTIONS[:2], *CONVENTIONS[4:]), "signal, or of background", "`--yields`"),
        ((*FILES, "--random", "3", *CONVENTIONS), "between which yields", "`--range`"),
        ((*PATCHES, "--random", "3", *CONVENTIONS), "several sources", "only one"),
        (
            (*PATCHES, "--range", "0,3", *CONVENTIONS),
            "`--range` is of signals that are drawn",
            "`--random`",
        ),
        ((*FILES, "--random", "3", "--range", "3", *CONVENTIONS), "is not LOW,HIGH", ""),
        ((*FILES, "--random", "3", "--range", "3,1", *CONVENTIONS), "is empty", ""),
        ((*PATCHES, "--outputs", "nll_obs_1"), "is not NLL=COLUMN", ""),
        ((*PATCHES, "--conventions", "BkgOnly.jso"), "Cannot read the file", "Check its path"),
        (("referee", "BkgOnly.json", "BkgOnly.json"), "has no signal", ""),
        (("referee", "BkgOnly.json", *PATCHES[2:]), "no ONNX file", "workspace comes after"),
        ((*FILES, "--points", "missing.csv", *CONVENTIONS), "Cannot read", ""),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_input(palletfit, words, problem, remedy):
    result = palletfit(*words)
    assert result.exit_code == 2
    written = " ".join(result.stderr.split())
    assert problem in written
    assert remedy in written
