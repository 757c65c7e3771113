"""Samples with a histosys that multiplies yields, as samples with a normsys.

In each bin such a variation is a factor of its own. Bins with the same factors make a sample that
has this factor as a normsys, and all other modifiers of the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from palletfit.pallet.hs3.modifiers import Modifier, Sample


def split(sample: Sample) -> list[Sample]:
    """Split a sample where a histosys multiplies its yields; others stay as they are."""
    multiplied = sample.multiplied
    if multiplied is None:
        return [sample]
    bins: dict[tuple[float, float], list[int]] = {}
    for number, nominal in enumerate(sample.data):
        if nominal:
            factors = multiplied.lo[number] / nominal, multiplied.hi[number] / nominal
            bins.setdefault(factors, []).append(number)
    # Yields of zero have uncertainties, too.
    rest = [number for number, nominal in enumerate(sample.data) if not nominal]
    bins = bins or {(1.0, 1.0): []}
    next(iter(bins.values())).extend(rest)
    parts = []
    for factors, numbers in bins.items():
        name = sample.name if len(bins) < 2 else f"{sample.name} (bin {numbers[0] + 1})"
        modifiers = [
            _factor(modifier, factors) if modifier is multiplied else _within(modifier, numbers)
            for modifier in sample.modifiers
        ]
        parts.append(Sample(name, _only(sample.data, numbers), tuple(modifiers)))
    return parts


def _factor(modifier: Modifier, factors: tuple[float, float]) -> Modifier:
    lo, hi = factors
    return replace(modifier, kind="normsys", lo=lo, hi=hi, multiplies=False)


def _within(modifier: Modifier, numbers: Sequence[int]) -> Modifier:
    """Keep the uncertainties of a staterror in some bins: the sum over samples is the same."""
    if modifier.kind != "staterror":
        return modifier
    return replace(modifier, errors=_only(modifier.errors, numbers))


def _only(values: Sequence[float], numbers: Sequence[int]) -> tuple[float, ...]:
    chosen = set(numbers)
    return tuple(value if number in chosen else 0.0 for number, value in enumerate(values))
