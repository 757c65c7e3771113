"""The service's command: wrong options end it before it listens, and an open port is a warning."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.usefixtures("files")


def test_a_source_that_does_not_exist_is_refused(palletfit) -> None:
    result = palletfit("serve", "a=missing.json")
    assert result.exit_code == 2
    assert "no file or folder 'missing.json'" in result.stderr


def test_a_port_for_other_machines_is_a_warning(palletfit) -> None:
    for words in ((), ("--host", "::1")):
        assert "warning" not in palletfit("serve", "missing.json", "--port", "0", *words).stderr
    result = palletfit("serve", "missing.json", "--port", "0", "--host", "0.0.0.0")  # noqa: S104
    assert "warning: other machines may connect to 0.0.0.0, and nothing auth" in result.stderr
    result = palletfit("serve", "background.json", "--host", "0.0.0.0")  # noqa: S104
    assert (result.exit_code, "--host is the address of --port" in result.stderr) == (2, True)


def test_the_package_of_worker_processes_may_be_missing(palletfit, monkeypatch) -> None:
    for name in [*sys.modules]:
        if name.startswith("palletfit.executors"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pebble", None)
    result = palletfit("serve", "background.json")
    assert result.exit_code == 2
    assert "needs the package pebble" in result.stderr
