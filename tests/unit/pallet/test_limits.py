"""Hostile and huge content: refused with a reason, in little time and memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyhf
import pytest
from hypothesis import given, settings

from palletfit.errors import PalletError
from palletfit.pallet import limits, patchset
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patches import Patch, apply, apply_sharing
from palletfit.pallet.patchset import check_workspace, parse_patchset, summarise, validate

from .. import histfactory, models

Spec = dict[str, Any]
DATA = "/channels/0/samples/0/data"
BOTH = pytest.mark.parametrize("function", [apply, apply_sharing])


def nested(depth: int) -> Any:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    return value


def add(path: str, value: Any) -> Spec:
    return {"op": "add", "path": path, "value": value}


def deepening(steps: int) -> list[Spec]:
    """Operations that put a list into another, again and again."""
    operations = [add("/x", [])]
    for _ in range(steps):
        operations += [
            {"op": "move", "from": "/x", "path": "/y"},
            add("/x", []),
            {"op": "move", "from": "/y", "path": "/x/0"},
        ]
    return operations


def changing_a_copy(times: int) -> list[Spec]:
    """Operations each pair of which copies a large sample, to change one number of it."""
    operations = [add("/channels/0/samples/0/more", [1.0] * 200_000)]
    for _ in range(times):
        operations += [
            {"op": "copy", "from": "/version", "path": "/again"},
            {"op": "replace", "path": f"{DATA}/0", "value": 1.0},
        ]
    return operations


HOSTILE = {
    "22 doublings": [{"op": "copy", "from": DATA, "path": f"{DATA}/-"}] * 22,
    "40 doublings": [{"op": "copy", "from": DATA, "path": f"{DATA}/-"}] * 40,
    "doubling of channels": [
        {"op": "copy", "from": "/channels", "path": "/channels/0/name"},
        {"op": "copy", "from": "/channels/0/name", "path": "/channels/0/name/-"},
    ]
    * 100,
    "deep value": [add("/channels/0/more", nested(35_000))],
    "deep sample": [
        {**add("/channels/0/samples/0", models.signal(nested(35_000))), "op": "replace"}
    ],
    "deep in two steps": [add("/x", nested(60)), add("/x" + "/0" * 60, nested(60))],
    "deep by moves": deepening(200),
    "many operations": [{"op": "test", "path": "/version", "value": "1.0.0"}] * 10_001,
    "many values": [add("/x", [1.0] * 60_000)] * 2,
}


@BOTH
@pytest.mark.parametrize("operations", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_patch_is_refused(operations, function, monkeypatch):
    """With a limit that is reached sooner."""
    monkeypatch.setattr(limits, "PATCH_VALUES", 100_000)
    assert_refused(operations, function)


def test_a_hostile_patch_is_refused_at_the_limit_of_users():
    assert_refused(HOSTILE["22 doublings"], apply_sharing)


def assert_refused(operations, function):
    with pytest.raises(PalletError, match=r"nests|more than") as error:
        function(models.background(), Patch("hostile", (1.0,), operations))
    assert error.value.patch == "hostile"
    assert "Correct its operations" in error.value.remedy


@pytest.mark.parametrize(
    "changed", [{"data": [nested(35_000), 1.0]}, {"modifiers": [{"name": nested(35_000)}]}]
)
def test_a_deep_sample_is_shared_or_refused(changed):
    patch = Patch(
        "deep", (1.0,), [add("/channels/0/samples/-", {**models.signal([1, 2]), **changed})]
    )
    with contextlib.suppress(PalletError):
        apply_sharing(models.background(), patch)
    with pytest.raises(PalletError, match="nests too deeply"):
        apply(models.background(), patch)


def test_copies_that_sharing_makes_count(monkeypatch):
    monkeypatch.setattr(limits, "PATCH_VALUES", 500_000)
    with pytest.raises(PalletError, match="more than 500000 values"):
        apply_sharing(models.background(), Patch("hostile", (1.0,), changing_a_copy(10)))


@BOTH
def test_a_patch_just_within_the_limits_is_applied(function, monkeypatch):
    monkeypatch.setattr(limits, "OPERATIONS", 3)
    monkeypatch.setattr(limits, "PATCH_VALUES", 504)
    # Three numbers, a list of two, and 99 lists, each of which counts as five; one value removed.
    operations = [add("/x", nested(99)), add("/y", [1, 2]), {"op": "remove", "path": "/y"}]
    spec = function(models.background(), Patch("large", (1.0,), operations))
    assert spec["x"] == nested(99)


@BOTH
def test_an_error_does_not_repeat_what_it_compares(function):
    operation = {"op": "test", "path": "/version", "value": ["x" * 100] * 10_000}
    with pytest.raises(PalletError, match="does not apply") as error:
        function(models.background(), Patch("long", (1.0,), [operation]))
    assert len(str(error.value)) < 2000


def change_patch(value: Any) -> Callable[[Spec], None]:
    return lambda spec: spec["patches"][1]["patch"].append(add("/x", value))


def write(folder: Path, change: Callable[[Spec], Any]) -> tuple[Path, Path]:
    workspace = models.background()
    spec = models.patchset(workspace, models.grid())
    change(spec)
    return models.write(folder, workspace, spec)


@pytest.mark.parametrize("depth", [100, 500, 35_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"]": ', "}")])
def test_a_deep_patch_is_named_with_its_file(tmp_path, depth, opening, closing):
    paths = write(tmp_path, change_patch("DEEP"))
    # json.dumps has a limit of its own.
    deep = opening * depth + r'"\" \\"' + closing * depth
    paths[1].write_text(paths[1].read_text().replace('"DEEP"', deep))
    with pytest.raises(PalletError, match="nests too deeply: more than 100 levels") as error:
        validate(*paths, models.LABELS)
    assert error.value.file == str(paths[1])
    assert error.value.patch == "signal_200_50"
    assert "Correct or remove its operations" in error.value.remedy


@pytest.mark.parametrize("end", ["", "]", "}" * 35_000, '"' + '\\"' * 35_000])
def test_a_deep_file_that_is_not_json(tmp_path, end):
    path = tmp_path / "deep.json"
    path.write_text("[" * 35_000 + end)
    with pytest.raises(PalletError, match=r"not JSON|nests too deeply") as error:
        read_pallet_json(path)
    assert error.value.file == str(path)


def test_a_deep_workspace_is_named():
    workspace = models.background()
    workspace["channels"][0]["samples"][0]["modifiers"] = nested(35_000)
    with pytest.raises(PalletError, match="nests too deeply") as error:
        check_workspace(workspace, Path("deep.json"))
    assert error.value.file == "deep.json"


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "huge.json"
    path.write_bytes(b"[" + b"[]," * 15_000_000 + b"[]]")
    with pytest.raises(PalletError, match="too large") as error:
        read_pallet_json(path)
    assert error.value.file == str(path)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(limits.CONTENT_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(PalletError, match="too large"):
        read_pallet_json(path)


@pytest.mark.parametrize(
    ("text", "least"),
    [(b"[[],[]]", 4 * 72), (b'[{"a":1}]', 240), (b'"x"', 9), ('"\U0001f600"'.encode(), 36)],
)
def test_memory_is_estimated_by_brackets_and_commas(text, least):
    assert least <= limits.content_bytes(text) < 3 * least


def test_an_error_does_not_repeat_a_whole_file():
    workspace = models.background()
    workspace["channels"][0]["samples"][0]["modifiers"] = [["x"] * 100_000]
    with pytest.raises(PalletError, match="violates pyhf's schema") as error:
        check_workspace(workspace, Path("long.json"))
    assert len(str(error.value)) < 2000


def metadata(**values: Any) -> Callable[[Spec], None]:
    return lambda spec: spec["patches"][1]["metadata"].update(values)


@pytest.mark.parametrize("number", [10**400, -(10**400), 10**309])
def test_an_integer_beyond_any_float_is_refused_as_a_label(tmp_path, number):
    with pytest.raises(PalletError, match="A value of the patch is not finite") as error:
        validate(*write(tmp_path, metadata(values=[number, 50])), models.LABELS)
    assert error.value.patch == "signal_200_50"
    assert error.value.file == str(tmp_path / "patchset.json")


def test_an_integer_beyond_any_float_is_refused_as_a_yield(tmp_path):
    workspace = models.background()
    workspace["channels"][0]["samples"][0]["data"][0] = 10**400
    with pytest.raises(PalletError, match=f"not finite: {DATA}/0"):
        check_workspace(workspace, tmp_path)


@pytest.mark.parametrize("name", [["x"], 3, None, {"a": 1}, True])
def test_a_name_that_is_no_text_is_refused(tmp_path, name):
    with pytest.raises(PalletError, match="name of a patch is not a text") as error:
        validate(*write(tmp_path, metadata(name=name)), models.LABELS)
    assert error.value.file == str(tmp_path / "patchset.json")


# --------------------------------------------------------------------------- large workspaces


def wide(samples: int, kind: str) -> Spec:
    """Many samples, each with a modifier of its own."""
    data = {"normsys": {"hi": 1.1, "lo": 0.9}, "staterror": [1.0, 2.0]}[kind]
    return models.workspace(
        {
            "SR": [
                models.sample(
                    f"bkg{number}", [60.0, 40.0], {"name": f"p{number}", "type": kind, "data": data}
                )
                for number in range(samples)
            ]
        },
        {"SR": [60.0 * samples, 40.0 * samples]},
    )


@pytest.mark.parametrize(("kind", "each"), [("normsys", 1), ("staterror", 2)])
def test_a_large_workspace_is_described_without_a_model_of_pyhf(kind, each):
    workspace = wide(1500, kind)
    spec = models.patchset(workspace, models.grid())
    started = time.process_time()
    summary = summarise(workspace, spec, parse_patchset(spec, Path("patchset")))
    assert time.process_time() - started < 3  # pyhf takes more than a minute
    assert summary["parameters"] == 1500 * each + 1
    assert summary["remarks"] == []


@settings(histfactory.FIXED, max_examples=12)
@given(histfactory.cases(patches=2))
def test_parameters_are_counted_as_pyhf_does(case):
    for patch in case.patches:
        try:
            spec = apply(case.workspace, patch)
            expected = patchset._count_in_model(spec)
        except (PalletError, pyhf.exceptions.InvalidModel, KeyError, TypeError):
            continue
        assert patchset._count_in_workspace(spec) == expected


@pytest.mark.parametrize(
    ("operations", "tries"),
    [([{"op": "remove", "path": "/channels/7"}], 15), ([add("/x", nested(200))], 1)],
)
def test_not_all_patches_are_tried_for_a_count(monkeypatch, operations, tries):
    workspace = models.background()
    spec = models.patchset(workspace, [models.patch(f"p{i}", [i, 0]) for i in range(20)])
    for entry in spec["patches"]:
        entry["patch"] = operations
    monkeypatch.setattr(patchset, "_COUNTING_WORK", patchset._MODEL_WORK - 1)
    summary = summarise(workspace, spec, parse_patchset(spec, Path("patchset")))
    assert summary["parameters"] is None
    assert summary["remarks"] == [
        f"none of the first {tries} patches gives a model that can be fitted"
    ]
