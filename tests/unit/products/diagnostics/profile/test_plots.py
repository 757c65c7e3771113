"""Plots of profile likelihoods: what they say, also with long names and at bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from matplotlib.figure import Figure

import palletfit

from .... import models

#: More than 60 letters, with a sign that starts mathematics.
LONG = "A_parameter_whose_name_has_many_more_letters_than_any_$axis_has_room_for"


def spec() -> dict[str, Any]:
    text = json.dumps(models.full("normsys", observed=(58.0, 45.0)))
    content: dict[str, Any] = json.loads(text.replace('"scale"', f'"{LONG}"'))
    return content


def words(figure: Figure) -> str:
    """All text outside of the axes; it has to be within the figure."""
    figure.canvas.draw()
    (axes,) = figure.axes
    for label in (axes.xaxis.label, axes.yaxis.label, *axes.get_yticklabels()):
        if not label.get_text():
            continue
        box = label.get_window_extent()
        assert box.x0 > -1
        assert box.x1 < figure.bbox.x1 + 1
    texts = [axes.get_xlabel(), axes.get_ylabel()]
    texts += [label.get_text() for label in axes.get_yticklabels()]
    if figure.legends:
        legend = figure.legends[0]
        texts += [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
    if figure.get_suptitle():
        texts.append(figure.get_suptitle())
    return "\n".join(texts)


def test_a_scan() -> None:
    shown = words(palletfit.likelihood_scan(spec(), parameter=LONG, points=3).plot())
    assert "A_parameter_whose_name_ha…" in shown
    for text in ("Best fit: ", "Parabola of the Hessian", "1 (68%): ", "3.84 (95%): "):
        assert text in shown
    shown = words(palletfit.likelihood_scan(spec(), points=3).plot())
    assert "3.84 (95%): 0 (bound) to " in shown
    assert "Bound of the parameter" in shown


def test_contours() -> None:
    question: dict[str, Any] = {"points": 5, "levels": [1.0, 2.295748928898636]}
    contours = palletfit.likelihood_contours(spec(), x=models.POI, y=LONG, **question)
    figure = contours.plot()
    shown = words(figure)
    for text in ("1", "2.3 (68%)", "Bound of the parameter", "Best fit: ", "A_parameter_whose"):
        assert text in shown
    lines = [tuple(line.get_xdata()) for line in figure.axes[0].get_lines()]
    assert contours.only.contours[0].lines[0].x in lines


@pytest.mark.parametrize("asymmetric", [False, True])
def test_impacts(asymmetric: bool) -> None:
    impacts = palletfit.grouped_impacts(
        spec(), groups={LONG: [LONG]}, poi=models.POI, asymmetric=asymmetric
    )
    shown = words(impacts.plot())
    assert f"{models.POI} = {impacts.only.mu_hat:.4g}" in shown
    for text in ("total", "statistical", "systematic", "A_parameter_whose"):
        assert text in shown
    assert ("rise of 2 NLL by one" in shown) is asymmetric
