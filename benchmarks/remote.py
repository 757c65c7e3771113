"""Time a pallet through a Globus Compute endpoint against worker processes on this machine.

    python benchmarks/remote.py BkgOnly.json patchset.json --endpoint IDENTIFIER
    python benchmarks/remote.py BkgOnly.json patchset.json --stack

``--stack`` starts what the integration tests use: real Slurm, RabbitMQ and an endpoint on this
machine, with a stand-in for the hosted service (root and their Debian packages are needed).

All patches are fitted with the batched engine by ``--workers`` workers each time: by an endpoint
whose workers do not run yet (the scheduler's part is in that), again by the same workers, by the
local executor, and with ``--stack`` in jobs of its Slurm that Parsl and Dask start. Times are from
the first line of the executor to the last record; importing libraries and reading the pallet are
not counted. ``submit`` is the time until everything is with the service, preflight included. The
second table compares the first task of a worker process with its next ones, one patch a task, in
seconds from the task's begin to its first result.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from common import add_pallet, describe, machine, markdown, parser, positive, read_pallet, write

from palletfit.config import ExecutorSettings, FitSettings
from palletfit.executors import make_executor, open_ledger
from palletfit.products.hypotest import Hypotest
from palletfit.runs import run as runs
from palletfit.runs import scan
from palletfit.runs.store import RecordStore

TESTS = Path(__file__).resolve().parents[1] / "tests"


def main() -> None:
    """Print the tables."""
    arguments = _parser().parse_args()
    read_pallet(arguments)  # says what is wrong with the files
    if arguments.stack:
        with _stack(arguments.workers) as (endpoint, environment):
            command_line = [argument for argument in sys.argv if argument != "--stack"]
            done = subprocess.run(  # noqa: S603
                [
                    sys.executable,
                    *command_line,
                    "--endpoint",
                    endpoint,
                    "--label",
                    "cold",
                    "--slurm",
                ],
                env=environment,
                check=False,
            )
        raise SystemExit(done.returncode)
    computer = machine()
    print(f"{describe(computer)}\n", flush=True)
    rows = measure(arguments)
    header = ("what", "patches", "tasks", "seconds", "MB sent")
    print(markdown(header, [[row[name] for name in header] for row in rows]))
    first = first_results(arguments)
    print("\n" + markdown(("worker's task", "number", "seconds to the first fit"), first))
    write(arguments.output, {"machine": computer, "runs": rows, "first": first})


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    add_pallet(options)
    target = options.add_mutually_exclusive_group(required=True)
    target.add_argument("--endpoint", help="identifier of a running endpoint")
    target.add_argument("--stack", action="store_true", help="use the integration tests' services")
    options.add_argument("--workers", type=positive, default=2, metavar="N", help="(2)")
    options.add_argument("--backend", choices=["numpy", "jax"], default="numpy", help="(numpy)")
    options.add_argument(
        "--label", default="", help="of the endpoint's configuration (--stack only)"
    )
    options.add_argument("--slurm", action="store_true", help="Parsl and Dask, too (--stack only)")
    return options


@contextmanager
def _stack(workers: int) -> Iterator[tuple[str, dict[str, str]]]:
    sys.path.insert(0, str(TESTS / "integration"))
    stack = importlib.import_module("stack")
    reason = stack.missing()
    if reason:
        raise SystemExit(reason)
    with (
        tempfile.TemporaryDirectory(prefix="pf-") as folder,
        stack.running_stack(Path(folder)) as services,
    ):
        services.start_endpoint(workers=workers)
        variables = {**services.environment, **services.slurm.environment}
        yield services.endpoint_id, {**os.environ, **variables}


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one row for each way."""
    remote: dict[str, Any] = {
        "kind": "globus-compute",
        "endpoint": arguments.endpoint,
        "workers": arguments.workers,
    }
    local = {"kind": "local", "workers": arguments.workers}
    jobs = {"partition": "debug", "workers_per_node": arguments.workers, "interface": "lo"}
    ways: list[tuple[str, dict[str, Any], Callable[..., dict[str, Any]]]] = [
        ("endpoint, workers start", remote, fit),
        ("endpoint, workers run", remote, fit),
        ("local, workers start", local, fit),
        ("parsl, jobs start", {"kind": "parsl", "cluster": jobs}, fit),
        ("dask, jobs start", {"kind": "dask", "cluster": jobs}, fit),
        ("submit, one patch a task", {**remote, "patches_per_task": 1}, submit),
        ("submit", remote, submit),
    ]
    return [
        {"what": name, **do(arguments, settings)}
        for name, settings, do in ways
        if arguments.slurm or "cluster" not in settings
    ]


