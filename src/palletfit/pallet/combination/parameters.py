"""Parameters of a combination: join common ones, and compare their types and settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palletfit.config import Combination
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.combination.channels import ChannelNames
from palletfit.pallet.combination.members import (
    OF_BINS,
    SETTINGS,
    Member,
    Parameter,
    first_names,
    join_names,
)

#: Types of modifiers that may share a parameter.
_SHARING = frozenset({"normsys", "histosys"})


@dataclass(frozen=True)
class ParameterNames:
    """Names of parameters in the combination, by member and then by the member's name."""

    names: Mapping[str, Mapping[str, str]]
    poi: str
    remarks: tuple[str, ...]

    @classmethod
    def find(
        cls, members: Sequence[Member], channels: ChannelNames, combination: Combination
    ) -> ParameterNames:
        """Choose the names, by the rules of the combination.

        Raises
        ------
        ConfigError
            The combination names an object that does not exist, one name would mean two
            parameters, or a luminosity would be apart.
        """
        poi = combination.poi or members[0].poi
        _check_correlation(members, combination, poi)
        names: dict[str, dict[str, str]] = {}
        # A name must not get the meaning of two parameters.
        meanings: dict[str, dict[tuple[str, ...], str]] = {}
        apart: set[str] = set()
        for member in members:
            elsewhere = {
                name for other in members if other is not member for name in other.parameters
            }
            names[member.name] = {}
            for name, parameter in {member.poi: Parameter(), **member.parameters}.items():
                meaning: tuple[str, ...]
                if name == member.poi:
                    common_name, meaning = poi, ("poi",)
                elif _in_shared(member, parameter, channels):
                    common_name, meaning = name, ("name", name)
                else:
                    of_bins = bool(parameter.kinds & OF_BINS) and name in elsewhere
                    common_name, meaning = _meaning(member, name, of_bins, combination)
                    if of_bins and common_name != name and name not in combination.correlate.apart:
                        apart.add(name)
                if common_name != name and "lumi" in parameter.kinds:
                    raise _other_lumi(member, name)
                names[member.name][name] = common_name
                meanings.setdefault(common_name, {}).setdefault(meaning, f"{name} of {member.name}")
        _refuse_two_meanings(meanings)
        remark = (
            f"{first_names(sorted(apart))}: parameters of bins, different in spite of equal names"
        )
        return cls(names, poi, (remark,) if apart and combination.correlate.by == "name" else ())

    @property
    def common(self) -> dict[str, dict[str, str]]:
        """Parameters of several members: for each name, the names in the members."""
        origins: dict[str, dict[str, str]] = {}
        for member, names in self.names.items():
            for member_name, common_name in names.items():
                origins.setdefault(common_name, {})[member] = member_name
        return {
            name: member_names for name, member_names in origins.items() if len(member_names) > 1
        }


def _in_shared(member: Member, parameter: Parameter, channels: ChannelNames) -> bool:
    """Return whether a parameter belongs to bins which are all in shared channels."""
    names = channels.names[member.name]
    return bool(parameter.kinds & OF_BINS) and channels.shared.issuperset(
        names[name] for name in parameter.channels
    )


def _meaning(
    member: Member, name: str, of_bins: bool, combination: Combination
) -> tuple[str, tuple[str, ...]]:
    """Choose the name of a nuisance parameter in the combination, and identify the parameter."""
    correlate = combination.correlate
    for common, member_names in correlate.table.items():
        if member_names.get(member.name) == name:
            return common, ("table", common)
    if correlate.by == "name" and name not in correlate.apart and not of_bins:
        return name, ("name", name)
    return f"{member.name}_{name}", (member.name, name)


def _refuse_two_meanings(meanings: Mapping[str, Mapping[tuple[str, ...], str]]) -> None:
    for name, different in meanings.items():
        if len(different) > 1:
            raise ConfigError(
                f"Two different parameters would be called {name!r}: "
                f"{join_names(list(different.values()))}.",
                remedy="If they are one, join them in combine.correlate.table; if not, list one "
                "under combine.correlate.apart, or choose another name in the table or for "
                "combine.poi.",
            )


