"""Sizes of markers in a plane."""

from __future__ import annotations

import pytest

from palletfit.planes.view import MANY, marker_scale


def test_many_markers_cover_no_more_than_few():
    assert marker_scale(0) == marker_scale(3) == marker_scale(MANY) == 1.0
    for points in (MANY + 1, 2000, 5000):
        assert points * marker_scale(points) ** 2 == pytest.approx(MANY)
