from __future__ import annotations

import gzip
import io
import logging
import socket
import tarfile
import time
import zipfile
from email.utils import formatdate
from pathlib import Path

import pytest

from palletfit.config import DownloadSettings, Pallet, PublishedCurve
from palletfit.errors import ConfigError, DownloadError
from palletfit.pallet.download import fetch_pallet, fetch_published, network

from ...loopback import Answer, Loopback
from ...waiting import LIMIT

LANDING = b"<!DOCTYPE html>\n<html><head><title>HEPData</title></head><body>A record</body></html>"
TABLE = b"#: name: Observed limit\nM(X) [GEV],M(Y) [GEV]\n840.7,0.0\n837.2,8.8\n"
DOI = "10.17182/hepdata.90607.v3/r3"


def make_tar(content: bytes = b"{}" * 5000) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("BkgOnly.json")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = gzip.compress(make_tar(), mtime=0)


@pytest.fixture
def settings(loopback: Loopback) -> DownloadSettings:
    return DownloadSettings(
        allowed_hosts=["127.0.0.1"],
        doi_resolver=loopback.url("/resolver/"),
        timeout=5.0,
        retries=2,
        backoff=0.01,
    )


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "resources" / "pallet.tar.gz"


def changed(settings: DownloadSettings, **changes: object) -> DownloadSettings:
    return settings.model_copy(update=changes)


def fetch(loopback: Loopback, target: Path, settings: DownloadSettings) -> Path:
    return fetch_pallet(Pallet(url=loopback.url("/archive")), target, settings, analysis="1Lbb")


def failure(loopback: Loopback, target: Path, settings: DownloadSettings) -> DownloadError:
    """The error of a fetch that fails and leaves nothing behind."""
    with pytest.raises(DownloadError) as caught:
        fetch(loopback, target, settings)
    assert caught.value.file == loopback.url("/archive")
    assert caught.value.remedy
    assert list(target.parent.glob("*")) == []
    assert list(target.parent.glob(".*")) == []
    return caught.value


# --- what succeeds


def test_doi_leads_through_redirects_to_the_archive(loopback, settings, target):
    loopback.answers[f"/resolver/{DOI}"] = [
        Answer(LANDING, status=302, headers={"Location": loopback.url("/record/resource/1")})
    ]

    def resource(request):
        # as HEPData does: the file itself only for its own media type
        if "application/x-tar" in request.headers["Accept"].split(", "):
            return Answer(status=303, headers={"Location": "../file?view=false"})
        return Answer(LANDING, headers={"Content-Type": "text/html"})

    loopback.answers["/record/resource/1"] = resource
    loopback.answers["/record/file?view=false"] = [Answer(ARCHIVE)]
    assert fetch_pallet(Pallet(doi=DOI), target, settings, analysis="1Lbb") == target
    assert target.read_bytes() == ARCHIVE
    assert len(loopback.requests) == 3
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("length", [-1, None], ids=["with length", "without length"])
def test_url_of_a_table(loopback, settings, tmp_path, length):
    loopback.answers["/table"] = [
        Answer(TABLE, length=length, headers={"Content-Type": "text/csv"})
    ]
    curve = PublishedCurve(file="observed.csv", url=loopback.url("/table"))
    path = fetch_published(curve, tmp_path / "observed.csv", settings, analysis="1Lbb")
    assert path.read_bytes() == TABLE
    assert loopback.requests[0].headers["Accept"] == "text/csv"
    assert loopback.requests[0].headers["Accept-Encoding"] == "identity"


def test_archive_is_recognised_by_content_not_by_type(loopback, settings, target):
    loopback.answers["/archive"] = [Answer(ARCHIVE, headers={"Content-Type": "text/html"})]
    assert fetch(loopback, target, settings).read_bytes() == ARCHIVE


def test_a_likelihood_may_be_one_json_file(loopback, settings, target):
    for body in (b'{"channels": []}', b' \n{"a": ' + b" " * 1000 + b"1}"):
        loopback.answers["/likelihood"] = [Answer(body)]
        fetch_pallet(Pallet(url=loopback.url("/likelihood")), target, settings, analysis="mine")
        assert target.read_bytes() == body


