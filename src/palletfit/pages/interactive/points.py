"""Details of each point: CLs, limits, the evidence of its fits, pulls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palletfit.runs.results import RegionResults
from palletfit.runs.store import RecordStore

#: Largest number of points for which the page holds the attempts of each fit.
MOST_ATTEMPTS = 1000
#: Fits of a hypothesis test, in the order of the page.
_FITS = ("background", "free", "fixed", "asimov_fixed")
#: Largest number of pulls and impacts.
_LARGEST = 15
#: Largest number of parameters of a fit that are shown with both minima.
_MOVED = 3
#: Significant digits of numbers in the page.
_DIGITS = 6


def details(
    results: Mapping[str, Any],
    regions: Sequence[RegionResults],
    labels: Sequence[str],
    *,
    limits: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    blinded: bool = False,
) -> dict[str, Any]:
    """Collect the details of each point as plain data.

    Parameters
    ----------
    results
        Content of ``results.json``.
    regions
        Records of the hypothesis tests of all regions.
    labels
        Names of the values of points.
    limits
        Content of ``limits.json``, if there are upper limits.
    folder
        ``results/ANALYSIS`` with the records of diagnostics and limits, if there are any. Records
        of another workspace or patch than that of the hypothesis test are ignored.
    blinded
        Expected events stand for observed ones, so that there are no observed results.

    Returns
    -------
    dict
        Details by the name of the patch; keys without content are absent.
    """
    records = {region.name: region.records for region in regions}
    brief = len(results) > MOST_ATTEMPTS
    entries = {}
    for name, result in results.items():
        region = result["region"]
        patch = result["regions"][region]["patch"]
        record = records[region][patch]
        diagnosed = _record(folder, region, "diagnostics", patch, record)
        entry = {
            "labels": list(zip(labels, result["mass_hypotheses"], strict=True)),
            "region": region,
            "status": result["status"],
            "blinded": blinded or None,
            "problem": result.get("problem"),
            "CLs": _values(result["CLs_obs"], result["CLs_exp"]),
            "forecast": _forecast(result.get("forecast")),
            "mu_hat": _numbers([record.get("mu_hat"), record.get("mu_hat_error")]),
            "other": _other(record.get("other_minimum")),
            "origin": (result.get("origin") or {}).get("neighbours"),
            "jump": list(dict.fromkeys(mark["neighbour"] for mark in result.get("jump") or [])),
            "remarks": [*(result.get("remarks") or []), *_failure(diagnosed)],
            "fits": [
                _fit(kind, record["fits"][kind], brief=brief)
                for kind in _FITS
                if kind in record.get("fits", {})
            ],
            "regions": list(_regions(result)),
            "limits": _limits((limits or {}).get(name)),
            **_diagnostics(diagnosed),
        }
        limit_record = _record(folder, region, "limits", patch, None)
        if limit_record is not None and not _belongs(limit_record, record):
            entry["limits"] = None
        entries[name] = {key: value for key, value in entry.items() if value not in (None, [], {})}
    return entries


def _forecast(forecast: Mapping[str, Any] | None) -> list[float | None] | None:
    """Round the forecast of a point that was not tested; none if it was."""
    return None if forecast is None else _values(forecast["CLs_obs"], forecast["CLs_exp"])


def _values(observed: Any, expected: Any) -> list[float | None] | None:
    """Round the observed value and the five expected ones."""
    return None if expected is None else _numbers([observed, *expected])


def _numbers(values: Sequence[Any]) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")


def _fit(name: str, fit: Mapping[str, Any], *, brief: bool) -> dict[str, Any]:
    attempts = fit.get("attempts") or []
    summary = {
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
        summary["attempts"] = [_attempt(attempt, fit["twice_nll"]) for attempt in attempts]
    return summary


def _attempt(attempt: Mapping[str, Any], lowest: float) -> list[Any]:
    end = attempt["twice_nll"]
    above = None if end is None else _number(end - lowest)
    doubts = "; ".join(attempt["doubts"])
    method = f"{attempt['optimizer']} from {attempt['start']}"
    return [method, above, _number(attempt["edm"]), doubts]


def _other(other: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Select what another minimum gives: CLs, mu-hat, and the parameters that differ most."""
    if other is None:
        return None
    fits = [
        [
            name.replace("_", " "),
            _number(fit["above"]),
            [[moved, *_numbers(values)] for moved, values in _most_moved(fit["parameters"])],
        ]
        for name in _FITS
        if (fit := other["fits"].get(name))
    ]
    return {
        "minimum": other["minimum"],
        "CLs": _values(other["CLs_obs"], other["CLs_exp"]),
        "mu_hat": _number(other["mu_hat"]),
        "fits": fits,
    }


def _most_moved(parameters: Mapping[str, Sequence[float]]) -> list[tuple[str, Sequence[float]]]:
    """Return the parameters whose two values differ most."""
    return sorted(parameters.items(), key=lambda entry: -abs(entry[1][0] - entry[1][1]))[:_MOVED]


def _regions(result: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Yield the regions with status, observed and median expected CLs, if there are several."""
    if len(result["regions"]) > 1:
        for name, test in result["regions"].items():
            expected = test["CLs_exp"]
            median = None if expected is None else _number(expected[2])
            yield [name, test["status"], _number(test["CLs_obs"]), median]


def _limits(limits: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if limits is None or limits.get("mu_exp") is None:
        return None
    summary: dict[str, Any] = {"mu": _values(limits.get("mu_obs"), limits["mu_exp"])}
    if limits.get("upper_limit_exp_pb") is not None:
        summary["pb"] = _values(limits.get("upper_limit_obs_pb"), limits["upper_limit_exp_pb"])
        summary["cross_section"] = _number(limits.get("cross_section_pb"))
    other = limits.get("other_minimum")
    if other is not None:
        values = _values(other["mu_obs"], other["mu_exp"])
        summary["other"] = {"minimum": other["minimum"], "mu": values}
    return summary


def _record(
    folder: Path | None, region: str, product: str, patch: str, test: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Read the record of another product of a patch, if it belongs to the test."""
    if folder is None:
        return None
    store = RecordStore(folder / region / product)
    record = store.read(store.path(patch))
    if record is None or (test is not None and not _belongs(record, test)):
        return None
    return record


def _belongs(record: Mapping[str, Any], test: Mapping[str, Any]) -> bool:
    """Return whether two records have the same workspace and patch."""
    keys = record.get("key", {}), test["key"]
    return all(keys[0].get(name) == keys[1][name] for name in ("workspace", "patch"))


def _failure(record: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the reason why diagnostics of the patch failed, if they did."""
    if record is not None and record["status"] == "failed":
        yield f"diagnostics failed: {record['error']['problem']}"


def _diagnostics(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Select the largest pulls and impacts."""
    if record is None:
        return {}
    pulls = [
        [entry["name"], _number(entry["pull"]), _number(entry["constraint"])]
        for entry in record.get("parameters") or []
        if entry.get("pull") is not None
    ]
    impacts = [
        [entry["parameter"], _number(entry["postfit_up"]), _number(entry["postfit_down"])]
        for entry in record.get("impacts") or []
    ]
    return {
        "pulls": sorted(pulls, key=lambda entry: -abs(entry[1] or 0.0))[:_LARGEST],
        "impacts": impacts[:_LARGEST],
    }
