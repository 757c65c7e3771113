"""The likelihood of HistFactory models on batches of fits, with exact gradient and Hessian.

The model and its derivatives (h: additive terms, F: product of factors, sums over samples s)::

    rate_s = h_s * F_s         lambda_bin = sum_s rate_s
    NLL    = sum_bin (lambda - n log lambda) + constraints
    grad   = J^T (1 - n / lambda) + ...           J = d lambda / d theta
    Hess   = J^T diag(n / lambda^2) J + sum_s (1 - n / lambda) d2 rate_s + ...

A sample's h may be negative, so nothing is divided by it: ``d rate = F dh + rate d`` with
``d = dF / F``. Factors may be zero (a signal strength at its bound); they are then replaced by a
number so small that it changes no rate, but large enough that ``rate * d`` is the derivative.

Constants are left out, and Poisson terms are written as ``n (x - 1 - log x)`` with
``x = lambda / n``, which does not cancel however narrow a constraint is. :func:`constants` gives
what is missing to pyhf's value. Sources: Cranmer et al., "HistFactory", CERN-OPEN-2012-016; pyhf
0.7 for the conventions.

All arrays have a leading axis of fits, here called lanes (L). The letters of the other axes are
those of :mod:`palletfit.model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln

from palletfit.arrays import Arrays
from palletfit.interpcodes import FloatArray, Shift, scale, scale_coefficients, shift
from palletfit.model import Block, Layout, Lowered

#: Stands for a factor of zero.
_SMALLEST = 1e-20
#: Above this many counts Stirling's series is exact to double precision.
_STIRLING = 1e3


class Derivatives(NamedTuple):
    """Value and derivatives of the NLL without constants, for each lane.

    Attributes
    ----------
    value
        ``(L,)``; infinite where a rate is not positive and events are observed.
    gradient, fisher
        ``(L, K)``; `fisher` is the diagonal of the expected information, never negative.
    hessian
        ``(L, K, K)``.
    rates
        Expected counts in the order of the blocks, ``(L, B)``.
    """

    value: Any
    gradient: Any
    hessian: Any
    fisher: Any
    rates: Any


def shared_arrays(layout: Layout) -> list[dict[str, Any]]:
    """The shared samples of each block, laid out for :func:`evaluate`."""
    return [_part_arrays(block.shared, fits=False) for block in layout.blocks]


def own_arrays(lowered: Lowered) -> list[dict[str, Any]]:
    """The patches' own samples of each block, laid out for :func:`evaluate`."""
    return [_part_arrays(part, fits=True) for part in lowered.parts]


def _part_arrays(part: Mapping[str, Any], *, fits: bool) -> dict[str, Any]:
    coefficients, log_hi, log_lo = scale_coefficients(part["hi"], part["lo"])
    arrays = {
        "nominal": part["nominal"],
        "odd": part["odd"],
        "even": part["even"],
        # Patches first, so that lanes can be picked.
        "coefficients": np.moveaxis(coefficients, 0, 1) if fits else coefficients,
        "log_hi": log_hi,
        "log_lo": log_lo,
        "factors": part["factors"],
        "bins": part["bins"],
    }
    if not fits:
        odd, even = part["odd"], part["even"]
        rows = part["nominal"].size
        arrays |= {
            "odd_rows": odd.reshape(rows, -1).T.copy(),
            "even_rows": even.reshape(rows, -1).T.copy(),
            # Bins before samples: (C, N, S, hist)
            "odd_bins": np.ascontiguousarray(np.swapaxes(odd, 1, 2)),
            "even_bins": np.ascontiguousarray(np.swapaxes(even, 1, 2)),
        }
    return arrays


def constants(lowered: Lowered, data: FloatArray, aux: FloatArray) -> FloatArray:
    """What the NLL of :func:`evaluate` lacks to that of pyhf.

    Parameters
    ----------
    lowered
        The patches, P of them.
    data, aux
        Main and auxiliary data, ``(P, B)`` and ``(P, K)``.

    Returns
    -------
    ndarray
        ``(P,)``
    """
    gaussian = lowered.present & (lowered.precision > 0)
    poisson = lowered.present & (lowered.factor > 0)
    widths = np.where(gaussian, lowered.precision, 1.0) ** -0.5
    return np.asarray(
        np.sum(_saturated(data), axis=1)
        + np.sum(np.where(gaussian, np.log(widths * np.sqrt(2 * np.pi)), 0.0), axis=1)
        + np.sum(np.where(poisson, _saturated(aux), 0.0), axis=1)
    )


