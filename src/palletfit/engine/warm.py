"""Hypothesis tests of signals near others whose minima are known.

The best-fit parameters of a likelihood are smooth functions of the signal's yields. So the minima
of a *reference*, a signal that was tested in full, are good starts for a signal nearby: their first
Newton step is the implicit derivative ``-H^-1 d2L / dtheta ds`` times the difference of the yields.
What costs most of a full test, the search for lower minima, is left to the references.

A fit starts at the lowest end of the nearest reference. The other ends of the nearest references
are tried, too: where the likelihood shows a hump on the way, a lower minimum may be another branch.
A signal is handed to the full test where that is not enough, see :class:`Doubt`.

What a signal gets depends on the likelihood, the settings, and the references only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import SHARP, WEAK, BatchFits
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.lowering import Lowered

#: Signals that are farther from all references, in :func:`distance`, get the full test.
RADIUS = 5.0
#: One signal in so many is tested in full as well.
CHECK_PERIOD = 100
#: So many references are looked at for each signal.
NEAREST = 3
#: Of each fit of a reference so many ends are kept, if they are not higher by more than this.
_ENDS, _WINDOW = 8, 10.0
#: Digits of their parameters: they are starts.
_DIGITS = 6
#: Ends that are nearer in every nuisance parameter, in prefit widths, lie in one valley.
_VALLEY = 0.5
#: Half-way to another point the NLL rises by less than this part of all if there is no hump.
_CONVEX = 0.3
#: Ends of references where the NLL is higher by more than this are not followed.
_NEAR = 5.0


class Doubt(StrEnum):
    """Reasons why a signal gets the full test."""

    FAR = "it is far from all references"
    DISTRUSTED = "checks near its nearest reference had other results"
    UNPROVEN = "a fit from its nearest reference has no proven minimum"
    NESTED = "its free fit from references ends above another one"


@dataclass(frozen=True)
class Reference:
    """A signal that was tested in full.

    Attributes
    ----------
    name
        Of its patch.
    structure
        What signals have in common that may start from its ends, see :func:`structure_of`.
    yields, expected
        Events that the signal and the background-only fit expect, ``(B,)``.
    names
        Names of its parameters by column.
    ends
        By the name of a fit its different ends, the lowest first, ``(n, K)``.
    """

    name: str
    structure: str
    yields: FloatArray
    expected: FloatArray
    names: tuple[str | None, ...]
    ends: Mapping[str, FloatArray]

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        return {
            "name": self.name,
            "structure": self.structure,
            "yields": self.yields.tolist(),
            "expected": self.expected.tolist(),
            "names": list(self.names),
            "ends": {name: points.tolist() for name, points in self.ends.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Reference:
        """Read what :meth:`as_json` gives."""
        ends = {name: np.array(points, dtype=float) for name, points in content["ends"].items()}
        return cls(
            content["name"],
            content["structure"],
            np.array(content["yields"], dtype=float),
            np.array(content["expected"], dtype=float),
            tuple(content["names"]),
            ends,
        )


def signal_yields(batch: Lowered) -> FloatArray:
    """Sum the nominal yields of the patches' own samples, ``(P, B)`` in the order of the blocks."""
    parts = [part["nominal"].sum(axis=2).reshape(len(batch), -1) for part in batch.parts]
    return np.concatenate(parts, axis=1)


def structure_of(batch: Lowered, row: int) -> str:
    """Compute a digest of the channels, background samples and data of a signal."""
    layout = batch.layout
    digest = hashlib.sha256(json.dumps([layout.channels, layout.sample_names]).encode())
    digest.update(np.ascontiguousarray(batch.data[row]).tobytes())
    return digest.hexdigest()


