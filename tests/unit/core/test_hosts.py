"""A host whose name cannot be resolved is asked for once in a run."""

from __future__ import annotations

import socket

import pytest

from palletfit.config import DownloadSettings, PublishedCurve
from palletfit.core import hosts
from palletfit.errors import UnreachableError
from palletfit.pallet.download import fetch_published


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Names that were looked up, none of which has an address."""
    names: list[str] = []

    def look_up(host, *_arguments, **_options):
        names.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("PALLETFIT_UNRESOLVED", raising=False)
    return names


def fetch(tmp_path, name: str) -> str:
    settings = DownloadSettings(backoff=0.0, retries=4, cache=tmp_path / "cache")
    curve = PublishedCurve(file=name, url=f"https://www.hepdata.net/{name}")
    with pytest.raises(UnreachableError) as caught:
        fetch_published(curve, tmp_path / name, settings, analysis="search")
    return str(caught.value)


def test_files_of_a_host_share_one_question(tmp_path, monkeypatch, asked):
    monkeypatch.setenv("PALLETFIT_UNRESOLVED", "")
    hosts.begin_notes(tmp_path / "notes" / "unresolved")
    first = fetch(tmp_path, "observed.csv")
    assert "www.hepdata.net cannot be resolved: Temporary failure in name resolution" in first
    before = len(asked)
    assert 1 <= before <= 2
    second = fetch(tmp_path, "expected.csv")
    assert len(asked) == before
    # What to do instead is said for each file.
    assert "cache/published/search/expected.csv" in second
    # The next run asks again.
    hosts.begin_notes(tmp_path / "notes" / "unresolved")
    fetch(tmp_path, "expected.csv")
    assert len(asked) > before


def test_a_program_without_a_run_asks_each_time(tmp_path, asked):
    fetch(tmp_path, "observed.csv")
    before = len(asked)
    fetch(tmp_path, "observed.csv")
    assert len(asked) == 2 * before


def test_one_host_with_a_name_is_enough(monkeypatch, asked):
    assert not hosts.resolvable(["https://a.example/x", "https://b.example/y"])
    assert sorted(asked) == ["a.example", "b.example"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    assert hosts.resolvable(["https://a.example/x"])
    assert not hosts.resolvable([])


def test_exceptions_from_a_proxy_are_none(monkeypatch, asked):
    monkeypatch.setenv("no_proxy", "localhost")
    assert not hosts.resolvable(["https://a.example/x"])
    assert asked == ["a.example"]


def test_a_proxy_resolves_names_itself(monkeypatch, asked):
    monkeypatch.setenv("https_proxy", "http://proxy.example:8080")
    assert hosts.resolvable(["https://a.example/x"])
    assert asked == []
