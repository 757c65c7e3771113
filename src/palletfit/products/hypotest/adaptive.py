"""Choice of the points that an exclusion contour needs, round by round.

Each point has a forecast from the background-only fit (:mod:`palletfit.engine.forecast`). Tests say
by how much the significance of CLs differs from the forecast. The difference varies smoothly over a
plane, so that it is interpolated to the other points by a thin-plate spline. How far off this is
follows from the tests themselves: each is compared with what the others give there, and the errors
grow with the distance to the nearest test.

A round tests points near the contour whose error would move it by more than the wanted precision,
those first that may lie on the other side of it. When there are none left, the others stay untested
and keep their forecasts, corrected by the tests: a contour is drawn through both.

What is chosen depends on results and settings only, not on workers, tasks or how often a run was
resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import ConvexHull, QhullError, cKDTree
from scipy.spatial.distance import cdist
from scipy.special import ndtr, ndtri

from palletfit.config import FitSettings, Settings
from palletfit.core.arrays import FloatArray
from palletfit.core.text import counted
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.forecast import Forecast, forecasts
from palletfit.planes.contour import MAX_SIGNIFICANCE, UNTESTED, significances
from palletfit.planes.coordinates import plane_points
from palletfit.planes.interpolation import Geometry, spline_predictions

if TYPE_CHECKING:
    from palletfit.pallet.patches import Patch
    from palletfit.runs.scan import Scan
    from palletfit.runs.store import RecordStore

logger = logging.getLogger(__name__)

#: So many tests are needed to interpolate differences, and to estimate the error from them.
_FEWEST = 4
#: Tests whose significance is that near to the contour's tell the error.
_NEAR = 1.5
#: Neighbours of a point that give the slope of the significance there.
_NEIGHBOURS = 8
#: Rows of a matrix of distances that are in memory at a time.
_ROWS = 512
#: Neighbours of a point that it shares the contour with.
_SHARING = 3
#: Errors of that many standard deviations may put a point on the other side of the contour.
_DEVIATIONS = 2.0
#: No part of a contour is further from a test than this, in units of the axes' ranges, or than the
#: points are from each other: tests elsewhere say little of the error there.
_REACH = 0.15
#: The error of an interpolation, significances per unit of the axes' ranges, before tests tell it.
_FIRST_RATE = 1.0
#: Columns: the observed value and the five expected ones. The contour of these is needed.
_OBSERVED, _MEDIAN = 0, 3
_COLUMNS = 6


@dataclass(frozen=True)
class View:
    """The points of one plane: their positions among all, and their coordinates, ``(n, 2)``."""

    rows: NDArray[np.int64]
    scaled: FloatArray

    def corners(self) -> NDArray[np.int64]:
        """Return the points that span the others, by position among all."""
        try:
            return np.asarray(self.rows[ConvexHull(self.scaled).vertices])
        except (QhullError, ValueError):  # few points, or all on one line
            return self.rows

    @cached_property
    def surroundings(self) -> tuple[NDArray[np.int64], FloatArray]:
        """The nearest neighbours of each point, ``(n, k)``, and its distance to one of them."""
        count = len(self.rows)
        neighbours, spacing = [], []
        for start in range(0, count, _ROWS):
            between = cdist(self.scaled[start : start + _ROWS], self.scaled)
            neighbours.append(np.argsort(between, axis=1, kind="stable")[:, 1 : _NEIGHBOURS + 1])
            last = min(_SHARING, count - 1)
            spacing.append(np.partition(between, last, axis=1)[:, last])
        return np.concatenate(neighbours), np.concatenate(spacing)

    def to_nearest(self, positions: NDArray[np.int64]) -> FloatArray:
        """Compute the distance of each point to the nearest of some, ``(n,)``."""
        if not len(positions):
            return np.full(len(self.rows), np.inf)
        return np.asarray(cKDTree(self.scaled[positions]).query(self.scaled)[0])


@dataclass
class Chooser:
    """Points of some planes: forecasts, tests, and which of them the contours need.

    Parameters
    ----------
    names
        Patches, P of them.
    views
        Planes.
    forecast
        Significances that are forecast, ``(P, 6)``; NaN for points without a forecast.
    level
        Significance of the contour.
    precision
        Wanted precision of the contour, in units of the axes' ranges.
    columns
        Columns whose contours count.
    """

    names: Sequence[str]
    views: Sequence[View]
    forecast: FloatArray
    level: float
    precision: float
    columns: tuple[int, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        #: Significances of tests, NaN where there is none, and points that are tested, or failed.
        self.tested = np.full((count, _COLUMNS), np.nan)
        self.done = np.zeros(count, dtype=bool)

    def first(self) -> NDArray[np.int64]:
        """Return the points of the first round.

        These are the corners of each plane, points that no plane has, and points without a
        forecast.
        """
        first = np.array(~np.isfinite(self.forecast).all(axis=1))
        for view in self.views:
            first[view.corners()] = True
        in_planes = np.concatenate([view.rows for view in self.views])
        first[np.setdiff1d(np.arange(len(first)), in_planes)] = True
        return np.flatnonzero(first)

    def take(self, row: int, cls_values: Sequence[float] | None) -> None:
        """Add the result of a test; None if it failed."""
        self.done[row] = True
        if cls_values is not None:
            self.tested[row] = significances(cls_values)

    def next(self, limit: int) -> NDArray[np.int64]:
        """Return up to so many points that are needed; none when no contour can still move."""
        urgency = np.full(len(self.names), np.inf)
        for view in self.views:
            needed, of_view = self._urgency(view)
            urgency[view.rows[needed]] = np.minimum(urgency[view.rows[needed]], of_view[needed])
        return self._apart(urgency, limit)

    def values(self) -> FloatArray:
        """Return the significances of all points, ``(P, 6)``: tested, or forecast and corrected.

        A point of several planes has the value that the first of them gives.
        """
        values = np.where(np.isfinite(self.tested), self.tested, np.nan)
        for view in self.views:
            of_view = self._corrected(view)
            missing = ~self.done[view.rows] & ~np.isfinite(values[view.rows]).all(axis=1)
            values[view.rows[missing]] = of_view[missing]
        return values

    def _tests(self, view: View) -> NDArray[np.int64]:
        """Return the tests of a plane, by position in it."""
        return np.flatnonzero(np.isfinite(self.tested[view.rows]).all(axis=1))

    def _corrected(self, view: View) -> FloatArray:
        """Return significances of all points of a plane, ``(n, 6)``."""
        tests = self._tests(view)
        forecast, tested = self.forecast[view.rows], self.tested[view.rows]
        if not len(tests):
            return forecast
        # Points without a forecast are tested, but may fail.
        (missing,) = np.nonzero(~np.isfinite(forecast).all(axis=1))
        forecast[missing] = _interpolated(view.scaled[tests], tested[tests], view.scaled[missing])
        shift = tested[tests] - forecast[tests]
        corrected = forecast + _interpolated(view.scaled[tests], shift, view.scaled)
        corrected = np.clip(corrected, -MAX_SIGNIFICANCE, MAX_SIGNIFICANCE)
        corrected[tests] = tested[tests]
        return np.asarray(corrected)

    def _error_rate(self, view: View) -> FloatArray:
        """Estimate the error of corrected forecasts per distance to the nearest test, ``(6,)``."""
        tests = self._tests(view)
        unknown = np.full(_COLUMNS, _FIRST_RATE)
        if len(tests) <= _FEWEST or not _spans_plane(view.scaled[tests]):
            return unknown
        tested = self.tested[view.rows[tests]]
        shift = np.nan_to_num(tested - self.forecast[view.rows[tests]])
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = spline_predictions(view.scaled[tests], shift) - shift
        between = cdist(view.scaled[tests], view.scaled[tests])
        np.fill_diagonal(between, np.inf)
        near = (np.abs(tested - self.level) < _NEAR).any(axis=1)
        # Without one test the others may lie on one line, where they give nothing.
        near &= np.isfinite(errors).all(axis=1)
        if near.sum() < _FEWEST:
            return unknown
        relative = errors[near] / between[near].min(axis=1)[:, None]
        return np.asarray(np.sqrt(np.mean(relative**2, axis=0)))

    def _urgency(self, view: View) -> tuple[NDArray[np.bool_], FloatArray]:
        """Find the points of a plane that are needed, and how urgently: the least number first."""
        values, tests = self._corrected(view), self._tests(view)
        count = len(view.rows)
        if not len(tests):
            return ~self.done[view.rows], np.zeros(count)
        distance = view.to_nearest(tests)
        neighbours, spacing = view.surroundings
        needed, urgency = np.zeros(count, dtype=bool), np.full(count, np.inf)
        rates = self._error_rate(view)
        for column in self.columns:
            slope = _slopes(view.scaled, values[:, column], neighbours)
            margin = np.abs(values[:, column] - self.level)
            shift = rates[column] * distance / slope
            near = margin / slope < np.maximum(spacing, _DEVIATIONS * shift)
            unsure = (shift > self.precision) | (distance > np.maximum(spacing, _REACH))
            moves_it = unsure & near & ~self.done[view.rows]
            needed |= moves_it
            with np.errstate(divide="ignore", invalid="ignore"):
                urgency = np.where(moves_it, np.minimum(urgency, margin / distance), urgency)
        return needed, urgency

    def _apart(self, urgency: FloatArray, limit: int) -> NDArray[np.int64]:
        """Take the most urgent points one by one; a point next to one that is taken can wait."""
        urgency = urgency.copy()
        nearest = [view.to_nearest(self._tests(view)) for view in self.views]
        chosen: list[int] = []
        while len(chosen) < limit and np.isfinite(urgency).any():
            row = int(np.argmin(urgency))
            chosen.append(row)
            urgency[row] = np.inf
            for number, view in enumerate(self.views):
                (position,) = np.nonzero(view.rows == row)
                if not len(position):
                    continue
                before = nearest[number]
                nearest[number] = np.minimum(before, view.to_nearest(position))
                apart = (nearest[number] > 0) & np.isfinite(before)
                urgency[view.rows[apart]] *= before[apart] / nearest[number][apart]
        return np.array(sorted(chosen), dtype=int)


def _spans_plane(scaled: FloatArray) -> bool:
    """Return true if points do not lie on one line."""
    return len(scaled) > 2 and bool(np.linalg.matrix_rank(scaled - scaled[0], tol=1e-9) == 2)


def _interpolated(scaled: FloatArray, values: FloatArray, at: FloatArray) -> FloatArray:
    """Interpolate values from tests, ``(n, 6)``; few of them have one mean."""
    if len(scaled) < _FEWEST or not _spans_plane(scaled):
        return np.broadcast_to(values.mean(axis=0), (len(at), values.shape[1]))
    return np.asarray(RBFInterpolator(scaled, values, kernel="thin_plate_spline")(at))


def _slopes(scaled: FloatArray, values: FloatArray, neighbours: NDArray[np.int64]) -> FloatArray:
    """Compute the steepness of a plane through each point and its neighbours, ``(n,)``."""
    steps = scaled[neighbours] - scaled[:, None]
    rises = values[neighbours] - values[:, None]
    gradient = (np.linalg.pinv(steps) @ rises[..., None])[..., 0]
    return np.asarray(np.maximum(np.linalg.norm(gradient, axis=1), 1e-9))


def make(
    scan: Scan,
    fit: Callable[[Scan], dict[str, Any]],
    store: RecordStore,
    settings: Settings,
) -> dict[str, Any]:
    """Test the points of a region that its contours need.

    Parameters
    ----------
    scan
        The region, with its planes.
    fit
        Tests the patches of a scan that have no record yet.
    store
        Where records are.
    settings
        The configuration.

    Returns
    -------
    dict
        The manifest of the tested points. Under ``untested`` it has the others: their values, and
        the forecast of CLs.

    Raises
    ------
    ConfigError
        An expression of a plane is wrong, or two of its points share their coordinates.
    """
    chooser = chooser_of(scan, settings)
    if chooser is None:
        logger.info("%s: all points are tested, since no plane has a contour", scan.title)
        return fit(scan)
    rows, fitted, rounds = chooser.first(), 0, 0
    chosen: set[int] = set()
    while len(rows):
        chosen |= set(rows.tolist())
        tested = replace(scan, patches=tuple(scan.patches[row] for row in sorted(chosen)))
        manifest = fit(tested)
        fitted, rounds = fitted + manifest["fitted"], rounds + 1
        for row in rows.tolist():
            chooser.take(row, _cls_values(store, scan.patches[row]))
        rows = chooser.next(settings.points.round)
    untested = _untested(scan, chooser)
    logger.info(
        "%s: %d of %s tested in %s; the others cannot move a contour by more than %g of the axes' "
        "ranges, as far as the tests tell",
        *(scan.title, len(chosen), counted(len(scan.patches), "point")),
        *(counted(rounds, "round"), settings.points.precision),
    )
    return {**manifest, "fitted": fitted, "rounds": rounds, "untested": untested}


def _views(scan: Scan) -> list[View]:
    """Place the patches of a region in its planes."""
    labels = pd.DataFrame(
        [dict(zip(scan.labels, patch.values, strict=True)) for patch in scan.patches]
    )
    table = labels.assign(patch=[patch.name for patch in scan.patches])
    position = {patch.name: row for row, patch in enumerate(scan.patches)}
    views = []
    for plane in scan.planes:
        points = plane_points(table, plane)
        if len(points):
            rows = np.array([position[name] for name in points["patch"]])
            views.append(View(rows, Geometry.of(points).scaled))
    return views


def chooser_of(scan: Scan, settings: Settings) -> Chooser | None:
    """Make the chooser of a region's points; none if no plane has a contour.

    Raises
    ------
    ConfigError
        See :func:`make`.
    """
    views = _views(scan)
    if not views:
        return None
    forecast = np.full((len(scan.patches), _COLUMNS), np.nan)
    by_name = _forecasts(scan)
    for row, patch in enumerate(scan.patches):
        if patch.name in by_name:
            values = by_name[patch.name]
            forecast[row] = significances([values.CLs_obs, *values.CLs_exp])
    return Chooser(
        names=[patch.name for patch in scan.patches],
        views=views,
        forecast=forecast,
        level=float(-ndtri(1 - settings.contour.confidence_level)),
        precision=settings.points.precision,
        columns=(_MEDIAN,) if scan.blinded else (_OBSERVED, _MEDIAN),
    )


def _forecasts(scan: Scan) -> Mapping[str, Forecast]:
    # Whatever engine tests the points: nothing has to compile for one fit.
    changes: Mapping[str, Any] = {"engine": "batched", "backend": "numpy", "derivatives": False}
    fit = FitSettings.model_validate({**scan.settings.model_dump(), **changes})
    return forecasts(BatchedEngine(dict(scan.workspace), fit), scan.patches)


def _cls_values(store: RecordStore, patch: Patch) -> list[float] | None:
    record = store.read(store.path(patch.name))
    if record is None or record["status"] == "failed":
        return None
    return [record["CLs_obs"], *record["CLs_exp"]]


def _untested(scan: Scan, chooser: Chooser) -> dict[str, Any]:
    """Describe the points that were not tested, as records do."""
    cls_values = ndtr(-chooser.values())
    workspace = scan.workspace_digest
    return {
        patch.name: {
            "status": UNTESTED,
            "values": dict(zip(scan.labels, patch.values, strict=True)),
            # Other products of the point belong to it by these.
            "key": {"workspace": workspace, "patch": patch.digest},
            "forecast": {
                "CLs_obs": float(cls_values[row, 0]),
                "CLs_exp": cls_values[row, 1:].tolist(),
            },
            "remarks": ["not tested: it is a forecast, which the contour does not need better"],
        }
        for row, patch in enumerate(scan.patches)
        if not chooser.done[row]
    }