def _saturated(count: FloatArray) -> FloatArray:
    """The smallest value of a Poisson term, ``n - n log n + log n!``."""
    safe = np.maximum(count, 1e-30)
    plain = np.maximum(count, 0.0) - count * np.log(safe) + gammaln(count + 1.0)
    series = 0.5 * np.log(2 * np.pi * safe) + 1 / (12 * safe) - 1 / (360 * safe * safe * safe)
    return np.where(count > _STIRLING, series, np.where(count == 0, 0.0, plain))


def _poisson(count: Any, rate: Any, xp: Any) -> Any:
    """``rate - count - count log(rate / count)``; without events just the rate, as in pyhf."""
    some = count > 0
    safe = xp.where(some, count, 1.0)
    excess = (rate - safe) / safe
    possible = excess > -1.0
    term = safe * (excess - xp.log1p(xp.where(possible, excess, 0.0)))
    return xp.where(some, xp.where(possible, term, xp.inf), rate)


def value(arrays: Arrays, layout: Layout, shared: Any, lane: Any, point: Any) -> Any:
    """NLL without constants, ``(L,)``; arguments as :func:`evaluate`."""
    xp = arrays.xp
    rates = expected(arrays, layout, shared, lane, point)
    return xp.sum(_poisson(lane["data"], rates, xp), axis=1) + _constraint_value(lane, point, xp)


def expected(arrays: Arrays, layout: Layout, shared: Any, lane: Any, point: Any) -> Any:
    """Expected counts in the order of the blocks, ``(L, B)``; arguments as :func:`evaluate`."""
    return _rates(_blocks(arrays, layout, shared, lane, point, None), arrays.xp)


def evaluate(
    arrays: Arrays, layout: Layout, shared: Any, lane: Any, point: Any, side: Any
) -> Derivatives:
    """NLL without constants, and its derivatives.

    Parameters
    ----------
    arrays
        Array library.
    layout
        Columns and blocks.
    shared
        From :func:`shared_arrays`.
    lane
        What each lane has of its own: ``own`` (list of parts from :func:`own_arrays`, a row a
        lane; an empty list where the patches' samples are switched off), ``data`` ``(L, B)``, and
        ``aux``, ``precision``, ``factor`` ``(L, K)``.
    point
        Parameters, ``(L, K)``.
    side
        Their signs, ``(L, K)``: on which side of a kink a parameter of zero stands. None: the
        positive one.
    """
    xp = arrays.xp
    blocks = _blocks(arrays, layout, shared, lane, point, side)
    rates, data = _rates(blocks, xp), lane["data"]
    some = data > 0
    safe = xp.where(some, rates, 1.0)
    ratio = xp.where(some, data / safe, 0.0)
    sums = []
    first = 0
    for block, parts in zip(layout.blocks, blocks, strict=True):
        size = len(block.channels) * block.bins
        shape = (len(point), len(block.channels), block.bins)
        weight = (1.0 - ratio[:, first : first + size]).reshape(shape)
        sums.append(_block_sums(arrays, layout, block, parts, weight))
        first += size
    return _assemble(arrays, layout, lane, point, rates, ratio, ratio / safe, sums)


# --------------------------------------------------------------------------- rates


@dataclass(frozen=True)
class _Part:
    """Rates of the samples of one part (shared or own) of a block, for their derivatives."""

    terms: Mapping[str, Any]
    is_shared: bool
    shift: Shift
    factor: Any  # F, (L, C, S, N)
    rate: Any  # (L, C, S, N)
    slope: Any  # dF / F for columns of normsys and factors, (L, C, S, norm + factors)
    curvature: Any  # d2F / F for columns of normsys, (L, C, S, norm)
    inverse: Any  # one over each bin parameter, (L, C, N, T)


