"""The start of a run and of its workers, which is much of the time of small runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: With scipy.stats, pyhf takes as long as everything else together; the others are for plots.
LATE = ("pyhf", "scipy.stats", "pandas", "matplotlib", "shapely")


@pytest.mark.parametrize(
    "module",
    [
        "palletfit.runs.task",
        "palletfit.runs.run",
        "palletfit.pages.live",
        "palletfit.pallet.patchset",
        "palletfit.products.limits.compute",
    ],
)
def test_what_is_slow_to_import_is_imported_where_it_is_used(module: str) -> None:
    script = f"import sys, {module}; print(*sorted(set({LATE}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
