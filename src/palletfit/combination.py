"""Several likelihoods as one: a combined workspace, and one patch for each signal point.

pyhf renames, prunes and joins the workspaces. Here is what it leaves to its users: which parameters
are one, that their settings and types agree, that no events are counted twice, and the patches of
the members as one patch whose pointers are those of the combined workspace.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch
import pyhf
import pyhf.exceptions
from pyhf.modifiers import histfactory_set

from palletfit.config import Analysis, Combination, CombinationMember
from palletfit.errors import ConfigError, PalletError
from palletfit.jsonfiles import read_json
from palletfit.pallet import check, parse_patchset, summarise
from palletfit.patches import Patch, apply_sharing, canonical_json
from palletfit.prepare import write_summary
from palletfit.store import write_atomically

logger = logging.getLogger(__name__)

Spec = Mapping[str, Any]
Values = tuple[float | str, ...]

#: Modifiers whose parameters belong to the bins of a channel: independent between channels.
_OF_BINS = frozenset({"staterror", "shapesys"})
#: Types of modifiers that may share a parameter.
_SHARING = frozenset({"normsys", "histosys"})
#: What a measurement may say about a parameter, as pyhf calls it.
_SETTINGS = ("inits", "bounds", "auxdata", "sigmas", "fixed", "factors")
#: How many names a remark or an error gives.
_NAMED = 5


@dataclass(frozen=True)
class Combined:
    """A combination, shaped like any other pallet.

    Attributes
    ----------
    workspace, patchset
        Contents of the two files; the patchset has the digest of the workspace.
    parameters
        Parameters of several members: by their name in the combination, their name in each member.
    channels
        By their name in the combination, their name in each member that has them.
    remarks
        What a user has to know: points without a patch in some member, parameters kept apart.
    """

    workspace: dict[str, Any]
    patchset: dict[str, Any]
    parameters: dict[str, dict[str, str]]
    channels: dict[str, dict[str, str]]
    remarks: tuple[str, ...]


def combine_region(
    analysis: Analysis,
    workspaces: Sequence[Path],
    patchsets: Sequence[Path],
    workspace: Path,
    patchset: Path,
    page: Path,
) -> dict[str, Any]:
    """Combine the prepared files of the members of an analysis, check and describe the result.

    Parameters
    ----------
    analysis
        The combination.
    workspaces, patchsets
        Files of the members, in the order in which the analysis names them.
    workspace, patchset
        Where the combined files go.
    page
        Where their summary goes, as an HTML page, and as JSON beside it.

    Returns
    -------
    dict
        The summary, see :func:`palletfit.pallet.validate`, with what was combined beside it.

    Raises
    ------
    ConfigError, PalletError
        See :func:`combine`; also if the analysis is no combination of so many members.
    """
    if analysis.combine is None or len(analysis.combine.members) != len(workspaces):
        raise ConfigError(
            f"The analysis {analysis.name} is no combination of {len(workspaces)} workspaces.",
            remedy="Give the files of all members, in the order of its `combine.members`.",
        )
    likelihoods = {
        name: (read_json(first), read_json(second))
        for name, first, second in zip(analysis.combine.members, workspaces, patchsets, strict=True)
    }
    combined = combine(
        likelihoods, analysis.combine, analysis.labels, title=f"combination {analysis.name}"
    )
    checked = check(combined.workspace, combined.patchset, analysis.labels, workspace, patchset)
    summary = summarise(combined.workspace, combined.patchset, checked)
    summary["remarks"] += combined.remarks
    summary["combination"] = {"parameters": combined.parameters, "channels": combined.channels}
    for remark in combined.remarks:
        logger.warning("%s: %s", analysis.name, remark)
    logger.info(
        "%s: %d points, %d channels, %d parameters of several members",
        analysis.name,
        len(checked.patches),
        len(combined.channels),
        len(combined.parameters),
    )
    write_atomically(workspace, canonical_json(combined.workspace).decode() + "\n")
    write_atomically(patchset, canonical_json(combined.patchset).decode() + "\n")
    write_summary(page, analysis.name, summary)
    return summary


def combine(
    likelihoods: Mapping[str, tuple[Spec, Spec]],
    combination: Combination,
    labels: Sequence[str],
    *,
    title: str = "combination",
) -> Combined:
    """Combine likelihoods, each a background-only workspace with its patchset.

    The likelihood of a point is the product of those of the members, in which common parameters
    stand, and have their constraint term, once (CERN-OPEN-2012-016, section 2).

    Parameters
    ----------
    likelihoods
        By the names of the combination's members.
    combination
        What is one parameter, one channel, one point.
    labels
        Labels of the combined patchset.
    title
        What the patchset calls itself.

    Raises
    ------
    ConfigError
        The combination names what does not exist, or leaves something undecided; the error names
        the members and the channel or parameter.
    PalletError
        The likelihoods contradict each other, or count events twice.
    """
    members = [
        _Member.read(name, combination.members[name], workspace, spec, labels)
        for name, (workspace, spec) in likelihoods.items()
    ]
    channels = _ChannelNames.find(members, combination.shared_channels)
    parameters = _ParameterNames.find(members, channels, combination)
    settings = _common_settings(members, parameters, combination)
    workspace = _combined_workspace(members, channels, parameters, settings)
    points, remarks = _common_points(members, combination)
    writer = _PatchWriter(workspace, members, channels, parameters)
    patches: dict[str, dict[str, Any]] = {}
    for values, present in points.items():
        name = next(iter(present.values())).patch.name
        name = name if name not in patches else f"{name} ({', '.join(present)})"
        origins = {member: point.patch.name for member, point in present.items()}
        patches[name] = {
            "metadata": {"name": name, "values": list(values), "members": origins},
            "patch": writer.operations(name, present),
        }
    published = [spec["metadata"] for _, spec in likelihoods.values()]
    metadata = {
        "name": title,
        "description": f"{title}: "
        + "; ".join(
            f"{name}: {item.get('description', '')} ({item['references']['hepdata']})"
            for name, item in zip(likelihoods, published, strict=True)
        ),
        "digests": {"sha256": pyhf.utils.digest(workspace)},
        "labels": list(labels),
        "references": published[0]["references"],
    }
    return Combined(
        workspace=workspace,
        patchset={"metadata": metadata, "patches": [*patches.values()], "version": "1.0.0"},
        parameters=parameters.common,
        channels=channels.origins,
        remarks=(*channels.remarks, *parameters.remarks, *remarks),
    )


# --------------------------------------------------------------------------- members


@dataclass
class _Parameter:
    """Where a parameter of a member stands, and pyhf's settings of it.

    Attributes
    ----------
    kinds, channels
        Types of its modifiers, and names of the channels with them.
    settings
        pyhf's default, and over it what the measurement says; lists and numbers.
    """

    kinds: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Point:
    """A signal point of a member: its full channels by name, or why there are none."""

    patch: Patch
    channels: Mapping[str, Spec]
    problem: str | None = None


@dataclass(frozen=True)
class _Member:
    """One likelihood of the combination."""

    name: str
    settings: CombinationMember
    workspace: Spec
    measurement: Spec
    channels: Mapping[str, Spec]
    observed: Mapping[str, Sequence[float]]
    points: Mapping[Values, _Point]
    parameters: Mapping[str, _Parameter]

    @property
    def poi(self) -> str:
        return str(self.measurement["config"]["poi"])

    @classmethod
    def read(
        cls,
        name: str,
        settings: CombinationMember,
        workspace: Spec,
        spec: Spec,
        labels: Sequence[str],
    ) -> _Member:
        patchset = parse_patchset(spec, Path(f"patchset of {name}"))
        known = [channel["name"] for channel in workspace["channels"]]
        for key in ("channels", "without"):
            for channel in getattr(settings, key):
                if channel not in known:
                    raise ConfigError(
                        f"The member {name} has no channel {channel!r}.",
                        remedy=f"Correct combine.members.{name}.{key}; there are "
                        f"{', '.join(known)}.",
                    )
        channels = _kept(workspace, settings)
        if not channels:
            raise ConfigError(
                f"No channel of the member {name} is left.",
                remedy=f"Shorten combine.members.{name}.without, or remove the member.",
            )
        names = [settings.labels.get(label, label) for label in patchset.labels]
        if sorted(names) != sorted(labels):
            raise ConfigError(
                f"The labels of the member {name} are {', '.join(names)}, "
                f"but the combination has {', '.join(labels)}.",
                remedy=f"Rename them in combine.members.{name}.labels.",
            )
        order = [names.index(label) for label in labels]
        points = {
            tuple(patch.values[index] for index in order): _read_point(workspace, patch, settings)
            for patch in patchset.patches
        }
        measurement = _measurement(name, settings, workspace)
        return cls(
            name=name,
            settings=settings,
            workspace=workspace,
            measurement=measurement,
            channels=channels,
            observed={item["name"]: item["data"] for item in workspace["observations"]},
            points=points,
            parameters=_read_parameters(channels, points, measurement),
        )


def _kept(workspace: Spec, settings: CombinationMember) -> dict[str, Spec]:
    return {
        channel["name"]: channel
        for channel in workspace["channels"]
        if channel["name"] not in settings.without
    }


def _measurement(name: str, settings: CombinationMember, workspace: Spec) -> Spec:
    known: list[Spec] = workspace["measurements"]
    if settings.measurement is None:
        return known[0]
    for measurement in known:
        if measurement["name"] == settings.measurement:
            return measurement
    raise ConfigError(
        f"The member {name} has no measurement {settings.measurement!r}.",
        remedy=f"Set combine.members.{name}.measurement to one of "
        f"{', '.join(item['name'] for item in known)}.",
    )


def _read_point(workspace: Spec, patch: Patch, settings: CombinationMember) -> _Point:
    try:
        full = apply_sharing(workspace, patch)
    except PalletError as error:
        return _Point(patch, {}, error.problem)
    channels = _kept(full, settings)
    added = sorted(channels.keys() - _kept(workspace, settings).keys())
    if added:
        return _Point(patch, {}, f"The patch adds the channel {added[0]}.")
    for key in ("observations", "measurements"):
        if full[key] != workspace[key]:
            return _Point(patch, {}, f"The patch changes the {key}.")
    return _Point(patch, channels)


def _read_parameters(
    channels: Mapping[str, Spec], points: Mapping[Values, _Point], measurement: Spec
) -> dict[str, _Parameter]:
    """All parameters of a background and of all its patches."""
    found: dict[str, _Parameter] = {}
    seen: set[int] = set()
    for channel in itertools.chain(
        channels.values(), *(point.channels.values() for point in points.values())
    ):
        for sample in channel["samples"]:
            if id(sample["modifiers"]) in seen:
                continue  # a sample that the patch leaves as it is
            seen.add(id(sample["modifiers"]))
            for modifier in sample["modifiers"]:
                parameter = found.setdefault(modifier["name"], _Parameter())
                parameter.channels.add(channel["name"])
                if modifier["type"] not in parameter.kinds:
                    parameter.kinds.add(modifier["type"])
                    parameter.settings |= _defaults(modifier, sample)
    for item in measurement["config"]["parameters"]:
        if item["name"] in found:
            said = {key: item[key] for key in _SETTINGS if key in item}
            found[item["name"]].settings |= said
    return found


def _defaults(modifier: Spec, sample: Spec) -> dict[str, Any]:
    """Settings that pyhf gives a modifier's parameter; none of those that belong to bins."""
    if modifier["type"] in _OF_BINS or modifier["type"] not in histfactory_set:
        return {}
    builder, _ = histfactory_set[modifier["type"]]
    required = sys.modules[builder.__module__].required_parset(sample["data"], modifier["data"])
    return {key: _as_lists(required[key]) for key in _SETTINGS if key in required}


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, (tuple, list)) else value


