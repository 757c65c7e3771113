"""The last words of a run: what was made and where, or why not all was."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from palletfit.core.text import counted, did_you_mean, printable_lines
from palletfit.errors import ConfigError

#: File in which the steps of a run note why they failed, relative to its folder.
FAILURES = Path(".snakemake/palletfit-failures.jsonl")
#: What an interrupted step notes.
INTERRUPTED = "interrupted"
#: At most so many reasons are given at the end, and so many steps of each are named.
_REASONS, _STEPS = 5, 3
#: Lines of Snakemake about its scheduling, which no level of quietness silences.
_SCHEDULING = ("Select jobs to execute", "Execute ")


@dataclass(frozen=True)
class Failure:
    """A step that failed.

    Attributes
    ----------
    step
        Name of the step, such as ``hypotest of demo/combined``.
    reason
        Text of the error for users, :data:`INTERRUPTED`, or empty for an unexpected error.
    log
        Log file of the step; empty if there is none.
    """

    step: str
    reason: str
    log: str


def note_failure(failure: Failure, file: Path = FAILURES) -> None:
    """Note for the end of the run why a step failed; where that cannot be written, do nothing."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(failure)) + "\n")
    except OSError:
        logging.getLogger(__name__).debug("%s cannot be written", file)


def read_failures(file: Path = FAILURES) -> list[Failure]:
    """Return what the steps of a run noted."""
    try:
        return [
            Failure(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()
        ]
    except (OSError, ValueError, TypeError):
        return []


def require_writable(folder: Path) -> None:
    """Refuse to run in a folder that cannot be written.

    Raises
    ------
    ConfigError
        It is read-only.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            "This folder is read-only: a run writes results, resources and logs into it.",
            remedy="Run in a folder of your own: snakemake --snakefile PATH/TO/palletfit/Snakefile "
            "--directory FOLDER, or copy the checkout.",
            file=folder,
        )


def explain(failures: Iterable[Failure], broken: Mapping[str, str]) -> str:
    """Say why a run did not reach its end.

    Parameters
    ----------
    failures
        What steps noted.
    broken
        Names of the steps that failed by the path of their logs, noted or not.
    """
    noted = list(failures)
    logs = {failure.log for failure in noted if failure.log}
    noted += [Failure(step, "", log) for log, step in broken.items() if log not in logs]
    if not noted:
        return "The run stopped before its end: the output above says why. All finished is kept."
    if any(failure.reason == INTERRUPTED for failure in noted):
        return "Interrupted. What is finished is kept; run the same command again to go on."
    by_reason: dict[str, list[Failure]] = {}
    for failure in noted:
        unexpected = f"An unexpected error, which {failure.log or 'the output above'} holds."
        by_reason.setdefault(failure.reason or unexpected, []).append(failure)
    lines = [f"{counted(len(noted), 'step')} failed; what is finished is kept."]
    for reason, steps in list(by_reason.items())[:_REASONS]:
        names = [failure.step for failure in steps[:_STEPS]]
        if len(steps) > _STEPS:
            names.append(f"{len(steps) - _STEPS} more")
        lines += ["", f"{', '.join(names)}:", *(f"  {line}" for line in reason.splitlines())]
        if steps[0].log and steps[0].reason:
            lines.append(f"  log:    {steps[0].log}")
    if len(by_reason) > _REASONS:
        lines += ["", f"Further reasons: {len(by_reason) - _REASONS}, in the output above."]
    return "\n".join(lines)


def unknown_target(name: str, targets: Iterable[str]) -> str:
    """Say that there is no such target, and which one may be meant."""
    names = sorted(targets)
    return (
        f"There is no target {name!r}, and no rule that makes a file of this name.\n"
        f"  remedy: {did_you_mean(name, names)}Targets are {', '.join(names)}."
    )


class Ending:
    """Watches a run, and says at the end of this process what became of it.

    Snakemake calls no handler when nothing is to be done, and writes a line of its own below that
    of a failure. So the last words are said when the process ends.

    Parameters
    ----------
    words
        Makes the words about what there is.
    targets
        Names of the targets that a user would ask for.
    terse
        Whether lines about scheduling are left out.
    """

    def __init__(self, words: Callable[[], str], *, targets: Iterable[str], terse: bool) -> None:
        self._words, self._targets, self._terse = words, list(targets), terse
        self._process, self._folder = os.getpid(), Path.cwd()
        self._end: Literal["open", "reached", "failed"] = "open"
        self._unknown = ""
        # By the path of the log: names of the steps that failed. By the job: that path.
        self._broken: dict[str, str] = {}
        self._logs: dict[object, str] = {}
        atexit.register(self.say)

    def begin(self) -> None:
        """Forget what an earlier run noted."""
        FAILURES.unlink(missing_ok=True)

    def watch(self, record: logging.LogRecord) -> bool:
        """Note what a record of Snakemake's logger tells; a filter of that logger."""
        text = record.msg if isinstance(record.msg, str) else str(record.msg)
        if text.startswith("Nothing to be done"):
            self._end = "reached"
        elif record.levelno >= logging.ERROR:
            missing = re.search(r"No rule to produce (\S+)", text)
            self._unknown = missing.group(1) if missing else self._unknown
        event = getattr(getattr(record, "event", None), "name", "")
        if event == "JOB_ERROR":
            step = str(getattr(record, "rule_name", "a step"))
            paths = getattr(record, "log", None)
            log = str(paths[0]) if paths else step
            self._broken[log] = step
            self._logs[getattr(record, "jobid", None)] = log
        elif event == "JOB_FINISHED":
            # It failed before, and succeeded when it was tried again.
            self._broken.pop(self._logs.get(getattr(record, "job_id", None), ""), None)
        return not (self._terse and text.startswith(_SCHEDULING))

    def reach(self) -> None:
        """Note that the run reached its end."""
        self._end = "reached"

    def fail(self) -> None:
        """Note that it did not."""
        self._end = "failed"

    def _last_words(self) -> str:
        if self._end == "reached":
            return self._words()
        if self._end == "failed":
            again = {*self._logs.values()} - {*self._broken}
            failures = [failure for failure in read_failures() if failure.log not in again]
            return explain(failures, self._broken)
        return unknown_target(self._unknown, self._targets) if self._unknown else ""

    def say(self) -> None:
        """Print the last words, once, in the process that watched the run."""
        if os.getpid() != self._process:
            return
        try:
            # At the end of a process Snakemake has left the folder of the run.
            with contextlib.chdir(self._folder):
                words = printable_lines(self._last_words())
        except OSError:  # the folder is gone
            return
        if words:
            sys.stderr.write(f"\n{words}\n")
            sys.stderr.flush()
        self._end, self._unknown = "open", ""
