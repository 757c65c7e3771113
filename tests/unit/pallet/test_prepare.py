"""From an archive to a checked workspace, patchset and summary."""

from __future__ import annotations

import copy
import gzip
import hashlib
import html
import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from palletfit.config import Analysis, DownloadSettings, FitSettings, Pallet, Region
from palletfit.engine.measurements import NONE
from palletfit.errors import ArchiveError, ConfigError, DownloadError, PalletError
from palletfit.pallet.download import fetch_pallet
from palletfit.pallet.hs3 import hs3_document, read_hs3
from palletfit.pallet.prepare import prepare_background, prepare_region
from palletfit.workflow import complete

from .. import models

BACKGROUND = models.background("normsys", "staterror", observed=(58.0, 1_234_567.0))
PATCHSET = models.patchset(BACKGROUND, models.grid())


def make_archive(path: Path, contents) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def make_analysis(labels=models.LABELS, sha256=None) -> Analysis:
    return Analysis.model_validate(
        {
            "name": "search",
            "title": "a search",
            "pallet": {"path": "pallet.tgz", "sha256": sha256 or {}},
            "regions": {
                "A": {"workspace": "A/BkgOnly.json", "patchset": "A/patchset.json"},
                "B": {"workspace": "B/BkgOnly.json", "patchset": "B/patchset.json"},
            },
            "labels": labels,
            "planes": {"m": {"x": "m1", "y": "m2", "x_title": "x", "y_title": "y"}},
        }
    )


@pytest.fixture
def archive(tmp_path) -> Path:
    other = models.background("normsys", observed=(1.0, 2.0))
    return make_archive(
        tmp_path / "pallet.tgz",
        {
            "A/BkgOnly.json": BACKGROUND,
            "A/patchset.json": PATCHSET,
            "B/BkgOnly.json": other,
            "B/patchset.json": PATCHSET,  # made for another workspace
            "README.md": "text",
        },
    )


def prepare(archive: Path, analysis: Analysis, region="A"):
    folder = archive.parent / "results" / region
    paths = [folder / name for name in ("workspace.json", "patchset.json", "summary.html")]
    return prepare_region(analysis, region, archive, *paths, DownloadSettings()), paths


def test_a_region_is_unpacked_checked_and_described(archive):
    summary, (workspace, patchset, page) = prepare(archive, make_analysis())
    assert json.loads(workspace.read_text()) == BACKGROUND
    assert json.loads(patchset.read_text()) == PATCHSET
    assert json.loads(page.with_suffix(".json").read_text()) == summary
    assert summary["patches"] == 3
    # Nothing else is left there.
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "patchset.json",
        "summary.html",
        "summary.json",
        "workspace.json",
    ]