def _other_lumi(member: Member, name: str) -> ConfigError:
    return ConfigError(
        f"The luminosity {name!r} of {member.name} would be a parameter of its own, but a pyhf "
        "workspace has one luminosity, `lumi`.",
        remedy="Correlate it (combine.correlate.table: {lumi: {MEMBER: lumi, ...}}, or by name), "
        "or replace the lumi modifiers of one pallet by normsys modifiers.",
    )


def _check_correlation(members: Sequence[Member], combination: Combination, poi: str) -> None:
    by_name = {member.name: member for member in members}
    for common, member_names in combination.correlate.table.items():
        if common == poi:
            raise ConfigError(
                f"combine.correlate.table has {poi!r}, which is the parameter of interest.",
                remedy="Remove it: the parameters of interest of the members are always one.",
            )
        for member, name in member_names.items():
            parameter = by_name[member].parameters.get(name)
            if parameter is None or name == by_name[member].poi:
                role = "no nuisance parameter" if parameter is None else "as parameter of interest"
                raise ConfigError(
                    f"The member {member} has {role} {name!r}.",
                    remedy=f"Correct combine.correlate.table.{common}; the parameters of a region "
                    "are in its workspace and patches.",
                )
            if parameter.kinds & OF_BINS:
                raise ConfigError(
                    f"The parameter {name!r} of {member} belongs to the bins of a channel "
                    f"({join_names(sorted(parameter.kinds))}) and is independent of all others.",
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


def common_settings(
    members: Sequence[Member], parameters: ParameterNames, combination: Combination
) -> dict[str, dict[str, Any]]:
    """Compare the settings of common parameters, and collect those of the combination."""
    user_settings = {
        name: entry.model_dump(exclude_none=True) for name, entry in combination.parameters.items()
    }
    by_name = {member.name: member for member in members}
    common_names = {
        common_name for names in parameters.names.values() for common_name in names.values()
    }
    for name in user_settings:
        if name not in common_names:
            raise ConfigError(
                f"The combination has no parameter {name!r}.",
                remedy="Correct combine.parameters; names are those of the combination.",
            )
    for name, member_names in parameters.common.items():
        versions = {
            member: by_name[member].parameters[member_name]
            for member, member_name in member_names.items()
            if member_name in by_name[member].parameters
        }
        _require_same_parameter(name, versions, user_settings.get(name, {}))
    settings: dict[str, dict[str, Any]] = {}
    for member in members:
        for entry in member.measurement["config"]["parameters"]:
            common_name = parameters.names[member.name].get(entry["name"])
            if common_name is not None:
                settings.setdefault(common_name, {}).update(
                    {key: entry[key] for key in SETTINGS if key in entry}
                )
    for name, entry in user_settings.items():
        settings.setdefault(name, {}).update(entry)
    return settings


def _require_same_parameter(
    name: str, versions: Mapping[str, Parameter], user_settings: Mapping[str, Any]
) -> None:
    """Refuse a common parameter of different types, or of settings that the user did not set."""
    for (first_member, first), (second_member, second) in itertools.pairwise(versions.items()):
        kinds = first.kinds | second.kinds
        if len(kinds) > 1 and not kinds <= _SHARING:
            raise PalletError(
                f"The parameter {name!r} is of type {join_names(sorted(first.kinds))} in "
                f"{first_member}, but {join_names(sorted(second.kinds))} in {second_member}.",
                remedy="They are different parameters: list the name under "
                "combine.correlate.apart, or remove it from combine.correlate.table.",
            )
        for key in SETTINGS:
            values = first.settings.get(key), second.settings.get(key)
            if values[0] != values[1] and key not in user_settings:
                raise PalletError(
                    f"The {key} of the parameter {name!r} are {values[0]} in {first_member}, "
                    f"but {values[1]} in {second_member}.",
                    remedy=f"Say under combine.parameters.{name} which {key} hold in the "
                    "combination, or keep the parameters apart (combine.correlate).",
                )
