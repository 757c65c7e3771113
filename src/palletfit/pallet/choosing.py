"""Prepared files of a region of which only some channels and bins are fitted, or no observations.

What is chosen is said beside the files, in the region's summary: tables and plots repeat it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from palletfit.config import Choice
from palletfit.core.files import read_json
from palletfit.pallet.operations import with_digest
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import parameter_sizes, parse_patchset, summarise_workspace

Spec = Mapping[str, Any]

#: Key of a region's summary, and its file beside workspace and patchset.
KEY, FILE = "choice", "summary.json"


class Chosen(NamedTuple):
    """A workspace of the chosen channels, bins and data, and its patches.

    Attributes
    ----------
    workspace
        Complete or background-only workspace.
    operations
        Operations of the patches, by name; none for a complete workspace.
    poi
        Parameter of interest; empty where there is none.
    blinded
        Names of channels whose observations are expected ones.
    remarks
        What a reader of results should know.
    described
        The workspace as a summary describes it: without what stands for a missing parameter of
        interest.
    bins
        Bins of the chosen channels that count, by channel.
    sizes
        Number of bins of all channels.
    """

    workspace: Spec
    operations: Mapping[str, Sequence[Mapping[str, Any]]]
    poi: str
    blinded: tuple[str, ...]
    remarks: tuple[str, ...]
    described: Spec
    bins: Mapping[str, Sequence[int]]
    sizes: Mapping[str, int]


#: Changes a workspace and its patches; None: they come later, or there are none.
Choosing = Callable[[Spec, "Sequence[Patch] | None"], Chosen]


def refusal(reason: str) -> list[dict[str, Any]]:
    """Make the operations of a patch that has no such fit: no program applies them.

    The reason is in the message of every program that tries, and in the record of the patch.
    """
    return [{"op": "test", "path": "/version", "value": reason}]


def chosen_patchset(workspace: Spec, spec: Spec, choosing: Choosing) -> tuple[Chosen, Spec]:
    """Change a workspace and its patchset.

    Parameters
    ----------
    workspace, spec
        Contents of the two files, which were checked before.
    choosing
        The change.

    Returns
    -------
    tuple
        What is chosen, and the changed content of the patchset with the digest of its workspace.

    Raises
    ------
    PalletError
        A channel or bin is not there, or nothing is left.
    """
    chosen = choosing(workspace, parse_patchset(spec, Path("patchset")).patches)
    patches = [
        {**entry, "patch": list(chosen.operations[entry["metadata"]["name"]])}
        for entry in spec["patches"]
    ]
    metadata = {key: value for key, value in spec["metadata"].items() if key != "digests"}
    changed, _ = with_digest({**spec, "metadata": metadata, "patches": patches}, chosen.workspace)
    return chosen, changed


def without_stand_in(workspace: Spec) -> dict[str, Any]:
    """Describe a workspace without what stands for a missing parameter of interest."""
    sizes = parameter_sizes(workspace)
    return {**summarise_workspace(workspace), "parameters": sum(sizes.values()), "poi": ""}


def summary_of(choice: Choice, chosen: Chosen, summary: dict[str, Any]) -> dict[str, Any]:
    """Add what is chosen to the summary of the changed files, and take blinded events out."""
    if not chosen.poi:
        summary = {**summary, **without_stand_in(chosen.described)}
    channels = {
        name: {**channel, "observed": None} if name in chosen.blinded else channel
        for name, channel in summary["channels"].items()
    }
    return {
        **summary,
        "channels": channels,
        "poi": chosen.poi,
        "remarks": [*chosen.remarks, *summary["remarks"]],
        KEY: {
            **choice.as_json(),
            "words": choice.words(),
            "remarks": list(chosen.remarks),
            "blinded": list(chosen.blinded),
            "bins": {name: list(bins) for name, bins in chosen.bins.items()},
            "sizes": dict(chosen.sizes),
        },
    }


def read_choice(folder: Path) -> dict[str, Any]:
    """Read from a region's folder what is chosen there; nothing if nothing is.

    Returns
    -------
    dict
        ``words``, ``remarks``, ``blinded`` (names of channels), ``bins`` (those that count, by
        channel), ``sizes`` (number of bins of all channels), and the keys of the analysis.
    """
    file = folder / FILE
    choice: dict[str, Any] = read_json(file).get(KEY, {}) if file.exists() else {}
    return choice
