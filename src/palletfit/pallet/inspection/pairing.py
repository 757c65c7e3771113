"""Pairing of signal patches with workspaces: by digest, else by what applies."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from palletfit.errors import PalletError
from palletfit.pallet.inspection.finding import Document, Points, Workspace
from palletfit.pallet.operations import values_in
from palletfit.pallet.patches import Patch, apply_sharing
from palletfit.pallet.patchset import other_ways, parameter_sizes

_NUMBER = re.compile(r"[0-9]+(?:[p.][0-9]+)?")
#: Workspaces that patches are applied to; of more, those in the patches' folder.
_MOST_WORKSPACES = 50
_DIGITS = "0123456789p"
#: Modifiers of a patch that a workspace must have in common with it, more than another one has.
_CLEARLY = 0.2


@dataclass(frozen=True)
class Patches:
    """Signal patches from one place: a patchset, or files of operations.

    Attributes
    ----------
    name
        Name of the patchset, or a pattern with one ``*``.
    documents
        The patchset, or the files of operations.
    points
        Of the patches.
    template
        For files of operations: names of patches with labels in braces, if they have some.
    """

    name: str
    documents: tuple[Document, ...]
    points: Points
    template: str | None = None

    @property
    def is_patchset(self) -> bool:
        """True for a patchset, false for files of operations."""
        return self.documents[0].kind == "patchset"


@dataclass(frozen=True)
class ModelSizes:
    """Numbers of channels, bins and parameters of a model.

    There is no number of parameters if no patch adds the parameter of interest.
    """

    channels: int
    bins: int
    parameters: int | None


@dataclass(frozen=True)
class Pair:
    """Patches and the workspace that they belong to.

    Attributes
    ----------
    workspace, patches
        Both.
    evidence
        ``digest``; ``digest*`` if numbers are written in another way; or ``applies``.
    model
        Sizes of a model with signal.
    ignored
        True if a digest is missing or wrong, and ignored.
    remarks
        Doubts.
    """

    workspace: Document
    patches: Patches
    evidence: str
    model: ModelSizes
    ignored: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Orphan:
    """File or group of files that belongs to nothing.

    Attributes
    ----------
    name, kind
        Of it.
    reason
        The reason, or a description.
    candidates
        Workspaces that it may belong to, if that is ambiguous.
    """

    name: str
    kind: str
    reason: str
    candidates: tuple[str, ...] = ()


@dataclass
class Pairing:
    """Result of the pairing.

    Attributes
    ----------
    pairs
        In the order of the patches.
    alone
        Workspaces and HS3 documents that no patches belong to.
    orphans
        Everything else that may hold a likelihood.
    remarks
        Copies, and doubts about groups.
    """

    pairs: list[Pair] = field(default_factory=list)
    alone: list[Document] = field(default_factory=list)
    orphans: list[Orphan] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def pair(documents: Sequence[Document], *, any_digest: bool = False) -> Pairing:
    """Pair patches with workspaces.

    Parameters
    ----------
    documents
        All files of a source.
    any_digest
        Take patchsets without a digest, or with a wrong one, by what applies.
    """
    pairing = Pairing()
    counts = Counter(document.name for document in documents)
    unique = _without_copies(documents, pairing)
    fitted = [document for document in unique if document.workspace is not None]
    workspaces = [document for document in fitted if document.kind == "workspace"]
    candidates = _Candidates(workspaces)
    wrong = _Candidates([document for document in unique if document.wrong])
    groups = [
        Patches(document.name, (document,), document.points)
        for document in unique
        if document.kind == "patchset" and document.points is not None
    ]
    operations = [document for document in unique if document.kind == "operations"]
    groups += group_operations(operations, [document.name for document in documents])
    for patches in groups:
        outcome = _pair_one(patches, candidates, wrong, any_digest=any_digest)
        if isinstance(outcome, Pair) and (ambiguous := _ambiguous(outcome, counts)):
            reason = f"several files are called {ambiguous}: no analysis file can name one of them"
            kind = patches.documents[0].kind
            pairing.orphans.append(Orphan(patches.name, kind, reason))
        elif isinstance(outcome, Pair):
            pairing.pairs.append(outcome)
        else:
            pairing.orphans.append(outcome)
    used = {pair.workspace.name for pair in pairing.pairs}
    pairing.alone = [document for document in fitted if document.name not in used]
    pairing.orphans += [
        Orphan(document.name, document.kind, document.remark)
        for document in unique
        if document.kind != "other" and document.workspace is None and document.points is None
    ]
    return pairing


def _ambiguous(pair: Pair, counts: Mapping[str, int]) -> str:
    """Name a file of a pair whose name another file has, too; empty if there is none."""
    names = (pair.workspace.name, *(document.name for document in pair.patches.documents))
    return next((name for name in names if counts[name] > 1), "")


def _without_copies(documents: Sequence[Document], pairing: Pairing) -> list[Document]:
    """Leave out files whose content another file has, and say so."""
    unique: dict[str, Document] = {}
    counts = Counter(document.name for document in documents)
    pairing.remarks += [
        f"{count} files are called {name}: no analysis file can name one of them"
        for name, count in counts.items()
        if count > 1
    ]
    for document in documents:
        key = document.sha256 or document.name
        # Signals may be equal at two points: each file of operations is one.
        if document.kind == "operations":
            key = document.name
        if key in unique:
            pairing.remarks.append(f"{document.name} is a copy of {unique[key].name}")
        else:
            unique[key] = document
    return list(unique.values())


class _Candidates:
    """Workspaces, and their digests as they are needed."""

    def __init__(self, workspaces: Sequence[Document]) -> None:
        self.workspaces = workspaces
        self._content = cache(self._read_content)
        self._digest = cache(self._compute_digest)
        self._alternatives = cache(self._compute_alternatives)

    def with_digests(self, digests: Mapping[str, str]) -> tuple[list[Document], str]:
        """Find the workspaces that a patchset was made for, and the evidence."""
        expected = {algorithm: text.lower() for algorithm, text in digests.items()}
        if not expected:
            return [], "digest"
        numbers = range(len(self.workspaces))
        exact = [
            self.workspaces[number]
            for number in numbers
            if all(self._digest(number, name) == text for name, text in expected.items())
        ]
        if exact:
            return exact, "digest"
        equal = [
            self.workspaces[number]
            for number in numbers
            if all(text in self._alternatives(number, name) for name, text in expected.items())
        ]
        return equal, "digest*"

    def _read_content(self, number: int) -> Any:
        document = self.workspaces[number]
        text = document.wrong if document.workspace is None else document.workspace.text
        return json.loads(zlib.decompress(text))

    def _compute_digest(self, number: int, algorithm: str) -> str:
        import pyhf

        digest: str = pyhf.utils.digest(self._content(number), algorithm=algorithm)
        return digest

    def _compute_alternatives(self, number: int, algorithm: str) -> frozenset[str]:
        texts = other_ways(self._content(number))
        return frozenset(hashlib.new(algorithm, text.encode()).hexdigest() for text in texts)


def _pair_one(
    patches: Patches, candidates: _Candidates, wrong: _Candidates, *, any_digest: bool
) -> Pair | Orphan:
    matches, evidence = candidates.with_digests(patches.points.digests)
    if len(matches) == 1:
        applied = _apply(patches, matches[0], partly=True)
        return Pair(matches[0], patches, evidence, applied.model, remarks=applied.doubts)
    broken, _ = ([], "") if matches else wrong.with_digests(patches.points.digests)
    if broken:
        return Orphan(
            patches.name, "patchset", f"its workspace {broken[0].name} is wrong: {broken[0].remark}"
        )
    by_application = _by_application(patches, matches or candidates.workspaces)
    if isinstance(by_application, Orphan):
        return by_application
    if matches:
        return replace(by_application, evidence=evidence)
    if not patches.is_patchset:
        return by_application
    had = "has a digest of another workspace" if patches.points.digests else "has no digest"
    workspace = by_application.workspace.name
    if not any_digest:
        return Orphan(
            patches.name,
            "patchset",
            f"it {had}; its patches apply to {workspace}, and with --any-digest it is taken so",
            (workspace,),
        )
    remark = f"{patches.name} {had}; it is paired with {workspace}, to which its patches apply"
    return replace(by_application, ignored=True, remarks=(*by_application.remarks, remark))


@dataclass(frozen=True)
class _Applied:
    """Result of applying patches: the model with signal, and the share of modifiers in common.

    `failed` names the patches of each shape that do not apply.
    """

    model: ModelSizes
    kinship: float
    failed: tuple[str, ...] = ()

    @property
    def doubts(self) -> tuple[str, ...]:
        if not self.failed:
            return ()
        return (f"patches such as {self.failed[0]} do not apply to their workspace",)


def _apply(patches: Patches, document: Document, *, partly: bool = False) -> _Applied:
    """Apply a patch of each shape to a workspace; stop at the first one that fails, or go on."""
    workspace = document.workspace
    if workspace is None:
        raise ValueError(f"{document.name} is no workspace")
    model: ModelSizes | None = None
    shares, failed = [], []
    for patch in patches.points.shapes:
        try:
            spec = apply_sharing(workspace.spec, patch)
            sizes = parameter_sizes(spec)
        except (PalletError, KeyError, TypeError, AttributeError, IndexError):
            failed.append(patch.name)
            if not partly:
                break
            continue
        if model is None or (model.parameters is None and workspace.poi in sizes):
            model = _sizes(spec, sum(sizes.values()) if workspace.poi in sizes else None)
        shares.append(_kinship(patch, workspace))
    if model is None:
        model = ModelSizes(len(workspace.channels), workspace.bins, None)
    return _Applied(model, sum(shares) / max(len(shares), 1), tuple(failed))


def _sizes(spec: Mapping[str, Any], parameters: int | None) -> ModelSizes:
    bins = [len(channel["samples"][0]["data"]) for channel in spec["channels"]]
    return ModelSizes(len(bins), sum(bins), parameters)


def _kinship(patch: Patch, workspace: Workspace) -> float:
    """Return the share of a patch's modifiers whose channel in the workspace has them, too."""
    common = total = 0
    for operation in patch.operations:
        match = re.match(r"/channels/([0-9]+)/samples/", str(operation.get("path")))
        value = operation.get("value")
        if match is None or not isinstance(value, dict):
            continue
        channels = workspace.spec["channels"]
        number = int(match[1])
        samples = channels[number]["samples"] if number < len(channels) else []
        present = {(m["type"], m["name"]) for sample in samples for m in sample["modifiers"]}
        added = [(m.get("type"), m.get("name")) for m in value.get("modifiers", [])]
        own_names = [key for key in added if key[1] != workspace.poi]
        total += len(own_names)
        common += sum(key in present for key in own_names)
    return common / total if total else 0.0


