"""Fits of one model to many data sets.

Where the model allows it, its bin-local parameters are profiled out
(:mod:`palletfit.engine.toys.profiled`); the engine's own solver makes all other fits (interpolation
codes with kinks, and JAX).

Likelihoods with interpolated systematic uncertainties may have several minima, and the more so with
fluctuating auxiliary data. So every fit is made from two starts, and from further ones until the
lowest minimum was found twice. From there parameters change their sign, and products of parameters
fill or empty bins: where that leads lower, or to something new, further fits begin. Only where the
NLL is convex, one start is enough. Where descents are asked for, what leads from one minimum to
another in one data set is tried in all that are fitted together, too
(:mod:`palletfit.engine.toys.shifts`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.corners import WIDTHS
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fitter import CORNER
from palletfit.engine.interpcodes import kinks
from palletfit.engine.likelihood import CLIP_WIDTH, EMPTY, own_arrays, own_of, poisson_term
from palletfit.engine.lowering import Lowered
from palletfit.engine.newton import OUTCOMES, PATIENT, Lanes, Minima, Solver
from palletfit.engine.reach import Reach
from palletfit.engine.toys.compact import Compact, compact
from palletfit.engine.toys.descents import descend
from palletfit.engine.toys.profiled import SOFT, WALL_WIDTH, ProfiledModel, ProfileSolver
from palletfit.engine.toys.shifts import Shifts

#: The edm at which a fit ends; where its last step leads is known to much better than this.
_TOLERANCE = 1e-6
#: Counts above this call for Poisson terms without cancellation.
_LARGE = 1e5
#: How many starts have to end at the lowest minimum. They begin near one another: minima further
#: away are looked for by :meth:`Ensemble._leap`.
_SEEN = 2
#: Ends of fits that differ by less in NLL are one minimum.
_SAME = 1e-7
#: Starts that are displaced, for fits that the others do not settle.
_DISPLACED = 4
#: After how many evaluations a fit gives up that no start has settled.
_PATIENCE = 400
#: The edm at a corner, whose depth is of the order of :data:`_TOLERANCE`.
_AT_CORNER = 1e-9
#: Widths of the corner, one after the other, each a tenth of the last; and the edm at each in units
#: of the width, so that rates are known to a small part of it.
_WIDTHS, _ROUGH = WIDTHS[1:], 1e-3
#: So many evaluations show whether a sharp corner can be reached without rounding it.
_SHARP = 15
#: How many parameters may be mirrored, those that bend expected counts most; from so many standard
#: deviations on.
_MIRRORED, _SIZEABLE = 24, 0.3
#: How many products of parameters are looked at.
_PRODUCTS = 12
#: How many steps are taken from points that are shifted as in other data sets, of so many of each,
#: the lowest ones; and how many of these take Newton steps, if they are not higher than this.
_SHIFTED_STEPS, _SHIFTED, _SHIFTED_PROBED, _SHIFTED_NEAR = 5, 4, 3, 3.0
#: Every second descent begins with all parameters displaced at random, by so many prefit standard
#: deviations. For the others one parameter is held at these distances from the minimum.
_DISPLACEMENT, _DISTANCES = (0.5, 1.0), (2.0, -2.0, 1.0, -1.0, 3.0, -3.0)
#: How many steps a descent takes, before them with a parameter held, and how often points without
#: a likelihood are brought half-way back.
_DESCENT, _FOLLOWING, _BACK = 12, 5, 2
#: Descents of so many numbers are made together: each of some ten arrays has them.
_ROOM = 4_000_000
#: A descent has returned if no parameter is further away from the minimum than so many prefit
#: standard deviations.
_ELSEWHERE = 0.5
#: Points from which a few steps are taken, of each kind: the lowest ones, if they are not higher
#: than this.
_PROBED, _NEAR = (2, 5, 3), (5.0, 60.0, 2.0)
#: Evaluations from these points. After the first number so many points of each data set go on, if
#: the NLL is not higher than the first of these; after the second number those are promising where
#: it is not higher than the second, and a parameter is further away from the minimum than so many
#: prefit standard deviations.
_STEPS, _LEFT, _HIGHEST, _RETURNED = (3, 3), 2, (10.0, 1.0), 0.1
#: How many of these points become fits, and how often the search goes on from a lower minimum.
_CONTINUED, _ROUNDS = 2, 2
#: A nested fit may lie lower than its parent by so much in NLL, from rounding.
_NESTED = 1e-8


@dataclass(frozen=True)
class DataSets:
    """Main and auxiliary data, ``(L, B)`` and ``(L, K)``, in the order of a lowered batch."""

    data: FloatArray
    aux: FloatArray

    def __len__(self) -> int:
        return len(self.data)

    def take(self, rows: NDArray[np.int64]) -> DataSets:
        """Take some of the data sets."""
        return DataSets(self.data[rows], self.aux[rows])


@dataclass
class Ends:
    """Ends of the fits of data sets; arrays with a row a data set.

    Attributes
    ----------
    point
        All parameters, ``(L, K)``.
    value
        NLL without constants.
    edm
        Estimated distance to the minimum, of the last step.
    converged
        Fits with a proven minimum.
    outcome
        Key of :data:`palletfit.engine.newton.OUTCOMES`.
    iterations
        Evaluations of the likelihood.
    clipped
        Fits that end with a rate below zero in a bin without events, where it counts as zero.
    soft
        NLL of the same fit at the soft wall, from which a clipped one went on.
    """

    point: FloatArray
    value: FloatArray
    edm: FloatArray
    converged: NDArray[np.bool_]
    outcome: NDArray[np.int64]
    iterations: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    soft: FloatArray

    def take(self, rows: NDArray[np.int64]) -> Ends:
        """Take some of the ends."""
        return Ends(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    def reason(self, row: int) -> str:
        """Say in words how a fit ended."""
        return OUTCOMES[int(self.outcome[row])]


@dataclass(frozen=True)
class Pairs:
    """Both fits of data sets: with the parameter of interest fixed, and free.

    Attributes
    ----------
    fixed, free
        The lowest minima.
    searched
        Data sets with a fit for which the first starts did not settle what its lowest minimum is.
    """

    fixed: Ends
    free: Ends
    searched: NDArray[np.bool_]

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Data sets with two proven minima, of which the free one is not the higher."""
        nested = self.free.value <= self.fixed.value + _NESTED
        return np.asarray(self.fixed.converged & self.free.converged & nested)


