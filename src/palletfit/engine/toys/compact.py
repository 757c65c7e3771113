"""One model, as small as it can be: what the fits of many data sets to it have in common.

A :class:`~palletfit.engine.lowering.Lowered` batch holds many patches, with room for what any of
them has. To fit one patch to thousands of data sets, everything that is constant is folded here
into the yields (parameters that are fixed), and everything that is idle is left out (empty samples,
parameters that multiply nothing).

What is left are *cells*: the terms of one bin that have the same factors. Cells whose factors are
the same, in whichever channels they are, form a *class*, so that the factors are made once a class.
At most one parameter of every bin that stands in no other bin (a component of a shapesys, a
staterror or a shapefactor) is called *local*: :mod:`palletfit.engine.toys.profiled` eliminates it.

Axes: B bins, C cells, R classes; K parameters of the batch, m of them shared (not local).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.interpcodes import Code, codes_at, scale, scale_coefficients, shift
from palletfit.engine.lowering import Lowered


@dataclass(frozen=True)
class Locals:
    """Find the local parameter of each bin, where there is one; all arrays ``(B,)``.

    Attributes
    ----------
    exists
        Whether there is one.
    column
        Its column among the K; zero where there is none.
    lower, upper, precision, factor
        As in :class:`palletfit.engine.parameters.ParameterSet`. Where there is no parameter, these
        describe one that always is and was measured to be one, which has no effect.
    """

    exists: NDArray[np.bool_]
    column: NDArray[np.int64]
    lower: FloatArray
    upper: FloatArray
    precision: FloatArray
    factor: FloatArray


@dataclass(frozen=True)
class Compact:
    """The terms of one patch. Cells lie in a grid, position by position within the bins: C = n B.

    Attributes
    ----------
    codes
        Interpolation codes of normsys and histosys.
    bins
        Number of bins, B, in the order of the lowered batch.
    shared
        Columns of the shared parameters, in order, ``(m,)``.
    hist, first
        The first `hist` of these have histosys modifiers; those from `first` on multiply.
    poi
        Position of the parameter of interest among these.
    nominal, odd, even
        Of each cell, ``(C,)``, ``(C, hist)``, ``(C, hist)``; zero where the grid has a gap.
    masked
        One where the local parameter of the bin multiplies the cell, ``(C,)``.
    kind
        Class of each cell, ``(C,)``.
    real
        Cells that are no gaps.
    terms
        Of the classes, as :func:`palletfit.engine.interpcodes.scale` takes them.
    factors
        Which factors multiply a class, ``(m - first - normsys, R)``.
    local
        Local parameters.
    rest
        Columns that touch no cell, or are fixed, ``(K,)``, where they have a constraint.
    """

    codes: tuple[Code, Code]
    bins: int
    shared: NDArray[np.int64]
    hist: int
    first: int
    poi: int
    nominal: FloatArray
    odd: FloatArray
    even: FloatArray
    masked: FloatArray
    kind: NDArray[np.int64]
    real: NDArray[np.int64]
    terms: dict[str, FloatArray]
    factors: FloatArray
    local: Locals
    rest: NDArray[np.bool_]

    @property
    def norms(self) -> int:
        """Number of parameters with normsys modifiers."""
        return int(self.terms["log_hi"].shape[0])

    @property
    def linear(self) -> bool:
        """True if all rates are linear in the parameters.

        The NLL is then convex: so is ``lambda - n log lambda``, and so are all constraint terms.
        """
        factors = np.sum(self.factors > 0, axis=0)[self.kind] + self.masked
        return not self.hist and not self.norms and bool(np.all(factors[self.real] <= 1))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.terms["log_hi"].shape[1])


@dataclass
class _Cell:
    """One sample in one bin, before anything is folded."""

    bin: int
    nominal: float
    odd: FloatArray
    even: FloatArray
    hi: FloatArray
    lo: FloatArray
    factors: FloatArray
    locals: list[int]


def compact(lowered: Lowered, row: int = 0) -> Compact:
    """Fold and sort the terms of one patch of a batch.

    Parameters
    ----------
    lowered
        The batch.
    row
        The patch.
    """
    return _Folder(lowered, row).fold()


def _cells(lowered: Lowered, row: int) -> Iterator[_Cell]:
    first = 0
    for block, added in zip(lowered.layout.blocks, lowered.parts, strict=True):
        for part in (block.shared, {name: values[row] for name, values in added.items()}):
            yield from _cells_of(part, block.slots, first)
        first += len(block.channels) * block.bins


def _cells_of(part: Mapping[str, Any], slots: NDArray[np.int64], first: int) -> Iterator[_Cell]:
    used = (
        (part["nominal"] != 0)
        | np.any(part["odd"] != 0, axis=-1)
        | np.any(part["even"] != 0, axis=-1)
    )
    for channel, sample, number in np.argwhere(used):
        at = channel, sample, number
        multiplies = part["bins"][at] > 0
        yield _Cell(
            bin=int(first + channel * used.shape[2] + number),
            nominal=float(part["nominal"][at]),
            odd=part["odd"][at],
            even=part["even"][at],
            hi=part["hi"][channel, sample],
            lo=part["lo"][channel, sample],
            factors=part["factors"][channel, sample],
            locals=slots[channel, number][multiplies].tolist(),
        )


class _Folder:
    """Makes a :class:`Compact`."""

    def __init__(self, lowered: Lowered, row: int) -> None:
        self.lowered, self.row, self.layout = lowered, row, lowered.layout
        self.fixed, self.init = lowered.fixed[row], lowered.init[row]
        self.cells = list(_cells(lowered, row))
        self.bins = lowered.data.shape[1]
        self.begin = self.layout.alphas + self.layout.factors  # of bin parameters
        self.local = self._choose_locals()

    def _choose_locals(self) -> NDArray[np.int64]:
        """Find the local parameter of each bin, -1 where there is none."""
        bins_of: dict[int, set[int]] = {}
        for cell in self.cells:
            for column in cell.locals:
                bins_of.setdefault(column, set()).add(cell.bin)
        chosen = np.full(self.bins, -1)
        for column, bins in sorted(bins_of.items()):
            if len(bins) == 1 and not self.fixed[self.begin + column]:
                (number,) = bins
                if chosen[number] < 0:
                    chosen[number] = column
        return chosen

    def fold(self) -> Compact:
        layout = self.layout
        used = self._used()
        shared = np.flatnonzero(used & ~self.fixed)
        scaled = shared[shared >= layout.alphas - layout.norm]
        self.normsys = scaled[scaled < layout.alphas] - (layout.alphas - layout.norm)
        self.multipliers = scaled[scaled >= layout.alphas] - layout.alphas
        self.hist = shared[shared < layout.hist]
        groups = self._merge()
        kinds = {key: number for number, key in enumerate(dict.fromkeys(key[2] for key in groups))}
        grid = self._grid(groups, kinds)
        table = np.array(list(kinds)).reshape(len(kinds), -1)
        hi, lo, factors = np.split(table.T, [len(self.normsys), 2 * len(self.normsys)])
        return Compact(
            codes=(
                codes_at(layout.codes[0], self.normsys),
                codes_at(layout.codes[1], self.hist),
            ),
            bins=self.bins,
            shared=shared,
            hist=len(self.hist),
            first=len(shared) - len(scaled),
            poi=int(np.searchsorted(shared, layout.poi)),
            terms=_class_terms(hi, lo),
            factors=np.ascontiguousarray(factors),
            local=self._locals(),
            rest=self._rest(shared),
            **grid,
        )

    def _used(self) -> NDArray[np.bool_]:
        """Shared columns that any cell depends on, and the parameter of interest."""
        layout = self.layout
        used = np.zeros(layout.parameters, dtype=bool)
        first = layout.alphas - layout.norm
        for cell in self.cells:
            used[: layout.hist] |= (cell.odd != 0) | (cell.even != 0)
            used[first : layout.alphas] |= (cell.hi != 1) | (cell.lo != 1)
            used[layout.alphas : self.begin] |= cell.factors > 0
            for column in cell.locals:
                used[self.begin + column] |= column != self.local[cell.bin]
        used[layout.poi] = True
        return used

    def _merge(self) -> dict[tuple[int, bool, tuple[float, ...]], list[FloatArray]]:
        """Add up cells that have their bin and all factors in common: nominal, odd, even."""
        groups: dict[tuple[int, bool, tuple[float, ...]], list[FloatArray]] = {}
        for cell in self.cells:
            constant, nominal = self._constant(cell)
            if constant == 0:
                continue
            masked = self.local[cell.bin] in cell.locals
            in_bin = np.zeros(self.layout.locals)
            in_bin[cell.locals] = 1.0
            if masked:
                in_bin[self.local[cell.bin]] = 0.0
            multiplies = np.concatenate([cell.factors, in_bin])[self.multipliers]
            key = (
                cell.bin,
                masked,
                (*cell.hi[self.normsys], *cell.lo[self.normsys], *multiplies),
            )
            sums = groups.setdefault(
                key, [np.zeros(1), np.zeros(len(self.hist)), np.zeros(len(self.hist))]
            )
            sums[0] += constant * nominal
            sums[1] += constant * cell.odd[self.hist]
            sums[2] += constant * cell.even[self.hist]
        return groups

    def _constant(self, cell: _Cell) -> tuple[float, float]:
        """Fold the fixed parameters of a cell: the product of their factors, and the yield."""
        layout = self.layout
        at, fixed = self.init, self.fixed
        moved = shift(
            layout.codes[1], at[: layout.hist], np.where(at[: layout.hist] < 0, -1, 1), np
        )
        still = fixed[: layout.hist]
        nominal = cell.nominal + float(
            np.sum((cell.odd * moved.odd + cell.even * moved.even)[still])
        )
        scaled = slice(layout.alphas - layout.norm, layout.alphas)
        terms = _class_terms(cell.hi[:, None], cell.lo[:, None])
        alpha = at[None, scaled]
        (factor,) = scale(
            layout.codes[0],
            *(alpha, np.where(alpha < 0, -1.0, 1.0), terms, np),
            eager=True,
            orders=1,
        )
        constant = float(np.prod(factor[0, fixed[scaled], 0]))
        multiplies = (cell.factors > 0) & fixed[layout.alphas : self.begin]
        constant *= float(np.prod(at[layout.alphas : self.begin][multiplies]))
        for column in cell.locals:
            if fixed[self.begin + column]:
                constant *= float(at[self.begin + column])
        return constant, nominal

    def _grid(self, groups: Mapping[Any, list[FloatArray]], kinds: Mapping[Any, int]) -> Any:
        count = np.bincount([key[0] for key in groups], minlength=self.bins)
        size = max(int(count.max()), 1) * self.bins
        width = len(self.hist)
        grid = {
            "nominal": np.zeros(size),
            "odd": np.zeros((size, width)),
            "even": np.zeros((size, width)),
            "masked": np.zeros(size),
            "kind": np.zeros(size, dtype=int),
        }
        filled = np.zeros(self.bins, dtype=int)
        real = []
        for (number, masked, key), (nominal, odd, even) in groups.items():
            at = filled[number] * self.bins + number
            filled[number] += 1
            real.append(at)
            grid["nominal"][at], grid["odd"][at], grid["even"][at] = nominal[0], odd, even
            grid["masked"][at], grid["kind"][at] = masked, kinds[key]
        return {**grid, "real": np.array(real, dtype=int)}

    def _locals(self) -> Locals:
        exists = self.local >= 0
        column = np.where(exists, self.begin + self.local, 0)

        def of(name: str, default: float) -> FloatArray:
            values = getattr(self.lowered, name)[self.row]
            return np.where(exists, values[column], default)

        return Locals(
            exists=exists,
            column=column,
            lower=of("lower", 1.0),
            upper=of("upper", 1.0),
            precision=of("precision", 0.0),
            factor=of("factor", 1.0),
        )

    def _rest(self, shared: NDArray[np.int64]) -> NDArray[np.bool_]:
        batch, row = self.lowered, self.row
        rest = (batch.precision[row] > 0) | (batch.factor[row] > 0)
        rest[shared] = False
        rest[self.begin + self.local[self.local >= 0]] = False
        return np.asarray(rest)


def _class_terms(hi: FloatArray, lo: FloatArray) -> dict[str, FloatArray]:
    """Polynomials and logarithms of normsys modifiers, ``(n, 7, R)`` and ``(n, R)``."""
    coefficients, log_hi, log_lo = scale_coefficients(hi, lo)
    polynomials = np.concatenate([np.ones_like(hi)[None], coefficients])
    return {
        "polynomials": np.ascontiguousarray(np.moveaxis(polynomials, 1, 0)),
        "log_hi": log_hi,
        "log_lo": log_lo,
    }
