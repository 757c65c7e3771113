"""Distance between two contours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from palletfit.core.arrays import FloatArray
from palletfit.planes.interpolation import Geometry

#: Width, in units of the axes' ranges, of a strip along the border of the points. The published
#: contour is not compared there: it often follows the border, which a contour of points cannot.
BORDER = 0.01
#: Distance of the vertices, in units of the axes' ranges, at which two contours are compared.
STEP = 1e-3


@dataclass(frozen=True)
class Spread:
    """Mean, median and largest distance."""

    mean: float
    median: float
    maximum: float


@dataclass(frozen=True)
class Distance:
    """Distance between a contour and the published one.

    Each point of one contour, in steps of a thousandth of the axes, has a distance to the nearest
    point of the other. The published contour counts inside the convex hull of the signal points.

    Parameters
    ----------
    to_published, from_published
        From the contour to the published one, and vice versa, in the units of the axes.
    symmetric
        Both directions, in the units of the axes. The maximum is the Hausdorff distance.
    relative
        Both directions, in units of the axes' ranges.
    """

    to_published: Spread
    from_published: Spread
    symmetric: Spread
    relative: Spread


def distance(
    lines: Sequence[FloatArray], published: tuple[FloatArray, ...], geometry: Geometry
) -> Distance | None:
    """Compute the distance of a contour to the published one; None if they cannot be compared."""
    if not lines:
        return None
    contour = shapely.MultiLineString([geometry.scale(line) for line in lines])
    published_contour = shapely.MultiLineString([geometry.scale(segment) for segment in published])
    counted = published_contour.intersection(geometry.hull.buffer(-BORDER))
    if counted.is_empty:
        return None
    forth = _distances(contour, published_contour, geometry)
    back = _distances(counted, contour, geometry)
    combined = np.concatenate([forth, back], axis=1)
    return Distance(
        to_published=_spread(forth[0]),
        from_published=_spread(back[0]),
        symmetric=_spread(combined[0]),
        relative=_spread(combined[1]),
    )


def _distances(start: shapely.Geometry, target: shapely.Geometry, geometry: Geometry) -> FloatArray:
    """Compute distances in the units of the axes and of the unit square, shape (2, points)."""
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
