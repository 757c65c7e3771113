"""The library's front door: inference on published likelihoods, in one call each.

Everything here is also at the top of the package: ``palletfit.hypotest``, ``palletfit.fit`` and so
on. A workspace is a file or its content, and may be an HS3 document. Functions of many patches
share their arguments: the workspace and the patchset, as files or content; `patches`, shell
patterns of those that are wanted; `check`, whether files are validated; and fields of
:class:`palletfit.config.FitSettings`, such as ``engine="reference"``, which lets pyhf make all
fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from palletfit.config import (
    DiagnosticsSettings,
    DownloadSettings,
    FitSettings,
    LimitSettings,
    MuScanSettings,
    ToySettings,
)
from palletfit.engine.choose import make_engine, require_batched
from palletfit.engine.records import BestFit, HypotestResult
from palletfit.errors import FitError, PalletfitError
from palletfit.pallet import patchset as pallet
from palletfit.pallet.hs3 import hs3_document, is_hs3, read_hs3, read_workspace, write_hs3
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import Patchset, parse_patchset, patch_name

if TYPE_CHECKING:
    from palletfit.engine.protocol import Engine
    from palletfit.pallet.inspection import Inspection
    from palletfit.products.diagnostics.records import Diagnostics
    from palletfit.products.limits.compute import Limits
    from palletfit.products.mu_scan.compute import MuScan
    from palletfit.products.toys.results import ToyResult

__all__ = [
    "BestFit",
    "Results",
    "diagnose",
    "fit",
    "hs3_document",
    "hypotest",
    "inspect",
    "mu_scan",
    "read_hs3",
    "toys",
    "upper_limit",
    "upper_limits",
    "write_hs3",
]

#: A file, or its content.
Source = Path | str | Mapping[str, Any]


class HasRow(Protocol):
    """A result with a row of a table."""

    def row(self) -> dict[str, Any]:
        """Give the result's plain numbers by column."""


Result = TypeVar("Result", bound=HasRow)


@dataclass(frozen=True)
class Results(Mapping[str, Result], Generic[Result]):
    """Results by patch name, in the order of the patchset.

    Attributes
    ----------
    results
        Those that there are.
    errors
        Why patches have no result, by name.
    values_of
        Values of each patch (masses, for example), by name.
    labels
        Names of these values.
    """

    results: Mapping[str, Result]
    errors: Mapping[str, PalletfitError] = field(default_factory=dict)
    values_of: Mapping[str, Sequence[float | str]] = field(default_factory=dict)
    labels: Sequence[str] = ()

    def __getitem__(self, name: str) -> Result:
        if name in self.errors:
            raise self.errors[name]
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def rows(self) -> list[dict[str, Any]]:
        """Make one plain row a patch, failed ones included, for ``pandas.DataFrame``."""
        table = []
        for name, values in self.values_of.items():
            row: dict[str, Any] = {"patch": name, **dict(zip(self.labels, values, strict=True))}
            result = self.results.get(name)
            if result is None:
                row |= {"status": "failed", "remark": self.errors[name].problem}
            else:
                row |= result.row()
            table.append(row)
        return table


def hypotest(
    workspace: Source,
    patchset: Source,
    mu: float = 1.0,
    *,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    **settings: Any,
) -> Results[HypotestResult]:
    """Test every signal patch of a published likelihood.

    Parameters
    ----------
    workspace, patchset
        Files, or their content.
    mu
        Tested signal strength.
    patches
        Shell patterns of the patches to test.
    check
        Validate files against pyhf's schemas and the patchset's digest of the workspace.
    settings
        Further fields of :class:`palletfit.config.FitSettings`, such as
        ``test_statistic="q0"``, ``backend="jax"`` or ``engine="reference"``.

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
    """
    content, chosen, labels = _choose(workspace, patchset, patches, check=check)
    engine = make_engine(content, FitSettings(mu=mu, **settings))
    return _gather(chosen, labels, engine.hypotests)


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
        Further fields of :class:`palletfit.config.FitSettings`.

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
    """
    engine = make_engine(_content(workspace), FitSettings(**settings))
    return engine.fit(_patch(patch), mu)


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

    engine = make_engine(_content(workspace), FitSettings(**settings))
    search = LimitSettings(tolerance=tolerance, mu_max=mu_max)
    ((_, limits),) = compute.upper_limits(engine, [_patch(patch)], confidence_level, search)
    if isinstance(limits, PalletfitError):
        raise limits
    return limits


def upper_limits(
    workspace: Source,
    patchset: Source,
    *,
    confidence_level: float = 0.95,
    tolerance: float = LimitSettings().tolerance,
    mu_max: float | None = None,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    **settings: Any,
) -> Results[Limits]:
    """Find the upper limits of every signal patch of a published likelihood.

    Parameters
    ----------
    workspace, patchset
        Files, or their content.
    confidence_level, tolerance, mu_max
        See :func:`upper_limit`.
    patches, check, settings
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

    content, chosen, labels = _choose(workspace, patchset, patches, check=check)
    engine = make_engine(content, FitSettings(**settings))
    search = LimitSettings(tolerance=tolerance, mu_max=mu_max)

    def limits_of(subset: Sequence[Patch]) -> Iterator[tuple[Patch, Limits | PalletfitError]]:
        return compute.upper_limits(engine, subset, confidence_level, search)

    return _gather(chosen, labels, limits_of)


