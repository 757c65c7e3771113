"""The reference engine: hypothesis tests through pyhf itself, with every minimum checked.

pyhf's optimizers can stop early or in a higher minimum and call it success. Each fit is therefore
judged by the likelihood's own derivatives (:mod:`palletfit.engine.reference.evidence`), nested fits
are compared, and suspicious ones are repeated with other optimizers and from other starts. The
lowest minimum counts.
"""

from __future__ import annotations

import importlib.metadata
import logging
import operator
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.hypothesis import check_poi_bounds, conclude, tested_mu
from palletfit.engine.likelihood import EMPTY, NEXT_TO_NONE
from palletfit.engine.parameters import free_poi, measurement_of
from palletfit.engine.records import Attempt, BestFit, Fit, HypotestResult
from palletfit.engine.reference.evidence import Likelihood, polish
from palletfit.engine.refusals import check_background, check_model
from palletfit.engine.samples import LUMI, TINY
from palletfit.errors import BackendError, FitError, PalletError
from palletfit.pallet.limits import MODEL_BYTES, ModelSize

#: After so many evaluations Minuit gives up.
_MINUIT_CALLS = 50_000
#: Newton steps go on until the edm is this small compared with what is trusted.
_POLISH_MARGIN = 1e-2
#: The edm that further Newton steps aim at where a result depends on a fit to first order.
_SHARP = 1e-13
#: Below this a test statistic on the Asimov data is numerical noise of 2 NLL (about 1e-13 of it).
_STATISTIC_NOISE = 1e-10
#: Where q_A is smaller than this, the edm that is good enough elsewhere is as large as q itself.
_WEAK_SENSITIVITY = 1e-2
#: Minuit's tolerance in units of 0.002 * errordef: its default stops at an edm of 1e-4.
_MINUIT_TOLERANCE = 1e-2

#: What is tried on a suspicious fit, in this order, until it is trusted: optimizer and start.
_ESCALATION = (
    ("scipy", "suggested"),
    ("minuit", "best"),
    ("minuit-strategy0", "suggested"),
    ("minuit-strategy2", "best"),
    ("scipy", "background"),
    ("scipy", "free"),
    ("scipy", "displaced"),
    ("minuit", "displaced"),
)


def hypotest(spec: Mapping[str, Any], settings: FitSettings) -> HypotestResult:
    """Test one signal hypothesis with pyhf.

    Parameters
    ----------
    spec
        The full workspace (background with its signal patch).
    settings
        Tested signal strength, test statistic, backend, optimizer, interpolation codes.

    Raises
    ------
    PalletError
        The workspace makes no model, one without the parameter of interest, or one that expects
        nothing without signal where events are observed.
    FitError
        No optimizer gave a finite minimum.
    """
    import pyhf

    started = time.perf_counter()
    pyhf.set_backend("numpy")
    model, data = build_model(spec, settings)
    check_background(spec, settings)
    _, remarks = _prepare(spec, settings)
    built = time.perf_counter()
    with _quiet():
        test = _Hypotest(model, data, settings)
        result = test.run()
    return HypotestResult(
        **{**result, "remarks": (*remarks, *result["remarks"])},
        engine="reference",
        parameters=model.config.npars,
        build_time=built - started,
        fit_time=time.perf_counter() - built,
        software=software_versions(settings),
    )


def fit(spec: Mapping[str, Any], settings: FitSettings, mu: float | None) -> BestFit:
    """Fit one model to its data with pyhf.

    Parameters
    ----------
    spec
        The full workspace.
    settings
        Backend, optimizer, interpolation codes.
    mu
        Where the parameter of interest is fixed; None leaves it free.

    Raises
    ------
    PalletError
        The workspace makes no model, or one without the parameter of interest.
    FitError
        No optimizer gave a trusted minimum.
    """
    import pyhf

    pyhf.set_backend("numpy")
    model, data = build_model(spec, settings)
    with _quiet():
        return _Fits(model, data, settings).fit(mu)


def _check_size(spec: Mapping[str, Any]) -> None:
    """Refuse a model of pyhf that would not fit into memory."""
    size = ModelSize.of(spec)
    if size.memory > MODEL_BYTES:
        raise PalletError(
            f"The model is too large for pyhf: {size.samples} samples, {size.modifiers} modifiers "
            f"and {size.bins} bins would take about {size.memory / 1024**3:.0f} GiB of memory.",
            remedy="Join samples or modifiers that need not be apart; `fit.engine: batched` takes "
            "less memory.",
        )


