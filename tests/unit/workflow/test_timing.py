"""Times of repetitions, and the table of them."""

from __future__ import annotations

import csv
import io
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from palletfit.config import Analysis, ExecutorSettings, FitSettings, Settings, parse
from palletfit.errors import ConfigError
from palletfit.pallet.demo.electroweak import demo_patchset, demo_workspace
from palletfit.products.hypotest import Hypotest
from palletfit.runs.scan import Scan
from palletfit.workflow import timing as scaling
from palletfit.workflow.plots import draw_times


def analysis(name, **changes):
    data = {
        "name": name,
        "title": name,
        "pallet": {"builtin": "demo"},
        "regions": {"SR": {"workspace": "w.json", "patchset": "p.json"}},
        "labels": ["m1", "m2"],
        "planes": {"p": {"x": "m1", "y": "m2", "x_title": "x", "y_title": "y"}},
    }
    return parse(Analysis, {**data, **changes}, file="tiny.yaml")


PUBLISHED = {
    "source": "Somebody | 2021",
    "patches": 125,
    "max_blocks": 4,
    "repetitions": 10,
    "mean": 156.2,
    "deviation": 9.5,
    "single_node": 3842,
}
MACHINE = {
    "processor": "abacus",
    "cores": 2,
    "load": 0.1,
    "python": "3",
    **dict.fromkeys(("numpy", "palletfit", "pyhf", "scipy"), "1"),
}


def repetition(seconds, *, workers=1, patches=3, **status):
    found = {"ok": patches - sum(status.values()), **status}
    times = {"seconds": seconds, "regions": {}, "fit_seconds": seconds}
    return {
        **times,
        "patches": patches,
        "status": found,
        "workers": workers,
        "hosts": 1,
        "machine": MACHINE,
    }


@pytest.fixture
def rows():
    executors = {
        "cluster": ExecutorSettings(kind="parsl", cluster={"nodes_per_block": 2, "max_blocks": 4}),
        "alone": ExecutorSettings(workers=1),
    }
    found = {
        ("A", "cluster"): [repetition(t, workers=8) for t in (10.0, 12.0, 14.0)],
        ("A", "alone"): [repetition(40.0), repetition(44.0, failed=2)],
        ("B", "cluster"): [repetition(2.5, workers=8)],
        ("B", "alone"): [repetition(1.0)],
    }
    analyses = {"A": analysis("A", published_time=PUBLISHED), "B": analysis("B")}
    return scaling.fold(analyses, executors, found)


def test_mean_deviation_and_single_node(rows):
    assert [(row.analysis, row.executor) for row in rows] == [
        *(("A", name) for name in ("cluster", "alone", "published")),
        *(("B", name) for name in ("cluster", "alone")),
    ]
    cluster, alone, published, once, _ = rows
    assert (cluster.mean, cluster.deviation, cluster.repetitions) == (12.0, 2.0, 3)
    assert (cluster.workers, cluster.nodes_per_block, cluster.max_blocks) == (8, 2, 4)
    # The first local executor is the single node.
    assert cluster.single_node == alone.mean == alone.single_node == 42.0
    assert alone.deviation == pytest.approx(statistics.stdev([40, 44]))
    assert alone.failed == 2
    assert (published.mean, published.deviation, published.single_node) == (156.2, 9.5, 3842)
    assert (once.deviation, once.repetitions, once.single_node) == (None, 1, 1.0)


def test_tables(rows):
    table = list(csv.DictReader(io.StringIO(scaling.as_table(rows).to_csv(index=False))))
    assert [line["wall_time_mean"] for line in table] == ["12.0", "42.0", "156.2", "2.5", "1.0"]
    assert table[0]["times"] == "10.000 12.000 14.000"
    assert [line["workers"] for line in table] == ["8", "1", "", "8", "1"]
    assert table[3]["wall_time_deviation"] == ""
    text = scaling.as_markdown(rows, [MACHINE, {**MACHINE, "load": 3.0}])
    assert "| A | 3 | cluster | 8 | 2 | 4 | 3 | 12.0 \u00b1 2.0 | 42.0 |" in text
    assert "| A | 3 (2 failed) | alone | 1 | 1 | 1 | 2 | 42.0 \u00b1 2.8 | 42.0 |" in text
    assert "| A | 125 | Somebody \\| 2021 |  | 1 | 4 | 10 | 156.2 \u00b1 9.5 | 3842 |" in text
    assert "| B | 3 | cluster | 8 | 2 | 4 | 1 | 2.50 | 1.00 |" in text
    assert text.count("abacus, 2 cores") == 1
    assert "scipy 1; load 0.1 to 3.0 when repetitions began." in text


