"""Combinations: pyhf's own answer, patches in the right places, and errors that name the cause.

The whole package is tested here, through the function that combines.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pyhf
import pytest

from palletfit.config import Analysis, Combination
from palletfit.errors import ConfigError, PalletError, PalletfitError
from palletfit.pallet.combination import combine, combine_region
from palletfit.pallet.patches import apply
from palletfit.pallet.patchset import check

from ... import models

JES = {"name": "JES", "type": "normsys", "data": {"hi": 1.1, "lo": 0.95}}
SHAPE = {
    "name": "JES",
    "type": "histosys",
    "data": {"hi_data": [22.0, 9.0], "lo_data": [19.0, 8.0]},
}
NORM = {"name": "mu_top", "type": "normfactor", "data": None}
LUMI = {"name": "lumi", "type": "lumi", "data": None}
STAT = {"name": "staterror_SR", "type": "staterror", "data": [1.5, 1.0]}
POINTS = [(100, 10), (200, 10), (300, 20)]


def signal(events, *modifiers, poi="mu", name="signal"):
    strength = {"name": poi, "type": "normfactor", "data": None}
    return models.sample(name, events, strength, *modifiers)


class Likelihood:
    """A member that tests may change before it is combined."""

    def __init__(self, channels, observed, parameters=(), poi="mu", labels=("m1", "m2")):
        self.workspace = models.workspace(channels, observed, parameters)
        self.workspace["measurements"][0]["config"]["poi"] = poi
        self.poi, self.labels = poi, list(labels)
        self.patches = {}
        for point in POINTS:
            self.patch(point, add("SR", signal([point[0] / 20, 4.0], JES, poi=poi)))

    def patch(self, values, *operations, name=None):
        """Set the operations of a point; a channel's name in a path becomes its index."""
        index = {entry["name"]: number for number, entry in enumerate(self.workspace["channels"])}
        self.patches[values] = {
            "metadata": {"name": name or "p_" + "_".join(map(str, values)), "values": list(values)},
            "patch": [
                {**entry, "path": "/".join(str(index.get(p, p)) for p in entry["path"].split("/"))}
                for entry in copy.deepcopy(operations)
            ],
        }

    @property
    def files(self):
        return self.workspace, models.patchset(
            self.workspace, list(self.patches.values()), self.labels
        )


def add(channel, sample):
    return {"op": "add", "path": f"/channels/{channel}/samples/-", "value": sample}


@pytest.fixture
def first():
    """A signal and a control region."""
    return Likelihood(
        {
            "SR": [models.sample("top", [20.0, 9.0], NORM, SHAPE, STAT)],
            "CR": [
                models.sample("top", [80.0], NORM),
                models.sample("other", [10.0], LUMI),
            ],
        },
        {"SR": [22.0, 7.0], "CR": [93.0]},
        [{**models.LUMI}],
    )


@pytest.fixture
def second():
    """Another search with the same names."""
    return Likelihood(
        {
            "SR": [models.sample("z", [12.0, 5.0], LUMI, JES, STAT)],
            "VR": [models.sample("top", [50.0], NORM, LUMI)],
        },
        {"SR": [9.0, 6.0], "VR": [55.0]},
        [{**models.LUMI}],
        poi="mu_signal",
    )


def settings(correlate=None, a=None, b=None, **changes):
    members = {name: {"analysis": "x", **(more or {})} for name, more in (("a", a), ("b", b))}
    return Combination.model_validate(
        {"members": members, "correlate": correlate or {"by": "name"}, **changes}
    )


def run(first, second, correlate=None, **changes):
    likelihoods = {"a": first.files, "b": second.files}
    return combine(likelihoods, settings(correlate, **changes), ["m1", "m2"])


def patched(combined, number=0):
    """The full workspace of a point."""
    patches = check(combined.workspace, combined.patchset).patches
    return apply(combined.workspace, patches[number])


def channel(workspace, name):
    (match,) = (entry for entry in workspace["channels"] if entry["name"] == name)
    return {entry["name"]: entry for entry in match["samples"]}


def parameters(workspace):
    model, _ = models.model_and_data(workspace)
    return set(model.config.par_order)


