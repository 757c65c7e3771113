"""JSON files of pallets, plain and compressed by gzip."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from palletfit.errors import PalletError
from palletfit.pallet import files

CONTENT = {"channels": [1, 2.5, "text"]}


@pytest.mark.parametrize("name", ["a.json.gz", "a.json"])
def test_a_compressed_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(json.dumps(CONTENT).encode()))
    assert files.read_pallet_json(path) == CONTENT
    path.write_bytes(json.dumps(CONTENT).encode())
    assert files.read_pallet_json(path) == CONTENT


def test_damaged_files_name_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    packed = gzip.compress(json.dumps(CONTENT).encode())
    for wrong in (packed[:-9], packed[:12] + b"\xff" * 20, packed[:4]):
        path.write_bytes(wrong)
        with pytest.raises(PalletError, match="compressed file is damaged") as error:
            files.read_pallet_json(path)
        assert error.value.file == str(path)


def test_a_file_that_grows_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CONTENT_BYTES", 10_000)
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b" " * 1_000_000))
    assert path.stat().st_size < 10_000
    with pytest.raises(PalletError, match="too large"):
        files.read_pallet_json(path)
