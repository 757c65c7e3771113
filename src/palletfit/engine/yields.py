"""The yields of samples as variables of the likelihood.

A yield is one number in the ``data`` of a sample of a channel. Expected counts are linear in it:
``d lambda / d yield`` is what a *unit sample* expects, one event with the modifiers of the sample.
A histosys has its histograms as differences to the yield, so that these change where the yield does
and its histograms do not.

A yield is also in the width of constraints: a staterror's is ``sqrt(Q) / N`` with the sums N of
yields and Q of squared errors of its samples, and a shapesys has ``(yield / error)**2`` counts.

The letters of axes are those of :mod:`palletfit.engine.samples`; T is the number of *layers*: each
holds one sample a channel, so that the bins of a layer are those of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.config import DerivativeSettings
from palletfit.core.arrays import FloatArray
from palletfit.core.text import did_you_mean
from palletfit.engine.evaluation import BatchLikelihood
from palletfit.engine.fits import Fits
from palletfit.engine.layout import Layout
from palletfit.engine.likelihood import shared_block
from palletfit.engine.regions import listed, matching
from palletfit.engine.samples import NORM, Sample, Spec
from palletfit.errors import PalletError


@dataclass(frozen=True)
class Target:
    """A sample in a channel of one patch whose yields are variables.

    Attributes
    ----------
    channel
        Position of its channel in the layout.
    name, sample
        Its name and content.
    position
        Its position among the shared samples of the channel, or among the patch's own.
    layer
        Its layer.
    bins
        Its bins in the order of the blocks.
    """

    channel: int
    name: str
    sample: Sample
    position: int
    layer: int
    bins: slice


@dataclass(frozen=True)
class Constraints:
    """Derivatives of the widths of constraints by yields; all arrays have an entry a pair, (n,).

    Attributes
    ----------
    layer, row, bin, column
        Layer, patch and bin of the yield, and the column of the parameter.
    precision, factor, aux
        Derivatives of these settings of the parameter, see
        :class:`palletfit.engine.parameters.ParameterSet`.
    """

    layer: NDArray[np.int64]
    row: NDArray[np.int64]
    bin: NDArray[np.int64]
    column: NDArray[np.int64]
    precision: FloatArray
    factor: FloatArray
    aux: FloatArray


class Yields:
    """The yields of chosen samples of the patches of one batch.

    Parameters
    ----------
    likelihood
        The likelihoods of the patches, P of them.
    settings
        Samples, and what becomes of their uncertainties.

    Attributes
    ----------
    targets
        For each patch its samples whose yields are variables.
    unknown
        For each patch the error if a pattern fits no sample of it; None if all do.
    layers
        Number of layers, T.
    """

    def __init__(self, likelihood: BatchLikelihood, settings: DerivativeSettings) -> None:
        self._likelihood, self._settings = likelihood, settings
        self._batch = batch = likelihood.batch
        self._layout = batch.layout
        self._starts = _first_bins(batch.layout)
        shared = [self._shared_targets(row) for row in range(len(batch))]
        # Patches of a batch share samples and the parameter of interest.
        self._shared_layers = _depth(shared[0])
        of_patches = [self._own_targets(row) for row in range(len(batch))]
        self._own_layers = max(map(_depth, of_patches)) - self._shared_layers
        self._own_layers = max(self._own_layers, 0)
        self._patch_targets = of_patches
        self.targets = [one + other for one, other in zip(shared, of_patches, strict=True)]
        self.unknown = [self._unknown(row) for row in range(len(batch))]
        self.layers = self._shared_layers + self._own_layers

    @property
    def relative(self) -> bool:
        """True if uncertainties scale with yields."""
        return self._settings.uncertainties == "relative"

    def nominal(self, row: int) -> Iterator[tuple[Target, str, FloatArray]]:
        """Yield the targets of a patch with the name of their channel and their yields, (N,)."""
        for target in self.targets[row]:
            yield target, self._layout.channels[target.channel][0], target.sample.nominal

    # ------------------------------------------------------------------ targets

    def _chosen(self, row: int, name: str, sample: Sample) -> bool:
        if self._settings.samples:
            return name in matching(self._settings.samples, self._names(row))
        return (self._batch.readings[row].poi, NORM) in sample.factors

    def _names(self, row: int) -> set[str]:
        """Give the names of all samples of a patch."""
        return {
            *(name for names in self._layout.sample_names for name in names),
            *(name for samples in self._batch.readings[row].added for name, _ in samples),
        }

    def _unknown(self, row: int) -> PalletError | None:
        """Give the error if a pattern fits no sample of a patch."""
        names = self._names(row)
        for pattern in self._settings.samples:
            if not matching([pattern], names):
                return PalletError(
                    f"No sample has the name {pattern!r}, or fits it as a pattern "
                    "(`derivatives.samples`).",
                    remedy=f"{did_you_mean(pattern, names)}There are {listed(sorted(names))}.",
                )
        return None

    def _shared_targets(self, row: int) -> list[Target]:
        names = self._layout.sample_names
        by_channel = [
            list(zip(of_channel, samples, strict=True))
            for of_channel, samples in zip(names, self._layout.samples, strict=True)
        ]
        return self._targets(row, by_channel, 0)

    def _own_targets(self, row: int) -> list[Target]:
        return self._targets(row, self._batch.readings[row].added, self._shared_layers)

    def _targets(
        self, row: int, by_channel: Sequence[Sequence[tuple[str, Sample]]], first: int
    ) -> list[Target]:
        """Choose samples, and give those of one channel different layers."""
        targets = []
        for channel, samples in enumerate(by_channel):
            layer, start = first, self._starts[channel]
            for position, (name, sample) in enumerate(samples):
                if self._chosen(row, name, sample):
                    bins = slice(start, start + len(sample.nominal))
                    targets.append(Target(channel, name, sample, position, layer, bins))
                    layer += 1
        return targets

    # ------------------------------------------------------------------ unit samples

    def rates(self, fits: Fits, rows: NDArray[np.int64]) -> FloatArray:
        """Compute derivatives of expected counts by yields at minima, ``(T, len(rows), B)``."""
        point = fits.point[rows]
        return self._stacked([unit.rates(fits, point, rows) for unit in self._units], fits, rows)

    def changes(self, fits: Fits, rows: NDArray[np.int64], direction: FloatArray) -> FloatArray:
        """Compute how the derivatives of :meth:`rates` change along directions.

        Parameters
        ----------
        fits, rows
            Fits, at whose minima the derivatives are, and their rows.
        direction
            Directions of the parameters, ``(n, len(rows), K)``.

        Returns
        -------
        ndarray
            ``(n, T, len(rows), B)``
        """
        changes = np.zeros((len(direction), self.layers, len(rows), fits.data.shape[1]))
        for layer, unit in enumerate(self._units):
            for part, derivatives, _ in unit.derivatives(fits, rows):
                along = derivatives["jacobian"] @ np.moveaxis(direction[:, part], 0, -1)
                changes[:, layer, part] = np.moveaxis(along, -1, 0)
        return changes

    @staticmethod
    def _stacked(layers: Sequence[FloatArray], fits: Fits, rows: NDArray[np.int64]) -> FloatArray:
        return np.stack(layers) if layers else np.zeros((0, len(rows), fits.data.shape[1]))

    @cached_property
    def _units(self) -> list[BatchLikelihood]:
        """Likelihoods of which nothing is left but the unit samples of a layer."""
        likelihood = self._likelihood
        samples: dict[str, Any] = {}
        put = likelihood.arrays.put
        shared_rows = likelihood.compiled.shared["rows"]
        units = []
        for layer in range(self.layers):
            blocks = [shared_block(part) for part in self._shared_parts(layer)]
            shared = {"rows": shared_rows, "blocks": put(blocks)}
            if layer >= self._shared_layers:
                parts = put(self._own_parts(layer))
                samples = {"rows": likelihood.patch_samples["rows"], "blocks": parts}
            units.append(likelihood.with_yields(shared, samples))
        return units

    def _shared_parts(self, layer: int) -> list[dict[str, Any]]:
        """Make the arrays of the shared samples of each block for a layer."""
        column = self._layout.column
        parts = []
        for block in self._layout.blocks:
            unit = _without_yields(block.shared)
            for target in self.targets[0]:
                # Layers of own samples have no shared ones.
                if target.layer == layer < self._shared_layers and target.channel in block.channels:
                    at = block.channels.index(target.channel), target.position
                    columns = [column[name] for name in target.sample.hist_names]
                    self._fill(unit, block.shared, at, columns)
            parts.append(unit)
        return parts

    def _own_parts(self, layer: int) -> list[dict[str, Any]]:
        """Make the arrays of the patches' own samples of each block for a layer."""
        parts = []
        for block, part in zip(self._layout.blocks, self._batch.parts, strict=True):
            unit = _without_yields(part)
            for row, targets in enumerate(self._patch_targets):
                for target in targets:
                    if target.layer == layer and target.channel in block.channels:
                        at = row, block.channels.index(target.channel), target.position
                        columns = self._columns(row, target.sample.hist_names)
                        self._fill(unit, part, at, columns)
            parts.append({name: unit[name] for name in ("nominal", "odd", "even", "bins")})
        return parts

    def _fill(
        self,
        unit: dict[str, Any],
        part: dict[str, Any],
        at: tuple[int, ...],
        columns: Sequence[int],
    ) -> None:
        """Write a unit sample: the derivatives of a sample's arrays by its yields."""
        unit["nominal"][at] = 1.0
        if not self.relative:
            unit["even"][at][:, list(columns)] = -1.0
            return
        nominal = part["nominal"][at][:, None]
        for name in ("odd", "even"):
            size = np.where(nominal != 0, nominal, 1.0)
            unit[name][at] = np.where(nominal != 0, part[name][at] / size, 0.0)

    def _columns(self, row: int, names: Sequence[str]) -> list[int]:
        column = self._column[row]
        return [column[name] for name in names]

    @cached_property
    def _column(self) -> list[dict[str, int]]:
        """Columns of the parameters of each patch by name."""
        return [
            {name: column for column, name in enumerate(names) if name is not None}
            for names in self._batch.names
        ]

    # ------------------------------------------------------------------ constraints

    @cached_property
    def constraints(self) -> Constraints:
        """Derivatives of the widths of constraints."""
        entries = [
            (target.layer, row, target.bins.start + number, *entry)
            for row, targets in enumerate(self.targets)
            for target in targets
            for number, entry in self._of_target(row, target)
        ]
        columns = np.array(entries, dtype=float).reshape(-1, 7).T
        return Constraints(*columns[:4].astype(int), *columns[4:])

    def _of_target(
        self, row: int, target: Target
    ) -> Iterator[tuple[int, tuple[int, float, float, float]]]:
        """Yield bins of a target, with columns and derivatives of precision, factor and aux."""
        user = self._batch.readings[row].user
        for name, counts, slopes in self._counts(row, target):
            first = self._first_component(row, name, target.channel)
            for number in np.flatnonzero((counts > 0) & (slopes != 0)):
                column = self._column[row][f"{name}[{first + number}]"]
                derivatives = self._settings_of(row, column, user.get(name, {}), slopes[number])
                yield int(number), (column, *derivatives)

    def _counts(self, row: int, target: Target) -> Iterator[tuple[str, FloatArray, FloatArray]]:
        """Yield the names of modifiers with their counts, and derivatives of these, ``(N,)``.

        Counts are one over the relative variance: those of a Poisson constraint.
        """
        sample, relative = target.sample, self.relative
        nonzero = np.where(sample.nominal != 0, sample.nominal, 1.0)
        for name, errors in sample.staterror:
            total, squares = self._sums(row, name, target.channel)
            usable = (squares > 0) & (total != 0)
            variance = np.where(usable, squares, 1.0)
            counts = np.where(usable, total**2 / variance, 0.0)
            slopes = 2 * total / variance
            if relative:
                slopes = slopes - counts / variance * 2 * errors**2 / nonzero
            yield name, counts, slopes
        for name, errors in sample.shapesys:
            usable = (errors != 0) & (sample.nominal != 0) & (not relative)
            variance = np.where(usable, errors, 1.0) ** 2
            counts = np.where(usable, sample.nominal**2 / variance, 0.0)
            yield name, counts, 2 * sample.nominal / variance

    def _samples(self, row: int, channel: int) -> list[Sample]:
        added = self._batch.readings[row].added[channel]
        return [*self._layout.samples[channel], *(sample for _, sample in added)]

    def _sums(self, row: int, name: str, channel: int) -> tuple[FloatArray, FloatArray]:
        """Sum yields and squared errors of the samples of a channel that share a staterror."""
        total, squares = np.zeros((2, self._layout.channels[channel][1]))
        for sample in self._samples(row, channel):
            for other, errors in sample.staterror:
                if other == name:
                    total, squares = total + sample.nominal, squares + errors**2
        return total, squares

    def _first_component(self, row: int, name: str, channel: int) -> int:
        """Count the components of a parameter that belong to channels before this one."""
        return sum(
            self._layout.channels[earlier][1]
            for earlier in range(channel)
            if any(
                name == other
                for sample in self._samples(row, earlier)
                for other, _ in (*sample.staterror, *sample.shapesys)
            )
        )

    def _settings_of(
        self, row: int, column: int, user: Spec, slope: float
    ) -> tuple[float, float, float]:
        """Give derivatives of precision, factor and aux, if the measurement does not set them."""
        batch = self._batch
        gaussian, poisson = batch.precision[row, column] > 0, batch.factor[row, column] > 0
        follows = poisson and "factors" not in user
        # Data of a constraint that the measurement chooses are those of its own counts.
        measured = poisson and "auxdata" not in user and (follows or "constraint" not in user)
        return (
            slope if gaussian and "sigmas" not in user else 0.0,
            slope if follows else 0.0,
            slope if measured else 0.0,
        )


def _depth(targets: Sequence[Target]) -> int:
    """Count the layers up to the last one of some targets."""
    return max((target.layer + 1 for target in targets), default=0)


def _first_bins(layout: Layout) -> dict[int, int]:
    """Give the first bin of each channel in the order of the blocks."""
    starts, first = {}, 0
    for block in layout.blocks:
        for channel in block.channels:
            starts[channel] = first
            first += block.bins
    return starts


def _without_yields(part: dict[str, Any]) -> dict[str, Any]:
    """Copy the arrays of samples without what the samples expect."""
    empty = {name: np.zeros_like(part[name]) for name in ("nominal", "odd", "even")}
    return {**part, **empty}
