"""The catalogue: its table agrees with analysis files and data, and names are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from palletfit.config import load_analysis, parse
from palletfit.config.catalogue import (
    FORMATS,
    STATES,
    TABLE,
    Catalogue,
    Format,
    State,
    aliases,
    catalogue,
    close_names,
    named,
    resource,
    search,
)
from palletfit.errors import ConfigError

ENTRY = {
    "experiment": "ATLAS",
    "title": "something",
    "state": "layout",
    "format": "patchset",
    "record": "10.17182/hepdata.1",
    "doi": "10.17182/hepdata.1.v1/r1",
    "files": ["BkgOnly.json"],
}
WITH_FILE = [name for name, likelihood in catalogue().items() if likelihood.file]
FITTED = [name for name, likelihood in catalogue().items() if likelihood.state == "fitted"]


def urls(analysis) -> set[str]:
    published = [plane.published for plane in analysis.planes.values() if plane.published]
    curves = [c for p in published for c in (p.observed, p.expected, p.upper_limits) if c]
    return {curve.url for curve in curves}


def test_states_and_formats_have_a_meaning() -> None:
    assert tuple(STATES) == State.__args__
    assert tuple(FORMATS) == Format.__args__


def test_identifiers_mean_one_likelihood() -> None:
    identifiers = [
        text.casefold()
        for name, likelihood in catalogue().items()
        for text in {*aliases(name, likelihood), likelihood.record, likelihood.doi or name}
    ]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("name", WITH_FILE)
def test_it_agrees_with_the_analysis_file(project: Path, name: str) -> None:
    likelihood = catalogue()[name]
    analysis, _ = load_analysis(likelihood.file, project / "config" / "analyses")
    assert analysis.pallet.doi == likelihood.doi
    assert set(analysis.members) <= set(likelihood.files)
    assert likelihood.analysis in analysis.reference
    assert likelihood.reference in analysis.reference
    assert urls(analysis) == set(likelihood.tables)


@pytest.mark.parametrize("name", FITTED)
def test_points_of_what_was_fitted(project: Path, name: str) -> None:
    likelihood = catalogue()[name]
    analysis, _ = load_analysis(likelihood.file, project / "config" / "analyses")
    assert analysis.labels == likelihood.labels
    assert [(plane.x, plane.y, plane.select) for plane in analysis.planes.values()] == [
        (plane.x, plane.y, plane.select) for plane in likelihood.planes
    ]
    assert analysis.pallet.sha256.keys() == set(analysis.members)


def test_all_analyses_of_a_doi_are_in_it(project: Path) -> None:
    folder = project / "config" / "analyses"
    analyses = [load_analysis(path.stem, folder)[0] for path in folder.glob("*.yaml")]
    files = {analysis.name for analysis in analyses if analysis.pallet and analysis.pallet.doi}
    assert files == set(WITH_FILE)


def test_what_was_read_is_there(shared: Path) -> None:
    archives = " ".join(path.name for path in (shared / "pallets").iterdir())
    parts = {"1Lbb": "1Lbb", "staus": "SUSY-2018-04", "sbottom": "SUSY-2018-31", "3L-RJ": "3L-RJ"}
    assert set(FITTED) == set(parts)
    assert all(part in archives for part in parts.values())
    workspaces = {path.name for path in (shared / "workspaces").iterdir()}
    for name, likelihood in catalogue().items():
        code = (likelihood.analysis or "none").removeprefix("ATLAS-")
        published = {file for file in workspaces if file.startswith(code)}
        published = {file for file in published if "simplified" not in file}
        assert bool(published) == (likelihood.state == "background"), name


def test_it_comes_with_the_package(project: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(project))
    included = {file.distribution_path for file in builder.recurse_included_files()}
    assert TABLE.relative_to(TABLE.parents[2]).as_posix() in included


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"state": "known"}, "state"),
        ({"doi": "10.17182/hepdata.2.v1/r1"}, "doi is no resource of the record"),
        ({"doi": "10.17182/hepdata.1"}, "doi"),
        ({"state": "fitted"}, "needs doi, file, files and labels"),
        ({"state": "listed"}, "listed has no files"),
        ({"files": []}, "layout needs files"),
        ({"format": "Combine"}, "does not fit the state"),
        ({"state": "foreign"}, "does not fit the state"),
        ({"titel": "x"}, "did you mean 'title'"),
    ],
)
def test_a_wrong_entry_is_refused(change: dict[str, object], problem: str) -> None:
    parse(Catalogue, {"likelihoods": {"one": ENTRY}}, file=TABLE)
    with pytest.raises(ConfigError, match=problem):
        parse(Catalogue, {"likelihoods": {"one": {**ENTRY, **change}}}, file=TABLE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"inspire": 7}, {"inspire": 7, "record": "10.17182/hepdata.2", "doi": None}),
        ({"analysis": "Two"}, {"record": "10.17182/hepdata.2", "doi": None}),
    ],
)
def test_an_identifier_of_two_entries_is_refused(first, second) -> None:
    likelihoods = {"one": {**ENTRY, **first}, "two": {**ENTRY, **second}}
    with pytest.raises(ConfigError, match="means both one and two"):
        parse(Catalogue, {"likelihoods": likelihoods}, file=TABLE)


@pytest.mark.parametrize("text", ["staus", " STAUS ", "ATLAS-SUSY-2018-04", "ins1765529"])
def test_names(text: str) -> None:
    assert named(text) == "staus"


def test_what_is_no_name() -> None:
    assert named("stauz") is None
    assert close_names("stauz") == ["staus"]
    assert close_names("atlas-susy-2018-4")[0].startswith("ATLAS-SUSY-2018-")
    assert close_names("qqqqqq") == []


@pytest.mark.parametrize(
    ("words", "options", "names"),
    [
        ((), {"state": "foreign"}, ["CMS-Higgs-observation"]),
        ((), {"experiment": "belle ii"}, ["BelleII-Kvv"]),
        (("three", "Leptons"), {"state": "background"}, ["3L"]),
        (("3L",), {}, ["3L"]),
        (("staus",), {"state": "layout"}, []),
        (("10.17182/hepdata.157024",), {}, ["HHH-6b"]),
        (("1909.09226",), {}, ["1Lbb"]),
        (("sbottom", "Staus"), {}, ["staus", "sbottom"]),
        (("staus", "hadronic"), {}, ["staus"]),
        (("staus", "gluinos"), {}, []),
    ],
)
def test_search(words, options, names) -> None:
    assert list(search(words, **options)) == names


def test_the_doi_of_a_name() -> None:
    assert resource("staus") == "10.17182/hepdata.92006.v2/r2"
    with pytest.raises(ConfigError, match="does not know which resource") as caught:
        resource("RPV-1L")
    assert caught.value.file == "https://doi.org/10.17182/hepdata.104860"
    with pytest.raises(ConfigError, match=r"datacards of Combine.* does not read"):
        resource("CMS-Higgs-observation")