def twice_nll(workspace, values):
    """Twice the negative log-likelihood with some parameters, by name, off their start values."""
    model, data = models.model_and_data(workspace)
    point = np.array(model.config.suggested_init(), dtype=float)
    for name, value in values.items():
        point[model.config.par_slice(name)] = value
    return -2 * float(model.logpdf(point, data)[0])


# --------------------------------------------------------------------------- what comes out


def test_the_combined_files_are_a_valid_pallet(first, second):
    combined = run(first, second)
    patchset = check(combined.workspace, combined.patchset, ["m1", "m2"])
    pyhf.schema.validate(combined.patchset, "patchset.json")
    pyhf.PatchSet(combined.patchset).verify(pyhf.Workspace(combined.workspace))
    assert [patch.values for patch in patchset.patches] == POINTS
    assert combined.workspace["measurements"][0]["config"]["poi"] == "mu"
    assert combined.channels == {
        "a_SR": {"a": "SR"},
        "CR": {"a": "CR"},
        "b_SR": {"b": "SR"},
        "VR": {"b": "VR"},
    }


def test_equal_names_are_one_parameter_but_not_those_of_bins(first, second):
    combined = run(first, second)
    assert combined.parameters == {
        "mu": {"a": "mu", "b": "mu_signal"},
        "mu_top": {"a": "mu_top", "b": "mu_top"},
        "JES": {"a": "JES", "b": "JES"},
        "lumi": {"a": "lumi", "b": "lumi"},
    }
    assert parameters(patched(combined)) == {
        *("mu", "mu_top", "JES", "lumi", "a_staterror_SR", "b_staterror_SR")
    }
    assert any("staterror_SR" in remark for remark in combined.remarks)


def test_the_likelihood_is_the_product_with_common_constraints_once(first, second):
    full = patched(run(first, second))
    values = {"mu": 0.7, "mu_top": 1.1, "JES": 0.8, "lumi": 1.02}
    expected = twice_nll(apply_point(first), values) + twice_nll(
        apply_point(second), {"mu_signal" if key == "mu" else key: v for key, v in values.items()}
    )
    # The constraints of JES (a unit Gaussian) and of the luminosity are in both members.
    for pull, width in ((0.8, 1.0), (0.02, 0.05)):
        expected -= (pull / width) ** 2 + 2 * np.log(width * np.sqrt(2 * np.pi))
    assert twice_nll(full, values) == pytest.approx(expected, rel=1e-12)


def apply_point(likelihood, values=POINTS[0]):
    workspace, spec = likelihood.files
    (patch,) = (entry for entry in check(workspace, spec).patches if entry.values == values)
    return apply(workspace, patch)


def test_a_table_says_what_is_one_parameter_and_the_rest_is_apart(first, second):
    for entry in second.workspace["channels"][0]["samples"][0]["modifiers"]:
        entry["name"] = {"JES": "JET_scale"}.get(entry["name"], entry["name"])
    for point in POINTS:
        second.patch(point, add("SR", signal([4.0, 4.0], poi="mu_signal")))
    table = {"jets": {"a": "JES", "b": "JET_scale"}, "lumi": {"a": "lumi", "b": "lumi"}}
    combined = run(first, second, {"by": "table", "table": table}, poi="strength")
    assert parameters(patched(combined)) == {
        *("strength", "jets", "lumi", "a_mu_top", "b_mu_top", "a_staterror_SR", "b_staterror_SR")
    }
    assert combined.parameters.keys() == {"strength", "jets", "lumi"}
    assert combined.remarks == (
        "a and b have different channels SR: they got the member's name as a prefix",
    )


def test_by_name_some_are_apart_and_a_table_joins_other_names(first, second):
    second.workspace["channels"][1]["samples"][0]["modifiers"].append(
        {"name": "top_theory", "type": "normsys", "data": {"hi": 1.2, "lo": 0.8}}
    )
    first.workspace["channels"][1]["samples"][0]["modifiers"].append(
        {"name": "theory_top", "type": "normsys", "data": {"hi": 1.2, "lo": 0.8}}
    )
    correlate = {
        "by": "name",
        "apart": ["mu_top"],
        "table": {"theory": {"a": "theory_top", "b": "top_theory"}},
    }
    assert parameters(patched(run(first, second, correlate))) == {
        *("mu", "theory", "JES", "lumi", "a_mu_top", "b_mu_top", "a_staterror_SR", "b_staterror_SR")
    }


# --------------------------------------------------------------------------- patches


