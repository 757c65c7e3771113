"""The schema of upper limits, see :class:`palletfit.products.limits.compute.Limits`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from palletfit.runs.schema import FiveMaybeNumbers, MaybeNumber, Number, Plain, Result


class Limit(Plain):
    """One upper limit."""

    mu: MaybeNumber
    state: Literal["found", "beyond", "unsettled"]
    tolerance: MaybeNumber
    CLs: MaybeNumber
    reason: str
    trusted: bool
    jump: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _number_of_state(self) -> Limit:
        if self.state == "found" and self.mu is None:
            raise ValueError("a limit that is found has to be a number")
        return self


class OtherLimits(Plain):
    """Upper limits with the minimum that does not count."""

    minimum: Literal["lowest", "nearest"]
    mu_obs: MaybeNumber
    mu_exp: FiveMaybeNumbers
    observed: Limit
    expected: Annotated[list[Limit], Field(min_length=5, max_length=5)]
    mu_hat: Number


class LimitsResult(Result):
    """Upper limits of a patch."""

    mu_obs: MaybeNumber
    mu_exp: FiveMaybeNumbers
    observed: Limit
    expected: Annotated[list[Limit], Field(min_length=5, max_length=5)]
    mu_hat: Number
    mu_hat_error: MaybeNumber
    mu_max: Number
    engine: str
    fit_time: Number
    remarks: list[str]
    minimum: Literal["lowest", "nearest"] | None = None
    other_minimum: OtherLimits | None = None
