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

logger = logging.getLogger(__name__)

#: Seconds between plain lines.
_LINE_INTERVAL = 15.0


class Progress:
    """Counter of finished and failed patches, with the remaining time.

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
    """

    def __init__(
        self,
        title: str,
        *,
        total: int,
        kept: int,
        unit: tuple[str, str] = ("patch", "patches"),
    ) -> None:
        self.title, self.total, self.kept = title, total, kept
        self.one, self.many = unit
        self.done = self.failed = self.suspect = 0
        self.began = self._last_line = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None
        self._redirection = ExitStack()

    def __enter__(self) -> Progress:
        counts = self.title, self.total, self.many, self.kept
        logger.info("%s: %d %s, %d of them finished before", *counts)
        if sys.stderr.isatty():
            # Log lines are written above the bar instead of into it.
            self._redirection.enter_context(logging_redirect_tqdm())
            self._bar = tqdm(
                total=self.total,
                initial=self.kept,
                desc=self.title,
                unit=self.one,
                dynamic_ncols=True,
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
        logger.info("%s", self.line())

    def advance(self, status: str, count: int = 1) -> None:
        """Count another patch with its status, or several."""
        self.done += count
        self.failed += status == "failed"
        self.suspect += status == "suspect"
        if self._bar is not None:
            self._bar.set_postfix(failed=self.failed, suspect=self.suspect, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last_line > _LINE_INTERVAL:
            self._last_line = time.monotonic()
            logger.info("%s", self.line())

    def keep(self, count: int) -> None:
        """Count further patches that were finished before."""
        self.kept += count
        if self._bar is not None:
            self._bar.update(count)

    def line(self) -> str:
        """Write the present state as one line."""
        finished = self.kept + self.done
        text = f"{self.title}: {finished} of {self.total} {self.many}, {self.failed} failed"
        if self.suspect:
            text += f", {self.suspect} suspect"
        remaining = self.total - finished
        elapsed = time.monotonic() - self.began
        if remaining and self.done:
            text += f", about {duration(elapsed / self.done * remaining)} left"
        elif not remaining:
            text += f", {duration(elapsed)}"
        return text


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
