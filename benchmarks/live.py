"""Measure what the live page costs: all fits of a pallet with it and without it, in turns.

    python benchmarks/live.py BkgOnly.json patchset.json --workers 2 --repeats 5
    python benchmarks/live.py BkgOnly.json patchset.json --workers 2 --engine reference --repeats 1

Every repetition makes all fits twice in new folders, once with the page and once without; which
comes first changes each time. Wall times include the start of the workers. The time spent on the
page is what its own thread measures: making the picture and writing both files. CPU seconds are
those of this process and its workers.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import add_pallet, describe, machine, markdown, parser, positive, read_pallet, write

from palletfit.config import Analysis, Settings
from palletfit.executors import make_executor
from palletfit.pages import live
from palletfit.pages.live import watching
from palletfit.products.hypotest import Hypotest
from palletfit.runs import run as runs
from palletfit.runs import scan
from palletfit.runs.store import RecordStore


def main() -> None:
    """Print the table."""
    arguments = _parser().parse_args()
    _, _, patchset = read_pallet(arguments)
    analysis = _analysis(patchset.labels)
    environment = machine()
    print(f"{describe(environment)}\n", flush=True)
    runs: list[dict[str, Any]] = []
    for repeat in range(arguments.repeats):
        for page in (True, False) if repeat % 2 else (False, True):
            runs.append({"page": page, **run(arguments, analysis, page=page)})
            print(_line(runs[-1]), flush=True)
    print(f"\n{table(runs)}")
    write(
        arguments.output, {"machine": environment, "patches": len(patchset.patches), "runs": runs}
    )


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    add_pallet(options)
    options.add_argument("--workers", type=positive, default=2, metavar="N", help="(%(default)s)")
    options.add_argument("--engine", choices=["batched", "reference"], default="batched")
    options.add_argument(
        "--interval", type=float, default=5.0, metavar="S", help="seconds (%(default)s)"
    )
    options.add_argument("--repeats", type=positive, default=3, metavar="N", help="(%(default)s)")
    return options


def _analysis(labels: tuple[str, ...]) -> Analysis:
    """Make an analysis of the pallet, with a plane of its first two labels."""
    x, y = (f"`{label}`" for label in (*labels, labels[0])[:2])
    plane = {"x": x, "y": y, "x_title": x, "y_title": y}
    return Analysis.model_validate(
        {
            "name": "pallet",
            "title": "The pallet",
            "pallet": {"builtin": "demo"},  # which is not read
            "regions": {"all": {"workspace": "w", "patchset": "p"}},
            "labels": list(labels),
            "planes": {"plane": plane},
        }
    )


def run(arguments: argparse.Namespace, analysis: Analysis, *, page: bool) -> dict[str, Any]:
    """Make all fits once, in a folder that is removed afterwards."""
    costs: list[float] = []

    class Timed(watching.Watching):
        def write(self, state: watching.State) -> float:
            costs.append(super().write(state))
            return costs[-1]

    settings = Settings.model_validate(
        {
            "fit": {"engine": arguments.engine},
            "executor": {"workers": arguments.workers},
            "live": {"enabled": page, "interval": arguments.interval},
        }
    )
    files = arguments.workspace, arguments.patchset
    with tempfile.TemporaryDirectory(prefix="palletfit-benchmark-") as name:
        results = Path(name)
        usual, watching.Watching = watching.Watching, Timed  # type: ignore[misc]
        began, cpu = time.perf_counter(), _cpu()
        try:
            todo = scan.Scan.read("pallet/all", *files, ["*"], settings.fit, Hypotest())
            live_page = live.Page(results, analysis, "all", Hypotest)
            observer = live.observer(live_page, settings, workers=arguments.workers)
            store = RecordStore(results / "pallet" / "all" / "fits")
            with make_executor(settings.executor, cores=arguments.workers) as executor:
                fits = time.perf_counter()
                runs.run(
                    todo,
                    store,
                    executor,
                    settings.executor,
                    workers=arguments.workers,
                    observer=observer,
                )
                fits = time.perf_counter() - fits
        finally:
            watching.Watching = usual  # type: ignore[misc]
        return {
            "fits": fits,
            "seconds": time.perf_counter() - began,
            "cpu_seconds": _cpu() - cpu,
            "pages": len(costs),
            "page_seconds": sum(costs),
            "page_bytes": live_page.path.stat().st_size if page else 0,
        }


def _cpu() -> float:
    used = (
        resource.getrusage(process) for process in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _line(record: dict[str, Any]) -> str:
    return (
        f"{'with' if record['page'] else 'without'} page: {record['fits']:.2f} s, CPU "
        f"{record['cpu_seconds']:.2f} s, {record['pages']} pages in {record['page_seconds']:.3f} s"
    )


def table(runs: list[dict[str, Any]]) -> str:
    """Write the medians with and without the page."""
    rows = []
    for page in (False, True):
        chosen = [record for record in runs if record["page"] is page]
        middle = {key: statistics.median(record[key] for record in chosen) for key in chosen[0]}
        share = 100 * middle["page_seconds"] / middle["fits"]
        rows.append(
            [
                "with" if page else "without",
                len(chosen),
                f"{middle['fits']:.2f}",
                f"{middle['cpu_seconds']:.2f}",
                f"{middle['pages']:g}",
                f"{1e3 * middle['page_seconds']:.0f}",
                f"{share:.2f}",
            ]
        )
    header = ("page", "runs", "fits, s", "CPU s", "pages", "ms on pages", "% of the fits")
    return markdown(header, rows)


if __name__ == "__main__":
    main()
