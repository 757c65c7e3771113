"""Limits of several regions as one table, and against published ones."""

from __future__ import annotations

import io
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palletfit.config import ContourSettings, CrossSection, Plane, Slice
from palletfit.config.analysis import RESULT_COLUMNS
from palletfit.errors import ConfigError
from palletfit.planes import style
from palletfit.planes.style import save
from palletfit.products.limits import planes as limit_planes
from palletfit.products.limits import table as limit_results
from palletfit.products.limits.cross_sections import Table, Value
from palletfit.products.limits.plots import draw_limits, draw_slice, short
from palletfit.products.limits.published import compare
from palletfit.products.limits.table import as_table, combine, nearest_to_one, read_table
from palletfit.runs.results import RegionResults

from ...runs.test_state import analysis

FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)


def one(mu: float, most: float = 10.0) -> dict[str, Any]:
    beyond = mu > most
    return {
        "mu": None if beyond else mu,
        "state": "beyond" if beyond else "found",
        "tolerance": None if beyond else 1e-4 * mu,
        "CLs": 0.05 if not beyond else 0.05 * mu / most,
        "reason": "all starts agree",
        "trusted": True,
    }


def record(
    median: float, values: tuple[float, float] = (100.0, 0.0), observed: float | None = None
) -> dict[str, Any]:
    """A record of limits around a median."""
    expected = [one(factor * median) for factor in FACTORS]
    obs = one(median if observed is None else observed)
    return {
        "values": dict(zip(("m1", "m2"), values, strict=True)),
        "status": "ok",
        "mu_obs": obs["mu"],
        "mu_exp": [item["mu"] for item in expected],
        "observed": obs,
        "expected": expected,
        "mu_hat": 0.1,
        "mu_hat_error": 0.2,
        "mu_max": 10.0,
        "fit_time": 0.1,
        "remarks": [],
    }


def with_other(limits: dict[str, Any], factor: float, minimum: str = "nearest") -> dict[str, Any]:
    """The same record with other limits at another minimum, stronger or weaker by a factor."""
    expected = [one(factor * entry["mu"]) for entry in limits["expected"]]
    observed = one(factor * limits["observed"]["mu"])
    other = {
        "minimum": minimum,
        "mu_obs": observed["mu"],
        "mu_exp": [entry["mu"] for entry in expected],
        "observed": observed,
        "expected": expected,
        "mu_hat": 0.3,
    }
    return {**limits, "minimum": "lowest", "other_minimum": other}


def failed(values: tuple[float, float] = (100.0, 0.0)) -> dict[str, Any]:
    return {
        "values": dict(zip(("m1", "m2"), values, strict=True)),
        "status": "failed",
        "error": {"problem": "it broke", "remedy": "none"},
    }


def gathered(theory: Table | None = None, **regions: dict[str, Any]) -> dict[str, Any]:
    some = [RegionResults(name, records) for name, records in regions.items()]
    return combine(some, ["m1", "m2"], theory)


@pytest.mark.parametrize(
    ("a", "b", "taken"),
    [
        (record(2.0), record(1.0), "B"),
        (record(1.0, observed=9.0), record(2.0, observed=1.0), "A"),
        (record(20.0), record(9.0), "B"),
        (record(30.0), record(20.0), "B"),
        (failed(), record(20.0), "B"),
        (failed(), failed(), "A"),
    ],
)
def test_the_region_with_the_best_expected_limit(a, b, taken):
    (entry,) = gathered(A={"p": a}, B={"p": b}).values()
    assert entry["region"] == taken
    assert set(entry["regions"]) == {"A", "B"}


def test_states_are_there_for_every_limit():
    found = gathered(A={"p": record(6.0), "q": failed((200.0, 0.0))})
    assert found["p"]["states"] == {"obs": "found", "exp": ["found"] * 4 + ["beyond"]}
    assert found["p"]["mu_exp"] == [*(pytest.approx(factor * 6) for factor in FACTORS[:4]), None]
    assert found["p"]["mu_max"] == 10.0
    assert found["p"]["mass_hypotheses"] == [100.0, 0.0]
    assert found["q"]["states"]["obs"] == "failed"
    assert found["q"]["mu_exp"] == [None] * 5
    assert found["q"]["status"] == "failed"


def source() -> CrossSection:
    return CrossSection(file="xs.csv", columns={"m1": "m"}, value="x", unit="pb")


def test_limits_in_pb():
    theory = Table(source(), {(100.0,): Value(0.5, 0.1)})
    found = gathered(theory, A={"p": record(6.0)})["p"]
    assert found["upper_limit_obs_pb"] == 3.0
    assert found["upper_limit_exp_pb"][:4] == pytest.approx([1.5, 2.1, 3.0, 4.2])
    assert found["upper_limit_exp_pb"][4] is None
    with pytest.raises(ConfigError) as caught:
        gathered(theory, A={"other": record(6.0, (150.0, 0.0))})
    assert caught.value.patch == "other"


