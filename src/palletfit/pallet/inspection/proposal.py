"""Proposals of analyses: their regions, labels, planes and titles."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from palletfit.config import RESULT_COLUMNS, Analysis, parse
from palletfit.errors import ConfigError
from palletfit.pallet.inspection import planes
from palletfit.pallet.inspection.finding import Document, Workspace, name_label
from palletfit.pallet.inspection.pairing import Pair
from palletfit.pallet.inspection.sources import Source, plain_name

#: Words of file names that do not tell one region from another.
_WORDS = re.compile(
    r"(?<![A-Za-z])(bkg|background|only|bkgonly|backgroundonly|patch|patches|patchset|patchsets"
    r"|signal|signals|hepdata|workspace|workspaces|likelihood|likelihoods|json|tar|tgz|gz|zip|xz|bz2)"
    r"(?![A-Za-z])",
    re.IGNORECASE,
)
#: So many measurements are named in a remark.
_NAMED = 8
_OPENING = re.compile(r"^(signal )?(patch ?sets? )?(for )?(the )?", re.IGNORECASE)


@dataclass(frozen=True)
class Proposal:
    """Analysis that is proposed for some pairs.

    Attributes
    ----------
    name
        Name of the analysis.
    data
        Content of the analysis file, but `name`.
    pairs
        The pair of each region; none of complete workspaces.
    complete
        The complete workspace of each region; none of pairs.
    planes
        The planes.
    remarks
        What is guessed, and what to look at.
    problem
        Reason for which the workflow cannot run it, if there is one.
    """

    name: str
    data: dict[str, Any]
    pairs: Mapping[str, Pair]
    planes: Sequence[planes.ProposedPlane]
    remarks: tuple[str, ...]
    problem: str | None = None
    complete: Mapping[str, Document] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """Labels of the points; none of complete workspaces."""
        return list(self.data.get("labels", ()))


def propose(
    source: Source,
    documents: Sequence[Document],
    pairs: Sequence[Pair],
    alone: Sequence[Document] = (),
) -> tuple[list[Proposal], list[str]]:
    """Propose an analysis for each signal model, and one of all complete workspaces.

    Pairs are regions of one analysis if they have the same labels and points, by name and value.
    A workspace without a signal is a region of its own only where there are no patches at all:
    the fit of its background.

    Parameters
    ----------
    source
        The source.
    documents
        All of its files.
    pairs, alone
        From :func:`palletfit.pallet.inspection.pairing.pair`.

    Returns
    -------
    tuple
        The analyses, and remarks on their number.
    """
    groups, remarks = _grouped(pairs)
    top = _only_folder(source, documents)
    proposals = []
    for group, label in zip(groups, _group_names(groups, top), strict=True):
        name = plain_name(f"{source.name}-{label}") if label else source.name
        regions = _region_names(group, top)
        if len(group) == 1:
            regions = [label or source.name]
        pairs_of = dict(zip(regions, group, strict=True))
        proposals.append(_propose_one(name, source, pairs_of, top))
    counts = Counter(document.name for document in documents)
    no_patches = not any(entry.kind in ("patchset", "operations") for entry in documents)
    complete = [
        document
        for document in alone
        if counts[document.name] == 1 and (no_patches or _has_signal(document))
    ]
    if complete:
        names = _distinct([document.name.removeprefix(top) for document in complete])
        regions = _unique(names) if len(complete) > 1 else [source.name]
        name = plain_name(f"{source.name}-complete") if pairs else source.name
        of_region = dict(zip(regions, complete, strict=True))
        proposals.append(_propose_complete(name, source, of_region, top))
    return proposals, remarks


def _has_signal(document: Document) -> bool:
    return document.workspace is not None and document.workspace.has_signal


def _unique(names: Sequence[str]) -> list[str]:
    """Name regions by words of their files; those without words by a number."""
    unique: list[str] = []
    for name in names:
        usable = name.strip("_") and name not in unique
        unique.append(name if usable else _numbered([*names, *unique], len(unique) + 1))
    return unique


def _numbered(names: Sequence[str], first: int) -> str:
    """Give a name with a number, counted from the first one, that is not among others."""
    return next(f"region{n}" for n in itertools.count(first) if f"region{n}" not in names)


def _grouped(pairs: Sequence[Pair]) -> tuple[list[list[Pair]], list[str]]:
    """Put pairs with the same labels and points together; say where only some points agree."""
    groups: list[list[Pair]] = []
    remarks: list[str] = []
    for pair in pairs:
        points = _points(pair)
        home: list[Pair] | None = None
        for group in groups:
            other = _points(group[0])
            if pair.patches.points.labels != group[0].patches.points.labels:
                continue
            common = len(points & other)
            if 2 * common >= min(len(points), len(other)):
                home = group
                break
            values = {value for _, value in points} & {value for _, value in other}
            if common or (values and values != {()}):
                remarks.append(
                    f"{pair.patches.name} and {group[0].patches.name} share points in part, or "
                    "under other names: they are kept apart. If they are regions of one search "
                    "for the same signal, put their regions into one file"
                )
        if home is None:
            groups.append([pair])
        else:
            home.append(pair)
    return groups, remarks


def _points(pair: Pair) -> set[tuple[str, tuple[float | str, ...]]]:
    points = pair.patches.points
    return set(zip(points.names, points.values, strict=True))


def _only_folder(source: Source, documents: Sequence[Document]) -> str:
    """Return the folder that an archive's files are all in, which names need not have."""
    tops = {PurePosixPath(document.name).parts[0] for document in documents}
    # An archive within the source is named as a folder is, but its name is needed.
    in_folders = all("/" in (document.archive or document.name) for document in documents)
    return f"{tops.pop()}/" if len(tops) == 1 and in_folders and not source.path.is_dir() else ""