def mu_scan(
    workspace: Source,
    patchset: Source,
    *,
    points: int = MuScanSettings().points,
    mu_range: tuple[float, float] | None = None,
    confidence_level: float = 0.95,
    tolerance: float = LimitSettings().tolerance,
    mu_max: float | None = None,
    patches: str | Sequence[str] = "*",
    check: bool = True,
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
    patches, check, settings
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

    content, chosen, labels = _choose(workspace, patchset, patches, check=check)
    engine = make_engine(content, FitSettings(**settings))
    grid = MuScanSettings(points=points, range=None if mu_range is None else list(mu_range))
    search = LimitSettings(tolerance=tolerance, mu_max=mu_max)

    def scans_of(subset: Sequence[Patch]) -> Iterator[tuple[Patch, MuScan | PalletfitError]]:
        return compute.scans(engine, subset, confidence_level, grid, search)

    return _gather(chosen, labels, scans_of)


def diagnose(
    workspace: Source,
    patchset: Source,
    *,
    impacts: bool = True,
    parameters: Sequence[str] = ("*",),
    patches: str | Sequence[str] = "*",
    check: bool = True,
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
    patches, check, settings
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

    content, chosen, labels = _choose(workspace, patchset, patches, check=check)
    engine = make_engine(content, FitSettings(**settings))
    scope = DiagnosticsSettings(impacts=impacts, parameters=list(parameters))
    return _gather(chosen, labels, lambda subset: compute.diagnose(engine, subset, scope))


def toys(
    workspace: Source,
    patchset: Source,
    mu: float = 1.0,
    *,
    count: int = ToySettings().toys,
    seed: int = ToySettings().seed,
    patches: str | Sequence[str] = "*",
    check: bool = True,
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
    patches, check, settings
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
    content, chosen, labels = _choose(workspace, patchset, patches, check=check)
    engine = make_engine(content, FitSettings(mu=mu, **settings))
    return _gather(chosen, labels, lambda subset: _toys(engine, subset, seed, count))


def _toys(
    engine: Engine, patches: Sequence[Patch], seed: int, count: int
) -> Iterator[tuple[Patch, ToyResult | PalletfitError]]:
    from palletfit.products.toys.compute import run_shard
    from palletfit.products.toys.results import merge

    batched = require_batched(engine, "toys")
    for patch in patches:
        try:
            yield patch, merge([run_shard(batched, patch, ToySettings(seed=seed), 0, count)])
        except PalletfitError as error:
            yield patch, error


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
        DOI of a HEPData resource, address, archive, folder or file.
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


def _choose(
    workspace: Source, patchset: Source, patches: str | Sequence[str], *, check: bool
) -> tuple[Mapping[str, Any], Sequence[Patch], Sequence[str]]:
    """Read a workspace and the chosen patches of its patchset, with their labels."""
    paths = [
        Path(source) if isinstance(source, (str, Path)) else Path(title)
        for source, title in ((workspace, "workspace"), (patchset, "patchset"))
    ]
    content, spec = _content(workspace), _content(patchset)
    parsed: Patchset = (
        pallet.check(content, spec, None, *paths) if check else parse_patchset(spec, paths[1])
    )
    chosen = parsed.select([patches] if isinstance(patches, str) else patches)
    return content, chosen, parsed.labels


def _content(source: Source) -> Mapping[str, Any]:
    """Read what is a file; an HS3 document becomes a workspace."""
    if isinstance(source, (str, Path)):
        workspace: Mapping[str, Any] = read_workspace(Path(source))
        return workspace
    return read_hs3(source) if is_hs3(source) else source


def _patch(patch: Patch | Mapping[str, Any] | None) -> Patch:
    """Read an entry of a patchset; without one, nothing is added to the workspace."""
    if patch is None:
        return Patch(name="", values=(), operations=())
    if isinstance(patch, Patch):
        return patch
    return Patch(patch_name(patch), (), patch["patch"])


def _gather(
    patches: Sequence[Patch],
    labels: Sequence[str],
    answer: Callable[[Sequence[Patch]], Iterable[tuple[Patch, Result | PalletfitError]]],
) -> Results[Result]:
    """Sort the answers for patches into results and errors, in the order of the patches."""
    by_name = _answers(patches, answer)
    results: dict[str, Result] = {}
    errors: dict[str, PalletfitError] = {}
    for patch in patches:
        outcome = by_name[patch.name]
        if isinstance(outcome, PalletfitError):
            errors[patch.name] = outcome
        else:
            results[patch.name] = outcome
    values = {patch.name: patch.values for patch in patches}
    return Results(results, errors, values, labels)


def _answers(
    patches: Sequence[Patch],
    answer: Callable[[Sequence[Patch]], Iterable[tuple[Patch, Result | PalletfitError]]],
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
