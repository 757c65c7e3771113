"""Hosts whose names cannot be resolved, which all processes of a run ask for once."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

#: Environment variable with the file in which the processes of a run note such hosts.
_VARIABLE = "PALLETFIT_UNRESOLVED"
#: Seconds that a look for a host may take before a run.
_PATIENCE = 3.0


def begin_notes(file: Path) -> None:
    """Let this process, and those started from now, note hosts in a file; forget earlier ones."""
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
    os.environ[_VARIABLE] = str(file.resolve())


def note_unresolved(host: str) -> None:
    """Note a host for all processes of the run, if there is one."""
    path = os.environ.get(_VARIABLE)
    if not path:
        return
    with contextlib.suppress(OSError):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{host}\n")


def is_noted(host: str) -> bool:
    """Say whether a process of this run could not resolve the name of a host."""
    try:
        return host in Path(os.environ[_VARIABLE]).read_text(encoding="utf-8").splitlines()
    except (KeyError, OSError, ValueError):
        return False


def resolvable(urls: Iterable[str]) -> bool:
    """Say whether the host of one of some addresses has a name that can be resolved, or a proxy."""
    hosts = {urlsplit(url).hostname or "" for url in urls} - {""}
    if hosts and urllib.request.getproxies().keys() - {"no"}:
        return True
    resolved: list[str] = []

    def resolve(host: str) -> None:
        with contextlib.suppress(OSError, UnicodeError):
            socket.getaddrinfo(host, None)
            resolved.append(host)

    threads = [
        threading.Thread(target=resolve, args=(host,), daemon=True) for host in sorted(hosts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE)
    return bool(resolved)
