"""Questions of regions to their complete workspaces, as changes of the workspaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from palletfit.config import FitSettings, Region
from palletfit.engine.measurements import Question, ask
from palletfit.engine.parameters import measurement_of
from palletfit.pallet.prepare import CompleteWorkspace


def asking(region: Region, fit: FitSettings) -> Callable[[Mapping[str, Any]], CompleteWorkspace]:
    """Make the change of a workspace that lets it ask what a region's settings say.

    The changed workspace has the chosen measurement only. So keys of records hold the measurement,
    the parameter of interest and what is fixed, and those of patchsets stay as they are.

    Parameters
    ----------
    region
        Settings of a complete workspace.
    fit
        Settings of fits, whose measurement counts where the region names none.
    """
    name = region.measurement or fit.measurement
    question = Question(poi=region.poi, fix=region.fix, signal_in=region.signal_in)

    def change(workspace: Mapping[str, Any]) -> CompleteWorkspace:
        prepared = ask(workspace, name, question, needs_poi=False)
        changed = dict(prepared.workspace)
        if len(changed["measurements"]) > 1:
            changed["measurements"] = [measurement_of(changed, name)]
        return CompleteWorkspace(changed, prepared.poi, prepared.remarks)

    return change
