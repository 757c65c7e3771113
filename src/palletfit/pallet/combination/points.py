"""Signal points of a combination, and their patches as patches of the combined workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jsonpatch

from palletfit.config import Combination
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.combination.channels import ChannelNames, require_same_channel
from palletfit.pallet.combination.members import Member, Point, Spec, Values, joined, some
from palletfit.pallet.combination.parameters import ParameterNames


def common_points(
    members: Sequence[Member], combination: Combination
) -> tuple[dict[Values, dict[str, Point]], list[str]]:
    """Points by their values, each with the members that have it; remarks on missing ones."""
    points: dict[Values, dict[str, Point]] = {}
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
                f"{some(names)}"
            )
    if drop:
        points = {values: own for values, own in points.items() if len(own) == len(members)}
    if not points:
        raise PalletError(
            f"{joined([member.name for member in members])} have no signal point in common.",
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


class PatchWriter:
    """Expresses the patches of the members for a point as one patch of the combined workspace."""

    def __init__(
        self,
        workspace: Spec,
        members: Sequence[Member],
        channels: ChannelNames,
        parameters: ParameterNames,
    ) -> None:
        self._channels = workspace["channels"]
        self._members = {member.name: member for member in members}
        self._origins = channels.origins
        self._names = parameters.names

    def operations(self, name: str, present: Mapping[str, Point]) -> list[dict[str, Any]]:
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
            require_same_channel(channel["name"], full, name)
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
