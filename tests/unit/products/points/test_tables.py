"""Tables of points: what is read from them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from palletfit.errors import ConfigError, PalletError

from ... import scans
from ...scans import Scan, patches


def test_csv_and_parquet_give_the_same_points(tmp_path):
    content = scans.columns(7)
    found = []
    for ending in ("csv", "parquet"):
        made = Scan(tmp_path)
        made.points["table"] = str(scans.write_table(tmp_path / f"t.{ending}", content))
        found.append(patches(made.scan().source))
    assert found[0] == found[1]
    assert [patch.name for patch in found[0]] == content["name"]
    patch = found[0][3]
    assert patch.values == (103.0, "higgsino")
    (operation,) = patch.operations  # CR has no columns
    assert operation["path"] == "/channels/0/samples/-"
    assert operation["value"]["name"] == "signal"
    assert operation["value"]["data"] == [content["SR[0]"][3], content["SR[1]"][3]]
    size = content["unc"][3]
    assert operation["value"]["modifiers"] == [
        {"name": "mu_SIG", "type": "normfactor", "data": None},
        {"name": "SIG_xsec", "type": "normsys", "data": {"lo": 1 - size, "hi": 1 + size}},
    ]


def test_any_part_of_a_table_can_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "palletfit.products.points.tables._ROWS", 3
    )  # pieces and chunks do not match
    made = Scan(tmp_path)
    made.write(20)
    source = made.scan().source
    wanted = [range(2, 4), range(8, 15), range(15, 16), range(19, 20)]
    found = list(source.chunks(wanted))
    assert [some for some, _ in found] == wanted
    for some, group in found:
        assert [patch.name for patch in group] == [f"p{number}" for number in some]


def changed(row, **cells):
    def change(content):
        for name, value in cells.items():
            content[name][row] = value

    return change


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("cell", "value", "words"),
    [
        ("SR[1]", -0.5, ["Row 6 ", "'SR[1]'", "-0.5", "is negative", "p5"]),
        ("SR[0]", float("nan"), ["Row 6 ", "'SR[0]'", "not finite"]),
        ("SR[0]", float("inf"), ["Row 6 ", "'SR[0]'", "not finite"]),
        ("unc", 1.0, ["Row 6 ", "'unc'", "not between zero and one"]),
        ("mass", float("nan"), ["Row 6 ", "'mass'", "not finite"]),
        ("kind", "", ["Row 6 ", "'kind'", "nothing"]),
        ("name", "p2", ["points 3 and 6 have the same name", "p2"]),
        ("name", "", ["Row 6 ", "'name'"]),
        ("name", "x" * 501, ["Row 6 ", "501 characters"]),
    ],
)
def test_a_wrong_row_is_named(tmp_path, ending, cell, value, words):
    content = scans.columns(8)
    content[cell][5] = value
    made = Scan(tmp_path)
    made.points["table"] = str(scans.write_table(tmp_path / f"t.{ending}", content))
    with pytest.raises(PalletError) as caught:
        made.scan()
    for word in [*words, made.points["table"], "remedy"]:
        assert word in str(caught.value)


def test_a_text_among_yields_is_named(tmp_path):
    content = scans.columns(8)
    content["SR[0]"][5] = "many"
    made = Scan(tmp_path)
    made.points["table"] = str(scans.write_table(tmp_path / "t.csv", content))
    with pytest.raises(PalletError, match=r"Row 6 .*'many' in column 'SR\[0\]'"):
        made.scan()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("SR[1]"), "no column 'SR[1]'"),
        (lambda c: c.pop("mass"), "no column 'mass'"),
        (lambda c: c.pop("unc"), "no column 'unc'"),
        (lambda c: c.pop("name"), "no column 'name'"),
        (lambda c: [c.pop("SR[0]"), c.pop("SR[1]")], "no column 'SR[0]'"),
        (lambda c: c.update({"VR[0]": c["other"]}), "'VR[0]' is of a channel that the workspace"),
        (lambda c: c.update({"SR[2]": c["other"]}), "'SR[2]' is of a bin that the channel"),
        (lambda c: c.update({"SR[01]": c["other"]}), "'SR[01]' is of a bin that the channel"),
    ],
)
def test_columns_are_as_they_should_be(tmp_path, change, words):
    content = scans.columns(4)
    change(content)
    made = Scan(tmp_path)
    made.points["table"] = str(scans.write_table(tmp_path / "t.csv", content))
    with pytest.raises(ConfigError) as caught:
        made.scan()
    assert words in str(caught.value)
    assert made.points["table"] in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 columns"),
        (b"name,mass,kind,SR[0],SR[1],unc\n", "no rows"),
        (b"name,name\n", "two columns 'name'"),
        (b"PAR1 and nothing of it", "cannot be read"),
        (b"name,mass,kind,SR[0],SR[1],unc\na,1,k,1,1\n", "cannot be read"),
        (b"name,mass,kind,SR[0],SR[1],unc\n\xff\xfe,1,k,1,1,0.1\n", "cannot be read"),
        (b"name,mass,kind,SR[0],SR[1],unc\n" + b"x" * 3_000_000, "cannot be read"),
    ],
)
def test_what_is_no_table_is_refused(scan, content, words):
    Path(scan.points["table"]).write_bytes(content)
    with pytest.raises(PalletError, match=words):
        scan.scan()


def test_tables_are_limited(scan):
    for limit, words in (("max_points", "more than 5 rows"), ("max_table_bytes", "5 are allowed")):
        scan.settings["points"] = {limit: 5}
        with pytest.raises(ConfigError, match=words):
            scan.scan()
    scan.settings = {}
    scan.points["table"] = "nowhere.csv"
    with pytest.raises(ConfigError, match="No such file"):
        scan.scan()
