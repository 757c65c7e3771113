"""The batched engine: the hypothesis tests of many patches at once.

The background is lowered to arrays once (:mod:`palletfit.engine.lowering`), and all patches are
fitted together (:mod:`palletfit.engine.newton`), each fit from several starts
(:mod:`palletfit.engine.batch`). The lowest minimum counts; a patch with a fit that does not
converge, or that this engine does not support, goes to the reference engine, and its result says
so.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from palletfit.config import FitSettings
from palletfit.engine.arrays import Arrays, make_arrays
from palletfit.engine.batch import SHARP, BatchFits, DataFits
from palletfit.engine.evaluation import Compiled
from palletfit.engine.fit_records import fit_records
from palletfit.engine.layout import Layout
from palletfit.engine.lowering import Background, Lowered
from palletfit.engine.records import BestFit, HypotestResult
from palletfit.engine.reference import hypotests as reference
from palletfit.engine.samples import Spec
from palletfit.errors import FitError, PalletError, PalletfitError
from palletfit.pallet.patches import Patch, apply, apply_sharing

#: At least so many patches are tested together.
_CHUNK = 64


class Engine:
    """Hypothesis tests of the patches of one background-only workspace.

    Parameters
    ----------
    workspace
        Background-only workspace; must not change while this object lives.
    settings
        Physics of the tests. Of these `optimizer`, `starts` and `escalate` concern the reference
        engine only.
    arrays
        Array library; by default that of ``settings.backend``.

    Attributes
    ----------
    software
        Versions of what results depend on.

    Raises
    ------
    BackendError
        The array library is not installed.
    """

    def __init__(
        self, workspace: Spec, settings: FitSettings, *, arrays: Arrays | None = None
    ) -> None:
        self.workspace, self.settings = workspace, settings
        self.arrays = arrays or make_arrays("jax" if settings.backend == "jax" else "numpy")
        self._background = Background(workspace, settings)
        self.software = reference.software_versions(settings)
        self._compiled: dict[Layout, Compiled] = {}

    def hypotests(
        self, patches: Iterable[Patch], *, brief: bool = False
    ) -> Iterator[tuple[Patch, HypotestResult | PalletfitError]]:
        """Test many patches together.

        Parameters
        ----------
        patches
            Any number of them: they are taken in chunks, so that memory stays bounded.
        brief
            Leave the attempts out of the results. The fits are the same.

        Yields
        ------
        tuple
            Each patch once, not in order, with its result or the error that explains why there
            is none.
        """
        waiting = iter(patches)
        while chunk := list(itertools.islice(waiting, self._chunk())):
            yield from self._hypotests(chunk, brief=brief)

    def _chunk(self) -> int:
        """How many patches are tested together: more where many fits advance together."""
        lanes = [self.arrays.lanes_of(layout.size) for layout in self._compiled]
        return max(_CHUNK, self.arrays.lanes, *(2 * count for count in lanes))

    def _hypotests(
        self, patches: Sequence[Patch], *, brief: bool
    ) -> Iterator[tuple[Patch, HypotestResult | PalletfitError]]:
        began = time.perf_counter()
        batches, others = self.lower(patches)
        build_time = (time.perf_counter() - began) / max(len(patches), 1)
        for batch, some in batches:
            for row, result in self.batch_fits(batch).hypotests(brief=brief):
                if isinstance(result, HypotestResult):
                    yield some[row], replace(result, build_time=build_time)
                else:
                    yield some[row], self._refer(some[row], result)
        for patch, reason in others:
            yield patch, self._refer(patch, reason)

    def fit(
        self, patch: Patch, mu: float | None, *, asimov: Mapping[str, float] | None = None
    ) -> BestFit:
        """Fit one patch to the data, with `mu` free or fixed.

        Parameters
        ----------
        patch
            Signal patch.
        mu
            Where the parameter of interest is fixed; None leaves it free.
        asimov
            Fit Asimov data instead: those that these parameters, by name, expect.

        Raises
        ------
        PalletError
            The patch does not apply, or the engine does not support its model.
        FitError
            No start led to a proven minimum.
        """
        batch = self._lower_one(patch, "Fit it with pyhf.infer.mle.fit.")
        return self.batch_fits(batch).best_fit(mu, asimov)

    def data_fits(self, patch: Patch) -> DataFits:
        """The fits of one patch to the data, with where they ended.

        Raises
        ------
        PalletError
            The patch does not apply, or the engine does not support its model.
        FitError
            A fit has no proven minimum.
        """
        batch = self._lower_one(patch, "Use pyhf.infer.hypotest with calctype='toybased'.")
        tests = self.batch_fits(batch)
        fits = tests.data_fits()
        for fits_of_kind in fits.values():
            # What is generated at a minimum depends on it to first order.
            tests.fitter.sharpen(fits_of_kind, tests.rows, SHARP)
        evidence = {name: fit_records(batch, kind)[0] for name, kind in fits.items()}
        for name, fit in evidence.items():
            if not fit.trusted:
                raise FitError(
                    f"The {name} fit to the data has no proven minimum: {fit.reason}.",
                    remedy="Look at the yields of this patch.",
                    patch=patch.name,
                )
        points = {name: kind.point[0] for name, kind in fits.items()}
        expected = {
            name: tests.likelihood.rates(kind, kind.point)[0] for name, kind in fits.items()
        }
        return DataFits(batch, evidence, points, expected)

    def _lower_one(self, patch: Patch, remedy: str) -> Lowered:
        batches, others = self.lower([patch])
        for _, reason in others:
            if isinstance(reason, PalletfitError):
                raise reason
            raise PalletError(
                f"The batched engine does not support this model: {reason}.",
                remedy=remedy,
                patch=patch.name,
            )
        return batches[0][0]

    def _refer(self, patch: Patch, reason: PalletfitError | str) -> HypotestResult | PalletfitError:
        """Leave a patch to the reference engine, unless nobody can fit it."""
        if isinstance(reason, PalletfitError):
            reason.patch = patch.name
            return reason
        settings = self.settings.model_copy(update={"engine": "reference"})
        try:
            result = reference.hypotest(apply(self.workspace, patch), settings)
        except PalletfitError as error:
            error.patch = patch.name
            return error
        remark = f"fitted by the reference engine: {reason}"
        return replace(result, remarks=(remark, *result.remarks))

    def lower(
        self, patches: Sequence[Patch]
    ) -> tuple[list[tuple[Lowered, list[Patch]]], list[tuple[Patch, PalletfitError | str]]]:
        """Bring patches into arrays.

        Returns
        -------
        tuple
            Batches, with the patch of each row; and patches that are in none, with the error, or
            the reason why this engine does not support them.
        """
        specs: list[Spec] = []
        sound: list[Patch] = []
        others: list[tuple[Patch, PalletfitError | str]] = []
        for patch in patches:
            try:
                specs.append(apply_sharing(self.workspace, patch))
                sound.append(patch)
            except PalletfitError as error:
                others.append((patch, error))
        batches, unsupported = self._background.lower(specs)
        others += [(sound[index], reason) for index, reason in unsupported.items()]
        return [(batch, [sound[index] for index in batch.index]) for batch in batches], others

    def batch_fits(self, batch: Lowered, settings: FitSettings | None = None) -> BatchFits:
        """Make the fits of a lowered batch, with these settings or the engine's own."""
        return BatchFits(
            self.compiled(batch.layout), batch, settings or self.settings, self.software
        )

    def compiled(self, layout: Layout) -> Compiled:
        """Give what all batches of a layout share."""
        if layout not in self._compiled:
            self._compiled[layout] = Compiled(self.arrays, layout)
        return self._compiled[layout]
