"""Analysis files of a source that has none."""

from __future__ import annotations

import pytest

from palletfit.config import DownloadSettings, load_analysis
from palletfit.errors import ConfigError, DownloadError
from palletfit.pallet import inspection
from palletfit.workflow.sources import analyses_of, notes

from ..pallet.inspection.layouts import background, grid, patchset, source


def write(folder, model="S"):
    workspace = background()
    files = {"BkgOnly.json": workspace, "patchset.json": patchset(workspace, grid(model=model))}
    return source(folder, "search.tar.gz", files)


def test_a_source_is_inspected_until_it_changes(tmp_path, monkeypatch):
    archive, folder = write(tmp_path), tmp_path / "inspected"
    (first,) = analyses_of(str(archive), DownloadSettings(), tmp_path, folder)
    analysis, _ = load_analysis(str(first), tmp_path)
    assert (analysis.name, analysis.pallet.path) == ("search", archive)
    assert "Proposed analysis search" in notes(first)
    with monkeypatch.context() as patched:
        patched.setattr(inspection, "inspect", None)
        assert analyses_of(str(archive), DownloadSettings(), tmp_path, folder) == [first]
    write(tmp_path, "other")
    (second,) = analyses_of(str(archive), DownloadSettings(), tmp_path, folder)
    assert second != first
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.parent.name for path in (first, second)
    )


def test_a_name_of_the_catalogue_has_its_analysis_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inspected"
    offline = DownloadSettings(offline=True)
    files = analyses_of("ATLAS-SUSY-2018-04", offline, tmp_path / "analyses", folder)
    assert files == [tmp_path / "analyses" / "staus.yaml"]
    assert "The catalogue has an analysis file" in notes(files[0])
    # Others are inspected, and so is a local file of the same name.
    with pytest.raises(DownloadError, match="forbids the network"):
        analyses_of("2L0J", offline, tmp_path / "analyses", folder)
    write(tmp_path).rename(tmp_path / "staus")
    (file,) = analyses_of("staus", offline, tmp_path / "analyses", folder)
    assert "Proposed analysis staus" in notes(file)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"notes.json": {"a": 1}}, "no signal patches with a workspace"),
        ({"p.json": patchset(background(), grid())}, "p.json belongs to no workspace for sure"),
        (
            {"b.json": background(), "p.json": patchset(background(), grid(), ("region", "m"))},
            "cannot run search yet: the label region is a column",
        ),
    ],
)
def test_what_cannot_be_run_is_an_error(tmp_path, files, problem):
    archive, folder = source(tmp_path, "search.tar.gz", files), tmp_path / "inspected"
    with pytest.raises(ConfigError, match=problem):
        analyses_of(str(archive), DownloadSettings(), tmp_path, folder)
    assert not folder.exists()
