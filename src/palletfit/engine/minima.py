"""Results with both minima, where a likelihood has several, whichever engine makes the fits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.engine.records import HypotestResult, OtherFit, OtherMinimum

#: Ends of fits that differ by more in NLL are two minima.
DIFFERENT = 1e-5
NO_NEAREST = "no minimum is reached from the suggested values, so that the lowest one counts"
#: So many parameters at most are listed where minima differ, if by so many prefit widths.
_LISTED, _APART = 10, 0.1


def moved(
    names: Sequence[str | None], widths: FloatArray, counted: FloatArray, other: FloatArray
) -> dict[str, tuple[float, float]]:
    """List the parameters that differ most between two points, both values by name.

    Parameters
    ----------
    names
        Of the parameters, None for those that are not to be listed.
    widths, counted, other
        Prefit standard deviations, and the two points, ``(n,)``.
    """
    distance = np.abs(counted - other) / widths
    columns = [
        column
        for column in np.argsort(-distance, kind="stable")[:_LISTED]
        if distance[column] > _APART and names[column] is not None
    ]
    return {
        str(names[column]): (float(counted[column]), float(other[column])) for column in columns
    }


def with_other(
    result: HypotestResult,
    alternative: HypotestResult,
    minimum: str,
    statistic: str,
    parameters: Mapping[str, Mapping[str, tuple[float, float]]],
    incomparable: Collection[str] = (),
) -> HypotestResult:
    """Add what the other minimum gives to a result, and say so.

    Parameters
    ----------
    result, alternative
        With the minimum that counts, and with the other one.
    minimum
        Which one the other is: ``lowest`` or ``nearest``.
    statistic
        Test statistic; of a discovery the p-value is p0.
    parameters
        By name of the fit, from :func:`moved`.
    incomparable
        Fits to different data.
    """
    by_name = {}
    for name, fit in alternative.fits.items():
        above = fit.twice_nll - result.fits[name].twice_nll
        comparable = name not in incomparable
        if comparable and abs(above) <= 2 * DIFFERENT:
            continue
        by_name[name] = OtherFit(
            fit.twice_nll, above if comparable else None, dict(parameters[name])
        )
    other = OtherMinimum(minimum, alternative.p_values, alternative.mu_hat, by_name)
    return replace(result, remarks=(about_other(other, statistic), *result.remarks), other=other)


def about_other(other: OtherMinimum, statistic: str) -> str:
    """Remark on the result with the minimum that does not count, of a test statistic."""
    quantity = "p0" if statistic == "q0" else "CLs"
    return (
        f"the {other.minimum} minimum gives {quantity} {other.p_values.CLs_obs:.4g} observed, "
        f"{other.p_values.CLs_exp[2]:.4g} expected ({', '.join(other.fits)})"
    )
