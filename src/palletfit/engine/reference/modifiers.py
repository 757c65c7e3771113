"""pyhf's modifiers, where pyhf 0.7.6 departs from HistFactory.

A model without such a modifier is pyhf's own, to the last bit.

- The interpolation code2 of a histosys goes on as a straight line beyond ``|alpha| = 1`` (Cranmer
  et al., "HistFactory", CERN-OPEN-2012-016, section 4.1). pyhf's leaves out a constant there, so
  that yields jump.
- The width of a staterror, and of a shapesys, is the uncertainty over the size of the yield, which
  may be negative (an interference). pyhf fixes such a parameter without a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyhf
from pyhf.modifiers import histosys, shapesys, staterror


class Code2(pyhf.interpolators.code2):  # type: ignore[misc]
    """Quadratic interpolation with a linear extrapolation that begins where it ends."""

    def __call__(self, alphasets: Any) -> Any:
        """Compute shifts ``(systematics, histograms, alphas, bins)``."""
        tensorlib, _ = pyhf.get_backend()
        zero = 0.0 * alphasets
        above = tensorlib.where(alphasets > 1.0, alphasets - 1.0, zero)
        below = tensorlib.where(alphasets < -1.0, alphasets + 1.0, zero)
        inside = alphasets - above - below
        return (
            tensorlib.einsum("sa,shb->shab", inside * inside, self.a)
            + tensorlib.einsum("sa,shb->shab", inside, self.b)
            + tensorlib.einsum("sa,shb->shab", above, self.b_plus_2a)
            + tensorlib.einsum("sa,shb->shab", below, self.b_minus_2a)
        )


class _Histosys(histosys.histosys_combined):  # type: ignore[misc]
    """Histosys modifiers, of which code2 is corrected."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.interpcode == "code2" and hasattr(self, "interpolator"):
            self.interpolator = Code2(self._histosys_histoset)


class _StaterrorBuilder(staterror.staterror_builder):  # type: ignore[misc]
    """Widths of staterror modifiers, also where the sum of yields is negative."""

    def finalize(self) -> Any:
        """Collect the modifiers' data; see pyhf."""
        data = super().finalize()
        for key, samples in data.items():
            carrying = [
                sample["data"] for sample in samples.values() if np.any(sample["data"]["mask"])
            ]
            mask = np.asarray(carrying[0]["mask"], dtype=bool)
            nominal = np.sum([part["nom_data"] for part in carrying], axis=0)[mask]
            if not np.any(nominal < 0):
                continue
            errors = np.array([part["uncrt"] for part in carrying], dtype=float)[:, mask]
            usable = nominal != 0
            sizes = np.where(usable, np.abs(nominal), 1.0)
            widths = np.where(usable, np.sqrt(np.sum((errors / sizes) ** 2, axis=0)), 0.0)
            fixed = widths == 0
            parameters = staterror.required_parset(
                np.where(fixed, 1.0, widths).tolist(), fixed.tolist()
            )
            self.required_parsets[key.split("/")[1]] = [parameters]
        return data


class _ShapesysBuilder(shapesys.shapesys_builder):  # type: ignore[misc]
    """Constraints of shapesys modifiers, also where a yield or an uncertainty is negative."""

    def append(self, key: str, channel: str, sample: str, thismod: Any, defined_samp: Any) -> None:
        """Add a sample; see pyhf."""
        super().append(key, channel, sample, thismod, defined_samp)
        if thismod and min([*defined_samp["data"], *thismod["data"]], default=0.0) < 0:
            yields, errors = np.abs(defined_samp["data"]), np.abs(thismod["data"])
            parameters = shapesys.required_parset(yields.tolist(), errors.tolist())
            self.required_parsets[thismod["name"]] = [parameters]


#: All modifiers, as a model takes them.
MODIFIERS = {
    **pyhf.modifiers.histfactory_set,
    "histosys": (histosys.histosys_builder, _Histosys),
    "staterror": (_StaterrorBuilder, staterror.staterror_combined),
    "shapesys": (_ShapesysBuilder, shapesys.shapesys_combined),
}
