"""The schema of the results of points, see :func:`palletfit.products.points.compute.summary`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from palletfit.runs.schema import FiveNumbers, MaybeNumber, Number, Result


class PointResult(Result):
    """Summary of the hypothesis test of a point."""

    CLs_obs: Number
    CLs_exp: FiveNumbers
    mu_hat: Number
    mu_hat_error: MaybeNumber
    edm: MaybeNumber
    starts_agreed: Annotated[int, Field(ge=0, lt=2**31)]
    engine: str
    fit_time: Number
    reason: str
    nlls: dict[str, MaybeNumber] | None = None
    """Present if they are asked for."""
    derivatives: dict[str, Any] | None = None
    """Present if they are asked for."""
