"""Plot of the goodness of fit of a patch."""

from __future__ import annotations

from palletfit.planes.style import save, title_lines
from palletfit.products.diagnostics.fit_plots import draw_goodness
from palletfit.products.diagnostics.plots import draw_failure, shorten
from palletfit.products.gof.compute import from_record
from palletfit.runs.product import Drawing, Product
from palletfit.runs.results import chosen_record


def write_patch(drawing: Drawing, product: type[Product]) -> None:
    """Write the plot of the patch whose record's file has this stem, or why its fit failed."""
    region, record = chosen_record(drawing.manifests, product, drawing.subject)
    subject = f"{shorten(record['patch'])}, region {region}"
    title = "\n".join([*title_lines(drawing.analysis), subject])
    if record["status"] == "failed":
        figure = draw_failure(title, record["error"])
    else:
        figure = draw_goodness(from_record(record), title)
    save(figure, [*drawing.files["png"], *drawing.files["pdf"]])
