"""From the expected events of a point to the patch that adds it to a background."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palletfit.config import FitSettings, Points
from palletfit.errors import PalletError

#: Modifiers that a relative uncertainty of the signal may share a parameter with.
_CONSTRAINED = ("normsys", "histosys")


@dataclass(frozen=True)
class Signal:
    """Recipe that makes a signal sample of yields.

    Attributes
    ----------
    bins
        Number of bins of each channel, also of those that are not fitted.
    positions
        Position of each channel in the workspace.
    sample
        Name of the sample.
    modifiers
        Modifiers of all points: the parameter of interest, luminosity, uncertainties of one size.
    negative
        Yields may be below zero.
    kept
        Bins that count, of channels of which some are masked.
    """

    bins: Mapping[str, int]
    positions: Mapping[str, int]
    sample: str
    modifiers: tuple[Mapping[str, Any], ...]
    negative: bool = False
    kept: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        workspace: Mapping[str, Any],
        points: Points,
        settings: FitSettings,
        choice: Mapping[str, Any] | None = None,
    ) -> Signal:
        """Read a section `points`, checked against its workspace.

        With a `choice` from :func:`palletfit.pallet.choosing.read_choice`, the workspace has the
        chosen channels and bins only, and points have yields of all.

        Raises
        ------
        PalletError
            A channel or the luminosity is unknown, or a name is taken.
        """
        bins = {entry["name"]: len(entry["data"]) for entry in workspace["observations"]}
        positions = {entry["name"]: index for index, entry in enumerate(workspace["channels"])}
        config = _measurement(workspace, settings)["config"]
        bins |= dict(choice["sizes"]) if choice else {}
        _check_names(workspace, points, config, bins)
        modifiers: list[Mapping[str, Any]] = [
            {"name": config["poi"], "type": "normfactor", "data": None}
        ]
        if points.lumi is not None:
            modifiers.append({"name": points.lumi, "type": "lumi", "data": None})
        modifiers += [
            normsys(name, size)
            for name, size in points.uncertainties.items()
            if not isinstance(size, str)
        ]
        return cls(
            bins=bins if choice else {name: bins[name] for name in positions},
            positions=positions,
            sample=points.sample,
            modifiers=tuple(modifiers),
            negative=points.negative,
            kept=choice["bins"] if choice else {},
        )

    @property
    def is_restricted(self) -> bool:
        """True if some channels or bins are not fitted."""
        return any(len(self.kept.get(name, ())) < size for name, size in self.bins.items()) and (
            bool(self.kept)
        )

    def operations(
        self, yields: Mapping[str, Sequence[float]], sizes: Mapping[str, float]
    ) -> list[dict[str, Any]]:
        """Make the JSON Patch of a point.

        Parameters
        ----------
        yields
            Expected events in the bins of each channel that has signal.
        sizes
            Relative uncertainties of this point alone, by name.
        """
        modifiers = [*self.modifiers, *(normsys(name, size) for name, size in sizes.items())]
        return [
            {
                "op": "add",
                "path": f"/channels/{self.positions[channel]}/samples/-",
                "value": {
                    "name": self.sample,
                    "data": [data[index] for index in self.kept.get(channel, range(len(data)))],
                    "modifiers": modifiers,
                },
            }
            for channel, data in yields.items()
            if channel in self.positions
        ]

    def problem(self, yields: Mapping[str, Sequence[float]]) -> str | None:
        """Describe a mistake in the yields of a function; None if there is none."""
        for channel, data in yields.items():
            if channel not in self.bins:
                return f"there is no channel {channel!r} (there are {', '.join(self.bins)})"
            if len(data) != self.bins[channel]:
                return f"channel {channel!r} has {self.bins[channel]} bins, not {len(data)}"
            for number, value in enumerate(data):
                wrong = wrong_yield(value, negative=self.negative)
                if wrong is not None:
                    return f"the yield of bin {number} of channel {channel!r} {wrong}"
        return None if yields else "it has no yields at all"


def normsys(name: str, size: float) -> dict[str, Any]:
    """Make the modifier of a relative uncertainty of all yields of a sample."""
    return {"name": name, "type": "normsys", "data": {"lo": 1.0 - size, "hi": 1.0 + size}}


def wrong_yield(value: float, *, negative: bool = False) -> str | None:
    """Describe why a number is no number of expected events; None if it is one."""
    if not math.isfinite(value):
        return f"is not a finite number ({value})"
    return f"is negative ({value:g})" if value < 0 and not negative else None


def _measurement(workspace: Mapping[str, Any], settings: FitSettings) -> Mapping[str, Any]:
    for entry in workspace["measurements"]:
        if settings.measurement in (None, entry["name"]):
            measurement: Mapping[str, Any] = entry
            return measurement
    names = ", ".join(entry["name"] for entry in workspace["measurements"])
    raise PalletError(
        f"The workspace has no measurement {settings.measurement!r}.",
        remedy=f"Correct `fit.measurement`; there are {names}.",
    )


def _check_names(
    workspace: Mapping[str, Any],
    points: Points,
    measurement: Mapping[str, Any],
    bins: Mapping[str, int],
) -> None:
    channels = {channel["name"]: channel for channel in workspace["channels"]}
    for name in points.channels or ():
        if name not in bins:
            raise PalletError(
                f"`points.channels` names {name!r}, which the workspace does not have.",
                remedy=f"Its channels are {', '.join(bins)}.",
            )
    for name in points.channels or channels:
        samples = channels[name]["samples"] if name in channels else ()
        if any(sample["name"] == points.sample for sample in samples):
            raise PalletError(
                f"The background has a sample {points.sample!r} in channel {name!r} already.",
                remedy="Choose another `points.sample`.",
            )
    kinds: dict[str, str] = {}
    for channel in workspace["channels"]:
        for sample in channel["samples"]:
            kinds |= {modifier["name"]: modifier["type"] for modifier in sample["modifiers"]}
    reserved = {measurement["poi"]: "the parameter of interest", points.lumi: "the luminosity"}
    for name in points.uncertainties:
        kind = kinds.get(name)
        if name in reserved or (kind is not None and kind not in _CONSTRAINED):
            meaning = reserved.get(name, f"a {kind}")
            raise PalletError(
                f"`points.uncertainties` names {name!r}, which is {meaning}.",
                remedy="Give the uncertainty another name.",
            )
    with_width = {entry["name"] for entry in measurement["parameters"] if "sigmas" in entry}
    if points.lumi is not None and points.lumi not in with_width:
        raise PalletError(
            f"`points.lumi` names {points.lumi!r}, but the measurement gives it no width.",
            remedy=f"Those with one are {', '.join(sorted(with_width)) or 'none'}.",
        )
