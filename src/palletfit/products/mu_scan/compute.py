"""CLs against the signal strength, for chosen patches.

What upper limits are read off, as a curve: observed and five expected CLs at equal distances of mu,
each from fits that tried all starts, with the limits themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palletfit.config import LimitSettings, MuScanSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.asymptotics import PValues
from palletfit.engine.hypothesis import CLIPPED
from palletfit.engine.many_mu import Profile, tested
from palletfit.engine.protocol import BatchEngine, Calculation, Engine, PatchEngine
from palletfit.engine.records import Status, finite
from palletfit.errors import ConfigError, FitError, PalletfitError
from palletfit.pallet.patches import Patch
from palletfit.products.limits import compute as limits
from palletfit.products.limits.compute import Limits
from palletfit.runs.choice import by_region, matching

#: Why a signal strength has no point.
_NO_LIKELIHOOD = "a fit there found no finite likelihood"
#: A scan without a range ends this factor above the largest limit.
_BEYOND = 1.25


@dataclass(frozen=True)
class Point:
    """The hypothesis test at one signal strength, and whether its fits are trusted."""

    mu: float
    p_values: PValues
    trusted: bool
    reason: str


@dataclass(frozen=True)
class MuScan:
    """CLs against the signal strength for one patch.

    Attributes
    ----------
    points
        By rising signal strength; without those that have no likelihood, which a remark names.
    limits
        The patch's upper limits.
    engine
        What made the fits of the points.
    fit_time
        Wall time in seconds, that of the limits included.
    remarks
        What a reader should know.
    """

    points: tuple[Point, ...]
    limits: Limits
    engine: str
    fit_time: float
    remarks: tuple[str, ...]

    @property
    def status(self) -> Status:
        """``ok`` if the limits and every point are trusted."""
        sound = self.limits.status == "ok" and all(point.trusted for point in self.points)
        return "ok" if sound else "suspect"

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column: the limits and the number of points."""
        return {
            **self.limits.row(),
            "status": self.status,
            "points": len(self.points),
            "remark": "; ".join(self.remarks),
        }

    def as_json(self) -> dict[str, Any]:
        """Plain data: lists ``mu``, ``CLs_obs`` and ``CLs_exp`` (five each), and the limits."""
        plain: dict[str, Any] = finite(
            {
                "status": self.status,
                "mu": [point.mu for point in self.points],
                "CLs_obs": [point.p_values.CLs_obs for point in self.points],
                "CLs_exp": [point.p_values.CLs_exp for point in self.points],
                "q": [point.p_values.q for point in self.points],
                "q_asimov": [point.p_values.q_asimov for point in self.points],
                "doubts": [
                    f"mu = {point.mu:g}: {point.reason}"
                    for point in self.points
                    if not point.trusted
                ],
                "limits": self.limits.as_json(),
                "engine": self.engine,
                "fit_time": self.fit_time,
                "remarks": self.remarks,
                "software": self.limits.software,
            }
        )
        return plain


def compute(
    engine: Engine, patches: Sequence[Patch], settings: Mapping[str, Any]
) -> Iterator[tuple[Patch, dict[str, Any] | PalletfitError]]:
    """Make scans as plain data, see :func:`scans`."""
    grid = MuScanSettings.model_validate(settings["mu_scan"])
    search = LimitSettings.model_validate(settings["limits"])
    for patch, scan in scans(engine, patches, settings["confidence_level"], grid, search):
        yield patch, scan if isinstance(scan, PalletfitError) else scan.as_json()


def scans(
    engine: Engine,
    patches: Sequence[Patch],
    confidence_level: float = 0.95,
    settings: MuScanSettings | None = None,
    search: LimitSettings | None = None,
) -> Iterator[tuple[Patch, MuScan | PalletfitError]]:
    """Scan some patches, each with its limits.

    Parameters
    ----------
    engine
        Of their background.
    patches
        Signal patches.
    confidence_level
        Of the limits.
    settings
        How many signal strengths, and which.
    search
        How limits are found.

    Yields
    ------
    tuple
        Each patch once, not in order, with its scan or the error that explains why there is none.

    Raises
    ------
    ConfigError
        The test statistic is that of a discovery.
    """
    settings, search = settings or MuScanSettings(), search or LimitSettings()
    wide = limits.bounded(engine, search)
    for patch, of_patch in limits.upper_limits(engine, patches, confidence_level, search):
        if isinstance(of_patch, PalletfitError):
            yield patch, of_patch
            continue
        try:
            yield patch, _scan(wide, patch, of_patch, settings)
        except PalletfitError as error:
            error.patch = patch.name
            yield patch, error


def _scan(engine: Engine, patch: Patch, of_patch: Limits, settings: MuScanSettings) -> MuScan:
    began = time.perf_counter()
    mu = strengths(of_patch, settings)
    ((_, tests),) = engine.calculate(MuTestsAt(tuple(mu.tolist())), [patch])
    if isinstance(tests, PalletfitError):
        raise tests
    remarks = list(of_patch.remarks)
    if tests.engine != of_patch.engine:
        remarks.append(f"the points are fitted by the {tests.engine} engine")
    remarks += tests.remarks
    return MuScan(
        points=tests.points,
        limits=of_patch,
        engine=tests.engine,
        fit_time=of_patch.fit_time + time.perf_counter() - began,
        remarks=tuple(remarks),
    )


