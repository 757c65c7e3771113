"""Hypothesis tests of many patches, as a calculation of every engine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from palletfit.engine.protocol import BatchEngine, Calculation, PatchEngine
from palletfit.engine.records import HypotestResult
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch

if TYPE_CHECKING:
    from palletfit.engine.batch import BatchFits

#: A remark on results of the reference engine.
NO_DERIVATIVES = "there are no derivatives of fits of the reference engine"


@dataclass(frozen=True)
class Hypotests(Calculation[HypotestResult]):
    """Hypothesis tests at the signal strength of the settings.

    Attributes
    ----------
    brief
        Leave the attempts out of the results.
    """

    brief: bool = False

    def in_batches(
        self, engine: BatchEngine, patches: Iterable[Patch]
    ) -> Iterator[tuple[Patch, HypotestResult | PalletfitError | str]]:
        """Test chunks of patches together, so that memory stays bounded."""
        waiting = iter(patches)
        while chunk := list(itertools.islice(waiting, engine.chunk_size())):
            began = time.perf_counter()
            batches, refused = engine.lower(chunk, testable=True)
            build_time = (time.perf_counter() - began) / len(chunk)
            for batch, members in batches:
                for row, result in self.of_batch(engine.batch_fits(batch)):
                    if isinstance(result, HypotestResult):
                        remarks = (*batch.remarks[row], *result.remarks)
                        result = replace(result, build_time=build_time, remarks=remarks)
                    yield members[row], result
            yield from refused

    def of_batch(
        self, tests: BatchFits
    ) -> Iterator[tuple[int, HypotestResult | PalletfitError | str]]:
        """Test the patches of a batch, as :meth:`BatchFits.hypotests` does."""
        return tests.hypotests(brief=self.brief)

    def by_patch(self, engine: PatchEngine, patch: Patch) -> HypotestResult:
        """Test one patch."""
        result = engine.tests_of(patch).test()
        if engine.settings.wanted_derivatives is not None:
            result = replace(result, remarks=(*result.remarks, NO_DERIVATIVES))
        if not self.brief:
            return result
        fits = {name: replace(fit, attempts=()) for name, fit in result.fits.items()}
        return replace(result, fits=fits)
