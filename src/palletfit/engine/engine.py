"""The batched engine: the fits of many patches at once.

The background is lowered to arrays once (:mod:`palletfit.engine.lowering`), and all patches are
fitted together (:mod:`palletfit.engine.newton`), each fit from several starts
(:mod:`palletfit.engine.batch`). The lowest minimum counts; a patch with a fit that does not
converge, or that this engine does not support, goes to the reference engine, and its result says
so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from palletfit.config import FitSettings
from palletfit.engine.arrays import Arrays, make_arrays
from palletfit.engine.batch import SHARP, BatchFits, DataFits, Hints
from palletfit.engine.evaluation import Compiled
from palletfit.engine.fit_records import fit_records
from palletfit.engine.hypotests import Hypotests
from palletfit.engine.layout import Layout
from palletfit.engine.lowering import Background, Lowered
from palletfit.engine.protocol import Calculation, Result
from palletfit.engine.records import BestFit, HypotestResult
from palletfit.engine.reference.engine import ReferenceEngine
from palletfit.engine.reference.hypotests import software_versions
from palletfit.engine.refusals import check_background, check_model
from palletfit.engine.samples import Spec
from palletfit.errors import FitError, PalletError, PalletfitError
from palletfit.pallet.patches import Patch, apply_sharing

#: At least so many patches are tested together.
_CHUNK = 64


class BatchedEngine:
    """Fits the patches of one background-only workspace, many at once.

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
        self.software = software_versions(settings)
        self._background = Background(workspace, settings)
        self._reference = ReferenceEngine(workspace, settings)
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
        return self.calculate(Hypotests(brief), patches)

    def calculate(
        self, calculation: Calculation[Result], patches: Iterable[Patch]
    ) -> Iterator[tuple[Patch, Result | PalletfitError]]:
        """Make a calculation for many patches, with the reference engine as the fallback.

        Parameters
        ----------
        calculation
            What is computed.
        patches
            Any number of them.

        Yields
        ------
        tuple
            As :meth:`hypotests`. The first remark of a result says if the reference engine made it,
            and why.
        """
        for patch, outcome in calculation.in_batches(self, patches):
            if isinstance(outcome, PalletfitError):
                # No engine can fit it.
                outcome.patch = patch.name
                yield patch, outcome
            elif isinstance(outcome, str):
                yield patch, self._fall_back(calculation, patch, outcome)
            else:
                yield patch, outcome

    def _fall_back(
        self, calculation: Calculation[Result], patch: Patch, reason: str
    ) -> Result | PalletfitError:
        """Let the reference engine make a calculation."""
        ((_, result),) = self._reference.calculate(calculation, [patch])
        if isinstance(result, PalletfitError):
            return result
        remark = f"fitted by the reference engine: {reason}"
        return replace(result, remarks=(remark, *result.remarks))

    def with_workspace(self, workspace: Spec) -> BatchedEngine:
        """Make an engine with the same settings and arrays for another workspace."""
        return BatchedEngine(workspace, self.settings, arrays=self.arrays)

    def with_settings(self, settings: FitSettings) -> BatchedEngine:
        """Make an engine with other settings for the same workspace and arrays.

        It shares the lowered background and compiled functions, unless the settings concern them.
        """
        engine = BatchedEngine(self.workspace, settings, arrays=self.arrays)
        concerned = ("measurement", "normsys", "histosys")
        if all(getattr(settings, name) == getattr(self.settings, name) for name in concerned):
            engine._background, engine._compiled = self._background, self._compiled
        return engine

    @property
    def layouts(self) -> int:
        """Number of structures of models whose compiled functions are kept."""
        return len(self._compiled)

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
        batch = self.lower_one(patch)
        return self.batch_fits(batch).best_fit(mu, asimov)

    def data_fits(self, patch: Patch) -> DataFits:
        """Fit one patch to the data: background-only, free, and at the tested signal strength.

        Raises
        ------
        PalletError
            The patch does not apply, or the engine does not support its model.
        FitError
            A fit has no proven minimum.
        """
        remedy = "Use pyhf.infer.hypotest with calctype='toybased'."
        batch = self.lower_one(patch, remedy, testable=True)
        tests = self.batch_fits(batch)
        by_name = tests.data_fits()
        for fits in by_name.values():
            # What is generated at a minimum depends on it to first order.
            tests.fitter.sharpen(fits, tests.rows, SHARP)
            tests.explain(fits, tests.rows)
        evidence = {name: fit_records(batch, fits)[0] for name, fits in by_name.items()}
        for name, fit in evidence.items():
            if not fit.trusted:
                raise FitError(
                    f"The {name} fit to the data has no proven minimum: {fit.reason}.",
                    remedy="Look at the yields of this patch.",
                    patch=patch.name,
                )
        points = {name: fits.point[0] for name, fits in by_name.items()}
        expected = {
            name: tests.likelihood.rates(fits, fits.point)[0] for name, fits in by_name.items()
        }
        return DataFits(batch, evidence, points, expected)

    def lower_one(
        self,
        patch: Patch,
        remedy: str = "Fit it with pyhf.infer.mle.fit.",
        *,
        testable: bool = False,
    ) -> Lowered:
        """Bring one patch into arrays.

        Raises
        ------
        PalletError
            The patch does not apply, or the engine does not support its model; with `remedy`.
        """
        batches, refused = self.lower([patch], testable=testable)
        for _, reason in refused:
            if isinstance(reason, PalletfitError):
                raise reason
            raise PalletError(
                f"The batched engine does not support this model: {reason}.",
                remedy=remedy,
                patch=patch.name,
            )
        return batches[0][0]

    def lower(
        self, patches: Sequence[Patch], *, testable: bool = False
    ) -> tuple[list[tuple[Lowered, list[Patch]]], list[tuple[Patch, PalletfitError | str]]]:
        """Bring patches into arrays.

        Parameters
        ----------
        patches
            Signal patches.
        testable
            Refuse patches without a background-only likelihood, too, see
            :func:`palletfit.engine.refusals.check_background`.

        Returns
        -------
        tuple
            Batches, with the patch of each row; and patches that are in none, with the error, or
            the reason why this engine does not support them.
        """
        specs: list[Spec] = []
        applied: list[Patch] = []
        refused: list[tuple[Patch, PalletfitError | str]] = []
        for patch in patches:
            try:
                spec = apply_sharing(self.workspace, patch)
                if testable:
                    check_background(spec, self.settings)
                specs.append(spec)
                applied.append(patch)
            except PalletfitError as error:
                error.patch = patch.name
                refused.append((patch, error))
        batches, unsupported = self._background.lower(specs)
        refused += [
            (applied[index], self._refusal(specs[index], applied[index]) or reason)
            for index, reason in unsupported.items()
        ]
        return [(batch, [applied[index] for index in batch.index]) for batch in batches], refused

    def _refusal(self, spec: Spec, patch: Patch) -> PalletError | None:
        """Give the reason why no engine fits a model, or None."""
        try:
            check_model(spec, self.settings)
        except PalletError as error:
            error.patch = patch.name
            return error
        return None

    def batch_fits(
        self, batch: Lowered, settings: FitSettings | None = None, hints: Hints | None = None
    ) -> BatchFits:
        """Make the fits of a lowered batch, with these settings or the engine's own."""
        return BatchFits(
            self.compiled(batch.layout), batch, settings or self.settings, self.software, hints
        )

    def chunk_size(self) -> int:
        """Say how many patches are best tested together: more where many fits advance together."""
        lanes = [self.arrays.lanes_of(layout.size) for layout in self._compiled]
        return max(_CHUNK, self.arrays.lanes, *(2 * count for count in lanes))

    def compiled(self, layout: Layout) -> Compiled:
        """Give what all batches of a layout share."""
        if layout not in self._compiled:
            self._compiled[layout] = Compiled(self.arrays, layout)
        return self._compiled[layout]
