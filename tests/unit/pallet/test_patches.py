"""File names of patches, and their application."""

from __future__ import annotations

import copy
import math
import os

import pytest
from hypothesis import given, settings

from palletfit.errors import PalletError
from palletfit.pallet.patches import (
    Patch,
    apply,
    apply_sharing,
    canonical_json,
    file_stem,
    inconsistency,
    json_digest,
    not_finite,
)

from .. import histfactory, models

NAMES = [
    "C1N2_Wh_hbb_1000_0",
    "a/b",
    "a%2Fb",
    "a%252Fb",
    "../../etc/passwd",
    "/absolute",
    "..",
    ".",
    ".hidden",
    "%2Ehidden",
    "with space",
    "with\nnewline",
    "nul\0",
    "back\\slash",
    "staus (120, 1)",
    "stau-\u03c4\u0303",
    "\u03c4" * 200,
    "\ud800",  # half a surrogate pair is a valid JSON string
    "x" * 400,
    "x" * 399 + "y",
    "x" * 160,
    "x" * 161,
    "/" * 100,
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_makes_a_file_in_its_folder(name, tmp_path):
    stem = file_stem(name)
    path = tmp_path / f"{stem}.json"
    path.write_text(name, encoding="utf-8", errors="surrogatepass")
    assert [entry.name for entry in tmp_path.iterdir()] == [f"{stem}.json"]
    assert stem.isascii()
    assert not stem.startswith(".")
    assert len(stem) <= 160


def test_different_names_make_different_files():
    assert len({file_stem(name) for name in NAMES}) == len(NAMES)
    # Also for what other names turn into.
    assert len({file_stem(file_stem(name)) for name in NAMES} | set()) == len(NAMES)


def test_plain_names_are_kept():
    assert file_stem("sbottom_1000_131_1") == "sbottom_1000_131_1"
    assert os.sep not in file_stem("a/b")


def test_digests_do_not_depend_on_formatting():
    assert json_digest({"b": 1, "a": [1.5, None]}) == json_digest({"a": [1.5, None], "b": 1})
    assert json_digest([1, 2]) != json_digest([2, 1])
    assert canonical_json({"b": "\u03c4", "a": 1}) == b'{"a":1,"b":"\\u03c4"}'


def make(*operations: dict, name: str = "signal") -> Patch:
    return Patch(name=name, values=(1.0,), operations=list(operations))


def test_adding_a_sample_leaves_the_workspace_as_it_is():
    background = models.background()
    before = copy.deepcopy(background)
    added = models.signal([1.0, 2.0])
    spec = apply(background, make({"op": "add", "path": "/channels/0/samples/-", "value": added}))
    assert spec["channels"][0]["samples"][-1] == added
    assert len(spec["channels"][0]["samples"]) == 2
    assert background == before


def test_removing_a_channel():
    spec = apply(models.background(), make({"op": "remove", "path": "/channels/1"}))
    assert [channel["name"] for channel in spec["channels"]] == ["SR"]


def test_a_patch_that_changes_what_it_added_can_be_applied_again():
    patch = make(
        {"op": "add", "path": "/channels/0/samples/1", "value": models.signal([1.0, 2.0])},
        {
            "op": "add",
            "path": "/channels/0/samples/1/modifiers/-",
            "value": models.MODIFIERS["normsys"],
        },
    )
    digest = patch.digest
    first = apply(models.background(), patch)
    assert len(first["channels"][0]["samples"][1]["modifiers"]) == 2
    assert patch.digest == digest
    assert apply(models.background(), patch) == first


BAD_OPERATIONS = [
    ({"op": "add", "path": "/channels/7/samples/-", "value": {}}, "does not apply"),
    ({"op": "add", "path": "/nowhere/0", "value": {}}, "does not apply"),
    ({"op": "remove", "path": "/channels/7"}, "does not apply"),
    ({"op": "add", "path": "channels/0", "value": {}}, "does not apply"),
    ({"op": "test", "path": "/version", "value": "2"}, "does not apply"),
    ({"op": "add", "path": "/channels/0/samples/-"}, "does not apply"),
    ({"op": "shift", "path": "/channels/0"}, "does not apply"),
    ({"path": "/channels/0"}, "does not apply"),
    ({"op": "move", "from": "/channels/9", "path": "/channels/0"}, "does not apply"),
    ({"op": "copy", "path": "/channels/0"}, "does not apply"),
    ({"op": "add", "path": 3, "value": 1}, "does not apply"),
    ("add", "does not apply"),
    ({"op": "remove", "path": "/observations"}, "has another shape .*'observations'"),
    ({"op": "remove", "path": "/observations/0"}, "channel 'SR' has no observation"),
    ({"op": "add", "path": "/channels/-", "value": {"name": "VR"}}, "'VR' has no observation"),
    ({"op": "add", "path": "/channels/-", "value": 3}, "has another shape"),
    ({"op": "copy", "from": "/channels/0", "path": "/channels/-"}, "two channels are called"),
    (
        {
            "op": "add",
            "path": "/channels/0/samples/-",
            "value": models.signal([1.0, 2.0], name="bkg"),
        },
        "two samples of channel 'SR' are called 'bkg'",
    ),
    (
        {"op": "add", "path": "/channels/0/samples/-", "value": models.signal([1.0])},
        "sample 'signal' of channel 'SR' has 1 bins, but 2 are observed",
    ),
    ({"op": "replace", "path": "/channels", "value": []}, "without channels"),
    ({"op": "remove", "path": "/channels"}, "without channels"),
    ({"op": "replace", "path": "", "value": [1, 2]}, "without channels"),
]


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        *BAD_OPERATIONS,
        (
            {"op": "replace", "path": "/channels/0/samples/0/data/1", "value": math.nan},
            "A number is not finite: /channels/0/samples/0/data/1",
        ),
        (
            {"op": "add", "path": "/channels/0/samples/-", "value": models.signal([math.inf, 1])},
            "A number is not finite: /channels/0/samples/1/data/0",
        ),
    ],
)
def test_bad_patches_are_named(operation, problem):
    with pytest.raises(PalletError, match=problem) as error:
        apply(models.background(), make(operation, name="bad/one"))
    assert error.value.patch == "bad/one"
    assert error.value.remedy


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        *((operation, problem) for operation, problem in BAD_OPERATIONS if operation != "add"),
        ("add", "an operation is not an object"),
        ([["op", "remove"], ["path", "/channels/1"]], "an operation is not an object"),
        (3, "an operation is not an object"),
        (None, "an operation is not an object"),
    ],
)
def test_bad_patches_are_named_when_shared(operation, problem):
    # Applied one by one, an operation may fail in another way than the whole patch does.
    problem = problem.replace("does not apply", "(does not apply|is not a valid JSON Patch)")
    background = models.background()
    before = copy.deepcopy(background)
    first = {"op": "replace", "path": "/channels/0/samples/0/data/0", "value": 1.0}
    with pytest.raises(PalletError, match=problem) as error:
        apply_sharing(background, make(first, operation, name="bad/one"))
    assert error.value.patch == "bad/one"
    assert error.value.remedy
    assert background == before