def test_a_json_resource_of_a_doi_is_not_refused(loopback, settings, target):
    """HEPData answers 406 unless the header accepts the type of the resource."""

    def resource(request):
        if "application/json" not in request.headers["Accept"].split(", "):
            return Answer(b"Not Acceptable", status=406)
        return Answer(b'{"channels": []}', headers={"Content-Type": "application/json"})

    loopback.answers[f"/resolver/{DOI}"] = resource
    fetch_pallet(Pallet(doi=DOI), target, settings, analysis="mine")
    assert target.read_bytes() == b'{"channels": []}'


def test_file_is_readable_for_others(loopback, settings, target):
    loopback.answers["/archive"] = [Answer(ARCHIVE)]
    plain = target.with_name("plain")
    plain.parent.mkdir()
    plain.touch()
    assert fetch(loopback, target, settings).stat().st_mode == plain.stat().st_mode


def test_local_file_is_copied(settings, tmp_path, target):
    source = tmp_path / "local.tgz"
    source.write_bytes(ARCHIVE)
    source.chmod(0o400)
    fetch_pallet(Pallet(path=source), target, settings, analysis="mine")
    assert target.read_bytes() == ARCHIVE
    assert not target.samefile(source)
    assert not target.is_symlink()


# --- retries


@pytest.mark.parametrize(
    "bad",
    [
        Answer(b"busy", status=503),
        Answer(b"oops", status=500),
        Answer(b"slow down", status=429),
        Answer(reset=True),
        Answer(ARCHIVE[:50], length=len(ARCHIVE)),
        Answer(b"5\r\nabc", length=None, headers={"Transfer-Encoding": "chunked"}),
        Answer(b"no gzip", headers={"Content-Encoding": "gzip"}),
        Answer(b""),
        Answer(ARCHIVE, pause=60.0),
        Answer(ARCHIVE, delay=60.0),
    ],
    ids=[
        "503",
        "500",
        "429",
        "reset",
        "truncated",
        "chunk",
        "encoding",
        "empty",
        "stalled",
        "slow",
    ],
)
def test_transient_problem_is_tried_again(loopback, settings, target, bad, caplog):
    loopback.answers["/archive"] = [bad, bad, Answer(ARCHIVE)]
    quick = changed(settings, timeout=1.0)
    assert fetch(loopback, target, quick).read_bytes() == ARCHIVE
    assert loopback.count("/archive") == 3
    assert len([record for record in caplog.records if "Attempt" in record.message]) == 2


