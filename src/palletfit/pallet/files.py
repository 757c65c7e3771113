"""JSON files of pallets, which come from elsewhere and are not trusted."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from palletfit.errors import PalletError
from palletfit.pallet.limits import (
    CONTENT_BYTES,
    DEPTH,
    XZ_BYTES,
    check_depth,
    content_bytes,
    quoted,
)

#: First bytes of files that are compressed by gzip, bzip2 and xz.
_GZIP, _BZIP2, _XZ = _COMPRESSED = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"
#: Space before a colon. Without it there is a `":` for each key, and perhaps more of them in texts:
#: as many as there are keys in the content only if no key is lost.
_SPACED = re.compile(rb'"[ \t\r\n]+:')
#: Texts, and brackets outside them; a text that does not end goes to the end of the file.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[\[\]{}]', re.DOTALL)


def read_pallet_json(path: Path) -> Any:
    """Read a JSON file, which may be compressed by gzip, bzip2 or xz.

    Raises
    ------
    PalletError
        The file is missing, not JSON, beyond the limits of :mod:`palletfit.pallet.limits`, or has
        a key twice in one object.
    """
    try:
        # The text itself may be larger than the memory.
        if path.stat().st_size > CONTENT_BYTES:
            raise _too_large(path)
        text = path.read_bytes()
    except OSError as error:
        raise PalletError(
            f"Cannot read the file: {error.strerror}.", remedy="Check its path.", file=path
        ) from None
    return parse_pallet_json(text, path)


def parse_pallet_json(text: bytes, path: Path) -> Any:
    """Parse the bytes of a JSON file, which may be compressed by gzip, bzip2 or xz.

    Parameters
    ----------
    text
        Content of the file.
    path
        File that errors name.

    Raises
    ------
    PalletError
        As :func:`read_pallet_json`.
    """
    if text.startswith(_COMPRESSED):
        text = _decompressed(text, path)
    if content_bytes(text) > CONTENT_BYTES:
        raise _too_large(path)
    try:
        try:
            content = json.loads(text)
        except RecursionError:
            # The patch can be named only if the file can be parsed.
            content = json.loads(_without_depth(text.decode(json.detect_encoding(text))))
    except (ValueError, RecursionError) as error:
        # Neither text, nor JSON, or with a number of thousands of digits.
        raise PalletError(
            f"The file is not JSON: {error}.",
            remedy="Fetch it again, or check which file of the archive the analysis names.",
            file=path,
        ) from None
    except MemoryError:
        raise PalletError(
            "The file does not fit into memory.",
            remedy="Close other programs, or use a machine with more memory.",
            file=path,
        ) from None
    keys = check_depth(content, path)
    colons = text.count(b'":')
    if colons != keys or (text.count(b":") != colons and _SPACED.search(text)):
        # Only a parser that looks at every key can tell; it takes half as long again.
        _check_keys(text, path)
    return content


def _check_keys(text: bytes, path: Path) -> None:
    """Refuse an object that has a key twice: programs differ in which value counts."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key, count in counts.items() if count > 1)
            name = content.get("name")
            of = f" of the object named {quoted(repr(name))}" if isinstance(name, str) else ""
            raise PalletError(
                f"The file has the key {quoted(repr(twice))}{of} {counts[twice]} times.",
                remedy="Remove all but one: programs differ in which of them counts.",
                file=path,
            )
        return content

    json.loads(text, object_pairs_hook=unique)


def _decompressed(text: bytes, path: Path) -> bytes:
    limit = CONTENT_BYTES + 1
    try:
        if text.startswith(_XZ):
            content = _from_xz(text, limit)
        elif text.startswith(_BZIP2):
            with bz2.open(io.BytesIO(text)) as plain:
                content = plain.read(limit)
        else:
            with gzip.open(io.BytesIO(text)) as file:
                content = file.read(limit)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise PalletError(
            f"The compressed file is damaged: {error}.", remedy="Fetch it again.", file=path
        ) from None
    if len(content) > CONTENT_BYTES:
        raise _too_large(path)
    return content


def _from_xz(text: bytes, limit: int) -> bytes:
    """Decompress at most so many bytes, with a limit on memory."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_BYTES)
    content = decompressor.decompress(text, limit)
    if not decompressor.eof and len(content) < limit:
        raise EOFError("it ends before its last block")
    return content


def _without_depth(text: str) -> str:
    """Replace all lists and objects that are deeper than the limit by at least one level."""
    parts, start, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == DEPTH + 2:
                parts.append(text[start : token.start()] + "0")
                start = len(text)
        elif token[0] in "]}":
            if depth == DEPTH + 2:
                start = token.end()
            depth -= 1
    return "".join([*parts, text[start:]])


def _too_large(path: Path) -> PalletError:
    return PalletError(
        "The file is too large for a workspace or patchset: its content would take more than "
        f"{CONTENT_BYTES // 1024**2} MiB of memory.",
        remedy="Check which file of the archive the analysis names; split a patchset of this size "
        "into several, each with its own region.",
        file=path,
    )
