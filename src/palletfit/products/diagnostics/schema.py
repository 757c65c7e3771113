"""The schema of diagnostics, see :class:`palletfit.products.diagnostics.records.Diagnostics`."""

from __future__ import annotations

from pydantic import model_validator

from palletfit.runs.schema import MaybeNumber, Number, Plain, Result


class Parameter(Plain):
    """One parameter of the best fit."""

    name: str
    kind: str
    state: str
    value: Number
    error: MaybeNumber
    prefit_value: MaybeNumber
    prefit_width: MaybeNumber
    pull: MaybeNumber
    constraint: MaybeNumber


class Correlations(Plain):
    """Correlations of parameters."""

    parameters: list[str]
    matrix: list[list[MaybeNumber]]

    @model_validator(mode="after")
    def _square(self) -> Correlations:
        size = len(self.parameters)
        if [len(line) for line in self.matrix] != [size] * size:
            raise ValueError("the matrix has to have a line and a column for each parameter")
        return self


class Impact(Plain):
    """Shifts of mu-hat by one parameter."""

    parameter: str
    postfit_up: MaybeNumber
    postfit_down: MaybeNumber
    prefit_up: MaybeNumber
    prefit_down: MaybeNumber


class Yields(Plain):
    """Yields of one sample, or of all, in one channel."""

    values: list[MaybeNumber]
    errors: list[MaybeNumber]
    total: MaybeNumber
    total_error: MaybeNumber


class Prediction(Plain):
    """Expected yields of one channel."""

    samples: dict[str, Yields]
    model: Yields


class Channel(Plain):
    """One channel."""

    name: str
    data: list[Number]
    prefit: Prediction
    postfit: Prediction


class Discovery(Plain):
    """Test of the background-only hypothesis."""

    p0: Number
    significance: Number
    p0_expected: Number
    significance_expected: Number


class DiagnosticsResult(Result):
    """Diagnostics of the fit of a patch."""

    reasons: list[str]
    remarks: list[str]
    poi: str
    mu_hat: MaybeNumber
    mu_hat_error: MaybeNumber
    twice_nll: Number
    edm: MaybeNumber
    fit_reason: str
    parameters: list[Parameter]
    correlations: Correlations
    impacts: list[Impact]
    channels: list[Channel]
    signals: list[str]
    discovery: Discovery | None
    seconds: Number
    software: dict[str, str]
