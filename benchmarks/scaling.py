"""Measure time a patch and peak memory of the batched engine, up to thousands of patches.

    python benchmarks/scaling.py BkgOnly.json patchset.json
    python benchmarks/scaling.py BkgOnly.json patchset.json --sizes 100 1000 --output scaling.json
    python benchmarks/scaling.py BkgOnly.json patchset.json --backend jax --sizes 1000 10000

The patches are those of the patchset over and over, with random signal yields: of every patch all
yields are scaled by one log-normal factor, and each bin by a few percent more; uncertainties scale
with the yields. They are made one by one while the engine asks for them, and of the results only
CLs is kept, so that memory has no reason to grow with their number. Patch number n is the same
whatever the other options.

Every size runs in a process of its own. ``ms a patch`` is everything from the workspace as parsed
JSON to results, without making the patches, and with ``--backend jax`` without compiling, which has
a column of its own (no step that was compiled before is used).
``MiB`` is the largest resident memory of the process, ``MiB at the start`` the same when
libraries are imported and files are read. On NumPy one thread is used; JAX takes what it finds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    add_pallet,
    describe,
    machine,
    markdown,
    parser,
    peak_memory,
    positive,
    read_pallet,
    use_one_thread,
    version,
    write,
)

from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.arrays import Arrays, JaxArrays
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.records import HypotestResult
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch

#: Widths of the factor of all yields, and of each bin's.
YIELD_WIDTH, BIN_WIDTH = 0.3, 0.03


def main() -> None:
    """Print the table, or measure one size."""
    arguments = _parser().parse_args()
    if arguments.backend == "numpy":
        use_one_thread()
    if arguments.one:
        print(json.dumps(measure(arguments, arguments.sizes[0])))
        return
    environment = {**machine(), "jax": version("jax") if arguments.backend == "jax" else None}
    print(f"{describe(environment)}\n", flush=True)
    records = [in_own_process(size) for size in arguments.sizes]
    print(table(records))
    write(arguments.output, {"machine": environment, "seed": arguments.seed, "sizes": records})


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    add_pallet(options)
    options.add_argument(
        "--sizes",
        nargs="+",
        type=positive,
        default=[100, 1000, 10_000],
        metavar="N",
        help="numbers of patches (100 1000 10000)",
    )
    options.add_argument(
        "--chunk",
        type=positive,
        metavar="N",
        help="patches that are given to the engine together (as many as it takes by itself)",
    )
    options.add_argument("--seed", type=int, default=1, metavar="N", help="of the yields (1)")
    options.add_argument("--backend", choices=("numpy", "jax"), default="numpy")
    options.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return options


def in_own_process(size: int) -> dict[str, Any]:
    """Measure one size in a new process, with this one's other options."""
    command = [sys.executable, *sys.argv, "--sizes", str(size), "--one"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{size} patches: the process ended with {done.returncode}.")
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


# ---------------------------------------------------------------------- one size


def measure(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    """Test so many patches, and measure time and memory."""
    workspace, _, patchset = read_pallet(arguments)
    with tempfile.TemporaryDirectory() as folder:
        arrays, compiling = _arrays(arguments.backend, Path(folder))
        making = Stopwatch()
        patches = making.during(randomised(patchset.patches, arguments.seed, size))
        at_start = peak_memory()
        cpu, began = time.process_time(), time.perf_counter()
        engine = BatchedEngine(workspace, FitSettings(backend=arguments.backend), arrays=arrays)
        reduced = Reduced(size)
        for chunk in chunks(patches, arguments.chunk):
            reduced.add(engine.hypotests(chunk))
        total, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "patches": size,
        "backend": arguments.backend,
        **_device(arguments.backend),
        "seconds": total,
        "cpu_seconds": cpu,
        "making_patches": making.seconds,
        "compiling": compiling.seconds,
        "ms_a_patch": 1e3 * (total - making.seconds - compiling.seconds) / size,
        "peak_mib": peak_memory(),
        "peak_mib_at_start": at_start,
        **reduced.summary(),
    }


def chunks(patches: Iterator[Patch], size: int | None) -> Iterator[Iterable[Patch]]:
    """Give lists of so many patches; without a size the patches as they are."""
    if size is None:
        yield patches
        return
    while chunk := list(itertools.islice(patches, size)):
        yield chunk


def randomised(patches: Sequence[Patch], seed: int, count: int) -> Iterator[Patch]:
    """Make so many patches, one at a time, with yields of their own."""
    for number in range(count):
        patch = patches[number % len(patches)]
        rng = np.random.default_rng([seed, number])
        factor = float(rng.lognormal(sigma=YIELD_WIDTH))
        operations = [
            {key: scaled(value, factor, rng) for key, value in operation.items()}
            for operation in patch.operations
        ]
        yield replace(patch, name=f"{patch.name} number {number}", operations=operations)


def scaled(value: Any, factor: float, rng: np.random.Generator) -> Any:
    """Copy a part of a workspace with all samples in it scaled."""
    if isinstance(value, list):
        return [scaled(part, factor, rng) for part in value]
    if not isinstance(value, dict):
        return value
    if "data" not in value or "modifiers" not in value:
        return {key: scaled(part, factor, rng) for key, part in value.items()}
    noise = 1 + BIN_WIDTH * rng.standard_normal(len(value["data"]))
    bins = factor * np.maximum(noise, 0.5)
    modifiers = [
        {**part, "data": _scaled_data(part["type"], part["data"], bins)}
        for part in value["modifiers"]
    ]
    return {**value, "data": _times(value["data"], bins), "modifiers": modifiers}


def _scaled_data(kind: str, data: Any, bins: FloatArray) -> Any:
    """Scale what is in events; the rest is relative to the yields already."""
    if kind == "histosys":
        return {name: _times(events, bins) for name, events in data.items()}
    if kind in ("staterror", "shapesys"):
        return _times(data, bins)
    return data


def _times(events: Sequence[float], bins: FloatArray) -> list[float]:
    products: list[float] = (np.asarray(events) * bins).tolist()
    return products


class Stopwatch:
    """The time that an iterator takes to make its patches."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def during(self, patches: Iterator[Patch]) -> Iterator[Patch]:
        """Give the same patches."""
        while True:
            began = time.perf_counter()
            patch = next(patches, None)
            self.seconds += time.perf_counter() - began
            if patch is None:
                return
            yield patch


class Reduced:
    """Results in short: CLs, and how many results of each kind there are."""

    def __init__(self, count: int) -> None:
        self.values = np.full((count, 6), np.nan)
        self.counts: Counter[str] = Counter()
        self._next = 0

    def add(self, results: Iterable[tuple[Patch, HypotestResult | PalletfitError]]) -> None:
        """Take results as they come."""
        for _, result in results:
            if isinstance(result, PalletfitError):
                self.counts["failed"] += 1
                continue
            self.counts[result.status] += 1
            self.counts["by the reference engine"] += result.engine != "batched"
            self.values[self._next] = (result.p_values.CLs_obs, *result.p_values.CLs_exp)
            self._next += 1

    def summary(self) -> dict[str, Any]:
        """Return counts, and the distribution of CLs, in which runs with the same seed agree."""
        values = self.values[: self._next]
        return {
            **{name: self.counts[name] for name in ("ok", "suspect", "failed")},
            "by_reference_engine": self.counts["by the reference engine"],
            "excluded": int((values[:, 0] < 0.05).sum()),
            "mean_CLs": values.mean(axis=0).tolist() if len(values) else [],
        }


# ---------------------------------------------------------------------- JAX


class Compiling:
    """The time that JAX traces and compiles, from its own reports."""

    def __init__(self) -> None:
        self._intervals: list[tuple[float, float]] = []

    def listen(self, event: str, seconds: float, **_: Any) -> None:
        """Note what has just ended."""
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            self._intervals.append((now - seconds, now))

    @property
    def seconds(self) -> float:
        """Length of the union: a function that is traced within another is reported twice."""
        total, until = 0.0, -np.inf
        for first, last in sorted(self._intervals):
            total += max(last - max(first, until), 0.0)
            until = max(until, last)
        return total


def _arrays(backend: str, cache: Path) -> tuple[Arrays, Compiling]:
    compiling = Compiling()
    if backend == "numpy":
        return Arrays(), compiling
    try:
        arrays = JaxArrays(cache)
    except PalletfitError as error:
        raise SystemExit(str(error)) from None
    import jax

    jax.monitoring.register_event_duration_secs_listener(compiling.listen)
    return arrays, compiling


def _device(backend: str) -> dict[str, Any]:
    """Describe the device of the fits, and the memory they took there, if the device says so."""
    if backend == "numpy":
        return {"device": "cpu"}
    import jax

    device = jax.devices()[0]
    used = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "device": device.device_kind,
        "device_peak_mib": None if used is None else used / 1024**2,
    }


# ---------------------------------------------------------------------- table


def table(records: Sequence[dict[str, Any]]) -> str:
    """Write one row a size."""
    header = (
        *("patches", "device", "ms a patch", "compiling, s", "making patches, s", "all, s"),
        *("MiB", "MiB at the start", "ok", "suspect", "failed", "by the reference engine"),
    )
    rows = [
        [
            *(record["patches"], record["device"], f"{record['ms_a_patch']:.4g}"),
            *(f"{record[name]:.1f}" for name in ("compiling", "making_patches", "seconds")),
            *(f"{record[name]:.0f}" for name in ("peak_mib", "peak_mib_at_start")),
            *(record[name] for name in ("ok", "suspect", "failed", "by_reference_engine")),
        ]
        for record in records
    ]
    lines = [markdown(header, rows)]
    lines += [
        f"{record['patches']} patches took {record['device_peak_mib']:.0f} MiB on the device."
        for record in records
        if record.get("device_peak_mib")
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
