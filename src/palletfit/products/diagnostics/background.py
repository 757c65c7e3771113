"""Diagnostics of a fit without a parameter of interest: pulls, correlations and yields."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from palletfit.engine.engine import BatchedEngine
from palletfit.engine.lowering import prefit_values
from palletfit.engine.measurements import NONE
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.parameters import (
    constraint_widths,
    correlation_of,
    correlations,
)
from palletfit.products.diagnostics.pulls import lowest_fit
from palletfit.products.diagnostics.records import Diagnostics
from palletfit.products.diagnostics.yields import Channel, Position, Prediction, Yields, channels

_REMARK = "no parameter of interest: there is no signal strength, impact or significance"


def diagnose_background(engine: BatchedEngine, patch: Patch) -> Diagnostics:
    """Fit a model without a parameter of interest, and describe the fit.

    Raises
    ------
    PalletError
        The engine does not support the model.
    FitError
        The fit has no finite minimum.
    """
    began = time.perf_counter()
    # What stands for the parameter of interest scales nothing, and stays at zero.
    fit = lowest_fit(engine, patch, 0.0)
    tests, fits, record, covariance = fit.tests, fit.fits, fit.record, fit.covariance
    batch = tests.batch
    widths = np.where(batch.fixed[0], 0.0, constraint_widths(batch, 0))
    before = Position(prefit_values(batch, 0), widths, None)
    after = Position(fits.point[0], np.sqrt(np.diag(covariance)), correlation_of(covariance))
    return Diagnostics(
        status="ok" if record.trusted else "suspect",
        reasons=() if record.trusted else (f"background fit: {record.reason}",),
        remarks=(*fit.remarks, _REMARK),
        poi="",
        mu_hat=None,
        mu_hat_error=None,
        twice_nll=record.twice_nll,
        edm=record.edm,
        fit_reason=record.reason,
        parameters=fit.parameters,
        correlations=correlations(batch.names[0], covariance),
        impacts=(),
        channels=tuple(_without_none(entry) for entry in channels(tests, fits, 0, before, after)),
        signals=(),
        discovery=None,
        seconds=time.perf_counter() - began,
        software=tests.software,
    )


def _without_none(channel: Channel) -> Channel:
    """Take the sample that stands for a missing signal out of a channel."""

    def plain(prediction: Prediction) -> Prediction:
        samples: Mapping[str, Yields] = prediction.samples
        return replace(
            prediction, samples={name: samples[name] for name in samples if name != NONE}
        )

    return replace(channel, prefit=plain(channel.prefit), postfit=plain(channel.postfit))
