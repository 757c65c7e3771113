"""The target `benchmark`: repetitions one after the other, kept, and folded into a table."""

from __future__ import annotations

import csv
import itertools
import json
import re

import pytest

from .conftest import Folder


@pytest.mark.slow
def test_demo(folder: Folder) -> None:
    folder.config["benchmark"] = {
        "repetitions": 2,
        "patches": ["DEMO_C1N2_Wh_20*"],
        "executors": {"one": {"workers": 1}, "two": {"workers": 2}},
    }
    folder.run("benchmark")
    made = folder.path / "results" / "_benchmark"
    files = sorted(made.glob("demo/*/*.json"))
    assert [str(path.relative_to(made)) for path in files] == [
        f"demo/{case}/{number}.json" for case in ("one", "two") for number in (1, 2)
    ]
    times = {path: json.loads(path.read_text()) for path in files}
    assert {item["patches"] for item in times.values()} == {3}
    # Nothing ran beside another repetition, whose end is when its file was written.
    spans = sorted(
        (path.stat().st_mtime - item["seconds"], path.stat().st_mtime)
        for path, item in times.items()
    )
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    with (made / "times.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))
    assert [(row["executor"], row["workers"], row["repetitions"]) for row in table] == [
        ("one", "1", "2"),
        ("two", "2", "2"),
    ]
    assert re.search(r"\| demo \| 3 \| two \| 2 \| 1 \| 1 \| 2 \|", (made / "times.md").read_text())
    assert (made / "times.png").stat().st_size > 10_000
    # The analysis' own records are not touched, and nothing else is left behind.
    assert folder.records() == {}
    assert list(made.rglob(".records-*")) == []

    # Finished repetitions are kept: only one that was lost is made again.
    kept = {path: path.stat().st_mtime_ns for path in files[1:]}
    files[0].unlink()
    (made / "times.csv").unlink()
    folder.run("benchmark")
    assert files[0].exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert folder.run("benchmark").idle
