"""Reach of parameters: how far they can carry expected counts, so that there is a second minimum.

A likelihood whose rates are linear in its parameters is convex and has one minimum. Others come
from what is not linear: parameters that bend the rate of a sample (:meth:`Reach.bent`), and
parameters that multiply one another, so that a sample of next to no events, or of less than none,
can fill or empty a bin (:meth:`Reach.seeds`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.interpcodes import scale_coefficients, shift
from palletfit.engine.likelihood import EMPTY
from palletfit.engine.lowering import Lowered

#: Distances, in standard deviations, at which rates are compared with straight lines.
_DISTANCES = (1.0, 2.0, 3.0)
#: What a constraint may cost in NLL where a weakly constrained parameter is taken to.
_COST = 2.0
#: Standard deviations along the direction in which a sample's additive part changes most.
_ADDITIVE = 1.5
#: The same for the direction in which its factors grow most: these are tried.
_GROWTH = np.linspace(0.0, 3.0, 13)
#: A sample's factors have to grow by this at least: what is slower, Newton's method follows.
FACTOR = 2.0
#: A bin's rate has to change by this part of its standard deviation.
_NOTICEABLE = 0.3


@dataclass(frozen=True)
class Seeds:
    """Points that may lie near another minimum.

    Attributes
    ----------
    row
        Patch of each, in order, ``(n,)``.
    point
        Parameters, ``(n, K)``.
    position
        Position of the minimum that each belongs to, ``(n,)``.
    """

    row: NDArray[np.int64]
    point: FloatArray
    position: NDArray[np.int64]


class Reach:
    """Changes of expected counts that the parameters of the patches of one batch can make.

    Parameters
    ----------
    batch
        The patches, P of them.
    """

    def __init__(self, batch: Lowered) -> None:
        self.batch, self.layout = batch, batch.layout

    def bent(self, *, with_own: bool) -> FloatArray:
        """Compute how far alphas bend expected counts, as a chi-squared per squared distance.

        Parameters
        ----------
        with_own
            Whether the patches' own samples count.

        Returns
        -------
        ndarray
            ``(P, alphas)``; a parameter whose effect is a straight line has zero.
        """
        largest: Any = 0.0
        total = self._nominal(with_own=with_own)[..., None]
        for distance in _DISTANCES:
            sums = self._moved(distance, with_own=with_own) + self._moved(
                -distance, with_own=with_own
            )
            chi_squared = np.sum(sums * sums / np.maximum(total, 1.0), axis=1)
            largest = np.maximum(largest, chi_squared / distance**2)
        free = ~self.batch.fixed[:, : self.layout.alphas]
        return np.where(free, np.nan_to_num(largest, posinf=1e300), 0.0)

    def seeds(
        self,
        rates: FloatArray,
        data: FloatArray,
        point: FloatArray,
        rows: NDArray[np.int64],
        mu: FloatArray | None,
        count: int,
        *,
        least: float = FACTOR,
    ) -> Seeds:
        """Choose points where one sample fills or empties a bin by a product of parameters.

        The additive part of a sample goes up, or down to less than nothing, and its factors grow
        along the direction that costs least, as far as the bin's Poisson term with the constraints
        likes best.

        Parameters
        ----------
        rates, data
            Expected counts at the lowest minima, and data, of some rows, ``(n, B)``.
        point, rows
            Those minima, ``(n, K)``, and their rows, in order.
        mu
            Parameter of interest that goes with the patches' own samples, ``(n,)``; None if these
            do not count.
        count
            How many points of each row at most.
        least
            A sample's factors have to grow by this at least.
        """
        chosen = [_Choice.none(len(rows), count, point.shape[1])]
        first = 0
        for number, block in enumerate(self.layout.blocks):
            size = len(block.channels) * block.bins
            span = slice(first, first + size)
            first += size
            for is_shared in (True, False):
                part = self._directions[number][0 if is_shared else 1]
                if part is None or (mu is None and not is_shared):
                    continue
                strength = np.ones(len(rows)) if mu is None else mu
                chosen.append(
                    self._choose(
                        part, is_shared, rates[:, span], data[:, span], rows, strength, count, least
                    )
                )
        return _Choice.best(chosen, count).seeds(point, rows, self.batch)

    # ------------------------------------------------------------------ one alpha

    def _parts(self, *, with_own: bool) -> list[list[Any]]:
        layout = self.layout
        parts = []
        for number, block in enumerate(layout.blocks):
            shared = {name: values[None] for name, values in block.shared.items()}
            of_block = [shared]
            if with_own and self.batch.parts[number]["nominal"].shape[2]:
                of_block.append(self.batch.parts[number])
            parts.append(of_block)
        return parts

    def _nominal(self, *, with_own: bool) -> FloatArray:
        sums = [
            sum(np.sum(part["nominal"], axis=2) for part in parts)
            for parts in self._parts(with_own=with_own)
        ]
        return _flat([np.asarray(total)[..., None] for total in sums], 1)[..., 0]

    def _moved(self, alpha: float, *, with_own: bool) -> FloatArray:
        """Change of expected counts if one alpha leaves zero, ``(P or 1, B, alphas)``."""
        by_block = [
            sum(self._moved_part(part, alpha) for part in parts)
            for parts in self._parts(with_own=with_own)
        ]
        return _flat(by_block, self.layout.alphas)

    def _moved_part(self, part: Any, alpha: float) -> FloatArray:
        layout = self.layout
        at, side = np.array([alpha]), np.array([np.sign(alpha)])
        moved = shift(layout.codes[1], at, side, np)
        nominal = part["nominal"][..., None]  # (P, C, S, N, 1)
        additive = np.zeros((*part["nominal"].shape, layout.alphas))
        additive[..., : layout.hist] = part["odd"] * moved.odd + part["even"] * moved.even
        factor = np.ones((*part["hi"].shape[:-1], layout.alphas))
        with np.errstate(all="ignore"):
            factor[..., layout.alphas - layout.norm :] = _scale(
                layout.codes[0], part["hi"], part["lo"], alpha
            )
            change = (nominal + additive) * factor[..., None, :] - nominal
        return np.asarray(np.sum(change, axis=2))

    # ------------------------------------------------------------------ products

    @cached_property
    def _directions(self) -> list[tuple[_Directions | None, _Directions | None]]:
        directions = []
        for number, block in enumerate(self.layout.blocks):
            shared = {name: values[None] for name, values in block.shared.items()}
            of_patches = self.batch.parts[number]
            pair = [
                _Directions.of(self.batch, part, block.slots) if part["nominal"].shape[2] else None
                for part in (shared, of_patches)
            ]
            directions.append((pair[0], pair[1]))
        return directions

    def _choose(
        self,
        part: _Directions,
        is_shared: bool,
        rates: FloatArray,
        data: FloatArray,
        rows: NDArray[np.int64],
        mu: FloatArray,
        count: int,
        least: float,
    ) -> _Choice:
        batch = self.batch
        picked = np.zeros(len(rows), dtype=int) if is_shared else rows
        _, channels, _, bins = part.nominal.shape
        shape = (len(rows), channels, 1, bins, 1)
        rate, observed = rates.reshape(shape), data.reshape(shape)
        strength = np.where(part.with_poi[picked], mu[:, None, None], 1.0)[..., None]
        nominal = part.nominal[picked] * strength
        cost = 0.5 * _GROWTH**2 + 0.5 * _ADDITIVE**2
        choices = []
        # Without an additive part both signs are the same.
        unmoved = (part.up <= 0) & (part.down <= 0)
        for sign, step in ((1.0, part.up), (-1.0, part.down)):
            additive = nominal + sign * _ADDITIVE * step[picked] * strength
            factor = np.exp(part.growth[picked][..., None, None] * _GROWTH)
            factor = factor * part.local_factor[rows if part.local_by_row else picked][..., None]
            with np.errstate(all="ignore"):
                after = rate - nominal[..., None] + additive[..., None] * factor
                objective = (
                    after - np.where(observed > EMPTY, observed * np.log(after / rate), 0.0) - rate
                )
            objective = objective + cost
            unusable = (
                ~np.isfinite(objective)
                | ((sign < 0) & unmoved[picked][..., None])
                | (factor < least)
                | (np.abs(after - rate) < _NOTICEABLE * np.sqrt(np.maximum(rate, 1.0)))
            )
            objective = np.where(unusable, np.inf, objective)
            choices.append((sign, objective))
        return _Choice.of(part, choices, picked, rows, batch, count)


def _flat(by_block: list[Any], size: int) -> FloatArray:
    """Join arrays of blocks, ``(P or 1, C, N, size)``, to ``(P or 1, B, size)``."""
    rows = max(len(values) for values in by_block)
    flat = [
        np.broadcast_to(values, (rows, *values.shape[1:])).reshape(
            rows, values.shape[1] * values.shape[2], size
        )
        for values in by_block
    ]
    return np.concatenate(flat, axis=1)


def _scale(code: str, hi: FloatArray, lo: FloatArray, alpha: float) -> FloatArray:
    coefficients, log_hi, log_lo = scale_coefficients(hi, lo)
    if code == "code1" or abs(alpha) >= 1.0:
        return np.exp(np.where(alpha > 0, alpha * log_hi, -alpha * log_lo))
    powers = alpha ** np.arange(1, 7)
    return np.asarray(1.0 + np.tensordot(powers, coefficients, axes=1))


@dataclass(frozen=True)
class _Directions:
    """Directions in which the samples of one part of a block change most.

    Attributes
    ----------
    nominal
        ``(P or 1, C, S, N)``
    growth, growth_signs
        How fast the logarithm of a sample's factors grows along that direction, ``(…, C, S)``, and
        the direction, ``(…, C, S, norm)``.
    up, down, up_signs, down_signs
        The same for the additive part of each bin, ``(…, C, S, N)`` and ``(…, C, S, N, hist)``.
    local_factor, local_point
        Largest factor of a cell's bin parameters, ``(P, C, S, N)``, and where these are then,
        ``(P, K)``.
    with_poi
        Samples that the parameter of interest multiplies, ``(…, C, S)``.
    slots, masks
        Bin parameters of each cell.
    """

    nominal: FloatArray
    growth: FloatArray
    growth_direction: FloatArray
    up: FloatArray
    up_direction: FloatArray
    down: FloatArray
    down_direction: FloatArray
    local_factor: FloatArray
    local_by_row: bool
    with_poi: NDArray[np.bool_]
    slots: NDArray[np.int64]
    masks: FloatArray

    @classmethod
    def of(cls, batch: Lowered, part: Any, slots: NDArray[np.int64]) -> _Directions:
        layout = batch.layout
        fixed = batch.fixed[:1] if len(part["nominal"]) == 1 else batch.fixed
        rows = len(part["nominal"])
        hist_free = ~fixed[:rows, None, None, None, : layout.hist]
        norm_free = ~fixed[:rows, None, None, layout.alphas - layout.norm : layout.alphas]
        with np.errstate(all="ignore"):
            log_hi, log_lo = (np.nan_to_num(np.log(part[name])) for name in ("hi", "lo"))
        growth = np.where(norm_free, np.maximum(np.maximum(log_hi, log_lo), 0.0), 0.0)
        speed = np.sqrt(np.sum(growth * growth, axis=-1))
        direction = np.where(log_hi >= log_lo, growth, -growth)
        direction = direction / np.maximum(speed, 1e-30)[..., None]
        plus, minus = part["odd"] + part["even"], part["even"] - part["odd"]
        fields = {}
        for name, sign in (("up", 1.0), ("down", -1.0)):
            gain = np.where(hist_free, np.maximum(np.maximum(sign * plus, sign * minus), 0.0), 0.0)
            size = np.sqrt(np.sum(gain * gain, axis=-1))
            forward = sign * plus >= sign * minus
            fields[name] = size
            fields[f"{name}_direction"] = (
                np.where(forward, gain, -gain) / np.maximum(size, 1e-30)[..., None]
            )
        upper = _weak_reach(batch)[:, layout.alphas + layout.factors :]
        upper = np.concatenate([upper, np.ones((len(upper), 1))], axis=1)
        by_slot = upper[:, slots][:, :, None]  # (P, C, 1, N, T)
        local = np.prod(np.where(part["bins"] > 0, by_slot, 1.0), axis=-1)
        return cls(
            nominal=part["nominal"],
            growth=speed,
            growth_direction=direction,
            local_factor=local,
            local_by_row=True,
            with_poi=part["factors"][..., 0] > 0,
            slots=slots,
            masks=part["bins"],
            **fields,
        )


def _weak_reach(batch: Lowered) -> FloatArray:
    """Largest values of parameters that a constraint allows at :data:`_COST`, ``(P, K)``."""
    lower, upper = batch.init.copy(), batch.upper.copy()
    gauss = batch.precision > 0
    width = np.sqrt(2 * _COST / np.where(gauss, batch.precision, 1.0))
    poisson = batch.factor > 0
    count = np.where(poisson, batch.aux, 1.0)
    start = np.where(poisson, batch.aux / np.where(poisson, batch.factor, 1.0), 1.0)
    lower = np.where(poisson, start, lower)
    for _ in range(40):
        middle = 0.5 * (lower + upper)
        ratio = np.maximum(middle / np.maximum(start, 1e-30), 1e-30)
        beyond = count * (ratio - 1.0 - np.log(ratio)) > _COST
        lower, upper = np.where(beyond, lower, middle), np.where(beyond, middle, upper)
    reach = np.where(poisson, upper, np.where(gauss, batch.aux + width, batch.init))
    return np.where(batch.fixed, batch.init, np.clip(reach, batch.lower, batch.upper))


@dataclass(frozen=True)
class _Choice:
    """The best seeds of some rows: how good, and which parameters go where (NaN: as they are)."""

    objective: FloatArray  # (n, count)
    target: FloatArray  # (n, count, K)

    @classmethod
    def none(cls, rows: int, count: int, size: int) -> _Choice:
        return cls(np.full((rows, count), np.inf), np.full((rows, count, size), np.nan))

    @classmethod
    def of(
        cls,
        part: _Directions,
        choices: list[tuple[float, FloatArray]],
        picked: NDArray[np.int64],
        rows: NDArray[np.int64],
        batch: Lowered,
        count: int,
    ) -> _Choice:
        layout, size = batch.layout, batch.init.shape[1]
        best_growth = [np.argmin(objective, axis=-1) for _, objective in choices]
        flat = np.stack([objective.min(axis=-1) for _, objective in choices], axis=1)
        shape = flat.shape[1:]
        by_row = flat.reshape(len(rows), -1)
        order = np.argsort(by_row, axis=1, kind="stable")[:, :count]
        choice = cls.none(len(rows), count, size)
        reach = _weak_reach(batch)
        for position in range(len(rows)):
            for rank, index in enumerate(order[position]):
                value = by_row[position, index]
                if not np.isfinite(value):
                    break
                side, channel, sample, cell = np.unravel_index(index, shape)
                target = choice.target[position, rank]
                row, local = picked[position], slice(layout.alphas + layout.factors, None)
                distance = _GROWTH[best_growth[side][position, channel, sample, cell]]
                growth = distance * part.growth_direction[row, channel, sample]
                step = (part.up_direction, part.down_direction)[side][row, channel, sample, cell]
                move = np.zeros(layout.alphas)
                move[: layout.hist] += _ADDITIVE * step
                move[layout.alphas - layout.norm :] += growth
                moved = np.abs(move) > 0.05
                target[: layout.alphas][moved] = move[moved]
                columns = part.slots[channel, cell][part.masks[row, channel, sample, cell] > 0]
                target[local][columns] = reach[rows[position], local][columns]
                choice.objective[position, rank] = value
        return choice

    @classmethod
    def best(cls, choices: list[_Choice], count: int) -> _Choice:
        objective = np.concatenate([choice.objective for choice in choices], axis=1)
        target = np.concatenate([choice.target for choice in choices], axis=1)
        order = np.argsort(objective, axis=1, kind="stable")[:, :count]
        rows = np.arange(len(objective))[:, None]
        return cls(objective[rows, order], target[rows, order])

    def seeds(self, point: FloatArray, rows: NDArray[np.int64], batch: Lowered) -> Seeds:
        positions, ranks = np.nonzero(np.isfinite(self.objective))
        target = self.target[positions, ranks]
        owner = rows[positions]
        moved = np.where(np.isnan(target), point[positions], target)
        inside = np.clip(moved, batch.lower[owner], batch.upper[owner])
        return Seeds(owner, inside, positions)
