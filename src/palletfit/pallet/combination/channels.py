"""Channels of a combination: choose their names, and refuse events that count twice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.combination.members import Member, Spec, join_names


@dataclass(frozen=True)
class ChannelNames:
    """Names of channels in the combination.

    Attributes
    ----------
    names
        By member, then by the member's name of the channel.
    shared
        Channels of several members that enter once, by their name in the combination.
    """

    names: Mapping[str, Mapping[str, str]]
    shared: frozenset[str]
    remarks: tuple[str, ...]

    @classmethod
    def find(cls, members: Sequence[Member], shared: Sequence[str]) -> ChannelNames:
        """Choose the names; equal names of different channels get the member's name as a prefix.

        Raises
        ------
        ConfigError
            A shared channel is not one of several members, or two channels have one name.
        PalletError
            Two members hold the same events.
        """
        names = {
            member.name: {
                name: member.settings.channels.get(name, name) for name in member.channels
            }
            for member in members
        }
        owners: dict[str, list[tuple[Member, str]]] = {}
        for member in members:
            for member_channel, channel in names[member.name].items():
                owners.setdefault(channel, []).append((member, member_channel))
        for name in shared:
            if len({member.name for member, _ in owners.get(name, [])}) < 2:
                common = [name for name, group in owners.items() if len(group) > 1]
                raise ConfigError(
                    f"The shared channel {name!r} is not one of several members.",
                    remedy="Correct combine.shared_channels; channels of several members are: "
                    f"{', '.join(common) or 'none'}.",
                )
            _require_same_events(name, owners[name])
        _refuse_double_counting(members, names, shared)
        remarks = []
        for name, group in owners.items():
            if len(group) == 1 or name in shared:
                continue
            for member, member_channel in group:
                names[member.name][member_channel] = f"{member.name}_{name}"
            titles = join_names([member.name for member, _ in group])
            remarks.append(
                f"{titles} have different channels {name}: they got the member's name as a prefix"
            )
        channel_names = cls(names, frozenset(shared), tuple(remarks))
        channel_names._refuse_clashes()
        return channel_names

    def _refuse_clashes(self) -> None:
        for name, origins in self.origins.items():
            duplicates = [member for member in self.names if _count(self.names[member], name) > 1]
            if duplicates or (len(origins) > 1 and name not in self.shared):
                raise ConfigError(
                    f"Two channels of {join_names(duplicates or list(origins))} would be called "
                    f"{name!r}.",
                    remedy="Rename one of them in combine.members.MEMBER.channels.",
                )

    @property
    def origins(self) -> dict[str, dict[str, str]]:
        """Members that have each channel of the combination, with its name there."""
        origins: dict[str, dict[str, str]] = {}
        for member, names in self.names.items():
            for member_channel, channel in names.items():
                origins.setdefault(channel, {})[member] = member_channel
        return origins


def _count(names: Mapping[str, str], name: str) -> int:
    return list(names.values()).count(name)


def _require_same_events(name: str, owners: Sequence[tuple[Member, str]]) -> None:
    for (first, left), (second, right) in itertools.pairwise(owners):
        if list(first.observed[left]) != list(second.observed[right]):
            raise PalletError(
                f"The shared channel {name!r} has other observed events in {first.name} than in "
                f"{second.name}.",
                remedy="Remove it from combine.shared_channels: it is not one channel.",
            )


def _refuse_double_counting(
    members: Sequence[Member], names: Mapping[str, Mapping[str, str]], shared: Sequence[str]
) -> None:
    """Refuse channels of two members that hold the same events, unless they are shared.

    Two channels of one name hold the same events if their observed events are equal. Two channels
    of different names do if the expected events of all samples are equal, too.
    """
    for first, second in itertools.combinations(members, 2):
        for left, right in itertools.product(first.channels, second.channels):
            left_name, right_name = (
                names[first.name][left],
                names[second.name][right],
            )
            if left_name == right_name and left_name in shared:
                continue
            if list(first.observed[left]) != list(second.observed[right]):
                continue
            if left_name != right_name and _yields(first, left) != _yields(second, right):
                continue
            raise PalletError(
                f"The channel {left} of {first.name} and the channel {right} of {second.name} "
                "have the same observed events: they would count twice.",
                remedy="If it is one channel, list it under combine.shared_channels, or leave it "
                "out of one of them with combine.members.MEMBER.without. If they differ, rename "
                "one in combine.members.MEMBER.channels.",
            )


def _yields(member: Member, channel: str) -> list[Any]:
    return sorted(sample["data"] for sample in member.channels[channel]["samples"])


def require_same_channel(
    name: str,
    versions: Mapping[str, tuple[Spec | None, Mapping[str, str]]],
    patch: str | None = None,
) -> None:
    """Refuse a shared channel that is not the same in all members that have it.

    Parameters
    ----------
    name
        Its name in the combination.
    versions
        By member: the channel (None if a patch removes it), and the new names of parameters.
    patch
        The patch with which they differ.
    """
    contents = {member: _content(*version) for member, version in versions.items()}
    for (first_member, first), (second_member, second) in itertools.pairwise(contents.items()):
        if first != second:
            raise PalletError(
                f"The shared channel {name!r} is not the same in {first_member} and "
                f"{second_member}: {_difference(first, second)}.",
                remedy="If a parameter is apart, correlate it; if the channels are different "
                "estimates of the same events, leave one out (combine.members.MEMBER.without); "
                "if they hold different events, rename one (combine.members.MEMBER.channels).",
                patch=patch,
            )


def _content(channel: Spec | None, names: Mapping[str, str]) -> dict[str, dict[Any, Any]]:
    """Describe a channel independent of the order of samples and modifiers."""
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
    first: Mapping[str, Mapping[Any, Any]], second: Mapping[str, Mapping[Any, Any]]
) -> str:
    """Describe the first difference of two channels."""
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            return f"only one of them has the sample {name}"
        for key in sorted(first[name].keys() | second[name].keys(), key=str):
            if key not in first[name] or key not in second[name]:
                return f"only one of them has the modifier {' of type '.join(key)} of {name}"
            if first[name][key] != second[name][key]:
                quantity = key if isinstance(key, str) else " of type ".join(key)
                return f"the {quantity} of {name} differ"
    return "nothing"