def references_of(
    tests: BatchFits, names: Sequence[str], fits: Mapping[str, Fits]
) -> list[Reference]:
    """Take the ends of full tests.

    Parameters
    ----------
    tests, names
        Tests of signals, and the names of their patches.
    fits
        Their fits, from :meth:`palletfit.engine.batch.BatchFits.four_fits`.
    """
    batch, background = tests.batch, fits["background"]
    yields = signal_yields(batch)
    expected = tests.likelihood.rates(background, background.point)
    ends = {name: _different_ends(kind, tests.fitter.widths) for name, kind in fits.items()}
    return [
        Reference(
            name,
            structure_of(batch, row),
            yields[row],
            np.maximum(expected[row], 0.0),
            tuple(batch.names[row]),
            {kind: of_row[row] for kind, of_row in ends.items()},
        )
        for row, name in enumerate(names)
    ]


def signal_tags(batch: Lowered) -> list[int]:
    """Give each signal a number that belongs to its yields, and not to its place in a batch."""
    yields = signal_yields(batch).astype("<f8")
    digests = [hashlib.sha256(of_row.tobytes()).digest() for of_row in yields]
    return [int.from_bytes(digest[:7], "big") for digest in digests]


def _rounded(values: FloatArray) -> FloatArray:
    """Round to some digits."""
    size = np.where(values == 0, 1.0, np.abs(values))
    scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(size)))
    return np.asarray(np.round(values * scale) / scale)


def _different_ends(fits: Fits, widths: FloatArray) -> list[FloatArray]:
    """List the different ends of each row, the lowest first."""
    count = len(fits.value)
    ends: list[list[tuple[float, FloatArray]]] = [
        [(float(fits.value[row]), fits.point[row])] for row in range(count)
    ]
    attempts = [(rows, minima) for _, rows, minima, _ in fits.attempts] + fits.passed
    for rows, minima in attempts:
        near = minima.converged & (minima.value < fits.value[rows] + _WINDOW)
        for position in np.flatnonzero(near):
            ends[rows[position]].append((float(minima.value[position]), minima.point[position]))
    different = []
    for row in range(count):
        kept: list[FloatArray] = []
        for _, point in sorted(ends[row], key=lambda end: end[0]):
            apart = (np.abs(point - other) / widths[row] for other in kept)
            if all(distance.max() > _VALLEY for distance in apart):
                kept.append(point)
        different.append(_rounded(np.array(kept[:_ENDS])))
    return different