def test_patches_may_add_change_and_remove_anything(first, second):
    samples = "/channels/CR/samples"
    first.patch(
        POINTS[0],
        {"op": "replace", "path": f"{samples}/0/data/0", "value": 81.0},
        {"op": "remove", "path": f"{samples}/1"},
        add("CR", signal([3.0])),
        {"op": "add", "path": "/channels/SR/samples/0", "value": signal([5.0, 4.0])},
    )
    second.patch(
        POINTS[0],
        {"op": "remove", "path": "/channels/VR"},
        {"op": "add", "path": "/channels/SR/samples/0", "value": signal([1.0, 2.0], JES)},
        {"op": "move", "from": "/channels/0/samples/0", "path": "/channels/0/samples/1"},
        # The second member's own name of the parameter of interest.
        {"op": "replace", "path": "/channels/0/samples/1/modifiers/0/name", "value": "mu_signal"},
    )
    combined = run(first, second)
    full = patched(combined)
    assert {entry["name"] for entry in full["channels"]} == {"a_SR", "CR", "b_SR"}
    assert channel(full, "CR")["top"]["data"] == [81.0]
    assert channel(full, "CR").keys() == {"top", "signal"}
    assert channel(full, "a_SR")["signal"]["data"] == [5.0, 4.0]
    assert channel(full, "b_SR")["signal"]["data"] == [1.0, 2.0]
    names = [entry["name"] for entry in channel(full, "b_SR")["signal"]["modifiers"]]
    assert names == ["JES", "mu"]
    # The other points do not feel it.
    assert len(patched(combined, 1)["channels"]) == 4
    size = len(json.dumps(combined.patchset["patches"][0]["patch"]))
    assert size < 1200  # what changes, not whole channels


def test_every_point_is_what_pyhf_combines(first, second):
    combined = run(first, second, b={"channels": {"SR": "SR2"}})
    for number, values in enumerate(POINTS):
        one = pyhf.Workspace(apply_point(first, values))
        other = pyhf.Workspace(apply_point(second, values))
        other = other.rename(
            channels={"SR": "SR2"},
            modifiers={"mu_signal": "mu", "staterror_SR": "b_staterror_SR"},
        )
        one = one.rename(modifiers={"staterror_SR": "a_staterror_SR"})
        expected = pyhf.Workspace.sorted(pyhf.Workspace.combine(one, other, join="outer"))
        match = pyhf.Workspace.sorted(patched(combined, number))
        assert match["channels"] == expected["channels"]
        assert match["observations"] == expected["observations"]


def test_a_patch_that_does_not_apply_fails_alone_and_says_why(first, second):
    second.patch(POINTS[1], {"op": "remove", "path": "/channels/7"})
    combined = run(first, second)
    with pytest.raises(PalletError, match="p_200_10 of b: The patch does not apply"):
        patched(combined, 1)
    assert patched(combined, 2)


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (
            {"op": "replace", "path": "/observations/0/data/0", "value": 1.0},
            "The patch changes the observations",
        ),
        (
            {"op": "replace", "path": "/measurements/0/config/poi", "value": "other"},
            "The patch changes the measurements",
        ),
        (
            {
                "op": "add",
                "path": "/channels/-",
                "value": {"name": "new", "samples": [models.sample("x", [1.0])]},
            },
            "The patch adds the channel new",
        ),
    ],
)
def test_what_a_patch_may_not_do_in_a_combination_is_said(first, second, operation, why):
    second.workspace["observations"].append({"name": "new", "data": [1.0]})
    second.patch(POINTS[1], operation)
    with pytest.raises(PalletError, match=f"p_200_10 of b: {why}"):
        patched(run(first, second), 1)


# --------------------------------------------------------------------------- points


def test_points_are_matched_by_values_of_labels_in_any_order(first, second):
    second.labels = ["mass2", "mass1"]
    for (m1, m2), patch in second.patches.items():
        patch["metadata"]["values"] = [m2 + 0.25, float(m1)]
        patch["metadata"]["name"] = f"other_{m1}"
    labels = {"labels": {"mass1": "m1", "mass2": "m2"}}
    combined = run(first, second, b=labels, tolerance=0.3)
    assert [entry["metadata"] for entry in combined.patchset["patches"]] == [
        {
            "name": f"p_{m1}_{m2}",
            "values": [m1, m2],
            "members": {"a": f"p_{m1}_{m2}", "b": f"other_{m1}"},
        }
        for m1, m2 in POINTS
    ]
    with pytest.raises(PalletError, match="a and b have no signal point in common"):
        run(first, second, b=labels, tolerance=0.2)
    for tolerance in (250, 1000):
        with pytest.raises(ConfigError, match=r"within combine\.tolerance"):
            run(first, second, b=labels, tolerance=tolerance)


