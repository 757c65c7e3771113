"""Minima of the likelihoods of many patches at one signal strength, or with it free."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from palletfit.engine.causes import stopped
from palletfit.engine.fit_records import fit_records
from palletfit.engine.protocol import BatchEngine, Calculation, PatchEngine
from palletfit.engine.records import Fit, Status, finite
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch


@dataclass(frozen=True)
class Minimum:
    """Lowest minimum of one likelihood.

    Attributes
    ----------
    evidence
        2 NLL there with all constants, as pyhf's, and why it is the minimum.
    engine
        What made the fit: ``batched`` or ``reference``.
    remarks
        What a reader should know.
    """

    evidence: Fit
    engine: str = "batched"
    remarks: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """``ok`` if the minimum is trusted."""
        return "ok" if self.evidence.trusted else "suspect"

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        fit = self.evidence
        plain: dict[str, Any] = finite(
            {
                "status": self.status,
                "nll": fit.twice_nll / 2,
                "twice_nll": fit.twice_nll,
                "mu": fit.mu,
                "at_bounds": fit.at_bounds,
                "edm": fit.edm,
                "reason": fit.reason,
                "engine": self.engine,
                "remarks": self.remarks,
            }
        )
        return plain


@dataclass(frozen=True)
class Minima(Calculation[Minimum]):
    """Fits of the data with the parameter of interest free or fixed, as of ``palletfit.fit``.

    Attributes
    ----------
    mu
        Where it is fixed; None leaves it free.
    """

    mu: float | None

    def in_batches(
        self, engine: BatchEngine, patches: Iterable[Patch]
    ) -> Iterator[tuple[Patch, Minimum | PalletfitError | str]]:
        """Fit chunks of patches together, so that memory stays bounded."""
        waiting = iter(patches)
        while chunk := list(itertools.islice(waiting, engine.chunk_size())):
            batches, refused = engine.lower(chunk)
            for batch, members in batches:
                fits = engine.batch_fits(batch).lowest(self.mu)
                records = fit_records(batch, fits, brief=True)
                for row, (patch, record) in enumerate(zip(members, records, strict=True)):
                    if record.trusted:
                        yield patch, Minimum(record, remarks=tuple(batch.remarks[row]))
                    elif fits.stopped()[row]:
                        yield patch, stopped("fit", record.reason)
                    else:
                        yield patch, f"its fit: {record.reason}"
            yield from refused

    def by_patch(self, engine: PatchEngine, patch: Patch) -> Minimum:
        """Fit one patch."""
        best = engine.fit(patch, self.mu)
        return Minimum(best.evidence, best.engine, best.remarks)