def test_the_table_comes_back_as_it_was(tmp_path):
    theory = Table(source(), {(100.0,): Value(0.5, None), (200.0,): Value(0.1, None)})
    found = gathered(theory, A={"NA": record(6.0), "q": failed((200.0, 0.0))})
    table = as_table(found, ["m1", "m2"])
    (tmp_path / "limits.csv").write_text(table.to_csv(index=False))
    back = read_table(tmp_path / "limits.csv")
    assert list(back["patch"]) == ["NA", "q"]
    assert back.loc[0, "mu_exp_plus1"] == pytest.approx(8.4)
    assert math.isnan(back.loc[0, "mu_exp_plus2"])
    assert list(back["state_exp_plus2"]) == ["beyond", "failed"]
    assert back.loc[1, "remark"] == "it broke"
    assert back["mu_obs"].dtype == float
    assert back.loc[0, "upper_limit_obs_pb"] == pytest.approx(3.0)


def test_other_limits_have_columns_where_a_point_has_some(tmp_path):
    theory = Table(source(), {(m,): Value(0.5, None) for m in (100.0, 200.0, 300.0, 400.0)})
    records = {
        "two": with_other(record(4.0), 0.5),
        "one": {**record(4.0, (200.0, 0.0)), "minimum": "lowest", "other_minimum": None},
        "older": record(4.0, (300.0, 0.0)),
        "broken": failed((400.0, 0.0)),
    }
    entries = gathered(theory, A=records)
    other = entries["two"]["other_minimum"]
    assert (other["minimum"], other["mu_obs"], other["mu_hat"]) == ("nearest", 2.0, 0.3)
    assert other["states"] == {"obs": "found", "exp": ["found"] * 5}
    assert other["upper_limit_obs_pb"] == 1.0
    assert other["upper_limit_exp_pb"] == pytest.approx(list(FACTORS))
    assert [entries[name]["other_minimum"] for name in ("one", "older", "broken")] == [None] * 3
    table = as_table(entries, ["m1", "m2"])
    assert set(table.columns) - RESULT_COLUMNS == {"m1", "m2"}
    (tmp_path / "limits.csv").write_text(table.to_csv(index=False))
    back = read_table(tmp_path / "limits.csv").set_index("patch")
    assert back["minimum_other"].tolist() == ["nearest", "", "", ""]
    assert back["state_exp_0_other"].tolist() == ["found", "", "", ""]
    assert back.loc["two", ["mu_obs_other", "mu_exp_plus1_other", "mu_hat_other"]].tolist() == [
        *(2.0, pytest.approx(2.8), 0.3)
    ]
    assert back.loc["two", "upper_limit_exp_plus2_pb_other"] == pytest.approx(2.0)
    assert back.loc[["one", "older", "broken"], "mu_obs_other"].isna().all()
    plain = as_table(gathered(theory, A={"one": records["one"]}), ["m1", "m2"])
    assert not [column for column in plain if column.endswith("_other")]


def test_the_patch_nearest_to_one():
    found = gathered(A={
        name: record(median, (median, 0.0))
        for name, median in {"a": 0.1, "b": 0.8, "c": 1.2, "d": 30.0}.items()
    })  # fmt: skip
    assert nearest_to_one(found) == "c"
    assert nearest_to_one(gathered(A={"p": failed()})) is None


# --------------------------------------------------------------------------- published

SIGMA = {100.0: 2.0, 200.0: 0.3}


