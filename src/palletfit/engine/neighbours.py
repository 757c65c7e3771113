"""Minima of neighbouring points as starts, once all points of a region have results.

A fit depends on its patch only. Neighbours see what no single fit can: a minimum that one point
missed, and points between which the lowest minimum changes.

Each end of a neighbour's fit that lies in another valley than the patch's is followed here. If it
leads lower, the patch has fallen: it is tested again with that minimum as one more start, and its
new ends are tried at its neighbours in the next round, until nothing falls. If it leads to a
minimum that is higher here, the lowest minimum changes between the two points.

All points of a round see the results of the round before, so that neither their order nor their
batches matter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import SHARP, BatchFits, Hints
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.lowering import Lowered
from palletfit.engine.minima import DIFFERENT
from palletfit.engine.newton import Minima
from palletfit.engine.records import HypotestResult
from palletfit.pallet.patches import Patch

#: Fits of a test.
FITS = ("background", "free", "fixed", "asimov_fixed")
#: How many neighbours a point has at least, and how many at most where several are as near.
NEAREST, _LIMIT = 6, 12
#: Distances that differ by less, relatively, are equal.
_TIE = 1e-9
#: Ends that are nearer in every nuisance parameter, in prefit widths, lie in one valley.
_VALLEY = 0.5
#: Half-way to another point the NLL rises by less than this part of all if there is no hump.
_CONVEX = 0.3
#: Points that these Newton steps bring back so close, in prefit widths, have returned.
_STEPS, _RETURNED = 4, 0.1
#: How often the new ends of points that fell are tried at their neighbours.
_ROUNDS = 10


@dataclass(frozen=True)
class End:
    """The end of one fit, as a record has it.

    Attributes
    ----------
    parameters
        By name the nuisance parameters that are not at their suggested values.
    mu
        Parameter of interest.
    twice_nll
        2 NLL.
    """

    parameters: Mapping[str, float]
    mu: float
    twice_nll: float


@dataclass(frozen=True)
class Point:
    """A patch and the ends of its four fits, by the fit's name."""

    patch: Patch
    ends: Mapping[str, End]

    @classmethod
    def of(cls, patch: Patch, result: Mapping[str, Any]) -> Point | None:
        """Take the ends from a result as plain data; None if it does not hold them."""
        fits = result.get("fits") or {}
        if any(fits.get(name, {}).get("parameters") is None for name in FITS):
            return None
        ends = {
            name: End(fits[name]["parameters"], fits[name]["mu"], fits[name]["twice_nll"])
            for name in FITS
        }
        return cls(patch, ends)


@dataclass(frozen=True)
class Jump:
    """A change of the lowest minimum between a point and a neighbour.

    Attributes
    ----------
    fit
        Name of the fit.
    neighbour
        Name of the neighbour.
    above
        How far the neighbour's minimum lies above the lowest one here, in 2 NLL; None if it was not
        followed to here.
    """

    fit: str
    neighbour: str
    above: float | None


@dataclass(frozen=True)
class Fallen:
    """A patch that fell with a neighbour's minimum.

    Attributes
    ----------
    result
        Its new result.
    neighbours
        Names of those whose minima led lower.
    fell
        By the name of a fit how much that fell, in 2 NLL. A fit of Asimov data that changed is not
        among them.
    """

    result: HypotestResult
    neighbours: tuple[str, ...]
    fell: Mapping[str, float]


@dataclass
class Outcome:
    """The effect of neighbours on the points of a region.

    Attributes
    ----------
    fallen
        Patches with a new result, by name.
    jumps
        Changes of the lowest minimum, by the patch's name.
    rounds
        How often points were looked at.
    followed
        How many ends were followed at another point.
    """

    fallen: dict[str, Fallen] = field(default_factory=dict)
    jumps: dict[str, tuple[Jump, ...]] = field(default_factory=dict)
    rounds: int = 0
    followed: int = 0


