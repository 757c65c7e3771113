"""Sources: DOI, address, archive, folder and file; and what is refused in them."""

from __future__ import annotations

import gzip
import io
import re
import sys
import tarfile

import pytest

from palletfit.config import DownloadSettings
from palletfit.config.catalogue import resource
from palletfit.errors import ArchiveError, ConfigError, DownloadError
from palletfit.pallet.inspection import inspect
from palletfit.pallet.inspection.sources import analysis_name

from ....loopback import Answer
from .layouts import background, grid, look, pack, patchset, source, write


@pytest.fixture
def files():
    workspace = background()
    return {"BkgOnly.json": workspace, "patchset.json": patchset(workspace, grid())}


def settings_for(loopback, **more) -> DownloadSettings:
    return DownloadSettings(
        allowed_hosts=["127.0.0.1"], doi_resolver=loopback.url("/doi/"), retries=0, **more
    )


def test_a_doi_is_fetched_and_named_in_the_analysis(loopback, files, tmp_path):
    loopback.answers["/doi/10.17182/hepdata.1.v2/r3"] = [Answer(pack("a.tgz", files))]
    settings = settings_for(loopback, cache=tmp_path / "cache")
    for doi in ("10.17182/hepdata.1.v2/r3", "https://doi.org/10.17182/hepdata.1.v2/r3"):
        analysis = inspect(doi, settings=settings).analysis()
        pallet = {key: value for key, value in analysis["pallet"].items() if key != "sha256"}
        assert pallet == {
            "doi": "10.17182/hepdata.1.v2/r3",
            "archive": "hepdata.1.v2-r3.archive",
        }
        assert analysis["name"] == "hepdata.1.v2-r3"
    # The second time it came from the cache.
    assert len(loopback.requests) == 1


def test_a_name_of_the_catalogue_is_its_doi(loopback, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = f"/doi/{resource('2L0J')}"
    loopback.answers[path] = [Answer(pack("a.tgz", files))]
    settings = settings_for(loopback, cache=tmp_path / "cache")
    inspection = inspect("2l0j", settings=settings)
    assert inspection.source == f"2L0J ({resource('2L0J')})"
    analysis = inspection.analysis()
    assert (analysis["name"], analysis["pallet"]["doi"]) == ("2L0J", resource("2L0J"))
    # The cache has it under its DOI.
    assert inspect(resource("2L0J"), settings=settings).analysis()["regions"].keys()
    assert len(loopback.requests) == 1
    # A local file of this name goes before the catalogue.
    source(tmp_path, "2L0J", {"BkgOnly.json": background()})
    assert inspect("2L0J", settings=settings).source == "2L0J"


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("stauz", "no likelihood of this name", "Did you mean 'staus'\\?"),
        ("RPV-1L", "does not know which resource", "such as 10.17182/hepdata.104860.v1/r1"),
        ("CMS-Higgs-observation", "palletfit does not read", "Convert it"),
    ],
)
def test_a_name_that_leads_to_nothing(text, problem, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=problem) as caught:
        inspect(text)
    assert re.search(remedy, caught.value.remedy)


def test_an_address_is_fetched(loopback, files):
    url = loopback.url("/files/stop_likelihoods.tar.gz")
    loopback.answers["/files/stop_likelihoods.tar.gz"] = [Answer(pack("a.tgz", files))]
    analysis = inspect(url, settings=settings_for(loopback)).analysis()
    assert (analysis["name"], analysis["pallet"]["url"]) == ("stop", url)


def test_a_host_that_is_not_allowed(loopback):
    with pytest.raises(DownloadError, match="is not allowed"):
        inspect(loopback.url("/a.tgz"))


def test_fetching_needs_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "palletfit.pallet.download", None)
    with pytest.raises(ConfigError, match="Fetching needs") as error:
        inspect("10.17182/hepdata.1.v2/r3")
    assert "palletfit[workflow]" in error.value.remedy