def _blocks(
    arrays: Arrays, layout: Layout, shared: Any, lane: Any, point: Any, side: Any
) -> list[list[_Part]]:
    xp, alphas = arrays.xp, layout.alphas
    if side is None:
        side = xp.where(point < 0, -1.0, 1.0)
    moved = shift(layout.codes[1], point[:, : layout.hist], side[:, : layout.hist], xp)
    scaled = slice(alphas - layout.norm, alphas)
    scales = point[:, scaled], side[:, scaled]
    factors = _nonzero(point[:, alphas : alphas + layout.factors], xp)
    in_bins = _nonzero(point[:, alphas + layout.factors :], xp)
    in_bins = xp.concatenate([in_bins, xp.ones_like(point[:, :1])], axis=1)
    blocks = []
    for number, block in enumerate(layout.blocks):
        slots = in_bins[:, block.slots]
        parts = [(shared[number], True)]
        if lane["own"]:
            parts.append((lane["own"][number], False))
        blocks.append(
            [
                _part(arrays, layout, terms, is_shared, moved, scales, factors, slots)
                for terms, is_shared in parts
                if terms["nominal"].shape[-2]
            ]
        )
    return blocks


def _nonzero(values: Any, xp: Any) -> Any:
    return xp.where(xp.abs(values) < _SMALLEST, _SMALLEST, values)


def _part(
    arrays: Arrays,
    layout: Layout,
    terms: Mapping[str, Any],
    is_shared: bool,
    moved: Shift,
    scales: tuple[Any, Any],
    factors: Any,
    slots: Any,
) -> _Part:
    xp, nominal = arrays.xp, terms["nominal"]
    if is_shared:
        shape = nominal.shape
        shifts = moved.odd @ terms["odd_rows"] + moved.even @ terms["even_rows"]
        additive = nominal + shifts.reshape(-1, *shape)
    else:
        shape = nominal.shape[1:]
        shifts = terms["odd"] @ moved.odd[:, None, None, :, None]
        shifts = shifts + terms["even"] @ moved.even[:, None, None, :, None]
        additive = nominal + shifts[..., 0]
    value, slope, curvature = scale(layout.codes[0], *scales, terms, xp, eager=arrays.eager)
    value = _nonzero(value, xp)
    multiplies = terms["factors"] > 0
    factor = xp.where(multiplies, factors[:, None, None, :], 1.0)
    row = xp.prod(value, axis=-1) * xp.prod(factor, axis=-1)
    in_bins = xp.where(terms["bins"] > 0, slots[:, :, None], 1.0)
    product = xp.broadcast_to(row[..., None] * xp.prod(in_bins, axis=-1), (len(slots), *shape))
    return _Part(
        terms=terms,
        is_shared=is_shared,
        shift=moved,
        factor=product,
        rate=additive * product,
        slope=xp.concatenate([slope / value, xp.where(multiplies, 1.0 / factor, 0.0)], axis=-1),
        curvature=curvature / value,
        inverse=1.0 / slots,
    )


def _rates(blocks: list[list[_Part]], xp: Any) -> Any:
    """Sum over samples and flatten."""
    flat = [sum(xp.sum(part.rate, axis=2) for part in parts) for parts in blocks]
    return xp.concatenate([rates.reshape(len(rates), -1) for rates in flat], axis=1)


def _constraint_value(lane: Any, point: Any, xp: Any) -> Any:
    poisson = lane["factor"] > 0
    distance = point - lane["aux"]
    gauss = 0.5 * lane["precision"] * distance * distance
    aux = xp.where(poisson, lane["aux"], 1.0)
    rate = xp.where(poisson, point * lane["factor"], 1.0)
    return xp.sum(gauss + xp.where(poisson, _poisson(aux, rate, xp), 0.0), axis=1)


# --------------------------------------------------------------------------- derivatives


