"""The records of fits that are kept: where each ended, and why that is the lowest minimum."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.likelihood import constants
from palletfit.engine.lowering import Lowered, prefit_widths
from palletfit.engine.newton import OUTCOMES, Minima
from palletfit.engine.records import Attempt, Fit

#: Parameters are kept that are off their suggested values by so many prefit widths; their digits.
_OFF, _DIGITS = 0.02, 3
#: Of each fit so many attempts are listed, and further ones that end in other minima.
_LISTED = 5


def fit_records(
    batch: Lowered, fits: Fits, rows: NDArray[np.int64] | None = None, *, brief: bool = False
) -> list[Fit]:
    """Make the records of one kind of fit, patch by patch.

    Parameters
    ----------
    batch
        The patches, P of them.
    fits, rows
        Fits, and those of their rows whose records are wanted; by default all.
    brief
        Leave out the attempts, which only show how the minimum was found, and the parameters.
    """
    count = len(batch)
    constant = constants(batch, fits.data, fits.aux)
    attempts: list[list[Attempt]] = [[] for _ in range(count)]
    ends = np.full((count, len(fits.attempts)), np.nan)
    doubt = [""] * count
    for number, (start, attempted, minima, seconds) in enumerate(fits.attempts):
        ends[attempted, number] = minima.value
        for position in np.flatnonzero(~minima.converged):
            row = attempted[position]
            doubt[row] = doubt[row] or OUTCOMES[int(minima.outcome[position])]
        if not brief:
            for row, attempt in _attempts(batch, start, attempted, minima, seconds, constant):
                if len(attempts[row]) < _LISTED or _ends_elsewhere(attempt, attempts[row]):
                    attempts[row].append(attempt)
    tried = np.zeros(count, dtype=int)
    for _, attempted, _, _ in fits.attempts:
        tried[attempted] += 1
    finite = np.isfinite(ends)
    lowest = np.where(finite, ends, np.inf).min(axis=1, initial=np.inf)
    highest = np.where(finite, ends, -np.inf).max(axis=1, initial=-np.inf)
    spreads = np.where(finite.any(axis=1), 2 * (highest - lowest), np.inf)
    agreed = fits.agreed()
    all_rows = np.arange(count)
    bounds = _at_bounds(batch, all_rows, fits.point)
    off = np.abs(fits.point - batch.init) > _OFF * prefit_widths(batch)
    off &= ~batch.fixed
    off[:, batch.layout.poi] = False
    return [
        Fit(
            twice_nll=float(2 * (fits.value[row] + constant[row])),
            edm=float(fits.edm[row]),
            gradient_norm=float(fits.gradient_norm[row]),
            at_bounds=bounds[row],
            mu=float(fits.point[row, batch.layout.poi]),
            trusted=bool(fits.converged[row]),
            reason=_reason(fits, int(row), int(agreed[row]), tried[row], spreads[row], doubt[row]),
            agreed=int(agreed[row]),
            spread=float(spreads[row]),
            attempts=tuple(attempts[row]),
            parameters=None if brief else _parameters(batch, row, fits.point[row], off[row]),
        )
        for row in (all_rows if rows is None else rows)
    ]


def _reason(fits: Fits, row: int, agreed: int, tried: int, spread: float, doubt: str) -> str:
    """Say why the lowest end is a minimum, or why not."""
    if fits.converged[row]:
        reason = f"{agreed} of {tried} starts agree, edm {fits.edm[row]:.1e}"
        if agreed < tried and np.isfinite(spread):
            reason += f", the others end up to {spread:.1e} above in 2 NLL"
        reason += f", {fits.looked[row]} more points looked at" * bool(fits.looked[row])
    else:
        reason = f"not converged: {doubt or 'the last steps to the minimum'}"
        if row in fits.causes:
            reason += f"; {fits.causes[row]}"
    if fits.stopped()[row]:
        reason += f"; the search for lower minima ended after {fits.spent[row]} evaluations"
    return reason


def _parameters(
    batch: Lowered, row: int, point: FloatArray, chosen: NDArray[np.bool_]
) -> dict[str, float]:
    """Give some parameters of a patch by name, rounded."""
    return {
        str(batch.names[row][column]): float(f"{point[column]:.{_DIGITS}g}")
        for column in np.flatnonzero(chosen)
    }


def _ends_elsewhere(attempt: Attempt, listed: list[Attempt]) -> bool:
    """Say whether an attempt shows a minimum that no listed one does."""
    if not attempt.reported_success or attempt.twice_nll is None:
        return False
    ends = [other.twice_nll for other in listed if other.twice_nll is not None]
    return all(abs(attempt.twice_nll - end) > 2 * SAME for end in ends)


def _attempts(
    batch: Lowered,
    start: str,
    rows: NDArray[np.int64],
    minima: Minima,
    seconds: float,
    constant: FloatArray,
) -> Iterator[tuple[int, Attempt]]:
    """Yield the attempts that began at one start, row by row."""
    bounds = _at_bounds(batch, rows, minima.point)
    for position, row in enumerate(rows):
        message = OUTCOMES[int(minima.outcome[position])]
        converged = bool(minima.converged[position])
        value = float(2 * (minima.value[position] + constant[row]))
        yield (
            int(row),
            Attempt(
                optimizer="newton",
                start=start,
                moved=True,
                reported_success=converged,
                message=message,
                iterations=int(minima.iterations[position]),
                evaluations=int(minima.iterations[position]),
                optimizer_twice_nll=value,
                twice_nll=value,
                edm=float(minima.edm[position]),
                gradient_norm=float(minima.gradient_norm[position]),
                at_bounds=bounds[position],
                polish_steps=0,
                doubts=() if converged else (message,),
                seconds=seconds,
            ),
        )


def _at_bounds(batch: Lowered, rows: NDArray[np.int64], point: FloatArray) -> list[tuple[str, ...]]:
    """List the nuisance parameters at a bound, at a point for each of some rows."""
    at_bound = (point <= batch.lower[rows]) | (point >= batch.upper[rows])
    at_bound &= ~batch.fixed[rows]
    at_bound[:, batch.layout.poi] = False
    by_row: list[tuple[str, ...]] = [()] * len(rows)
    for position in np.flatnonzero(at_bound.any(axis=1)):
        names = batch.names[rows[position]]
        columns = np.flatnonzero(at_bound[position])
        by_row[position] = tuple(str(names[column]) for column in columns)
    return by_row
