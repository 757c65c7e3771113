"""Wall time of all fits of an analysis with several executors, and the table of it.

The table is that of the study of 2021 (EPJ Web Conf. 251 (2021) 02070): analysis, patches, nodes a
block, largest number of blocks, mean wall time with its spread, and the time of a single node.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from palletfit.config import Analysis, ExecutorSettings
from palletfit.errors import ConfigError
from palletfit.pallet.patchset import Patchset
from palletfit.runs import run as runs
from palletfit.runs.ledger import Ledger
from palletfit.runs.scan import Scan
from palletfit.runs.store import RecordStore

#: What a repetition's time depends on beside palletfit.
_SOFTWARE = ("numpy", "palletfit", "pyhf", "scipy")
#: Name of the rows that show what was published.
PUBLISHED = "published"

MakeLedger = Callable[[Path], Ledger | None]


#: Opens an executor for a ledger.
MakeExecutor = Callable[[Ledger | None], AbstractContextManager[Executor]]


def select(todo: Scan, patterns: Sequence[str]) -> Scan:
    """Select the patches of a scan that match shell patterns.

    Raises
    ------
    ConfigError
        There are none.
    """
    patches = Patchset(todo.labels, todo.patches).select(patterns)
    if not patches:
        raise ConfigError(
            f"benchmark.patches ({', '.join(patterns)}) selects no patch of {todo.title}.",
            remedy=f"Correct it; the first patch is {todo.patches[0].name!r}.",
            file=todo.patchset_path,
        )
    return replace(todo, patches=patches)


def measure(
    scans: Sequence[Scan],
    settings: ExecutorSettings,
    folder: Path,
    make_executor: MakeExecutor,
    make_ledger: MakeLedger,
) -> dict[str, Any]:
    """Fit everything once, into records that are thrown away, and take the time.

    The clock runs from before the executor is made, with all files read and checked, until the
    last record is written; starting workers, waiting for nodes and transfers are part of it.

    Parameters
    ----------
    scans
        One a region; they are fitted one after the other.
    settings
        Of the executor.
    folder
        Where records are kept meanwhile: a new folder in it, on the file system that is
        measured, too.
    make_executor, make_ledger
        See :func:`palletfit.executors.make_executor` and
        :func:`palletfit.executors.open_ledger`.

    Returns
    -------
    dict
        ``seconds``; ``regions`` with the seconds of each; ``patches``; ``status`` (how many
        patches of each); ``workers``, and ``hosts`` that had some; ``fit_seconds`` (sum over all
        patches); ``machine``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    status: Counter[str] = Counter()
    regions: dict[str, float] = {}
    hosts: set[str] = set()
    fit_seconds = 0.0
    machine = _machine()
    with tempfile.TemporaryDirectory(prefix=".records-", dir=folder) as name:
        began = time.perf_counter()
        ledger = make_ledger(Path(name) / "tasks.jsonl")
        with make_executor(ledger) as executor:
            workers = int(getattr(executor, "workers", 1))
            for number, todo in enumerate(scans):
                store = RecordStore(Path(name) / str(number) / "fits")
                start = time.perf_counter()
                runs.run(todo, store, executor, settings, workers=workers, ledger=ledger)
                regions[todo.title] = time.perf_counter() - start
            seconds = time.perf_counter() - began
        for number, todo in enumerate(scans):
            store = RecordStore(Path(name) / str(number) / "fits")
            for patch in todo.patches:
                record = store.read(store.path(patch.name)) or {"status": "failed"}
                status[record["status"]] += 1
                fit_seconds += record.get("fit_time") or 0.0
                hosts |= {record["worker"]["host"]} if "worker" in record else set()
    return {
        "seconds": seconds,
        "regions": regions,
        "patches": sum(len(todo.patches) for todo in scans),
        "status": dict(status),
        "workers": workers,
        "hosts": len(hosts),
        "fit_seconds": fit_seconds,
        "machine": machine,
    }


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _SOFTWARE},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    analysis, executor
        Names; the executor is `published` for what was published.
    kind
        Kind of the executor, or the source of what was published.
    patches, failed
        Number of patches, and of those without a result.
    workers
        Number of workers; None where it is not known.
    nodes_per_block, max_blocks
        None where they are the endpoint's own.
    times
        Seconds of each repetition; empty where only mean and deviation are published.
    mean, deviation
        Mean and standard deviation (of a sample: n - 1) in seconds; the second is None for a
        single repetition.
    repetitions
        Number of them.
    single_node
        Mean seconds of a single node; None where there is none.
    """

    analysis: str
    executor: str
    kind: str
    patches: int
    failed: int
    workers: int | None
    nodes_per_block: int | None
    max_blocks: int | None
    times: tuple[float, ...]
    mean: float
    deviation: float | None
    repetitions: int
    single_node: float | None


def blocks(settings: ExecutorSettings) -> tuple[int | None, int | None]:
    """Nodes of a block and the largest number of blocks; None where an endpoint decides."""
    if settings.kind == "local":
        return 1, 1
    if settings.kind == "globus-compute":
        names = ("nodes_per_block", "max_blocks")
        values = [settings.endpoint_config.get(name) for name in names]
        nodes, largest = (int(value) if value is not None else None for value in values)
        return nodes, largest
    return settings.cluster.nodes_per_block, settings.cluster.max_blocks


def single_node(executors: Mapping[str, ExecutorSettings], chosen: str | None) -> str | None:
    """Name of the executor that is the single node: the chosen one, or the first local one."""
    local = (name for name, settings in executors.items() if settings.kind == "local")
    return chosen if chosen is not None else next(local, None)


def fold(
    analyses: Mapping[str, Analysis],
    executors: Mapping[str, ExecutorSettings],
    repetitions: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    chosen: str | None = None,
) -> list[Row]:
    """Make the table's rows.

    Parameters
    ----------
    analyses
        By name, in the order of the table.
    executors
        By name, in the order of the table.
    repetitions
        By names of analysis and executor: what :func:`measure` gave.
    chosen
        Which executor is the single node, see :func:`single_node`.
    """
    alone = single_node(executors, chosen)
    rows = []
    for name, analysis in analyses.items():
        of_one = repetitions[name, alone] if alone is not None else []
        for executor, settings in executors.items():
            rows.append(_row(name, executor, settings, repetitions[name, executor], of_one))
        if analysis.published_time is not None:
            rows.append(_published(analysis))
    return rows


def _row(
    analysis: str,
    executor: str,
    settings: ExecutorSettings,
    repetitions: Sequence[Mapping[str, Any]],
    of_one: Sequence[Mapping[str, Any]],
) -> Row:
    times = tuple(float(repetition["seconds"]) for repetition in repetitions)
    nodes, largest = blocks(settings)
    return Row(
        analysis=analysis,
        executor=executor,
        kind=settings.kind,
        patches=max(repetition["patches"] for repetition in repetitions),
        failed=max(repetition["status"].get("failed", 0) for repetition in repetitions),
        workers=max(repetition["workers"] for repetition in repetitions),
        nodes_per_block=nodes,
        max_blocks=largest,
        times=times,
        mean=statistics.fmean(times),
        deviation=statistics.stdev(times) if len(times) > 1 else None,
        repetitions=len(times),
        single_node=statistics.fmean(repetition["seconds"] for repetition in of_one)
        if of_one
        else None,
    )


def _published(analysis: Analysis) -> Row:
    published = analysis.published_time
    if published is None:
        raise ValueError(f"nothing is published for {analysis.name}")
    return Row(
        analysis=analysis.name,
        executor=PUBLISHED,
        kind=published.source,
        patches=published.patches,
        failed=0,
        workers=None,
        nodes_per_block=published.nodes_per_block,
        max_blocks=published.max_blocks,
        times=(),
        mean=published.mean,
        deviation=published.deviation,
        repetitions=published.repetitions,
        single_node=published.single_node,
    )


def as_table(rows: Iterable[Row]) -> pd.DataFrame:
    """One line a row, with numbers in full."""
    return pd.DataFrame(
        [
            {
                "analysis": row.analysis,
                "executor": row.executor,
                "kind": row.kind,
                "patches": row.patches,
                "failed": row.failed,
                "workers": row.workers,
                "nodes_per_block": row.nodes_per_block,
                "max_blocks": row.max_blocks,
                "repetitions": row.repetitions,
                "wall_time_mean": row.mean,
                "wall_time_deviation": row.deviation,
                "single_node": row.single_node,
                "times": " ".join(f"{seconds:.3f}" for seconds in row.times),
            }
            for row in rows
        ]
    ).astype(dict.fromkeys(("workers", "nodes_per_block", "max_blocks"), "Int64"))


def as_markdown(rows: Sequence[Row], machines: Sequence[Mapping[str, Any]] = ()) -> str:
    """Write the table for people, with the machine below it.

    Parameters
    ----------
    rows
        From :func:`fold`.
    machines
        ``machine`` of the repetitions.
    """
    header = (
        "analysis",
        "patches",
        "executor",
        "workers",
        "nodes a block",
        "max blocks",
        "repetitions",
        "wall time (s)",
        "single node (s)",
    )
    lines: list[Sequence[str]] = [header, ["---"] * len(header)]
    for row in rows:
        failed = f" ({row.failed} failed)" if row.failed else ""
        lines.append(
            (
                _cell(row.analysis),
                f"{row.patches}{failed}",
                _cell(row.executor if row.executor != PUBLISHED else row.kind),
                _number(row.workers),
                _number(row.nodes_per_block),
                _number(row.max_blocks),
                str(row.repetitions),
                spread(row),
                "" if row.single_node is None else significant(row.single_node),
            )
        )
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    loads: dict[str, list[float]] = {}
    for machine in machines:
        loads.setdefault(_describe(machine), []).append(machine["load"])
    return text + "".join(
        f"\n{words}; load {min(values):.1f} to {max(values):.1f} when repetitions began.\n"
        for words, values in sorted(loads.items())
    )


def spread(row: Row) -> str:
    """Mean and standard deviation, with as many digits as the second is worth.

    Examples
    --------
    156.2 ± 9.5; 12.3 for a single repetition.
    """
    if not row.deviation:
        return significant(row.mean)
    decimals = max(0, 1 - math.floor(math.log10(row.deviation)))
    return f"{row.mean:.{decimals}f} ± {row.deviation:.{decimals}f}"


def significant(seconds: float) -> str:
    """Write a time in seconds with three digits, or all before the point."""
    if seconds <= 0:
        return "0"
    return f"{seconds:.{max(0, 2 - math.floor(math.log10(seconds)))}f}"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _describe(machine: Mapping[str, Any]) -> str:
    software = ", ".join(f"{name} {machine[name]}" for name in ("python", *_SOFTWARE))
    return f"{machine['processor']}, {machine['cores']} cores; {software}"
