"""Large workspaces: lowering is linear in them, or refused with a reason."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest

from palletfit.config import FitSettings
from palletfit.engine import layout
from palletfit.engine.choose import make_engine
from palletfit.engine.lowering import Background
from palletfit.engine.reference.hypotests import build_model
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch, apply_sharing

from .. import models


def add(*modifiers, events=(8.0, 14.0)):
    value = models.signal(list(events), *modifiers)
    return {"op": "add", "path": "/channels/0/samples/-", "value": value}


def lowered(background, operation):
    """Lower one patch: the batches, and why it is not supported (or None)."""
    spec = apply_sharing(background, Patch("one", (1.0,), [operation]))
    batches, unsupported = Background(background, FitSettings()).lower([spec])
    return batches, unsupported.get(0)


def in_many_bins(channels, *kinds):
    """Channels of four bins, each with modifiers of its own."""
    data = {"staterror": [1.0] * 4, "shapefactor": None}
    return models.workspace(
        {
            f"SR{number}": [
                models.sample(
                    "bkg",
                    [50.0] * 4,
                    # Each shapefactor couples two channels.
                    *(
                        {"name": f"{kind}{number // (1 + (data[kind] is None))}", "type": kind}
                        | {"data": data[kind]}
                        for kind in kinds
                    ),
                )
            ]
            for number in range(channels)
        },
        {f"SR{number}": [50.0] * 4 for number in range(channels)},
    )


@pytest.mark.parametrize("kinds", [("staterror",), ("staterror", "shapefactor")])
def test_memory_is_linear_in_parameters_of_bins(kinds):
    background = in_many_bins(400, *kinds)
    tracemalloc.start()
    try:
        (batch,), _ = lowered(background, add(events=[1.0] * 4))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert batch.layout.locals >= 1600
    assert peak < 1600**2 * 8  # one matrix of all pairs of parameters


def test_slots_of_one_bin_are_pairs():
    (batch,), _ = lowered(in_many_bins(2, "staterror", "shapefactor"), add(events=[1.0] * 4))
    pairs, sums = batch.layout.slot_pairs, batch.layout.slot_sums
    # Two slots a bin; four columns for the bins of each channel, and four that both share.
    assert batch.layout.locals == 12
    assert pairs.shape == (16, 16)
    assert np.array_equal(np.unique(pairs), np.arange(8 * 4 + 1))
    assert sums.shape == (16, 12)
    assert sums.sum(axis=1).tolist() == [1.0] * 16
    assert sorted(sums.sum(axis=0)) == [1.0] * 8 + [2.0] * 4


@pytest.mark.parametrize(("limit", "lowers"), [(17, False), (59, False), (60, True)])
def test_arrays_that_do_not_fit_into_memory(monkeypatch, limit, lowers):
    # The shared samples alone have 18 numbers; with the patch there are 60.
    monkeypatch.setattr(layout, "_LARGEST_SIZE", limit)
    batches, reason = lowered(
        models.background("normsys", "histosys"),
        add({"name": "isr", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}),
    )
    assert bool(batches) == lowers
    assert lowers or re.search(f"arrays would hold .* numbers, and the limit is {limit}", reason)


def test_a_model_that_does_not_fit_into_memory_is_not_built():
    one = {"type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    samples = [models.sample(f"bkg{i}", [60.0], {"name": f"p{i}", **one}) for i in range(1800)]
    spec = models.workspace({"SR": [*samples, models.signal([3.0])]}, {"SR": [60.0]})
    with pytest.raises(PalletError, match="too large for pyhf: 1801 samples, 1801 modifiers"):
        build_model(spec, FitSettings())


def test_a_hostile_patch_costs_the_others_nothing():
    data = "/channels/0/samples/0/data"
    doublings = [{"op": "copy", "from": data, "path": f"{data}/-"}] * 40
    huge = add(events=(10**400, 1.0))
    background = models.background()
    patches = [
        Patch(name, (1.0,), operations)
        for name, operations in (("doubling", doublings), ("huge", [huge]), ("good", [add()]))
    ]
    answers = {
        patch.name: answer
        for patch, answer in make_engine(background, FitSettings()).hypotests(patches)
    }
    assert "more than 2000000 values" in str(answers["doubling"])
    assert "A number is not finite" in str(answers["huge"])
    assert answers["good"].engine == "batched"
