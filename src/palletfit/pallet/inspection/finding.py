"""Recognition of files by their content, and the part of it that pairing and proposals need."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from palletfit.errors import PalletError
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.hs3 import read_hs3
from palletfit.pallet.inspection.sources import File
from palletfit.pallet.operations import is_operations, named
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import check_patchset, check_workspace, parameter_sizes

#: Label under which names of patches become values.
NAME_LABEL = "signal"
#: Shapes of patches that are compared with workspaces; a patchset has one or a few.
_SHAPES = 50

_ROOT_HEAD = b"root"
_DATACARD = re.compile(rb"^\s*[ijk]max\s", re.MULTILINE)
_XML_OF_HISTFACTORY = re.compile(rb"<!DOCTYPE\s+(Combination|Channel)|<(Combination|Channel)\s")

#: Descriptions of formats that other programs convert.
_FOREIGN = {
    "ROOT file": "a ROOT file. With the XML files of HistFactory, `pyhf xml2json` converts its "
    "histograms. A RooFit workspace in it is written as HS3 by ROOT's RooJSONFactoryWSTool.",
    "HistFactory XML": "an XML file of HistFactory. `pyhf xml2json` converts it, together with "
    "its ROOT files.",
    "datacard": "a datacard of Combine. Combine's text2workspace.py makes a RooFit workspace of "
    "it, which ROOT's RooJSONFactoryWSTool writes as HS3 as far as it can.",
}


@dataclass(frozen=True)
class Workspace:
    """A workspace, as far as pairing needs it.

    Attributes
    ----------
    spec
        Its content, without the numbers of its modifiers.
    text
        Its full content, compressed; empty for that of an HS3 document, whose digest no patchset
        has.
    version
        Version of the schema.
    """

    spec: Mapping[str, Any]
    text: bytes
    version: str

    @property
    def channels(self) -> list[str]:
        """Names of the channels, in order."""
        return [channel["name"] for channel in self.spec["channels"]]

    @property
    def bins(self) -> int:
        """Number of bins of all channels."""
        return sum(len(entry["data"]) for entry in self.spec["observations"])

    @property
    def poi(self) -> str:
        """Parameter of interest of the first measurement; it may be empty."""
        return str(self.spec["measurements"][0]["config"]["poi"])

    @property
    def pois(self) -> list[str]:
        """Parameters of interest of all measurements, the first one first."""
        measured = (entry["config"]["poi"] for entry in self.spec["measurements"])
        return list(dict.fromkeys(poi for poi in measured if poi))

    @property
    def question(self) -> tuple[str | None, str | None]:
        """Measurement and parameter of interest that an analysis has to name.

        The first measurement whose parameter of interest scales a sample is taken. None is what a
        region without these keys has. Without such a measurement the parameter is an empty text,
        unless the first measurement names none.
        """
        measurements = self.spec["measurements"]
        for number, entry in enumerate(measurements):
            if entry["config"]["poi"] in self.parameters:
                return (str(entry["name"]) if number else None), None
        return None, "" if self.poi else None

    @property
    def has_signal(self) -> bool:
        """True if a sample carries the parameter of interest of a measurement."""
        return any(poi in self.parameters for poi in self.pois)

    @property
    def parameters(self) -> dict[str, int]:
        """Number of components of each parameter."""
        return parameter_sizes(self.spec)


@dataclass(frozen=True)
class Points:
    """Signal points, as far as pairing and proposals need them.

    Attributes
    ----------
    labels
        Names of the values.
    names
        Names of the patches, in order.
    values
        Of each patch.
    digests
        Those of the workspace, by algorithm; empty if the patchset has none.
    shapes
        A patch of each shape: all that differ in where they add, remove and replace what.
    metadata
        That of the patchset.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    values: tuple[tuple[float | str, ...], ...]
    digests: Mapping[str, str]
    shapes: tuple[Patch, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def are_distinct(self) -> bool:
        """True if no two points have the same values, and each has one."""
        return bool(self.labels) and len(set(self.values)) == len(self.values)


@dataclass(frozen=True)
class Document:
    """A file of a source, and its kind.

    Attributes
    ----------
    name
        Its name in the source.
    kind
        ``workspace``, ``patchset``, ``operations``, ``HS3``, ``JSON``, ``damaged``, ``other``, or
        a format that other programs convert.
    sha256
        Digest of the content of a JSON file.
    remark
        Its description, or the reason for which it cannot be used.
    workspace, points
        Its content, if it is of that kind and in order.
    wrong
        Compressed content of a workspace that is not in order.
    archive
        Name of the archive within the source that it is in, if there is one.
    """

    name: str
    kind: str
    sha256: str = ""
    remark: str = ""
    workspace: Workspace | None = None
    points: Points | None = None
    wrong: bytes = b""
    archive: str = ""


def recognise(file: File) -> Document:
    """Recognise a file by its content."""
    return replace(_recognise(file), archive=file.archive)


def _recognise(file: File) -> Document:
    if file.problem:
        return Document(file.name, "damaged", remark=file.problem)
    if file.path is None:
        kind = _foreign_kind(file.head)
        return Document(file.name, kind, remark=_FOREIGN.get(kind, ""))
    try:
        content = read_pallet_json(file.path)
    except PalletError as error:
        return Document(file.name, "damaged", file.sha256, error.problem)
    return _recognise_json(file, content)


def _foreign_kind(head: bytes) -> str:
    if head.startswith(_ROOT_HEAD):
        return "ROOT file"
    if _XML_OF_HISTFACTORY.search(head):
        return "HistFactory XML"
    return "datacard" if _DATACARD.search(head) and b"\x00" not in head else "other"


def _recognise_json(file: File, content: Any) -> Document:
    if is_operations(content):
        points = Points((), (file.name,), ((),), {}, _shapes([Patch("", (), content)]))
        return Document(file.name, "operations", file.sha256, points=points)
    if not isinstance(content, dict):
        return Document(file.name, "JSON", file.sha256, "a JSON list of something else")
    metadata = content.get("metadata")
    if isinstance(metadata, dict) and "hs3_version" in metadata:
        return _hs3(file, content)
    if isinstance(content.get("patches"), list) and isinstance(metadata, dict):
        return _patchset(file, content)
    if "channels" in content and {"measurements", "observations"} & content.keys():
        return _workspace(file, content)
    if isinstance(content.get("channels"), list):
        return Document(
            file.name, "JSON", file.sha256, "channels without observations and measurements"
        )
    return Document(file.name, "JSON", file.sha256, "a JSON object of something else")


def _hs3(file: File, content: dict[str, Any]) -> Document:
    """Read an HS3 document as the workspace that the workflow makes of it."""
    distributions = content.get("distributions")
    count = len(distributions) if isinstance(distributions, list) else 0
    description = f"HS3 {content['metadata']['hs3_version']} with {count} distributions"
    try:
        spec = read_hs3(content)
        check_workspace(spec, file.path or file.name)  # type: ignore[arg-type]
    except PalletError as error:
        return Document(file.name, "HS3", file.sha256, f"{description}: {error.problem}")
    workspace = Workspace(_without_numbers(spec), b"", str(spec["version"]))
    return Document(file.name, "HS3", file.sha256, description, workspace=workspace)


def _workspace(file: File, content: dict[str, Any]) -> Document:
    text = zlib.compress(file.path.read_bytes(), 1) if file.path is not None else b""
    try:
        check_workspace(content, file.path or file.name)  # type: ignore[arg-type]
    except PalletError as error:
        return Document(file.name, "workspace", file.sha256, error.problem, wrong=text)
    workspace = Workspace(_without_numbers(content), text, str(content["version"]))
    return Document(file.name, "workspace", file.sha256, workspace=workspace)


def _without_numbers(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a workspace without the numbers of its modifiers."""
    channels = [
        {**channel, "samples": [_reduced(sample) for sample in channel["samples"]]}
        for channel in spec["channels"]
    ]
    return {**spec, "channels": channels}


def _reduced(value: Any) -> Any:
    """Copy a sample without the numbers of its modifiers; other values stay as they are."""
    modifiers = value.get("modifiers") if isinstance(value, dict) else None
    if not isinstance(modifiers, list):
        return value
    reduced = [
        {**modifier, "data": None} if isinstance(modifier, dict) else modifier
        for modifier in modifiers
    ]
    return {**value, "modifiers": reduced}


def _patchset(file: File, content: dict[str, Any]) -> Document:
    digests = content["metadata"].get("digests")
    spec = content
    if not digests:
        # A digest that is missing is no fault of anything else: pairing says so.
        spec = {**content, "metadata": {**content["metadata"], "digests": {"sha256": "0" * 64}}}
    if _has_equal_values(spec):
        spec = named(spec, name_label(spec["metadata"].get("labels")))
    try:
        patchset = check_patchset(spec, None, file.path or file.name)  # type: ignore[arg-type]
    except PalletError as error:
        problem = error.problem if error.patch is None else f"{error.problem} ({error.patch})"
        return Document(file.name, "patchset", file.sha256, problem)
    count = len(content["metadata"]["labels"])
    points = Points(
        labels=patchset.labels[:count],
        names=tuple(patch.name for patch in patchset.patches),
        values=tuple(patch.values[:count] for patch in patchset.patches),
        digests=dict(digests or {}),
        shapes=_shapes(patchset.patches),
        metadata=content["metadata"],
    )
    return Document(file.name, "patchset", file.sha256, points=points)


def name_label(labels: Any) -> str:
    """Choose the label for names of patches, which differs from all other labels."""
    present = labels if isinstance(labels, (list, tuple)) else ()
    label = NAME_LABEL
    while label in present:
        label += "_"
    return label


def _has_equal_values(spec: Mapping[str, Any]) -> bool:
    try:
        values = [tuple(entry["metadata"]["values"]) for entry in spec["patches"]]
        return len(set(values)) < len(values)
    except (KeyError, TypeError):
        return False


def _shapes(patches: Sequence[Patch]) -> tuple[Patch, ...]:
    """Take a patch of each shape, without the numbers of its modifiers."""
    shapes: dict[tuple[Any, ...], Patch] = {}
    for patch in patches:
        shape = tuple(_shape(patch.operations))
        if shape not in shapes and len(shapes) < _SHAPES:
            operations = [
                {**operation, "value": _reduced(operation["value"])}
                if isinstance(operation, dict) and "value" in operation
                else operation
                for operation in patch.operations
            ]
            shapes[shape] = Patch(patch.name, patch.values, operations)
    return tuple(shapes.values())


def _shape(operations: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    for operation in operations:
        if not isinstance(operation, dict):
            continue
        value = operation.get("value")
        data = value.get("data") if isinstance(value, dict) else None
        size = len(data) if isinstance(data, list) else -1
        keys = (operation.get(key) for key in ("op", "path", "from"))
        yield (*map(str, keys), size)