@dataclass(frozen=True)
class References:
    """Signals that were tested in full, and what is known about them.

    Attributes
    ----------
    members
        References.
    distrusted
        Positions of those near which signals get the full test.
    check_period
        One signal in so many is tested in full as well.
    """

    members: tuple[Reference, ...] = ()
    distrusted: frozenset[int] = frozenset()
    check_period: int = CHECK_PERIOD

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        return {
            "members": [member.as_json() for member in self.members],
            "distrusted": sorted(self.distrusted),
            "check_period": self.check_period,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> References:
        """Read what :meth:`as_json` gives."""
        members = tuple(Reference.from_json(member) for member in content["members"])
        return cls(members, frozenset(content["distrusted"]), content["check_period"])

    def doubts(self, distances: FloatArray) -> list[Doubt | None]:
        """Say why signals get the full test, for distances ``(P, R)``; None if they need not."""
        if not self.members:
            return [Doubt.FAR] * len(distances)
        nearest = np.argmin(distances, axis=1)
        far = distances.min(axis=1) > RADIUS
        return [
            Doubt.FAR if is_far else Doubt.DISTRUSTED if number in self.distrusted else None
            for number, is_far in zip(nearest.tolist(), far, strict=True)
        ]


def distance(yields: FloatArray, other: FloatArray, expected: FloatArray) -> FloatArray:
    """Compute distances of signals in standard deviations of the expected counts.

    The root of a Poisson count has a variance of 1/4 whatever its mean (M. S. Bartlett, Suppl. J.
    Roy. Statist. Soc. 3 (1936) 68), so that ``2 sqrt(expected + yields)`` are coordinates in which
    every bin's uncertainty is one. Uncertainties of the background only bring signals nearer.

    Parameters
    ----------
    yields, other, expected
        Events of signals, ``(n, B)``, of one signal, and of the background, ``(B,)``.
    """
    roots, other_roots = (2 * np.sqrt(np.maximum(expected + y, 0.0)) for y in (yields, other))
    return np.asarray(np.sqrt(np.sum((roots - other_roots) ** 2, axis=-1)))


def distances(tests: BatchFits, references: Sequence[Reference]) -> FloatArray:
    """Compute distances of signals to references, ``(P, R)``; infinite for another structure."""
    batch = tests.batch
    yields = tests.mu * signal_yields(batch)
    structures = np.array([structure_of(batch, row) for row in range(len(batch))])
    all_distances = np.full((len(batch), len(references)), np.inf)
    for number, reference in enumerate(references):
        same = structures == reference.structure
        all_distances[same, number] = distance(
            yields[same], tests.mu * reference.yields, reference.expected
        )
    return all_distances


class WarmFits:
    """The four fits of signals from the ends of references.

    Parameters
    ----------
    tests
        Tests of the signals, P of them.
    references
        Signals that were tested in full, of the same structure.

    Attributes
    ----------
    nearest
        Positions of the nearest references, ``(P, n)``.
    """

    def __init__(self, tests: BatchFits, references: Sequence[Reference]) -> None:
        self.tests, self.batch, self.references = tests, tests.batch, references
        order = np.argsort(distances(tests, references), axis=1, kind="stable")
        self.nearest = order[:, :NEAREST]
        self._placed: dict[tuple[int, tuple[str | None, ...]], dict[str, FloatArray]] = {}
        counted = ~self.batch.fixed
        counted[:, tests.poi] = False
        self._counted = counted

    def four_fits(self) -> dict[str, Fits]:
        """Make the fits; see :meth:`palletfit.engine.batch.BatchFits.four_fits`."""
        tests, batch = self.tests, self.batch
        discovery = tests.settings.test_statistic == "q0"
        background = Fits(batch.data, batch.aux, 0.0, tests.likelihood.without_signal)
        self._fit("background", background)
        background.leader = tests.rows.copy()
        free = Fits(batch.data, batch.aux, None, tests.rows)
        fixed = Fits(batch.data, batch.aux, tests.mu, tests.rows)
        self._fit("free", free)
        self._fit("fixed", fixed)
        source = fixed if discovery else background
        tests.fitter.sharpen(source, tests.rows, SHARP)
        rates, aux = tests.likelihood.asimov_data(source, source.point)
        asimov = Fits(rates, aux, 0.0 if discovery else tests.mu, tests.rows)
        self._fit("asimov_fixed", asimov)
        for fits in (background, free, fixed, asimov):
            tests.fitter.sharpen(fits, tests.rows)
        weak = np.flatnonzero(2 * asimov.value < WEAK)
        for fits in (free, background if discovery else fixed, asimov):
            tests.fitter.sharpen(fits, weak, SHARP)
        return {"background": background, "free": free, "fixed": fixed, "asimov_fixed": asimov}

    def doubts(self, fits: Mapping[str, Fits]) -> dict[int, Doubt]:
        """Give the rows whose fits are not enough, with the reason."""
        unproven = ~np.all([kind.converged for kind in fits.values()], axis=0)
        lowest = np.minimum(fits["background"].value, fits["fixed"].value)
        nested = fits["free"].value > lowest + SAME
        reasons = {int(row): Doubt.NESTED for row in np.flatnonzero(nested)}
        return reasons | {int(row): Doubt.UNPROVEN for row in np.flatnonzero(unproven)}

    def _fit(self, name: str, fits: Fits) -> None:
        """Fit from the lowest end of the nearest reference, and look for a lower minimum."""
        rows = fits.leading(self.tests.rows)
        start = np.array(self.batch.init)
        for row in rows:
            start[row] = self._ends(row, self._near(name, row)[0], name)[0]
        self.tests.fitter.fit(fits, {"reference": start}, rows)
        self.tests.search.mirror(fits, rows)
        self._follow_others(name, fits, rows)

    def _near(self, name: str, row: int) -> NDArray[np.int64]:
        """List the references whose ends are tried; a fit that many signals share tries all."""
        if name == "background" and self.tests.likelihood.only_signal:
            return np.arange(len(self.references))
        return np.asarray(self.nearest[row])

    def _ends(self, row: int, number: int, name: str) -> FloatArray:
        """Place the ends of a fit of a reference in the columns of a row, ``(n, K)``."""
        names = tuple(self.batch.names[row])
        key = int(number), names
        if key not in self._placed:
            self._placed[key] = self._by_column(self.references[number], names)
        ends = self._placed[key][name]
        return np.where(np.isnan(ends), self.batch.init[row], ends)

    def _by_column(
        self, reference: Reference, names: Sequence[str | None]
    ) -> dict[str, FloatArray]:
        """Order the ends of a reference by columns; NaN for parameters that it does not have."""
        column = {name: at for at, name in enumerate(reference.names) if name is not None}
        pairs = [(at, column[name]) for at, name in enumerate(names) if name in column]
        targets, sources = np.array(pairs, dtype=int).reshape(-1, 2).T
        placed = {}
        for fit, ends in reference.ends.items():
            placed[fit] = np.full((len(ends), len(names)), np.nan)
            placed[fit][:, targets] = ends[:, sources]
        return placed

    def _follow_others(self, name: str, fits: Fits, rows: NDArray[np.int64]) -> None:
        """Follow the other ends of the near references where they lie in another valley."""
        points: list[FloatArray] = []
        owners: list[int] = []
        mirrors = self.tests.search.mirrors(fits)
        for row in rows:
            ends = np.concatenate(
                [self._ends(row, number, name) for number in self._near(name, row)]
            )
            weights = self._counted[row] / self.tests.fitter.widths[row]
            valleys = [fits.point[row]]
            # Each end once, as long as it is in no valley that is listed.
            while len(ends := ends[_apart(ends, valleys[-1], weights, mirrors[row]) > _VALLEY]):
                valleys.append(ends[0])
            owners += [int(row)] * (len(valleys) - 1)
            points += valleys[1:]
        if not owners:
            return
        owner, point = np.array(owners), np.array(points)
        if fits.mu is not None:
            point[:, self.tests.poi] = np.broadcast_to(fits.mu, len(self.batch))[owner]
        tried = self._promising(fits, owner, point)
        if len(tried):
            self.tests.search.follow(fits, "other end", owner[tried], point[tried], deep=True)

    def _promising(
        self, fits: Fits, owner: NDArray[np.int64], point: FloatArray
    ) -> NDArray[np.int64]:
        """Find the points that are not too high, and that a hump may lie before."""
        values, lowest = self.tests.likelihood.values, fits.value[owner]
        with np.errstate(invalid="ignore"):  # without a likelihood on either side
            rise = values(fits, point, owner) - lowest
            half_way = values(fits, (point + fits.point[owner]) / 2, owner) - lowest
        convex = (half_way < _CONVEX * rise) & (rise > 0)
        return np.flatnonzero(~convex & (rise < _NEAR))


def _apart(
    points: FloatArray, point: FloatArray, weights: FloatArray, mirrors: NDArray[np.bool_]
) -> FloatArray:
    """Compute the largest weighted distances of a parameter of points to another one, ``(n,)``.

    Of those alphas whose other sign has been looked at only the size counts.
    """
    apart = np.abs(points - point)
    count = len(mirrors)
    sizes = np.abs(np.abs(points[:, :count]) - np.abs(point[:count]))
    apart[:, :count] = np.where(mirrors, sizes, apart[:, :count])
    return np.asarray((apart * weights).max(axis=1, initial=0.0))