def test_waits_double(loopback, settings, target, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    loopback.answers["/archive"] = [Answer(status=500)] * 2 + [Answer(ARCHIVE)]
    fetch(loopback, target, changed(settings, backoff=0.2))
    assert waits == [0.2, 0.4]


def test_retry_after_is_honoured(loopback, settings, target):
    busy = Answer(status=429, headers={"Retry-After": "1"})
    loopback.answers["/archive"] = [busy, Answer(ARCHIVE)]
    fetch(loopback, target, settings)
    assert loopback.requests[1].time - loopback.requests[0].time >= 1.0


# Names of their own: every process that runs tests has to call this one the same.
@pytest.mark.parametrize(
    "asked",
    ["86400", "9" * 5000, formatdate(time.time() + 86400, usegmt=True)],
    ids=["a day", "for ever", "tomorrow"],
)
def test_retry_after_is_bounded(loopback, settings, target, monkeypatch, asked):
    monkeypatch.setattr(network, "LONGEST_WAIT", 0.05)
    busy = Answer(status=503, headers={"Retry-After": asked})
    loopback.answers["/archive"] = [busy, Answer(ARCHIVE)]
    started = time.monotonic()
    fetch(loopback, target, settings)
    assert time.monotonic() - started < LIMIT


# --- what fails


@pytest.mark.parametrize(
    ("answer", "problem", "remedy", "attempts"),
    [
        (Answer(status=404), "answered 404 (Not Found)", "Check the DOI", 1),
        (Answer(status=410), "answered 410 (Gone)", "Check the DOI", 1),
        (Answer(status=403), "answered 403", "without a login", 1),
        (Answer(status=204, length=None), "answered 204", "browser", 1),
        (Answer(status=302), "answered 302", "browser", 1),
        (Answer(status=500), "answered 500", "try again later", 3),
        (Answer(status=429), "answered 429", "wait some minutes", 3),
        (Answer(ARCHIVE[:50], length=len(ARCHIVE)), "before the file was complete", "network", 3),
        (Answer(reset=True), "connection to the server failed: Connection reset", "network", 3),
        (Answer(ARCHIVE, delay=60.0), "nothing for 1 s", "download.timeout", 3),
        (Answer(ARCHIVE, pause=60.0), "nothing for 1 s", "download.timeout", 3),
        (Answer(LANDING), "web page in place of the archive", "DOI of the resource", 1),
        (
            Answer(b"Please log in", headers={"Content-Type": "text/html; charset=utf-8"}),
            "web page in place of the archive",
            "DOI of the resource",
            1,
        ),
        (Answer(b'{"error": "none"}'), "no archive", "leads to the archive", 1),
    ],
)
def test_failure(loopback, settings, target, answer, problem, remedy, attempts):
    loopback.answers["/archive"] = [answer]
    error = failure(loopback, target, changed(settings, timeout=1.0))
    assert problem in error.problem
    assert remedy in error.remedy
    assert loopback.count("/archive") == attempts


def test_failure_keeps_the_previous_file(loopback, settings, target):
    target.parent.mkdir()
    target.write_bytes(b"previous")
    loopback.answers["/archive"] = [Answer(ARCHIVE[:50], length=len(ARCHIVE))]
    with pytest.raises(DownloadError):
        fetch(loopback, target, settings)
    assert target.read_bytes() == b"previous"
    assert list(target.parent.iterdir()) == [target]


def test_repeated_failure_says_how_to_fetch_by_hand(loopback, settings, target, tmp_path):
    loopback.answers["/archive"] = [Answer(status=502)]
    error = failure(loopback, target, changed(settings, cache=tmp_path / "cache"))
    assert str(tmp_path / "cache" / "pallets" / "1Lbb.tar.gz") in error.remedy
    assert loopback.url("/archive") in error.remedy


def test_nobody_listens(settings, target):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    pallet = Pallet(url=f"http://127.0.0.1:{port}/archive")
    with pytest.raises(DownloadError, match="connection to the server failed: Connection refused"):
        fetch_pallet(pallet, target, settings, analysis="1Lbb")


def test_too_large_by_header(loopback, settings, target):
    loopback.answers["/archive"] = [Answer(ARCHIVE, length=10**12)]
    error = failure(loopback, target, changed(settings, max_archive_bytes=10**6))
    assert "larger than 1000000 bytes" in error.problem
    assert "max_archive_bytes" in error.remedy


@pytest.mark.parametrize("compressed", [False, True])
def test_too_large_by_stream(loopback, settings, target, compressed):
    body, headers = b"\0" * 400_000, {}
    if compressed:  # by the server on the way, so that the announced length tells nothing
        body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
    length = -1 if compressed else None
    loopback.answers["/archive"] = [Answer(body, headers=headers, length=length)]
    error = failure(loopback, target, changed(settings, max_archive_bytes=200_000))
    assert "larger than 200000 bytes" in error.problem
    assert loopback.count("/archive") == 1


def test_landing_page_in_place_of_a_table(loopback, settings, tmp_path):
    loopback.answers["/table"] = [Answer(LANDING)]
    curve = PublishedCurve(file="observed.csv", url=loopback.url("/table"))
    with pytest.raises(DownloadError, match="web page in place of the CSV table") as caught:
        fetch_published(curve, tmp_path / "observed.csv", settings, analysis="1Lbb")
    assert "CSV" in caught.value.remedy


@pytest.mark.parametrize("body", [ARCHIVE, b'{"message": "not found"}'], ids=["archive", "json"])
def test_something_else_in_place_of_a_table(loopback, settings, tmp_path, body):
    loopback.answers["/table"] = [Answer(body)]
    curve = PublishedCurve(file="observed.csv", url=loopback.url("/table"))
    with pytest.raises(DownloadError, match="no CSV table"):
        fetch_published(curve, tmp_path / "observed.csv", settings, analysis="1Lbb")


def test_missing_local_file(settings, target, tmp_path):
    with pytest.raises(DownloadError, match="no such archive") as caught:
        fetch_pallet(Pallet(path=tmp_path / "none.tgz"), target, settings, analysis="mine")
    assert caught.value.file == str(tmp_path / "none.tgz")
    with pytest.raises(DownloadError, match="folder"):
        fetch_pallet(Pallet(path=tmp_path), target, settings, analysis="mine")


def test_local_file_that_is_no_archive(settings, target, tmp_path):
    (tmp_path / "saved.tgz").write_bytes(LANDING)
    with pytest.raises(DownloadError, match="web page"):
        fetch_pallet(Pallet(path=tmp_path / "saved.tgz"), target, settings, analysis="mine")


def test_destination_that_cannot_be_written(loopback, settings, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch(loopback, tmp_path / "file" / "pallet.tar.gz", settings)
    assert loopback.requests == []


@pytest.mark.parametrize("doi", ["doi:10.17182/x", "hepdata.90607", "https://doi.org/10.17182/x"])
def test_wrong_doi(settings, target, doi):
    with pytest.raises(ConfigError, match="is not a DOI"):
        fetch_pallet(Pallet(doi=doi), target, settings, analysis="1Lbb")


def test_builtin_pallet_is_not_fetched(settings, target):
    with pytest.raises(ConfigError, match="built in"):
        fetch_pallet(Pallet(builtin="demo"), target, settings, analysis="demo")


# --- hosts, schemes, secrets


def test_redirect_to_a_host_that_is_not_allowed(loopback, settings, target):
    elsewhere = loopback.url("/stolen?signature=c2VjcmV0", host="localhost")
    loopback.answers["/archive"] = [Answer(status=302, headers={"Location": elsewhere})]
    loopback.answers["/stolen?signature=c2VjcmV0"] = [Answer(ARCHIVE)]
    with pytest.raises(DownloadError, match=f"redirect .* localhost:{loopback.port} is not") as e:
        fetch(loopback, target, settings)
    assert "allowed_hosts" in e.value.remedy
    assert e.value.file == loopback.url("/stolen", host="localhost")
    assert "c2VjcmV0" not in str(e.value)
    assert len(loopback.requests) == 1


def test_allowed_host_with_port(loopback, settings, target):
    loopback.answers["/archive"] = [Answer(ARCHIVE)]
    fetch(loopback, target, changed(settings, allowed_hosts=[f"127.0.0.1:{loopback.port}"]))
    with pytest.raises(DownloadError, match="is not allowed"):
        fetch(loopback, target, changed(settings, allowed_hosts=["127.0.0.1:1"]))


def test_body_of_a_redirect_is_not_read(loopback, settings, target):
    endless = Answer(b"..", status=302, headers={"Location": "/file"}, length=10**12, pause=60.0)
    loopback.answers["/archive"] = [endless]
    loopback.answers["/file"] = [Answer(ARCHIVE)]
    fetch(loopback, target, changed(settings, timeout=1.0, retries=0))
    assert target.read_bytes() == ARCHIVE


def test_redirects_in_a_circle(loopback, settings, target):
    loopback.answers["/archive"] = [Answer(status=302, headers={"Location": "/archive"})]
    assert "redirects" in failure(loopback, target, settings).problem
    assert loopback.count("/archive") == network.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.org/x", "does not begin with https"),
        ("ftp://example.org/x", "does not begin with https"),
        ("file://example.org/etc/passwd", "does not begin with https"),
        ("/etc/passwd", "malformed"),
        ("https://", "malformed"),
        ("https://example.org:port/x", "malformed"),
        ("https://[::1/x", "malformed"),
        ("https://evil.test\\@example.org/x", "malformed"),
        ("https://example.org/x y", "malformed"),
        ("https://example.org.evil.test/x", "is not allowed"),
        ("https://evil.test/example.org", "is not allowed"),
    ],
)
def test_refused_addresses(settings, target, url, problem):
    strict = changed(settings, allowed_hosts=["example.org"])
    with pytest.raises(DownloadError) as caught:
        fetch_pallet(Pallet(url=url), target, strict, analysis="1Lbb")
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@127.0.0.1:1/archive",
        "http://user:hunter2/@127.0.0.1:1/archive",
        "http://user:hunter2\\@127.0.0.1:1/archive",
        "http:user:hunter2@127.0.0.1/archive",
        "user:hunter2@127.0.0.1/archive",
    ],
)
@pytest.mark.parametrize("offline", [False, True])
def test_passwords_are_refused_and_not_shown(settings, target, caplog, url, offline):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DownloadError) as caught:
        fetch_pallet(Pallet(url=url), target, changed(settings, offline=offline), analysis="1Lbb")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in caplog.text


