"""The plot of errors of CLs: of one point, and of none."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from palletfit.learned.plots import draw_referee  # needs matplotlib
from palletfit.learned.referee import Referee, RefereedPoint


def verdict(status: str) -> Referee:
    exact, learned = {"CLs_obs": 0.08}, {"CLs_obs": 0.03}
    point = RefereedPoint("one", status, "", (5.0,), True, exact, learned)
    return Referee((point,), ("SR[0]",), (), {})


def test_one_point_is_drawn_at_its_exact_cls_and_error():
    (figure,) = draw_referee(verdict("ok"), "network")
    drawn = [line.get_xydata() for line in figure.axes[0].lines if line.get_marker() == "v"]
    ((x, y),) = (pair for pairs in drawn for pair in pairs)
    assert (x, y) == (0.08, pytest.approx(-0.05))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "Wrongly excluded: 1 of 1" in labels
    assert "Open: outside of the training range (1)" in labels


def test_nothing_is_drawn_where_nothing_is_compared():
    assert draw_referee(verdict("suspect"), "network") == []
