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
those of :mod:`palletfit.engine.samples`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln

from palletfit.core.arrays import FloatArray
from palletfit.engine.arrays import Arrays
from palletfit.engine.interpcodes import scale, scale_coefficients, shift
from palletfit.engine.layout import Block, Layout
from palletfit.engine.lowering import Lowered

#: Stands for a factor of zero.
SMALLEST = 1e-20
#: A bin in which less is observed counts as empty.
EMPTY = 1e-9
#: Where nothing is observed, so few expected events are none in Asimov data.
NEXT_TO_NONE = 1e-7
#: Over this many events below zero the rate of an empty bin is clipped gradually.
CLIP_WIDTH = 1e-6
#: Rates below this have left the corner.
BELOW = -3 * CLIP_WIDTH
#: Above this many counts Stirling's series is exact to double precision.
_STIRLING = 1e3


class Derivatives(NamedTuple):
    """Value and derivatives of the NLL without constants, for each lane.

    Attributes
    ----------
    value
        ``(L,)``; infinite where a rate is not positive and events are observed. Where none are,
        rates below zero count as zero.
    gradient, fisher
        ``(L, K)``; `fisher` is the diagonal of :func:`information`, never negative.
    hessian
        ``(L, K, K)``.
    rates
        Expected counts in the order of the blocks, ``(L, B)``.
    jacobian, inverse
        Derivatives of the rates, ``(L, B, K)``, and one over the rates.
    prior
        Second derivatives of the constraint terms, ``(L, K)``.
    """

    value: Any
    gradient: Any
    hessian: Any
    fisher: Any
    rates: Any
    jacobian: Any
    inverse: Any
    prior: Any


def information(arrays: Arrays, derivatives: Derivatives, rows: Any) -> Any:
    """Compute the expected information: the Hessian if data were as expected, ``(…, K, K)``.

    It is never indefinite: ``J^T diag(1 / lambda) J`` and the curvature of the constraints.
    """
    jacobian, inverse = derivatives.jacobian[rows], derivatives.inverse[rows]
    matrix = arrays.xp.swapaxes(jacobian * inverse[..., None], -1, -2) @ jacobian
    return arrays.add_diagonal(matrix, derivatives.prior[rows])


def shared_arrays(layout: Layout) -> dict[str, Any]:
    """Lay out the shared samples for :func:`evaluate`.

    ``rows`` holds what is the same for all bins of a sample, for the samples of all blocks one
    after the other (R rows); ``blocks`` what is not.
    """
    parts = [block.shared for block in layout.blocks]
    rows = _row_arrays(parts)
    # The polynomials of all samples become one matrix product for each parameter.
    one = np.ones_like(rows["log_hi"])[None]
    polynomials = np.concatenate([one, np.moveaxis(rows["coefficients"], -3, 0)])
    rows["polynomials"] = np.ascontiguousarray(np.moveaxis(polynomials, 1, 0))
    return {"rows": rows, "blocks": [shared_block(part) for part in parts]}


def own_arrays(lowered: Lowered) -> dict[str, Any]:
    """Lay out the patches' own samples like the shared ones, patches first."""
    blocks = [
        {name: part[name] for name in ("nominal", "odd", "even", "bins")} for part in lowered.parts
    ]
    return {"rows": _row_arrays(lowered.parts), "blocks": blocks}


def own_of(patch_samples: Any, rows: Any) -> Any:
    """Pick patches from :func:`own_arrays`; nothing from nothing."""
    if not patch_samples:
        return patch_samples
    return {
        "rows": {name: values[rows] for name, values in patch_samples["rows"].items()},
        "blocks": [
            {name: values[rows] for name, values in part.items()}
            for part in patch_samples["blocks"]
        ],
    }


