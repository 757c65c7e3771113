"""The likelihood of one model with its bin-local parameters profiled out, for many data sets.

A parameter that stands in one bin only (shapesys, staterror) makes the Hessian arrow-shaped: given
all shared parameters, the bins do not know of one another. With ``lambda = a + g gamma``, where
gamma multiplies some samples (their sum is g) or all (then ``a = 0``), the minimum of::

    lambda - n log lambda + (gamma - x)^2 p / 2      Gaussian constraint at x, or
    lambda - n log lambda + tau gamma - m log gamma  Poisson constraint of m counts

is the root of a quadratic equation: with the first in lambda,
``p lambda^2 + (g^2 - p (a + g x)) lambda - n g^2 = 0``, whose roots differ in sign; with the second
in gamma, ``g (g + tau) gamma^2 + ((g + tau) a - (n + m) g) gamma - m a = 0``. (R. Barlow and C.
Beeston, Comput. Phys. Commun. 77 (1993) 219, and J. S. Conway, arXiv:1103.0354, for the two with
``a = 0``.) Each term is convex in gamma, so bounds only clip the root.

What remains is a function of the few shared parameters. Its gradient is the partial one, and its
Hessian is the Schur complement ``H_ss - H_sg H_gg^-1 H_gs`` of the whole, where local parameters at
a bound do not count. So Newton's method on it needs no systems of the size of the whole, and its
minimum is that of the whole.

A bin without events contributes its rate to the NLL, and a rate below zero counts as zero there
(:func:`palletfit.engine.likelihood.clipped`). That term is convex in gamma, too: the root is the
one above zero, that of the parabola which rounds the corner, or where the constraint alone pulls
gamma.
Such a fit begins with a soft wall, ``lambda + lambda^2 / 2 v^2`` below zero with ``v = 0.1``
events, which Newton's method takes in few steps wherever it begins. (Published data rarely need a
rule; of pseudo-experiments with a few events in a bin, some always do.)

All is written for NumPy: lanes (L) are data sets, in rows. Other letters are those of
:mod:`palletfit.engine.toys.compact`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.engine.arrays import Arrays, Instead
from palletfit.engine.interpcodes import Shift, scale, shift
from palletfit.engine.likelihood import EMPTY, SMALLEST, Derivatives, poisson_term
from palletfit.engine.newton import Damping, Solver
from palletfit.engine.toys.compact import Compact

#: With counts below this, ``lambda - n log lambda`` cancels less than 1e-10 of the NLL.
_PLAIN = 1e5
#: Stands for the width of a corner that is a soft wall instead, see :class:`_Corner`.
SOFT = 0.0
#: Second derivative of the soft wall: one over the square of 0.1 events.
_WALL = 1e2
#: Width of the corner that is as steep as the soft wall.
WALL_WIDTH = 0.5 / _WALL
#: Systems of up to so many unknowns are solved together.
_TOGETHER = 16
#: Numbers that the arrays of all lanes should hold at most, to stay in the caches.
_CACHED = 300_000
#: How many lanes advance together.
_LANES = (8, 256)


class ProfiledModel:
    """The profile likelihood of one model.

    Parameters
    ----------
    model
        Terms.
    precise
        Whether counts may be so large that Poisson terms have to be written without cancellation.
    """

    def __init__(self, model: Compact, *, precise: bool) -> None:
        self.model, self.precise = model, precise
        self.size = len(model.shared)
        bins, width = model.bins, len(model.nominal) // model.bins
        self.grid = width, bins
        self.masked = model.masked.reshape(self.grid)
        self.unmasked = 1.0 - self.masked
        real = model.real
        #: Cells in bin-by-class tables.
        self.table = (real % bins) * model.classes + model.kind[real]
        #: Whether there are cells of both kinds; a kind that is missing is left out.
        self.sides = [
            side for side in (self.unmasked, self.masked) if np.any(side.ravel()[real] > 0)
        ]
        self.odd, self.even = (np.ascontiguousarray(part.T) for part in (model.odd, model.even))
        # By bin: (B, n, hist)
        self.odd_bins, self.even_bins = (
            np.ascontiguousarray(part.reshape(width, bins, -1).transpose(1, 0, 2))
            for part in (model.odd, model.even)
        )
        self.sums = np.zeros((len(model.nominal), model.classes))
        self.sums[real, model.kind[real]] = 1.0
        self._number_classes()
        local = model.local
        self.all_local = bool(local.exists.all())
        self.gauss = local.exists & (local.factor <= 0)
        self.all_gauss = not bool(np.any(local.exists & (local.factor > 0)))
        self.all_poisson = not bool(self.gauss.any())

    def _number_classes(self) -> None:
        """Cells of each class, padded with a cell that is zero."""
        model = self.model
        members = [model.real[model.kind[model.real] == k] for k in range(model.classes)]
        size = max((len(cells) for cells in members), default=0)
        zero = len(model.nominal)
        self.members = np.array(
            [[*cells, *[zero] * (size - len(cells))] for cells in members], dtype=int
        ).reshape(model.classes, size)
        # (R, cells, hist)
        self.odd_classes, self.even_classes = (
            np.concatenate([part, np.zeros((1, model.hist))])[self.members]
            for part in (model.odd, model.even)
        )

    @property
    def lanes(self) -> int:
        """Number of data sets that are best treated together."""
        classes, multiply = self.model.classes, self.size - self.model.first
        numbers = (
            self.size * self.size
            + (self.size + multiply) * classes
            + 4 * self.size * self.model.bins
            + 8 * len(self.model.nominal)
        )
        return int(np.clip(_CACHED // numbers, *_LANES))

    # ------------------------------------------------------------------ rates

    def rates(self, point: FloatArray) -> _Rates:
        """Rates at shared parameters ``(L, m)``, before local parameters."""
        model = self.model
        count, alphas = len(point), model.first + model.norms
        at = point[:, : model.hist]
        moved = shift(model.codes[1], at, np.where(at < 0, -1.0, 1.0), np)
        additive: Any = model.nominal
        if model.hist:
            additive = model.nominal + (moved.odd @ self.odd + moved.even @ self.even)
        at = point[:, model.first : alphas]
        value, slope, curvature = scale(
            model.codes[0], at, np.where(at < 0, -1.0, 1.0), model.terms, np, eager=True
        )
        value = _nonzero(value)
        multiplies = model.factors > 0
        factors = np.where(multiplies, _nonzero(point[:, alphas:])[:, :, None], 1.0)
        factor = np.prod(value, axis=1) * np.prod(factors, axis=1)
        slopes = np.concatenate([slope / value, multiplies / factors], axis=1)
        cells = factor[:, model.kind]
        base = additive * cells
        grid = base.reshape(count, *self.grid)
        return _Rates(
            moved=moved,
            additive=np.broadcast_to(additive, base.shape),
            slopes=np.swapaxes(slopes, 1, 2),
            curvature=curvature / value,
            factor=cells,
            base=base,
            constant=np.sum(grid * self.unmasked, axis=1),
            scaled=np.sum(grid * self.masked, axis=1),
        )

    # ------------------------------------------------------------------ local parameters

    def best_locals(self, rates: _Rates, data: FloatArray, aux: FloatArray, corner: _Corner) -> Any:
        """Compute the best local parameters of all bins, ``(L, B)``; one where there is none."""
        local = self.model.local
        a, g = rates.constant, rates.scaled
        if self.all_poisson:
            best = self._poisson(a, g, data, aux, corner)
        elif self.all_gauss:
            best = self._gauss(a, g, data, aux, corner)
        else:
            best = np.where(
                self.gauss,
                self._gauss(a, g, data, aux, corner),
                self._poisson(a, g, data, aux, corner),
            )
        best = np.clip(best, local.lower, local.upper)
        return best if self.all_local else np.where(local.exists, best, 1.0)

    def settle(
        self, point: FloatArray, data: FloatArray, aux: FloatArray, clip: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Compute the best local parameters at shared ones, and the rates with them.

        Parameters
        ----------
        point, data
            Shared parameters, ``(L, m)``, and main data, ``(L, B)``.
        aux
            Auxiliary data of the local parameters, ``(L, B)``.
        clip
            Width of the corner at empty bins, ``(L,)``.

        Returns
        -------
        tuple
            Local parameters and rates, ``(L, B)`` both.
        """
        gammas, totals = np.ones_like(data), np.zeros_like(data)
        with np.errstate(all="ignore"):
            # Pieces fit into the caches.
            for first in range(0, len(point), self.lanes):
                piece = slice(first, first + self.lanes)
                rates, corner = self.rates(point[piece]), _Corner.of(clip[piece])
                gammas[piece] = self.best_locals(rates, data[piece], aux[piece], corner)
                totals[piece] = rates.constant + rates.scaled * gammas[piece]
        return gammas, totals

    def _gauss(self, a: Any, g: Any, data: Any, aux: Any, corner: _Corner) -> Any:
        precision = self.model.local.precision
        square = g * g
        expected = a + g * aux
        half = square - precision * expected
        root = np.sqrt(half * half + 4.0 * precision * data * square)
        rate = np.where(
            half >= 0, 2.0 * data * square / (half + root), (root - half) / (2.0 * precision)
        )
        # Both are right; the one or the other loses digits.
        steep = square > precision * rate
        by_rate = (rate - a) / g
        by_pull = aux - g * (1.0 - data / rate) / precision
        gamma = np.where(steep, by_rate, by_pull)
        gamma = np.where(g == 0, aux, gamma)
        empty = data <= EMPTY
        if not empty.any():
            return gamma
        free, steep = aux - g / precision, corner.steep
        rounded = (precision * aux - g * (1.0 + steep * a)) / (precision + steep * square)
        rounded = np.where(expected <= corner.flat, aux, rounded)
        free = np.where(a + g * free < 0, rounded, free)
        return np.where(empty & (g != 0), free, gamma)

    def _poisson(self, a: Any, g: Any, data: Any, aux: Any, corner: _Corner) -> Any:
        factor = self.model.local.factor
        total = g + factor
        half = total * a - (data + aux) * g
        gamma = _root(g * total, half, aux * a)
        empty = data <= EMPTY
        if not empty.any():
            return gamma
        free, steep = aux / total, corner.steep
        rounded = _root(steep * g * g, total + steep * g * a, aux)
        measured = aux / factor
        rounded = np.where(a + g * measured <= corner.flat, measured, rounded)
        free = np.where((total <= 0) | (a + g * free < 0), rounded, free)
        return np.where(empty, free, gamma)

    # ------------------------------------------------------------------ the likelihood

    def evaluate(self, state: Mapping[str, Any], point: FloatArray) -> Derivatives:
        """Compute the profile NLL without constants, and its derivatives by the shared parameters.

        Parameters
        ----------
        state
            Data sets: ``data`` ``(L, B)``; ``aux``, ``precision`` and ``factor`` of the shared
            parameters, ``(L, m)``, the first followed by the auxiliary data of the local
            parameters, ``(L, m + B)``; and ``clip`` ``(L,)``, the width of the corner at empty
            bins, :data:`SOFT` for the soft wall.
        point
            Shared parameters, ``(L, m)``.
        """
        at = self._at(state, point)
        rates, gamma, rate, weight, curved = at.rates, at.gamma, at.rate, at.weight, at.curved
        soft = at.soft
        jacobian, by_local = self._jacobians(rates, gamma)
        mixed = (curved * rates.scaled)[:, :, None] * jacobian + weight[:, :, None] * by_local
        hessian = np.swapaxes(jacobian * curved[:, :, None], 1, 2) @ jacobian
        hessian = hessian - np.swapaxes(mixed * soft[:, :, None], 1, 2) @ mixed
        self._add_curvature(hessian, rates, weight, gamma)
        gradient = (weight[:, None, :] @ jacobian)[:, 0]
        inverse = np.where(rate > SMALLEST, 1.0 / np.maximum(rate, SMALLEST), 0.0)
        fisher = (inverse[:, None, :] @ (jacobian * jacobian))[:, 0]
        term, pull, prior = at.constraints
        np.einsum("...ii->...i", hessian)[...] += prior
        return Derivatives(
            value=at.value + term,
            gradient=gradient + pull,
            hessian=hessian,
            fisher=fisher + prior,
            rates=rate,
            jacobian=jacobian,
            inverse=inverse,
            prior=prior,
        )

    def _at(self, state: Mapping[str, Any], point: FloatArray) -> _At:
        """Compute rates, terms and their derivatives by the rates at shared parameters."""
        data = state["data"]
        aux, local_aux = np.split(state["aux"], [self.size], axis=1)
        local = self.model.local
        rates = self.rates(point)
        corner = _Corner.of(state["clip"])
        gamma = self.best_locals(rates, data, local_aux, corner)
        rate = rates.constant + rates.scaled * gamma
        value = np.sum(self._terms(data, rate, corner), axis=1)
        value = value + np.sum(self._local_constraints(gamma, local_aux, corner), axis=1)
        observed = data > EMPTY
        ratio = np.where(observed, data / np.where(observed, rate, 1.0), 0.0)
        weight = 1.0 - ratio
        curved = ratio / np.where(observed, rate, 1.0)
        below = ~observed & (rate < 0)
        if below.any():
            near = rate > corner.flat
            weight = np.where(below, np.where(near, 1.0 + corner.steep * rate, 0.0), weight)
            curved = np.where(below, np.where(near, corner.steep, 0.0), curved)
        inner = local.exists & (gamma > local.lower) & (gamma < local.upper)
        stiff = curved * rates.scaled * rates.scaled + local.precision
        stiff = stiff + np.where(local.factor > 0, local_aux / (gamma * gamma), 0.0)
        soft = np.where(inner & (stiff > 0), 1.0 / np.where(stiff > 0, stiff, 1.0), 0.0)
        constraints = _constraints(point, aux, state["precision"], state["factor"])
        return _At(rates, gamma, rate, value, weight, curved, soft, constraints)

    def linearize(self, state: Mapping[str, Any], point: FloatArray) -> Linear:
        """Compute the profile NLL, its gradient, and what a Gauss-Newton step needs.

        Parameters
        ----------
        state, point
            As :meth:`evaluate`.
        """
        at = self._at(state, point)
        jacobian, _ = self._jacobians(at.rates, at.gamma)
        scaled = at.curved * at.rates.scaled
        term, pull, prior = at.constraints
        return Linear(
            value=at.value + term,
            gradient=(at.weight[:, None, :] @ jacobian)[:, 0] + pull,
            jacobian=jacobian,
            curvature=np.maximum(at.curved - scaled * scaled * at.soft, 0.0),
            prior=np.broadcast_to(prior, point.shape),
        )

    def values(self, state: Mapping[str, Any], point: FloatArray) -> FloatArray:
        """Compute the profile NLL without constants, ``(L,)``, in pieces that fit into the caches.

        Parameters
        ----------
        state, point
            As :meth:`evaluate`.
        """
        values = np.zeros(len(point))
        with np.errstate(all="ignore"):
            for first in range(0, len(point), self.lanes):
                piece = slice(first, first + self.lanes)
                part = {name: numbers[piece] for name, numbers in state.items()}
                aux, local_aux = np.split(part["aux"], [self.size], axis=1)
                rates, corner = self.rates(point[piece]), _Corner.of(part["clip"])
                gamma = self.best_locals(rates, part["data"], local_aux, corner)
                rate = rates.constant + rates.scaled * gamma
                terms = np.sum(self._terms(part["data"], rate, corner), axis=1)
                terms = terms + np.sum(self._local_constraints(gamma, local_aux, corner), axis=1)
                pull = _constraints(point[piece], aux, part["precision"], part["factor"])[0]
                values[piece] = terms + pull
        return values

    def _terms(self, count: Any, rate: Any, corner: _Corner) -> Any:
        """Poisson terms, see :func:`palletfit.engine.likelihood.poisson_term`; with the corner."""
        if self.precise:
            terms = poisson_term(count, rate, np)
        else:
            terms = rate - count - count * np.log(rate / np.maximum(count, SMALLEST))
        special = ~(rate > 0) | ~(count > EMPTY)
        if not special.any():
            return terms
        empty = rate + 0.5 * corner.steep * np.square(np.minimum(rate, 0.0))
        empty = np.where(rate > corner.flat, empty, 0.5 * corner.flat)
        return np.where(special, np.where(count > EMPTY, np.inf, empty), terms)

    def _local_constraints(self, gamma: Any, aux: Any, corner: _Corner) -> Any:
        local = self.model.local
        terms: Any = np.zeros_like(gamma) if self.all_gauss and self.all_poisson else 0.0
        if not self.all_gauss:
            terms = np.where(self.gauss, 0.0, self._terms(aux, gamma * local.factor, corner))
        if not self.all_poisson:
            distance = gamma - aux
            terms = terms + 0.5 * local.precision * distance * distance
        return terms

    def _jacobians(self, rates: _Rates, gamma: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Compute derivatives of the rates by shared parameters, and of what gamma multiplies."""
        model, count = self.model, len(gamma)
        jacobians = []
        for side in self.sides:
            matrix = np.zeros((count, model.bins, self.size))
            scaled = (rates.base * side.ravel())[:, model.real]
            flat = np.zeros((count, model.bins * model.classes))
            flat[:, self.table] = scaled
            table = flat.reshape(count, model.bins, model.classes)
            matrix[:, :, model.first :] = table @ rates.slopes
            if model.hist:
                cells = (rates.factor.reshape(count, *self.grid) * side).transpose(2, 0, 1)
                moved = cells @ self.odd_bins
                moved += rates.moved.even_slope * (cells @ self.even_bins)
                matrix[:, :, : model.hist] += moved.transpose(1, 0, 2)
            jacobians.append(matrix)
        if self.sides[0] is self.masked:
            return gamma[:, :, None] * jacobians[0], jacobians[0]
        if len(jacobians) == 1:
            return jacobians[0], np.zeros((count, model.bins, self.size))
        return jacobians[0] + gamma[:, :, None] * jacobians[1], jacobians[1]

    def _add_curvature(self, hessian: Any, rates: _Rates, weight: Any, gamma: Any) -> None:
        """Add what the rates' own second derivatives make of the Hessian."""
        model, count = self.model, len(gamma)
        by_cell = weight[:, None] * (self.unmasked + self.masked * gamma[:, None])
        factor = rates.factor * by_cell.reshape(count, -1)
        of_class = (factor * rates.additive) @ self.sums
        weighted = rates.slopes * of_class[:, :, None]
        left = np.zeros((count, model.classes, self.size))
        left[:, :, model.first :] = 0.5 * weighted
        if model.hist:
            padded = np.concatenate([factor, np.zeros((count, 1))], axis=1)
            cells = np.swapaxes(padded[:, self.members], 0, 1)
            moved = cells @ self.odd_classes
            moved += rates.moved.even_slope * (cells @ self.even_classes)
            left[:, :, : model.hist] += np.swapaxes(moved, 0, 1)
        mixed = np.swapaxes(left, 1, 2) @ rates.slopes
        hessian[:, :, model.first :] += mixed
        hessian[:, model.first :] += np.swapaxes(mixed, 1, 2)
        diagonal = np.einsum("...ii->...i", hessian)
        diagonal[:, model.first :] -= np.sum(weighted * rates.slopes, axis=1)
        norms = slice(model.first, model.first + model.norms)
        diagonal[:, norms] += (rates.curvature @ of_class[:, :, None])[:, :, 0]
        if model.hist:
            diagonal[:, : model.hist] += rates.moved.even_curvature * (factor @ model.even)


class Linear(NamedTuple):
    """The profile NLL of lanes at a point, with rates that are linear around it.

    Attributes
    ----------
    value, gradient
        ``(L,)`` and ``(L, m)``.
    jacobian, curvature
        Derivatives of the rates by the shared parameters, ``(L, B, m)``, and second derivatives of
        the bins' terms by the rates, local parameters following, ``(L, B)``; none is negative.
    prior
        Second derivatives of the constraint terms, ``(L, m)``.
    """

    value: FloatArray
    gradient: FloatArray
    jacobian: FloatArray
    curvature: FloatArray
    prior: FloatArray


class _At(NamedTuple):
    """The likelihood at a point, by bin.

    Attributes
    ----------
    rates
        Before local parameters.
    gamma, rate
        Best local parameters, and rates with them, ``(L, B)``.
    value
        NLL without the constraint terms of shared parameters, ``(L,)``.
    weight, curved
        First and second derivatives of the Poisson terms by the rates, ``(L, B)``.
    soft
        How far local parameters follow: one over their second derivatives, zero at a bound,
        ``(L, B)``.
    constraints
        See :func:`_constraints`.
    """

    rates: _Rates
    gamma: Any
    rate: Any
    value: Any
    weight: Any
    curved: Any
    soft: Any
    constraints: tuple[Any, Any, Any]


class _Corner(NamedTuple):
    """The corner at rates of zero in empty bins: a parabola that is flat further down.

    The soft wall is the same parabola, but has no flat part, so that it rises again.

    Attributes
    ----------
    steep
        Second derivative of the parabola, ``(L, 1)``.
    flat
        Rate at and below which the term is flat, ``(L, 1)``.
    """

    steep: FloatArray
    flat: FloatArray

    @classmethod
    def of(cls, width: FloatArray) -> _Corner:
        """Give corners of widths ``(L,)``, those of :data:`SOFT` as soft walls."""
        width = width[:, None]
        soft = width <= SOFT
        steep = np.where(soft, _WALL, 0.5 / np.where(soft, 1.0, width))
        return cls(steep, np.where(soft, -np.inf, -2.0 * width))


@dataclass(frozen=True)
class _Rates:
    """Rates of lanes at a point.

    Attributes
    ----------
    moved
        Shifts of histosys parameters.
    additive, factor, base
        Of each cell, ``(L, C)``: yield with shifts, product of the factors, product of both.
    slopes, curvature
        Logarithmic derivatives of the classes, ``(L, R, multiplying)``, and second ones by the
        factor, ``(L, normsys, R)``.
    constant, scaled
        Sums over the cells of a bin that the local parameter does not multiply, and those that
        it does, ``(L, B)``.
    """

    moved: Shift
    additive: FloatArray
    factor: FloatArray
    base: FloatArray
    slopes: FloatArray
    curvature: FloatArray
    constant: FloatArray
    scaled: FloatArray


def _root(square: Any, linear: Any, constant: Any) -> Any:
    """Find the root of ``square x^2 + linear x = constant`` without another one nearer on its side.

    Of the two ways to write it the one that does not cancel.
    """
    root = np.sqrt(np.maximum(linear * linear + 4.0 * square * constant, 0.0))
    return np.where(linear > 0, 2.0 * constant / (linear + root), (root - linear) / (2.0 * square))


def _nonzero(values: Any) -> Any:
    return np.where(np.abs(values) < SMALLEST, SMALLEST, values)


def _constraints(point: Any, aux: Any, precision: Any, factor: Any) -> tuple[Any, Any, Any]:
    """Constraint terms of shared parameters, ``(L,)``, with both derivatives, ``(L, m)``."""
    distance = point - aux
    pull = precision * distance
    value = np.sum(0.5 * pull * distance, axis=1)
    if not np.any(factor > 0):
        return value, pull, precision
    poisson = factor > 0
    safe = np.where(poisson, point, 1.0)
    counts = np.where(poisson, aux, 0.0)
    terms = np.where(poisson, poisson_term(counts, np.where(poisson, point * factor, 1.0), np), 0.0)
    return (
        value + np.sum(terms, axis=1),
        pull + np.where(poisson, factor - counts / safe, 0.0),
        precision + counts / (safe * safe),
    )


class _Together(Arrays):
    """NumPy, with systems of few unknowns solved together."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes

    def solve(
        self,
        matrix: Any,
        metric: Any,
        right: Any,
        damping: Any,
        free: Any,
        instead: Instead | None = None,
    ) -> tuple[Any, Any, Any, Any]:
        """See :meth:`Arrays.solve`."""
        size = right.shape[1]
        none = np.zeros(len(right), dtype=bool)
        if size == 1:
            diagonal = matrix[:, 0] + damping[:, None] * metric
            positive = diagonal > 0
            if np.all(positive | ~free):
                usable = positive & free
                solution = np.where(usable, right / np.where(usable, diagonal, 1.0), 0.0)
                return solution, np.array(damping, dtype=float), matrix, none
        elif size <= _TOGETHER:
            both_free = free[:, :, None] & free[:, None, :]
            damped = np.where(both_free, matrix, 0.0)
            diagonal = np.einsum("...ii->...i", damped)
            diagonal[...] = np.where(free, diagonal + damping[:, None] * metric, 1.0)
            try:
                np.linalg.cholesky(damped)
            except np.linalg.LinAlgError:
                pass
            else:
                solution = np.linalg.solve(damped, np.where(free, right, 0.0)[:, :, None])
                return solution[:, :, 0], np.array(damping, dtype=float), matrix, none
        return super().solve(matrix, metric, right, damping, free, instead)


class ProfileSolver(Solver):
    """Minimizes the profile likelihood of many data sets.

    The lanes' `aux` holds that of the shared parameters and then that of the local ones, see
    :meth:`ProfiledModel.evaluate`; everything else that has a column a parameter is of the shared
    ones.

    Parameters
    ----------
    profile
        What is minimised.
    iterations
        After how many evaluations a lane gives up.
    damping
        How the damping follows the success of steps.
    """

    def __init__(
        self, profile: ProfiledModel, *, iterations: int = 60, damping: Damping = Solver.damping
    ) -> None:
        self.profile, self.shared, self.damping = profile, {}, damping
        arrays = _Together(profile.lanes)
        self._set_up(arrays, np.zeros(profile.size, dtype=bool), iterations, profile.lanes)

    def derivatives(
        self,
        shared: Any,  # noqa: ARG002
        patch_samples: Any,  # noqa: ARG002
        state: Mapping[str, Any],
        point: Any,
        side: Any,  # noqa: ARG002
    ) -> Derivatives:
        """Evaluate the profile likelihood of lanes."""
        return self.profile.evaluate(state, point)
