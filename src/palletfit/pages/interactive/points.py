"""What the page says about each point: CLs, limits, the evidence of its fits, pulls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palletfit.runs.results import RegionResults
from palletfit.runs.store import RecordStore

#: With more points than this the single attempts at fits are left out, for the size of the page.
MOST_ATTEMPTS = 2000
#: The fits of a hypothesis test, in the order in which they are shown.
_FITS = ("background", "free", "fixed", "asimov_fixed")
#: How many pulls and impacts are shown.
_LARGEST = 15
#: Significant digits of numbers in the page.
_DIGITS = 6


def details(
    results: Mapping[str, Any],
    regions: Sequence[RegionResults],
    labels: Sequence[str],
    *,
    limits: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """What is known of each point, as plain data.

    Parameters
    ----------
    results
        Content of ``results.json``.
    regions
        Records of the hypothesis tests of all regions.
    labels
        Names of the points' values.
    limits
        Content of ``limits.json``, if there are upper limits.
    folder
        ``results/ANALYSIS``, where records of diagnostics and limits are, if there are any. What
        belongs to another workspace or patch than the hypothesis test is left out.

    Returns
    -------
    dict
        By patch name; keys that have no content are absent.
    """
    records = {region.name: region.records for region in regions}
    brief = len(results) > MOST_ATTEMPTS
    found = {}
    for name, result in results.items():
        region = result["region"]
        patch = result["regions"][region]["patch"]
        record = records[region][patch]
        diagnosed = _record(folder, region, "diagnostics", patch, record)
        entry = {
            "labels": list(zip(labels, result["mass_hypotheses"], strict=True)),
            "region": region,
            "status": result["status"],
            "problem": result.get("problem"),
            "CLs": _values(result["CLs_obs"], result["CLs_exp"]),
            "mu_hat": _numbers([record.get("mu_hat"), record.get("mu_hat_error")]),
            "remarks": [*(result.get("remarks") or []), *_failure(diagnosed)],
            "fits": [
                _fit(kind, record["fits"][kind], brief=brief)
                for kind in _FITS
                if kind in record.get("fits", {})
            ],
            "regions": list(_others(result)),
            "limits": _limits((limits or {}).get(name)),
            **_diagnostics(diagnosed),
        }
        limit_record = _record(folder, region, "limits", patch, None)
        if limit_record is not None and not _belongs(limit_record, record):
            entry["limits"] = None
        found[name] = {key: value for key, value in entry.items() if value not in (None, [], {})}
    return found


def _values(observed: Any, expected: Any) -> list[float | None] | None:
    """Observed value, and the five expected ones."""
    return None if expected is None else _numbers([observed, *expected])


def _numbers(values: Sequence[Any]) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")


def _fit(name: str, fit: Mapping[str, Any], *, brief: bool) -> dict[str, Any]:
    attempts = fit.get("attempts") or []
    made = {
        "name": name.replace("_", " "),
        "trusted": fit["trusted"],
        "reason": fit["reason"],
        "mu": _number(fit["mu"]),
        "edm": _number(fit["edm"]),
        "agreed": fit["agreed"],
        "tried": len(attempts) or None,
        "spread": _number(fit["spread"]),
    }
    if not brief:
        made["attempts"] = [_attempt(item, fit["twice_nll"]) for item in attempts]
    return made


def _attempt(attempt: Mapping[str, Any], lowest: float) -> list[Any]:
    end = attempt["twice_nll"]
    above = None if end is None else _number(end - lowest)
    words = "; ".join(attempt["doubts"])
    where = f"{attempt['optimizer']} from {attempt['start']}"
    return [where, above, _number(attempt["edm"]), words]


def _others(result: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Regions with status, observed and median expected CLs, if there are several."""
    if len(result["regions"]) > 1:
        for name, item in result["regions"].items():
            expected = item["CLs_exp"]
            median = None if expected is None else _number(expected[2])
            yield [name, item["status"], _number(item["CLs_obs"]), median]


def _limits(limits: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if limits is None or limits.get("mu_exp") is None:
        return None
    made: dict[str, Any] = {"mu": _values(limits.get("mu_obs"), limits["mu_exp"])}
    if limits.get("upper_limit_exp_pb") is not None:
        made["pb"] = _values(limits.get("upper_limit_obs_pb"), limits["upper_limit_exp_pb"])
        made["cross_section"] = _number(limits.get("cross_section_pb"))
    return made


def _record(
    folder: Path | None, region: str, product: str, patch: str, test: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """A record of another product of the patch, if there is one that belongs to the test."""
    if folder is None:
        return None
    store = RecordStore(folder / region / product)
    record = store.read(store.path(patch))
    if record is None or (test is not None and not _belongs(record, test)):
        return None
    return record


def _belongs(record: Mapping[str, Any], test: Mapping[str, Any]) -> bool:
    """Whether two records are of the same workspace and patch."""
    keys = record.get("key", {}), test["key"]
    return all(keys[0].get(part) == keys[1][part] for part in ("workspace", "patch"))


def _failure(record: Mapping[str, Any] | None) -> Iterator[str]:
    """Why there are no diagnostics, where they were asked for."""
    if record is not None and record["status"] == "failed":
        yield f"diagnostics failed: {record['error']['problem']}"


def _diagnostics(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """The largest pulls and impacts."""
    if record is None:
        return {}
    pulls = [
        [item["name"], _number(item["pull"]), _number(item["constraint"])]
        for item in record.get("parameters") or []
        if item.get("pull") is not None
    ]
    impacts = [
        [item["parameter"], _number(item["postfit_up"]), _number(item["postfit_down"])]
        for item in record.get("impacts") or []
    ]
    return {
        "pulls": sorted(pulls, key=lambda item: -abs(item[1] or 0.0))[:_LARGEST],
        "impacts": impacts[:_LARGEST],
    }
