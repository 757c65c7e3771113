"""Models that no engine fits: what is wrong with them, where, and what to do about it.

pyhf 0.7 makes a model of some of these, or raises an error that names neither modifier nor sample.
Nothing here looks at numbers of events, except :func:`check_background`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from palletfit.config import FitSettings
from palletfit.engine.parameters import free_poi, measurement_of, parameter_set, user_settings
from palletfit.engine.samples import (
    ALPHA,
    BIN_KINDS,
    LUMI,
    NORM,
    Spec,
    Unsupported,
    interpolation_code,
    normsys_factors,
)
from palletfit.errors import PalletError

#: Types of modifiers, and the kinds of their parameters.
_KINDS = {"histosys": ALPHA, "normsys": ALPHA, NORM: NORM, LUMI: LUMI, **dict.fromkeys(BIN_KINDS)}
_CORRECT = "Correct the measurement's `parameters`, or choose another `fit.measurement`."


def check_model(spec: Spec, settings: FitSettings) -> None:
    """Refuse a full workspace whose model has no meaning.

    What has another shape than a workspace is left to those who read it.

    Parameters
    ----------
    spec
        The background with its signal patch.
    settings
        Measurement and interpolation codes.

    Raises
    ------
    PalletError
        The measurement is not there, names no parameter of interest or one that is no normfactor
        (nor a shapefactor of one bin), or sets parameters in a way that has no meaning; or a
        normsys factor has none.
    """
    try:
        measurement = _measurement(spec, settings)
        _check_poi(spec, measurement)
        _check_parameters(spec, measurement)
        _check_normsys(spec, settings)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return


def check_background(spec: Spec, settings: FitSettings) -> None:
    """Refuse a test where events are observed that only a signal can bring.

    Parameters
    ----------
    spec
        The background with its signal patch.
    settings
        Measurement.

    Raises
    ------
    PalletError
        In a bin with events no sample without the parameter of interest expects any, whatever the
        parameters are: the background-only likelihood is zero.
    """
    try:
        poi = measurement_of(spec, settings.measurement)["config"]["poi"]
        observed = {entry["name"]: entry["data"] for entry in spec["observations"]}
        for channel in spec["channels"]:
            empty = _without_background(channel, observed[channel["name"]], poi)
            if empty:
                number = min(empty)
                count = observed[channel["name"]][number]
                raise PalletError(
                    f"The channel {channel['name']!r} has an observed count of {count:g} in bin "
                    f"{number + 1} of {len(observed[channel['name']])}, where nothing is expected "
                    "without signal: the background-only likelihood is zero.",
                    remedy="Give the bin a background, or take it out of workspace and patches; "
                    "`palletfit.fit` makes the fit with a free signal strength.",
                )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, Unsupported):
        return


def _without_background(channel: Spec, observed: Sequence[float], poi: str) -> set[int]:
    """Find the bins with events in which no sample without signal expects any."""
    open_ = {number for number, count in enumerate(observed) if count > 0}
    for sample in channel["samples"]:
        if not open_:
            break
        modifiers = sample["modifiers"]
        if any(entry["name"] == poi and entry["type"] == NORM for entry in modifiers):
            continue
        # Nearly every background has a nominal yield in each bin with events.
        open_ = {number for number in open_ if not sample["data"][number]}
        if open_:
            shapes = [
                entry["data"][side]
                for entry in modifiers
                if entry["type"] == "histosys"
                for side in ("lo_data", "hi_data")
            ]
            open_ = {number for number in open_ if not any(shape[number] for shape in shapes)}
    return open_


def _measurement(spec: Spec, settings: FitSettings) -> Spec:
    try:
        return free_poi(measurement_of(spec, settings.measurement))[0]
    except Unsupported as reason:
        names = ", ".join(repr(entry["name"]) for entry in spec["measurements"])
        raise PalletError(
            f"The model cannot be made: {reason}.",
            remedy=f"Choose a `fit.measurement` of the workspace: {names or 'there is none'}.",
        ) from None


def _check_poi(spec: Spec, measurement: Spec) -> None:
    name, poi = measurement["name"], measurement["config"]["poi"]
    kinds: dict[str, set[str]] = {}
    bins = 1
    for _, sample, modifier in _modifiers(spec):
        kinds.setdefault(modifier["name"], set()).add(modifier["type"])
        if modifier["name"] == poi:
            bins = max(bins, len(sample["data"]))
    if kinds.get(poi) == {NORM} or (kinds.get(poi) == {"shapefactor"} and bins == 1):
        return
    elsewhere = [
        entry["name"]
        for entry in spec["measurements"]
        if kinds.get(entry["config"]["poi"]) == {NORM}
    ]
    choose = (
        f"Choose a `fit.measurement` whose parameter of interest is one: {', '.join(elsewhere)}."
    )
    if not poi:
        raise PalletError(
            f"The measurement {name!r} names no parameter of interest: there is nothing to test.",
            remedy=choose
            if elsewhere
            else "Name the signal's normfactor as the measurement's `poi`.",
        )
    if poi in kinds:
        wrong = " and a ".join(sorted(kinds[poi]))
        raise PalletError(
            f"The parameter of interest {poi!r} of the measurement {name!r} is a {wrong}, and not "
            "a normfactor alone, which a signal strength is.",
            remedy=choose
            if elsewhere
            else "Name the signal's normfactor as the measurement's `poi`.",
        )
    if elsewhere:
        raise PalletError(
            f"The measurement {name!r} names the parameter of interest {poi!r}, which no sample "
            "carries as a modifier.",
            remedy=choose,
        )
    norms = sorted(title for title, types in kinds.items() if types == {NORM})
    also = f"; the normfactors are {', '.join(map(repr, norms))}" if norms else ""
    raise PalletError(
        f"The model has no parameter of interest: no sample carries a modifier {poi!r}, which the "
        f"measurement {name!r} names (the patch adds no signal, or one with another name{also}).",
        remedy="Nothing can be fitted here: list the patch under `known_failures` of its "
        "region in the analysis file, or correct the measurement's `poi`.",
    )


def _check_parameters(spec: Spec, measurement: Spec) -> None:
    """Refuse settings of parameters that are missing, or that have no meaning."""
    try:
        settings = user_settings(measurement)
        for name, (kind, size) in parameters_of(spec).items():
            if name in settings or kind == LUMI:
                ones = np.ones(size)
                factors = ones if kind == "shapesys" else None
                sigmas = ones if kind == "staterror" else None
                user = settings.get(name, {})
                parameter_set(name, kind, size, user, sigmas=sigmas, factors=factors)
    except Unsupported as reason:
        raise PalletError(
            f"The measurement {measurement['name']!r} does not fit the model: {reason}.",
            remedy=_CORRECT,
        ) from None


def parameters_of(spec: Spec) -> dict[str, tuple[str, int]]:
    """Give kind and size of each parameter.

    Raises
    ------
    ValueError
        A name has two kinds.
    """
    sizes: dict[tuple[str, str], dict[str, int]] = {}
    for channel, sample, modifier in _modifiers(spec):
        kind = _KINDS[modifier["type"]] or modifier["type"]
        bins = len(sample["data"]) if kind in BIN_KINDS else 1
        sizes.setdefault((modifier["name"], kind), {})[channel["name"]] = bins
    parameters: dict[str, tuple[str, int]] = {}
    for (name, kind), by_channel in sizes.items():
        # A staterror has other parameters in each channel, a shapefactor those of the first one.
        size = sum(by_channel.values()) if kind == "staterror" else by_channel[min(by_channel)]
        if name in parameters:
            raise ValueError(name)
        parameters[name] = kind, size
    return parameters


def _check_normsys(spec: Spec, settings: FitSettings) -> None:
    for channel, sample, modifier in _modifiers(spec):
        if modifier["type"] != "normsys":
            continue
        try:
            code = interpolation_code(modifier, (settings.normsys, settings.histosys))
            normsys_factors(modifier["name"], modifier["data"], code)
        except Unsupported as reason:
            raise PalletError(
                f"The model has no meaning: {reason}, in the sample {sample['name']!r} of the "
                f"channel {channel['name']!r}.",
                remedy="Correct the factor; code4 (`fit.normsys`) takes one of zero.",
            ) from None


def _modifiers(spec: Spec) -> Iterator[tuple[Spec, Spec, Mapping[str, Any]]]:
    """Yield all modifiers, each with its channel and sample."""
    for channel in spec["channels"]:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                yield channel, sample, modifier