class Ensemble:
    """Fits one patch to many data sets.

    Parameters
    ----------
    engine
        The engine whose solver and arrays are used.
    batch
        The patch, lowered; its first row counts.
    descents
        From how many further points each fit descends (:mod:`palletfit.engine.toys.descents`).
    """

    def __init__(self, engine: BatchedEngine, batch: Lowered, *, descents: int = 0) -> None:
        self.engine, self.batch, self.poi = engine, batch, batch.layout.poi
        self.descents = descents
        layout = batch.layout
        normsys, histosys = layout.codes
        kinked = kinks(normsys, layout.norm).any() or kinks(histosys, layout.hist).any()
        #: Whether bin-local parameters are profiled out.
        self.profiled = (
            engine.arrays.name == "numpy" and not kinked and not batch.fixed[0, self.poi]
        )

    @cached_property
    def _model(self) -> Compact:
        return compact(self.batch)

    @cached_property
    def convex(self) -> bool:
        """True if the NLL is known to be convex, so that it has one minimum."""
        return self.profiled and self._model.linear

    @cached_property
    def _profile(self) -> ProfiledModel:
        large = max(self.batch.data.max(), self.batch.factor.max(), self.batch.aux.max())
        return ProfiledModel(self._model, precise=bool(large > _LARGE))

    @cached_property
    def _solver(self) -> Solver:
        solver = self.engine.compiled(self.batch.layout).solvers[True]
        solver.patch_samples = self.engine.arrays.put(own_arrays(self.batch))
        return solver

    def pairs(self, sets: DataSets, start: FloatArray, mu: float) -> Pairs:
        """Fit data sets with the parameter of interest fixed at `mu`, and free.

        One of the free fits starts where the fixed one ends, so that the lowest is not above it.

        Parameters
        ----------
        sets
            Data.
        start
            What has generated the data, ``(K,)``.
        mu
            The fixed value.
        """
        starts, shifts = self._starts(sets, start), self._shifts()
        fixed, searched = self.search(sets, starts, mu, shifts)
        self._leap(sets, fixed, start, mu, shifts)
        free, more = self.search(sets, [fixed.point, *starts], None, shifts)
        self.resume(sets, free, np.flatnonzero(fixed.clipped), fixed.point, None)
        self._leap(sets, free, start, None, shifts)
        if not self.convex:
            self._shift(sets, fixed, free, mu, shifts)
            self._exchange(sets, fixed, free, mu)
        above = fixed.converged & ~(free.value <= fixed.value + _NESTED)
        self.resume(sets, free, np.flatnonzero(above), fixed.point, None)
        return Pairs(fixed, free, searched | more)

    def lowest(self, sets: DataSets, start: FloatArray, mu: float | None) -> Ends:
        """Fit data sets once, with the parameter of interest free or fixed.

        Parameters
        ----------
        sets
            Data.
        start
            What has generated the data, ``(K,)``.
        mu
            Where the parameter of interest is fixed; None leaves it free.
        """
        best, _ = self.search(sets, self._starts(sets, start), mu)
        self._leap(sets, best, start, mu)
        return best

    def _shifts(self) -> Shifts | None:
        """Make a place for shifts between minima, where others are searched for at length."""
        if not self.descents or not self.profiled or self.convex:
            return None
        return Shifts(self._widths, self._model.shared)

    def _shift(
        self, sets: DataSets, fixed: Ends, free: Ends, mu: float, shifts: Shifts | None
    ) -> None:
        """Go from the minima of each data set where others have lower ones."""
        if shifts is None:
            return
        kinds = shifts.kinds()
        if not len(kinds):
            return
        for best, at in ((fixed, mu), (free, None)):
            rows = np.flatnonzero(best.converged)
            for _ in range(_ROUNDS):
                if len(rows):
                    before = best.value.copy()
                    self._pursue(sets, best, *self._shifted(sets, best, rows, kinds, at), at)
                    rows = np.flatnonzero(best.value < before - _SAME)

    def _exchange(self, sets: DataSets, fixed: Ends, free: Ends, mu: float) -> None:
        """Start each fit where the other one ended: near a minimum of one may be one of the other.

        Where that brings a lower one of the fixed fit, the free fit follows.
        """
        seen = np.zeros(len(sets), dtype=int)
        rows = np.arange(len(sets))
        before = fixed.value.copy()
        self._keep_lower(fixed, seen, rows, self.fit(sets, free.point, mu))
        self.resume(sets, fixed, np.flatnonzero(free.clipped), free.point, mu)
        rows = np.flatnonzero(fixed.value < before - _SAME)
        if len(rows):
            ends = self.fit(sets.take(rows), fixed.point[rows], None)
            self._keep_lower(free, seen, rows, ends)
            self.resume(sets, free, rows[fixed.clipped[rows]], fixed.point, None)

    def resume(
        self,
        sets: DataSets,
        best: Ends,
        rows: NDArray[np.int64],
        point: FloatArray,
        mu: float | None,
    ) -> None:
        """Go on from points with rates below zero in empty bins, and keep what is lower.

        The corner is sharp from the beginning: a soft wall would lead away from such points.

        Parameters
        ----------
        sets
            Data.
        best
            The lowest minima so far, which are replaced by lower ones.
        rows
            Data sets that are fitted.
        point
            Starts of all data sets, ``(L, K)``.
        mu
            Where the parameter of interest is fixed.
        """
        if self.profiled and len(rows):
            ends = self.fit(sets.take(rows), point[rows], mu, sharp=True)
            self._keep_lower(best, np.zeros(len(sets), dtype=int), rows, ends)

    def fit(
        self,
        sets: DataSets,
        start: FloatArray,
        mu: float | None,
        *,
        patient: bool = False,
        sharp: bool = False,
        earlier: Ends | None = None,
    ) -> Ends:
        """Fit data sets, each from its own start ``(L, K)``.

        Parameters
        ----------
        sets, start, mu
            Data, starts, and where the parameter of interest is fixed.
        patient
            Take many steps of a moderate length.
        sharp
            Begin with the sharp corner at empty bins, not with a soft wall.
        earlier
            Ends of the same data sets: what ends at the same place of the soft wall goes on to the
            same end.
        """
        if self.profiled:
            return self._fit_profiled(
                sets, start, mu, patient=patient, sharp=sharp, earlier=earlier
            )
        return self._fit_all(sets, start, mu)

    def _fit_profiled(
        self,
        sets: DataSets,
        start: FloatArray,
        mu: float | None,
        *,
        patient: bool,
        sharp: bool,
        earlier: Ends | None,
    ) -> Ends:
        narrow = self._narrow(sets, start, mu, CLIP_WIDTH if sharp else SOFT)
        solver = (
            ProfileSolver(self._profile, iterations=_PATIENCE, damping=PATIENT)
            if patient
            else ProfileSolver(self._profile)
        )
        minima = solver.minimise(
            narrow,
            _AT_CORNER if sharp else _TOLERANCE,
            predict=True,
            limit=_SHARP if sharp else None,
        )
        ends = self._complete(sets, minima, narrow.clip)
        ends.soft[:] = np.nan if sharp else ends.value
        left = ends.clipped & np.isfinite(ends.value) & ~(sharp & ends.converged)
        if earlier is not None:
            with np.errstate(invalid="ignore"):
                same = left & earlier.converged
                same &= np.abs(ends.soft - earlier.soft) <= _SAME
            _replace(ends, same, earlier, same)
            left &= ~same
        rows = np.flatnonzero(left)
        if len(rows):
            minima = _around_corner(solver, narrow.take(rows), minima.take(rows))
            soft = ends.soft[rows]
            sharpened = self._complete(sets.take(rows), minima, np.full(len(rows), CLIP_WIDTH))
            _replace(ends, rows, sharpened, slice(None))
            ends.soft[rows] = soft
        return ends

    def _narrow(self, sets: DataSets, start: FloatArray, mu: float | None, clip: float) -> Lanes:
        """Make lanes of the shared parameters only."""
        shared = self._model.shared
        lanes = self._lanes(sets, start, mu)
        narrowed = {
            name: getattr(lanes, name)[:, shared]
            for name in ("start", "fixed", "lower", "upper", "precision", "factor")
        }
        return Lanes(
            patch=lanes.patch,
            scoring=lanes.scoring,
            data=sets.data,
            aux=np.concatenate([sets.aux[:, shared], self._local_aux(sets)], axis=1),
            clip=np.full(len(sets), clip),
            **narrowed,
        )

    def _complete(self, sets: DataSets, minima: Minima, clip: FloatArray) -> Ends:
        """Add to ends of the profile likelihood all that it does not know of.

        Parameters
        ----------
        sets, minima
            Data, and ends of the shared parameters.
        clip
            Width of the corner at empty bins, ``(L,)``.
        """
        model, local = self._model, self._model.local
        local_aux = self._local_aux(sets)
        best, rates = self._profile.settle(minima.point, sets.data, local_aux, clip)
        point = np.repeat(self.batch.init[:1], len(sets), axis=0)
        point[:, model.shared] = minima.point
        point[:, local.column[local.exists]] = best[:, local.exists]
        rest = _settle_rest(self.batch, model.rest, point, sets.aux)
        clipped = np.any((sets.data <= EMPTY) & (rates < 0.0), axis=1)
        return _ends(minima, point, minima.value + rest, clipped)

    def _local_aux(self, sets: DataSets) -> FloatArray:
        local = self._model.local
        return np.where(local.exists, sets.aux[:, local.column], 1.0)

    def _fit_all(self, sets: DataSets, start: FloatArray, mu: float | None) -> Ends:
        lanes, empty = self._lanes(sets, start, mu), sets.data <= EMPTY
        minima = self._solver.minimise(lanes, _TOLERANCE, predict=True)
        rates = self.rates(minima.point)
        corner = np.any(empty & (np.abs(rates) < CORNER), axis=1)
        rows = np.flatnonzero(corner & ~minima.converged & np.isfinite(minima.value))
        if len(rows):
            ends = _around_corner(self._solver, lanes.take(rows), minima.take(rows))
            minima.put(rows, ends)
            rates[rows] = self.rates(ends.point)
        clipped = np.any(empty & (rates < 0.0), axis=1)
        return _ends(minima, minima.point, minima.value, clipped)

    def rates(self, point: FloatArray) -> FloatArray:
        """Compute expected counts at parameters ``(L, K)``; shape ``(L, B)``."""
        arrays, compiled = self.engine.arrays, self.engine.compiled(self.batch.layout)
        rates = np.zeros((len(point), self.batch.data.shape[1]))
        patch_samples = arrays.put(own_arrays(self.batch))
        for first in range(0, len(point), arrays.lanes):
            rows = np.arange(first, min(first + arrays.lanes, len(point)))
            # Compiled code has one size.
            piece = rows if arrays.flexible else np.resize(rows, arrays.lanes)
            lane = {"own": own_of(patch_samples, np.zeros(len(piece), dtype=int))}
            values = arrays.get(compiled.expected(compiled.shared, lane, arrays.put(point[piece])))
            rates[rows] = values[: len(rows)]
        return rates

    def _lanes(self, sets: DataSets, start: FloatArray, mu: float | None) -> Lanes:
        batch, count = self.batch, len(sets)

        def same(name: str) -> NDArray[np.float64]:
            values = getattr(batch, name)
            return np.array(np.broadcast_to(values[0], (count, values.shape[1])))

        fixed = same("fixed").astype(bool)
        point = np.where(fixed, batch.init[0], start)
        if mu is not None:
            fixed[:, self.poi], point[:, self.poi] = True, mu
        return Lanes(
            patch=np.zeros(count, dtype=int),
            scoring=np.ones(count, dtype=bool),
            start=point,
            fixed=fixed,
            lower=same("lower"),
            upper=same("upper"),
            data=sets.data,
            aux=sets.aux,
            precision=same("precision"),
            factor=same("factor"),
            clip=np.full(count, CLIP_WIDTH),
        )

    # ------------------------------------------------------------------ several starts

    def _starts(self, sets: DataSets, generated: FloatArray) -> list[FloatArray]:
        """List the starts of every fit, in the order in which they are tried.

        What has generated the data; a displaced one; half-way to the auxiliary data, which pull the
        parameters that the main data say little about; the measurement's own; and more displaced
        ones.
        """
        batch = self.batch
        width = len(generated)
        gauss, poisson = batch.precision[0] > 0, batch.factor[0] > 0
        pulled = np.where(gauss, sets.aux, generated)
        pulled = np.where(poisson, sets.aux / np.where(poisson, batch.factor[0], 1.0), pulled)
        half_way = np.clip(0.5 * (generated + pulled), batch.lower[0], batch.upper[0])
        patterns = np.random.default_rng(1).standard_normal((_DISPLACED, width))
        displaced = batch.init[0] + self._widths * patterns
        same = [generated, displaced[0], batch.init[0], *displaced[1:]]
        first, second, *further = (np.broadcast_to(point, (len(sets), width)) for point in same)
        return [first, second, half_way, *further]

    # ------------------------------------------------------------------ other valleys

    def _leap(
        self,
        sets: DataSets,
        best: Ends,
        generated: FloatArray,
        mu: float | None,
        shifts: Shifts | None = None,
    ) -> None:
        """Look from minima at points that may lie in a lower valley, and fit from promising ones.

        Parameters get the other sign, and products of parameters fill or empty bins
        (:mod:`palletfit.engine.reach`). Where :attr:`descents` are asked for, further points
        descend once. The lowest points of each data set take a few steps.
        """
        if not self.profiled or self.convex:
            return
        rows = np.flatnonzero(best.converged)
        for number in range(_ROUNDS):
            if not len(rows):
                return
            around = generated if self.descents and number == 0 else None
            points = self._valleys(sets, best, rows, around, mu)
            before = best.value.copy()
            self._pursue(sets, best, *points, mu, shifts)
            rows = np.flatnonzero(best.value < before - _SAME)

    def _pursue(
        self,
        sets: DataSets,
        best: Ends,
        owner: NDArray[np.int64],
        points: FloatArray,
        lowest: FloatArray,
        mu: float | None,
        shifts: Shifts | None = None,
    ) -> None:
        """Take a few steps from points, fit from the most promising ones, and keep what is lower.

        Parameters
        ----------
        sets, best
            Data, and the lowest minima so far, which are replaced.
        owner, points, lowest
            Points, from :meth:`_valleys`.
        mu
            Where the parameter of interest is fixed.
        shifts
            Where minima that fits end at are noted.
        """
        shared, solver = self._model.shared, ProfileSolver(self._profile)
        for steps, highest, count in zip(_STEPS, _HIGHEST, (_LEFT, _CONTINUED), strict=True):
            lanes = self._narrow(sets.take(owner), points, mu, SOFT)
            ends = solver.minimise(lanes, _TOLERANCE, predict=True, limit=steps)
            points[:, shared] = ends.point
            with np.errstate(invalid="ignore"):
                rise = ends.value - lowest
                moved = np.abs(ends.point - best.point[owner][:, shared]) / self._widths[shared]
            away = (moved.max(axis=1, initial=0.0) > _RETURNED) & ~ends.converged
            promising = np.flatnonzero((rise < -_SAME) | (rise < highest) & away)
            order = promising[np.lexsort((rise[promising], owner[promising]))]
            rank = _rank(owner[order])
            order, rank = order[rank < count], rank[rank < count]
            owner, points, lowest = owner[order], points[order], lowest[order]
        seen = np.zeros(len(sets), dtype=int)
        for order_of_fit in range(_CONTINUED):
            chosen = rank == order_of_fit
            if not chosen.any():
                break
            at = owner[chosen]
            fits = self.fit(sets.take(at), points[chosen], mu, earlier=best.take(at))
            _note(shifts, best.take(at), fits)
            self._keep_lower(best, seen, at, fits)

    def _shifted(
        self,
        sets: DataSets,
        best: Ends,
        rows: NDArray[np.int64],
        kinds: FloatArray,
        mu: float | None,
    ) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
        """Descend from the lowest of shifted minima, and choose those that may be other valleys.

        Parameters
        ----------
        sets, best, rows, mu
            Data, minima so far, data sets that are looked at, and the fixed parameter of interest.
        kinds
            Shifts, ``(n, K)``.

        Returns
        -------
        tuple
            As from :meth:`_valleys`.
        """
        shared, lower, upper = self._model.shared, self.batch.lower[0], self.batch.upper[0]
        lowest = np.full(len(sets), np.inf)
        lowest[rows] = self._values(sets, rows, best.point[rows])
        owner = np.repeat(rows, len(kinds))
        point = np.clip(best.point[owner] + np.tile(kinds, (len(rows), 1)), lower, upper)
        if mu is not None:
            point[:, self.poi] = mu
        few = _lowest_few(owner, self._values(sets, owner, point), np.inf, _SHIFTED)
        owner, point = owner[few], point[few]
        lanes = self._narrow(sets.take(owner), point, mu, SOFT)
        point[:, shared], value = descend(self._profile, lanes, _SHIFTED_STEPS)
        moved = np.abs(point - best.point[owner])[:, shared] / self._widths[shared]
        value[~(moved.max(axis=1, initial=0.0) > _ELSEWHERE)] = np.inf
        few = _lowest_few(owner, value - lowest[owner], _SHIFTED_NEAR, _SHIFTED_PROBED)
        return owner[few], point[few], lowest[owner[few]]

    def _valleys(
        self,
        sets: DataSets,
        best: Ends,
        rows: NDArray[np.int64],
        generated: FloatArray | None,
        mu: float | None,
    ) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
        """Choose points that may lie in other valleys than minima.

        Parameters
        ----------
        sets, best, rows, mu
            Data, minima so far, data sets that are looked at, and the fixed parameter of interest.
        generated
            What has generated the data, if points around it descend.

        Returns
        -------
        tuple
            Data sets ``(n,)`` in order, points ``(n, K)``, and the NLL of the minima at the soft
            wall ``(n,)``.
        """
        shared = self._model.shared
        lowest = np.full(len(sets), np.inf)
        lowest[rows] = self._values(sets, rows, best.point[rows])
        owners, points = [], []
        kinds = [self._other_signs(best, rows), self._products(sets, best, rows, mu)]
        values = [self._values(sets, owner, point) for owner, point in kinds]
        if generated is not None:
            together = max(1, _ROOM // (self.descents * best.point.shape[1]))
            pieces = [
                self._descended(sets, best, rows[first : first + together], generated, mu)
                for first in range(0, len(rows), together)
            ]
            owner, point, value = map(np.concatenate, zip(*pieces, strict=True))
            kinds.append((owner, point))
            values.append(value)
        for (owner, point), value, count, near in zip(kinds, values, _PROBED, _NEAR, strict=False):
            rise = value - lowest[owner]
            if near == _NEAR[0]:
                # A parabola, which has the constraint's curvature at least, rises by more.
                distance = (point - best.point[owner])[:, shared] / self._widths[shared]
                near = np.minimum(near, 0.5 * np.sum(distance * distance, axis=1))
            order = _lowest_few(owner, rise, near, count)
            owners.append(owner[order])
            points.append(point[order])
        joined = np.concatenate(owners)
        order = np.argsort(joined, kind="stable")
        return joined[order], np.concatenate(points)[order], lowest[joined[order]]

    def _values(self, sets: DataSets, rows: NDArray[np.int64], point: FloatArray) -> FloatArray:
        """Compute the profile NLL of some data sets, each at a point, with the soft wall."""
        shared, count = self._model.shared, len(rows)
        chosen = sets.take(rows)
        state = {
            name: np.broadcast_to(getattr(self.batch, name)[:1, shared], (count, len(shared)))
            for name in ("precision", "factor")
        }
        state["data"] = chosen.data
        state["aux"] = np.concatenate([chosen.aux[:, shared], self._local_aux(chosen)], axis=1)
        state["clip"] = np.full(count, SOFT)
        return self._profile.values(state, point[:, shared])

    def _other_signs(
        self, best: Ends, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Change the sign of one parameter, of those that bend expected counts most."""
        values = best.point[rows][:, self._bent]
        position, number = np.nonzero(np.abs(values) >= _SIZEABLE)
        owner, column = rows[position], self._bent[number]
        point = best.point[owner]
        point[np.arange(len(owner)), column] *= -1.0
        return owner, np.clip(point, self.batch.lower[0], self.batch.upper[0])

    def _products(
        self, sets: DataSets, best: Ends, rows: NDArray[np.int64], mu: float | None
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Fill or empty bins by products of parameters."""
        point = best.point[rows]
        chosen = sets.take(rows)
        clip = np.full(len(rows), SOFT)
        _, rates = self._profile.settle(
            point[:, self._model.shared], chosen.data, self._local_aux(chosen), clip
        )
        strength = np.maximum(point[:, self.poi], 1.0) if mu is None else np.full(len(rows), mu)
        strength = np.minimum(strength, self.batch.upper[0, self.poi])
        first = np.zeros(len(rows), dtype=int)
        seeds = self._reach.seeds(rates, chosen.data, point, first, strength, _PRODUCTS)
        if mu is None:
            seeds.point[:, self.poi] = strength[seeds.position]
        return rows[seeds.position], seeds.point

    def _descended(
        self,
        sets: DataSets,
        best: Ends,
        rows: NDArray[np.int64],
        generated: FloatArray,
        mu: float | None,
    ) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
        """Descend from points elsewhere, and leave out what returns to the minimum.

        Every second time all parameters are displaced from what has generated the data; else one
        parameter is held away from the minimum until the others have followed.

        Returns
        -------
        tuple
            Data sets ``(n,)``, points ``(n, K)``, and their NLL with the soft wall, ``(n,)``.
        """
        lower, upper, shared = self.batch.lower[0], self.batch.upper[0], self._model.shared
        columns = self._bent[~self.batch.fixed[0, self._bent]]
        single = min(self.descents // 2, len(_DISTANCES) * len(columns))
        drawn = self.descents - single
        random = np.random.default_rng(2)
        sizes = random.uniform(*_DISPLACEMENT, (drawn, 1))
        moves = sizes * self._widths * random.standard_normal((drawn, len(generated)))
        displaced = np.tile(np.clip(generated + moves, lower, upper), (len(rows), 1))
        beside = np.repeat(best.point[rows], single, axis=0)
        distance, number = np.divmod(np.arange(single), max(len(columns), 1))
        column = np.tile(columns[number], len(rows)) if single else np.zeros(0, dtype=int)
        moved = beside[np.arange(len(beside)), column] + (
            np.tile(np.array(_DISTANCES)[distance], len(rows)) * self._widths[column]
        )
        beside[np.arange(len(beside)), column] = np.clip(moved, lower[column], upper[column])
        owner = np.concatenate([np.repeat(rows, drawn), np.repeat(rows, single)])
        point = np.concatenate([displaced, beside])
        if mu is not None:
            point[:, self.poi] = mu
        for _ in range(_BACK):
            nowhere = np.flatnonzero(~np.isfinite(self._values(sets, owner, point)))
            point[nowhere] = 0.5 * (point[nowhere] + generated)
            if mu is not None:
                point[:, self.poi] = mu
        lanes = self._narrow(sets.take(owner), point, mu, SOFT)
        follow = np.arange(len(displaced), len(owner))
        followers = lanes.take(follow)
        position = np.zeros(self.batch.lower.shape[1], dtype=int)
        position[shared] = np.arange(len(shared))
        followers.fixed[np.arange(len(follow)), position[column]] = True
        lanes.start[follow], _ = descend(self._profile, followers, _FOLLOWING)
        point[:, shared], value = descend(self._profile, lanes, _DESCENT)
        moved = np.abs(point - best.point[owner])[:, shared] / self._widths[shared]
        elsewhere = np.isfinite(value) & (moved.max(axis=1, initial=0.0) > _ELSEWHERE)
        return owner[elsewhere], point[elsewhere], value[elsewhere]

    @cached_property
    def _reach(self) -> Reach:
        return Reach(self.batch)

    @cached_property
    def _bent(self) -> NDArray[np.int64]:
        """Columns of the shared parameters that bend expected counts most."""
        score = self._reach.bent(with_own=True)[0]
        columns = np.argsort(-score, kind="stable")[:_MIRRORED]
        return np.asarray(columns[(score[columns] > 0) & np.isin(columns, self._model.shared)])

    @cached_property
    def _widths(self) -> FloatArray:
        """Prefit standard deviations, or a part of the range where there are none, ``(K,)``."""
        batch = self.batch
        constrained = batch.precision[0] + batch.factor[0]
        part = np.minimum((batch.upper[0] - batch.lower[0]) / 20, 0.5)
        prefit = 1.0 / np.sqrt(np.maximum(constrained, 1e-30))
        return np.asarray(np.where(constrained > 0, prefit, part))

    # ------------------------------------------------------------------ in turn

    def search(
        self,
        sets: DataSets,
        starts: list[FloatArray],
        mu: float | None,
        shifts: Shifts | None = None,
    ) -> tuple[Ends, NDArray[np.bool_]]:
        """Find the lowest minima, and the data sets whose first starts did not settle them.

        A minimum is settled when :data:`_SEEN` starts ended there and none below. Where the NLL is
        convex, one is enough. Pairs of minima are noted in `shifts`.
        """
        needed = 1 if self.convex else _SEEN
        best = self.fit(sets, starts[0], mu)
        seen = best.converged.astype(int)
        searched = np.zeros(len(sets), dtype=bool)
        for number, start in enumerate(starts[1:], 2):
            rows = np.flatnonzero(seen < needed)
            if not len(rows):
                break
            searched[rows] |= number > needed
            ends = self.fit(sets.take(rows), start[rows], mu, earlier=best.take(rows))
            _note(shifts, best.take(rows), ends)
            self._keep_lower(best, seen, rows, ends)
        rows = np.flatnonzero(~best.converged)
        if self.profiled and len(rows):
            ends = self.fit(sets.take(rows), best.point[rows], mu, patient=True)
            self._keep_lower(best, seen, rows, ends)
        return best, searched

    @staticmethod
    def _keep_lower(
        best: Ends, seen: NDArray[np.int64], rows: NDArray[np.int64], ends: Ends
    ) -> None:
        """Replace the best minima by lower ones; count how often the lowest was seen."""
        had_minimum, value = best.converged[rows], best.value[rows]
        with np.errstate(invalid="ignore"):
            same = had_minimum & ends.converged & (np.abs(ends.value - value) <= _SAME)
        comparable = ends.converged | ~had_minimum
        lower = comparable & ~same & (ends.converged & ~had_minimum | (ends.value < value))
        seen[rows] = np.where(lower, ends.converged, seen[rows] + same)
        _replace(best, rows[lower], ends, lower)


def _around_corner(solver: Solver, lanes: Lanes, minima: Minima) -> Minima:
    """Go on from ends of lanes while the corner at empty bins gets sharper and sharper.

    A minimum moves in proportion to the width, so two of them tell where the next one is. Without
    that a step to a sharper corner begins where it is flat.
    """
    iterations, last, before = minima.iterations, WALL_WIDTH, minima.point
    start = minima.point
    for width in _WIDTHS:
        minima = solver.minimise(
            lanes.at(start, clip=np.full(len(lanes), width)),
            _AT_CORNER if width == CLIP_WIDTH else _ROUGH * width,
            predict=True,
        )
        iterations = iterations + minima.iterations
        slope = (minima.point - before) / (width - last)
        last, before = width, minima.point
        start = minima.point + slope * (0.1 * width - width)
    return replace(minima, iterations=iterations)


def _ends(minima: Minima, point: FloatArray, value: FloatArray, clipped: NDArray[np.bool_]) -> Ends:
    return Ends(
        point=np.array(point),
        value=np.array(value),
        edm=minima.edm,
        converged=minima.converged & np.isfinite(value),
        outcome=minima.outcome,
        iterations=minima.iterations,
        clipped=clipped,
        soft=np.full(len(value), np.nan),
    )


def _note(shifts: Shifts | None, best: Ends, ends: Ends) -> None:
    """Note where fits of data sets ended at two minima."""
    if shifts is not None:
        with np.errstate(invalid="ignore"):
            other = best.converged & ends.converged & (np.abs(ends.value - best.value) > _SAME)
        shifts.add(best.point[other], ends.point[other])


def _lowest_few(
    owner: NDArray[np.int64], rise: FloatArray, near: FloatArray | float, count: int
) -> NDArray[np.int64]:
    """Choose the lowest few points of each data set, in order; what is equal counts once."""
    order = np.lexsort((rise, owner))
    order = order[rise[order] < np.broadcast_to(near, rise.shape)[order]]
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (np.diff(rise[order]) < _SAME) & (np.diff(owner[order]) == 0)
    order = order[~same]
    return np.asarray(order[_rank(owner[order]) < count])


def _rank(owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count up within equal entries, which stand in a row."""
    return np.asarray(np.arange(len(owners)) - np.searchsorted(owners, owners))


def _replace(ends: Ends, rows: Any, replacements: Ends, sources: Any) -> None:
    """Replace rows of ends."""
    for name in Ends.__dataclass_fields__:
        getattr(ends, name)[rows] = getattr(replacements, name)[sources]


def _settle_rest(
    batch: Lowered, columns: NDArray[np.bool_], point: FloatArray, aux: FloatArray
) -> FloatArray:
    """Bring parameters that no bin depends on to their best values, in `point`.

    Returns
    -------
    ndarray
        The constraint terms of these and of fixed parameters, ``(L,)``.
    """
    chosen = np.flatnonzero(columns)
    if not len(chosen):
        return np.zeros(len(point))
    precision, factor = batch.precision[0, chosen], batch.factor[0, chosen]
    poisson = factor > 0
    best = np.where(poisson, aux[:, chosen] / np.where(poisson, factor, 1.0), aux[:, chosen])
    best = np.clip(best, batch.lower[0, chosen], batch.upper[0, chosen])
    at = np.where(batch.fixed[0, chosen], batch.init[0, chosen], best)
    point[:, chosen] = at
    counts = np.where(poisson, aux[:, chosen], 0.0)
    terms = 0.5 * precision * (at - aux[:, chosen]) ** 2
    terms = terms + poisson_term(counts, np.where(poisson, at * factor, 0.0), np)
    return np.asarray(np.sum(terms, axis=1))
