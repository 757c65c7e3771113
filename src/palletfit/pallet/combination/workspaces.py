"""The combined background-only workspace, which pyhf makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyhf
import pyhf.exceptions

from palletfit.errors import PalletError
from palletfit.pallet.combination.channels import ChannelNames, require_same_channel
from palletfit.pallet.combination.members import Member
from palletfit.pallet.combination.parameters import ParameterNames


def combined_workspace(
    members: Sequence[Member],
    channels: ChannelNames,
    parameters: ParameterNames,
    settings: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Combine the backgrounds of all members, sorted as pyhf sorts workspaces.

    Raises
    ------
    PalletError
        A shared channel is not the same in all members, or pyhf cannot combine them.
    """
    for name, own in channels.origins.items():
        require_same_channel(
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
        pyhf.exceptions.SchemaNotFound,
    ) as error:
        raise PalletError(
            f"pyhf cannot combine the workspaces: {' '.join(str(error).split())}",
            remedy="Correct the workspaces, or `combine` in the analysis file.",
        ) from None
    return dict(pyhf.Workspace.sorted(combined))


def _renamed_workspace(
    member: Member, channels: ChannelNames, parameters: ParameterNames
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
