"""Plain lines in a log, a bar in a terminal."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from palletfit.core import progress
from palletfit.core.progress import Progress, duration

from .. import models


@pytest.fixture
def lines(caplog):
    """Messages so far; threads that other tests left have messages of their own."""
    caplog.set_level(logging.INFO)
    return lambda: [
        record.getMessage() for record in caplog.records if record.name.startswith("palletfit")
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (95, "1 min 35 s"),
        (3599.6, "1 h 0 min"),
        (7320, "2 h 2 min"),
        (90000, "25 h 0 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_first_and_last_line_without_a_terminal(lines, capsys):
    with Progress("a/b", total=5, kept=2) as counter:
        for status in ("ok", "suspect", "failed"):
            counter.advance(status)
    first, last = lines()
    assert first == "a/b: 5 patches, 2 of them finished before"
    assert re.fullmatch(r"a/b: 5 of 5 patches, 1 failed, 1 suspect, \d+ s", last)
    assert capsys.readouterr().err == ""


def test_lines_in_between_come_at_intervals(lines, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("a/b", total=100, kept=40) as counter:
        for _ in range(20):
            now[0] += 2.0
            counter.advance("ok")
    # After 16 and 32 s, and at the end: 2 s a patch, kept ones do not count for the rate.
    assert lines()[1:] == [
        "a/b: 48 of 100 patches, 0 failed, about 1 min 44 s left",
        "a/b: 56 of 100 patches, 0 failed, about 1 min 28 s left",
        "a/b: 60 of 100 patches, 0 failed, about 1 min 20 s left",
    ]


def test_what_is_counted_may_be_another_thing(lines):
    with Progress("a/b toys", total=3, kept=1, unit=("shard", "shards")):
        pass
    assert lines()[0] == "a/b toys: 3 shards, 1 of them finished before"
    assert lines()[1].startswith("a/b toys: 1 of 3 shards, ")


def test_nothing_to_do(lines):
    with Progress("a/b", total=3, kept=3):
        pass
    assert lines() == ["a/b: 3 patches, finished before"]


def test_one_is_one(lines):
    with Progress("a/b", total=1, kept=0, unit=("shard", "shards")) as counter:
        counter.advance("ok")
    assert lines() == ["a/b: 1 shard", "a/b: 1 of 1 shard, 0 failed, 0 s"]


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, which tests set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def end_task(counter: Progress, patches: int, clock: list[float], *, told: bool = True) -> None:
    """Count the results of a task, each of which takes a moment to be written."""
    for number in range(patches):
        clock[0] += 0.02
        counter.advance("ok", more=told and number < patches - 1)


def test_the_first_results_of_a_task_tell_no_rate(lines, clock):
    with Progress("a/b", total=128, kept=0, workers=2) as counter:
        for _ in range(2):
            clock[0] += 60.0
            end_task(counter, 32, clock)
            # The second worker ends its first task a second later.
            clock[0] += 1.0
            end_task(counter, 32, clock)
    assert lines()[1:] == [
        "a/b: 32 of 128 patches, 0 failed",
        "a/b: 96 of 128 patches, 0 failed, about 31 s left",
        "a/b: 128 of 128 patches, 0 failed, 2 min 5 s",
    ]


def test_results_that_are_not_told_to_be_of_a_task_are_recognized_by_the_time(lines, clock):
    with Progress("a/b", total=96, kept=0) as counter:
        for _ in range(3):
            clock[0] += 60.0
            end_task(counter, 32, clock, told=False)
    shown = lines()[1:]
    assert shown[0] == "a/b: 1 of 96 patches, 0 failed"
    assert shown[1] == "a/b: 33 of 96 patches, 0 failed, about 1 min 59 s left"


def test_a_stream_of_results_tells_its_rate(lines, clock):
    with Progress("a/b", total=400, kept=0, workers=8) as counter:
        end_task(counter, 100, clock, told=False)
        clock[0] += 0.1
        for _ in range(160):
            clock[0] += 0.1
            counter.advance("ok")
    assert re.fullmatch(r"a/b: \d+ of 400 patches, 0 failed, about \d+ s left", lines()[1])


def test_an_interrupted_run_says_how_far_it_came(lines):
    def interrupted() -> None:
        with Progress("a/b", total=3, kept=0) as counter:
            counter.advance("ok")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert lines()[-1].startswith("a/b: 1 of 3 patches, 0 failed, about ")


BAR = """
from palletfit.core.progress import Progress
with Progress("a/b", total=4, kept=1) as counter:
    for status in ("ok", "failed", "suspect"):
        counter.advance(status)
"""


def test_a_bar_in_a_terminal():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", BAR],
        env=models.environment(TERM="xterm"),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        close_fds=True,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while block := os.read(ours, 4096):
                shown += block
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        assert process.wait(timeout=300) == 0
    text = shown.decode()
    assert "\r" in text
    assert re.search(r"a/b: +25%", text)
    assert re.search(r"a/b: 100%.*4/4.*failed=1, suspect=1", text)
