"""Hypothesis tests of many patches, as a calculation of every engine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from palletfit.engine.protocol import BatchEngine, Calculation, PatchEngine
from palletfit.engine.records import HypotestResult
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch

if TYPE_CHECKING:
    from palletfit.engine.batch import BatchFits

#: A remark on results of the reference engine.
NO_DERIVATIVES = "there are no derivatives of fits of the reference engine"
Outcome = TypeVar("Outcome")


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
        return in_chunks(engine, patches, lambda tests: tests.hypotests(brief=self.brief))

    def by_patch(self, engine: PatchEngine, patch: Patch) -> HypotestResult:
        """Test one patch."""
        result = engine.tests_of(patch).test()
        if engine.settings.wanted_derivatives is not None:
            result = replace(result, remarks=(*result.remarks, NO_DERIVATIVES))
        if not self.brief:
            return result
        fits = {name: replace(fit, attempts=()) for name, fit in result.fits.items()}
        return replace(result, fits=fits)


def in_chunks(
    engine: BatchEngine,
    patches: Iterable[Patch],
    of_batch: Callable[[BatchFits], Iterator[tuple[int, Outcome]]],
) -> Iterator[tuple[Patch, Outcome | PalletfitError | str]]:
    """Call a function with the fits of batches of patches, so that memory stays bounded.

    Parameters
    ----------
    engine, patches
        Engine, and patches, of which a chunk is lowered at once.
    of_batch
        Gives outcomes of rows of a batch.

    Yields
    ------
    tuple
        Each patch with its outcome, with the error, or with the reason why the engine does not
        support it.
    """
    waiting = iter(patches)
    while chunk := list(itertools.islice(waiting, engine.chunk_size())):
        began = time.perf_counter()
        batches, refused = engine.lower(chunk, testable=True)
        build_time = (time.perf_counter() - began) / len(chunk)
        for batch, members in batches:
            for row, outcome in of_batch(engine.batch_fits(batch)):
                yield members[row], with_remarks(outcome, batch.remarks[row], build_time)
        yield from refused


def with_remarks(result: Outcome, remarks: Sequence[str], build_time: float) -> Outcome:
    """Add to a result the remarks of its model, and the seconds that building it took."""
    if isinstance(result, HypotestResult):
        return replace(result, build_time=build_time, remarks=(*remarks, *result.remarks))
    return result
