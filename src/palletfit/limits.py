"""Upper limits on the signal strength, for many patches at once.

A limit is where CLs falls to one minus the confidence level (Read, J. Phys. G 28 (2002) 2693): one
on the data and five expected ones, for each patch. The background-only and the free fit are made
once; a tested signal strength then needs a fit of the data and one of the Asimov data (Cowan et
al., Eur. Phys. J. C 71 (2011) 1554), and all patches and all six limits are searched for together,
each fit from the ones near it. At the limit both fits are made again from all starts, as for a
hypothesis test; where that finds a lower minimum the search goes on.

The expected limits need no data: with ``a = sqrt(q_asimov)``, CLs of an outcome n standard
deviations off is ``(1 - Phi(a - n)) / Phi(n)`` (the reference above, eq. 88 and 89), so that a
limit is where ``a = n + isf((1 - level) Phi(n))``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import elementwise
from scipy.special import ndtr, ndtri

from palletfit import reference
from palletfit.asymptotics import N_SIGMA
from palletfit.batched import Engine
from palletfit.config import LimitSettings
from palletfit.errors import ConfigError, PalletfitError
from palletfit.interpcodes import FloatArray
from palletfit.model import Spec
from palletfit.patches import Patch, apply
from palletfit.profile import Profile, tested
from palletfit.records import Status, finite

#: ``found``; ``beyond``: the limit lies above what the bounds of the parameter of interest allow;
#: ``unsettled``: the likelihood has several minima, between which CLs jumps.
State = Literal["found", "beyond", "unsettled"]

#: Limits of a patch: observed, and expected in pyhf's order.
KINDS = ("obs", *(f"exp_{n:+d}" if n else "exp_0" for n in N_SIGMA))
#: A first bracket, relative to the guess, and how it grows.
_ASIDE, _GROWTH = 1.15, 2.5
#: Brackets grow so often before the lower end is zero.
_DOWNWARD = 12
#: How often a search goes on after a fit from all starts found a lower minimum.
_ROUNDS = 4
#: A limit without any sensitivity is guessed here, in parts of the upper bound.
_BLIND = 0.5
#: Stands for a CLs of zero, whose logarithm is not finite.
_SMALLEST = 1e-300

#: Gives, for some rows and a signal strength of each, a function that rises through zero where the
#: limit is.
Function = Callable[[NDArray[np.int64], FloatArray], FloatArray]


@dataclass(frozen=True)
class Limit:
    """One upper limit.

    Attributes
    ----------
    mu
        Signal strength; None unless `state` is ``found``.
    state
        Whether it was found, or why not.
    tolerance
        Half of the interval in which it is known to lie.
    CLs
        At the limit, from fits that tried all starts.
    reason
        Why its fits are trusted, or not.
    trusted
        Whether they are.
    """

    mu: float | None
    state: State
    tolerance: float | None
    CLs: float | None
    reason: str
    trusted: bool


@dataclass(frozen=True)
class Limits:
    """Upper limits of one patch.

    Attributes
    ----------
    observed, expected
        The limits; the five expected ones are for -2, -1, 0, 1, 2 standard deviations.
    mu_hat, mu_hat_error
        Best-fit signal strength and its uncertainty.
    mu_max
        Upper bound of the parameter of interest: no limit is searched for beyond it.
    engine
        What made the fits.
    fit_time
        Wall time in seconds; of the batched engine the patch's share of its batch.
    remarks
        What a reader should know.
    software
        Versions of what the result depends on.
    """

    observed: Limit
    expected: tuple[Limit, ...]
    mu_hat: float
    mu_hat_error: float | None
    mu_max: float
    engine: str
    fit_time: float
    remarks: tuple[str, ...]
    software: dict[str, str]

    @property
    def status(self) -> Status:
        """``ok`` if every limit is trusted."""
        every = (self.observed, *self.expected)
        sound = all(limit.trusted and limit.state != "unsettled" for limit in every)
        return "ok" if sound else "suspect"

    def as_json(self) -> dict[str, Any]:
        """Plain data, with ``mu_obs`` and the five ``mu_exp`` on top."""
        plain: dict[str, Any] = finite(
            {
                "status": self.status,
                "mu_obs": self.observed.mu,
                "mu_exp": [limit.mu for limit in self.expected],
                **asdict(self),
            }
        )
        return plain


def compute(
    engine: Engine, patches: Sequence[Patch], settings: Mapping[str, Any]
) -> Iterator[tuple[Patch, dict[str, Any] | PalletfitError]]:
    """Upper limits as plain data, see :func:`upper_limits`."""
    chosen = LimitSettings.model_validate(settings["limits"])
    for patch, found in upper_limits(engine, patches, settings["confidence_level"], chosen):
        yield patch, found if isinstance(found, PalletfitError) else found.as_json()


def upper_limits(
    engine: Engine,
    patches: Sequence[Patch],
    confidence_level: float = 0.95,
    settings: LimitSettings | None = None,
) -> Iterator[tuple[Patch, Limits | PalletfitError]]:
    """Find the upper limits of many patches together.

    Parameters
    ----------
    engine
        Of their background.
    patches
        Signal patches.
    confidence_level
        Such as 0.95.
    settings
        Tolerance, and an upper bound in place of the measurement's.

    Yields
    ------
    tuple
        Each patch once, not in order, with its limits or the error that explains why there are
        none. A patch that the batched engine does not fit is left to the reference engine.

    Raises
    ------
    ConfigError
        The test statistic is that of a discovery.
    """
    settings = settings or LimitSettings()
    if engine.settings.test_statistic == "q0":
        raise ConfigError(
            "There is no upper limit for the test statistic q0.",
            remedy="Set `fit.test_statistic: qtilde`.",
        )
    if settings.mu_max is not None:
        workspace = _with_bound(engine.workspace, settings.mu_max)
        engine = Engine(workspace, engine.settings, arrays=engine.arrays)
    alpha = 1.0 - confidence_level
    if engine.settings.engine == "reference":
        for patch in patches:
            yield patch, _by_reference(engine, patch, alpha, settings, None)
        return
    batches, others = engine.lower(patches)
    for batch, some in batches:
        for row, found in _Search(Profile(engine, batch, len(KINDS)), alpha, settings).run():
            if isinstance(found, Limits):
                yield some[row], found
            else:
                others.append((some[row], found))
    for patch, reason in others:
        yield patch, _by_reference(engine, patch, alpha, settings, reason)


def _with_bound(workspace: Spec, upper: float) -> Spec:
    """The workspace with another upper bound of the parameter of interest."""
    measurements = []
    for measurement in workspace["measurements"]:
        config = measurement["config"]
        name, others, mine = config["poi"], [], {"name": config["poi"], "bounds": [[0.0, upper]]}
        for parameter in config["parameters"]:
            if parameter["name"] != name:
                others.append(parameter)
            else:
                lower = parameter.get("bounds", [[0.0, upper]])[0][0]
                mine = {**parameter, "bounds": [[lower, upper]]}
        measurements.append({**measurement, "config": {**config, "parameters": [*others, mine]}})
    return {**workspace, "measurements": measurements}


def asimov_root(n: FloatArray, alpha: float) -> FloatArray:
    """Square root of q on Asimov data where CLs of an n-sigma outcome is `alpha`."""
    return np.asarray(n - ndtri(alpha * ndtr(n)))


# --------------------------------------------------------------------------- root finding


@dataclass(frozen=True)
class _Roots:
    """Where functions of many rows pass through zero, with the brackets; NaN beyond the bound."""

    root: FloatArray
    lower: FloatArray
    upper: FloatArray
    beyond: NDArray[np.bool_]


def _bracket(
    function: Function, rows: NDArray[np.int64], guess: FloatArray, most: FloatArray
) -> _Roots:
    """Brackets around guesses, which never leave the interval from zero to `most`."""
    lower, upper = guess / _ASIDE, np.minimum(guess * _ASIDE, most)
    beyond = np.zeros(len(rows), dtype=bool)
    open_ = np.arange(len(rows))
    while len(open_):
        below = function(rows[open_], upper[open_]) < 0
        open_ = open_[below]
        lower[open_] = upper[open_]
        at_most = upper[open_] >= most[open_]
        beyond[open_[at_most]] = True
        open_ = open_[~at_most]
        upper[open_] = np.minimum(_GROWTH * upper[open_], most[open_])
    # Where the function was negative at the upper end, the lower one is good already.
    open_ = np.flatnonzero(~beyond & (lower == guess / _ASIDE))
    for _ in range(_DOWNWARD):
        above = function(rows[open_], lower[open_]) > 0
        open_ = open_[above]
        if not len(open_):
            break
        upper[open_] = lower[open_]
        lower[open_] = lower[open_] / _GROWTH
    lower[open_] = 0.0
    return _Roots(np.where(beyond, np.nan, guess), lower, upper, beyond)


def _solve(function: Function, rows: NDArray[np.int64], found: _Roots, tolerance: float) -> _Roots:
    """Roots inside brackets by Chandrupatla's method (Adv. Eng. Softw. 28 (1997) 145)."""
    inside = np.flatnonzero(~found.beyond)
    root, lower, upper = found.root.copy(), found.lower.copy(), found.upper.copy()
    if len(inside):
        made = elementwise.find_root(
            lambda mu, row: function(row.astype(np.int64), mu),
            (lower[inside], upper[inside]),
            args=(rows[inside].astype(float),),
            tolerances={"xatol": 0.0, "xrtol": tolerance},
        )
        root[inside] = made.x
        lower[inside], upper[inside] = made.bracket
    return _Roots(root, np.minimum(lower, upper), np.maximum(lower, upper), found.beyond)


