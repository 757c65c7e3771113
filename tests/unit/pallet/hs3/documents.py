"""HS3 documents of one or more channels, and their NLL by the formulas of the standard."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import norm

Spec = dict[str, Any]

NORMFACTOR: Spec = {"type": "normfactor", "name": "mu", "parameter": "mu"}
NORMSYS: Spec = {
    "type": "normsys",
    "name": "scale",
    "parameter": "alpha_scale",
    "constraint": "Gauss",
    "data": {"hi": 1.12, "lo": 0.91},
}
HISTOSYS: Spec = {
    "type": "histosys",
    "name": "shape",
    "parameter": "alpha_shape",
    "constraint": "Gauss",
    "data": {"hi": {"contents": [64.0, 45.0]}, "lo": {"contents": [58.0, 37.0]}},
}
STATERROR: Spec = {
    "type": "staterror",
    "name": "stat",
    "parameters": ["gamma_0", "gamma_1"],
    "constraint": "Poisson",
}
SHAPESYS: Spec = {
    "type": "shapesys",
    "name": "bins",
    "parameters": ["gamma_0", "gamma_1"],
    "constraint": "Poisson",
    "data": {"vals": [5.0, 6.0]},
}
SHAPEFACTOR: Spec = {"type": "shapefactor", "name": "free", "parameters": ["gamma_0", "gamma_1"]}


def channel(*modifiers: Spec, name: str = "model_SR", **extra: Any) -> Spec:
    """A channel of two bins: a signal, and a background with modifiers."""
    return {
        "name": name,
        "type": "histfactory_dist",
        "axes": [{"name": f"x_{name}", "min": 0.0, "max": 2.0, "nbins": 2}],
        "samples": [
            {
                "name": "signal",
                "data": {"contents": [8.0, 14.0]},
                "modifiers": [copy.deepcopy(NORMFACTOR)],
            },
            {
                "name": "bkg",
                "data": {"contents": [60.0, 40.0], "errors": [3.0, 4.0]},
                "modifiers": copy.deepcopy(list(modifiers)),
            },
        ],
        **extra,
    }


def document(
    *channels: Spec,
    distributions: Sequence[Spec] = (),
    values: Mapping[str, float] | None = None,
    const: Sequence[str] = (),
    bounds: Mapping[str, tuple[float, float]] | None = None,
    packages: Sequence[str] = (),
    **components: Any,
) -> Spec:
    """A document of channels; all their parameters are in its domain and its parameter point."""
    names = sorted(set().union(*map(parameters_of, channels)))
    given = {name: 0.0 if name.startswith("alpha") else 1.0 for name in names} | dict(values or {})
    ranges = {name: (-5.0, 5.0) if name.startswith("alpha") else (0.0, 10.0) for name in names}
    ranges |= dict(bounds or {})
    spec: Spec = {
        "metadata": {
            "hs3_version": "0.2",
            "packages": [{"name": name, "version": "1"} for name in packages],
        },
        "distributions": [*channels, *distributions],
        "data": [
            {
                "name": f"obsData_{entry['name'].removeprefix('model_')}",
                "type": "binned",
                "axes": copy.deepcopy(entry["axes"]),
                "contents": [66.0, 52.0],
            }
            for entry in channels
        ],
        "likelihoods": [
            {
                "name": "likelihood",
                "distributions": [entry["name"] for entry in channels],
                "data": [f"obsData_{entry['name'].removeprefix('model_')}" for entry in channels],
            }
        ],
        "domains": [
            {
                "name": "domain",
                "type": "product_domain",
                "axes": [
                    {"name": name, "min": low, "max": high} for name, (low, high) in ranges.items()
                ],
            }
        ],
        "parameter_points": [
            {
                "name": "start",
                "parameters": [
                    {"name": name, "value": value, "const": name in const}
                    for name, value in given.items()
                ],
            }
        ],
        "analyses": [
            {
                "name": "fit",
                "likelihood": "likelihood",
                "parameters_of_interest": ["mu"],
                "domain": "domain",
                "init": "start",
            }
        ],
    }
    return {**spec, **components}


def parameters_of(channel_spec: Spec) -> set[str]:
    """Names of the parameters that the modifiers of a channel name."""
    names: set[str] = set()
    for sample in channel_spec["samples"]:
        for modifier in sample["modifiers"]:
            names.update(modifier.get("parameters", ()))
            names.update(modifier[key] for key in ("parameter",) if key in modifier)
    return names


def through_json(spec: Any) -> Any:
    return json.loads(json.dumps(spec))


# --------------------------------------------------------------------------- the standard's NLL


def interpolate(kind: str, nominal: float, low: float, high: float, x: float) -> float:
    """HS3 0.2's interpolations of a value."""
    if kind == "lin":
        return nominal + x * (high - nominal if x >= 0 else nominal - low)
    if kind == "log":
        if nominal == 0:
            return 0.0
        return nominal * ((high / nominal) ** x if x >= 0 else (low / nominal) ** -x)
    if kind == "parabolic":
        s, d = 0.5 * (high + low) - nominal, 0.5 * (high - low)
        if x > 1:
            return nominal + (2 * s + d) * (x - 1) + (high - nominal)
        if x < -1:
            return nominal - (2 * s - d) * (x + 1) + (low - nominal)
        return nominal + s * x * x + d * x
    assert kind == "poly6"
    if abs(x) > 1:
        return nominal + x * (high - nominal if x > 1 else nominal - low)
    s, a = 0.5 * (high - low), (high + low - 2 * nominal) / 16
    return nominal + x * (s + x * a * (15 + x * x * (3 * x * x - 10)))


def rates(channel_spec: Spec, values: Mapping[str, float]) -> list[float]:
    """Expected counts of a channel whose interpolations are named."""
    size = len(channel_spec["samples"][0]["data"]["contents"])
    total = [0.0] * size
    for sample in channel_spec["samples"]:
        for number, nominal in enumerate(sample["data"]["contents"]):
            added, factor = nominal, 1.0
            for modifier in sample["modifiers"]:
                kind = modifier["type"]
                if "parameters" in modifier:
                    factor *= values[modifier["parameters"][number]]
                    continue
                x = values[modifier["parameter"]]
                if kind == "normfactor":
                    factor *= x
                elif kind == "normsys":
                    data = modifier["data"]
                    name = modifier["interpolation"]
                    factor *= interpolate(name, 1.0, data["lo"], data["hi"], x)
                else:
                    low, high = (modifier["data"][k]["contents"][number] for k in ("lo", "hi"))
                    moved = interpolate(modifier["interpolation"], nominal, low, high, x)
                    added += moved - nominal
            total[number] += added * factor
    return total


def poisson(count: float, mean: float) -> float:
    """Continued Poisson distribution, the negative logarithm."""
    return mean - count * math.log(mean) + math.lgamma(count + 1.0)


def gauss(x: float, mean: float, sigma: float) -> float:
    """Gaussian distribution, the negative logarithm."""
    return -float(norm.logpdf(x, mean, sigma))


def main_nll(spec: Spec, values: Mapping[str, float]) -> float:
    """NLL of the data of a document, without constraints."""
    data = {entry["name"]: entry["contents"] for entry in spec["data"]}
    by_name = {entry["name"]: entry for entry in spec["distributions"]}
    (likelihood,) = spec["likelihoods"]
    return sum(
        poisson(count, mean)
        for name, observed in zip(likelihood["distributions"], likelihood["data"], strict=True)
        for count, mean in zip(data[observed], rates(by_name[name], values), strict=True)
    )