@settings(histfactory.FIXED, max_examples=12)
@given(histfactory.cases(patches=4))
def test_sharing_gives_the_same_and_changes_nothing(case):
    before = copy.deepcopy((case.workspace, [patch.operations for patch in case.patches]))
    if inconsistency(case.workspace) is not None:
        return  # sharing takes the background as checked
    for patch in case.patches:
        results = []
        for function in (apply, apply_sharing):
            try:
                results.append(function(case.workspace, patch))
            except PalletError as error:
                results.append(str(error))
        assert results[0] == results[1]
        assert (case.workspace, [patch.operations for patch in case.patches]) == before


def test_what_a_patch_leaves_alone_is_shared():
    background = models.background("normsys", "staterror")
    added = models.signal([1.0, 2.0])
    spec = apply_sharing(
        background,
        make(
            {"op": "add", "path": "/channels/0/samples/-", "value": added},
            {"op": "replace", "path": "/channels/1/samples/0/data/0", "value": 1.0},
        ),
    )
    (untouched, signal), (changed,) = (channel["samples"] for channel in spec["channels"])
    published = [channel["samples"][0] for channel in background["channels"]]
    for key in ("data", "modifiers"):
        assert untouched[key] is published[0][key]
        assert signal[key] is added[key]
        assert changed[key] is not published[1][key]
    assert published[1]["data"] == [300.0, 200.0]


