"""The reference engine: pyhf makes all fits, patch by patch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from palletfit.config import FitSettings
from palletfit.engine.hypotests import Hypotests
from palletfit.engine.protocol import Calculation, Result
from palletfit.engine.records import BestFit, HypotestResult
from palletfit.engine.reference import hypotests as reference
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch, apply


class ReferenceEngine:
    """Fits the patches of one background-only workspace with pyhf.

    Parameters
    ----------
    workspace
        Background-only workspace.
    settings
        Physics of the tests, backend and optimizer.
    """

    def __init__(self, workspace: Mapping[str, Any], settings: FitSettings) -> None:
        self.workspace = workspace
        self.settings = settings.model_copy(update={"engine": "reference"})

    def hypotests(
        self, patches: Iterable[Patch], *, brief: bool = False
    ) -> Iterator[tuple[Patch, HypotestResult | PalletfitError]]:
        """Test patches one by one; see :meth:`palletfit.engine.protocol.Engine.hypotests`."""
        return self.calculate(Hypotests(brief), patches)

    def fit(self, patch: Patch, mu: float | None) -> BestFit:
        """Fit one patch to the data; see :meth:`palletfit.engine.protocol.Engine.fit`."""
        try:
            return reference.fit(apply(self.workspace, patch), self.settings, mu)
        except PalletfitError as error:
            error.patch = patch.name
            raise

    def calculate(
        self, calculation: Calculation[Result], patches: Iterable[Patch]
    ) -> Iterator[tuple[Patch, Result | PalletfitError]]:
        """Make a calculation for patches, one by one and in their order."""
        for patch in patches:
            try:
                yield patch, calculation.by_patch(self, patch)
            except PalletfitError as error:
                error.patch = patch.name
                yield patch, error

    def with_workspace(self, workspace: Mapping[str, Any]) -> ReferenceEngine:
        """Make an engine with the same settings for another workspace."""
        return ReferenceEngine(workspace, self.settings)

    def tests_of(self, patch: Patch) -> ReferenceTests:
        """Prepare the hypothesis tests of a patch.

        Raises
        ------
        PalletError
            It does not apply.
        """
        return ReferenceTests(apply(self.workspace, patch), self.settings)


class ReferenceTests:
    """Hypothesis tests of one full workspace at any signal strength, each made once.

    Parameters
    ----------
    spec
        The background with its signal patch.
    settings
        Physics of the tests.
    """

    def __init__(self, spec: Mapping[str, Any], settings: FitSettings) -> None:
        self.spec, self.settings = spec, settings
        self._results: dict[float, HypotestResult] = {}

    def test(self, mu: float | None = None) -> HypotestResult:
        """Test one signal strength, by default that of the settings."""
        mu = self.settings.mu if mu is None else mu
        if mu not in self._results:
            settings = self.settings.model_copy(update={"mu": mu})
            self._results[mu] = reference.hypotest(self.spec, settings)
        return self._results[mu]

    def poi_bounds(self) -> tuple[float, float]:
        """Give the bounds of the parameter of interest."""
        return reference.poi_bounds(self.spec, self.settings)
