"""The reference engine: hypothesis tests through pyhf itself, with every minimum checked.

pyhf's optimizers can stop early or in a higher minimum and call it success. Each fit is therefore
judged by the likelihood's own derivatives (:mod:`palletfit.engine.reference.evidence`), nested fits
are compared, and suspicious ones are repeated with other optimizers and from other starts. The
lowest minimum counts.
"""

from __future__ import annotations

import functools
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
from palletfit.engine.hypothesis import CLIPPED, check_poi_bounds, conclude, tested_mu
from palletfit.engine.likelihood import BELOW, EMPTY, NEXT_TO_NONE
from palletfit.engine.minima import DIFFERENT, NO_NEAREST, moved, with_other
from palletfit.engine.parameters import free_poi, measurement_of
from palletfit.engine.records import Attempt, BestFit, Fit, HypotestResult
from palletfit.engine.reference.evidence import Likelihood, polish
from palletfit.engine.reference.optimizers import calls_of_repetitions, minimise
from palletfit.engine.refusals import check_background, check_model
from palletfit.engine.samples import LUMI, TINY
from palletfit.errors import FitError, PalletError
from palletfit.pallet.extensions import extensions, without_interpolation
from palletfit.pallet.limits import MODEL_BYTES, ModelSize
from palletfit.pallet.schema import in_known_version

#: Newton steps go on until the edm is this small compared with what is trusted.
_POLISH_MARGIN = 1e-2
#: The edm that further Newton steps aim at where a result depends on a fit to first order.
_SHARP = 1e-13
#: Below this a test statistic on the Asimov data is numerical noise of 2 NLL (about 1e-13 of it).
_STATISTIC_NOISE = 1e-10
#: Where q_A is smaller than this, the edm that is good enough elsewhere is as large as q itself.
_WEAK_SENSITIVITY = 1e-2

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
        lowest, nearest = test.run()
    take_nearest = settings.minimum == "nearest"
    counted, other = (
        (nearest, lowest) if take_nearest and nearest is not None else (lowest, nearest)
    )
    results = [
        HypotestResult(
            **test.conclude(ends),
            engine="reference",
            parameters=model.config.npars,
            build_time=built - started,
            fit_time=time.perf_counter() - built,
            software=software_versions(settings),
            minimum=settings.minimum if nearest is not None else "lowest",
        )
        for ends in (counted, other)
        if ends is not None
    ]
    result = results[0]
    if take_nearest and nearest is None:
        remarks = (*remarks, NO_NEAREST)
    elif other is not None and other is not counted:
        result = with_other(
            result,
            results[1],
            "lowest" if take_nearest else "nearest",
            settings.test_statistic,
            test.moved(counted, other),
            () if np.array_equal(counted.asimov, other.asimov) else ("asimov_fixed",),
        )
    return replace(result, remarks=(*remarks, *result.remarks))


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

    def logpdf(parameters: Any, data: Any) -> Any:
        library = pyhf.tensorlib
        all_data = library.astensor(data)
        # One density for both: pyhf's own functions evaluate all modifiers for each.
        density = model.make_pdf(library.astensor(parameters))
        value = library.reshape(density.log_prob(all_data), (1,))
        rates = density[0].expected_data()
        observed = all_data[: model.config.nmaindata]
        empty = observed <= EMPTY
        excess = library.where(empty & (rates < 0), rates, library.zeros(rates.shape))
        return value + library.sum(excess)

    model.logpdf = logpdf