def _scan(arguments: argparse.Namespace) -> scan.Scan:
    fit_settings = FitSettings(backend=arguments.backend)
    return scan.Scan.read(
        "benchmark", arguments.workspace, arguments.patchset, ["*"], fit_settings, Hypotest()
    )


def fit(arguments: argparse.Namespace, chosen: dict[str, Any]) -> dict[str, Any]:
    """Fit all patches into a new folder."""
    todo, settings = _scan(arguments), ExecutorSettings(**chosen)
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(settings, Path(folder) / "tasks.jsonl")
        store = RecordStore(Path(folder) / "fits")
        began = time.perf_counter()
        with make_executor(settings, cores=arguments.workers, ledger=ledger) as executor:
            manifest = runs.run(
                todo, store, executor, settings, workers=executor.workers, ledger=ledger
            )
            seconds = time.perf_counter() - began
            sent = getattr(executor, "sent", (0, 0))
    statuses = {entry["status"] for entry in manifest["patches"].values()}
    if statuses - {"ok", "suspect"}:
        raise SystemExit("Some fits failed: a time without them says nothing.")
    return _row(len(manifest["patches"]), sent, seconds)


def submit(arguments: argparse.Namespace, chosen: dict[str, Any]) -> dict[str, Any]:
    """Send all patches, and do not wait."""
    todo, settings = _scan(arguments), ExecutorSettings(**chosen)
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(settings, Path(folder) / "tasks.jsonl")
        store = RecordStore(Path(folder) / "fits")
        began = time.perf_counter()
        with make_executor(
            settings, cores=arguments.workers, ledger=ledger, collect=False
        ) as executor:
            assert ledger is not None  # noqa: S101
            count, _ = runs.submit(
                todo, store, executor, settings, workers=settings.workers, ledger=ledger
            )
            executor.flush()
            seconds = time.perf_counter() - began
            sent = executor.sent
    return _row(count, sent, seconds)


def _row(patches: int, sent: tuple[int, int], seconds: float) -> dict[str, Any]:
    tasks, size = sent
    return {
        "patches": patches,
        "tasks": tasks or "",
        "seconds": f"{seconds:.1f}",
        "MB sent": f"{size / 1e6:.2f}" if size else "",
    }


def first_results(arguments: argparse.Namespace) -> list[tuple[str, int, str]]:
    """Measure the time of a worker process for its first task, and for the next ones."""
    settings = ExecutorSettings(
        kind="globus-compute",
        endpoint=arguments.endpoint,
        workers=arguments.workers,
        patches_per_task=1,
        endpoint_config={"label": "cold"} if arguments.label else {},
    )
    todo = _scan(arguments)
    todo = scan.Scan(**{**vars(todo), "patches": todo.patches[:12]})
    workers: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(settings, Path(folder) / "tasks.jsonl")
        store = RecordStore(Path(folder) / "fits")
        with make_executor(settings, cores=1, ledger=ledger) as executor:
            runs.run(todo, store, executor, settings, workers=settings.workers, ledger=ledger)
        for patch in todo.patches:
            record = store.read(store.path(patch.name))
            if record is not None:
                worker = record["worker"]
                began = float(worker["began"])
                workers[worker["host"], worker["pid"]].append((began, worker["ended"] - began))
    ordered = [[seconds for _, seconds in sorted(times)] for times in workers.values()]
    first = [times[0] for times in ordered]
    later = [seconds for times in ordered for seconds in times[1:]]
    rows = [("first", len(first), f"{median(first):.2f}")]
    if later:
        rows.append(("next", len(later), f"{median(later):.2f}"))
    return rows


if __name__ == "__main__":
    main()
