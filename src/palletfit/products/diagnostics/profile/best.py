"""The best fit under a profile likelihood, and the parameters that are looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palletfit.core.text import did_you_mean
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.measurements import NONE
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.pulls import LowestFit, lower_fit, lowest_fit

#: How often a best fit is replaced by a lower one.
ROUNDS = 4
#: Names that an error lists.
_LISTED = 5


class BestPoint:
    """The best fit of one patch; it is replaced where another fit ends lower.

    Parameters
    ----------
    engine
        Engine of the workspace.
    patch
        Signal patch; one without operations for a complete workspace.
    mu
        Where the parameter of interest is fixed; None leaves it free.

    Attributes
    ----------
    fit
        The lowest fit.
    fall
        By how much 2 NLL has fallen since the first one.

    Raises
    ------
    PalletError
        The patch does not apply, or the engine does not support its model.
    FitError
        The fit has no finite minimum.
    """

    def __init__(self, engine: BatchedEngine, patch: Patch, mu: float | None) -> None:
        self.fit: LowestFit = lowest_fit(engine, patch, mu)
        self.fall = 0.0

    @property
    def poi(self) -> str:
        """Name of the parameter of interest; empty where there is none."""
        name = str(self.fit.tests.batch.names[0][self.fit.tests.poi])
        return "" if name == NONE else name

    @property
    def mu(self) -> float | None:
        """Value of the parameter of interest."""
        return float(self.fit.fits.point[0, self.fit.tests.poi]) if self.poi else None

    def name(self, parameter: str | None) -> str:
        """Give the name of a parameter; None is the parameter of interest.

        Raises
        ------
        PalletError
            There is none.
        """
        if parameter is None and not self.poi:
            raise PalletError(
                "There is no parameter of interest, whose likelihood could be scanned.",
                remedy="Name a parameter.",
            )
        return self.poi if parameter is None else parameter

    def column(self, name: str) -> int:
        """Find the column of a parameter that is not fixed.

        Raises
        ------
        PalletError
            The model has no such parameter, or it is fixed.
        """
        batch = self.fit.tests.batch
        columns = {parameter.name: parameter for parameter in self.fit.parameters}
        if not isinstance(name, str) or name not in columns:
            raise PalletError(
                f"The model has no parameter {name!r}.",
                remedy=f"{self._meant(name, list(columns))}It has {len(columns)} parameters, such "
                f"as {', '.join(map(repr, sorted(columns)[:_LISTED]))}.",
            )
        if columns[name].state == "fixed":
            words = f"`mu` fixes the parameter {name!r}" if name == self.poi else (
                f"The parameter {name!r} is fixed in the model"
            )  # fmt: skip
            raise PalletError(
                f"{words}, so that it has no likelihood of its own.",
                remedy="Leave it free, or choose another parameter.",
            )
        return list(batch.names[0]).index(name)

    @staticmethod
    def _meant(name: str, names: Sequence[str]) -> str:
        """Offer close names; those of a parameter with a component for each bin."""
        components = [other for other in names if other.startswith(f"{name}[")]
        if components:
            return (
                f"It has a component for each bin: {components[0]} to {components[-1]}. "
                if len(components) > 1
                else f"Its only component is {components[0]}. "
            )
        return did_you_mean(str(name), names)

    def lower(self, point: np.ndarray) -> None:
        """Replace the best fit, by one that begins at a lower point."""
        before = self.fit.record.twice_nll
        self.fit = lower_fit(self.fit, point)
        self.fall += before - self.fit.record.twice_nll

    def remarks(self) -> tuple[str, ...]:
        """List what a reader should know, a replaced best fit among it."""
        if not self.fall:
            return self.fit.remarks
        words = (
            f"these fits led to a lower minimum than the first best fit, by {self.fall:.2g} in "
            "2 NLL, which is the best fit now"
        )
        return (words, *self.fit.remarks)

    def doubts(self) -> tuple[str, ...]:
        """Give the reason why the best fit is not trusted, if it is not."""
        record = self.fit.record
        return () if record.trusted else (f"best fit: {record.reason}",)