def test_plot_shows_every_row(rows):
    (axes,) = draw_times(rows).axes
    words = {text.get_text() for text in axes.texts}
    assert {"12.0 \u00b1 2.0 s", "42.0 \u00b1 2.8 s, 2 failed", "3842 s", "2.50 s"} <= words
    assert len(axes.patches) == 6
    assert axes.get_xscale() == "log"
    (near,) = draw_times(rows[-2:]).axes
    assert near.get_xlim()[0] == 0


def test_blocks_of_an_endpoint_are_those_that_were_asked_for():
    endpoint = {"kind": "globus-compute", "endpoint": "00000000-0000-0000-0000-000000000001"}
    assert scaling.blocks(ExecutorSettings(**endpoint)) == (None, None)
    given = ExecutorSettings(**endpoint, endpoint_config={"max_blocks": 3})
    assert scaling.blocks(given) == (None, 3)


@pytest.fixture
def scans(tmp_path):
    workspace = demo_workspace()
    spec = demo_patchset(workspace)
    files = tmp_path / "BkgOnly.json", tmp_path / "patchset.json"
    for path, content in zip(files, (workspace, spec), strict=True):
        path.write_text(json.dumps(content))
    names = [patch["metadata"]["name"] for patch in spec["patches"][30:33]]
    return [Scan.read(f"demo/{i}", *files, names, FitSettings(), Hypotest()) for i in range(2)]


class Slow(ThreadPoolExecutor):
    """Takes its time to start."""

    workers = 1

    def __enter__(self):
        time.sleep(0.3)
        return super().__enter__()


def test_a_measurement_leaves_no_record(scans, tmp_path):
    folder = tmp_path / "times"
    asked = []
    found = scaling.measure(
        scans,
        ExecutorSettings(),
        folder,
        lambda _: Slow(1),
        lambda path: asked.append(path),
    )
    assert found["status"] == {"ok": 6}
    assert found["patches"] == 6
    assert set(found["regions"]) == {"demo/0", "demo/1"}
    # Starting the executor counts.
    assert found["seconds"] > sum(found["regions"].values()) + 0.29
    assert 0 < found["fit_seconds"] < found["seconds"]
    assert found["hosts"] == 1
    assert list(folder.iterdir()) == []
    assert asked[0].parent.parent == folder
    json.dumps(found, allow_nan=False)


def test_selection(scans):
    first = scans[0].patches[0].name
    assert [patch.name for patch in scaling.select(scans[0], [first]).patches] == [first]
    with pytest.raises(ConfigError, match=r"benchmark\.patches \(nothing\*\).*demo/0"):
        scaling.select(scans[0], ["nothing*"])


def test_executors_inherit_what_they_do_not_say():
    settings = Settings.model_validate(
        {
            "executor": {"kind": "parsl", "parts": 1, "cluster": {"partition": "short"}},
            "benchmark": {
                "executors": {
                    "many": {"cluster": {"max_blocks": 8}},
                    "here": {"kind": "local", "workers": 3},
                }
            },
        }
    )
    many = settings.benchmark_executor("many")
    assert (many.kind, many.cluster.partition, many.cluster.max_blocks) == ("parsl", "short", 8)
    assert settings.benchmark_executor("here").workers == 3
    # The jobs of a profile that splits regions do not share a repetition.
    split = Settings.model_validate({"executor": {"parts": 4}})
    assert split.benchmark_executor("configured").parts == 1


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        ({"executors": {"a": {"wrokers": 1}}}, r"wrokers.*did you mean 'workers'"),
        ({"executors": {"a": {"kind": "cloud"}}}, r"benchmark\.executors\.a"),
        ({"executors": {"a": {}}, "single_node": "b"}, r"single_node names b"),
        ({"repetitions": 0}, r"benchmark\.repetitions"),
        ({"executors": {}}, r"benchmark\.executors"),
        ({"executors": {"a/b": {}}}, r"benchmark\.executors"),
    ],
)
def test_wrong_settings_are_errors(benchmark, message):
    with pytest.raises(ConfigError, match=message):
        parse(Settings, {"benchmark": benchmark}, file="config.yaml")
