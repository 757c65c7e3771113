"""Progress of a run: a live bar in a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import NoReturn

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from palletfit.core.text import counted

logger = logging.getLogger(__name__)

#: Seconds between plain lines.
_LINE_INTERVAL = 15.0
#: Results that follow each other by less, in seconds, are of one task.
_PAUSE = 0.25
#: They are a stream, and no task, if they come for so long, in parts of the time since the begin.
_STREAM = 0.1


class Progress:
    """Counter of finished and failed patches, with the remaining time once it is known.

    Results of a task come together at its end, so that the first of them says nothing of the rate.
    The remaining time is known when as many tasks have ended as run side by side.

    Parameters
    ----------
    title
        Title of the run, such as ``1Lbb/SR``.
    total
        Number of patches.
    kept
        Number of patches that were finished before.
    unit
        Name of the unit, singular and plural.
    workers
        Number of tasks that run side by side.
    """

    def __init__(
        self,
        title: str,
        *,
        total: int,
        kept: int,
        unit: tuple[str, str] = ("patch", "patches"),
        workers: int = 1,
    ) -> None:
        self.title, self.total, self.kept = title, total, kept
        self.unit, self.workers = unit, workers
        self.done = self.failed = self.suspect = 0
        self.began = self._last_line = self._last = self._burst_began = time.monotonic()
        self._bursts = 0
        # Patches and seconds that give the rate.
        self._rate: tuple[int, float] | None = None
        self._bar: tqdm[NoReturn] | None = None
        self._redirection = ExitStack()

    def __enter__(self) -> Progress:
        words = counted(self.total, *self.unit)
        if not self.kept:
            logger.info("%s: %s", self.title, words)
        elif self.kept == self.total:
            logger.info("%s: %s, finished before", self.title, words)
        else:
            logger.info("%s: %s, %d of them finished before", self.title, words, self.kept)
        if sys.stderr.isatty() and self.kept < self.total:
            # Log lines are written above the bar instead of into it.
            self._redirection.enter_context(logging_redirect_tqdm())
            self._bar = tqdm(
                total=self.total,
                initial=self.kept,
                desc=self.title,
                unit=self.unit[0],
                dynamic_ncols=True,
                # Not the bar's own remaining time, which the first result of a task would tell.
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
            )
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        self._redirection.close()
        if self.kept < self.total:
            self._end_burst(time.monotonic())
            logger.info("%s", self.line())

    def advance(self, status: str, count: int = 1, *, more: bool = False) -> None:
        """Count another patch with its status, or several.

        Parameters
        ----------
        status, count
            Status, and the number of patches that have it.
        more
            Whether further ones of the same task follow at once; until then nothing is shown.
        """
        now = time.monotonic()
        if not self.done or now - self._last > _PAUSE:
            self._end_burst(self._last)
            self._bursts += 1
            self._burst_began = now
        elif now - self._burst_began > _STREAM * (now - self.began):
            self._rate = self.done, now - self.began
        self._last = now
        self.done += count
        self.failed += status == "failed"
        self.suspect += status == "suspect"
        if more:
            return
        if self._bar is not None:
            self._bar.set_postfix_str(self._postfix(), refresh=False)
            self._bar.update(self.kept + self.done - self._bar.n)
        elif now - self._last_line > _LINE_INTERVAL and self.kept + self.done < self.total:
            self._last_line = now
            logger.info("%s", self.line())

    def _end_burst(self, moment: float) -> None:
        """Take the rate at the end of a task's results, if each worker has ended one."""
        if self.done and self._bursts >= self.workers:
            self._rate = self.done, moment - self.began

    def keep(self, count: int) -> None:
        """Count further patches that were finished before."""
        self.kept += count
        if self._bar is not None:
            self._bar.update(count)

    def _left(self) -> str:
        """Write the remaining time; empty if nothing is left, or the rate is not known."""
        remaining = self.total - self.kept - self.done
        if self._rate is None or not self._rate[0] or remaining <= 0:
            return ""
        done, seconds = self._rate
        return f"about {duration(seconds / done * remaining)} left"

    def _postfix(self) -> str:
        parts = [self._left(), f"failed={self.failed}, suspect={self.suspect}"]
        return ", ".join(filter(None, parts))

    def line(self) -> str:
        """Write the present state as one line."""
        finished = self.kept + self.done
        words = f"{finished} of {counted(self.total, *self.unit)}"
        parts = [f"{self.title}: {words}, {self.failed} failed"]
        if self.suspect:
            parts.append(f"{self.suspect} suspect")
        if finished < self.total:
            parts.append(self._left())
        else:
            parts.append(duration(time.monotonic() - self.began))
        return ", ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """Format a duration for people.

    Examples
    --------
    >>> duration(95)
    '1 min 35 s'
    """
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"
