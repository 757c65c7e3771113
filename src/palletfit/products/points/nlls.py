"""Eight NLLs of a point, on which learned likelihoods are trained.

They are those of two hypothesis tests at a signal strength of one: of the observed data, and of the
data that the background expects before any fit. Each test fits at a signal strength of zero and of
one, on its data and on the Asimov data of its background-only fit (Cowan et al., Eur. Phys. J. C 71
(2011) 1554). SModelS gives the results of learned likelihoods these names
(`smodels/statistics/nnInterface.py` of its version 3.2.1), and the sampling of its training sets
computes them with spey's `likelihood` and `asimov_likelihood`, whose definitions these are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palletfit.config import NLL_COLUMNS, FitSettings, PointSettings
from palletfit.engine.protocol import Engine
from palletfit.engine.records import HypotestResult, finite
from palletfit.engine.samples import Spec
from palletfit.errors import ConfigError, PalletfitError
from palletfit.pallet.patches import Patch


@dataclass(frozen=True)
class TwoTests:
    """Hypothesis tests of one point.

    Attributes
    ----------
    observed, expected
        Tests of the observed data, and of the expected data before any fit; of the latter the error
        if there is none, and None where it is not asked for.
    """

    observed: HypotestResult
    expected: HypotestResult | PalletfitError | None

    def added_to(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Add the NLLs to a summary of the observed data; say there if some are not trusted."""
        values: dict[str, float | None] = dict.fromkeys(NLL_COLUMNS)
        values |= _named("obs", self.observed)
        doubts: list[str] = []
        if isinstance(self.expected, PalletfitError):
            doubts.append(f"expected data: {self.expected.problem}")
        elif self.expected is not None:
            values |= _named("exp", self.expected)
            doubts += [
                f"expected data, {name} fit: {fit.reason}"
                for name, fit in self.expected.fits.items()
                if not fit.trusted
            ]
        plain: dict[str, Any] = {**summary, "nlls": finite(values)}
        if doubts:
            plain["status"] = "suspect"
            plain["reason"] = "; ".join(filter(None, [summary["reason"], *doubts]))
        return plain


def _named(data: str, test: HypotestResult) -> dict[str, float | None]:
    """Give the four NLLs of a test, with all constants that pyhf has."""
    fits = test.fits
    asimov = fits["asimov_fixed"].twice_nll
    return {
        f"nll_{data}_0": fits["background"].twice_nll / 2,
        f"nll_{data}_1": fits["fixed"].twice_nll / 2,
        # The minimum is known: it is the point that generated the data.
        f"nllA_{data}_0": (asimov - test.p_values.q_asimov) / 2,
        f"nllA_{data}_1": asimov / 2,
    }


def with_nlls(
    engine: Engine, patches: Sequence[Patch]
) -> Iterator[tuple[Patch, TwoTests | PalletfitError]]:
    """Test points on observed and on expected data.

    Yields
    ------
    tuple
        Each patch once, in their order, with both tests, or the error of that of the observed data.
    """
    expecting = engine.with_workspace(with_expected_data(engine.workspace))
    observed, expected = (
        {patch.name: test for patch, test in each.hypotests(patches, brief=True)}
        for each in (engine, expecting)
    )
    for patch in patches:
        test = observed[patch.name]
        if isinstance(test, PalletfitError):
            yield patch, test
        else:
            yield patch, TwoTests(test, expected[patch.name])


def with_expected_data(workspace: Spec) -> Spec:
    """Replace the observed events of a background by its own yields before any fit.

    Negative yields of a bin are none, as in spey's pyhf back end.
    """
    totals = {
        channel["name"]: [
            max(sum(events), 0.0)
            for events in zip(*(sample["data"] for sample in channel["samples"]), strict=True)
        ]
        for channel in workspace["channels"]
    }
    observations = [
        {**entry, "data": totals[entry["name"]]} if entry["name"] in totals else entry
        for entry in workspace["observations"]
    ]
    return {**workspace, "observations": observations}


def check_nlls(settings: FitSettings, points: PointSettings) -> None:
    """Refuse settings whose tests do not have these NLLs.

    Raises
    ------
    ConfigError
        They test another signal strength, or a discovery, or start from other points.
    """
    if points.search != "full":
        raise ConfigError(
            "`points.nlls` of an analysis need a search at every point, and the configuration has "
            f"`points.search: {points.search}`.",
            remedy="Set `points: {search: full}` in the configuration, or leave out `nlls`.",
        )
    if settings.mu != 1.0 or settings.test_statistic == "q0":
        raise ConfigError(
            "`points.nlls` are NLLs at a signal strength of one, and `fit` asks for another test.",
            remedy="Set `fit.mu: 1` and `fit.test_statistic: qtilde`, or leave out `points.nlls`.",
        )