def _by_application(patches: Patches, workspaces: Sequence[Document]) -> Pair | Orphan:
    """Find the workspace that patches apply to: the only one, or the most akin or nearest one."""
    kind = "patchset" if patches.is_patchset else "operations"
    if len(workspaces) > _MOST_WORKSPACES:
        nearest = max(_nearness(patches.name, document.name) for document in workspaces)
        workspaces = [
            document for document in workspaces if _nearness(patches.name, document.name) == nearest
        ][:_MOST_WORKSPACES]
    applied = {
        document.name: (document, result)
        for document in workspaces
        if not (result := _apply(patches, document)).failed
    }
    if not applied:
        reason = "there is no workspace" if not workspaces else "it applies to no workspace"
        if kind == "patchset" and patches.points.digests:
            reason += ", and its digest is of none"
        return Orphan(patches.name, kind, reason)
    remaining, remarks = list(applied.values()), []
    if len(remaining) > 1:
        names = ", ".join(applied)
        best = max(result.kinship for _, result in remaining)
        akin = [entry for entry in remaining if entry[1].kinship > best - _CLEARLY]
        depth = max(_nearness(patches.name, document.name) for document, _ in akin)
        near = [entry for entry in akin if _nearness(patches.name, entry[0].name) == depth]
        if len(akin) == 1:
            remarks = [f"{patches.name} applies to {names}; it has the modifiers of the taken one"]
        elif len(near) == 1:
            remarks = [f"{patches.name} applies to {names}; the taken one is in its folder"]
        remaining = near
    if len(remaining) > 1:
        candidates = tuple(document.name for document, _ in remaining)
        reason = f"ambiguous: it applies to {', '.join(candidates)}"
        return Orphan(patches.name, kind, reason, candidates)
    document, result = remaining[0]
    return Pair(document, patches, "applies", result.model, remarks=tuple(remarks))


