"""A small scan for tests: a model of two channels, and tables of points."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pebble import ProcessExpired

from palletfit.config import Analysis, ExecutorSettings, Settings
from palletfit.products.points import run
from palletfit.runs import task

LABELS = ["mass", "kind"]


def workspace() -> dict[str, Any]:
    def background(yields: list[float]) -> dict[str, Any]:
        scale = {"name": "scale", "type": "normsys", "data": {"hi": 1.05, "lo": 0.95}}
        return {"name": "background", "data": yields, "modifiers": [scale]}

    return {
        "version": "1.0.0",
        "channels": [
            {"name": "SR", "samples": [background([50.0, 40.0])]},
            {"name": "CR", "samples": [background([200.0])]},
        ],
        "observations": [{"name": "SR", "data": [52, 38]}, {"name": "CR", "data": [205]}],
        "measurements": [{"name": "main", "config": {"poi": "mu_SIG", "parameters": []}}],
    }


def columns(count: int) -> dict[str, list[Any]]:
    rng = np.random.default_rng(1)
    return {
        "name": [f"p{number}" for number in range(count)],
        "mass": [100.0 + number for number in range(count)],
        "kind": ["higgsino" if number % 2 else "wino" for number in range(count)],
        "SR[0]": rng.uniform(1, 20, count).round(3).tolist(),
        "SR[1]": rng.uniform(1, 20, count).round(3).tolist(),
        "unc": rng.uniform(0, 0.3, count).round(3).tolist(),
        "other": [0] * count,
    }


def write_table(path: Path, content: Mapping[str, list[Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(content)), path)
    else:
        rows = [
            ",".join(content),
            *(",".join(map(str, row)) for row in zip(*content.values(), strict=True)),
        ]
        path.write_text("\n".join(rows) + "\n")
    return path


def analysis(points: Mapping[str, Any], **others: Any) -> Analysis:
    return Analysis.model_validate(
        {
            "name": "scan",
            "title": "scan",
            "pallet": {"builtin": "demo"},
            "regions": {"SR": {"workspace": "BkgOnly.json"}},
            "labels": LABELS,
            "points": points,
            **others,
        }
    )


class Local(Executor):
    """Runs tasks at once in this process.

    Attributes
    ----------
    names
        Of the points that were asked for.
    disturb
        Called with the names of a task before it runs; it may raise.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sizes: list[int] = []
        self.disturb: Callable[[list[str]], None] = lambda _: None

    def submit(self, fn, /, *args, **kwargs):
        names = [patch["name"] for patch in task.unpack(args[0])["patches"]]
        future: Future = Future()
        try:
            self.disturb(names)
            self.names += names
            self.sizes.append(len(names))
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  as an executor does
            future.set_exception(error)
        return future


def died() -> ProcessExpired:
    return ProcessExpired("Abnormal termination", code=-9, pid=1)


#: Names of the points of a scan of ten.
NAMES = [f"p{number}" for number in range(10)]
#: A module with a function that gives them.
GOOD = """
ASKED = []

def points(first, stop):
    ASKED.append((first, stop))
    for number in range(first, stop):
        yield f"p{number}", {"mass": 100 + number, "kind": "wino"}, {"SR": [number + 1, 2.0]}
"""


class Scan:
    """A scan in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {"points": {"chunk": 4}}
        self.points: dict[str, Any] = {
            "table": str(folder / "points.csv"),
            "uncertainties": {"SIG_xsec": "unc"},
        }
        self.labels = LABELS
        self.background = workspace()
        self.executor = Local()

    @property
    def parts(self) -> Path:
        return self.folder / "SR" / "points"

    @property
    def manifest(self) -> Path:
        return self.folder / "SR" / "points.json"

    def write(self, count: int) -> None:
        write_table(Path(self.points["table"]), columns(count))

    def scan(self) -> run.PointScan:
        path = self.folder / "workspace.json"
        path.write_text(json.dumps(self.background))
        settings = Settings.model_validate(self.settings)
        return run.of_region(analysis(self.points, labels=self.labels), "SR", settings, path)

    def run(self, **settings: Any) -> list[str]:
        """Run; names of the points that were fitted."""
        self.executor.names.clear()
        executing = ExecutorSettings(**settings)
        found = run.run(self.scan(), self.parts, self.executor, executing)
        self.manifest.write_text(json.dumps(found))
        return sorted(self.executor.names, key=lambda name: int(name[1:]))


def patches(source):
    """All patches of a source, in two chunks."""
    return [
        patch for _, some in source.chunks([range(3), range(3, source.count)]) for patch in some
    ]


def by_function(scan: Scan, code: str, **points) -> Scan:
    """Let a scan have the points of a function, whose module has this code."""
    path = scan.folder / "mine.py"
    path.write_text(code)
    scan.points = {"function": f"{path}:points", "count": 10, **points}
    return scan
