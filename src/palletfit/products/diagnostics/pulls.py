"""Pulls of one fit, with the parameter of interest free, fixed, or none at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from palletfit.engine.choose import require_batched
from palletfit.engine.fit_records import fit_records
from palletfit.engine.measurements import NONE
from palletfit.engine.protocol import Engine
from palletfit.engine.records import Status, finite
from palletfit.errors import FitError
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.parameters import covariance_of, parameters_of
from palletfit.products.diagnostics.records import Parameter


@dataclass(frozen=True)
class Pulls:
    """Parameters of one fit with their pulls.

    Attributes
    ----------
    poi, mu
        Parameter of interest, empty where there is none, and its value.
    twice_nll, reason
        2 NLL at the minimum, as pyhf has it, and why it is trusted or not.
    status
        ``suspect`` if it is not.
    parameters
        All of the model.
    remarks
        What a reader should know.
    """

    poi: str
    mu: float | None
    twice_nll: float
    reason: str
    status: Status
    parameters: tuple[Parameter, ...]
    remarks: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        pulls = [abs(parameter.pull) for parameter in self.parameters if parameter.pull is not None]
        return {
            "status": self.status,
            "mu": self.mu,
            "twice_nll": self.twice_nll,
            "parameters": len(self.parameters),
            "largest_pull": max(pulls, default=None),
            "remark": "; ".join(self.remarks),
        }

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain


def pulls(engine: Engine, patch: Patch, mu: float | None = None) -> Pulls:
    """Fit one patch, and compute the pulls of its parameters.

    Parameters
    ----------
    engine
        Engine of the workspace.
    patch
        Signal patch; one without operations for a complete workspace.
    mu
        Where the parameter of interest is fixed; None leaves it free.

    Raises
    ------
    PalletError
        The patch does not apply, or the engine does not support its model.
    FitError
        The fit has no finite minimum.
    ConfigError
        The engine is not the batched one.
    """
    batched = require_batched(engine, "pulls")
    batch = batched.lower_one(patch, "Leave this patch out, or use cabinetry for it.")
    tests = batched.batch_fits(batch)
    fits = tests.lowest(mu)
    if not np.isfinite(fits.value[0]):
        raise FitError(
            "The fit found no finite minimum.",
            remedy="Look at the yields: a bin with events has to expect some.",
            patch=patch.name,
        )
    covariance, state = covariance_of(tests, 0, fits)
    parameters = parameters_of(batch, 0, fits.point[0], covariance, state)
    record = fit_records(batch, fits)[0]
    poi = str(batch.names[0][tests.poi])
    loose = [parameter.name for parameter in parameters if parameter.state == "undetermined"]
    remarks = [*batch.remarks[0]]
    if loose:
        remarks.append(f"not determined by the data: {', '.join(loose)}")
    return Pulls(
        poi="" if poi == NONE else poi,
        mu=None if poi == NONE else record.mu,
        twice_nll=record.twice_nll,
        reason=record.reason,
        status="ok" if record.trusted else "suspect",
        parameters=tuple(parameter for parameter in parameters if parameter.name != NONE),
        remarks=tuple(remarks),
    )
