"""Measure large scans: time a point, memory, and bytes, from a table to results.

    python benchmarks/points.py
    python benchmarks/points.py --sizes 1000 100000 --workers 2 --output points.json
    python benchmarks/points.py --sizes 300 --write folder

The model is made up: three channels of four bins, two backgrounds, ten nuisance parameters. Each
point has yields of its own in every bin and a relative uncertainty of its own; half of the points
or so are excluded. The table is written row by row before the clock starts.

Every size runs in a process of its own, with worker processes as the workflow has them. ``s`` is
everything from the table to the last file of results, starting the workers included, and ``ms a
point`` the same a point. ``CPU`` is the computing time of all processes for it, which other
programs on the machine disturb less. ``MiB`` are the largest resident memories of the program that
sends points, and of a worker. ``bytes asked`` and ``bytes answered`` are those of tasks and their
results, as they go to a remote worker. ``again`` is a second run, which finds everything finished.

With ``--likelihood`` the points are signals of a published one instead: each has the yields of a
mixture of two of its patches, times a log-normal factor of all bins and one of each channel, and a
relative uncertainty of 15%. ``--search once`` looks for lower minima at some points only:

    python benchmarks/points.py --sizes 100000 --workers 2 --likelihood BkgOnly.json patchset.json \
        --search once

With ``--write`` the pallet, the table and an analysis file are written for the workflow, and
nothing is measured:

    snakemake --profile profiles/local points --config analyses=folder/scan.yaml
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import (
    describe,
    machine,
    markdown,
    parser,
    peak_memory,
    positive,
    read_pallet,
    use_one_thread,
    write,
)

from palletfit.config import Analysis, Settings
from palletfit.executors import LocalExecutor
from palletfit.pallet.patches import Patch
from palletfit.products.points import collect, run

#: Backgrounds in each bin of each channel, and how data differ from their sum, in standard
#: deviations.
CHANNELS = {
    "SRlow": (60.0, 42.0, 25.0, 12.0),
    "SRmid": (40.0, 25.0, 14.0, 6.0),
    "SRhigh": (20.0, 11.0, 6.0, 3.0),
}
FLUCTUATIONS = (0.6, -0.8, 0.3, -0.4)
SHARES = {"top": 0.7, "boson": 0.3}
#: Relative uncertainties of all yields: of both backgrounds, and of one.
COMMON = {"luminosity": 0.02, "jer": 0.03, "btag": 0.05, "pileup": 0.01}
SPECIFIC = {"top": {"top_scale": 0.1, "top_shower": 0.06}, "boson": {"boson_xsec": 0.2}}
#: Titles of axes, by label.
TITLES = {
    "m_gluino": "$m(\\tilde{g})$ [GeV]",
    "m_lsp": "$m(\\tilde{\\chi}^0_1)$ [GeV]",
    "size": "Factor of all yields",
    "share": "Share of the first signal",
}
#: Rows that are made together.
ROWS = 5000
#: Width of the logarithms of factors of mixtures.
SPREAD = 0.5


def main() -> None:
    """Print the table, measure one size, or write files."""
    arguments = _parser().parse_args()
    if arguments.write is not None:
        path = write_scan(arguments.write, arguments.sizes[0], arguments.seed, model(arguments))
        print(f"Wrote {path}")
        return
    use_one_thread()
    if arguments.one:
        print(json.dumps(measure(arguments, arguments.sizes[0])))
        return
    environment = machine()
    print(f"{describe(environment)}\n", flush=True)
    records = [in_own_process(size) for size in arguments.sizes]
    print(table(records))
    write(arguments.output, {"machine": environment, "seed": arguments.seed, "sizes": records})


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.add_argument(
        "--sizes",
        nargs="+",
        type=positive,
        default=[1000, 10_000, 100_000],
        metavar="N",
        help="numbers of points (1000 10000 100000)",
    )
    options.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (1)")
    options.add_argument(
        "--chunk", type=positive, default=512, metavar="N", help="points of a task"
    )
    options.add_argument(
        "--likelihood", nargs=2, type=Path, metavar=("BKGONLY", "PATCHSET"), help="published one"
    )
    options.add_argument("--search", choices=("full", "once"), default="full", help="(full)")
    options.add_argument("--seed", type=int, default=1, metavar="N", help="of the yields (1)")
    options.add_argument(
        "--write", type=Path, metavar="FOLDER", help="write a scan for the workflow"
    )
    options.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return options


def in_own_process(size: int) -> dict[str, Any]:
    """Measure one size in a new process, with this one's other options."""
    command = [sys.executable, *sys.argv, "--sizes", str(size), "--one"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{size} points: the process ended with {done.returncode}.")
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


# ---------------------------------------------------------------------- models


class Model(Protocol):
    """A likelihood, and points that are made up for it."""

    labels: Sequence[str]
    #: Uncertainties of an analysis file.
    uncertainties: Mapping[str, Any]

    def workspace(self) -> dict[str, Any]:
        """Give the background-only workspace."""

    def rows_of(self, numbers: range, seed: int) -> pa.Table:
        """Make the points of a range of numbers; the same, whatever the others are."""


def model(arguments: argparse.Namespace) -> Model:
    """Give the model that the arguments ask for."""
    return Published(*arguments.likelihood) if arguments.likelihood else MadeUp()


class MadeUp:
    """A small likelihood, whose points have two masses."""

    labels = ("m_gluino", "m_lsp")
    uncertainties: Mapping[str, Any] = {"SIG_xsec": "xsec_unc", "luminosity": 0.02}

    def workspace(self) -> dict[str, Any]:
        """Give the background-only workspace."""
        return workspace()

    def rows_of(self, numbers: range, seed: int) -> pa.Table:
        """Make points of two masses."""
        return rows_of(numbers, seed)


class Published:
    """Mixtures of the signals of a patchset."""

    labels = ("size", "share")
    uncertainties: Mapping[str, Any] = {"signal": 0.15}

    def __init__(self, background: Path, patchset: Path) -> None:
        files = argparse.Namespace(workspace=background, patchset=patchset)
        self._workspace, _, patches = read_pallet(files)
        self._bins = [
            (channel["name"], number)
            for channel in self._workspace["channels"]
            for number in range(len(channel["samples"][0]["data"]))
        ]
        self._yields = np.array([self._yields_of(patch) for patch in patches.patches])

    def _yields_of(self, patch: Patch) -> list[float]:
        """Sum the samples that a patch adds, one number a bin."""
        total = Counter[tuple[str, int]]()
        for entry in patch.operations:
            _, kind, channel, *rest = str(entry["path"]).split("/")
            if entry["op"] == "add" and (kind, rest[:1]) == ("channels", ["samples"]):
                name = self._workspace["channels"][int(channel)]["name"]
                for number, events in enumerate(entry["value"]["data"]):
                    total[name, number] += events
        return [total[bin_] for bin_ in self._bins]

    def workspace(self) -> dict[str, Any]:
        """Give the background-only workspace."""
        return self._workspace

    def rows_of(self, numbers: range, seed: int) -> pa.Table:
        """Make mixtures of two signals each."""
        rng = np.random.default_rng([seed, numbers.start])
        count = len(numbers)
        first, second = rng.integers(len(self._yields), size=(2, count))
        share, size = rng.uniform(size=count), rng.lognormal(0.0, SPREAD, count)
        mixed = share[:, None] * self._yields[first] + (1 - share[:, None]) * self._yields[second]
        channels = dict.fromkeys(name for name, _ in self._bins)
        factors = {name: size * rng.lognormal(0.0, SPREAD, count) for name in channels}
        columns: dict[str, Any] = {
            "name": [f"model_{number:07d}" for number in numbers],
            "size": size,
            "share": share,
        }
        for column, (name, number) in enumerate(self._bins):
            columns[f"{name}[{number}]"] = factors[name] * mixed[:, column]
        return pa.table(columns)


def workspace() -> dict[str, Any]:
    """Make the background-only workspace."""
    return {
        "channels": [
            {"name": name, "samples": [_background(sample, yields) for sample in SHARES]}
            for name, yields in CHANNELS.items()
        ],
        "observations": [
            {
                "name": name,
                "data": [
                    float(round(events + shift * events**0.5))
                    for events, shift in zip(yields, FLUCTUATIONS, strict=True)
                ],
            }
            for name, yields in CHANNELS.items()
        ],
        "measurements": [{"name": "scan", "config": {"poi": "mu_SIG", "parameters": []}}],
        "version": "1.0.0",
    }


def _background(name: str, total: Sequence[float]) -> dict[str, Any]:
    yields = [SHARES[name] * events for events in total]
    sizes = {**COMMON, **SPECIFIC[name]}
    modifiers: list[dict[str, Any]] = [
        {"name": key, "type": "normsys", "data": {"hi": 1 + size, "lo": 1 - size}}
        for key, size in sizes.items()
    ]
    slopes = {"jes": 0.02, **({"top_shape": 0.05} if name == "top" else {})}
    for key, slope in slopes.items():
        up = [events * (1 + slope * (1 + position)) for position, events in enumerate(yields)]
        down = [
            events * (1 - 0.8 * slope * (1 + position)) for position, events in enumerate(yields)
        ]
        modifiers.append(
            {"name": key, "type": "histosys", "data": {"hi_data": up, "lo_data": down}}
        )
    if name == "top":
        modifiers.append({"name": "mu_top", "type": "normfactor", "data": None})
    return {"name": name, "data": yields, "modifiers": modifiers}


def write_table(path: Path, size: int, seed: int, source: Model) -> None:
    """Write so many points, some thousand at a time."""
    writer: pq.ParquetWriter | None = None
    for first in range(0, size, ROWS):
        rows = source.rows_of(range(first, min(first + ROWS, size)), seed)
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    if writer is not None:
        writer.close()


def rows_of(numbers: range, seed: int) -> pa.Table:
    """Make the points of a range of numbers; the same for each number, whatever the others."""
    rng = np.random.default_rng([seed, numbers.start])
    count = len(numbers)
    mass, lsp = rng.uniform(100, 1500, count), rng.uniform(0, 1, count)
    lsp = mass * lsp
    total = 400 * np.exp(-mass / 250) * rng.lognormal(0, 0.5, count) * (0.2 + (mass - lsp) / mass)
    columns: dict[str, Any] = {
        "name": [f"model_{number:07d}" for number in numbers],
        "m_gluino": mass,
        "m_lsp": lsp,
    }
    for channel, yields in CHANNELS.items():
        for bin_ in range(len(yields)):
            share = rng.uniform(0.2, 1.0, count) * (0.5 + bin_ / 6)
            columns[f"{channel}[{bin_}]"] = np.round(total * share / 8, 6)
    columns["xsec_unc"] = np.round(rng.uniform(0.05, 0.3, count), 4)
    return pa.table(columns)


def analysis(folder: Path, source: Model) -> dict[str, Any]:
    """Make the analysis file of the scan."""
    x, y = source.labels
    return {
        "name": "scan",
        "title": "Made up, no measurement",
        "pallet": {"path": str(folder / "scan.tar.gz")},
        "regions": {"SR": {"workspace": "BkgOnly.json"}},
        "labels": [x, y],
        "points": {
            "table": str(folder / "points.parquet"),
            "uncertainties": source.uncertainties,
        },
        "planes": {
            "masses": {
                "x": x,
                "y": y,
                "x_title": TITLES[x],
                "y_title": TITLES[y],
            }
        },
    }


def write_scan(folder: Path, size: int, seed: int, source: Model) -> Path:
    """Write pallet, table and analysis file; return the latter's path."""
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(source.workspace()).encode()
    with tarfile.open(folder / "scan.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("BkgOnly.json")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    write_table(folder / "points.parquet", size, seed, source)
    path = folder / "scan.yaml"
    path.write_text(json.dumps(analysis(folder.resolve(), source), indent=1))  # JSON is YAML, too
    return path


# ---------------------------------------------------------------------- one size


class Counted(LocalExecutor):
    """Counts the bytes of tasks and answers."""

    requested = answered = 0
    #: Largest memory of a worker, in MiB.
    peak = 0.0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See :meth:`LocalExecutor.submit`."""
        self.requested += len(args[0])
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._count)
        return future

    def submit_other(self, fn: Callable[[], Any]) -> Future[Any]:
        """Call something else in a worker."""
        return super().submit(fn)

    def _count(self, future: Future[bytes]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.answered += len(future.result())


def measure(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    """Test so many points, and measure time, memory and bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own, whose memory does not count.
        command = [*sys.argv, "--sizes", str(size), "--write", name]
        command.remove("--one")
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        source = model(arguments)
        (folder / "workspace.json").write_text(json.dumps(source.workspace()))
        scan_analysis = Analysis.model_validate(analysis(folder, source))
        settings = Settings(points={"chunk": arguments.chunk, "search": arguments.search})
        at_start, cpu = peak_memory(), -cpu_seconds()
        manifest, seconds, executor = fit(scan_analysis, settings, folder, arguments.workers)
        cpu += cpu_seconds()
        again, seconds_again, _ = fit(scan_analysis, settings, folder, arguments.workers)
        began = time.perf_counter()
        manifest_path = folder / "SR" / "points.json"
        manifest_path.write_text(json.dumps(manifest))
        counts = collect.collect(
            [manifest_path], scan_analysis.labels, folder / "out.parquet", 0.95
        )
        collecting = time.perf_counter() - began
        out = (folder / "out.parquet").stat().st_size
        parts = sum(path.stat().st_size for path in (folder / "SR" / "points").glob("*.parquet"))
        table_size = (folder / "points.parquet").stat().st_size
        mean = pq.read_table(folder / "out.parquet", columns=["CLs_obs"])["CLs_obs"].to_numpy()
    return {
        **counts,
        "workers": arguments.workers,
        "chunk": arguments.chunk,
        "parts": len(manifest["parts"]),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "ms_a_point": 1e3 * seconds / size,
        "cpu_ms_a_point": 1e3 * cpu / size,
        "seconds_again": seconds_again,
        "fitted_again": again["fitted"],
        "seconds_collecting": collecting,
        "bytes_asked": executor.requested / size,
        "bytes_answered": executor.answered / size,
        "bytes_table": table_size / size,
        "bytes_parts": parts / size,
        "bytes_result": out / size,
        "peak_mib": peak_memory(),
        "peak_mib_at_start": at_start,
        "peak_mib_worker": executor.peak,
        "mean_CLs": float(np.nanmean(mean)),
    }


def fit(
    scan_analysis: Analysis, settings: Settings, folder: Path, workers: int
) -> tuple[dict[str, Any], float, Counted]:
    """Run the scan once; return its manifest, its seconds, and its executor."""
    began = time.perf_counter()
    scan = run.of_region(scan_analysis, "SR", settings, folder / "workspace.json")
    with Counted(workers=workers, threads=1, deadline=1800.0) as executor:
        manifest = run.run(
            scan, folder / "SR" / "points", executor, settings.executor, workers=workers
        )
        executor.peak = executor.submit_other(peak_memory).result()
    return manifest, time.perf_counter() - began, executor


def cpu_seconds() -> float:
    """Return the computing time of this process and of its children that have ended."""
    used = [
        resource.getrusage(process) for process in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def table(records: Sequence[dict[str, Any]]) -> str:
    """Write one row a size."""
    header = (
        *("points", "files", "s", "ms a point", "CPU, ms a point", "again, s", "one table, s"),
        *("MiB", "MiB of a worker", "bytes asked", "bytes answered", "bytes of results"),
        *("excluded", "suspect", "failed"),
    )
    rows = [
        [
            *(record["points"], record["parts"], f"{record['seconds']:.1f}"),
            *(f"{record[name]:.2f}" for name in ("ms_a_point", "cpu_ms_a_point")),
            f"{record['seconds_again']:.1f}",
            f"{record['seconds_collecting']:.1f}",
            *(f"{record[name]:.0f}" for name in ("peak_mib", "peak_mib_worker")),
            *(f"{record[name]:.0f}" for name in ("bytes_asked", "bytes_answered", "bytes_result")),
            *(record[name] for name in ("excluded", "suspect", "failed")),
        ]
        for record in records
    ]
    return markdown(header, rows)


if __name__ == "__main__":
    main()
