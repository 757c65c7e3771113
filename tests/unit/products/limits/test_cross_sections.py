"""Tables of theory cross sections."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from palletfit.config import CrossSection, load_analysis
from palletfit.errors import ConfigError
from palletfit.pallet.demo.electroweak import POINTS, SIGNAL_THEORY, cross_section
from palletfit.products.limits.cross_sections import Table

TEXT = "# a comment\nmass, xs, err\n100, 2000, 10\n200, 500, 5\n400, 5, 20\n"


def table(tmp_path: Path, text: str = TEXT, **more) -> Table:
    path = tmp_path / "xs.csv"
    path.write_text(text)
    given = {"file": path, "columns": {"m1": "mass"}, "value": "xs", "unit": "fb", **more}
    return Table.read(CrossSection.model_validate(given))


def test_values_and_units(tmp_path):
    found = table(tmp_path)
    assert found.of("p", {"m1": 100, "m2": 7}).value == pytest.approx(2.0)
    assert found.of("p", {"m1": 100}).uncertainty is None
    assert table(tmp_path, unit="pb").of("p", {"m1": 200}).value == 500


def test_uncertainties(tmp_path):
    absolute = table(tmp_path, uncertainty="err").of("p", {"m1": 200})
    assert absolute.uncertainty == pytest.approx(0.005)
    relative = table(tmp_path, uncertainty="err", uncertainty_in="percent").of("p", {"m1": 200})
    assert relative.uncertainty == pytest.approx(0.025)


def test_several_labels(tmp_path):
    text = "mass,other,xs\n100,1,5\n100,2,6\n200,1,7\n"
    columns = {"m1": "mass", "m2": "other"}
    found = table(tmp_path, text, columns=columns)
    assert found.of("p", {"m2": 2, "m1": 100}).value == pytest.approx(0.006)
    along = table(tmp_path, text, columns=columns, interpolate="m1")
    middle = along.of("p", {"m1": 150, "m2": 1}).value
    assert middle == pytest.approx(1e-3 * math.sqrt(35))
    with pytest.raises(ConfigError, match="extrapolated"):
        along.of("p", {"m1": 150, "m2": 2})


def test_interpolation_is_in_the_logarithm_and_only_when_asked(tmp_path):
    with pytest.raises(ConfigError, match="no row has exactly") as caught:
        table(tmp_path).of("signal_300", {"m1": 300})
    assert caught.value.patch == "signal_300"
    assert str(caught.value.file).endswith("xs.csv")
    assert "interpolate" in caught.value.remedy
    more = {"interpolate": "m1", "uncertainty": "err", "uncertainty_in": "percent"}
    found = table(tmp_path, **more).of("p", {"m1": 300})
    assert found.value == pytest.approx(1e-3 * math.sqrt(500 * 5))
    assert found.uncertainty == pytest.approx(0.125 * found.value)
    for outside in (50, 500):
        with pytest.raises(ConfigError, match="extrapolated"):
            table(tmp_path, **more).of("p", {"m1": outside})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mass,sigma\n1,2\n", "no column 'xs'"),
        ("mass,xs\n1,two\n", "Line 2.*'two' where a number"),
        ("mass,xs\n1\n", "Line 2.*'' where a number"),
        ("mass,xs\n1,nan\n", "Line 2.*'nan'"),
        ("mass,xs\n1,-2\n", "Line 2.*cross section -2"),
        ("mass,xs\n1,2\n1,3\n", r"point \(1\) is in the table twice, again in line 3"),
        ("mass,xs\n", "empty"),
        ("", "no column"),
    ],
)
def test_wrong_tables(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        table(tmp_path, text)
    assert str(caught.value.file).endswith("xs.csv")


def test_a_table_that_is_not_there(tmp_path):
    source = CrossSection(file=tmp_path / "no.csv", columns={"m": "m"}, value="x", unit="pb")
    with pytest.raises(ConfigError, match="No such file"):
        Table.read(source)
    (tmp_path / "no.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        Table.read(source)


def test_labels_that_are_no_numbers(tmp_path):
    with pytest.raises(ConfigError, match="no numbers"):
        table(tmp_path).of("p", {"m1": "heavy"})


def test_the_table_of_the_demo_is_its_own_formula(project: Path):
    analysis, _ = load_analysis("demo", project / "config/analyses")
    found = Table.read(analysis.cross_section)
    assert set(found.rows) == {(float(mass),) for mass in POINTS}
    for mass in POINTS:
        value = found.of("p", {"m1": mass, "m2": 0})
        assert value.value == pytest.approx(1e-3 * cross_section(mass), rel=1e-5)
        assert value.uncertainty / value.value == pytest.approx(
            SIGNAL_THEORY["SIG_CrossSection"][1]
        )
    assert "ynthetic" in analysis.cross_section.file.read_text().splitlines()[0]


def test_paths_start_at_the_analysis_file(project: Path, tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {project}/config/analyses/demo.yaml\nname: mine\n")
    analysis, _ = load_analysis(str(mine), tmp_path)
    assert analysis.cross_section.file.is_file()
    mine.write_text(mine.read_text() + "cross_section: {columns: {m7: a}}\n")
    with pytest.raises(ConfigError, match="columns names m7"):
        load_analysis(str(mine), tmp_path)