@dataclass
class _BlockSums:
    """Sums over the samples of a block. Columns: h with histosys, d with normsys and factors.

    The sums for a slot go over the samples that its parameter multiplies.
    """

    hist: Any = 0.0  # J, (L, C, N, h)
    norm: Any = 0.0  # J, (L, C, N, d)
    slot: Any = 0.0  # J, (L, C, N, T)
    slot_hist: Any = 0.0  # d2 lambda / d slot d h, (L, C, N, T, h)
    slot_norm: Any = 0.0  # (L, C, N, T, d)
    slot_slot: Any = 0.0  # (L, C, N, T, T), the diagonal has no meaning
    # With weight, summed over all bins:
    hist_norm: Any = 0.0  # (L, h, d)
    norm_norm: Any = 0.0  # (L, d, d), the diagonal has no meaning
    hist_curvature: Any = 0.0  # (L, h)
    norm_curvature: Any = 0.0  # (L, norm)
    inverse: Any = 0.0  # one over the parameter in each slot, (L, C, N, T)


def _block_sums(
    arrays: Arrays, layout: Layout, block: Block, parts: list[_Part], weight: Any
) -> _BlockSums:
    xp, lanes = arrays.xp, len(weight)
    sums = _BlockSums(inverse=parts[0].inverse)
    for part in parts:
        weighted = part.rate * weight[:, :, None, :]
        row = xp.sum(weighted, axis=3)
        rows = part.slope.reshape(lanes, -1, part.slope.shape[-1])
        columns = xp.swapaxes((part.slope * row[..., None]).reshape(rows.shape), 1, 2)
        by_bin = xp.swapaxes(part.rate, 2, 3)
        norm = by_bin @ part.slope
        sums.norm = sums.norm + norm
        sums.norm_norm = sums.norm_norm + columns @ rows
        sums.norm_curvature = sums.norm_curvature + xp.sum(
            part.curvature * row[..., None], axis=(1, 2)
        )
        hist = None
        if layout.hist:
            hist, left = (_shared_hist if part.is_shared else _own_hist)(xp, part, weight, sums)
            sums.hist = sums.hist + hist
            sums.hist_norm = sums.hist_norm + left @ rows
        if block.slots.shape[2]:
            _add_slots(xp, part, hist, norm, sums, all_bins=block.all_bins)
    return sums


def _shared_hist(xp: Any, part: _Part, weight: Any, sums: _BlockSums) -> tuple[Any, Any]:
    """J of histosys parameters, and their rows for the mixed curvature, ``(L, h, C S)``."""
    terms, slope = part.terms, part.shift.even_slope
    lanes, channels, samples, bins = part.factor.shape
    by_bin = xp.transpose(part.factor, (1, 3, 0, 2))
    hist = by_bin @ terms["odd_bins"] + slope * (by_bin @ terms["even_bins"])
    weighted = part.factor * weight[:, :, None, :]
    if bins == 1:
        moved = terms["odd"][..., 0, :] + slope[:, None, None, :] * terms["even"][..., 0, :]
        rows = xp.swapaxes((moved * weighted).reshape(lanes, channels * samples, -1), 1, 2)
    else:
        by_sample = xp.transpose(weighted, (1, 2, 0, 3))
        moved = by_sample @ terms["odd"] + slope * (by_sample @ terms["even"])
        rows = xp.transpose(moved.reshape(channels * samples, lanes, -1), (1, 2, 0))
    curved = weighted.reshape(lanes, -1) @ xp.swapaxes(terms["even_rows"], 0, 1)
    sums.hist_curvature = sums.hist_curvature + part.shift.even_curvature * curved
    return xp.transpose(hist, (2, 0, 1, 3)), rows


def _own_hist(xp: Any, part: _Part, weight: Any, sums: _BlockSums) -> tuple[Any, Any]:
    """As :func:`_shared_hist`, for arrays with a row a lane."""
    terms = part.terms
    slope, curvature = part.shift.even_slope, part.shift.even_curvature
    lanes, channels, samples, _ = part.factor.shape
    moved = terms["odd"] + slope[:, None, None, None, :] * terms["even"]
    moved = moved * part.factor[..., None]
    weighted = part.factor * weight[:, :, None, :]
    rows = xp.sum(moved * weight[:, :, None, :, None], axis=3)
    flat = weighted.reshape(lanes, 1, -1)
    curved = (flat @ terms["even"].reshape(lanes, flat.shape[-1], -1))[:, 0]
    sums.hist_curvature = sums.hist_curvature + curvature * curved
    rows = xp.swapaxes(rows.reshape(lanes, channels * samples, -1), 1, 2)
    return xp.sum(moved, axis=2), rows