# --------------------------------------------------------------------------- channels


@dataclass(frozen=True)
class _ChannelNames:
    """Names of channels in the combination.

    Attributes
    ----------
    names
        By member, then by the member's name of the channel.
    shared
        Channels, by their name in the combination, that are taken once.
    """

    names: Mapping[str, Mapping[str, str]]
    shared: frozenset[str]
    remarks: tuple[str, ...]

    @classmethod
    def find(cls, members: Sequence[_Member], shared: Sequence[str]) -> _ChannelNames:
        wanted = {
            member.name: {
                name: member.settings.channels.get(name, name) for name in member.channels
            }
            for member in members
        }
        owners: dict[str, list[tuple[_Member, str]]] = {}
        for member in members:
            for old, new in wanted[member.name].items():
                owners.setdefault(new, []).append((member, old))
        for name in shared:
            if len({member.name for member, _ in owners.get(name, [])}) < 2:
                raise ConfigError(
                    f"The shared channel {name!r} is not one of several members.",
                    remedy="Correct combine.shared_channels; channels of several members are: "
                    f"{', '.join(name for name, own in owners.items() if len(own) > 1) or 'none'}.",
                )
        _refuse_double_counting(members, wanted, shared)
        remarks = []
        for name, own in owners.items():
            if len(own) == 1 or name in shared:
                continue
            for member, old in own:
                wanted[member.name][old] = f"{member.name}_{name}"
            remarks.append(
                f"the channels {name} of {_and([member.name for member, _ in own])} are different "
                f"ones: they got the member's name as a prefix"
            )
        found = cls(wanted, frozenset(shared), tuple(remarks))
        found._refuse_clashes()
        return found

    def _refuse_clashes(self) -> None:
        for name, own in self.origins.items():
            twice = [member for member in self.names if _count(self.names[member], name) > 1]
            if twice or (len(own) > 1 and name not in self.shared):
                raise ConfigError(
                    f"Two channels of {_and(twice or list(own))} would be called {name!r}.",
                    remedy="Rename one of them in combine.members.MEMBER.channels.",
                )

    @property
    def origins(self) -> dict[str, dict[str, str]]:
        """By name in the combination: the members that have the channel, with its name there."""
        found: dict[str, dict[str, str]] = {}
        for member, names in self.names.items():
            for old, new in names.items():
                found.setdefault(new, {})[member] = old
        return found


