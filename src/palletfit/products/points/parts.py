"""The results of a scan, a Parquet file for each of its chunks.

A file is trusted only if the digest of its rows holds and its key is that of these points, this
workspace, these settings and this engine. A file that a new one replaces is set aside. It comes
back when its points and settings do.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from palletfit.config import NLL_COLUMNS
from palletfit.core.files import write_atomically
from palletfit.errors import StoreError
from palletfit.pallet.patches import Patch, json_digest
from palletfit.runs.results import EXPECTED_COLUMNS
from palletfit.runs.store import Key

_SUPERSEDED = "superseded"
#: Key of this module's entry in the metadata of a file.
METADATA = b"palletfit"
#: Columns after the labels, with their types, in order.
RESULTS = {
    "status": pa.string(),
    "CLs_obs": pa.float64(),
    **dict.fromkeys(EXPECTED_COLUMNS, pa.float64()),
    "mu_hat": pa.float64(),
    "mu_hat_error": pa.float64(),
    "edm": pa.float64(),
    "starts_agreed": pa.int32(),
    "engine": pa.string(),
    "fit_time": pa.float64(),
    "reason": pa.string(),
}
#: Further columns, of points whose NLLs are asked for.
NLLS = dict.fromkeys(NLL_COLUMNS, pa.float64())
#: A further column, of points whose derivatives are asked for: JSON by channel and sample.
DERIVATIVES = {"derivatives": pa.string()}
#: Column that marks failures that may pass; only in the files of chunks.
RETRY = "retry"
#: The same fit of the same point fails again; any other failure may pass.
_LASTING = ("PalletError", "FitError")


@dataclass(frozen=True)
class Part:
    """Content of one file.

    Attributes
    ----------
    table
        A row a point.
    key
        Digest of the key of its content.
    content
        Digest of its points, see :func:`content_digest`.
    identity
        Digest of the source of the points, their numbers and the rest of the key.
    """

    table: pa.Table
    key: str
    content: str
    identity: str

    @property
    def to_repeat(self) -> list[str]:
        """Names of points that failed for a reason that may pass."""
        rows = zip(self.table["name"].to_pylist(), self.table[RETRY].to_pylist(), strict=True)
        return [name for name, retry in rows if retry]

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows by name."""
        return {row["name"]: row for row in self.table.to_pylist()}


def content_digest(patches: Sequence[Patch]) -> str:
    """Compute a digest of the names and operations of points, on which fits depend."""
    return json_digest([[patch.name, list(patch.operations)] for patch in patches])


def row_of(patch: Patch, labels: Sequence[str], result: Mapping[str, Any]) -> dict[str, Any]:
    """Make a row: a point with its result, or with the reason of its failure."""
    row: dict[str, Any] = {"name": patch.name, **dict(zip(labels, patch.values, strict=True))}
    row |= dict.fromkeys(RESULTS)
    row[RETRY] = False
    if result["status"] == "failed":
        error = result["error"]
        reason = f"{error['problem']} Remedy: {error['remedy']}"
        return row | {
            "status": "failed",
            "reason": reason,
            RETRY: error["kind"] not in _LASTING,
        }
    row |= {name: result[name] for name in RESULTS if name in result}
    row |= result.get("nlls") or {}
    if result.get("derivatives"):
        row["derivatives"] = json.dumps(result["derivatives"], separators=(",", ":"))
    return row | dict(zip(EXPECTED_COLUMNS, result["CLs_exp"], strict=True))


def relabelled(row: Mapping[str, Any], patch: Patch, labels: Sequence[str]) -> dict[str, Any]:
    """Update the values of a point in its row: fits do not depend on them."""
    results = {name: row[name] for name in (*RESULTS, *NLLS, *DERIVATIVES, RETRY) if name in row}
    return {"name": patch.name, **dict(zip(labels, patch.values, strict=True)), **results}


class PartStore:
    """Files below one folder, such as ``results/ANALYSIS/REGION/points``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, number: int) -> Path:
        """Return the path of a chunk's file; chunks count from zero."""
        return self.folder / f"part-{number:06d}.parquet"

    def find(self, number: int, identity: str) -> Part | None:
        """Find the part of a chunk that has this identity; None if there is none.

        A part that was set aside is put back.
        """
        for path in (self.path(number), self._aside(number, identity)):
            part = read(path)
            if part is not None and part.identity == identity:
                if path != self.path(number):
                    self._set_aside(number, identity)
                    self._move(path, self.path(number))
                return part
        return None

    def write(
        self,
        number: int,
        rows: Sequence[Mapping[str, Any]],
        labels: Sequence[str],
        key: Key,
        identity: str,
        *,
        nlls: bool = False,
        derivatives: bool = False,
    ) -> Path:
        """Write a chunk's rows atomically and durably, with further columns if there are such.

        Raises
        ------
        StoreError
            The disk is full or the folder cannot be written.
        """
        schema = pa.schema(
            [
                ("name", pa.string()),
                *((label, label_type([row[label] for row in rows])) for label in labels),
                *RESULTS.items(),
                *(NLLS.items() if nlls else ()),
                *(DERIVATIVES.items() if derivatives else ()),
                (RETRY, pa.bool_()),
            ]
        )
        table = pa.Table.from_pylist([_of_schema(row, schema) for row in rows], schema=schema)
        metadata = {"key": key.as_json(), "identity": identity, "rows": _digest(table)}
        table = table.replace_schema_metadata({METADATA: json.dumps(metadata).encode()})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self._set_aside(number, identity)
        path = self.path(number)
        write_atomically(path, buffer.getvalue())
        return path

    def end_at(self, count: int) -> None:
        """Set aside the files that an earlier, longer scan left behind."""
        for path in sorted(self.folder.glob("part-*.parquet")):
            number = path.stem.removeprefix("part-")
            if number.isdigit() and int(number) >= count:
                self._set_aside(int(number), "")

    def _aside(self, number: int, identity: str) -> Path:
        return self.folder / _SUPERSEDED / f"part-{number:06d}.{identity[:16]}.parquet"

    def _set_aside(self, number: int, identity: str) -> None:
        old = read(self.path(number))
        if old is not None and old.identity != identity:
            self._move(self.path(number), self._aside(number, old.identity))

    @staticmethod
    def _move(path: Path, to: Path) -> None:
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            path.replace(to)
        except OSError as error:
            raise StoreError(
                f"Cannot move {path.name}: {error.strerror}.",
                remedy="Make the folder writable and run the same command again.",
                file=to,
            ) from error


def read(path: Path) -> Part | None:
    """Read a part; None without a file whose digest holds."""
    try:
        # One file alone: its path says nothing about its content.
        table = pq.ParquetFile(path).read()
        metadata = json.loads(table.schema.metadata[METADATA])
        if metadata["rows"] != _digest(table):
            return None
        key = metadata["key"]
        return Part(table, key["digest"], key["patch"], metadata["identity"])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def label_type(values: Sequence[Any]) -> pa.DataType:
    """Return the type of a label's column."""
    return pa.string() if any(isinstance(value, str) for value in values) else pa.float64()


def _of_schema(row: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """Write labels of columns of texts as text: one point may have a number, another a text."""
    texts = {field.name for field in schema if pa.types.is_string(field.type)}
    return {
        name: str(value) if name in texts and value is not None else value
        for name, value in row.items()
    }


def _digest(table: pa.Table) -> str:
    return json_digest([table.column_names, *(column.to_pylist() for column in table.columns)])
