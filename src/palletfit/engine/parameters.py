"""The settings of parameters: pyhf's defaults merged with what a measurement says.

The conventions (which parameters there are, their constraints, bounds and data) are pyhf 0.7's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.samples import ALPHA, LUMI, NORM, Spec, Unsupported
from palletfit.pallet.extensions import CONSTRAINTS

#: What a measurement may say about a parameter of each kind (more makes pyhf refuse the model).
_CONFIGURABLE = {
    ALPHA: {"inits", "bounds", "fixed", "auxdata"},
    NORM: {"inits", "bounds", "fixed"},
    LUMI: {"inits", "bounds", "fixed", "auxdata", "sigmas"},
    "staterror": {"inits", "bounds", "fixed", "auxdata", "sigmas"},
    "shapesys": {"inits", "bounds", "fixed", "auxdata", "factors"},
    "shapefactor": {"inits", "bounds", "fixed"},
}
#: The same of a parameter whose constraint it sets.
_OF_CONSTRAINED = {
    *("name", "constraint", "inits", "bounds", "fixed"),
    *("auxdata", "sigmas", "factors"),
}
#: What it has to say, because there is no default. (pyhf takes a width of one for sigmas.)
_NEEDED = {LUMI: {"inits", "bounds", "auxdata", "sigmas"}}


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
    """Merge pyhf's defaults for a kind of parameter with what the measurement says.

    A lumi without width is fixed where it was measured, or where the measurement fixes it. Its
    constraint term, which is a constant, is then that of a width of one.

    Raises
    ------
    Unsupported
        A setting is missing, has another shape or no meaning, or fixes the parameter outside of
        its bounds.
    """
    if "constraint" in user:
        return _constrained(name, kind, size, user, sigmas, factors, fixed)
    _check_keys(name, kind, user)
    bounds, start, centre = {
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
    init = get("inits", None if start is None else [start] * size)
    fixed_setting = _fixed_setting(name, user, fixed, init, limits)
    if kind == "shapesys":
        factor = get("factors", factors)
        aux = get("auxdata", factors)
        if not np.all(factor > 0) or not np.all(aux >= 0):
            raise Unsupported(f"a factor of {name!r} is not above zero, or its data are below")
    elif kind in (ALPHA, LUMI, "staterror"):
        aux = get("auxdata", None if centre is None else [centre] * size)
        widths = get("sigmas", np.ones(size) if sigmas is None else sigmas)
        if kind == LUMI and np.all(widths == 0):
            init = init if fixed_setting is True else aux
            fixed_setting, widths = True, np.ones(size)
        if not np.all(widths > 0):
            raise Unsupported(f"a width of {name!r} is not above zero")
        precision = widths**-2.0
    if fixed_setting is True:
        _check_inside(name, init, limits)
    return ParameterSet(
        init=init,
        lower=limits[:, 0],
        upper=limits[:, 1],
        fixed=np.broadcast_to(np.asarray(fixed_setting, dtype=bool), (size,)),
        aux=aux,
        precision=precision,
        factor=factor,
    )


def _constrained(
    name: str,
    kind: str,
    size: int,
    user: Spec,
    sigmas: FloatArray | None,
    factors: FloatArray | None,
    fixed: NDArray[np.bool_] | None,
) -> ParameterSet:
    """Constrain a parameter as the measurement says: :mod:`palletfit.pallet.extensions`."""
    unknown = set(user) - _OF_CONSTRAINED
    if unknown:
        raise Unsupported(f"the measurement sets {sorted(unknown)} of {name!r}")
    plain_kind = {ALPHA: ALPHA, NORM: NORM}.get(kind, "shapefactor")
    default_bounds = [(1e-10, 10.0)] * size if kind in ("staterror", "shapesys") else None
    settings = {key: user[key] for key in _CONFIGURABLE["shapefactor"] if key in user}
    if default_bounds is not None:
        settings.setdefault("bounds", default_bounds)
    free = parameter_set(name, plain_kind, size, settings, fixed=fixed)
    kinds = user["constraint"]
    kinds = [kinds] * size if isinstance(kinds, str) else kinds
    if (
        not isinstance(kinds, list)
        or len(kinds) != size
        or any(entry not in CONSTRAINTS for entry in kinds)
    ):
        raise Unsupported(f"the measurement's 'constraint' of {name!r} is not one of {CONSTRAINTS}")
    gauss, poisson = (np.array([entry == word for entry in kinds]) for word in CONSTRAINTS[:2])
    unset = np.ones(size)
    widths, counts = unset, unset
    if gauss.any():
        default = sigmas if factors is None else factors**-0.5
        widths = _numbers(name, "sigmas", user.get("sigmas", default), (size,))
    if poisson.any():
        default = factors if sigmas is None else sigmas**-2.0
        counts = _numbers(name, "factors", user.get("factors", default), (size,))
    centre = 0.0 if kind == ALPHA else 1.0
    aux = _numbers(name, "auxdata", user.get("auxdata", np.where(poisson, counts, centre)), (size,))
    if np.any(gauss & (widths <= 0)) or np.any(poisson & ((counts <= 0) | (aux < 0))):
        raise Unsupported(f"a width of {name!r} is not above zero, or its data are below")
    return replace(
        free,
        aux=np.where(gauss | poisson, aux, 0.0),
        precision=np.where(gauss, np.where(gauss, widths, 1.0) ** -2.0, 0.0),
        factor=np.where(poisson, counts, 0.0),
    )


def _fixed_setting(
    name: str, user: Spec, default: NDArray[np.bool_] | None, init: FloatArray, limits: FloatArray
) -> bool | NDArray[np.bool_] | None:
    """Read whether a parameter is fixed, or which of its components are."""
    fixed = user.get("fixed", default)
    if fixed is default or isinstance(fixed, bool):
        return fixed
    values = fixed if isinstance(fixed, list) else []
    if len(values) != len(init) or not all(isinstance(value, bool) for value in values):
        raise Unsupported(f"the measurement's 'fixed' of {name!r} is neither true nor false")
    mask = np.array(fixed, dtype=bool)
    _check_inside(name, init[mask], limits[mask])
    return mask


def _check_keys(name: str, kind: str, user: Spec) -> None:
    """Refuse what a measurement cannot say about a parameter, and silence about what it has to."""
    unknown = set(user) - _CONFIGURABLE[kind] - {"name"}
    if unknown:
        raise Unsupported(f"the measurement sets {sorted(unknown)} of {name!r}")
    missing = [key for key in sorted(_NEEDED.get(kind, ())) if user.get(key) is None]
    if missing:
        raise Unsupported(f"the measurement does not set {', '.join(missing)} of {name!r}")


def _check_inside(name: str, init: FloatArray, limits: FloatArray) -> None:
    """Refuse a parameter that is fixed where its bounds do not allow it."""
    if np.any((init < limits[:, 0]) | (init > limits[:, 1])):
        raise Unsupported(
            f"the measurement fixes {name!r} at {_text(init)}, outside of its bounds "
            f"{_text(limits.ravel())}"
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


def _text(values: FloatArray) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def measurement_of(spec: Spec, name: str | None) -> Spec:
    """Give a measurement by its name, or the first one.

    Raises
    ------
    Unsupported
        There is none.
    """
    for measurement in spec["measurements"]:
        if name is None or measurement["name"] == name:
            chosen: Spec = measurement
            return chosen
    raise Unsupported(f"there is no measurement {name!r}")


def _fixed_poi(measurement: Spec) -> str:
    """Remark that a measurement fixes its parameter of interest, which no fit here does."""
    return (
        f"the measurement {measurement['name']!r} marks its parameter of interest "
        f"{measurement['config']['poi']!r} as fixed: it is free here, where a fit does not test it"
    )


def free_poi(measurement: Spec) -> tuple[Spec, tuple[str, ...]]:
    """Free the parameter of interest of a measurement.

    Workspaces that were converted from ROOT's may mark all parameters as constant.

    Returns
    -------
    tuple
        The measurement, a changed copy where it fixes its parameter of interest; and remarks.
    """
    config = measurement["config"]
    fixed = [
        entry["name"] == config["poi"] and bool(entry.get("fixed"))
        for entry in config["parameters"]
    ]
    if not any(fixed):
        return measurement, ()
    parameters = [
        {**entry, "fixed": False} if is_fixed else entry
        for entry, is_fixed in zip(config["parameters"], fixed, strict=True)
    ]
    freed = {**measurement, "config": {**config, "parameters": parameters}}
    return freed, (_fixed_poi(measurement),)


def user_settings(measurement: Spec) -> dict[str, Spec]:
    """Read a measurement's settings of parameters, by name."""
    settings: dict[str, Spec] = {}
    for entry in measurement["config"]["parameters"]:
        if entry["name"] in settings:
            raise Unsupported(f"the measurement configures {entry['name']!r} twice")
        settings[entry["name"]] = entry
    return settings


SETTINGS = ("init", "lower", "upper", "fixed", "aux", "precision", "factor")