def near_points(
    values: Mapping[str, Sequence[float | str]], count: int = NEAREST
) -> dict[str, tuple[str, ...]]:
    """Find the neighbours of each point in the space of the points' values.

    Each label is scaled by its range; texts that differ are as far apart as its ends. If a point is
    a neighbour of another one, so is the other one of it. Where several points are equally far, all
    of them count, up to a limit.

    Parameters
    ----------
    values
        Of each point, by its name.
    count
        How many neighbours a point has at least, if there are as many.
    """
    names = sorted(values)
    columns = [_scaled([values[name][k] for name in names]) for k in range(_labels(values))]
    near: dict[str, set[str]] = {name: set() for name in names}
    for position, name in enumerate(names):
        square = np.zeros(len(names))
        for column in columns:
            square += np.sum((column - column[position]) ** 2, axis=1)
        square[position] = np.inf
        order = np.argsort(square, kind="stable")
        last = square[order[min(count, len(names) - 1) - 1]] if len(names) > 1 else 0.0
        within = [k for k in order[:_LIMIT] if square[k] <= last * (1 + _TIE)]
        for other in within:
            near[name].add(names[other])
            near[names[other]].add(name)
    return {name: tuple(sorted(mutual)) for name, mutual in near.items()}


def _labels(values: Mapping[str, Sequence[float | str]]) -> int:
    return max(map(len, values.values()), default=0)


def _scaled(values: Sequence[float | str]) -> FloatArray:
    """Bring a label's values to the range from zero to one, ``(n, d)``."""
    if any(isinstance(value, str) for value in values):
        texts = sorted({str(value) for value in values})
        codes = np.array([texts.index(str(value)) for value in values])
        return np.asarray(np.eye(len(texts))[codes] / math.sqrt(2))
    numbers = np.array(values, dtype=float)[:, None]
    extent = float(np.ptp(numbers)) if len(numbers) else 0.0
    return numbers / extent if extent > 0 else np.zeros_like(numbers)


def help_neighbours(engine: BatchedEngine, points: Mapping[str, Point]) -> Outcome:
    """Try the minima of neighbouring points until nothing falls any more.

    Parameters
    ----------
    engine
        Of the region; its settings are those of the recorded results.
    points
        The patches with their recorded ends, by name.
    """
    points = dict(sorted(points.items()))
    recorded = dict(points)
    near = near_points({name: point.patch.values for name, point in points.items()})
    outcome = Outcome()
    fell = partial(_fell, discovery=engine.settings.test_statistic == "q0")
    higher: dict[str, tuple[Jump, ...]] = {}
    origins: dict[str, set[str]] = {}
    waiting = list(points)
    while waiting and outcome.rounds < _ROUNDS:
        outcome.rounds += 1
        fallen: dict[str, HypotestResult] = {}
        for look in _look(engine, points, near, waiting):
            outcome.followed += look.followed
            higher[look.name] = look.higher
            if look.result is not None and fell(points[look.name], look.result):
                fallen[look.name] = look.result
                origins.setdefault(look.name, set()).update(look.neighbours)
        for name, result in fallen.items():
            ends = Point.of(points[name].patch, result.as_json())
            if ends is not None:
                points[name] = ends
            depths = fell(recorded[name], result)
            if depths:
                outcome.fallen[name] = Fallen(result, tuple(sorted(origins[name])), depths)
        waiting = [name for name in points if name in fallen or fallen.keys() & set(near[name])]
    outcome.jumps = _both_ways(higher)
    return outcome


def _fell(point: Point, result: HypotestResult, *, discovery: bool) -> dict[str, float]:
    """Give by fit how much a result lies below the ends of a point, in 2 NLL."""
    fell = {
        name: point.ends[name].twice_nll - fit.twice_nll
        for name, fit in result.fits.items()
        if point.ends[name].twice_nll - fit.twice_nll > 2 * SAME
    }
    source = "fixed" if discovery else "background"
    if source in fell:
        fell.pop("asimov_fixed", None)
    return fell


def _both_ways(higher: Mapping[str, Sequence[Jump]]) -> dict[str, tuple[Jump, ...]]:
    """Give both points of each change of the lowest minimum its mark."""
    marks = {
        (name, jump.fit, jump.neighbour): jump.above
        for name, jumps in higher.items()
        for jump in jumps
    }
    for name, fit, neighbour in list(marks):
        marks.setdefault((neighbour, fit, name), None)
    by_name: dict[str, list[Jump]] = {}
    for name, fit, neighbour in sorted(marks):
        jump = Jump(fit, neighbour, marks[name, fit, neighbour])
        by_name.setdefault(name, []).append(jump)
    return {name: tuple(jumps) for name, jumps in by_name.items()}


