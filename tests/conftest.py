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

#: Files that take longest, in the order in which processes side by side begin them: the last tests
#: to run should be short ones. Each process starts with one of the first three, goes on with one of
#: the next three, and then takes what is left. The first two mostly wait, the third computes.
LONGEST = (
    "integration/test_globus_compute.py",
    "integration/test_clusters.py",
    "workflow/test_published.py",
    "integration/test_stack.py",
    "integration/test_expanse.py",
    "workflow/test_resume.py",
    "integration/test_sites.py",
    "integration/test_slurm_profile.py",
    "workflow/test_combine.py",
    "workflow/test_bad_input.py",
    "workflow/test_pages.py",
    "workflow/test_demo.py",
    "unit/executors/globus/test_transport.py",
    "unit/engine/test_batch.py",
    "unit/engine/test_likelihood.py",
    "workflow/",
    "unit/engine/",
    "unit/products/",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave studies out unless they are asked for; let files that take long begin first."""
    if "study" not in config.option.markexpr:
        studies = [item for item in items if item.get_closest_marker("study")]
        config.hook.pytest_deselected(items=studies)
        items[:] = [item for item in items if item not in set(studies)]
    if not hasattr(config, "workerinput"):
        return

    def rank(item: pytest.Item) -> int:
        file = item.path.relative_to(PROJECT / "tests").as_posix()
        return next((i for i, start in enumerate(LONGEST) if file.startswith(start)), len(LONGEST))

    items.sort(key=rank)


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
