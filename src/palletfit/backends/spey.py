"""A back end of spey: ``spey.get_backend("palletfit")``.

It takes the arguments of spey's pyhf back end, and gives the same likelihood with other fits. The
four fits that spey lets a back end make are those of a hypothesis test; upper limits, CLs and
chi-squared are computed by spey.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from spey import BackendBase, ExpectationType
from spey.base.model_config import ModelConfig

from palletfit.backends.likelihood import (
    AsimovSet,
    Conditions,
    DataSet,
    Minimum,
    SignalLikelihood,
    Source,
    as_json,
    shared_background,
)
from palletfit.config import Combination, parse
from palletfit.core.arrays import FloatArray
from palletfit.core.version import __version__
from palletfit.engine.toys.draws import draw, key_of, make_source
from palletfit.errors import PalletError
from palletfit.pallet.combination import combine
from palletfit.pallet.files import read_pallet_json

log = logging.getLogger("Spey")

#: Bounds of the signal strength in free fits, as those of spey's pyhf back end.
_LOWEST, _HIGHEST = -10.0, 10.0
#: What a caller of spey may say about a fit, and has no meaning here: there is one optimizer, and
#: all its fits are made to the end.
_IGNORED = frozenset(
    {"return_nll", "do_grad", "minimizer", "method", "maxiter", "tol", "disp", "ntrials"}
    | {"strategy", "errordef", "hessian", "poi_index"}
)

Bounds = Sequence[tuple[float | None, float | None]]
PoiTest = float | Mapping[int | str, float]


class PalletfitBackend(BackendBase):  # type: ignore[misc]
    """Likelihood of a background-only workspace with a signal patch, fitted by palletfit.

    Parameters
    ----------
    signal_patch
        Operations of a JSON Patch, an entry of a patchset, or a file with one of these.
    background_only_model
        Background-only workspace, or its file.
    measurement
        Measurement of the workspace; None: the first one.

    Attributes
    ----------
    random
        Generator of the random numbers of samples.

    Raises
    ------
    PalletError
        A file is not what it should be, the patch does not apply, or the batched engine does not
        support the model.

    Examples
    --------
    >>> import spey
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> patch = demo_patchset(workspace)["patches"][3]
    >>> model = spey.get_backend("palletfit")(
    ...     signal_patch=patch["patch"], background_only_model=workspace, analysis="demo"
    ... )
    >>> round(1 - float(model.exclusion_confidence_level()[0]), 4)
    0.0021
    """

    name = "palletfit"
    version = __version__
    author = "palletfit"
    spey_requires = ">=0.2.0,<0.3.0"
    doi = ("10.5281/zenodo.1169739", "10.21105/joss.02823")

    def __init__(
        self,
        signal_patch: Source | Sequence[Mapping[str, Any]],
        background_only_model: Source,
        measurement: str | None = None,
    ) -> None:
        self._arguments = _operations(signal_patch), background_only_model, measurement
        background = shared_background(background_only_model, measurement)
        self._likelihood = SignalLikelihood(background, self._arguments[0])
        self.random = np.random.default_rng()

    def __reduce__(self) -> tuple[Any, ...]:
        # The lowered background belongs to its process.
        background = self._likelihood.background
        arguments = self._arguments[0], background.workspace, self._arguments[2]
        return type(self), arguments, {"random": self.random}

    # ------------------------------------------------------------------ the model

    @property
    def is_alive(self) -> bool:
        """True if the signal has a yield other than zero."""
        return self._likelihood.alive

    def config(
        self, allow_negative_signal: bool = True, poi_upper_bound: float | None = _HIGHEST
    ) -> ModelConfig:
        """Describe the parameters, in pyhf's order.

        The suggested values are those of the background-only fit to the observed data: where spey
        makes a fit itself, for the Asimov data of its combinations or for toys, its optimizer
        begins at the lowest minimum.

        Parameters
        ----------
        allow_negative_signal
            Let the signal strength go below zero, to where a yield would be negative.
        poi_upper_bound
            Its upper bound; None or zero: that of the measurement.
        """
        likelihood = self._likelihood
        batch, columns = likelihood.batch, likelihood.order.columns
        lower, upper = batch.lower[0].copy(), batch.upper[0].copy()
        poi = likelihood.poi
        lower[poi] = max(likelihood.least_strength, _LOWEST) if allow_negative_signal else 0.0
        upper[poi] = poi_upper_bound or upper[poi]
        return ModelConfig(
            poi_index=int(np.flatnonzero(columns == poi)[0]),
            minimum_poi=likelihood.least_strength,
            suggested_init=self._background_only()[columns].tolist(),
            suggested_bounds=list(
                zip(lower[columns].tolist(), upper[columns].tolist(), strict=True)
            ),
            parameter_names=list(likelihood.order.names),
            suggested_fixed=batch.fixed[0][columns].tolist(),
        )

    def expected_data(self, pars: Sequence[float]) -> list[float]:
        """Compute the main and auxiliary data that parameters expect, in pyhf's order."""
        likelihood = self._likelihood
        point = self._point(pars)
        main, aux = likelihood.expected(point)
        data: list[float] = likelihood.order.data(main, aux).tolist()
        return data

    def get_logpdf_func(
        self,
        expected: ExpectationType = ExpectationType.observed,
        data: Sequence[float] | None = None,
    ) -> Callable[[FloatArray], float]:
        """Make the function that computes log L at parameters; it has pyhf's value."""
        main, aux = self._data(expected, data)
        return lambda pars: -self._likelihood.value(self._point(pars), main, aux)

    def get_objective_function(
        self,
        expected: ExpectationType = ExpectationType.observed,
        data: Sequence[float] | None = None,
        do_grad: bool = True,
    ) -> Callable[[FloatArray], float | tuple[float, FloatArray]]:
        """Make the function that computes -log L at parameters, with its exact gradient if asked.

        Fixed parameters have a gradient of zero.
        """
        likelihood, (main, aux) = self._likelihood, self._data(expected, data)
        if not do_grad:
            return lambda pars: likelihood.value(self._point(pars), main, aux)
        columns, free = likelihood.order.columns, ~likelihood.batch.fixed[0]

        def value_and_gradient(pars: FloatArray) -> tuple[float, FloatArray]:
            value, gradient, _ = likelihood.derivatives(self._point(pars), main, aux)
            return value, (gradient * free)[columns]

        return value_and_gradient

    def get_hessian_logpdf_func(
        self,
        expected: ExpectationType = ExpectationType.observed,
        data: Sequence[float] | None = None,
    ) -> Callable[[FloatArray], FloatArray]:
        """Make the function that computes the exact Hessian of log L at parameters.

        Parameters that are fixed, or have no effect, have a variance of one and no correlation, so
        that its inverse exists.
        """
        likelihood, (main, aux) = self._likelihood, self._data(expected, data)
        columns = np.ix_(likelihood.order.columns, likelihood.order.columns)
        return lambda pars: -likelihood.curvature(self._point(pars), main, aux)[columns]

    def get_sampler(self, pars: FloatArray) -> Callable[..., FloatArray]:
        """Make the function that draws data sets, with or without auxiliary data.

        Random numbers come from :attr:`random`.
        """
        likelihood, point = self._likelihood, self._point(pars)
        expected, _ = likelihood.expected(point)

        def sampler(number_of_samples: int, include_auxiliary: bool = True) -> FloatArray:
            key = key_of(int(self.random.integers(2**63)), "", "spey")
            source = make_source(likelihood.batch, point, expected, key)
            toys = draw(likelihood.batch, source, np.arange(number_of_samples))
            order = likelihood.order
            return order.data(toys.data, toys.aux) if include_auxiliary else order.main(toys.data)

        return sampler

    def combine(self, other: BackendBase, **rules: Any) -> PalletfitBackend:
        """Make one likelihood of two, whose common parameters enter once.

        Parameters
        ----------
        other
            Another one of this back end. Others are combined as independent ones, by
            ``spey.UnCorrStatisticsCombiner``.
        rules
            Fields of :class:`palletfit.config.Combination`; by default parameters of one name are
            one parameter, ``correlate={"by": "name"}``. The members are ``left`` and ``right``.

        Raises
        ------
        NotImplementedError
            The other one is of another back end.
        ConfigError, PalletError
            See :func:`palletfit.pallet.combination.combine`.
        """
        if not isinstance(other, PalletfitBackend):
            raise NotImplementedError(f"{self.name} is not combined with {other.name}")
        pair = {"left": self._likelihood, "right": other._likelihood}
        settings = parse(
            Combination,
            {
                "correlate": {"by": "name"},
                **rules,
                "members": {
                    name: {
                        "analysis": name,
                        "measurement": likelihood.background.engine.settings.measurement,
                    }
                    for name, likelihood in pair.items()
                },
            },
            file="the arguments of combine",
        )
        members = {
            name: (likelihood.background.workspace, _patchset(likelihood.operations))
            for name, likelihood in pair.items()
        }
        combined = combine(members, settings, [])
        return PalletfitBackend(combined.patchset["patches"][0]["patch"], combined.workspace)

    # ------------------------------------------------------------------ the four fits

    def negative_loglikelihood(
        self,
        poi_test: PoiTest = 1.0,
        expected: ExpectationType = ExpectationType.observed,
        data: Sequence[float] | None = None,
        return_parameters: bool = False,
        init_pars: Sequence[float] | None = None,  # noqa: ARG002
        par_bounds: Bounds | None = None,
        **options: Any,
    ) -> float | tuple[float, FloatArray]:
        """Compute the minimum of -log L with the signal strength fixed.

        Parameters
        ----------
        poi_test
            Signal strength; or values of any parameters, by name or index.
        expected
            Data: ``apriori`` stands for the background's yields before any fit, all else for the
            observed ones.
        data
            Main and auxiliary data instead.
        return_parameters
            Give the parameters, too.
        init_pars
            Not needed: each fit has several starts.
        par_bounds
            Bounds of all parameters; None for those of :meth:`config`.
        options
            Settings of spey's optimizers, which are not used.
        """
        _check(options)
        fixed = self._fixed(poi_test)
        mu = fixed.pop(self._likelihood.poi, None)
        negative = mu is None or mu < 0
        conditions = self._conditions(
            *self._data(expected, data), negative=negative, bounds=par_bounds, fixed=fixed
        )
        fits = self._likelihood.data_set(conditions)
        minimum = fits.free() if mu is None else fits.at(mu)
        return self._answer(minimum, mu, return_parameters=return_parameters)

    def minimize_negative_loglikelihood(
        self,
        expected: ExpectationType = ExpectationType.observed,
        allow_negative_signal: bool = True,
        data: Sequence[float] | None = None,
        init_pars: Sequence[float] | None = None,  # noqa: ARG002
        par_bounds: Bounds | None = None,
        poi_indices: Sequence[int | str] | None = None,
        fixed_poi_value: PoiTest | None = None,
        **options: Any,
    ) -> tuple[float | dict[int | str, float], float]:
        """Compute the minimum of -log L with the signal strength free, and where it is.

        Parameters
        ----------
        expected, data, init_pars, par_bounds, options
            See :meth:`negative_loglikelihood`.
        allow_negative_signal
            Let the signal strength go below zero.
        poi_indices
            Parameters whose values are wanted, by name or index; None: the signal strength.
        fixed_poi_value
            Signal strength that is fixed, or values of any parameters.
        """
        _check(options)
        fixed = {} if fixed_poi_value is None else self._fixed(fixed_poi_value)
        mu = fixed.pop(self._likelihood.poi, None)
        conditions = self._conditions(
            *self._data(expected, data),
            negative=allow_negative_signal,
            bounds=par_bounds,
            fixed=fixed,
        )
        fits = self._likelihood.data_set(conditions)
        minimum = fits.free() if mu is None else fits.at(mu)
        self._warn(minimum, mu)
        return self._values(minimum, poi_indices), minimum.nll

    def asimov_negative_loglikelihood(
        self,
        poi_test: PoiTest = 1.0,
        expected: ExpectationType = ExpectationType.observed,
        test_statistics: str = "qtilde",
        init_pars: Sequence[float] | None = None,  # noqa: ARG002
        par_bounds: Bounds | None = None,
        return_parameters: bool = False,
        **options: Any,
    ) -> float | tuple[float, FloatArray]:
        """Compute the minimum of -log L on Asimov data with the signal strength fixed.

        The Asimov data are those that the fit of the data expects, at a signal strength of one for
        the test statistic ``q0`` and of zero for all others.
        """
        _check(options)
        fixed = self._fixed(poi_test)
        mu = fixed.pop(self._likelihood.poi, None)
        fits: DataSet = self._asimov(expected, test_statistics, par_bounds)
        if fixed:
            # The Asimov data are those of the fit with all of them free.
            fits = self._likelihood.data_set(replace(fits.conditions, fixed=fixed))
        minimum = fits.free() if mu is None else fits.at(mu)
        return self._answer(minimum, mu, return_parameters=return_parameters)

    def minimize_asimov_negative_loglikelihood(
        self,
        expected: ExpectationType = ExpectationType.observed,
        test_statistics: str = "qtilde",
        init_pars: Sequence[float] | None = None,  # noqa: ARG002
        par_bounds: Bounds | None = None,
        poi_indices: Sequence[int | str] | None = None,
        **options: Any,
    ) -> tuple[float | dict[int | str, float], float]:
        """Compute the minimum of -log L on Asimov data, and where it is."""
        _check(options)
        minimum = self._asimov(expected, test_statistics, par_bounds).free()
        self._warn(minimum, None)
        return self._values(minimum, poi_indices), minimum.nll

    def _asimov(
        self, expected: ExpectationType, test_statistic: str, bounds: Bounds | None
    ) -> AsimovSet:
        negative = test_statistic in ("q", "qmu")
        conditions = self._conditions(*self._data(expected, None), negative=negative, bounds=bounds)
        return self._likelihood.asimov(conditions, 1.0 if test_statistic == "q0" else 0.0)

    # ------------------------------------------------------------------ in and out

    def _background_only(self) -> FloatArray:
        """Give the parameters of the background-only fit; the measurement's where it has none."""
        batch = self._likelihood.batch
        conditions = self._conditions(batch.data[0], batch.aux[0], negative=False)
        minimum = self._likelihood.data_set(conditions).at(0.0)
        return minimum.point if minimum.trusted else batch.init[0]

    def _point(self, pars: Sequence[float] | FloatArray) -> FloatArray:
        likelihood = self._likelihood
        return likelihood.order.point(_numbers(pars, "parameters"), likelihood.batch.init[0])

    def _data(
        self, expected: ExpectationType, data: Sequence[float] | None
    ) -> tuple[FloatArray, FloatArray]:
        likelihood = self._likelihood
        batch = likelihood.batch
        if data is not None:
            return likelihood.order.split(_numbers(data, "data"), batch.aux[0])
        main = likelihood.nominal if expected == ExpectationType.apriori else batch.data[0]
        return main, batch.aux[0]

    def _conditions(
        self,
        main: FloatArray,
        aux: FloatArray,
        *,
        negative: bool,
        bounds: Bounds | None = None,
        fixed: Mapping[int, float] | None = None,
    ) -> Conditions:
        likelihood = self._likelihood
        lowest = max(likelihood.least_strength, _LOWEST) if negative else 0.0
        limits = None
        if bounds is not None:
            ends = [
                (-np.inf if low is None else low, np.inf if high is None else high)
                for low, high in bounds
            ]
            _check_bounds(ends, likelihood.order.names)
            batch = likelihood.batch
            limits = (
                likelihood.order.point(np.array([low for low, _ in ends]), batch.lower[0]),
                likelihood.order.point(np.array([high for _, high in ends]), batch.upper[0]),
            )
        return likelihood.conditions(main, aux, (lowest, _HIGHEST), bounds=limits, fixed=fixed)

    def _fixed(self, poi_test: PoiTest) -> dict[int, float]:
        """Give the columns of parameters that are fixed, and their values."""
        likelihood = self._likelihood
        if not isinstance(poi_test, Mapping):
            return {likelihood.poi: _number(poi_test, "signal strength")}
        names = likelihood.order.names
        fixed: dict[int, float] = {}
        for key, value in poi_test.items():
            fixed[int(likelihood.order.columns[_index(key, names)])] = _number(
                value, f"parameter {key!r}"
            )
        return fixed

    def _values(
        self, minimum: Minimum, parameters: Sequence[int | str] | None
    ) -> float | dict[int | str, float]:
        if parameters is None:
            return float(minimum.point[self._likelihood.poi])
        order = self._likelihood.order
        values = minimum.point[order.columns]
        return {key: float(values[_index(key, order.names)]) for key in parameters}

    def _answer(
        self, minimum: Minimum, mu: float | None, *, return_parameters: bool
    ) -> float | tuple[float, FloatArray]:
        self._warn(minimum, mu)
        if return_parameters:
            return minimum.nll, minimum.point[self._likelihood.order.columns]
        return minimum.nll

    def _warn(self, minimum: Minimum, mu: float | None) -> None:
        if not minimum.trusted:
            title = "free fit" if mu is None else f"fit at mu = {mu:g}"
            log.warning("palletfit: the %s has no proven minimum: %s", title, minimum.reason)