# --------------------------------------------------------------------------- batched


class _Search:
    """The limits of one batch.

    A row is one limit of one patch: those of the first kind of all patches, then of the next.
    """

    def __init__(self, profile: Profile, alpha: float, settings: LimitSettings) -> None:
        self.profile, self.alpha, self.settings = profile, alpha, settings
        self.patches = len(profile) // len(KINDS)
        self.kind = np.repeat(np.arange(len(KINDS)), self.patches)
        self.wanted = asimov_root(np.array(N_SIGMA, dtype=float), alpha)
        self.known: dict[tuple[int, float], float] = {}

    def run(self) -> Iterator[tuple[int, Limits | PalletfitError | str]]:
        """Search, and conclude for each patch; a string says why another engine has to."""
        began = time.perf_counter()
        profile = self.profile
        unsound = profile.unsound()
        yield from unsound.items()
        rows = profile.rows[~np.isin(profile.rows % self.patches, list(unsound))]
        if not len(rows):
            return
        limits = self._search(rows)
        seconds = (time.perf_counter() - began) / self.patches
        for patch in np.unique(rows % self.patches):
            yield int(patch), self._conclude(int(patch), limits, seconds)

    def function(self, rows: NDArray[np.int64], mu: FloatArray) -> FloatArray:
        """What rises through zero at the limit of each row."""
        values = np.array([self.known.get(key, np.nan) for key in zip(rows, mu, strict=True)])
        new = np.flatnonzero(np.isnan(values))
        if len(new):
            values[new] = self._evaluate(rows[new], mu[new], thorough=False)
            self.known |= zip(zip(rows[new], mu[new], strict=True), values[new], strict=True)
        return values

    def _evaluate(self, rows: NDArray[np.int64], mu: FloatArray, *, thorough: bool) -> FloatArray:
        kind = self.kind[rows]
        q, q_asimov = self.profile.test(rows, mu, on_data=kind == 0, thorough=thorough)
        expected: FloatArray = np.sqrt(q_asimov) - self.wanted[kind - 1]
        made = np.flatnonzero(kind == 0)
        found = tested(self.profile.settings, q[made], q_asimov[made])
        cls = np.array([item.CLs_obs for item in found])
        expected[made] = math.log(self.alpha) - np.log(np.maximum(cls, _SMALLEST))
        return expected

    def _search(self, rows: NDArray[np.int64]) -> dict[int, Limit]:
        """The limits of all rows."""
        profile = self.profile
        most = profile.upper[rows]
        guess = self._guess(rows)
        tolerance = self.settings.tolerance
        found = _solve(
            self.function, rows, _bracket(self.function, rows, guess, most), 0.5 * tolerance
        )
        settled = np.zeros(len(rows), dtype=bool)
        value = np.zeros(len(rows))
        for _ in range(_ROUNDS):
            open_ = np.flatnonzero(~settled)
            if not len(open_):
                break
            at = np.where(found.beyond, most, found.root)
            before = self.function(rows[open_], at[open_])
            value[open_] = self._evaluate(rows[open_], at[open_], thorough=True)
            # In units of mu: near the limit both functions change by about one where mu doubles.
            moved = np.abs(value[open_] - before) > tolerance
            settled[open_[~moved]] = True
            again = open_[moved]
            if not len(again):
                break
            # From here on all fits begin at the lower minima, too.
            some = rows[again]
            self.known = {key: y for key, y in self.known.items() if key[0] not in set(some)}
            part = _bracket(self.function, some, at[again], most[again])
            part = _solve(self.function, some, part, 0.5 * tolerance)
            for name in ("root", "lower", "upper", "beyond"):
                getattr(found, name)[again] = getattr(part, name)
        return self._limits(rows, found, value, settled)

    def _guess(self, rows: NDArray[np.int64]) -> FloatArray:
        """As if the uncertainty of mu did not depend on mu."""
        profile, median = self.profile, 1 + N_SIGMA.index(0)
        patches = np.unique(rows % self.patches)
        most = profile.upper[patches]
        scale = np.where(np.isfinite(profile.mu_error), 2 * profile.mu_error, 1.0)[patches]
        at = np.clip(scale, 1e-3 * most, _BLIND * most)
        none = np.zeros(len(patches), dtype=bool)
        _, q_asimov = profile.test(
            patches + median * self.patches, at, on_data=none, thorough=False
        )
        width = np.full(self.patches, np.inf)
        with np.errstate(divide="ignore"):
            width[patches] = at / np.sqrt(q_asimov)
        patch, kind = rows % self.patches, self.kind[rows]
        wanted = np.array([self.wanted[N_SIGMA.index(0)], *self.wanted])
        guess = width[patch] * wanted[kind]
        guess = np.where(kind == 0, guess + np.maximum(profile.mu_hat[patch], 0.0), guess)
        most = profile.upper[rows]
        return np.clip(np.where(np.isfinite(guess), guess, _BLIND * most), 1e-6 * most, most)

    def _limits(
        self,
        rows: NDArray[np.int64],
        found: _Roots,
        value: FloatArray,
        settled: NDArray[np.bool_],
    ) -> dict[int, Limit]:
        limits = {}
        for place, row in enumerate(rows):
            trusted, reason = self.profile.evidence(row, on_data=self.kind[row] == 0)
            beyond = bool(found.beyond[place])
            state: State = "beyond" if beyond else "found"
            if not settled[place]:
                state, reason = "unsettled", f"CLs jumps between minima near it; {reason}"
            limits[int(row)] = Limit(
                mu=float(found.root[place]) if state == "found" else None,
                state=state,
                tolerance=float(found.upper[place] - found.lower[place]) / 2
                if state == "found"
                else None,
                CLs=self._cls_at(row, float(value[place])),
                reason=reason,
                trusted=trusted,
            )
        return limits

    def _cls_at(self, row: int, value: float) -> float:
        kind = self.kind[row]
        if kind == 0:
            return self.alpha * math.exp(-value)
        n = N_SIGMA[kind - 1]
        root = value + self.wanted[kind - 1]
        return float(ndtr(n - root) / ndtr(n))

    def _conclude(self, patch: int, limits: Mapping[int, Limit], seconds: float) -> Limits | str:
        profile = self.profile
        every = [limits[patch + number * self.patches] for number in range(len(KINDS))]
        for name, limit in zip(KINDS, every, strict=True):
            if not limit.trusted:
                return f"its {name} limit: {limit.reason}"
        error = float(profile.mu_error[patch])
        upper = float(profile.upper[patch])
        remarks = []
        if any(limit.state == "beyond" for limit in every):
            remarks.append(
                f"limits above {upper:g}, the upper bound of the parameter of interest, are not "
                "searched for"
            )
        return Limits(
            observed=every[0],
            expected=tuple(every[1:]),
            mu_hat=float(profile.mu_hat[patch]),
            mu_hat_error=error if math.isfinite(error) else None,
            mu_max=upper,
            engine="batched",
            fit_time=seconds,
            remarks=tuple(remarks),
            software=profile.software,
        )


