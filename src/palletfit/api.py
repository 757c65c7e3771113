"""The library's front door: inference on published likelihoods, in one call each.

Everything here is also at the top of the package: ``palletfit.hypotest``, ``palletfit.fit`` and so
on. A workspace is a file or its content, and may be an HS3 document. Functions of many patches
share their arguments: the workspace and the patchset, as files or content; `patches`, shell
patterns of those that are wanted; `check`, whether files are validated; `progress`, whether the
standard error shows how far they are; and fields of :class:`palletfit.config.FitSettings`, such as
``engine="reference"``, which lets pyhf make all fits.

Without a patchset the workspace is complete, and there is one result: ``results.only``. A patchset
may also be the operations of one patch (JSON Patch, RFC 6902).

Fields of :class:`palletfit.engine.measurements.Question` ask another question than the workspace's
measurement does: `poi` chooses the parameter of interest, `fix` fixes parameters, `signal_in` adds
a signal of one event to a region. `channels` and `mask` choose channels and bins of the fit;
`asimov` and `blind` replace observations by expected ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from inspect import signature
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.config import (
    DiagnosticsSettings,
    DownloadSettings,
    FitSettings,
    LimitSettings,
    MuScanSettings,
    PointSettings,
    ToySettings,
    parse,
)
from palletfit.core.text import did_you_mean
from palletfit.engine.choose import make_engine, require_batched
from palletfit.engine.measurements import Question, ask, without_poi
from palletfit.engine.records import BestFit, HypotestResult
from palletfit.engine.selection import Selection, select
from palletfit.errors import ConfigError, FitError, PalletError, PalletfitError
from palletfit.pallet import patchset as pallet
from palletfit.pallet.hs3 import hs3_document, is_hs3, read_hs3, read_workspace, write_hs3
from palletfit.pallet.limits import check_depth
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import Patchset, parse_patchset, patch_name
from palletfit.results import Result, Results

if TYPE_CHECKING:
    from palletfit.core.progress import Progress
    from palletfit.engine.goodness import GoodnessOfFit
    from palletfit.engine.protocol import Engine
    from palletfit.learned.referee import ExactTest, Referee
    from palletfit.pallet.inspection import Inspection
    from palletfit.products.diagnostics.profile.contours import LikelihoodContours
    from palletfit.products.diagnostics.profile.impacts import GroupedImpacts
    from palletfit.products.diagnostics.profile.scan import LikelihoodScan
    from palletfit.products.diagnostics.pulls import Pulls
    from palletfit.products.diagnostics.records import Diagnostics
    from palletfit.products.diagnostics.yield_tables import YieldTables
    from palletfit.products.limits.compute import Limits
    from palletfit.products.mu_scan.compute import MuScan
    from palletfit.products.toys.results import ToyResult

__all__ = [
    "BestFit",
    "PointTests",
    "Results",
    "diagnose",
    "fit",
    "fits",
    "goodness_of_fit",
    "grouped_impacts",
    "hs3_document",
    "hypotest",
    "inspect",
    "likelihood_contours",
    "likelihood_scan",
    "mu_scan",
    "pulls",
    "read_hs3",
    "referee",
    "toys",
    "upper_limit",
    "upper_limits",
    "write_hs3",
    "yields",
]

#: A file, or its content.
Source = Path | str | Mapping[str, Any]
#: A patchset, or the operations of one patch; a file, or its content.
PatchSource = Source | Sequence[Mapping[str, Any]] | Patchset

#: Origin of settings in errors.
_ARGUMENTS = "the arguments of the call"
_TOYS = ("toy", "toys")


def hypotest(
    workspace: Source,
    patchset: PatchSource | None = None,
    mu: float = 1.0,
    *,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[HypotestResult]:
    """Test every signal patch of a published likelihood.

    Parameters
    ----------
    workspace, patchset
        Files, or their content; without a patchset the workspace is complete.
    mu
        Tested signal strength.
    patches
        Shell patterns of the patches to test.
    check
        Validate files against pyhf's schemas and the patchset's digest of the workspace.
    progress
        Show on the standard error how far the fits are.
    settings
        Further fields of :class:`palletfit.config.FitSettings`, such as
        ``test_statistic="q0"``, ``backend="jax"`` or ``engine="reference"``; and `poi`, `fix`,
        `signal_in`, `signal`, `uncertainties`, `channels`, `mask`, `asimov` and `blind`, see
        :class:`palletfit.engine.measurements.Question`.

    Returns
    -------
    Results
        Typed records by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> patchset = demo_patchset(workspace)
    >>> results = palletfit.hypotest(workspace, patchset, patches="DEMO_C1N2_Wh_700_*")
    >>> result = results["DEMO_C1N2_Wh_700_100"]
    >>> result.status, round(result.p_values.CLs_obs, 3)
    ('ok', 0.062)

    pyhf itself makes the fits of a cross-check:

    >>> name = "DEMO_C1N2_Wh_700_100"
    >>> check = palletfit.hypotest(workspace, patchset, patches=name, engine="reference")
    >>> check[name].engine
    'reference'
    >>> abs(check[name].p_values.CLs_obs - result.p_values.CLs_obs) < 1e-5
    True

    A complete workspace needs no patchset. This is the discovery of another parameter of interest,
    with p0 in `CLs_obs`:

    >>> test = palletfit.hypotest(workspace, poi="mu_ttbar", test_statistic="q0")
    >>> test.only.p_values.CLs_obs < 1e-6
    True

    A signal may be the yields of a model of one's own, here with an uncertainty of 20%:

    >>> mine = {"SR_high": [0.2, 0.9, 2.4]}
    >>> test = palletfit.hypotest(workspace, signal=mine, uncertainties={"theory": 0.2})
    >>> 0 < test.only.p_values.CLs_obs < 1
    True
    """
    task = _task(hypotest, workspace, patchset, patches, {**settings, "mu": mu}, check=check)
    return _gather(task, task.engine.hypotests, "hypotest" if progress else None)


class PointTests:
    """Hypothesis tests of very many signals of one likelihood, from a few that are tested in full.

    The search for lower minima is most of a test's cost. Here it is made for `signals` only; other
    signals are fitted from the minima of the nearest ones, and searched in full where these do not
    tell enough. One signal in a hundred is tested in full as well, and compared.

    Parameters
    ----------
    workspace
        File or content of a background-only workspace.
    signals
        Patchset of typical signals, some hundreds of them. What is computed depends on them, and
        not on their order.
    mu
        Tested signal strength.
    references
        So many of `signals` at most are chosen as references; those that disagree with them are
        added.
    check
        Validate files against pyhf's schemas.
    settings
        As of :func:`hypotest`.

    Attributes
    ----------
    references
        The chosen references.
    counts
        Signals so far, by how they were tested: ``warm``, and reasons of full tests; ``checked``
        are those that were tested both ways, and ``disagreed`` those with another result.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The settings ask for another engine, or for the nearest minimum.
    FitError
        No signal has proven minima.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> patchset = demo_patchset(workspace)
    >>> typical = {**patchset, "patches": patchset["patches"][::8]}
    >>> tests = palletfit.PointTests(workspace, typical, references=4)
    >>> name = "DEMO_C1N2_Wh_700_100"
    >>> result = tests.hypotest(patchset, patches=name)[name]
    >>> full = palletfit.hypotest(workspace, patchset, patches=name)[name]
    >>> abs(result.p_values.CLs_obs - full.p_values.CLs_obs) < 1e-6
    True
    """

    def __init__(
        self,
        workspace: Source,
        signals: PatchSource,
        mu: float = 1.0,
        *,
        references: int = 64,
        check: bool = True,
        **settings: Any,
    ) -> None:
        from palletfit.engine.warm_tests import choose_references

        self._workspace, self._question = workspace, {**settings, "mu": mu}
        task = _task(PointTests, workspace, signals, "*", self._question, check=check)
        self._engine = require_batched(task.engine, "tests from references")
        self.references = choose_references(self._engine, task.fitted, count=references)
        self.counts: Counter[str] = Counter()

    def hypotest(
        self, patchset: PatchSource, *, patches: str | Sequence[str] = "*", check: bool = True
    ) -> Results[HypotestResult]:
        """Test signals.

        Parameters
        ----------
        patchset
            File, or its content.
        patches, check
            See :func:`hypotest`.

        Returns
        -------
        Results
            As of :func:`hypotest`. A remark says which signals were searched in full, and why.

        Raises
        ------
        PalletError
            A file is not what it should be.
        """
        from palletfit.engine.warm_tests import WarmHypotests

        tests = WarmHypotests(references=self.references, counts=self.counts)
        task = _task(PointTests, self._workspace, patchset, patches, self._question, check=check)
        return _gather(task, lambda fitted: self._engine.calculate(tests, fitted), None)


def fit(
    workspace: Source,
    patch: Patch | Mapping[str, Any] | None = None,
    mu: float | None = None,
    **settings: Any,
) -> BestFit:
    """Fit one model to its data.

    Parameters
    ----------
    workspace
        File or content of a workspace.
    patch
        Signal patch, an entry of a patchset's ``patches``; None if the workspace is complete.
    mu
        Where the parameter of interest is fixed; None leaves it free.
    settings
        Further fields of :class:`palletfit.config.FitSettings`; and `poi`, `fix`, `signal_in`,
        `channels` and others, see :class:`palletfit.engine.measurements.Question`. With ``poi=""``
        the fit has no parameter of interest.

    Returns
    -------
    BestFit
        Parameters by name with their covariance, and the evidence for the minimum.

    Raises
    ------
    PalletError
        The patch does not apply, or the model is not supported.
    FitError
        No start led to a proven minimum.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> patch = demo_patchset(workspace)["patches"][0]
    >>> best = palletfit.fit(workspace, patch)
    >>> background = palletfit.fit(workspace, patch, mu=0.0)
    >>> background.twice_nll >= best.twice_nll
    True

    The background alone has no parameter of interest:

    >>> without_signal = palletfit.fit(workspace, poi="", fix={"lumi": 1.0})
    >>> abs(without_signal.twice_nll - background.twice_nll) < 1
    True

    A fit of control regions alone:

    >>> "staterror_SR_high[0]" in palletfit.fit(workspace, poi="", channels=["CR*"]).parameters
    False
    """
    task = _task_of_one(fit, workspace, patch, settings, needs_poi=False)
    return task.remarked(_fit(task, task.one, mu))


def fits(
    workspace: Source,
    patchset: PatchSource | None = None,
    mu: float | None = None,
    *,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[BestFit]:
    """Fit many models to their data, one after the other.

    Parameters
    ----------
    workspace, patchset
        Files, or their content; without a patchset the workspace is complete.
    mu
        Where the parameter of interest is fixed; None leaves it free.
    patches, check, progress, settings
        See :func:`hypotest`; ``poi=""`` as in :func:`fit`.

    Returns
    -------
    Results
        Best fits by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> best = palletfit.fits(workspace, demo_patchset(workspace), patches="DEMO_C1N2_Wh_700_0")
    >>> best["DEMO_C1N2_Wh_700_0"].parameters["mu_SIG"] >= 0
    True
    """
    task = _task(fits, workspace, patchset, patches, settings, check=check, needs_poi=False)
    answer = _one_by_one(lambda patch: _fit(task, patch, mu))
    return _gather(task, answer, "fit" if progress else None)


def pulls(
    workspace: Source,
    patchset: PatchSource | None = None,
    mu: float | None = None,
    *,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[Pulls]:
    """Compute the pulls of parameters in a fit.

    :func:`diagnose` adds impacts, correlations and yields.

    Parameters
    ----------
    workspace, patchset
        Files, or their content; without a patchset the workspace is complete.
    mu
        Where the parameter of interest is fixed; None leaves it free.
    patches, check, progress, settings
        See :func:`hypotest`; ``poi=""`` as in :func:`fit`.

    Returns
    -------
    Results
        Pulls by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The engine is not the batched one.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_workspace
    >>> background = palletfit.pulls(demo_workspace(), poi="").only
    >>> lumi = next(entry for entry in background.parameters if entry.name == "lumi")
    >>> abs(lumi.pull) < 1, lumi.state
    (True, 'free')
    """
    from palletfit.products.diagnostics.pulls import pulls as pulls_of

    task = _task(pulls, workspace, patchset, patches, settings, check=check, needs_poi=False)
    require_batched(task.engine, "pulls")
    answer = _one_by_one(lambda patch: pulls_of(task.engine, patch, task.fixed(mu, patch)))
    return _gather(task, answer, "pulls" if progress else None)


def yields(
    workspace: Source,
    patchset: PatchSource | None = None,
    mu: float | None = None,
    *,
    groups: Mapping[str, str | Sequence[str]] | None = None,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[YieldTables]:
    r"""Compute the yields of all channels before and after a fit, and their uncertainties.

    With `channels` and `mask` the fit is one of chosen regions, and the others are predicted: a fit
    of control regions gives the background in signal regions.

    Parameters
    ----------
    workspace, patchset
        Files, or their content; without a patchset the workspace is complete.
    mu
        Where the parameter of interest is fixed; None leaves it free. A parameter of interest that
        the fitted channels do not have is at its suggested value, or here.
    groups
        Groups of parameters whose uncertainties are shown together: names or shell patterns by the
        name of a group.
    patches, check, progress, settings
        See :func:`hypotest`; ``poi=""`` as in :func:`fit`.

    Returns
    -------
    Results
        Tables by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be, or a pattern of a group fits no parameter.
    ConfigError
        The engine is not the batched one.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_workspace
    >>> tables = palletfit.yields(demo_workspace(), poi="", channels=["CR*"]).only
    >>> signal_region = tables.channel("SR_high")
    >>> round(signal_region.prefit.model.total, 1), round(signal_region.postfit.model.total, 1)
    (12.1, 12.4)
    >>> tables.largest("SR_high")[1].parameter
    'JES_Modelling'
    >>> table = tables.to_dataframe(per_bin=True)
    >>> tables.to_latex().startswith(r"\begin{tabular}")
    True
    """
    from palletfit.products.diagnostics.predictions import predict, read_groups

    task = _task(yields, workspace, patchset, patches, settings, check=check, needs_poi=False)
    require_batched(task.engine, "yields")
    patterns = read_groups(groups)

    def one(patch: Patch) -> YieldTables:
        task.fixed(mu, patch)  # refuses a value of no parameter
        return predict(task.engine, patch, mu, task.selection, patterns)

    answer = _one_by_one(one)
    return _gather(task, answer, "yields" if progress else None)


def goodness_of_fit(
    workspace: Source,
    patchset: PatchSource | None = None,
    mu: float | None = None,
    *,
    count: int = 0,
    seed: int = ToySettings().seed,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[GoodnessOfFit]:
    """Test how well models describe their data, in the saturated model.

    Parameters
    ----------
    workspace, patchset
        Files, or their content; without a patchset the workspace is complete.
    mu
        Where the parameter of interest is fixed; None leaves it free.
    count
        Pseudo-experiments ("toys") that give the distribution of the statistic, beside the
        chi-squared distribution.
    seed
        Seed of their random numbers.
    patches, check, progress, settings
        See :func:`hypotest`; ``poi=""`` as in :func:`fit`.

    Returns
    -------
    Results
        The statistic, its degrees of freedom and p-values by patch name; reading a patch that
        failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        Toys are asked of the reference engine.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_workspace
    >>> goodness = palletfit.goodness_of_fit(demo_workspace(), poi="", count=100).only
    >>> goodness.degrees == goodness.bins - goodness.free
    True
    >>> 0 < goodness.p_value < 1 and 0 < goodness.toys.p_value < 1
    True
    """
    from palletfit.engine import goodness

    task = _task(
        goodness_of_fit, workspace, patchset, patches, settings, check=check, needs_poi=False
    )
    if count:
        require_batched(task.engine, "toys")
    counter = _shown("toys" if progress and count else None, count * len(task.fitted), _TOYS)

    def report(size: int) -> None:
        if bar is not None:
            bar.advance("ok", size)

    def one(patch: Patch) -> GoodnessOfFit:
        return goodness.goodness_of_fit(
            task.engine, patch, task.fixed(mu, patch), toys=count, seed=seed, report=report
        )

    with counter as bar:
        return _gather(task, _one_by_one(one), "fit" if progress and not count else None)


def upper_limit(
    workspace: Source,
    patch: Patch | Mapping[str, Any] | None = None,
    *,
    confidence_level: float = 0.95,
    tolerance: float = LimitSettings().tolerance,
    mu_max: float | None = None,
    **settings: Any,
) -> Limits:
    """Find the upper limits of one model: the observed and five expected ones.

    Parameters
    ----------
    workspace
        File or content of a workspace.
    patch
        Signal patch, an entry of a patchset's ``patches``; None if the workspace is complete.
    confidence_level
        Confidence level.
    tolerance
        How well limits are known, relative to them.
    mu_max
        Upper bound of the signal strength; None: that of the measurement.
    settings
        Further fields of :class:`palletfit.config.FitSettings`.

    Returns
    -------
    Limits
        The limits, with mu-hat.

    Raises
    ------
    PalletError
        The patch does not apply, or there is no limit within the bounds of its model.
    FitError
        A fit has no finite minimum.
    ConfigError
        The test statistic is that of a discovery.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> patch = demo_patchset(workspace)["patches"][0]
    >>> limits = palletfit.upper_limit(workspace, patch)
    >>> limits.observed.state, len(limits.expected)
    ('found', 5)
    """
    from palletfit.products.limits import compute

    task = _task_of_one(upper_limit, workspace, patch, settings)
    search = _limit_settings(tolerance, mu_max)
    ((_, limits),) = compute.upper_limits(task.engine, [task.one], confidence_level, search)
    if isinstance(limits, PalletfitError):
        raise limits
    return task.remarked(limits)


def upper_limits(
    workspace: Source,
    patchset: PatchSource | None = None,
    *,
    confidence_level: float = 0.95,
    tolerance: float = LimitSettings().tolerance,
    mu_max: float | None = None,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[Limits]:
    """Find the upper limits of every signal patch of a published likelihood.

    Parameters
    ----------
    workspace, patchset
        Files, or their content.
    confidence_level, tolerance, mu_max
        See :func:`upper_limit`.
    patches, check, progress, settings
        See :func:`hypotest`.

    Returns
    -------
    Results
        Limits by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The test statistic is that of a discovery.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> patchset = demo_patchset(workspace)
    >>> limits = palletfit.upper_limits(workspace, patchset, patches="DEMO_C1N2_Wh_700_*")
    >>> row = limits.rows()[0]
    >>> row["patch"], row["status"], row["mu_obs"] == limits[row["patch"]].observed.mu
    ('DEMO_C1N2_Wh_700_0', 'ok', True)
    """
    from palletfit.products.limits import compute

    task = _task(upper_limits, workspace, patchset, patches, settings, check=check)
    search = _limit_settings(tolerance, mu_max)

    def limits_of(subset: Sequence[Patch]) -> Iterator[tuple[Patch, Limits | PalletfitError]]:
        return compute.upper_limits(task.engine, subset, confidence_level, search)

    results = _gather(task, limits_of, "limits" if progress else None)
    return replace(results, confidence_level=confidence_level)


def mu_scan(
    workspace: Source,
    patchset: PatchSource | None = None,
    *,
    points: int = MuScanSettings().points,
    mu_range: tuple[float, float] | None = None,
    confidence_level: float = 0.95,
    tolerance: float = LimitSettings().tolerance,
    mu_max: float | None = None,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[MuScan]:
    """Compute CLs against the signal strength, with upper limits.

    Parameters
    ----------
    workspace, patchset
        Files, or their content.
    points
        Number of signal strengths, at equal distances.
    mu_range
        First and last signal strength; None: from zero to somewhat beyond the largest limit.
    confidence_level, tolerance, mu_max
        See :func:`upper_limit`.
    patches, check, progress, settings
        See :func:`hypotest`.

    Returns
    -------
    Results
        Scans by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The test statistic is that of a discovery.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> patchset = demo_patchset(workspace)
    >>> scans = palletfit.mu_scan(workspace, patchset, points=5, patches="DEMO_C1N2_Wh_700_0")
    >>> scan = scans["DEMO_C1N2_Wh_700_0"]
    >>> [point.p_values.CLs_obs > 0.05 for point in scan.points]
    [True, True, False, False, False]
    """
    from palletfit.products.mu_scan import compute

    task = _task(mu_scan, workspace, patchset, patches, settings, check=check)
    mu_values = None if mu_range is None else list(mu_range)
    grid = parse(MuScanSettings, {"points": points, "range": mu_values}, file=_ARGUMENTS)
    search = _limit_settings(tolerance, mu_max)

    def scans_of(subset: Sequence[Patch]) -> Iterator[tuple[Patch, MuScan | PalletfitError]]:
        return compute.scans(task.engine, subset, confidence_level, grid, search)

    results = _gather(task, scans_of, "scans" if progress else None)
    return replace(results, confidence_level=confidence_level)


def diagnose(
    workspace: Source,
    patchset: PatchSource | None = None,
    *,
    impacts: bool = True,
    parameters: Sequence[str] = ("*",),
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[Diagnostics]:
    """Diagnose the fits of patches: pulls, impacts, correlations, yields, and significance.

    Parameters
    ----------
    workspace, patchset
        Files, or their content.
    impacts
        Compute impacts on mu-hat: four fits for each parameter.
    parameters
        Shell patterns of the parameters whose impacts are computed.
    patches, check, progress, settings
        See :func:`hypotest`.

    Returns
    -------
    Results
        Diagnostics by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The engine is not the batched one.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> name = "DEMO_C1N2_Wh_700_0"
    >>> diagnoses = palletfit.diagnose(workspace, demo_patchset(workspace), patches=name)
    >>> diagnoses[name].status, diagnoses[name].impacts[0].size > 0
    ('ok', True)
    """
    from palletfit.products.diagnostics import compute

    task = _task(diagnose, workspace, patchset, patches, settings, check=check)
    chosen = {"impacts": impacts, "parameters": list(parameters)}
    scope = parse(DiagnosticsSettings, chosen, file=_ARGUMENTS)

    def diagnose_some(
        subset: Sequence[Patch],
    ) -> Iterator[tuple[Patch, Diagnostics | PalletfitError]]:
        return compute.diagnose(task.engine, subset, scope)

    return _gather(task, diagnose_some, "diagnostics" if progress else None)


def likelihood_scan(
    workspace: Source,
    patchset: PatchSource | None = None,
    parameter: str | None = None,
    *,
    points: int | Sequence[float] = 41,
    range: tuple[float, float] | None = None,  # noqa: A002
    levels: Sequence[float] | None = None,
    mu: float | None = None,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[LikelihoodScan]:
    """Scan the likelihood in one parameter, everything else fitted again at each value.

    Parameters
    ----------
    workspace, patchset
        Files, or their content; without a patchset the workspace is complete.
    parameter
        Name of the parameter, in pyhf's notation; None: the parameter of interest.
    points
        Number of values, at equal distances; or the values.
    range
        First and last value; None: somewhat more than the widest interval.
    levels
        2 NLL above the best fit of the intervals; None: 1 and 3.84, which are 68% and 95%.
    mu
        Where the parameter of interest is fixed; None leaves it free.
    patches, check, progress, settings
        See :func:`hypotest`; ``poi=""`` as in :func:`fit`.

    Returns
    -------
    Results
        Scans with their intervals by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The engine is not the batched one; or points, range or levels make no sense.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_workspace
    >>> scans = palletfit.likelihood_scan(demo_workspace(), poi="", parameter="lumi", points=5)
    >>> at68, at95 = scans.only.intervals
    >>> round(at68.lower.value, 3), round(at95.upper.value, 3), at95.upper.state
    (0.983, 1.033, 'found')
    """
    from palletfit.products.diagnostics.profile import scan

    task = _task(
        likelihood_scan, workspace, patchset, patches, settings, check=check, needs_poi=False
    )
    require_batched(task.engine, "scans of the likelihood")
    question: dict[str, Any] = {
        "points": points,
        "value_range": range,
        "levels": scan.LEVELS if levels is None else levels,
    }

    def one(patch: Patch) -> LikelihoodScan:
        fixed = task.fixed(mu, patch)
        return scan.likelihood_scan(task.engine, patch, parameter, **question, mu=fixed)

    return _gather(task, _one_by_one(one), "scans" if progress else None)


def likelihood_contours(
    workspace: Source,
    patchset: PatchSource | None = None,
    x: str | None = None,
    y: str | None = None,
    *,
    points: int = 25,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    levels: Sequence[float] | None = None,
    mu: float | None = None,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[LikelihoodContours]:
    """Find contours of the likelihood in two parameters, everything else fitted at each point.

    Parameters
    ----------
    workspace, patchset
        Files, or their content; without a patchset the workspace is complete.
    x, y
        Names of the parameters, in pyhf's notation.
    points
        Values of each of the two on the grid.
    x_range, y_range
        First and last values; None: somewhat more than the widest region.
    levels
        2 NLL above the best fit of the contours; None: 2.30 and 5.99, which are 68% and 95% in
        two dimensions.
    mu
        Where the parameter of interest is fixed; None leaves it free.
    patches, check, progress, settings
        See :func:`hypotest`; ``poi=""`` as in :func:`fit`.

    Returns
    -------
    Results
        Contours by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The engine is not the batched one; or parameters, points, ranges or levels make no sense.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_workspace
    >>> question = {"poi": "", "x": "mu_ttbar", "y": "lumi", "points": 5, "levels": [1.0]}
    >>> contours = palletfit.likelihood_contours(demo_workspace(), **question).only
    >>> (line,) = contours.contours[0].lines
    >>> line.closed, contours.contours[0].miss < 0.01
    (True, True)
    """
    from palletfit.products.diagnostics.profile import contours

    task = _task(
        likelihood_contours, workspace, patchset, patches, settings, check=check, needs_poi=False
    )
    require_batched(task.engine, "contours of the likelihood")
    if x is None or y is None:
        raise ConfigError(
            "Contours need two parameters.", remedy="Name them with `x` and `y`.", file=_ARGUMENTS
        )
    names = x, y
    question: dict[str, Any] = {
        "points": points,
        "x_range": x_range,
        "y_range": y_range,
        "levels": contours.LEVELS if levels is None else levels,
    }

    def one(patch: Patch) -> LikelihoodContours:
        fixed = task.fixed(mu, patch)
        return contours.likelihood_contours(task.engine, patch, *names, **question, mu=fixed)

    return _gather(task, _one_by_one(one), "contours" if progress else None)


def grouped_impacts(
    workspace: Source,
    patchset: PatchSource | None = None,
    groups: Mapping[str, str | Sequence[str]] | None = None,
    *,
    asymmetric: bool = False,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[GroupedImpacts]:
    """Compute the parts of groups of parameters in the uncertainty of mu-hat.

    Parameters
    ----------
    workspace, patchset
        Files, or their content; without a patchset the workspace is complete.
    groups
        Shell patterns of parameters by the name of the group; None: groups by kind, and
        systematic uncertainties by the first words of their names.
    asymmetric
        Add asymmetric errors, from where 2 NLL is one above the best fit: slower.
    patches, check, progress, settings
        See :func:`hypotest`.

    Returns
    -------
    Results
        Impacts by patch name; reading a patch that failed raises its error.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The engine is not the batched one, or there is no group.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_workspace
    >>> groups = {"jets": "JES_*", "simulation": ["staterror_*"]}
    >>> parts = palletfit.grouped_impacts(demo_workspace(), groups=groups, poi="mu_ttbar").only
    >>> [group.name for group in parts.groups]
    ['jets', 'simulation']
    >>> total = parts.statistical.error**2 + parts.systematic.error**2
    >>> abs(total - parts.total.error**2) < 1e-12
    True
    """
    from palletfit.products.diagnostics.profile import impacts

    task = _task(grouped_impacts, workspace, patchset, patches, settings, check=check)
    require_batched(task.engine, "grouped impacts")

    def one(patch: Patch) -> GroupedImpacts:
        return impacts.grouped_impacts(task.engine, patch, groups, asymmetric=asymmetric)

    return _gather(task, _one_by_one(one), "impacts" if progress else None)


def toys(
    workspace: Source,
    patchset: PatchSource | None = None,
    mu: float = 1.0,
    *,
    count: int = ToySettings().toys,
    seed: int = ToySettings().seed,
    descents: int = ToySettings().descents,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Results[ToyResult]:
    """Compute CLs from pseudo-experiments ("toys").

    Parameters
    ----------
    workspace, patchset
        Files, or their content.
    mu
        Tested signal strength.
    count
        Toys of each of both hypotheses.
    seed
        Seed of the random numbers.
    descents
        From how many further points each fit looks for other minima.
    patches, check, progress, settings
        See :func:`hypotest`.

    Returns
    -------
    Results
        CLs with statistical uncertainties by patch name; reading a patch that failed raises its
        error.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The engine is not the batched one, or there are no such toys.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> name = "DEMO_C1N2_Wh_700_100"
    >>> results = palletfit.toys(workspace, demo_patchset(workspace), count=100, patches=name)
    >>> results[name].toys, 0 <= results[name].CLs_obs <= 1
    (100, True)
    """
    from palletfit.engine.toys.draws import BLOCK
    from palletfit.products.toys.compute import Toys
    from palletfit.products.toys.results import merge

    task = _task(toys, workspace, patchset, patches, {**settings, "mu": mu}, check=check)
    batched = require_batched(task.engine, "toys")
    toy_settings = parse(ToySettings, {"seed": seed, "descents": descents}, file=_ARGUMENTS)
    counter = _shown("toys" if progress else None, count * len(task.fitted), _TOYS)

    def one(patch: Patch) -> ToyResult:
        maker = Toys(batched, patch, toy_settings)
        shards = []
        for first in range(0, count, BLOCK):
            size = min(BLOCK, count - first)
            shards.append(maker.shard(first, size))
            if bar is not None:
                bar.advance("ok", size)
        return merge(shards)

    with counter as bar:
        return _gather(task, _one_by_one(one), None)


def referee(
    model: Path | str,
    workspace: Source,
    patchset: PatchSource | None = None,
    *,
    points: Path | str | None = None,
    random: int = 0,
    seed: int = 1,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    conventions: Mapping[str, Any] | None = None,
    yields_only: bool = False,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Referee:
    """Compare a learned likelihood with the exact one, point by point.

    Parameters
    ----------
    model
        Network, an ONNX file.
    workspace, patchset
        Files, or their content: the likelihood that it was trained for, and signals.
    points
        CSV or Parquet file of signal yields instead of a patchset, as an analysis has it.
    random, seed, ranges
        Number of signals that are drawn instead; seed of the random numbers; smallest and largest
        events by channel or bin, or by ``*``, where the network's file has no training range.
    conventions
        Fields of :class:`palletfit.learned.conventions.Conventions`: what inputs and outputs are,
        where the metadata of SModelS do not say it.
    yields_only
        Test the yields of patches without their uncertainties, as far as the network knows them.
    patches, check, progress, settings
        See :func:`hypotest`; `uncertainties` are those of all yields of a point.

    Returns
    -------
    Referee
        Errors of NLLs and CLs, and all points.

    Raises
    ------
    PalletError
        A file is not what it should be.
    ConfigError
        The package `onnx` is missing, there are no points, or nobody says what inputs and outputs
        are.
    """
    from palletfit.learned.likelihood import LearnedLikelihood, signals_of
    from palletfit.learned.referee import exact_tests, judge
    from palletfit.learned.signals import Signals
    from palletfit.products.points.nlls import check_nlls

    drawn = points is not None or random != 0
    if (patchset is not None and drawn) or (points is not None and random != 0):
        raise ConfigError(
            "There are several sources of points.",
            remedy="Give only one of `patchset`, `points` and `random`.",
        )
    if ranges and random == 0:
        raise ConfigError(
            "`ranges` is of signals that are drawn, and none is drawn.",
            remedy="Leave it out, or give a number of signals as `random` instead of a patchset or "
            "a table.",
        )
    uncertainties = settings.get("uncertainties") or {}
    if drawn or yields_only:
        settings = {name: value for name, value in settings.items() if name != "uncertainties"}
    if drawn:
        _check_settings(referee, settings)
        content = _content(workspace)
        if check:
            _check_workspace(content, _title(workspace, "workspace"))
        task = _task_for(content, (), (), settings, needs_poi=True)
    else:
        task = _task(referee, workspace, patchset, patches, settings, check=check)
    check_nlls(task.engine.settings, PointSettings())
    background = task.engine.workspace
    learned = LearnedLikelihood.of(Path(model), background, task.poi, conventions)
    makes = Signals(learned, background, task.engine.settings, uncertainties)
    if points is not None:
        task = task.with_patches(makes.of_table(Path(points)))
    elif drawn:
        task = task.with_patches(makes.at_random(random, seed, ranges or {}))
    signals = signals_of(background, task.fitted, task.poi, learned.bins)
    if yields_only and not drawn:
        errors = {name: error for name, error in signals.items() if isinstance(error, Exception)}
        task = task.with_fitted(makes.of_yields(signals), errors)
    expected = any("_exp_" in name for name in learned.conventions.outputs)
    results: Results[ExactTest] = _gather(
        task,
        lambda fitted: exact_tests(task.engine, fitted, expected=expected),
        "referee" if progress else None,
    )
    exact = {name: results.errors.get(name) or results.results[name] for name in results.values_of}
    return judge(learned, exact, {**results.errors, **signals})


def inspect(
    source: Path | str,
    *,
    any_digest: bool = False,
    name: str | None = None,
    download: DownloadSettings | None = None,
) -> Inspection:
    """Find the likelihoods in a source, and propose analyses of them.

    Parameters
    ----------
    source
        DOI of a HEPData resource, address, archive, folder, file, or name of the catalogue.
    any_digest
        Take patchsets without a digest of their workspace, or with a wrong one, by what applies.
    name
        Name of the analysis; None: that of the source.
    download
        Download cache, allowed hosts, and limits of archives.

    Returns
    -------
    Inspection
        ``table()`` is a text, ``analysis()`` the content of the proposed analysis file, and
        ``write()`` writes it.

    Raises
    ------
    ArchiveError
        An archive is hostile or damaged.
    ConfigError, DownloadError
        The source does not exist, or cannot be fetched.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import palletfit
    >>> from palletfit.pallet.demo.electroweak import make_demo_pallet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     archive = Path(folder) / "demo.tar.gz"
    ...     _ = make_demo_pallet(archive)
    ...     inspection = palletfit.inspect(archive)
    >>> inspection.analysis()["labels"]
    ['m1', 'm2']
    """
    from palletfit.pallet import inspection

    return inspection.inspect(source, any_digest=any_digest, name=name, settings=download)


# --------------------------------------------------------------------------- in and out


@dataclass(frozen=True)
class _Task:
    """Patches, and the engine that answers for them.

    Attributes
    ----------
    engine
        Engine of the workspace whose measurement asks the question.
    patches, labels
        Patches as they were given, and the labels of their values.
    selection
        Parameter of interest, chosen regions, and patches that have no such fit.
    """

    engine: Engine
    patches: Sequence[Patch]
    labels: Sequence[str]
    selection: Selection

    @property
    def fitted(self) -> tuple[Patch, ...]:
        """Patches of the engine's workspace."""
        return self.selection.fitted.patches

    @property
    def one(self) -> Patch:
        """The first patch; reading it raises its error if it has none."""
        for error in self.selection.refused.values():
            raise error
        return self.fitted[0]

    @property
    def poi(self) -> str:
        """Parameter of interest; empty where there is none."""
        return self.selection.poi

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on the question, which stand with every result."""
        return self.selection.remarks

    def with_patches(self, patches: Sequence[Patch]) -> _Task:
        """Ask about other patches of the engine's workspace."""
        return replace(self, patches=tuple(patches), labels=()).with_fitted(patches, {})

    def with_fitted(self, patches: Sequence[Patch], errors: Mapping[str, PalletfitError]) -> _Task:
        """Fit other patches of the same names; some have an error instead."""
        fitted = replace(self.selection.fitted, patches=tuple(patches))
        refused = {**self.selection.refused, **errors}
        return replace(self, selection=replace(self.selection, fitted=fitted, refused=refused))

    def fixed(self, mu: float | None, patch: Patch) -> float | None:
        """Give the value where the parameter of interest is fixed, of one that there is."""
        if mu is not None and not (isinstance(mu, Real) and math.isfinite(mu)):
            raise ConfigError(
                f"The parameter of interest cannot be fixed at {mu!r}.",
                remedy="Give a finite number as `mu`, or leave it out.",
            )
        if patch.name in self.selection.without_poi:
            return 0.0  # no chosen channel depends on it
        if self.poi:
            return mu
        if mu is not None:
            raise ConfigError(
                f"There is no parameter of interest that could be fixed at {mu:g}.",
                remedy="Choose one with `poi`, or leave out `mu`.",
            )
        return 0.0

    def remarked(self, result: Result) -> Result:
        """Add the remarks on the question to a result."""
        if not self.remarks:
            return result
        remarks = (*self.remarks, *result.remarks)  # type: ignore[attr-defined]
        return replace(result, remarks=remarks)  # type: ignore[type-var]


