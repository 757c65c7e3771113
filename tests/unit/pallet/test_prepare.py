"""From an archive to a checked workspace, patchset and summary."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from palletfit.config import Analysis, DownloadSettings
from palletfit.errors import ArchiveError, ConfigError, PalletError
from palletfit.pallet.hs3 import hs3_document, read_hs3
from palletfit.pallet.prepare import prepare_background, prepare_region

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
