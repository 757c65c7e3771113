"""Impacts of nuisance parameters on the parameter of interest.

The impact of a parameter is how far mu-hat moves when the parameter is held away from its best-fit
value, by its uncertainty after or before the fit, and everything else is fitted again. That is
cabinetry's and TRExFitter's definition. All fits of a patch, four for each parameter, are rows of
one batch that differ in what is held fixed, and so have the engine's whole apparatus: several
starts, further ones where these disagree, and proven minima.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import SHARP, BatchFits
from palletfit.engine.fits import Fits
from palletfit.engine.held_fits import hold
from palletfit.engine.lowering import Lowered

Variation = Literal["postfit_up", "postfit_down", "prefit_up", "prefit_down"]
#: Each variation with its sign.
VARIATIONS: dict[Variation, float] = {
    "postfit_up": 1.0,
    "postfit_down": -1.0,
    "prefit_up": 1.0,
    "prefit_down": -1.0,
}


@dataclass(frozen=True)
class Impact:
    """Shifts of mu-hat by one parameter.

    Attributes
    ----------
    parameter
        Its name.
    postfit_up, postfit_down
        Shift of mu-hat with the parameter held one standard deviation of the fit above and below
        its best-fit value.
    prefit_up, prefit_down
        The same with the width of its constraint; None without a constraint.
    """

    parameter: str
    postfit_up: float
    postfit_down: float
    prefit_up: float | None
    prefit_down: float | None

    @property
    def size(self) -> float:
        """The larger of the two shifts after the fit, by which parameters are ranked."""
        return max(abs(self.postfit_up), abs(self.postfit_down))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Impact:
        """Read what :func:`dataclasses.asdict` gave."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Shifts:
    """The impact fits of one patch.

    Attributes
    ----------
    impacts
        Largest first.
    doubts
        What is not to be trusted, in words.
    lowest
        The lowest end of all these fits: its NLL without constants, and the point. It cannot lie
        below the best fit, unless that one is not the lowest minimum.
    """

    impacts: tuple[Impact, ...]
    doubts: tuple[str, ...]
    lowest: tuple[float, FloatArray]


def shifts(
    tests: BatchFits,
    free: Fits,
    row: int,
    covariance: FloatArray,
    widths: FloatArray,
    columns: NDArray[np.int64],
) -> Shifts:
    """Make the impact fits of one patch.

    Parameters
    ----------
    tests, free, row
        The batch, its free fits, and the patch's row.
    covariance
        Of all columns, ``(K, K)``; zero for parameters that are not free.
    widths
        Of the constraints, ``(K,)``; zero where there is none.
    columns
        Of the parameters whose impact is wanted; all have an uncertainty.
    """
    errors = np.sqrt(np.diag(covariance))
    best = free.point[row]
    columns_held, names, values = _variations(tests.batch, row, best, errors, widths, columns)
    if not len(columns_held):
        return Shifts((), (), (np.inf, best))
    fits, again = _fit(tests, free, row, covariance, columns_held, values)
    mu = fits.point[:, again.poi] - best[again.poi]
    title = [str(tests.batch.names[row][column]) for column in columns_held]
    doubts = tuple(
        f"the impact fit of {title[lane]} ({names[lane]}) has no proven minimum"
        for lane in np.flatnonzero(~fits.converged)
    )
    by_name: dict[str, dict[str, float]] = {}
    for lane, shift in enumerate(mu.tolist()):
        by_name.setdefault(title[lane], {})[names[lane]] = shift
    impacts = [
        Impact(name, **{key: shift.get(key) for key in VARIATIONS})  # type: ignore[arg-type]
        for name, shift in by_name.items()
    ]
    lowest = int(np.argmin(fits.value))
    return Shifts(
        tuple(sorted(impacts, key=lambda impact: -impact.size)),
        doubts,
        (float(fits.value[lowest]), fits.point[lowest]),
    )


def _variations(
    batch: Lowered,
    row: int,
    best: FloatArray,
    errors: FloatArray,
    widths: FloatArray,
    columns: NDArray[np.int64],
) -> tuple[NDArray[np.int64], list[Variation], FloatArray]:
    """List the parameter that each fit holds, the reason, and the value within its bounds."""
    held_columns: list[int] = []
    names: list[Variation] = []
    values: list[float] = []
    for column in columns:
        for name, sign in VARIATIONS.items():
            width = (errors if name.startswith("postfit") else widths)[column]
            if width > 0:
                held_columns.append(int(column))
                names.append(name)
                values.append(best[column] + sign * width)
    at = np.array(held_columns, dtype=int)
    inside = np.clip(values, batch.lower[row, at], batch.upper[row, at])
    return at, names, np.asarray(inside, dtype=float)


def _fit(
    tests: BatchFits,
    free: Fits,
    row: int,
    covariance: FloatArray,
    held_columns: NDArray[np.int64],
    values: FloatArray,
) -> tuple[Fits, BatchFits]:
    """Fit with one parameter held in each row of a batch."""
    lanes, best = np.arange(len(held_columns)), free.point[row]
    alone = np.repeat(best[None], len(lanes), axis=0)
    mask, points = np.zeros(alone.shape, dtype=bool), alone.copy()
    mask[lanes, held_columns], points[lanes, held_columns] = True, values
    again = tests.with_batch(hold(tests.batch, row, mask, points))
    fits = Fits(again.batch.data, again.batch.aux, None, lanes)
    # Where a quadratic likelihood would have its minimum; and nothing but the parameter moved.
    slopes = covariance[:, held_columns] / covariance[held_columns, held_columns]
    predicted = best + ((values - best[held_columns]) * slopes).T
    again.fitter.fit(fits, {"predicted": predicted, "free": alone})
    again.search.lower("free", fits)
    again.fitter.sharpen(fits, lanes, SHARP)
    return fits, again
