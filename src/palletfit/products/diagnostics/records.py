"""The records of the diagnostics of a fit: plain, frozen, and ready for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from palletfit.engine.records import Status, finite
from palletfit.products.diagnostics.impacts import Impact
from palletfit.products.diagnostics.yields import Channel

#: What a parameter is: interpolated by histosys or normsys modifiers (alpha), or its modifier.
Kind = Literal["alpha", "lumi", "normfactor", "staterror", "shapesys", "shapefactor"]
#: ``undetermined``: the data say nothing about it.
State = Literal["free", "fixed", "at_bound", "undetermined"]

#: Correlations are written with so many digits after the point.
_DIGITS = 6


@dataclass(frozen=True)
class Parameter:
    """One parameter of the best fit.

    Attributes
    ----------
    name
        In pyhf's notation.
    kind, state
        What it is; and whether the fit moves it.
    value, error
        Best fit and its standard deviation from the Hessian; zero where the parameter is fixed or
        at a bound, None where the data do not determine it.
    prefit_value
        Before the fit: the auxiliary measurement; the initial value where there is none, or where
        the parameter is fixed.
    prefit_width
        Width of the constraint: sigma of a Gaussian one, and of a Poisson one with the factor
        tau 1 / sqrt(tau). None where there is no constraint or the parameter is fixed.
    pull
        ``(value - prefit_value) / prefit_width``.
    constraint
        ``error / prefit_width``.
    """

    name: str
    kind: Kind
    state: State
    value: float
    error: float | None
    prefit_value: float
    prefit_width: float | None
    pull: float | None
    constraint: float | None


@dataclass(frozen=True)
class Correlations:
    """Correlations of parameters.

    Attributes
    ----------
    parameters
        Names of those that are free and determined.
    matrix
        ``(n, n)``
    """

    parameters: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]

    def pruned(
        self, threshold: float = 0.0, limit: int | None = None, *, keep: Iterable[str] = ()
    ) -> Correlations:
        """Keep the most correlated parameters only, in the same order.

        Parameters
        ----------
        threshold
            A parameter stays if one of its correlations to others is at least this large.
        limit
            At most so many stay, those with the largest correlations.
        keep
            Names that stay in any case.
        """
        array = np.abs(np.reshape(self.matrix, (len(self.parameters),) * 2))
        np.fill_diagonal(array, 0.0)
        largest = array.max(axis=1, initial=0.0)
        names = {*keep}
        largest = np.where([name in names for name in self.parameters], np.inf, largest)
        order = np.argsort(-largest, kind="stable")[:limit]
        chosen = sorted(int(index) for index in order if largest[index] >= threshold)
        return Correlations(
            tuple(self.parameters[index] for index in chosen),
            tuple(tuple(self.matrix[one][other] for other in chosen) for one in chosen),
        )


@dataclass(frozen=True)
class Discovery:
    """Test of the background-only hypothesis.

    Source: Cowan et al., Eur. Phys. J. C 71 (2011) 1554: the statistic q0 of eq. 12, the p-value
    p0 and the significance ``Z = sqrt(q0)`` of eqs. 52 and 53.

    Attributes
    ----------
    p0, significance
        On the data.
    p0_expected, significance_expected
        Median for a signal of mu = 1, from Asimov data with the nuisance parameters of the fit
        at mu = 1, as in pyhf.
    """

    p0: float
    significance: float
    p0_expected: float
    significance_expected: float


@dataclass(frozen=True)
class Diagnostics:
    """Diagnostics of the fit of one patch.

    Attributes
    ----------
    status, reasons
        ``suspect`` if a fit is not trusted, and which; else ``ok``.
    remarks
        What a reader should know.
    poi, mu_hat, mu_hat_error
        Parameter of interest and its best fit, empty and None where there is none; the uncertainty
        is from the curvature of the likelihood, also at a bound, and None where there is none.
    twice_nll, edm, fit_reason
        Of the best fit: 2 NLL as pyhf has it, estimated distance to the minimum, and why it is
        trusted or not.
    parameters
        All of the model.
    correlations
        From the Hessian at the best fit.
    impacts
        Largest first; empty if they were not asked for.
    channels, signals
        Yields; and the names of the samples that the parameter of interest scales.
    discovery
        None where the test is not possible; a remark says why.
    seconds
        Wall time; of fits that are made together the patch's share.
    software
        Versions of what the result depends on.
    """

    status: Status
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    poi: str
    mu_hat: float | None
    mu_hat_error: float | None
    twice_nll: float
    edm: float
    fit_reason: str
    parameters: tuple[Parameter, ...]
    correlations: Correlations
    impacts: tuple[Impact, ...]
    channels: tuple[Channel, ...]
    signals: tuple[str, ...]
    discovery: Discovery | None
    seconds: float
    software: Mapping[str, str]

    def parameter(self, name: str) -> Parameter:
        """Find a parameter by its name.

        Raises
        ------
        KeyError
            The model has no such parameter.
        """
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(name)

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        discovery = self.discovery
        return {
            "status": self.status,
            "mu_hat": self.mu_hat,
            "mu_hat_error": self.mu_hat_error,
            "p0": None if discovery is None else discovery.p0,
            "significance": None if discovery is None else discovery.significance,
            "p0_expected": None if discovery is None else discovery.p0_expected,
            "significance_expected": (
                None if discovery is None else discovery.significance_expected
            ),
            "remark": "; ".join([*self.reasons, *self.remarks]),
        }

    def as_json(self) -> dict[str, Any]:
        """Give plain data; correlations are rounded."""
        data = asdict(self)
        matrix = data["correlations"]["matrix"]
        data["correlations"]["matrix"] = [[round(x, _DIGITS) for x in line] for line in matrix]
        plain: dict[str, Any] = finite(data)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Diagnostics:
        """Read what :meth:`as_json` gave; further keys are ignored."""
        values = {entry.name: data[entry.name] for entry in fields(cls)}
        table, discovery = data["correlations"], data["discovery"]
        matrix = tuple(tuple(line) for line in table["matrix"])
        return cls(
            **{
                **values,
                "reasons": tuple(data["reasons"]),
                "remarks": tuple(data["remarks"]),
                "parameters": tuple(Parameter(**entry) for entry in data["parameters"]),
                "correlations": Correlations(tuple(table["parameters"]), matrix),
                "impacts": tuple(Impact.from_json(entry) for entry in data["impacts"]),
                "channels": tuple(Channel.from_json(entry) for entry in data["channels"]),
                "signals": tuple(data["signals"]),
                "discovery": None if discovery is None else Discovery(**discovery),
            }
        )