def _nearness(first: str, second: str) -> int:
    """Count the folders (and archives) that two files have in common."""
    folders = zip(PurePosixPath(first).parts[:-1], PurePosixPath(second).parts[:-1], strict=False)
    count = 0
    for one, other in folders:
        if one != other:
            break
        count += 1
    return count


def group_operations(documents: Sequence[Document], names: Sequence[str]) -> list[Patches]:
    """Group files of operations, each of which is a signal point.

    Files of one folder whose names differ in numbers only are a group. All others of a folder are
    one, too, and so are files of one name in neighbouring folders.

    Parameters
    ----------
    documents
        The files.
    names
        Names of all files: a pattern of a group matches no other one.
    """
    by_template: dict[tuple[str, str], list[Document]] = {}
    for document in documents:
        path = PurePosixPath(document.name)
        key = str(path.parent), _NUMBER.sub("#", path.name)
        by_template.setdefault(key, []).append(document)
    by_name: dict[tuple[str, str], list[Document]] = {}
    groups: list[list[Document]] = []
    for (folder, template), members in by_template.items():
        if len(members) > 1:
            groups.append(members)
        else:
            above = str(PurePosixPath(folder).parent)
            by_name.setdefault((above, template), []).append(members[0])
    rest: dict[str, list[Document]] = {}
    for members in by_name.values():
        if len(members) > 1:
            groups.append(members)
        else:
            folder = str(PurePosixPath(members[0].name).parent)
            rest.setdefault(folder, []).append(members[0])
    groups += rest.values()
    return [_group(members, names) for members in groups]


