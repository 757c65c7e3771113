"""Many box-constrained minimizations at once, by Newton's method with the exact Hessian.

Every fit is a *lane*. All lanes of a block advance together, one Newton step at a time; a lane that
has converged (or given up) leaves, and a waiting one takes its place.

One step: parameters at a bound with the gradient pointing outwards are frozen; the Newton system
of the others is solved by Cholesky factorization, damped as far as it takes to be positive
definite (or, if a lane wants that, with the expected information instead of a Hessian that is
indefinite far from a minimum, which is Fisher scoring); the step is shortened to a few prefit
standard deviations, projected onto the bounds, and accepted if the likelihood falls
(Levenberg-Marquardt: a good prediction lowers the damping, a bad one raises it).

A lane has converged when the *undamped* estimated distance to the minimum, ``edm = g^T H^-1 g / 2``
over the parameters that are not frozen, is small: there the Hessian is positive definite, so the
point is a minimum and no saddle. Sources: Nocedal and Wright, "Numerical Optimization", chapters 4
and 16; F. James, "MINUIT", CERN D506, for the edm.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.arrays import DAMPING_FACTOR, FIRST_DAMPING, Arrays, Instead
from palletfit.engine.interpcodes import kinks
from palletfit.engine.layout import Layout
from palletfit.engine.likelihood import Derivatives, evaluate, information, own_of

#: Damping that counts as none: it keeps directions without any influence from blowing up.
UNDAMPED = 1e-11
#: A damping so large that no step is left.
_STUCK = 1e9
#: Longest step in prefit standard deviations.
_LONGEST = 3.0
#: Rounding error of the NLL in units of its size.
_ROUNDING = 2e-14
#: A step is accepted if it brings this part of what its slope promises.
_SUFFICIENT = 1e-4
#: The prediction of a step was good, or bad, if it was met to these parts.
_GOOD, _BAD = 0.75, 0.25

#: A minimum is far while a step lowers the NLL by more than this.
_FAR = 1.0


class Damping(NamedTuple):
    """Rule by which the damping follows the success of steps.

    Attributes
    ----------
    first, factor
        What it is at least after a step that failed, and what each failure multiplies it by.
    ease, negligible
        A good prediction multiplies it by the first; below the second it goes altogether.
    """

    first: float = FIRST_DAMPING
    factor: float = DAMPING_FACTOR
    ease: float = 0.01
    negligible: float = 0.1


#: For long curved valleys, which need many steps of a moderate length.
PATIENT = Damping(1e-4, 5.0, 0.1, 1e-6)

#: What the likelihood of a lane depends on.
_OF_LANES = ("data", "aux", "precision", "factor", "clip")

RUNNING, CONVERGED, STUCK, EXHAUSTED, HOPELESS = range(5)
#: What became of a lane, in words.
OUTCOMES = {
    CONVERGED: "converged",
    STUCK: "no step lowers the likelihood further",
    EXHAUSTED: "too many iterations",
    HOPELESS: "the likelihood is not finite at the start",
}


@dataclass(frozen=True)
class Lanes:
    """Fits that wait; all arrays are NumPy's and have a row a lane.

    Attributes
    ----------
    patch
        Row of each lane's patch in the arrays of its own samples.
    scoring
        Whether the expected information may stand in for an indefinite Hessian. That is quicker,
        but leads to the nearest large minimum, where the Hessian finds small ones, too.
    start
        Where to begin, ``(L, K)``; clipped to the bounds.
    fixed, lower, upper
        ``(L, K)``
    data, aux, precision, factor, clip
        As in :func:`palletfit.engine.likelihood.evaluate`.
    """

    patch: NDArray[np.int64]
    scoring: NDArray[np.bool_]
    start: FloatArray
    fixed: NDArray[np.bool_]
    lower: FloatArray
    upper: FloatArray
    data: FloatArray
    aux: FloatArray
    precision: FloatArray
    factor: FloatArray
    clip: FloatArray

    def __len__(self) -> int:
        return len(self.patch)

    def take(self, rows: Any) -> Lanes:
        """Take some of the lanes."""
        return Lanes(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    def at(self, start: FloatArray, **changes: Any) -> Lanes:
        """Give the same lanes other starts, and other values of further attributes."""
        return replace(self, start=start, **changes)

    @classmethod
    def join(cls, parts: Sequence[Lanes]) -> Lanes:
        """Join the lanes of several sets."""
        names = cls.__dataclass_fields__
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


@dataclass(frozen=True)
class Minima:
    """Ends of lanes; arrays with a row a lane.

    Attributes
    ----------
    point
        Parameters, ``(L, K)``.
    value
        NLL without constants.
    edm
        Undamped estimated distance to the minimum; infinite where the Hessian is not positive
        definite.
    gradient_norm
        Largest component of the gradient among parameters that are not at a bound.
    outcome
        Key of :data:`OUTCOMES`.
    iterations
        Evaluations of the likelihood with its derivatives.
    """

    point: FloatArray
    value: FloatArray
    edm: FloatArray
    gradient_norm: FloatArray
    outcome: NDArray[np.int64]
    iterations: NDArray[np.int64]

    def take(self, rows: Any) -> Minima:
        """Take some of the lanes."""
        return Minima(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    @classmethod
    def unknown(cls, count: int, size: int) -> Minima:
        """Make the ends of lanes that have not begun."""
        return cls(
            point=np.zeros((count, size)),
            value=np.full(count, np.inf),
            edm=np.full(count, np.inf),
            gradient_norm=np.full(count, np.inf),
            outcome=np.full(count, HOPELESS),
            iterations=np.zeros(count, dtype=int),
        )

    def put(self, rows: NDArray[np.int64], minima: Minima) -> None:
        """Replace some of the lanes."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[rows] = getattr(minima, name)

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Lanes with a proven minimum."""
        return np.asarray(self.outcome == CONVERGED)


class Solver:
    """Minimizes the likelihood of the patches of one layout.

    Parameters
    ----------
    arrays
        Array library.
    layout
        Columns and blocks.
    shared
        From :func:`palletfit.engine.likelihood.shared_arrays`.
    iterations
        After how many evaluations a lane gives up.
    damping
        How the damping follows the success of steps.

    Attributes
    ----------
    patch_samples
        To be set before :meth:`minimise`: from :func:`palletfit.engine.likelihood.own_arrays`, or
        an empty dictionary to switch the patches' samples off.
    """

    damping = Damping()

    def __init__(
        self,
        arrays: Arrays,
        layout: Layout,
        shared: Any,
        *,
        iterations: int = 200,
        damping: Damping | None = None,
    ) -> None:
        if damping is not None:
            self.damping = damping
        self.layout, self.shared = layout, shared
        kinked = np.zeros(layout.parameters, dtype=bool)
        normsys, histosys = layout.codes
        kinked[: layout.hist] = kinks(histosys, layout.hist)
        kinked[layout.alphas - layout.norm : layout.alphas] |= kinks(normsys, layout.norm)
        self._set_up(arrays, kinked, iterations, arrays.lanes_of(layout.size))
        self._evaluate = arrays.compile(partial(evaluate, arrays, layout))

    def _set_up(
        self, arrays: Arrays, kinked: NDArray[np.bool_], iterations: int, lanes: int
    ) -> None:
        """Set up all that does not depend on the function that is minimised."""
        self.arrays, self.kinked, self.iterations = arrays, kinked, iterations
        self._lanes = lanes
        self.patch_samples: Any = {}
        self._step = arrays.compile(self._advance)
        self._merge = arrays.compile(self._choose)

    def minimise(
        self,
        lanes: Lanes,
        tolerance: float,
        *,
        predict: bool = False,
        limit: int | None = None,
    ) -> Minima:
        """Run all lanes to their ends.

        Parameters
        ----------
        lanes
            Fits to make.
        tolerance
            Largest edm of a lane that has converged.
        predict
            Return where the last Newton step leads, with the value that it promises, instead of
            where it begins. An error of the promise is of the order of ``tolerance**1.5``.
        limit
            After how many evaluations a lane gives up; by default the solver's own number.
        """
        limit = self.iterations if limit is None else limit
        results = _Results(*lanes.start.shape)
        waiting: Iterator[int] = iter(range(len(lanes)))
        if not len(lanes):
            return results.minima
        size = self._lanes
        rows = np.array(list(itertools.islice(waiting, size)))
        # Compiled code has one size: what is missing to it repeats the first lane, unheard.
        idle = 0 if self.arrays.flexible else size - len(rows)
        owner = np.concatenate([rows, np.full(idle, -1)])
        filled = np.concatenate([rows, np.full(idle, rows[0])])
        state = self._begin(lanes, filled)
        with np.errstate(all="ignore"):
            while True:
                state = self._step(self.shared, self.patch_samples, state, tolerance, limit)
                outcome = self.arrays.get(state["outcome"])
                if self.kinked.any():
                    state = self._cross_kinks(state, outcome, tolerance, limit)
                    outcome = self.arrays.get(state["outcome"])
                done = np.flatnonzero((outcome != RUNNING) & (owner >= 0))
                if not len(done):
                    continue
                results.store(owner[done], done, state, self.arrays, predict=predict)
                owner[done] = -1
                fresh = list(itertools.islice(waiting, len(done)))
                if fresh:
                    slots = done[: len(fresh)]
                    owner[slots] = fresh
                    state = self._refill(state, lanes, slots, np.array(fresh))
                busy = np.flatnonzero(owner >= 0)
                if not len(busy):
                    return results.minima
                if self.arrays.flexible and len(busy) < len(owner):
                    owner = owner[busy]
                    state = {name: values[busy] for name, values in state.items()}

    # ------------------------------------------------------------------ set-up

    def _begin(self, lanes: Lanes, rows: NDArray[np.int64]) -> dict[str, Any]:
        return {name: self.arrays.put(array) for name, array in self._new(lanes, rows).items()}

    def _refill(
        self, state: dict[str, Any], lanes: Lanes, slots: Any, rows: NDArray[np.int64]
    ) -> dict[str, Any]:
        if self.arrays.flexible:
            new = self._new(lanes, rows)
            for name, values in state.items():
                values[slots] = new[name]
            return state
        # All places, so that the shapes of compiled code stay; most of them are not used.
        count = len(state["value"])
        sources = np.full(count, rows[0])
        sources[slots] = rows
        mask = np.zeros(count, dtype=bool)
        mask[slots] = True
        return self._merge(self.arrays.put(mask), self._begin(lanes, sources), state)

    def _new(self, lanes: Lanes, rows: NDArray[np.int64]) -> dict[str, Any]:
        """State of lanes that have not been evaluated yet: the start is their first trial."""
        new = lanes.take(rows)
        count, size = new.start.shape
        # Fixed parameters may stand outside of their bounds.
        start = np.where(new.fixed, new.start, np.clip(new.start, new.lower, new.upper))
        width = np.maximum(new.upper - new.lower, 1e-12)
        constrained = np.sqrt(new.precision + new.factor)
        return {
            "patch": new.patch,
            "scoring": new.scoring,
            "data": new.data,
            "aux": new.aux,
            "precision": new.precision,
            "factor": new.factor,
            "clip": new.clip,
            "fixed": new.fixed,
            "lower": new.lower,
            "upper": new.upper,
            # One over the prefit standard deviation; half the range where there is none.
            "narrow": np.where(constrained > 0, constrained, 2.0 / width),
            "side": np.where(start < 0, -1.0, 1.0),
            "trial": start,
            "point": start,
            "value": np.full(count, np.inf),
            "gradient": np.zeros((count, size)),
            "hessian": np.zeros((count, size, size)),
            "fisher": np.ones((count, size)),
            "replaced": np.zeros(count, dtype=bool),
            "slope": np.zeros(count),
            "predicted": np.zeros(count),
            "damping": np.full(count, UNDAMPED),
            "edm": np.full(count, np.inf),
            "gradient_norm": np.full(count, np.inf),
            "iterations": np.zeros(count, dtype=int),
            "outcome": np.full(count, RUNNING),
        }

    def _choose(self, mask: Any, new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.arrays.select(mask, new[name], old[name]) for name in old}

    # ------------------------------------------------------------------ one step

    def derivatives(
        self, shared: Any, patch_samples: Any, state: Mapping[str, Any], point: Any, side: Any
    ) -> Derivatives:
        """Evaluate the likelihood of lanes at a point, which is minimised."""
        lane = {
            "own": own_of(patch_samples, state["patch"]),
            **{name: state[name] for name in _OF_LANES},
        }
        return evaluate(self.arrays, self.layout, shared, lane, point, side)

    def _advance(
        self,
        shared: Any,
        patch_samples: Any,
        state: Mapping[str, Any],
        tolerance: Any,
        limit: Any,
    ) -> Any:
        """Evaluate the trial points, accept or refuse them, and propose the next ones."""
        xp = self.arrays.xp
        trial = state["trial"]
        # Away from kinks the side of a parameter is its sign.
        side = xp.where(self.kinked, state["side"], xp.where(trial < 0, -1.0, 1.0))
        derivatives = self.derivatives(shared, patch_samples, state, trial, side)
        new = {
            "point": trial,
            "value": derivatives.value,
            "gradient": derivatives.gradient,
            "hessian": derivatives.hessian,
            "fisher": derivatives.fisher,
            "replaced": xp.zeros_like(state["replaced"]),
        }
        noise = _ROUNDING * (1.0 + xp.abs(derivatives.value))
        finite = (derivatives.value < xp.inf) & xp.all(xp.isfinite(derivatives.gradient), axis=1)
        first = ~(state["value"] < xp.inf)
        change = derivatives.value - state["value"]
        accepted = finite & (first | (change <= _SUFFICIENT * state["slope"] + noise))
        met = xp.where(
            state["predicted"] > noise, -change / xp.maximum(state["predicted"], noise), 1.0
        )
        damping, rule = state["damping"], self.damping
        damping = xp.where(
            accepted & (first | (met > _GOOD)),
            xp.where(damping * rule.ease < rule.negligible, UNDAMPED, damping * rule.ease),
            xp.where(
                accepted & (met > _BAD), damping, xp.maximum(damping * rule.factor, rule.first)
            ),
        )
        accepted_state = {
            name: self.arrays.select(accepted, new[name], state[name]) for name in new
        }
        # Without a start there is nothing to go back to.
        hopeless = first & ~finite
        # Near a saddle point the indefinite Hessian is the better guide.
        far = accepted & (change < -_FAR) & state["scoring"]
        instead = Instead(far, partial(information, self.arrays, derivatives))
        proposed = self._propose({**state, **accepted_state, "damping": damping}, instead)
        edm = xp.where(proposed["undamped"], proposed["edm"], xp.inf)
        iterations = state["iterations"] + 1
        outcome = xp.where(
            state["outcome"] != RUNNING,
            state["outcome"],
            xp.where(
                hopeless,
                HOPELESS,
                xp.where(
                    edm <= tolerance,
                    CONVERGED,
                    xp.where(
                        proposed["damping"] > _STUCK,
                        STUCK,
                        xp.where(iterations >= limit, EXHAUSTED, RUNNING),
                    ),
                ),
            ),
        )
        return {
            **state,
            **accepted_state,
            **{name: values for name, values in proposed.items() if name in state},
            "edm": edm,
            "iterations": iterations,
            "outcome": outcome,
        }

    def _propose(self, state: Mapping[str, Any], instead: Instead) -> dict[str, Any]:
        xp = self.arrays.xp
        point, gradient, fisher = state["point"], state["gradient"], state["fisher"]
        lower, upper = state["lower"], state["upper"]
        if self.kinked.any():
            positive = state["side"] > 0
            lower = xp.where(self.kinked & positive, xp.maximum(lower, 0.0), lower)
            upper = xp.where(self.kinked & ~positive, xp.minimum(upper, 0.0), upper)
        at_bound = (point <= lower) & (gradient >= 0) | (point >= upper) & (gradient <= 0)
        diagonal = xp.abs(xp.diagonal(state["hessian"], axis1=1, axis2=2))
        # A parameter without any influence stays where it is.
        idle = (xp.maximum(fisher, diagonal) < 1e-14) & (xp.abs(gradient) < 1e-14)
        free = ~(at_bound | state["fixed"] | idle)
        right = xp.where(free, -gradient, 0.0)
        metric = xp.maximum(fisher, 1e-10)
        step, damping, hessian, replaced = self.arrays.solve(
            state["hessian"], metric, right, state["damping"], free, instead
        )
        replaced = replaced | state["replaced"]
        edm = 0.5 * xp.sum(right * step, axis=1)
        # Not so far as to leave the region where the Hessian means something.
        reach = xp.max(xp.abs(step) * state["narrow"], axis=1)
        step = step * xp.minimum(1.0, _LONGEST / xp.maximum(reach, 1e-30))[:, None]
        trial = xp.where(state["fixed"], point, xp.clip(point + step, lower, upper))
        moved = trial - point
        slope = xp.sum(gradient * moved, axis=1)
        curved = (moved[:, None, :] @ (hessian @ moved[:, :, None]))[:, 0, 0]
        return {
            "hessian": hessian,
            "replaced": replaced,
            "trial": trial,
            "slope": xp.minimum(slope, 0.0),
            "predicted": -slope - 0.5 * curved,
            "damping": damping,
            "undamped": (damping <= 10 * UNDAMPED) & ~replaced,
            "edm": edm,
            "gradient_norm": xp.max(xp.abs(right), axis=1),
        }

    def _cross_kinks(
        self, state: dict[str, Any], outcome: NDArray[np.int64], tolerance: float, limit: int
    ) -> dict[str, Any]:
        """Look, at lanes that ended at a kink, whether the other side goes down, too."""
        rows = np.flatnonzero(outcome == CONVERGED)
        point = self.arrays.get(state["point"])
        at_kink = (point == 0.0) & self.kinked & ~self.arrays.get(state["fixed"])
        rows = rows[at_kink[rows].any(axis=1)]
        if not len(rows):
            return state
        xp = self.arrays.xp
        side = self.arrays.get(state["side"])
        other = np.where(at_kink, -side, side)
        lane = {
            "own": own_of(self.patch_samples, state["patch"]),
            **{name: state[name] for name in _OF_LANES},
        }
        derivatives = self._evaluate(self.shared, lane, state["point"], xp.asarray(other))
        gradient = self.arrays.get(derivatives.gradient)
        curvature = np.einsum("...ii->...i", self.arrays.get(derivatives.hessian))
        # What is gained has to matter, or a lane goes to and fro between two sides for ever.
        gain = 0.5 * gradient * gradient / np.maximum(curvature, 1e-10)
        downhill = at_kink & (gradient * other < 0) & (gain > tolerance)
        crossing = np.zeros(len(side), dtype=bool)
        crossing[rows] = downhill[rows].any(axis=1)
        given_up = crossing & (self.arrays.get(state["iterations"]) >= limit)
        crossing &= ~given_up
        # One parameter at a time: the others' slopes may change with it.
        steepest = np.argmax(np.where(downhill, np.abs(gradient), -1.0), axis=1)
        flipped = side.copy()
        chosen = np.flatnonzero(crossing)
        flipped[chosen, steepest[chosen]] *= -1
        outcome = np.where(given_up, EXHAUSTED, np.where(crossing, RUNNING, outcome))
        return {
            **state,
            "side": xp.asarray(flipped),
            "outcome": xp.asarray(outcome),
            # The same point is evaluated again, from the other side.
            "trial": xp.where(xp.asarray(crossing)[:, None], state["point"], state["trial"]),
            "value": xp.where(xp.asarray(crossing), xp.inf, state["value"]),
        }


class _Results:
    """Collects lanes in the order of their rows."""

    def __init__(self, count: int, size: int) -> None:
        self.minima = Minima.unknown(count, size)

    def store(
        self,
        rows: NDArray[np.int64],
        slots: NDArray[np.int64],
        state: Any,
        arrays: Arrays,
        *,
        predict: bool,
    ) -> None:
        ends = {name: arrays.get(state[name])[slots] for name in self.minima.__dataclass_fields__}
        if predict:
            converged = ends["outcome"] == CONVERGED
            ends["point"] = np.where(
                converged[:, None], arrays.get(state["trial"])[slots], ends["point"]
            )
            promised = np.maximum(arrays.get(state["predicted"])[slots], 0.0)
            ends["value"] = ends["value"] - np.where(converged, promised, 0.0)
        for name, values in ends.items():
            getattr(self.minima, name)[rows] = values
