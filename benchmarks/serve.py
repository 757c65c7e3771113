"""Measure the service: points a second and processor time a point, for one and for many callers.

    python benchmarks/serve.py BkgOnly.json patchset.json
    python benchmarks/serve.py BkgOnly.json patchset.json --callers 1 8 64 --points 64 --calls 8

A service with one worker listens at a Unix socket, and has answered one point before the clock
starts. So many callers, each a thread with a connection of its own, send the signals of the
patchset in turn, each its next point once it has the answer to the last one. All numbers of callers
send the same points. ``CPU`` is the processor time of the service and its worker, which other
programs on the machine disturb less than the time by the clock.

The first row is one call of ``palletfit.hypotest`` for each point, of the files and of the content.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import (
    add_pallet,
    describe,
    machine,
    markdown,
    parser,
    positive,
    read_pallet,
    use_one_thread,
    write,
)

import palletfit
from palletfit.pallet.patches import Patch


def main() -> None:
    """Print the table."""
    arguments = _parser().parse_args()
    use_one_thread()
    workspace, _, patchset = read_pallet(arguments)
    patches = patchset.patches[: arguments.points]
    environment = machine()
    print(f"{describe(environment)}\n", flush=True)
    records = [calls(workspace, patches[: arguments.calls])]
    for count in arguments.callers:
        records.append(served(arguments, patches, count))
        print(f"{count} callers: done", file=sys.stderr, flush=True)
    print(table(records))
    write(arguments.output, {"machine": environment, "records": records})


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    add_pallet(options)
    options.add_argument(
        "--callers", nargs="+", type=positive, default=[1, 8, 64], metavar="N", help="(1 8 64)"
    )
    options.add_argument(
        "--points", type=positive, default=64, metavar="N", help="points of each row (64)"
    )
    options.add_argument(
        "--calls", type=positive, default=8, metavar="N", help="points of the first row (8)"
    )
    options.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (1)")
    return options


def calls(workspace: Any, patches: Sequence[Patch]) -> dict[str, Any]:
    """Make one call of the library for each point."""
    palletfit.hypotest(workspace, list(patches[0].operations))
    began, cpu = time.perf_counter(), time.process_time()
    values = {
        patch.name: palletfit.hypotest(workspace, list(patch.operations)).only.p_values.CLs_obs
        for patch in patches
    }
    return {
        "kind": "a call of palletfit.hypotest for each point",
        "points": len(patches),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "points_per_batch": 1.0,
        "CLs_obs": values,
    }


def served(arguments: argparse.Namespace, patches: Sequence[Patch], callers: int) -> dict[str, Any]:
    """Let so many callers ask a service for all points."""
    values: dict[str, float] = {}
    with service(arguments) as path, contextlib.closing(Caller(path)) as watcher:
        watcher.ask(patch=list(patches[0].operations))
        before = watcher.ask(ask="status")
        threads = [
            threading.Thread(target=ask_all, args=(path, patches[number::callers], values))
            for number in range(callers)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        after = watcher.ask(ask="status")
    return {
        "kind": f"{callers} caller{'s' if callers > 1 else ''} of a service",
        "points": len(values),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds(after) - cpu_seconds(before),
        "points_per_batch": len(values) / (after["batches"] - before["batches"]),
        "CLs_obs": values,
    }


def cpu_seconds(status: dict[str, Any]) -> float:
    """Return the processor time of a service and its workers so far."""
    return float(status["cpu_seconds"] + status["cpu_seconds_per_point"] * status["answered"])


@contextlib.contextmanager
def service(arguments: argparse.Namespace) -> Iterator[Path]:
    """Run a service, and give the path of its socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "socket"
        words = [sys.executable, "-m", "palletfit.cli", "serve", f"model={arguments.workspace}"]
        words += ["--socket", str(path), "--workers", str(arguments.workers)]
        words += ["--connections", str(max(arguments.callers) + 1)]
        process = subprocess.Popen(words)  # noqa: S603
        while not path.exists():
            if process.poll() is not None:
                raise SystemExit("The service has ended.")
            time.sleep(0.05)
        try:
            yield path
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


class Caller:
    """Connection to a service."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rwb")

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, and wait for its answer."""
        self._lines.write(json.dumps(request).encode() + b"\n")
        self._lines.flush()
        answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._socket.close()


def ask_all(path: Path, patches: Sequence[Patch], values: dict[str, float]) -> None:
    """Ask for some points, one after the other."""
    with contextlib.closing(Caller(path)) as caller:
        for patch in patches:
            values[patch.name] = caller.ask(patch=list(patch.operations))["CLs_obs"]


def largest_difference(records: Sequence[dict[str, Any]]) -> float:
    """Return by how much CLs of one point differ at most between rows."""
    last = records[-1]["CLs_obs"]
    return max(
        abs(record["CLs_obs"][name] - last[name])
        for record in records
        for name in record["CLs_obs"].keys() & last.keys()
    )


def table(records: Sequence[dict[str, Any]]) -> str:
    """Write one row for each number of callers."""
    header = ("points from", "points", "points a second", "CPU, ms a point", "points a batch")
    rows = [
        [
            record["kind"],
            record["points"],
            f"{record['points'] / record['seconds']:.2f}",
            f"{1e3 * record['cpu_seconds'] / record['points']:.0f}",
            f"{record['points_per_batch']:.1f}",
        ]
        for record in records
    ]
    difference = f"Largest difference of CLs_obs: {largest_difference(records):.1g}."
    return f"{markdown(header, rows)}\n\n{difference}"


if __name__ == "__main__":
    main()
