"""HistFactory's interpolation codes, with their first and second derivatives.

Source of the formulas: Cranmer et al., "HistFactory", CERN-OPEN-2012-016, section 4.1, in the
conventions of pyhf 0.7. One departs from it: pyhf's code2 jumps at ``|alpha| = 1``, where that of
HistFactory, and this one, go on as a straight line.

An additive code of a normsys modifier acts on its factor: ``1 + shift``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray

#: Codes whose derivative jumps at ``alpha = 0``.
KINKED = frozenset({"code0", "code1"})

#: The code of all parameters, or one for each.
Code = str | tuple[str, ...]
_ADDITIVE = frozenset({"code0", "code2", "code4p"})


def kinks(code: Code, size: int) -> NDArray[np.bool_]:
    """Say for which of `size` parameters the derivative jumps at zero, shape ``(size,)``."""
    codes = (code,) * size if isinstance(code, str) else code
    return np.array([name in KINKED for name in codes], dtype=bool)


def codes_at(code: Code, columns: Sequence[int] | NDArray[np.int64]) -> Code:
    """Choose the codes of parameters by their columns."""
    return code if isinstance(code, str) else tuple(code[column] for column in columns)


def _by_code(code: tuple[str, ...]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for name in dict.fromkeys(code):
        yield name, np.array([entry == name for entry in code])


# The polynomial of code4 between -1 and 1: its six coefficients follow from value, slope and
# curvature of both exponentials at -1 and 1. Columns: value - 1, slope, curvature at 1, then at -1.
_MATCH = (
    np.array(
        [
            [15, -15, -7, -7, 1, -1],
            [24, 24, -9, 9, 1, 1],
            [-10, 10, 10, 10, -2, 2],
            [-24, -24, 14, -14, -2, -2],
            [3, -3, -3, -3, 1, -1],
            [8, 8, -5, 5, 1, 1],
        ]
    )
    / 16
)


@dataclass(frozen=True)
class Shift:
    """Compute the shift of a bin by histosys modifiers, ``S * odd + A * even``, with derivatives.

    ``S = (hi - lo) / 2`` and ``A = (hi + lo) / 2 - nominal``.
    """

    odd: Any
    even: Any
    odd_slope: Any
    even_slope: Any
    even_curvature: Any


def shift(code: Code, alpha: Any, side: Any, xp: Any) -> Shift:
    """Additive interpolation of histosys modifiers.

    Parameters
    ----------
    code
        ``code0``, ``code2`` or ``code4p``; a tuple has one for each index of the last axis.
    alpha
        Nuisance parameters, any shape.
    side
        Sign of each `alpha`, which decides where it is zero.
    xp
        Array namespace.
    """
    if not isinstance(code, str):
        return _mixed_shift(code, alpha, side, xp)
    one, zero = xp.ones_like(alpha), xp.zeros_like(alpha)
    if code == "code0":
        return Shift(alpha, alpha * side, one, side, zero)
    square = alpha * alpha
    inside = square < 1.0
    if code == "code4p":
        polynomial = square * (15.0 + square * (3.0 * square - 10.0)) / 8.0
        slope = alpha * (15.0 + square * (9.0 * square - 20.0)) / 4.0
        curvature = 15.0 * (1.0 - square) * (1.0 - 3.0 * square) / 4.0
        return Shift(
            alpha,
            xp.where(inside, polynomial, alpha * side),
            one,
            xp.where(inside, slope, side),
            xp.where(inside, curvature, zero),
        )
    return Shift(
        alpha,
        xp.where(inside, square, 2.0 * alpha * side - 1.0),
        one,
        xp.where(inside, 2.0 * alpha, 2.0 * side),
        xp.where(inside, 2.0 * one, zero),
    )


def _mixed_shift(code: tuple[str, ...], alpha: Any, side: Any, xp: Any) -> Shift:
    even, slope, curvature = (xp.zeros((*alpha.shape[:-1], len(code))) for _ in range(3))
    for name, chosen in _by_code(code):
        part = shift(name, alpha, side, xp)
        even = xp.where(chosen, part.even, even)
        slope = xp.where(chosen, part.even_slope, slope)
        curvature = xp.where(chosen, part.even_curvature, curvature)
    return Shift(alpha, even, xp.ones_like(alpha), slope, curvature)


def scale_coefficients(hi: FloatArray, lo: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute the coefficients of normsys modifiers that :func:`scale` needs.

    Parameters
    ----------
    hi, lo
        Factors at ``alpha = 1`` and ``alpha = -1``, above zero, any shape.

    Returns
    -------
    tuple
        The polynomial's coefficients of ``alpha**1`` to ``alpha**6``, shape ``(6, ...)``, and
        the logarithms of `hi` and `lo`.
    """
    log_hi, log_lo = np.log(hi), np.log(lo)
    conditions = np.stack(
        [hi - 1.0, lo - 1.0, log_hi * hi, -log_lo * lo, log_hi**2 * hi, log_lo**2 * lo]
    )
    return np.tensordot(_MATCH, conditions, axes=1), log_hi, log_lo


