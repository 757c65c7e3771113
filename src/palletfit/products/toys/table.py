"""CLs from pseudo-experiments ("toys") of an analysis' chosen patches, with asymptotic ones.

``toys.json`` is keyed by signal point as ``results.json`` is; ``toys.csv`` is a table with the same
content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from palletfit.config import ToySettings
from palletfit.core.arrays import FloatArray
from palletfit.errors import StoreError
from palletfit.pallet.patches import file_stem
from palletfit.planes.contour import UNTESTED
from palletfit.products.toys.compute import HYPOTHESES
from palletfit.products.toys.results import ToyResult, enough, merge, toys_needed
from palletfit.products.toys.shards import needed
from palletfit.runs.results import (
    EXPECTED_COLUMNS,
    RegionResults,
    first_columns,
    notes,
    without_observed,
)

Record = Mapping[str, Any]

#: The observed q of toys comes from separate fits; a larger difference is worth a remark.
_SAME_Q = 0.01
#: Largest number of named reasons for toys without a test statistic.
_NAMED_REASONS = 5
_OBSERVED = ("CLs_obs", "CLsb_obs", "CLb_obs")


def combine(
    results: Mapping[str, Mapping[str, Any]],
    tests: Sequence[RegionResults],
    toys: Sequence[RegionResults],
    settings: ToySettings,
) -> dict[str, Any]:
    """Combine the toys of chosen signal points.

    Parameters
    ----------
    results
        Content of ``results.json``, which names the region of each point.
    tests
        Records of the hypothesis tests, by region.
    toys
        Records of shards, by region.
    settings
        Number of toys, and the wanted precision.

    Returns
    -------
    dict
        By signal point, in the order of `results`, those with toys only. A shard that failed counts
        as toys without a test statistic; `CLs_obs_range` holds their largest effect. Without any
        shard the point is ``failed``, and has a ``problem`` instead of numbers.
    """
    tested = {region.name: region.records for region in tests}
    shards = {region.name: of_patches(region) for region in toys}
    entries = {}
    for name, entry in results.items():
        region = entry["region"]
        patch = entry["regions"][region]["patch"]
        records = shards.get(region, {}).get(patch)
        if records is not None:
            entries[name] = {
                "mass_hypotheses": entry["mass_hypotheses"],
                "region": region,
                "patch": patch,
                **_numbers(records, settings, tested[region][patch]),
            }
    return entries


def blinded(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Take what stands for results of observations out of entries, where data are blinded."""
    none = dict.fromkeys(("q", *(f"{name}_error" for name in _OBSERVED)))
    return {
        name: {
            **without_observed(entry),
            **{key: value for key, value in none.items() if key in entry},
            "CLs_obs_range": [None, None],
            "asymptotic": {**without_observed(entry["asymptotic"]), "q": None},
            "blinded": True,
        }
        for name, entry in entries.items()
    }


