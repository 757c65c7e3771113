"""Records, table and plot of the goodness of fit."""

from __future__ import annotations

import json

import pytest

import palletfit
from palletfit.config import FitSettings, Settings
from palletfit.engine.choose import make_engine
from palletfit.errors import ConfigError, PalletfitError
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.fit_plots import draw_goodness
from palletfit.products.gof.compute import as_table, from_record, without_statistics
from palletfit.runs.registry import find, product_of

from ... import models

ALL = Patch("all", (), ())
WRONG = Patch("wrong", (), [{"op": "remove", "path": "/nothing"}])


def records(spec, patches=(ALL,), **settings):
    product = product_of("gof", Settings.model_validate({"gof": settings}))
    engine = make_engine(spec, FitSettings())
    return {patch.name: record for patch, record in product.compute(engine, patches)}


@pytest.mark.parametrize("settings", [{}, {"mu": 0.0, "toys": 20, "seed": 3}])
def test_records_are_what_the_library_gives_and_have_the_schema(settings):
    spec = models.full("normsys", "histosys")
    record = records(spec, **settings)["all"]
    named = {"count": settings["toys"]} if "toys" in settings else {}
    options = {key: value for key, value in settings.items() if key != "toys"}
    result = palletfit.goodness_of_fit(spec, **named, **options).only
    assert (record["statistic"], record["p_value"]) == (result.statistic, result.p_value)
    assert find("gof").result_model().model_validate(json.loads(json.dumps(record)))
    again = from_record({**record, "key": {}})
    assert again == result  # but for single toys
    if result.toys is not None:
        assert again.toys.statistics == pytest.approx(result.toys.statistics, rel=1e-6)
    draw_goodness(again, "title")


def test_a_patch_without_a_fit_costs_no_other_its_record():
    outcomes = records(models.full("normsys"), (WRONG, ALL))
    assert isinstance(outcomes["wrong"], PalletfitError)
    assert outcomes["wrong"].patch == "wrong"
    assert outcomes["all"]["status"] == "ok"


def test_the_table_has_failures_and_no_single_toys():
    record = records(models.full("normsys"), toys=20)["all"]
    common = {"mass_hypotheses": [100.0], "region": "SR"}
    entries = without_statistics(
        {"good": {**common, **record}, "bad": {**common, "status": "failed", "problem": "why"}}
    )
    assert "statistics" not in json.dumps(entries)
    good, bad = as_table(entries, ["mass"]).to_dict("records")
    assert (good["patch"], good["mass"], good["toys"]) == ("good", 100.0, 20)
    assert good["toys_p_value"] == record["toys"]["p_value"]
    assert (bad["status"], bad["remark"]) == ("failed", "why")


def test_toys_of_the_reference_engine_are_refused():
    asked = {"gof": {"toys": 100}, "fit": {"engine": "reference"}}
    with pytest.raises(ConfigError, match="makes no toys"):
        find("gof").check(Settings.model_validate(asked))
    find("gof").check(Settings.model_validate({"fit": {"engine": "reference"}}))
