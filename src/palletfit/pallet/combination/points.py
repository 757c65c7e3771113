"""Signal points of a combination, and their patches of the combined workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jsonpatch

from palletfit.config import Combination
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.combination.channels import ChannelNames, require_same_channel
from palletfit.pallet.combination.members import (
    Member,
    Point,
    Spec,
    Values,
    first_names,
    join_names,
)
from palletfit.pallet.combination.parameters import ParameterNames


def common_points(
    members: Sequence[Member], combination: Combination
) -> tuple[dict[Values, dict[str, Point]], list[str]]:
    """Collect the points of all members by their values, with remarks on missing ones."""
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
        lacking = [present for present in points.values() if member.name not in present]
        if lacking:
            names = [next(iter(present.values())).patch.name for present in lacking]
            remarks.append(
                f"{len(lacking)} points that {member.name} lacks "
                f"{'were left out' if drop else f'are fitted without {member.name}'}: "
                f"{first_names(names)}"
            )
    if drop:
        points = {
            values: present for values, present in points.items() if len(present) == len(members)
        }
    if not points:
        raise PalletError(
            f"{join_names([member.name for member in members])} have no signal point in common.",
            remedy="Check combine.members.MEMBER.labels and combine.tolerance, or set "
            "combine.missing: keep.",
        )
    return points, remarks


def _same_point(values: Values, points: Mapping[Values, Any], tolerance: float) -> Values:
    """Find the values of the same point of an earlier member; return `values` if there is none."""
    if values in points or not tolerance:
        return values
    near = [other for other in points if _are_close(values, other, tolerance)]
    if len(near) > 1:
        raise ConfigError(
            f"The point {list(values)} is the same as {list(near[0])} and as {list(near[1])} "
            "within combine.tolerance.",
            remedy="Make combine.tolerance smaller than the distance of points.",
        )
    return near[0] if near else values


def _are_close(first: Values, second: Values, tolerance: float) -> bool:
    return all(
        first_value == second_value
        if isinstance(first_value, str) or isinstance(second_value, str)
        else abs(first_value - second_value) <= tolerance
        for first_value, second_value in zip(first, second, strict=True)
    )


class PatchWriter:
    """Writer of one patch of the combined workspace from the members' patches of a point."""

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
        """Write a JSON Patch (RFC 6902) with the effect of each member's patch.

        Channels of which no member has the point are removed. A patch that cannot be combined
        becomes one that does not apply and gives the reason. The point is then recorded as failed.
        """
        for member, point in present.items():
            if point.problem is not None:
                reason = f"{point.patch.name} of {member}: {point.problem}"
                return [{"op": "test", "path": "/version", "value": reason}]
        operations: list[dict[str, Any]] = []
        removed = []
        for index, channel in enumerate(self._channels):
            versions = {
                member: (present[member].channels.get(member_channel), self._names[member])
                for member, member_channel in self._origins[channel["name"]].items()
                if member in present
            }
            require_same_channel(channel["name"], versions, name)
            member, (changed, _) = next(iter(versions.items()), ("", (None, {})))
            if changed is None:
                removed.append({"op": "remove", "path": f"/channels/{index}"})
            else:
                operations += self._of_samples(index, member, changed)
        return operations + removed[::-1]

    def _of_samples(self, index: int, member: str, full: Spec) -> Iterator[dict[str, Any]]:
        combined = self._channels[index]["samples"]
        positions = {sample["name"]: number for number, sample in enumerate(combined)}
        before = {
            sample["name"]: sample
            for sample in self._members[member].channels[full["name"]]["samples"]
        }
        after = {sample["name"]: sample for sample in full["samples"]}
        path = f"/channels/{index}/samples"
        for name in sorted(before.keys() & after.keys()):
            if after[name] != before[name]:
                yield from _changes(
                    f"{path}/{positions[name]}",
                    combined[positions[name]],
                    self._renamed(member, after[name]),
                )
        removed = sorted((positions[name] for name in before.keys() - after.keys()), reverse=True)
        for number in removed:
            yield {"op": "remove", "path": f"{path}/{number}"}
        added = [sample for name, sample in after.items() if name not in before]
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
        modifiers.sort(key=lambda modifier: (modifier["name"], modifier["type"]))
        return {**sample, "modifiers": modifiers}


def _changes(path: str, before: Spec, after: Spec) -> Iterator[dict[str, Any]]:
    for operation in jsonpatch.make_patch(before, after):
        pointers = ("path", "from")
        yield {
            key: f"{path}{value}" if key in pointers else value for key, value in operation.items()
        }