def points(scale: dict[str, float] | None = None) -> pd.DataFrame:
    rows = [
        {"patch": f"{x:g}_{y:g}", "x": x, "y": y, "mu_obs": (x + y) / 200} for x in SIGMA
        for y in (0.0, 20.0, 40.0)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["mu_obs"] *= [(scale or {}).get(name, 1.0) for name in table["patch"]]
    return table


def published(found: pd.DataFrame) -> np.ndarray:
    return np.array([[p.x, p.y, p.mu_obs * SIGMA[p.x]] for p in found.itertuples()])


def test_published_limits_give_the_cross_section_back():
    here = points()
    table = np.vstack([published(here)[:-1], [[999.0, 0.0, 1.0]]])
    found = compare(here, table, "pb")
    assert (found.matched, found.only_here, found.only_published) == (5, 1, 1)
    assert [item.median for item in found.implied] == pytest.approx([2.0, 0.3])
    assert found.spread["largest"] == pytest.approx(0.0, abs=1e-12)
    assert found.outliers == ()
    assert found.ratio is None


def test_a_limit_that_disagrees_is_named_without_any_theory():
    found = compare(points({"200_20": 0.9}), published(points()), "pb")
    (outlier,) = found.outliers
    assert outlier.patch == "200_20"
    assert outlier.ratio == pytest.approx(1 / 0.9)
    assert found.spread["largest"] == pytest.approx(1 / 0.9 - 1)


def test_with_theory_the_limits_themselves_are_compared():
    here = points().assign(upper_limit_obs_pb=lambda t: t["mu_obs"] * t["x"].map(SIGMA) * 1.01)
    table = published(points())
    table[:, 2] *= 1000
    found = compare(here, table, "fb")
    assert found.unit == "pb"
    assert found.ratio["median"] == pytest.approx(1.01)


def test_published_limits_on_mu():
    table = points()[["x", "y", "mu_obs"]].to_numpy()
    found = compare(points({"100_0": 1.1}), table, "mu")
    assert found.implied == ()
    assert found.ratio["highest"] == pytest.approx(1.1)
    assert [item.patch for item in found.outliers] == ["100_0"]


def test_nothing_to_compare():
    found = compare(points().assign(mu_obs=np.nan), published(points()), "pb")
    assert found.matched == 0
    assert found.spread is None
    assert found.ratio is None


# --------------------------------------------------------------------------- planes and lines

PLANE = Plane(x="m1", y="m2", x_title="$m_1$ [GeV]", y_title="$m_2$ [GeV]")


def grid(**special: dict[str, Any]) -> pd.DataFrame:
    """The limit is one where m1 is 550, whatever m2 is."""
    records = {
        f"S_{x}_{y}": record(math.exp((x - 550) / 150), (float(x), float(y)))
        for x in range(100, 1001, 100)
        for y in (0, 100, 200)
    }
    return as_table(gathered(A={**records, **special}), ["m1", "m2"])


def test_the_contour_is_where_the_limit_is_one():
    settings = ContourSettings(grid=100, interpolation="linear")
    found = limit_planes.limit_contours(grid(), PLANE, settings, {})
    vertices = np.concatenate([line.vertices for line in found.curves["observed"].lines])
    assert vertices[:, 0] == pytest.approx(550, abs=1)
    band = [
        np.concatenate([line.vertices for line in found.curves[f"expected_{sign}1"].lines])[:, 0]
        for sign in ("minus", "plus")
    ]
    assert band[0] == pytest.approx(550 + 150 * math.log(1 / 0.7), abs=1)
    assert band[1] == pytest.approx(550 - 150 * math.log(1.4), abs=1)
    field = limit_planes.mu_field(found, "observed")
    expected = np.exp((found.grid_x - 550) / 150)
    inside = expected < 8
    assert field[50][inside] == pytest.approx(expected[inside], rel=0.05)
    assert found.leave_one_out["observed"].near_contour.maximum < 0.02
    plain = limit_planes.as_json(found)
    beyond = [point for point in plain["points"] if point["state_obs"] == "beyond"]
    assert {point["x"] for point in beyond} == {900.0, 1000.0}
    assert all(point["mu_obs"] is None and point["mu_max"] == 10.0 for point in beyond)


def other_grid() -> pd.DataFrame:
    """The same with other limits at another minimum, half as large, for m1 below 900."""
    records = {
        f"S_{x}_{y}": record(math.exp((x - 550) / 150), (float(x), float(y)))
        for x in range(100, 1001, 100)
        for y in (0, 100, 200)
    }
    for name, limits in records.items():
        if limits["values"]["m1"] < 700:
            records[name] = with_other(limits, 0.5)
    return as_table(gathered(A=records), ["m1", "m2"])


def test_other_limits_have_contours_of_their_own():
    settings = ContourSettings(grid=100, interpolation="linear")
    contours = limit_planes.limit_contours(other_grid(), PLANE, settings, {})
    same = limit_planes.limit_contours(grid(), PLANE, settings, {})
    assert contours.as_json()["curves"] == same.as_json()["curves"]
    assert same.other is None
    assert (contours.other.minimum, contours.other.points) == ("nearest", 18)
    vertices = np.concatenate([line.vertices for line in contours.other.curves["observed"].lines])
    # From 600, where the other limit is 0.70, to 700, where the only one is 2.7.
    expected = 600 + 100 * math.log(2 / math.exp(1 / 3)) / math.log(2 * math.exp(2 / 3))
    assert vertices[:, 0] == pytest.approx(expected, abs=1)
    assert limit_planes.as_json(contours)["other_minimum"]["points"] == 18
    figure = draw_limits(contours, analysis(), PLANE)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"Observed, nearest minimum", "Expected, nearest minimum"} <= set(entries)


