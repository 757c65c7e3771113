"""Pseudo-experiments ("toys"): data sets drawn from a model.

Main data are Poisson, auxiliary data come from their constraint terms. Each toy has random numbers
of its own: Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11) with a key,
and the toy's number as the counter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.lowering import Lowered
from palletfit.engine.toys.ensembles import DataSets
from palletfit.errors import FitError
from palletfit.pallet.patches import canonical_json

#: Toys that are fitted together.
BLOCK = 256
#: Expected counts above this cannot be drawn.
_LARGEST = 1e15


@dataclass(frozen=True)
class Source:
    """Source that toys of one hypothesis are drawn from.

    Attributes
    ----------
    mu
        Signal strength.
    point, expected
        Parameters ``(K,)`` and expected counts ``(B,)``.
    key
        Key of the random numbers, 128 bits.
    """

    mu: float
    point: FloatArray
    expected: FloatArray
    key: int


def key_of(seed: int, digest: str, hypothesis: str) -> int:
    """Make the key of random numbers from a seed, the digest of a patch, and a hypothesis."""
    text = hashlib.sha256(canonical_json([seed, digest, hypothesis])).digest()
    return int.from_bytes(text[:16], "little")


def make_source(batch: Lowered, point: FloatArray, expected: FloatArray, key: int) -> Source:
    """Make the source of toys of a batch's first patch.

    Parameters
    ----------
    batch
        Lowered patch.
    point, expected
        Parameters ``(K,)`` and the counts ``(B,)`` that they expect; less than zero counts as zero.
    key
        Key of the random numbers.

    Raises
    ------
    FitError
        Too many events are expected.
    """
    # Where nothing is observed, a rate below zero counts as zero.
    expected = np.maximum(expected, 0.0)
    counts = np.concatenate([expected, (point * batch.factor[0])])
    if not np.all(counts <= _LARGEST):
        raise FitError(
            f"A bin or a constraint expects {counts.max():.3g} events, too many to be drawn.",
            remedy="Use asymptotic formulae for this patch.",
        )
    return Source(float(point[batch.layout.poi]), point, expected, key)


def draw(batch: Lowered, source: Source, numbers: NDArray[np.int64]) -> DataSets:
    """Draw toys by their numbers."""
    gauss = np.flatnonzero(batch.precision[0] > 0)
    poisson = np.flatnonzero(batch.factor[0] > 0)
    centre, width = source.point[gauss], batch.precision[0, gauss] ** -0.5
    rates = np.concatenate([source.expected, (source.point * batch.factor[0])[poisson]])
    bins = len(source.expected)
    data = np.zeros((len(numbers), bins))
    aux = np.repeat(batch.aux[:1], len(numbers), axis=0)
    for row, number in enumerate(numbers):
        # The toy's number is the highest word of the counter: toys never overlap.
        bits = np.random.Philox(key=source.key, counter=int(number) << 192)
        random = np.random.Generator(bits)
        counts = random.poisson(rates)
        data[row], aux[row, poisson] = counts[:bins], counts[bins:]
        aux[row, gauss] = random.normal(centre, width)
    return DataSets(data, aux)