def _group(members: Sequence[Document], names: Sequence[str]) -> Patches:
    """Make the points of a group of files of operations, from their names."""
    files = [document.name for document in members]
    pattern = _pattern(files, names)
    before, _, after = pattern.partition("*")
    patches = [name[len(before) : len(name) - len(after)] for name in files]
    template, labels, values = _read_values(patches)
    shapes: dict[Any, Patch] = {}
    for document in members:
        for patch in document.points.shapes if document.points is not None else ():
            shapes.setdefault(json.dumps(patch.operations, sort_keys=True), patch)
    points = Points(labels, tuple(patches), values, {}, tuple(shapes.values())[:50])
    return Patches(pattern, tuple(members), points, template)


def _pattern(files: Sequence[str], names: Sequence[str]) -> str:
    """Write a pattern with one star that matches the files, and no other one if possible."""
    if len(files) == 1:
        stem, end = files[0][: files[0].rfind(".")], files[0][files[0].rfind(".") :]
        starts = [*(stem[: cut.end()] for cut in re.finditer(r"^|[/.]", stem)), stem[:-1]]
        patterns = [f"{start}*{end}" for start in starts]
    else:
        start = _common_start(files)
        end = _common_start([name[::-1] for name in files])[::-1]
        # The star stands for whole words: from a slash or dot to another, else for numbers.
        from_word = start[: max(start.rfind("/"), start.rfind(".")) + 1]
        cuts = [end.find(character) for character in "./" if character in end]
        to_word = end[min(cuts) :] if cuts else ""
        patterns = [f"{from_word}*{to_word}", f"{start.rstrip(_DIGITS)}*{end.lstrip(_DIGITS)}"]
    further = set(names) - set(files)
    for pattern in patterns:
        before, _, after = pattern.partition("*")
        if not any(name.startswith(before) and name.endswith(after) for name in further):
            return pattern
    return patterns[-1]


def _common_start(texts: Sequence[str]) -> str:
    """Return the longest common beginning, which leaves something of each text."""
    shortest = min(texts, key=len)
    length = 0
    while length < len(shortest) - 1 and len({text[: length + 1] for text in texts}) == 1:
        length += 1
    return shortest[:length]


def _read_values(
    patches: Sequence[str],
) -> tuple[str | None, tuple[str, ...], tuple[tuple[float | str, ...], ...]]:
    """Read numbers that vary from the names of patches; labels are made up where names have none.

    Returns
    -------
    tuple
        The template, the labels, and the values of each patch; None and nothing if the names
        differ in more than numbers.
    """
    different = len({_NUMBER.sub("#", name) for name in patches}) > 1
    if different or any("{" in name or "}" in name for name in patches):
        return None, (), tuple(() for _ in patches)
    columns = list(zip(*(_NUMBER.findall(name) for name in patches), strict=True))
    varying = [number for number, column in enumerate(columns) if len(set(column)) > 1]
    if not varying:
        return None, (), tuple(() for _ in patches)
    pieces = _NUMBER.split(patches[0])
    labels = _labels([pieces[number] for number in varying])
    template = pieces[0]
    for number, column in enumerate(columns):
        text = f"{{{labels[varying.index(number)]}}}" if number in varying else column[0]
        template += text + pieces[number + 1]
    values = [values_in(name, template) for name in patches]
    return template, labels, tuple(() if value is None else value for value in values)


def _labels(before: Sequence[str]) -> tuple[str, ...]:
    """Name values by the letters before them, as in ``mst100_mn50``; else m1, m2 and so on."""
    letters = [re.search(r"(?:^|[^A-Za-z])(m[A-Za-z]+)$", text) for text in before]
    names = [match[1] for match in letters if match is not None]
    if len(set(names)) == len(before):
        return tuple(names)
    return tuple(f"m{number}" for number in range(1, len(before) + 1))
