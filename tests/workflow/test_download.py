"""The workflow fetches what an analysis names: from a server on this machine instead of HEPData."""

from __future__ import annotations

import json

import pytest

from ..loopback import Answer, Loopback
from .conftest import Folder
from .pallets import TinyPallet

DOI = "10.17182/hepdata.00000.v1/r1"


@pytest.fixture
def remote(folder: Folder, tiny: TinyPallet, loopback: Loopback) -> TinyPallet:
    """The tiny analysis, with its archive and its published contour on a server."""
    archive = folder.path / "tiny.tar.gz"
    loopback.answers = {
        f"/doi/{DOI}": [Answer(status=302, headers={"Location": "/record/resource?view=true"})],
        "/record/resource?view=true": [
            Answer(archive.read_bytes(), headers={"Content-Type": "application/x-tar"})
        ],
        "/table.csv": [
            Answer(b"m1,m2\n150,0\n200,20\n250,40\n", headers={"Content-Type": "text/csv"})
        ],
    }
    archive.unlink()
    tiny.analysis["pallet"] = {"doi": DOI}
    tiny.analysis["planes"]["masses"]["published"] = {
        "observed": {"file": "observed.csv", "url": loopback.url("/table.csv")},
        "expected": {"file": "expected.csv", "url": loopback.url("/nothing.csv")},
    }
    tiny.analysis_path.write_text(json.dumps(tiny.analysis))
    folder.config["download"] = {
        "doi_resolver": loopback.url("/doi/"),
        "allowed_hosts": ["127.0.0.1"],
        "cache": str(folder.path / "cache"),
        "backoff": 0.01,
    }
    return tiny


def test_from_a_doi_to_a_contour_and_then_from_the_cache(
    folder: Folder, remote: TinyPallet, loopback: Loopback
) -> None:
    run = folder.run()
    assert run.fitted == remote.names
    assert "The published expected contour is left out" in run.output
    contour = json.loads((folder.path / "results/tiny/contour.json").read_bytes())
    assert contour["distance_to_published"]["observed"] is not None
    # What is left out is said in data, page and last words.
    assert contour["left_out"] == {"expected": "127.0.0.1 answered 404 (Not Found)."}
    page = folder.path / "results/tiny/exclusion.html"
    sentence = "The published expected contour is left out: 127.0.0.1 answered 404"
    assert sentence in page.read_text()
    missing = "missing: the published expected contour (127.0.0.1 answered 404 (Not Found))"
    assert missing in run.output
    asked = len(loopback.requests)

    # It comes back once it is in the cache; everything else is there, too.
    (folder.path / "resources/pallets/tiny.archive").unlink()
    table = folder.path / "cache/published/tiny/expected.csv"
    table.write_text("m1,m2\n150,0\n200,25\n250,45\n")
    folder.config["download"]["offline"] = True
    run = folder.run()
    assert run.fitted == []
    assert len(loopback.requests) == asked
    contour = json.loads((folder.path / "results/tiny/contour.json").read_bytes())
    assert contour["distance_to_published"]["expected"] is not None
    assert "left_out" not in contour
    assert sentence not in page.read_text()
    assert "missing:" not in run.output


def test_a_landing_page_is_explained(
    folder: Folder, remote: TinyPallet, loopback: Loopback
) -> None:
    page = Answer(b"<!DOCTYPE html><html>record</html>", headers={"Content-Type": "text/html"})
    loopback.answers[f"/doi/{DOI}"] = [page]
    run = folder.run(remote.hypotest(), succeeds=False)
    assert DOI in run.output
    assert "remedy:" in run.output
    assert "Traceback" not in run.output
    # The next run gets the archive and needs nothing else.
    loopback.answers[f"/doi/{DOI}"] = loopback.answers["/record/resource?view=true"]
    assert folder.run(remote.hypotest()).fitted == remote.names