def _add_slots(
    xp: Any, part: _Part, hist: Any, norm: Any, sums: _BlockSums, *, all_bins: bool
) -> None:
    """Add what the parameters of single bins need, see :class:`_BlockSums`."""
    mask, inverse = part.terms["bins"], part.inverse
    if part.is_shared and all_bins:
        rate = xp.sum(part.rate, axis=2)[..., None]
        sums.slot = sums.slot + rate * inverse
        sums.slot_norm = sums.slot_norm + norm[..., None, :]
        if hist is not None:
            sums.slot_hist = sums.slot_hist + hist[..., None, :]
        sums.slot_slot = sums.slot_slot + 0.0 * rate[..., None]
        return
    # (L, C, N, T, S)
    chosen = xp.moveaxis(part.rate[..., None] * mask, 2, -1)
    sums.slot = sums.slot + xp.sum(chosen, axis=-1) * inverse
    sums.slot_norm = sums.slot_norm + chosen @ part.slope[:, :, None]
    pairs = chosen @ xp.moveaxis(mask, -3, -2)  # (L, C, N, T, S) @ ([L,] C, N, S, T)
    sums.slot_slot = sums.slot_slot + pairs * inverse[..., None, :]
    if hist is None:
        return
    scaled = xp.moveaxis(part.factor[..., None] * mask, 2, -1)
    slope = part.shift.even_slope
    if part.is_shared:
        lanes, channels, bins, depth, samples = scaled.shape
        flat = xp.transpose(scaled, (1, 2, 0, 3, 4)).reshape(channels, bins, -1, samples)
        odd, even = (
            (flat @ part.terms[name]).reshape(channels, bins, lanes, depth, -1)
            for name in ("odd_bins", "even_bins")
        )
        added = xp.transpose(odd + slope[:, None, :] * even, (2, 0, 1, 3, 4))
    else:
        moved = part.terms["odd"] + slope[:, None, None, None, :] * part.terms["even"]
        added = scaled @ xp.swapaxes(moved, 2, 3)
    sums.slot_hist = sums.slot_hist + added


def _assemble(
    arrays: Arrays,
    layout: Layout,
    lane: Any,
    point: Any,
    rates: Any,
    ratio: Any,
    information: Any,
    sums: list[_BlockSums],
) -> Derivatives:
    """Put the sums of all blocks together."""
    xp, lanes = arrays.xp, len(point)
    shared = layout.alphas + layout.factors
    first = layout.alphas - layout.norm  # of the columns d
    jacobian = xp.zeros((lanes, rates.shape[1], shared))
    if layout.hist:
        hist = [item.hist.reshape(lanes, -1, layout.hist) for item in sums]
        jacobian = arrays.add(jacobian, (..., slice(layout.hist)), xp.concatenate(hist, axis=1))
    norm = [item.norm.reshape(lanes, -1, shared - first) for item in sums]
    jacobian = arrays.add(jacobian, (..., slice(first, shared)), xp.concatenate(norm, axis=1))

    weight = 1.0 - ratio
    gradient = (weight[:, None, :] @ jacobian)[:, 0]
    # Expected information. A rate may be zero or below where nothing is observed.
    expected_weight = xp.where(rates > _SMALLEST, 1.0 / xp.maximum(rates, _SMALLEST), 0.0)
    fisher = (expected_weight[:, None, :] @ (jacobian * jacobian))[:, 0]
    core = xp.swapaxes(jacobian * information[..., None], 1, 2) @ jacobian
    norm_norm = arrays.without_diagonal(sum(item.norm_norm for item in sums))
    core = arrays.add(core, (..., slice(first, shared), slice(first, shared)), norm_norm)
    diagonal = xp.zeros((lanes, shared))
    norms = sum(item.norm_curvature for item in sums)
    diagonal = arrays.add(diagonal, (..., slice(first, layout.alphas)), norms)
    if layout.hist:
        mixed = sum(item.hist_norm for item in sums)
        core = arrays.add(core, (..., slice(layout.hist), slice(first, shared)), mixed)
        mixed = xp.swapaxes(mixed, 1, 2)
        core = arrays.add(core, (..., slice(first, shared), slice(layout.hist)), mixed)
        hist = sum(item.hist_curvature for item in sums)
        diagonal = arrays.add(diagonal, (..., slice(layout.hist)), hist)
    core = arrays.add_diagonal(core, diagonal)

    if layout.locals:
        slots = _Slots(arrays, layout, jacobian, weight, expected_weight, information, sums)
        gradient = xp.concatenate([gradient, slots.gradient], axis=1)
        fisher = xp.concatenate([fisher, slots.fisher], axis=1)
        top = xp.concatenate([core, xp.swapaxes(slots.rows, 1, 2)], axis=2)
        core = xp.concatenate([top, xp.concatenate([slots.rows, slots.square], axis=2)], axis=1)

    poisson = lane["factor"] > 0
    aux = xp.where(poisson, lane["aux"], 0.0)
    safe = xp.where(poisson, point, 1.0)
    distance = point - lane["aux"]
    pull = lane["precision"] * distance + (point * lane["factor"] - aux) / safe * poisson
    curvature = lane["precision"] + aux / (safe * safe)
    terms = _poisson(lane["data"], rates, xp)
    return Derivatives(
        value=xp.sum(terms, axis=1) + _constraint_value(lane, point, xp),
        gradient=gradient + pull,
        hessian=arrays.add_diagonal(core, curvature),
        fisher=fisher + curvature,
        rates=rates,
    )