def _count(names: Mapping[str, str], name: str) -> int:
    return list(names.values()).count(name)


def _refuse_double_counting(
    members: Sequence[_Member], names: Mapping[str, Mapping[str, str]], shared: Sequence[str]
) -> None:
    """Refuse channels of two members that hold the same events, but those that are shared.

    Under one name these are channels with the same observed events, under any name those which also
    have the same expected events of all samples.
    """
    for first, second in itertools.combinations(members, 2):
        for one, other in itertools.product(first.channels, second.channels):
            new, other_new = names[first.name][one], names[second.name][other]
            if new == other_new and new in shared:
                continue
            if list(first.observed[one]) != list(second.observed[other]):
                continue
            if new != other_new and _yields(first, one) != _yields(second, other):
                continue
            raise PalletError(
                f"The channel {one} of {first.name} and the channel {other} of {second.name} "
                "have the same observed events: they would count twice.",
                remedy="If it is one channel, list it under combine.shared_channels, or leave it "
                "out of one of them with combine.members.MEMBER.without. If they differ, rename "
                "one in combine.members.MEMBER.channels.",
            )


def _yields(member: _Member, channel: str) -> list[Any]:
    return sorted(sample["data"] for sample in member.channels[channel]["samples"])


# --------------------------------------------------------------------------- parameters


