"""Fits and hypothesis tests of the patches of one batch, each fit from several starts.

A test makes four fits: background-only, free and at the tested signal strength on the data, and the
latter on the Asimov data. The free fit of Asimov data is known: it is the point that generated them
(Cowan et al., Eur. Phys. J. C 71 (2011) 1554, section 3.2).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.causes import cause, stopped
from palletfit.engine.derivatives import YieldDerivatives
from palletfit.engine.evaluation import BatchLikelihood, Compiled, solve_free
from palletfit.engine.fit_records import fit_records
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.fitter import Fitter
from palletfit.engine.hypothesis import CLIPPED, check_poi_bounds, conclude, tested_mu
from palletfit.engine.likelihood import BELOW, EMPTY
from palletfit.engine.lowering import Lowered
from palletfit.engine.minima import DIFFERENT, NO_NEAREST, moved, with_other
from palletfit.engine.records import BestFit, Fit, HypotestResult
from palletfit.engine.search import Search
from palletfit.errors import FitError, PalletfitError

#: Relative precision of NLLs.
_ROUNDING = 1e-10
#: The edm of the lowest minimum where a result depends on a fit to first order, or the signal is
#: weak.
SHARP = 1e-14
#: A q on Asimov data below this is weak: its fits have to be sharp.
WEAK = 1e-2
#: Where the curvature of the likelihood in mu is taken, if mu-hat is zero.
OFF_ZERO = 1e-6
#: A variance of mu-hat above this is that of a signal without any effect.
_NO_INFORMATION = 1e18
#: Name of the start at the values that the measurement suggests.
SUGGESTED = "suggested"
#: A q on Asimov data below this is rounding.
NO_SENSITIVITY = 1e-12
#: Name of the starts that come from other points.
NEIGHBOUR = "neighbour"

#: By the name of a fit some rows, and a point for each of them, ``(n, K)``.
Hints = Mapping[str, tuple[NDArray[np.int64], FloatArray]]


@dataclass(frozen=True)
class DataFits:
    """The three fits of one patch to the data.

    Attributes
    ----------
    batch
        The patch as arrays.
    evidence
        By name, ``background``, ``free`` and ``fixed``: 2 NLL, and why it is the minimum.
    points, expected
        Parameters ``(K,)`` and expected counts ``(B,)`` there, in the order of `batch`.
    """

    batch: Lowered
    evidence: dict[str, Fit]
    points: dict[str, FloatArray]
    expected: dict[str, FloatArray]


def _ends_above(fits: Mapping[str, Fits], row: int) -> bool:
    """Say whether a free fit is higher than another one of the same data, beyond rounding."""
    free = float(fits["free"].value[row])
    lowest = min(float(fits[name].value[row]) for name in ("background", "fixed"))
    return free > lowest + SAME + _ROUNDING * abs(lowest)


class BatchFits:
    """Fits, and hypothesis tests, of the patches of one batch.

    Parameters
    ----------
    compiled
        Functions of the batch's layout.
    batch
        The patches, P of them.
    settings
        Physics of the tests.
    software
        Versions of what results depend on.
    hints
        Further starts, after all others: by the name of a fit rows, and a point for each of them,
        ``(n, K)``.

    Attributes
    ----------
    likelihood, fitter, search
        Evaluate the likelihoods, fit from given starts, and look for lower minima.
    rows
        Positions of all patches, ``(P,)``.
    poi
        Column of the parameter of interest.
    mu
        Tested signal strength.
    """

    def __init__(
        self,
        compiled: Compiled,
        batch: Lowered,
        settings: FitSettings,
        software: dict[str, str],
        hints: Hints | None = None,
    ) -> None:
        self.batch, self.settings, self.software = batch, settings, software
        self.hints = hints or {}
        self.likelihood = BatchLikelihood(compiled, batch)
        self.fitter = Fitter(self.likelihood)
        self.search = Search(self.fitter)
        self.rows, self.poi = self.likelihood.rows, self.likelihood.poi
        self.mu = tested_mu(settings)

    def with_batch(self, batch: Lowered) -> BatchFits:
        """Make the fits of other patches of the same layout."""
        return BatchFits(self.likelihood.compiled, batch, self.settings, self.software)

    def hypotests(
        self, *, brief: bool = False
    ) -> Iterator[tuple[int, HypotestResult | PalletfitError | str]]:
        """Fit, and conclude for each row; a string says why another engine has to."""
        began = time.perf_counter()
        batch = self.batch
        lowest = self.with_minimum("lowest").four_fits()
        nearest, several = self.nearest_fits(lowest)
        reached = np.all([fits.converged for fits in nearest.values()], axis=0)
        counted, other = lowest, nearest
        if self.nearest:
            left = np.flatnonzero(~reached)
            counted = {name: fits.with_rows(lowest[name], left) for name, fits in nearest.items()}
            other = lowest
        self._sharpen_for_derivatives(counted, self.rows)
        errors = self.mu_errors(counted["free"])
        seconds = (time.perf_counter() - began) / len(batch)
        counted_tests = self._tests(counted, self.rows, brief=brief)
        counted_tests = self._with_derivatives(counted, counted_tests)
        other_tests = self._tests(other, np.flatnonzero(several & reached), brief=True)
        for row, result in counted_tests.items():
            if not isinstance(result, HypotestResult):
                yield row, result
                continue
            error = float(errors[row]) if np.isfinite(errors[row]) else None
            result = replace(
                result,
                fit_time=seconds,
                mu_hat_error=error,
                minimum=self.settings.minimum if reached[row] else "lowest",
            )
            alternative = other_tests.get(row)
            if isinstance(alternative, HypotestResult):
                result = self._with_other(row, result, alternative, counted, other)
            elif self.nearest and not reached[row]:
                result = replace(result, remarks=(NO_NEAREST, *result.remarks))
            yield row, result

    def results(
        self, fits: Mapping[str, Fits], rows: NDArray[np.int64], seconds: float, *, brief: bool
    ) -> Iterator[tuple[int, HypotestResult | PalletfitError | str]]:
        """Conclude for some rows whose four fits are made.

        Parameters
        ----------
        fits
            Fits by name.
        rows
            Rows of the batch.
        seconds
            Wall time of the fits of one row.
        brief
            Leave the attempts out.

        Yields
        ------
        tuple
            As :meth:`hypotests`.
        """
        self._sharpen_for_derivatives(fits, rows)
        errors = self.mu_errors(fits["free"], rows)
        conclusions = self._with_derivatives(fits, self._tests(fits, rows, brief=brief))
        for (row, result), error in zip(conclusions.items(), errors.tolist(), strict=True):
            if isinstance(result, HypotestResult):
                mu_hat_error = error if np.isfinite(error) else None
                yield row, replace(result, fit_time=seconds, mu_hat_error=mu_hat_error)
            else:
                yield row, result

    def _tests(
        self, named: Mapping[str, Fits], rows: NDArray[np.int64], *, brief: bool
    ) -> dict[int, HypotestResult | PalletfitError | str]:
        """Conclude for some rows."""
        for kind in named.values():
            self.explain(kind, rows)
        records = {
            name: fit_records(self.batch, fits, rows, brief=brief) for name, fits in named.items()
        }
        negative = {name: self.below_zero(fits, rows) for name, fits in named.items()}
        tests = {}
        for position, row in enumerate(rows):
            fits_of = {name: of_kind[position] for name, of_kind in records.items()}
            remarks = [
                f"{name} fit: {CLIPPED}" for name, below in negative.items() if below[position]
            ]
            remarks += [
                f"{name} fit: the search for lower minima ended at its bound on evaluations"
                for name, fits in named.items()
                if fits.stopped()[row]
            ]
            tests[int(row)] = self.conclude(int(row), fits_of, named, remarks)
        return tests

    def _sharpen_for_derivatives(self, fits: Mapping[str, Fits], rows: NDArray[np.int64]) -> None:
        """Bring fits nearer to their minima where derivatives are wanted.

        Derivatives depend on a minimum to first order, where NLLs do to second.
        """
        if self.settings.wanted_derivatives is not None:
            for kind in fits.values():
                self.fitter.sharpen(kind, rows, SHARP)

    def _with_derivatives(
        self,
        fits: Mapping[str, Fits],
        tests: dict[int, HypotestResult | PalletfitError | str],
    ) -> dict[int, HypotestResult | PalletfitError | str]:
        """Add derivatives to results where they are wanted."""
        choice = self.settings.wanted_derivatives
        rows = np.array(
            [row for row, test in tests.items() if isinstance(test, HypotestResult)], dtype=int
        )
        if choice is None or not len(rows):
            return tests
        derivatives = YieldDerivatives(self.likelihood, self.settings, choice).tests(fits, rows)
        changed = dict(tests)
        for row, of_row in derivatives.items():
            test = tests[row]
            if isinstance(of_row, PalletfitError):
                changed[row] = of_row
            elif isinstance(test, HypotestResult):
                changed[row] = replace(test, derivatives=of_row)
        return changed

    def explain(self, fits: Fits, rows: NDArray[np.int64]) -> None:
        """Look at why fits of some rows have not converged, for their records."""
        for row in rows[~fits.converged[rows]]:
            reason = cause(self.likelihood, fits, int(row))
            if reason:
                fits.causes[int(row)] = reason

    def below_zero(self, fits: Fits, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Find those of some rows with a rate below zero at the minimum, ``(len(rows),)``."""
        if not np.any(fits.data[rows] <= EMPTY):
            return np.zeros(len(rows), dtype=bool)
        rates = self.likelihood.rates(fits, fits.point[rows], rows)
        return np.asarray(np.any(rates < BELOW, axis=1))

    def _with_other(
        self,
        row: int,
        result: HypotestResult,
        alternative: HypotestResult,
        counted: Mapping[str, Fits],
        other: Mapping[str, Fits],
    ) -> HypotestResult:
        """Add what the other minimum gives, and say so."""
        same_data = np.array_equal(
            counted["asimov_fixed"].data[row], other["asimov_fixed"].data[row]
        )
        names, widths = self.batch.names[row], self.fitter.widths[row]
        parameters = {
            name: moved(names, widths, counted[name].point[row], other[name].point[row])
            for name in counted
        }
        return with_other(
            result,
            alternative,
            "lowest" if self.nearest else "nearest",
            self.settings.test_statistic,
            parameters,
            () if same_data else ("asimov_fixed",),
        )

    @property
    def nearest(self) -> bool:
        """True if the minimum counts that is reached from the suggested values."""
        return self.settings.minimum == "nearest"

    def with_minimum(self, minimum: str) -> BatchFits:
        """Make the same fits with another choice of minimum."""
        settings = self.settings.model_copy(update={"minimum": minimum})
        return BatchFits(self.likelihood.compiled, self.batch, settings, self.software, self.hints)

    def nearest_fits(self, lowest: Mapping[str, Fits]) -> tuple[dict[str, Fits], NDArray[np.bool_]]:
        """Give the fits from the suggested values, and the patches where these end elsewhere.

        Parameters
        ----------
        lowest
            From :meth:`four_fits`, which tries the suggested values, too.

        Returns
        -------
        tuple
            Fits by name, and where one of them is not the lowest, ``(P,)``.
        """
        nearest = {name: fits.from_start(SUGGESTED) for name, fits in lowest.items()}
        source = "fixed" if self.settings.test_statistic == "q0" else "background"
        elsewhere = {
            name: fits.converged & (fits.value > lowest[name].value + DIFFERENT)
            for name, fits in nearest.items()
        }
        rows = np.flatnonzero(elsewhere[source])
        if len(rows):
            self.fitter.sharpen(nearest[source], rows, SHARP)
            asimov = nearest["asimov_fixed"]
            leader = np.full(len(self.rows), -1)
            leader[rows] = rows
            point = np.where(
                elsewhere[source][:, None], nearest[source].point, lowest[source].point
            )
            rates, aux = self.likelihood.asimov_data(nearest[source], point)
            again = Fits(rates, aux, asimov.mu, leader)
            self.fitter.fit(again, {SUGGESTED: self.batch.init})
            nearest["asimov_fixed"] = asimov.with_rows(again, rows)
        several = np.any(list(elsewhere.values()), axis=0)
        for fits in nearest.values():
            self.fitter.sharpen(fits, np.flatnonzero(several))
        return nearest, several

    def four_fits(self) -> dict[str, Fits]:
        """Make the fits of all tests: ``background``, ``free``, ``fixed``, ``asimov_fixed``."""
        fits = self.data_fits()
        return {**fits, "asimov_fixed": self.asimov_fits(fits)}

    def data_fits(self) -> dict[str, Fits]:
        """Make the fits of the data: ``background``, ``free``, ``fixed``."""
        batch = self.batch
        if self.nearest:
            by_name = {"background": 0.0, "free": None, "fixed": self.mu}
            return {
                name: self._from_suggested(batch.data, batch.aux, mu, self.rows)
                for name, mu in by_name.items()
            }
        background, free = self.without_and_with_signal(self.rows)
        fixed = Fits(batch.data, batch.aux, self.mu, self.rows)
        starts = {SUGGESTED: batch.init, "free": free.point}
        self.fitter.fit(fixed, starts | self.fitter.displaced_starts(2, 1))
        self.search.lower("fixed", fixed, background, free)
        self.search.exchange(free, "fixed", fixed)
        self.nest(free, fixed)
        self.search.exchange(background, "fixed", fixed)
        if self.hints:
            for name, fits in (("background", background), ("free", free), ("fixed", fixed)):
                self._take_hints(name, fits)
            self.search.exchange(background, "fixed again", fixed)
            self.search.exchange(fixed, "background", background)
            self.search.exchange(free, "background again", background)
            self.nest(free, background)
            self.nest(free, fixed)
        return {"background": background, "free": free, "fixed": fixed}

    def _take_hints(self, name: str, fits: Fits) -> None:
        """Fit from the points that others give for a fit, and search on from where it falls."""
        if name not in self.hints:
            return
        rows, points = self.hints[name]
        before = fits.value[rows]
        self.fitter.fit_each(fits, NEIGHBOUR, rows, points)
        self.search.explore(fits, rows[fits.value[rows] < before - SAME])

    def _from_suggested(
        self,
        data: FloatArray,
        aux: FloatArray,
        mu: float | FloatArray | None,
        leader: NDArray[np.int64],
    ) -> Fits:
        """Fit from the suggested values only."""
        fits = Fits(data, aux, mu, leader)
        self.fitter.fit(fits, {SUGGESTED: self.batch.init})
        return fits

    def nest(self, free: Fits, fixed: Fits) -> None:
        """Lower free fits that lie above one with the signal strength fixed."""
        below = np.flatnonzero(fixed.value < free.value - SAME)
        if len(below):
            self.fitter.fit(free, {"fixed": fixed.point}, below)
            self.search.explore(free, below)

    def asimov_fits(self, data_fits: Mapping[str, Fits]) -> Fits:
        """Fit the Asimov data that the fits of the data lead to; these get sharper."""
        background, free, fixed = (data_fits[name] for name in ("background", "free", "fixed"))
        discovery = self.settings.test_statistic == "q0"
        source = fixed if discovery else background
        # The Asimov data depend on it to first order, where a minimum does to second.
        self.fitter.sharpen(source, self.rows, SHARP)
        rates, aux = self.likelihood.asimov_data(source, source.point)
        if self.nearest:
            return self._from_suggested(rates, aux, 0.0 if discovery else self.mu, self.rows)
        asimov = Fits(rates, aux, 0.0 if discovery else self.mu, self.rows)
        tested = background if discovery else fixed
        starts = {SUGGESTED: self.batch.init, "source": source.point, "fixed": tested.point}
        self.fitter.fit(asimov, starts)
        self.search.lower("asimov", asimov, background, tested)
        self._take_hints("asimov_fixed", asimov)
        # Other data, but the same model: a minimum of the one may be near a lower of the other.
        before = tested.value.copy()
        self.search.exchange(tested, "asimov", asimov)
        if np.any(tested.value < before - SAME):
            self.search.exchange(asimov, "fixed again", tested)
            self.nest(free, tested)
        for fits in (background, free, fixed, asimov):
            self.fitter.sharpen(fits, self.rows)
        # The NLL without constants is zero at the point that generated the data.
        weak = np.flatnonzero(2 * asimov.value < WEAK)
        for fits in (free, tested, asimov):
            self.fitter.sharpen(fits, weak, SHARP)
        return asimov

    def without_and_with_signal(self, same: NDArray[np.int64]) -> tuple[Fits, Fits]:
        """Make the background-only and the free fit, each from several starts.

        Parameters
        ----------
        same
            For each row the first one with the same patch, ``(P,)``.
        """
        batch = self.batch
        if self.nearest:
            suggested = {"data": batch.data, "aux": batch.aux}
            background = self._from_suggested(
                **suggested, mu=0.0, leader=self.likelihood.without_signal
            )
            background.leader = same.copy()
            return background, self._from_suggested(**suggested, mu=None, leader=same)
        background = Fits(batch.data, batch.aux, 0.0, self.likelihood.without_signal)
        starts = {SUGGESTED: batch.init, **self.fitter.displaced_starts(count=1)}
        self.fitter.fit(background, starts)
        self.search.lower("background", background)
        # What was the same for all patches is now continued for each of them.
        background.leader = same.copy()
        free = Fits(batch.data, batch.aux, None, same)
        self.fitter.fit(free, {SUGGESTED: batch.init, "background": background.point})
        self.search.lower("free", free, background)
        self.search.exchange(background, "free", free)
        self.nest(free, background)
        return background, free

    def mu_errors(self, free: Fits, rows: NDArray[np.int64] | None = None) -> FloatArray:
        """Compute standard deviations of mu-hat from the Hessian; NaN where it gives none."""
        rows = self.rows if rows is None else rows
        errors = np.full(len(rows), np.nan)
        point = free.point[rows]
        # At zero the curvature is a small difference of terms of the order of one over mu.
        near = np.abs(point[:, self.poi]) < OFF_ZERO
        point[near, self.poi] = OFF_ZERO
        for part, hessian, frozen in self.likelihood.hessians(free, rows, point):
            frozen[:, self.poi] = False
            unit = np.zeros(frozen.shape)
            unit[:, self.poi] = 1.0
            solution, proper = solve_free(hessian, frozen, unit)
            variance = solution[:, self.poi]
            usable = proper & (variance > 0) & (variance < _NO_INFORMATION)
            errors[part] = np.where(usable, np.sqrt(np.where(usable, variance, 1.0)), np.nan)
        return errors

    def lowest(self, mu: float | None, asimov: Mapping[str, float] | None = None) -> Fits:
        """Fit each patch from all starts, with `mu` free or fixed, to a sharp minimum.

        Parameters
        ----------
        mu
            Where the parameter of interest is fixed; None leaves it free.
        asimov
            Fit the Asimov data that these parameters, by name, expect, of the batch's only patch.
        """
        batch = self.batch
        leader = self.likelihood.without_signal if mu == 0.0 else self.rows
        fits = Fits(batch.data, batch.aux, mu, leader)
        starts = {SUGGESTED: batch.init, **self.fitter.displaced_starts()}
        if asimov is not None:
            source = [
                init if name is None else asimov[name]
                for name, init in zip(batch.names[0], batch.init[0], strict=True)
            ]
            starts["source"] = np.array([source])
            fits = Fits(*self.likelihood.asimov_data(fits, starts["source"]), mu, self.rows)
        self.fitter.fit(fits, starts)
        self.search.lower("fixed" if mu is not None else "free", fits)
        self.fitter.sharpen(fits, self.rows, SHARP)
        self.explain(fits, self.rows)
        return fits

    def best_fit(self, mu: float | None, asimov: Mapping[str, float] | None) -> BestFit:
        """Fit the batch's only patch, with `mu` free or fixed.

        Raises
        ------
        FitError
            No start led to a proven minimum.
        """
        batch, fits = self.batch, self.lowest(mu, asimov)
        evidence = fit_records(batch, fits)[0]
        if not evidence.trusted:
            raise FitError(
                f"The fit has no proven minimum: {evidence.reason}.",
                remedy="Look at the yields; try pyhf.infer.mle.fit.",
            )
        ((_, hessian, frozen),) = self.likelihood.hessians(fits)
        if mu is not None:
            frozen[:, self.poi] = True
        count = frozen.shape[1]
        columns = np.repeat(hessian[:1], count, axis=0), np.repeat(frozen[:1], count, axis=0)
        covariance, _ = solve_free(*columns, np.eye(count) * ~frozen[0])
        present = np.flatnonzero(batch.present[0])
        names = [str(batch.names[0][column]) for column in present]
        errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        return BestFit(
            parameters=dict(zip(names, fits.point[0, present].tolist(), strict=True)),
            errors=dict(zip(names, errors[present].tolist(), strict=True)),
            covariance=covariance[np.ix_(present, present)],
            evidence=evidence,
            remarks=tuple(batch.remarks[0]),
            at_bounds=self._at_bounds(fits.point[0], fixes_poi=mu is not None),
        )

    def _at_bounds(self, point: FloatArray, *, fixes_poi: bool) -> tuple[str, ...]:
        """Name the parameters of the only patch that are at a bound, and are not fixed."""
        batch = self.batch
        at_bound = (point <= batch.lower[0]) | (point >= batch.upper[0])
        at_bound &= batch.present[0] & ~batch.fixed[0]
        if fixes_poi:
            at_bound[self.poi] = False
        return tuple(str(batch.names[0][column]) for column in np.flatnonzero(at_bound))

    def conclude(
        self,
        row: int,
        records: dict[str, Fit],
        fits: Mapping[str, Fits],
        remarks: Sequence[str],
    ) -> HypotestResult | PalletfitError | str:
        """Give the result of one patch; a string says why another engine has to make it."""
        batch = self.batch
        name = str(batch.names[row][self.poi])
        lower, upper = float(batch.lower[row, self.poi]), float(batch.upper[row, self.poi])
        try:
            check_poi_bounds(self.mu, lower, upper, name)
            for title, record in records.items():
                if not record.trusted and fits[title].stopped()[row]:
                    return stopped(f"{title} fit", record.reason)
                if not record.trusted:
                    return f"its {title} fit: {record.reason}"
            if not self.nearest and _ends_above(fits, row):
                return "its free fit: it ends above one with the signal strength fixed"
            result = conclude(
                self.settings,
                records,
                q_asimov=float(2 * fits["asimov_fixed"].value[row]),
                noise=NO_SENSITIVITY,
                mu_upper=upper,
                remarks=remarks,
            )
        except PalletfitError as error:
            return error
        return HypotestResult(
            **result,
            engine="batched",
            parameters=int(batch.present[row].sum()),
            build_time=0.0,
            fit_time=0.0,
            software=self.software,
        )
