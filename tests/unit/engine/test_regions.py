"""Fits of chosen channels and bins are those of a workspace that never had the others."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyhf
import pytest

import palletfit
from palletfit.engine.regions import Regions, component_names, read_mask, restrict
from palletfit.errors import PalletError

from .. import models

KINDS = ("normfactor", "normsys", "histosys", "staterror", "shapesys", "lumi")


@pytest.fixture
def complete() -> models.Spec:
    return models.full(*KINDS)


def without_bin(spec: models.Spec, channel: str, number: int) -> models.Spec:
    """Take a bin out by hand."""

    def cut(content: Any) -> None:
        for key, value in content.items():
            if isinstance(value, dict):
                cut(value)
            elif key in ("data", "lo_data", "hi_data") and isinstance(value, list):
                del value[number]

    spec = copy.deepcopy(spec)
    (entry,) = [entry for entry in spec["channels"] if entry["name"] == channel]
    for sample in entry["samples"]:
        cut(sample)
        for modifier in sample["modifiers"]:
            cut(modifier)
    cut(next(entry for entry in spec["observations"] if entry["name"] == channel))
    return spec


def coupled(kind: str) -> models.Spec:
    """Three bins in two channels that share the parameters of bins."""
    modifier = {"name": "bins", "type": kind, "data": None}
    if kind == "staterror":
        modifier["data"] = [3.0, 4.0, 5.0]
    return models.workspace(
        {
            "A": [models.sample("bkg", [50.0, 60.0, 70.0], modifier)],
            "B": [
                models.sample("bkg", [20.0, 30.0, 40.0], modifier),
                models.signal([5.0, 6.0, 7.0]),
            ],
        },
        {"A": [52.0, 57.0, 75.0], "B": [24.0, 33.0, 39.0]},
    )


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_chosen_channels_are_those_that_pyhf_keeps(complete: models.Spec, engine: str) -> None:
    best = palletfit.fit(complete, channels=["S*"], engine=engine)
    pruned = pyhf.Workspace(complete).prune(channels=["CR"])
    by_hand = palletfit.fit(pruned, engine=engine)
    assert best.twice_nll == pytest.approx(by_hand.twice_nll, abs=1e-9)
    assert best.parameters == pytest.approx(by_hand.parameters, abs=1e-6)
    model, data = models.model_and_data(pruned)
    pyhf.set_backend("numpy")
    _, lowest = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    assert best.twice_nll == pytest.approx(float(lowest), abs=1e-4)
    assert best.remarks[0] == "fitted channels: 'SR', 1 of 2"


@pytest.mark.parametrize("number", [0, 1])
def test_a_masked_bin_is_one_that_never_was(complete: models.Spec, number: int) -> None:
    best = palletfit.fit(complete, mask={"SR": number})
    by_hand = palletfit.fit(without_bin(complete, "SR", number))
    assert best.twice_nll == pytest.approx(by_hand.twice_nll, abs=1e-12)
    assert best.parameters == by_hand.parameters
    assert {"statistics[0]", "uncorrelated[0]"} < {*best.parameters}
    assert not {"statistics[1]", "uncorrelated[1]"} & {*best.parameters}
    assert best.remarks == (f"masked bins, which do not count: 'SR[{number}]'",)


@pytest.mark.parametrize(("kind", "names"), [("staterror", [1, 2, 3, 5]), ("shapefactor", [1, 2])])
def test_modifiers_that_channels_share_stay_shared(kind: str, names: Sequence[int]) -> None:
    spec = coupled(kind)
    mask = {"A": [0], "B": [1]} if kind == "staterror" else {"A": [0], "B": [0]}
    best = palletfit.fit(spec, mask=mask)
    by_hand = spec
    for channel, (number,) in mask.items():
        by_hand = without_bin(by_hand, channel, number)
    assert best.parameters == palletfit.fit(by_hand).parameters
    regions = Regions(mask={name: frozenset(bins) for name, bins in mask.items()})
    full_names = {f"bins[{new}]": f"bins[{old}]" for new, old in enumerate(names)}
    assert component_names(spec, regions) == full_names


def test_a_channel_that_is_left_out_renames_components() -> None:
    regions = Regions(channels=("B",), mask={"B": frozenset([1])})
    names = component_names(coupled("staterror"), regions)
    assert names == {"bins[0]": "bins[3]", "bins[1]": "bins[5]"}


def test_settings_of_components_go_with_their_bins() -> None:
    spec = coupled("shapefactor")
    spec["measurements"][0]["config"]["parameters"] = [
        {"name": "bins", "inits": [0.9, 1.0, 1.1], "bounds": [[0, 2], [0, 3], [0, 4]]}
    ]
    restricted = restrict(spec, Regions(mask=dict.fromkeys("AB", frozenset([1]))))
    (settings,) = restricted["measurements"][0]["config"]["parameters"]
    assert settings == {"name": "bins", "inits": [0.9, 1.1], "bounds": [[0, 2], [0, 4]]}
    fixed = palletfit.fit(spec, fix={"bins": 1.2}, mask={"A": [1], "B": [1]})
    assert (fixed.parameters["bins[0]"], fixed.parameters["bins[1]"]) == (1.2, 1.2)


def test_factors_of_samples_without_events_are_no_part_of_the_fit() -> None:
    only = {"name": "only", "type": "normfactor", "data": None}
    scale = models.MODIFIERS["normsys"]
    spec = models.workspace(
        {
            "SR": [
                models.sample("bkg", [60.0, 40.0], scale),
                models.sample("first", [20.0, 0.0], only),
                models.signal([0.0, 5.0]),
            ],
            "CR": [models.sample("bkg", [300.0], scale), models.signal([0.0])],
        },
        {"SR": [85.0, 41.0], "CR": [306.0]},
    )
    assert {*palletfit.fit(spec, mask={"SR": [0]}).parameters} == {"scale", models.POI}
    assert {*palletfit.fit(spec, mask={"SR": [1]}).parameters} == {"scale", "only"}
    assert {*palletfit.fit(spec, channels=["CR"]).parameters} == {"scale"}
    tables = palletfit.yields(spec, channels=["CR"], mu=0.0).only
    # Predicted as before the fit, and not with what a fit says that knows nothing of them.
    assert tables.channel("SR").postfit.samples["first"].values == (20.0, 0.0)
    assert (tables.mu, tables.channel("SR").postfit.samples["signal"].total) == (0.0, 0.0)
    with pytest.raises(PalletError, match="No sample with events in the chosen channels"):
        palletfit.upper_limit(spec, channels=["CR"])


def test_a_name_with_brackets_means_its_channel_only() -> None:
    spec = models.workspace(
        {
            name: [models.sample("bkg", [events]), models.signal([events / 10])]
            for name, events in {"SR0": 30.0, "SR[0]": 60.0, "SR1": 90.0}.items()
        },
        {"SR0": [31.0], "SR[0]": [65.0], "SR1": [99.0]},
    )
    best = palletfit.fit(spec, channels=["SR[0]"])
    assert best.remarks == ("fitted channels: 'SR[0]', 1 of 3",)
    assert best.parameters[models.POI] == pytest.approx(5 / 6, abs=1e-4)
    both = palletfit.fit(spec, channels=["SR[01]"])
    assert both.remarks == ("fitted channels: 'SR0', 'SR1', 2 of 3",)
    blinded = palletfit.fit(spec, blind=["SR[0]"], mu=0.0).remarks
    assert blinded[0].startswith("blinded channels: 'SR[0]'; their data")


@pytest.mark.parametrize("channels", [{"CR", "S*"}, ("S*", "CR"), np.array(["CR", "S*"])])
def test_channels_are_any_names(complete: models.Spec, channels: object) -> None:
    assert palletfit.fit(complete, channels=channels).remarks == ()


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_a_parameter_of_interest_at_its_bound_is_said_to_be_there(engine: str) -> None:
    spec = models.workspace(
        {"SR": [models.sample("bkg", [60.0]), models.signal([1.0])]}, {"SR": [100.0]}
    )
    spec["measurements"][0]["config"]["parameters"] = [
        {"name": models.POI, "inits": [1.0], "bounds": [[0.0, 10.0]]}
    ]
    best = palletfit.fit(spec, engine=engine)
    assert best.at_bounds == (models.POI,)
    assert (best.row()["at_bounds"], best.as_json()["at_bounds"]) == (1, [models.POI])
    assert best.evidence.at_bounds == ()
    assert palletfit.fit(spec, engine=engine, mu=10.0).at_bounds == ()


def test_unlike_numbers_of_bins_are_refused() -> None:
    spec = models.full("staterror")
    spec["channels"][0]["samples"][0]["modifiers"][0]["data"] = [1.0]
    with pytest.raises(PalletError, match="channel 'SR' have unlike numbers of bins"):
        palletfit.fit(spec, mask={"SR": [0]})
    spec = models.full("staterror")
    spec["observations"][0]["data"] = [1.0]
    with pytest.raises(PalletError, match="2 bins, but 1 are observed"):
        palletfit.fit(spec, asimov=0.0)


def test_unlike_masks_of_a_shapefactor_are_refused() -> None:
    with pytest.raises(PalletError, match="'bins' couples bins of the channels 'A' and 'B'"):
        palletfit.fit(coupled("shapefactor"), mask={"A": [0]})
    assert palletfit.fit(coupled("shapefactor"), mask={"A": [0]}, channels="A", poi="")


@pytest.mark.parametrize(
    "bins",
    [0, np.int64(0), np.array([0]), range(1), iter([0]), {0}],
    ids=lambda bins: type(bins).__name__,
)
def test_bins_of_a_mask_are_any_integers(bins: object) -> None:
    assert read_mask({"SR": bins}) == {"SR": {0}}


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        ({"channels": ["sr"]}, "No channel has the name 'sr'", "Did you mean 'SR'"),
        ({"channels": []}, "`channels` has to be names", "Give a list"),
        ({"channels": [1]}, "`channels` has to be names", "Give a list"),
        ({"mask": {"RS": [0]}}, "There is no channel 'RS'", "'SR'"),
        ({"mask": {"SR": [2]}}, "no bin 2", "its last one is 1"),
        ({"mask": {"SR": [-1]}}, "The mask of the channel 'SR'", "counted from 0"),
        ({"mask": {"SR": "0"}}, "The mask of the channel 'SR'", "counted from 0"),
        ({"mask": {"SR": [True]}}, "The mask of the channel 'SR'", "counted from 0"),
        ({"mask": {"SR": np.array([True, False])}}, "The mask of the channel", "counted from 0"),
        ({"mask": ["SR"]}, "`mask` has to be bins", "dictionary"),
        ({"channels": {"SR": 1}}, "`channels` has to be names", "Give a list"),
        ({"mask": {"CR": [0]}, "channels": ["SR"]}, "'CR' are masked, and it is not", "channels"),
        ({"mask": {"SR": [0, 1]}}, "All bins of the channel 'SR' are masked", "Leave the channel"),
    ],
)
def test_bad_regions_are_refused(
    complete: models.Spec, arguments: dict[str, Any], problem: str, remedy: str
) -> None:
    with pytest.raises(PalletError, match=problem.replace("`", ".")) as caught:
        palletfit.fit(complete, **arguments)
    assert remedy in caught.value.remedy
