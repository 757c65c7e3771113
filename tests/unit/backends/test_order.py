"""Parameters, bins and auxiliary data are in pyhf's order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from palletfit.backends.likelihood import SignalLikelihood, shared_background
from palletfit.backends.order import Order, parameter_order
from palletfit.errors import PalletError
from palletfit.pallet.demo import demo_patchset, demo_workspace

from .. import histfactory, models

KINDS = ("normfactor", "normsys", "histosys", "shapesys", "staterror", "shapefactor", "lumi")


def model_order(spec):
    model, _ = models.model_and_data(spec)
    return list(model.config.par_order)


@pytest.mark.parametrize("kind", KINDS)
def test_of_each_type_of_modifier(kind):
    spec = models.full(kind)
    assert parameter_order(spec) == model_order(spec)


def test_of_all_types_and_of_names_that_do_not_sort_like_their_types():
    spec = models.full(*KINDS)
    spec["channels"][0]["samples"][0]["modifiers"].append(
        {"name": "A", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    )
    spec["channels"][1]["samples"].insert(
        0,
        models.sample(
            "zzz",
            [3.0, 4.0],
            {"name": "B", "type": "staterror", "data": [1.0, 1.0]},
            {"name": "shape", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
        ),
    )
    spec["channels"].reverse()
    assert parameter_order(spec) == model_order(spec)


def test_of_the_demo():
    workspace = demo_workspace()
    entry = demo_patchset(workspace)["patches"][3]
    likelihood = SignalLikelihood(shared_background(workspace), entry["patch"])
    model, data = models.model_and_data(likelihood.spec)
    order, batch = likelihood.order, likelihood.batch
    assert list(order.names) == list(model.config.par_names)
    assert batch.init[0][order.columns].tolist() == model.config.suggested_init()
    assert order.data(batch.data[0], batch.aux[0]) == pytest.approx(data, rel=1e-14)
    changed = data + 1.0
    assert order.data(*order.split(changed, batch.aux[0])) == pytest.approx(changed, rel=1e-14)


def test_wrong_sizes_are_errors():
    likelihood = SignalLikelihood(
        shared_background(models.background("normsys")), models.patch("signal", [1, 2])["patch"]
    )
    order, batch = likelihood.order, likelihood.batch
    with pytest.raises(PalletError, match=r"4 values, and the model has 4 bins and 1 aux"):
        order.split(np.ones(4), batch.aux[0])
    with pytest.raises(PalletError, match="below zero"):
        order.split(np.array([1.0, -1.0, 2.0, 3.0, 0.0]), batch.aux[0])
    with pytest.raises(PalletError, match="1 parameters are given, and the model has 2"):
        order.point(np.ones(1), batch.init[0])


@settings(histfactory.FIXED, max_examples=10)
@given(histfactory.cases())
def test_of_random_likelihoods(case):
    batches, _, specs = histfactory.lower(case)
    for batch in batches:
        for row, index in enumerate(batch.index):
            spec = specs[int(index)]
            model, data = histfactory.build_model(spec, case.fit)
            order = Order.of(spec, batch.take(np.array([row])))
            assert list(order.names) == list(model.config.par_names)
            ours = order.data(batch.data[row], batch.aux[row])
            assert ours == pytest.approx(np.asarray(data), rel=1e-12)
