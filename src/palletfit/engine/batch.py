"""Fits and hypothesis tests of the patches of one batch, each fit from several starts.

A test makes four fits: background-only, free and at the tested signal strength on the data, and the
latter on the Asimov data. The free fit of Asimov data is known: it is the point that generated them
(Cowan et al., Eur. Phys. J. C 71 (2011) 1554, section 3.2).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from palletfit.config import FitSettings
from palletfit.engine.arrays import Arrays
from palletfit.engine.fits import SAME, TOLERANCE, Fits
from palletfit.engine.hypothesis import check_poi_bounds, conclude, tested_mu
from palletfit.engine.interpcodes import FloatArray
from palletfit.engine.likelihood import constants, own_arrays, own_of
from palletfit.engine.lowering import Lowered
from palletfit.engine.newton import OUTCOMES, UNDAMPED, Lanes, Minima, Solver
from palletfit.engine.records import Attempt, BestFit, Fit, HypotestResult
from palletfit.errors import FitError, PalletfitError

if TYPE_CHECKING:
    from palletfit.engine.engine import Engine

#: The edm at which a start ends, in units of the NLL: where its next step leads is then known to
#: much better than :data:`SAME`.
_SEARCH = 1e-6
#: The same where a result depends on a fit to first order, or the signal is weak.
SHARP = 1e-14
#: How many starts have to end at the lowest minimum, or further ones are tried.
_SEEN = 2
#: Displaced starts of every fit, and further ones where they are needed.
_DISPLACED, _FURTHER = 2, 16
#: So many further ones are tried together, and more if they found new minima.
_TOGETHER = 4
#: How many parameters may be mirrored, and how often.
_MIRRORED, _ROUNDS = 24, 8
#: Parameters of at least this many standard deviations may have a second minimum on the other
#: side, if the NLL there is not higher by more than this.
_SIZEABLE, _NEAR = 0.3, 5.0
#: Parameters that change expected counts unlike a straight line, by more than this in chi-squared
#: between -1, 0 and 1 standard deviations, may have a second minimum far away; so many at most.
_BENT, _LEAPS = 0.1, 12
#: Such a leap goes this far at least. Where the NLL rises by less than this part of what a parabola
#: would, a fit begins.
_FAR, _LOW = 0.3, 0.5
#: Where the slope on the other side of a kink is looked at, at most.
_BESIDE = 1e-4
#: A q on Asimov data below this is weak: its fits have to be sharp.
WEAK = 1e-2
#: Where the curvature of the likelihood in mu is taken, if mu-hat is zero.
_OFF_ZERO = 1e-6
#: A variance of mu-hat above this is that of a signal without any effect.
_NO_INFORMATION = 1e18
#: A q on Asimov data below this is rounding.
NO_SENSITIVITY = 1e-12


@dataclass(frozen=True)
class DataFits:
    """The three fits of one patch to the data.

    Attributes
    ----------
    batch
        The patch as arrays.
    evidence
        By name, ``background``, ``free`` and ``fixed``: 2 NLL, and why it is the minimum.
    points, expected
        Parameters ``(K,)`` and expected counts ``(B,)`` there, in the order of `batch`.
    """

    batch: Lowered
    evidence: dict[str, Fit]
    points: dict[str, FloatArray]
    expected: dict[str, FloatArray]


class BatchFits:
    """Fits, and hypothesis tests, of the patches of one batch."""

    def __init__(self, engine: Engine, batch: Lowered, settings: FitSettings | None = None) -> None:
        self.engine, self.batch = engine, batch
        self.settings = settings or engine.settings
        self.compiled = engine.compiled(batch.layout)
        self.own = engine.arrays.put(own_arrays(batch))
        self.rows = np.arange(len(batch))
        self.poi = batch.layout.poi
        self.mu = tested_mu(self.settings)
        # Whether all samples of the patches vanish with the signal.
        self.only_signal = all(
            np.all((part["factors"][..., 0] > 0) | ~np.any(part["nominal"] != 0, axis=-1))
            and np.all((part["factors"][..., 0] > 0) | ~np.any(part["odd"] != 0, axis=(-2, -1)))
            and np.all((part["factors"][..., 0] > 0) | ~np.any(part["even"] != 0, axis=(-2, -1)))
            for part in batch.parts
        )

    @cached_property
    def without_signal(self) -> NDArray[np.int64]:
        """For each patch the first one that is the same where there is no signal."""
        batch = self.batch
        if not self.only_signal:
            return self.rows
        settings = ("data", "aux", "precision", "factor", "init", "lower", "upper", "fixed")
        columns = [np.asarray(getattr(batch, name), dtype=float) for name in settings]
        _, first, group = np.unique(
            np.concatenate(columns, axis=1), axis=0, return_index=True, return_inverse=True
        )
        return np.asarray(first[group.ravel()])

    def hypotests(
        self, *, brief: bool = False
    ) -> Iterator[tuple[int, HypotestResult | PalletfitError | str]]:
        """Fit, and conclude for each row; a string says why another engine has to."""
        began = time.perf_counter()
        batch, named = self.batch, self.four_fits()
        errors = self.mu_errors(named["free"])
        negative = {name: self.rates(fits.point, fits) < 0 for name, fits in named.items()}
        seconds = (time.perf_counter() - began) / len(batch)
        frozen = {name: self.freeze(fits, brief=brief) for name, fits in named.items()}
        for row in range(len(batch)):
            fits_of = {name: fits[row] for name, fits in frozen.items()}
            below_zero = [name for name, where in negative.items() if where[row].any()]
            asimov = named["asimov_fixed"]
            yield row, self.conclude(row, fits_of, asimov, errors[row], below_zero, seconds)

    # ------------------------------------------------------------------ fits

    def four_fits(self) -> dict[str, Fits]:
        """The fits of all tests: ``background``, ``free``, ``fixed``, ``asimov_fixed``."""
        fits = self.data_fits()
        return {**fits, "asimov_fixed": self.asimov_fits(fits)}

    def data_fits(self) -> dict[str, Fits]:
        """The fits of the data: ``background``, ``free``, ``fixed``."""
        batch = self.batch
        background, free = self.without_and_with_signal(self.rows)
        displaced = self.displaced_starts()
        fixed = Fits(batch.data, batch.aux, self.mu, self.rows)
        starts = {"background": background.point, "free": free.point, **displaced}
        self.fit(fixed, starts)
        below = np.flatnonzero(fixed.value < free.value - SAME)
        self.fit(free, {"fixed": fixed.point}, below)
        for fits in (background, free, fixed):
            self.escalate(fits)
        return {"background": background, "free": free, "fixed": fixed}

    def asimov_fits(self, data_fits: Mapping[str, Fits]) -> Fits:
        """The fits of the Asimov data that the fits of the data lead to; these get sharper."""
        background, free, fixed = (data_fits[name] for name in ("background", "free", "fixed"))
        discovery = self.settings.test_statistic == "q0"
        source = fixed if discovery else background
        # The Asimov data depend on it to first order, where a minimum does to second.
        self.sharpen(source, self.rows, SHARP)
        rates, aux = self.asimov(source.point, source)
        asimov = Fits(rates, aux, 0.0 if discovery else self.mu, self.rows)
        tested = background if discovery else fixed
        starts = {"source": source.point, "fixed": tested.point}
        self.fit(asimov, {**starts, "displaced 1": self.displaced_starts()["displaced 1"]})
        self.escalate(asimov)
        # Other data, but the same model: a minimum of the one may be near a lower of the other.
        several = np.flatnonzero(asimov.multimodal() | tested.multimodal())
        self.fit(tested, {"asimov": asimov.point}, several)
        self.fit(asimov, {"fixed again": tested.point}, several)
        for fits in (tested, asimov):
            self.mirror(fits, several)
        for fits in (background, free, fixed, asimov):
            self.sharpen(fits, self.rows)
        # The NLL without constants is zero at the point that generated the data.
        weak = np.flatnonzero(2 * asimov.value < WEAK)
        for fits in (free, tested, asimov):
            self.sharpen(fits, weak, SHARP)
        return asimov

    def without_and_with_signal(self, same: NDArray[np.int64]) -> tuple[Fits, Fits]:
        """The background-only and the free fit, each from several starts.

        Parameters
        ----------
        same
            For each row the first one with the same patch, ``(P,)``.
        """
        batch = self.batch
        background = Fits(batch.data, batch.aux, 0.0, self.without_signal)
        self.fit(background, {"suggested": batch.init})
        self.leap(background, self.rows)
        free = Fits(batch.data, batch.aux, None, same)
        first = self.displaced_starts(count=1)
        self.fit(free, {"background": background.point, **first})
        self.fit(background, {"free": free.point})
        return background, free

    def lanes(
        self, fits: Fits, start: FloatArray, rows: NDArray[np.int64], *, scoring: bool = True
    ) -> Lanes:
        """One lane for each of some rows, from its own start."""
        batch = self.batch
        fixed, point = batch.fixed[rows].copy(), np.array(start, dtype=float)
        held = batch.fixed[rows]
        point[held] = batch.init[rows][held]
        if fits.mu is not None:
            fixed[:, self.poi] = True
            point[:, self.poi] = np.broadcast_to(fits.mu, len(self.batch))[rows]
        return Lanes(
            patch=rows,
            scoring=np.full(len(rows), scoring),
            start=point,
            fixed=fixed,
            lower=batch.lower[rows],
            upper=batch.upper[rows],
            data=fits.data[rows],
            aux=fits.aux[rows],
            precision=batch.precision[rows],
            factor=batch.factor[rows],
        )

    def fit(
        self,
        fits: Fits,
        starts: Mapping[str, FloatArray],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Fit some rows from several starts."""
        rows = fits.leading(self.rows if rows is None else rows)
        if not len(rows):
            return
        began = time.perf_counter()
        lanes = Lanes.join(
            [
                self.lanes(fits, start[rows], rows, scoring=not name.startswith("displaced"))
                for name, start in starts.items()
            ]
        )
        minima = self.solver(fits).minimise(lanes, _SEARCH, predict=True)
        seconds = (time.perf_counter() - began) / len(lanes)
        for number, start in enumerate(starts):
            part = np.arange(number * len(rows), (number + 1) * len(rows))
            fits.add(start, rows, minima.take(part), seconds)

    def solver(self, fits: Fits) -> Solver:
        """The solver of a kind of fit: without signal its samples need not be looked at."""
        with_own = fits.mu is None or bool(np.any(fits.mu != 0.0)) or not self.only_signal
        solver = self.compiled.solvers[with_own]
        solver.own = self.own if with_own else {}
        return solver

    def escalate(self, fits: Fits) -> None:
        """Try further starts where the first ones do not settle what the lowest minimum is.

        Where there are several minima, they mostly differ in the signs of parameters whose effect
        has the same sign in both directions (one-sided systematic uncertainties). So parameters
        are mirrored where that looks promising; and where minima differ, starts are displaced at
        random.
        """
        self.mirror(fits, self.rows)
        doubtful = ~fits.converged | (fits.agreed() < _SEEN) | fits.multimodal()
        before = fits.value.copy()
        rows = np.flatnonzero(doubtful)
        for first in range(_DISPLACED + 1, _DISPLACED + _FURTHER + 1, _TOGETHER):
            known = fits.minima(rows)
            self.fit(fits, self.displaced_starts(first, _TOGETHER), rows)
            rows = rows[fits.minima(rows) > known]
        self.mirror(fits, np.flatnonzero(fits.value < before - SAME))

    def mirror(self, fits: Fits, rows: NDArray[np.int64]) -> None:
        """From the lowest minimum go on to others by the signs of parameters, while they fall."""
        rows = fits.leading(rows)
        for number in range(_ROUNDS):
            pairs, points = self._mirrored(fits, rows)
            if not len(pairs):
                return
            before = fits.value.copy()
            self.fit_each(fits, f"mirrored {number + 1}", pairs, points)
            rows = rows[fits.value[rows] < before[rows] - SAME]

    def _mirrored(
        self, fits: Fits, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Points with the sign of one parameter changed that lie beyond a hump of the likelihood.

        A hump is where the NLL is lower at the mirrored value than half-way, at zero; it may be
        flat, or fall only when other parameters follow, so that half of what a parabola would rise
        counts as well. Looked at are parameters with a sizeable value, and points that are not
        hopelessly high. A kink may be a hump however near to it the minimum is; there the slope
        tells. Returned are the row of each point, in order, and the points.
        """
        kinked = self.compiled.solvers[True].kinked[: self.batch.layout.alphas]
        alphas = np.where(self.batch.fixed, 0.0, fits.point)[rows, : self.batch.layout.alphas]
        alphas = np.where(fits.converged[rows, None], np.abs(alphas), 0.0)
        # Of each patch the largest ones only.
        least = np.sort(alphas, axis=1)[:, -_MIRRORED:][:, :1]
        chosen = (alphas >= np.maximum(least, _SIZEABLE)) | kinked & (alphas > 0)
        places, columns = np.nonzero(chosen)
        rows = rows[places]
        mirrored = fits.point[rows]
        there = mirrored[np.arange(len(rows)), columns]
        beside = np.where(kinked[columns], np.minimum(np.abs(there), _BESIDE), np.abs(there))
        mirrored[np.arange(len(rows)), columns] = -np.sign(there) * beside
        half_way = mirrored.copy()
        half_way[np.arange(len(rows)), columns] = 0.0
        return self._beyond_hump(fits, rows, mirrored, half_way, kinked[columns])

    def _beyond_hump(
        self,
        fits: Fits,
        rows: NDArray[np.int64],
        points: FloatArray,
        half_way: FloatArray,
        kinked: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Those of some points, and their rows, that may lie near another minimum.

        Parameters
        ----------
        fits, rows
            Of the minima where one comes from.
        points, half_way
            Where one goes, and what lies between, ``(len(rows), K)``.
        kinked
            Whether half-way is a kink of the likelihood, for each point.
        """
        lowest = fits.value[rows]
        rise = self.values(fits, points, rows) - lowest
        near = np.flatnonzero(rise < _NEAR)
        between = self.values(fits, half_way[near], rows[near]) - lowest[near]
        # A parabola would rise four times as much.
        factor = np.where(kinked[near] | (between < 0), 1.0, 2.0)
        beyond = near[rise[near] < factor * between]
        return rows[beyond], points[beyond]

    def leap(self, fits: Fits, rows: NDArray[np.int64]) -> None:
        """Look for minima where one parameter is at one standard deviation, while they fall.

        A parameter with a large effect in one direction only may have a second minimum on that
        side, which no start near the suggested values leads to.
        """
        columns = self.bent
        rows = fits.leading(rows)
        for number in range(_ROUNDS):
            some, points = self._leaps(fits, rows[fits.converged[rows]], columns)
            if not len(some):
                return
            before = fits.value.copy()
            self.fit_each(fits, f"leap {number + 1}", some, points)
            rows = rows[fits.value[rows] < before[rows] - SAME]

    @cached_property
    def bent(self) -> NDArray[np.int64]:
        """Columns of alphas whose effect is unlike a straight line, the most bent ones first.

        Without signal all patches have the same samples; where they do not, parameters are taken
        that are bent in any of them.
        """
        batch = self.batch
        count = batch.layout.alphas
        rows = self.rows if not self.only_signal else self.rows[:1]
        fits = Fits(batch.data, batch.aux, 0.0, self.rows)
        bent = np.zeros(count)
        points = np.repeat(batch.init[:1], 2 * count + 1, axis=0)
        for row in rows:
            points[:] = batch.init[row]
            points[:, self.poi] = 0.0
            points[:, :count] = 0.0
            places = np.arange(count)
            points[places, places], points[count + places, places] = 1.0, -1.0
            rates = self._at(
                self.compiled.expected,
                fits,
                points,
                np.full(len(points), row),
                fits.data.shape[1:],
            )
            up, down, middle = rates[:count], rates[count:-1], rates[-1]
            difference = (up + down - 2 * middle) ** 2 / np.maximum(middle, 1.0)
            bent = np.maximum(bent, np.where(batch.fixed[row, :count], 0.0, difference.sum(axis=1)))
        order = np.argsort(-bent, kind="stable")[:_LEAPS]
        return np.asarray(order[bent[order] > _BENT])

    def _leaps(
        self, fits: Fits, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Rows and points where a fit may end in a lower minimum.

        From the minimum one of some parameters goes to -1 or 1, and the others follow as they would
        if the likelihood were a parabola. Returned are points where the likelihood rises much less
        than that, and that lie beyond a hump.
        """
        batch = self.batch
        found, points, middles = [], [], []
        for part, hessian, frozen in self.hessians(fits, rows):
            if fits.mu is not None:
                frozen[:, self.poi] = True
            some = rows[part]
            slopes = inverse_free(hessian, frozen)[:, columns]
            variance = slopes[:, np.arange(len(columns)), columns]
            at = fits.point[some]
            for side in (-1.0, 1.0):
                step = side - at[:, columns]
                free = (variance > 0) & ~frozen[:, columns] & (np.abs(step) > _FAR)
                place, which = np.nonzero(free)
                wanted = step[place, which] / variance[place, which]
                direction = wanted[:, None] * slopes[place, which]
                lower, upper = batch.lower[some[place]], batch.upper[some[place]]
                there = np.clip(at[place] + direction, lower, upper)
                rise = self.values(fits, there, some[place]) - fits.value[some[place]]
                low = rise < _LOW * wanted * step[place, which] / 2
                found.append(some[place[low]])
                points.append(there[low])
                middles.append(np.clip(at[place] + direction / 2, lower, upper)[low])
        if not found:
            return np.zeros(0, dtype=int), np.zeros((0, batch.init.shape[1]))
        chosen = np.concatenate(found)
        order = np.argsort(chosen, kind="stable")
        ends, between = np.concatenate(points)[order], np.concatenate(middles)[order]
        smooth = np.zeros(len(order), dtype=bool)
        return self._beyond_hump(fits, chosen[order], ends, between, smooth)

    def fit_each(self, fits: Fits, name: str, rows: NDArray[np.int64], points: FloatArray) -> None:
        """Fit rows, which may stand there several times in a row, each from its own point."""
        began = time.perf_counter()
        minima = self.solver(fits).minimise(self.lanes(fits, points, rows), _SEARCH, predict=True)
        seconds = (time.perf_counter() - began) / len(rows)
        _, first, count = np.unique(rows, return_index=True, return_counts=True)
        rank = np.arange(len(rows)) - np.repeat(first, count)
        for number in range(int(rank.max()) + 1):
            some = np.flatnonzero(rank == number)
            fits.add(f"{name}.{number + 1}", rows[some], minima.take(some), seconds)

    def sharpen(self, fits: Fits, rows: NDArray[np.int64], tolerance: float = TOLERANCE) -> None:
        """Go on from the lowest minimum to a much smaller edm."""
        rows = fits.leading(rows[fits.converged[rows] & (fits.edm[rows] > tolerance)])
        if len(rows):
            lanes = self.lanes(fits, fits.point[rows], rows)
            fits.refine(rows, self.solver(fits).minimise(lanes, tolerance))

    def displaced_starts(self, first: int = 1, count: int = _DISPLACED) -> dict[str, FloatArray]:
        """Starts of all rows at random places around the suggested ones, by name."""
        names = [f"displaced {number}" for number in range(first, first + count)]
        return {name: self.displaced(name) for name in names}

    def displaced(self, name: str) -> FloatArray:
        """Starts about one prefit width away from the suggested ones, the same in every batch."""
        batch = self.batch
        seed = int.from_bytes(name.encode()[-8:], "little")
        pattern = np.random.default_rng(seed).standard_normal(batch.init.shape[1])
        constrained = batch.precision + batch.factor
        width = np.where(
            constrained > 0,
            1.0 / np.sqrt(np.maximum(constrained, 1e-30)),
            np.minimum((batch.upper - batch.lower) / 20, 0.5),
        )
        return np.where(batch.fixed, batch.init, batch.init + width * pattern)

    # ------------------------------------------------------------------ at the minima

    def lanes_at(
        self, fits: Fits, point: FloatArray, rows: NDArray[np.int64]
    ) -> Iterator[tuple[slice, dict[str, Any], Any]]:
        """What some rows have of their own, and points; in pieces of one size."""
        batch, arrays = self.batch, self.engine.arrays
        size = arrays.lanes_of(batch.layout.size)
        for first in range(0, len(rows), size):
            part = slice(first, min(first + size, len(rows)))
            places = np.arange(part.start, part.stop)
            # Compiled code has one size: the first row again, which nobody reads.
            places = places if arrays.flexible else np.resize(places, size)
            some = rows[places]
            lane = {
                "own": own_of(self.own, some),
                "data": arrays.put(fits.data[some]),
                "aux": arrays.put(fits.aux[some]),
                "precision": arrays.put(batch.precision[some]),
                "factor": arrays.put(batch.factor[some]),
            }
            yield part, lane, arrays.put(point[places])

    def values(self, fits: Fits, point: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
        """NLL without constants of some rows, each at a point."""
        return self._at(self.compiled.value, fits, point, rows, ())

    def rates(self, point: FloatArray, fits: Fits) -> FloatArray:
        """Expected counts of all patches."""
        return self._at(self.compiled.expected, fits, point, self.rows, fits.data.shape[1:])

    def _at(
        self,
        function: Any,
        fits: Fits,
        point: FloatArray,
        rows: NDArray[np.int64],
        shape: tuple[int, ...],
    ) -> FloatArray:
        found = np.zeros((len(rows), *shape))
        with np.errstate(all="ignore"):
            for part, lane, at in self.lanes_at(fits, point, rows):
                values = self.engine.arrays.get(function(self.compiled.shared, lane, at))
                found[part] = values[: part.stop - part.start]
        return found

    def asimov(self, point: FloatArray, fits: Fits) -> tuple[FloatArray, FloatArray]:
        """Main and auxiliary data that are exactly as expected at some points."""
        batch = self.batch
        return self.rates(point, fits), np.where(batch.precision > 0, point, point * batch.factor)

    def mu_errors(self, free: Fits, some: NDArray[np.int64] | None = None) -> FloatArray:
        """Standard deviations of mu-hat from the Hessian; NaN where it gives none."""
        some = self.rows if some is None else some
        errors = np.full(len(some), np.nan)
        point = free.point[some]
        # At zero the curvature is a small difference of terms of the order of one over mu.
        near = np.abs(point[:, self.poi]) < _OFF_ZERO
        point[near, self.poi] = _OFF_ZERO
        for rows, hessian, frozen in self.hessians(free, some, point):
            frozen[:, self.poi] = False
            unit = np.zeros(frozen.shape)
            unit[:, self.poi] = 1.0
            solution, proper = _solve_free(hessian, frozen, unit)
            variance = solution[:, self.poi]
            usable = proper & (variance > 0) & (variance < _NO_INFORMATION)
            errors[rows] = np.where(usable, np.sqrt(np.where(usable, variance, 1.0)), np.nan)
        return errors

    def best_fit(self, mu: float | None, asimov: Mapping[str, float] | None) -> BestFit:
        """The best fit of the batch's only patch."""
        batch = self.batch
        fits = Fits(batch.data, batch.aux, mu, self.rows)
        starts = {"suggested": batch.init, **self.displaced_starts()}
        if asimov is not None:
            source = [
                init if name is None else asimov[name]
                for name, init in zip(batch.names[0], batch.init[0], strict=True)
            ]
            starts["source"] = np.array([source])
            fits = Fits(*self.asimov(starts["source"], fits), mu, self.rows)
        self.fit(fits, starts)
        self.leap(fits, self.rows)
        self.escalate(fits)
        self.sharpen(fits, self.rows, SHARP)
        evidence = self.freeze(fits)[0]
        if not evidence.trusted:
            raise FitError(
                f"The fit has no proven minimum: {evidence.reason}.",
                remedy="Look at the yields; try pyhf.infer.mle.fit.",
            )
        ((_, hessian, frozen),) = self.hessians(fits)
        if mu is not None:
            frozen[:, self.poi] = True
        count = frozen.shape[1]
        columns = np.repeat(hessian[:1], count, axis=0), np.repeat(frozen[:1], count, axis=0)
        covariance, _ = _solve_free(*columns, np.eye(count) * ~frozen[0])
        own = np.flatnonzero(batch.present[0])
        names = [str(batch.names[0][column]) for column in own]
        errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        return BestFit(
            parameters=dict(zip(names, fits.point[0, own].tolist(), strict=True)),
            errors=dict(zip(names, errors[own].tolist(), strict=True)),
            covariance=covariance[np.ix_(own, own)],
            evidence=evidence,
        )

    def hessians(
        self,
        fits: Fits,
        some: NDArray[np.int64] | None = None,
        point: FloatArray | None = None,
    ) -> Iterator[tuple[slice, FloatArray, NDArray[np.bool_]]]:
        """Of some rows, part by part: Hessians, and what is fixed or at a bound.

        Hessians are those at the minima, or at other points of these rows.
        """
        batch = self.batch
        at_bound = (fits.point <= batch.lower) | (fits.point >= batch.upper)
        some = self.rows if some is None else some
        point = fits.point[some] if point is None else point
        for part, lane, at in self.lanes_at(fits, point, some):
            with np.errstate(all="ignore"):
                found = self.compiled.evaluate(self.compiled.shared, lane, at, None)
            hessian = np.array(self.engine.arrays.get(found.hessian))[: part.stop - part.start]
            yield part, hessian, (batch.fixed | at_bound)[some[part]]

    # ------------------------------------------------------------------ records

    def freeze(
        self, fits: Fits, some: NDArray[np.int64] | None = None, *, brief: bool = False
    ) -> list[Fit]:
        """Records of one kind of fit, patch by patch, of some rows or of all.

        Parameters
        ----------
        fits, some
            Fits, and their rows.
        brief
            Leave out the attempts, which only show how the minimum was found.
        """
        batch = self.batch
        constant = constants(batch, fits.data, fits.aux)
        attempts: list[list[Attempt]] = [[] for _ in self.rows]
        ends = np.full((len(self.rows), len(fits.attempts)), np.nan)
        doubt = [""] * len(self.rows)
        for number, (start, rows, minima, seconds) in enumerate(fits.attempts):
            ends[rows, number] = minima.value
            for place in np.flatnonzero(~minima.converged):
                doubt[rows[place]] = doubt[rows[place]] or OUTCOMES[int(minima.outcome[place])]
            if not brief:
                for row, attempt in self._attempts(start, rows, minima, seconds, constant):
                    attempts[row].append(attempt)
        tried = np.zeros(len(self.rows), dtype=int)
        for _, rows, _, _ in fits.attempts:
            tried[rows] += 1
        known = np.isfinite(ends)
        lowest = np.where(known, ends, np.inf).min(axis=1, initial=np.inf)
        highest = np.where(known, ends, -np.inf).max(axis=1, initial=-np.inf)
        spreads = np.where(known.any(axis=1), 2 * (highest - lowest), np.inf)
        agreed = fits.agreed()
        bounds = self._at_bounds(self.rows, fits.point)
        records = []
        for row in self.rows if some is None else some:
            reason = f"{agreed[row]} of {tried[row]} starts agree, edm {fits.edm[row]:.1e}"
            if agreed[row] < tried[row] and known[row].any():
                reason += f", the others end up to {spreads[row]:.1e} above in 2 NLL"
            if not fits.converged[row]:
                reason = f"not converged: {doubt[row] or 'the last steps to the minimum'}"
            records.append(
                Fit(
                    twice_nll=float(2 * (fits.value[row] + constant[row])),
                    edm=float(fits.edm[row]),
                    gradient_norm=float(fits.gradient_norm[row]),
                    at_bounds=bounds[row],
                    mu=float(fits.point[row, self.poi]),
                    trusted=bool(fits.converged[row]),
                    reason=reason,
                    agreed=int(agreed[row]),
                    spread=float(spreads[row]),
                    attempts=tuple(attempts[row]),
                )
            )
        return records

    def _attempts(
        self,
        start: str,
        rows: NDArray[np.int64],
        minima: Minima,
        seconds: float,
        constant: FloatArray,
    ) -> Iterator[tuple[int, Attempt]]:
        """What one start led to, row by row."""
        bounds = self._at_bounds(rows, minima.point)
        for place, row in enumerate(rows):
            message = OUTCOMES[int(minima.outcome[place])]
            converged = bool(minima.converged[place])
            value = float(2 * (minima.value[place] + constant[row]))
            yield (
                int(row),
                Attempt(
                    optimizer="newton",
                    start=start,
                    moved=True,
                    reported_success=converged,
                    message=message,
                    iterations=int(minima.iterations[place]),
                    evaluations=int(minima.iterations[place]),
                    optimizer_twice_nll=value,
                    twice_nll=value,
                    edm=float(minima.edm[place]),
                    gradient_norm=float(minima.gradient_norm[place]),
                    at_bounds=bounds[place],
                    polish_steps=0,
                    doubts=() if converged else (message,),
                    seconds=seconds,
                ),
            )

    def _at_bounds(self, rows: NDArray[np.int64], point: FloatArray) -> list[tuple[str, ...]]:
        """Names of nuisance parameters at a bound, at a point for each of some rows."""
        batch = self.batch
        at = (point <= batch.lower[rows]) | (point >= batch.upper[rows])
        at &= ~batch.fixed[rows]
        at[:, self.poi] = False
        found: list[tuple[str, ...]] = [()] * len(rows)
        for place in np.flatnonzero(at.any(axis=1)):
            names = batch.names[rows[place]]
            found[place] = tuple(str(names[column]) for column in np.flatnonzero(at[place]))
        return found

    def conclude(
        self,
        row: int,
        fits: dict[str, Fit],
        asimov: Fits,
        mu_error: float,
        below_zero: Sequence[str],
        seconds: float,
    ) -> HypotestResult | PalletfitError | str:
        """The result of one patch, or why the reference engine has to make it."""
        batch = self.batch
        name = str(batch.names[row][self.poi])
        lower, upper = float(batch.lower[row, self.poi]), float(batch.upper[row, self.poi])
        try:
            check_poi_bounds(self.mu, lower, upper, name)
            for title, fit in fits.items():
                if not fit.trusted:
                    return f"its {title} fit: {fit.reason}"
            if np.any(asimov.data[row] < 0):
                return "its Asimov data are below zero in a bin"
            remarks = [
                f"{title} fit: a rate is below zero in a bin without events" for title in below_zero
            ]
            result = conclude(
                self.settings,
                fits,
                q_asimov=float(2 * asimov.value[row]),
                noise=NO_SENSITIVITY,
                mu_upper=upper,
                remarks=remarks,
            )
        except PalletfitError as error:
            return error
        return HypotestResult(
            **result,
            engine="batched",
            parameters=int(batch.present[row].sum()),
            build_time=0.0,
            fit_time=seconds,
            mu_hat_error=float(mu_error) if np.isfinite(mu_error) else None,
            software=self.engine.software,
        )


def inverse_free(hessian: FloatArray, frozen: NDArray[np.bool_]) -> FloatArray:
    """Inverse of Hessians without the frozen parameters, whose rows and columns are zero.

    Parameters
    ----------
    hessian, frozen
        ``(L, K, K)`` and ``(L, K)``.

    Returns
    -------
    ndarray
        ``(L, K, K)``; all zero if one of them is singular.
    """
    count = hessian.shape[-1]
    held = frozen[:, :, None] | frozen[:, None, :]
    masked = np.where(held, np.eye(count), hessian)
    try:
        inverse = np.linalg.inv(masked)
    except np.linalg.LinAlgError:
        return np.zeros_like(hessian)
    return np.where(held | ~np.isfinite(inverse), 0.0, inverse)


def _solve_free(
    hessian: FloatArray, frozen: NDArray[np.bool_], right: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Solve without the frozen parameters; and where the matrix is positive definite."""
    metric = np.maximum(np.abs(np.einsum("...ii->...i", hessian)), 1e-10)
    undamped = np.full(len(right), UNDAMPED)
    solution, damping, *_ = Arrays().solve(hessian, metric, right, undamped, ~frozen)
    return solution, damping <= UNDAMPED
