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

#: The same on a dark background, for pages whose reader prefers that.
DARK = {
    "observed": "#ff8f80",
    "expected": "#f2f2f2",
    "published": "#6fb7ff",
    "other": "#3fd6a8",
    "band1": "#6f5f12",
    "band2": "#403a1c",
    "points": "#b9b9b9",
    "suspect": "#ff9d4d",
    "failed": "#ff6b6b",
}
#: Further colours of pages by their use, light and dark.
SURFACES = {
    "page": ("white", "#16181b"),
    "raised": ("#f4f4f4", "#24272c"),
    "text": ("#222", "#e4e4e4"),
    "muted": ("#666", "#a3a8ae"),
    "faint": ("#ddd", "#3a3e44"),
    "axis": ("#333", "#c4c4c4"),
    "fitted": ("#4a7fa8", "#6aa3d0"),
    "forbidden": ("#ededed", "#2b2e33"),
    "hatch": ("#a6a6a6", "#565b62"),
    "border": ("#777", "#8b9097"),
}
