"""The library's front door: hypothesis tests and fits of published likelihoods, in one call.

Everything here is also at the top of the package: ``palletfit.hypotest``, ``palletfit.fit``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.records import BestFit, HypotestResult
from palletfit.errors import PalletfitError
from palletfit.pallet import patchset as pallet
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import Patchset, parse_patchset

__all__ = ["BestFit", "Results", "fit", "hypotest"]

_SIGMAS = ("minus2", "minus1", "0", "plus1", "plus2")


@dataclass(frozen=True)
class Results(Mapping[str, HypotestResult]):
    """Results by patch name, in the order of the patchset.

    Attributes
    ----------
    errors
        Why patches have no result, by name.
    values_of
        Values of each patch (masses, for example), by name.
    labels
        What the values are.
    """

    results: Mapping[str, HypotestResult]
    errors: Mapping[str, PalletfitError] = field(default_factory=dict)
    values_of: Mapping[str, Sequence[float | str]] = field(default_factory=dict)
    labels: Sequence[str] = ()

    def __getitem__(self, name: str) -> HypotestResult:
        if name in self.errors:
            raise self.errors[name]
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def rows(self) -> list[dict[str, Any]]:
        """One plain row a patch, failed ones included: for ``pandas.DataFrame`` and the like."""
        table = []
        for name, values in self.values_of.items():
            row: dict[str, Any] = {"patch": name, **dict(zip(self.labels, values, strict=True))}
            result = self.results.get(name)
            if result is None:
                row |= {"status": "failed", "remark": self.errors[name].problem}
            else:
                expected = zip(_SIGMAS, result.p_values.CLs_exp, strict=True)
                row |= {
                    "status": result.status,
                    "CLs_obs": result.p_values.CLs_obs,
                    **{f"CLs_exp_{sigma}": value for sigma, value in expected},
                    "mu_hat": result.mu_hat,
                    "mu_hat_error": result.mu_hat_error,
                    "remark": "; ".join(result.remarks),
                }
            table.append(row)
        return table


def hypotest(
    workspace: Path | str | Mapping[str, Any],
    patchset: Path | str | Mapping[str, Any],
    mu: float = 1.0,
    *,
    patches: str | Sequence[str] = "*",
    check: bool = True,
    **settings: Any,
) -> Results:
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
        ``test_statistic="q0"`` or ``backend="jax"``.

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
    >>> from palletfit.pallet.demo.electroweak import demo_patchset, demo_workspace
    >>> workspace = demo_workspace()
    >>> patchset = demo_patchset(workspace)
    >>> results = palletfit.hypotest(workspace, patchset, patches="DEMO_C1N2_Wh_700_*")
    >>> first = next(iter(results.values()))
    >>> first.status
    'ok'
    """
    content, parsed = _read(workspace, patchset, check=check)
    chosen = parsed.select([patches] if isinstance(patches, str) else patches)
    engine = BatchedEngine(content, FitSettings(mu=mu, **settings))
    found = {patch.name: result for patch, result in engine.hypotests(chosen)}
    results = {
        patch.name: result
        for patch in chosen
        if isinstance(result := found[patch.name], HypotestResult)
    }
    errors = {
        patch.name: result
        for patch in chosen
        if isinstance(result := found[patch.name], PalletfitError)
    }
    values = {patch.name: patch.values for patch in chosen}
    return Results(results, errors, values, parsed.labels)


def fit(
    workspace: Path | str | Mapping[str, Any],
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
    """
    content = read_pallet_json(Path(workspace)) if isinstance(workspace, (str, Path)) else workspace
    if patch is None:
        patch = Patch(name="", values=(), operations=())
    elif not isinstance(patch, Patch):
        patch = Patch(str(patch["metadata"]["name"]), (), patch["patch"])
    return BatchedEngine(content, FitSettings(**settings)).fit(patch, mu)


def _read(
    workspace: Path | str | Mapping[str, Any],
    patchset: Path | str | Mapping[str, Any],
    *,
    check: bool,
) -> tuple[Mapping[str, Any], Patchset]:
    """Read what is a file, and check it."""
    names = [
        Path(item) if isinstance(item, (str, Path)) else Path(title)
        for item, title in ((workspace, "workspace"), (patchset, "patchset"))
    ]
    content, spec = (
        read_pallet_json(Path(item)) if isinstance(item, (str, Path)) else item
        for item in (workspace, patchset)
    )
    if check:
        return content, pallet.check(content, spec, None, *names)
    return content, parse_patchset(spec, names[1])
