"""The engine's NLL of a complete workspace, with pyhf's constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from palletfit.config import FitSettings
from palletfit.engine.arrays import Arrays
from palletfit.engine.likelihood import (
    CLIP_WIDTH,
    Derivatives,
    constants,
    evaluate,
    own_arrays,
    own_of,
    shared_arrays,
)
from palletfit.engine.lowering import Background, Lowered
from palletfit.pallet.patches import Patch, apply_sharing


class Model:
    """A complete workspace, lowered."""

    def __init__(self, workspace: Mapping[str, Any], settings: FitSettings | None = None) -> None:
        spec = apply_sharing(workspace, Patch("", (), ()))
        batches, reasons = Background(workspace, settings or FitSettings()).lower([spec])
        assert not reasons, reasons
        (self.lowered,) = batches
        self._shared = shared_arrays(self.lowered.layout)
        self._own = own_arrays(self.lowered)

    @property
    def names(self) -> list[str]:
        """Parameters by column; the empty name where there is none."""
        return [name or "" for name in self.lowered.names[0]]

    def setting(self, name: str, key: str) -> float:
        """A setting of a parameter, such as `lower`, `aux` or `fixed`."""
        return getattr(self.lowered, key)[0][self.names.index(name)]

    def point(self, values: Mapping[str, float]) -> np.ndarray:
        """Columns with these values, and start values of the others."""
        unknown = values.keys() - set(self.names)
        assert not unknown, unknown
        pairs = zip(self.names, self.lowered.init[0], strict=True)
        return np.array([values.get(name, init) for name, init in pairs])

    def derivatives(self, point: np.ndarray) -> Derivatives:
        lowered: Lowered = self.lowered
        lane = {name: getattr(lowered, name) for name in ("data", "aux", "precision", "factor")}
        lane |= {"own": own_of(self._own, np.array([0])), "clip": np.full(1, CLIP_WIDTH)}
        with np.errstate(all="ignore"):
            return evaluate(Arrays(), lowered.layout, self._shared, lane, point[None], None)

    def nll(self, values: Mapping[str, float]) -> float:
        """NLL with all constants at parameters by name."""
        value = self.derivatives(self.point(values)).value[0]
        return float(value + constants(self.lowered, self.lowered.data, self.lowered.aux)[0])
