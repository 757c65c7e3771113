"""Limits of the content of pallets, which comes from elsewhere and is not trusted.

Each limit is far above what published likelihoods need, and so low that a computer reaches it in
seconds. `docs/analyses.md` states them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonpointer

from palletfit.errors import PalletError

#: Levels of lists and objects; a patchset whose patches add channels has 12.
DEPTH = 100
#: Memory for the content of one file, in bytes, estimated before the file is parsed.
CONTENT_BYTES = 2 * 1024**3
#: Memory of the decompressor of an xz file, whose header asks for up to 4 GB; `xz -9` needs 65 MiB.
#: The other formats need less than 8 MiB.
XZ_BYTES = 256 * 1024**2
#: Operations of one patch.
OPERATIONS = 10_000
#: Values that the operations of one patch may add, copy, move and compare, all together. A list or
#: object counts as five: it takes so much longer to copy than a number.
PATCH_VALUES = 2_000_000

#: Memory for building pyhf's model of one patch, in bytes, as :class:`ModelSize` estimates it.
MODEL_BYTES = 4 * 1024**3

_CONTAINER_VALUES = 5
#: Bytes that CPython takes at most for a small object, and for any other value in a list.
_OBJECT_BYTES, _VALUE_BYTES = 240, 72
#: Characters of other texts that an error quotes.
_QUOTED = 1000


def content_bytes(text: bytes) -> int:
    """Estimate the memory that parsing a JSON text takes.

    Text and content are in memory together, and one character beyond ASCII makes the decoded text
    four times as large. Every value but the first of its list or object follows a comma.
    """
    copies = 3 if text.isascii() else 6
    values = text.count(b"[") + text.count(b",")
    return len(text) * copies + values * _VALUE_BYTES + text.count(b"{") * _OBJECT_BYTES


def check_depth(content: Any, path: Path) -> int:
    """Check that the content of a workspace or patchset nests no deeper than :data:`DEPTH`.

    Returns
    -------
    int
        Number of keys of all of its objects.

    Raises
    ------
    PalletError
        Names the file, and the patch where it is one.
    """
    depth, keys = _depth_and_keys(content)
    if depth <= DEPTH:
        return keys
    entries = content.get("patches") if isinstance(content, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and _depth_and_keys(entry.get("patch"))[0] + 3 > DEPTH:
            metadata = entry.get("metadata")
            name = metadata.get("name") if isinstance(metadata, dict) else None
            raise PalletError(
                f"The patch nests too deeply: more than {DEPTH} levels of lists and objects.",
                remedy="Correct or remove its operations; a workspace needs fewer than 12 levels.",
                file=path,
                patch=name if isinstance(name, str) else None,
            )
    raise PalletError(
        f"The file nests too deeply for a workspace or patchset: more than {DEPTH} levels of "
        "lists and objects.",
        remedy="Check which file of the archive the analysis names.",
        file=path,
    )


def nesting(content: Any) -> int:
    """Count the levels of lists and objects of a JSON value; stop above :data:`DEPTH`."""
    return _depth_and_keys(content)[0]


def _depth_and_keys(content: Any) -> tuple[int, int]:
    """Count the levels of lists and objects, and keys; a number has none. Stop above the limit."""
    depth, keys = 0, 0
    level = [content] if isinstance(content, (dict, list)) else []
    while level and depth <= DEPTH:
        depth += 1
        keys += sum(len(container) for container in level if isinstance(container, dict))
        level = [
            member
            for container in level
            for member in (container.values() if isinstance(container, dict) else container)
            if isinstance(member, (dict, list))
        ]
    return depth, keys


def _measure(content: Any, limit: int) -> tuple[int, int]:
    """Count the values and the levels of a JSON value; stop above `limit` values or the depth."""
    values, depth, level = 1, 0, [content]
    while values <= limit and depth <= DEPTH:
        containers = [member for member in level if isinstance(member, (dict, list))]
        if not containers:
            break
        values += sum(map(len, containers)) + (_CONTAINER_VALUES - 1) * len(containers)
        depth += 1
        if values <= limit:
            level = [
                member
                for container in containers
                for member in (container.values() if isinstance(container, dict) else container)
            ]
    return values, depth


class PatchLimitError(PalletError):
    """A patch is beyond a limit; applying it up to there took seconds."""


class PatchWork:
    """Counts what the operations of one patch add, copy, move and compare.

    An operation can copy a value into itself, so that few operations make a workspace of any size.
    Therefore each one is charged before it is applied. The sum bounds the size of the workspace
    after each operation, and the time that they take.

    Parameters
    ----------
    patch
        Name of the patch.
    """

    def __init__(self, patch: str) -> None:
        self.patch = patch
        self._operations = self._values = 0

    def charge_operation(self) -> None:
        """Count an operation alone, which copies nothing.

        Raises
        ------
        PatchLimitError
            The patch has too many operations.
        """
        self._operations += 1
        if self._operations > OPERATIONS:
            raise self._refusal(f"has more than {OPERATIONS} operations")

    def charge(self, spec: Any, operation: Mapping[str, Any]) -> None:
        """Count the values of an operation that is about to be applied to a workspace.

        Raises
        ------
        PatchLimitError
            The operations of the patch move too many values, or nest too deeply.
        """
        path = operation.get("path")
        above = path.count("/") if isinstance(path, str) else 0
        if operation.get("op") in ("copy", "move"):
            depth = self.charge_value(_source(spec, operation.get("from")))
        else:
            depth = self.charge_value(operation.get("value"))
        if depth and above + depth > DEPTH:
            raise self._refusal(f"nests more than {DEPTH} levels of lists and objects")

    def charge_value(self, value: Any) -> int:
        """Count the values of a JSON value, and return its levels of lists and objects.

        Raises
        ------
        PatchLimitError
            The operations of the patch move too many values.
        """
        values, depth = _measure(value, PATCH_VALUES - self._values)
        self._values += values
        if self._values > PATCH_VALUES:
            raise self._refusal(f"adds, copies or moves more than {PATCH_VALUES} values")
        return depth

    def _refusal(self, excess: str) -> PatchLimitError:
        return PatchLimitError(
            f"The patch {excess}.",
            remedy="Correct its operations: a signal needs a few, with some thousands of values.",
            patch=self.patch,
        )


def _source(spec: Any, pointer: Any) -> Any:
    """Get the value that an operation copies or moves; None where there is none."""
    try:
        return jsonpointer.JsonPointer(pointer).resolve(spec, None)
    except (jsonpointer.JsonPointerException, TypeError, AttributeError, KeyError, IndexError):
        return None  # applying the operation fails, with a better message


def quoted(text: str) -> str:
    """Shorten a message of a library, which may hold the content of a whole file."""
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]} [...]"


@dataclass(frozen=True)
class ModelSize:
    """Lengths of the axes of pyhf's model of a workspace.

    pyhf combines every bin with every name of a sample and every modifier of the whole workspace,
    present there or not. So its model grows with the product of these numbers.
    """

    channels: int
    bins: int
    samples: int
    modifiers: int

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> ModelSize:
        """Count channels, bins, names of samples and modifiers of a workspace.

        Raises
        ------
        KeyError, TypeError, IndexError
            The workspace has another shape than pyhf's schema says.
        """
        samples = [sample for channel in spec["channels"] for sample in channel["samples"]]
        return cls(
            channels=len(spec["channels"]),
            bins=sum(len(channel["samples"][0]["data"]) for channel in spec["channels"]),
            samples=len({sample["name"] for sample in samples}),
            modifiers=len(
                {
                    (modifier["type"], modifier["name"])
                    for sample in samples
                    for modifier in sample["modifiers"]
                }
            ),
        )

    @property
    def memory(self) -> int:
        """Memory that building the model takes, in bytes, within a factor of about two."""
        return self.samples * self.modifiers * (1300 + 100 * self.bins)

    @property
    def work(self) -> int:
        """Time to build the model, in units of about two microseconds."""
        pairs = self.samples * self.modifiers
        return pairs * (16 * self.channels + self.bins) + self.modifiers**2 // 50
