"""Plots of CLs against the signal strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from palletfit.planes.style import (
    COLOURS,
    STYLE,
    Entry,
    Titled,
    new_figure,
    save,
    title_lines,
    write_legend,
)
from palletfit.products.diagnostics.plots import draw_failure, shorten
from palletfit.runs.product import Drawing, Product
from palletfit.runs.results import chosen_record

#: Begin of the axis, in parts of the tested CLs.
_LOWEST = 0.1


def write_patch(drawing: Drawing, product: type[Product]) -> None:
    """Write the plot of the patch whose record's file has this stem, or why its scan failed."""
    region, record = chosen_record(drawing.manifests, product, drawing.subject)
    level = drawing.settings.contour.confidence_level
    if record["status"] == "failed":
        subject = f"{shorten(record['patch'])}, region {region}"
        title = "\n".join([*title_lines(drawing.analysis), subject])
        figure = draw_failure(title, record["error"])
    else:
        figure = draw_mu_scan(record, drawing.analysis, region, level)
    save(figure, [*drawing.files["png"], *drawing.files["pdf"]])


def draw_mu_scan(
    record: Mapping[str, Any], analysis: Titled, region: str | None, confidence_level: float
) -> Figure:
    """Draw CLs against the signal strength of one patch, with its upper limits.

    Parameters
    ----------
    record
        Of the patch: ``patch``, ``values``, and the content of
        :meth:`palletfit.products.mu_scan.compute.MuScan.as_json`; ``CLs_obs`` is None where data
        are blinded.
    analysis
        Gives the title.
    region
        Name of the region; None: there are none.
    confidence_level
        Of the limits.
    """
    mu, observed = np.asarray(record["mu"], dtype=float), record["CLs_obs"]
    expected = np.asarray(record["CLs_exp"], dtype=float)
    alpha = 1 - confidence_level
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 5.8)
        axes = figure.add_subplot()
        axes.set_yscale("log")
        bands: list[Entry] = []
        for width in (2, 1):
            colour = COLOURS[f"sigma{width}"]
            axes.fill_between(
                mu, expected[:, 2 - width], expected[:, 2 + width], facecolor=colour, linewidth=0
            )
            bands.append((Patch(facecolor=colour), rf"Expected $\pm{width}\,\sigma$"))
        dashed: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.6}
        axes.plot(mu, expected[:, 2], **dashed)
        solid: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 3, "linewidth": 1.6}
        if observed is not None:
            axes.plot(mu, np.asarray(observed, dtype=float), **solid)
        line: dict[str, Any] = {"color": COLOURS["failed"], "linewidth": 1.2}
        axes.axhline(alpha, **line)
        limits = record["limits"]
        lines = [(limits["mu_obs"], "-"), (limits["mu_exp"][2], "--")]
        for value, style in lines:
            if value is not None and mu[0] <= value <= mu[-1]:
                axes.plot(
                    [value, value], [1e-9, alpha], color=COLOURS["failed"], linestyle=style,
                    linewidth=1.2,
                )  # fmt: skip
        axes.set_ylim(_LOWEST * alpha, 1.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(mu[0], mu[-1])
        axes.set_xlabel(r"Signal strength $\mu$", loc="right", fontsize=13)
        axes.set_ylabel(r"CL$_{\mathrm{s}}$", loc="top", fontsize=13)
        of_region = "" if region is None else f", region {region}"
        words = [f"{record['patch']}{of_region}", _limits_in_words(limits)]
        if record["status"] == "suspect":
            words.append("Not every fit is trusted")
        entries: list[Entry] = [
            *(
                []
                if observed is None
                else [(Line2D([], [], **solid), r"Observed CL$_{\mathrm{s}}$")]
            ),
            (Line2D([], [], **dashed), "Expected (median)"),
            *reversed(bands),
            (Line2D([], [], **line), rf"CL$_{{\mathrm{{s}}}}$ = {alpha:.3g}: upper limits"),
        ]
        write_legend(figure, [*title_lines(analysis), *words], entries)
        figure.canvas.draw()
    return figure


def _limits_in_words(limits: Mapping[str, Any]) -> str:
    def shown(value: float | None, state: str) -> str:
        if value is not None:
            return f"{value:.3g}"
        return f"> {limits['mu_max']:g}" if state == "beyond" else state

    state = limits["observed"]["state"]
    observed = "" if state == "blinded" else f"{shown(limits['mu_obs'], state)} observed, "
    expected = [
        shown(value, limit["state"])
        for value, limit in zip(limits["mu_exp"], limits["expected"], strict=True)
    ]
    return (
        rf"Upper limit on $\mu$: {observed}{expected[2]} expected "
        rf"({expected[1]} to {expected[3]} for $\pm 1\,\sigma$)"
    )