def _clip_rates(model: Any) -> None:
    """Let rates below zero count as zero where nothing is observed.

    pyhf's likelihood falls there without end, see :func:`palletfit.engine.likelihood.clipped`.
    """
    import pyhf

    unclipped = model.logpdf

    def logpdf(parameters: Any, data: Any) -> Any:
        value = unclipped(parameters, data)
        library = pyhf.tensorlib
        observed = library.astensor(data)[: model.config.nmaindata]
        rates = model.expected_actualdata(library.astensor(parameters))
        empty = observed <= EMPTY
        excess = library.where(empty & (rates < 0), rates, library.zeros(rates.shape))
        return value + library.sum(excess)

    model.logpdf = logpdf


def build_model(spec: Mapping[str, Any], settings: FitSettings) -> tuple[Any, FloatArray]:
    """Make pyhf's model of a workspace and its data (observations, then auxiliary data).

    Raises
    ------
    PalletError
        See :func:`hypotest`.
    """
    import pyhf

    check_model(spec, settings)
    try:
        prepared, _ = _prepare(spec, settings)
        workspace = pyhf.Workspace(prepared, validate=False)
        _check_size(spec)
        model = workspace.model(
            measurement_name=settings.measurement,
            modifier_set=_modifier_set(),
            modifier_settings={
                "normsys": {"interpcode": settings.normsys},
                "histosys": {"interpcode": settings.histosys},
            },
            validate=False,
        )
        _clip_rates(model)
        return model, np.asarray(workspace.data(model), dtype=float)
    except (
        pyhf.exceptions.InvalidModel,
        pyhf.exceptions.InvalidMeasurement,
        pyhf.exceptions.InvalidModifier,
        pyhf.exceptions.InvalidNameReuse,
        pyhf.exceptions.InvalidSpecification,
        pyhf.exceptions.InvalidWorkspaceOperation,
        ArithmeticError,
        AssertionError,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
    ) as error:
        raise PalletError(
            f"pyhf cannot make a model of the workspace: {type(error).__name__}: {error}.",
            remedy="Check the patch against the workspace with `pyhf inspect`.",
        ) from error


def poi_bounds(spec: Mapping[str, Any], settings: FitSettings) -> tuple[float, float]:
    """Bounds of the parameter of interest.

    Raises
    ------
    PalletError
        pyhf cannot make a model of it.
    """
    config = build_model(spec, settings)[0].config
    lower, upper = config.suggested_bounds()[config.poi_index]
    return float(lower), float(upper)


def _modifier_set() -> Any:
    from palletfit.engine.reference.modifiers import MODIFIERS  # imports pyhf

    return MODIFIERS


