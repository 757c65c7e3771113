"""Set-up shared by unit tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

UNIT = Path(__file__).parent
BENCHMARKS = UNIT.parents[1] / "benchmarks"

#: Tests whose likelihoods have one minimum, or that ask for what does not depend on it. The search
#: for lower minima has its own tests.
OF_ONE_MINIMUM = (
    "backends",
    "benchmarks",
    "cli",
    "learned",
    "pallet",
    "pages",
    "publish",
    "runs",
    "serve",
    "test_jax.py",
    "test_reported.py",
    "test_results.py",
    "products/diagnostics",
    "products/toys",
    "products/gof",
    "products/limits",
    "products/mu_scan",
    "products/points",
    "engine/test_derivatives.py",
    "engine/test_extensions.py",
    "engine/test_goodness.py",
    "engine/test_many_mu.py",
    "engine/test_measurements.py",
    "engine/test_neighbours.py",
    "engine/test_regions.py",
    "engine/test_selection.py",
    "engine/test_warm.py",
    "test_api.py",
)


@pytest.fixture(scope="module", autouse=True)
def _no_points_at_random(request: pytest.FixtureRequest) -> Iterator[int]:
    """Let the search for lower minima draw no points, which takes half of the time of a fit.

    Its value is the work that the search does for users.
    """
    from palletfit.engine import search

    with pytest.MonkeyPatch.context() as patched:
        work = search._WORK
        if any(request.path.is_relative_to(UNIT / path) for path in OF_ONE_MINIMUM):
            patched.setattr(search, "_WORK", 0)
            if request.path.relative_to(UNIT).parts[0] not in ("engine", "products"):
                # Nor do toys look for other valleys, which takes most of theirs.
                patched.setattr("palletfit.engine.toys.ensembles._ROUNDS", 0)
        yield work


@pytest.fixture
def _points_at_random(_no_points_at_random: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it draw them after all, in a test of a likelihood with several minima."""
    monkeypatch.setattr("palletfit.engine.search._WORK", _no_points_at_random)


@pytest.fixture
def load(monkeypatch):
    """Import a script, which is in no package, and forget it afterwards."""

    def by_path(name: str, script: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{script}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    for name in ("common", "random_likelihoods"):
        by_path(name, name)
    return lambda script: by_path(f"benchmark_{script}", script)
