"""Regions of a fit: chosen channels, and bins that do not count.

A region is chosen by a change of the full workspace, before any engine reads it: channels that are
not chosen and bins that are masked are taken out of samples, modifiers, observations and settings
of parameters. So the fit is that of a workspace that never had them:

- Parameters that only such channels and bins have do not exist in the fit. Nor do factors of
  samples that expect nothing in the regions that are left, whatever the parameters are: data say
  nothing about them.
- A parameter with a component for each bin (staterror, shapesys, shapefactor) has one for each bin
  that is left, numbered from zero. :func:`component_names` tells their names in the full workspace.
- Modifiers that channels share by their name stay shared. A shapefactor needs the same mask in all
  of its channels, because its components belong to positions of bins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any

from palletfit.core.text import did_you_mean
from palletfit.engine.measurements import NONE
from palletfit.engine.samples import BIN_KINDS, Spec
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch

#: Settings of a parameter with an entry for each component.
_BY_COMPONENT = ("inits", "bounds", "auxdata", "sigmas", "factors", "fixed", "constraint")
#: Modifiers with numbers for each bin.
_BINNED = ("staterror", "shapesys")
#: Modifiers without a constraint.
_FACTORS = ("normfactor", "shapefactor")
#: Names that an error lists.
_LISTED = 8

#: Bins of channels that are left, by the channel's name.
Bins = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Regions:
    """Channels of a fit, and bins that do not count.

    Attributes
    ----------
    channels
        Names of the channels; None: all of them.
    without
        Names of channels that are left out of these.
    mask
        Bins that do not count, by the name of their channel, counted from zero.
    """

    channels: Collection[str] | None = None
    without: Collection[str] = ()
    mask: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Say whether a channel is chosen."""
        chosen = self.channels is None or name in self.channels
        return chosen and name not in self.without

    def bins_of(self, spec: Spec) -> dict[str, list[int]]:
        """List the bins of the chosen channels that are left, by channel."""
        return {
            name: [number for number in range(bins) if number not in self.mask.get(name, ())]
            for name, bins in sizes_of(spec).items()
            if self.has(name)
        }


def matching(patterns: Iterable[str], names: Collection[str]) -> tuple[str, ...]:
    """Choose the names that patterns mean, in the order of the names.

    A pattern that is a name means that one only, also where its brackets would fit others.
    """
    chosen = {
        name
        for pattern in patterns
        for name in ([pattern] if pattern in names else names)
        if name == pattern or fnmatchcase(name, pattern)
    }
    return tuple(name for name in names if name in chosen)


def sizes_of(spec: Spec) -> dict[str, int]:
    """Give the number of bins of each channel."""
    return {channel["name"]: len(channel["samples"][0]["data"]) for channel in spec["channels"]}


# --------------------------------------------------------------------------- arguments


def read_patterns(argument: str, value: Any) -> tuple[str, ...]:
    """Read an argument that is a name or pattern, or a list of these.

    Raises
    ------
    PalletError
        It is something else, or empty.
    """
    patterns = [value] if isinstance(value, str) else _listed_values(value)
    if not patterns or not all(isinstance(entry, str) for entry in patterns):
        raise PalletError(
            f"`{argument}` has to be names or shell patterns of channels, and is {value!r}.",
            remedy=f'Give a list, such as {argument}=["CR*"], or leave it out.',
        )
    return tuple(map(str, patterns))


def _listed_values(value: Any) -> list[Any]:
    """List what a list, set, array or other iterable holds; nothing of what is none."""
    if isinstance(value, Mapping):
        return []
    try:
        values = list(value)
    except TypeError:
        return []
    return values


