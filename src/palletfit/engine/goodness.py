"""Goodness of fit in the saturated model.

The statistic is twice the difference of the NLL at the minimum and in the saturated model, in which
every bin expects what was observed, and every constrained parameter is what was measured. For many
events it follows a chi-squared distribution (R. D. Cousins, "Generalization of chisquare
goodness-of-fit test for binned data using saturated models", 2013; S. S. Wilks, Ann. Math. Statist.
9 (1938) 60). Pseudo-experiments tell its distribution for any number of events.

Degrees of freedom are cabinetry's: bins minus free parameters without a constraint. A parameter
that is fixed has no part in either: its constraint term is the same in both models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.choose import require_batched
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fit_records import fit_records
from palletfit.engine.likelihood import poisson_term
from palletfit.engine.lowering import Lowered
from palletfit.engine.protocol import Engine
from palletfit.engine.records import Status, finite
from palletfit.engine.toys.draws import BLOCK, draw, key_of, make_source
from palletfit.engine.toys.ensembles import Ensemble
from palletfit.errors import FitError
from palletfit.pallet.patches import Patch, apply

#: Statistics closer than this are equal: fits know them no better.
_TIE = 1e-6
#: Below so many expected events the distribution in a bin is far from a Gaussian.
_FEW = 5.0

#: Hears of every block of toys that is fitted how many they are.
Report = Callable[[int], None]


@dataclass(frozen=True)
class GoodnessToys:
    """Distribution of the statistic in pseudo-experiments.

    Attributes
    ----------
    toys, failed
        Number of toys, and of those without a proven minimum, which do not count.
    seed
        Seed of the random numbers.
    p_value, p_value_error
        Part of the toys with at least so large a statistic, and its standard deviation; None where
        no toy counts.
    median
        Median of the statistic.
    statistics
        Statistics of the toys that count; not in :meth:`GoodnessOfFit.as_json`.
    """

    toys: int
    failed: int
    seed: int
    p_value: float | None
    p_value_error: float | None
    median: float | None
    statistics: FloatArray = field(compare=False, repr=False)


@dataclass(frozen=True)
class GoodnessOfFit:
    """Goodness of the fit of one model.

    Attributes
    ----------
    statistic
        Twice the difference of the NLL to that of the saturated model; not below zero.
    degrees
        Bins minus free parameters without a constraint.
    p_value
        Chi-squared probability of at least so large a statistic; None where there is no degree of
        freedom.
    bins, free, constrained
        Numbers of bins, and of parameters that the fit moves: without and with a constraint.
    mu, twice_nll
        Parameter of interest and 2 NLL at the minimum.
    status, reason
        ``suspect`` if the minimum is not trusted or a toy failed; and why the minimum is trusted.
    remarks
        What a reader should know.
    toys
        Pseudo-experiments, if they were asked for.
    engine
        What made the fit.
    """

    statistic: float
    degrees: int
    p_value: float | None
    bins: int
    free: int
    constrained: int
    mu: float
    twice_nll: float
    status: Status
    reason: str
    remarks: tuple[str, ...] = ()
    toys: GoodnessToys | None = None
    engine: str = "batched"

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        row: dict[str, Any] = {
            "status": self.status,
            "statistic": self.statistic,
            "degrees": self.degrees,
            "p_value": self.p_value,
        }
        if self.toys is not None:
            row |= {
                "p_value_toys": self.toys.p_value,
                "p_value_toys_error": self.toys.p_value_error,
            }
        return {**row, "remark": "; ".join(self.remarks)}

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        data = asdict(self)
        if self.toys is not None:
            del data["toys"]["statistics"]
        plain: dict[str, Any] = finite(data)
        return plain


def goodness_of_fit(
    engine: Engine,
    patch: Patch,
    mu: float | None = None,
    *,
    toys: int = 0,
    seed: int = 1,
    report: Report | None = None,
) -> GoodnessOfFit:
    """Test how well a model describes its data.

    Parameters
    ----------
    engine
        Engine of the workspace.
    patch
        Signal patch; one without operations for a complete workspace.
    mu
        Where the parameter of interest is fixed; None leaves it free.
    toys, seed
        Number of pseudo-experiments, and the seed of their random numbers.
    report
        Hears of every block of toys that is fitted how many they are.

    Raises
    ------
    PalletError
        The patch does not apply, or the engine does not support its model.
    FitError
        The fit has no finite minimum, or too many events are expected for toys.
    ConfigError
        Toys are asked of an engine that makes none.
    """
    if toys:
        require_batched(engine, "toys")
    if not isinstance(engine, BatchedEngine):
        return _by_pyhf(engine, patch, mu)
    goodness = _Goodness(engine, patch, mu)
    result = goodness.result()
    if not toys and result.degrees > 0:
        return replace(result, remarks=(*result.remarks, *goodness.few()))
    if not toys:
        return result
    ensemble = goodness.toys(result.statistic, toys, seed, report)
    return replace(result, toys=ensemble, status="suspect" if ensemble.failed else result.status)


class _Goodness:
    """The fit of one patch, and what follows from it."""

    def __init__(self, engine: BatchedEngine, patch: Patch, mu: float | None) -> None:
        self.engine, self.patch, self.mu = engine, patch, mu
        self.batch = engine.lower_one(patch)
        tests = engine.batch_fits(self.batch)
        fits = tests.lowest(mu)
        if not np.isfinite(fits.value[0]):
            raise FitError(
                "The fit found no finite minimum.",
                remedy="Look at the yields: a bin with events has to expect some.",
                patch=patch.name,
            )
        self.point, self.value = fits.point[:1], float(fits.value[0])
        self.record = fit_records(self.batch, fits)[0]
        self.expected = tests.likelihood.rates(fits, fits.point)[0]

    def result(self) -> GoodnessOfFit:
        """Conclude from the fit."""
        batch = self.batch
        constrained = (batch.precision[0] > 0) | (batch.factor[0] > 0)
        moved = batch.present[0] & ~batch.fixed[0]
        if self.mu is not None:
            moved[batch.layout.poi] = False
        free = int(np.sum(moved & ~constrained))
        bins = batch.data.shape[1]
        fixed_terms = float(_fixed_terms(batch, self.point, batch.aux)[0])
        statistic = max(2.0 * (self.value - fixed_terms), 0.0)
        remarks = list(batch.remarks[0])
        if self.record.at_bounds:
            remarks.append(f"parameters at a bound: {', '.join(self.record.at_bounds[:5])}")
        remarks += _without_degrees(bins - free)
        return GoodnessOfFit(
            statistic=statistic,
            degrees=bins - free,
            p_value=_chi_squared(statistic, bins - free),
            bins=bins,
            free=free,
            constrained=int(np.sum(moved & constrained)),
            mu=self.record.mu,
            twice_nll=self.record.twice_nll,
            status="ok" if self.record.trusted else "suspect",
            reason=self.record.reason,
            remarks=tuple(remarks),
        )

    def few(self) -> tuple[str, ...]:
        """Say where chi-squared is an approximation only."""
        count = int(np.sum(self.expected < _FEW))
        if not count:
            return ()
        remark = (
            f"{count} of {len(self.expected)} bins expect fewer than {_FEW:g} events, where "
            "chi-squared is a rough approximation: toys give the distribution"
        )
        return (remark,)

    def toys(self, observed: float, count: int, seed: int, report: Report | None) -> GoodnessToys:
        """Draw and fit pseudo-experiments of the best fit."""
        ensemble = Ensemble(self.engine, self.batch)
        key = key_of(seed, self.patch.digest, "goodness of fit")
        source = make_source(self.batch, self.point[0], self.expected, key)
        values: list[FloatArray] = []
        for begin in range(0, count, BLOCK):
            sets = draw(self.batch, source, np.arange(begin, begin + BLOCK))
            ends = ensemble.lowest(sets, source.point, self.mu)
            statistic = 2.0 * (ends.value - _fixed_terms(self.batch, ends.point, sets.aux))
            values.append(np.where(ends.converged, statistic, np.nan)[: count - begin])
            if report is not None:
                report(min(BLOCK, count - begin))
        return _concluded(np.concatenate(values), observed, seed)


def _concluded(values: FloatArray, observed: float, seed: int) -> GoodnessToys:
    """Conclude from the statistics of toys; NaN where a fit has no proven minimum."""
    counted: NDArray[np.float64] = values[np.isfinite(values)]
    size = len(counted)
    p_value = float(np.mean(counted >= observed - _TIE)) if size else None
    return GoodnessToys(
        toys=len(values),
        failed=len(values) - size,
        seed=seed,
        p_value=p_value,
        p_value_error=None if p_value is None else (p_value * (1 - p_value) / size) ** 0.5,
        median=float(np.median(counted)) if size else None,
        statistics=counted,
    )


def _fixed_terms(batch: Lowered, point: FloatArray, aux: FloatArray) -> FloatArray:
    """Sum the constraint terms of fixed parameters, ``(L,)``."""
    fixed = batch.present[0] & batch.fixed[0]
    gauss = np.flatnonzero(fixed & (batch.precision[0] > 0))
    poisson = np.flatnonzero(fixed & (batch.factor[0] > 0))
    distance = point[:, gauss] - aux[:, gauss]
    terms = poisson_term(aux[:, poisson], point[:, poisson] * batch.factor[0, poisson], np)
    return np.asarray(
        np.sum(0.5 * batch.precision[0, gauss] * distance**2, axis=1) + np.sum(terms, axis=1)
    )


def _without_degrees(degrees: int) -> tuple[str, ...]:
    """Say that nothing is left to test."""
    if degrees > 0:
        return ()
    remark = (
        "there is no degree of freedom, because as many parameters are free as there are bins: "
        "chi-squared gives no p-value"
    )
    return (remark,)


def _chi_squared(statistic: float, degrees: int) -> float | None:
    from scipy.special import chdtrc

    return float(chdtrc(degrees, statistic)) if degrees > 0 else None


def _by_pyhf(engine: Engine, patch: Patch, mu: float | None) -> GoodnessOfFit:
    """Conclude from a fit by pyhf, with its model."""
    from scipy.special import gammaln, xlogy

    from palletfit.engine.reference.hypotests import build_model

    best = engine.fit(patch, mu)
    model, data = build_model(apply(engine.workspace, patch), engine.settings)
    config = model.config
    main, aux = data[: config.nmaindata], data[config.nmaindata :]
    point = np.asarray([best.parameters[name] for name in config.par_names])
    measured, constrained = point.copy(), np.zeros(len(point), dtype=bool)
    fixed = np.asarray(config.suggested_fixed(), dtype=bool)
    first = 0
    for name in config.auxdata_order:
        parameter, span = config.param_set(name), config.par_slice(name)
        values = aux[first : first + len(point[span])]
        first += len(values)
        scale = np.asarray(parameter.factors) if parameter.pdf_type == "poisson" else 1.0
        measured[span] = np.where(fixed[span], point[span], values / scale)
        constrained[span] = True
    saturated = float(np.sum(xlogy(main, main) - main - gammaln(main + 1.0)))
    if config.nauxdata:
        saturated += float(model.constraint_logpdf(np.asarray(aux), measured))
    if mu is not None:
        fixed[config.poi_index] = True
    free = int(np.sum(~fixed & ~constrained))
    statistic = max(best.twice_nll + 2.0 * saturated, 0.0)
    return GoodnessOfFit(
        statistic=statistic,
        degrees=len(main) - free,
        p_value=_chi_squared(statistic, len(main) - free),
        bins=len(main),
        free=free,
        constrained=int(np.sum(~fixed & constrained)),
        mu=best.evidence.mu,
        twice_nll=best.twice_nll,
        status="ok" if best.evidence.trusted else "suspect",
        reason=best.evidence.reason,
        remarks=_without_degrees(len(main) - free),
        engine=best.engine,
    )
