"""Expected yields before and after a fit, with their uncertainties.

The uncertainty of a yield Y follows from those of the parameters by linear propagation with
symmetrized finite differences, as in cabinetry (and TRExFitter)::

    v_i      = (Y(theta + sigma_i) - Y(theta - sigma_i)) / 2      one parameter moved at a time
    var(Y)   = sum_ij v_i rho_ij v_j

Before the fit the parameters stand at their nominal values with the widths of their constraints
and without correlations (so that parameters without a constraint do not contribute); after it at
the best fit with the Hessian's covariance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import BatchFits
from palletfit.engine.fits import Fits
from palletfit.engine.layout import Block
from palletfit.engine.lowering import Lowered


@dataclass(frozen=True)
class Yields:
    """Yields of one sample, or of all, in one channel.

    Attributes
    ----------
    values, errors
        Events in each bin and their uncertainties.
    total, total_error
        The same of the sum of all bins.
    """

    values: tuple[float, ...]
    errors: tuple[float, ...]
    total: float
    total_error: float

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Yields:
        """Read what :func:`dataclasses.asdict` gave."""
        return cls(tuple(data["values"]), tuple(data["errors"]), data["total"], data["total_error"])


@dataclass(frozen=True)
class Prediction:
    """Expected yields of one channel.

    Attributes
    ----------
    samples
        By name, in alphabetical order.
    model
        Their sum.
    """

    samples: Mapping[str, Yields]
    model: Yields

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prediction:
        """Read what :func:`dataclasses.asdict` gave."""
        samples = {name: Yields.from_json(sample) for name, sample in data["samples"].items()}
        return cls(samples, Yields.from_json(data["model"]))


@dataclass(frozen=True)
class Channel:
    """One channel before and after the fit.

    Attributes
    ----------
    name
        Name in the workspace.
    data
        Observed events in each bin.
    prefit, postfit
        What is expected.
    """

    name: str
    data: tuple[float, ...]
    prefit: Prediction
    postfit: Prediction

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Channel:
        """Read what :func:`dataclasses.asdict` gave."""
        predictions = Prediction.from_json(data["prefit"]), Prediction.from_json(data["postfit"])
        return cls(str(data["name"]), tuple(data["data"]), *predictions)


@dataclass(frozen=True)
class Position:
    """Parameters with their uncertainties; in the columns of a layout.

    Attributes
    ----------
    point, errors
        ``(K,)``
    correlation
        ``(K, K)``; None if there is none.
    """

    point: FloatArray
    errors: FloatArray
    correlation: FloatArray | None


def channels(
    tests: BatchFits, fits: Fits, row: int, prefit: Position, postfit: Position
) -> tuple[Channel, ...]:
    """Compute the yields of one patch in all channels, in pyhf's order."""
    before, after = (variations(tests, fits, row, position) for position in (prefit, postfit))
    return channels_of(tests, fits, row, before, after)


def channels_of(
    tests: BatchFits,
    fits: Fits,
    row: int,
    prefit: Sequence[Variations],
    postfit: Sequence[Variations],
) -> tuple[Channel, ...]:
    """Describe all channels with their data, in pyhf's order."""
    layout = tests.batch.layout
    data = np.empty(len(layout.bin_order))
    data[layout.bin_order] = fits.data[row]
    starts = np.cumsum([0, *(bins for _, bins in layout.channels)])
    return tuple(
        Channel(
            name,
            tuple(data[first : first + bins].tolist()),
            before.prediction(),
            after.prediction(),
        )
        for (name, bins), first, before, after in zip(
            layout.channels, starts, prefit, postfit, strict=False
        )
    )


@dataclass(frozen=True)
class Variations:
    """Expected yields of one channel, and the effects of parameters on them.

    Attributes
    ----------
    channel, samples
        Position of the channel, and names of its S samples in alphabetical order.
    values
        Yields ``(S + 1, N + 1)``: the last row is the sum of samples, the last column that of bins.
    columns
        Columns of the n parameters that have an uncertainty.
    effects
        Effect of one standard deviation of each, ``(n, S + 1, N + 1)``.
    correlation
        Of these parameters, ``(n, n)``; None if there is none.
    """

    channel: int
    samples: tuple[str, ...]
    values: FloatArray
    columns: NDArray[np.int64]
    effects: FloatArray
    correlation: FloatArray | None

    def prediction(self) -> Prediction:
        """Give yields with their uncertainties."""
        errors = propagate(self.effects, self.correlation)
        yields = [_yields(*cell) for cell in zip(self.values, errors, strict=True)]
        return Prediction(dict(zip(self.samples, yields[:-1], strict=True)), yields[-1])

    def error_by(self, columns: NDArray[np.int64]) -> FloatArray:
        """Compute the uncertainties of summed bins by some parameters only, ``(S + 1,)``."""
        chosen = np.flatnonzero(np.isin(self.columns, columns))
        correlation = self.correlation
        if correlation is not None:
            correlation = correlation[np.ix_(chosen, chosen)]
        return propagate(self.effects[chosen, :, -1], correlation)


