"""The schema of scans of mu, see :class:`palletfit.products.mu_scan.compute.MuScan`."""

from __future__ import annotations

from pydantic import model_validator

from palletfit.products.limits.schema import LimitsResult
from palletfit.runs.schema import FiveNumbers, Number, Result


class ScanResult(Result):
    """CLs of a patch against the signal strength."""

    mu: list[Number]
    CLs_obs: list[Number]
    CLs_exp: list[FiveNumbers]
    q: list[Number]
    q_asimov: list[Number]
    doubts: list[str]
    limits: LimitsResult
    engine: str
    fit_time: Number
    remarks: list[str]

    @model_validator(mode="after")
    def _values_of_points(self) -> ScanResult:
        columns = (self.CLs_obs, self.CLs_exp, self.q, self.q_asimov)
        if any(len(column) != len(self.mu) for column in columns):
            raise ValueError("every list has to have a value for each mu")
        return self