def test_points_that_a_member_lacks_are_dropped_or_kept_and_both_is_said(first, second):
    del first.patches[POINTS[0]]
    del second.patches[POINTS[2]]
    # Another point under a name that is taken.
    second.patch((400, 30), add("SR", signal([1.0, 1.0], poi="mu_signal")), name="p_200_10")
    dropped = run(first, second)
    assert [entry["metadata"]["values"] for entry in dropped.patchset["patches"]] == [[200, 10]]
    assert dropped.remarks[-2:] == (
        "2 points that a lacks were left out: p_100_10, p_200_10",
        "1 points that b lacks were left out: p_300_20",
    )
    kept = run(first, second, missing="keep")
    names = [entry["metadata"]["name"] for entry in kept.patchset["patches"]]
    assert names == ["p_200_10", "p_300_20", "p_100_10", "p_200_10 (b)"]
    assert "2 points that a lacks are fitted without a: p_100_10, p_200_10" in kept.remarks
    alone = patched(kept, 1)
    assert {entry["name"] for entry in alone["channels"]} == {"a_SR", "CR"}
    values = {"mu": 0.4, "mu_top": 0.9}
    expected = twice_nll(apply_point(first, POINTS[2]), values)
    assert twice_nll(alone, values) == pytest.approx(expected, rel=1e-12)


# --------------------------------------------------------------------------- channels


def share(first, second):
    """Give the second member the control region of the first, in another order."""
    second.workspace["channels"].append(copy.deepcopy(first.workspace["channels"][1]))
    second.workspace["channels"][-1]["samples"].reverse()
    second.workspace["observations"].append({"name": "CR", "data": [93.0]})


def test_a_shared_channel_is_taken_once(first, second):
    share(first, second)
    for point in POINTS:
        for member in (first, second):
            member.patch(
                point,
                add("SR", signal([5.0, 4.0], poi=member.poi)),
                add("CR", signal([2.0], poi=member.poi)),
            )
    combined = run(first, second, shared_channels=["CR"])
    assert combined.channels["CR"] == {"a": "CR", "b": "CR"}
    full = patched(combined)
    assert channel(full, "CR").keys() == {"top", "other", "signal"}
    assert [entry["name"] for entry in full["observations"]].count("CR") == 1
    # A signal that differs in it is found at the point.
    second.patch(POINTS[2], add("CR", signal([2.5], poi="mu_signal")))
    with pytest.raises(PalletError, match="the yields of signal differ") as error:
        run(first, second, shared_channels=["CR"])
    assert error.value.patch == "p_300_20"


def test_a_shared_channel_needs_its_parameters_to_be_one(first, second):
    share(first, second)
    table = {"by": "table", "table": {"lumi": {"a": "lumi", "b": "lumi"}}}
    with pytest.raises(PalletError, match="only one of them has the modifier a_mu_top of type"):
        run(first, second, table, shared_channels=["CR"])
    # Parameters of its bins are one without being asked for.
    for member in (first, second):
        (cr,) = (entry for entry in member.workspace["channels"] if entry["name"] == "CR")
        for sample in cr["samples"]:
            sample["modifiers"].append({"name": "stat_CR", "type": "staterror", "data": [1.0]})
    table["table"]["top"] = {"a": "mu_top", "b": "mu_top"}
    combined = run(first, second, table, shared_channels=["CR"])
    assert "stat_CR" in combined.parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cr: cr["samples"][0]["data"].__setitem__(0, 11.0), "the yields of other differ"),
        (lambda cr: cr["samples"].pop(), "only one of them has the sample top"),
        (
            lambda cr: cr["samples"][0]["modifiers"].append(JES),
            "only one of them has the modifier JES of type normsys of other",
        ),
    ],
)
def test_a_shared_channel_has_to_be_the_same(first, second, change, message):
    share(first, second)
    change(second.workspace["channels"][-1])
    with pytest.raises(
        PalletError, match="The shared channel 'CR' is not the same in a and b"
    ) as e:
        run(first, second, shared_channels=["CR"])
    assert message in str(e.value)


