"""The samples of a workspace as arrays: yields and modifiers of one sample in one channel.

The conventions are pyhf 0.7's. Axes are named by letters here and in the modules that build on
this one: P patches, B bins, K parameters; a *block* holds the channels that have the same number
of bins, with C channels, S samples, N bins, and T bin parameters in each bin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.pallet.extensions import INTERPOLATION_CODES
from palletfit.pallet.patches import repeated_modifier

Spec = Mapping[str, Any]

#: Kinds of parameters.
ALPHA, NORM, LUMI = "alpha", "normfactor", "lumi"
BIN_KINDS = ("staterror", "shapesys", "shapefactor")
#: A factor of zero, so that it has a logarithm.
TINY = 1e-300


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
    hist_codes, norm_codes
        Their interpolation codes.
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
    hist_codes: tuple[str, ...]
    norm_codes: tuple[str, ...]

    @property
    def alphas(self) -> Iterator[str]:
        """Names of all interpolated modifiers, some twice."""
        yield from self.hist_names
        yield from self.norm_names


def read_sample(spec: Spec, codes: tuple[str, str]) -> Sample:
    """Read a sample's modifiers.

    Parameters
    ----------
    spec
        The sample.
    codes
        Interpolation codes of normsys and histosys modifiers that do not name theirs.

    Raises
    ------
    Unsupported
        Lengths do not fit, a yield or a modifier's datum is no number, a type or code is unknown,
        two modifiers have one type and name, or a normsys factor has no meaning.
    """
    nominal = numbers(spec["data"], "a yield")
    repeated = repeated_modifier(spec)
    if repeated is not None:
        raise Unsupported(f"the {repeated[0]} {repeated[1]!r} stands twice in one sample")
    kinds: dict[str, list[tuple[str, Any]]] = {
        kind: [] for kind in ("histosys", "normsys", "normfactor", "lumi", *BIN_KINDS)
    }
    interpolation: dict[str, list[str]] = {"normsys": [], "histosys": []}
    for modifier in spec["modifiers"]:
        kind, name = modifier["type"], modifier["name"]
        if kind not in kinds:
            raise Unsupported(f"the modifier type {kind!r} of {name!r} is unknown")
        kinds[kind].append((name, modifier.get("data")))
        if kind in interpolation:
            interpolation[kind].append(interpolation_code(modifier, codes))
    size = len(nominal)
    if not np.all(np.isfinite(nominal)):
        raise Unsupported("a yield is not finite")
    factors = np.array(
        [
            normsys_factors(name, data, code)
            for (name, data), code in zip(kinds["normsys"], interpolation["normsys"], strict=True)
        ],
        dtype=float,
    ).reshape(-1, 2)
    return Sample(
        nominal=nominal,
        hist_names=tuple(name for name, _ in kinds["histosys"]),
        hist_lo=_table([data["lo_data"] for _, data in kinds["histosys"]], size),
        hist_hi=_table([data["hi_data"] for _, data in kinds["histosys"]], size),
        norm_names=tuple(name for name, _ in kinds["normsys"]),
        norm_lo=factors[:, 0],
        norm_hi=factors[:, 1],
        factors=tuple((name, kind) for kind in (NORM, LUMI) for name, _ in kinds[kind]),
        staterror=tuple((name, _table([data], size)[0]) for name, data in kinds["staterror"]),
        shapesys=tuple((name, _table([data], size)[0]) for name, data in kinds["shapesys"]),
        shapefactor=tuple(name for name, _ in kinds["shapefactor"]),
        hist_codes=tuple(interpolation["histosys"]),
        norm_codes=tuple(interpolation["normsys"]),
    )


def interpolation_code(modifier: Spec, codes: tuple[str, str]) -> str:
    """Give the interpolation code of a normsys or histosys modifier.

    Parameters
    ----------
    modifier
        The modifier; its `interpolation` names a code, see :mod:`palletfit.pallet.extensions`.
    codes
        Codes of normsys and histosys modifiers that do not name theirs.

    Raises
    ------
    Unsupported
        There is no such code.
    """
    kind = modifier["type"]
    code = modifier.get("interpolation")
    if code is None:
        return codes[0] if kind == "normsys" else codes[1]
    if not isinstance(code, str) or code not in INTERPOLATION_CODES[kind]:
        raise Unsupported(f"the {kind} {modifier['name']!r} has no interpolation code {code!r}")
    return code


def normsys_factors(name: str, data: Spec, code: str) -> tuple[float, float]:
    """Read the factors ``(lo, hi)`` of a normsys modifier.

    A factor of zero is an uncertainty of 100%. Of code4 it is the limit of small factors, which
    ROOT evaluates: the value, its slope and its curvature are zero there.

    Raises
    ------
    Unsupported
        A factor is no number, negative or not finite, or zero with code1, where the yield would
        jump.
    """
    if isinstance(data["lo"], str) or isinstance(data["hi"], str):
        raise Unsupported(f"a factor of the normsys {name!r} is a text, and no number")
    factors = float(data["lo"]), float(data["hi"])
    if not all(0 <= factor < math.inf for factor in factors):
        raise Unsupported(
            f"the normsys {name!r} has a factor that is negative or not finite ({factors[0]:g} and "
            f"{factors[1]:g})"
        )
    if code == "code1" and 0.0 in factors:
        raise Unsupported(f"the normsys {name!r} has a factor of zero, where code1 jumps")
    lo, hi = (factor or TINY for factor in factors)
    return lo, hi


def numbers(values: Sequence[Any], title: str) -> FloatArray:
    """Read numbers, and not what NumPy would convert to some: texts, true and false.

    Parameters
    ----------
    values
        Numbers, or lists of them of one length.
    title
        Name of one of them for the error.

    Raises
    ------
    Unsupported
        One of them is none.
    TypeError, ValueError
        They have no common shape.
    """
    array = np.asarray(values)
    if array.dtype.kind in "USb":
        raise Unsupported(f"{title} is a text, or true or false, and no number")
    return array.astype(float, copy=False)


def _table(rows: Sequence[Any], size: int) -> FloatArray:
    if not rows:
        return np.zeros((0, size))
    try:
        table = numbers(rows, "a modifier's datum")
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