# --------------------------------------------------------------------------- reference


def _by_reference(
    engine: Engine,
    patch: Patch,
    alpha: float,
    settings: LimitSettings,
    why: PalletfitError | str | None,
) -> Limits | PalletfitError:
    """The limits of one patch through pyhf, unless nobody can fit it."""
    if isinstance(why, PalletfitError):
        why.patch = patch.name
        return why
    try:
        found = _ReferenceSearch(engine, patch, alpha, settings).run()
    except PalletfitError as error:
        error.patch = patch.name
        return error
    remark = (f"fitted by the reference engine: {why}",) if why else ()
    return replace(found, remarks=(*remark, *found.remarks))


class _ReferenceSearch:
    """Hypothesis tests of one patch at many signal strengths; a row is one limit."""

    def __init__(self, engine: Engine, patch: Patch, alpha: float, settings: LimitSettings) -> None:
        self.settings = engine.settings.model_copy(update={"engine": "reference"})
        self.spec = apply(engine.workspace, patch)
        self.alpha, self.tolerance = alpha, settings.tolerance
        self.tests: dict[float, Any] = {}

    def test(self, mu: float) -> Any:
        """A hypothesis test, made once."""
        if mu not in self.tests:
            settings = self.settings.model_copy(update={"mu": mu})
            self.tests[mu] = reference.hypotest(self.spec, settings)
        return self.tests[mu]

    def function(self, rows: NDArray[np.int64], mu: FloatArray) -> FloatArray:
        """What rises through zero at the limit of each row."""
        found = []
        for row, at in zip(rows, mu, strict=True):
            p_values = self.test(float(at)).p_values
            cls = (p_values.CLs_obs, *p_values.CLs_exp)[row]
            found.append(math.log(self.alpha) - math.log(max(cls, _SMALLEST)))
        return np.array(found)

    def run(self) -> Limits:
        """Search for all six."""
        began = time.perf_counter()
        _, upper = reference.poi_bounds(self.spec, self.settings)
        first = self.test(min(1.0, upper))
        error = first.mu_hat_error or 0.0
        size = min(max(2 * error, 1e-3 * upper), upper)
        rows = np.arange(len(KINDS))
        guess, most = np.full(len(rows), size), np.full(len(rows), upper)
        found = _bracket(self.function, rows, guess, most)
        found = _solve(self.function, rows, found, 0.5 * self.tolerance)
        limits = []
        for row in rows:
            beyond = bool(found.beyond[row])
            at = upper if beyond else float(found.root[row])
            test = self.test(at)
            limits.append(
                Limit(
                    mu=None if beyond else at,
                    state="beyond" if beyond else "found",
                    tolerance=None if beyond else float(found.upper[row] - found.lower[row]) / 2,
                    CLs=(test.p_values.CLs_obs, *test.p_values.CLs_exp)[row],
                    reason="; ".join(fit.reason for fit in test.fits.values()),
                    trusted=test.status == "ok",
                )
            )
        return Limits(
            observed=limits[0],
            expected=tuple(limits[1:]),
            mu_hat=first.mu_hat,
            mu_hat_error=first.mu_hat_error,
            mu_max=upper,
            engine="reference",
            fit_time=time.perf_counter() - began,
            remarks=first.remarks,
            software=first.software,
        )