def with_remarks(
    entries: Mapping[str, Mapping[str, Any]], remarks: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Say in entries which channels, bins and data they are of: records of toys do not.

    Parameters
    ----------
    entries
        From :func:`combine`.
    remarks
        By region.
    """
    return {
        name: {**entry, "remarks": [*remarks[entry["region"]], *entry["remarks"]]}
        if "remarks" in entry
        else dict(entry)
        for name, entry in entries.items()
    }


def of_patches(region: RegionResults) -> dict[str, list[Record]]:
    """Sort records of shards by patch, in the order of their toys."""
    by_patch: dict[str, list[Record]] = {}
    for record in region.records.values():
        patch = record["key"]["options"]["of"]
        by_patch.setdefault(patch, []).append({**record, "patch": patch})
    return {
        patch: sorted(shards, key=lambda shard: int(shard["key"]["options"]["first"]))
        for patch, shards in by_patch.items()
    }


def _numbers(shards: Sequence[Record], settings: ToySettings, test: Record) -> dict[str, Any]:
    good = [shard for shard in shards if shard["status"] != "failed"]
    asymptotic = _asymptotic(test)
    if not good:
        problem = shards[0]["error"]["problem"]
        return {"status": "failed", "toys": 0, "problem": problem, "asymptotic": asymptotic}
    filled = [shard if shard["status"] != "failed" else _lost(shard, good[0]) for shard in shards]
    result = merge(filled, _count(filled, settings))
    plain = result.as_json()
    for name in ("patch", "searched"):
        del plain[name]
    plain["failed"] = {name: len(numbers) for name, numbers in result.failed.items()}
    reasons = (
        toy["reason"] for shard in filled for name in HYPOTHESES for toy in shard[name]["failed"]
    )
    plain["doubts"] = list(dict.fromkeys(reasons))[:_NAMED_REASONS]
    plain["remarks"] = [*plain["remarks"], *_remarks(result, shards, settings, test)]
    plain["searched"] = result.searched
    plain["fit_time"] = sum(shard["seconds"] for shard in good)
    return {**plain, "asymptotic": asymptotic}


def _count(shards: Sequence[Record], settings: ToySettings) -> int:
    """Return the number of toys that count; the last shard may hold more."""
    spans = {(shard["first"], shard["count"]): shard for shard in shards}
    _, counted, complete = needed(spans, settings)
    available = sum(shard["count"] for shard in shards)
    # Shards that failed have no further ones.
    return counted if complete else min(available, settings.toys)


def _lost(shard: Record, other: Record) -> Record:
    """Replace a failed shard by one whose toys have no test statistic."""
    first, count = (shard["key"]["options"][name] for name in ("first", "count"))
    reason = shard["error"]["problem"]
    none = {
        "q": [None] * count,
        "failed": [{"toy": number, "reason": reason} for number in range(first, first + count)],
        "searched": [],
    }
    lost = {name: {**other[name], **none} for name in HYPOTHESES}
    return {**other, "first": first, "count": count, **lost}


def _remarks(
    result: ToyResult, shards: Sequence[Record], settings: ToySettings, test: Record
) -> list[str]:
    remarks = []
    for shard in shards:
        if shard["status"] == "failed":
            first, count = (shard["key"]["options"][name] for name in ("first", "count"))
            problem = shard["error"]["problem"]
            remarks.append(f"toys {first} to {first + count - 1} are missing: {problem}")
    precision = settings.precision
    if precision is not None and not enough(result, precision):
        remarks.append(
            f"the uncertainty of CLs is above the wanted {precision:g}: it takes about "
            f"{toys_needed(result, precision)} toys"
        )
    if "q" in test and abs(test["q"] - result.q) > _SAME_Q:
        remarks.append(
            f"the observed q is {result.q:.4g} in the fits of toys, {test['q']:.4g} in the "
            "hypothesis test"
        )
    return remarks


def _asymptotic(test: Record) -> dict[str, Any]:
    if test["status"] == "failed":
        return {"status": "failed", "problem": test["error"]["problem"]}
    if test["status"] == UNTESTED:
        return {"status": UNTESTED}
    names = ("status", "q", "q_asimov", *_OBSERVED, "CLs_exp")
    return {name: test[name] for name in names}


def find(entries: Mapping[str, Mapping[str, Any]], stem: str) -> Mapping[str, Any]:
    """Return the entry of ``toys.json`` whose patch has this file name.

    Raises
    ------
    StoreError
        There is none.
    """
    for entry in entries.values():
        if file_stem(entry["patch"]) == stem:
            return entry
    raise StoreError(
        f"No patch that has toys has the file name {stem!r}.",
        remedy="Name it under toys.patches.",
    )


def statistics(region: RegionResults, entry: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Collect the test statistics of the toys that count in an entry, by hypothesis."""
    shards = [
        shard for shard in of_patches(region).get(entry["patch"], []) if shard["status"] != "failed"
    ]
    return {
        name: np.array(
            [
                q
                for shard in shards
                for number, q in enumerate(shard[name]["q"], shard["first"])
                if q is not None and number < entry["toys"]
            ],
            dtype=float,
        )
        for name in HYPOTHESES
    }


def as_table(entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Make a table: values with uncertainties and asymptotic values of each signal point."""
    rows = []
    for name, entry in entries.items():
        row = {
            **first_columns(name, entry, labels),
            "toys": entry["toys"],
        }
        for column in _OBSERVED:
            row |= {column: entry.get(column), f"{column}_error": entry.get(f"{column}_error")}
        low, high = entry.get("CLs_obs_range", (None, None))
        row |= {"CLs_obs_low": low, "CLs_obs_high": high}
        none = [None] * len(EXPECTED_COLUMNS)
        for column, value, error in zip(
            EXPECTED_COLUMNS, entry.get("CLs_exp", none), entry.get("CLs_exp_errors", none),
            strict=True,
        ):  # fmt: skip
            row |= {column: value, f"{column}_error": error}
        lost = entry.get("failed", {})
        row |= {f"failed_{hypothesis}": lost.get(hypothesis) for hypothesis in HYPOTHESES}
        row |= {"q_obs": entry.get("q"), "mu_hat": entry.get("mu_hat")}
        formulae = entry["asymptotic"]
        row |= {f"{column}_asymptotic": formulae.get(column) for column in _OBSERVED}
        for column, value in zip(EXPECTED_COLUMNS, formulae.get("CLs_exp", none), strict=True):
            row[f"{column}_asymptotic"] = value
        row |= {"fit_time": entry.get("fit_time"), "remark": "; ".join(notes(entry))}
        rows.append(row)
    return pd.DataFrame(rows)