@dataclass(frozen=True)
class _ParameterNames:
    """Names of parameters in the combination, by member and then by the member's name."""

    names: Mapping[str, Mapping[str, str]]
    poi: str
    remarks: tuple[str, ...]

    @classmethod
    def find(
        cls, members: Sequence[_Member], channels: _ChannelNames, combination: Combination
    ) -> _ParameterNames:
        poi = combination.poi or members[0].poi
        _check_correlation(members, combination, poi)
        names: dict[str, dict[str, str]] = {}
        # What a name means; one may not come to mean two parameters.
        meanings: dict[str, dict[tuple[str, ...], str]] = {}
        apart: set[str] = set()
        for member in members:
            others = {name for item in members if item is not member for name in item.parameters}
            names[member.name] = {}
            for name, parameter in {member.poi: _Parameter(), **member.parameters}.items():
                meaning: tuple[str, ...]
                if name == member.poi:
                    new, meaning = poi, ("poi",)
                elif _in_shared(member, parameter, channels):
                    new, meaning = name, ("name", name)
                else:
                    of_bins = bool(parameter.kinds & _OF_BINS) and name in others
                    new, meaning = _meaning(member, name, of_bins, combination)
                    if of_bins and new != name and name not in combination.correlate.apart:
                        apart.add(name)
                if new != name and "lumi" in parameter.kinds:
                    raise _other_lumi(member, name)
                names[member.name][name] = new
                meanings.setdefault(new, {}).setdefault(meaning, f"{name} of {member.name}")
        _refuse_two_meanings(meanings)
        kept = f"{_some(sorted(apart))}: parameters of bins, different in spite of equal names"
        return cls(names, poi, (kept,) if apart and combination.correlate.by == "name" else ())

    @property
    def common(self) -> dict[str, dict[str, str]]:
        """Parameters of several members: by their name here, the name in each member."""
        found: dict[str, dict[str, str]] = {}
        for member, names in self.names.items():
            for old, new in names.items():
                found.setdefault(new, {})[member] = old
        return {name: own for name, own in found.items() if len(own) > 1}


