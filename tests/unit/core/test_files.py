"""The project's own files: a damaged one says so, and how to mend it."""

from __future__ import annotations

import pytest

from palletfit.core.files import read_json, write_json
from palletfit.errors import StoreError


def test_what_is_written_is_read(tmp_path):
    content = {"patches": [1, 2.5, None, "a"]}
    write_json(tmp_path / "folder" / "file.json", content)
    assert read_json(tmp_path / "folder" / "file.json") == content


WRITTEN = b'{"title": "demo/SR", "patches": {}}'
DAMAGED = {
    "cut short": WRITTEN[:10],
    "empty": b"",
    "no text": b"\xff" + WRITTEN,
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_file_says_so_and_how_to_mend_it(tmp_path, content):
    path = tmp_path / "hypotest.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="A file of this run is damaged") as error:
        read_json(path)
    assert error.value.file == str(path)
    assert "Remove it and run the same command again" in error.value.remedy


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(StoreError, match="A file of this run is missing"):
        read_json(tmp_path / "nowhere.json")
    with pytest.raises(StoreError, match="Cannot read a file of this run: Is a directory"):
        read_json(tmp_path)
