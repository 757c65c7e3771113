"""The records of a hypothesis test: plain, frozen, and ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from palletfit.core.arrays import FloatArray
from palletfit.engine.asymptotics import PValues
from palletfit.engine.derivative_records import Derivatives

#: ``ok``: fitted and trusted; ``suspect``: fitted, but at least one fit is not trusted;
#: ``failed``: no result.
Status = Literal["ok", "suspect", "failed"]
#: Keys that differ from run to run, or only show how a minimum was reached.
_OF_A_RUN = {"attempts", "build_time", "fit_time", "seconds"}
#: Names of the five expected values in columns of tables.
_SIGMAS = ("minus2", "minus1", "0", "plus1", "plus2")


@dataclass(frozen=True)
class Attempt:
    """One run of one optimizer from one start.

    Attributes
    ----------
    optimizer, start
        What was tried, from where; ``newton`` is the batched engine's own.
    moved
        Whether the optimizer gave a point of its own; if not, Newton steps began at the start.
    reported_success, message, iterations, evaluations
        What the optimizer said of itself.
    optimizer_twice_nll
        2 NLL where the optimizer stopped, evaluated with pyhf's NumPy backend.
    twice_nll, edm, gradient_norm, at_bounds
        The same point after `polish_steps` Newton steps, see
        :class:`palletfit.engine.reference.evidence.Evidence`.
    doubts
        Why this attempt alone is not trusted; empty if it is.
    seconds
        Wall time.
    """

    optimizer: str
    start: str
    moved: bool
    reported_success: bool
    message: str
    iterations: int | None
    evaluations: int | None
    optimizer_twice_nll: float | None
    twice_nll: float | None
    edm: float | None
    gradient_norm: float | None
    at_bounds: tuple[str, ...]
    polish_steps: int
    doubts: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Fit:
    """The best minimum of one fit, and everything that was tried.

    Attributes
    ----------
    twice_nll
        Lowest 2 NLL of all attempts.
    edm, gradient_norm, at_bounds
        Evidence at that point.
    mu
        Parameter of interest there.
    trusted, reason
        Whether the minimum is trusted, and why (not).
    agreed
        Attempts that ended at this minimum.
    spread
        How far their ends lie apart in 2 NLL.
    attempts
        The first ones in the order in which they were made, and others that end elsewhere.
    parameters
        By name the nuisance parameters that are not at their suggested values, rounded: a start for
        neighbouring points, no result. None where they are not kept.
    """

    twice_nll: float
    edm: float
    gradient_norm: float
    at_bounds: tuple[str, ...]
    mu: float
    trusted: bool
    reason: str
    agreed: int
    spread: float
    attempts: tuple[Attempt, ...]
    parameters: dict[str, float] | None = None


@dataclass(frozen=True)
class BestFit:
    """The best fit of one model.

    Attributes
    ----------
    parameters
        By name, in pyhf's notation.
    errors
        Standard deviations by name; zero for fixed parameters and those at a bound.
    covariance
        Inverse of the Hessian of the NLL, in the order of `parameters`, ``(n, n)``.
    evidence
        2 NLL at the minimum, and why it is one.
    engine
        What made the fit: ``batched`` or ``reference``.
    remarks
        What a reader should know.
    at_bounds
        Names of the parameters at a bound, fixed ones excepted. The parameter of interest is one
        of them, unlike in `evidence`, whose records have nuisance parameters only.
    """

    parameters: dict[str, float]
    errors: dict[str, float]
    covariance: FloatArray
    evidence: Fit
    engine: str = "batched"
    remarks: tuple[str, ...] = ()
    at_bounds: tuple[str, ...] = ()

    @property
    def twice_nll(self) -> float:
        """Twice the negative log-likelihood at the minimum, as pyhf has it."""
        return self.evidence.twice_nll

    @property
    def status(self) -> Status:
        """``ok`` if the minimum is trusted."""
        return "ok" if self.evidence.trusted else "suspect"

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        return {
            "status": self.status,
            "twice_nll": self.twice_nll,
            "mu": self.evidence.mu,
            "parameters": len(self.parameters),
            "at_bounds": len(self.at_bounds),
            "remark": "; ".join(self.remarks),
        }

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        plain: dict[str, Any] = finite(
            {
                "status": self.status,
                "twice_nll": self.twice_nll,
                "parameters": self.parameters,
                "errors": self.errors,
                "covariance": self.covariance.tolist(),
                "at_bounds": self.at_bounds,
                "edm": self.evidence.edm,
                "reason": self.evidence.reason,
                "engine": self.engine,
                "remarks": self.remarks,
            }
        )
        return plain


@dataclass(frozen=True)
class OtherFit:
    """End of one fit in the minimum that does not count.

    Attributes
    ----------
    twice_nll
        2 NLL there.
    above
        How far that lies above the minimum that counts, in 2 NLL; None for Asimov data that differ
        because the fits that they come from do.
    parameters
        By name the value in the minimum that counts, and in this one, of the parameters that
        differ most.
    """

    twice_nll: float
    above: float | None
    parameters: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class OtherMinimum:
    """Result of a hypothesis test with the minimum that does not count.

    Attributes
    ----------
    minimum
        Which one: ``lowest`` or ``nearest``.
    p_values, mu_hat
        As in :class:`HypotestResult`.
    fits
        The fits that end elsewhere, by name.
    """

    minimum: str
    p_values: PValues
    mu_hat: float
    fits: dict[str, OtherFit]

    def as_json(self) -> dict[str, Any]:
        """Give plain data, the p-values on top."""
        data = asdict(self)
        p_values = data.pop("p_values")
        return {"minimum": data.pop("minimum"), **p_values, **data}


@dataclass(frozen=True)
class HypotestResult:
    """Result of the hypothesis test of one patch.

    Attributes
    ----------
    p_values
        CLs and its relatives.
    mu_hat
        Best-fit signal strength.
    fits
        By name: ``background``, ``free``, ``fixed`` on the data, ``asimov_fixed`` on the Asimov
        data.
    remarks
        What a reader should know about the result.
    engine
        What made the fits: ``batched`` or ``reference``.
    parameters
        Number of parameters of the model.
    build_time, fit_time
        Wall time of making the model and of all fits, in seconds; of the batched engine the
        patch's share of its batch.
    mu_hat_error
        Uncertainty of `mu_hat` from the curvature of the likelihood, with all other parameters
        free; None where there is none.
    software
        Versions of what the result depends on.
    minimum
        Which minimum counts, ``lowest`` or ``nearest``.
    other
        What the other one gives, if that is another minimum.
    derivatives
        Derivatives by yields, where they are asked for.
    """

    p_values: PValues
    mu_hat: float
    fits: dict[str, Fit]
    remarks: tuple[str, ...]
    engine: str
    parameters: int
    build_time: float
    fit_time: float
    mu_hat_error: float | None = None
    software: dict[str, str] = field(default_factory=dict)
    minimum: str = "lowest"
    other: OtherMinimum | None = None
    derivatives: Derivatives | None = None

    @property
    def status(self) -> Status:
        """``ok`` if every fit is trusted."""
        return "ok" if all(fit.trusted for fit in self.fits.values()) else "suspect"

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        return {
            "status": self.status,
            "CLs_obs": self.p_values.CLs_obs,
            **by_sigma("CLs_exp", self.p_values.CLs_exp),
            "mu_hat": self.mu_hat,
            "mu_hat_error": self.mu_hat_error,
            "remark": "; ".join(self.remarks),
        }

    def as_json(self) -> dict[str, Any]:
        """Give plain data with the field's keys (``CLs_obs``, ``CLs_exp``, ``fit_time``) on top."""
        p_values = asdict(self.p_values)
        data = asdict(replace(self, derivatives=None))
        del data["p_values"], data["derivatives"]
        if self.derivatives is not None:
            data["derivatives"] = self.derivatives.as_json()
        data["other_minimum"] = data.pop("other") and self.other and self.other.as_json()
        plain: dict[str, Any] = finite({"status": self.status, **p_values, **data})
        return plain


def by_sigma(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Name the columns of five expected values, such as ``CLs_exp_minus2``."""
    return {f"{name}_{sigma}": value for sigma, value in zip(_SIGMAS, values, strict=True)}


def finite(value: Any) -> Any:
    """Replace numbers that JSON does not know (infinite, NaN) by None, and tuples by lists."""
    if isinstance(value, dict):
        return {key: finite(element) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(element) for element in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def reproducible(content: Any) -> Any:
    """Leave out of plain data what differs from run to run, and the attempts of fits.

    Examples
    --------
    >>> reproducible({"mu_hat": 0.5, "fit_time": 0.01, "fits": {"free": {"attempts": [1]}}})
    {'mu_hat': 0.5, 'fits': {'free': {}}}
    """
    if isinstance(content, Mapping):
        return {key: reproducible(value) for key, value in content.items() if key not in _OF_A_RUN}
    if isinstance(content, (list, tuple)):
        return [reproducible(value) for value in content]
    return content
