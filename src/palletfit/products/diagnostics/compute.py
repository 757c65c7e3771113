"""Diagnostics of the fit of a patch: what a paper says about it in addition to CLs.

Best fit with uncertainties, pulls and constraints, impacts on mu-hat, correlations, yields before
and after the fit, and the significance of a discovery. Conventions are cabinetry's, except where
a docstring says otherwise.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.config import DiagnosticsSettings
from palletfit.core.arrays import FloatArray
from palletfit.core.text import did_you_mean
from palletfit.engine.batch import NO_SENSITIVITY
from palletfit.engine.choose import require_batched
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fit_records import fit_records
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.hypothesis import check_poi_bounds, conclude
from palletfit.engine.lowering import Lowered, prefit_values
from palletfit.engine.measurements import has_no_poi
from palletfit.engine.protocol import Engine
from palletfit.engine.records import Fit
from palletfit.engine.refusals import check_background
from palletfit.errors import FitError, PalletError, PalletfitError
from palletfit.pallet.patches import Patch, apply_sharing
from palletfit.products.diagnostics.background import diagnose_background
from palletfit.products.diagnostics.impacts import Shifts, shifts
from palletfit.products.diagnostics.parameters import (
    constraint_widths,
    correlation_of,
    correlations,
    covariance_of,
    fits_pattern,
    invert,
    parameters_of,
)
from palletfit.products.diagnostics.records import (
    Correlations,
    Diagnostics,
    Discovery,
)
from palletfit.products.diagnostics.yields import Channel, Position, channels, signals

__all__ = ["Diagnostics", "compute", "diagnose", "invert"]

#: Patches that are lowered together.
_CHUNK = 16
#: How often the best fit is tried again after an impact fit ended below it.
_ROUNDS = 3

# --------------------------------------------------------------------------- many patches


def compute(
    engine: Engine, patches: Sequence[Patch], settings: Mapping[str, Any]
) -> Iterator[tuple[Patch, dict[str, Any] | PalletfitError]]:
    """Diagnose as :func:`diagnose`, with plain settings, and records that are ready for JSON."""
    scope = DiagnosticsSettings.model_validate(settings["diagnostics"])
    for patch, result in diagnose(engine, patches, scope):
        yield patch, result.as_json() if isinstance(result, Diagnostics) else result


def diagnose(
    engine: Engine, patches: Iterable[Patch], settings: DiagnosticsSettings | None = None
) -> Iterator[tuple[Patch, Diagnostics | PalletfitError]]:
    """Diagnose the fits of some patches.

    Parameters
    ----------
    engine
        Whose workspace the patches are for; of its settings the tested mu and the test statistic
        do not matter here.
    patches
        Any number of them.
    settings
        What is computed; by default everything.

    Yields
    ------
    tuple
        Each patch once, not in order, with its diagnostics, or the error that says why there are
        none: a model that the batched engine does not support, patterns that fit no parameter, a
        fit without a finite minimum.

    Raises
    ------
    ConfigError
        The engine is not the batched one.
    """
    batched, settings = require_batched(engine, "diagnostics"), settings or DiagnosticsSettings()
    if has_no_poi(batched.workspace, batched.settings.measurement):
        for patch in patches:
            try:
                yield patch, diagnose_background(batched, patch)
            except PalletfitError as error:
                error.patch = patch.name
                yield patch, error
        return
    waiting = iter(patches)
    while chunk := list(itertools.islice(waiting, _CHUNK)):
        batches, refused = batched.lower(chunk)
        for batch, members in batches:
            for row, result in _Diagnoses(batched, batch, settings).run():
                if isinstance(result, PalletfitError):
                    result.patch = members[row].name
                elif result.discovery is None:
                    result = _without_background(batched, members[row], result)
                yield members[row], result
        for patch, reason in refused:
            yield patch, _unsupported(patch, reason)


def _without_background(engine: BatchedEngine, patch: Patch, result: Diagnostics) -> Diagnostics:
    """Say which bin leaves no fit without signal, if one does; the free fit needs none."""
    try:
        check_background(apply_sharing(engine.workspace, patch), engine.settings)
    except PalletError as error:
        return replace(result, remarks=(*result.remarks, error.problem))
    return result


def _unsupported(patch: Patch, reason: PalletfitError | str) -> PalletfitError:
    if isinstance(reason, PalletfitError):
        return reason
    return PalletError(
        f"There are no diagnostics, because the batched engine does not support the model: "
        f"{reason}.",
        remedy="Leave this patch out, or use cabinetry for it.",
        patch=patch.name,
    )


@dataclass(frozen=True)
class _BestPoint:
    """All that depends on the best fit of one patch, in the columns of its batch.

    Attributes
    ----------
    shifts
        Impacts.
    covariance
        ``(K, K)``; zero for parameters that are not free.
    state
        A :data:`State` for each parameter.
    seconds
        Wall time.
    """

    shifts: Shifts
    covariance: FloatArray
    state: NDArray[np.str_]
    seconds: float


class _Diagnoses:
    """The diagnostics of one batch."""

    def __init__(
        self, engine: BatchedEngine, batch: Lowered, settings: DiagnosticsSettings
    ) -> None:
        self.batch, self.settings = batch, settings
        # The four fits of a discovery test contain the best fit.
        discovery = engine.settings.model_copy(update={"test_statistic": "q0"})
        self.tests = engine.batch_fits(batch, discovery)
        self.poi = batch.layout.poi

    def run(self) -> Iterator[tuple[int, Diagnostics | PalletfitError]]:
        """Diagnose all rows."""
        began = time.perf_counter()
        fits = self.tests.data_fits()
        self.tests.fitter.sharpen(fits["free"], self.tests.rows)
        points: dict[int, _BestPoint] = {}
        for row in range(len(self.batch)):
            try:
                points[row] = self._best_point(row, fits)
            except PalletfitError as error:
                yield row, error
        asimov = self.tests.asimov_fits(fits)
        frozen = {name: fit_records(self.batch, kind) for name, kind in fits.items()}
        frozen["asimov_fixed"] = fit_records(self.batch, asimov)
        separate = sum(point.seconds for point in points.values())
        shared = (time.perf_counter() - began - separate) / len(self.batch)
        for row, point in points.items():
            of_row = {name: records[row] for name, records in frozen.items()}
            yield row, self._conclude(row, fits["free"], point, of_row, asimov, shared)

    def _conclude(
        self,
        row: int,
        free: Fits,
        best: _BestPoint,
        frozen: Mapping[str, Fit],
        asimov: Fits,
        shared: float,
    ) -> Diagnostics:
        began = time.perf_counter()
        discovery, remarks = self._discovery(row, frozen, asimov)
        doubts = [f"{name} fit: {fit.reason}" for name, fit in frozen.items() if not fit.trusted]
        doubts += best.shifts.doubts
        best_fit = frozen["free"]
        covariance, state = best.covariance, best.state
        yields = self._channels(row, free, covariance)
        return Diagnostics(
            status="suspect" if doubts else "ok",
            reasons=tuple(doubts),
            remarks=(*self.batch.remarks[row], *self._remarks(row, free, state), *remarks),
            poi=str(self.batch.names[row][self.poi]),
            mu_hat=best_fit.mu,
            mu_hat_error=_or_none(self.tests.mu_errors(free, np.array([row]))[0]),
            twice_nll=best_fit.twice_nll,
            edm=best_fit.edm,
            fit_reason=best_fit.reason,
            parameters=parameters_of(self.batch, row, free.point[row], covariance, state),
            correlations=self._correlations(row, covariance),
            impacts=best.shifts.impacts,
            channels=yields,
            signals=signals(self.batch, row),
            discovery=discovery,
            seconds=shared + best.seconds + time.perf_counter() - began,
            software=self.tests.software,
        )

    # ------------------------------------------------------------------ fits

    def _best_point(self, row: int, fits: Mapping[str, Fits]) -> _BestPoint:
        """Find the best fit, with all that depends on it alone.

        No fit with more held fixed can end lower. If one does, which happens where a likelihood
        has several minima, the best fit is tried again from there.

        Raises
        ------
        PalletError
            A pattern fits no parameter.
        FitError
            There is no finite minimum.
        """
        began = time.perf_counter()
        columns = self._chosen(row)
        free = fits["free"]
        if not np.isfinite(free.value[row]):
            raise FitError(
                "The free fit found no finite minimum.",
                remedy="Look at the yields of this patch.",
            )
        widths = np.where(self.batch.fixed[row], 0.0, constraint_widths(self.batch, row))
        lowered = False
        for _ in range(_ROUNDS):
            self._follow(row, fits, lowered=lowered)
            covariance, state = covariance_of(self.tests, row, free)
            free_columns = columns[state[columns] == "free"]
            moved = shifts(self.tests, free, row, covariance, widths, free_columns)
            value, point = moved.lowest
            if not value < free.value[row] - SAME:
                break
            self._lower(row, free, "impact", point)
            lowered = True
        else:
            covariance, state = covariance_of(self.tests, row, free)
            doubt = "impact fits still end below the best fit, which is not the lowest minimum"
            moved = replace(moved, doubts=(*moved.doubts, doubt))
        return _BestPoint(moved, covariance, state, time.perf_counter() - began)

    def _follow(self, row: int, fits: Mapping[str, Fits], *, lowered: bool) -> None:
        """Let the other fits know if the best fit got lower, and it if one of them is."""
        free = fits["free"]
        for name in ("background", "fixed"):
            other = fits[name]
            if lowered:
                # One fit may stand for those of several patches.
                self._lower(int(other.leader[row]), other, "free", free.point[row])
            if other.value[row] < free.value[row] - SAME:
                self._lower(row, free, name, other.point[row])

    def _lower(self, row: int, fits: Fits, start: str, point: FloatArray) -> None:
        """Go on from a point that another fit has found."""
        starts = fits.point.copy()
        starts[row] = point
        rows = np.array([row])
        self.tests.fitter.fit(fits, {start: starts}, rows)
        self.tests.search.explore(fits, rows)
        self.tests.fitter.sharpen(fits, rows)

    def _discovery(
        self, row: int, frozen: Mapping[str, Fit], asimov: Fits
    ) -> tuple[Discovery | None, tuple[str, ...]]:
        batch = self.batch
        bounds = float(batch.lower[row, self.poi]), float(batch.upper[row, self.poi])
        if np.any(asimov.data[row] < 0):
            return None, ("no significance: the Asimov data are below zero in a bin",)
        try:
            check_poi_bounds(self.tests.mu, *bounds, str(batch.names[row][self.poi]))
            conclusion = conclude(
                self.tests.settings,
                frozen,
                q_asimov=float(2 * asimov.value[row]),
                noise=NO_SENSITIVITY,
                mu_upper=bounds[1],
            )
        except PalletfitError as error:
            return None, (f"no significance: {error.problem}",)
        p_values = conclusion["p_values"]
        discovery = Discovery(
            p0=p_values.CLs_obs,
            significance=p_values.q**0.5,
            p0_expected=p_values.CLs_exp[2],
            significance_expected=p_values.q_asimov**0.5,
        )
        return discovery, conclusion["remarks"]

    # ------------------------------------------------------------------ parameters

    def _chosen(self, row: int) -> NDArray[np.int64]:
        """Columns whose impacts are wanted."""
        if not self.settings.impacts:
            return np.zeros(0, dtype=int)
        names = {
            column: str(name)
            for column, name in enumerate(self.batch.names[row])
            if name is not None
        }
        chosen = np.zeros(len(self.batch.names[row]), dtype=bool)
        for pattern in self.settings.parameters:
            fitting = [column for column, name in names.items() if fits_pattern(pattern, name)]
            if not fitting:
                hint = did_you_mean(pattern, names.values())
                raise PalletError(
                    f"The pattern {pattern!r} fits no parameter of the model.",
                    remedy=f"{hint}Correct `parameters` of the diagnostics; the model has "
                    f"{len(names)} parameters, such as {', '.join(sorted(names.values())[:5])}.",
                )
            chosen[fitting] = True
        chosen[self.poi] = False
        return np.flatnonzero(chosen)

    def _correlations(self, row: int, covariance: FloatArray) -> Correlations:
        return correlations(self.batch.names[row], covariance)

    def _channels(self, row: int, free: Fits, covariance: FloatArray) -> tuple[Channel, ...]:
        widths = np.where(self.batch.fixed[row], 0.0, constraint_widths(self.batch, row))
        before = Position(prefit_values(self.batch, row), widths, None)
        errors = np.sqrt(np.diag(covariance))
        after = Position(free.point[row], errors, correlation_of(covariance))
        return channels(self.tests, free, row, before, after)

    def _remarks(self, row: int, free: Fits, state: NDArray[np.str_]) -> Iterator[str]:
        """Yield remarks about parameters."""
        names = self.batch.names[row]
        loose = [str(names[column]) for column in np.flatnonzero(state == "undetermined")]
        if loose:
            yield f"not determined by the data: {', '.join(loose)}"
        if np.any(self.tests.likelihood.rates(free, free.point)[row] < 0):
            yield "free fit: a rate is below zero in a bin without events"
        if state[self.poi] == "at_bound":
            low = free.point[row, self.poi] <= self.batch.lower[row, self.poi]
            yield (
                f"mu-hat is at its {'lower' if low else 'upper'} bound: it has no correlations, "
                "and impacts end there"
            )


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
