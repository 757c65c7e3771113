"""The order in which pyhf lists parameters, bins and auxiliary data, without a model of pyhf.

Source: ``pyhf.pdf._nominal_and_modifiers_from_spec`` of pyhf 0.7, and the builders of modifiers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.lowering import Lowered
from palletfit.engine.samples import Spec
from palletfit.errors import PalletError

#: pyhf's order of the types of modifiers.
_TYPES = ("histosys", "lumi", "normfactor", "normsys", "shapefactor", "shapesys", "staterror")


def parameter_order(spec: Spec) -> list[str]:
    """List the names of the parameters of a full workspace in pyhf's order.

    Parameters come type by type, as their modifiers are met in the sorted channels and samples;
    staterrors are sorted by name.
    """
    names: dict[str, dict[str, None]] = {kind: {} for kind in _TYPES}
    for channel in sorted(spec["channels"], key=lambda entry: str(entry["name"])):
        for sample in sorted(channel["samples"], key=lambda entry: str(entry["name"])):
            for name, kind in sorted(
                (entry["name"], entry["type"]) for entry in sample["modifiers"]
            ):
                names[kind][name] = None
    names["staterror"] = dict.fromkeys(sorted(names["staterror"]))
    return list(dict.fromkeys(name for kind in _TYPES for name in names[kind]))


@dataclass(frozen=True)
class Order:
    """Places of pyhf's parameters and data in the arrays of a batch of one patch.

    Attributes
    ----------
    names
        Names of the components of all parameters, N of them.
    columns
        Column of each of them, ``(N,)``.
    constrained
        Columns that have auxiliary data, in their order, ``(A,)``.
    bins
        Position in pyhf's main data of each bin of the batch, ``(B,)``.
    """

    names: tuple[str, ...]
    columns: NDArray[np.int64]
    constrained: NDArray[np.int64]
    bins: NDArray[np.int64]

    @classmethod
    def of(cls, spec: Spec, batch: Lowered) -> Order:
        """Find the order of a full workspace, and the columns of its lowered batch."""
        column = {name: number for number, name in enumerate(batch.names[0]) if name is not None}
        names: list[str] = []
        for name in parameter_order(spec):
            if name in column:
                names.append(name)
                continue
            number = 0
            while f"{name}[{number}]" in column:
                names.append(f"{name}[{number}]")
                number += 1
        columns = np.array([column[name] for name in names])
        has_data = (batch.precision[0] > 0) | (batch.factor[0] > 0)
        return cls(tuple(names), columns, columns[has_data[columns]], batch.layout.bin_order)

    def main(self, counts: FloatArray) -> FloatArray:
        """Bring main data of a batch into pyhf's order, ``(..., B)``."""
        ordered = np.empty_like(counts)
        ordered[..., self.bins] = counts
        return ordered

    def data(self, main: FloatArray, aux: FloatArray) -> FloatArray:
        """Join main and auxiliary data of a batch, ``(..., B)`` and ``(..., K)``, as pyhf does."""
        return np.concatenate([self.main(main), aux[..., self.constrained]], axis=-1)

    def split(self, data: FloatArray, aux: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Split pyhf's data, ``(B + A,)``, into main and auxiliary data of a batch.

        Parameters
        ----------
        data
            Main and auxiliary data in pyhf's order.
        aux
            Auxiliary data of the batch, ``(K,)``, of which a changed copy is given.

        Raises
        ------
        PalletError
            The number of values is another one, or one of them is not finite, or a count is below
            zero.
        """
        values, bins = np.asarray(data, dtype=float).ravel(), len(self.bins)
        if len(values) != bins + len(self.constrained):
            raise PalletError(
                f"The data have {len(values)} values, and the model has {bins} bins and "
                f"{len(self.constrained)} auxiliary data.",
                remedy="Give main and auxiliary data together, as `expected_data` does.",
            )
        if not np.all(np.isfinite(values)) or np.any(values[:bins] < 0):
            raise PalletError(
                "A value of the data is not finite, or an observed count is below zero.",
                remedy="Correct the data that should be fitted.",
            )
        changed = aux.copy()
        changed[self.constrained] = values[bins:]
        return values[:bins][self.bins], changed

    def point(self, parameters: FloatArray, default: FloatArray) -> FloatArray:
        """Bring parameters, ``(N,)``, into the columns of a batch, ``(K,)``.

        Raises
        ------
        PalletError
            Their number is another one.
        """
        values = np.asarray(parameters, dtype=float).ravel()
        if len(values) != len(self.names):
            raise PalletError(
                f"{len(values)} parameters are given, and the model has {len(self.names)}.",
                remedy="Give all of them in the order of `config().parameter_names`.",
            )
        point = default.copy()
        point[self.columns] = values
        return point
