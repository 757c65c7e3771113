"""JSON files of pallets, plain and compressed."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from palletfit.errors import PalletError
from palletfit.pallet import files

CONTENT = {"channels": [1, 2.5, "text"]}


COMPRESSIONS = pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
Compress = Callable[[bytes], bytes]


@COMPRESSIONS
@pytest.mark.parametrize("name", ["a.json.gz", "a.json"])
def test_a_compressed_file_is_known_by_its_content(
    tmp_path: Path, name: str, compress: Compress
) -> None:
    path = tmp_path / name
    path.write_bytes(compress(json.dumps(CONTENT).encode()))
    assert files.read_pallet_json(path) == CONTENT
    path.write_bytes(json.dumps(CONTENT).encode())
    assert files.read_pallet_json(path) == CONTENT


@COMPRESSIONS
def test_damaged_files_name_themselves(tmp_path: Path, compress: Compress) -> None:
    path = tmp_path / "a.json.gz"
    packed = compress(json.dumps(CONTENT).encode())
    for wrong in (packed[:-9], packed[:12] + b"\xff" * 20, packed[:8]):
        path.write_bytes(wrong)
        with pytest.raises(PalletError, match="compressed file is damaged") as error:
            files.read_pallet_json(path)
        assert error.value.file == str(path)


@COMPRESSIONS
def test_a_file_that_grows_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Compress
) -> None:
    monkeypatch.setattr(files, "CONTENT_BYTES", 10_000)
    path = tmp_path / "a.json.gz"
    path.write_bytes(compress(b" " * 1_000_000))
    assert path.stat().st_size < 10_000
    with pytest.raises(PalletError, match="too large"):
        files.read_pallet_json(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": {"c": 2, "c": 3}}',
        '{"a" : 1, "b": {"c": 2, "c": 3}}',  # a space before a colon
        '{"a\\\\": 1, "b": ":", "c": 2, "c": 3}',
        '[{"c": {"x": 1}, "c": 3}]',
        '{"c": 1, "\\u0063": 2}',
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        with pytest.raises(PalletError, match="has the key 'c' 2 times") as error:
            files.read_pallet_json(path)
        assert error.value.file == str(path)


def test_the_object_of_a_key_that_is_there_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"channels": [{"name": "SR", "data": [1], "data": [2]}]}')
    with pytest.raises(PalletError, match="'data' of the object named 'SR' 2 times"):
        files.read_pallet_json(path)


@pytest.mark.parametrize("text", ['{"a": ": \\":", "b:": "x:y"}', '{"a" : 1}', '{"\\"": ":"}'])
def test_colons_in_texts_are_no_keys(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert files.read_pallet_json(path) == json.loads(text)


def test_files_as_programs_write_them_are_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at every key of 57 MB takes a third of a second."""
    monkeypatch.setattr(files, "_check_keys", None)
    path = tmp_path / "a.json"
    for options in ({}, {"indent": 4}, {"separators": (",", ":")}):
        path.write_text(json.dumps({**CONTENT, "address": "https://a.b: c"}, **options))
        files.read_pallet_json(path)
