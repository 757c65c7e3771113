"""The summary of the hypothesis test of one point among very many.

The fits are those of every hypothesis test, with all their starts and the same proof of each
minimum; of the evidence a few numbers are kept, and in words whatever is not as it should be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from palletfit.engine.derivative_records import Derivatives
from palletfit.engine.protocol import Engine
from palletfit.engine.records import HypotestResult, finite
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch
from palletfit.products.points.nlls import with_nlls


def compute(
    engine: Engine, patches: Sequence[Patch], settings: Mapping[str, Any]
) -> Iterator[tuple[Patch, dict[str, Any] | PalletfitError]]:
    """Hypothesis tests of all patches, each as a summary.

    Parameters
    ----------
    engine, patches
        Engine and points.
    settings
        With ``nlls`` the results have eight NLLs, too. With ``references`` the points are tested
        from these.
    """
    if settings.get("nlls"):
        for patch, test in with_nlls(engine, patches):
            if isinstance(test, PalletfitError):
                yield patch, test
            else:
                yield patch, test.added_to(summary(test.observed))
        return
    if "references" in settings:
        from palletfit.engine.warm import References
        from palletfit.engine.warm_tests import WarmHypotests

        references = References.from_json(settings["references"])
        results = engine.calculate(WarmHypotests(brief=True, references=references), patches)
    else:
        results = engine.hypotests(patches, brief=True)
    for patch, result in results:
        yield patch, result if isinstance(result, PalletfitError) else summary(result)


def summary(result: HypotestResult) -> dict[str, Any]:
    """Summarise one result in a few plain numbers.

    Returns
    -------
    dict
        ``status``, ``CLs_obs``, ``CLs_exp``, ``mu_hat``, ``mu_hat_error``; of its four fits the
        largest estimated distance to the minimum ``edm`` (in units of the NLL) and the smallest
        number of starts that agree in it, ``starts_agreed``; ``engine``; ``fit_time`` in seconds;
        as ``reason`` what a reader should know; and ``derivatives``, where they are asked for.
    """
    fits = result.fits
    doubts = [f"{name} fit: {fit.reason}" for name, fit in fits.items() if not fit.trusted]
    of_derivatives = result.derivatives.remarks if result.derivatives is not None else ()
    plain: dict[str, Any] = finite(
        {
            "status": result.status,
            "CLs_obs": result.p_values.CLs_obs,
            "CLs_exp": result.p_values.CLs_exp,
            "mu_hat": result.mu_hat,
            "mu_hat_error": result.mu_hat_error,
            "edm": max(fit.edm for fit in fits.values()),
            "starts_agreed": min(fit.agreed for fit in fits.values()),
            "engine": result.engine,
            "fit_time": result.build_time + result.fit_time,
            "reason": "; ".join([*doubts, *result.remarks, *of_derivatives]),
        }
    )
    if result.derivatives is not None:
        plain["derivatives"] = finite(_derivatives(result.derivatives))
    return plain


def _derivatives(derivatives: Derivatives) -> dict[str, Any]:
    """Give those of CLs and of the best fit, by channel and sample."""
    return {
        channel: {
            sample: {name: slopes[name] for name in ("CLs_obs", "CLs_exp", "mu_hat")}
            for sample, slopes in samples.items()
        }
        for channel, samples in derivatives.as_json()["channels"].items()
    }