def test_failed_limits_are_no_part_of_the_interpolation():
    special = {"S_500_100": failed((500.0, 100.0))}
    found = limit_planes.limit_contours(grid(**special), PLANE, ContourSettings(grid=100), {})
    assert found.failed == ("S_500_100",)
    assert found.failed_near_contour == ("S_500_100",)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.fixture(scope="module")
def plane() -> Any:
    """Limits of a plane, one of them failed."""
    special = {"S_500_100": failed((500.0, 100.0))}
    return limit_planes.limit_contours(grid(**special), PLANE, ContourSettings(grid=60), {})


@pytest.fixture(scope="module")
def figure(plane) -> Any:
    """The plot of the plane."""
    return draw_limits(plane, analysis(), PLANE)


def test_the_plot_of_a_plane_has_the_numbers(plane, figure, tmp_path, monkeypatch):
    monkeypatch.setattr(style, "_DPI", 40)  # whether bytes are the same does not depend on it
    written = texts(figure)
    assert written.count(">10") == 6
    assert written.count("0.72") == 2  # at 500; the third one failed
    assert "20" not in written
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert any("failed (1" in line for line in words)
    assert "beyond" in legend.get_title().get_text()
    for name, same in (("a", figure), ("b", draw_limits(plane, analysis(), PLANE))):
        save(same, [tmp_path / f"{name}.png"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_numbers_of_one_row_do_not_cover_each_other(figure):
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    rows: dict[int, list] = {}
    for box in boxes:
        rows.setdefault(round(box.y0), []).append(box)
    for row in rows.values():
        row.sort(key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(row))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points_make_a_plot_too(count):
    table = grid().iloc[:count]
    found = limit_planes.limit_contours(table, PLANE, ContourSettings(grid=60), {})
    draw_limits(found, analysis(), PLANE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012, "0.012"),
        (0.3, "0.30"),
        (0.996, "1.00"),
        (1.0, "1.0"),
        (9.96, "10.0"),
        (123.4, "123"),
    ],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


LINE = Slice(x="m1", x_title="$m_1$ [GeV]", select="m2 == 0", title="massless")


def test_a_line_of_points():
    line = limit_planes.along(grid(F=failed((1100.0, 0.0))).sample(frac=1, random_state=1), LINE)
    assert list(line.points["x"]) == list(range(100, 1001, 100))
    assert line.without == ("F",)
    assert not line.in_pb
    assert line.limit("obs")[-1] == 10.0
    assert list(line.beyond("obs")[-3:]) == [False, True, True]
    assert line.theory_error is None
    figure = draw_slice(line, analysis(), LINE, 0.95)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "A limit lies beyond the bound of the fit" in words
    assert "Without a limit: F" in figure.legends[0].get_title().get_text()
    axes = figure.axes[0]
    assert axes.get_ylim()[0] < 0.05
    assert "mu" in axes.get_ylabel()


def test_a_line_has_the_other_limits_too():
    line = limit_planes.along(other_grid(), LINE)
    assert line.other_minimum == "nearest"
    ratio = line.other_limit("obs")[:8] / line.limit("obs")[:8]
    assert ratio == pytest.approx([0.5] * 6 + [1.0] * 2)
    assert np.isnan(line.other_limit("obs")[-2:]).all()  # beyond the bound
    figure = draw_slice(line, analysis(), LINE, 0.95)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"Observed, nearest minimum", "Expected, nearest minimum"} <= set(entries)
    plain = limit_planes.along(grid(), LINE)
    assert plain.other_minimum is None
    entries = draw_slice(plain, analysis(), LINE, 0.95).legends[0].get_texts()
    assert not any("minimum" in text.get_text() for text in entries)


def test_a_line_in_pb():
    rows = {(float(x),): Value(1e3 * x**-2.0, 1e2 * x**-2.0) for x in range(100, 1001, 100)}
    records = {f"S_{x}": record(1.0, (float(x), 0.0)) for x in range(100, 1001, 100)}
    table = as_table(gathered(Table(source(), rows), A=records), ["m1", "m2"])
    buffer = io.StringIO(table.to_csv(index=False))
    line = limit_planes.along(limit_results.read_table(buffer), LINE)
    assert line.in_pb
    assert line.limit("exp_0") == pytest.approx(line.theory)
    assert line.limit("exp_plus1") == pytest.approx(1.4 * line.theory)
    assert line.theory_error == pytest.approx(0.1 * line.theory)
    assert "[pb]" in draw_slice(line, analysis(), LINE, 0.95).axes[0].get_ylabel()


def test_an_empty_line_makes_a_plot_too():
    line = limit_planes.along(grid(), LINE.model_copy(update={"select": "m2 == 7"}))
    draw_slice(line, analysis(), LINE, 0.95)


def test_two_points_at_one_place():
    with pytest.raises(ConfigError, match="share their coordinates"):
        limit_planes.along(grid(), LINE.model_copy(update={"select": None}))
