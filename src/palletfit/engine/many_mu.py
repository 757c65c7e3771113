"""Hypothesis tests of patches at many signal strengths, each fit from the ones near it.

The background-only and the free fit of a patch do not depend on the tested signal strength, nor do
the Asimov data; they are made once. What is left are two fits a signal strength.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palletfit.config import DerivativeSettings, FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.asymptotics import PValues, p_values, profile_statistic
from palletfit.engine.batch import NO_SENSITIVITY, SHARP, SUGGESTED, WEAK, BatchFits
from palletfit.engine.causes import stopped
from palletfit.engine.derivatives import YieldDerivatives
from palletfit.engine.fit_records import fit_records
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.hypothesis import check_limit_bounds
from palletfit.engine.minima import DIFFERENT
from palletfit.errors import FitError, PalletError, PalletfitError


class Profile:
    """Tests of the patches of one batch.

    Parameters
    ----------
    fits
        Fits of the batch, which has P patches.
    copies
        How many signal strengths of each patch are tested together. Rows are the first copies of
        all patches, then the second ones, and so on.

    Attributes
    ----------
    rows
        All of them, ``(P * copies,)``.
    mu_hat, mu_error
        Of each patch, ``(P,)``; the error is NaN where the likelihood's curvature gives none.
    upper
        Upper bound of the parameter of interest by row.
    """

    def __init__(self, fits: BatchFits, copies: int) -> None:
        batch = fits.batch
        self.settings: FitSettings = fits.settings
        self.software = fits.software
        self._patches = len(batch)
        self._first = np.tile(np.arange(len(batch)), copies)
        self._fits = fits = fits.with_batch(batch.take(self._first))
        self.rows = fits.rows
        self._background, self._free = fits.without_and_with_signal(self._first)
        # The Asimov data depend on it to first order, where a minimum does to second.
        fits.fitter.sharpen(self._background, self.rows, SHARP)
        fits.fitter.sharpen(self._free, self.rows)
        self._asimov_data = fits.likelihood.asimov_data(self._background, self._background.point)
        self.upper = fits.batch.upper[:, fits.poi]
        patches = np.arange(len(batch))
        self.mu_error = fits.mu_errors(self._free, patches)
        # Where the fits of each row that are nearest began and ended.
        self._near = {"data": self._free.point.copy(), "asimov": self._background.point.copy()}
        # The same of the last fits that tried all starts, by row, and which rows have some.
        self._sure = {name: point.copy() for name, point in self._near.items()}
        self._surely = {name: np.zeros(len(self.rows), dtype=bool) for name in self._near}
        self._evidence: dict[tuple[int, str], tuple[bool, str]] = {}
        # Where starts of thorough tests ended at more than one minimum, by patch.
        self._several = np.zeros(self._patches, dtype=bool)
        # Rows whose last thorough test was stopped by the bound on evaluations, or has a rate below
        # zero, where nothing is observed.
        self._stopped, self._below_zero = np.zeros((2, len(self.rows)), dtype=bool)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def mu_hat(self) -> FloatArray:
        """Best-fit signal strength of each patch; a test may find a lower minimum."""
        return self._free.point[: self._patches, self._fits.poi]

    def several(self) -> NDArray[np.bool_]:
        """Mark the patches whose fits so far ended at more than one minimum, ``(P,)``.

        These are the ones that are :meth:`apart`, and those where starts of thorough tests were.
        """
        return self._several | self.apart()

    def apart(self) -> NDArray[np.bool_]:
        """Mark the patches with a fit that ends higher from the suggested values, ``(P,)``.

        That is the background-only or the free fit to the data.
        """
        apart = np.zeros(self._patches, dtype=bool)
        for fits in (self._background, self._free):
            suggested = fits.from_start(SUGGESTED)
            above = suggested.converged & (suggested.value > fits.value + DIFFERENT)
            apart |= above[: self._patches]
        return apart

    def unsound(self) -> dict[int, PalletfitError | str]:
        """Give by row the reasons against tests of a patch; a string is for another engine."""
        batch, poi = self._fits.batch, self._fits.poi
        reasons = {}
        for row in range(self._patches):
            bounds = float(batch.lower[row, poi]), float(batch.upper[row, poi])
            reason = self._trouble(row, *bounds, str(batch.names[row][poi]))
            if reason is not None:
                reasons[row] = reason
        return reasons

    def _trouble(
        self, row: int, lower: float, upper: float, name: str
    ) -> PalletfitError | str | None:
        try:
            check_limit_bounds(lower, upper, name)
        except PalletError as error:
            return error
        for title, kind in (("background", self._background), ("free", self._free)):
            if not np.isfinite(kind.value[row]):
                return FitError(
                    f"The {title} fit found no finite minimum.",
                    remedy="Look at the yields of this patch; try another optimizer or backend.",
                )
            if not kind.converged[row]:
                self._fits.explain(kind, np.array([row]))
                reason = kind.causes.get(row, "")
                if kind.stopped()[row]:
                    return stopped(f"{title} fit", reason or "its second derivatives show no cause")
                return f"its {title} fit did not converge{': ' * bool(reason)}{reason}"
        return None

    def test(
        self,
        rows: NDArray[np.int64],
        mu: FloatArray,
        *,
        on_data: NDArray[np.bool_],
        thorough: bool,
    ) -> tuple[FloatArray, FloatArray]:
        """Test statistics of some rows.

        Parameters
        ----------
        rows, mu
            Rows, each at most once, and the signal strength of each.
        on_data
            Where the statistic on the data is wanted; NaN elsewhere.
        thorough
            Try all starts, and keep the evidence for :meth:`evidence`.

        Returns
        -------
        tuple
            q on the data and on the Asimov data.
        """
        fits = self._fits
        at = np.zeros(len(self))
        at[rows] = mu
        data = Fits(fits.batch.data, fits.batch.aux, at, _leaders(len(self), rows[on_data]))
        asimov = Fits(*self._asimov_data, at, _leaders(len(self), rows))
        if fits.nearest:
            for kind in (data, asimov):
                fits.fitter.fit(kind, {SUGGESTED: fits.batch.init})
        else:
            self._search(data, asimov, rows[on_data], thorough=thorough)
        for kind in (data, asimov):
            fits.fitter.sharpen(kind, self.rows)
        if not fits.nearest:
            self._lower_free(data, rows[on_data])
        if thorough:
            self._stopped[rows] = self._below_zero[rows] = False
        weak = rows[2 * asimov.value[rows] < WEAK]
        for kind, fitted in (
            (self._free, np.unique(self._first[weak])),
            (data, weak),
            (asimov, weak),
        ):
            fits.fitter.sharpen(kind, fitted, SHARP)
        for name, kind, fitted in (("data", data, rows[on_data]), ("asimov", asimov, rows)):
            good = fitted[np.isfinite(kind.value[fitted])]
            if thorough:
                self._several[self._first[fitted[kind.multimodal()[fitted]]]] = True
            self._near[name][good] = kind.point[good]
            if thorough:
                self._below_zero[fitted] |= fits.below_zero(kind, fitted)
                self._stopped[fitted] |= (kind.stopped() & ~kind.converged)[fitted]
                self._sure[name][good] = kind.point[good]
                self._surely[name][good] = True
                self._keep(name, kind, fitted)
        return self._statistic(data, rows, mu, on_data), _at_least_zero(2 * asimov.value[rows])

    def evidence(self, row: int, *, on_data: bool) -> tuple[bool, str]:
        """Judge the last thorough test of a row: trusted or not, and the reason."""
        names = ["asimov", *(["data"] if on_data else [])]
        verdicts = [self._evidence[row, name] for name in names]
        reason = "; ".join(
            f"{n}: {explanation}" for n, (_, explanation) in zip(names, verdicts, strict=True)
        )
        return all(trusted for trusted, _ in verdicts), reason

    def derivatives(
        self, rows: NDArray[np.int64], mu: FloatArray, choice: DerivativeSettings
    ) -> tuple[YieldDerivatives, dict[int, FloatArray]]:
        """Differentiate the signal strengths of the last thorough tests of some rows by yields.

        No fit is made again: each only gets sharper.

        Parameters
        ----------
        rows, mu
            Rows, and the signal strength of each.
        choice
            Samples, and what becomes of their uncertainties.

        Returns
        -------
        tuple
            Derivatives of the fits, and those of the signal strengths by row, see
            :meth:`palletfit.engine.derivatives.YieldDerivatives.limits`.
        """
        batch, at = self._fits.batch, np.zeros(len(self))
        at[rows] = mu
        leaders = _leaders(len(self), rows)
        fits = {
            "background": self._background,
            "free": self._free,
            "fixed": Fits(batch.data, batch.aux, at, leaders),
            "asimov_fixed": Fits(*self._asimov_data, at, leaders),
        }
        for name, near in (("fixed", "data"), ("asimov_fixed", "asimov")):
            start = self._sure[near].copy()
            start[:, self._fits.poi] = at
            self._fits.fitter.fit(fits[name], {"sure": start}, rows)
        for kind in fits.values():
            self._fits.fitter.sharpen(kind, self.rows, SHARP)
        derivatives = YieldDerivatives(self._fits.likelihood, self.settings, choice)
        proven = np.all([kind.converged[rows] for kind in fits.values()], axis=0)
        return derivatives, derivatives.limits(fits, rows[proven])

    def below_zero(self, row: int, *, on_data: bool) -> bool:
        """Say whether a fit of the last thorough test of a row ends with a rate below zero."""
        first = self._first[[row]]
        shared = (self._background, self._free) if on_data else (self._background,)
        return bool(
            self._below_zero[row] or any(self._fits.below_zero(kind, first)[0] for kind in shared)
        )

    def doubt(self, row: int, title: str, reason: str) -> FitError | str:
        """Say why the last thorough test of a row is of no use; a string is for another engine.

        Parameters
        ----------
        row, title, reason
            Row, title of the test, and the reason from :meth:`evidence`.
        """
        return stopped(title, reason) if self._stopped[row] else f"its {title}: {reason}"

    def _statistic(
        self, data: Fits, rows: NDArray[np.int64], mu: FloatArray, on_data: NDArray[np.bool_]
    ) -> FloatArray:
        q = np.full(len(rows), np.nan)
        kind, mu_hat = self.settings.test_statistic, self.mu_hat
        for position in np.flatnonzero(on_data):
            row = rows[position]
            first = self._first[row]
            q[position] = profile_statistic(
                kind,
                float(mu[position]),
                float(mu_hat[first]),
                2 * float(data.value[row]),
                2 * float(self._free.value[first]),
                2 * float(self._background.value[first]),
            )
        return q

    def _search(
        self, data: Fits, asimov: Fits, on_data: NDArray[np.int64], *, thorough: bool
    ) -> None:
        """Fit from several starts; briefly, or as thoroughly as single tests do."""
        fits, background = self._fits, self._background.point
        starts = {"near": self._near["data"], "background": background}
        further: dict[str, FloatArray] = {}
        if thorough:
            further = fits.fitter.displaced_starts(count=1)
            starts |= {"free": self._free.point}
        fits.fitter.fit(data, starts | further)
        fits.fitter.fit(asimov, {"near": self._near["asimov"], "source": background} | further)
        for name, kind in (("data", data), ("asimov", asimov)):
            # Fits nearby may have followed another minimum since.
            fits.fitter.fit(kind, {"sure": self._sure[name]}, np.flatnonzero(self._surely[name]))
        if thorough:
            for name, kind in (("fixed", data), ("asimov", asimov)):
                fits.search.lower(name, kind, several=self.apart()[self._first])
            self._cross(data, asimov, on_data)

    def _cross(self, data: Fits, asimov: Fits, rows: NDArray[np.int64]) -> None:
        """Start fits of each data at minima of the other: the model is the same."""
        if not len(rows):
            return
        several = rows[asimov.multimodal()[rows] | data.multimodal()[rows]]
        self._fits.fitter.fit(data, {"asimov": asimov.point}, several)
        self._fits.fitter.fit(asimov, {"fixed": data.point}, several)
        for kind in (data, asimov):
            self._fits.search.explore(kind, several)

    def _lower_free(self, data: Fits, rows: NDArray[np.int64]) -> None:
        """Lower free fits that lie above one with the signal strength fixed."""
        first = self._first[rows]
        below = np.flatnonzero(data.value[rows] < self._free.value[first] - SAME)
        if not len(below):
            return
        # Of several copies the lowest one comes last.
        below = below[np.argsort(-data.value[rows[below]], kind="stable")]
        start = self._free.point.copy()
        start[first[below]] = data.point[rows[below]]
        self._fits.fitter.fit(self._free, {"fixed": start}, np.unique(first[below]))
        self._fits.fitter.sharpen(self._free, self.rows)

    def _keep(self, name: str, kind: Fits, rows: NDArray[np.int64]) -> None:
        self._fits.explain(kind, rows)
        records = fit_records(self._fits.batch, kind, rows)
        for row, record in zip(rows, records, strict=True):
            self._evidence[int(row), name] = record.trusted, record.reason


def _leaders(count: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    leaders = np.full(count, -1)
    leaders[rows] = rows
    return leaders


def _at_least_zero(q_asimov: FloatArray) -> FloatArray:
    return np.where(q_asimov <= NO_SENSITIVITY, 0.0, q_asimov)


def tested(settings: FitSettings, q: FloatArray, q_asimov: FloatArray) -> list[PValues]:
    """P-values of several tests."""
    kind = settings.test_statistic
    return [p_values(kind, *map(float, pair)) for pair in zip(q, q_asimov, strict=True)]
