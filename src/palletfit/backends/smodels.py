"""SModelS with the fits of palletfit: its computer of limits, likelihoods and CLs of pyhf models.

SModelS 3.2 gives signals as yields in regions, and a ``PyhfUpperLimitComputer`` makes a patch of
them. :class:`UpperLimitComputer` takes its place, with the same arguments, methods and definitions.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from scipy.optimize import brentq
from smodels.base.smodelsLogging import logger
from smodels.statistics import statsTools
from smodels.statistics.basicStats import NllEvalType, aposteriori, apriori, clsType, observed
from smodels.statistics.pyhfInterface import PyhfData, PyhfUpperLimitComputer

from palletfit.backends.likelihood import (
    AsimovSet,
    DataSet,
    Minimum,
    SignalLikelihood,
    as_json,
    shared_background,
)
from palletfit.engine.asymptotics import PValues, p_values, profile_statistic
from palletfit.errors import PalletError

#: Lower bound of the signal strength where SModelS allows signals below zero.
_LOWEST = -5.0
#: Upper bound of the signal strength; it is raised in steps of ten, up to the largest one.
_UPPER, _LARGEST = 10.0, 1e12
#: Relative precision of upper limits.
_PRECISION = 1e-4


class UpperLimitComputer(PyhfUpperLimitComputer):  # type: ignore[misc]
    """Computes likelihoods, CLs and upper limits of one signal of SModelS.

    Parameters
    ----------
    data
        Signal yields by region, the background-only workspace, and its regions.
    cl
        Confidence level of upper limits.
    lumi
        Luminosity; SModelS keeps it here.

    Raises
    ------
    PalletError
        When it is asked: the workspace is none, or the batched engine does not support the model.
    """

    def __init__(self, data: PyhfData, cl: float = 0.95, lumi: Any = None) -> None:
        self.data, self.cl, self.lumi = data, cl, lumi
        self.name, self.dataType = data.jsonFileName, "pyhf"
        self.allowNegativeSignals = False
        self.nsignals = copy.deepcopy(data.nsignals)
        self.inputJson, self.includeCRs = data.inputJson, data.includeCRs
        self.channelsInfo = getattr(data, "channelsInfo", None)
        self.zeroSignalsFlag = data.zeroSignalsFlag
        self.patch = self.patchMaker()
        self.scale, self.sigma_mu = 1.0, None

    @cached_property
    def workspace(self) -> Any:
        """Full workspace of pyhf, for those who look at it."""
        return self.wsMaker()

    @cached_property
    def workspace_expected(self) -> Any:
        """Full workspace of pyhf whose data are the background's yields."""
        return self.wsMaker(apriori=True)

    @cached_property
    def _likelihood(self) -> SignalLikelihood:
        if self.data.errorFlag or self.patch is None:
            raise PalletError(
                "SModelS cannot make a patch of these signals; its messages say why.",
                remedy="Correct the regions of the signals, or the workspace.",
                file=self.name,
            )
        operations = json.loads(as_json(self.patch))
        return SignalLikelihood(shared_background(self.inputJson), operations)

    # ------------------------------------------------------------------ what SModelS asks

    def nll(
        self,
        mu: float = 1.0,
        evaluationType: NllEvalType = observed,  # noqa: N803
        asimov: float | None = None,
    ) -> float:
        """Compute the minimum of -log L at a signal strength.

        Parameters
        ----------
        mu
            Signal strength, which may be below zero.
        evaluationType
            Data: ``apriori`` for the background's yields before any fit, or the observed ones.
        asimov
            Use the Asimov data of this multiple of `mu` instead.
        """
        data = self._free(evaluationType)[0]
        if asimov is None:
            minimum = data.at(float(mu))
        else:
            minimum = self._asimov(data, float(asimov * mu)).at(float(mu))
        return self._warned(minimum, f"the fit at mu = {mu:g}").nll

    def nll_min(
        self,
        evaluationType: NllEvalType = observed,  # noqa: N803
        allowNegativeSignals: bool = False,  # noqa: N803
    ) -> dict[str, float]:
        """Compute the minimum of -log L, where it is, and the error of the signal strength."""
        data, minimum = self._free(evaluationType, negative=allowNegativeSignals)
        self._warned(minimum, "the free fit")
        return {
            "muhat": float(minimum.point[self._likelihood.poi]),
            "sigma_mu": self._error(data),
            "nll_min": minimum.nll,
        }

    def CLs(  # noqa: N802
        self,
        mu: float,
        evaluationType: NllEvalType,  # noqa: N803
        return_type: str = "CLs",
        nSigma: int = 0,  # noqa: N803
        reset_data: bool = True,  # noqa: ARG002
        **options: Any,
    ) -> float:
        """Compute CLs with the test statistic q-tilde.

        Parameters
        ----------
        mu
            Signal strength.
        evaluationType
            ``observed``; ``apriori`` for the background's yields before any fit as data;
            ``aposteriori`` for the median that the observed data let expect.
        return_type
            ``CLs``, ``1-CLs``, ``CLs-alpha`` or ``alpha-CLs``, with an alpha of 0.05.
        nSigma
            Other than zero: expected CLs, so many standard deviations from the median.
        """
        if options.get("pmSigma", 0) != 0:
            raise PalletError(
                "CLs of pyhf models are not varied by pmSigma.", remedy="Leave it out, or use zero."
            )
        return float(clsType(self._cls(float(mu), evaluationType, nSigma), return_type, 0.95))

    def getUpperLimitOnMu(  # noqa: N802
        self,
        evaluationType: NllEvalType = observed,  # noqa: N803
        nSigma: int = 0,  # noqa: N803
        **options: Any,
    ) -> float | None:
        """Find the upper limit on the signal strength; None where there is no signal.

        Parameters
        ----------
        evaluationType, nSigma
            See :meth:`CLs`.
        """
        options.pop("pmSigma", None)
        if options:
            logger.warning(f"pyhf computer will ignore {options}")
        if self.data.errorFlag or self.patch is None or not self._likelihood.alive:
            return None

        def excess(mu: float) -> float:
            return self._cls(mu, evaluationType, nSigma) - (1.0 - self.cl)

        data, minimum = self._free(evaluationType)
        low = high = max(float(minimum.point[self._likelihood.poi]), 0.0) + 2 * self._error(data)
        while excess(high) > 0:
            low, high = high, 3 * high
            if high > _LARGEST:
                logger.warning(f"{self.name}: no signal strength up to {low:g} is excluded")
                return None
        while low == high or excess(low) < 0:
            low /= 3
        return float(brentq(excess, low, high, rtol=_PRECISION, xtol=_PRECISION * low))

    # ------------------------------------------------------------------ fits

    def _free(self, evaluation: NllEvalType, *, negative: bool = False) -> tuple[DataSet, Minimum]:
        """Fit with a free signal strength, whose upper bound is beyond the minimum."""
        likelihood = self._likelihood
        batch = likelihood.batch
        main = likelihood.nominal if evaluation == apriori else batch.data[0]
        lower, upper = _LOWEST if negative else 0.0, _UPPER
        while True:
            data = likelihood.data_set(likelihood.conditions(main, batch.aux[0], (lower, upper)))
            minimum = data.free()
            if minimum.point[likelihood.poi] < 0.999 * upper or upper >= _LARGEST:
                return data, minimum
            upper *= 10

    def _asimov(self, data: DataSet, mu: float) -> AsimovSet:
        return self._likelihood.asimov(data.conditions, mu)

    def _error(self, data: DataSet) -> float:
        error = data.mu_error()
        if math.isfinite(error):
            return error
        logger.warning(f"{self.name}: the likelihood has no curvature in mu; its error is set to 1")
        return 1.0

    def _cls(self, mu: float, evaluation: NllEvalType, sigmas: int) -> float:
        """Compute observed or expected CLs."""
        if sigmas not in range(-2, 3):
            raise PalletError(
                f"There is no expected CLs of {sigmas} standard deviations.",
                remedy="Ask for one from -2 to 2.",
            )
        values = self._test(mu, evaluation)
        if sigmas:
            return float(values.CLs_exp[2 + sigmas])
        return float(values.CLs_exp[2] if evaluation == aposteriori else values.CLs_obs)

    def _test(self, mu: float, evaluation: NllEvalType) -> PValues:
        data, free = self._free(evaluation)
        fixed, background = data.at(mu), data.at(0.0)
        asimov = self._asimov(data, 0.0)
        for minimum, title in ((free, "the free fit"), (fixed, f"the fit at mu = {mu:g}")):
            self._warned(minimum, title)
        q = profile_statistic(
            "qtilde",
            mu,
            float(free.point[self._likelihood.poi]),
            2 * fixed.nll,
            2 * free.nll,
            2 * background.nll,
        )
        q_asimov = 2 * (asimov.at(mu).nll - asimov.free().nll)
        return p_values("qtilde", max(q, 0.0), max(q_asimov, 0.0))

    def _warned(self, minimum: Minimum, title: str) -> Minimum:
        """Warn of a minimum without proof."""
        if not minimum.trusted:
            logger.warning(f"{self.name}: {title} has no proven minimum: {minimum.reason}")
        return minimum


def install() -> None:
    """Let SModelS make all its fits of pyhf models with palletfit from now on."""
    statsTools.PyhfUpperLimitComputer = UpperLimitComputer


@contextmanager
def installed() -> Iterator[None]:
    """Let SModelS make its fits of pyhf models with palletfit for a while."""
    before = statsTools.PyhfUpperLimitComputer
    install()
    try:
        yield
    finally:
        statsTools.PyhfUpperLimitComputer = before
