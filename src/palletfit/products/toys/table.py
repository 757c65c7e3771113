"""CLs from pseudo-experiments ("toys") of an analysis' chosen patches, beside asymptotic ones.

``toys.json`` is keyed by signal point as ``results.json`` is; ``toys.csv`` is a table with the same
content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from palletfit.config import ToySettings
from palletfit.engine.interpcodes import FloatArray
from palletfit.errors import StoreError
from palletfit.pallet.patches import file_stem
from palletfit.products.toys.compute import HYPOTHESES
from palletfit.products.toys.results import ToyResult, enough, merge, toys_needed
from palletfit.products.toys.shards import needed
from palletfit.runs.results import EXPECTED_COLUMNS, RegionResults, first_columns, notes

Record = Mapping[str, Any]

#: The observed q of toys comes from fits of their own; more than this is worth a remark.
_SAME_Q = 0.01
#: So many reasons why toys have no test statistic are named.
_NAMED_REASONS = 5
_OBSERVED = ("CLs_obs", "CLsb_obs", "CLb_obs")


def combine(
    results: Mapping[str, Mapping[str, Any]],
    tests: Sequence[RegionResults],
    toys: Sequence[RegionResults],
    settings: ToySettings,
) -> dict[str, Any]:
    """What the toys of chosen signal points say.

    Parameters
    ----------
    results
        Content of ``results.json``: a point's toys are of the region that it is taken from.
    tests
        Records of the hypothesis tests, by region.
    toys
        Records of shards, by region.
    settings
        How many toys count, and which precision is wanted.

    Returns
    -------
    dict
        By signal point, in the order of `results`, those with toys only. A shard that failed counts
        as toys without a test statistic: `CLs_obs_range` says what they may change. Without any
        shard the point is ``failed``, and has a ``problem`` in place of numbers.
    """
    tested = {region.name: region.records for region in tests}
    shards = {region.name: of_patches(region) for region in toys}
    found = {}
    for name, entry in results.items():
        region = entry["region"]
        patch = entry["regions"][region]["patch"]
        made = shards.get(region, {}).get(patch)
        if made is not None:
            found[name] = {
                "mass_hypotheses": entry["mass_hypotheses"],
                "region": region,
                "patch": patch,
                **_numbers(made, settings, tested[region][patch]),
            }
    return found


def of_patches(region: RegionResults) -> dict[str, list[Record]]:
    """Records of shards by patch, in the order of their toys."""
    found: dict[str, list[Record]] = {}
    for record in region.records.values():
        patch = record["key"]["options"]["of"]
        found.setdefault(patch, []).append({**record, "patch": patch})
    return {
        patch: sorted(shards, key=lambda item: int(item["key"]["options"]["first"]))
        for patch, shards in found.items()
    }


def _numbers(shards: Sequence[Record], settings: ToySettings, test: Record) -> dict[str, Any]:
    good = [item for item in shards if item["status"] != "failed"]
    asymptotic = _asymptotic(test)
    if not good:
        problem = shards[0]["error"]["problem"]
        return {"status": "failed", "toys": 0, "problem": problem, "asymptotic": asymptotic}
    whole = [item if item["status"] != "failed" else _lost(item, good[0]) for item in shards]
    result = merge(whole, _count(whole, settings))
    plain = result.as_json()
    for name in ("patch", "searched"):
        del plain[name]
    plain["failed"] = {name: len(numbers) for name, numbers in result.failed.items()}
    reasons = (
        item["reason"] for each in whole for name in HYPOTHESES for item in each[name]["failed"]
    )
    plain["doubts"] = list(dict.fromkeys(reasons))[:_NAMED_REASONS]
    plain["remarks"] = [*plain["remarks"], *_remarks(result, shards, settings, test)]
    plain["searched"] = result.searched
    plain["fit_time"] = sum(item["seconds"] for item in good)
    return {**plain, "asymptotic": asymptotic}


def _count(shards: Sequence[Record], settings: ToySettings) -> int:
    """How many toys count, which may be fewer than there are in the last shard."""
    spans = {(item["first"], item["count"]): item for item in shards}
    _, wanted, complete = needed(spans, settings)
    made = sum(item["count"] for item in shards)
    # Shards that failed have no further ones.
    return wanted if complete else min(made, settings.toys)


def _lost(shard: Record, other: Record) -> Record:
    """A failed shard as one whose toys have no test statistic."""
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
    for item in shards:
        if item["status"] == "failed":
            first, count = (item["key"]["options"][name] for name in ("first", "count"))
            problem = item["error"]["problem"]
            remarks.append(f"toys {first} to {first + count - 1} are missing: {problem}")
    wanted = settings.precision
    if wanted is not None and not enough(result, wanted):
        remarks.append(
            f"the uncertainty of CLs is above the wanted {wanted:g}: it takes about "
            f"{toys_needed(result, wanted)} toys"
        )
    if test["status"] != "failed" and abs(test["q"] - result.q) > _SAME_Q:
        remarks.append(
            f"the observed q is {result.q:.4g} in the fits of toys, {test['q']:.4g} in the "
            "hypothesis test"
        )
    return remarks


def _asymptotic(test: Record) -> dict[str, Any]:
    if test["status"] == "failed":
        return {"status": "failed", "problem": test["error"]["problem"]}
    names = ("status", "q", "q_asimov", *_OBSERVED, "CLs_exp")
    return {name: test[name] for name in names}


def find(found: Mapping[str, Mapping[str, Any]], stem: str) -> Mapping[str, Any]:
    """The entry of ``toys.json`` whose patch has this file name.

    Raises
    ------
    StoreError
        There is none.
    """
    for entry in found.values():
        if file_stem(entry["patch"]) == stem:
            return entry
    raise StoreError(
        f"No patch that has toys has the file name {stem!r}.",
        remedy="Name it under toys.patches.",
    )


def statistics(region: RegionResults, entry: Mapping[str, Any]) -> dict[str, FloatArray]:
    """The test statistic of all toys that count in an entry and have one, by hypothesis."""
    shards = [
        item for item in of_patches(region).get(entry["patch"], []) if item["status"] != "failed"
    ]
    return {
        name: np.array(
            [
                q
                for item in shards
                for number, q in enumerate(item[name]["q"], item["first"])
                if q is not None and number < entry["toys"]
            ],
            dtype=float,
        )
        for name in HYPOTHESES
    }


def as_table(found: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """One row a signal point: values with uncertainties, and beside them asymptotic ones."""
    rows = []
    for name, entry in found.items():
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
