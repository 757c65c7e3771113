"""Fits and hypothesis tests of the patches of one batch, each fit from several starts.

A test makes four fits: background-only, free and at the tested signal strength on the data, and the
latter on the Asimov data. The free fit of Asimov data is known: it is the point that generated them
(Cowan et al., Eur. Phys. J. C 71 (2011) 1554, section 3.2).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.evaluation import BatchLikelihood, Compiled, solve_free
from palletfit.engine.fit_records import fit_records
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.fitter import Fitter
from palletfit.engine.hypothesis import check_poi_bounds, conclude, tested_mu
from palletfit.engine.lowering import Lowered
from palletfit.engine.records import BestFit, Fit, HypotestResult
from palletfit.engine.search import Search
from palletfit.errors import FitError, PalletfitError

#: The edm of the lowest minimum where a result depends on a fit to first order, or the signal is
#: weak.
SHARP = 1e-14
#: A q on Asimov data below this is weak: its fits have to be sharp.
WEAK = 1e-2
#: Where the curvature of the likelihood in mu is taken, if mu-hat is zero.
_OFF_ZERO = 1e-6
#: A variance of mu-hat above this is that of a signal without any effect.
_NO_INFORMATION = 1e18
#: A q on Asimov data below this is rounding.
NO_SENSITIVITY = 1e-12


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
    ) -> None:
        self.batch, self.settings, self.software = batch, settings, software
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
        batch, named = self.batch, self.four_fits()
        errors = self.mu_errors(named["free"])
        negative = {
            name: self.likelihood.rates(fits, fits.point) < 0 for name, fits in named.items()
        }
        seconds = (time.perf_counter() - began) / len(batch)
        frozen = {name: fit_records(batch, fits, brief=brief) for name, fits in named.items()}
        for row in range(len(batch)):
            fits_of = {name: fits[row] for name, fits in frozen.items()}
            below_zero = [name for name, below in negative.items() if below[row].any()]
            asimov = named["asimov_fixed"]
            yield row, self.conclude(row, fits_of, asimov, errors[row], below_zero, seconds)

    def four_fits(self) -> dict[str, Fits]:
        """Make the fits of all tests: ``background``, ``free``, ``fixed``, ``asimov_fixed``."""
        fits = self.data_fits()
        return {**fits, "asimov_fixed": self.asimov_fits(fits)}

    def data_fits(self) -> dict[str, Fits]:
        """Make the fits of the data: ``background``, ``free``, ``fixed``."""
        batch = self.batch
        background, free = self.without_and_with_signal(self.rows)
        fixed = Fits(batch.data, batch.aux, self.mu, self.rows)
        starts = {"suggested": batch.init, "background": background.point, "free": free.point}
        self.fitter.fit(fixed, starts)
        self.search.lower(fixed)
        self.nest(free, fixed)
        self.search.exchange(background, "fixed", fixed)
        return {"background": background, "free": free, "fixed": fixed}

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
        asimov = Fits(rates, aux, 0.0 if discovery else self.mu, self.rows)
        tested = background if discovery else fixed
        starts = {"suggested": self.batch.init, "source": source.point, "fixed": tested.point}
        self.fitter.fit(asimov, starts)
        self.search.lower(asimov)
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
        background = Fits(batch.data, batch.aux, 0.0, self.likelihood.without_signal)
        starts = {"suggested": batch.init, **self.fitter.displaced_starts(count=1)}
        self.fitter.fit(background, starts)
        self.search.lower(background)
        # What was the same for all patches is now continued for each of them.
        background.leader = same.copy()
        free = Fits(batch.data, batch.aux, None, same)
        self.fitter.fit(free, {"suggested": batch.init, "background": background.point})
        self.search.lower(free)
        self.search.exchange(background, "free", free)
        self.nest(free, background)
        return background, free

    def mu_errors(self, free: Fits, rows: NDArray[np.int64] | None = None) -> FloatArray:
        """Compute standard deviations of mu-hat from the Hessian; NaN where it gives none."""
        rows = self.rows if rows is None else rows
        errors = np.full(len(rows), np.nan)
        point = free.point[rows]
        # At zero the curvature is a small difference of terms of the order of one over mu.
        near = np.abs(point[:, self.poi]) < _OFF_ZERO
        point[near, self.poi] = _OFF_ZERO
        for part, hessian, frozen in self.likelihood.hessians(free, rows, point):
            frozen[:, self.poi] = False
            unit = np.zeros(frozen.shape)
            unit[:, self.poi] = 1.0
            solution, proper = solve_free(hessian, frozen, unit)
            variance = solution[:, self.poi]
            usable = proper & (variance > 0) & (variance < _NO_INFORMATION)
            errors[part] = np.where(usable, np.sqrt(np.where(usable, variance, 1.0)), np.nan)
        return errors

    def best_fit(self, mu: float | None, asimov: Mapping[str, float] | None) -> BestFit:
        """Fit the batch's only patch, with `mu` free or fixed.

        Raises
        ------
        FitError
            No start led to a proven minimum.
        """
        batch = self.batch
        fits = Fits(batch.data, batch.aux, mu, self.rows)
        starts = {"suggested": batch.init, **self.fitter.displaced_starts()}
        if asimov is not None:
            source = [
                init if name is None else asimov[name]
                for name, init in zip(batch.names[0], batch.init[0], strict=True)
            ]
            starts["source"] = np.array([source])
            fits = Fits(*self.likelihood.asimov_data(fits, starts["source"]), mu, self.rows)
        self.fitter.fit(fits, starts)
        self.search.lower(fits)
        self.fitter.sharpen(fits, self.rows, SHARP)
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
        )

    def conclude(
        self,
        row: int,
        fits: dict[str, Fit],
        asimov: Fits,
        mu_error: float,
        below_zero: Sequence[str],
        seconds: float,
    ) -> HypotestResult | PalletfitError | str:
        """Give the result of one patch; a string says why another engine has to make it."""
        batch = self.batch
        name = str(batch.names[row][self.poi])
        lower, upper = float(batch.lower[row, self.poi]), float(batch.upper[row, self.poi])
        try:
            check_poi_bounds(self.mu, lower, upper, name)
            for title, fit in fits.items():
                if not fit.trusted:
                    return f"its {title} fit: {fit.reason}"
            if np.any(asimov.data[row] < 0):
                return "its Asimov data are below zero in a bin"
            remarks = [
                f"{title} fit: a rate is below zero in a bin without events" for title in below_zero
            ]
            result = conclude(
                self.settings,
                fits,
                q_asimov=float(2 * asimov.value[row]),
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
            fit_time=seconds,
            mu_hat_error=float(mu_error) if np.isfinite(mu_error) else None,
            software=self.software,
        )
