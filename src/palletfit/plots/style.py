"""How all plots look, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from palletfit.colours import COLOURS
from palletfit.errors import ConfigError

__all__ = ["COLOURS", "STYLE", "new_figure", "save"]

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "mathtext.fontset": "dejavusans",
    "axes.linewidth": 1.0,
    # Ticks over hatching and bands, not below them.
    "axes.axisbelow": False,
    "hatch.linewidth": 0.5,
    "hatch.color": "0.65",
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "xtick.major.size": 7,
    "ytick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.minor.size": 3.5,
    # Type 42 (TrueType) is what journals ask for; matplotlib's default is Type 3.
    "pdf.fonttype": 42,
}


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches, which no window shows."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, paths: Sequence[Path]) -> None:
    """Write a figure as PNG and PDF; the same figure gives the same bytes.

    Parameters
    ----------
    figure
        The figure.
    paths
        Files with the ending ``.png`` or ``.pdf``; their folders are made.

    Raises
    ------
    ConfigError
        A file has another ending.
    """
    # Without the time of creation and the version of matplotlib.
    unnamed: dict[str, dict[str, Any]] = {
        ".png": {"Software": None},
        ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    }
    for path in paths:
        if path.suffix not in unnamed:
            raise ConfigError(
                "A plot cannot be written in this format.",
                remedy="Use an ending of .png or .pdf.",
                file=path,
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            figure.savefig(path, dpi=200, metadata=unnamed[path.suffix])
