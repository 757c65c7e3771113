"""Points at which a learned likelihood is compared: patches, a table, or drawn at random."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palletfit.config import FitSettings, Points, PointSettings
from palletfit.config.base import parse
from palletfit.core.arrays import FloatArray
from palletfit.core.text import did_you_mean
from palletfit.engine.samples import Spec
from palletfit.errors import ConfigError, PalletfitError
from palletfit.learned.likelihood import LearnedLikelihood
from palletfit.pallet.patches import Patch
from palletfit.products.points.signals import Signal

#: Points of a table that are read together.
_ROWS = 4096
#: Largest number of points that are drawn.
_LARGEST = 1_000_000
#: Sample of the signal, if the background has none of this name.
_SAMPLE = "signal"


@dataclass(frozen=True)
class Signals:
    """Recipe that makes points of yields.

    Attributes
    ----------
    likelihood, workspace, settings
        Network, background, and the measurement.
    uncertainties
        Relative uncertainties of all yields of a point, by name.
    """

    likelihood: LearnedLikelihood
    workspace: Spec
    settings: FitSettings
    uncertainties: Mapping[str, float | str]

    def of_table(self, table: Path) -> list[Patch]:
        """Read the points of a table, as those of an analysis (docs/scans.md).

        Raises
        ------
        ConfigError, PalletError
            The table is wrong.
        """
        from palletfit.products.points.tables import TableSource

        points = self._points(table=table)
        signal = Signal.of(self.workspace, points, self.settings)
        source = TableSource(points, (), signal, PointSettings())
        starts = range(0, source.count, _ROWS)
        spans = [range(first, min(first + _ROWS, source.count)) for first in starts]
        return [patch for _, patches in source.chunks(spans) for patch in patches]

    def at_random(
        self, count: int, seed: int, ranges: Mapping[str, tuple[float, float]]
    ) -> list[Patch]:
        """Draw points in the range of the network's training, or in a given one.

        A point has a strength between zero and one, and in each bin a number of events between
        both ends of its range, times this strength; all are uniform. So small and large signals
        come with all shapes.

        Parameters
        ----------
        count, seed
            Number of points, and seed of the random numbers.
        ranges
            Events of the signal by channel or bin, or by ``*`` for all others.

        Raises
        ------
        ConfigError
            An input has no range, or there are no or too many points.
        """
        if not 0 < count <= _LARGEST or seed < 0:
            raise ConfigError(
                f"{count} points cannot be drawn with the seed {seed}.",
                remedy=f"Ask for one to {_LARGEST} points, with a seed of zero or more.",
            )
        pairs = _ranges(self.likelihood, ranges)
        random = np.random.default_rng(seed)
        strengths = random.random((count, 1))
        low, high = pairs.T
        events = strengths * random.uniform(low, high, (count, len(pairs)))
        digits = len(str(count))
        return self.of_yields(
            {f"random_{number:0{digits}d}": row for number, row in enumerate(events, 1)}
        )

    def of_yields(self, signals: Mapping[str, FloatArray | PalletfitError]) -> list[Patch]:
        """Make patches of expected events by input; other bins have no signal.

        Points whose events are not known are left out.
        """
        signal = Signal.of(
            self.workspace, self._points(function="points:points", count=1), self.settings
        )
        patches = []
        for name, events in signals.items():
            if isinstance(events, PalletfitError):
                continue
            yields: dict[str, list[float]] = {}
            for (channel, number), value in zip(self.likelihood.bins, events, strict=True):
                yields.setdefault(channel, [0.0] * signal.bins[channel])[number] = float(value)
            patches.append(Patch(name, (), signal.operations(yields, {})))
        return patches

    def _points(self, **source: Any) -> Points:
        """Make the settings of points, with a name of the sample that is free."""
        names = {
            sample["name"]
            for channel in self.workspace["channels"]
            for sample in channel["samples"]
        }
        name = _SAMPLE
        while name in names:
            name += "_"
        content = {"sample": name, "negative": True, "uncertainties": {**self.uncertainties}}
        return parse(Points, {**content, **source}, file="the arguments of the call")


def _ranges(likelihood: LearnedLikelihood, ranges: Mapping[str, tuple[float, float]]) -> FloatArray:
    """Give the range of each input's signal, ``(n, 2)``."""
    training = likelihood.ranges
    pairs = np.full((len(likelihood.bins), 2), np.nan) if training is None else training.copy()
    used = set()
    for index, ((channel, number), name) in enumerate(
        zip(likelihood.bins, likelihood.names, strict=True)
    ):
        for key in (f"{channel}[{number}]", f"{channel}-{number}", name, channel, "*"):
            if key in ranges:
                pairs[index] = ranges[key]
                used.add(key)
                break
    for name in ranges:
        if name not in used and name != "*":
            raise ConfigError(
                f"The range of {name!r} is that of no input.",
                remedy=f"{did_you_mean(name, likelihood.names)}Name a channel or a bin in "
                "`ranges`, such as SR or SR[0].",
                file=likelihood.network.path,
            )
    for name, (low, high) in zip(likelihood.names, pairs, strict=True):
        # The width is finite, too: random numbers are drawn from it.
        if not (low < high and math.isfinite(float(high) - float(low))):
            raise ConfigError(
                f"The network's file does not say between which yields of {name!r} it was trained.",
                remedy="Give the smallest and largest events of the signal with `ranges`, by "
                "channel or bin, or by * for all.",
                file=likelihood.network.path,
            )
    return pairs