def test_shared_channels_need_the_same_events(first, second):
    share(first, second)
    second.workspace["observations"][-1]["data"] = [94.0]
    with pytest.raises(PalletError, match="'CR' has other observed events in a than in b"):
        run(first, second, shared_channels=["CR"])


def test_events_are_not_counted_twice(first, second):
    share(first, second)
    message = "The channel CR of a and the channel CR of b have the same observed events"
    with pytest.raises(PalletError, match=message):
        run(first, second)
    # Neither under another name.
    with pytest.raises(PalletError, match=message):
        run(first, second, b={"channels": {"CR": "control"}})
    # Left out of one, it counts once.
    combined = run(first, second, b={"without": ["CR"]})
    assert combined.channels["CR"] == {"a": "CR"}
    # The same few events may be observed in two channels.
    second.workspace["channels"][-1]["samples"][0]["data"] = [12.0]
    assert "control" in run(first, second, b={"channels": {"CR": "control"}}).channels


# --------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["bounds", "inits", "fixed"])
def test_settings_of_a_common_parameter_have_to_agree(first, second, name):
    values = {"bounds": [[0.0, 3.0]], "inits": [1.5], "fixed": True}
    config = second.workspace["measurements"][0]["config"]
    config["parameters"].append({"name": "mu_top", name: values[name]})
    with pytest.raises(PalletError) as error:
        run(first, second)
    assert f"The {name} of the parameter 'mu_top' are" in str(error.value)
    assert f"but {values[name]} in b." in str(error.value)
    combined = run(first, second, parameters={"mu_top": {name: values[name]}})
    (configured,) = (
        entry
        for entry in combined.workspace["measurements"][0]["config"]["parameters"]
        if entry["name"] == "mu_top"
    )
    assert configured[name] == values[name]
    # What only repeats pyhf's default is no disagreement.
    config["parameters"][-1] = {"name": "mu_top", "bounds": [[0, 10]], "inits": [1.0]}
    run(first, second)
    # Kept apart they may differ.
    config["parameters"][-1] = {"name": "mu_top", name: values[name]}
    assert run(first, second, {"by": "name", "apart": ["mu_top"]})


@pytest.mark.parametrize(("name", "value"), [("sigmas", [0.02]), ("auxdata", [1.01])])
def test_luminosities_have_to_agree(first, second, name, value):
    second.workspace["measurements"][0]["config"]["parameters"][0][name] = value
    with pytest.raises(PalletError, match=f"The {name} of the parameter 'lumi' are .* in a, but"):
        run(first, second)
    combined = run(first, second, parameters={"lumi": {name: value}})
    (lumi,) = combined.workspace["measurements"][0]["config"]["parameters"]
    assert lumi[name] == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"correlate": {"by": "name", "apart": ["lumi"]}},
            "The luminosity 'lumi' of a would be a parameter of its own",
        ),
        ({"correlate": {"by": "name", "apart": ["JSE"]}}, "No member has a parameter 'JSE'"),
        (
            {"correlate": {"by": "name", "apart": ["mu"]}},
            "'mu' is a parameter of interest, which is one for all members",
        ),
        (
            {"correlate": {"by": "name", "table": {"jets": {"a": "JES", "b": "JET"}}}},
            "The member b has no nuisance parameter 'JET'",
        ),
        (
            {"correlate": {"by": "name", "table": {"jets": {"a": "JES", "b": "mu_signal"}}}},
            "The member b has as parameter of interest 'mu_signal'",
        ),
        (
            {"correlate": {"by": "name", "table": {"mu": {"a": "JES", "b": "JES"}}}},
            "combine.correlate.table has 'mu', which is the parameter of interest",
        ),
        (
            {"correlate": {"by": "name", "table": {"s": {"a": "staterror_SR"}}}},
            "The parameter 'staterror_SR' of a belongs to the bins of a channel",
        ),
        (
            {"correlate": {"by": "name", "table": {"JES": {"a": "mu_top"}}}},
            "Two different parameters would be called 'JES': mu_top of a and JES of a",
        ),
        ({"poi": "JES"}, "Two different parameters would be called 'JES'"),
        ({"parameters": {"mu_tpo": {"inits": [1]}}}, "The combination has no parameter 'mu_tpo'"),
        ({"shared_channels": ["CR"]}, "The shared channel 'CR' is not one of several members"),
        ({"a": {"without": ["SRR"]}}, "The member a has no channel 'SRR'"),
        ({"a": {"without": ["SR", "CR"]}}, "No channel of the member a is left"),
        ({"a": {"channels": {"CR": "b_SR"}}}, "Two channels of a and b would be called 'b_SR'"),
        ({"a": {"channels": {"CR": "SR"}}}, "Two channels of a would be called 'a_SR'"),
        ({"a": {"measurement": "other"}}, "The member a has no measurement 'other'"),
        ({"a": {"labels": {"m1": "mass"}}}, "The labels of the member a are mass, m2"),
    ],
)
def test_wrong_combinations_are_explained(first, second, changes, message):
    with pytest.raises(PalletfitError) as error:
        run(first, second, **changes)
    assert message in str(error.value)
    assert "remedy:" in str(error.value)


