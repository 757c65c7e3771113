"""The exclusion contour of a plane, as plot and as data."""

from __future__ import annotations

from palletfit.core.files import read_json, write_json
from palletfit.errors import ConfigError
from palletfit.planes import contour, overlay
from palletfit.planes.plots import draw_exclusion
from palletfit.planes.style import save
from palletfit.products.hypotest.table import read_table
from palletfit.runs.product import Drawing


def write_contour(drawing: Drawing) -> None:
    """Write ``contour.json`` and the plot of a plane.

    Raises
    ------
    ConfigError
        The test statistic is that of a discovery.
    """
    settings, analysis = drawing.settings, drawing.analysis
    if settings.fit.test_statistic == "q0":
        raise ConfigError(
            "There is no exclusion contour for the test statistic q0.",
            remedy="Use results.csv (CLs_obs is then p0), or set `fit.test_statistic: qtilde`.",
        )
    plane = analysis.plane_of_suffix(drawing.subject)
    curves = read_json(drawing.inputs["curves"])
    exclusion = contour.exclusion(
        read_table(drawing.inputs["table"]),
        plane,
        settings.contour,
        overlay.segments(curves),
        overlay.left_out(curves),
    )
    save(draw_exclusion(exclusion, analysis, plane), [*drawing.files["png"], *drawing.files["pdf"]])
    write_json(drawing.files["contour"][0], exclusion.as_json())
