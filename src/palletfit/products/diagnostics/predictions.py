"""Yields of all channels at the end of a fit, which may be one of chosen channels.

A fit of control regions predicts the signal regions: parameters go to the full workspace by their
names. Those that the fit does not have stay where they are before it, with the widths of their
constraints, and without correlations. Source: cabinetry 0.6.0, `model_utils.match_fit_results`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import BatchFits
from palletfit.engine.choose import require_batched
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fits import Fits
from palletfit.engine.lowering import Lowered, prefit_values
from palletfit.engine.measurements import NONE
from palletfit.engine.protocol import Engine
from palletfit.engine.selection import Selection
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.parameters import constraint_widths, correlation_of
from palletfit.products.diagnostics.pulls import LowestFit, lowest_fit
from palletfit.products.diagnostics.yield_tables import Systematic, YieldTables
from palletfit.products.diagnostics.yields import (
    Channel,
    Position,
    Variations,
    Yields,
    channels_of,
    signals,
    variations,
)

#: Effects below this part of a yield are rounding.
_NO_EFFECT = 1e-12
#: Events below this are those of a factor of zero.
_TRACE = 1e-15
#: Parameters that a remark lists.
_LISTED = 5


class _Prediction(NamedTuple):
    """The full likelihood of a patch, and its parameters before and after the fit.

    Attributes
    ----------
    tests, fits
        Of the full workspace, in a batch of one; only the data of the fits count.
    before, after
        Parameters with their uncertainties.
    loose
        Names and values of parameters without a constraint that the fit does not have.
    """

    tests: BatchFits
    fits: Fits
    before: Position
    after: Position
    loose: Mapping[str, float]


def read_groups(groups: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """Read groups of parameters: names or shell patterns by the name of the group.

    Raises
    ------
    PalletError
        They are something else.
    """
    if not isinstance(groups or {}, Mapping):
        raise PalletError(
            f"`groups` has to be patterns by the name of a group, and is {groups!r}.",
            remedy='Give a dictionary, such as groups={"JES": ["JES_*"]}.',
        )
    read: dict[str, tuple[str, ...]] = {}
    for name, value in (groups or {}).items():
        patterns = [value] if isinstance(value, str) else value
        usable = isinstance(patterns, Sequence) and all(isinstance(one, str) for one in patterns)
        if not usable or not patterns:
            raise PalletError(
                f"The group {name!r} has to be names or shell patterns of parameters, and is "
                f"{value!r}.",
                remedy=f'Give a list, such as groups={{{name!r}: ["JES_*"]}}.',
            )
        read[str(name)] = tuple(patterns)
    return read


def predict(
    engine: Engine,
    patch: Patch,
    mu: float | None,
    selection: Selection,
    groups: Mapping[str, Sequence[str]],
) -> YieldTables:
    """Fit one patch, and compute the yields of all channels before and after the fit.

    Parameters
    ----------
    engine
        Engine of the fitted workspace of the selection.
    patch
        One of its fitted patches.
    mu
        Where the parameter of interest is fixed, in the fit and in all predictions; None leaves it
        free in the fit, and at its suggested value where the fit does not have it.
    selection
        Regions and data of the fit.
    groups
        Patterns of parameters by the name of a group. Others count by their own names.

    Raises
    ------
    PalletError
        The patch does not apply, the engine does not support its model, or a pattern of a group
        fits no parameter.
    FitError
        The fit has no finite minimum.
    ConfigError
        The engine is not the batched one.
    """
    batched = require_batched(engine, "yields")
    without = patch.name in selection.without_poi or not selection.poi
    fit = lowest_fit(batched, patch, 0.0 if without else mu)
    prediction = _carry(batched, fit, patch, mu, selection)
    tests, fits = prediction.tests, prediction.fits
    before = variations(tests, fits, 0, prediction.before)
    after = variations(tests, fits, 0, prediction.after)
    batch = tests.batch
    poi = str(batch.names[0][tests.poi])
    has_poi = poi != NONE
    members = _members(batch, groups)
    channels = [
        _plain(channel, selection.blinded) for channel in channels_of(tests, fits, 0, before, after)
    ]
    names = [channel.name for channel in channels]
    loose = [f"{name} = {value:g}" for name, value in prediction.loose.items()]
    remarks = [f"not in the fit, predicted with {', '.join(loose[:_LISTED])}"] if loose else []
    return YieldTables(
        poi=poi if has_poi else "",
        mu=float(prediction.after.point[tests.poi]) if has_poi else None,
        mu_prefit=float(prediction.before.point[tests.poi]) if has_poi else None,
        twice_nll=fit.record.twice_nll,
        reason=fit.record.reason,
        status="ok" if fit.record.trusted else "suspect",
        channels=tuple(channels),
        fitted=tuple(name for name in names if selection.regions.has(name)),
        masked={name: tuple(sorted(bins)) for name, bins in selection.regions.mask.items()},
        blinded=tuple(name for name in names if name in selection.blinded),
        signals=tuple(name for name in signals(batch, 0) if name != NONE),
        systematics=tuple(_systematics(names, before, after, members)),
        remarks=(*fit.remarks, *remarks),
    )


# --------------------------------------------------------------------------- parameters


def _carry(
    engine: BatchedEngine, fit: LowestFit, patch: Patch, mu: float | None, selection: Selection
) -> _Prediction:
    """Bring the parameters of a fit to the full workspace."""
    fitted = fit.tests.batch
    if selection.fitted is selection.predicted:
        tests, fits, renamed = fit.tests, fit.fits, {}
    else:
        full = next(other for other in selection.predicted.patches if other.name == patch.name)
        batch = engine.with_workspace(selection.predicted.workspace).lower_one(full)
        tests = engine.batch_fits(batch)
        fits = Fits(batch.data, batch.aux, None, tests.rows)
        renamed = selection.full_names(full)
    batch = tests.batch
    columns, sources = _columns(fitted, batch, renamed)
    widths = np.where(batch.fixed[0], 0.0, constraint_widths(batch, 0))
    point = prefit_values(batch, 0)
    named = batch.names[0][tests.poi] != NONE
    if mu is not None and named:
        point[tests.poi] = mu
    before = Position(point.copy(), widths, None)
    errors, correlation = widths.copy(), np.diag((widths > 0).astype(float))
    point[columns] = fit.fits.point[0, sources]
    errors[columns] = np.sqrt(np.diag(fit.covariance))[sources]
    correlation[np.ix_(columns, columns)] = correlation_of(fit.covariance)[np.ix_(sources, sources)]
    absent = batch.present[0] & ~batch.fixed[0] & (widths == 0)
    absent[columns] = False
    absent[tests.poi] &= named and mu is None
    loose = {str(batch.names[0][at]): float(point[at]) for at in np.flatnonzero(absent)}
    return _Prediction(tests, fits, before, Position(point, errors, correlation), loose)


def _columns(
    fitted: Lowered, full: Lowered, renamed: Mapping[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the columns of the parameters of a fit in the full workspace, and in the fit."""
    numbers = {name: number for number, name in enumerate(full.names[0]) if name is not None}
    pairs = [
        (numbers[renamed.get(name, name)], column)
        for column, name in enumerate(fitted.names[0])
        if name is not None and (name != NONE or name in numbers)
    ]
    columns, sources = np.array(pairs, dtype=int).reshape(-1, 2).T
    return columns, sources