def test_password_in_a_redirect_is_refused(loopback, settings, target):
    secret = f"http://user:hunter2@127.0.0.1:{loopback.port}/file"
    loopback.answers["/archive"] = [Answer(status=302, headers={"Location": secret})]
    with pytest.raises(DownloadError, match="user name or password") as caught:
        fetch(loopback, target, settings)
    assert "hunter2" not in str(caught.value)
    assert len(loopback.requests) == 1


def test_netrc_is_not_used(loopback, settings, target, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    loopback.answers["/archive"] = [
        Answer(status=302, headers={"Location": "/file"}),
    ]
    loopback.answers["/file"] = [Answer(ARCHIVE)]
    fetch(loopback, target, settings)
    assert len(loopback.requests) == 2
    assert all("Authorization" not in request.headers for request in loopback.requests)


def test_proxy_of_the_environment_is_used(loopback, settings, target, monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", loopback.url(""))
    loopback.answers["http://127.0.0.1:9/archive"] = [Answer(ARCHIVE)]
    pallet = Pallet(url="http://127.0.0.1:9/archive")
    fetch_pallet(pallet, target, settings, analysis="1Lbb")
    assert target.read_bytes() == ARCHIVE


# --- cache and offline


@pytest.mark.parametrize(
    ("archive", "name"),
    [
        ("1Lbb-likelihoods-hepdata.tar.gz", "1Lbb-likelihoods-hepdata.tar.gz"),
        (None, "1Lbb.tar.gz"),
        (None, "1Lbb.tgz"),
        (None, "1Lbb.tar"),
        (None, "1Lbb.zip"),
    ],
)
def test_cached_archive_needs_no_request(loopback, settings, target, tmp_path, archive, name):
    cached = tmp_path / "cache" / "pallets" / name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(ARCHIVE)
    pallet = Pallet(url=loopback.url("/archive"), archive=archive)
    for offline in (False, True):
        target.unlink(missing_ok=True)
        fetch_pallet(
            pallet,
            target,
            changed(settings, cache=tmp_path / "cache", offline=offline),
            analysis="1Lbb",
        )
        assert target.read_bytes() == ARCHIVE
    assert loopback.requests == []


def test_cached_table_belongs_to_its_analysis(settings, tmp_path):
    cached = tmp_path / "cache" / "published" / "1Lbb" / "observed.csv"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(TABLE)
    offline = changed(settings, cache=tmp_path / "cache", offline=True)
    curve = PublishedCurve(file="observed.csv")
    path = fetch_published(curve, tmp_path / "out.csv", offline, analysis="1Lbb")
    assert path.read_bytes() == TABLE
    with pytest.raises(DownloadError, match="not in the download cache"):
        fetch_published(curve, tmp_path / "other.csv", offline, analysis="staus")


def make_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("BkgOnly.json", "{}")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "name"),
    [(ARCHIVE, "1Lbb.tar.gz"), (make_tar(), "1Lbb.tar"), (make_zip(), "1Lbb.zip")],
    ids=["tar.gz", "tar", "zip"],
)
def test_download_is_kept_under_a_fitting_name(loopback, settings, target, tmp_path, body, name):
    loopback.answers["/archive"] = [Answer(body)]
    caching = changed(settings, cache=tmp_path / "cache")
    fetch(loopback, target, caching)
    assert [path.name for path in (tmp_path / "cache" / "pallets").iterdir()] == [name]
    fetch(loopback, target, caching)
    assert target.read_bytes() == body
    assert loopback.count("/archive") == 1