def test_a_folder_and_its_archive_have_the_same_content(tmp_path, files):
    everything = {f"A/{name}": content for name, content in files.items()}
    folder = write(tmp_path / "search", everything)
    (folder / ".hidden.json").write_text("{}")
    (folder / "link.json").symlink_to(folder / "A" / "BkgOnly.json")
    archive = look(tmp_path, everything).analysis()
    local = inspect(folder).analysis()
    # A folder is named as it is; the only folder of an archive need not be.
    assert local["regions"]["search"]["workspace"] == "A/BkgOnly.json"
    assert archive["regions"]["search"]["workspace"] == "BkgOnly.json"
    assert list(local["pallet"]["sha256"].values()) == list(archive["pallet"]["sha256"].values())


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("1Lbb-likelihoods-hepdata.tar.gz", "1Lbb"),
        ("SUSY-2018-04_likelihoods.tgz", "SUSY-2018-04"),
        ("ANA-SUSY-2019-08_JSON.zip", "ANA-SUSY-2019-08"),
        ("likelihoods.json.xz", "likelihoods"),
        ("\N{GREEK SMALL LETTER MU} search (1).tar", "search-1"),
        ("...", "analysis"),
    ],
)
def test_names_of_analyses(file, name):
    assert analysis_name(file) == name


def nested(levels: int, files) -> bytes:
    content = pack("a.tgz", files)
    for _ in range(levels - 1):
        content = pack("a.zip", {"inner": content})
    return content


def test_levels_are_limited(tmp_path, files):
    path = tmp_path / "a.tar"
    path.write_bytes(nested(4, files))
    assert len(inspect(path).pairing.pairs) == 1
    path.write_bytes(nested(5, files))
    with pytest.raises(ArchiveError, match="5th of archives in one another") as error:
        inspect(path)
    assert error.value.file == "inner/inner/inner/inner"


def hostile(**fields) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(fields.pop("name", "a.json"))
        for key, value in fields.items():
            setattr(entry, key, value)
        tar.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (hostile(name="../a.json"), "leads out of its folder"),
        (hostile(name="/etc/a.json"), "is an absolute path"),
        (hostile(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link"),
        (hostile(type=tarfile.CHRTYPE), "neither a file nor a folder"),
    ],
)
@pytest.mark.parametrize("inner", [False, True])
def test_suspicious_members_are_refused_at_all_depths(tmp_path, content, problem, inner):
    path = tmp_path / "a.tar"
    path.write_bytes(pack("a.tar", {"x/inner.tar": content}) if inner else content)
    with pytest.raises(ArchiveError, match=problem) as error:
        inspect(path)
    assert error.value.file == ("x/inner.tar" if inner else str(path))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"a.json": gzip.compress(b"[" + b" " * 3_000_000 + b"]")}, "more than 1000000 bytes"),
        ({"a.tar": {str(number): b"" for number in range(30)}}, "more than 20 members"),
    ],
)
def test_bombs_are_refused(tmp_path, content, problem):
    settings = DownloadSettings(max_members=20, max_unpacked_bytes=1_000_000)
    with pytest.raises(ArchiveError, match=problem):
        look(tmp_path, content, settings=settings)
    with pytest.raises(ArchiveError, match=problem):
        inspect(write(tmp_path / "folder", content), settings=settings)


def test_nothing_is_left_behind(tmp_path, files, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    look(tmp_path, {"inner.tgz": files, "x.json.gz": {"a": 1}})
    with pytest.raises(ArchiveError):
        look(tmp_path, {"inner.tgz": files, "bad.tar": hostile(name="../a.json")})
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_damaged_source_is_an_error(tmp_path, files):
    path = source(tmp_path, "a.tar.gz", files)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArchiveError, match="cannot be read"):
        inspect(path)


def test_other_compressed_files_are_no_damage(tmp_path, files):
    text = gzip.compress(b"a,b\n1,2\n")
    inspection = look(
        tmp_path, {**files, "table.csv.gz": text, "h.root.gz": gzip.compress(b"root")}
    )
    kinds = {document.name: document.kind for document in inspection.documents}
    assert (kinds["table.csv.gz"], kinds["h.root.gz"]) == ("other", "ROOT file")
