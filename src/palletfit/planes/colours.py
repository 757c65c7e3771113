"""Colours of all plots and pages, without matplotlib, whose import is slow."""

from __future__ import annotations

#: They differ in lightness as well as in hue (for print in grey), after Okabe and Ito's palette for
#: the colour-blind. All of them are also colours of CSS.
COLOURS = {
    "observed": "#8b1a1a",
    "expected": "black",
    "published": "#0072b2",
    # Contours with another minimum of the likelihood.
    "other": "#009e73",
    "band1": "#f4d74a",
    "band2": "#fbf1bf",
    # The usual colours of a limit's bands along a line.
    "sigma1": "#52c452",
    "sigma2": "#ffe45c",
    "points": "#595959",
    "suspect": "#d55e00",
    "failed": "#d40000",
    "one_sigma": "#b5d99c",
    "two_sigma": "#fbf1bf",
    "signal": "#8b1a1a",
}
