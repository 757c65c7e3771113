"""The check of a workspace and its patchset."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyhf
import pytest

from palletfit.errors import PalletError
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patchset import parse_patchset, validate

from .. import models

SHARED = Path(__file__).parents[4] / "shared"

Change = Callable[[dict[str, Any]], Any]


def check(
    folder: Path,
    *,
    background: Change | None = None,
    patches: Change | None = None,
    labels: list[str] | None = None,
) -> dict[str, Any]:
    """Validate a good pallet with some changes."""
    workspace = models.background("normsys", "staterror")
    if background is not None:
        background(workspace)
    patchset = models.patchset(workspace, models.grid())
    if patches is not None:
        patches(patchset)
    return validate(*models.write(folder, workspace, patchset), labels or models.LABELS)


def metadata(index: int, **values: Any) -> Change:
    return lambda spec: spec["patches"][index]["metadata"].update(values)


def test_the_summary_of_a_good_pallet(tmp_path):
    summary = check(tmp_path)
    assert summary["channels"] == {
        "SR": {"bins": 2, "samples": 1, "observed": 103.0},
        "CR": {"bins": 2, "samples": 1, "observed": 501.0},
    }
    assert summary["bins"] == 4
    assert summary["samples"] == ["bkg"]
    assert summary["modifiers"] == {"normsys": 1, "staterror": 1}
    # mu, the normsys, and one staterror in each bin of the signal region
    assert summary["parameters"] == 4
    assert summary["measurements"] == ["fit"]
    assert summary["poi"] == models.POI
    assert summary["patches"] == 3
    assert summary["labels"] == {"m1": [100, 200, 300], "m2": [50]}
    assert summary["description"] == "signals of a test"
    assert set(summary["digests"]) == {"sha256"}
    assert summary["remarks"] == []
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (metadata(0, name="signal_200_50"), "Two patches have the same name"),
        (metadata(1, values=[100, 50]), r"same values \[100, 50\] as 'signal_100_50'"),
        (metadata(1, values=[100.0, 50.0]), "same values"),
        (metadata(1, values=[100]), r"has 1 values for 2 labels \(m1, m2\)"),
        (metadata(1, values=[100, 50, 1]), "has 3 values for 2 labels"),
        (metadata(1, values=[100, math.nan]), "not finite"),
    ],
)
def test_wrong_values_name_the_patch(tmp_path, change, problem):
    with pytest.raises(PalletError, match=problem) as error:
        check(tmp_path, patches=change)
    assert error.value.patch == "signal_200_50"
    assert error.value.file == str(tmp_path / "patchset.json")


def test_later_schemas_are_read_as_far_as_they_say_nothing_new(tmp_path):
    summary = check(tmp_path, background=lambda spec: spec.update(version="1.1.0"))
    assert summary["parameters"] == 4
    check(tmp_path, patches=lambda spec: spec.update(version="1.1.0"))
    with pytest.raises(PalletError, match=r"not allowed \('axes' was unexpected\)"):
        check(tmp_path, background=lambda spec: spec.update(version="1.1.0", axes=[]))
    with pytest.raises(PalletError, match=r"'1\.0\.0' was expected"):
        check(tmp_path, background=lambda spec: spec.update(version="2.0.0"))


def test_a_name_that_no_file_can_hold_as_text_is_an_error(tmp_path):
    with pytest.raises(PalletError, match="half of a surrogate pair") as error:
        check(tmp_path, patches=metadata(1, name="signal\ud800"))
    assert error.value.patch == r"signal\ud800"
    str(error.value).encode()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda spec: spec["patches"].clear(), "The patchset holds no patches"),
        (lambda spec: spec.pop("version"), "violates pyhf's schema patchset.json"),
        (lambda spec: spec["metadata"].pop("digests"), "has no digest of its workspace"),
        (lambda spec: spec["metadata"]["digests"].clear(), "violates pyhf's schema"),
        (metadata(0, values=[[1], [2]]), "violates pyhf's schema"),
        (lambda spec: spec["patches"][2].update(patch="[]"), "violates pyhf's schema"),
        (lambda spec: spec["patches"][2].update(patch=[{"op": "add"}]), "violates pyhf's schema"),
        (lambda spec: spec["patches"][0].pop("metadata"), "is not a patchset: KeyError"),
        (lambda spec: spec.update(patches=None), "is not a patchset: TypeError"),
        (lambda spec: spec.update(metadata=[]), "is not a patchset: TypeError"),
        (
            lambda spec: spec["metadata"]["digests"].update(sha256="0" * 64),
            "made for another workspace: its sha256 is 0{64}",
        ),
        (
            lambda spec: spec["metadata"]["digests"].update(md5="0" * 32),
            "made for another workspace: its md5 is 0{32}",
        ),
    ],
)
def test_a_wrong_patchset_is_refused(tmp_path, change, problem):
    with pytest.raises(PalletError, match=problem) as error:
        check(tmp_path, patches=change)
    assert error.value.file == str(tmp_path / "patchset.json")


@pytest.mark.parametrize("labels", [["m2", "m1"], ["m1"], ["m1", "m2", "m3"], ["a", "b"]])
def test_labels_have_to_be_those_of_the_analysis(tmp_path, labels):
    with pytest.raises(PalletError, match=r"labels are \['m1', 'm2'\], but the analysis file says"):
        check(tmp_path, labels=labels)


def duplicate(items: str) -> Change:
    def change(spec: dict[str, Any]) -> None:
        target = spec if items == "channels" else spec["channels"][0]
        target[items].append(target[items][0])

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda spec: spec.pop("observations"), "'observations' is a required property"),
        (lambda spec: spec.update(version="2.0.0"), "violates pyhf's schema workspace.json"),
        (
            lambda spec: spec["channels"][1]["samples"][0]["data"].__setitem__(0, math.nan),
            "A number is not finite: /channels/1/samples/0/data/0",
        ),
        (
            lambda spec: spec["observations"][0]["data"].__setitem__(1, math.inf),
            "A number is not finite: /observations/0/data/1",
        ),
        (duplicate("channels"), "two channels are called 'SR'"),
        (duplicate("samples"), "two samples of channel 'SR' are called 'bkg'"),
        (lambda spec: spec["observations"].pop(), "channel 'CR' has no observation"),
        (
            lambda spec: spec["observations"][0]["data"].append(1.0),
            "sample 'bkg' of channel 'SR' has 2 bins, but 3 are observed",
        ),
    ],
)
def test_a_wrong_workspace_is_refused(tmp_path, change, problem):
    with pytest.raises(PalletError, match=problem) as error:
        check(tmp_path, background=change)
    assert error.value.file == str(tmp_path / "workspace.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"<html></html>", b"\xff\xfe\x00", b"[" * 100_000, b"1" * 10_000],
    ids=["empty", "cut", "html", "binary", "deep", "digits"],
)
@pytest.mark.parametrize("which", ["workspace.json", "patchset.json"])
def test_a_file_that_is_not_json_is_named(tmp_path, content, which):
    models.write(tmp_path, models.background(), models.patchset(models.background(), models.grid()))
    (tmp_path / which).write_bytes(content)
    with pytest.raises(PalletError, match=r"not JSON|nests too deeply") as error:
        validate(tmp_path / "workspace.json", tmp_path / "patchset.json", models.LABELS)
    assert error.value.file == str(tmp_path / which)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PalletError, match="Cannot read the file: No such file"):
        read_pallet_json(tmp_path / "nowhere.json")


def test_swapped_files_are_refused(tmp_path):
    workspace = models.background()
    paths = models.write(tmp_path, models.patchset(workspace, models.grid()), workspace)
    with pytest.raises(PalletError, match=r"violates pyhf's schema workspace\.json"):
        validate(*paths, models.LABELS)


@pytest.mark.parametrize("name", ["a/b", "stau (100, 1)", "v1.2-x", "\u03c4\u0303", ".", ""])
def test_unusual_names_are_accepted_and_remarked(tmp_path, name):
    summary = check(tmp_path, patches=metadata(1, name=name))
    assert summary["patches"] == 3
    assert summary["remarks"] == [f"1 patch names beyond pyhf's schema, such as {name!r}"]


def test_digests_may_be_in_upper_case(tmp_path):
    def change(spec: dict[str, Any]) -> None:
        digests = spec["metadata"]["digests"]
        digests["sha256"] = digests["sha256"].upper()

    assert check(tmp_path, patches=change)["patches"] == 3


def written(value, as_integers):
    """A JSON value with its whole numbers as integers, or all numbers as decimals."""
    if isinstance(value, dict):
        return {key: written(member, as_integers) for key, member in value.items()}
    if isinstance(value, list):
        return [written(member, as_integers) for member in value]
    if isinstance(value, (int, float)):
        return int(value) if as_integers and float(value).is_integer() else float(value)
    return value


@pytest.mark.parametrize("algorithms", [("sha256",), ("md5", "sha256")])
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", ["as integers", "as decimals", "counts as integers"])
def test_another_way_to_write_numbers_is_a_remark(tmp_path, algorithms, ours, theirs):
    background = models.background("normsys", "histosys", "lumi")
    original = written(background, as_integers=theirs == "as integers")
    if theirs == "counts as integers":
        original["observations"] = written(original["observations"], as_integers=True)
    patchset = models.patchset(original, models.grid())
    patchset["metadata"]["digests"] = {
        name: pyhf.utils.digest(original, algorithm=name) for name in algorithms
    }
    rewritten = written(background, as_integers=ours)
    paths = models.write(tmp_path, rewritten, patchset)
    same = pyhf.utils.digest(rewritten) == pyhf.utils.digest(original)
    remarks = validate(*paths, models.LABELS)["remarks"]
    assert len(remarks) == (not same)
    assert same or "another way (50 for 50.0)" in remarks[0]
    # Another number is another likelihood, however it is written.
    rewritten["observations"][0]["data"][0] += 1
    paths = models.write(tmp_path, rewritten, patchset)
    with pytest.raises(PalletError, match="made for another workspace"):
        validate(*paths, models.LABELS)


def test_values_may_be_words(tmp_path):
    summary = check(tmp_path, patches=metadata(0, values=["low", 50]))
    assert summary["labels"]["m1"] == [200, 300, "low"]


def test_parameters_are_counted_with_the_first_patch_that_can_be_applied(tmp_path):
    def change(spec: dict[str, Any]) -> None:
        spec["patches"][0]["patch"] = [{"op": "remove", "path": "/channels/7"}]
        spec["patches"][1]["patch"] = []  # adds no signal

    assert check(tmp_path, patches=change)["parameters"] == 4


@pytest.mark.parametrize(
    "modifier",
    [
        {"name": "scale", "type": "normfactor", "data": None},  # the name of a normsys
        {"name": "short", "type": "shapesys", "data": [1.0]},
        {"name": "lumi", "type": "lumi", "data": None},  # without its uncertainty
    ],
)
def test_a_model_that_pyhf_refuses_leaves_the_parameters_unknown(tmp_path, modifier):
    def change(spec: dict[str, Any]) -> None:
        spec["channels"][0]["samples"][0]["modifiers"].append(modifier)

    assert check(tmp_path, background=change)["parameters"] is None


def test_patches_are_selected_by_pattern_and_by_name():
    names = ["a_1", "a_2", "b_1", "c[1]"]
    spec = models.patchset(
        models.background(), [models.patch(name, [i, 0]) for i, name in enumerate(names)]
    )
    patchset = parse_patchset(spec, Path("patchset.json"))

    def selected(*patterns: str) -> list[str]:
        return [patch.name for patch in patchset.select(patterns)]

    assert selected("*") == names
    assert selected("b_1", "a_*") == ["a_1", "a_2", "b_1"]  # in the order of the file
    assert selected("c[1]") == ["c[1]"]  # a name with a pattern's characters
    assert selected("A_1") == []
    assert patchset.labels == ("m1", "m2")


@pytest.mark.parametrize(
    ("analysis", "region"),
    [
        pytest.param("1Lbb", "1Lbb", marks=pytest.mark.study),
        ("staus", "combined"),
        ("sbottom", "RegionB"),
    ],
)
def test_published_pallets_are_accepted(tmp_path, analysis, region):
    from palletfit.config import DownloadSettings, load_analysis
    from palletfit.pallet.archive import unpack

    folder = Path(__file__).parents[3] / "config" / "analyses"
    loaded, _ = load_analysis(analysis, folder)
    archive = SHARED / "pallets" / str(loaded.pallet.archive)
    if not archive.exists():
        pytest.skip("the published pallets are not beside the repository")
    files = loaded.regions[region]
    paths = unpack(
        archive, [files.workspace, files.patchset], tmp_path, DownloadSettings(), sha256={}
    )
    summary = validate(paths[files.workspace], paths[files.patchset], loaded.labels)
    # The patches of sbottom remove one of the background's channels.
    expected = {"1Lbb": (8, 14, 126, 125), "staus": (5, 5, 120, 57), "sbottom": (3, 3, 60, 218)}
    found_numbers = (len(summary["channels"]), summary["bins"], summary["parameters"])
    assert (*found_numbers, summary["patches"]) == expected[analysis]
