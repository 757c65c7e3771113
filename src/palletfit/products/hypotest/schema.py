"""The schema of the results of hypothesis tests, see :class:`HypotestResult` of the engine."""

from __future__ import annotations

from palletfit.runs.schema import FiveNumbers, MaybeNumber, Number, Plain, Result


class Fit(Plain):
    """One of the four fits."""

    trusted: bool
    reason: str
    twice_nll: MaybeNumber
    edm: MaybeNumber
    mu: MaybeNumber


class HypotestResult(Result):
    """Result of a hypothesis test."""

    CLs_obs: Number
    CLsb_obs: Number
    CLb_obs: Number
    CLs_exp: FiveNumbers
    mu_hat: Number
    mu_hat_error: MaybeNumber
    fits: dict[str, Fit]
    remarks: list[str]
    engine: str
    fit_time: Number
