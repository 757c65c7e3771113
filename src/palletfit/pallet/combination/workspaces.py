"""Combine background-only workspaces with pyhf."""

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
    for name, member_channels in channels.origins.items():
        require_same_channel(
            name,
            {
                member.name: (
                    member.channels[member_channels[member.name]],
                    parameters.names[member.name],
                )
                for member in members
                if member.name in member_channels
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
                    {"name": name, **values}
                    for name, values in settings.items()
                    if name in parameters.names[member.name].values()
                ],
            }
            renamed["measurements"] = [{"name": title, "config": config}]
            # pyhf compares lists entry by entry: equal channels must be in the same order.
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
    """Rename channels and modifiers of a member's workspace; its measurement is unchanged."""
    workspace = pyhf.Workspace(member.workspace, validate=False)
    if member.settings.without:
        workspace = workspace.prune(channels=member.settings.without)
    modifiers = {name for name, _ in workspace.modifiers}
    return workspace.rename(
        modifiers={
            member_name: common_name
            for member_name, common_name in parameters.names[member.name].items()
            # pyhf refuses to rename modifiers that only the signal has.
            if member_name in modifiers and member_name != common_name
        },
        channels={
            member_name: common_name
            for member_name, common_name in channels.names[member.name].items()
            if member_name != common_name
        },
    )