def _index(key: int | str, names: Sequence[str]) -> int:
    """Find a parameter by name or index.

    Raises
    ------
    PalletError
        The model has no such parameter.
    """
    if isinstance(key, str) and key in names:
        return names.index(key)
    if not isinstance(key, str) and -len(names) <= int(key) < len(names):
        return int(key)
    raise PalletError(
        f"The model has no parameter {key!r}.",
        remedy="Use a name of `config().parameter_names`, or its index.",
    )


def _number(value: Any, title: str) -> float:
    """Read a finite number.

    Raises
    ------
    PalletError
        It is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise PalletError(
            f"The value {value!r} of the {title} is no finite number.",
            remedy="Give a finite number.",
        )
    return number


def _numbers(values: Sequence[float] | FloatArray, title: str) -> FloatArray:
    """Read an array of numbers, which need not be finite.

    Raises
    ------
    PalletError
        One is no number.
    """
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise PalletError(f"The {title} are no list of numbers.", remedy="Give numbers.") from None


def _check_bounds(bounds: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Refuse bounds that leave no value.

    Raises
    ------
    PalletError
        A lower one is above the upper one, or one is not a number.
    """
    for name, (low, high) in zip(names, bounds, strict=False):
        if not low <= high:
            raise PalletError(
                f"The bounds of {name!r} are {low} and {high}, and no value is between them.",
                remedy="Give the lower bound first.",
            )


def _check(options: Mapping[str, Any]) -> None:
    """Refuse options that would change what is computed."""
    constraints = options.get("constraints")
    unknown = sorted(set(options) - _IGNORED - {"constraints"})
    if constraints or unknown:
        raise PalletError(
            f"The fits of palletfit know no option {unknown[0] if unknown else 'constraints'!r}.",
            remedy="Leave it out, or use another back end.",
        )


def _patchset(operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write the patchset of one patch, as combinations take it."""
    return {
        "metadata": {
            "description": "one signal",
            "digests": {},
            "labels": [],
            "references": {"hepdata": ""},
        },
        "patches": [{"metadata": {"name": "signal", "values": []}, "patch": list(operations)}],
        "version": "1.0.0",
    }


def _operations(source: Source | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Read the operations of a patch: a list, an entry of a patchset, or a file."""
    content = source
    if isinstance(content, (str, Path)):
        content = read_pallet_json(Path(content))
    content = json.loads(as_json(content))
    if isinstance(content, dict) and "patch" in content:
        content = content["patch"]
    if not isinstance(content, list):
        raise PalletError(
            "The signal patch is no list of operations.",
            remedy="Give the operations of one patch (JSON Patch, RFC 6902).",
        )
    return content
