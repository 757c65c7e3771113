"""Locks between processes, and what a killed holder leaves."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from palletfit.core.locks import acquire, hold_until_exit, holder, waiting_lock
from palletfit.errors import StoreError

from .. import models

HOLDER = """
import sys, time
from pathlib import Path
from palletfit.core.locks import hold_until_exit
hold_until_exit(Path(sys.argv[1]), activity="at work")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        env=models.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_and_told_who_holds_the_lock(tmp_path):
    path = tmp_path / "results" / ".lock"
    with other_process(path) as process:
        with pytest.raises(StoreError) as error:
            hold_until_exit(path, activity="at work in this folder")
        text = str(error.value)
        assert f"Another run is at work in this folder: process {process.pid} on " in text
        assert error.value.file == str(path)
        assert acquire(path) is None


def test_a_killed_holder_leaves_no_lock(tmp_path):
    path = tmp_path / ".lock"
    with other_process(path) as process:
        process.kill()
        process.wait(timeout=300)
        descriptor = acquire(path)
        assert descriptor is not None
        os.close(descriptor)


def test_a_lock_ends_with_its_block(tmp_path):
    path = tmp_path / ".lock"
    with waiting_lock(path, activity="fitting"):
        assert acquire(path) is None
        assert f"process {os.getpid()} on " in holder(path)
    descriptor = acquire(path)
    assert descriptor is not None
    os.close(descriptor)


def test_a_lock_ends_with_an_error_in_its_block(tmp_path):
    path = tmp_path / ".lock"

    def failing() -> None:
        with waiting_lock(path, activity="fitting"):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        failing()
    descriptor = acquire(path)
    assert descriptor is not None
    os.close(descriptor)


def test_waiting_ends_when_the_other_process_does(tmp_path, caplog):
    path = tmp_path / ".lock"
    with other_process(path) as process, caplog.at_level(logging.WARNING):
        threading.Timer(0.8, process.kill).start()
        began = time.monotonic()
        with waiting_lock(path, activity="fitting a/b"):
            assert time.monotonic() - began > 0.7
            assert str(os.getpid()) in holder(path)
    assert caplog.text.count("Waiting: another run is fitting a/b: process") == 1
    assert str(process.pid) in caplog.text


def test_a_short_holder_text_replaces_a_long_one(tmp_path):
    path = tmp_path / ".lock"
    path.write_text("process 1 on a computer with a long name" * 10)
    with waiting_lock(path, activity="fitting"):
        assert "long name" not in holder(path)


def test_nobody_knows_the_holder_of_a_file_that_is_not_there(tmp_path):
    assert holder(tmp_path / "nothing") == "another process"
    (tmp_path / "empty").touch()
    assert holder(tmp_path / "empty") == "another process"


def test_a_folder_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Cannot lock the folder") as error:
        acquire(tmp_path / "file" / ".lock")
    assert error.value.file == str(tmp_path / "file" / ".lock")
