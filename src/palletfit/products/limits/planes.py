"""Upper limits in a plane, and along a line of signal points.

The logarithm of the limit on mu is interpolated in a plane. Signal strengths span orders of
magnitude, and their logarithm is nearly linear in the masses.

The contour where the limit is one is an exclusion contour, with the same bands, quality and
distances to published curves. :func:`palletfit.planes.contour.exclusion` gets, instead of CLs,
values whose significance is ``level - log(mu)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from palletfit.config import ContourSettings, Plane, Slice
from palletfit.core.arrays import FloatArray
from palletfit.errors import ConfigError
from palletfit.planes.contour import OTHER, OTHER_MINIMUM, Exclusion, exclusion
from palletfit.planes.coordinates import plane_points
from palletfit.products.limits.table import SIGMAS

#: Columns of limits, and the columns of CLs in the table of results that match them.
_COLUMNS = {"mu_obs": "CLs_obs"} | {f"mu_exp_{n}": f"CLs_exp_{n}" for n in SIGMAS}


def limit_contours(
    limits: pd.DataFrame,
    plane: Plane,
    settings: ContourSettings,
    published: Mapping[str, Sequence[FloatArray]],
    left_out: Mapping[str, str] | None = None,
) -> Exclusion:
    """Find where the upper limit on mu is one, with :func:`palletfit.planes.contour.exclusion`.

    A limit beyond the bound of the parameter of interest enters as the bound. The fields of the
    result are ``level - log(mu)``, see :func:`mu_field`; its points have the columns of `limits`.

    Parameters
    ----------
    limits
        Table of limits, one row a signal point; perhaps with columns of another minimum, whose
        contours are then in the result, too.
    plane, settings, published, left_out
        See :func:`palletfit.planes.contour.exclusion`.

    Raises
    ------
    ConfigError
        An expression of the plane is wrong, or two of its points have the same coordinates.
    """
    level = -ndtri(1 - settings.confidence_level)
    endings = ("", OTHER) if OTHER_MINIMUM in limits else ("",)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            f"{new}{end}": ndtr(np.log(bounded(limits, old + end).to_numpy(dtype=float)) - level)
            for old, new in _COLUMNS.items()
            for end in endings
        }
    return exclusion(limits.assign(**columns), plane, settings, published, left_out)


def bounded(limits: pd.DataFrame, column: str) -> pd.Series[float]:
    """Return the limits of a column such as ``mu_exp_0``, with the bound for those beyond it."""
    states = limits[column.replace("mu_", "state_", 1)]
    return limits[column].where(states != "beyond", limits["mu_max"])


def mu_field(contours: Exclusion, name: str) -> FloatArray:
    """Compute the interpolated limit on mu, shape (ny, nx); NaN outside of the points.

    `name` is that of a curve, such as ``observed``.
    """
    return np.asarray(np.exp(contours.level - contours.fields[name]))


def as_json(contours: Exclusion) -> dict[str, Any]:
    """Return plain data of a plane: curves where the limit is one, points, and quality.

    The errors of the interpolation are those of the limit's natural logarithm.
    """
    plain = contours.as_json()
    chosen = ["patch", "x", "y", "region", "status", "mu_obs", "state_obs", "mu_max"]
    chosen += [f"{kind}_exp_{n}" for kind in ("mu", "state") for n in SIGMAS]
    rows = contours.points[chosen].astype(object).where(contours.points[chosen].notna(), None)
    plain["points"] = rows.to_dict("records")
    plain["limit"] = 1.0
    for key in ("level", "failed_near_contour"):
        del plain[key]
    return plain


# --------------------------------------------------------------------------- along a line


@dataclass(frozen=True, eq=False)
class Line:
    """Upper limits of the signal points on a line.

    Attributes
    ----------
    points
        Those that have limits, by rising ``x``: the columns of the table of limits.
    without
        Names of the points that have none: failed, or unsettled.
    in_pb
        Whether limits are shown in pb; else on mu.
    """

    points: pd.DataFrame
    without: tuple[str, ...]
    in_pb: bool

    def limit(self, kind: str) -> FloatArray:
        """Return limits of a kind such as ``obs`` or ``exp_0``, with the bound for those beyond."""
        values = bounded(self.points, f"mu_{kind}").to_numpy(dtype=float)
        return np.asarray(values * self.theory)

    def beyond(self, kind: str) -> NDArray[np.bool_]:
        """Mark limits that lie beyond the bound."""
        return np.asarray(self.points[f"state_{kind}"] == "beyond")

    @property
    def blinded(self) -> bool:
        """True if points have no observed limits, because their data are expected ones."""
        return bool(len(self.points)) and bool((self.points["state_obs"] == "blinded").all())

    @property
    def other_minimum(self) -> str | None:
        """Name of the minimum that does not count; None if no point has other limits with it."""
        if OTHER_MINIMUM not in self.points:
            return None
        names = self.points[OTHER_MINIMUM]
        return next((str(name) for name in names if name), None)

    def other_limit(self, kind: str) -> FloatArray:
        """Return limits of a kind with that minimum, NaN for those that are not found.

        A point without other limits has its only ones.
        """
        several = self.points[OTHER_MINIMUM] != ""
        mu, state = (
            self.points[f"{name}_{kind}{OTHER}"].where(several, self.points[f"{name}_{kind}"])
            for name in ("mu", "state")
        )
        return np.asarray(mu.where(state == "found").to_numpy(dtype=float) * self.theory)

    @property
    def theory(self) -> FloatArray:
        """Cross section in pb, or mu = 1."""
        if self.in_pb:
            return np.asarray(self.points["cross_section_pb"], dtype=float)
        return np.ones(len(self.points))

    @property
    def theory_error(self) -> FloatArray | None:
        """Uncertainty of the cross section in pb; none if it is not known."""
        if not self.in_pb:
            return None
        error = np.asarray(self.points["cross_section_error_pb"], dtype=float)
        if not np.isfinite(error).all():
            return None
        return error


def along(limits: pd.DataFrame, line: Slice) -> Line:
    """Collect the limits along a line of signal points.

    Raises
    ------
    ConfigError
        An expression is wrong, or two points have the same position on the line.
    """
    plane = Plane(x=line.x, y="0", x_title="", y_title="", select=line.select)
    try:
        points = plane_points(limits, plane).sort_values("x", ignore_index=True)
    except ConfigError as error:
        error.remedy = error.remedy.replace("the plane", "the slice")
        raise
    blinded = (points["state_obs"].isin(["blinded", "failed"])).all()
    kinds = (*(() if blinded else ("obs",)), *(f"exp_{n}" for n in SIGMAS))
    values = np.column_stack([bounded(points, f"mu_{kind}") for kind in kinds])
    limited = np.isfinite(values.astype(float)).all(axis=1)
    return Line(
        points=points[limited].reset_index(drop=True),
        without=tuple(points["patch"][~limited]),
        in_pb="cross_section_pb" in points,
    )