def read_mask(value: Any) -> dict[str, frozenset[int]]:
    """Read the bins that do not count, by channel.

    Raises
    ------
    PalletError
        It is no mapping from names to numbers of bins.
    """
    if not isinstance(value, Mapping):
        raise PalletError(
            f"`mask` has to be bins by the name of their channel, and is {value!r}.",
            remedy='Give a dictionary, such as mask={"SR": [0, 1]}; bins are counted from 0.',
        )
    mask: dict[str, frozenset[int]] = {}
    for name, bins in value.items():
        numbers = [bins] if not isinstance(bins, Iterable) or isinstance(bins, str) else [*bins]
        if not all(_is_bin(number) for number in numbers):
            raise PalletError(
                f"The mask of the channel {name!r} is {bins!r}.",
                remedy="Give numbers of bins, counted from 0.",
            )
        mask[name] = frozenset(map(int, numbers))
    return mask


def _is_bin(value: Any) -> bool:
    """Say whether a value can be the number of a bin."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def check_patterns(argument: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    """Refuse a pattern that no channel fits.

    Raises
    ------
    PalletError
        With close names, and those that there are.
    """
    for pattern in patterns:
        if not matching([pattern], names):
            raise PalletError(
                f"No channel has the name {pattern!r}, or fits it as a pattern (`{argument}`).",
                remedy=f"{did_you_mean(pattern, names)}There are {listed(names)}.",
            )


def check_mask(regions: Regions, sizes: Mapping[str, int]) -> None:
    """Refuse a mask of a channel or bin that is not there, or not fitted.

    Raises
    ------
    PalletError
        With the names of channels, or the last bin.
    """
    for name, bins in regions.mask.items():
        if name not in sizes:
            raise PalletError(
                f"There is no channel {name!r}, of which bins should be masked.",
                remedy=f"{did_you_mean(str(name), sizes)}There are {listed(sizes)}.",
            )
        beyond = [number for number in sorted(bins) if number >= sizes[name]]
        if beyond:
            raise PalletError(
                f"The channel {name!r} has no bin {beyond[0]} that could be masked.",
                remedy=f"Bins are counted from 0; its last one is {sizes[name] - 1}.",
            )
        if not regions.has(name):
            raise PalletError(
                f"Bins of the channel {name!r} are masked, and it is not among the channels that "
                "are fitted.",
                remedy="Take it out of `mask`, or choose it with `channels`, too.",
            )


def listed(names: Iterable[str]) -> str:
    """Write names, but not too many of them."""
    ordered = sorted(names)
    text = ", ".join(map(repr, ordered[:_LISTED]))
    return text + (f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else "")


# --------------------------------------------------------------------------- workspaces


def restrict(spec: Spec, regions: Regions) -> Spec:
    """Take channels that are not chosen, and masked bins, out of a full workspace.

    Parameters
    ----------
    spec
        Full workspace. Samples of channels without a mask are shared, and must not be changed.
    regions
        Chosen channels and masked bins.

    Raises
    ------
    PalletError
        Nothing is left of the workspace or of a channel, or a shapefactor has unlike masks.
    """
    bins, sizes = regions.bins_of(spec), sizes_of(spec)
    if not bins:
        raise PalletError(
            "None of the chosen channels is in the model.",
            remedy=f"It has {listed(sizes)}.",
        )
    for name, left in bins.items():
        if not left:
            raise PalletError(
                f"All bins of the channel {name!r} are masked.",
                remedy="Leave the channel out: choose the others with `channels`.",
            )
    _check_shapefactors(spec, bins)
    channels = [
        _without_idle_factors(_masked_channel(channel, bins[channel["name"]]))
        for channel in spec["channels"]
        if channel["name"] in bins
    ]
    observations = [
        {**entry, "data": [entry["data"][number] for number in bins[entry["name"]]]}
        for entry in spec["observations"]
        if entry["name"] in bins
    ]
    restricted = {**spec, "channels": channels, "observations": observations}
    return {**restricted, "measurements": _settings(spec, restricted, bins)}


def _masked_channel(channel: Spec, bins: Sequence[int]) -> Spec:
    """Keep some bins of a channel."""
    if len(bins) == len(channel["samples"][0]["data"]):
        return channel
    try:
        samples = [
            {
                **sample,
                "data": _take(sample["data"], bins),
                "modifiers": [_masked_modifier(entry, bins) for entry in sample["modifiers"]],
            }
            for sample in channel["samples"]
        ]
    except IndexError:
        raise PalletError(
            f"Samples and modifiers of the channel {channel['name']!r} have unlike numbers of "
            "bins, so that none can be masked.",
            remedy="Give each of them one number for each bin.",
        ) from None
    return {**channel, "samples": samples}


def _without_idle_factors(channel: Spec) -> Spec:
    """Take factors without constraint off the samples that expect nothing."""
    idle = [sample["name"] for sample in channel["samples"] if _is_empty(sample)]
    if not idle:
        return channel
    samples = [
        {
            **sample,
            "modifiers": [
                entry
                for entry in sample["modifiers"]
                if entry["type"] not in _FACTORS or entry["name"] == NONE
            ],
        }
        if sample["name"] in idle
        else sample
        for sample in channel["samples"]
    ]
    return {**channel, "samples": samples}


def _is_empty(sample: Spec) -> bool:
    """Say whether a sample expects nothing, whatever its parameters are."""
    shapes = [
        entry["data"][side]
        for entry in sample["modifiers"]
        if entry["type"] == "histosys"
        for side in ("lo_data", "hi_data")
    ]
    return not any(map(any, (sample["data"], *shapes)))


def _masked_modifier(modifier: Spec, bins: Sequence[int]) -> Spec:
    """Keep some bins of a modifier."""
    if modifier["type"] == "histosys":
        sides = {side: _take(modifier["data"][side], bins) for side in ("lo_data", "hi_data")}
        return {**modifier, "data": {**modifier["data"], **sides}}
    if modifier["type"] in _BINNED:
        return {**modifier, "data": _take(modifier["data"], bins)}
    return modifier


def _take(values: Sequence[Any], bins: Sequence[int]) -> list[Any]:
    return [values[number] for number in bins]


def _check_shapefactors(spec: Spec, bins: Bins) -> None:
    """Refuse a shapefactor whose channels have unlike masks."""
    first: dict[str, str] = {}
    for channel, modifier in _bin_modifiers(spec):
        if modifier["type"] != "shapefactor" or channel not in bins:
            continue
        other = first.setdefault(modifier["name"], channel)
        if list(bins[other]) != list(bins[channel]):
            raise PalletError(
                f"The shapefactor {modifier['name']!r} couples bins of the channels {other!r} and "
                f"{channel!r} by their position, and these have different masks.",
                remedy="Mask the same bins in both, or leave one of them out with `channels`.",
            )


def _bin_modifiers(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """Yield modifiers with a component for each bin, with the names of their channels, in order."""
    for channel in sorted(spec["channels"], key=lambda entry: str(entry["name"])):
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                if modifier["type"] in BIN_KINDS:
                    yield channel["name"], modifier


# --------------------------------------------------------------------------- components


def component_names(spec: Spec, regions: Regions) -> dict[str, str]:
    """Give the names of components in a full workspace, by those in the restricted one.

    Parameters
    ----------
    spec
        Full workspace.
    regions
        Chosen channels and masked bins.

    Returns
    -------
    dict
        Of all parameters with a component for each bin; others keep their names.
    """
    bins = regions.bins_of(spec)
    return {
        f"{name}[{new}]": f"{name}[{old}]"
        for name, positions in _positions(spec, bins).items()
        for new, old in enumerate(positions)
    }


def _positions(spec: Spec, bins: Bins) -> dict[str, list[int]]:
    """List the components that are left, by parameter, as numbers in the full workspace."""
    complete = {name: range(size) for name, size in sizes_of(spec).items()}
    before = _components(spec, complete)
    after = _components(spec, bins)
    positions: dict[str, list[int]] = {}
    for name, components in after.items():
        numbers = {component: number for number, component in enumerate(before[name])}
        positions[name] = [numbers[entry] for entry in components if entry in numbers]
    return positions


def _components(spec: Spec, bins: Bins) -> dict[str, list[tuple[str | None, int]]]:
    """List channel and bin of the components of each parameter, in pyhf's order.

    Those of a staterror are numbered through all of its channels; those of others are the bins of
    any of their channels.
    """
    components: dict[str, list[tuple[str | None, int]]] = {}
    seen: set[tuple[str, str]] = set()
    for channel, modifier in _bin_modifiers(spec):
        name, kind = modifier["name"], modifier["type"]
        if channel not in bins or (name, channel) in seen:
            continue
        seen.add((name, channel))
        if kind == "staterror":
            components.setdefault(name, []).extend((channel, number) for number in bins[channel])
        else:
            components.setdefault(name, [(None, number) for number in bins[channel]])
    return components


def _settings(spec: Spec, restricted: Spec, bins: Bins) -> list[Spec]:
    """Keep the settings of components that are left, in all measurements."""
    positions = _positions(spec, bins)
    complete = {name: range(size) for name, size in sizes_of(spec).items()}
    sizes = {name: len(entries) for name, entries in _components(spec, complete).items()}
    measurements: list[Spec] = []
    for measurement in restricted["measurements"]:
        parameters = [
            _of_components(entry, positions[entry["name"]], sizes[entry["name"]])
            if entry["name"] in positions
            else entry
            for entry in measurement["config"]["parameters"]
        ]
        config = {**measurement["config"], "parameters": parameters}
        measurements.append({**measurement, "config": config})
    return measurements


def _of_components(settings: Spec, positions: Sequence[int], size: int) -> Spec:
    """Keep the entries of some components in the settings of a parameter."""
    cut = {
        key: _take(settings[key], positions)
        for key in _BY_COMPONENT
        if isinstance(settings.get(key), list) and len(settings[key]) == size
    }
    return {**settings, **cut}


# --------------------------------------------------------------------------- patches


def as_patch(patch: Patch, background: Spec, spec: Spec) -> Patch:
    """Make the patch that turns a changed background into a changed full workspace.

    Parameters
    ----------
    patch
        The patch before both were changed, which gives name and values.
    background, spec
        Background-only and full workspace after the change. Samples that are equal in both are no
        part of the patch.
    """
    operations: list[dict[str, Any]] = []
    names = [channel["name"] for channel in spec["channels"]]
    if names == [channel["name"] for channel in background["channels"]]:
        for number, channel in enumerate(spec["channels"]):
            pointer = f"/channels/{number}/samples"
            before = background["channels"][number]["samples"]
            operations += _sample_operations(pointer, before, channel["samples"])
    else:
        operations.append({"op": "replace", "path": "/channels", "value": spec["channels"]})
    operations += [
        {"op": "replace", "path": f"/{key}", "value": spec[key]}
        for key in ("observations", "measurements")
        if spec[key] != background[key]
    ]
    return Patch(patch.name, patch.values, operations, patch.options)


def _sample_operations(
    pointer: str, before: Sequence[Spec], after: Sequence[Spec]
) -> Iterator[dict[str, Any]]:
    """Yield operations that replace samples that differ."""
    position, additions = 0, []
    left = list(before)
    removed: list[int] = []
    for number, sample in enumerate(after):
        at = next((i for i in range(position, len(left)) if _equal(left[i], sample)), None)
        if at is None:
            additions.append((number, sample))
            continue
        removed += range(position, at)
        position = at + 1
    removed += range(position, len(left))
    for number in reversed(removed):
        yield {"op": "remove", "path": f"{pointer}/{number}"}
    for number, sample in additions:
        yield {"op": "add", "path": f"{pointer}/{number}", "value": sample}


def _equal(sample: Spec, other: Spec) -> bool:
    """Compare two samples; quick where they share their content, or differ in their name."""
    if sample["name"] != other["name"]:
        return False
    if sample["modifiers"] is other["modifiers"] and sample["data"] is other["data"]:
        return True
    return bool(sample == other)
