"""Exclusion plots: what they show, and that files are reproducible."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from palletfit.config import Analysis, ContourSettings, Plane, parse
from palletfit.errors import ConfigError
from palletfit.planes.colours import COLOURS
from palletfit.planes.contour import CURVES, exclusion
from palletfit.planes.plots import draw_exclusion
from palletfit.planes.style import save

LEVEL = norm.isf(0.05)
ANALYSIS = parse(
    Analysis,
    {
        "name": "toy",
        "title": r"$\tilde{b}\tilde{b}$ production; $\sqrt{s} = 13$ TeV",
        "pallet": {"builtin": "demo"},
        "regions": {"A": {"workspace": "b.json", "patchset": "p.json"}},
        "labels": ["m1", "m2"],
        "planes": {
            "masses": {
                "x": "m1",
                "y": "m2",
                "x_title": "$m_1$ [GeV]",
                "y_title": "$m_2$ [GeV]",
                "title": "$m_3 = 60$ GeV",
                "forbidden": {"y_above": "x - 100", "label": "not possible"},
            }
        },
    },
    file="toy.yaml",
)
PLANE = ANALYSIS.planes["masses"]
PUBLISHED = {"observed": [np.array([[500.0, 0.0], [500.0, 400.0]])]}


def results(offset: float = 0.0, count: int = 9) -> pd.DataFrame:
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 800, count), [0, 200, 400]))
    shifts = dict(zip(CURVES, (0, 0, 0.5, -0.5, 1, -1), strict=True))
    significance = LEVEL + offset + (500 - x) / 200
    return pd.DataFrame(
        {
            "patch": [f"signal_{a:g}_{b:g}" for a, b in zip(x, y, strict=True)],
            "m1": x,
            "m2": y.astype(float),
            "region": "A",
            "status": "ok",
            **{name: norm.sf(significance + shift) for name, shift in shifts.items()},
        }
    )


def draw(table: pd.DataFrame, plane: Plane = PLANE, published=PUBLISHED, bands=(1,), **options):
    settings = ContourSettings(grid=60, bands=list(bands))
    return draw_exclusion(exclusion(table, plane, settings, published), ANALYSIS, plane, **options)


@pytest.fixture(scope="module")
def figure():
    """The usual drawing, for tests that change nothing in it."""
    return draw(results())


def legend_texts(figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def vertices(figure, colour: str):
    """Vertices of the lines of a colour in the axes."""
    lines = [line for line in figure.axes[0].lines if line.get_color() == colour]
    return np.concatenate([line.get_xydata() for line in lines])


def test_legend_and_titles_say_what_is_drawn():
    table = results()
    table.loc[3, "status"] = "suspect"
    table.loc[[5, 8], "status"] = "failed"
    table.loc[[5, 8], [*CURVES]] = np.nan
    figure = draw(table)
    assert legend_texts(figure) == [
        "Observed limit",
        r"Expected limit ($\pm1$ $\sigma_{\mathrm{exp}}$)",
        "Published observed limit",
        "Signal points",
        "Fit not trusted (1)",
        "Fit failed (2, 1 next to the contour)",
    ]
    title = figure.legends[0].get_title().get_text().splitlines()
    assert title == [*ANALYSIS.title.split("; "), "$m_3 = 60$ GeV; all limits at 95% CL"]
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == (PLANE.x_title, PLANE.y_title)
    assert "not possible" in [text.get_text() for text in axes.texts]
    np.testing.assert_array_equal(vertices(figure, COLOURS["failed"]), [[500, 0], [800, 0]])
    np.testing.assert_array_equal(vertices(figure, COLOURS["suspect"]), [[300, 0]])


def test_the_legend_says_which_published_curve_is_left_out():
    left_out = {"expected": "The file is not there."}
    contours = exclusion(results(), PLANE, ContourSettings(grid=60), PUBLISHED, left_out)
    assert contours.as_json()["left_out"] == left_out
    assert (
        "left_out" not in exclusion(results(), PLANE, ContourSettings(grid=60), PUBLISHED).as_json()
    )
    texts = legend_texts(draw_exclusion(contours, ANALYSIS, PLANE))
    assert texts[2:4] == ["Published observed limit", "Published expected limit: left out"]


def test_lines_and_band_are_where_they_should_be(figure):
    (axes,) = figure.axes
    np.testing.assert_allclose(vertices(figure, COLOURS["observed"])[:, 0], 500, atol=1)
    np.testing.assert_allclose(vertices(figure, COLOURS["published"])[:, 0], 500)
    assert (axes.collections[0].get_facecolor()[0] == mpl.colors.to_rgba(COLOURS["band1"])).all()
    extent = axes.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose([extent.x0, extent.x1], [400, 600], atol=1)


def test_another_minimum_is_a_thin_line_with_an_entry_of_its_own():
    table = results()
    shifted = {f"{name}_other": norm.sf(norm.isf(table[name]) + 0.5) for name in CURVES}
    figure = draw(table.assign(minimum_other="nearest", **shifted))
    assert legend_texts(figure)[2:4] == [
        "Observed, nearest minimum",
        "Expected, nearest minimum",
    ]
    np.testing.assert_allclose(vertices(figure, COLOURS["other"])[:, 0], 600, atol=1)
    np.testing.assert_allclose(vertices(figure, COLOURS["observed"])[:, 0], 500, atol=1)
    widths = {line.get_color(): line.get_linewidth() for line in figure.axes[0].lines}
    assert widths[COLOURS["other"]] < widths[COLOURS["observed"]]


def test_both_bands_lie_in_each_other():
    (axes,) = draw(results(), bands=(1, 2)).axes
    wide, narrow = (collection.get_paths()[0].get_extents() for collection in axes.collections[:2])
    np.testing.assert_allclose(
        [wide.x0, wide.x1, narrow.x0, narrow.x1], [300, 700, 400, 600], atol=1
    )


def test_without_a_contour_the_legend_gives_the_reason():
    nothing = legend_texts(draw(results(offset=-5), published={}))
    assert nothing[0] == "Observed limit: no point excluded"
    assert "Expected limit" in nothing[1]
    everything = legend_texts(draw(results(offset=8), published={}))
    assert everything[0] == "Observed limit: all points excluded"
    line = results().query("m2 == 0")
    assert legend_texts(draw(line))[0] == "Observed limit: points on one line"
    assert legend_texts(draw(results().iloc[:0], published={}))[0].endswith("too few points")


def test_cls_are_written_beside_few_points_only(figure):
    def numbers(drawn):
        return [text.get_text() for text in drawn.axes[0].texts if text.get_text()[0].isdigit()]

    assert numbers(figure) == []
    assert len(numbers(draw(results(), show_cls=True))) == 27
    few = results(count=3)
    assert len(numbers(draw(few))) == 9
    assert numbers(draw(few, show_cls=False)) == []


def test_everything_is_inside_of_the_figure(figure):
    renderer = figure.canvas.get_renderer()
    drawn = figure.get_tightbbox(renderer)
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= figure.get_figwidth()
    assert drawn.y1 <= figure.get_figheight()
    legend = figure.legends[0].get_window_extent(renderer)
    assert not legend.overlaps(figure.axes[0].get_window_extent(renderer))


def test_global_settings_stay_as_they_are():
    before = dict(mpl.rcParams)
    draw(results())
    assert dict(mpl.rcParams) == before


def test_files_are_reproducible(tmp_path, monkeypatch):
    monkeypatch.setattr("palletfit.planes.style._DPI", 40)
    for folder in ("a", "b"):
        save(draw(results()), [tmp_path / folder / f"exclusion.{kind}" for kind in ("png", "pdf")])
    for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        first, second = ((tmp_path / f / f"exclusion.{kind}").read_bytes() for f in ("a", "b"))
        assert first.startswith(start)
        assert first == second
        assert b"CreationDate" not in first


def test_other_formats_are_refused(figure, tmp_path):
    with pytest.raises(ConfigError, match="format"):
        save(figure, [tmp_path / "exclusion.bmp"])


def test_points_on_which_a_contour_rests_are_marked():
    table = results(count=17)
    assert not any("alone" in text for text in legend_texts(draw(table)))
    table.loc[table["patch"] == "signal_300_200", [*CURVES]] = 0.2
    figure = draw(table)
    (text,) = [text for text in legend_texts(figure) if "alone" in text]
    (ring,) = [line for line in figure.axes[0].lines if line.get_markersize() == 8]
    assert [300, 200] in ring.get_xydata().tolist()
    assert text == f"A contour rests on this point alone ({len(ring.get_xydata())})"
