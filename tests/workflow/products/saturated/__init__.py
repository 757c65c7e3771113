"""Goodness of fit in the saturated model, as an example of a product: docs/adding_a_product.md.

Twice the difference of the NLL in the best fit and in the saturated model, in which every bin is
expected to hold what was observed; R. D. Cousins, "Generalization of chisquare goodness-of-fit test
for binned data using saturated models" (2013).
"""

import numpy as np

from palletfit.errors import PalletfitError
from palletfit.pallet.patches import apply
from palletfit.planes.coordinates import plane_points
from palletfit.runs.product import Output, Plot, Product


class Saturated(Product):
    """Goodness of the fit of each patch in the saturated model."""

    name = "saturated"
    version = "saturated-1"  # raise it when a change of `compute` changes results
    sections = ("saturated",)  # the settings that records depend on
    table = "saturated"
    plots = (
        Plot(
            rule="plot_saturated",
            of="plane",
            outputs={"png": Output(("saturated{plane}.png",))},
        ),
    )

    def compute(self, engine, patches):
        """Compare the best fit of each patch with the saturated model."""
        for patch in patches:
            try:
                yield patch, goodness_of_fit(engine, patch)
            except PalletfitError as error:  # this patch has no fit; others may have
                yield patch, error

    @classmethod
    def draw_plane(cls, drawing):
        """Draw the p-values in a plane."""
        import pandas as pd

        from palletfit.planes.style import new_figure, save

        plane = drawing.analysis.plane_of_suffix(drawing.subject)
        points = plane_points(pd.read_csv(drawing.inputs["table"]), plane)
        figure = new_figure(6.0, 4.0)
        axes = figure.subplots()
        marks = axes.scatter(points["x"], points["y"], c=points["p_value"], vmin=0, vmax=1)
        figure.colorbar(marks, label="p-value")
        axes.set(xlabel=plane.x_title, ylabel=plane.y_title)
        save(figure, drawing.files["png"])


def goodness_of_fit(engine, patch):
    """Return the goodness of the free fit of one patch, its degrees of freedom and p-value."""
    from scipy.stats import chi2, poisson

    from palletfit.engine.reference.hypotests import build_model

    best = engine.fit(patch, None)
    model, data = build_model(apply(engine.workspace, patch), engine.settings)
    main, aux = data[: model.config.nmaindata], data[model.config.nmaindata :]
    # Constraint terms are largest where parameters are what was measured.
    saturated = poisson.logpmf(main, main).sum()
    start = np.asarray(model.config.suggested_init())
    saturated += float(model.constraint_logpdf(np.asarray(aux), start))
    goodness = best.twice_nll + 2.0 * saturated
    degrees = len(main) + len(aux) - model.config.npars
    return {
        "status": "ok" if best.evidence.trusted else "suspect",
        "goodness": goodness,
        "degrees": degrees,
        "p_value": float(chi2.sf(goodness, degrees)),
    }


PRODUCT = Saturated
