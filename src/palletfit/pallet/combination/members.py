"""Members of a combination: their channels, parameters and signal points."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyhf.modifiers import histfactory_set

from palletfit.config import CombinationMember
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.extensions import extensions
from palletfit.pallet.patches import Patch, apply_sharing
from palletfit.pallet.patchset import parse_patchset

Spec = Mapping[str, Any]
Values = tuple[float | str, ...]

#: Modifiers whose parameters belong to the bins of a channel: independent between channels.
OF_BINS = frozenset({"staterror", "shapesys"})
#: Settings of a parameter in a measurement, as pyhf calls them.
SETTINGS = ("inits", "bounds", "auxdata", "sigmas", "fixed", "factors")
#: Largest number of names in a remark or an error.
_NAMED = 5


@dataclass
class Parameter:
    """Parameter of a member: its modifiers and pyhf's settings of it.

    Attributes
    ----------
    kinds, channels
        Types of its modifiers, and names of the channels that have them.
    settings
        Settings of the measurement, and pyhf's defaults for the others; lists and numbers.
    """

    kinds: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """Signal point of a member: its full channels by name, or the reason for having none."""

    patch: Patch
    channels: Mapping[str, Spec]
    problem: str | None = None


@dataclass(frozen=True)
class Member:
    """Likelihood of the combination."""

    name: str
    settings: CombinationMember
    workspace: Spec
    measurement: Spec
    channels: Mapping[str, Spec]
    observed: Mapping[str, Sequence[float]]
    points: Mapping[Values, Point]
    parameters: Mapping[str, Parameter]

    @property
    def poi(self) -> str:
        """Parameter of interest of the measurement."""
        return str(self.measurement["config"]["poi"])

    @classmethod
    def read(
        cls,
        name: str,
        settings: CombinationMember,
        workspace: Spec,
        spec: Spec,
        labels: Sequence[str],
    ) -> Member:
        """Read a workspace and its patchset, and apply every patch.

        Raises
        ------
        ConfigError
            The settings name a channel, measurement or label that does not exist.
        PalletError
            The file is no patchset, two patches have the same values, or the workspace has
            additions to those of pyhf.
        """
        addition = next(extensions(workspace), None)
        if addition is not None:
            raise PalletError(
                f"The member {name} is no workspace of pyhf: {addition}.",
                remedy="A combination has pyhf's workspaces only; fit this one alone.",
            )
        patchset = parse_patchset(spec, Path(f"patchset of {name}"))
        channel_names = [channel["name"] for channel in workspace["channels"]]
        for key in ("channels", "without"):
            for channel in getattr(settings, key):
                if channel not in channel_names:
                    raise ConfigError(
                        f"The member {name} has no channel {channel!r}.",
                        remedy=f"Correct combine.members.{name}.{key}; there are "
                        f"{', '.join(channel_names)}.",
                    )
        channels = _used_channels(workspace, settings)
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
        points: dict[Values, Point] = {}
        for patch in patchset.patches:
            values = tuple(patch.values[index] for index in order)
            if values in points:
                raise PalletError(
                    f"The patch of {name} has the same values {list(values)} as "
                    f"{points[values].patch.name!r}.",
                    remedy="Correct the values or remove one of the two.",
                    patch=patch.name,
                )
            points[values] = _read_point(workspace, patch, settings)
        measurement = _measurement(name, settings, workspace)
        return cls(
            name=name,
            settings=settings,
            workspace=workspace,
            measurement=measurement,
            channels=channels,
            observed={
                observation["name"]: observation["data"]
                for observation in workspace["observations"]
            },
            points=points,
            parameters=_read_parameters(channels, points, measurement),
        )


def _used_channels(workspace: Spec, settings: CombinationMember) -> dict[str, Spec]:
    return {
        channel["name"]: channel
        for channel in workspace["channels"]
        if channel["name"] not in settings.without
    }


def _measurement(name: str, settings: CombinationMember, workspace: Spec) -> Spec:
    measurements: list[Spec] = workspace["measurements"]
    if settings.measurement is None:
        return measurements[0]
    for measurement in measurements:
        if measurement["name"] == settings.measurement:
            return measurement
    raise ConfigError(
        f"The member {name} has no measurement {settings.measurement!r}.",
        remedy=f"Set combine.members.{name}.measurement to one of "
        f"{', '.join(candidate['name'] for candidate in measurements)}.",
    )


def _read_point(workspace: Spec, patch: Patch, settings: CombinationMember) -> Point:
    try:
        full = apply_sharing(workspace, patch)
    except PalletError as error:
        return Point(patch, {}, error.problem)
    channels = _used_channels(full, settings)
    added = sorted(channels.keys() - _used_channels(workspace, settings).keys())
    if added:
        return Point(patch, {}, f"The patch adds the channel {added[0]}.")
    for key in ("observations", "measurements"):
        if full[key] != workspace[key]:
            return Point(patch, {}, f"The patch changes the {key}.")
    return Point(patch, channels)


def _read_parameters(
    channels: Mapping[str, Spec], points: Mapping[Values, Point], measurement: Spec
) -> dict[str, Parameter]:
    """Collect the parameters of a background and of all its patches."""
    parameters: dict[str, Parameter] = {}
    read: set[int] = set()
    for channel in itertools.chain(
        channels.values(), *(point.channels.values() for point in points.values())
    ):
        for sample in channel["samples"]:
            if id(sample["modifiers"]) in read:
                continue  # a shared sample, which the patch does not change
            read.add(id(sample["modifiers"]))
            for modifier in sample["modifiers"]:
                parameter = parameters.setdefault(modifier["name"], Parameter())
                parameter.channels.add(channel["name"])
                if modifier["type"] not in parameter.kinds:
                    parameter.kinds.add(modifier["type"])
                    parameter.settings |= _defaults(modifier, sample)
    for entry in measurement["config"]["parameters"]:
        if entry["name"] in parameters:
            settings = {key: entry[key] for key in SETTINGS if key in entry}
            parameters[entry["name"]].settings |= settings
    return parameters


def _defaults(modifier: Spec, sample: Spec) -> dict[str, Any]:
    """Ask pyhf for the default settings of a modifier's parameter, unless it belongs to bins."""
    if modifier["type"] in OF_BINS or modifier["type"] not in histfactory_set:
        return {}
    builder, _ = histfactory_set[modifier["type"]]
    required = sys.modules[builder.__module__].required_parset(sample["data"], modifier["data"])
    return {key: _as_lists(required[key]) for key in SETTINGS if key in required}


def _as_lists(value: Any) -> Any:
    return [_as_lists(element) for element in value] if isinstance(value, (tuple, list)) else value


def join_names(names: Sequence[str]) -> str:
    """Join names in words: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def first_names(names: Sequence[str]) -> str:
    """List the first few names and the number of the others."""
    remainder = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {remainder} more" if remainder > 0 else "")