def test_a_copy_of_a_changed_sample_is_another_sample():
    sample = "/channels/0/samples"
    operations = [
        {"op": "replace", "path": f"{sample}/0/data/0", "value": 5.0},
        {"op": "copy", "from": f"{sample}/0", "path": f"{sample}/-"},
        {"op": "replace", "path": f"{sample}/1/name", "value": "other"},
        {"op": "replace", "path": f"{sample}/1/data/1", "value": 9.0},
    ]
    background = models.background("normsys")
    spec = apply_sharing(background, make(*operations))
    assert [entry["data"] for entry in spec["channels"][0]["samples"]] == [[5.0, 40.0], [5.0, 9.0]]
    assert spec == apply(background, make(*operations))


def test_a_patch_that_changes_what_it_added_is_not_changed_itself():
    added = models.sample("bkg", [7.0, 7.0], models.MODIFIERS["normsys"])
    patch = make(
        {"op": "replace", "path": "/channels/0/samples/0/data/0", "value": 5.0},
        # The object of the removed sample may be made anew for the one that is added.
        {"op": "remove", "path": "/channels/0/samples/0"},
        {"op": "add", "path": "/channels/0/samples/0", "value": added},
        {"op": "replace", "path": "/channels/0/samples/0/data/1", "value": 9.0},
        {"op": "replace", "path": "/channels/0/samples/0/modifiers/0/data/hi", "value": 2.0},
    )
    before = copy.deepcopy(patch.operations)
    expected = apply(models.background(), patch)
    for _ in range(20):
        assert apply_sharing(models.background(), patch) == expected
        assert patch.operations == before


def test_sharing_leaves_numbers_to_the_model():
    operation = {
        "op": "add",
        "path": "/channels/0/samples/-",
        "value": models.signal([math.inf, 1]),
    }
    spec = apply_sharing(models.background(), make(operation))
    assert spec["channels"][0]["samples"][1]["data"] == [math.inf, 1]


def test_operations_that_are_no_list():
    with pytest.raises(PalletError, match="expected to be sequence of operations"):
        apply(models.background(), Patch(name="bad", values=(), operations=3))
    with pytest.raises(PalletError, match="not a valid JSON Patch"):
        apply_sharing(models.background(), Patch(name="bad", values=(), operations=3))


@pytest.mark.parametrize("kind", models.MODIFIERS)
@pytest.mark.parametrize("function", [apply, apply_sharing])
def test_two_modifiers_of_one_type_and_name_on_a_sample_are_refused(kind, function):
    modifier = models.MODIFIERS[kind]
    background = models.background()
    value = models.signal([8.0, 14.0], modifier, modifier)
    operation = {"op": "add", "path": "/channels/0/samples/-", "value": value}
    with pytest.raises(PalletError, match=f"has two {kind} modifiers called '{modifier['name']}'"):
        function(background, make(operation))
    background["channels"][1]["samples"][0]["modifiers"] = [modifier, dict(modifier)]
    assert "sample 'bkg' of channel 'CR' has two" in str(inconsistency(background))


@pytest.mark.parametrize("function", [apply, apply_sharing])
def test_a_modifier_that_is_added_to_a_sample_of_the_background_is_seen(function):
    background = models.background("normsys")
    modifiers = "/channels/0/samples/0/modifiers"
    twice = {"op": "copy", "from": f"{modifiers}/0", "path": f"{modifiers}/-"}
    with pytest.raises(PalletError, match="two normsys modifiers called 'scale'"):
        function(background, make(twice))
    # Of one name, but not of one type: they share a parameter, as they should.
    shape = {**models.MODIFIERS["histosys"], "name": "scale"}
    function(background, make({"op": "add", "path": f"{modifiers}/-", "value": shape}))


@pytest.mark.parametrize("function", [apply, apply_sharing])
def test_two_observations_of_a_channel_are_refused(function):
    second = {"name": "SR", "data": [100.0, 1.0]}
    with pytest.raises(PalletError, match="channel 'SR' has two observations"):
        function(
            models.background(), make({"op": "add", "path": "/observations/-", "value": second})
        )


def test_pointers_of_all_numbers_that_are_not_finite():
    value = {"a": [1.0, -math.inf, {"b": math.nan}], "c": "NaN", "d": True, "e": 10**400}
    value["f"] = [10**300, -(10**309)]
    assert list(not_finite(value, "")) == ["/a/1", "/a/2/b", "/e", "/f/1"]
