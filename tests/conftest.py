"""Set-up shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .loopback import Loopback, serve

# Before NumPy is imported: a pool of BLAS threads in every test process slows them all down.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project() -> Path:
    """The checkout."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real published pallets, which is not part of the project."""
    folder = PROJECT.parent / "shared"
    if not (folder / "pallets").is_dir():
        pytest.skip("needs the published pallets in ../shared, which are not part of the project")
    return folder


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A running HTTP server on the loopback interface, reached without a proxy."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with serve() as server:
        yield server
