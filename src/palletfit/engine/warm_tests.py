"""Hypothesis tests of many signals, with one search for minima for each region of signals.

:func:`choose_references` tests a few of a set of signals in full, and checks others of the set
against them. :class:`WarmHypotests` then tests any number of signals from these references, each in
a few Newton steps, and in full where references do not tell enough.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from palletfit.engine.asymptotics import p_values, profile_statistic
from palletfit.engine.batch import NO_SENSITIVITY, BatchFits, Hints
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fits import Fits
from palletfit.engine.hypotests import Hypotests, in_chunks, with_remarks
from palletfit.engine.hypothesis import tested_mu
from palletfit.engine.lowering import Lowered
from palletfit.engine.protocol import BatchEngine
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

#: Parameters by name, of fits by name.
Ends = Mapping[str, Mapping[str, float]]


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
class Postponed:
    """A signal that is tested in full, together with others.

    Attributes
    ----------
    reason
        Why it is.
    ends
        Of the fits from references, if there are some: further starts.
    warm
        Result from references that is to be compared.
    """

    reason: str
    ends: Ends = field(default_factory=dict)
    warm: HypotestResult | None = None


Outcome = tuple[int, HypotestResult | PalletfitError | Postponed | str]


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

    def in_batches(
        self, engine: BatchEngine, patches: Iterable[Patch]
    ) -> Iterator[tuple[Patch, HypotestResult | PalletfitError | str]]:
        """Test chunks of patches from references, and together those that need the full test.

        The full test of a few signals costs several times as much a signal as that of many.
        """
        postponed: list[tuple[Patch, Postponed]] = []
        for patch, outcome in in_chunks(engine, patches, self._of_batch):
            if not isinstance(outcome, Postponed):
                yield patch, outcome
                continue
            postponed.append((patch, outcome))
            if len(postponed) == engine.chunk_size():
                yield from self._in_full(engine, postponed)
                postponed = []
        if postponed:
            yield from self._in_full(engine, postponed)

    def _of_batch(self, tests: BatchFits) -> Iterator[Outcome]:
        """Test the patches of a batch that are near to references; postpone the others."""
        doubts = self.references.doubts(distances(tests, self.references.members))
        near = np.array([row for row, doubt in enumerate(doubts) if doubt is None], dtype=int)
        if len(near):
            part = tests.with_batch(tests.batch.take(near))
            yield from ((int(near[row]), result) for row, result in self._near(part))
        yield from ((row, Postponed(doubt)) for row, doubt in enumerate(doubts) if doubt)

    def _near(self, tests: BatchFits) -> Iterator[Outcome]:
        """Test signals that are near to references."""
        began = time.perf_counter()
        warm = WarmFits(tests, self.references.members)
        fits = warm.four_fits()
        seconds = (time.perf_counter() - began) / len(tests.rows)
        doubts = warm.doubts(fits)
        rows = np.array([row for row in tests.rows if row not in doubts], dtype=int)
        tags = signal_tags(tests.batch)
        for row, result in tests.results(fits, rows, seconds, brief=self.brief):
            if not isinstance(result, HypotestResult):
                doubts[row] = Doubt.UNPROVEN
            elif tags[row] % self.references.check_period == 0:
                reason = f"it is one in {self.references.check_period}"
                yield row, Postponed(reason, _ends(tests, fits, row), result)
            else:
                self.counts["warm"] += 1
                yield row, result
        for row, doubt in doubts.items():
            yield row, Postponed(doubt, _ends(tests, fits, row))

    def _in_full(
        self, engine: BatchEngine, postponed: Sequence[tuple[Patch, Postponed]]
    ) -> Iterator[tuple[Patch, HypotestResult | PalletfitError | str]]:
        """Test signals in full, with the ends from references as further starts, and say why."""
        by_patch = {id(patch): entry for patch, entry in postponed}
        began = time.perf_counter()
        batches, refused = engine.lower([patch for patch, _ in postponed], testable=True)
        build_time = (time.perf_counter() - began) / len(postponed)
        for batch, members in batches:
            entries = [by_patch[id(patch)] for patch in members]
            tests = engine.batch_fits(batch, hints=_hints(batch, entries))
            for row, outcome in tests.hypotests(brief=self.brief):
                result = self._compared(entries[row], outcome)
                yield members[row], with_remarks(result, batch.remarks[row], build_time)
        yield from refused

    def _compared(
        self, entry: Postponed, result: HypotestResult | PalletfitError | str
    ) -> HypotestResult | PalletfitError | str:
        """Count a full test, and compare it with that from references, if there is one."""
        self.counts[str(entry.reason)] += 1
        if not isinstance(result, HypotestResult):
            return result
        remarks = [f"searched in full, because {entry.reason}"]
        if entry.warm is not None:
            self.counts["checked"] += 1
            if difference := disagreement(entry.warm, result):
                self.counts["disagreed"] += 1
                remarks.append(f"tested from references it {difference}")
        return replace(result, remarks=(*result.remarks, *remarks))


def _ends(tests: BatchFits, fits: Mapping[str, Fits], row: int) -> Ends:
    """Give the ends of the fits of a row by the names of parameters, if they have a likelihood."""
    names = tests.batch.names[row]
    return {
        name: {
            parameter: float(value)
            for parameter, value in zip(names, kind.point[row], strict=True)
            if parameter is not None
        }
        for name, kind in fits.items()
        if np.isfinite(kind.value[row])
    }


def _hints(batch: Lowered, entries: Sequence[Postponed]) -> Hints:
    """Place the ends of fits in the columns of a batch."""
    kinds = dict.fromkeys(name for entry in entries for name in entry.ends)
    hints = {}
    for kind in kinds:
        rows = np.array([row for row, entry in enumerate(entries) if kind in entry.ends])
        points = np.array(batch.init[rows])
        for number, row in enumerate(rows):
            for column, name in enumerate(batch.names[row]):
                if name is not None:
                    points[number, column] = entries[row].ends[kind][name]
        hints[kind] = rows, points
    return hints


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
