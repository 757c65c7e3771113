"""CLs from pseudo-experiments ("toys"), in shards that any number of tasks may make.

Toys are drawn from the model at the conditional fits of the observed data: for the tested
hypothesis with the parameter of interest at the tested value, for the alternative without signal
(for ``q0`` it is the other way round, and the alternative has a signal strength of one). Main data
are Poisson, auxiliary data come from their constraint terms. Every toy is fitted twice, and its
test statistic is that of :mod:`palletfit.engine.asymptotics`. This is pyhf's ``ToyCalculator``, and
the procedure that ATLAS and CMS agreed on (ATL-PHYS-PUB-2011-11, section 2.1).

Each toy has random numbers of its own: Philox (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC11) with a key from the seed, the patch and the hypothesis, and the toy's number as the
counter. So toys are the same however they are split over tasks. They are fitted in blocks which
begin at multiples of :data:`BLOCK`, whole ones even where a shard begins or ends within one, so
that on one kind of machine their q are the same to the last bit, too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.config import ToySettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.asymptotics import TestStatistic
from palletfit.engine.batch import DataFits
from palletfit.engine.choose import require_batched
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.hypothesis import BELOW_ZERO, check_poi_bounds
from palletfit.engine.likelihood import EMPTY
from palletfit.engine.lowering import Lowered
from palletfit.engine.protocol import Engine
from palletfit.engine.toys.draws import BLOCK, Source, draw, key_of, make_source
from palletfit.engine.toys.ensembles import DataSets, Ends, Ensemble, Pairs
from palletfit.errors import ConfigError, FitError, PalletError, PalletfitError
from palletfit.pallet.patches import Patch

#: Hypotheses, and the numbers that go into their keys.
TESTED, ALTERNATIVE = "tested", "alternative"
HYPOTHESES = (TESTED, ALTERNATIVE)
#: Said where descents were asked for and none are made.
NO_DESCENTS = "toys.descents does nothing with this backend and these interpolation codes"
#: Of so many patches a worker keeps the fits of the observed data, for their next shard.
_KEPT_PATCHES = 4
_prepared: OrderedDict[tuple[int, str, int, int], Toys] = OrderedDict()


def compute(
    engine: Engine, patches: Sequence[Patch], settings: Mapping[str, Any]
) -> Iterator[tuple[Patch, dict[str, Any] | PalletfitError]]:
    """Shards as plain data with their status; which ones is in the patches' options.

    See :func:`palletfit.products.toys.shards.shard`. A shard is ``ok`` if each of its toys has a
    test statistic, else ``suspect``.
    """
    batched = require_batched(engine, "toys")
    toy_settings = ToySettings.model_validate(settings["toys"])
    for patch in patches:
        try:
            maker = _toys(batched, patch, toy_settings)
            shard = maker.shard(patch.options["first"], patch.options["count"])
        except PalletfitError as error:
            yield patch, error
            continue
        complete = not any(shard[hypothesis]["failed"] for hypothesis in HYPOTHESES)
        yield patch, {**shard, "status": "ok" if complete else "suspect", "patch": patch.name}


def _toys(engine: BatchedEngine, patch: Patch, settings: ToySettings) -> Toys:
    """Give the maker of a patch's shards; it keeps its engine alive, so that the id stays valid."""
    key = id(engine), patch.digest, settings.seed, settings.descents
    if key not in _prepared:
        _prepared[key] = Toys(engine, replace(patch, name=patch.options["of"]), settings)
        while len(_prepared) > _KEPT_PATCHES:
            _prepared.popitem(last=False)
    _prepared.move_to_end(key)
    return _prepared[key]


def run_shard(
    engine: BatchedEngine, patch: Patch, settings: ToySettings, first: int, count: int
) -> dict[str, Any]:
    """Draw and fit some toys of both hypotheses; see :meth:`Toys.shard`."""
    return Toys(engine, patch, settings).shard(first, count)


def statistic(
    kind: TestStatistic, mu: float, mu_hat: FloatArray, fixed: FloatArray, free: FloatArray
) -> FloatArray:
    """Apply :func:`palletfit.engine.asymptotics.profile_statistic` to arrays of NLLs."""
    q = np.maximum(2.0 * (fixed - free), 0.0)
    return np.where(mu_hat < 0 if kind == "q0" else mu_hat > mu, 0.0, q)