def scale(
    code: Code, alpha: Any, side: Any, terms: Any, xp: Any, *, eager: bool, orders: int = 3
) -> list[Any]:
    """Multiplicative interpolation of normsys modifiers: factor and its two derivatives.

    Parameters
    ----------
    code
        ``code1`` or ``code4``, or an additive code; a tuple has one for each parameter.
    alpha, side
        Nuisance parameters and their signs, shape ``(lanes, n)``.
    terms
        ``coefficients`` of shape ``([lanes,] 6, n, rows)``, ``log_hi`` and ``log_lo`` of shape
        ``([lanes,] n, rows)``. Where rows do not differ from lane to lane, ``polynomials`` of
        shape ``(n, 7, rows)``, with a one and the coefficients.
    xp
        Array namespace.
    eager
        Whether values are known, so that exponentials are made only where they are needed.
    orders
        1 for the factor only, 3 for its derivatives, too.

    Returns
    -------
    list
        Arrays of shape ``(lanes, n, rows)``, as many as `orders`.
    """
    if not isinstance(code, str):
        return _mixed_scale(code, alpha, side, terms, xp, eager, orders)
    if code in _ADDITIVE:
        return _additive_scale(code, alpha, side, terms, xp)[:orders]
    at = alpha[:, :, None]
    up = side[:, :, None] >= 0.0
    if code == "code1":
        rate = xp.where(up, terms["log_hi"], -terms["log_lo"])
        return _exponential(at, rate, xp)[:orders]
    if "polynomials" in terms:
        polynomials = _shared_polynomials(alpha, terms["polynomials"], xp, orders)
    else:
        polynomials = _polynomials(at, terms["coefficients"], xp, orders)
    outside = xp.abs(alpha) >= 1.0
    if not eager:
        tails = _exponential(at, xp.where(up, terms["log_hi"], -terms["log_lo"]), xp)
        far = outside[:, :, None]
        return [xp.where(far, tail, inner) for inner, tail in zip(polynomials, tails, strict=False)]
    lanes, columns = np.nonzero(outside)
    if len(lanes):
        chosen = (lanes, columns) if terms["log_hi"].ndim == at.ndim else columns
        upward = alpha[lanes, columns, None] > 0.0
        rate = np.where(upward, terms["log_hi"][chosen], -terms["log_lo"][chosen])
        tails = _exponential(alpha[lanes, columns, None], rate, xp)
        for inner, tail in zip(polynomials, tails, strict=False):
            inner[lanes, columns] = tail
    return polynomials


def _mixed_scale(
    code: tuple[str, ...], alpha: Any, side: Any, terms: Any, xp: Any, eager: bool, orders: int
) -> list[Any]:
    values: list[Any] = []
    for name, chosen in _by_code(code):
        parts = scale(name, alpha, side, terms, xp, eager=eager, orders=orders)
        values = values or parts
        columns = chosen[:, None]
        values = [xp.where(columns, part, value) for part, value in zip(parts, values, strict=True)]
    return values


def _additive_scale(code: str, alpha: Any, side: Any, terms: Any, xp: Any) -> list[Any]:
    """``1 + shift`` of the factors, with its two derivatives."""
    hi, lo = xp.exp(terms["log_hi"]), xp.exp(terms["log_lo"])
    odd, even = (hi - lo) / 2, (hi + lo) / 2 - 1.0
    moved = shift(code, alpha, side, xp)
    return [
        1.0 + moved.odd[:, :, None] * odd + moved.even[:, :, None] * even,
        moved.odd_slope[:, :, None] * odd + moved.even_slope[:, :, None] * even,
        moved.even_curvature[:, :, None] * even,
    ]


def _polynomials(at: Any, coefficients: Any, xp: Any, orders: int) -> list[Any]:
    a1, a2, a3, a4, a5, a6 = xp.moveaxis(coefficients, -3, 0)
    value = 1.0 + at * (a1 + at * (a2 + at * (a3 + at * (a4 + at * (a5 + at * a6)))))
    if orders == 1:
        return [value]
    slope = a1 + at * (
        2.0 * a2 + at * (3.0 * a3 + at * (4.0 * a4 + at * (5.0 * a5 + (6.0 * at) * a6)))
    )
    curvature = 2.0 * a2 + at * (6.0 * a3 + at * (12.0 * a4 + at * (20.0 * a5 + (30.0 * at) * a6)))
    return [value, slope, curvature]


def _shared_polynomials(alpha: Any, polynomials: Any, xp: Any, orders: int) -> list[Any]:
    """Evaluate the polynomials as matrix products, one for each parameter."""
    powers = [xp.ones_like(alpha)]
    for _ in range(6):
        powers.append(powers[-1] * alpha)
    zero = xp.zeros_like(alpha)
    first = [zero, *(number * powers[number - 1] for number in range(1, 7))]
    second = [zero, zero, *(n * (n - 1) * powers[n - 2] for n in range(2, 7))]
    basis = xp.stack([xp.stack(row, axis=-1) for row in (powers, first, second)[:orders]])
    lanes, count = alpha.shape
    basis = xp.transpose(basis, (2, 0, 1, 3)).reshape(count, orders * lanes, 7)
    values = (basis @ polynomials).reshape(count, orders, lanes, polynomials.shape[-1])
    return [xp.swapaxes(values[:, row], 0, 1) for row in range(orders)]


def _exponential(alpha: Any, rate: Any, xp: Any) -> list[Any]:
    value = xp.exp(alpha * rate)
    return [value, value * rate, value * rate * rate]
