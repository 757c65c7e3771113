"""Diagnostics of the chosen patches of an analysis in one table: one entry a patch.

``diagnostics.json`` is keyed by patch, as ``results.json`` is; ``diagnostics.csv`` is a tidy table
with the same content. Everything else is in the records, ``REGION/diagnostics/PATCH.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from palletfit.runs.results import RegionResults, first_columns, notes, unique

#: How many pulls and impacts an entry has, and how many impacts a row of the table.
_LEADING, _IN_TABLE = 10, 5
#: Ends of fits that differ by less than this in 2 NLL are one minimum.
_SAME = 1e-4
_DISCOVERY = ("p0", "significance", "p0_expected", "significance_expected")
_NUMERIC = ("mu_hat", "mu_hat_error", *_DISCOVERY, "fit_time")


def combine(
    regions: Sequence[RegionResults], tests: Sequence[RegionResults], labels: Sequence[str]
) -> dict[str, Any]:
    """Collect the diagnostics of all regions.

    Both products fit with all parameters free, from different starts. If the hypothesis test ended
    in a higher minimum, a remark says so. If the diagnostics did, they are suspect.

    Parameters
    ----------
    regions
        Records of diagnostics; a patch was chosen in the region that its point is taken from.
    tests
        Records of the hypothesis tests.
    labels
        Of the points.

    Returns
    -------
    dict
        By patch name: ``mass_hypotheses``, ``status``, ``region``, and without a failure ``mu_hat``
        with its error, the discovery's p0 and significance (observed and expected; None where the
        test is not possible), the leading impacts and pulls, ``fit_time`` in seconds, ``doubts``
        and ``remarks``; with one ``problem``.
    """
    tested = {region.name: region.records for region in tests}
    entries: dict[str, Any] = {}
    for region in regions:
        for patch, record in region.records.items():
            entry = {
                "mass_hypotheses": [record["values"][label] for label in labels],
                "status": record["status"],
                "region": region.name,
                **_numbers(record),
            }
            test = tested[region.name].get(patch)
            if test is not None and record["status"] != "failed" and "fits" in test:
                _compare(entry, record["twice_nll"], test["fits"]["free"])
            entries[unique(patch, entries, region.name)] = entry
    return entries


def _compare(entry: dict[str, Any], twice_nll: float, test: Mapping[str, Any]) -> None:
    """Note the free fit that ended in a higher minimum, if one did."""
    above = test["twice_nll"] - twice_nll
    difference = f"{abs(above):.3g} in 2 NLL, at mu = {test['mu']:.3g}"
    if above > _SAME:
        words = f"the free fit of the hypothesis test ended higher than this one, by {difference}"
        entry["remarks"] = [*entry["remarks"], words]
    elif above < -_SAME:
        words = f"the free fit of the hypothesis test ended lower than this one, by {difference}"
        entry |= {"status": "suspect", "doubts": [*entry["doubts"], words]}


def _numbers(record: Mapping[str, Any]) -> dict[str, Any]:
    if record["status"] == "failed":
        return {
            **dict.fromkeys(("mu_hat", "mu_hat_error", *_DISCOVERY)),
            "problem": record["error"]["problem"],
        }
    return {
        "mu_hat": record["mu_hat"],
        "mu_hat_error": record["mu_hat_error"],
        **(record["discovery"] or dict.fromkeys(_DISCOVERY)),
        "leading_impacts": [
            {
                "parameter": impact["parameter"],
                "postfit_up": impact["postfit_up"],
                "postfit_down": impact["postfit_down"],
            }
            for impact in record["impacts"][:_LEADING]
            # With mu-hat at its bound a parameter may not move it at all.
            if impact["postfit_up"] or impact["postfit_down"]
        ],
        "largest_pulls": [
            {
                "parameter": parameter["name"],
                "pull": parameter["pull"],
                "constraint": parameter["constraint"],
            }
            for parameter in _by_pull(record["parameters"])[:_LEADING]
        ],
        "fit_time": record["seconds"],
        "doubts": record["reasons"],
        "remarks": record["remarks"],
    }


def _by_pull(parameters: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    pulled = [parameter for parameter in parameters if parameter["pull"] is not None]
    return sorted(pulled, key=lambda parameter: -abs(parameter["pull"]))


def as_table(entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Make a table: labels, region, status, mu-hat, discovery and leading impacts of each patch."""
    rows = [
        {
            **first_columns(name, entry, labels),
            **{key: entry[key] for key in ("mu_hat", "mu_hat_error", *_DISCOVERY)},
            "leading_impacts": "; ".join(_in_words(entry.get("leading_impacts", ()))),
            "fit_time": entry.get("fit_time"),
            "remark": "; ".join(notes(entry)),
        }
        for name, entry in entries.items()
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(_NUMERIC, float))


def _in_words(impacts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for impact in impacts[:_IN_TABLE]:
        shifts = (impact["postfit_up"], impact["postfit_down"])
        numbers = ", ".join("none" if shift is None else f"{shift:+.3g}" for shift in shifts)
        yield f"{impact['parameter']} ({numbers})"