@dataclass(frozen=True)
class _Looked:
    """The minima of neighbours at one point: changes of the lowest one, and a new result."""

    name: str
    higher: tuple[Jump, ...] = ()
    result: HypotestResult | None = None
    neighbours: tuple[str, ...] = ()
    followed: int = 0


@dataclass(frozen=True)
class _Candidate:
    """An end of a neighbour's fit that lies in another valley; `origins` have one like it."""

    row: int
    fit: str
    point: FloatArray
    origins: list[str]


def _look(
    engine: BatchedEngine,
    points: Mapping[str, Point],
    near: Mapping[str, Sequence[str]],
    names: Sequence[str],
) -> Iterator[_Looked]:
    """Try the ends of the neighbours of some points."""
    waiting = iter(names)
    while chunk := list(itertools.islice(waiting, engine.chunk_size())):
        batches, _ = engine.lower([points[name].patch for name in chunk], testable=True)
        for batch, members in batches:
            tried = [patch.name for patch in members]
            candidates = _candidates(engine.batch_fits(batch), tried, points, near)
            rows = sorted({candidate.row for candidate in candidates})
            of_row = {row: position for position, row in enumerate(rows)}
            # A change that was seen before, and is none any more, is forgotten.
            yield from (_Looked(name) for row, name in enumerate(tried) if row not in of_row)
            if not rows:
                continue
            yield from _follow(
                engine,
                batch.take(np.array(rows)),
                [points[tried[row]] for row in rows],
                [replace(candidate, row=of_row[candidate.row]) for candidate in candidates],
            )


def _candidates(
    tests: BatchFits,
    names: Sequence[str],
    points: Mapping[str, Point],
    near: Mapping[str, Sequence[str]],
) -> list[_Candidate]:
    """List the ends of neighbours that lie in other valleys, each valley once."""
    candidates = []
    for row, name in enumerate(names):
        counted = ~tests.batch.fixed[row]
        counted[tests.poi] = False
        widths = tests.fitter.widths[row]
        for fit in FITS:
            valley = _point(tests.batch, tests.poi, row, points[name].ends[fit])
            valleys: list[_Candidate] = []
            for neighbour in near[name]:
                end = replace(points[neighbour].ends[fit], mu=points[name].ends[fit].mu)
                point = _point(tests.batch, tests.poi, row, end)
                if _apart(point, valley, widths, counted) <= _VALLEY:
                    continue
                for other in valleys:
                    if _apart(point, other.point, widths, counted) <= _VALLEY:
                        other.origins.append(neighbour)
                        break
                else:
                    valleys.append(_Candidate(row, fit, point, [neighbour]))
            candidates += valleys
    return candidates


def _apart(
    point: FloatArray, other: FloatArray, widths: FloatArray, counted: NDArray[np.bool_]
) -> float:
    return float((np.abs(point - other)[counted] / widths[counted]).max(initial=0.0))


def _point(batch: Lowered, poi: int, row: int, end: End) -> FloatArray:
    """Place an end among the parameters of a patch, those that it lacks at suggested values."""
    point = np.array(
        [
            init if name is None else end.parameters.get(name, init)
            for name, init in zip(batch.names[row], batch.init[row], strict=True)
        ]
    )
    point[poi] = end.mu
    clipped: FloatArray = np.clip(point, batch.lower[row], batch.upper[row])
    return clipped


def _follow(
    engine: BatchedEngine,
    batch: Lowered,
    points: Sequence[Point],
    candidates: Sequence[_Candidate],
) -> Iterator[_Looked]:
    """Follow candidates of all rows of a batch, and test those again that fell."""
    tests = engine.batch_fits(batch)
    fits_of = _recorded_fits(tests, points)
    higher: dict[int, list[Jump]] = {row: [] for row in range(len(points))}
    lowest: dict[tuple[str, int], tuple[float, FloatArray, list[str]]] = {}
    for name, fits in fits_of.items():
        tried = [candidate for candidate in candidates if candidate.fit == name]
        if not tried:
            continue
        tried, minima = _minima(tests, fits, tried)
        for number, candidate in enumerate(tried):
            row, value = candidate.row, float(minima.value[number])
            rise = value - float(fits.value[row])
            if not math.isfinite(value):
                continue
            if rise < -SAME:
                best = lowest.get((name, row))
                if best is None or value < best[0]:
                    lowest[name, row] = value, minima.point[number], candidate.origins
            elif rise > DIFFERENT and minima.converged[number]:
                higher[row] += [Jump(name, origin, 2 * rise) for origin in candidate.origins]
    _keep_ends(fits_of, lowest)
    results = _test_again(engine, batch, lowest)
    for row, point in enumerate(points):
        origins = {origin for (_, of), best in lowest.items() if of == row for origin in best[2]}
        followed = sum(candidate.row == row for candidate in candidates)
        yield _Looked(
            point.patch.name, tuple(higher[row]), results.get(row), tuple(origins), followed
        )


