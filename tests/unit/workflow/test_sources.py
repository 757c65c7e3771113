"""Analysis files of a source that has none."""

from __future__ import annotations

import pytest

from palletfit.config import DownloadSettings, load_analysis
from palletfit.errors import ConfigError
from palletfit.pallet import inspection
from palletfit.workflow.sources import analyses_of

from ..pallet.inspection.layouts import background, grid, patchset, source


def write(folder, model="S"):
    workspace = background()
    files = {"BkgOnly.json": workspace, "patchset.json": patchset(workspace, grid(model=model))}
    return source(folder, "search.tar.gz", files)


def test_a_source_is_inspected_until_it_changes(tmp_path, monkeypatch):
    archive, folder = write(tmp_path), tmp_path / "inspected"
    (first,) = analyses_of(str(archive), DownloadSettings(), folder)
    analysis, _ = load_analysis(str(first), tmp_path)
    assert (analysis.name, analysis.pallet.path) == ("search", archive)
    assert "Proposed analysis search" in first.with_name("inspection.txt").read_text()
    with monkeypatch.context() as patched:
        patched.setattr(inspection, "inspect", None)
        assert analyses_of(str(archive), DownloadSettings(), folder) == [first]
    write(tmp_path, "other")
    (second,) = analyses_of(str(archive), DownloadSettings(), folder)
    assert second != first
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.parent.name for path in (first, second)
    )


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"b.json": background()}, "no signal patches with a workspace"),
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
        analyses_of(str(archive), DownloadSettings(), folder)
    assert not folder.exists()
