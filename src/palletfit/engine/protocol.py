"""The interface of engines, and the calculations that any of them can make.

There are two kinds of engines: one that fits many patches together, and one that tests patches one
by one. A product asks an :class:`Engine`; where the two kinds go different ways, it describes both
of them in a :class:`Calculation`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import Field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch

if TYPE_CHECKING:
    from palletfit.config import FitSettings
    from palletfit.engine.arrays import Arrays
    from palletfit.engine.batch import BatchFits, Hints
    from palletfit.engine.lowering import Lowered
    from palletfit.engine.records import BestFit, HypotestResult
    from palletfit.engine.samples import Spec


class Remarked(Protocol):
    """A data class with remarks."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks that a reader should know."""


Result = TypeVar("Result", bound=Remarked)


class Engine(Protocol):
    """Fits the patches of one background-only workspace.

    Attributes
    ----------
    workspace
        Background-only workspace.
    settings
        Physics of the tests.
    """

    workspace: Spec
    settings: FitSettings

    def hypotests(
        self, patches: Iterable[Patch], *, brief: bool = False
    ) -> Iterator[tuple[Patch, HypotestResult | PalletfitError]]:
        """Test many patches.

        Parameters
        ----------
        patches
            Any number of them.
        brief
            Leave the attempts out of the results. The fits are the same.

        Yields
        ------
        tuple
            Each patch once, in any order, with its result or the error that explains why there is
            none.
        """

    def fit(self, patch: Patch, mu: float | None) -> BestFit:
        """Fit one patch to the data, with `mu` free (None) or fixed.

        Raises
        ------
        PalletError
            The patch does not apply, or the engine does not support its model.
        FitError
            No start led to a trusted minimum.
        """

    def calculate(
        self, calculation: Calculation[Result], patches: Iterable[Patch]
    ) -> Iterator[tuple[Patch, Result | PalletfitError]]:
        """Make a calculation for many patches; yields as :meth:`hypotests`."""

    def with_workspace(self, workspace: Spec) -> Engine:
        """Make an engine of the same kind for another workspace."""


class BatchEngine(Protocol):
    """The part of an engine that calculations in batches use."""

    arrays: Arrays

    def lower(
        self, patches: Sequence[Patch], *, testable: bool = False
    ) -> tuple[list[tuple[Lowered, list[Patch]]], list[tuple[Patch, PalletfitError | str]]]:
        """Bring patches into arrays.

        Parameters
        ----------
        patches
            Signal patches.
        testable
            Refuse patches without a background-only likelihood, too.

        Returns
        -------
        tuple
            Batches, with the patch of each row; and patches that are in none, with the error, or
            the reason why the engine does not support them.
        """

    def batch_fits(
        self, batch: Lowered, settings: FitSettings | None = None, hints: Hints | None = None
    ) -> BatchFits:
        """Make the fits of a lowered batch, with these settings or the engine's own.

        Rows and points of ``hints`` are further starts of fits by name.
        """

    def chunk_size(self) -> int:
        """Say how many patches are best tested together."""


class PatchTests(Protocol):
    """Hypothesis tests of one patch at any signal strength."""

    def test(self, mu: float | None = None) -> HypotestResult:
        """Test one signal strength, by default that of the settings; a repeated one only once."""

    def poi_bounds(self) -> tuple[float, float]:
        """Give the bounds of the parameter of interest."""


class PatchEngine(Protocol):
    """The part of an engine that calculations patch by patch use."""

    settings: FitSettings

    def tests_of(self, patch: Patch) -> PatchTests:
        """Prepare the hypothesis tests of a patch."""

    def fit(self, patch: Patch, mu: float | None) -> BestFit:
        """Fit one patch to the data, with `mu` free (None) or fixed."""


class Calculation(ABC, Generic[Result]):
    """A result of a patch that every engine can make, each kind in its own way."""

    @abstractmethod
    def in_batches(
        self, engine: BatchEngine, patches: Iterable[Patch]
    ) -> Iterator[tuple[Patch, Result | PalletfitError | str]]:
        """Make it for many patches together.

        Yields
        ------
        tuple
            Each patch once, in any order, with its result, the error that explains why there is
            none, or in words why another engine has to make it.
        """

    @abstractmethod
    def by_patch(self, engine: PatchEngine, patch: Patch) -> Result:
        """Make it for one patch.

        Raises
        ------
        PalletfitError
            There is no result.
        """