def _group_names(groups: Sequence[Sequence[Pair]], top: str) -> list[str]:
    """Name groups by what the names of their patches have in common; one has no name."""
    if len(groups) <= 1:
        return [""] * len(groups)
    firsts = _region_names([group[0] for group in groups], top)
    names: list[str] = []
    for group, first in zip(groups, firsts, strict=True):
        words = [_words(pair.patches.name.removeprefix(top)) for pair in group]
        common = [entry[0] for entry in zip(*words, strict=False) if len(set(entry)) == 1]
        name = plain_name("_".join(common)) if common and len(group) > 1 else first
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names


def _region_names(pairs: Sequence[Pair], top: str) -> list[str]:
    """Name regions by what their files' names have and others have not."""
    workspaces = _distinct([pair.workspace.name.removeprefix(top) for pair in pairs])
    patches = _distinct([pair.patches.name.removeprefix(top) for pair in pairs])
    names: list[str] = []
    for first, second in zip(workspaces, patches, strict=True):
        candidates = [text for text in (second, first, f"{first}_{second}") if text.strip("_")]
        unused = [text for text in candidates if text not in names]
        taken_names = [*workspaces, *patches, *names]
        names.append(unused[0] if unused else _numbered(taken_names, len(names) + 1))
    return names


def _distinct(names: Sequence[str]) -> list[str]:
    """Reduce file names to words that tell them apart; empty where nothing does."""
    words = [_words(name) for name in names]
    if len(set(names)) == 1:
        return [""] * len(names)
    while len({tuple(entry[:1]) for entry in words}) == 1 and all(words):
        words = [entry[1:] for entry in words]
    while len({tuple(entry[-1:]) for entry in words}) == 1 and all(words):
        words = [entry[:-1] for entry in words]
    texts = [re.sub(r"^region[-_. ]+(?=..)", "", "_".join(e), flags=re.IGNORECASE) for e in words]
    return [plain_name(text) if text else "" for text in texts]


def _words(name: str) -> list[str]:
    parts = [_WORDS.sub("", part).strip("-_.* ") for part in PurePosixPath(name).parts]
    words = [re.sub(r"([-_.])[-_.]+", r"\1", part) for part in parts if part]
    # An archive is often called like the folder in it.
    return [word for number, word in enumerate(words) if words[number - 1 : number] != [word]]


def _propose_one(name: str, source: Source, pairs: dict[str, Pair], top: str) -> Proposal:
    points = [pair.patches.points for pair in pairs.values()]
    longest = max(points, key=lambda entry: len(entry.names))
    labels = list(longest.labels)
    remarks: list[str] = []
    by_name = None
    if not all(entry.are_distinct for entry in points):
        by_name = name_label(labels)
        remarks.append(
            f"values do not tell the points apart: their names are values of the label {by_name}"
        )
    values = list(dict.fromkeys(row for entry in points for row in entry.values))
    proposed, plane_remarks = planes.propose(labels, values) if labels else ([], [])
    remarks += plane_remarks
    data = {
        "title": _title(longest.metadata, name),
        "pallet": {**source.pallet, "sha256": _pins(pairs, top)},
        "regions": {region: _region(pair, by_name, top) for region, pair in pairs.items()},
        **_use(pairs, remarks),
        "labels": [*labels, *([by_name] if by_name else [])],
        "planes": {plane.name: _plane(plane) for plane in proposed},
    }
    remarks += [remark for pair in pairs.values() for remark in pair.remarks]
    remarks += [
        f"{region}: no patch adds the parameter of interest {_poi(pair)!r} of the workspace"
        for region, pair in pairs.items()
        if pair.model.parameters is None
    ]
    return Proposal(name, data, pairs, proposed, tuple(remarks), _problem(name, data))


