"""Quantities of products that colour points and define a contour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from palletfit.core.arrays import FloatArray

#: Largest score in a contour, and score of the outermost colour of the scale.
LARGEST, SHOWN = 5.0, 3.0
#: Colours of scores from ``-SHOWN`` (not excluded) to ``SHOWN`` (excluded), in equal steps.
SCALE = ("#2c6fa6", "#a9c9e2", "#f3efe6", "#dfa295", "#8b1a1a")


@dataclass(frozen=True)
class Quantity:
    """Number of a point, observed and expected.

    Attributes
    ----------
    name
        Name in pages and plots.
    score
        Function of an array of values and the confidence level. It is zero on the contour, positive
        where signal is excluded, and nearly linear in the masses.
    ticks
        Values on the colour scale, and their text in HTML.
    """

    name: str
    score: Callable[[FloatArray, float], FloatArray]
    ticks: Mapping[float, str]


def _significance(values: FloatArray, confidence_level: float) -> FloatArray:
    """Compute the significance above the level, as in :mod:`palletfit.planes.contour`."""
    from scipy.special import ndtr, ndtri  # the live page needs this module, not SciPy

    bounded = np.clip(values, *ndtr([-LARGEST, LARGEST]))
    return np.asarray(ndtri(1.0 - confidence_level) - ndtri(bounded))


def _minus_log(values: FloatArray, confidence_level: float) -> FloatArray:  # noqa: ARG001
    return np.clip(-np.log(np.maximum(values, 1e-300)), -LARGEST, LARGEST)


#: Of hypothesis tests.
CLS = Quantity(
    "CLs",
    _significance,
    {0.9: "0.9", 0.5: "0.5", 0.05: "0.05", 1e-3: "0.001", 1e-6: "10<sup>\N{MINUS SIGN}6</sup>"},
)
#: Of upper limits.
LIMIT = Quantity(
    "Upper limit on \N{GREEK SMALL LETTER MU}",
    _minus_log,
    {20: "20", 5: "5", 1: "1", 0.2: "0.2", 0.05: "0.05"},
)


def colour(score: float) -> str:
    """Choose the colour of a score."""
    position = (min(max(score, -SHOWN), SHOWN) + SHOWN) / (2 * SHOWN) * (len(SCALE) - 1)
    index = min(int(position), len(SCALE) - 2)
    low, high = (
        [int(text[at : at + 2], 16) for at in (1, 3, 5)] for text in SCALE[index : index + 2]
    )
    mixed = (round(a + (position - index) * (b - a)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)
