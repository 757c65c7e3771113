"""Places of numbers beside points: clear of the axes, of curves, of areas and of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely

from palletfit.core.arrays import FloatArray

#: Directions from a point in which its number may be, the first ones preferred.
_DIRECTIONS = np.array(
    [[0, 1], [0, -1], [1, 0], [-1, 0], [1, 1], [-1, 1], [1, -1], [-1, -1]], dtype=float
)
#: Gaps between the point and its number in parts of the nearest one, which are tried in turn.
_GAPS = (1.0, 2.4, 4.0)
#: Costs: of the second and later directions, of a larger gap, of a part outside of the axes, in a
#: forbidden area or under another number, of a crossed curve, of a covered point, and of a place
#: that is nearer to another point.
_LATER, _FARTHER, _OUTSIDE, _AREA, _NUMBER, _CURVE, _POINT = 0.02, 0.3, 20.0, 6.0, 8.0, 1.2, 2.0
_ASTRAY = 1.5
#: Largest number of rounds in which numbers make room for each other.
_ROUNDS = 4


@dataclass(frozen=True)
class Obstacles:
    """Content that numbers should not cover, in points of the page.

    Attributes
    ----------
    frame
        Lower and upper corner of the space for numbers, shape (2, 2).
    curves
        Lines, each of shape (n, 2).
    areas
        Outlines of areas, each of shape (n, 2).
    """

    frame: FloatArray
    curves: Sequence[FloatArray] = ()
    areas: Sequence[FloatArray] = field(default=())


def put_beside(
    points: FloatArray, sizes: FloatArray, obstacles: Obstacles, gap: float
) -> FloatArray:
    """Choose where numbers are centred.

    Each number takes the cheapest of its places, in rounds, until none moves any more. The same
    input gives the same places.

    Parameters
    ----------
    points
        Positions of the points, shape (n, 2), in points of the page.
    sizes
        Widths and heights of the numbers, shape (n, 2).
    obstacles
        What should stay visible.
    gap
        Smallest distance between a point and its number.

    Returns
    -------
    array of shape (n, 2)
        Centres of the numbers.
    """
    if not len(points):
        return np.empty((0, 2))
    candidates, preference = _candidates(points, sizes, gap)
    costs = preference + _fixed_costs(candidates, points, sizes, obstacles)
    chosen = costs.argmin(axis=1)
    for _ in range(_ROUNDS):
        before = chosen.copy()
        for index in range(len(points)):
            centres = np.take_along_axis(candidates, chosen[:, None, None], axis=1)[:, 0]
            neighbours = np.arange(len(points)) != index
            covered = _overlap(
                candidates[index], sizes[index], centres[neighbours], sizes[neighbours]
            ).sum(axis=1)
            chosen[index] = (costs[index] + _NUMBER * covered).argmin()
        if np.array_equal(before, chosen):
            break
    return np.asarray(np.take_along_axis(candidates, chosen[:, None, None], axis=1)[:, 0])


def _candidates(points: FloatArray, sizes: FloatArray, gap: float) -> tuple[FloatArray, FloatArray]:
    """Make the places of each number, shape (n, places, 2), and the cost of each place."""
    centres, costs = [], []
    for number, factor in enumerate(_GAPS):
        reach = sizes / 2 + gap * factor
        centres.append(points[:, None] + _DIRECTIONS * reach[:, None])
        costs.append(_FARTHER * number + _LATER * np.arange(len(_DIRECTIONS)))
    return np.concatenate(centres, axis=1), np.concatenate(costs)


def _fixed_costs(
    candidates: FloatArray, points: FloatArray, sizes: FloatArray, obstacles: Obstacles
) -> FloatArray:
    """Compute the costs that do not depend on other numbers, shape (n, places)."""
    half = sizes[:, None] / 2
    boxes = shapely.box(
        *np.moveaxis(candidates - half, -1, 0), *np.moveaxis(candidates + half, -1, 0)
    )
    area = shapely.area(boxes)
    frame = shapely.box(*obstacles.frame.ravel())
    cost = _OUTSIDE * (1 - shapely.area(shapely.intersection(boxes, frame)) / area)
    for outline in obstacles.areas:
        polygon = shapely.make_valid(shapely.Polygon(outline))
        shapely.prepare(polygon)
        cost += _AREA * shapely.area(shapely.intersection(boxes, polygon)) / area
    for line in obstacles.curves:
        curve = shapely.LineString(line)
        shapely.prepare(curve)
        cost += _CURVE * shapely.intersects(boxes, curve)
    inside, astray = np.zeros(cost.shape), np.zeros(cost.shape, dtype=bool)
    for number, centres in enumerate(candidates):
        offset = centres[:, None] - points
        inside[number] = (np.abs(offset) < half[number] + 1.0).all(axis=-1).sum(axis=-1)
        distance = np.linalg.norm(offset, axis=-1)
        astray[number] = (distance < distance[:, number, None]).any(axis=-1)
    return np.asarray(cost + _POINT * inside + _ASTRAY * astray)


def _overlap(
    centres: FloatArray, size: FloatArray, neighbours: FloatArray, sizes: FloatArray
) -> FloatArray:
    """Compute which part of a box at each centre the other boxes cover, shape (centres, boxes)."""
    distance = np.abs(centres[:, None] - neighbours)
    common = np.clip((size + sizes) / 2 - distance, 0.0, np.minimum(size, sizes))
    return np.asarray(common.prod(axis=-1) / size.prod())
