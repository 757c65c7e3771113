"""Channels, bins and data of an analysis' fits, as changes of its regions' prepared files.

The change is that of :mod:`palletfit.engine.selection`, made once, before anything is fitted. So
every product and every executor gets workspaces that never had the other channels, bins and data,
and keys of records hold the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palletfit.config import Choice, FitSettings
from palletfit.engine.measurements import NONE, Question, ask
from palletfit.engine.regions import as_patch, restrict, sizes_of
from palletfit.engine.selection import Selection, select
from palletfit.errors import PalletfitError
from palletfit.pallet.choosing import Choosing, Chosen, refusal
from palletfit.pallet.patches import Patch, apply_sharing

Spec = Mapping[str, Any]


def choosing(choice: Choice, fit: FitSettings, *, complete: bool = False) -> Choosing | None:
    """Make the change of the prepared files of a region; None if nothing is chosen.

    Parameters
    ----------
    choice
        Channels, bins and data.
    fit
        Settings of fits: the measurement, and those of the fit that blinded data come from.
    complete
        The workspace has its signal, or needs none.
    """
    if not choice:
        return None
    question = Question(**choice.as_json())
    # The fit that blinded data come from is one of the batched engine; nothing has to compile.
    settings = fit.model_copy(update={"engine": "batched", "backend": "numpy"})
    if complete:  # the prepared workspace has the measurement that was chosen, and no other one
        settings = settings.model_copy(update={"measurement": None})

    def change(workspace: Spec, patches: Sequence[Patch] | None) -> Chosen:
        if complete:
            return _complete(workspace, question, settings)
        if patches is None:
            return _background(workspace, question, settings)
        return _of_patches(workspace, question, settings, patches)

    return change


def _complete(workspace: Spec, question: Question, settings: FitSettings) -> Chosen:
    """Change a complete workspace."""
    prepared = ask(workspace, None, question, needs_poi=False)
    selection = select(prepared, question, None, settings, needs_poi=False)
    return _chosen(selection, selection.fitted.workspace, {})


def _background(workspace: Spec, question: Question, settings: FitSettings) -> Chosen:
    """Change a background whose signals come later: they are no part of the data."""
    without_signal = Question(**{**vars(question), "poi": ""})
    prepared = ask(workspace, settings.measurement, without_signal, needs_poi=False)
    selection = select(prepared, without_signal, None, settings, needs_poi=False)
    observations = selection.predicted.workspace["observations"]
    changed = restrict({**workspace, "observations": observations}, selection.regions)
    return _chosen(selection, changed, {})


def _of_patches(
    workspace: Spec, question: Question, settings: FitSettings, patches: Sequence[Patch]
) -> Chosen:
    """Change a background and its patches.

    Patches without signal in the chosen channels are fitted without a parameter of interest where
    all are so, and refused where others have one.
    """
    prepared = ask(workspace, settings.measurement, question, patches)
    poi = prepared.poi
    selection = select(prepared, question, patches, settings, needs_poi=False)
    fitted = {patch.name: patch for patch in selection.fitted.patches}
    background = selection.fitted.workspace
    if selection.without_poi and selection.without_poi >= {*fitted}:
        background, fitted = _without_poi(selection, settings)
        poi = ""
    elif selection.without_poi:
        selection = select(prepared, question, patches, settings, needs_poi=True)
        fitted = {patch.name: patch for patch in selection.fitted.patches}
    background, operations = _with_common_data(
        background, {name: list(patch.operations) for name, patch in fitted.items()}
    )
    for name, error in selection.refused.items():
        operations[name] = refusal(_reason(error))
    return _chosen(selection, background, operations)._replace(poi=poi)


def _reason(error: PalletfitError) -> str:
    return " ".join(filter(None, (error.problem, error.remedy)))


def _without_poi(selection: Selection, settings: FitSettings) -> tuple[Spec, dict[str, Patch]]:
    """Take the parameter of interest out of the background, as it is out of all patches."""
    before = selection.fitted
    left = ask(before.workspace, settings.measurement, Question(poi=""), needs_poi=False).workspace
    patches = {
        patch.name: as_patch(patch, left, apply_sharing(before.workspace, patch))
        for patch in before.patches
    }
    return left, patches


def _with_common_data(
    background: Spec, operations: dict[str, list[Any]]
) -> tuple[Spec, dict[str, list[Any]]]:
    """Move observations that all patches have into the background."""
    data = [
        [entry for entry in of_patch if entry["path"] == "/observations"]
        for of_patch in operations.values()
    ]
    if not data or not data[0] or any(entries != data[0] for entries in data):
        return background, operations
    common = {**background, "observations": data[0][-1]["value"]}
    return common, {
        name: [entry for entry in of_patch if entry["path"] != "/observations"]
        for name, of_patch in operations.items()
    }


def _chosen(selection: Selection, workspace: Spec, operations: dict[str, list[Any]]) -> Chosen:
    described = {
        **workspace,
        "channels": [
            {
                **channel,
                "samples": [sample for sample in channel["samples"] if sample["name"] != NONE],
            }
            for channel in workspace["channels"]
        ],
    }
    return Chosen(
        workspace,
        operations,
        selection.poi,
        selection.blinded,
        selection.remarks,
        described,
        selection.regions.bins_of(selection.predicted.workspace),
        sizes_of(selection.predicted.workspace),
    )
