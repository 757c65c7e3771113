"""Visible range of a plane, and the sizes of markers in it."""

from __future__ import annotations

import math

import numpy as np

from palletfit.core.arrays import FloatArray

#: Free space around the content, as a fraction of the ranges.
MARGIN = 0.04
#: From this number of points on markers become smaller.
MANY = 500


def view(shown: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute the lower and upper ends of the axes, both of shape (2,).

    Parameters
    ----------
    shown
        Points that must be visible, shape (n, 2) with n > 0.
    """
    low, high = shown.min(axis=0), shown.max(axis=0)
    margin = MARGIN * np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    # Masses are not negative: an axis that starts near zero starts at zero.
    return np.where((low >= 0) & (low < margin), 0.0, low - margin), high + margin


def marker_scale(points: int) -> float:
    """Return a factor for the sizes of markers, with which many points leave contours visible.

    Up to :data:`MANY` points it is one. From there on the area of all markers together stays.
    """
    return math.sqrt(MANY / max(points, MANY))