def variations(tests: BatchFits, fits: Fits, row: int, position: Position) -> list[Variations]:
    """Compute the expected yields of every channel, and the effects of parameters on them.

    Parameters
    ----------
    tests, fits, row
        The patch; of the fits only the data count.
    position
        Parameters with their uncertainties.

    Returns
    -------
    list
        In the order of the channels.
    """
    moved = np.flatnonzero(position.errors > 0)
    shifts = np.zeros((len(moved), len(position.point)))
    shifts[np.arange(len(moved)), moved] = position.errors[moved]
    points = np.concatenate(
        [position.point[None], position.point + shifts, position.point - shifts]
    )
    correlation = (
        None if position.correlation is None else position.correlation[np.ix_(moved, moved)]
    )
    by_channel: list[Variations] = []
    for channel, names, rates in _by_channel(tests, fits, row, points):
        order = np.argsort(names, kind="stable")
        # The sum over samples as one more sample, the sum over bins as one more bin.
        cells = np.concatenate([rates[:, order], rates.sum(axis=1, keepdims=True)], axis=1)
        cells = np.concatenate([cells, cells.sum(axis=2, keepdims=True)], axis=2)
        up, down = cells[1 : 1 + len(moved)], cells[1 + len(moved) :]
        named = tuple(names[index] for index in order)
        effects = (up - down) / 2
        by_channel.append(Variations(channel, named, cells[0], moved, effects, correlation))
    return sorted(by_channel, key=lambda entry: entry.channel)


def propagate(variations: FloatArray, correlation: FloatArray | None) -> FloatArray:
    """Compute standard deviations from symmetrized variations.

    Parameters
    ----------
    variations
        Effect of one standard deviation of each parameter, ``(n, …)``.
    correlation
        Of the parameters, ``(n, n)``; None if there is none.

    Returns
    -------
    ndarray
        ``(…)``
    """
    along = variations if correlation is None else np.tensordot(correlation, variations, axes=1)
    variance = np.sum(variations * along, axis=0)
    # Where effects cancel, rounding may leave less than nothing.
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _yields(values: FloatArray, errors: FloatArray) -> Yields:
    *bins, total = values.tolist()
    *widths, total_error = errors.tolist()
    return Yields(tuple(bins), tuple(widths), total, total_error)


def _by_channel(
    tests: BatchFits, fits: Fits, row: int, points: FloatArray
) -> Iterator[tuple[int, list[str], FloatArray]]:
    """Position, names of samples and yields ``(L, S, N)`` of each channel, at some points."""
    likelihood = tests.likelihood
    arrays, compiled = likelihood.arrays, likelihood.compiled
    pieces: list[list[FloatArray]] = []
    with np.errstate(all="ignore"):
        for part, lane, at in likelihood.lanes_at(fits, points, np.full(len(points), row)):
            blocks = compiled.by_sample(compiled.shared, lane, at)
            pieces.append([arrays.get(block)[: part.stop - part.start] for block in blocks])
    for number, block in enumerate(tests.batch.layout.blocks):
        rates = np.concatenate([piece[number] for piece in pieces])
        for row_of_channel, channel in enumerate(block.channels):
            names, columns = _samples(tests.batch, row, block, channel)
            yield channel, names, rates[:, row_of_channel][:, columns]


def _samples(
    batch: Lowered, row: int, block: Block, channel: int
) -> tuple[list[str], NDArray[np.int64]]:
    """List the names of a channel's samples, and their places among all of the block."""
    shared, added = batch.layout.sample_names[channel], batch.sample_names(row, channel)
    # Places that no sample of this channel takes are empty.
    first = block.shared["nominal"].shape[1]
    columns = [*range(len(shared)), *range(first, first + len(added))]
    return [*shared, *added], np.array(columns, dtype=int)


def signals(batch: Lowered, row: int) -> tuple[str, ...]:
    """List the names of the samples that the parameter of interest scales."""
    scaled_names: set[str] = set()
    for block, part in zip(batch.layout.blocks, batch.parts, strict=True):
        factors = [block.shared["factors"], part["factors"][row]]
        scaled = np.concatenate(factors, axis=1)[..., 0] > 0
        for position, channel in enumerate(block.channels):
            names, columns = _samples(batch, row, block, channel)
            scaled_names |= {
                name for name, at in zip(names, columns, strict=True) if scaled[position, at]
            }
    return tuple(sorted(scaled_names))
