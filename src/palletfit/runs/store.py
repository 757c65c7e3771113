"""The records of a region's patches: one file each, written at once or not at all.

A record is trusted only if its checksum holds and its key says that it belongs to this workspace,
this patch, these settings and this engine. A record that a new one replaces is kept aside and comes
back when its key is asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.config import FitSettings
from palletfit.core.files import write_atomically, writing_error
from palletfit.pallet.patches import Patch, file_stem, json_digest

if TYPE_CHECKING:
    from palletfit.runs.product import Product

_SUPERSEDED = "superseded"
_CHECKSUM = "sha256"


def settings_of_key(settings: FitSettings) -> dict[str, Any]:
    """Give the settings of fits as plain data, as they are in keys.

    A setting that is younger than keys is left out where it has its default value.
    """
    plain = settings.model_dump(mode="json")
    if plain["minimum"] == "lowest":
        del plain["minimum"]
    return plain


@dataclass(frozen=True)
class Key:
    """All that a record depends on; `digest` identifies it."""

    workspace: str
    patch: str
    settings: Mapping[str, Any]
    engine: str
    product: Product
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        workspace_digest: str,
        patch: Patch,
        settings: FitSettings,
        engine: str,
        product: Product,
    ) -> Key:
        """Key of one product of one patch."""
        plain = settings_of_key(settings)
        return cls(workspace_digest, patch.digest, plain, engine, product, patch.options)

    def as_json(self) -> dict[str, Any]:
        """Return the key as plain data, its own digest included."""
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
        """Return the finished record of a patch for a key, or None.

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
        """Return a record whose checksum holds, or None."""
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
            raise writing_error(error, aside) from error

    def _aside(self, patch: str, key_digest: str) -> Path:
        return self.folder / _SUPERSEDED / f"{file_stem(patch)}.{key_digest[:16]}.json"


def _checksum(record: Mapping[str, Any]) -> str:
    return json_digest({name: value for name, value in record.items() if name != _CHECKSUM})
