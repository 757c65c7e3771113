"""Start values, constants and bounds of parameters: parameter points and domains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from palletfit.pallet.hs3.document import Document, Spec, begin, short


@dataclass(frozen=True)
class Values:
    """Values, constancy and bounds of parameters in an HS3 document.

    Attributes
    ----------
    value
        Values by name.
    const
        Whether a parameter is constant, by name.
    bounds
        Bounds by name; infinite where a domain has none.
    """

    value: Mapping[str, float]
    const: Mapping[str, bool]
    bounds: Mapping[str, tuple[float, float]]


def read_values(document: Document, points: Sequence[Spec], domains: Sequence[Spec]) -> Values:
    """Read parameter points and domains; of points the last one counts, of domains the first.

    Raises
    ------
    Hs3Error
        A value is no number, a lower bound is above the upper one, or a domain has another type
        than `product_domain`.
    """
    value: dict[str, float] = {}
    const: dict[str, bool] = {}
    for point in points:
        owner = f"the parameter point {short(point['name'])}"
        for entry in document.objects(point, "parameters", owner):
            name = document.text(entry, "name", f"an entry of {owner}")
            value[name] = document.number(entry.get("value"), f"{short(name)} of {owner}")
            const[name] = _flag(document, entry, f"{short(name)} of {owner}")
    bounds: dict[str, tuple[float, float]] = {}
    for domain in domains:
        owner = f"the domain {short(domain['name'])}"
        if domain.get("type") != "product_domain":
            raise document.error(
                f"{begin(owner)} has the type {short(domain.get('type'))}, and not product_domain."
            )
        for axis in document.objects(domain, "axes", owner):
            name = document.text(axis, "name", f"an axis of {owner}")
            title = f"{short(name)} in {owner}"
            if _flag(document, axis, title):
                const.setdefault(name, True)
                if axis.get("value") is not None:
                    value.setdefault(name, document.number(axis["value"], title))
            bounds.setdefault(name, _bounds(document, axis, title))
    return Values(value, const, bounds)


def _flag(document: Document, entry: Spec, owner: str) -> bool:
    flag = entry.get("const", False)
    if not isinstance(flag, bool):
        raise document.error(f"`const` of {owner} is neither true nor false: {short(flag)}.")
    return flag


def _bounds(document: Document, axis: Spec, title: str) -> tuple[float, float]:
    lower, upper = (
        _bound(document, axis.get(key), default, f"`{key}` of {title}")
        for key, default in (("min", -math.inf), ("max", math.inf))
    )
    if lower > upper:
        raise document.error(
            f"The lower bound of {title} is above the upper one: {lower:g}, {upper:g}."
        )
    return lower, upper


def _bound(document: Document, value: object, default: float, title: str) -> float:
    if value is None or (isinstance(value, float) and value == default):
        return default
    return document.number(value, title)
