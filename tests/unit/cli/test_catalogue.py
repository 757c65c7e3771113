"""``palletfit catalogue``: the list, one likelihood in full, JSON, and words that fit nothing."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from palletfit.config.catalogue import STATES, catalogue


def test_the_list_has_all_and_counts_the_states(palletfit) -> None:
    result = palletfit("catalogue")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = result.stdout.partition("\n\n")[0].splitlines()
    assert rows[0].split() == ["name", "state", "experiment", "format", "analysis", "title"]
    assert [row.split()[0] for row in rows[1:]] == list(catalogue())
    numbers = [sum(entry.state == key for entry in catalogue().values()) for key in STATES]
    text = " ".join(result.stdout.split())
    for number, (state, meaning) in zip(numbers, STATES.items(), strict=True):
        assert f"{number} {state}: {meaning}" in text


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_the_list_fits_the_terminal(palletfit, columns: int) -> None:
    result = palletfit("catalogue", env={"COLUMNS": str(columns)})
    header, *lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= max(columns, 70)
    assert ("analysis" in header) == (columns >= 110)
    assert header.split()[:2] == ["name", "state"]


def test_words_and_options_choose(palletfit) -> None:
    result = palletfit("catalogue", "two", "leptons")
    names = [row.split()[0] for row in result.stdout.partition("\n\n")[0].splitlines()[1:]]
    assert names == ["2L0J", "2Ljets", "4top"]
    result = palletfit("catalogue", "--experiment", "cms", "--state", "foreign")
    assert result.stdout.startswith("CMS-Higgs-observation: ")


def test_one_in_full(palletfit) -> None:
    lines = palletfit("catalogue", "ins1765529", env={"COLUMNS": "100"}).stdout.splitlines()
    assert lines[0] == "staus: pairs of staus, two hadronic taus (ATLAS)"
    facts = dict(re.findall(r"^  (\S[\w ]*?)  +(\S.*)$", "\n".join(lines), re.MULTILINE))
    assert facts["likelihood"] == "10.17182/hepdata.92006.v2/r2"
    assert facts["labels"] == "mst, mn2"
    assert facts["state"].startswith("fitted: all of its signal points were fitted")
    assert lines[-3:] == [
        "Next:",
        "  palletfit inspect staus",
        "  snakemake --profile profiles/local --config pallet=staus",
    ]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("RPV-1L", "look for the likelihood among the resources of https://doi.org/10.17182"),
        ("CMS-Higgs-observation", "convert it with its own program"),
        ("ttZ", "palletfit inspect ttZ"),
        ("HHH-6b", "snakemake --profile profiles/local --config pallet=HHH-6b"),
    ],
)
def test_what_comes_next(palletfit, name: str, line: str) -> None:
    assert f"\n  {line}" in palletfit("catalogue", name).stdout.partition("Next:")[2]


def test_json_for_programs(palletfit) -> None:
    content = json.loads(palletfit("catalogue", "--state", "fitted", "--json").stdout)
    assert content["states"] == STATES
    assert [entry["name"] for entry in content["likelihoods"]] == [
        *("1Lbb", "staus", "sbottom", "3L-RJ")
    ]
    assert content["likelihoods"][2]["planes"][0] == {"x": "msb", "y": "mn2", "select": "mn1 == 60"}


def test_the_list_for_hepdata(palletfit, project) -> None:
    address = "https://example.org/config/analyses/{name}.yaml"
    content = json.loads(palletfit("catalogue", "--hepdata", address).stdout)
    assert content["schema_version"] == "1.0.0"
    assert content["url_templates"] == {"main_url": address}
    assert datetime.fromisoformat(content["date_created"]).tzinfo is not None
    numbers = {entry["inspire_id"]: entry["implementations"] for entry in content["analyses"]}
    assert numbers == {
        1755298: [{"name": "1Lbb"}],
        1765529: [{"name": "staus"}],
        1748602: [{"name": "sbottom"}],
        1771533: [{"name": "3L-RJ"}],
    }
    for (implementation,) in numbers.values():
        assert (project / f"config/analyses/{implementation['name']}.yaml").is_file()


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["stauz"], ["fits: stauz.", "Did you mean 'staus'?"]),
        (["staus", "--state", "layout"], ["fits: staus, --state layout."]),
        (["--experiment", "LHCf"], ["--experiment LHCf.", "ATLAS, Belle II, CMS"]),
        (["--hepdata", "https://example.org/"], ["is no address of analysis files"]),
        (["--hepdata", "https://example.org/{name}", "ttZ"], ["None of these likelihoods was"]),
        (["--state", "ftted"], ["'ftted' is not one of 'fitted'"]),
    ],
)
def test_what_fits_nothing(palletfit, words: list[str], texts: list[str]) -> None:
    result = palletfit("catalogue", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert all(text in result.stderr for text in texts)