def test_the_page_shows_the_summary(archive):
    summary, (*_, page) = prepare(archive, make_analysis())
    text = page.read_text()
    assert "<h1>search/A</h1>" in text
    cells = [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", text)]
    for expected in (
        *("mu_SIG", "3 values, 100 to 300", "normsys", "staterror", "SR", "CR"),
        summary["digests"]["sha256"],
        "1234625",  # 58 + 1234567 events, all digits of them
    ):
        assert expected in cells


def test_names_cannot_break_the_page(tmp_path):
    background = models.background("normsys")
    background["channels"][0]["name"] = background["observations"][0]["name"] = "<script>&"
    archive = make_archive(
        tmp_path / "pallet.tgz",
        {
            "A/BkgOnly.json": background,
            "A/patchset.json": models.patchset(background, models.grid()),
        },
    )
    _, (*_, page) = prepare(archive, make_analysis())
    assert "<script>" not in page.read_text()
    assert "&lt;script&gt;&amp;" in page.read_text()


def test_an_error_names_the_file_in_the_archive(archive):
    with pytest.raises(PalletError, match="made for another workspace") as error:
        prepare(archive, make_analysis(), "B")
    assert error.value.file == f"B/patchset.json in {archive}"
    assert list((archive.parent / "results" / "B").iterdir()) == []


def test_labels_are_compared_with_the_analysis(archive):
    with pytest.raises(PalletError, match="the analysis file says"):
        prepare(archive, make_analysis(labels=["m2", "m1"]))


def test_pins_are_verified(archive):
    right = hashlib.sha256(json.dumps(BACKGROUND).encode()).hexdigest()
    prepare(archive, make_analysis(sha256={"A/BkgOnly.json": right}))
    wrong = make_analysis(sha256={"A/BkgOnly.json": "0" * 64})
    with pytest.raises(ArchiveError, match="another digest"):
        prepare(archive, wrong)


def test_a_region_that_the_archive_lacks_is_named(tmp_path):
    archive = make_archive(tmp_path / "pallet.tgz", {"A/BkgOnly.json": BACKGROUND})
    with pytest.raises(ArchiveError, match=r"has no file 'A/patchset\.json'"):
        prepare(archive, make_analysis())


def test_an_unknown_region_is_explained(archive):
    with pytest.raises(ConfigError, match="no region 'C'") as error:
        prepare(archive, make_analysis(), "C")
    assert "A, B" in error.value.remedy


def test_an_hs3_document_in_the_archive_becomes_a_workspace(tmp_path):
    document = json.loads(json.dumps(hs3_document(BACKGROUND)))
    workspace = read_hs3(document)
    broken = {**document, "likelihoods": []}
    archive = make_archive(
        tmp_path / "pallet.tgz",
        {
            "A/BkgOnly.json": document,
            "A/patchset.json": models.patchset(workspace, models.grid()),
            "B/BkgOnly.json": broken,
            "B/patchset.json": PATCHSET,
        },
    )
    analysis = make_analysis()
    summary, (path, *_) = prepare(archive, analysis)
    assert json.loads(path.read_text()) == workspace
    assert summary["measurements"] == ["fit"]
    page = tmp_path / "page.html"
    prepare_background(analysis, "A", archive, path, page, DownloadSettings())
    assert json.loads(path.read_text()) == workspace
    for function in (
        lambda: prepare(archive, analysis, "B"),
        lambda: prepare_background(analysis, "B", archive, path, page, DownloadSettings()),
    ):
        with pytest.raises(PalletError, match="names the likelihood 'likelihood'") as raised:
            function()
        assert raised.value.file == f"B/BkgOnly.json in {archive}"


# --- layouts beyond one workspace and one patchset in one archive


def region_of(archive: Path, labels=models.LABELS, **region):
    """Prepare one region, and return the summary and the content of its patchset."""
    analysis = make_analysis()
    settings = Region(**{"workspace": "BkgOnly.json", **region})
    analysis = analysis.model_copy(update={"regions": {"A": settings}, "labels": labels})
    summary, (_, patchset, _) = prepare(archive, analysis)
    return summary, json.loads(patchset.read_text())


def test_files_of_operations_become_a_patchset(tmp_path):
    operations = {
        f"patch.S_{first}p5_{patch['metadata']['values'][1]}.json": patch["patch"]
        for first, patch in zip((300, 100, 200), PATCHSET["patches"], strict=True)
    }
    archive = make_archive(tmp_path / "a.tgz", {"BkgOnly.json": BACKGROUND, **operations})
    summary, spec = region_of(archive, operations="patch.*.json", values="S_{m1}_{m2}")
    assert summary["labels"] == {"m1": [100.5, 200.5, 300.5], "m2": [50]}
    assert [patch["metadata"] for patch in spec["patches"]] == [
        {"name": f"S_{mass}p5_50", "values": [mass + 0.5, 50]} for mass in (100, 200, 300)
    ]
    assert spec["patches"][2]["patch"] == PATCHSET["patches"][0]["patch"]
    assert summary["remarks"] == []


def test_files_of_operations_without_values_have_their_names(tmp_path):
    files = {f"discovery/{n}/patch.json": p["patch"] for n, p in enumerate(PATCHSET["patches"])}
    archive = make_archive(tmp_path / "a.tgz", {"BkgOnly.json": BACKGROUND, **files})
    summary, _ = region_of(
        archive, ["region"], operations="discovery/*/patch.json", name_as="region"
    )
    assert summary["labels"] == {"region": ["0", "1", "2"]}


@pytest.mark.parametrize(
    ("content", "values", "problem"),
    [
        ({"patch.S_1.json": [{"op": "add", "path": "/a"}]}, "T_{m1}", "does not match 'T_{m1}'"),
        ({"patch.S_1.json": BACKGROUND}, "S_{m1}", "not a list of JSON-patch operations"),
        ({"patch.S_1.json": []}, "S_{m1}", "not a list of JSON-patch operations"),
    ],
)
def test_files_that_are_no_operations_are_named(tmp_path, content, values, problem):
    archive = make_archive(tmp_path / "a.tgz", {"BkgOnly.json": BACKGROUND, **content})
    with pytest.raises(PalletError, match=problem) as error:
        region_of(archive, ["m1"], operations="patch.*.json", values=values)
    assert (error.value.patch, error.value.file) == ("S_1", f"patch.S_1.json in {archive}")


def test_equal_values_are_told_apart_by_name(tmp_path):
    patchset = copy.deepcopy(PATCHSET)
    for patch in patchset["patches"]:
        patch["metadata"]["values"] = ["none", 0]
    archive = make_archive(tmp_path / "a.tgz", {"BkgOnly.json": BACKGROUND, "p.json": patchset})
    with pytest.raises(PalletError, match="same values"):
        region_of(archive, patchset="p.json")
    summary, spec = region_of(
        archive, [*models.LABELS, "signal"], patchset="p.json", name_as="signal"
    )
    names = [patch["metadata"]["name"] for patch in patchset["patches"]]
    assert summary["labels"] == {"m1": ["none"], "m2": [0], "signal": names}
    assert spec["metadata"]["digests"] == patchset["metadata"]["digests"]


@pytest.mark.parametrize(
    ("digests", "had"),
    [(None, "no digest"), ({}, "no digest"), ({"sha256": "0" * 64}, "another digest")],
)
def test_digests_are_ignored_where_the_analysis_says_so(tmp_path, digests, had):
    patchset = copy.deepcopy(PATCHSET)
    patchset["metadata"]["digests"] = digests
    if digests is None:
        del patchset["metadata"]["digests"]
    archive = make_archive(tmp_path / "a.tgz", {"BkgOnly.json": BACKGROUND, "p.json": patchset})
    with pytest.raises(PalletError) as error:
        region_of(archive, patchset="p.json")
    assert error.value.file == f"p.json in {archive}"
    summary, spec = region_of(archive, patchset="p.json", digest="ignore")
    assert spec["metadata"]["digests"] == PATCHSET["metadata"]["digests"]
    assert summary["remarks"] == [
        f"the patchset has {had} of its workspace, which the analysis file ignores"
    ]


def test_a_folder_is_packed(tmp_path):
    folder = tmp_path / "likelihoods"
    (folder / "A").mkdir(parents=True)
    (folder / "A" / "BkgOnly.json").write_text(json.dumps(BACKGROUND))
    make_archive(folder / "patches.tgz", {"patchset.json": PATCHSET})
    (folder / "results.json").write_text("not needed")
    settings = DownloadSettings()
    pallet = Pallet(path=folder)
    region = {"workspace": "A/BkgOnly.json", "patchset": "patches.tgz/patchset.json"}
    members = Region(**region).members
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    fetch_pallet(pallet, first, settings, analysis="a", members=members)
    fetch_pallet(pallet, second, settings, analysis="a", members=members)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar:
        assert tar.getnames() == ["A/BkgOnly.json", "patches.tgz"]
    summary, _ = region_of(first, **region)
    assert summary["patches"] == 3
    with pytest.raises(DownloadError, match="none of the files that the analysis names"):
        fetch_pallet(pallet, first, settings, analysis="a", members=["B/BkgOnly.json", "../x"])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_background_of_a_scan_may_be_one_file(tmp_path, pack):
    archive = tmp_path / "likelihood.json"
    archive.write_bytes(pack(json.dumps(BACKGROUND).encode()))
    analysis = make_analysis()
    region = Region(workspace="likelihood.json")
    analysis = analysis.model_copy(update={"regions": {"A": region}})
    workspace, page = tmp_path / "workspace.json", tmp_path / "summary.html"
    prepare_background(analysis, "A", archive, workspace, page, DownloadSettings())
    assert json.loads(workspace.read_text()) == BACKGROUND


def complete_analysis(**keys) -> Analysis:
    regions = {"whole": {"workspace": "whole.json", "complete": True, **keys}}
    data = {"name": "search", "title": "a", "pallet": {"path": "p.tgz"}, "regions": regions}
    return Analysis.model_validate(data)


def prepare_complete(folder: Path, spec, fit=None, **keys):
    archive = make_archive(folder / "p.tgz", {"whole.json": spec})
    analysis = complete_analysis(**keys)
    asking = complete.asking(analysis.regions["whole"], fit or FitSettings())
    paths = [folder / name for name in ("workspace.json", "patchset.json", "summary.html")]
    summary = prepare_region(analysis, "whole", archive, *paths, DownloadSettings(), asking=asking)
    return summary, json.loads(paths[0].read_text()), json.loads(paths[1].read_text())


def test_a_complete_workspace_is_one_point_without_operations(tmp_path):
    spec = models.full("normsys")
    summary, workspace, patchset = prepare_complete(tmp_path, spec)
    assert workspace == spec
    assert patchset["patches"] == [
        {"metadata": {"name": "whole", "values": ["whole"]}, "patch": []}
    ]
    assert (summary["patches"], summary["parameters"], summary["poi"]) == (1, 2, models.POI)
    assert summary["labels"] == {"likelihood": ["whole"]}


def test_a_measurement_of_the_region_goes_before_that_of_the_fits(tmp_path):
    spec = models.full("normsys")
    (entry,) = spec["measurements"]
    spec["measurements"] = [{**entry, "name": name} for name in ("a", "b", "c")]
    for fit, keys, name in (("b", {}, "b"), ("b", {"measurement": "c"}, "c"), (None, {}, "a")):
        _, workspace, _ = prepare_complete(tmp_path, spec, FitSettings(measurement=fit), **keys)
        assert [entry["name"] for entry in workspace["measurements"]] == [name]


def test_a_background_alone_is_described_as_it_was_published(tmp_path):
    summary, workspace, _ = prepare_complete(tmp_path, BACKGROUND, poi="")
    assert (summary["poi"], summary["samples"], summary["parameters"]) == ("", ["bkg"], 3)
    assert workspace["measurements"][0]["config"]["poi"] == NONE


def test_remarks_on_a_question_are_in_the_summary(tmp_path):
    summary, workspace, _ = prepare_complete(tmp_path, BACKGROUND, signal_in="SR")
    assert any("spread evenly over the 2 bins" in remark for remark in summary["remarks"])
    assert workspace["measurements"][0]["config"]["poi"] == "events_SR"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({}, "the workspace has no signal"),
        ({"measurement": "other"}, "The workspace has no measurement 'other'"),
        ({"poi": "scale"}, "is no normfactor"),
        ({"signal_in": "SR:3"}, "has no bin 3"),
        ({"poi": "", "fix": {"scale": 1.0}, "measurement": "x"}, "no measurement 'x'"),
        ({"poi": "", "fix": {"scael": 1.0}}, "no parameter 'scael' that could be fixed"),
    ],
)
def test_wrong_questions_name_the_file(tmp_path, keys, problem):
    with pytest.raises(PalletError, match=problem) as error:
        prepare_complete(tmp_path, BACKGROUND, **keys)
    assert str(error.value.file).startswith("whole.json in ")
    assert not (tmp_path / "workspace.json").exists()


def test_a_complete_hs3_document(tmp_path):
    _, workspace, _ = prepare_complete(tmp_path, hs3_document(models.full("normsys")))
    assert {channel["name"] for channel in workspace["channels"]} == {"SR", "CR"}