def _task(
    call: Callable[..., Any],
    workspace: Source,
    patchset: PatchSource | None,
    patches: str | Sequence[str],
    settings: Mapping[str, Any],
    *,
    check: bool,
    needs_poi: bool = True,
) -> _Task:
    """Read a workspace and the chosen patches, and make the engine that answers the question."""
    _check_settings(call, settings)
    content = _content(workspace)
    patterns = [patches] if isinstance(patches, str) else list(patches)
    if patchset is None:
        if patterns != ["*"]:
            raise ConfigError(
                f"There is no patchset from which `patches={patches!r}` could choose.",
                remedy="Give the patchset, or leave out `patches`.",
            )
        if check:
            _check_workspace(content, _title(workspace, "workspace"))
        return _task_for(content, None, (), settings, needs_poi=needs_poi)
    parsed = _patchset(content, patchset, workspace, check=check)
    chosen = _chosen(parsed, patterns, patchset)
    return _task_for(content, chosen, parsed.labels, settings, needs_poi=needs_poi)


def _chosen(
    parsed: Patchset, patches: str | Sequence[str], patchset: PatchSource
) -> tuple[Patch, ...]:
    """Choose patches by names or patterns."""
    patterns = [patches] if isinstance(patches, str) else list(patches)
    if not patterns:
        raise ConfigError(
            "`patches` is an empty list, which chooses no patch.",
            remedy="Name patches or patterns, or leave `patches` out for all of them.",
        )
    for pattern in patterns:
        if not parsed.select([pattern]):
            names = [patch.name for patch in parsed.patches]
            raise PalletError(
                f"No patch has the name {pattern!r}, or fits it as a pattern.",
                remedy=f"{did_you_mean(pattern, names)}There are {len(names)} patches, such as "
                f"{', '.join(map(repr, names[:3]))}.",
                file=_title(patchset, "patchset"),
            )
    return tuple(parsed.select(patterns))


