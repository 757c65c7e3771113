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

from palletfit.products.limits.cross_sections import Table
from palletfit.runs.results import RegionResults, first_columns, most_sensitive, notes

SIGMAS = ("minus2", "minus1", "0", "plus1", "plus2")
_TEXT = ("patch", "region", "status", "remark", "state_obs", *(f"state_exp_{n}" for n in SIGMAS))
_NUMERIC = (
    *("mu_obs", *(f"mu_exp_{n}" for n in SIGMAS), "mu_hat", "mu_max"),
    *("cross_section_pb", "cross_section_error_pb"),
    *("upper_limit_obs_pb", *(f"upper_limit_exp_{n}_pb" for n in SIGMAS), "fit_time"),
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
        in_pb[name] = {**entry, **_in_pb(entry, theory.value, theory.uncertainty), **by_region}
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
            "problem": record["error"]["problem"],
        }
    limits = {"observed": record["observed"]} | {
        f"expected {name}": limit for name, limit in zip(SIGMAS, record["expected"], strict=True)
    }
    return {
        "mu_obs": record["mu_obs"],
        "mu_exp": record["mu_exp"],
        "states": {
            "obs": record["observed"]["state"],
            "exp": [limit["state"] for limit in record["expected"]],
        },
        # Records of earlier versions say nothing of jumps.
        "jumps": {
            "obs": record["observed"].get("jump"),
            "exp": [limit.get("jump") for limit in record["expected"]],
        },
        "mu_max": record["mu_max"],
        "mu_hat": record["mu_hat"],
        "mu_hat_error": record["mu_hat_error"],
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


def _in_pb(entry: Mapping[str, Any], value: float, error: float | None) -> dict[str, Any]:
    def limit(mu: float | None) -> float | None:
        return None if mu is None else mu * value

    return {
        "cross_section_pb": value,
        "cross_section_error_pb": error,
        "upper_limit_obs_pb": limit(entry["mu_obs"]),
        "upper_limit_exp_pb": [limit(mu) for mu in entry["mu_exp"]],
    }


def as_table(entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Make a table: labels, region, states, limits on mu and, if known, in pb of each point."""
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
        if "cross_section_pb" in entry:
            in_pb = zip(SIGMAS, entry["upper_limit_exp_pb"], strict=True)
            row |= {
                "cross_section_pb": entry["cross_section_pb"],
                "cross_section_error_pb": entry["cross_section_error_pb"],
                "upper_limit_obs_pb": entry["upper_limit_obs_pb"],
                **{f"upper_limit_exp_{n}_pb": value for n, value in in_pb},
            }
        row |= {"fit_time": entry.get("fit_time"), "remark": "; ".join(notes(entry))}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype({name: float for name in _NUMERIC if name in table})


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