def _keep_last_density(model: Any) -> None:
    """Let pyhf make the density at a point once, and not again for its value and for its rates.

    pyhf evaluates all modifiers for each of them, which is most of what a fit costs.
    Points of other backends than NumPy may be traced, and are not compared.
    """
    import pyhf

    make = model.make_pdf
    last: tuple[Any, bytes, Any] = (None, b"", None)

    def make_pdf(parameters: Any) -> Any:
        nonlocal last
        library = pyhf.tensorlib
        if library.name != "numpy":
            return make(parameters)
        point = np.asarray(parameters).tobytes()
        known_library, known_point, density = last
        if library is not known_library or point != known_point:
            density = make(parameters)
            last = (library, point, density)
        return density

    model.make_pdf = make_pdf


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
        workspace = pyhf.Workspace(in_known_version(prepared), validate=False)
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
        _keep_last_density(model)
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
    normsys factor of zero is so small a number that it has a logarithm. An interpolation that a
    modifier names is left out if it is that of the settings.

    Returns
    -------
    tuple
        The workspace, or a copy where something is changed; and remarks.
    """
    spec = _without_known_codes(spec, settings)
    chosen = measurement_of(spec, settings.measurement)
    measurement, remarks = free_poi(chosen)
    measurement = _without_width(spec, measurement)
    channels = [_with_logarithms(channel) for channel in spec["channels"]]
    if measurement is chosen and all(map(operator.is_, channels, spec["channels"])):
        return spec, remarks
    measurements = [measurement if entry is chosen else entry for entry in spec["measurements"]]
    return {**spec, "channels": channels, "measurements": measurements}, remarks


def _without_known_codes(spec: Mapping[str, Any], settings: FitSettings) -> Mapping[str, Any]:
    """Leave out additions to pyhf's workspaces that are the settings', and refuse others.

    Raises
    ------
    PalletError
        pyhf has no such interpolation or constraint.
    """
    if next(extensions(spec), None) is None:
        return spec
    codes = {"normsys": settings.normsys, "histosys": settings.histosys}
    plain: Mapping[str, Any] = without_interpolation(spec, codes)
    unknown = next(extensions(plain), None)
    if unknown is not None:
        raise PalletError(
            f"pyhf cannot make a model of the workspace: {unknown}.",
            remedy="`fit.engine: batched` reads it, if the rest of the model is supported.",
        )
    return plain


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
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


@functools.cache
def _version(distribution: str) -> str:
    """Read a distribution's version once a process: its metadata are kilobytes of text."""
    return importlib.metadata.version(distribution)


@dataclass
class _Search:
    """All attempts at one fit."""

    likelihood: Likelihood
    attempts: list[Attempt] = field(default_factory=list)
    points: list[FloatArray] = field(default_factory=list)
    #: Optimizers with the points from which they were started.
    tried: set[tuple[str, bytes]] = field(default_factory=set)
    #: Attempts that go back to the suggested values, without other starts between.
    from_suggested: list[int] = field(default_factory=list)
    #: 2 NLL that this fit must reach because a nested fit did.
    ceiling: float = np.inf
    #: Evaluations of the likelihood by optimizers.
    calls: int = 0
    #: Whether the bound on evaluations ended the search before the fit was trusted.
    bounded: bool = False

    def nearest(self, settings: FitSettings) -> int | None:
        """Index of the minimum that is reached from the suggested values, None if none is."""
        reached = [
            index
            for index in self.from_suggested
            for edm in [self.attempts[index].edm]
            if edm is not None and edm <= settings.edm_tolerance
        ]
        trusted = [index for index in reached if not self.attempts[index].doubts]
        return next(iter(trusted or reached), None)

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

    def _words(self, settings: FitSettings) -> tuple[bool, str]:
        """Judge the lowest minimum, and say what bounds the search."""
        trusted, reason = self.verdict(settings)
        if not trusted and self.bounded:
            bound = calls_of_repetitions(len(self.likelihood.lower))
            reason += f"; the patch's bound of {bound} evaluations for further attempts is reached"
        if len(self.from_suggested) == len(self.attempts):
            reason += "; one minimum was looked for, from the suggested values"
        return trusted, reason

    def freeze(self, settings: FitSettings, index: int | None = None) -> Fit:
        """Make the record of the lowest minimum, or of an attempt that counts in its place."""
        trusted, reason = self._words(settings)
        if index is None:
            index = self.lowest
        elif index != self.lowest:
            attempt = self.attempts[index]
            trusted = True
            reason = f"{attempt.optimizer} from the suggested values: edm {attempt.edm:.1e}"
        best = self.attempts[index]
        twice_nll = np.inf if best.twice_nll is None else best.twice_nll
        ends = [attempt.twice_nll for attempt in self.attempts if attempt.twice_nll is not None]
        tolerance = 2 * settings.nll_tolerance
        return Fit(
            twice_nll=twice_nll,
            edm=np.inf if best.edm is None else best.edm,
            gradient_norm=np.inf if best.gradient_norm is None else best.gradient_norm,
            at_bounds=best.at_bounds,
            mu=float(self.points[index][self.likelihood.model.config.poi_index]),
            trusted=trusted,
            reason=reason,
            agreed=sum(abs(end - twice_nll) <= tolerance for end in ends),
            spread=max(ends, default=np.inf) - min(ends, default=np.inf) if ends else np.inf,
            attempts=tuple(self.attempts),
        )