def _check_settings(call: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Refuse names that are neither settings nor arguments of the call.

    Raises
    ------
    ConfigError
        A name is unknown; the remedy offers close ones.
    """
    names = [*FitSettings.model_fields, *(entry.name for entry in fields(Question))]
    for name in settings:
        if name not in names:
            arguments = [*signature(call).parameters][:-1]
            raise ConfigError(
                f"{call.__name__} has no argument or setting {name!r}.",
                remedy=f"{did_you_mean(name, [*names, *arguments])}The settings are "
                f"{', '.join(sorted(names))}; help(palletfit.{call.__name__}) explains all.",
                file=_ARGUMENTS,
            )


def _task_of_one(
    call: Callable[..., Any],
    workspace: Source,
    patch: Patch | Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    *,
    needs_poi: bool = True,
) -> _Task:
    """Read a workspace, and make the engine that answers for one patch."""
    _check_settings(call, settings)
    chosen = None if patch is None else [_patch(patch)]
    return _task_for(_content(workspace), chosen, (), settings, needs_poi=needs_poi)


def _task_for(
    content: Mapping[str, Any],
    patches: Sequence[Patch] | None,
    labels: Sequence[str],
    settings: Mapping[str, Any],
    *,
    needs_poi: bool,
) -> _Task:
    """Let the measurement ask the question that is in the settings; no patches: it is complete."""
    of_question = {entry.name for entry in fields(Question)}
    question = Question(**{name: value for name, value in settings.items() if name in of_question})
    of_fits = {name: value for name, value in settings.items() if name not in of_question}
    fit_settings = parse(FitSettings, of_fits, file=_ARGUMENTS)
    prepared = ask(content, fit_settings.measurement, question, patches, needs_poi=needs_poi)
    selection = select(prepared, question, patches, fit_settings, needs_poi=needs_poi)
    engine = make_engine(selection.fitted.workspace, fit_settings)
    complete = [Patch(name="", values=(), operations=())]
    return _Task(engine, complete if patches is None else patches, labels, selection)


def workspace_of(workspace: Source, *, check: bool) -> Mapping[str, Any]:
    """Read a workspace that a call was given.

    Raises
    ------
    PalletError
        It is not what it should be.
    """
    content: Mapping[str, Any] = _content(workspace)
    if check:
        _check_workspace(content, _title(workspace, "workspace"))
    return content


def fit_settings_of(call: Callable[..., Any], settings: Mapping[str, Any]) -> FitSettings:
    """Read the settings of fits that a call was given, which asks no other question.

    Raises
    ------
    ConfigError
        One is unknown, or wrong.
    """
    _check_settings(call, settings)
    return parse(FitSettings, dict(settings), file=_ARGUMENTS)


def _patchset(
    content: Mapping[str, Any], patchset: PatchSource, workspace: Source, *, check: bool
) -> Patchset:
    """Read a patchset; a list is the operations of one patch."""
    spec = _content(patchset)
    paths = _title(workspace, "workspace"), _title(patchset, "patchset")
    _check_kind(content, paths[0])
    if isinstance(spec, Mapping) and "channels" in spec and "patches" not in spec:
        raise PalletError(
            "The file is a workspace, and not a patchset.",
            remedy="Give the background-only workspace first, and its patchset as the patchset; a "
            "complete workspace needs none.",
            file=paths[1],
        )
    if isinstance(spec, (Patchset, Sequence)):
        if check:
            _check_workspace(content, paths[0])
        if isinstance(spec, Patchset):
            return spec
        check_depth(spec, paths[1])
        name = paths[1].name.removesuffix(".gz").removesuffix(".json")
        return Patchset(labels=(), patches=(Patch(name, (), spec),))
    if check:
        return pallet.check(content, spec, None, *paths)
    return parse_patchset(spec, paths[1])


def _check_workspace(content: Any, path: Path) -> None:
    """Check a workspace, and recognise what is given instead of one."""
    _check_kind(content, path)
    pallet.check_workspace(content, path)


def _check_kind(content: Any, path: Path) -> None:
    """Recognise what is given instead of a workspace."""
    if isinstance(content, Mapping) and "patches" in content and "channels" not in content:
        raise PalletError(
            "The file is a patchset, and not a workspace.",
            remedy="Give its background-only workspace first, and this file as the patchset.",
            file=path,
        )
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, Mapping) and "op" in first:
        raise PalletError(
            "The file holds the operations of a patch, and not a workspace.",
            remedy="Give its background-only workspace first, and this file as the patch.",
            file=path,
        )


def _title(source: PatchSource, title: str) -> Path:
    """Give the file that errors name."""
    return Path(source) if isinstance(source, (str, Path)) else Path(title)


def _content(source: PatchSource) -> Any:
    """Read what is a file; an HS3 document becomes a workspace."""
    if isinstance(source, (str, Path)):
        return read_workspace(Path(source))
    return read_hs3(source) if isinstance(source, Mapping) and is_hs3(source) else source


def _patch(patch: Patch | Mapping[str, Any]) -> Patch:
    """Read an entry of a patchset."""
    if isinstance(patch, Patch):
        return patch
    return Patch(patch_name(patch), (), patch["patch"])


def _limit_settings(tolerance: float, mu_max: float | None) -> LimitSettings:
    return parse(LimitSettings, {"tolerance": tolerance, "mu_max": mu_max}, file=_ARGUMENTS)


def _fit(task: _Task, patch: Patch, mu: float | None) -> BestFit:
    return without_poi(task.engine.fit(patch, task.fixed(mu, patch)))


#: Answers for patches.
_Answer = Callable[[Sequence[Patch]], Iterable[tuple[Patch, Result | PalletfitError]]]


def _one_by_one(one: Callable[[Patch], Result]) -> _Answer[Result]:
    """Make the answers for patches of that for one; an error is that patch's alone."""

    def answers(patches: Sequence[Patch]) -> Iterator[tuple[Patch, Result | PalletfitError]]:
        for patch in patches:
            try:
                yield patch, one(patch)
            except ConfigError:
                raise  # concerns all of them
            except PalletfitError as error:
                error.patch = patch.name or None
                yield patch, error

    return answers


@contextmanager
def _shown(title: str | None, total: int, unit: tuple[str, str]) -> Iterator[Progress | None]:
    """Show progress, unless there is no title or little to count."""
    if title is None or total < 2:
        yield None
        return
    from palletfit.core.progress import Progress

    with Progress(title, total=total, kept=0, unit=unit) as progress:
        yield progress


def _gather(task: _Task, answer: _Answer[Result], title: str | None) -> Results[Result]:
    """Sort the answers for patches into results and errors, in the order of the patches.

    Parameters
    ----------
    task
        Patches.
    answer
        Answers for some of them.
    title
        Title of the progress that is shown; None shows none.
    """
    with _shown(title, len(task.patches), ("patch", "patches")) as progress:
        by_name = {**task.selection.refused, **_answers(task.fitted, _counted(answer, progress))}
    results: dict[str, Result] = {}
    errors: dict[str, PalletfitError] = {}
    for patch in task.patches:
        outcome = by_name[patch.name]
        if isinstance(outcome, PalletfitError):
            outcome.patch = patch.name or None
            errors[patch.name] = outcome
        else:
            results[patch.name] = task.remarked(outcome)
    values = {patch.name: patch.values for patch in task.patches}
    return Results(results, errors, values, task.labels)


def _counted(answer: _Answer[Result], progress: Progress | None) -> _Answer[Result]:
    """Count the answers where progress is shown."""
    if progress is None:
        return answer

    def counting(patches: Sequence[Patch]) -> Iterator[tuple[Patch, Result | PalletfitError]]:
        for patch, outcome in answer(patches):
            if isinstance(outcome, PalletfitError):
                progress.advance("failed")
            else:
                progress.advance(str(outcome.row()["status"]))
            yield patch, outcome

    return counting


def _answers(
    patches: Sequence[Patch], answer: _Answer[Result]
) -> dict[str, Result | PalletfitError]:
    """Ask for the answers for patches, by name; an unexpected error of one is that one's alone."""
    by_name: dict[str, Result | PalletfitError] = {}
    try:
        for patch, outcome in answer(patches):
            by_name[patch.name] = outcome
    except PalletfitError:
        raise  # concerns all of them, such as a setting
    except Exception as error:  # noqa: BLE001
        missing = [patch for patch in patches if patch.name not in by_name]
        if len(patches) > 1:
            # Which one it was shows when each is fitted alone.
            for patch in missing:
                by_name |= _answers([patch], answer)
        else:
            unexpected = FitError(
                f"The fit raised an unexpected error: {type(error).__name__}: {error}.",
                remedy="Report it with this patch; others are not affected.",
                patch=patches[0].name,
            )
            unexpected.__cause__ = error
            by_name[patches[0].name] = unexpected
    return by_name