def test_one_name_of_two_types_is_refused(first, second):
    second.workspace["channels"][1]["samples"][0]["modifiers"][0] = {
        "name": "mu_top",
        "type": "normsys",
        "data": {"hi": 1.1, "lo": 0.9},
    }
    message = "The parameter 'mu_top' is of type normfactor in a, but normsys in b"
    with pytest.raises(PalletError, match=message):
        run(first, second)
    assert run(first, second, {"by": "name", "apart": ["mu_top"]})


def test_other_versions_and_points_of_equal_values_are_refused(first, second):
    workspace, spec = second.files
    spec["patches"].append(copy.deepcopy(spec["patches"][0]))
    with pytest.raises(PalletError, match=r"The patch of b has the same values \[100, 10\]"):
        combine({"a": first.files, "b": (workspace, spec)}, settings(), ["m1", "m2"])
    second.workspace["version"] = "1.0.1"
    with pytest.raises(PalletError, match="pyhf cannot combine the workspaces"):
        run(first, second)


# --------------------------------------------------------------------------- files


def test_files_are_written_and_described(first, second, tmp_path):
    analysis = Analysis.model_validate(
        {
            "name": "both",
            "title": "both",
            "combine": {
                "members": {"a": {"analysis": "x"}, "b": {"analysis": "y"}},
                "correlate": {"by": "name"},
            },
            "labels": ["m1", "m2"],
            "planes": {"m": {"x": "m1", "y": "m2", "x_title": "x", "y_title": "y"}},
        }
    )
    inputs: list[tuple[Path, Path]] = []
    for name, member in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        inputs.append(models.write(tmp_path / name, *member.files))
    chosen = {"choice": {"remarks": ["masked bins"]}}
    (tmp_path / "b" / "summary.json").write_text(json.dumps(chosen))
    workspaces, patchsets = zip(*inputs, strict=True)
    out = [tmp_path / name for name in ("workspace.json", "patchset.json", "summary.html")]
    summary = combine_region(analysis, workspaces, patchsets, *out)
    check(json.loads(out[0].read_text()), json.loads(out[1].read_text()), ["m1", "m2"])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["combination"]["parameters"]["mu"] == {"a": "mu", "b": "mu_signal"}
    assert "b: masked bins" in summary["remarks"]
    page = out[2].read_text()
    assert "<td>mu</td><td>mu</td><td>mu_signal</td>" in page
    assert "they got the member&#x27;s name as a prefix" in page
    with pytest.raises(ConfigError, match="The likelihoods are a, but the combination's members"):
        combine({"a": first.files}, settings(), ["m1", "m2"])
    with pytest.raises(ConfigError, match="is no combination of 1 workspaces"):
        combine_region(analysis, workspaces[:1], patchsets[:1], *out)


def test_a_member_with_additions_to_pyhf_is_refused(first, second):
    """Its constraints and interpolation codes would be lost."""
    workspace, patchset = first.files
    workspace["measurements"][0]["config"]["parameters"].append(
        {"name": "JES", "constraint": "none"}
    )
    with pytest.raises(PalletError, match="The member a is no workspace of pyhf: the measurement"):
        combine({"a": (workspace, patchset), "b": second.files}, settings(), ["m1", "m2"])
