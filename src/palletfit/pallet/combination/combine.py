"""Combine likelihoods, in memory or from the prepared files of an analysis' members."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyhf

from palletfit.config import Analysis, Combination
from palletfit.core.files import read_json, write_atomically
from palletfit.errors import ConfigError
from palletfit.pallet.choosing import Choosing, chosen_patchset, read_choice, summary_of
from palletfit.pallet.combination.channels import ChannelNames
from palletfit.pallet.combination.members import Member, Spec
from palletfit.pallet.combination.parameters import ParameterNames, common_settings
from palletfit.pallet.combination.points import PatchWriter, common_points
from palletfit.pallet.combination.workspaces import combined_workspace
from palletfit.pallet.patches import canonical_json
from palletfit.pallet.patchset import check, check_patchset, summarise
from palletfit.pallet.summary_page import write_summary

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Combined:
    """Combination in the form of a pallet.

    Attributes
    ----------
    workspace, patchset
        Contents of the two files. The patchset holds the digest of the workspace.
    parameters
        Parameters of several members: for each name in the combination, the names in the members.
    channels
        For each name in the combination, the names in the members that have the channel.
    remarks
        Messages to the user: points without a patch in a member, parameters kept apart.
    """

    workspace: dict[str, Any]
    patchset: dict[str, Any]
    parameters: dict[str, dict[str, str]]
    channels: dict[str, dict[str, str]]
    remarks: tuple[str, ...]


def combine_region(
    analysis: Analysis,
    workspaces: Sequence[Path],
    patchsets: Sequence[Path],
    workspace: Path,
    patchset: Path,
    page: Path,
    choosing: Choosing | None = None,
) -> dict[str, Any]:
    """Combine the prepared files of the members of an analysis, check and describe the result.

    Parameters
    ----------
    analysis
        The combination.
    workspaces, patchsets
        Files of the members, in the order in which the analysis names them.
    workspace, patchset
        Paths of the combined files.
    page
        Path of their summary as an HTML page. Its JSON file is next to it.
    choosing
        Takes channels, bins and observations of the combination out that it does not choose; none:
        all stay.

    Returns
    -------
    dict
        The summary, see :func:`palletfit.pallet.patchset.validate`, with the common parameters and
        channels.

    Raises
    ------
    ConfigError, PalletError
        See :func:`combine`; also if the number of files is not that of the members.
    """
    if analysis.combine is None or len(analysis.combine.members) != len(workspaces):
        raise ConfigError(
            f"The analysis {analysis.name} is no combination of {len(workspaces)} workspaces.",
            remedy="Give the files of all members, in the order of its `combine.members`.",
        )
    likelihoods = {
        name: (read_json(workspace_file), read_json(patchset_file))
        for name, workspace_file, patchset_file in zip(
            analysis.combine.members, workspaces, patchsets, strict=True
        )
    }
    combined = combine(
        likelihoods, analysis.combine, analysis.labels, title=f"combination {analysis.name}"
    )
    checked = check(combined.workspace, combined.patchset, analysis.labels, workspace, patchset)
    content, spec = dict(combined.workspace), dict(combined.patchset)
    if choosing is None:
        summary = summarise(content, spec, checked)
    else:
        chosen, changed = chosen_patchset(content, spec, choosing)
        content, spec = dict(chosen.workspace), dict(changed)
        summary = summarise(content, spec, check_patchset(spec, analysis.labels, patchset))
        summary = summary_of(analysis.choice_of(analysis.used_regions[0]), chosen, summary)
    summary["remarks"] += [
        *combined.remarks,
        *(
            f"{name}: {remark}"
            for name, file in zip(analysis.combine.members, workspaces, strict=True)
            for remark in read_choice(file.parent).get("remarks", ())
        ),
    ]
    summary["combination"] = {"parameters": combined.parameters, "channels": combined.channels}
    for remark in combined.remarks:
        logger.warning("%s: %s", analysis.name, remark)
    logger.info(
        "%s: %d points, %d channels, %d parameters of several members",
        analysis.name,
        len(checked.patches),
        len(combined.channels),
        len(combined.parameters),
    )
    write_atomically(workspace, canonical_json(content).decode() + "\n")
    write_atomically(patchset, canonical_json(spec).decode() + "\n")
    write_summary(page, f"{analysis.name}/{analysis.used_regions[0]}", summary)
    return summary


def combine(
    likelihoods: Mapping[str, tuple[Spec, Spec]],
    combination: Combination,
    labels: Sequence[str],
    *,
    title: str = "combination",
) -> Combined:
    """Combine likelihoods, each a background-only workspace with its patchset.

    The likelihood of a point is the product of those of the members. Each common parameter, and
    its constraint term, enters once (CERN-OPEN-2012-016, section 2).

    Parameters
    ----------
    likelihoods
        Workspace and patchset of each member, by its name in the combination.
    combination
        Rules by which parameters, channels and points are identified.
    labels
        Labels of the combined patchset.
    title
        Name of the patchset.

    Raises
    ------
    ConfigError
        The combination names an object that does not exist, or is ambiguous. The error names the
        members and the channel or parameter.
    PalletError
        The likelihoods are inconsistent, or count events twice.
    """
    if likelihoods.keys() != combination.members.keys():
        raise ConfigError(
            f"The likelihoods are {', '.join(likelihoods)}, but the combination's members are "
            f"{', '.join(combination.members)}.",
            remedy="Give one likelihood for each member.",
        )
    members = [
        Member.read(name, combination.members[name], workspace, spec, labels)
        for name, (workspace, spec) in likelihoods.items()
    ]
    channels = ChannelNames.find(members, combination.shared_channels)
    parameters = ParameterNames.find(members, channels, combination)
    settings = common_settings(members, parameters, combination)
    workspace = combined_workspace(members, channels, parameters, settings)
    points, remarks = common_points(members, combination)
    writer = PatchWriter(workspace, members, channels, parameters)
    patches: dict[str, dict[str, Any]] = {}
    for values, present in points.items():
        name = next(iter(present.values())).patch.name
        while name in patches:  # another point of another member
            name = f"{name} ({', '.join(present)})"
        origins = {member: point.patch.name for member, point in present.items()}
        patches[name] = {
            "metadata": {"name": name, "values": list(values), "members": origins},
            "patch": writer.operations(name, present),
        }
    published = [spec["metadata"] for _, spec in likelihoods.values()]
    metadata = {
        "name": title,
        "description": f"{title}: "
        + "; ".join(
            f"{name}: {source.get('description', '')} ({source['references']['hepdata']})"
            for name, source in zip(likelihoods, published, strict=True)
        ),
        "digests": {"sha256": pyhf.utils.digest(workspace)},
        "labels": list(labels),
        "references": published[0]["references"],
    }
    return Combined(
        workspace=workspace,
        patchset={"metadata": metadata, "patches": [*patches.values()], "version": "1.0.0"},
        parameters=parameters.common,
        channels=channels.origins,
        remarks=(*channels.remarks, *parameters.remarks, *remarks),
    )