class _Slots:
    """Derivatives in the columns of bin parameters, gathered from the slots of the bins."""

    def __init__(
        self,
        arrays: Arrays,
        layout: Layout,
        jacobian: Any,
        weight: Any,
        expected_weight: Any,
        information: Any,
        sums: list[_BlockSums],
    ) -> None:
        xp, lanes = arrays.xp, len(weight)
        self.arrays, self.layout = arrays, layout
        shared = layout.alphas + layout.factors
        first = layout.alphas - layout.norm
        gradient, fisher, rows, squares = [], [], [], []
        begin = 0
        for block, item in zip(layout.blocks, sums, strict=True):
            size, depth = len(block.channels) * block.bins, block.slots.shape[2]
            part = slice(begin, begin + size)
            begin += size
            if not depth:
                continue
            slope = item.slot.reshape(lanes, size, depth)
            inverse = item.inverse.reshape(lanes, size, depth)
            scaled = weight[:, part, None] * inverse
            gradient.append((weight[:, part, None] * slope).reshape(lanes, -1))
            fisher.append((expected_weight[:, part, None] * slope * slope).reshape(lanes, -1))
            row = (information[:, part, None] * slope)[..., None] * jacobian[:, part, None, :]
            norm = item.slot_norm.reshape(lanes, size, depth, -1) * scaled[..., None]
            row = arrays.add(row, (..., slice(first, shared)), norm)
            if layout.hist:
                hist = item.slot_hist.reshape(lanes, size, depth, -1) * scaled[..., None]
                row = arrays.add(row, (..., slice(layout.hist)), hist)
            rows.append(row.reshape(lanes, size * depth, shared))
            pairs = item.slot_slot.reshape(lanes, size, depth, depth) * scaled[..., None]
            pairs = arrays.without_diagonal(pairs)
            pairs = pairs + (information[:, part, None] * slope)[..., None] * slope[:, :, None]
            squares.append(pairs.reshape(lanes, -1))
        self.gradient = self._gather(xp.concatenate(gradient, axis=1))
        self.fisher = self._gather(xp.concatenate(fisher, axis=1))
        self.rows = self._gather(xp.concatenate(rows, axis=1))
        zero = xp.zeros((lanes, 1))
        pairs = xp.concatenate([*squares, zero], axis=1)[:, layout.slot_pairs]
        self.square = pairs
        if layout.slot_sums is not None:
            self.square = layout.slot_sums.T @ pairs @ layout.slot_sums

    def _gather(self, by_slot: Any) -> Any:
        """From slots to columns; a parameter in several bins sums their slots."""
        if self.layout.slot_sums is None:
            return by_slot[:, self.layout.slot_of_column]
        by_column = self.arrays.xp.tensordot(by_slot, self.layout.slot_sums, axes=(1, 0))
        return self.arrays.xp.moveaxis(by_column, -1, 1)
