"""What part of a plane is shown."""

from __future__ import annotations

import numpy as np

from palletfit.core.arrays import FloatArray

#: Free space around what is shown, in parts of the ranges.
MARGIN = 0.04


def view(shown: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lower and upper ends of the axes, both of shape (2,).

    Parameters
    ----------
    shown
        Everything that has to be seen, shape (n, 2); n is not zero.
    """
    low, high = shown.min(axis=0), shown.max(axis=0)
    margin = MARGIN * np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    # Masses are not negative: a scale that starts at zero starts there exactly.
    return np.where((low >= 0) & (low < margin), 0.0, low - margin), high + margin