def _keep_ends(
    fits_of: Mapping[str, Fits],
    lowest: dict[tuple[str, int], tuple[float, FloatArray, list[str]]],
) -> None:
    """Add the ends of the other fits of rows that fell: the next test may not know them.

    They may come from a neighbour, in a round before.
    """
    for row in sorted({row for _, row in lowest}):
        for name, fits in fits_of.items():
            lowest.setdefault((name, row), (float(fits.value[row]), fits.point[row], []))


def _minima(
    tests: BatchFits, fits: Fits, candidates: Sequence[_Candidate]
) -> tuple[list[_Candidate], Minima]:
    """Minimise from candidates; those that prove to lie in the valley of the own end are left out.

    In one valley the NLL half-way to the own end has risen by about a quarter, and Newton steps
    return to that end soon.
    """
    rows = np.array([candidate.row for candidate in candidates])
    starts = np.array([candidate.point for candidate in candidates])
    with np.errstate(invalid="ignore"):  # without a likelihood on either side
        half_way = tests.likelihood.values(fits, (starts + fits.point[rows]) / 2, rows)
        rise = tests.likelihood.values(fits, starts, rows) - fits.value[rows]
        convex = half_way - fits.value[rows] < _CONVEX * rise
    tried = np.flatnonzero(~(convex & (rise > 0) & np.isfinite(rise)))
    rows, starts = rows[tried], starts[tried]
    probes = tests.fitter.probe(fits, rows, starts, _STEPS)
    apart = np.abs(probes.point - fits.point[rows]) / tests.fitter.widths[rows]
    left = np.flatnonzero(apart.max(axis=1) > _RETURNED)
    lanes = tests.fitter.lanes(fits, probes.point[left], rows[left])
    minima = tests.fitter.minimise(fits, lanes)
    return [candidates[number] for number in tried[left]], minima


def _recorded_fits(tests: BatchFits, points: Sequence[Point]) -> dict[str, Fits]:
    """Bring the recorded ends of all rows to their minima, which takes a few Newton steps."""
    batch, discovery = tests.batch, tests.settings.test_statistic == "q0"

    def fit(name: str, data: FloatArray, aux: FloatArray, mu: float | None) -> Fits:
        fits = Fits(data, aux, mu, tests.rows)
        ends = [_point(batch, tests.poi, row, point.ends[name]) for row, point in enumerate(points)]
        tests.fitter.fit(fits, {"recorded": np.array(ends)})
        return fits

    by_mu = {"background": 0.0, "free": None, "fixed": tests.mu}
    fits_of = {name: fit(name, batch.data, batch.aux, mu) for name, mu in by_mu.items()}
    source = fits_of["fixed" if discovery else "background"]
    tests.fitter.sharpen(source, tests.rows, SHARP)
    rates, aux = tests.likelihood.asimov_data(source, source.point)
    fits_of["asimov_fixed"] = fit("asimov_fixed", rates, aux, 0.0 if discovery else tests.mu)
    return fits_of


def _test_again(
    engine: BatchedEngine,
    batch: Lowered,
    lowest: Mapping[tuple[str, int], tuple[float, FloatArray, list[str]]],
) -> dict[int, HypotestResult]:
    """Test the rows for which a lower minimum is known, with the lowest ones as further starts."""
    rows = sorted({row for _, row in lowest})
    if not rows:
        return {}
    hints: Hints = {
        name: (
            np.array([position for position, row in enumerate(rows) if (name, row) in lowest]),
            np.array([lowest[name, row][1] for row in rows if (name, row) in lowest]),
        )
        for name in sorted({name for name, _ in lowest})
    }
    again = batch.take(np.array(rows))
    results = {}
    for position, result in engine.batch_fits(again, hints=hints).hypotests():
        if isinstance(result, HypotestResult):
            remarks = (*again.remarks[position], *result.remarks)
            results[rows[position]] = replace(result, remarks=remarks)
    return results
