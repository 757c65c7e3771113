"""Plot of bands by name: titles, and names without a value."""

from __future__ import annotations

from palletfit.products.limits.bands import draw_bands

BAND = (1.3, [0.6, 0.8, 1.1, 1.6, 2.2])


def texts(title: str | list[str]) -> tuple[str, list[str]]:
    (figure,) = draw_bands({"a": BAND, "b": (None, [None] * 5)}, title, "limit", None)
    (axes,) = figure.axes
    return figure.legends[0].get_title().get_text(), [text.get_text() for text in axes.texts]


def test_a_name_without_a_value_says_so() -> None:
    assert texts("x")[1] == ["no value"]


def test_lines_have_formulas_and_names_have_none() -> None:
    assert texts(["$m_1$", "below"])[0] == "$m_1$\nbelow"
    assert texts("$m_1$; below")[0] == "\\$m_1\\$\nbelow"