# --------------------------------------------------------------------------- channels


def _plain(channel: Channel, blinded: Iterable[str]) -> Channel:
    """Take the sample that stands for a missing signal, and blinded data, out of a channel."""
    prefit, postfit = (
        replace(
            prediction,
            samples={
                name: _without_traces(entry)
                for name, entry in prediction.samples.items()
                if name != NONE
            },
        )
        for prediction in (channel.prefit, channel.postfit)
    )
    data = (float("nan"),) * len(channel.data) if channel.name in blinded else channel.data
    return Channel(channel.name, data, prefit, postfit)


def _without_traces(yields: Yields) -> Yields:
    """Set to zero what a factor of zero leaves, which is evaluated as a very small one."""
    if max(map(abs, yields.values), default=0.0) > _TRACE:
        return yields
    none = (0.0,) * len(yields.values)
    return Yields(none, none, 0.0, 0.0) if max(yields.errors, default=0.0) <= _TRACE else yields


# --------------------------------------------------------------------------- systematics


def _members(batch: Lowered, groups: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.int64]]:
    """Give the columns of each group, and of each parameter that is in none.

    Raises
    ------
    PalletError
        A pattern fits no parameter, or a group has the name of a parameter that is not in it.
    """
    names = {
        column: str(name)
        for column, name in enumerate(batch.names[0])
        if name is not None and name != NONE
    }
    bases = {column: _base(name) for column, name in names.items()}
    for group, patterns in groups.items():
        for pattern in patterns:
            if not any(_fits(pattern, name, bases[column]) for column, name in names.items()):
                raise PalletError(
                    f"The pattern {pattern!r} of the group {group!r} fits no parameter.",
                    remedy=f"The model has {len(names)} parameters, such as "
                    f"{', '.join(sorted(names.values())[:_LISTED])}.",
                )
    members: dict[str, list[int]] = {}
    for column, name in names.items():
        chosen = next(
            (
                group
                for group, patterns in groups.items()
                if any(_fits(pattern, name, bases[column]) for pattern in patterns)
            ),
            bases[column],
        )
        if chosen in groups and not any(
            _fits(pattern, name, bases[column]) for pattern in groups[chosen]
        ):
            raise PalletError(
                f"The group {chosen!r} has the name of a parameter that is not in it.",
                remedy="Give the group another name, or add the parameter to its patterns.",
            )
        members.setdefault(chosen, []).append(column)
    return {name: np.array(columns, dtype=int) for name, columns in members.items()}


def _base(name: str) -> str:
    """Give the name of a parameter without its component."""
    return name.rpartition("[")[0] if name.endswith("]") else name


def _fits(pattern: str, *names: str) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def _systematics(
    names: Sequence[str],
    before: Sequence[Variations],
    after: Sequence[Variations],
    members: Mapping[str, NDArray[np.int64]],
) -> Iterable[Systematic]:
    """Yield the uncertainties of the yields of samples, and of their sums, by parameter."""
    for channel, *stages in zip(names, before, after, strict=True):
        for parameter, columns in members.items():
            prefit, postfit = (_relative(entry, columns) for entry in stages)
            for number, sample in enumerate((*stages[0].samples, "")):
                sizes = prefit[number], postfit[number]
                if sample != NONE and max(sizes) > _NO_EFFECT:
                    first, last = (float(size) if np.isfinite(size) else None for size in sizes)
                    yield Systematic(parameter, channel, sample, first, last)


def _relative(entry: Variations, columns: NDArray[np.int64]) -> FloatArray:
    """Divide uncertainties of summed bins by their yields, ``(S + 1,)``; NaN without any."""
    yields = np.abs(entry.values[:, -1])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(yields > 0, entry.error_by(columns) / yields, np.nan))
