"""Parameters of a combination: which are one, and that their types and settings agree."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palletfit.config import Combination
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.combination.channels import ChannelNames
from palletfit.pallet.combination.members import OF_BINS, SETTINGS, Member, Parameter, joined, some

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
        """Choose the names, by name or by the table.

        Raises
        ------
        ConfigError
            The combination names what does not exist, one name would mean two parameters, or a
            luminosity would be apart.
        """
        poi = combination.poi or members[0].poi
        _check_correlation(members, combination, poi)
        names: dict[str, dict[str, str]] = {}
        # What a name means; one may not come to mean two parameters.
        meanings: dict[str, dict[tuple[str, ...], str]] = {}
        apart: set[str] = set()
        for member in members:
            others = {name for item in members if item is not member for name in item.parameters}
            names[member.name] = {}
            for name, parameter in {member.poi: Parameter(), **member.parameters}.items():
                meaning: tuple[str, ...]
                if name == member.poi:
                    new, meaning = poi, ("poi",)
                elif _in_shared(member, parameter, channels):
                    new, meaning = name, ("name", name)
                else:
                    of_bins = bool(parameter.kinds & OF_BINS) and name in others
                    new, meaning = _meaning(member, name, of_bins, combination)
                    if of_bins and new != name and name not in combination.correlate.apart:
                        apart.add(name)
                if new != name and "lumi" in parameter.kinds:
                    raise _other_lumi(member, name)
                names[member.name][name] = new
                meanings.setdefault(new, {}).setdefault(meaning, f"{name} of {member.name}")
        _refuse_two_meanings(meanings)
        kept = f"{some(sorted(apart))}: parameters of bins, different in spite of equal names"
        return cls(names, poi, (kept,) if apart and combination.correlate.by == "name" else ())

    @property
    def common(self) -> dict[str, dict[str, str]]:
        """Parameters of several members: by their name here, the name in each member."""
        found: dict[str, dict[str, str]] = {}
        for member, names in self.names.items():
            for old, new in names.items():
                found.setdefault(new, {})[member] = old
        return {name: own for name, own in found.items() if len(own) > 1}


def _in_shared(member: Member, parameter: Parameter, channels: ChannelNames) -> bool:
    """Whether a parameter belongs to bins, and all of them are in channels that are taken once."""
    names = channels.names[member.name]
    return bool(parameter.kinds & OF_BINS) and channels.shared.issuperset(
        names[name] for name in parameter.channels
    )


def _meaning(
    member: Member, name: str, of_bins: bool, combination: Combination
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
                f"{joined(list(different.values()))}.",
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
            if parameter.kinds & OF_BINS:
                raise ConfigError(
                    f"The parameter {name!r} of {member} belongs to the bins of a channel "
                    f"({joined(sorted(parameter.kinds))}) and is independent of all others.",
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
                said.setdefault(new, {}).update({key: item[key] for key in SETTINGS if key in item})
    for name, item in chosen.items():
        said.setdefault(name, {}).update(item)
    return said


def _require_same_parameter(
    name: str, own: Mapping[str, Parameter], chosen: Mapping[str, Any]
) -> None:
    """Refuse a common parameter of different types or settings, but for what the user chose."""
    for (first, one), (second, other) in itertools.pairwise(own.items()):
        kinds = one.kinds | other.kinds
        if len(kinds) > 1 and not kinds <= _SHARING:
            raise PalletError(
                f"The parameter {name!r} is of type {joined(sorted(one.kinds))} in {first}, but "
                f"{joined(sorted(other.kinds))} in {second}.",
                remedy="They are different parameters: list the name under "
                "combine.correlate.apart, or remove it from combine.correlate.table.",
            )
        for key in SETTINGS:
            values = one.settings.get(key), other.settings.get(key)
            if values[0] != values[1] and key not in chosen:
                raise PalletError(
                    f"The {key} of the parameter {name!r} are {values[0]} in {first}, "
                    f"but {values[1]} in {second}.",
                    remedy=f"Say under combine.parameters.{name} which {key} hold in the "
                    "combination, or keep the parameters apart (combine.correlate).",
                )