def _in_shared(member: _Member, parameter: _Parameter, channels: _ChannelNames) -> bool:
    """Whether a parameter belongs to bins, and all of them are in channels that are taken once."""
    names = channels.names[member.name]
    return bool(parameter.kinds & _OF_BINS) and channels.shared.issuperset(
        names[name] for name in parameter.channels
    )


def _meaning(
    member: _Member, name: str, of_bins: bool, combination: Combination
) -> tuple[str, tuple[str, ...]]:
    """Name of a nuisance parameter in the combination, and which parameter that is."""
    correlate = combination.correlate
    for common, own in correlate.table.items():
        if own.get(member.name) == name:
            return common, ("table", common)
    if correlate.by == "name" and name not in correlate.apart and not of_bins:
        return name, ("name", name)
    return f"{member.name}_{name}", (member.name, name)


def _refuse_two_meanings(meanings: Mapping[str, Mapping[tuple[str, ...], str]]) -> None:
    for name, different in meanings.items():
        if len(different) > 1:
            raise ConfigError(
                f"Two different parameters would be called {name!r}: "
                f"{_and(list(different.values()))}.",
                remedy="If they are one, join them in combine.correlate.table; if not, list one "
                "under combine.correlate.apart, or choose another name in the table or for "
                "combine.poi.",
            )


def _other_lumi(member: _Member, name: str) -> ConfigError:
    return ConfigError(
        f"The luminosity {name!r} of {member.name} would be a parameter of its own, but a pyhf "
        "workspace has one luminosity, `lumi`.",
        remedy="Correlate it (combine.correlate.table: {lumi: {MEMBER: lumi, ...}}, or by name), "
        "or replace the lumi modifiers of one pallet by normsys modifiers.",
    )


def _check_correlation(members: Sequence[_Member], combination: Combination, poi: str) -> None:
    by_name = {member.name: member for member in members}
    for common, own in combination.correlate.table.items():
        if common == poi:
            raise ConfigError(
                f"combine.correlate.table has {poi!r}, which is the parameter of interest.",
                remedy="Remove it: the parameters of interest of the members are always one.",
            )
        for member, name in own.items():
            parameter = by_name[member].parameters.get(name)
            if parameter is None or name == by_name[member].poi:
                what = "no nuisance parameter" if parameter is None else "as parameter of interest"
                raise ConfigError(
                    f"The member {member} has {what} {name!r}.",
                    remedy=f"Correct combine.correlate.table.{common}; the parameters of a region "
                    "are in its workspace and patches.",
                )
            if parameter.kinds & _OF_BINS:
                raise ConfigError(
                    f"The parameter {name!r} of {member} belongs to the bins of a channel "
                    f"({_and(sorted(parameter.kinds))}) and is independent of all others.",
                    remedy=f"Remove combine.correlate.table.{common}.",
                )
    for name in combination.correlate.apart:
        if not any(name in member.parameters for member in members):
            raise ConfigError(
                f"No member has a parameter {name!r}.",
                remedy="Correct combine.correlate.apart.",
            )
        if any(name == member.poi for member in members):
            raise ConfigError(
                f"{name!r} is a parameter of interest, which is one for all members.",
                remedy="Remove it from combine.correlate.apart.",
            )


