"""Points as a patchset: the same one as by hand, within limits, and wrong points are told."""

from __future__ import annotations

import json

import pyhf
import pytest

from palletfit.config import Settings
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.limits import CONTENT_BYTES
from palletfit.pallet.patchset import parse_patchset
from palletfit.products.points.patchsets import prepare_patchset

from ... import scans
from ...scans import GOOD, NAMES, by_function


@pytest.fixture
def prepare(scan):
    """Prepare the points of the scan; the summary and the content of the patchset."""

    def prepared(regions=None, **settings):
        workspace = scan.folder / "workspace.json"
        workspace.write_text(json.dumps(scan.background))
        path = scan.folder / "patchset.json"
        summary = prepare_patchset(
            scans.analysis(
                scan.points,
                labels=scan.labels,
                regions=regions or {"SR": {"workspace": "BkgOnly.json"}},
            ),
            "SR",
            Settings.model_validate({**scan.settings, **settings}),
            workspace,
            path,
            scan.folder / "signals.html",
        )
        return summary, json.loads(path.read_text())

    return prepared


def test_a_table_becomes_a_patchset(scan, prepare):
    summary, spec = prepare()
    table = scans.columns(10)
    assert [entry["metadata"]["name"] for entry in spec["patches"]] == NAMES
    assert spec["patches"][7]["metadata"]["values"] == [107, "higgsino"]
    size = table["unc"][7]
    expected = {
        "name": "signal",
        "data": [table["SR[0]"][7], table["SR[1]"][7]],
        "modifiers": [
            {"name": "mu_SIG", "type": "normfactor", "data": None},
            {"name": "SIG_xsec", "type": "normsys", "data": {"lo": 1.0 - size, "hi": 1.0 + size}},
        ],
    }
    operation = {"op": "add", "path": "/channels/0/samples/-", "value": expected}
    assert spec["patches"][7]["patch"] == [operation]
    assert spec["metadata"]["labels"] == scans.LABELS
    # pyhf takes it as a patchset of this workspace.
    patchset = pyhf.PatchSet(spec)
    patchset.verify(pyhf.Workspace(scan.background))
    assert pyhf.Workspace(patchset.apply(scan.background, "p7")).model().config.npars == 3
    assert (summary["patches"], summary["parameters"]) == (10, 3)
    assert "10 values, 100 to 109" in (scan.folder / "signals.html").read_text()


def test_a_changed_table_changes_the_digests_of_what_changed(scan, prepare):
    def digests():
        patches = parse_patchset(prepare()[1], scan.folder).patches
        return {patch.name: patch.digest for patch in patches}

    before = digests()
    table = {name: [*column, column[-1]] for name, column in scans.columns(10).items()}
    table["SR[0]"][3] += 1.0  # yields
    table["mass"][5] += 0.5  # only a label
    table["name"][10], table["mass"][10] = "p10", 500.0
    scans.write_table(scan.folder / "points.csv", table)
    after = digests()
    assert [name for name in after if before.get(name) != after[name]] == ["p3", "p10"]


def test_a_function_is_called_where_points_are_prepared(scan, prepare):
    by_function(scan, GOOD + "\nprint('asked')\n")
    _, spec = prepare()
    assert [entry["metadata"]["name"] for entry in spec["patches"]] == NAMES
    assert spec["patches"][4]["patch"][0]["value"]["data"] == [5.0, 2.0]


@pytest.mark.parametrize("kind", ["table", "function"])
def test_more_points_than_records_are_refused(scan, prepare, kind):
    if kind == "function":
        by_function(scan, GOOD)
    with pytest.raises(ConfigError, match="more than 9 points") as error:
        prepare(points={"max_patches": 9})
    assert "target `points`" in error.value.remedy
    assert str(scan.points[kind]) in str(error.value)
    assert not (scan.folder / "patchset.json").exists()
    # The limit of all scans is another one, with a remedy of its own.
    with pytest.raises(ConfigError) as error:
        prepare(points={"max_patches": 9, "max_points": 9})
    assert "points.max_points" in error.value.remedy
    assert prepare(points={"max_patches": 10})[0]["patches"] == 10


def test_points_that_fill_the_memory_are_refused(prepare, monkeypatch):
    assert CONTENT_BYTES > 10**9
    monkeypatch.setattr("palletfit.products.points.patchsets.CONTENT_BYTES", 5000)
    with pytest.raises(ConfigError, match="too large for a patchset"):
        prepare()


def test_each_region_takes_its_own_channels(scan, prepare):
    table = {**scans.columns(10), "VR[0]": [7.0] * 10}  # of the other region's workspace
    scans.write_table(scan.folder / "points.csv", table)
    regions = {name: {"workspace": f"{name}.json"} for name in ("SR", "VR")}
    _, first = prepare(regions)
    scan.background["channels"][1]["name"] = scan.background["observations"][1]["name"] = "VR"
    scan.background["channels"][0]["name"] = scan.background["observations"][0]["name"] = "CR"
    _, second = prepare(regions)
    operations = [
        [entry["patch"][0]["value"]["data"] for entry in spec["patches"]]
        for spec in (first, second)
    ]
    assert operations[0] == [
        list(pair) for pair in zip(table["SR[0]"], table["SR[1]"], strict=True)
    ]
    assert operations[1] == [[7.0]] * 10
    labels = [[entry["metadata"] for entry in spec["patches"]] for spec in (first, second)]
    assert labels[0] == labels[1]


def test_names_may_tell_points_apart(scan, prepare):
    table = {**scans.columns(10), "mass": [100.0] * 10}
    table["model"] = table.pop("name")
    scans.write_table(scan.folder / "points.csv", table)
    scan.points["name"] = "model"
    with pytest.raises(PalletError, match="same values") as error:
        prepare()
    assert "the column that `points.name` names" in error.value.remedy
    scan.labels = [*scans.LABELS, "model"]
    _, spec = prepare()
    assert spec["patches"][9]["metadata"] == {"name": "p9", "values": [100, "higgsino", "p9"]}


OPERATIONS = """
def points(first, stop):
    for number in range(first, stop):
        yield f"p{number}", [number, "wino"], [{"op": "add", "path": "/version", "value": VALUE}]
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (GOOD.replace("100 + number", "100 + number % 7"), r"same values \[100.0, 'wino'\] as 'p0"),
        (GOOD.replace("p{number}", "p{number % 9}"), "Two patches have the same name"),
        (GOOD.replace('f"p{number}", {', r'f"p{number}\ud800", {'), "surrogate"),
        (OPERATIONS.replace("VALUE", "{1, 2}"), "are no JSON: .*set"),
        (OPERATIONS.replace("VALUE", "1").replace('"op": "add", ', ""), "schema"),
    ],
)
def test_wrong_points_are_told(scan, prepare, code, words):
    by_function(scan, code)
    with pytest.raises(PalletError, match=words) as error:
        prepare()
    assert str(scan.points["function"]) in str(error.value)
    assert not (scan.folder / "patchset.json").exists()