def strengths(limits: Limits, settings: MuScanSettings) -> FloatArray:
    """Signal strengths of a scan, shape (points,).

    Raises
    ------
    ConfigError
        The range goes beyond the bound of the parameter of interest.
    """
    if settings.range is not None:
        first, last = settings.range
        if last > limits.mu_max:
            raise ConfigError(
                f"mu_scan.range ends at {last:g}, above {limits.mu_max:g}, the upper bound of the "
                "parameter of interest.",
                remedy="Choose a smaller range, or set `limits.mu_max`.",
            )
        return np.linspace(first, last, settings.points)
    all_limits = (limits.observed, *limits.expected)
    values = [limit.mu for limit in all_limits if limit.mu is not None]
    complete = len(values) == len(all_limits)
    last = min(_BEYOND * max(values), limits.mu_max) if complete else limits.mu_max
    return np.linspace(0.0, last, settings.points)


@dataclass(frozen=True)
class MuTests:
    """Hypothesis tests of one patch at several signal strengths.

    Attributes
    ----------
    points
        In the order of the signal strengths.
    engine
        What made the fits.
    remarks
        What a reader should know.
    """

    points: tuple[Point, ...]
    engine: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class MuTestsAt(Calculation[MuTests]):
    """Hypothesis tests at given signal strengths; one engine makes all tests of a patch."""

    mu: tuple[float, ...]

    def in_batches(
        self, engine: BatchEngine, patches: Iterable[Patch]
    ) -> Iterator[tuple[Patch, MuTests | PalletfitError | str]]:
        """Test all signal strengths of a patch together.

        A signal strength may have no likelihood, where the others do: a large one can drive a rate
        below zero. The result is then without it, with a remark.
        """
        for patch in patches:
            batches, refused = engine.lower([patch], testable=True)
            yield from refused
            for batch, _ in batches:
                yield patch, self._test(Profile(engine.batch_fits(batch), len(self.mu)))

    def _test(self, profile: Profile) -> MuTests | PalletfitError | str:
        unsound = profile.unsound()
        if unsound:
            return unsound[0]
        everywhere = np.ones(len(self.mu), dtype=bool)
        mu = np.array(self.mu)
        q, q_asimov = profile.test(profile.rows, mu, on_data=everywhere, thorough=True)
        finite_rows = np.isfinite(q) & np.isfinite(q_asimov)
        if not np.any(finite_rows):
            return "a test has no finite likelihood"
        rows = profile.rows[finite_rows]
        evidence = [profile.evidence(int(row), on_data=True) for row in rows]
        p_values = tested(profile.settings, q[finite_rows], q_asimov[finite_rows])
        points = tuple(
            Point(float(at), of_test, trusted, reason)
            for at, of_test, (trusted, reason) in zip(
                mu[finite_rows], p_values, evidence, strict=True
            )
        )
        for row, point in zip(rows, points, strict=True):
            if not point.trusted:
                return profile.doubt(int(row), f"test at mu = {point.mu:g}", point.reason)
        below = [
            point.mu
            for row, point in zip(rows, points, strict=True)
            if profile.below_zero(row, on_data=True)
        ]
        remarks = (*_clipped(below), *_missing(mu[~finite_rows], _NO_LIKELIHOOD))
        return MuTests(points, "batched", remarks)

    def by_patch(self, engine: PatchEngine, patch: Patch) -> MuTests:
        """Test one signal strength of a patch after the other, as :meth:`in_batches`."""
        tests = engine.tests_of(patch)
        points: list[Point] = []
        below: list[float] = []
        missing: dict[float, FitError] = {}
        for mu in self.mu:
            try:
                test = tests.test(mu)
            except FitError as error:
                missing[mu] = error
                continue
            if any(CLIPPED in remark for remark in test.remarks):
                below.append(mu)
            reason = "; ".join(f"{name}: {fit.reason}" for name, fit in test.fits.items())
            points.append(Point(mu, test.p_values, test.status == "ok", reason))
        first, *_ = (*missing.values(), None)
        if first is None:
            return MuTests(tuple(points), "reference", _clipped(below))
        if not points:
            raise first
        remarks = (*_clipped(below), *_missing(list(missing), first.problem))
        return MuTests(tuple(points), "reference", remarks)


def _clipped(mu: Sequence[float]) -> tuple[str, ...]:
    """Remark which signal strengths have a fit with a rate below zero."""
    if not mu:
        return ()
    return (f"a fit at mu = {', '.join(f'{at:g}' for at in mu)}: {CLIPPED}",)


def _missing(mu: Sequence[float] | FloatArray, reason: str) -> tuple[str, ...]:
    """Remark which signal strengths have no point."""
    if not len(mu):
        return ()
    return (f"no point at mu = {', '.join(f'{at:g}' for at in mu)}: {reason}",)


# --------------------------------------------------------------------------- which patches


def choose(
    analysis: str,
    patterns: Sequence[str],
    table: Mapping[str, Mapping[str, Any]],
    *,
    all_patterns: bool = True,
) -> dict[str, list[str]]:
    """Choose the patches that are scanned, by region.

    Parameters
    ----------
    analysis
        Name, for errors.
    patterns
        Shell patterns; without any it is the patch whose expected limit is nearest to one.
    table
        Content of ``limits.json``: a patch is scanned in the region that it is taken from.
    all_patterns
        See :func:`palletfit.runs.choice.matching`.

    Raises
    ------
    ConfigError
        A pattern matches no patch, or no limit is known.
    """
    if patterns:
        return matching(
            patterns, table, analysis=analysis, section="mu_scan", all_patterns=all_patterns
        )
    from palletfit.products.limits.table import nearest_to_one  # imports pandas

    nearest = nearest_to_one(table)
    if nearest is None:
        raise ConfigError(
            f"No patch of {analysis} has an expected upper limit, so that none is near to one.",
            remedy="Name patches under mu_scan.patches, or set limits.mu_max.",
        )
    return by_region([nearest], table)
