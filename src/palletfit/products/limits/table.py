"""Upper limits of an analysis: one entry a signal point, from its most sensitive region.

``limits.json`` is keyed by patch, as ``results.json`` is; ``limits.csv`` is a tidy table with the
same content.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from palletfit.planes.contour import OTHER, OTHER_MINIMUM
from palletfit.products.limits.cross_sections import Table
from palletfit.runs.results import RegionResults, first_columns, most_sensitive, notes

SIGMAS = ("minus2", "minus1", "0", "plus1", "plus2")
_STATES = ("state_obs", *(f"state_exp_{n}" for n in SIGMAS))
_MU = ("mu_obs", *(f"mu_exp_{n}" for n in SIGMAS), "mu_hat")
_PB = ("upper_limit_obs_pb", *(f"upper_limit_exp_{n}_pb" for n in SIGMAS))
#: Columns with another minimum of the likelihood, which a table has if one of its points has other
#: limits with it.
_OTHER_STATES = tuple(f"{name}{OTHER}" for name in _STATES)
_OTHER_MU, _OTHER_PB = (tuple(f"{name}{OTHER}" for name in names) for names in (_MU, _PB))
_TEXT = ("patch", "region", "status", "remark", OTHER_MINIMUM, *_STATES, *_OTHER_STATES)
_NUMERIC = (
    *(*_MU, "mu_max", "cross_section_pb", "cross_section_error_pb", *_PB, "fit_time"),
    *(*_OTHER_MU, *_OTHER_PB),
)


def combine(
    regions: Sequence[RegionResults], labels: Sequence[str], cross_sections: Table | None = None
) -> dict[str, Any]:
    """Take for each signal point the region with the best (lowest) median expected limit.

    A limit beyond the bound is worse than any other one. Of two beyond the bound that with the
    lower CLs at the bound is better. A failed region is worst.

    Parameters
    ----------
    regions
        Records of upper limits.
    labels
        Of the points; points of different regions are the same if the values of all are.
    cross_sections
        Theory cross sections; with them limits are in pb, too.

    Returns
    -------
    dict
        By patch name, in the order in which points first appear.

    Raises
    ------
    ConfigError
        The table lacks a point.
    """
    entries = most_sensitive(regions, labels, _rank, _numbers)
    if cross_sections is None:
        return entries
    in_pb = {}
    for name, entry in entries.items():
        patch = entry["regions"][entry["region"]]["patch"]
        values = dict(zip(labels, entry["mass_hypotheses"], strict=True))
        theory = cross_sections.of(patch, values)
        by_region = {"regions": entry.pop("regions")}
        if entry.get("other_minimum"):
            other = entry["other_minimum"]
            entry["other_minimum"] = {**other, **_in_pb(other, theory.value)}
        of_theory = {
            "cross_section_pb": theory.value,
            "cross_section_error_pb": theory.uncertainty,
        }
        in_pb[name] = {**entry, **of_theory, **_in_pb(entry, theory.value), **by_region}
    return in_pb


def _rank(record: Mapping[str, Any]) -> tuple[int, float]:
    if record["status"] == "failed":
        return 3, 0.0
    median = record["expected"][2]
    if median["state"] == "found":
        return 0, float(median["mu"])
    return (1, float(median["CLs"])) if median["state"] == "beyond" else (2, 0.0)


def _numbers(record: Mapping[str, Any]) -> dict[str, Any]:
    if record["status"] == "failed":
        return {
            "mu_obs": None,
            "mu_exp": [None] * len(SIGMAS),
            "states": {"obs": "failed", "exp": ["failed"] * len(SIGMAS)},
            "mu_max": None,
            "other_minimum": None,
            "problem": record["error"]["problem"],
        }
    limits = {"observed": record["observed"]} | {
        f"expected {name}": limit for name, limit in zip(SIGMAS, record["expected"], strict=True)
    }
    return {
        "mu_obs": record["mu_obs"],
        "mu_exp": record["mu_exp"],
        "states": _states(record),
        # Records of earlier versions say nothing of jumps.
        "jumps": {
            "obs": record["observed"].get("jump"),
            "exp": [limit.get("jump") for limit in record["expected"]],
        },
        "mu_max": record["mu_max"],
        "mu_hat": record["mu_hat"],
        "mu_hat_error": record["mu_hat_error"],
        # Records of earlier versions say nothing of other minima.
        "other_minimum": (other := record.get("other_minimum"))
        and {
            **{name: other[name] for name in ("minimum", "mu_obs", "mu_exp")},
            "states": _states(other),
            "mu_hat": other["mu_hat"],
        },
        "tolerance": {
            "obs": record["observed"]["tolerance"],
            "exp": [limit["tolerance"] for limit in record["expected"]],
        },
        "fit_time": record["fit_time"],
        "doubts": [
            f"{name}: {limit['reason']}"
            for name, limit in limits.items()
            if not limit["trusted"] or limit["state"] == "unsettled"
        ],
        "remarks": record["remarks"],
    }


def _states(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states of six limits."""
    return {
        "obs": limits["observed"]["state"],
        "exp": [limit["state"] for limit in limits["expected"]],
    }