class Toys:
    """Pseudo-experiments of one patch.

    Parameters
    ----------
    engine
        Engine of the background, with the test statistic and the tested signal strength.
    patch
        Signal patch.
    settings
        Seed, and how deep the fits search.

    Raises
    ------
    PalletError
        The patch does not apply, the engine does not support its model, or the measurement does not
        allow the tested value.
    FitError
        A fit to the observed data has no proven minimum.
    """

    def __init__(self, engine: BatchedEngine, patch: Patch, settings: ToySettings) -> None:
        self.engine, self.patch, self.settings = engine, patch, settings
        self.kind: TestStatistic = engine.settings.test_statistic
        discovery = self.kind == "q0"
        self.mu = 0.0 if discovery else engine.settings.mu
        fits = engine.data_fits(patch)
        self.batch, self.poi = self._not_below_zero(fits.batch), fits.batch.layout.poi
        self._check_bounds(1.0 if discovery else self.mu)
        self.ensemble = Ensemble(engine, self.batch, descents=settings.descents)
        self.data = DataSets(self.batch.data, self.batch.aux)
        tested, alternative = ("background", "fixed") if discovery else ("fixed", "background")
        self.observed = self._observe(fits, tested)
        below = [BELOW_ZERO] if self._below_zero(fits) else []
        idle = settings.descents and not (self.ensemble.profiled or self.ensemble.convex)
        self.remarks = [*self.batch.remarks[0], *below, *([NO_DESCENTS] if idle else [])]
        self.sources = {
            TESTED: self._source(fits, tested, TESTED),
            ALTERNATIVE: self._source(fits, alternative, ALTERNATIVE),
        }

    def _not_below_zero(self, batch: Lowered) -> Lowered:
        """Let ``qtilde`` compare with mu = 0 where mu-hat is negative (CCGV eq. 16).

        The lower bound of zero on the parameter of interest does just that.
        """
        poi = batch.layout.poi
        if self.kind != "qtilde" or not batch.lower[0, poi] < 0:
            return batch
        lower = batch.lower.copy()
        lower[:, poi] = np.maximum(lower[:, poi], 0.0)
        return replace(batch, lower=lower)

    def _below_zero(self, fits: DataFits) -> bool:
        """Say whether ``qtilde`` does not compare with the best fit."""
        return self.kind == "qtilde" and fits.evidence["free"].mu < 0

    def _check_bounds(self, mu: float) -> None:
        batch = self.batch
        lower, upper = float(batch.lower[0, self.poi]), float(batch.upper[0, self.poi])
        try:
            check_poi_bounds(mu, lower, upper, str(batch.names[0][self.poi]))
        except PalletError as error:
            error.patch = self.patch.name
            raise

    def _observe(self, fits: DataFits, tested: str) -> dict[str, Any]:
        """Compute the test statistic of the observed data, by the same fits as those of the toys.

        They start where the engine's own ended, so that they do not end higher.
        """
        start, free_start = fits.points[tested][None], fits.points["free"][None]
        below = self._below_zero(fits)
        if below:
            free_start = np.maximum(free_start, self.batch.lower)
        fixed, _ = self.ensemble.search(self.data, [start], self.mu)
        self._resume(fixed, start, self.mu)
        free, _ = self.ensemble.search(self.data, [fixed.point, free_start], None)
        self._resume(free, fixed.point, None)
        self._resume(free, free_start, None)
        pair = Pairs(fixed, free, np.zeros(1, dtype=bool))
        if not pair.converged[0]:
            raise FitError(
                f"The fits to the observed data did not converge ({_reason(pair, 0)}).",
                remedy="Look at the yields of this patch.",
                patch=self.patch.name,
            )
        mu_hat = fits.evidence["free"].mu if below else float(free.point[0, self.poi])
        return {
            "q": float(self._statistic(pair)[0]),
            "mu_hat": mu_hat,
            "edm": [float(fixed.edm[0]), float(free.edm[0])],
            "reasons": {name: fit.reason for name, fit in fits.evidence.items()},
        }

    def _resume(self, best: Ends, point: FloatArray, mu: float | None) -> None:
        """Keep a lower fit of the observed data that begins with a rate below zero."""
        empty = self.data.data <= EMPTY
        below = np.any(empty & (self.ensemble.rates(point) < 0.0), axis=1)
        self.ensemble.resume(self.data, best, np.flatnonzero(below), point, mu)

    def _source(self, fits: DataFits, fit: str, hypothesis: str) -> Source:
        key = key_of(self.settings.seed, self.patch.digest, hypothesis)
        try:
            return make_source(self.batch, fits.points[fit], fits.expected[fit], key)
        except FitError as error:
            error.patch = self.patch.name
            raise

    # ------------------------------------------------------------------ toys

    def draw(self, hypothesis: str, numbers: NDArray[np.int64]) -> DataSets:
        """Toys by their numbers."""
        return draw(self.batch, self.sources[hypothesis], numbers)

    def fit(self, hypothesis: str, sets: DataSets) -> Pairs:
        """Fit toys of a hypothesis."""
        return self.ensemble.pairs(sets, self.sources[hypothesis].point, self.mu)

    def _statistic(self, pairs: Pairs) -> FloatArray:
        mu_hat = pairs.free.point[:, self.poi]
        return statistic(self.kind, self.mu, mu_hat, pairs.fixed.value, pairs.free.value)

    def shard(self, first: int, count: int) -> dict[str, Any]:
        """Draw and fit some toys of both hypotheses.

        Parameters
        ----------
        first, count
            Number of the first toy, and how many.

        Returns
        -------
        dict
            Plain data for JSON: what the toys are of (``patch``, ``digest``, ``seed``, ``mu``,
            ``test_statistic``), ``first`` and ``count``, the ``observed`` q, ``remarks`` if there
            are any; and for each of :data:`HYPOTHESES` its signal strength ``mu``, the ``q`` of all
            toys (None where a fit has no proven minimum), those that ``failed`` by number with the
            reason, and numbers of those ``searched`` further because the first starts did not
            settle them.

        Raises
        ------
        ConfigError
            There are no such toys.
        """
        if first < 0 or count < 1:
            raise ConfigError(
                f"There is no shard of {count} toys from number {first} on.",
                remedy="Begin at zero or above, with at least one toy.",
            )
        began = time.perf_counter()
        record: dict[str, Any] = {
            "patch": self.patch.name,
            "digest": self.patch.digest,
            "seed": self.settings.seed,
            "mu": self.mu,
            "test_statistic": self.kind,
            "first": first,
            "count": count,
            "observed": self.observed,
            "convex": self.ensemble.convex,
            **({"descents": self.settings.descents} if self.settings.descents else {}),
            **({"remarks": self.remarks} if self.remarks else {}),
        }
        for hypothesis in HYPOTHESES:
            record[hypothesis] = self._shard_of(hypothesis, first, count)
        return {**record, "seconds": time.perf_counter() - began, "software": self.engine.software}

    def _shard_of(self, hypothesis: str, first: int, count: int) -> dict[str, Any]:
        q: list[float | None] = []
        failed: list[dict[str, Any]] = []
        searched: list[int] = []
        iterations = 0
        end = first + count
        for begin in range(first - first % BLOCK, end, BLOCK):
            numbers = np.arange(begin, begin + BLOCK)
            pairs = self.fit(hypothesis, self.draw(hypothesis, numbers))
            values, converged = self._statistic(pairs), pairs.converged
            rows = np.flatnonzero((numbers >= first) & (numbers < end))
            q += [float(values[row]) if converged[row] else None for row in rows]
            failed += [
                {"toy": int(numbers[row]), "reason": _reason(pairs, row)}
                for row in rows[~converged[rows]]
            ]
            searched += numbers[rows[pairs.searched[rows]]].tolist()
            iterations += int((pairs.fixed.iterations + pairs.free.iterations)[rows].sum())
        return {
            "mu": self.sources[hypothesis].mu,
            "q": q,
            "failed": failed,
            "searched": searched,
            "iterations": iterations / count,
        }


def _reason(pairs: Pairs, row: int) -> str:
    """Say why a data set has no test statistic."""
    ends: Mapping[str, Ends] = {"fixed": pairs.fixed, "free": pairs.free}
    for name, fits in ends.items():
        if not fits.converged[row]:
            return f"its {name} fit: {fits.reason(row)}"
    return "its free fit ended above the fixed one"
