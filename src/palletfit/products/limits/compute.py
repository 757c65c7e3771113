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

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import elementwise
from scipy.special import ndtr, ndtri

from palletfit.config import FitSettings, LimitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.asymptotics import N_SIGMA, PValues
from palletfit.engine.batch import BatchFits
from palletfit.engine.derivative_records import Derivatives, LimitSlopes
from palletfit.engine.hypotests import NO_DERIVATIVES
from palletfit.engine.hypothesis import (
    AT_UPPER_BOUND,
    BELOW_ZERO,
    CLIPPED,
    check_limit_bounds,
)
from palletfit.engine.many_mu import Profile, tested
from palletfit.engine.minima import about_other
from palletfit.engine.protocol import BatchEngine, Calculation, Engine, PatchEngine, PatchTests
from palletfit.engine.records import HypotestResult, Status, by_sigma, finite
from palletfit.engine.samples import Spec
from palletfit.engine.yields import Yields
from palletfit.errors import ConfigError, FitError, PalletError, PalletfitError
from palletfit.pallet.patches import Patch

#: ``found``; ``beyond``: the limit lies above what the bounds of the parameter of interest allow;
#: ``unsettled``: fits from all starts kept finding lower minima than the search had used.
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
#: At least so many patches are searched together.
_CHUNK = 32
#: What is said where the search could not go on.
_NOT_FINITE = "a fit near it found no finite likelihood"
#: Part of the tolerance that a root may have; the rest is for the fits from all starts.
_PART = 0.5
#: A function jumps where it changes by more than this, and by more than so many times the relative
#: width of the bracket.
_JUMP, _STEEP = 0.02, 20.0

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
        How far from `mu` it may lie, on either side: to the farther end of the last bracket, plus
        what fits from all starts changed there (see :meth:`_BatchSearch._limits`).
    CLs
        At the limit, or at the bound that it lies beyond, from fits that tried all starts; by
        the tolerance it differs from one minus the confidence level. None: no such fit was made.
    reason
        Why the fits there are trusted, or not.
    trusted
        Whether they are.
    jump
        CLs just below and just above `mu`, where it jumps across one minus the confidence level
        because another minimum takes over; None where it does not.
    """

    mu: float | None
    state: State
    tolerance: float | None
    CLs: float | None
    reason: str
    trusted: bool
    jump: tuple[float, float] | None = None


@dataclass(frozen=True)
class OtherLimits:
    """Upper limits of one patch with the minimum that does not count.

    Attributes
    ----------
    minimum
        Which one: ``lowest`` or ``nearest``.
    observed, expected, mu_hat
        As in :class:`Limits`.
    """

    minimum: str
    observed: Limit
    expected: tuple[Limit, ...]
    mu_hat: float

    def as_json(self) -> dict[str, Any]:
        """Give plain data, with ``mu_obs`` and the five ``mu_exp`` on top."""
        mu_exp = [limit.mu for limit in self.expected]
        return {"mu_obs": self.observed.mu, "mu_exp": mu_exp, **asdict(self)}


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
    minimum
        Which minimum counts, ``lowest`` or ``nearest``.
    other
        Limits with the other one, if one of them differs by more than their tolerances.
    derivatives
        Derivatives of the limits by yields, where they are asked for.
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
    minimum: str = "lowest"
    other: OtherLimits | None = None
    derivatives: Derivatives | None = None

    @property
    def status(self) -> Status:
        """``ok`` if every limit is trusted."""
        limits = (self.observed, *self.expected)
        sound = all(limit.trusted and limit.state != "unsettled" for limit in limits)
        return "ok" if sound else "suspect"

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        return {
            "status": self.status,
            "mu_obs": self.observed.mu,
            **by_sigma("mu_exp", [limit.mu for limit in self.expected]),
            "state_obs": self.observed.state,
            **by_sigma("state_exp", [limit.state for limit in self.expected]),
            "mu_max": self.mu_max,
            "mu_hat": self.mu_hat,
            "mu_hat_error": self.mu_hat_error,
            "remark": "; ".join(self.remarks),
        }

    def as_json(self) -> dict[str, Any]:
        """Plain data, with ``mu_obs`` and the five ``mu_exp`` on top."""
        data = asdict(replace(self, derivatives=None))
        del data["other"], data["derivatives"]
        if self.derivatives is not None:
            data["derivatives"] = self.derivatives.as_json()
        plain: dict[str, Any] = finite(
            {
                "status": self.status,
                "mu_obs": self.observed.mu,
                "mu_exp": [limit.mu for limit in self.expected],
                **data,
                "other_minimum": self.other and self.other.as_json(),
            }
        )
        return plain


def compute(
    engine: Engine, patches: Sequence[Patch], settings: Mapping[str, Any]
) -> Iterator[tuple[Patch, dict[str, Any] | PalletfitError]]:
    """Find upper limits as plain data, see :func:`upper_limits`."""
    search = LimitSettings.model_validate(settings["limits"])
    for patch, limits in upper_limits(engine, patches, settings["confidence_level"], search):
        yield patch, limits if isinstance(limits, PalletfitError) else limits.as_json()


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
    search = LimitSearch(1.0 - confidence_level, settings)
    return bounded(engine, settings).calculate(search, patches)


@dataclass(frozen=True)
class LimitSearch(Calculation[Limits]):
    """The search for upper limits.

    Attributes
    ----------
    alpha
        One minus the confidence level.
    settings
        Tolerance of the limits.
    """

    alpha: float
    settings: LimitSettings

    def in_batches(
        self, engine: BatchEngine, patches: Iterable[Patch]
    ) -> Iterator[tuple[Patch, Limits | PalletfitError | str]]:
        """Search for the limits of many patches together."""
        waiting = iter(patches)
        size = max(_CHUNK, engine.arrays.lanes // len(KINDS))
        while chunk := list(itertools.islice(waiting, size)):
            batches, refused = engine.lower(chunk, testable=True)
            for batch, members in batches:
                search = _BatchSearch(engine.batch_fits(batch), self.alpha, self.settings)
                for row, limits in search.run():
                    if isinstance(limits, Limits):
                        remarks = (*batch.remarks[row], *limits.remarks)
                        limits = replace(limits, remarks=remarks)
                    yield members[row], limits
            yield from refused

    def by_patch(self, engine: PatchEngine, patch: Patch) -> Limits:
        """Search for the limits of one patch."""
        limits = _PatchSearch(engine.tests_of(patch), engine.settings, self).run()
        if engine.settings.wanted_derivatives is not None:
            limits = replace(limits, remarks=(*limits.remarks, NO_DERIVATIVES))
        return limits


def bounded(engine: Engine, settings: LimitSettings) -> Engine:
    """Give the engine, or one with another upper bound of the parameter of interest."""
    if settings.mu_max is None:
        return engine
    return engine.with_workspace(with_bound(engine.workspace, settings.mu_max))


def with_bound(workspace: Spec, upper: float) -> Spec:
    """Give the workspace another upper bound of the parameter of interest."""
    measurements = []
    for measurement in workspace["measurements"]:
        config = measurement["config"]
        name, other_parameters, changed = (
            config["poi"],
            [],
            {"name": config["poi"], "bounds": [[0.0, upper]]},
        )
        for parameter in config["parameters"]:
            if parameter["name"] != name:
                other_parameters.append(parameter)
            else:
                lower = parameter.get("bounds", [[0.0, upper]])[0][0]
                changed = {**parameter, "bounds": [[lower, upper]]}
        # The suggested start has to lie inside; without one it is 1.
        changed["inits"] = [min(changed.get("inits", [1.0])[0], upper)]
        measurements.append(
            {**measurement, "config": {**config, "parameters": [*other_parameters, changed]}}
        )
    return {**workspace, "measurements": measurements}


def asimov_root(n: FloatArray, alpha: float) -> FloatArray:
    """Square root of q on Asimov data where CLs of an n-sigma outcome is `alpha`."""
    return np.asarray(n - ndtri(alpha * ndtr(n)))


def _guesses(
    width: FloatArray,
    mu_hat: FloatArray,
    kind: NDArray[np.int64],
    alpha: float,
    largest: FloatArray,
) -> FloatArray:
    """Limits as if the uncertainty of mu, `width`, did not depend on mu."""
    roots = asimov_root(np.array([0, *N_SIGMA], dtype=float), alpha)
    guess = width * roots[kind] + np.where(kind == 0, np.maximum(mu_hat, 0.0), 0.0)
    return np.clip(np.where(np.isfinite(guess), guess, _BLIND * largest), 1e-6 * largest, largest)


# --------------------------------------------------------------------------- root finding


@dataclass(frozen=True)
class _Roots:
    """Roots of functions of many rows, with brackets around that.

    The root is NaN where the function is negative up to the bound (`beyond`), and where it had no
    value (`lost`).
    """

    root: FloatArray
    lower: FloatArray
    upper: FloatArray
    beyond: NDArray[np.bool_]
    lost: NDArray[np.bool_]

    @property
    def distance(self) -> FloatArray:
        """Distance from the root to the farther end of its bracket."""
        return np.asarray(np.maximum(self.root - self.lower, self.upper - self.root))

    def steep(self, tolerance: float) -> FloatArray:
        """Give how much a function may change within its bracket without a jump."""
        width = (self.upper - self.lower) / self.root
        return np.asarray(np.maximum(max(_JUMP, _STEEP * tolerance), _STEEP * width))

    def replace(self, rows: NDArray[np.int64], part: _Roots) -> None:
        """Replace some of them by others."""
        for name in ("root", "lower", "upper", "beyond", "lost"):
            getattr(self, name)[rows] = getattr(part, name)


def _roots(
    function: Function,
    rows: NDArray[np.int64],
    guess: FloatArray,
    largest: FloatArray,
    tolerance: float,
    aside: FloatArray | float = _ASIDE,
) -> _Roots:
    """Find roots between zero and `largest`, to a relative tolerance.

    By Chandrupatla's method (Adv. Eng. Softw. 28 (1997) 145). The first brackets are from the
    guess divided by `aside` to the guess times that.
    """
    roots = _bracket(function, rows, guess, largest, aside)
    inside = np.flatnonzero(~roots.beyond & ~roots.lost)
    if len(inside):
        solution = elementwise.find_root(
            lambda mu, row: function(row.astype(np.int64), mu),
            (roots.lower[inside], roots.upper[inside]),
            args=(rows[inside].astype(float),),
            tolerances={"xatol": 0.0, "xrtol": tolerance},
        )
        roots.root[inside] = np.where(solution.success, solution.x, np.nan)
        roots.lost[inside] = ~solution.success
        ends = np.sort(np.array(solution.bracket), axis=0)
        # A function that is zero at a point needs no bracket.
        exact = solution.f_x == 0
        roots.lower[inside] = np.where(exact, solution.x, ends[0])
        roots.upper[inside] = np.where(exact, solution.x, ends[1])
    return roots


def _bracket(
    function: Function,
    rows: NDArray[np.int64],
    guess: FloatArray,
    largest: FloatArray,
    aside: FloatArray | float,
) -> _Roots:
    """Make brackets around guesses, which never leave the interval from zero to `largest`."""
    upper = np.minimum(guess * aside, largest)
    lower = np.minimum(guess, largest) / aside
    beyond, lost, risen = (np.zeros(len(rows), dtype=bool) for _ in range(3))
    open_ = np.arange(len(rows))
    while len(open_):
        value = function(rows[open_], upper[open_])
        lost[open_[np.isnan(value)]] = True
        open_ = open_[value < 0]
        risen[open_] = True
        lower[open_] = upper[open_]
        at_most = upper[open_] >= largest[open_]
        beyond[open_[at_most]] = True
        open_ = open_[~at_most]
        upper[open_] = np.minimum(_GROWTH * upper[open_], largest[open_])
    open_ = np.flatnonzero(~risen & ~lost)
    for _ in range(_DOWNWARD):
        value = function(rows[open_], lower[open_])
        lost[open_[np.isnan(value)]] = True
        open_ = open_[value > 0]
        if not len(open_):
            break
        upper[open_] = lower[open_]
        lower[open_] = lower[open_] / _GROWTH
    lower[open_] = 0.0  # where both functions are negative
    return _Roots(np.full(len(rows), np.nan), lower, upper, beyond, lost)


# --------------------------------------------------------------------------- in batches


class _BatchSearch:
    """The limits of one batch.

    A row is one limit of one patch: those of the first kind of all patches, then of the next.
    """

    def __init__(self, fits: BatchFits, alpha: float, settings: LimitSettings) -> None:
        self.began = time.perf_counter()
        self.fits, self.alpha, self.settings = fits, alpha, settings
        self.profile = Profile(fits, len(KINDS))
        self.patches = len(fits.batch)
        self.kind = np.repeat(np.arange(len(KINDS)), self.patches)
        self.expected_roots = asimov_root(np.array(N_SIGMA, dtype=float), alpha)
        # What a row's function is at signal strengths where it was looked at.
        self.values_at: list[dict[float, float]] = [{} for _ in self.kind]

    def run(self) -> Iterator[tuple[int, Limits | PalletfitError | str]]:
        """Search, and conclude for each patch; a string says why another engine has to."""
        profile = self.profile
        unsound = profile.unsound()
        yield from unsound.items()
        rows = profile.rows[~np.isin(profile.rows % self.patches, list(unsound))]
        if not len(rows):
            return
        limits = self._search(rows)
        patches = np.unique(rows % self.patches)
        alternatives = self._other_limits(limits, patches)
        derivatives = self._derivatives(limits, patches)
        seconds = (time.perf_counter() - self.began) / self.patches
        for patch in map(int, patches):
            outcome = self._conclude(patch, limits, seconds, alternatives.get(patch))
            of_patch = derivatives.get(patch)
            if isinstance(outcome, Limits) and isinstance(of_patch, PalletError):
                yield patch, of_patch
            elif isinstance(outcome, Limits) and isinstance(of_patch, Derivatives):
                yield patch, replace(outcome, derivatives=of_patch)
            else:
                yield patch, outcome

    def _derivatives(
        self, limits: Mapping[int, Limit], patches: NDArray[np.int64]
    ) -> dict[int, Derivatives | PalletError]:
        """Differentiate the limits by yields, where that is asked for; by patch."""
        choice = self.fits.settings.wanted_derivatives
        if choice is None:
            return {}
        rows = np.array(
            [row for row in sorted(limits) if limits[row].mu is not None and limits[row].trusted],
            dtype=int,
        )
        mu = np.array([limits[row].mu for row in rows], dtype=float)
        derivatives, slopes = self.profile.derivatives(rows, mu, choice)
        yields = derivatives.yields
        return {
            int(patch): yields.unknown[patch] or self._slopes_of(int(patch), yields, slopes, limits)
            for patch in patches
        }

    def _slopes_of(
        self,
        patch: int,
        yields: Yields,
        slopes: Mapping[int, FloatArray],
        limits: Mapping[int, Limit],
    ) -> Derivatives:
        """Put the derivatives of the six limits of a patch together."""
        channels: dict[str, dict[str, LimitSlopes]] = {}
        for target, channel, nominal in yields.nominal(patch):
            by_kind = np.full((len(KINDS), len(nominal)), np.nan)
            for number in range(len(KINDS)):
                of_row = slopes.get(patch + number * self.patches)
                if of_row is not None:
                    by_kind[number] = of_row[number, target.layer, target.bins]
            sample = LimitSlopes(nominal, by_kind[0], by_kind[1:])
            channels.setdefault(channel, {})[target.name] = sample
        remarks = [
            f"the {name} limit has no derivative: {_without_derivative(limit)}"
            for number, (name, limit) in enumerate(zip(KINDS, self._of(limits, patch), strict=True))
            if patch + number * self.patches not in slopes
        ]
        remarks += [
            f"CLs jumps at the {name} limit: the derivative is that of one side of the jump"
            for name, limit in zip(KINDS, self._of(limits, patch), strict=True)
            if limit.jump is not None
        ]
        choice = "relative" if yields.relative else "absolute"
        return Derivatives(channels, choice, tuple(remarks))

    def function(self, rows: NDArray[np.int64], mu: FloatArray) -> FloatArray:
        """Evaluate the functions that rise through zero at the limit of each row."""
        values_known = [
            self.values_at[row].get(at) for row, at in zip(rows, mu.tolist(), strict=True)
        ]
        new = np.array(
            [position for position, value in enumerate(values_known) if value is None], dtype=int
        )
        values = np.array([np.nan if value is None else value for value in values_known])
        if len(new):
            values[new] = self._evaluate(rows[new], mu[new], thorough=False)
            for position in new:
                self.values_at[rows[position]][float(mu[position])] = float(values[position])
        return values

    def _evaluate(self, rows: NDArray[np.int64], mu: FloatArray, *, thorough: bool) -> FloatArray:
        kind = self.kind[rows]
        on_data = kind == 0
        if thorough and not self.fits.nearest:
            # Expected limits need no data; where these have two minima, each is also a start.
            on_data |= self.profile.apart()[rows % self.patches]
        q, q_asimov = self.profile.test(rows, mu, on_data=on_data, thorough=thorough)
        expected: FloatArray = np.sqrt(q_asimov) - self.expected_roots[kind - 1]
        observed = np.flatnonzero(kind == 0)
        tests = tested(self.profile.settings, q[observed], q_asimov[observed])
        cls = np.array([test.CLs_obs for test in tests])
        expected[observed] = math.log(self.alpha) - np.log(np.maximum(cls, _SMALLEST))
        return expected

    def _search(self, rows: NDArray[np.int64]) -> dict[int, Limit]:
        """Find the limits of all rows."""
        largest = self.profile.upper[rows]
        tolerance = _PART * self.settings.tolerance
        roots = _roots(self.function, rows, self._guess(rows), largest, tolerance)
        value, change = np.full(len(rows), np.nan), np.zeros(len(rows))
        open_ = np.flatnonzero(~roots.lost)
        for round_ in range(_ROUNDS):
            at = np.where(roots.beyond, largest, roots.root)[open_]
            before = self.function(rows[open_], at)
            value[open_] = self._evaluate(rows[open_], at, thorough=True)
            change[open_] = np.abs(value[open_] - before)
            moved = np.where(roots.beyond[open_], value[open_] >= 0, ~(change[open_] <= tolerance))
            open_, at = open_[moved], at[moved]
            if not len(open_) or round_ == _ROUNDS - 1:
                break
            # From here on all fits begin at the lower minima, too.
            for row in rows[open_]:
                self.values_at[row].clear()
            aside = np.minimum(1.0 + 2 * change[open_] + 2 * tolerance, _ASIDE)
            part = _roots(self.function, rows[open_], at, largest[open_], tolerance, aside)
            roots.replace(open_, part)
            open_ = open_[~part.lost]
        settled = np.ones(len(rows), dtype=bool)
        settled[open_] = False
        jumps = self._settle(rows, roots, value, change, settled)
        return self._limits(rows, roots, value, change, settled, jumps)

    def _settle(
        self,
        rows: NDArray[np.int64],
        roots: _Roots,
        value: FloatArray,
        change: FloatArray,
        settled: NDArray[np.bool_],
    ) -> dict[int, tuple[float, float]]:
        """Close in on jumps with fits from all starts only; arguments are changed in place.

        Returns
        -------
        dict
            By position the values of the function on both sides of its jump.
        """
        tolerance = _PART * self.settings.tolerance
        steep = roots.steep(tolerance)
        with np.errstate(invalid="ignore"):
            doubtful = ~roots.beyond & (np.abs(value) > steep / 2)
        open_ = np.flatnonzero((doubtful | ~settled) & ~roots.lost)
        if not len(open_):
            return {}
        largest = self.profile.upper[rows]

        def thorough(tested_rows: NDArray[np.int64], mu: FloatArray) -> FloatArray:
            return self._evaluate(tested_rows, mu, thorough=True)

        start = np.where(roots.beyond, largest, roots.root)[open_]
        part = _roots(thorough, rows[open_], start, largest[open_], tolerance)
        roots.replace(open_, part)
        settled[open_] = True
        change[open_] = 0.0
        open_ = open_[~part.lost]
        sides = {}
        for side in ("lower", "upper", "root"):
            at = np.where(roots.beyond, largest, getattr(roots, side))[open_]
            sides[side] = thorough(rows[open_], at)
        value[open_] = sides["root"]
        jumps, steep = {}, roots.steep(tolerance)
        for position, low, high in zip(open_, sides["lower"], sides["upper"], strict=True):
            if roots.beyond[position]:
                settled[position] = value[position] < 0
                continue
            if high - low <= steep[position]:
                settled[position] = abs(value[position]) <= steep[position]
            elif low < 0 <= high:
                jumps[int(position)] = float(low), float(high)
            else:
                settled[position] = False
        return jumps

    def _other_limits(
        self, limits: Mapping[int, Limit], patches: NDArray[np.int64]
    ) -> dict[int, OtherLimits]:
        """Find the limits with the minimum that does not count, by patch, where they differ.

        If the lowest minimum counts, that costs fits only for patches that have another one.
        """
        nearest = self.fits.nearest
        if not nearest:
            patches = patches[self.profile.several()[patches]]
        trusted = [all(limit.trusted for limit in self._of(limits, patch)) for patch in patches]
        patches = patches[np.array(trusted, dtype=bool)]
        if not len(patches):
            return {}
        minimum = "lowest" if nearest else "nearest"
        fits = self.fits.with_minimum(minimum)
        search = _BatchSearch(fits.with_batch(fits.batch.take(patches)), self.alpha, self.settings)
        counted = {
            number * len(patches) + position: limit
            for position, patch in enumerate(patches)
            for number, limit in enumerate(self._of(limits, patch))
        }
        return {
            int(patches[position]): OtherLimits(
                minimum, other[0], tuple(other[1:]), float(search.profile.mu_hat[position])
            )
            for position, other in search.unlike(counted).items()
        }

    def unlike(self, counted: Mapping[int, Limit]) -> dict[int, list[Limit]]:
        """Search for the limits of the patches whose CLs differs at known limits.

        Parameters
        ----------
        counted
            By row the limits with the minimum that counts, of all rows.

        Returns
        -------
        dict
            By patch the six limits, where one differs from the known one, and all are trusted.
        """
        profile, unsound = self.profile, self.profile.unsound()
        rows = profile.rows[~np.isin(profile.rows % self.patches, list(unsound))]
        if not len(rows):
            return {}
        at = profile.upper[rows]
        for position, row in enumerate(rows):
            mu = counted[row].mu
            if mu is not None:
                at[position] = mu
        values = self._evaluate(rows, at, thorough=True)
        different = np.zeros(self.patches, dtype=bool)
        for row, value in zip(rows, values, strict=True):
            limit, patch = counted[row], row % self.patches
            if limit.state == "unsettled" or limit.CLs is None:
                different[patch] = True
            elif np.isfinite(value):
                cls = max(self._cls_at(row, float(value)), _SMALLEST)
                change = math.log(cls) - math.log(max(limit.CLs, _SMALLEST))
                different[patch] |= abs(change) > self.settings.tolerance
        if not self.fits.nearest:
            different &= profile.several()
        rows = rows[different[rows % self.patches]]
        if not len(rows):
            return {}
        limits = self._search(rows)
        searched = {int(patch): self._of(limits, patch) for patch in np.unique(rows % self.patches)}
        return {
            patch: other
            for patch, other in searched.items()
            if all(limit.trusted for limit in other)
            and any(map(_differ, other, self._of(counted, patch)))
        }

    def _of(self, limits: Mapping[int, Limit], patch: int) -> list[Limit]:
        """List the six limits of a patch."""
        return [limits[int(patch) + number * self.patches] for number in range(len(KINDS))]

    def _guess(self, rows: NDArray[np.int64]) -> FloatArray:
        """As if the uncertainty of mu did not depend on mu."""
        profile, median = self.profile, 1 + N_SIGMA.index(0)
        patches = np.unique(rows % self.patches)
        largest = profile.upper[patches]
        scale = np.where(np.isfinite(profile.mu_error), 2 * profile.mu_error, 1.0)[patches]
        at = np.clip(scale, 1e-3 * largest, _BLIND * largest)
        none = np.zeros(len(patches), dtype=bool)
        _, q_asimov = profile.test(
            patches + median * self.patches, at, on_data=none, thorough=False
        )
        width = np.full(self.patches, np.inf)
        with np.errstate(divide="ignore"):
            width[patches] = at / np.sqrt(q_asimov)
        patch = rows % self.patches
        return _guesses(
            width[patch], profile.mu_hat[patch], self.kind[rows], self.alpha, profile.upper[rows]
        )

    def _limits(
        self,
        rows: NDArray[np.int64],
        roots: _Roots,
        value: FloatArray,
        change: FloatArray,
        settled: NDArray[np.bool_],
        jumps: Mapping[int, tuple[float, float]],
    ) -> dict[int, Limit]:
        """From roots to limits.

        Where mu grows by a factor e, sqrt(q) on Asimov data grows by itself (Wald's approximation),
        and the limits have it above one; the logarithm of CLs falls by more. So a change of either
        function is at most that of the limit's logarithm.
        """
        limits = {}
        distance = roots.distance + change * np.where(roots.beyond, 0.0, roots.root)
        for position, row in enumerate(rows):
            if roots.lost[position]:
                limits[int(row)] = Limit(None, "unsettled", None, None, _NOT_FINITE, trusted=False)
                continue
            trusted, reason = self.profile.evidence(row, on_data=self.kind[row] == 0)
            state: State = "beyond" if roots.beyond[position] else "found"
            if not settled[position]:
                state, reason = "unsettled", f"CLs jumps between minima near it; {reason}"
            is_found = state == "found"
            sides = jumps.get(position)
            limits[int(row)] = Limit(
                mu=float(roots.root[position]) if is_found else None,
                state=state,
                tolerance=float(distance[position]) if is_found else None,
                CLs=self._cls_at(row, float(value[position])),
                reason=reason,
                trusted=trusted,
                jump=None
                if sides is None
                else (self._cls_at(row, sides[0]), self._cls_at(row, sides[1])),
            )
        return limits

    def _cls_at(self, row: int, value: float) -> float:
        kind = self.kind[row]
        if kind == 0:
            return self.alpha * math.exp(-value)
        n = N_SIGMA[kind - 1]
        root = value + self.expected_roots[kind - 1]
        return float(ndtr(n - root) / ndtr(n))

    def _conclude(
        self,
        patch: int,
        limits: Mapping[int, Limit],
        seconds: float,
        other: OtherLimits | None,
    ) -> Limits | PalletfitError | str:
        profile = self.profile
        rows = [patch + number * self.patches for number in range(len(KINDS))]
        all_limits = self._of(limits, patch)
        for name, row, limit in zip(KINDS, rows, all_limits, strict=True):
            if not limit.trusted:
                return profile.doubt(row, f"{name} limit", limit.reason)
        error = float(profile.mu_error[patch])
        upper, mu_hat = float(profile.upper[patch]), float(profile.mu_hat[patch])
        below = [
            name
            for number, name in enumerate(KINDS)
            if profile.below_zero(rows[number], on_data=number == 0)
        ]
        remarks = _remarks(all_limits, mu_hat, upper, profile.settings.test_statistic, other)
        return Limits(
            observed=all_limits[0],
            expected=tuple(all_limits[1:]),
            mu_hat=mu_hat,
            mu_hat_error=error if math.isfinite(error) else None,
            mu_max=upper,
            engine="batched",
            fit_time=seconds,
            remarks=(*_clipped(below), *remarks),
            software=profile.software,
            minimum=profile.settings.minimum,
            other=other,
        )


def _clipped(names: Sequence[str]) -> tuple[str, ...]:
    """Remark which limits have a fit with a rate below zero."""
    return (f"a fit at the {', '.join(names)} limit: {CLIPPED}",) if names else ()


def _remarks(
    limits: Sequence[Limit],
    mu_hat: float,
    upper: float,
    statistic: str,
    other: OtherLimits | None,
) -> tuple[str, ...]:
    """List the remarks about six limits, and about those with another minimum."""
    remarks = [] if other is None else [_about_other(other, upper)]
    if any(limit.state == "beyond" for limit in limits):
        remarks.append(
            f"limits above {upper:g}, the upper bound of the parameter of interest, are not "
            "searched for"
        )
    remarks += [
        f"CLs jumps from {limit.jump[0]:.3g} to {limit.jump[1]:.3g} at the {name} limit, because "
        "another minimum takes over"
        for name, limit in zip(KINDS, limits, strict=True)
        if limit.jump is not None
    ]
    if limits[0].state == "beyond" and mu_hat >= upper - 1e-8:
        remarks.append(AT_UPPER_BOUND)
    if statistic == "qtilde" and mu_hat < 0:
        remarks.append(BELOW_ZERO)
    return tuple(remarks)


def _differ(first: Limit, second: Limit) -> bool:
    """Return whether two limits differ by more than their tolerances, or in their states."""
    if first.mu is None or second.mu is None:
        return first.state != second.state
    return abs(first.mu - second.mu) > (first.tolerance or 0.0) + (second.tolerance or 0.0)


def _about_other(other: OtherLimits, upper: float) -> str:
    """Remark on the limits with the minimum that does not count."""

    def words(limit: Limit) -> str:
        if limit.mu is not None:
            return f"{limit.mu:.4g}"
        return f"above {upper:g}" if limit.state == "beyond" else limit.state

    median = other.expected[N_SIGMA.index(0)]
    return (
        f"the {other.minimum} minimum gives limits {words(other.observed)} observed, "
        f"{words(median)} expected"
    )


# --------------------------------------------------------------------------- patch by patch


#: Takes from a test the p-values with the minimum that counts, or with the other one.
_Minimum = Callable[[HypotestResult], PValues]


def _counted(test: HypotestResult) -> PValues:
    return test.p_values


def _not_counted(test: HypotestResult) -> PValues:
    return test.p_values if test.other is None else test.other.p_values


class _PatchSearch:
    """The limits of one patch, from hypothesis tests at many signal strengths; a row is a limit."""

    def __init__(self, tests: PatchTests, settings: FitSettings, search: LimitSearch) -> None:
        self.tests, self.settings = tests, settings
        self.alpha, self.tolerance = search.alpha, search.settings.tolerance

    def function(self, rows: NDArray[np.int64], mu: FloatArray, minimum: _Minimum) -> FloatArray:
        """Evaluate the functions that rise through zero at the limit of each row."""
        values = []
        for row, at in zip(rows, mu, strict=True):
            try:
                p_values = minimum(self.tests.test(float(at)))
            except FitError:
                # A large signal strength may drive a rate below zero, where smaller ones do not.
                values.append(math.nan)
                continue
            cls = (p_values.CLs_obs, *p_values.CLs_exp)[row]
            values.append(math.log(self.alpha) - math.log(max(cls, _SMALLEST)))
        return np.array(values)

    def run(self) -> Limits:
        """Search for all six."""
        began = time.perf_counter()
        lower, upper = self.tests.poi_bounds()
        check_limit_bounds(lower, upper, "the parameter of interest")
        first = self.tests.test(min(1.0, upper))
        error = first.mu_hat_error or 0.0
        size = min(max(2 * error, 1e-3 * upper), _BLIND * upper)
        rows, largest = np.arange(len(KINDS)), np.full(len(KINDS), upper)
        root = math.sqrt(self.tests.test(size).p_values.q_asimov)
        width = np.full(len(rows), size / root if root else np.inf)
        guess = _guesses(width, np.full(len(rows), first.mu_hat), rows, self.alpha, largest)
        limits = self._limits(guess, upper, _counted)
        other = self._other(limits, upper)
        below = [
            name
            for name, limit in zip(KINDS, limits, strict=True)
            if limit.state != "unsettled"
            and self._below_zero(upper if limit.mu is None else limit.mu)
        ]
        remarks = (
            *_clipped(below),
            *_remarks(limits, first.mu_hat, upper, self.settings.test_statistic, other),
        )
        # That remark is about CLs at one signal strength.
        without = {about_other(first.other, self.settings.test_statistic)} if first.other else set()
        of_test = [remark for remark in first.remarks if remark not in without]
        return Limits(
            observed=limits[0],
            expected=tuple(limits[1:]),
            mu_hat=first.mu_hat,
            mu_hat_error=first.mu_hat_error,
            mu_max=upper,
            engine="reference",
            fit_time=time.perf_counter() - began,
            remarks=tuple(dict.fromkeys([*of_test, *remarks])),
            software=first.software,
            minimum=first.minimum,
            other=other,
        )

    def _below_zero(self, mu: float) -> bool:
        return any(CLIPPED in remark for remark in self.tests.test(mu).remarks)

    def _other(self, limits: Sequence[Limit], upper: float) -> OtherLimits | None:
        """Find the limits with the minimum that does not count, where tests at limits have one."""
        at = [upper if limit.mu is None else limit.mu for limit in limits]
        tests = [
            self.tests.test(mu)
            for mu, limit in zip(at, limits, strict=True)
            if limit.CLs is not None
        ]
        other = next((test.other for test in tests if test.other is not None), None)
        if other is None:
            return None
        first, *further = self._limits(np.array(at), upper, _not_counted)
        searched = [first, *further]
        if not all(limit.trusted for limit in searched) or not any(map(_differ, searched, limits)):
            return None
        return OtherLimits(other.minimum, first, tuple(further), other.mu_hat)

    def _limits(self, guess: FloatArray, upper: float, minimum: _Minimum) -> list[Limit]:
        """Search for all six with one of the minima."""
        function = partial(self.function, minimum=minimum)
        rows, largest = np.arange(len(KINDS)), np.full(len(KINDS), upper)
        roots = _roots(function, rows, guess, largest, self.tolerance)
        return [self._limit(int(row), roots, upper, minimum) for row in rows]

    def _limit(self, row: int, roots: _Roots, upper: float, minimum: _Minimum) -> Limit:
        if roots.lost[row]:
            return Limit(None, "unsettled", None, None, _NOT_FINITE, trusted=False)
        beyond = bool(roots.beyond[row])
        at = upper if beyond else float(roots.root[row])
        test = self.tests.test(at)
        p_values = minimum(test)
        jump = None
        if not beyond:
            ends = np.array([roots.lower[row], roots.upper[row]])
            low, high = self.function(np.array([row, row]), ends, minimum)
            if low < 0 <= high and high - low > roots.steep(self.tolerance)[row]:
                jump = self.alpha * math.exp(-low), self.alpha * math.exp(-high)
        return Limit(
            mu=None if beyond else at,
            state="beyond" if beyond else "found",
            tolerance=None if beyond else float(roots.distance[row]),
            CLs=(p_values.CLs_obs, *p_values.CLs_exp)[row],
            reason="; ".join(f"{name}: {fit.reason}" for name, fit in test.fits.items()),
            trusted=test.status == "ok",
            jump=jump,
        )


def _without_derivative(limit: Limit) -> str:
    """Say why a limit has no derivative."""
    if limit.mu is None:
        return f"it is {limit.state}"
    return "a fit has not converged" if limit.trusted else "it is not trusted"
