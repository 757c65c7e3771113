"""Test the points of a region through an executor, chunk by chunk, in bounded memory.

A chunk becomes a task. Its results become one file when all of them are there. A rerun keeps the
files whose key holds, and fits the points of the others.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, ExecutorSettings, FitSettings, Settings
from palletfit.core.files import read_json
from palletfit.core.locks import waiting_lock
from palletfit.core.progress import Progress
from palletfit.engine.versions import VERSIONS
from palletfit.errors import FitError
from palletfit.pallet.choosing import read_choice
from palletfit.pallet.patches import Patch, json_digest
from palletfit.products.points.nlls import check_nlls
from palletfit.products.points.opening import ranges_of, source_of
from palletfit.products.points.parts import (
    RETRY,
    PartStore,
    content_digest,
    read,
    relabelled,
    row_of,
)
from palletfit.products.points.product import Points
from palletfit.products.points.references import (
    check_size,
    products_of,
    references_of,
    searched,
    searches,
)
from palletfit.products.points.sources import Source, duplicate
from palletfit.runs import task
from palletfit.runs.dispatch import Task, dispatch, fitting_tasks
from palletfit.runs.ledger import Ledger
from palletfit.runs.packing import pack
from palletfit.runs.store import Key, settings_of_key

logger = logging.getLogger(__name__)

#: Tasks in flight for each worker, so that no worker waits for this program.
_AHEAD = 2


@dataclass(frozen=True)
class PointScan:
    """Points of one region with one set of fit settings.

    Attributes
    ----------
    title
        ``ANALYSIS/REGION``, for people.
    workspace
        The background-only workspace.
    source
        Source of the points.
    labels
        Names of the points' values.
    settings
        Fit settings.
    chunk
        Points of a task, and of a file of results.
    nlls
        Results have eight NLLs, too.
    search
        See :attr:`palletfit.config.PointSettings.search`.
    """

    title: str
    workspace: Mapping[str, Any]
    source: Source
    labels: tuple[str, ...]
    settings: FitSettings
    chunk: int
    nlls: bool = False
    search: str = "full"

    @property
    def product(self) -> Points:
        """Product of the points; without NLLs it has the key that it always had."""
        return Points({"nlls": True} if self.nlls else {})

    @property
    def ranges(self) -> list[range]:
        """Numbers of the points of each chunk."""
        return ranges_of(self.source.count, self.chunk)


def of_region(
    analysis: Analysis, region: str, settings: Settings, workspace_path: Path
) -> PointScan:
    """Make the scan of one region of an analysis.

    Raises
    ------
    ConfigError, PalletError
        There are no points, or something is wrong with them.
    """
    nlls = analysis.points is not None and analysis.points.nlls
    if nlls:
        check_nlls(settings.fit, settings.points)
    workspace = read_json(workspace_path)
    choice = read_choice(workspace_path.parent)
    return PointScan(
        title=f"{analysis.name}/{region}",
        workspace=workspace,
        source=source_of(analysis, workspace, settings.fit, settings.points, choice),
        labels=tuple(analysis.labels),
        settings=settings.fit,
        chunk=settings.points.chunk,
        nlls=nlls,
        search=settings.points.search,
    )


def run(
    scan: PointScan,
    folder: Path,
    executor: Executor,
    settings: ExecutorSettings,
    *,
    workers: int = 1,
    ledger: Ledger | None = None,
) -> dict[str, Any]:
    """Fit the points that have no finished row yet.

    Parameters
    ----------
    scan
        Points, workspace and settings.
    folder
        Folder of the files of the chunks.
    executor, settings
        Executor of the fits, and its settings, such as the number of attempts.
    workers
        Number of tasks that run side by side.
    ledger
        Tasks of an earlier run that are in flight, for executors whose tasks outlive this program.

    Returns
    -------
    dict
        Manifest: the files with their keys and counts of points, and the number of fits.

    Raises
    ------
    ConfigError, PalletError
        A function gives something wrong, or two points have one name.
    FitError
        No point has a result.
    StoreError
        A file could not be written; those written before stay.
    ExecutorError
        Fits cannot run there; files of chunks that ended before stay.
    """
    with waiting_lock(folder.parent / ".lock-points", activity=f"fitting {scan.title}"):
        return _Run(scan, PartStore(folder), executor, settings, workers, ledger).run()


@dataclass
class _Chunk:
    """A chunk whose fits are running."""

    number: int
    patches: list[Patch]
    key: Key
    #: Finished rows by name.
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


class _Run:
    def __init__(
        self,
        scan: PointScan,
        store: PartStore,
        executor: Executor,
        settings: ExecutorSettings,
        workers: int,
        ledger: Ledger | None,
    ) -> None:
        self.scan, self.store, self.executor = scan, store, executor
        self.settings, self.workers, self.ledger = settings, workers, ledger
        self.digest = json_digest(scan.workspace)
        #: What keys say of the product, and what tasks do.
        self.product = product = scan.product
        if scan.search == "once":
            self.product, product = products_of(references_of(scan, store.folder))
        self.make = partial(
            task.make_task,
            workspace_digest=self.digest,
            settings=scan.settings,
            product=product,
        )
        if scan.search == "once":
            check_size(self.make([]), executor, scan.title)
        self.chunks: dict[str, _Chunk] = {}  # of points in flight, by name
        self.entries: dict[int, dict[str, Any]] = {}
        self.fitted = 0

    def run(self) -> dict[str, Any]:
        """Fit the points, see :func:`run`."""
        scan = self.scan
        ranges = scan.ranges
        unfinished = [number for number in range(len(ranges)) if not self._find(number)]
        finished = sum(entry["points"] for entry in self.entries.values())
        with Progress(
            scan.title,
            total=scan.source.count,
            kept=finished,
            unit=("point", "points"),
            workers=self.workers,
        ) as self.progress:
            outcomes = dispatch(
                self._tasks(unfinished),
                self.make,
                pack(scan.workspace),
                self.executor,
                self.settings,
                title=scan.title,
                ledger=self.ledger,
                in_flight=_AHEAD * self.workers + 1,
            )
            for patches, results in outcomes:
                self._take(patches, results)
        if self.ledger is not None:
            for sent in list(self.ledger.in_flight.values()):
                self.ledger.ended(sent.digest)  # its points are not in this scan
        self.store.end_at(len(ranges))
        return self._manifest(len(ranges))

    def _manifest(self, parts: int) -> dict[str, Any]:
        entries = [self.entries[number] for number in range(parts)]
        status = {
            name: sum(entry[name] for entry in entries) for name in ("ok", "suspect", "failed")
        }
        if status["failed"] == self.scan.source.count:
            raise FitError(
                f"All {status['failed']} points of {self.scan.title} failed; the first one: "
                f"{entries[0]['problem']}",
                remedy="Correct the points; the files of results hold the reason of each.",
                file=self.scan.source.path,
            )
        return {
            "title": self.scan.title,
            "labels": list(self.scan.labels),
            "points": self.scan.source.count,
            "fitted": self.fitted,
            **status,
            **(searched(entries) if self.scan.search == "once" else {}),
            "parts": entries,
        }

    # ------------------------------------------------------------------ finished chunks

    def _identity(self, number: int) -> str:
        span = self.scan.ranges[number]
        source = f"{self.scan.source.identity} {span.start} {span.stop}"
        return self._key(source).digest

    def _key(self, content: str) -> Key:
        scan = self.scan
        plain = settings_of_key(scan.settings)
        return Key(self.digest, content, plain, VERSIONS[scan.settings.engine], self.product)

    def _find(self, number: int) -> bool:
        """Return true for a finished chunk, as far as is known before its points are made."""
        part = self.store.find(number, self._identity(number))
        if part is None or part.to_repeat:
            return False
        self.entries[number] = _entry(self.store.path(number), part.key, part.table.to_pylist())
        return True

    # ------------------------------------------------------------------ new tasks

    def _tasks(self, unfinished: Sequence[int]) -> Iterator[Task]:
        """Make the tasks of unfinished chunks, each when it is needed."""
        ranges = self.scan.ranges
        chunks = self.scan.source.chunks(ranges[number] for number in unfinished)
        for number, (span, patches) in zip(unfinished, chunks, strict=True):
            missing = self._open(number, span, patches)
            if missing:
                yield from fitting_tasks(missing, self.make, self.executor)

    def _open(self, number: int, span: range, patches: list[Patch]) -> list[Patch]:
        """Begin a chunk; return its points that have to be fitted.

        Raises
        ------
        PalletError
            A name is that of another point in flight.
        """
        self._check_names(span, patches)
        chunk = _Chunk(number, patches, self._key(content_digest(patches)))
        chunk.rows = self._finished_rows(chunk)
        missing = [patch for patch in patches if patch.name not in chunk.rows]
        self.progress.keep(len(chunk.rows))
        self.chunks |= {patch.name: chunk for patch in patches}
        if not missing:
            self._close(chunk)
        return missing

    def _check_names(self, span: range, patches: Sequence[Patch]) -> None:
        positions: dict[str, int] = {}
        for position, patch in zip(span, patches, strict=True):
            if patch.name in positions:
                raise duplicate(self.scan.source.path, patch.name, positions[patch.name], position)
            if patch.name in self.chunks:
                first = self.chunks[patch.name]
                names = [point.name for point in first.patches]
                other = self.scan.ranges[first.number].start + names.index(patch.name)
                raise duplicate(self.scan.source.path, patch.name, other, position)
            positions[patch.name] = position

    def _finished_rows(self, chunk: _Chunk) -> dict[str, dict[str, Any]]:
        """Read the finished rows of the same points, which may come from another source."""
        part = read(self.store.path(chunk.number))
        if part is None or part.key != chunk.key.digest:
            return {}
        rows = part.rows()
        return {
            patch.name: relabelled(rows[patch.name], patch, self.scan.labels)
            for patch in chunk.patches
            if not rows[patch.name][RETRY]
        }

    # ------------------------------------------------------------------ results

    def _take(self, patches: Sequence[Patch], results: Sequence[Mapping[str, Any]]) -> None:
        chunk = self.chunks[patches[0].name]
        for patch, result in zip(patches, results, strict=True):
            chunk.rows[patch.name] = row_of(patch, self.scan.labels, result)
            self.progress.advance(result["status"])
        self.fitted += len(patches)
        if len(chunk.rows) == len(chunk.patches):
            self._close(chunk)

    def _close(self, chunk: _Chunk) -> None:
        rows = [chunk.rows[patch.name] for patch in chunk.patches]
        identity = self._identity(chunk.number)
        path = self.store.write(
            chunk.number,
            rows,
            self.scan.labels,
            chunk.key,
            identity,
            nlls=self.scan.nlls,
            derivatives=self.scan.settings.wanted_derivatives is not None,
        )
        self.entries[chunk.number] = _entry(path, chunk.key.digest, rows)
        for patch in chunk.patches:
            del self.chunks[patch.name]


def _entry(path: Path, key: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe a file of results."""
    stat = path.stat()
    status = Counter(row["status"] for row in rows)
    failed = next((row["reason"] for row in rows if row["status"] == "failed"), None)
    return {
        "file": path.name,
        "key": key,
        # A cheap test whether a file is still the one that was written.
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "points": len(rows),
        **{name: status[name] for name in ("ok", "suspect", "failed")},
        "retry": sum(row[RETRY] for row in rows),
        **searches(rows),
        **({} if failed is None else {"problem": failed}),
    }


def is_complete(manifest: Mapping[str, Any], folder: Path) -> bool:
    """Return true if a manifest leaves nothing to fit: all files exist, and failures are final."""
    store = PartStore(folder)
    for number, entry in enumerate(manifest["parts"]):
        try:
            stat = store.path(number).stat()
        except OSError:
            return False
        if entry["retry"]:
            return False
        if (stat.st_size, stat.st_mtime_ns) != (entry["size"], entry["mtime_ns"]):
            # A copied file has another time; its digest and its key still hold.
            part = read(store.path(number))
            if part is None or part.key != entry["key"]:
                return False
    return True
