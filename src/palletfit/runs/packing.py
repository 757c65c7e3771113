"""Compressed JSON, which is how tasks, workspaces and results travel."""

from __future__ import annotations

import json
import zlib
from typing import Any, NoReturn

from palletfit.pallet.patches import canonical_json

#: The largest content, in bytes, that is decompressed where nothing says less.
LARGEST = 1024**3


def pack(value: Any) -> bytes:
    """Compress a JSON value."""
    return compress(canonical_json(value))


def compress(content: bytes) -> bytes:
    """Compress bytes."""
    return zlib.compress(content, 6)


def unpack(data: bytes) -> Any:
    """Undo :func:`pack`.

    Raises
    ------
    ValueError
        The data is damaged, or larger than :data:`LARGEST`.
    """
    return json.loads(decompress(data, LARGEST))


def decompress(data: bytes, largest: int) -> bytes:
    """Decompress data of which nothing is known, in bounded memory.

    Parameters
    ----------
    data
        From :func:`compress`.
    largest
        Bytes that the content may have.

    Raises
    ------
    ValueError
        The data is damaged or cut, something follows it, or the content is larger.
    """
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(data, largest + 1)
    except zlib.error as error:
        raise ValueError(f"its compression is damaged ({error})") from None
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest} bytes when it is decompressed")
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("its compressed data is cut, or too long")
    return content


def parse(content: bytes) -> Any:
    """Parse JSON, with finite numbers and each key once.

    Raises
    ------
    ValueError
        The content is no JSON, nests too deeply, says NaN or Infinity, or has a key twice in one
        object.
    """
    try:
        return json.loads(
            content, parse_constant=_refuse_constant, object_pairs_hook=_with_unique_keys
        )
    except RecursionError:
        raise ValueError("its JSON nests too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from None


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is there twice")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
