"""Write the live page during the fits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, Settings
from palletfit.core.files import write_atomically
from palletfit.pages.live.page import Run, render
from palletfit.pages.live.snapshot import (
    Snapshot,
    State,
    Tally,
    read_region,
    snapshot_path,
    splitting,
)
from palletfit.runs.product import Product
from palletfit.runs.scan import Observer, Scan

logger = logging.getLogger(__name__)

#: Largest fraction of the time that is spent on the page.
SHARE = 0.01


def page_path(results: Path, analysis: str, product: type[Product]) -> Path:
    """Return the path of the page below the folder of all results."""
    return results / analysis / f"{product.file('live')}.html"


def pause(interval: float, cost: float) -> float:
    """Compute the seconds until the page is written again.

    Parameters
    ----------
    interval
        Smallest result.
    cost
        Seconds that writing the page took. They are at most :data:`SHARE` of the time.

    Examples
    --------
    >>> pause(5.0, 0.01)
    5.0
    >>> pause(5.0, 0.1)
    9.9
    """
    return max(interval, cost * (1 - SHARE) / SHARE)


@dataclass(frozen=True)
class Page:
    """Live page, and the fits of it that this process makes.

    Attributes
    ----------
    results
        Folder of all results.
    analysis, region, product
        Subject of the fits.
    part
        Part of the region, such as ``2-of-4``; empty for all of it.
    """

    results: Path
    analysis: Analysis
    region: str
    product: type[Product]
    part: str = ""

    @property
    def path(self) -> Path:
        """File of the page."""
        return page_path(self.results, self.analysis.name, self.product)

    @property
    def snapshot(self) -> Path:
        """File of the snapshot of these fits."""
        folder = self.results / self.analysis.name / self.region
        return snapshot_path(folder, self.product, self.part)


def observer(page: Page, settings: Settings, *, workers: int) -> Observer | None:
    """Make the observer that writes the live page while a region is fitted.

    Parameters
    ----------
    page
        The page.
    settings
        Settings of live pages and of the executor.
    workers
        Number of workers, which the page shows.

    Returns
    -------
    Observer or None
        Argument of :func:`palletfit.runs.run.run`; None if live pages are disabled.
    """
    if not settings.live.enabled:
        return None
    level, interval = settings.contour.confidence_level, settings.live.interval
    results = dict.fromkeys(page.product.shown_files(page.analysis, settings), False)
    run = Run(page.analysis, page.product, level, interval, results)
    executor = f"{settings.executor.kind}, {workers} worker{'s' * (workers != 1)}"

    @contextmanager
    def watch(
        scan: Scan, kept: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        watching = Watching(page, run, executor, scan, kept)
        watching.start()
        try:
            yield watching.see
        except BaseException:
            watching.end("interrupted")
            raise
        watching.end("ended")

    return watch


class Watching:
    """Counter of the records of one scan, with a thread that writes the page.

    Records do not wait for the page. The page is also written during a slow fit, which shows that
    the run is alive.
    """

    def __init__(
        self,
        page: Page,
        run: Run,
        executor: str,
        scan: Scan,
        kept: Mapping[str, Mapping[str, Any]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._page, self._content, self._clock = page, run, clock
        self._executor = executor
        self._labels = scan.labels
        blinded = page.analysis.choice_of(page.region).blinded
        self._tally = Tally(scan, kept, splitting(page.part), blinded=blinded)
        self._began = clock()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._broken = False
        self._pause = run.interval
        self._thread = threading.Thread(target=self._run, name="live-page", daemon=True)

    def start(self) -> None:
        """Write the first page, log its path, and start the thread."""
        self.write("running")
        if not self._broken:
            message = "live page: %s (over ssh: python -m palletfit.live %s)"
            logger.info(message, self._page.path, self._page.results)
            self._thread.start()

    def see(self, record: Mapping[str, Any]) -> None:
        """Count another record."""
        with self._lock:
            self._tally.add(record)

    def end(self, state: State) -> None:
        """Write the last page."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self._broken:
            self.write(state)

    def _run(self) -> None:
        while not self._broken and not self._ended.wait(self._pause):
            self._pause = pause(self._content.interval, self.write("running"))

    def write(self, state: State) -> float:
        """Write snapshot and page, and return the seconds that this took.

        After any error, fits continue without a page.
        """
        began = time.perf_counter()
        try:
            with self._lock:
                snapshot = self._snapshot(state)
            write_atomically(self._page.snapshot, snapshot.as_text(), durable=False)
            # The page shows the actual interval, which may exceed the configured one.
            folder = self._page.path.parent
            files = {name: (folder / name).exists() for name in self._content.results}
            run = replace(self._content, interval=self._pause, results=files)
            page = render(run, self._regions(snapshot), snapshot.written)
            write_atomically(self._page.path, page, durable=False)
        except Exception as error:  # noqa: BLE001  a page must not end the fits
            self._broken = True
            logger.warning("The live page is not written any more. %s", error)
        return time.perf_counter() - began

    def _snapshot(self, state: State) -> Snapshot:
        page, tally = self._page, self._tally
        return Snapshot(
            region=page.region,
            part=page.part,
            executor=self._executor,
            state=state,
            began=self._began,
            written=self._clock(),
            total=tally.total,
            kept=tally.kept,
            counts=dict(tally.counts),
            labels=self._labels,
            points=tuple(tally.points.values()),
            stride=tally.stride,
            failures=tuple(tally.failures),
        )

    def _regions(self, current: Snapshot) -> dict[str, list[Snapshot]]:
        """Collect the snapshots of all regions, of which other processes may write some."""
        regions = {}
        page = self._page
        folder = page.results / page.analysis.name
        for region in page.analysis.used_regions:
            parts = read_region(folder / region, page.product, current.written)
            if region == current.region:
                parts = [
                    current if snapshot.part == current.part else snapshot for snapshot in parts
                ] or [current]
            regions[region] = parts
        return regions
