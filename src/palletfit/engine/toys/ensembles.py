"""Fits of one model to many data sets.

Where the model allows it, its bin-local parameters are profiled out
(:mod:`palletfit.engine.toys.profiled`); the engine's own solver makes all other fits (interpolation
codes with kinks, and JAX).

Likelihoods with interpolated systematic uncertainties may have several minima, and the more so with
fluctuating auxiliary data. So every fit is made from three starts, and from further ones until the
lowest minimum was found three times; only where the NLL is convex, one start is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.interpcodes import KINKED
from palletfit.engine.likelihood import CLIP_WIDTH, own_arrays, own_of, poisson_term
from palletfit.engine.lowering import Lowered
from palletfit.engine.newton import OUTCOMES, PATIENT, Lanes, Minima, Solver
from palletfit.engine.toys.compact import Compact, compact
from palletfit.engine.toys.profiled import ProfiledModel, ProfileSolver

#: The edm at which a fit ends; where its last step leads is known to much better than this.
_TOLERANCE = 1e-6
#: Counts above this call for Poisson terms without cancellation.
_LARGE = 1e5
#: How many starts have to end at the lowest minimum. (With two, which begin near one another, one
#: of ten fits misses it on likelihoods that are as far from parabolic as the staus'.)
_SEEN = 3
#: Ends of fits that differ by less in NLL are one minimum.
_SAME = 1e-7
#: Starts that are displaced, for fits that the others do not settle.
_DISPLACED = 4
#: After how many evaluations a fit gives up that no start has settled.
_PATIENCE = 400
#: Rates may be so far below zero in a bin without events, see
#: :mod:`palletfit.engine.toys.profiled`.
_BELOW = -1e-6
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
    """

    point: FloatArray
    value: FloatArray
    edm: FloatArray
    converged: NDArray[np.bool_]
    outcome: NDArray[np.int64]
    iterations: NDArray[np.int64]

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
    """

    def __init__(self, engine: BatchedEngine, batch: Lowered) -> None:
        self.engine, self.batch, self.poi = engine, batch, batch.layout.poi
        kinked = KINKED & set(batch.layout.codes)
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
        starts = self._starts(sets, start)
        fixed, searched = self.search(sets, starts, mu)
        free, more = self.search(sets, [fixed.point, *starts], None)
        if not self.convex:
            self._exchange(sets, fixed, free, mu)
        return Pairs(fixed, free, searched | more)

    def _exchange(self, sets: DataSets, fixed: Ends, free: Ends, mu: float) -> None:
        """Start each fit where the other one ended: near a minimum of one may be one of the other.

        Where that brings a lower one of the fixed fit, the free fit follows.
        """
        seen = np.zeros(len(sets), dtype=int)
        rows = np.arange(len(sets))
        before = fixed.value.copy()
        self._keep_lower(fixed, seen, rows, self.fit(sets, free.point, mu))
        rows = np.flatnonzero(fixed.value < before - _SAME)
        if len(rows):
            ends = self.fit(sets.take(rows), fixed.point[rows], None)
            self._keep_lower(free, seen, rows, ends)

    def fit(
        self, sets: DataSets, start: FloatArray, mu: float | None, *, patient: bool = False
    ) -> Ends:
        """Fit data sets, each from its own start ``(L, K)``."""
        if self.profiled:
            return self._fit_profiled(sets, start, mu, patient=patient)
        return self._fit_all(sets, start, mu)

    def _fit_profiled(
        self, sets: DataSets, start: FloatArray, mu: float | None, *, patient: bool
    ) -> Ends:
        model, local = self._model, self._model.local
        shared = model.shared
        lanes = self._lanes(sets, start, mu)
        local_aux = np.where(local.exists, sets.aux[:, local.column], 1.0)
        narrowed = {
            name: getattr(lanes, name)[:, shared]
            for name in ("start", "fixed", "lower", "upper", "precision", "factor")
        }
        aux = np.concatenate([sets.aux[:, shared], local_aux], axis=1)
        solver = (
            ProfileSolver(self._profile, iterations=_PATIENCE, damping=PATIENT)
            if patient
            else ProfileSolver(self._profile)
        )
        minima = solver.minimise(
            Lanes(
                patch=lanes.patch,
                scoring=lanes.scoring,
                data=sets.data,
                aux=aux,
                clip=lanes.clip,
                **narrowed,
            ),
            _TOLERANCE,
            predict=True,
        )
        point = np.array(np.broadcast_to(self.batch.init[0], start.shape))
        point[:, shared] = minima.point
        best = self._profile.locals_at(minima.point, sets.data, local_aux)
        point[:, local.column[local.exists]] = best[:, local.exists]
        rest = _settle_rest(self.batch, model.rest, point, sets.aux)
        return _ends(minima, point, minima.value + rest)

    def _fit_all(self, sets: DataSets, start: FloatArray, mu: float | None) -> Ends:
        minima = self._solver.minimise(self._lanes(sets, start, mu), _TOLERANCE, predict=True)
        ends = _ends(minima, minima.point, minima.value)
        ends.converged &= ~np.any(self.rates(ends.point) < _BELOW, axis=1)
        return ends

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
        constrained = batch.precision[0] + batch.factor[0]
        size = np.where(
            constrained > 0,
            1.0 / np.sqrt(np.maximum(constrained, 1e-30)),
            np.minimum((batch.upper[0] - batch.lower[0]) / 20, 0.5),
        )
        displaced = batch.init[0] + size * patterns
        same = [generated, displaced[0], batch.init[0], *displaced[1:]]
        first, second, *further = (np.broadcast_to(point, (len(sets), width)) for point in same)
        return [first, second, half_way, *further]

    def search(
        self, sets: DataSets, starts: list[FloatArray], mu: float | None
    ) -> tuple[Ends, NDArray[np.bool_]]:
        """Find the lowest minima, and the data sets whose first starts did not settle them.

        A minimum is settled when :data:`_SEEN` starts ended there and none below. Where the NLL is
        convex, one is enough.
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
            ends = self.fit(sets.take(rows), start[rows], mu)
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
        for name in Ends.__dataclass_fields__:
            getattr(best, name)[rows[lower]] = getattr(ends, name)[lower]


def _ends(minima: Minima, point: FloatArray, value: FloatArray) -> Ends:
    return Ends(
        point=np.array(point),
        value=np.array(value),
        edm=minima.edm,
        converged=minima.converged & np.isfinite(value),
        outcome=minima.outcome,
        iterations=minima.iterations,
    )


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
