"""Style of all plots, and functions that write them."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend_handler import HandlerTuple
from numpy.typing import NDArray

from palletfit.errors import ConfigError
from palletfit.planes.colours import COLOURS as COLOURS

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "mathtext.fontset": "dejavusans",
    "axes.linewidth": 1.0,
    # Ticks above hatching and bands.
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
    # Journals ask for Type 42 (TrueType); matplotlib's default is Type 3.
    "pdf.fonttype": 42,
}


#: Ratio of width to height that several pages in one PNG approach.
_ASPECT = 1.4
#: Resolution of PNG files.
_DPI = 200
#: Metadata by ending, without the time of creation and the version of matplotlib.
_UNNAMED: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
#: Handle of the legend (an artist, or a tuple of artists drawn over each other) and its words.
Entry = tuple[Any, str]


class Titled(Protocol):
    """Analysis, or another owner of a title."""

    @property
    def title(self) -> str:
        """Title; semicolons part its lines."""


def title_lines(analysis: Titled) -> list[str]:
    """Split the title of an analysis into lines, and add which channels, bins and data it is of."""
    lines = [part.strip() for part in analysis.title.split(";")]
    # Names of channels are no formulas.
    return lines + [line.replace("$", r"\$") for line in getattr(analysis, "choice_words", ())]


def write_legend(figure: Figure, lines: Sequence[str], entries: Sequence[Entry]) -> None:
    """Write lines and a legend above the axes."""
    figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        title="\n".join(lines),
        title_fontsize=11,
        alignment="left",
        handler_map={tuple: HandlerTuple(ndivide=1, pad=0)},
        loc="outside upper left",
        ncols=2,
        frameon=False,
        fontsize=10,
        handlelength=2.6,
        borderaxespad=0.2,
    )


class Shown(Figure):
    """Figure that notebooks show, also without pyplot."""

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as buffer:
            self.savefig(buffer, format="png")
            return buffer.getvalue()


def new_figure(width: float, height: float, *, h_pad: float | None = None) -> Figure:
    """Make an empty figure of a size in inches, without a window.

    The vertical distance between axes is `h_pad` inches (None: matplotlib's default).
    """
    figure = Shown(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=h_pad))
    FigureCanvasAgg(figure)
    return figure


def save_thumbnail(plot: Path, path: Path, width: int) -> None:
    """Write a small copy of a plot as PNG; the same plot gives the same bytes.

    Parameters
    ----------
    plot
        The plot as PNG.
    path
        Path of the copy.
    width
        Width of the copy in pixels.
    """
    content = imread(plot)
    height = round(width * content.shape[0] / content.shape[1])
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(content, interpolation="antialiased", aspect="auto")
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100, format="png", metadata={"Software": None})


def save(figure: Figure, paths: Sequence[Path]) -> None:
    """Write a figure as PNG and PDF; the same figure gives the same bytes.

    Parameters
    ----------
    figure
        The figure.
    paths
        Files with the ending ``.png`` or ``.pdf``; their folders are created.

    Raises
    ------
    ConfigError
        A file has another ending.
    """
    for path in _writing(paths):
        figure.savefig(path, dpi=_DPI, metadata=_UNNAMED[path.suffix])


def save_pages(figures: Sequence[Figure], paths: Sequence[Path]) -> None:
    """Write figures as one PNG, side by side in rows, or as one PDF, with one page each.

    Parameters
    ----------
    figures
        The figures, at least one.
    paths
        See :func:`save`.

    Raises
    ------
    ConfigError
        A file has another ending.
    """
    for path in _writing(paths):
        if path.suffix == ".pdf":
            with PdfPages(path, metadata=_UNNAMED[".pdf"]) as pages:
                for figure in figures:
                    pages.savefig(figure)
        else:
            content = _tiled([_pixels(figure) for figure in figures])
            imsave(path, content, dpi=_DPI, metadata=_UNNAMED[".png"])


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure as an image, shape (rows, columns, 4)."""
    with io.BytesIO() as buffer:
        figure.savefig(buffer, dpi=_DPI, format="png")
        buffer.seek(0)
        content = imread(buffer)
    return np.asarray((255 * content).round(), dtype=np.uint8)


def _tiled(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Arrange images in rows on a white background, so that the whole is no long strip."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    columns = min(
        range(1, len(images) + 1),
        key=lambda count: abs(
            math.log(count * width / (math.ceil(len(images) / count) * height) / _ASPECT)
        ),
    )
    padded = [
        np.pad(
            image,
            ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)),
            constant_values=255,
        )
        for image in images
    ]
    padded += [np.full_like(padded[0], 255)] * (-len(padded) % columns)
    rows = [np.hstack(padded[first : first + columns]) for first in range(0, len(padded), columns)]
    return np.vstack(rows)


def _writing(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield each path with its folder created and the style of the project active."""
    for path in paths:
        if path.suffix not in _UNNAMED:
            raise ConfigError(
                "A plot cannot be written in this format.",
                remedy="Use an ending of .png or .pdf.",
                file=path,
            )
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            yield path
