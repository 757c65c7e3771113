"""Shifts between minima of toys: what leads from one valley to another in one toy does in others.

Toys of one model differ in their data, and each has minima of its own. But where a likelihood has
two valleys, the way from one to the other is much the same in all toys. So pairs of minima that
fits of one data set happen to end at tell where those of all others may have to be looked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray

#: Two ends are other minima if a parameter is further away than so many prefit standard deviations.
_APART = 0.5
#: Shifts are alike if the cosine of the angle between them is larger.
_ALIKE = 0.8
#: How many shifts are compared, and how many kinds of them are kept.
_COMPARED, _KINDS = 1000, 16


class Shifts:
    """Shifts between minima, in prefit standard deviations.

    Parameters
    ----------
    widths
        Prefit standard deviations, ``(K,)``.
    columns
        Columns of the parameters that count.
    """

    def __init__(self, widths: FloatArray, columns: NDArray[np.int64]) -> None:
        self.widths, self.columns = widths, columns
        self._seen: list[FloatArray] = []

    def add(self, before: FloatArray, after: FloatArray) -> None:
        """Note pairs of minima, ``(n, K)`` each; what is one minimum does not count."""
        shift = ((after - before) / self.widths)[:, self.columns]
        apart = np.abs(shift).max(axis=1, initial=0.0) > _APART
        self._seen += [*shift[apart]]

    def kinds(self) -> FloatArray:
        """Choose shifts that stand for all others, those with the most alike first, ``(n, K)``.

        Each is the mean of those that are alike, and counts them once. Any shift may be taken both
        ways.
        """
        step = max(1, -(-len(self._seen) // _COMPARED))
        shifts = np.reshape(self._seen[::step], (-1, len(self.columns)))
        shifts = np.concatenate([shifts, -shifts])
        units = shifts / np.linalg.norm(shifts, axis=1, keepdims=True)
        alike = units @ units.T > _ALIKE
        chosen: list[FloatArray] = []
        left = np.ones(len(shifts), dtype=bool)
        while left.any() and len(chosen) < _KINDS:
            first = int(np.argmax(np.where(left, alike[:, left].sum(axis=1), -1)))
            group = alike[first] & left
            chosen.append(shifts[group].mean(axis=0))
            left &= ~group
        kinds = np.zeros((len(chosen), len(self.widths)))
        if chosen:
            kinds[:, self.columns] = np.array(chosen) * self.widths[self.columns]
        return kinds