class _Fits:
    """Fits of one model, each by several optimizers from several starts."""

    def __init__(self, model: Any, data: FloatArray, settings: FitSettings) -> None:
        self.model, self.data, self.settings = model, data, settings
        self.suggested = np.asarray(model.config.suggested_init(), dtype=float)
        #: Evaluations that repeated fits have taken.
        self.repeated = 0
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
            at_bounds=search.likelihood.at_bounds(search.best),
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
            if self.repeated >= calls_of_repetitions(len(self.suggested)):
                search.bounded = True
                return
            before = search.calls
            self._try(search, optimizer, start)
            self.repeated += search.calls - before

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
        if start == "suggested" or (start == "best" and search.lowest in search.from_suggested):
            search.from_suggested.append(len(search.attempts))
        attempt, reached, calls = self._attempt(search.likelihood, optimizer, start, point)
        search.calls += calls
        search.attempts.append(attempt)
        search.points.append(reached)

    def _sharpen(self, search: _Search, index: int | None = None) -> None:
        """Go on with Newton steps from a minimum, by default the lowest, while the NLL falls."""
        index = search.lowest if index is None else index
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
    ) -> tuple[Attempt, FloatArray, int]:
        """Run an optimizer; give the attempt, where it ended, and how often it evaluated."""
        began = time.perf_counter()
        outcome = minimise(likelihood, optimizer, likelihood.start(point), self.settings.backend)
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
        return attempt, reached, outcome.calls


@dataclass(frozen=True)
class _Ends:
    """The four fits with one choice of minimum.

    Attributes
    ----------
    fits, points
        Records and parameters ``(n,)``, by name.
    asimov, asimov_free
        Asimov data, and 2 NLL of the free fit on them.
    """

    fits: dict[str, Fit]
    points: dict[str, FloatArray]
    asimov: FloatArray
    asimov_free: float


