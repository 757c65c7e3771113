"""Plots of diagnostics: what they show, also where there is little or much to show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from palletfit.config import DiagnosticsSettings, FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.errors import ConfigError
from palletfit.pallet.demo.electroweak import demo_patchset, demo_workspace
from palletfit.pallet.patchset import parse_patchset
from palletfit.planes import style
from palletfit.planes.style import new_figure, save, save_pages
from palletfit.products.diagnostics.compute import Diagnostics, diagnose
from palletfit.products.diagnostics.impacts import Impact
from palletfit.products.diagnostics.plots import (
    draw_correlations,
    draw_diagnostics,
    draw_pulls,
    draw_ranking,
    draw_yields,
    poisson_errors,
    shorten,
)
from palletfit.products.diagnostics.records import Correlations

from ...runs.test_state import analysis

TITLE = r"$\tilde{b}\tilde{b}$ production"


@pytest.fixture(scope="module")
def found() -> Diagnostics:
    workspace = demo_workspace()
    patches = parse_patchset(demo_patchset(workspace), Path("patchset.json")).patches
    (patch,) = (patch for patch in patches if patch.name == "DEMO_C1N2_Wh_700_50")
    settings = DiagnosticsSettings(parameters=["JE*", "mu_*"])
    ((_, made),) = diagnose(BatchedEngine(workspace, FitSettings()), [patch], settings)
    return made


@pytest.fixture(scope="module")
def bare(found: Diagnostics) -> Diagnostics:
    """A model with one channel and nothing but the parameter of interest."""
    poi = found.parameter(found.poi)
    return replace(
        found,
        parameters=(poi,),
        impacts=(),
        channels=found.channels[:1],
        correlations=Correlations((), ()),
    )


@pytest.fixture(scope="module")
def short(found: Diagnostics) -> Diagnostics:
    """A model with three channels, of which the last one has the signal."""
    channels = (*found.channels[:2], found.channels[-1])
    names = {found.poi, *(impact.parameter for impact in found.impacts)}
    parameters = tuple(entry for entry in found.parameters if entry.name in names)
    return replace(found, channels=channels, parameters=parameters)


@pytest.fixture
def _few_pixels(monkeypatch):
    monkeypatch.setattr(style, "_DPI", 40)


def row_names(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_pulls_show_every_parameter_once(found):
    figures = draw_pulls(found, TITLE, per_page=15)
    shown = [name for figure in figures for axes in figure.axes for name in row_names(axes)]
    assert sorted(shown) == sorted(item.name for item in found.parameters)
    assert len(figures) == 3
    # Free factors are by their values, below the last page.
    assert [len(figure.axes) for figure in figures] == [1, 1, 2]
    assert "(1 of 3)" in figures[0].get_suptitle()
    first = found.parameter(row_names(figures[0].axes[0])[0])
    points, *_ = figures[0].axes[0].containers[0]
    assert points.get_xdata()[0] == pytest.approx(first.pull)


def test_pulls_can_be_the_conspicuous_ones(found):
    (figure,) = draw_pulls(found, TITLE, max_parameters=5)
    names = row_names(figure.axes[0])
    constrained = [item for item in found.parameters if item.pull is not None]
    sizes = {item.name: max(abs(item.pull), abs(1 - item.constraint)) for item in constrained}
    assert {*names} == {*sorted(sizes, key=sizes.__getitem__)[-5:]}


def test_ranking_shows_the_leading_impacts(found):
    figure = draw_ranking(found, TITLE, max_parameters=4)
    pulls, impacts = figure.axes
    assert row_names(pulls) == [item.parameter for item in found.impacts[:4]]
    boxes = {round(box.get_width(), 9) for container in impacts.containers for box in container}
    leading = found.impacts[0]
    assert {round(leading.postfit_up, 9), round(leading.prefit_down, 9)} <= boxes
    low, high = impacts.get_xlim()
    assert low == -high
    assert high > leading.size
    (legend,) = figure.legends
    assert "4 of 7 parameters" in legend.get_title().get_text()


def test_ranking_leaves_out_what_does_not_move_mu(found):
    first, *others = found.impacts
    none = [Impact(item.parameter, 0.0, 0.0, 0.0, None) for item in others]
    figure = draw_ranking(replace(found, impacts=(first, *none)), TITLE)
    assert row_names(figure.axes[0]) == [first.parameter]
    words = figure.legends[0].get_title().get_text()
    assert "1 of 7 parameters, no other one moves" in words
    figure = draw_ranking(replace(found, impacts=tuple(none)), TITLE)
    assert row_names(figure.axes[0]) == []
    assert "none of 6 parameters moves" in figure.legends[0].get_title().get_text()


def test_correlations_are_pruned_and_keep_mu(found):
    figure = draw_correlations(found, TITLE, threshold=0.3, max_parameters=6)
    names = row_names(figure.axes[0])
    assert found.poi in names
    assert len(names) <= 6
    (image,) = figure.axes[0].images
    matrix = np.asarray(image.get_array())
    np.testing.assert_allclose(np.diag(matrix), 1.0)
    np.testing.assert_allclose(matrix, matrix.T)


@pytest.mark.parametrize("when", ["prefit", "postfit"])
def test_yields_are_stacked_to_the_model(short, when):
    figures = draw_yields(short, TITLE, when, per_page=2)
    assert [len(figure.axes) for figure in figures] == [4, 2]
    upper = figures[0].axes[0]
    channel = short.channels[0]
    prediction = getattr(channel, when)
    model = upper.lines[0].get_ydata()
    np.testing.assert_allclose(model, np.repeat(prediction.model.values, 2))
    # The last of the stack ends there, too.
    samples = upper.collections[: len(prediction.samples)]
    tops = max(path.vertices[:, 1].max() for item in samples for path in item.get_paths())
    assert tops == pytest.approx(max(prediction.model.values))
    # The signal is in the signal regions only.
    (legend,) = figures[1].legends
    words = [text.get_text() for text in legend.get_texts()]
    mu = short.mu_hat if when == "postfit" else 1.0
    assert rf"DEMO_C1N2_Wh_700_50 ($\mu = {mu:.3g}$)" in words


def test_errors_of_counts_are_garwoods():
    below, above = poisson_errors(np.array([0.0, 1.0, 10.0]))
    np.testing.assert_allclose(below, [0.0, 0.827, 3.109], atol=1e-3)
    np.testing.assert_allclose(above, [1.841, 2.300, 4.267], atol=1e-3)


@pytest.mark.usefixtures("_few_pixels")
def test_a_bare_model_can_be_drawn(bare, tmp_path):
    figures = {
        "pulls": draw_pulls(bare, TITLE)[0],
        "ranking": draw_ranking(bare, TITLE),
        "correlations": draw_correlations(bare, TITLE),
        "yields": draw_yields(bare, TITLE)[0],
    }
    for name, figure in figures.items():
        save(figure, [tmp_path / f"{name}.png"])


@pytest.mark.usefixtures("_few_pixels")
def test_empty_bins_and_data_far_off_can_be_drawn(found, tmp_path):
    channel = found.channels[0]
    count = len(channel.data)
    model = replace(channel.postfit.model, values=(0.0,) + (1e-3,) * (count - 1))
    odd = replace(
        channel,
        data=(0.0,) + (500.0,) * (count - 1),
        postfit=replace(channel.postfit, model=model),
    )
    (figure,) = draw_yields(replace(found, channels=(odd,)), TITLE)
    assert figure.axes[0].get_yscale() == "log"
    save(figure, [tmp_path / "odd.png"])


def test_names_are_safe_and_not_too_long():
    assert shorten("a" * 60, 11) == "aaaaa\N{HORIZONTAL ELLIPSIS}aaaaa"
    assert shorten("cost_$5") == r"cost_\$5"


def test_all_plots_of_a_record(short):
    record = {"patch": "cost_$5", "values": {}, **short.as_json()}
    drawn = draw_diagnostics(json.loads(json.dumps(record)), analysis(), "SR")
    assert list(drawn) == ["pulls", "ranking", "correlations", "yields_prefit", "yields_postfit"]
    for figure in drawn["pulls"]:
        assert figure.get_suptitle().startswith("a search\ncost_\\$5, region SR\nbest fit")
    title = drawn["yields_prefit"][0].legends[0].get_title().get_text()
    assert title == "a search\ncost_\\$5, region SR\nBefore the fit"


def test_plots_of_a_failure_say_why(tmp_path):
    error = {"problem": "It cost $5 and broke.", "remedy": "Mend it."}
    drawn = draw_diagnostics({"patch": "p", "status": "failed", "error": error}, analysis(), "SR")
    assert len(drawn) == 5
    for (figure,) in drawn.values():
        (text,) = figure.axes[0].texts
        assert text.get_text() == "Failed: It cost \\$5 and broke.\nMend it."
    save_pages(drawn["pulls"], [tmp_path / "failed.png"])


def test_no_page_of_pulls_is_longer_than_the_others(found):
    # As many parameters without a constraint as there are with one.
    some = (*found.parameters[:14], found.parameter(found.poi))
    free = [
        replace(some[0], name=f"free_{n}", pull=None, prefit_width=None, error=1.0)
        for n in range(15)
    ]
    figures = draw_pulls(replace(found, parameters=(*some, *free)), TITLE, per_page=10)
    rows = [sum(len(row_names(axes)) for axes in figure.axes) for figure in figures]
    assert sum(rows) == 30
    assert max(rows) <= 10
    assert max(figure.get_figheight() for figure in figures) < 7


def test_pages_are_side_by_side(tmp_path):
    figures = [new_figure(1.0, 1.0) for _ in range(5)]
    figures[3].patch.set_facecolor("black")
    save_pages(figures, [tmp_path / "pages.png"])
    image = imread(tmp_path / "pages.png")
    assert image.shape[:2] == (400, 600)
    assert image[300, 100, 0] == 0.0  # the fourth begins the second row
    assert image[300, 500, 0] == image[100, 100, 0] == 1.0


def test_pages_of_several_sizes_are_whole_and_the_same_again(tmp_path):
    figures = [new_figure(2.0, 1.0), new_figure(1.0, 2.0)]
    figures[1].patch.set_facecolor("black")
    for name in ("one", "two"):
        save_pages(figures, [tmp_path / f"{name}.png", tmp_path / f"{name}.pdf"])
    image = imread(tmp_path / "one.png")
    assert image.shape[:2] == (400, 800)
    assert image[300, 500, 0] == 0.0
    assert image[300, 700, 0] == image[300, 100, 0] == 1.0
    assert b"/Count 2" in (tmp_path / "one.pdf").read_bytes()
    for ending in ("png", "pdf"):
        one, two = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one == two
    with pytest.raises(ConfigError, match="cannot be written"):
        save_pages(figures, [tmp_path / "one.bmp"])
