"""Exclusion contours of planes whose contours are known, and all that can go wrong."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from palletfit.config import ContourSettings, Forbidden, Plane, load_analysis
from palletfit.errors import ConfigError
from palletfit.planes.contour import CURVES, MAX_SIGNIFICANCE, exclusion
from palletfit.planes.coordinates import plane_points
from palletfit.planes.published import read_curve

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared"
ANALYSES = ROOT / "config" / "analyses"
LEVEL = norm.isf(0.05)

PLANE = Plane(x="m1", y="m2", x_title="$m_1$ [GeV]", y_title="$m_2$ [TeV]")
SHIFTS = {"expected_minus1": 0.5, "expected_plus1": -0.5}


def results_of(significance, x, y, **columns) -> pd.DataFrame:
    """Table of points with given Z; the bands are shifted by half a standard deviation a step."""
    significance = np.asarray(significance, dtype=float)
    shifts = dict(zip(CURVES, (0, 0, 0.5, -0.5, 1, -1), strict=True))
    return pd.DataFrame(
        {
            "patch": [f"signal_{a:g}_{b:g}" for a, b in zip(x, y, strict=True)],
            "m1": np.asarray(x, dtype=float),
            "m2": np.asarray(y, dtype=float),
            "region": "A",
            "status": "ok",
            **{name: norm.sf(significance + shift) for name, shift in shifts.items()},
            **columns,
        }
    )


def lattice(nx=11, ny=9, left=0.0, right=1000.0):
    x, y = np.meshgrid(np.linspace(left, right, nx), np.linspace(0, 400, ny))
    return x.ravel(), y.ravel()


def disc(nx=11, ny=11) -> pd.DataFrame:
    """Z falls with the distance from (500, 200), to the level at a distance of 100."""
    x, y = lattice(nx, ny, 300, 700)
    return results_of(LEVEL - (np.hypot(x - 500, y - 200) - 100) / 100, x, y)


def circle(radius=100.0, centre=(500.0, 200.0)):
    angle = np.linspace(0, 2 * np.pi, 721)
    return centre + radius * np.column_stack([np.cos(angle), np.sin(angle)])


def run(results, plane=PLANE, published=None, **settings):
    settings = {"grid": 200, **settings}
    return exclusion(results, plane, ContourSettings(**settings), published or {})


@pytest.mark.parametrize("kind", ["linear", "cubic", "rbf"])
def test_the_contour_of_a_plane_is_a_straight_line(kind):
    x, y = lattice()
    result = run(results_of(LEVEL + (600 - x - y) / 400, x, y), interpolation=kind)
    (line,) = result.curves["observed"].lines
    assert not line.closed
    np.testing.assert_allclose(line.vertices.sum(axis=1), 600, atol=0.1)
    # It reaches both borders, and the bands lie half a standard deviation aside.
    np.testing.assert_allclose(np.sort(line.vertices[:, 1])[[0, -1]], [0, 400], atol=2)
    for name, shift in SHIFTS.items():
        (line,) = result.curves[name].lines
        np.testing.assert_allclose(line.vertices.sum(axis=1), 600 + 400 * shift, atol=0.1)
    assert result.level == pytest.approx(1.6449, abs=1e-4)
    assert result.units == ("GeV", "TeV")


@pytest.mark.parametrize("kind", ["linear", "cubic", "rbf"])
def test_leave_one_out_of_a_plane_is_zero(kind):
    x, y = lattice(8, 7)
    result = run(results_of(LEVEL + (600 - x - y) / 400, x, y), interpolation=kind)
    for errors in result.leave_one_out.values():
        assert errors.all_points.points == 6 * 5  # those on the hull are extrapolation
        assert 0 < errors.near_contour.points < 30
        assert errors.all_points.maximum < 1e-5
        assert errors.all_points.misclassified == 0


def test_leave_one_out_finds_the_point_that_does_not_fit():
    x, y = lattice(5, 5)
    significance = np.full(25, 1.0)
    significance[12] = 3.0
    errors = run(results_of(significance, x, y)).leave_one_out["observed"]
    assert errors.all_points.worst_patch == "signal_500_200"
    assert errors.all_points.maximum == pytest.approx(2)
    # The outlier itself; its neighbours have others between it and them, or mirror images.
    assert errors.all_points.misclassified >= 1
    assert errors.near_contour.points == 8  # |3.0 - 1.64| > 1


@pytest.mark.parametrize(("kind", "tolerance"), [("linear", 4), ("cubic", 3), ("rbf", 3)])
def test_the_contour_of_a_disc_is_closed(kind, tolerance):
    (line,) = run(disc(), interpolation=kind).curves["observed"].lines
    assert line.closed
    radius = np.hypot(*(line.vertices - [500, 200]).T)
    np.testing.assert_allclose(radius, 100, atol=tolerance)


def test_distances_to_shifted_and_to_larger_circles():
    same = run(disc(), published={"observed": [circle()]}, interpolation="rbf")
    assert same.distances["observed"].symmetric.maximum < 3
    larger = run(disc(), published={"observed": [circle(120)]}, interpolation="rbf")
    distance = larger.distances["observed"]
    assert distance.to_published.mean == pytest.approx(20, abs=1)
    assert distance.from_published.median == pytest.approx(20, abs=1)
    shifted = run(disc(), published={"expected": [circle(centre=(530, 200))]}, interpolation="rbf")
    distance = shifted.distances["expected"]
    assert distance.symmetric.maximum == pytest.approx(30, abs=3)
    # 30 GeV on axes of 400 GeV.
    assert distance.relative.maximum == pytest.approx(0.075, abs=0.008)
    assert "observed" not in shifted.distances


def test_the_published_curve_counts_only_among_the_points():
    far = np.array([[500.0, 300.0], [500.0, 5000.0]])
    distance = run(disc(), published={"observed": [far]}).distances["observed"]
    assert distance.from_published.maximum == pytest.approx(100, abs=5)  # not 4700
    outside = run(disc(), published={"observed": [far + np.array([0, 2000])]})
    assert outside.distances == {}


def test_no_contour_is_a_named_state():
    x, y = lattice()
    assert run(results_of(np.full(99, 1.0), x, y)).curves["observed"].state == "none_excluded"
    above = run(results_of(np.full(99, 2.0), x, y))
    assert above.curves["observed"].state == "all_excluded"
    assert above.curves["expected_plus1"].state == "none_excluded"
    few = run(results_of([1, 2], [0, 1], [0, 1]))
    assert few.curves["expected"].state == "too_few_points"
    flat = run(results_of([1, 2, 3, 4], [0, 1, 2, 3], [5, 5, 5, 5]))
    assert flat.curves["observed"].state == "collinear_points"
    assert len(flat.points) == 4
    nothing = run(results_of([], [], []))
    assert nothing.curves["observed"].state == "too_few_points"
    for result in (above, few, flat, nothing):
        assert result.curves["observed"].lines == ()
        json.dumps(result.as_json(), allow_nan=False)


def test_cls_of_zero_and_one_have_a_finite_significance():
    x, y = lattice()
    results = results_of(np.where(x < 450, 10.0, -10.0), x, y)
    results.loc[x < 450, "CLs_obs"] = 0.0
    results.loc[x > 450, "CLs_obs"] = 1.0
    result = run(results, interpolation="linear")
    # Between 400 and 500, from +5 to -5.
    expected = 400 + 100 * (MAX_SIGNIFICANCE - LEVEL) / (2 * MAX_SIGNIFICANCE)
    (line,) = result.curves["observed"].lines
    np.testing.assert_allclose(line.vertices[:, 0], expected, atol=1)
    assert np.nanmax(np.abs(result.fields["observed"])) <= MAX_SIGNIFICANCE + 1e-9


def test_a_failed_point_is_named_and_not_interpolated():
    complete = disc(11, 9)
    near = complete["patch"].eq("signal_620_200").to_numpy()
    far = complete["patch"].eq("signal_300_50").to_numpy()
    broken = complete.copy()
    broken.loc[near | far, [*CURVES]] = np.nan
    broken.loc[near, "status"] = "failed"  # the other has NaN without saying so
    result = run(broken)
    assert set(result.failed) == {"signal_620_200", "signal_300_50"}
    assert result.failed_near_contour == ("signal_620_200",)
    assert (result.points["status"] == "failed").sum() == 2
    without = run(complete[~(near | far)])
    np.testing.assert_array_equal(result.fields["observed"], without.fields["observed"])
    plain = result.as_json()
    assert [p["CLs_obs"] for p in plain["points"] if p["status"] == "failed"] == [None, None]
    json.dumps(plain, allow_nan=False)


def test_a_failed_point_at_the_border_where_the_contour_ends_is_flagged():
    x, y = lattice()
    results = results_of(LEVEL + (550 - x) / 400, x, y)
    corner = (results["m1"] == 500) & (results["m2"] == 400)
    results.loc[corner, "status"] = "failed"
    results.loc[corner, [*CURVES]] = np.nan
    assert run(results).failed_near_contour == ("signal_500_400",)


def test_suspect_points_are_interpolated():
    results = disc(11, 9)
    result = run(results.assign(status="suspect"))
    np.testing.assert_array_equal(result.fields["observed"], run(results).fields["observed"])
    assert result.failed == ()


def test_the_contour_ends_at_the_forbidden_part():
    plane = PLANE.model_copy(update={"forbidden": Forbidden(y_above="x - 350")})
    (line,) = run(disc(), plane).curves["observed"].lines
    assert not line.closed
    assert (line.vertices[:, 1] <= line.vertices[:, 0] - 350 + 1e-6).all()
    ends = line.vertices[[0, -1]]
    np.testing.assert_allclose(ends[:, 1], ends[:, 0] - 350, atol=1e-6)


def test_bands_also_where_one_contour_is_absent():
    x, y = lattice()
    # From 0.2 below the level to 0.45 above it, and the bands half a standard deviation aside.
    result = run(results_of(LEVEL - 0.2 + x / 1000 * 0.65, x, y), bands=[1], grid=100)
    assert result.curves["expected_plus1"].state == "none_excluded"
    assert result.curves["expected_minus1"].state == "all_excluded"
    assert (result.band(1) < 0).all()
    assert result.band(2) is None
    split = run(results_of(LEVEL + (500 - x) / 500, x, y), bands=[1, 2])
    middle = (split.grid_x > 260) & (split.grid_x < 740)
    outer = (split.grid_x < 240) | (split.grid_x > 760)
    assert (split.band(1)[:, middle] < 0).all()
    assert (split.band(1)[:, outer] > 0).all()
    assert "expected_minus2" in split.curves


def test_planes_choose_points_and_compute_coordinates():
    results = results_of([1, 2, 3, 4], [10, 20, 30, 40], [1, 1, 2, 2])
    plane = Plane(x="m1 - m2", y="m2", x_title="x", y_title="y", select="m2 == 2")
    points = plane_points(results, plane)
    assert points["x"].tolist() == [28, 38]
    assert points["patch"].tolist() == ["signal_30_2", "signal_40_2"]


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"x": "m3"}, "m3"),
        ({"y": "m1 -"}, "m1 -"),
        ({"select": "m1"}, "not a condition"),
        ({"select": "mass == 1"}, "mass"),
        ({"x": "CLs_obs"}, "CLs_obs"),
    ],
)
def test_wrong_expressions_name_the_plane_and_the_labels(update, words):
    results = results_of([1, 2], [10, 20], [1, 1])
    plane = PLANE.model_copy(update=update)
    with pytest.raises(ConfigError, match=words) as caught:
        plane_points(results, plane)
    assert f"x: {plane.x}, y: {plane.y}" in str(caught.value)
    assert "m1, m2" in caught.value.remedy


def test_points_with_the_same_coordinates_are_refused():
    results = results_of([1, 2, 3], [10, 20, 10], [1, 1, 1], patch=["a", "b", "c"])
    with pytest.raises(ConfigError, match=r"a, c at \(10, 1\)") as caught:
        plane_points(results, PLANE)
    assert "select" in caught.value.remedy


def with_other(results: pd.DataFrame, shift: float, where=slice(None)) -> pd.DataFrame:
    """Give points another minimum, whose Z is higher."""
    several = np.zeros(len(results), dtype=bool)
    several[where] = True
    columns = {
        f"{name}_other": np.where(several, norm.sf(norm.isf(results[name]) + shift), np.nan)
        for name in CURVES
    }
    return results.assign(minimum_other=np.where(several, "nearest", ""), **columns)


@pytest.mark.parametrize("kind", ["linear", "cubic", "rbf"])
def test_another_minimum_has_contours_and_distances_of_its_own(kind):
    published = {"observed": [circle(120)]}
    alone = run(disc(), published=published, interpolation=kind)
    result = run(with_other(disc(), 0.2), published=published, interpolation=kind)
    other = result.other
    assert alone.other is None
    assert (other.minimum, other.points) == ("nearest", 121)
    for name in ("observed", "expected"):
        (line,) = other.curves[name].lines
        radius = np.hypot(*(line.vertices - (500, 200)).T)
        np.testing.assert_allclose(radius, 120, atol=5)
    assert other.distances["observed"].symmetric.mean < 4
    assert result.distances["observed"].symmetric.mean == pytest.approx(20, abs=2)
    # What counts is not changed by a bit.
    plain = result.as_json()
    shown = plain.pop("other_minimum")
    assert json.dumps(plain) == json.dumps(
        {key: value for key, value in alone.as_json().items() if key != "other_minimum"}
    )
    assert shown["distance_to_published"]["observed"]["symmetric"]["mean"] < 4
    assert shown["curves"]["observed"]["state"] == "contour"


def test_points_without_another_minimum_enter_its_contour_with_their_only_cls():
    x, y = lattice()
    results = results_of(LEVEL + (500 - x) / 200, x, y)
    # The two rows of points at the bottom have another minimum, 100 to the right.
    result = run(with_other(results, 0.5, where=slice(0, 22)), interpolation="linear")
    assert result.other.points == 22
    (line,) = result.other.curves["observed"].lines
    right = line.vertices[line.vertices[:, 1] < 45]
    same = line.vertices[line.vertices[:, 1] > 105]
    np.testing.assert_allclose(right[:, 0], 600, atol=1)
    np.testing.assert_allclose(same[:, 0], 500, atol=1)


def test_there_is_no_other_contour_without_another_minimum_in_the_plane():
    results = with_other(disc(), 0.2, where=slice(0, 3))
    assert run(results).other.points == 3
    assert run(results, PLANE.model_copy(update={"select": "m2 > 0"})).other is None
    failed = results.assign(status=["failed"] * 3 + ["ok"] * (len(results) - 3))
    assert run(failed).other is None
    few = run(with_other(disc().iloc[:2], 0.2)).other
    assert few.curves["observed"].state == "too_few_points"


def reference(name: str, labels: list[str]) -> pd.DataFrame:
    file = SHARED / "reference" / f"{name}.pyhf-scipy.json"
    if not file.is_file():
        pytest.skip("the reference CLs are not here")
    bands = ["CLs_exp_minus2", "CLs_exp_minus1", "CLs_exp_0", "CLs_exp_plus1", "CLs_exp_plus2"]
    rows = [
        {
            "patch": result["name"],
            "region": name,
            "CLs_obs": result.get("CLs_obs", np.nan),
            **dict(zip(bands, result.get("CLs_exp", [np.nan] * 5), strict=True)),
            **dict(zip(labels, map(float, result["values"]), strict=True)),
        }
        for result in json.loads(file.read_text())["results"]
    ]
    return pd.DataFrame(rows).assign(status="ok")


@pytest.mark.parametrize(
    ("name", "table", "expected_distance"), [("1Lbb", "1Lbb", 8), ("staus", "staus-combined", 6)]
)
def test_published_contours_are_reproduced(name, table, expected_distance):
    analysis, _ = load_analysis(name, ANALYSES)
    results = reference(table, analysis.labels)
    plane = analysis.planes["masses"]
    curves = {
        curve: read_curve(SHARED / "published" / name / f"{curve}.csv", 0, 1)
        for curve in ("observed", "expected")
    }
    result = run(results, plane, curves)
    for distance in result.distances.values():
        assert distance.symmetric.mean < expected_distance  # GeV
    assert result.units == ("GeV", "GeV")


@pytest.mark.parametrize(("plane", "count"), [("m60", 131), ("dm130", 86)])
def test_sbottom_planes_choose_their_points(plane, count):
    analysis, _ = load_analysis("sbottom", ANALYSES)
    results = reference("sbottom-RegionB", analysis.labels)
    points = plane_points(results, analysis.planes[plane])
    assert len(points) == count
    chosen = {"m60": points["mn1"].eq(60), "dm130": (points["mn2"] - points["mn1"]).eq(130)}
    assert chosen[plane].all()


@pytest.mark.parametrize("name", ["1Lbb", "staus", "sbottom", "3L-RJ", "InclSS3L"])
def test_analyses_are_valid_and_their_expressions_use_their_labels(name):
    analysis, _ = load_analysis(name, ANALYSES)
    row = {label: [100.0 + i] for i, label in enumerate(analysis.labels)}
    results = pd.DataFrame({"patch": ["a"], "region": "A", "status": "failed", **row})
    results = results.assign(**dict.fromkeys(CURVES, np.nan))
    for plane in analysis.planes.values():
        result = run(results, plane)
        assert result.units == ("GeV", "GeV")
        assert result.curves["observed"].state == "too_few_points"


def test_an_island_around_no_point_is_told_from_one_around_points():
    ring = run(disc())
    (line,) = ring.curves["observed"].lines
    assert line.closed
    assert line.points_inside == 21  # points of a grid of 40 by 40 within 100 of the centre
    assert not line.is_empty
    # The interpolation exceeds the level between four points that are all below it.
    x, y = lattice(6, 6, 0, 600)
    height = np.where((np.abs(x - 300) < 120) & (np.abs(y - 200) < 80), LEVEL - 0.02, LEVEL - 2)
    height = np.where((x == 0) & (y == 0), LEVEL + 1, height)
    bump = run(results_of(height, x, y), grid=150)
    inner = [line for line in bump.curves["observed"].lines if line.closed]
    assert [line.points_inside for line in inner] == [0]
    assert inner[0].is_empty
    plain = bump.as_json()["curves"]["observed"]["lines"]
    assert 0 in [line["points_inside"] for line in plain]
    assert None in [line["points_inside"] for line in plain]


def test_points_on_which_a_contour_rests_alone_are_named():
    x, y = lattice(11, 9)
    height = LEVEL + (500 - x) / 200
    straight = run(results_of(height, x, y), grid=50)
    assert straight.curves["observed"].rests_on == ()
    assert straight.rests_on().empty
    lonely = (x == 300) & (y == 200)
    island = run(results_of(np.where(lonely, LEVEL - 0.5, height), x, y), grid=50)
    alone = island.curves["observed"].rests_on
    assert "signal_300_200" in alone
    assert island.rests_on()["patch"].tolist() == list(alone)
    assert island.as_json()["curves"]["observed"]["rests_on"] == list(alone)
    # A point that the others put on the other side narrowly.
    changed = np.where((x == 500) & (y == 200), LEVEL + 0.2, height)
    assert run(results_of(changed, x, y), grid=50).curves["observed"].rests_on == ()
