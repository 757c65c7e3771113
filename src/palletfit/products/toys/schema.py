"""The schema of shards of toys, see :mod:`palletfit.products.toys.compute`."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from palletfit.runs.schema import MaybeNumber, Number, Plain, Result


class FailedToy(Plain):
    """A toy without a test statistic."""

    toy: int
    reason: str


class Ensemble(Plain):
    """The toys of one hypothesis."""

    mu: Number
    q: list[MaybeNumber]
    failed: list[FailedToy]
    searched: list[int]
    iterations: Number


class Observed(Plain):
    """The fits of the observed data."""

    q: Number
    mu_hat: Number


class ShardResult(Result):
    """Toys of a range of numbers."""

    patch: str
    digest: str
    seed: int
    mu: Number
    test_statistic: Literal["qtilde", "q", "q0"]
    first: int
    count: int
    observed: Observed
    tested: Ensemble
    alternative: Ensemble

    @model_validator(mode="after")
    def _toys_of_range(self) -> ShardResult:
        for ensemble in (self.tested, self.alternative):
            if len(ensemble.q) != self.count:
                raise ValueError("there has to be a q of each toy, or null")
            if len(ensemble.failed) != ensemble.q.count(None):
                raise ValueError("every toy without a q has to have failed")
        return self
