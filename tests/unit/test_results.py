"""Results in a notebook: a line, a table, a plot, and errors that help."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

import palletfit
from palletfit.errors import ConfigError, FitError, PalletError
from palletfit.results import Results

from . import models

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def content() -> tuple[dict, dict]:
    """Workspace and patchset of six points on a grid; one patch does not apply."""
    workspace = models.background("normsys")
    values = [(100.0 * x, 50.0 * y) for x in (1, 2, 3) for y in (1, 2)]
    patches = [models.patch(f"signal_{a:g}_{b:g}", [a, b]) for a, b in values]
    patches[0]["patch"][0]["path"] = "/channels/7/samples/0"
    return workspace, models.patchset(workspace, patches)


@pytest.fixture(scope="module")
def tests(content: tuple[dict, dict]) -> Results:
    """Hypothesis tests of all points."""
    return palletfit.hypotest(*content)


def texts(figure: Figure) -> str:
    """All words of legend and axes."""
    shown = [text for legend in figure.legends for text in legend.get_texts()]
    titles = [legend.get_title() for legend in figure.legends]
    axes = figure.axes[0]
    return "\n".join(x.get_text() for x in [*titles, *shown, axes.xaxis.label, axes.yaxis.label])


def test_the_representation_is_one_short_line(tests: Results) -> None:
    assert repr(tests) == "<Results of 6 patches with HypotestResult: 5 ok, 1 failed>"
    only = Results({}, {"a": FitError("no minimum", remedy="none")}, {"a": ()})
    assert repr(only) == "<Results of 1 patch: 1 failed>"


def test_a_notebook_shows_a_table_and_names_are_text() -> None:
    results = {f"{EVIL}{index}": _Row() for index in range(40)}
    shown = Results(results, {}, dict.fromkeys(results, ()))._repr_html_()
    assert "40 patches" in shown
    assert shown.count("<tr") < 20
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "\x1b" not in shown


class _Row:
    def row(self) -> dict:
        return {"status": "ok", "mu": None, "remark": "\x1b[2J"}


def test_the_table_has_a_row_for_every_patch(tests: Results) -> None:
    table = tests.to_dataframe()
    assert list(table.columns[:5]) == ["patch", "m1", "m2", "status", "CLs_obs"]
    assert table.columns[-1] == "remark"
    assert list(table["patch"]) == list(tests.values_of)
    assert table["status"].tolist() == ["failed"] + ["ok"] * 5
    row = table.set_index("patch").loc["signal_200_50"]
    assert row["CLs_obs"] == tests["signal_200_50"].p_values.CLs_obs
    assert table["CLs_obs"].isna().tolist() == [True] + [False] * 5


def test_many_patches_are_drawn_in_the_plane_of_their_labels(tests: Results) -> None:
    figure = tests.plot()
    assert figure.axes[0].get_xlabel() == "m1"
    assert figure.axes[0].get_ylabel() == "m2"
    assert "Fit failed (1)" in texts(figure)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_one_patch_is_drawn_as_a_band(tests: Results) -> None:
    figure = tests.plot("signal_200_50")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["signal_200_50"]
    assert "CLs" in texts(figure)
    with pytest.raises(PalletError, match="does not apply"):
        tests.plot("signal_100_50")


def test_a_plot_that_is_not_there_says_so(tests: Results, content: tuple[dict, dict]) -> None:
    with pytest.raises(ConfigError, match="no result of a patch") as error:
        tests.plot("signal_200_5")
    assert "Did you mean 'signal_200_50'" in error.value.remedy
    with pytest.raises(ConfigError, match="two axes"):
        tests.plot(x="m1")
    with pytest.raises(ConfigError, match="x = 'm7'"):
        tests.plot(x="m7", y="m2")
    with pytest.raises(ConfigError, match="confidence_level"):
        tests.plot(confidence_level=2)
    fits = palletfit.fits(*content, patches=["signal_2*"])
    with pytest.raises(ConfigError, match="drawn for one patch") as error:
        fits.plot()
    assert "plot('signal_200_50')" in error.value.remedy


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("fits", {}, "Best fit"),
        ("pulls", {}, r"\theta"),
        ("goodness_of_fit", {}, "saturated"),
        ("mu_scan", {"points": 3, "tolerance": 0.1}, "Signal strength"),
        ("toys", {"count": 5}, "Test statistic"),
        ("upper_limits", {"tolerance": 0.1}, "Upper limit on mu"),
    ],
)
def test_every_kind_of_result_has_a_plot(
    content: tuple[dict, dict], name: str, options: dict, words: str
) -> None:
    results = getattr(palletfit, name)(*content, patches="signal_200_50", **options)
    figure = results.plot()
    assert any(words in axes.get_xlabel() for axes in figure.axes)


def test_limits_are_drawn_in_a_plane_and_discoveries_as_bands(content: tuple[dict, dict]) -> None:
    limits = palletfit.upper_limits(*content, tolerance=0.1)
    assert "Observed limit on" in texts(limits.plot())
    discovery = palletfit.hypotest(*content, test_statistic="q0").plot()
    assert discovery.axes[0].get_xlabel() == "p0"


def test_unknown_settings_offer_close_names(content: tuple[dict, dict]) -> None:
    for name, close in (("bakend", "backend"), ("progres", "progress"), ("sgnal_in", "signal_in")):
        with pytest.raises(ConfigError, match=f"no argument or setting '{name}'") as error:
            palletfit.hypotest(*content, **{name: True})
        assert f"Did you mean {close!r}" in error.value.remedy
    with pytest.raises(ConfigError, match="fit has no argument") as error:
        palletfit.fit(content[0], tolerance=0.1)
    assert "Did you mean 'nll_tolerance'" in error.value.remedy
    with pytest.raises(AttributeError) as missing:
        palletfit.hypotset  # noqa: B018
    assert missing.value.name == "hypotset"


def test_no_choice_of_patches_is_silently_empty(content: tuple[dict, dict]) -> None:
    with pytest.raises(ConfigError, match="empty list"):
        palletfit.hypotest(*content, patches=[])
    with pytest.raises(ConfigError, match=r"patches='nothing\*'"):
        palletfit.fits(content[0], patches="nothing*", poi="")


def test_limits_are_drawn_with_the_level_they_were_computed_at(content: tuple[dict, dict]) -> None:
    limits = palletfit.upper_limits(*content, tolerance=0.1, confidence_level=0.9)
    assert limits.confidence_level == 0.9
    name = next(iter(limits))
    (axes, *_) = limits.plot(name).axes
    assert "90% CL" in texts(axes.figure)
    with pytest.raises(ConfigError, match=r"computed at a confidence level of 0\.9"):
        limits.plot(confidence_level=0.95)


def test_a_strong_exclusion_is_no_discovery() -> None:
    strong = palletfit.hypotest(models.counting(6000.0, 3000.0, 3000.0))
    assert strong.only.p_values.CLs_obs == 0.0
    (axes, *_) = strong.plot().axes
    assert axes.get_xlabel() == "CLs"
    clear = palletfit.hypotest(models.counting(20.0, 50.0, 250.0), test_statistic="q0")
    assert clear.plot().axes[0].get_xlabel() == "p0"
