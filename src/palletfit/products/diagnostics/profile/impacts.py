"""Impacts of groups of parameters on the parameter of interest.

A group's impact is the part of the uncertainty of mu-hat that is missing where all its parameters
are held at the best fit, subtracted in quadrature from the whole one (TRExFitter's grouped
impacts)::

    impact = sqrt(error**2 - held_error**2)

Held at their best-fit values parameters leave the best fit where it is. So the error comes from the
Hessian there, without the rows and columns of what is held. Asymmetric errors are where the profile
likelihood rises by one (MINOS; F. James, "MINUIT", CERN D506), with the group held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import OFF_ZERO
from palletfit.engine.choose import require_batched
from palletfit.engine.held_fits import HeldFits
from palletfit.engine.protocol import Engine
from palletfit.engine.records import Status, finite
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.parameters import invert
from palletfit.products.diagnostics.profile.best import ROUNDS, BestPoint
from palletfit.products.diagnostics.profile.curve import ProfileCurve
from palletfit.products.diagnostics.profile.groups import Patterns, grouped

#: 2 NLL above the best fit where a standard error ends.
_ONE = 1.0
#: Name of the group of all parameters with a constraint.
CONSTRAINED = "all constrained parameters"


@dataclass(frozen=True)
class Errors:
    """Uncertainty of mu-hat.

    Attributes
    ----------
    error
        From the Hessian; None where that gives none.
    up, down
        Distances to where 2 NLL is one above the best fit, both positive; None where they are not
        wanted, or where there is no such value within the bounds.
    """

    error: float | None
    up: float | None = None
    down: float | None = None

    @property
    def size(self) -> float:
        """The larger asymmetric error, or the one of the Hessian, by which groups are ranked."""
        return max(self.up or 0.0, self.down or 0.0) or self.error or 0.0


@dataclass(frozen=True)
class GroupImpact:
    """Impact of a group of parameters.

    Attributes
    ----------
    name
        Name of the group.
    parameters
        Those that are not fixed.
    impact
        Its part in the uncertainty of mu-hat.
    remaining
        Uncertainty with the group held.
    """

    name: str
    parameters: tuple[str, ...]
    impact: Errors
    remaining: Errors


@dataclass(frozen=True)
class GroupedImpacts:
    """The uncertainty of mu-hat in parts.

    Attributes
    ----------
    poi, mu_hat
        Parameter of interest, and its best fit.
    total
        Uncertainty of mu-hat.
    statistical
        Uncertainty with all constrained parameters held. Factors without a constraint stay free:
        the data alone determine them.
    systematic
        What the constrained parameters add in quadrature.
    groups
        Impacts of the groups, the largest first.
    ungrouped
        Parameters in no group, fixed ones left out.
    twice_nll, reason
        2 NLL at the best fit, as pyhf has it, and why it is trusted or not.
    status
        ``suspect`` if a fit is not trusted.
    reasons
        Doubts, in words.
    remarks
        What a reader should know.
    """

    poi: str
    mu_hat: float
    total: Errors
    statistical: Errors
    systematic: Errors
    groups: tuple[GroupImpact, ...]
    ungrouped: tuple[str, ...]
    twice_nll: float
    reason: str
    status: Status
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def group(self, name: str) -> GroupImpact:
        """Find a group by its name."""
        return next(group for group in self.groups if group.name == name)

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        return {
            "status": self.status,
            "mu_hat": self.mu_hat,
            "error": self.total.error,
            "statistical": self.statistical.error,
            "systematic": self.systematic.error,
            **{f"impact {group.name}": group.impact.error for group in self.groups},
            "remark": "; ".join((*self.reasons, *self.remarks)),
        }

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain


def grouped_impacts(
    engine: Engine,
    patch: Patch,
    groups: Mapping[str, Patterns] | None = None,
    *,
    asymmetric: bool = False,
) -> GroupedImpacts:
    """Compute the impacts of groups of parameters for one patch.

    Parameters
    ----------
    engine, patch
        Engine of the workspace, and the signal patch.
    groups
        See :func:`palletfit.products.diagnostics.profile.groups.grouped`.
    asymmetric
        Add asymmetric errors: some tens of fits for each group.

    Raises
    ------
    PalletError
        There is no free parameter of interest, or a pattern fits no parameter.
    FitError
        The fit has no finite minimum.
    ConfigError
        The engine is not the batched one, or there is no group.
    """
    best = BestPoint(require_batched(engine, "grouped impacts"), patch, None)
    if not best.poi or best.fit.tests.batch.fixed[0, best.fit.tests.poi]:
        raise PalletError(
            "There is no free parameter of interest, on which parameters could have an impact.",
            remedy="Choose one with `poi`, and do not fix it.",
        )
    members = grouped(best.fit.parameters, best.poi, groups)
    constrained = tuple(
        entry.name for entry in best.fit.parameters if entry.prefit_width is not None
    )
    held_sets = {"": (), CONSTRAINED: constrained, **members}
    errors, doubts = _errors(best, list(held_sets.values()), asymmetric=asymmetric)
    total, statistical, *remaining = errors
    impacts = [
        GroupImpact(name, names, subtracted(total, uncertainty), uncertainty)
        for (name, names), uncertainty in zip(members.items(), remaining, strict=True)
    ]
    doubts = (*best.doubts(), *doubts)
    record = best.fit.record
    in_groups = {name for names in members.values() for name in names}
    mobile = [entry.name for entry in best.fit.parameters if entry.state != "fixed"]
    return GroupedImpacts(
        poi=best.poi,
        mu_hat=record.mu,
        total=total,
        statistical=statistical,
        systematic=subtracted(total, statistical),
        groups=tuple(sorted(impacts, key=lambda group: -group.impact.size)),
        ungrouped=tuple(name for name in mobile if name not in {*in_groups, best.poi}),
        twice_nll=record.twice_nll,
        reason=record.reason,
        status="suspect" if doubts else "ok",
        reasons=doubts,
        remarks=(*best.remarks(), *_remarks(best, members, total, asymmetric=asymmetric)),
    )


def subtracted(total: Errors, remaining: Errors) -> Errors:
    """Subtract uncertainties in quadrature; None where one of them is missing."""

    def difference(total_error: float | None, part: float | None) -> float | None:
        if total_error is None or part is None:
            return None
        return float(np.sqrt(max(total_error**2 - part**2, 0.0)))

    return Errors(
        difference(total.error, remaining.error),
        difference(total.up, remaining.up),
        difference(total.down, remaining.down),
    )


def _errors(
    best: BestPoint, held_sets: Sequence[Sequence[str]], *, asymmetric: bool
) -> tuple[list[Errors], tuple[str, ...]]:
    """Compute the uncertainty with each set of parameters held; again if a fit ends lower.

    Returns
    -------
    tuple
        Uncertainties, and doubts.
    """
    names = list(best.fit.tests.batch.names[0])
    column_sets = [np.array([*map(names.index, held_set)], dtype=int) for held_set in held_sets]
    for _ in range(ROUNDS):
        covariances = [_covariance(best, held_columns) for held_columns in column_sets]
        poi = best.fit.tests.poi
        errors = [
            Errors(float(np.sqrt(matrix[poi, poi])) if matrix[poi, poi] > 0 else None)
            for matrix in covariances
        ]
        if not asymmetric:
            return errors, ()
        curves = [
            _curve(best, matrix, held_columns)
            for matrix, held_columns in zip(covariances, column_sets, strict=True)
        ]
        lowest = min(curves, key=lambda curve: float(curve.held_fits.nll.min())).held_fits
        position = lowest.lowest()
        asymmetric_errors = [
            _distances(curve, error) for curve, error in zip(curves, errors, strict=True)
        ]
        if position is None:
            return asymmetric_errors, ()
        best.lower(lowest.points[position])
    return asymmetric_errors, ("fits with groups held still end below the best fit",)


def _covariance(best: BestPoint, held_columns: NDArray[np.int64]) -> FloatArray:
    """Invert the Hessian at the best fit without what is held, ``(K, K)``.

    The parameter of interest counts as free where it is at its bound, as its error does elsewhere.
    """
    tests, fits = best.fit.tests, best.fit.fits
    point = fits.point.copy()
    if abs(point[0, tests.poi]) < OFF_ZERO:
        point[0, tests.poi] = OFF_ZERO
    ((_, hessian, frozen),) = tests.likelihood.hessians(fits, np.array([0]), point)
    mobile = ~frozen[0]
    mobile[tests.poi] = True
    mobile[held_columns] = False
    among = np.flatnonzero(mobile)
    covariance = np.zeros(hessian[0].shape)
    covariance[np.ix_(among, among)], _ = invert(hessian[0][np.ix_(among, among)])
    return covariance


def _curve(
    best: BestPoint, covariance: FloatArray, held_columns: NDArray[np.int64]
) -> ProfileCurve:
    """Follow the profile of the parameter of interest with other parameters held."""
    tests, fits = best.fit.tests, best.fit.fits
    curve = ProfileCurve(HeldFits(tests, fits, covariance, np.array([tests.poi]), held_columns))
    curve.extend(_ONE)
    curve.settle()
    curve.refine([_ONE])
    return curve


def _distances(curve: ProfileCurve, errors: Errors) -> Errors:
    """Add where a profile has risen by one."""
    interval = curve.interval(_ONE)
    up, down = (
        abs(end.value - curve.best) if end.state == "found" else None
        for end in (interval.upper, interval.lower)
    )
    return Errors(errors.error, up, down)


def _remarks(
    best: BestPoint, members: Mapping[str, Sequence[str]], total: Errors, *, asymmetric: bool
) -> list[str]:
    """Say what a reader of impacts should know."""
    remarks = []
    listed = [name for names in members.values() for name in names]
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        remarks.append(f"in more than one group: {', '.join(twice)}")
    empty = [group for group, names in members.items() if not names]
    if empty:
        remarks.append(
            f"these groups have no free parameter other than {best.poi}: {', '.join(empty)}"
        )
    at_bound = [
        entry.name
        for entry in best.fit.parameters
        if entry.state == "at_bound" and entry.name != best.poi
    ]
    if at_bound:
        remarks.append(f"at a bound, and held there by the Hessian: {', '.join(at_bound)}")
    if total.error is None:
        remarks.append(f"the Hessian gives no uncertainty of {best.poi}")
    if asymmetric and (total.up is None or total.down is None):
        sides = [name for name, side in (("up", total.up), ("down", total.down)) if side is None]
        remarks.append(
            f"{best.poi} reaches its bound before 2 NLL has risen by one: no {' or '.join(sides)} "
            "error"
        )
    return remarks
