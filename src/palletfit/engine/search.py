"""The search for lower minima than those that the first starts end at.

A minimum is left for points that may lie in the valley of another one:

- where a parameter changes its sign, or goes one to three standard deviations away, the others
  following along the covariance, if the NLL rises much less there than a parabola would;
- where a free parameter goes to its bounds or back to its suggested value;
- where the rate of a bin without events becomes zero;
- where a sample of few events fills or empties a bin by a product of parameters
  (:meth:`palletfit.engine.reach.Reach.seeds`);
- in likelihoods of few parameters, also where some parameters are drawn at random.

Likelihoods that are cheap to evaluate are also fitted from points where all parameters are drawn: a
few steps are not enough for minima that need many parameters elsewhere.

All points of all patches are evaluated together, and the lowest ones of each patch take a few
Newton steps; products take twice as many, and more where they are still on their way: other
parameters have to make room first. Those that neither return to where they came from nor stay high
become fits. The search goes on from a lower minimum as long as it falls.

What is tried depends on the patch and its likelihood only, never on other patches of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from palletfit.core.arrays import FloatArray
from palletfit.engine.evaluation import inverse_free
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.fitter import DISPLACED, Fitter
from palletfit.engine.likelihood import EMPTY
from palletfit.engine.newton import Minima
from palletfit.engine.reach import FACTOR, Reach

#: How many starts have to end at the lowest minimum, or further ones are tried.
_SEEN = 2
#: Further displaced starts, where they are needed.
_FURTHER = 8
#: How often the search goes on from a lower minimum.
_ROUNDS = 8
#: Points where the NLL is higher by more than this are not looked at.
_NEAR = 5.0
#: The same for free parameters at their bounds, whose way is longer; and how many of these at most.
_HIGH, _LOOSE = 50.0, 2
#: How many points of each kind take steps, of each patch.
_PROBED = 6
#: How many products of parameters take steps, of each patch.
_SEEDS = 3
#: So many Newton steps show whether a point leads anywhere; the second number where they are cheap.
_STEPS, _MORE_STEPS = 4, 8
#: After these steps the NLL may be higher by this.
_PROMISING = 1.0
#: A product that is still high after its steps begins again with so many times as many. At first
#: all of them may be refused, and become shorter, where the rates bend most.
_LONGER = 3
#: Where no parameter is further from the minimum than this many prefit standard deviations, a
#: point has returned to it.
_RETURNED = 0.1
#: The same for a point whose next step promises to bring it back.
_RETURNING = 1.0
#: How many parameters may be mirrored, if they have at least this many standard deviations.
_MIRRORED, _SIZEABLE = 24, 0.3
#: Where the slope on the other side of a kink is looked at, at most.
_BESIDE = 1e-4
#: Parameters that bend expected counts by more than this may have a second minimum far away, see
#: :meth:`palletfit.engine.reach.Reach.bent`; so many at most are moved to these values.
_BENT, _LEAPS, _TARGETS = 0.1, 12, (-2.5, -1.0, 1.0, 2.5)
#: Parameters that bend expected counts by less have one minimum; the other sign of those that are
#: nearer to zero than the second number is the same valley.
_BENDING, _OFF = 0.02, 0.1
#: A point at the other sign is not tried if it is higher than this. Of 30 that led lower in 1Lbb
#: none was higher than 0.02 after two steps; most others were.
_BEGIN_LOW, _FEW_STEPS, _STAY_LOW = 3.0, 3, 0.2
#: Where they go has to be this far away at least. The NLL has to rise by less than this part of
#: what a parabola would.
_FAR, _LOW = 0.3, 0.5
#: A bin without events is worth emptying if its rate is above this.
_FILLED = 0.5
#: Points of likelihoods of this size in all (see :attr:`palletfit.engine.layout.Layout.size`) are
#: drawn at random for each patch, so many at most.
_WORK, _DRAWN = 45_000, 96
#: One in so many is fitted to its end, from a point where all parameters are drawn.
_FITTED = 4
#: Fewer than this are not worth it.
_LEAST = 8
#: Where so many may be drawn, steps are taken from all points, not from the lowest ones only.
_MANY = 20
#: Parts of all parameters that are drawn, in turn; their width in standard deviations.
_SHARES, _WIDTH = (0.15, 0.3, 0.6), 1.5
#: Widths of whole fits, in turn, and how many in a row have their free parameters anywhere.
_WIDTHS, _IN_A_ROW = (2.0, 1.5), 2
#: How often a point without a likelihood is brought half-way to the minimum.
_HALVED = 4


class Search:
    """Looks for minima that lie lower than those of the first starts.

    Parameters
    ----------
    fitter
        Makes the fits of the batch.
    """

    def __init__(self, fitter: Fitter) -> None:
        self.fitter, self.likelihood = fitter, fitter.likelihood
        self.batch, self.rows, self.poi = fitter.batch, fitter.rows, fitter.poi
        self.reach = Reach(fitter.batch)

    def lower(
        self,
        name: str,
        fits: Fits,
        *relatives: Fits,
        several: NDArray[np.bool_] | None = None,
    ) -> None:
        """Look for lower minima of all rows, and settle how often the lowest one is reached.

        Parameters
        ----------
        name
            What kind of fits they are: each kind draws its own points, so that a patch, whose fits
            try one another's minima, has more of them.
        fits
            Fits.
        relatives
            Other fits of the same patches: where these have several minima, others may be near.
        several
            Further rows where that is so, ``(P,)``.
        """
        self._scatter(name, fits)
        self.explore(fits, self.rows)
        doubtful = ~fits.converged | (fits.agreed() < _SEEN) | fits.multimodal()
        for relative in relatives:
            doubtful |= relative.multimodal()
        if several is not None:
            doubtful |= several
        doubtful &= ~fits.stopped()
        rows = fits.leading(np.flatnonzero(doubtful))
        starts = self.fitter.displaced_starts(DISPLACED + 1, _FURTHER)
        points = np.stack([start[rows] for start in starts.values()], axis=1)
        before = fits.value[rows]
        owners, size = np.repeat(rows, len(starts)), points.shape[2]
        self.follow(fits, "displaced", owners, points.reshape(-1, size), double=True)
        self.explore(fits, rows[fits.value[rows] < before - SAME])

    def explore(self, fits: Fits, rows: NDArray[np.int64]) -> None:
        """Go from the lowest minima of some rows to points that may lead lower, while they fall."""
        rows = fits.leading(rows)
        for number in range(_ROUNDS):
            rows = rows[np.isfinite(fits.value[rows]) & ~fits.stopped()[rows]]
            if not len(rows):
                return
            kinds = [
                *self._mirrored(fits, rows),
                *self._leaps(fits, rows),
            ]
            if number == 0:
                kinds += self._drawn(fits, rows)
            products = self._joined(self.products(fits, rows))
            before = fits.value[rows]
            self.follow(fits, f"search {number + 1}", *self._joined(kinds))
            self.follow(fits, f"products {number + 1}", *products, double=True, far=True)
            rows = rows[fits.value[rows] < before - SAME]

    def mirror(self, fits: Fits, rows: NDArray[np.int64]) -> None:
        """Go to the other sign of parameters that bend expected counts, while ends fall.

        That is the part of the search that depends most on a signal's own uncertainties.
        """
        rows = fits.leading(rows)
        for number in range(_ROUNDS):
            rows = rows[fits.converged[rows]]
            if not len(rows):
                return
            before = fits.value[rows]
            owners, points = self._bent_mirrors(fits, rows)
            self.follow(fits, f"mirrored {number + 1}", owners, points, deep=True)
            rows = rows[fits.value[rows] < before - SAME]

    def mirrors(self, fits: Fits) -> NDArray[np.bool_]:
        """Find the alphas whose other sign :meth:`mirror` tries, ``(P, alphas)``."""
        scores = self._scores[self.fitter.with_own(fits)]
        return (scores > _BENDING) | self._kinked

    def _bent_mirrors(
        self, fits: Fits, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Choose points with the other sign of one parameter, beyond a hump of the likelihood."""
        mirrors = self.mirrors(fits)[rows]
        point, lowest = fits.point[rows], fits.value[rows, None]
        alphas = point[:, : mirrors.shape[1]]
        rise = self.likelihood.values_along(fits, point, rows, -alphas) - lowest
        between = self.likelihood.values_along(fits, point, rows, np.zeros_like(alphas)) - lowest
        # As in _mirrored.
        beyond = rise < np.where(self._kinked | (between < 0), 1.0, 2.0) * between
        beyond &= mirrors & (np.abs(alphas) > _OFF) & (rise < _BEGIN_LOW)
        positions, columns = np.nonzero(beyond)
        points = point[positions]
        points[np.arange(len(points)), columns] *= -1
        return self._lowest(rows[positions], points, rise[positions, columns])

    def exchange(self, fits: Fits, name: str, other: Fits) -> None:
        """Try the minima of another fit of the same patches."""
        rows = fits.leading(self.rows)
        rows = rows[np.isfinite(other.value[rows])]
        points = other.point[rows].copy()
        before = fits.value[rows]
        self.follow(fits, name, rows, points)
        self.explore(fits, rows[fits.value[rows] < before - SAME])

    def follow(
        self,
        fits: Fits,
        name: str,
        owners: NDArray[np.int64],
        points: FloatArray,
        *,
        double: bool = False,
        deep: bool = False,
        far: bool = False,
    ) -> None:
        """Take a few steps from points, and fit where these lead to something new.

        Parameters
        ----------
        fits, owners
            Fits, and the row of each point, in order.
        name
            What the starts are called.
        points
            ``(len(owners), K)``
        double
            Take twice as many steps.
        deep
            Take fewer steps, and drop what is not nearly as low as the lowest minimum then.
        far
            Take more steps from points that are still high, because they begin far above.
        """
        fits.looked[:] += np.bincount(owners, minlength=len(fits.looked))
        for cheap, steps in ((False, _STEPS), (True, _MORE_STEPS)):
            part = np.flatnonzero(self._cheap[owners] == cheap)
            if len(part):
                count = min(steps, _FEW_STEPS) if deep else steps * (1 + double)
                probes = self.fitter.probe(fits, owners[part], points[part], count)
                if far:
                    self._go_on(fits, owners[part], points[part], probes, _LONGER * count)
                self._follow(fits, name, owners[part], probes, deep=deep)

    def _go_on(
        self,
        fits: Fits,
        owners: NDArray[np.int64],
        points: FloatArray,
        probes: Minima,
        steps: int,
    ) -> None:
        """Take more steps from points whose probes are still high; these are replaced in place."""
        high = probes.value > fits.value[owners] + _PROMISING
        rows = np.flatnonzero(high & np.isfinite(probes.value) & ~probes.converged)
        if len(rows):
            probes.put(rows, self.fitter.probe(fits, owners[rows], points[rows], steps))

    def _follow(
        self,
        fits: Fits,
        name: str,
        owners: NDArray[np.int64],
        probes: Minima,
        *,
        deep: bool,
    ) -> None:
        """Fit where probes lead to something new, of patches that are all cheap, or not."""
        with np.errstate(invalid="ignore"):  # without a likelihood on either side
            rise = probes.value - fits.value[owners]
            distance = np.abs(probes.point - fits.point[owners]) / self.fitter.widths[owners]
            distance = distance.max(axis=1)
            # On the way back a step promises just what the NLL is higher.
            edm = np.where(np.isfinite(probes.edm), probes.edm, 0.0)
            ahead = (edm > 0) & (edm < _PROMISING) & (np.abs(rise - edm) < 0.5 * edm)
        returned = (distance <= _RETURNED) | (distance <= _RETURNING) & ahead
        promising = (rise < -SAME) | (rise < _PROMISING) & ~returned & ~probes.converged
        if deep:
            promising &= rise < _STAY_LOW
        higher = np.flatnonzero(probes.converged & ~returned & (rise > SAME) & (rise < _NEAR))
        if len(higher):
            fits.passed.append((owners[higher], probes.take(higher)))
        if promising.any():
            self.fitter.fit_each(fits, name, owners[promising], probes.point[promising])

    @cached_property
    def _size(self) -> NDArray[np.int64]:
        """Numbers in the Hessian and the Jacobian of each patch alone, ``(P,)``."""
        parameters = self.batch.present.sum(axis=1)
        return np.asarray(parameters * (parameters + self.batch.data.shape[1]))

    @cached_property
    def _budget(self) -> NDArray[np.int64]:
        """Number of points that are drawn of each patch: many where it is small, ``(P,)``."""
        return np.minimum(_WORK // self._size, _DRAWN)

    @cached_property
    def _affordable(self) -> NDArray[np.int64]:
        """Number of further points of each patch that are worth steps, ``(P,)``."""
        return np.where(self._budget >= _LEAST, self._budget, 0)

    @cached_property
    def _cheap(self) -> NDArray[np.bool_]:
        """Patches whose points are so cheap that steps tell more than values, ``(P,)``."""
        return self._affordable >= _MANY

    # ------------------------------------------------------------------ the other sign

    def _mirrored(
        self, fits: Fits, rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], FloatArray]]:
        """Choose points with the sign of one parameter changed, beyond a hump of the likelihood.

        A hump is where the NLL is lower at the mirrored value than half-way, at zero; it may be
        flat, or fall only when other parameters follow, so that half of what a parabola would rise
        counts as well. Looked at are parameters with a sizeable value, and points that are not
        hopelessly high. A kink may be a hump however near to it the minimum is; there the slope
        tells.
        """
        kinked = self.likelihood.compiled.solvers[True].kinked[: self.batch.layout.alphas]
        alphas = np.where(self.batch.fixed, 0.0, fits.point)[rows, : self.batch.layout.alphas]
        alphas = np.where(fits.converged[rows, None], np.abs(alphas), 0.0)
        if not alphas.shape[1]:
            return
        # Of each patch the largest ones only.
        least = np.sort(alphas, axis=1)[:, -_MIRRORED:][:, :1]
        chosen = (alphas >= np.maximum(least, _SIZEABLE)) | kinked & (alphas > 0)
        positions, columns = np.nonzero(chosen)
        owners = rows[positions]
        mirrored = fits.point[owners]
        value = mirrored[np.arange(len(owners)), columns]
        beside = np.where(kinked[columns], np.minimum(np.abs(value), _BESIDE), np.abs(value))
        mirrored[np.arange(len(owners)), columns] = -np.sign(value) * beside
        half_way = mirrored.copy()
        half_way[np.arange(len(owners)), columns] = 0.0
        lowest = fits.value[owners]
        rise = self.likelihood.values(fits, mirrored, owners) - lowest
        near = np.flatnonzero(rise < np.where(self._cheap[owners], np.inf, _NEAR))
        between = self.likelihood.values(fits, half_way[near], owners[near]) - lowest[near]
        # A parabola would rise four times as much.
        factor = np.where(kinked[columns[near]] | (between < 0), 1.0, 2.0)
        beyond = near[rise[near] < factor * between]
        yield self._lowest(owners[beyond], mirrored[beyond], rise[beyond])

    # ------------------------------------------------------------------ far along one parameter

    @cached_property
    def _kinked(self) -> NDArray[np.bool_]:
        """Alphas whose interpolation has a kink at zero, ``(alphas,)``."""
        kinked = self.likelihood.compiled.solvers[True].kinked
        return np.asarray(kinked[: self.batch.layout.alphas])

    @cached_property
    def _scores(self) -> dict[bool, FloatArray]:
        """Curvatures of counts in alphas, in fits with and without the patches' own samples."""
        return {with_own: self.reach.bent(with_own=with_own) for with_own in (True, False)}

    @cached_property
    def _bent(self) -> dict[bool, tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """For fits with and without the patches' own samples the most bent alphas of each patch.

        Their columns, ``(P, n)``, and which of them are bent enough.
        """
        bent = {}
        for with_own in (True, False):
            score = self._scores[with_own]
            columns = np.argsort(-score, axis=1, kind="stable")
            least = np.where(self._cheap, 0.0, _BENT)[:, None]
            useful = (score >= least) & ~self.batch.fixed[:, : score.shape[1]]
            useful = np.take_along_axis(useful, columns, axis=1)
            useful &= np.arange(score.shape[1]) < np.maximum(_LEAPS, self._affordable)[:, None]
            bent[with_own] = columns, useful
        return bent

    def _leaps(
        self, fits: Fits, rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], FloatArray]]:
        """Choose points where one parameter goes far, and the others as they would on a parabola.

        Kept are those where the NLL rises much less than the parabola.
        """
        batch = self.batch
        rows = rows[fits.converged[rows]]
        columns, useful = self._bent[self.fitter.with_own(fits)]
        for part, derivatives, frozen in self.likelihood.derivatives(fits, rows):
            hessian = derivatives["hessian"]
            if fits.mu is not None:
                frozen[:, self.poi] = True
            piece = rows[part]
            inverse = inverse_free(hessian, frozen)
            yield self._emptied(fits, piece, derivatives, inverse)
            target, column, position = self._goals(fits, piece, columns[piece], useful[piece])
            variance = inverse[position, column, column]
            step = target - fits.point[piece[position], column]
            free = np.abs(step) > _FAR * np.sqrt(np.maximum(variance, 0.0))
            free &= np.abs(step) > 0
            position, column, step = position[free], column[free], step[free]
            variance = variance[free]
            owners, follows = piece[position], variance > 0
            scaled = np.where(follows, step / np.where(follows, variance, 1.0), 0.0)
            reached = fits.point[owners] + scaled[:, None] * inverse[position, column]
            # What is at a bound is not in the inverse: the others follow its own derivatives.
            bound = np.flatnonzero(~follows)
            coupling = hessian[position[bound], :, column[bound]]
            along = inverse[position[bound]] @ coupling[:, :, None]
            reached[bound] -= step[bound, None] * along[:, :, 0]
            reached[np.arange(len(owners)), column] = target[free]
            reached = np.clip(reached, batch.lower[owners], batch.upper[owners])
            rise = self.likelihood.values(fits, reached, owners) - fits.value[owners]
            parabola = np.where(follows & ~self._cheap[owners], scaled * step / 2, np.inf)
            low = rise < _LOW * parabola
            loose = column >= batch.layout.alphas
            few = low & ~loose
            yield self._lowest(owners[few], reached[few], rise[few])
            yield self._lowest(owners[loose], reached[loose], rise[loose], _HIGH, _LOOSE)

    def _emptied(
        self,
        fits: Fits,
        rows: NDArray[np.int64],
        derivatives: dict[str, FloatArray],
        inverse: FloatArray,
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Choose points where a bin without events has no rate, by the shortest way there.

        Where nothing is observed the NLL falls with the rate until it is zero, and no further.
        The way is shortest in units of the covariance, or of the constraints alone, which leads
        away from bounds.
        """
        batch, rates = self.batch, derivatives["rates"]
        empty = (fits.data[rows] <= EMPTY) & (rates > _FILLED)
        # Of each patch the fullest ones.
        rank = np.argsort(np.argsort(np.where(empty, -rates, np.inf), axis=1), axis=1)
        position, number = np.nonzero(empty & (rank < _PROBED))
        slope, owners = derivatives["jacobian"][position, number], rows[position]
        fixed = batch.fixed[owners].copy()
        if fits.mu is not None:
            fixed[:, self.poi] = True
        prior = np.where(fixed, 0.0, self.fitter.widths[owners] ** 2) * slope
        points = []
        for way in (np.einsum("lij,lj->li", inverse[position], slope), prior):
            reach = np.sum(way * slope, axis=1)
            step = rates[position, number] / np.where(reach > 0, reach, np.inf)
            point = fits.point[owners] - step[:, None] * way
            points.append(np.clip(point, batch.lower[owners], batch.upper[owners]))
        owners, reached = np.tile(owners, 2), np.concatenate(points)
        rise = self.likelihood.values(fits, reached, owners) - fits.value[owners]
        return self._lowest(owners, reached, rise)

    def _goals(
        self,
        fits: Fits,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        useful: NDArray[np.bool_],
    ) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64]]:
        """List where parameters go: values, columns, and positions among the rows, in order."""
        batch = self.batch
        sides = np.array(_TARGETS)
        position, rank = np.nonzero(useful)
        bent = np.repeat(columns[position, rank], len(sides))
        values = [np.tile(sides, len(position))]
        all_columns, positions = [bent], [np.repeat(position, len(sides))]
        loose = ~batch.fixed[rows] & self._loose[rows]
        if fits.mu is not None:
            loose[:, self.poi] = False
        position, column = np.nonzero(loose)
        middle = np.sqrt(np.abs(batch.init * batch.upper))
        for goals in (batch.lower, batch.upper, batch.init, np.minimum(middle, batch.upper)):
            values.append(goals[rows[position], column])
            all_columns.append(column)
            positions.append(position)
        joined = np.concatenate(positions)
        order = np.argsort(joined, kind="stable")
        return np.concatenate(values)[order], np.concatenate(all_columns)[order], joined[order]

    # ------------------------------------------------------------------ several parameters

    def products(
        self, fits: Fits, rows: NDArray[np.int64], count: int = _SEEDS
    ) -> Iterator[tuple[NDArray[np.int64], FloatArray]]:
        """Choose points where a product of parameters fills or empties a bin.

        Where the bin gains more than the constraints cost, steps may lead low however high the
        point is: other parameters have to make room first. Others have to be near.
        In free fits the parameter of interest takes part: it is one at least, or at its bound.
        """
        point, data = fits.point[rows], fits.data[rows]
        rates = self.likelihood.rates(fits, point, rows)
        if not self.fitter.with_own(fits):
            strengths: list[FloatArray | None] = [None]
        elif fits.mu is not None:
            strengths = [point[:, self.poi]]
        else:
            upper = self.batch.upper[rows, self.poi]
            strengths = [np.clip(point[:, self.poi], 1.0, np.maximum(upper, 1.0)), upper]
        for number, mu in enumerate(strengths):
            least = 0.0 if number else FACTOR
            seeds = self.reach.seeds(rates, data, point, rows, mu, count, least=least)
            if mu is not None:
                seeds.point[:, self.poi] = mu[np.searchsorted(rows, seeds.row)]
            elif fits.mu is not None:
                seeds.point[:, self.poi] = point[np.searchsorted(rows, seeds.row), self.poi]
            rise = self.likelihood.values(fits, seeds.point, seeds.row) - fits.value[seeds.row]
            usable = (seeds.change < 0) | (rise < _NEAR) | self._cheap[seeds.row]
            usable &= np.isfinite(rise)
            yield seeds.row[usable], seeds.point[usable]

    @cached_property
    def _loose(self) -> NDArray[np.bool_]:
        """Parameters without a constraint, ``(P, K)``."""
        return np.asarray((self.batch.precision <= 0) & (self.batch.factor <= 0))

    def _scattered(self, name: str, width: float, *, anywhere: bool) -> FloatArray:
        """Draw all parameters around the suggested ones; those without constraint in their range.

        Parameters
        ----------
        name
            What the drawn numbers belong to.
        width
            In standard deviations.
        anywhere
            Whether parameters without constraint are drawn in all of their range.
        """
        point = self.fitter.displaced(name, width)
        if anywhere:
            lower, upper = self.batch.lower, self.batch.upper
            part = ndtr(self.fitter.pattern(name))
            point = np.where(self._loose & ~self.batch.fixed, lower + part * (upper - lower), point)
        return np.clip(point, self.batch.lower, self.batch.upper)

    def _scatter(self, name: str, fits: Fits) -> None:
        """Fit from points where all parameters are drawn, in likelihoods that are cheap to fit."""
        rows = fits.leading(self.rows)
        count = self._budget // _FITTED
        owners, points = [], []
        for number in range(count[rows].max(initial=0)):
            point = self._scattered(
                f"{name} {number}",
                _WIDTHS[number % len(_WIDTHS)],
                anywhere=number // _IN_A_ROW % 2 == 0,
            )
            drawing = rows[number < count[rows]]
            owners.append(drawing)
            points.append(point[drawing])
        if owners:
            self.fitter.fit_each(fits, "drawn", *self._joined(zip(owners, points, strict=True)))

    def _drawn(
        self, fits: Fits, rows: NDArray[np.int64]
    ) -> list[tuple[NDArray[np.int64], FloatArray]]:
        """Draw some parameters at random, in likelihoods that are cheap to evaluate."""
        batch = self.batch
        drawn, owners = [], []
        count = self._affordable - self._affordable // _FITTED
        for number in range(count[rows].max(initial=0)):
            drawing = rows[number < count[rows]]
            share = _SHARES[number % len(_SHARES)]
            chosen = self.fitter.pattern(f"chosen {number}") < float(ndtri(share))
            point = self._scattered(f"drawn {number}", _WIDTH, anywhere=number % 2 == 1)
            point = np.where(chosen & ~batch.fixed, point, fits.point)[drawing]
            if fits.mu is not None:
                point[:, self.poi] = fits.point[drawing, self.poi]
            owners.append(drawing)
            drawn.append(np.clip(point, batch.lower[drawing], batch.upper[drawing]))
        if not drawn:
            return []
        owner, point = np.concatenate(owners), np.concatenate(drawn)
        for _ in range(_HALVED):
            # A rate below zero, where events are observed, has no likelihood.
            outside = ~np.isfinite(self.likelihood.values(fits, point, owner))
            point[outside] = 0.5 * (point[outside] + fits.point[owner[outside]])
        return [(owner, point)]

    def _lowest(
        self,
        owners: NDArray[np.int64],
        points: FloatArray,
        rise: FloatArray,
        near: float = _NEAR,
        count: int = _PROBED,
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Keep the lowest few points of each row, if they are near."""
        usable = np.isfinite(rise) & ((rise < near) | self._cheap[owners])
        owners, points, rise = owners[usable], points[usable], rise[usable]
        order = np.lexsort((rise, owners))
        owners, points = owners[order], points[order]
        rank = np.arange(len(owners)) - np.searchsorted(owners, owners)
        few = rank < np.where(self._cheap[owners], _PROBED + _MANY, count)
        return owners[few], points[few]

    def _joined(
        self, kinds: Iterable[tuple[NDArray[np.int64], FloatArray]]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Join points of several kinds, in the order of the rows that they belong to."""
        none = np.empty(0, dtype=np.int64), np.empty((0, self.batch.init.shape[1]))
        owners, points = zip(none, *kinds, strict=True)
        owner, point = np.concatenate(owners), np.concatenate(points)
        order = np.argsort(owner, kind="stable")
        return owner[order], point[order]