def _propose_complete(
    name: str, source: Source, documents: Mapping[str, Document], top: str
) -> Proposal:
    regions: dict[str, dict[str, Any]] = {}
    remarks: list[str] = []
    without = [region for region, document in documents.items() if not _has_signal(document)]
    if without:
        named = f"{', '.join(without[:_NAMED])}{' and more' if len(without) > _NAMED else ''}"
        remarks.append(
            f"without a signal, so that only the background is fitted (target `diagnostics`): "
            f"{named}; `poi` or `signal_in` of a region asks for more"
        )
    for region, document in documents.items():
        workspace = document.workspace
        if workspace is None:
            continue
        measurement, poi = workspace.question
        question = {"measurement": measurement, "poi": poi}
        regions[region] = {
            "workspace": document.name.removeprefix(top),
            "complete": True,
            **{key: value for key, value in question.items() if value is not None},
        }
        remarks += _other_measurements(region, workspace, measurement)
    pins = {files["workspace"]: documents[region].sha256 for region, files in regions.items()}
    data = {
        "title": name,
        "pallet": {**source.pallet, "sha256": pins},
        "regions": regions,
    }
    problem = _problem(name, data)
    return Proposal(name, data, {}, (), tuple(remarks), problem, documents)


def _other_measurements(
    region: str, workspace: Workspace, measurement: str | None
) -> Iterator[str]:
    """Say which further measurements a complete workspace has."""
    entries = workspace.spec["measurements"]
    if len(entries) > 1:
        first = measurement or str(entries[0]["name"])
        names = [str(entry["name"]) for entry in entries if entry["name"] != first]
        yield (
            f"{region} has the measurements {', '.join(names[:_NAMED])}"
            f"{' and more' if len(names) > _NAMED else ''}, too: `measurement` of the region "
            "chooses one"
        )


def _poi(pair: Pair) -> str:
    return pair.workspace.workspace.poi if pair.workspace.workspace is not None else ""


def _problem(name: str, data: Mapping[str, Any]) -> str | None:
    """Say why the workflow would refuse an analysis file."""
    reserved = sorted(set(data.get("labels", ())) & RESULT_COLUMNS)
    if reserved:
        return f"the label {reserved[0]} is a column of results.csv: rename it in the patchset"
    try:
        parse(Analysis, {"name": name, **data}, file=name)
    except ConfigError as error:
        return error.problem.splitlines()[-1].strip()
    return None


def _title(metadata: Mapping[str, Any], name: str) -> str:
    description = metadata.get("description")
    if not isinstance(description, str) or not description.strip():
        return name
    text = _OPENING.sub("", description.strip())
    text = re.sub(r"\s*\([^()]*\)$", "", text)
    return re.sub(r" analysis$", "", text) or name


def _pins(pairs: Mapping[str, Pair], top: str) -> dict[str, str]:
    pins: dict[str, str] = {}
    for pair in pairs.values():
        pins[pair.workspace.name.removeprefix(top)] = pair.workspace.sha256
        if pair.patches.is_patchset:
            document = pair.patches.documents[0]
            pins[document.name.removeprefix(top)] = document.sha256
    return pins


def _region(pair: Pair, by_name: str | None, top: str) -> dict[str, Any]:
    region = {"workspace": pair.workspace.name.removeprefix(top)}
    name = pair.patches.name.removeprefix(top)
    if pair.patches.is_patchset:
        region["patchset"] = name
    else:
        region["operations"] = name
        if pair.patches.template is not None:
            region["values"] = pair.patches.template
    if by_name is not None:
        region["name_as"] = by_name
    if pair.ignored:
        region["digest"] = "ignore"
    return region


def _use(pairs: Mapping[str, Pair], remarks: list[str]) -> dict[str, list[str]]:
    """Take the one region that has the channels of all others, if there is one."""
    channels = {
        region: set(pair.workspace.workspace.channels)
        for region, pair in pairs.items()
        if pair.workspace.workspace is not None
    }
    if len(channels) > 2:
        for region, of_region in channels.items():
            if all(other < of_region for name, other in channels.items() if name != region):
                remarks.append(
                    f"{region} has the channels of all other regions: it is their simultaneous "
                    "fit, and the only one that is used"
                )
                return {"use": [region]}
    if len(channels) > 1:
        remarks.append("each point takes the region with the best expected CLs")
    return {}


def _plane(plane: planes.ProposedPlane) -> dict[str, Any]:
    select = {"select": plane.select} if plane.select is not None else {}
    return {
        **select,
        "x": plane.x,
        "y": plane.y,
        "x_title": planes.axis_title(plane.x),
        "y_title": planes.axis_title(plane.y),
    }
