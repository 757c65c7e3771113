"""Set-up shared by all tests."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .loopback import Loopback, serve

# Before NumPy is imported: a pool of BLAS threads in every test process slows them all down.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# What is imported and collected stays to the end: looking for garbage in it costs seconds.
gc.disable()

PROJECT = Path(__file__).resolve().parents[1]

#: Files that take longest, in the order in which processes side by side begin them: the last tests
#: to run should be short ones. Each process starts with one of the first four, goes on with one of
#: the next four, and then takes what is left. The first two mostly wait, so that two short files
#: are to follow them.
LONGEST = (
    "integration/test_globus_compute.py",
    "integration/",
    "workflow/test_resume.py",
    "workflow/test_demo.py",
    "unit/executors/globus/test_login.py",
    "unit/executors/globus/test_service.py",
    "workflow/test_pages.py",
    "workflow/test_combine.py",
    "unit/products/toys/test_compute.py",
    "unit/engine/reference/test_hypotests.py",
    "workflow/",
    "unit/engine/test_search.py",
    "unit/test_reported.py",
    "unit/engine/",
    "unit/products/",
    "unit/test_api.py",
    "unit/executors/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let the tests of a file share a process, and those of several files a stack of services."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOrStack(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, _ = nodeid.partition("::")
            # The longest file has a stack of its own, beside that of the others.
            others = "/integration/" in file and not file.endswith(LONGEST[0])
            return "integration" if others else file

    return ByFileOrStack(config, log)


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


@pytest.fixture(scope="session", autouse=True)
def _small_fonts() -> None:
    """Ignore tables of fonts that take half the time of writing a PDF, which does not use them."""
    from fontTools.subset import Options

    Options._drop_tables_default += ["GDEF", "GPOS", "GSUB"]


def pytest_collection_finish() -> None:
    """Look for garbage from now on, but not in what was collected."""
    gc.freeze()
    gc.enable()


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
