"""The hypothesis test, whichever engine makes its fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palletfit.config import FitSettings
from palletfit.engine.asymptotics import p_values, profile_statistic
from palletfit.engine.records import Fit
from palletfit.errors import FitError, PalletError

BELOW_ZERO = (
    "mu-hat is negative, which the measurement's bounds allow: qtilde compares with mu = 0 "
    "(arXiv:1007.1727, eq. 16), where pyhf compares with mu-hat"
)
AT_UPPER_BOUND = "mu-hat is at its upper bound"


def tested_mu(settings: FitSettings) -> float:
    """Signal strength of the ``fixed`` fit; for discovery that of the Asimov data."""
    return 1.0 if settings.test_statistic == "q0" else settings.mu


def check_poi_bounds(mu: float, lower: float, upper: float, name: str) -> None:
    """Refuse a test outside of what the measurement allows.

    Raises
    ------
    PalletError
        `mu` or zero lies outside of the bounds of the parameter of interest.
    """
    if not lower <= 0.0 <= mu <= upper:
        raise PalletError(
            f"The tested mu = {mu:g} or the background-only mu = 0 lies outside the "
            f"bounds [{lower:g}, {upper:g}] that the measurement gives {name!r}.",
            remedy="Choose `fit.mu` inside the bounds.",
        )


def check_limit_bounds(lower: float, upper: float, name: str) -> None:
    """Refuse to look for an upper limit where the measurement leaves no room for one.

    Raises
    ------
    PalletError
        The bounds of the parameter of interest exclude zero, or everything above it.
    """
    check_poi_bounds(0.0, lower, upper, name)
    if upper <= 0:
        raise PalletError(
            f"The measurement allows no {name!r} above zero, so that there is nothing to limit.",
            remedy="Correct its bounds, or set `limits.mu_max`.",
        )


#: A remark, after what it is about.
CLIPPED = "the rate of a bin without events is below zero, and counts as zero"


def conclude(
    settings: FitSettings,
    fits: Mapping[str, Fit],
    *,
    q_asimov: float,
    noise: float,
    mu_upper: float,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """From the fits to p-values, with remarks.

    Parameters
    ----------
    settings
        Test statistic, tested signal strength.
    fits
        ``background``, ``free`` and ``fixed`` on the data, ``asimov_fixed`` on the Asimov data.
    q_asimov
        Test statistic on the Asimov data.
    noise
        Below this `q_asimov` is zero.
    mu_upper
        Upper bound of the parameter of interest.
    remarks
        What else is to be said.

    Returns
    -------
    dict
        ``p_values``, ``mu_hat``, ``fits``, ``remarks`` of a
        :class:`palletfit.engine.records.HypotestResult`.

    Raises
    ------
    FitError
        A fit has no finite minimum.
    """
    for name, fit in fits.items():
        if not np.isfinite(fit.twice_nll):
            raise FitError(
                f"The {name} fit found no finite minimum: {fit.reason}.",
                remedy="Look at the yields of this patch; try another optimizer or backend.",
            )
    all_remarks = [
        f"{name} fit: {len(fit.at_bounds)} nuisance parameters at a bound "
        f"({', '.join(fit.at_bounds[:5])})"
        for name, fit in fits.items()
        if fit.at_bounds
    ]
    all_remarks += remarks
    kind, mu_hat = settings.test_statistic, fits["free"].mu
    discovery = kind == "q0"
    if kind == "qtilde" and mu_hat < 0:
        all_remarks.append(BELOW_ZERO)
    tested = fits["background" if discovery else "fixed"]
    q = profile_statistic(
        kind,
        tested_mu(settings),
        mu_hat,
        tested.twice_nll,
        fits["free"].twice_nll,
        fits["background"].twice_nll,
    )
    if q_asimov <= noise:
        all_remarks.append("no sensitivity: the tested signal does not change the likelihood")
        q_asimov = 0.0
    elif not discovery and mu_hat >= mu_upper - 1e-8:
        all_remarks.append(AT_UPPER_BOUND)
    return {
        "p_values": p_values(kind, q, q_asimov),
        "mu_hat": mu_hat,
        "fits": dict(fits),
        "remarks": tuple(all_remarks),
    }
