"""The settings of parameters: pyhf's defaults merged with what a measurement says.

The conventions (which parameters there are, their constraints, bounds and data) are pyhf 0.7's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.samples import ALPHA, LUMI, NORM, Spec, Unsupported

#: What a measurement may say about a parameter of each kind (more makes pyhf refuse the model).
_CONFIGURABLE = {
    ALPHA: {"inits", "bounds", "fixed", "auxdata"},
    NORM: {"inits", "bounds", "fixed"},
    LUMI: {"inits", "bounds", "fixed", "auxdata", "sigmas"},
    "staterror": {"inits", "bounds", "fixed", "auxdata", "sigmas"},
    "shapesys": {"inits", "bounds", "fixed", "auxdata", "factors"},
    "shapefactor": {"inits", "bounds", "fixed"},
}


@dataclass(frozen=True)
class ParameterSet:
    """Settings of the components of one parameter, as pyhf would have them; shape ``(n,)``.

    `precision` is one over the variance of a Gaussian constraint, `factor` the expected count of
    a Poisson constraint at one; both are zero where there is no such constraint.
    """

    init: FloatArray
    lower: FloatArray
    upper: FloatArray
    fixed: NDArray[np.bool_]
    aux: FloatArray
    precision: FloatArray
    factor: FloatArray


def parameter_set(
    name: str,
    kind: str,
    size: int,
    user: Spec,
    *,
    sigmas: FloatArray | None = None,
    factors: FloatArray | None = None,
    fixed: NDArray[np.bool_] | None = None,
) -> ParameterSet:
    """Merge pyhf's defaults for a kind of parameter with what the measurement says."""
    unknown = set(user) - _CONFIGURABLE[kind] - {"name"}
    if unknown:
        raise Unsupported(f"the measurement sets {sorted(unknown)} of {name!r}")
    bounds, init, centre = {
        ALPHA: ((-5.0, 5.0), 0.0, 0.0),
        NORM: ((0.0, 10.0), 1.0, None),
        LUMI: (None, None, None),
        "staterror": ((1e-10, 10.0), 1.0, 1.0),
        "shapesys": ((1e-10, 10.0), 1.0, None),
        "shapefactor": ((0.0, 10.0), 1.0, None),
    }[kind]

    def get(key: str, default: Any, *more: int) -> FloatArray:
        return _numbers(name, key, user.get(key, default), (size, *more))

    limits = get("bounds", None if bounds is None else [bounds] * size, 2)
    if np.any(limits[:, 0] > limits[:, 1]):
        raise Unsupported(f"a lower bound of {name!r} is above the upper one")
    none = np.zeros(size)
    aux, precision, factor = none, none, none
    if kind == "shapesys":
        factor = get("factors", factors)
        aux = get("auxdata", factors)
        if not np.all(factor > 0) or not np.all(aux >= 0):
            raise Unsupported(f"a factor of {name!r} is not above zero, or its data are below")
    elif kind in (ALPHA, LUMI, "staterror"):
        aux = get("auxdata", None if centre is None else [centre] * size)
        widths = get("sigmas", np.ones(size) if sigmas is None else sigmas)
        if not np.all(widths > 0):
            raise Unsupported(f"a width of {name!r} is not above zero")
        precision = widths**-2.0
    fixed_setting = user.get("fixed", fixed)
    if fixed_setting is not fixed and not isinstance(fixed_setting, bool):
        raise Unsupported(f"the measurement's 'fixed' of {name!r} is neither true nor false")
    return ParameterSet(
        init=get("inits", None if init is None else [init] * size),
        lower=limits[:, 0],
        upper=limits[:, 1],
        fixed=np.broadcast_to(np.asarray(fixed_setting, dtype=bool), (size,)),
        aux=aux,
        precision=precision,
        factor=factor,
    )


def _numbers(name: str, key: str, value: Any, shape: tuple[int, ...]) -> FloatArray:
    """Read a setting of a measurement as an array."""
    if value is None:
        raise Unsupported(f"the measurement does not set {key!r} of {name!r}")
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.shape != shape or not np.all(np.isfinite(array)):
        raise Unsupported(f"the measurement's {key!r} of {name!r} do not fit")
    return array


def user_settings(measurement: Spec) -> dict[str, Spec]:
    """Read a measurement's settings of parameters, by name."""
    settings: dict[str, Spec] = {}
    for entry in measurement["config"]["parameters"]:
        if entry["name"] in settings:
            raise Unsupported(f"the measurement configures {entry['name']!r} twice")
        settings[entry["name"]] = entry
    return settings


SETTINGS = ("init", "lower", "upper", "fixed", "aux", "precision", "factor")