def _prepare(
    spec: Mapping[str, Any], settings: FitSettings
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Write a full workspace so that pyhf reads it as it is meant.

    The parameter of interest is free. A lumi without width is fixed where it was measured. A
    normsys factor of zero is so small a number that it has a logarithm.

    Returns
    -------
    tuple
        The workspace, or a copy where something is changed; and remarks.
    """
    chosen = measurement_of(spec, settings.measurement)
    measurement, remarks = free_poi(chosen)
    measurement = _without_width(spec, measurement)
    channels = [_with_logarithms(channel) for channel in spec["channels"]]
    if measurement is chosen and all(map(operator.is_, channels, spec["channels"])):
        return spec, remarks
    measurements = [measurement if entry is chosen else entry for entry in spec["measurements"]]
    return {**spec, "channels": channels, "measurements": measurements}, remarks


def _without_width(spec: Mapping[str, Any], measurement: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fix a lumi without width; its constraint is then a constant of a width of one."""
    lumis = {
        modifier["name"]
        for channel in spec["channels"]
        for sample in channel["samples"]
        for modifier in sample["modifiers"]
        if modifier["type"] == LUMI
    }
    config = measurement["config"]
    parameters = [
        {
            **entry,
            "sigmas": [1.0],
            "fixed": True,
            "inits": entry["inits"] if entry.get("fixed") else entry["auxdata"],
        }
        if entry["name"] in lumis and not any(entry["sigmas"])
        else entry
        for entry in config["parameters"]
    ]
    if all(map(operator.is_, parameters, config["parameters"])):
        return measurement
    return {**measurement, "config": {**config, "parameters": parameters}}


def _with_logarithms(channel: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace normsys factors of zero in a channel."""
    changed = False
    samples = []
    for sample in channel["samples"]:
        modifiers = []
        for modifier in sample["modifiers"]:
            data = modifier.get("data")
            if modifier["type"] == "normsys" and 0 in (data["lo"], data["hi"]):
                factors = {side: data[side] or TINY for side in ("lo", "hi")}
                modifier = {**modifier, "data": factors}
                changed = True
            modifiers.append(modifier)
        samples.append({**sample, "modifiers": modifiers})
    return {**channel, "samples": samples} if changed else channel


def software_versions(settings: FitSettings) -> dict[str, str]:
    """Versions of what a result depends on."""
    backend = {"pytorch": "torch"}.get(settings.backend, settings.backend)
    names = dict.fromkeys(("pyhf", "numpy", "scipy", "iminuit", backend))
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **versions}


@dataclass
class _Search:
    """All attempts at one fit."""

    likelihood: Likelihood
    attempts: list[Attempt] = field(default_factory=list)
    points: list[FloatArray] = field(default_factory=list)
    #: Optimizers with the points from which they were started.
    tried: set[tuple[str, bytes]] = field(default_factory=set)
    #: 2 NLL that this fit must reach because a nested fit did.
    ceiling: float = np.inf

    @property
    def lowest(self) -> int:
        """Index of the lowest minimum; among equal ones that with the best evidence."""
        values = np.array([np.inf if a.twice_nll is None else a.twice_nll for a in self.attempts])
        edms = [np.inf if a.edm is None else a.edm for a in self.attempts]
        return int(np.lexsort((edms, values > np.min(values) + _STATISTIC_NOISE))[0])

    @property
    def best(self) -> FloatArray:
        return self.points[self.lowest]

    @property
    def twice_nll(self) -> float:
        value = self.attempts[self.lowest].twice_nll
        return np.inf if value is None else value

    def verdict(self, settings: FitSettings) -> tuple[bool, str]:
        """Judge the lowest minimum: trusted or not, and the reason."""
        best = self.attempts[self.lowest]
        tolerance = 2 * settings.nll_tolerance
        if best.twice_nll is None or best.edm is None:
            return False, f"no optimizer reached a finite minimum ({best.message})"
        if best.edm > settings.edm_tolerance:
            return False, f"edm of {best.edm:.1e} is above {settings.edm_tolerance:.1e}"
        if best.twice_nll > self.ceiling + tolerance:
            return False, f"a nested fit is lower by {best.twice_nll - self.ceiling:.1e} in 2 NLL"
        agreeing = [
            attempt
            for attempt in self.attempts
            if attempt.twice_nll is not None and attempt.twice_nll <= best.twice_nll + tolerance
        ]
        for attempt in agreeing:
            if not attempt.doubts:
                return True, f"{attempt.optimizer} from {attempt.start}: edm {best.edm:.1e}"
        ways = list(
            dict.fromkeys(f"{attempt.optimizer} from {attempt.start}" for attempt in agreeing)
        )
        if len({attempt.optimizer for attempt in agreeing if attempt.moved}) > 1:
            return True, f"{' and '.join(ways)} agree, edm {best.edm:.1e}"
        return False, f"only {' and '.join(ways)}: {'; '.join(best.doubts)}"

    def freeze(self, settings: FitSettings) -> Fit:
        best = self.attempts[self.lowest]
        trusted, reason = self.verdict(settings)
        ends = [attempt.twice_nll for attempt in self.attempts if attempt.twice_nll is not None]
        return Fit(
            twice_nll=self.twice_nll,
            edm=np.inf if best.edm is None else best.edm,
            gradient_norm=np.inf if best.gradient_norm is None else best.gradient_norm,
            at_bounds=best.at_bounds,
            mu=float(self.best[self.likelihood.model.config.poi_index]),
            trusted=trusted,
            reason=reason,
            agreed=sum(end <= self.twice_nll + 2 * settings.nll_tolerance for end in ends),
            spread=max(ends, default=np.inf) - min(ends, default=np.inf) if ends else np.inf,
            attempts=tuple(self.attempts),
        )


class _Fits:
    """Fits of one model, each by several optimizers from several starts."""

    def __init__(self, model: Any, data: FloatArray, settings: FitSettings) -> None:
        self.model, self.data, self.settings = model, data, settings
        self.suggested = np.asarray(model.config.suggested_init(), dtype=float)
        self.starts: dict[str, FloatArray] = {
            "suggested": self.suggested,
            "displaced": self._displaced(),
        }

    def fit(self, mu: float | None) -> BestFit:
        """Fit the data with the parameter of interest free or fixed."""
        search = _Search(Likelihood(self.model, self.data, mu))
        self._try(search, self.settings.optimizer, "suggested")
        self._escalate(search)
        self._sharpen(search)
        evidence = search.freeze(self.settings)
        if not evidence.trusted:
            raise FitError(
                f"The fit has no trusted minimum: {evidence.reason}.",
                remedy="Look at the yields; try another optimizer or backend.",
            )
        covariance = search.likelihood.covariance(search.best)
        names = self.model.config.par_names
        errors = np.sqrt(np.diag(covariance))
        return BestFit(
            parameters=dict(zip(names, search.best.tolist(), strict=True)),
            errors=dict(zip(names, errors.tolist(), strict=True)),
            covariance=covariance,
            evidence=evidence,
            engine="reference",
        )

    def _displaced(self) -> FloatArray:
        # A fixed pattern of about half a prefit width, for models whose suggested start is a trap.
        bounds = np.asarray(self.model.config.suggested_bounds(), dtype=float)
        width = np.minimum((bounds[:, 1] - bounds[:, 0]) / 20, 0.5)
        pattern = np.cos(2.0 * np.arange(len(self.suggested)) + 1.0)
        fixed = np.asarray(self.model.config.suggested_fixed(), dtype=bool)
        return np.where(fixed, self.suggested, self.suggested + width * pattern)

    def _escalate(self, search: _Search) -> None:
        if not self.settings.escalate:
            return
        for optimizer, start in _ESCALATION:
            if search.verdict(self.settings)[0]:
                return
            self._try(search, optimizer, start)

    def _try(self, search: _Search, optimizer: str, start: str) -> None:
        """Run one optimizer from one start, unless that was done already."""
        done = {(attempt.optimizer, attempt.start) for attempt in search.attempts}
        if (optimizer, start) in done and start not in ("best", "nested"):
            return
        if start == "best":
            point = search.best
            if not np.all(np.isfinite(point)):
                return
        elif start in self.starts:
            point = self.starts[start]
        else:
            return
        if (optimizer, point.tobytes()) in search.tried:
            return
        search.tried.add((optimizer, point.tobytes()))
        attempt, reached = self._attempt(search.likelihood, optimizer, start, point)
        search.attempts.append(attempt)
        search.points.append(reached)

    def _sharpen(self, search: _Search) -> None:
        """Go on with Newton steps from the lowest minimum, as far as the likelihood falls."""
        index = search.lowest
        attempt = search.attempts[index]
        if attempt.twice_nll is None or attempt.edm is None:
            return
        point, evidence, steps = polish(search.likelihood, search.points[index], edm=_SHARP)
        search.points[index] = point
        search.attempts[index] = replace(
            attempt,
            twice_nll=evidence.twice_nll,
            edm=evidence.edm if np.isfinite(evidence.edm) else None,
            gradient_norm=evidence.gradient_norm,
            at_bounds=evidence.at_bounds,
            polish_steps=attempt.polish_steps + steps,
        )

    def _attempt(
        self, likelihood: Likelihood, optimizer: str, start: str, point: FloatArray
    ) -> tuple[Attempt, FloatArray]:
        began = time.perf_counter()
        outcome = _minimise(likelihood, optimizer, likelihood.start(point), self.settings.backend)
        reached = likelihood.start(outcome.parameters)
        optimizer_value = likelihood.twice_nll(reached)
        goal = _POLISH_MARGIN * self.settings.edm_tolerance
        reached, evidence, steps = polish(likelihood, reached, edm=goal)
        doubts = []
        if not outcome.success:
            doubts.append(f"{optimizer} reports failure ({outcome.message})")
        if outcome.iterations is not None and outcome.iterations <= 1 and start == "suggested":
            doubts.append(f"{optimizer} stopped after {outcome.iterations} iteration")
        if evidence.edm > self.settings.edm_tolerance:
            doubts.append(f"edm of {evidence.edm:.1e}")
        finite = bool(np.isfinite(evidence.twice_nll))
        attempt = Attempt(
            optimizer=optimizer,
            start=start,
            moved=outcome.moved,
            reported_success=outcome.success,
            message=outcome.message,
            iterations=outcome.iterations,
            evaluations=outcome.evaluations,
            optimizer_twice_nll=optimizer_value if np.isfinite(optimizer_value) else None,
            twice_nll=evidence.twice_nll if finite else None,
            edm=evidence.edm if np.isfinite(evidence.edm) else None,
            gradient_norm=evidence.gradient_norm if finite else None,
            at_bounds=evidence.at_bounds,
            polish_steps=steps,
            doubts=tuple(doubts),
            seconds=time.perf_counter() - began,
        )
        return attempt, reached


class _Hypotest(_Fits):
    """The four fits of one hypothesis test, in order."""

    def __init__(self, model: Any, data: FloatArray, settings: FitSettings) -> None:
        super().__init__(model, data, settings)
        self.discovery = settings.test_statistic == "q0"
        self.mu = tested_mu(settings)
        self._check_poi_bounds()

    def run(self) -> dict[str, Any]:
        searches = {
            "background": _Search(Likelihood(self.model, self.data, 0.0)),
            "free": _Search(Likelihood(self.model, self.data, None)),
            "fixed": _Search(Likelihood(self.model, self.data, self.mu)),
        }
        for name, search in searches.items():
            self._try(search, self.settings.optimizer, "suggested")
            self._remember(name, search)
        for start in self.settings.starts:
            for search in searches.values():
                self._try(search, self.settings.optimizer, start)
        for name, search in searches.items():
            self._escalate(search)
            self._remember(name, search)
        self._compare_nested(searches)

        source = searches["fixed" if self.discovery else "background"]
        # The Asimov data depend on it to first order, where a minimum does to second.
        self._sharpen(source)
        tested = searches["background" if self.discovery else "fixed"]
        asimov, asimov_free = self._asimov(source)
        asimov_fixed = _Search(Likelihood(self.model, asimov, tested.likelihood.mu))
        for start in ("suggested", *self.settings.starts):
            self._try(asimov_fixed, self.settings.optimizer, start)
        self._escalate(asimov_fixed)
        searches["asimov_fixed"] = asimov_fixed
        if asimov_fixed.twice_nll - asimov_free < _WEAK_SENSITIVITY:
            for search in (searches["free"], tested, asimov_fixed):
                self._sharpen(search)
        return self._conclude(searches, asimov_free)

    def _conclude(self, searches: Mapping[str, _Search], asimov_free: float) -> dict[str, Any]:
        fits = {name: search.freeze(self.settings) for name, search in searches.items()}
        for name, fit in fits.items():
            if not np.isfinite(fit.twice_nll):
                raise FitError(
                    f"The {name} fit found no finite minimum: {fit.reason}.",
                    remedy="Look at the yields of this patch; try another optimizer or backend.",
                )
        remarks = []
        rounding = self._rounding()
        if rounding > self.settings.nll_tolerance:
            remarks.append(
                f"pyhf's NLL is uncertain by about {rounding:.0e}: a Poisson constraint is so "
                "narrow that its logarithms cancel only to that precision"
            )
        # A fit that is not trusted says nothing about the sensitivity.
        edm = min(fits["asimov_fixed"].edm, self.settings.edm_tolerance)
        return conclude(
            self.settings,
            fits,
            q_asimov=searches["asimov_fixed"].twice_nll - asimov_free,
            noise=max(_STATISTIC_NOISE, 4 * edm, 2 * rounding),
            mu_upper=searches["free"].likelihood.upper[self._poi],
            remarks=remarks,
        )

    def _rounding(self) -> float:
        """Estimate the rounding error of the NLL.

        Terms of size ``n log n`` cancel in a Poisson constraint.

        A relative uncertainty of 2e-6 (a shapesys of 0.001 on 435 events) is a Poisson term with
        n = 2e11.
        """
        counts = self.data[self.data > 1.0]
        largest = np.max(counts * np.log(counts), initial=1.0)
        return float(np.finfo(float).eps * largest)

    @property
    def _poi(self) -> int:
        return int(self.model.config.poi_index)

    def _check_poi_bounds(self) -> None:
        lower, upper = self.model.config.suggested_bounds()[self._poi]
        check_poi_bounds(self.mu, lower, upper, self.model.config.poi_name)

    def _asimov(self, source: _Search) -> tuple[FloatArray, float]:
        """Asimov data of a fit, and the exact minimum of the free fit on them.

        The parameters that generated the data are their maximum-likelihood estimate, for Gaussian
        and Poisson terms alike (CCGV section 3.2), so that this fit needs no optimizer.
        """
        parameters = source.best
        asimov = np.asarray(self.model.expected_data(parameters), dtype=float)
        main = asimov[: self.model.config.nmaindata]
        observed = source.likelihood.data[: len(main)]
        main[main <= np.where(observed <= EMPTY, NEXT_TO_NONE, EMPTY)] = 0.0
        return asimov, Likelihood(self.model, asimov, None).twice_nll(parameters)

    def _remember(self, name: str, search: _Search) -> None:
        if name in ("background", "free") and np.isfinite(search.twice_nll):
            self.starts[name] = search.best

    def _compare_nested(self, searches: Mapping[str, _Search]) -> None:
        """Check that NLL(free) <= NLL(fixed) and NLL(free) <= NLL(mu=0): the fits are nested."""
        free = searches["free"]
        for nested in (searches["background"], searches["fixed"]):
            free.ceiling = min(free.ceiling, nested.twice_nll)
            if free.twice_nll > nested.twice_nll + 2 * self.settings.nll_tolerance:
                self.starts["nested"] = nested.best
                self._try(free, self.settings.optimizer, "nested")
        self._escalate(free)


@dataclass(frozen=True)
class _Outcome:
    parameters: FloatArray
    moved: bool
    success: bool
    message: str
    iterations: int | None = None
    evaluations: int | None = None


def _minimise(likelihood: Likelihood, optimizer: str, start: FloatArray, backend: str) -> _Outcome:
    """Minimise with one of pyhf's optimizers in one of its backends; NumPy is set again after."""
    import pyhf

    if np.all(likelihood.fixed):
        return _Outcome(start, True, True, "there is nothing to fit")
    _set_backend(backend, optimizer)
    data = pyhf.tensorlib.astensor(likelihood.data)
    arguments = {"init_pars": start.tolist(), "return_result_obj": True}
    try:
        if likelihood.mu is None:
            _, result = pyhf.infer.mle.fit(data, likelihood.model, **arguments)
        else:
            _, result = pyhf.infer.mle.fixed_poi_fit(
                likelihood.mu, data, likelihood.model, **arguments
            )
    except pyhf.exceptions.FailedMinimization as error:
        result = error.result
    except (
        ArithmeticError,
        AttributeError,  # pyhf's Minuit where hesse finds no covariance matrix
        RuntimeError,
        ValueError,
        np.linalg.LinAlgError,
    ) as error:
        return _Outcome(start, False, False, f"{type(error).__name__}: {error}")
    finally:
        pyhf.set_backend("numpy")
    point = np.asarray(result.x, dtype=float).reshape(-1)
    usable = point.shape == start.shape and bool(np.all(np.isfinite(point)))
    return _Outcome(
        parameters=point if usable else start,
        moved=usable,
        success=bool(result.success) and usable,
        message=str(result.message) if usable else "its parameters are not finite",
        iterations=int(result.nit) if "nit" in result else None,
        evaluations=int(result.nfev) if "nfev" in result else None,
    )


def _set_backend(backend: str, optimizer: str) -> None:
    import pyhf

    try:
        pyhf.set_backend(backend, _optimizer(optimizer), precision="64b")
    except pyhf.exceptions.ImportBackendError as error:
        pyhf.set_backend("numpy")
        raise BackendError(
            f"pyhf's backend {backend} is not installed: {error}.",
            remedy=f"Install palletfit[{backend}] where the fits run, or choose another "
            "`fit.backend`.",
        ) from error


def _optimizer(name: str) -> Any:
    import pyhf

    if name == "scipy":
        return pyhf.optimize.scipy_optimizer()
    _, _, strategy = name.partition("-strategy")
    return pyhf.optimize.minuit_optimizer(
        strategy=int(strategy) if strategy else None,
        tolerance=_MINUIT_TOLERANCE,
        maxiter=_MINUIT_CALLS,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pyhf's own log of failed fits and NumPy's warnings out of the run: records say it."""
    logger = logging.getLogger("pyhf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
