"""Channels of a combination: their names, and that no events are counted twice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.combination.members import Member, Spec, joined


@dataclass(frozen=True)
class ChannelNames:
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
    def find(cls, members: Sequence[Member], shared: Sequence[str]) -> ChannelNames:
        """Choose the names; equal ones of different channels get the member's name as a prefix.

        Raises
        ------
        ConfigError
            A shared channel is not one of several members, or two channels have one name.
        PalletError
            Two members hold the same events.
        """
        wanted = {
            member.name: {
                name: member.settings.channels.get(name, name) for name in member.channels
            }
            for member in members
        }
        owners: dict[str, list[tuple[Member, str]]] = {}
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
            _require_same_events(name, owners[name])
        _refuse_double_counting(members, wanted, shared)
        remarks = []
        for name, own in owners.items():
            if len(own) == 1 or name in shared:
                continue
            for member, old in own:
                wanted[member.name][old] = f"{member.name}_{name}"
            who = joined([member.name for member, _ in own])
            remarks.append(
                f"{who} have different channels {name}: they got the member's name as a prefix"
            )
        found = cls(wanted, frozenset(shared), tuple(remarks))
        found._refuse_clashes()
        return found

    def _refuse_clashes(self) -> None:
        for name, own in self.origins.items():
            twice = [member for member in self.names if _count(self.names[member], name) > 1]
            if twice or (len(own) > 1 and name not in self.shared):
                raise ConfigError(
                    f"Two channels of {joined(twice or list(own))} would be called {name!r}.",
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


def _require_same_events(name: str, owners: Sequence[tuple[Member, str]]) -> None:
    for (first, one), (second, other) in itertools.pairwise(owners):
        if list(first.observed[one]) != list(second.observed[other]):
            raise PalletError(
                f"The shared channel {name!r} has other observed events in {first.name} than in "
                f"{second.name}.",
                remedy="Remove it from combine.shared_channels: it is not one channel.",
            )


def _refuse_double_counting(
    members: Sequence[Member], names: Mapping[str, Mapping[str, str]], shared: Sequence[str]
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


def _yields(member: Member, channel: str) -> list[Any]:
    return sorted(sample["data"] for sample in member.channels[channel]["samples"])


def require_same_channel(
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
