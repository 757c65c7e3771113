"""Hypothesis tests of many signals, with one search for minima for each region of signals.

:func:`choose_references` tests a few of a set of signals in full, and checks others of the set
against them. :class:`WarmHypotests` then tests any number of signals from these references, each in
a few Newton steps, and in full where references do not tell enough.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from palletfit.engine.asymptotics import p_values, profile_statistic
from palletfit.engine.batch import NO_SENSITIVITY, BatchFits
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fits import Fits
from palletfit.engine.hypotests import Hypotests
from palletfit.engine.hypothesis import tested_mu
from palletfit.engine.records import HypotestResult
from palletfit.engine.warm import (
    Doubt,
    Reference,
    References,
    WarmFits,
    distance,
    distances,
    references_of,
    signal_tags,
    signal_yields,
)
from palletfit.errors import ConfigError, FitError, PalletfitError
from palletfit.pallet.patches import Patch

#: Differences of CLs, and of 2 NLL, that count as another result.
SAME_CLS, SAME_TWICE_NLL = 1e-6, 0.01
#: So many references are chosen at most, before others are added that disagree with them.
REFERENCES = 64
#: How often signals that disagree with the references become references.
_ROUNDS = 4

Outcome = tuple[int, HypotestResult | PalletfitError | str]


def check_settings(engine: BatchedEngine) -> None:
    """Refuse settings whose tests cannot start from references.

    Raises
    ------
    ConfigError
        The nearest minimum is to count, which depends on the suggested values alone.
    """
    if engine.settings.minimum == "nearest":
        raise ConfigError(
            "Tests from references give the lowest minimum, and `fit.minimum` is nearest.",
            remedy="Set `fit.minimum: lowest`, or test every point in full.",
        )


# --------------------------------------------------------------------------- tests


@dataclass(frozen=True)
class WarmHypotests(Hypotests):
    """Hypothesis tests of signals from references.

    Attributes
    ----------
    references
        Signals that were tested in full.
    counts
        Is added to: signals that were tested from references (``warm``), those that were tested in
        full by their :class:`Doubt`, checks (``checked``), and those with another result
        (``disagreed``).
    """

    references: References = field(default_factory=References)
    counts: Counter[str] = field(default_factory=Counter)

    def of_batch(self, tests: BatchFits) -> Iterator[Outcome]:
        """Test the patches of a batch."""
        doubts = self.references.doubts(distances(tests, self.references.members))
        far = np.array([row for row, doubt in enumerate(doubts) if doubt is not None], dtype=int)
        near = np.array([row for row, doubt in enumerate(doubts) if doubt is None], dtype=int)
        if len(near):
            part = tests.with_batch(tests.batch.take(near))
            yield from ((int(near[row]), result) for row, result in self._near(part))
        if len(far):
            part = tests.with_batch(tests.batch.take(far))
            reasons = {row: str(doubts[number]) for row, number in enumerate(far)}
            yield from ((int(far[row]), result) for row, result in self._in_full(part, reasons))

    def _near(self, tests: BatchFits) -> Iterator[Outcome]:
        """Test signals that are near to references."""
        began = time.perf_counter()
        warm = WarmFits(tests, self.references.members)
        fits = warm.four_fits()
        seconds = (time.perf_counter() - began) / len(tests.rows)
        doubts = warm.doubts(fits)
        rows = np.array([row for row in tests.rows if row not in doubts], dtype=int)
        tags = signal_tags(tests.batch)
        again: dict[int, str] = {row: str(doubt) for row, doubt in doubts.items()}
        checks: dict[int, HypotestResult] = {}
        for row, result in tests.results(fits, rows, seconds, brief=self.brief):
            if not isinstance(result, HypotestResult):
                again[row] = str(Doubt.UNPROVEN)
            elif tags[row] % self.references.check_period == 0:
                checks[row] = result
            else:
                self.counts["warm"] += 1
                yield row, result
        for row in checks:
            again[row] = f"it is one in {self.references.check_period}"
        yield from self._checked(tests, fits, again, checks)

    def _checked(
        self,
        tests: BatchFits,
        fits: Mapping[str, Fits],
        reasons: Mapping[int, str],
        checks: Mapping[int, HypotestResult],
    ) -> Iterator[Outcome]:
        """Test rows in full, with the ends from references as further starts, and compare."""
        if not reasons:
            return
        rows = np.array(sorted(reasons))
        part = tests.with_hints(rows, fits)
        of_part = {number: reasons[row] for number, row in enumerate(rows)}
        for number, result in self._in_full(part, of_part):
            row = int(rows[number])
            if row in checks and isinstance(result, HypotestResult):
                self.counts["checked"] += 1
                difference = disagreement(checks[row], result)
                if difference:
                    self.counts["disagreed"] += 1
                    remark = f"tested from references it {difference}"
                    result = replace(result, remarks=(*result.remarks, remark))
            yield row, result

    def _in_full(self, tests: BatchFits, reasons: Mapping[int, str]) -> Iterator[Outcome]:
        """Test all rows in full, and say why."""
        for row, result in tests.hypotests(brief=self.brief):
            self.counts[reasons[row]] += 1
            if isinstance(result, HypotestResult):
                remark = f"searched in full, because {reasons[row]}"
                yield row, replace(result, remarks=(*result.remarks, remark))
            else:
                yield row, result


def disagreement(warm: HypotestResult, full: HypotestResult) -> str:
    """Describe how a result from references differs from that of the full test; empty if not."""
    changes = [abs(warm.p_values.CLs_obs - full.p_values.CLs_obs)]
    pairs = zip(warm.p_values.CLs_exp, full.p_values.CLs_exp, strict=True)
    changes += [abs(one - other) for one, other in pairs]
    if max(changes) > SAME_CLS:
        return f"gives CLs {warm.p_values.CLs_obs:.6g}, {warm.p_values.CLs_exp[2]:.6g} expected"
    above = {
        name: fit.twice_nll - full.fits[name].twice_nll
        for name, fit in warm.fits.items()
        if name != "asimov_fixed"
    }
    name = max(above, key=lambda key: abs(above[key]))
    if abs(above[name]) > SAME_TWICE_NLL:
        return f"ends {above[name]:.2g} higher in the {name} fit's 2 NLL"
    return ""


# --------------------------------------------------------------------------- references


def choose_references(
    engine: BatchedEngine, patches: Sequence[Patch], *, count: int = REFERENCES
) -> References:
    """Choose references among signals, and check the others against them.

    References are as far from one another as possible (T. F. Gonzalez, Theor. Comp. Sci. 38 (1985)
    293), so that they cover the set. All other signals are tested in full, too. One half of them
    become references where they disagree with what is known, a few rounds long. The other half says
    which references are not trusted: those near which a signal disagrees. One is enough, because a
    region has some ten checks only, and full tests miss less than one minimum in 800.

    Parameters
    ----------
    engine
        Engine.
    patches
        Signals, all of which are tested in full; the choice does not depend on their order.
    count
        So many references at most, before others are added.

    Raises
    ------
    ConfigError
        The settings ask for the nearest minimum.
    FitError
        No signal can be a reference.
    """
    check_settings(engine)
    batches, _ = engine.lower(patches, testable=True)
    members: list[Reference] = []
    distrusted: set[int] = set()
    for batch, named in batches:
        order = np.argsort(signal_tags(batch), kind="stable")
        tests = engine.batch_fits(batch.take(order))
        group = _Group(tests, [named[row].name for row in order], len(members))
        members += group.choose(count)
        distrusted |= group.distrusted
    if not members:
        raise FitError(
            "None of these signals can be a reference: no fit of theirs is proven.",
            remedy="Give other signals, or test every point in full.",
        )
    return References(tuple(members), frozenset(distrusted))


class _Group:
    """Signals of one batch, in the order of their tags."""

    def __init__(self, tests: BatchFits, names: Sequence[str], first: int) -> None:
        self.tests, self.first = tests, first
        self.fits = tests.with_minimum("lowest").four_fits()
        proven = np.all([kind.converged for kind in self.fits.values()], axis=0)
        self.rows = np.flatnonzero(proven)
        self.all = references_of(tests, names, self.fits)
        self.structures = np.array([reference.structure for reference in self.all])
        self.distrusted: set[int] = set()

    def choose(self, count: int) -> list[Reference]:
        """Choose references, and find those that are not trusted."""
        chosen: list[int] = []
        for structure in dict.fromkeys(self.structures[self.rows]):
            chosen += self._farthest(self.rows[self.structures[self.rows] == structure], count)
        remaining = np.setdiff1d(self.rows, chosen)
        building, judging = remaining[::2], remaining[1::2]
        for _ in range(_ROUNDS):
            differing = self._differing(chosen, np.setdiff1d(building, chosen))
            if not differing:
                break
            chosen += sorted(differing)
        self.distrusted = {
            self.first + nearest for nearest in self._differing(chosen, judging).values()
        }
        return [self.all[row] for row in chosen]

    def _farthest(self, rows: NDArray[np.int64], count: int) -> list[int]:
        """Choose the first signal, and so on the one that is farthest from all chosen ones."""
        yields = self.tests.mu * signal_yields(self.tests.batch)[rows]
        expected = self.all[rows[0]].expected
        chosen = [0]
        nearest = distance(yields, yields[0], expected)
        while len(chosen) < min(count, len(rows)) and nearest.max() > 0:
            chosen.append(int(np.argmax(nearest)))
            nearest = np.minimum(nearest, distance(yields, yields[chosen[-1]], expected))
        return [int(rows[position]) for position in chosen]

    def _differing(self, chosen: Sequence[int], rows: NDArray[np.int64]) -> dict[int, int]:
        """Give the rows whose tests from references end higher, with their nearest reference."""
        if not len(rows):
            return {}
        members = [self.all[row] for row in chosen]
        tests = self.tests.with_batch(self.tests.batch.take(rows))
        warm = WarmFits(tests, members)
        fits = warm.four_fits()
        doubts = warm.doubts(fits)
        differing = {}
        for position, row in enumerate(rows):
            if position not in doubts and self._differs(fits, position, row):
                differing[int(row)] = int(warm.nearest[position, 0])
        return differing

    def _differs(self, warm: Mapping[str, Fits], position: int, row: int) -> bool:
        one = _cls(self.tests, warm, position)
        other = _cls(self.tests, self.fits, row)
        above = [
            2 * (warm[name].value[position] - self.fits[name].value[row])
            for name in ("background", "free", "fixed")
        ]
        lower = min(above) < -SAME_TWICE_NLL  # the full test has missed it
        return not lower and (
            bool(np.any(np.abs(one - other) > SAME_CLS)) or max(above) > SAME_TWICE_NLL
        )


def _cls(tests: BatchFits, fits: Mapping[str, Fits], row: int) -> NDArray[np.float64]:
    """Compute observed and expected CLs of a row."""
    kind = tests.settings.test_statistic
    q_asimov = 2 * float(fits["asimov_fixed"].value[row])
    q = profile_statistic(
        kind,
        tested_mu(tests.settings),
        float(fits["free"].point[row, tests.poi]),
        2 * float(fits["background" if kind == "q0" else "fixed"].value[row]),
        2 * float(fits["free"].value[row]),
        2 * float(fits["background"].value[row]),
    )
    result = p_values(kind, q, q_asimov if q_asimov > NO_SENSITIVITY else 0.0)
    return np.array([result.CLs_obs, *result.CLs_exp])
