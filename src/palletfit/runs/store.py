"""The records of a region's patches: one file each, written at once or not at all.

A record is trusted only if its checksum holds and its key says that it belongs to this workspace,
this patch, these settings and this engine. A record that a new one replaces is kept aside and comes
back when its key is asked for again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from palletfit.config import FitSettings
from palletfit.errors import StoreError
from palletfit.pallet.patches import Patch, file_stem, json_digest
from palletfit.runs.product import HYPOTEST, Product

_SUPERSEDED = "superseded"
_CHECKSUM = "sha256"


@dataclass(frozen=True)
class Key:
    """What a record depends on; `digest` identifies it."""

    workspace: str
    patch: str
    settings: Mapping[str, Any]
    engine: str
    product: Product = HYPOTEST
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        workspace_digest: str,
        patch: Patch,
        settings: FitSettings,
        engine: str,
        product: Product = HYPOTEST,
    ) -> Key:
        """Key of one product of one patch."""
        plain = settings.model_dump(mode="json")
        return cls(workspace_digest, patch.digest, plain, engine, product, patch.options)

    def as_json(self) -> dict[str, Any]:
        """The key as plain data, its own digest included."""
        content = {
            "workspace": self.workspace,
            "patch": self.patch,
            "settings": dict(self.settings),
            "engine": self.engine,
            **self.product.as_json(),
            **({"options": dict(self.options)} if self.options else {}),
        }
        return {**content, "digest": json_digest(content)}

    @property
    def digest(self) -> str:
        """Sha256 of all parts."""
        digest: str = self.as_json()["digest"]
        return digest


class RecordStore:
    """Records below one folder, such as ``results/ANALYSIS/REGION/fits``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, patch: str) -> Path:
        """File of a patch's record."""
        return self.folder / f"{file_stem(patch)}.json"

    def find(self, patch: str, key_digest: str) -> dict[str, Any] | None:
        """The finished record of a patch for a key, or None.

        A record with this key that was set aside is put back. Failed, damaged and foreign records
        are not found.
        """
        for path in (self.path(patch), self._aside(patch, key_digest)):
            record = self.read(path)
            if record is None or record["key"]["digest"] != key_digest:
                continue
            if record["patch"] != patch or record["status"] == "failed":
                continue
            if path != self.path(patch):
                self.write(patch, record)
            return record
        return None

    def read(self, path: Path) -> dict[str, Any] | None:
        """A record whose checksum holds, or None."""
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(record, dict) or record.get(_CHECKSUM) != _checksum(record):
            return None
        return record

    def write(self, patch: str, record: Mapping[str, Any]) -> Path:
        """Write a patch's record atomically and durably.

        Raises
        ------
        StoreError
            The disk is full or the folder cannot be written.
        """
        path = self.path(patch)
        content = {**record, _CHECKSUM: _checksum(record)}
        self._set_aside(patch, content)
        write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
        return path

    def _set_aside(self, patch: str, new: Mapping[str, Any]) -> None:
        old = self.read(self.path(patch))
        if old is None or old["status"] == "failed":
            return
        if old["key"]["digest"] == new["key"]["digest"]:
            return
        aside = self._aside(patch, old["key"]["digest"])
        try:
            aside.parent.mkdir(parents=True, exist_ok=True)
            self.path(patch).replace(aside)
        except OSError as error:
            raise _store_error(error, aside) from error

    def _aside(self, patch: str, key_digest: str) -> Path:
        return self.folder / _SUPERSEDED / f"{file_stem(patch)}.{key_digest[:16]}.json"


def _checksum(record: Mapping[str, Any]) -> str:
    return json_digest({name: value for name, value in record.items() if name != _CHECKSUM})


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that, whatever happens, it is there in full or not at all.

    Parameters
    ----------
    path
        Its folder is made.
    content
        Text is written as UTF-8.
    durable
        See :func:`atomic_file`.

    Raises
    ------
    StoreError
        The disk is full or the folder cannot be written.
    """
    with atomic_file(path, durable=durable) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to be written piece by piece, which appears in full at the end or not at all.

    Parameters
    ----------
    path
        Its folder is made.
    durable
        Wait until it is on the disk, so that a power cut does not undo it.

    Raises
    ------
    StoreError
        The disk is full or the folder cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        # Temporary files are private; results are as readable as the user's other files.
        os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101
        os.replace(temporary, path)  # noqa: PTH105
        temporary = None
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise _store_error(error, path) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems refuse this; the file itself is safe.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _store_error(error: OSError, path: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            "The disk is full; finished patches are kept.",
            remedy="Free space there and run the same command again: only the missing patches "
            "are fitted.",
            file=path,
        )
    return StoreError(
        f"Cannot write: {error.strerror}; finished patches are kept.",
        remedy="Make the folder writable and run the same command again.",
        file=path,
    )