def _common_settings(
    members: Sequence[_Member], parameters: _ParameterNames, combination: Combination
) -> dict[str, dict[str, Any]]:
    """Settings that the combined measurement says, by parameter, after all were compared."""
    chosen = {
        name: item.model_dump(exclude_none=True) for name, item in combination.parameters.items()
    }
    by_name = {member.name: member for member in members}
    known = {new for names in parameters.names.values() for new in names.values()}
    for name in chosen:
        if name not in known:
            raise ConfigError(
                f"The combination has no parameter {name!r}.",
                remedy="Correct combine.parameters; names are those of the combination.",
            )
    for name, own in parameters.common.items():
        here = {
            member: by_name[member].parameters[old]
            for member, old in own.items()
            if old in by_name[member].parameters
        }
        _require_same_parameter(name, here, chosen.get(name, {}))
    said: dict[str, dict[str, Any]] = {}
    for member in members:
        for item in member.measurement["config"]["parameters"]:
            new = parameters.names[member.name].get(item["name"])
            if new is not None:
                said.setdefault(new, {}).update(
                    {key: item[key] for key in _SETTINGS if key in item}
                )
    for name, item in chosen.items():
        said.setdefault(name, {}).update(item)
    return said


def _require_same_parameter(
    name: str, own: Mapping[str, _Parameter], chosen: Mapping[str, Any]
) -> None:
    """Refuse a common parameter of different types or settings, but for what the user chose."""
    for (first, one), (second, other) in itertools.pairwise(own.items()):
        kinds = one.kinds | other.kinds
        if len(kinds) > 1 and not kinds <= _SHARING:
            raise PalletError(
                f"The parameter {name!r} is of type {_and(sorted(one.kinds))} in {first}, but "
                f"{_and(sorted(other.kinds))} in {second}.",
                remedy="They are different parameters: list the name under "
                "combine.correlate.apart, or remove it from combine.correlate.table.",
            )
        for key in _SETTINGS:
            values = one.settings.get(key), other.settings.get(key)
            if values[0] != values[1] and key not in chosen:
                raise PalletError(
                    f"The {key} of the parameter {name!r} are {values[0]} in {first}, "
                    f"but {values[1]} in {second}.",
                    remedy=f"Say under combine.parameters.{name} which {key} hold in the "
                    "combination, or keep the parameters apart (combine.correlate).",
                )


# --------------------------------------------------------------------------- workspace


