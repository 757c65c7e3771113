"""Patchsets that are made of something else: files of operations, or a patchset of another shape.

Older records, and tools for reinterpretation, have one file of JSON-patch operations for each
signal point. Its name is all that says which point it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palletfit.config import Region
from palletfit.errors import PalletError
from palletfit.pallet.files import read_pallet_json

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_DECIMAL = re.compile(r"(-?[0-9]{1,15})[p.]([0-9]{1,15})")


def parse_value(text: str) -> float | str:
    """Read a value in a name: an integer, a decimal number (``100p5`` or ``100.5``), or a text."""
    if _INTEGER.fullmatch(text):
        return int(text)
    decimal = _DECIMAL.fullmatch(text)
    return text if decimal is None else float(f"{decimal[1]}.{decimal[2]}")


def labels_in(template: str) -> list[str]:
    """List the labels in braces of a template such as ``sbottom_{msb}_{mn1}``."""
    return _PLACEHOLDER.findall(template)


def values_in(name: str, template: str) -> tuple[float | str, ...] | None:
    """Read the values of a point from its name, or return None if the template does not match.

    A value ends where the text after it in the template begins for the first time.
    """
    start, *pieces = _PLACEHOLDER.split(template)
    if not name.startswith(start):
        return None
    values: list[float | str] = []
    position = len(start)
    texts = pieces[1::2]
    for number, text in enumerate(texts, start=1):
        if number == len(texts):
            end = len(name) - len(text) if name.endswith(text) else -1
        else:
            end = name.find(text, position + 1) if text else position + 1
        if end <= position:
            return None
        values.append(parse_value(name[position:end]))
        position = end + len(text)
    return tuple(values)


def is_operations(content: Any) -> bool:
    """Return whether the content of a file is a list of JSON-patch operations."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(entry, dict) and {"op", "path"} <= entry.keys() for entry in content)
    )


def patchset_of(files: Mapping[str, Path], region: Region) -> dict[str, Any]:
    """Make the content of a patchset of files of operations, without a digest.

    Parameters
    ----------
    files
        A file for each patch, by the name of the patch.
    region
        Says how values are read from names.

    Raises
    ------
    PalletError
        A file holds no operations, or its name does not match the template.
    """
    template = region.values
    patches = []
    for name, path in files.items():
        values: Sequence[float | str] | None = () if template is None else values_in(name, template)
        if values is None:
            raise PalletError(
                f"The name of the patch does not match {template!r}.",
                remedy="Correct `values` or `operations` of the region in the analysis file.",
                file=path,
                patch=name,
            )
        operations = read_pallet_json(path)
        if not is_operations(operations):
            raise PalletError(
                "The file is not a list of JSON-patch operations.",
                remedy="Correct `operations` of the region in the analysis file, so that it "
                "matches files of operations only.",
                file=path,
                patch=name,
            )
        patches.append(_patch(name, values, operations))
    labels = [] if template is None else labels_in(template)
    return patchset(f"Made of {len(files)} files of operations", labels, patches)


def patchset_of_one(name: str, label: str) -> dict[str, Any]:
    """Make the content of a patchset of one point without operations, without a digest.

    Parameters
    ----------
    name
        Name of the point, and the value of its label.
    label
        The label.
    """
    return patchset("A complete workspace", [label], [_patch(name, [name], [])])


def _patch(name: str, values: Sequence[float | str], operations: Sequence[Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "values": list(values)}, "patch": list(operations)}


def patchset(
    description: str, labels: Sequence[str], patches: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Make the content of a patchset of its entries, without a digest.

    Parameters
    ----------
    description
        Words on where the patches come from.
    labels
        Names of the values of each patch.
    patches
        Entries: each has ``metadata`` with ``name`` and ``values``, and the operations ``patch``.
    """
    return {
        "version": "1.0.0",
        "metadata": {
            "description": description,
            "labels": list(labels),
            # The schema asks for a record; the files name none.
            "references": {"hepdata": "ins0000000"},
        },
        "patches": list(patches),
    }


def named(spec: dict[str, Any], label: str) -> dict[str, Any]:
    """Add the name of each patch to its values, under a further label.

    Content that is no patchset stays as it is: its check says so.
    """
    try:
        patches = [
            {
                **entry,
                "metadata": {
                    **entry["metadata"],
                    "values": [*entry["metadata"]["values"], entry["metadata"]["name"]],
                },
            }
            for entry in spec["patches"]
        ]
        labels = [*spec["metadata"]["labels"], label]
        return {**spec, "metadata": {**spec["metadata"], "labels": labels}, "patches": patches}
    except (KeyError, TypeError):
        return spec


def with_digest(
    spec: dict[str, Any], workspace: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Replace the digests of a patchset by that of a workspace, and say what was ignored.

    Returns
    -------
    tuple
        The content, and a remark; none if the digests were right.
    """
    import pyhf

    metadata = spec.get("metadata") if isinstance(spec, dict) else None
    if not isinstance(metadata, dict):
        return spec, None  # no patchset: its check says so
    digests = metadata.get("digests")
    digest = pyhf.utils.digest(workspace)
    if isinstance(digests, dict) and digests.get("sha256") == digest:
        return spec, None
    had = "another digest" if digests else "no digest"
    remark = f"the patchset has {had} of its workspace, which the analysis file ignores"
    return {**spec, "metadata": {**metadata, "digests": {"sha256": digest}}}, remark
