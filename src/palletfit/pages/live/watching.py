"""Writes the page while records are written."""

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

#: Part of the time that may be spent on the page.
SHARE = 0.01


def page_path(results: Path, analysis: str, product: type[Product]) -> Path:
    """File of the page below the folder of all results."""
    return results / analysis / f"{product.file('live')}.html"


def pause(interval: float, cost: float) -> float:
    """Seconds until the page is written again.

    Parameters
    ----------
    interval
        Never less than this.
    cost
        Seconds that writing it took; they may be :data:`SHARE` of the whole.

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
    """Which page, and which of the fits that it shows are made here.

    Attributes
    ----------
    results
        The folder of all results.
    analysis, region, product
        What is fitted.
    part
        Which part of the region, such as ``2-of-4``; empty for all of it.
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
        """File of what is known of the fits that are made here."""
        folder = self.results / self.analysis.name / self.region
        return snapshot_path(folder, self.product, self.part)


def observer(page: Page, settings: Settings, *, workers: int) -> Observer | None:
    """What writes the live page of an analysis while one of its regions is fitted.

    Parameters
    ----------
    page
        Which page.
    settings
        Whether there is one, and how often it is written.
    workers
        Number of workers, for people.

    Returns
    -------
    Observer or None
        For :func:`palletfit.runs.run.run`; none if no page is wanted.
    """
    if not settings.live.enabled:
        return None
    level, interval = settings.contour.confidence_level, settings.live.interval
    run = Run(page.analysis, page.product, level, interval)
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
    """Counts the records of one scan, and writes the page from a thread of its own.

    Recording does not wait for the page, and a slow fit does not keep it from saying that the run
    is alive.
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
        self._page, self._about, self._clock = page, run, clock
        self._executor = executor
        self._labels = scan.labels
        self._tally = Tally(scan, kept, splitting(page.part))
        self._began = clock()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._broken = False
        self._pause = run.interval
        self._thread = threading.Thread(target=self._run, name="live-page", daemon=True)

    def start(self) -> None:
        """Write the first page, say where it is, and go on writing."""
        self.write("running")
        if not self._broken:
            words = "live page: %s (over ssh: python -m palletfit.live %s)"
            logger.info(words, self._page.path, self._page.results)
            self._thread.start()

    def see(self, record: Mapping[str, Any]) -> None:
        """Count one more record."""
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
            self._pause = pause(self._about.interval, self.write("running"))

    def write(self, state: State) -> float:
        """Write snapshot and page; return how many seconds that took.

        Whatever goes wrong with them, fits go on, without a page.
        """
        began = time.perf_counter()
        try:
            with self._lock:
                snapshot = self._snapshot(state)
            write_atomically(self._page.snapshot, snapshot.as_text(), durable=False)
            # A reader has to expect the pause that there is, not the one that was asked for.
            about = replace(self._about, interval=self._pause)
            page = render(about, self._regions(snapshot), snapshot.written)
            write_atomically(self._page.path, page, durable=False)
        except Exception as error:  # noqa: BLE001  a full disk, or what nobody thought of
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

    def _regions(self, own: Snapshot) -> dict[str, list[Snapshot]]:
        """Snapshots of all regions: our own, and those on the disk, which others may write."""
        found = {}
        page = self._page
        folder = page.results / page.analysis.name
        for region in page.analysis.used_regions:
            parts = read_region(folder / region, page.product, own.written)
            if region == own.region:
                parts = [own if item.part == own.part else item for item in parts] or [own]
            found[region] = parts
        return found
