"""Diagnostics of fits without a parameter of interest, against pulls and pyhf."""

from __future__ import annotations

import numpy as np
import pytest

import palletfit
from palletfit.config import Analysis, FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.measurements import NONE, Question, ask
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.compute import Diagnostics, diagnose
from palletfit.products.diagnostics.plots import PLOTS, draw_diagnostics

from ... import models

BACKGROUND = models.background("normfactor", "normsys", "staterror")


@pytest.fixture(scope="module")
def diagnostics() -> Diagnostics:
    asked = ask(BACKGROUND, None, Question(poi=""), needs_poi=False)
    engine = BatchedEngine(asked.workspace, FitSettings())
    ((_, result),) = diagnose(engine, [Patch("whole", (), ())])
    assert isinstance(result, Diagnostics)
    return result


def test_parameters_are_those_of_pulls(diagnostics):
    pulls = palletfit.pulls(BACKGROUND, poi="").only
    assert diagnostics.parameters == pulls.parameters
    assert diagnostics.twice_nll == pulls.twice_nll
    assert (diagnostics.poi, diagnostics.mu_hat, diagnostics.discovery) == ("", None, None)
    assert NONE not in diagnostics.correlations.parameters


def test_yields_are_those_of_the_fit(diagnostics):
    """The sum of all samples is pyhf's expectation, and no sample stands for a signal."""
    model, _ = models.model_and_data(
        {
            **BACKGROUND,
            "measurements": [{"name": "m", "config": {"poi": "norm", "parameters": []}}],
        }
    )
    values = {parameter.name: parameter.value for parameter in diagnostics.parameters}
    expected = model.expected_actualdata([values[name] for name in model.config.par_names])
    yields = {channel.name: channel.postfit for channel in diagnostics.channels}
    ordered = [value for name in model.config.channels for value in yields[name].model.values]
    np.testing.assert_allclose(ordered, expected, rtol=1e-10)
    assert {name for entry in yields.values() for name in entry.samples} == {"bkg"}


def test_all_plots_are_drawn(diagnostics):
    record = {"patch": "whole", **diagnostics.as_json()}
    assert Diagnostics.from_json(record) == Diagnostics.from_json(diagnostics.as_json())
    regions = {"whole": {"workspace": "w.json", "complete": True}}
    data = {"name": "a", "title": "a", "pallet": {"path": "p"}, "regions": regions}
    figures = draw_diagnostics(record, Analysis.model_validate(data), "whole")
    assert set(figures) == set(PLOTS)
    texts = [text.get_text() for pages in figures.values() for page in pages for text in page.texts]
    titles = [page.get_suptitle() for pages in figures.values() for page in pages]
    assert "fit without a parameter of interest" in "".join([*texts, *titles])
