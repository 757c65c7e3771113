"""Plots of results in a notebook: contours in a plane, bands of signals, one patch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import singledispatch
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from palletfit.config import ContourSettings, Plane, parse
from palletfit.core.text import did_you_mean
from palletfit.engine.goodness import GoodnessOfFit
from palletfit.engine.records import BestFit, HypotestResult
from palletfit.errors import ConfigError
from palletfit.planes.contour import exclusion
from palletfit.planes.plots import draw_exclusion
from palletfit.products.diagnostics.fit_plots import draw_goodness, draw_parameters
from palletfit.products.diagnostics.plots import PULLS_A_PAGE, draw_pulls, draw_yields, shorten
from palletfit.products.diagnostics.profile.contours import LikelihoodContours
from palletfit.products.diagnostics.profile.impacts import GroupedImpacts
from palletfit.products.diagnostics.profile.plots import (
    draw_grouped_impacts,
    draw_likelihood_contours,
    draw_likelihood_scan,
)
from palletfit.products.diagnostics.profile.scan import LikelihoodScan
from palletfit.products.diagnostics.pulls import Pulls
from palletfit.products.diagnostics.records import Diagnostics
from palletfit.products.diagnostics.yield_tables import YieldTables
from palletfit.products.limits.bands import draw_bands
from palletfit.products.limits.compute import Limits
from palletfit.products.limits.planes import limit_contours
from palletfit.products.limits.plots import draw_limits
from palletfit.products.mu_scan.compute import MuScan
from palletfit.products.mu_scan.plots import draw_mu_scan
from palletfit.products.toys.plots import draw_toys
from palletfit.products.toys.results import ToyResult

if TYPE_CHECKING:
    from palletfit.results import Results

#: Points from which on there is a contour.
_CONTOUR = 3
_ARGUMENTS = "the arguments of the call"


def draw(
    results: Results[Any],
    patch: str | None,
    *,
    x: str | None,
    y: str | None,
    select: str | None,
    confidence_level: float | None,
) -> Figure:
    """Draw results; see :meth:`palletfit.results.Results.plot`."""
    computed = results.confidence_level
    if computed is not None and confidence_level not in (None, computed):
        raise ConfigError(
            f"These limits were computed at a confidence level of {computed:g}, and not "
            f"{confidence_level:g}.",
            remedy="Compute them with that `confidence_level`, or leave it out here.",
        )
    levels = (confidence_level, computed, 0.95)
    level = next(level for level in levels if level is not None)
    settings = parse(ContourSettings, {"confidence_level": level}, file=_ARGUMENTS)
    if patch is not None and patch not in results.values_of:
        names = [*results.values_of]
        raise ConfigError(
            f"There is no result of a patch {patch!r}.",
            remedy=f"{did_you_mean(patch, names)}There are {len(names)} results.",
        )
    if patch is None and len(results.values_of) == 1:
        (patch,) = results.values_of
    if patch is not None:
        return _alone(results[patch], patch, settings.confidence_level)
    if not results:
        raise next(iter(results.errors.values()))
    kind = next(iter(results.values()))
    if not _has_bands(kind):
        example = next(iter(results))
        raise ConfigError(
            f"Results of the type {type(kind).__name__} are drawn for one patch.",
            remedy=f"Choose it, as in plot({example!r}).",
        )
    axes = _axes(results, x, y)
    if axes is None or any(map(_is_discovery, results.values())):
        shown = {name: _band(result) for name, result in results.items()}
        return _draw_bands(shown, kind, "", settings.confidence_level)
    titles = [axis.strip("`") for axis in axes]
    plane = Plane(x=axes[0], y=axes[1], x_title=titles[0], y_title=titles[1], select=select)
    subject: Any = SimpleNamespace(title=f"{len(results.values_of)} patches")
    table = _table(results)
    if isinstance(kind, Limits):
        return draw_limits(limit_contours(table, plane, settings, {}), subject, plane)
    return draw_exclusion(exclusion(table, plane, settings, {}), subject, plane)


def _axes(results: Results[Any], x: str | None, y: str | None) -> tuple[str, str] | None:
    """Choose the axes of the plane; None if the results have none."""
    if x is not None or y is not None:
        if x is None or y is None:
            raise ConfigError(
                "A plane has two axes, and one is given.",
                remedy=f"Give both `x` and `y`; the labels are {', '.join(results.labels)}.",
            )
        return x, y
    values = list(results.values_of.values())
    numbers = [
        f"`{label}`"
        for index, label in enumerate(results.labels)
        if all(isinstance(row[index], (int, float)) for row in values)
        and len({row[index] for row in values}) > 1
    ]
    if len(values) < _CONTOUR or len(numbers) < 2:
        return None
    return numbers[0], numbers[1]


def _table(results: Results[Any]) -> pd.DataFrame:
    """Make the table that contours are computed from; numbers of failed patches are NaN."""
    table = results.to_dataframe().assign(region="")
    for column in table.columns:
        if column.startswith(("CLs_", "mu_")):
            table[column] = table[column].astype(np.float64)
    return table


# --------------------------------------------------------------------------- bands


@singledispatch
def _band(result: Any) -> tuple[float | None, Sequence[float | None]]:
    """Return the observed value and the five expected ones."""
    raise NotImplementedError(type(result))


@_band.register
def _(result: HypotestResult) -> tuple[float | None, Sequence[float | None]]:
    return result.p_values.CLs_obs, result.p_values.CLs_exp


@_band.register
def _(result: Limits) -> tuple[float | None, Sequence[float | None]]:
    return result.observed.mu, [limit.mu for limit in result.expected]


@_band.register
def _(result: ToyResult) -> tuple[float | None, Sequence[float | None]]:
    return result.CLs_obs, result.CLs_exp


def _has_bands(result: Any) -> bool:
    return _band.dispatch(type(result)) is not _band.dispatch(object)


def _is_discovery(result: Any) -> bool:
    """Return whether a result is the test of a discovery, where p0 stands for CLs and CLsb."""
    if isinstance(result, ToyResult):
        return result.test_statistic == "q0"
    # Asimov data have a signal then, and the background is tested.
    return isinstance(result, HypotestResult) and result.fits["asimov_fixed"].mu == 0.0


def _draw_bands(
    shown: Mapping[str, tuple[float | None, Sequence[float | None]]],
    result: Any,
    title: str,
    confidence_level: float,
) -> Figure:
    limits = isinstance(result, Limits)
    level = f"{100 * confidence_level:g}% CL"
    axis = "Upper limit on mu" if limits else "p0" if _is_discovery(result) else "CLs"
    line = 1.0 if limits else None if _is_discovery(result) else 1 - confidence_level
    words = "; ".join(filter(None, [shorten(title), f"{axis}, {level}" if limits else axis]))
    return draw_bands(shown, words, axis, line, rows=len(shown))[0]


# --------------------------------------------------------------------------- one patch


@singledispatch
def _alone(result: Any, patch: str, confidence_level: float) -> Figure:
    """Draw the result of one patch."""
    if not _has_bands(result):
        raise NotImplementedError(type(result))
    return _draw_bands({patch or "workspace": _band(result)}, result, patch, confidence_level)


#: Results with a plot of their own: what draws it, and its title where the patch has no name.
_DRAWN: dict[type, tuple[Callable[[Any, str], Figure], str]] = {
    BestFit: (draw_parameters, "Best fit"),
    GoodnessOfFit: (draw_goodness, "Goodness of fit"),
    LikelihoodScan: (draw_likelihood_scan, "Scan of the likelihood"),
    LikelihoodContours: (draw_likelihood_contours, "Contours of the likelihood"),
    GroupedImpacts: (draw_grouped_impacts, "Impacts of groups"),
}


def _draw_titled(result: Any, patch: str, confidence_level: float) -> Figure:  # noqa: ARG001
    draw, title = _DRAWN[type(result)]
    return draw(result, shorten(patch or title))


for _kind in _DRAWN:
    _alone.register(_kind, _draw_titled)


@_alone.register(Pulls)
@_alone.register(Diagnostics)
def _(result: Pulls | Diagnostics, patch: str, confidence_level: float) -> Figure:  # noqa: ARG001
    title = shorten(patch or "Pulls")
    return draw_pulls(result, title, max_parameters=PULLS_A_PAGE)[0]


@_alone.register
def _(result: YieldTables, patch: str, confidence_level: float) -> Figure:  # noqa: ARG001
    title = shorten(patch or "Yields")
    return draw_yields(result, title, per_page=max(len(result.channels), 1))[0]


@_alone.register
def _(result: MuScan, patch: str, confidence_level: float) -> Figure:
    record = {"patch": shorten(patch or "CLs"), **result.as_json()}
    return draw_mu_scan(record, SimpleNamespace(title="Scan of mu"), None, confidence_level)


@_alone.register
def _(result: ToyResult, patch: str, confidence_level: float) -> Figure:  # noqa: ARG001
    failed = {hypothesis: len(toys) for hypothesis, toys in result.failed.items()}
    name = shorten(patch or "CLs")
    entry = {**result.as_json(), "patch": name, "failed": failed, "asymptotic": {}}
    return draw_toys(entry, result.statistics, SimpleNamespace(title="Toys"))
