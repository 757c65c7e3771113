"""The list of sent tasks survives what happens to its file."""

from __future__ import annotations

import errno
import json
import os

import pytest

from palletfit.errors import StoreError
from palletfit.runs.ledger import Ledger

TARGET = "endpoint"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.jsonl"


def fill(path, count=2):
    ledger = Ledger(path, TARGET)
    ledger.opened("group", "probe")
    for number in range(count):
        send(ledger, number)
    return ledger


def send(ledger, number):
    ledger.label(f"digest {number}", [f"patch {number}"])
    ledger.sending([f"digest {number}"])
    ledger.sent({f"digest {number}": f"task {number}"})


def tasks(path):
    return {sent.digest: sent.ids for sent in Ledger(path, TARGET).in_flight.values()}


ALL = {f"digest {number}": [f"task {number}"] for number in range(3)}


def test_a_last_line_without_its_end_is_ended_before_the_next(path):
    fill(path)
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    send(Ledger(path, TARGET), 2)
    assert tasks(path) == ALL
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_two_events_in_a_line_are_both_read(path):
    fill(path, 3)
    path.write_bytes(path.read_bytes().replace(b"}\n{", b"} {", 3).replace(b"}\n{", b"}{", 1))
    assert tasks(path) == ALL


def test_a_cut_line_is_removed_and_all_before_it_kept(path):
    fill(path, 3)
    path.write_bytes(path.read_bytes().replace(b"}\n{", b"}{")[:-9])
    assert tasks(path) == {**ALL, "digest 2": []}
    assert tasks(path) == {**ALL, "digest 2": []}  # also of the file that was put right


def test_a_line_that_cannot_be_written_leaves_none_behind(path, monkeypatch):
    ledger = fill(path, 1)
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left") as error:
            send(ledger, 1)
    assert error.value.file == str(path)
    assert path.read_bytes() == before
    send(ledger, 1)
    assert len(tasks(path)) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"nothing\n",
        b"{}\n",
        b"[]\n",
        b"7\n",
        b"\n",
        b'{"event": "ended"}\n',
        b'{"event": "opened", "target": "endpoint"}\n',
        b'{"event": "sending", "target": "endpoint", "group": "g", "tasks": []}\n',
        b'{"event": "sending", "target": "endpoint", "group": "g", "tasks": {"a": 1}}\n',
        b'{"event": "sent", "target": "endpoint", "ids": ["a"]}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_line_is_named_with_the_remedy(path, line):
    fill(path, 1)
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, line, *others]))
    with pytest.raises(StoreError, match="Line 2 of the list of sent tasks is damaged") as error:
        Ledger(path, TARGET)
    assert error.value.file == str(path)
    assert "Remove the file" in error.value.remedy