def test_cache_that_cannot_be_written_is_a_warning(loopback, settings, target, tmp_path, caplog):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "pallets").touch()  # a file where the folder should be
    loopback.answers["/archive"] = [Answer(ARCHIVE)]
    fetch(loopback, target, changed(settings, cache=tmp_path / "cache"))
    assert target.read_bytes() == ARCHIVE
    assert "could not be kept in the cache" in caplog.text


def test_failed_download_is_not_kept(loopback, settings, target, tmp_path):
    loopback.answers["/archive"] = [Answer(LANDING)]
    failure(loopback, target, changed(settings, cache=tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_damaged_cache_is_named(loopback, settings, target, tmp_path):
    cached = tmp_path / "cache" / "pallets" / "1Lbb.tgz"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(LANDING)
    with pytest.raises(DownloadError, match="web page") as caught:
        fetch(loopback, target, changed(settings, cache=tmp_path / "cache"))
    assert caught.value.file == str(cached)
    assert "Delete" in caught.value.remedy


def test_offline_says_where_to_put_the_file(loopback, settings, target, tmp_path):
    offline = changed(settings, offline=True, cache=tmp_path / "cache")
    pallet = Pallet(doi=DOI, archive="1Lbb.tar.gz")
    with pytest.raises(DownloadError, match="offline") as caught:
        fetch_pallet(pallet, target, offline, analysis="1Lbb")
    assert str(tmp_path / "cache" / "pallets" / "1Lbb.tar.gz") in caught.value.remedy
    assert f"{settings.doi_resolver}{DOI}" in caught.value.remedy
    assert "application/x-tar" in caught.value.remedy
    assert loopback.requests == []


def test_offline_without_cache(settings, target):
    with pytest.raises(DownloadError, match=r"Set download\.cache"):
        fetch_pallet(Pallet(doi=DOI), target, changed(settings, offline=True), analysis="1Lbb")


def test_table_without_address(settings, tmp_path):
    curve = PublishedCurve(file="observed.csv")
    with pytest.raises(DownloadError, match="it has no url") as caught:
        fetch_published(curve, tmp_path / "x.csv", settings, analysis="1Lbb")
    assert "published/1Lbb/observed.csv" in caught.value.remedy


@pytest.mark.parametrize("file", ["../../secret.csv", "/etc/passwd", ""])
def test_table_outside_the_cache(settings, tmp_path, file):
    curve = PublishedCurve(file=file)
    with pytest.raises(ConfigError, match="leads out of the download cache"):
        fetch_published(curve, tmp_path / "x.csv", settings, analysis="1Lbb")


# --- progress


def test_progress_in_a_log(loopback, settings, target, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(network, "LOG_INTERVAL", 0.0)
    body = make_tar(b"x" * 200_000)
    loopback.answers["/archive"] = [Answer(body)]
    fetch(loopback, target, settings)
    lines = [line for line in caplog.messages if line.startswith("Fetching")]
    assert len(lines) >= 3
    assert f"65536 of {len(body)} bytes" in lines[0]
    assert caplog.messages[-1] == f"Fetched {loopback.url('/archive')}: {len(body)} bytes"


def test_progress_on_a_terminal(loopback, settings, target, monkeypatch, caplog):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(network, "LOG_INTERVAL", 0.0)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    loopback.answers["/archive"] = [Answer(make_tar(b"x" * 200_000))]
    fetch(loopback, target, settings)
    assert "/archive:" in terminal.getvalue()
    assert not [line for line in caplog.messages if line.startswith("Fetching")]
