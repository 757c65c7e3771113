"""The schema of goodness of fit, see :class:`palletfit.engine.goodness.GoodnessOfFit`."""

from __future__ import annotations

from palletfit.runs.schema import MaybeNumber, Number, Plain, Result


class ToysResult(Plain):
    """Distribution of the statistic in pseudo-experiments."""

    toys: int
    failed: int
    seed: int
    p_value: MaybeNumber
    p_value_error: MaybeNumber
    median: MaybeNumber
    statistics: list[Number]


class GoodnessResult(Result):
    """Statistic, degrees of freedom and p-values of a patch."""

    statistic: Number
    degrees: int
    p_value: MaybeNumber
    bins: int
    free: int
    constrained: int
    mu: Number
    twice_nll: Number
    reason: str
    remarks: list[str]
    toys: ToysResult | None
    engine: str