def _in_pb(entry: Mapping[str, Any], value: float) -> dict[str, Any]:
    """Return the limits of an entry times a cross section in pb."""

    def limit(mu: float | None) -> float | None:
        return None if mu is None else mu * value

    return {
        "upper_limit_obs_pb": limit(entry["mu_obs"]),
        "upper_limit_exp_pb": [limit(mu) for mu in entry["mu_exp"]],
    }


def as_table(entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Make a table: labels, region, states, limits on mu and, if known, in pb of each point.

    If a point has other limits with another minimum of its likelihood, there are also the columns
    ``minimum_other``, and those of limits, states and mu-hat with the ending ``_other``.
    """
    several = any(entry.get("other_minimum") for entry in entries.values())
    rows = []
    for name, entry in entries.items():
        row = {
            **first_columns(name, entry, labels),
            "mu_obs": entry["mu_obs"],
            **{f"mu_exp_{n}": mu for n, mu in zip(SIGMAS, entry["mu_exp"], strict=True)},
            "state_obs": entry["states"]["obs"],
            **{f"state_exp_{n}": s for n, s in zip(SIGMAS, entry["states"]["exp"], strict=True)},
            "mu_max": entry["mu_max"],
            "mu_hat": entry.get("mu_hat"),
        }
        with_theory = "cross_section_pb" in entry
        if with_theory:
            row |= {name: entry[name] for name in ("cross_section_pb", "cross_section_error_pb")}
            row |= dict(zip(_PB, _six_in_pb(entry), strict=True))
        if several:
            row |= _other_columns(entry.get("other_minimum"), with_theory=with_theory)
        row |= {"fit_time": entry.get("fit_time"), "remark": "; ".join(notes(entry))}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype({name: float for name in _NUMERIC if name in table})


def _six_in_pb(limits: Mapping[str, Any]) -> list[float | None]:
    return [limits["upper_limit_obs_pb"], *limits["upper_limit_exp_pb"]]


def _other_columns(other: Mapping[str, Any] | None, *, with_theory: bool) -> dict[str, Any]:
    """Return the columns with the other minimum of a point, empty if it has no other limits."""
    in_pb = _OTHER_PB if with_theory else ()
    if other is None:
        return {
            OTHER_MINIMUM: "",
            **dict.fromkeys((*_OTHER_MU, *in_pb)),
            **dict.fromkeys(_OTHER_STATES, ""),
        }
    values = (other["mu_obs"], *other["mu_exp"], other["mu_hat"])
    states = (other["states"]["obs"], *other["states"]["exp"])
    return {
        OTHER_MINIMUM: other["minimum"],
        **dict(zip(_OTHER_MU, values, strict=True)),
        **(dict(zip(in_pb, _six_in_pb(other), strict=True)) if with_theory else {}),
        **dict(zip(_OTHER_STATES, states, strict=True)),
    }


def read_table(path: Path) -> pd.DataFrame:
    """Read ``limits.csv``."""
    # Only numbers can be missing: a patch may well be called "NA".
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(_TEXT, str),
        keep_default_na=False,
        na_values={column: [""] for column in _NUMERIC},
    )


def nearest_to_one(entries: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Choose the patch whose median expected limit is nearest to one, on a logarithmic scale."""
    distances = {
        name: abs(math.log(entry["mu_exp"][2]))
        for name, entry in entries.items()
        if entry["mu_exp"][2] is not None
    }
    return min(distances, key=lambda name: distances[name]) if distances else None
