"""Pulls of one fit, with the parameter of interest free, fixed, or none at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import SHARP, BatchFits
from palletfit.engine.choose import require_batched
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fit_records import fit_records
from palletfit.engine.fits import Fits
from palletfit.engine.measurements import NONE
from palletfit.engine.protocol import Engine
from palletfit.engine.records import Fit, Status, finite
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


class LowestFit(NamedTuple):
    """The lowest minimum of one fit, with the parameters there.

    Attributes
    ----------
    tests, fits
        The fit, in a batch of one.
    record
        Its evidence.
    covariance
        Of the parameters, ``(K, K)``.
    parameters
        All of the model, what stands for a missing parameter of interest left out.
    remarks
        What a reader should know.
    """

    tests: BatchFits
    fits: Fits
    record: Fit
    covariance: FloatArray
    parameters: tuple[Parameter, ...]
    remarks: tuple[str, ...]


def lowest_fit(engine: BatchedEngine, patch: Patch, mu: float | None) -> LowestFit:
    """Fit one patch, and describe its parameters.

    Parameters
    ----------
    engine, patch, mu
        See :func:`pulls`.

    Raises
    ------
    PalletError
        The patch does not apply, or the engine does not support its model.
    FitError
        The fit has no finite minimum.
    """
    batch = engine.lower_one(patch, "Leave this likelihood out, or use cabinetry for it.")
    tests = engine.batch_fits(batch)
    fits = tests.lowest(mu)
    if not np.isfinite(fits.value[0]):
        raise FitError(
            "The fit found no finite minimum.",
            remedy="Look at the yields: a bin with events has to expect some.",
            patch=patch.name,
        )
    return _described(tests, fits)


def lower_fit(fit: LowestFit, point: FloatArray) -> LowestFit:
    """Go on from a point that lies lower than a fit, ``(K,)``."""
    tests, fits = fit.tests, fit.fits
    tests.fitter.fit(fits, {"lower": point[None]})
    tests.search.explore(fits, tests.rows)
    tests.fitter.sharpen(fits, tests.rows, SHARP)
    return _described(tests, fits)


def _described(tests: BatchFits, fits: Fits) -> LowestFit:
    """Describe the parameters of a fit."""
    batch = tests.batch
    covariance, state = covariance_of(tests, 0, fits)
    parameters = parameters_of(batch, 0, fits.point[0], covariance, state)
    loose = [parameter.name for parameter in parameters if parameter.state == "undetermined"]
    undetermined = [f"not determined by the data: {', '.join(loose)}"] if loose else []
    return LowestFit(
        tests,
        fits,
        fit_records(batch, fits)[0],
        covariance,
        tuple(parameter for parameter in parameters if parameter.name != NONE),
        (*batch.remarks[0], *undetermined),
    )


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
    fit = lowest_fit(require_batched(engine, "pulls"), patch, mu)
    poi = str(fit.tests.batch.names[0][fit.tests.poi])
    return Pulls(
        poi="" if poi == NONE else poi,
        mu=None if poi == NONE else fit.record.mu,
        twice_nll=fit.record.twice_nll,
        reason=fit.record.reason,
        status="ok" if fit.record.trusted else "suspect",
        parameters=fit.parameters,
        remarks=fit.remarks,
    )
