"""The samples of a workspace as arrays: yields and modifiers of one sample in one channel.

The conventions are pyhf 0.7's. Axes are named by letters here and in the modules that build on
this one: P patches, B bins, K parameters; a *block* holds the channels that have the same number
of bins, with C channels, S samples, N bins, and T bin parameters in each bin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palletfit.core.arrays import FloatArray

Spec = Mapping[str, Any]

#: Kinds of parameters.
ALPHA, NORM, LUMI = "alpha", "normfactor", "lumi"
_BIN_KINDS = ("staterror", "shapesys", "shapefactor")


class Unsupported(Exception):  # noqa: N818  not an error: another engine takes over
    """A model that this engine does not fit, with the reason; pyhf decides if anything can."""


@dataclass(frozen=True)
class Sample:
    """The terms of one sample in one channel.

    Attributes
    ----------
    nominal
        Shape ``(N,)``.
    hist_names, hist_lo, hist_hi
        histosys modifiers, shape ``(n, N)``.
    norm_names, norm_lo, norm_hi
        normsys modifiers, shape ``(n,)``.
    factors
        Names of normfactor and lumi modifiers with their kind.
    staterror, shapesys, shapefactor
        Names of the modifiers, the former two with their absolute uncertainties.
    """

    nominal: FloatArray
    hist_names: tuple[str, ...]
    hist_lo: FloatArray
    hist_hi: FloatArray
    norm_names: tuple[str, ...]
    norm_lo: FloatArray
    norm_hi: FloatArray
    factors: tuple[tuple[str, str], ...]
    staterror: tuple[tuple[str, FloatArray], ...]
    shapesys: tuple[tuple[str, FloatArray], ...]
    shapefactor: tuple[str, ...]

    @property
    def alphas(self) -> Iterator[str]:
        """Names of all interpolated modifiers, some twice."""
        yield from self.hist_names
        yield from self.norm_names


def read_sample(spec: Spec) -> Sample:
    """Read a sample's modifiers.

    Raises
    ------
    Unsupported
        Lengths do not fit, a type is unknown, or a normsys factor is not positive.
    """
    nominal = np.asarray(spec["data"], dtype=float)
    # Of two modifiers with one type and name pyhf keeps the last.
    modifiers: dict[tuple[str, str], Any] = {}
    for modifier in spec["modifiers"]:
        kind, name = modifier["type"], modifier["name"]
        if kind == "shapesys" and (kind, name) in modifiers:
            raise Unsupported(f"the shapesys {name!r} stands twice in one sample")
        modifiers[kind, name] = modifier.get("data")
    kinds: dict[str, list[tuple[str, Any]]] = {
        kind: [] for kind in ("histosys", "normsys", "normfactor", "lumi", *_BIN_KINDS)
    }
    for (kind, name), data in modifiers.items():
        if kind not in kinds:
            raise Unsupported(f"the modifier type {kind!r} of {name!r} is unknown")
        kinds[kind].append((name, data))
    size = len(nominal)
    if not np.all(np.isfinite(nominal)):
        raise Unsupported("a yield is not finite")
    normsys = np.array(
        [(data["lo"], data["hi"]) for _, data in kinds["normsys"]], dtype=float
    ).reshape(-1, 2)
    if not np.all((normsys > 0) & (normsys < np.inf)):
        raise Unsupported("a normsys factor is not above zero and finite")
    return Sample(
        nominal=nominal,
        hist_names=tuple(name for name, _ in kinds["histosys"]),
        hist_lo=_table([data["lo_data"] for _, data in kinds["histosys"]], size),
        hist_hi=_table([data["hi_data"] for _, data in kinds["histosys"]], size),
        norm_names=tuple(name for name, _ in kinds["normsys"]),
        norm_lo=normsys[:, 0],
        norm_hi=normsys[:, 1],
        factors=tuple((name, kind) for kind in (NORM, LUMI) for name, _ in kinds[kind]),
        staterror=tuple((name, _table([data], size)[0]) for name, data in kinds["staterror"]),
        shapesys=tuple((name, _table([data], size)[0]) for name, data in kinds["shapesys"]),
        shapefactor=tuple(name for name, _ in kinds["shapefactor"]),
    )


def _table(rows: Sequence[Any], size: int) -> FloatArray:
    if not rows:
        return np.zeros((0, size))
    try:
        table = np.asarray(rows, dtype=float)
    except (TypeError, ValueError):
        raise Unsupported("a modifier's data are not one number a bin") from None
    if table.shape != (len(rows), size):
        raise Unsupported("a modifier has another number of bins than its sample")
    if not np.all(np.isfinite(table)):
        raise Unsupported("a number of a modifier is not finite")
    return table


def bin_modifiers(sample: Sample) -> Iterator[tuple[str, str]]:
    """Yield type and name of the modifiers with a parameter in each bin."""
    for name, _ in sample.staterror:
        yield "staterror", name
    for name, _ in sample.shapesys:
        yield "shapesys", name
    for name in sample.shapefactor:
        yield "shapefactor", name


def kinds_of(samples: Iterator[Sample]) -> dict[str, str]:
    """Kind of each parameter by name."""
    kinds: dict[str, str] = {}
    for sample in samples:
        merge_kinds(kinds, sample)
    return kinds


def merge_kinds(kinds: dict[str, str], sample: Sample) -> None:
    """Add the parameters of a sample to the kinds of parameters by name."""
    named = [
        *((name, ALPHA) for name in sample.alphas),
        *sample.factors,
        *((name, kind) for kind, name in bin_modifiers(sample)),
    ]
    for name, kind in named:
        if kinds.setdefault(name, kind) != kind:
            raise Unsupported(f"{name!r} names a {kinds[name]} and a {kind}")