def _row_arrays(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Arrays with rows last: log_hi and log_lo ``(…, norm, R)``, factors ``(…, factors, R)``."""

    def rows(name: str) -> FloatArray:
        flat = []
        for part in parts:
            *lanes, channels, samples, columns = part[name].shape
            flat.append(part[name].reshape(*lanes, channels * samples, columns))
        return np.ascontiguousarray(np.swapaxes(np.concatenate(flat, axis=-2), -1, -2))

    coefficients, log_hi, log_lo = scale_coefficients(rows("hi"), rows("lo"))
    return {
        # (…, 6, norm, R)
        "coefficients": np.ascontiguousarray(np.moveaxis(coefficients, 0, -3)),
        "log_hi": log_hi,
        "log_lo": log_lo,
        "factors": rows("factors"),
    }


def shared_block(part: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out the yields of the shared samples of a block for :func:`evaluate`."""
    odd, even = part["odd"], part["even"]
    cells = part["nominal"].size, odd.shape[-1]
    return {
        "nominal": part["nominal"],
        "bins": part["bins"],
        "odd": odd,
        "even": even,
        "odd_cells": odd.reshape(cells).T.copy(),
        "even_cells": even.reshape(cells).T.copy(),
        # Bins before samples: (C, N, S, hist)
        "odd_bins": np.ascontiguousarray(np.swapaxes(odd, 1, 2)),
        "even_bins": np.ascontiguousarray(np.swapaxes(even, 1, 2)),
    }


def constants(lowered: Lowered, data: FloatArray, aux: FloatArray) -> FloatArray:
    """Compute the constants that the NLL of :func:`evaluate` lacks to that of pyhf.

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
    """Compute the smallest value of a Poisson term, ``n - n log n + log n!``."""
    safe = np.maximum(count, 1e-30)
    plain = np.maximum(count, 0.0) - count * np.log(safe) + gammaln(count + 1.0)
    series = 0.5 * np.log(2 * np.pi * safe) + 1 / (12 * safe) - 1 / (360 * safe * safe * safe)
    return np.where(count > _STIRLING, series, np.where(count == 0, 0.0, plain))


def clipped(rate: Any, width: Any, xp: Any) -> tuple[Any, Any, Any]:
    """Clip the rates of empty bins at zero, as ROOT's HistFactory does.

    There is no Poisson distribution of a rate below zero, and ``rate - n log(rate)`` falls without
    end if n = 0. So the rate counts as zero there. Below zero the corner is rounded by a parabola,
    ``rate + rate^2 / (4 width)``, which is flat at ``-2 width``, so that Newton's method gets over
    it (P. J. Huber, Ann. Math. Statist. 35 (1964) 73). Above zero nothing is changed.

    Parameters
    ----------
    rate
        Expected counts.
    width
        Size of the rounded corner; negative where the parabola goes on below it, which holds a
        rate near the corner, see :mod:`palletfit.engine.corners`.
    xp
        Array namespace.

    Returns
    -------
    tuple
        The clipped rate, its derivative and its second derivative.
    """
    pinned, width = width < 0.0, xp.abs(width)
    above, near = rate >= 0.0, pinned | (rate > -2.0 * width)
    bent = rate + rate * rate / (4.0 * width)
    value = xp.where(above, rate, xp.where(near, bent, -width))
    slope = xp.where(above, 1.0, xp.where(near, 1.0 + rate / (2.0 * width), 0.0))
    return value, slope, xp.where(near & ~above, 0.5 / width, 0.0)


def poisson_term(
    count: Any, rate: Any, xp: Any, width: Any = CLIP_WIDTH, *, empty: float = EMPTY
) -> Any:
    """``rate - count - count log(rate / count)``; without events the rate, see :func:`clipped`."""
    positive = count > empty
    safe = xp.where(positive, count, 1.0)
    excess = (rate - safe) / safe
    possible = excess > -1.0
    # Of a small ratio little is left in its excess.
    small = possible & (excess < -0.5)
    near = xp.log1p(xp.where(possible & ~small, excess, 0.0))
    term = safe * (excess - xp.where(small, xp.log(xp.where(small, rate / safe, 1.0)), near))
    return xp.where(positive, xp.where(possible, term, xp.inf), clipped(rate, width, xp)[0])


def poisson_slopes(arrays: Arrays, count: Any, rate: Any, width: Any) -> tuple[Any, Any]:
    """Compute the first and second derivative of :func:`poisson_term` by the rate."""
    xp = arrays.xp
    observed = count > EMPTY
    safe = xp.where(observed, rate, 1.0)
    ratio = xp.where(observed, count / safe, 0.0)
    slope, curvature = 1.0 - ratio, ratio / safe
    if not arrays.eager or xp.any(~observed & (rate < 0.0)):
        _, below, curved = clipped(rate, width, xp)
        slope = xp.where(observed, slope, below)
        curvature = xp.where(observed, curvature, curved)
    return slope, curvature


def _widths(lane: Mapping[str, Any]) -> Any:
    """Widths of the corner that broadcast to bins: one a lane, or one a bin."""
    clip = lane["clip"]
    return clip if clip.ndim == 2 else clip[:, None]


def value(arrays: Arrays, layout: Layout, shared: Any, lane: Any, point: Any) -> Any:
    """NLL without constants, ``(L,)``; arguments as :func:`evaluate`."""
    xp = arrays.xp
    rates = expected(arrays, layout, shared, lane, point)
    terms = poisson_term(lane["data"], rates, xp, _widths(lane))
    return xp.sum(terms, axis=1) + _constraint_value(lane, point, xp)


def expected(arrays: Arrays, layout: Layout, shared: Any, lane: Any, point: Any) -> Any:
    """Compute expected counts by block, ``(L, B)``; arguments as :func:`evaluate`."""
    return _rates(_Model(arrays, layout, shared, lane, point, None, orders=1))


def by_sample(arrays: Arrays, layout: Layout, shared: Any, lane: Any, point: Any) -> list[Any]:
    """Compute expected counts of each sample; arguments as :func:`evaluate`.

    Returns
    -------
    list
        For each block ``(L, C, S, N)``: the shared samples, then the patch's own.
    """
    model = _Model(arrays, layout, shared, lane, point, None, orders=1)
    return [arrays.xp.concatenate([p.rate for p in parts], axis=2) for parts in model.blocks]


def values_along(
    arrays: Arrays, layout: Layout, shared: Any, lane: Any, point: Any, goals: Any
) -> Any:
    """NLL without constants where one alpha at a time has gone elsewhere, ``(L, alphas)``.

    All alphas together cost about as much as a few single points.

    Parameters
    ----------
    arrays, layout, shared, lane, point
        As :func:`evaluate`.
    goals
        Where each alpha goes, ``(L, alphas)``.
    """
    xp, alphas = arrays.xp, layout.alphas
    model = _Model(arrays, layout, shared, lane, point, None, orders=1)
    changes = _Changes(model, goals, [shared] + ([lane["own"]] if lane["own"] else []))
    lanes = len(point)
    flat = [
        changes.of_block(number).reshape(lanes, alphas, -1) for number in range(len(model.blocks))
    ]
    rates = _rates(model)[:, None] + xp.concatenate(flat, axis=2)
    terms = poisson_term(lane["data"][:, None], rates, xp, _widths(lane)[:, None])
    old, aux = point[:, :alphas], lane["aux"][:, :alphas]
    moved = (goals - aux) * (goals - aux) - (old - aux) * (old - aux)
    constraints = _constraint_value(lane, point, xp)[:, None]
    return xp.sum(terms, axis=2) + constraints + 0.5 * lane["precision"][:, :alphas] * moved


class _Changes:
    """Changes of rates where one alpha at a time goes elsewhere."""

    def __init__(self, model: _Model, goals: Any, sources: Sequence[Any]) -> None:
        xp, layout = model.arrays.xp, model.layout
        self.model = model
        side = xp.where(goals < 0, -1.0, 1.0)
        moved = shift(layout.codes[1], goals[:, : layout.hist], side[:, : layout.hist], xp)
        self.odd, self.even = moved.odd - model.shift.odd, moved.even - model.shift.even
        scaled = slice(layout.alphas - layout.norm, layout.alphas)
        ratios = []
        for source in sources:
            factors = []
            for at in (goals[:, scaled], model.point[:, scaled]):
                signs = xp.where(at < 0, -1.0, 1.0)
                options: dict[str, Any] = {"eager": model.arrays.eager, "orders": 1}
                (factor,) = scale(layout.codes[0], at, signs, source["rows"], xp, **options)
                factors.append(_nonzero(factor, model.arrays))
            ratios.append(factors[0] / factors[1])
        self.ratio = xp.concatenate(ratios, axis=2)  # (L, norm, R)

    def of_block(self, number: int) -> Any:
        """Compute changes of the rates of a block, ``(L, alphas, C, N)``."""
        model = self.model
        xp, layout, lanes = model.arrays.xp, model.layout, len(model.point)
        first = layout.alphas - layout.norm
        block = layout.blocks[number]
        change = xp.zeros((lanes, layout.alphas, len(block.channels), block.bins))
        for part in model.blocks[number]:
            channels, samples = part.rate.shape[1:3]
            ratio = self.ratio[:, :, part.rows].reshape(lanes, -1, channels, samples)
            ratio = xp.transpose(ratio, (0, 2, 1, 3))  # (L, C, norm, S)
            grown = xp.transpose((ratio - 1.0) @ part.rate, (0, 2, 1, 3))
            change = model.arrays.add(change, (slice(None), slice(first, None)), grown)
            if layout.hist:
                # (L, C, N, S, hist)
                added = self._added(part)
                shared = slice(first, layout.hist)
                of_shared = xp.swapaxes(ratio[:, :, : layout.hist - first], 2, 3)[:, :, None]
                added = xp.concatenate(
                    [added[..., : shared.start], added[..., shared] * of_shared], -1
                )
                summed = xp.transpose(xp.sum(added, axis=3), (0, 3, 1, 2))
                change = model.arrays.add(change, (slice(None), slice(layout.hist)), summed)
        return change

    def _added(self, part: _Part) -> Any:
        """Multiply changes of the additive parts with the factors, ``(L, C, N, S, hist)``."""
        xp = self.model.arrays.xp
        if part.is_shared:
            odd, even = part.terms["odd_bins"], part.terms["even_bins"]
        else:
            odd, even = (xp.swapaxes(part.terms[name], 2, 3) for name in ("odd", "even"))
        moved = odd * self.odd[:, None, None, None] + even * self.even[:, None, None, None]
        return moved * xp.swapaxes(part.factor, 2, 3)[..., None]


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
        What each lane has of its own: ``own`` (from :func:`own_of`; empty where the patches'
        samples are switched off), ``data`` ``(L, B)``, ``aux``, ``precision``, ``factor``
        ``(L, K)``, and ``clip`` ``(L,)`` or ``(L, B)``, the width of :func:`clipped`.
    point
        Parameters, ``(L, K)``.
    side
        Their signs, ``(L, K)``: on which side of a kink a parameter of zero stands. None: the
        positive one.
    """
    model = _Model(arrays, layout, shared, lane, point, side)
    rates = _rates(model)
    slope, curvature = poisson_slopes(arrays, lane["data"], rates, _widths(lane))
    return _assemble(model, lane, rates, curvature, _Sums(model, slope))


# --------------------------------------------------------------------------- rates


@dataclass(frozen=True)
class _Part:
    """The samples of one part (shared or own) of a block."""

    terms: Mapping[str, Any]
    is_shared: bool
    rows: slice  # of this part among all rows
    factor: Any  # F, (L, C, S, N)
    rate: Any  # (L, C, S, N)


class _Model:
    """Rates at a point, and what their derivatives need (unless `orders` is 1).

    Attributes
    ----------
    slope
        dF / F for columns of normsys and factors, ``(L, norm + factors, R)``.
    curvature
        d2F / F for columns of normsys, ``(L, norm, R)``.
    inverse
        One over each bin parameter, by block; ``(L, C, N, T)``.
    blocks
        Parts of each block.
    """

    def __init__(
        self,
        arrays: Arrays,
        layout: Layout,
        shared: Any,
        lane: Any,
        point: Any,
        side: Any,
        orders: int = 3,
    ) -> None:
        xp, alphas = arrays.xp, layout.alphas
        self.arrays, self.layout, self.point = arrays, layout, point
        if side is None:
            side = xp.where(point < 0, -1.0, 1.0)
        self.shift = shift(layout.codes[1], point[:, : layout.hist], side[:, : layout.hist], xp)
        scaled = slice(alphas - layout.norm, alphas)
        factors = _nonzero(point[:, alphas : alphas + layout.factors], arrays)
        in_bins = _nonzero(point[:, alphas + layout.factors :], arrays)
        in_bins = xp.concatenate([in_bins, xp.ones_like(point[:, :1])], axis=1)

        sources = [shared] + ([lane["own"]] if lane["own"] else [])
        values, slopes, curvatures, inverses = [], [], [], []
        for source in sources:
            terms = source["rows"]
            value, *derivatives = scale(
                layout.codes[0],
                *(point[:, scaled], side[:, scaled], terms, xp),
                eager=arrays.eager,
                orders=orders,
            )
            value = _nonzero(value, arrays)
            multiplies = terms["factors"] > 0
            factor = xp.where(multiplies, factors[:, :, None], 1.0)
            values.append(xp.prod(value, axis=1) * xp.prod(factor, axis=1))
            if derivatives:
                slopes.append(derivatives[0] / value)
                curvatures.append(derivatives[1] / value)
                inverses.append(xp.where(multiplies, 1.0 / factor, 0.0))
        if slopes:
            normsys, normfactors = xp.concatenate(slopes, axis=2), xp.concatenate(inverses, axis=2)
            self.slope = xp.concatenate([normsys, normfactors], axis=1)
        self.curvature = curvatures
        row_factor = xp.concatenate(values, axis=1)

        self.blocks: list[list[_Part]] = [[] for _ in layout.blocks]
        self.rows = 0
        slots = [in_bins[:, block.slots] for block in layout.blocks]
        self.inverse = [1.0 / values for values in slots]
        for source in sources:
            for number, terms in enumerate(source["blocks"]):
                self._add(number, terms, source is shared, row_factor, slots[number])

    def _add(
        self, number: int, terms: Mapping[str, Any], is_shared: bool, row_factor: Any, slots: Any
    ) -> None:
        xp, nominal = self.arrays.xp, terms["nominal"]
        shape = nominal.shape if is_shared else nominal.shape[1:]
        rows = slice(self.rows, self.rows + shape[0] * shape[1])
        self.rows = rows.stop
        if not shape[1]:
            return
        moved = self.shift
        if is_shared:
            shifts = moved.odd @ terms["odd_cells"] + moved.even @ terms["even_cells"]
            additive = nominal + shifts.reshape(-1, *shape)
        else:
            cells = len(self.point), shape[0] * shape[1] * shape[2], self.layout.hist
            shifts = terms["odd"].reshape(cells) @ moved.odd[:, :, None]
            shifts = shifts + terms["even"].reshape(cells) @ moved.even[:, :, None]
            additive = nominal + shifts.reshape(-1, *shape)
        factor = row_factor[:, rows].reshape(-1, *shape[:2], 1)
        if slots.shape[-1]:
            in_bins = xp.where(terms["bins"] > 0, slots[:, :, None], 1.0)
            factor = factor * xp.prod(in_bins, axis=-1)
        factor = xp.broadcast_to(factor, (len(self.point), *shape))
        self.blocks[number].append(_Part(terms, is_shared, rows, factor, additive * factor))


def _nonzero(values: Any, arrays: Arrays) -> Any:
    xp = arrays.xp
    if arrays.eager and (values > SMALLEST).all():
        return values
    return xp.where(xp.abs(values) < SMALLEST, SMALLEST, values)


def _rates(model: _Model) -> Any:
    """Sum over samples and flatten."""
    xp, lanes = model.arrays.xp, len(model.point)
    flat = [sum(xp.sum(part.rate, axis=2) for part in parts) for parts in model.blocks]
    return xp.concatenate([rates.reshape(lanes, -1) for rates in flat], axis=1)


def _constraint_value(lane: Any, point: Any, xp: Any) -> Any:
    poisson = lane["factor"] > 0
    distance = point - lane["aux"]
    gauss = 0.5 * lane["precision"] * distance * distance
    aux = xp.where(poisson, lane["aux"], 1.0)
    rate = xp.where(poisson, point * lane["factor"], 1.0)
    return xp.sum(gauss + xp.where(poisson, poisson_term(aux, rate, xp, empty=0.0), 0.0), axis=1)


# --------------------------------------------------------------------------- derivatives


class _Sums:
    """Sums over samples. Columns: h with histosys, d with normsys and factors.

    Attributes
    ----------
    hist, norm, slot
        Derivatives of the rates by block: ``(L, C, N, h)``, ``(L, C, N, d)``, ``(L, C, N, T)``.
    slot_hist, slot_norm, slot_slot
        Second derivatives with a bin parameter in each slot, by block, times `weight`:
        ``(L, C, N, T, h)``, ``(L, C, N, T, d)`` and ``(L, C, N, T, T)``; the diagonal of the last
        has no meaning.
    mixed
        Half of the second derivatives times weight, summed over all bins, ``(L, h and d, d)``: the
        whole is this and its transpose.
    hist_curvature, norm_curvature
        The same of one parameter twice, ``(L, h)`` and ``(L, d)``, where it is not in `mixed`.
    weight
        Derivative of the NLL by the rate, ``1 - n / lambda``, ``(L, B)``.
    """

    def __init__(self, model: _Model, weight: Any) -> None:
        arrays, layout = model.arrays, model.layout
        xp = arrays.xp
        self.model, self.weight, self.lanes = model, weight, len(weight)
        self.hist: list[Any] = []
        self.norm: list[Any] = []
        self.slot: list[Any] = []
        self.slot_hist: list[Any] = []
        self.slot_norm: list[Any] = []
        self.slot_slot: list[Any] = []
        self.hist_curvature: Any = 0.0
        self._hist_rows: dict[int, Any] = {}
        row_weight: dict[int, Any] = {}
        first = 0
        for number, (block, parts) in enumerate(zip(layout.blocks, model.blocks, strict=True)):
            size = len(block.channels) * block.bins
            shape = (self.lanes, len(block.channels), block.bins)
            by_bin = weight[:, first : first + size].reshape(shape)
            first += size
            for part in parts:
                weighted = part.rate * by_bin[:, :, None, :]
                row_weight[part.rows.start] = xp.sum(weighted, axis=3).reshape(self.lanes, -1)
            self._block(number, block, parts, by_bin)
        rows = xp.concatenate([row_weight[at] for at in sorted(row_weight)], axis=1)
        slope = model.slope
        by_row = xp.swapaxes(slope, 1, 2)
        weighted = slope * rows[:, None, :]
        # Columns of hist and norm overlap, so both kinds of mixed derivatives are one product.
        end = layout.alphas + layout.factors
        left = xp.zeros((self.lanes, end, model.rows))
        left = arrays.add(left, (slice(None), slice(layout.alphas - layout.norm, end)), weighted)
        left = 0.5 * left
        if layout.hist:
            hist = xp.concatenate([self._hist_rows[at] for at in sorted(self._hist_rows)], axis=1)
            left = arrays.add(left, (slice(None), slice(layout.hist)), xp.swapaxes(hist, 1, 2))
        self.mixed = left @ by_row
        # A factor's own second derivative stands instead of its slope squared.
        squares = xp.sum(weighted * slope, axis=2)
        curvatures: Any = 0.0
        begin = 0
        for curvature in model.curvature:
            stop = begin + curvature.shape[2]
            curvatures = curvatures + (curvature @ rows[:, begin:stop, None])[..., 0]
            begin = stop
        self.norm_curvature = arrays.add(-squares, (..., slice(layout.norm)), curvatures)

    def _block(self, number: int, block: Block, parts: list[_Part], weight: Any) -> None:
        xp, layout = self.model.arrays.xp, self.model.layout
        depth = block.slots.shape[2]
        hist = norm = slot = slot_hist = slot_norm = slot_slot = 0.0
        inverse = self.model.inverse[number]
        for part in parts:
            channels, samples = part.rate.shape[1:3]
            slope = self.model.slope[:, :, part.rows]
            slope = slope.reshape(self.lanes, -1, channels, samples)
            slope = xp.transpose(slope, (0, 2, 3, 1))
            norm_part = xp.swapaxes(part.rate, 2, 3) @ slope
            norm = norm + norm_part
            hist_part: Any = 0.0
            if layout.hist:
                hist_part = (self._shared_hist if part.is_shared else self._own_hist)(part, weight)
                hist = hist + hist_part
            if not depth:
                continue
            if part.is_shared and block.all_bins:
                rate = xp.sum(part.rate, axis=2)[..., None]
                slot = slot + rate * inverse
                slot_norm = slot_norm + norm_part[..., None, :]
                if layout.hist:
                    slot_hist = slot_hist + hist_part[..., None, :]
                continue
            mask = part.terms["bins"]
            chosen = xp.moveaxis(part.rate[..., None] * mask, 2, -1)  # (L, C, N, T, S)
            slot = slot + xp.sum(chosen, axis=-1) * inverse
            slot_norm = slot_norm + chosen @ slope[:, :, None]
            if depth > 1:
                pairs = chosen @ xp.moveaxis(mask, -3, -2)
                slot_slot = slot_slot + pairs * inverse[..., None, :]
            if layout.hist:
                slot_hist = slot_hist + self._slot_hist(part, mask)
        self.hist.append(hist)
        self.norm.append(norm)
        self.slot.append(slot)
        scaled = weight[..., None] * inverse
        self.slot_hist.append(scaled[..., None] * slot_hist)
        self.slot_norm.append(scaled[..., None] * slot_norm)
        self.slot_slot.append(scaled[..., None] * slot_slot)

    def _shared_hist(self, part: _Part, weight: Any) -> Any:
        """J of histosys parameters; and their rows for the mixed curvature."""
        xp, terms, moved = self.model.arrays.xp, part.terms, self.model.shift
        slope = moved.even_slope
        lanes, channels, samples, bins = part.factor.shape
        by_bin = xp.transpose(part.factor, (1, 3, 0, 2))
        hist = by_bin @ terms["odd_bins"] + slope * (by_bin @ terms["even_bins"])
        weighted = part.factor * weight[:, :, None, :]
        if bins == 1:
            rows = slope[:, None, None, :] * terms["even"][..., 0, :] + terms["odd"][..., 0, :]
            rows = (rows * weighted).reshape(lanes, channels * samples, -1)
        else:
            by_sample = xp.transpose(weighted, (1, 2, 0, 3))
            rows = by_sample @ terms["odd"] + slope * (by_sample @ terms["even"])
            rows = xp.swapaxes(rows.reshape(channels * samples, lanes, -1), 0, 1)
        self._hist_rows[part.rows.start] = rows
        curved = weighted.reshape(lanes, -1) @ xp.swapaxes(terms["even_cells"], 0, 1)
        self.hist_curvature = self.hist_curvature + moved.even_curvature * curved
        return xp.transpose(hist, (2, 0, 1, 3))

    def _own_hist(self, part: _Part, weight: Any) -> Any:
        """As :meth:`_shared_hist`, for arrays with a row a lane."""
        xp, terms, shifted = self.model.arrays.xp, part.terms, self.model.shift
        lanes, channels, samples, _ = part.factor.shape
        slope = shifted.even_slope[:, None, None, None, :]
        moved = (terms["odd"] + slope * terms["even"]) * part.factor[..., None]
        rows = xp.sum(moved * weight[:, :, None, :, None], axis=3)
        self._hist_rows[part.rows.start] = rows.reshape(lanes, channels * samples, -1)
        flat = (part.factor * weight[:, :, None, :]).reshape(lanes, 1, -1)
        curved = (flat @ terms["even"].reshape(lanes, flat.shape[-1], -1))[:, 0]
        self.hist_curvature = self.hist_curvature + shifted.even_curvature * curved
        return xp.sum(moved, axis=2)

    def _slot_hist(self, part: _Part, mask: Any) -> Any:
        """Compute derivatives of what a bin parameter multiplies, ``(L, C, N, T, h)``."""
        xp, slope = self.model.arrays.xp, self.model.shift.even_slope
        scaled = xp.moveaxis(part.factor[..., None] * mask, 2, -1)
        if not part.is_shared:
            moved = part.terms["odd"] + slope[:, None, None, None, :] * part.terms["even"]
            return scaled @ xp.swapaxes(moved, 2, 3)
        lanes, channels, bins, depth, samples = scaled.shape
        flat = xp.transpose(scaled, (1, 2, 0, 3, 4)).reshape(channels, bins, -1, samples)
        odd, even = (
            (flat @ part.terms[name]).reshape(channels, bins, lanes, depth, -1)
            for name in ("odd_bins", "even_bins")
        )
        return xp.transpose(odd + slope[:, None, :] * even, (2, 0, 1, 3, 4))


def _assemble(model: _Model, lane: Any, rates: Any, information: Any, sums: _Sums) -> Derivatives:
    """Put the sums of all blocks together."""
    arrays, layout, point = model.arrays, model.layout, model.point
    xp, lanes = arrays.xp, len(point)
    end = layout.alphas + layout.factors
    first = layout.alphas - layout.norm  # of the columns d
    hist, norm = slice(layout.hist), slice(first, end)

    def flat(parts: list[Any], *shape: int) -> Any:
        return xp.concatenate([part.reshape(lanes, -1, *shape) for part in parts], axis=1)

    jacobian = xp.zeros((lanes, rates.shape[1], layout.parameters))
    if layout.hist:
        jacobian = arrays.add(jacobian, (..., hist), flat(sums.hist, layout.hist))
    jacobian = arrays.add(jacobian, (..., norm), flat(sums.norm, end - first))
    if layout.locals:
        used = [(part, block) for part, block in zip(sums.slot, layout.blocks, strict=True)]
        slots = flat([part for part, block in used if block.slots.shape[2]])
        target = (slice(None), layout.slot_bin, end + layout.slot_column)
        jacobian = arrays.add(jacobian, target, slots[:, layout.real_slots])

    gradient = (sums.weight[:, None, :] @ jacobian)[:, 0]
    # Expected information. A rate may be zero or below where nothing is observed.
    inverse = xp.where(rates > SMALLEST, 1.0 / xp.maximum(rates, SMALLEST), 0.0)
    fisher = (inverse[:, None, :] @ (jacobian * jacobian))[:, 0]
    hessian = xp.swapaxes(jacobian * information[..., None], 1, 2) @ jacobian
    hessian = arrays.add(hessian, (..., slice(end), norm), sums.mixed)
    hessian = arrays.add(hessian, (..., norm, slice(end)), xp.swapaxes(sums.mixed, 1, 2))
    if layout.locals:
        hessian = _add_slots(model, hessian, sums, flat)

    poisson = lane["factor"] > 0
    aux = xp.where(poisson, lane["aux"], 0.0)
    safe = xp.where(poisson, point, 1.0)
    distance = point - lane["aux"]
    pull = lane["precision"] * distance + (point * lane["factor"] - aux) / safe * poisson
    curvature = lane["precision"] + aux / (safe * safe)
    diagonal = arrays.add(curvature + 0.0, (..., norm), sums.norm_curvature)
    if layout.hist:
        diagonal = arrays.add(diagonal, (..., hist), sums.hist_curvature)
    terms = poisson_term(lane["data"], rates, xp, _widths(lane))
    return Derivatives(
        value=xp.sum(terms, axis=1) + _constraint_value(lane, point, xp),
        gradient=gradient + pull,
        hessian=arrays.add_diagonal(hessian, diagonal),
        fisher=fisher + curvature,
        rates=rates,
        jacobian=jacobian,
        inverse=inverse,
        prior=curvature,
    )


def _add_slots(model: _Model, hessian: Any, sums: _Sums, flat: Callable[..., Any]) -> Any:
    """Add the curvature of bin parameters, from the slots of all bins."""
    arrays, layout, xp = model.arrays, model.layout, model.arrays.xp
    end = layout.alphas + layout.factors
    first = layout.alphas - layout.norm
    used = [number for number, block in enumerate(layout.blocks) if block.slots.shape[2]]
    bins = slice(end, layout.parameters)
    norm = layout.by_column(flat([sums.slot_norm[n] for n in used], end - first))
    hessian = arrays.add(hessian, (..., bins, slice(first, end)), norm)
    hessian = arrays.add(hessian, (..., slice(first, end), bins), xp.swapaxes(norm, 1, 2))
    if layout.hist:
        hist = layout.by_column(flat([sums.slot_hist[n] for n in used], layout.hist))
        hessian = arrays.add(hessian, (..., bins, slice(layout.hist)), hist)
        hessian = arrays.add(hessian, (..., slice(layout.hist), bins), xp.swapaxes(hist, 1, 2))
    if all(layout.blocks[number].slots.shape[2] == 1 for number in used):
        return hessian
    pairs = [arrays.without_diagonal(sums.slot_slot[number] + 0.0) for number in used]
    zero = xp.zeros((len(hessian), 1))
    square = xp.concatenate([flat(pairs), zero], axis=1)[:, layout.slot_pairs]
    if layout.slot_sums is not None:
        square = layout.slot_sums.T @ square @ layout.slot_sums
    return arrays.add(hessian, (..., bins, bins), square)
