"""Distance between two contours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from palletfit.core.arrays import FloatArray
from palletfit.planes.interpolation import Geometry

#: Width, in units of the axes' ranges, of the strip along the border of the points in which the
#: published contour is not compared: it often runs along the border, where ours cannot.
BORDER = 0.01
#: Distance of the vertices, in units of the axes' ranges, at which two contours are compared.
STEP = 1e-3


@dataclass(frozen=True)
class Spread:
    """Mean, median and largest of some distances."""

    mean: float
    median: float
    maximum: float


@dataclass(frozen=True)
class Distance:
    """Distance between our contour and the published one.

    Each point of one (in steps of a thousandth of the axes) has its distance to the nearest
    point of the other. The published contour counts inside the convex hull of the signal points.

    Parameters
    ----------
    to_published, from_published
        From our contour to the published one, and back, in the units of the axes.
    symmetric
        Both together, in the units of the axes; its maximum is the Hausdorff distance.
    relative
        Both together, in units of the axes' ranges.
    """

    to_published: Spread
    from_published: Spread
    symmetric: Spread
    relative: Spread


def distance(
    lines: Sequence[FloatArray], published: tuple[FloatArray, ...], geometry: Geometry
) -> Distance | None:
    """Compare in the unit square's vertices, with distances in the units of the axes and in its."""
    if not lines:
        return None
    ours = shapely.MultiLineString([geometry.scale(line) for line in lines])
    theirs = shapely.MultiLineString([geometry.scale(segment) for segment in published])
    counted = theirs.intersection(geometry.hull.buffer(-BORDER))
    if counted.is_empty:
        return None
    forth = _distances(ours, theirs, geometry)
    back = _distances(counted, ours, geometry)
    both = np.concatenate([forth, back], axis=1)
    return Distance(
        to_published=_spread(forth[0]),
        from_published=_spread(back[0]),
        symmetric=_spread(both[0]),
        relative=_spread(both[1]),
    )


def _distances(start: shapely.Geometry, target: shapely.Geometry, geometry: Geometry) -> FloatArray:
    """Shape (2, points): distances in the units of the axes, and of the unit square."""
    vertices = shapely.get_coordinates(shapely.segmentize(start, STEP))
    in_units = shapely.transform(target, lambda scaled: scaled * geometry.size)
    return np.stack(
        [
            shapely.distance(shapely.points(vertices * geometry.size), in_units),
            shapely.distance(shapely.points(vertices), target),
        ]
    )


def _spread(distances: FloatArray) -> Spread:
    return Spread(
        mean=float(distances.mean()),
        median=float(np.median(distances)),
        maximum=float(distances.max()),
    )