def _combined_workspace(
    members: Sequence[_Member],
    channels: _ChannelNames,
    parameters: _ParameterNames,
    settings: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    for name, own in channels.origins.items():
        _require_same_channel(
            name,
            {
                member.name: (member.channels[own[member.name]], parameters.names[member.name])
                for member in members
                if member.name in own
            },
        )
    measurements = {member.measurement["name"] for member in members}
    title = measurements.pop() if len(measurements) == 1 else "combined"
    combined: pyhf.Workspace | None = None
    try:
        for member in members:
            renamed = _renamed_workspace(member, channels, parameters)
            config = {
                "poi": parameters.poi,
                "parameters": [
                    {"name": name, **said}
                    for name, said in settings.items()
                    if name in parameters.names[member.name].values()
                ],
            }
            renamed["measurements"] = [{"name": title, "config": config}]
            # pyhf joins lists item by item: equal channels have to be in the same order.
            renamed = pyhf.Workspace.sorted(renamed)
            combined = (
                renamed
                if combined is None
                else pyhf.Workspace.combine(combined, renamed, join="outer")
            )
    except (
        pyhf.exceptions.InvalidWorkspaceOperation,
        pyhf.exceptions.InvalidSpecification,
    ) as error:
        raise PalletError(
            f"pyhf cannot combine the workspaces: {' '.join(str(error).split())}",
            remedy="Correct the workspaces, or `combine` in the analysis file.",
        ) from None
    return dict(pyhf.Workspace.sorted(combined))


def _renamed_workspace(
    member: _Member, channels: _ChannelNames, parameters: _ParameterNames
) -> pyhf.Workspace:
    """A member's workspace with the names of the combination; its measurement is still its own."""
    workspace = pyhf.Workspace(member.workspace, validate=False)
    if member.settings.without:
        workspace = workspace.prune(channels=member.settings.without)
    known = {name for name, _ in workspace.modifiers}
    return workspace.rename(
        modifiers={
            old: new
            for old, new in parameters.names[member.name].items()
            # pyhf refuses what only the signal has.
            if old in known and old != new
        },
        channels={old: new for old, new in channels.names[member.name].items() if old != new},
    )


def _require_same_channel(
    name: str, own: Mapping[str, tuple[Spec | None, Mapping[str, str]]], patch: str | None = None
) -> None:
    """Refuse a shared channel that is not the same in all members that have it.

    Parameters
    ----------
    name
        Its name in the combination.
    own
        By member: the channel (None if a patch removes it), and the new names of parameters.
    patch
        The patch with which they differ.
    """
    contents = {member: _content(*item) for member, item in own.items()}
    for (first, one), (second, other) in itertools.pairwise(contents.items()):
        if one != other:
            raise PalletError(
                f"The shared channel {name!r} is not the same in {first} and {second}: "
                f"{_difference(one, other)}.",
                remedy="If a parameter is apart, correlate it; if the channels are different "
                "estimates of the same events, leave one out (combine.members.MEMBER.without); "
                "if they hold different events, rename one (combine.members.MEMBER.channels).",
                patch=patch,
            )


def _content(channel: Spec | None, names: Mapping[str, str]) -> dict[str, dict[Any, Any]]:
    """What a channel says, independent of the order of samples and modifiers."""
    return {
        sample["name"]: {
            "yields": sample["data"],
            **{
                (names.get(modifier["name"], modifier["name"]), modifier["type"]): modifier["data"]
                for modifier in sample["modifiers"]
            },
        }
        for sample in (channel["samples"] if channel is not None else [])
    }


def _difference(
    one: Mapping[str, Mapping[Any, Any]], other: Mapping[str, Mapping[Any, Any]]
) -> str:
    """The first thing in which two channels differ."""
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            return f"only one of them has the sample {name}"
        for key in sorted(one[name].keys() | other[name].keys(), key=str):
            if key not in one[name] or key not in other[name]:
                return f"only one of them has the modifier {' of type '.join(key)} of {name}"
            if one[name][key] != other[name][key]:
                what = key if isinstance(key, str) else " of type ".join(key)
                return f"the {what} of {name} differ"
    return "nothing"


# --------------------------------------------------------------------------- points and patches


def _common_points(
    members: Sequence[_Member], combination: Combination
) -> tuple[dict[Values, dict[str, _Point]], list[str]]:
    """Points by their values, each with the members that have it; remarks on missing ones."""
    points: dict[Values, dict[str, _Point]] = {}
    for member in members:
        for values, point in member.points.items():
            same = _same_point(values, points, combination.tolerance)
            if member.name in points.setdefault(same, {}):
                raise ConfigError(
                    f"Two points of {member.name} have the same values within combine.tolerance: "
                    f"{points[same][member.name].patch.name} and {point.patch.name}.",
                    remedy="Make combine.tolerance smaller than the distance of points.",
                )
            points[same][member.name] = point
    drop = combination.missing == "drop"
    remarks = []
    for member in members:
        lacking = [own for own in points.values() if member.name not in own]
        if lacking:
            names = [next(iter(own.values())).patch.name for own in lacking]
            remarks.append(
                f"{len(lacking)} points that {member.name} lacks "
                f"{'were left out' if drop else f'are fitted without {member.name}'}: "
                f"{_some(names)}"
            )
    if drop:
        points = {values: own for values, own in points.items() if len(own) == len(members)}
    if not points:
        raise PalletError(
            f"{_and([member.name for member in members])} have no signal point in common.",
            remedy="Check combine.members.MEMBER.labels and combine.tolerance, or set "
            "combine.missing: keep.",
        )
    return points, remarks


def _same_point(values: Values, points: Mapping[Values, Any], tolerance: float) -> Values:
    """The values of a known point that are the same, or these if there is none."""
    if values in points or not tolerance:
        return values
    near = [known for known in points if _are_close(values, known, tolerance)]
    if len(near) > 1:
        raise ConfigError(
            f"The point {list(values)} is the same as {list(near[0])} and as {list(near[1])} "
            "within combine.tolerance.",
            remedy="Make combine.tolerance smaller than the distance of points.",
        )
    return near[0] if near else values


def _are_close(one: Values, other: Values, tolerance: float) -> bool:
    return all(
        a == b if isinstance(a, str) or isinstance(b, str) else abs(a - b) <= tolerance
        for a, b in zip(one, other, strict=True)
    )


class _PatchWriter:
    """Expresses the patches of the members for a point as one patch of the combined workspace."""

    def __init__(
        self,
        workspace: Spec,
        members: Sequence[_Member],
        channels: _ChannelNames,
        parameters: _ParameterNames,
    ) -> None:
        self._channels = workspace["channels"]
        self._members = {member.name: member for member in members}
        self._origins = channels.origins
        self._names = parameters.names

    def operations(self, name: str, present: Mapping[str, _Point]) -> list[dict[str, Any]]:
        """A JSON Patch (RFC 6902) that does to the combination what each patch does to its member.

        Channels of which no member has the point are removed. A patch that cannot be combined
        becomes one that does not apply and says why, so that the point is recorded as failed.
        """
        for member, point in present.items():
            if point.problem is not None:
                why = f"{point.patch.name} of {member}: {point.problem}"
                return [{"op": "test", "path": "/version", "value": why}]
        operations: list[dict[str, Any]] = []
        removed = []
        for index, channel in enumerate(self._channels):
            full = {
                member: (present[member].channels.get(old), self._names[member])
                for member, old in self._origins[channel["name"]].items()
                if member in present
            }
            _require_same_channel(channel["name"], full, name)
            member, (found, _) = next(iter(full.items()), ("", (None, {})))
            if found is None:
                removed.append({"op": "remove", "path": f"/channels/{index}"})
            else:
                operations += self._of_samples(index, member, found)
        return operations + removed[::-1]

    def _of_samples(self, index: int, member: str, full: Spec) -> Iterator[dict[str, Any]]:
        combined = self._channels[index]["samples"]
        place = {sample["name"]: number for number, sample in enumerate(combined)}
        old = {
            sample["name"]: sample
            for sample in self._members[member].channels[full["name"]]["samples"]
        }
        new = {sample["name"]: sample for sample in full["samples"]}
        path = f"/channels/{index}/samples"
        for name in old.keys() & new.keys():
            if new[name] != old[name]:
                yield from _changes(
                    f"{path}/{place[name]}", combined[place[name]], self._renamed(member, new[name])
                )
        removed = sorted((place[name] for name in old.keys() - new.keys()), reverse=True)
        for number in removed:
            yield {"op": "remove", "path": f"{path}/{number}"}
        added = [sample for name, sample in new.items() if name not in old]
        for number, sample in enumerate(added, len(combined) - len(removed)):
            yield {
                "op": "add",
                "path": f"{path}/{number}",
                "value": self._renamed(member, sample),
            }

    def _renamed(self, member: str, sample: Spec) -> dict[str, Any]:
        names = self._names[member]
        modifiers = [
            {**modifier, "name": names.get(modifier["name"], modifier["name"])}
            for modifier in sample["modifiers"]
        ]
        # In pyhf's order, which is that of the combined background.
        modifiers.sort(key=lambda item: (item["name"], item["type"]))
        return {**sample, "modifiers": modifiers}


def _changes(path: str, old: Spec, new: Spec) -> Iterator[dict[str, Any]]:
    for operation in jsonpatch.make_patch(old, new):
        pointers = ("path", "from")
        yield {
            key: f"{path}{value}" if key in pointers else value for key, value in operation.items()
        }


# --------------------------------------------------------------------------- words


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