class _Hypotest(_Fits):
    """The four fits of one hypothesis test, in order."""

    def __init__(self, model: Any, data: FloatArray, settings: FitSettings) -> None:
        super().__init__(model, data, settings)
        self.discovery = settings.test_statistic == "q0"
        self.mu = tested_mu(settings)
        self._check_poi_bounds()

    def run(self) -> tuple[_Ends, _Ends | None]:
        """Make all fits.

        Returns
        -------
        tuple
            The lowest ends, and those that are reached from the suggested values: the same where
            they are no other minima, and None where no minimum is reached.
        """
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
        asimov, asimov_free = self._asimov(source.likelihood, source.best)
        asimov_fixed = _Search(Likelihood(self.model, asimov, tested.likelihood.mu))
        for start in ("suggested", *self.settings.starts):
            self._try(asimov_fixed, self.settings.optimizer, start)
        self._escalate(asimov_fixed)
        searches["asimov_fixed"] = asimov_fixed
        if asimov_fixed.twice_nll - asimov_free < _WEAK_SENSITIVITY:
            for search in (searches["free"], tested, asimov_fixed):
                self._sharpen(search)
        lowest = self._ends(searches, {}, asimov_free)
        return lowest, self._nearest(searches, lowest, asimov_free)

    def _ends(
        self, searches: Mapping[str, _Search], chosen: Mapping[str, int], asimov_free: float
    ) -> _Ends:
        """Give the lowest ends, or chosen ones."""
        points = {
            name: search.points[chosen.get(name, search.lowest)]
            for name, search in searches.items()
        }
        fits = {
            name: search.freeze(self.settings, chosen.get(name))
            for name, search in searches.items()
        }
        return _Ends(fits, points, searches["asimov_fixed"].likelihood.data, asimov_free)

    def _nearest(
        self, searches: Mapping[str, _Search], lowest: _Ends, asimov_free: float
    ) -> _Ends | None:
        """Give the ends that are reached from the suggested values; see :meth:`run`."""
        searches = dict(searches)
        chosen = self._elsewhere(searches)
        if chosen is None:
            return None
        source = "fixed" if self.discovery else "background"
        if source in chosen:
            likelihood = searches[source].likelihood
            self._sharpen(searches[source], chosen[source])
            point = searches[source].points[chosen[source]]
            asimov, asimov_free = self._asimov(likelihood, point)
            mu = searches["asimov_fixed"].likelihood.mu
            again = _Search(Likelihood(self.model, asimov, mu))
            self._try(again, self.settings.optimizer, "suggested")
            self._escalate(again)
            searches["asimov_fixed"] = again
            chosen = self._elsewhere(searches)
            if chosen is None:
                return None
        elif not chosen:
            return lowest
        for name, index in chosen.items():
            self._sharpen(searches[name], index)
        return self._ends(searches, chosen, asimov_free)

    def _elsewhere(self, searches: Mapping[str, _Search]) -> dict[str, int] | None:
        """List the fits that end above the lowest minimum from the suggested values."""
        least = 2 * (DIFFERENT + self.settings.edm_tolerance)
        elsewhere = {}
        for name, search in searches.items():
            index = search.nearest(self.settings)
            if index is None:
                return None
            end = search.attempts[index].twice_nll
            if end is not None and end > search.twice_nll + least:
                elsewhere[name] = index
        return elsewhere

    def moved(self, counted: _Ends, other: _Ends) -> dict[str, dict[str, tuple[float, float]]]:
        """List the parameters that differ most, by name of the fit."""
        config = self.model.config
        widths = np.minimum((np.diff(config.suggested_bounds(), axis=1)[:, 0]) / 20, 0.5)
        for name in config.par_order:
            parameters = config.param_set(name)
            if parameters.constrained:
                widths[config.par_slice(name)] = parameters.width()
        widths = np.where(widths > 0, widths, 1.0)
        return {
            name: moved(config.par_names, widths, point, other.points[name])
            for name, point in counted.points.items()
        }

    def conclude(self, ends: _Ends) -> dict[str, Any]:
        """From the fits to p-values, with remarks.

        Raises
        ------
        FitError
            A fit has no finite minimum.
        """
        fits = ends.fits
        for name, fit in fits.items():
            if not np.isfinite(fit.twice_nll):
                raise FitError(
                    f"The {name} fit found no finite minimum: {fit.reason}.",
                    remedy="Look at the yields of this patch; try another optimizer or backend.",
                )
        remarks = [f"{name} fit: {CLIPPED}" for name in fits if self._below_zero(name, ends)]
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
            q_asimov=fits["asimov_fixed"].twice_nll - ends.asimov_free,
            noise=max(_STATISTIC_NOISE, 4 * edm, 2 * rounding),
            mu_upper=self.model.config.suggested_bounds()[self._poi][1],
            remarks=remarks,
        )

    def _below_zero(self, name: str, ends: _Ends) -> bool:
        """Say whether a fit ends with a rate below zero, where nothing is observed."""
        data = ends.asimov if name == "asimov_fixed" else self.data
        rates = np.asarray(self.model.expected_actualdata(ends.points[name]), dtype=float)
        return bool(np.any((data[: len(rates)] <= EMPTY) & (rates < BELOW)))

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

    def _asimov(self, source: Likelihood, parameters: FloatArray) -> tuple[FloatArray, float]:
        """Asimov data of a fit, and the exact minimum of the free fit on them.

        The parameters that generated the data are their maximum-likelihood estimate, for Gaussian
        and Poisson terms alike (CCGV section 3.2), so that this fit needs no optimizer.
        """
        asimov = np.asarray(self.model.expected_data(parameters), dtype=float)
        main = asimov[: self.model.config.nmaindata]
        observed = source.data[: len(main)]
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
