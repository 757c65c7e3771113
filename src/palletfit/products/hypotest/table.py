"""All results of an analysis: one entry a signal point, from the region that is most sensitive.

``results.json`` keeps the field's keys (``mass_hypotheses``, ``CLs_obs``, ``CLs_exp``,
``fit_time``) and adds others to them; ``results.csv`` is a tidy table with the same content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from palletfit.planes.contour import FORECAST, OTHER, OTHER_MINIMUM, UNTESTED
from palletfit.runs.results import (
    EXPECTED_COLUMNS,
    RegionResults,
    first_columns,
    most_sensitive,
    notes,
)

_NUMERIC_COLUMNS = ("CLs_obs", *EXPECTED_COLUMNS, "mu_hat", "fit_time")
#: Columns with another minimum of the likelihood, which a table has if one of its points has one.
_OTHER_COLUMNS = tuple(f"{name}{OTHER}" for name in ("CLs_obs", *EXPECTED_COLUMNS, "mu_hat"))
#: Columns with the forecasts of points that were not tested, if there are some.
_FORECAST_COLUMNS = tuple(f"{name}{FORECAST}" for name in ("CLs_obs", *EXPECTED_COLUMNS))
_TEXT_COLUMNS = ("patch", "region", "status", OTHER_MINIMUM, "origin", "jump", "remark")
#: Column with how much a point fell with a neighbour's minimum.
_FELL = "fell"
_OTHER_KEYS = ("minimum", "CLs_obs", "CLs_exp", "CLsb_obs", "CLb_obs", "mu_hat")


def combine(regions: Sequence[RegionResults], labels: Sequence[str]) -> dict[str, Any]:
    """Take for each signal point the region with the best (lowest) expected CLs.

    A region whose fit failed is ignored if another one has a result. The entry of the point names
    it under ``regions``.

    Returns
    -------
    dict
        See :func:`palletfit.runs.results.most_sensitive`.
    """
    return most_sensitive(regions, labels, _expected, _numbers)


def _expected(record: Mapping[str, Any]) -> float:
    # A failed region is worse than any that has a result.
    if record["status"] == "failed":
        return 2.0
    return float(record.get("forecast", record)["CLs_exp"][2])


def _numbers(record: Mapping[str, Any]) -> dict[str, Any]:
    if record["status"] == "failed":
        return {**_no_numbers(), "problem": record["error"]["problem"]}
    if record["status"] == UNTESTED:
        texts = {"doubts": [], "remarks": record["remarks"]}
        return {**_no_numbers(), "forecast": record["forecast"], **texts}
    return {
        "CLs_obs": record["CLs_obs"],
        "CLs_exp": record["CLs_exp"],
        "fit_time": record["fit_time"],
        "CLsb_obs": record["CLsb_obs"],
        "CLb_obs": record["CLb_obs"],
        "mu_hat": record["mu_hat"],
        # Records of earlier engines say nothing of other minima.
        "other_minimum": (other := record.get("other_minimum"))
        and {key: other[key] for key in _OTHER_KEYS},
        # Set by neighbours: see palletfit.products.hypotest.neighbours.
        "origin": record.get("origin"),
        "jump": record.get("jump") or [],
        "doubts": [
            f"{name} fit: {fit['reason']}"
            for name, fit in record["fits"].items()
            if not fit["trusted"]
        ],
        "remarks": record["remarks"],
    }


def _no_numbers() -> dict[str, Any]:
    """Return the numbers of a point without a result."""
    absent = ("CLs_obs", "CLs_exp", "fit_time", "other_minimum", "origin")
    return {**dict.fromkeys(absent), "jump": []}


def as_table(results: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Make a table: patch, labels, region, status, CLs, mu-hat and fit time of each point.

    If a point has another minimum of its likelihood, there are also the columns ``minimum_other``,
    ``CLs_obs_other``, ``CLs_exp_minus2_other`` to ``CLs_exp_plus2_other`` and ``mu_hat_other``.
    If neighbours say anything about a point, there are also the columns ``origin`` (neighbours with
    whose minimum it fell), ``fell`` (by how much at most, in 2 NLL) and ``jump`` (neighbours where
    another minimum is the lowest).
    If points were not tested, there are also the columns ``CLs_obs_forecast`` and
    ``CLs_exp_minus2_forecast`` to ``CLs_exp_plus2_forecast``, for them.
    """
    helped = any(result.get("origin") or result.get("jump") for result in results.values())
    several = any(result.get("other_minimum") for result in results.values())
    chosen = any(result["status"] == UNTESTED for result in results.values())
    rows = []
    for name, result in results.items():
        expected = result["CLs_exp"] or [None] * len(EXPECTED_COLUMNS)
        rows.append(
            {
                **first_columns(name, result, labels),
                "CLs_obs": result["CLs_obs"],
                **dict(zip(EXPECTED_COLUMNS, expected, strict=True)),
                "mu_hat": result.get("mu_hat"),
                "fit_time": result["fit_time"],
                **(_other_columns(result.get("other_minimum")) if several else {}),
                **(_neighbour_columns(result) if helped else {}),
                **(_forecast_columns(result) if chosen else {}),
                "remark": "; ".join(notes(result)),
            }
        )
    table = pd.DataFrame(rows)
    numeric = (
        *_NUMERIC_COLUMNS,
        *(_OTHER_COLUMNS if several else ()),
        *([_FELL] if helped else []),
        *(_FORECAST_COLUMNS if chosen else ()),
    )
    return table.astype(dict.fromkeys(numeric, float))


def _forecast_columns(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns with the forecast of a point, empty if it was tested."""
    forecast = result.get("forecast")
    if forecast is None:
        return dict.fromkeys(_FORECAST_COLUMNS)
    values = (forecast["CLs_obs"], *forecast["CLs_exp"])
    return dict(zip(_FORECAST_COLUMNS, values, strict=True))


def _neighbour_columns(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns about neighbours of a point, empty if these say nothing."""
    origin = result.get("origin")
    neighbours = dict.fromkeys(mark["neighbour"] for mark in result.get("jump") or [])
    return {
        "origin": ", ".join(origin["neighbours"]) if origin else "",
        _FELL: max(origin["fell"].values()) if origin else None,
        "jump": ", ".join(neighbours),
    }


def _other_columns(other: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the columns with the other minimum of a point, empty if it has none."""
    if other is None:
        return {OTHER_MINIMUM: "", **dict.fromkeys(_OTHER_COLUMNS)}
    values = (other["CLs_obs"], *other["CLs_exp"], other["mu_hat"])
    return {OTHER_MINIMUM: other["minimum"], **dict(zip(_OTHER_COLUMNS, values, strict=True))}


def read_table(path: Path) -> pd.DataFrame:
    """Read ``results.csv``."""
    # Only numbers can be missing: a patch may well be called "NA".
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(_TEXT_COLUMNS, str),
        keep_default_na=False,
        na_values={
            column: [""]
            for column in (*_NUMERIC_COLUMNS, *_OTHER_COLUMNS, _FELL, *_FORECAST_COLUMNS)
        },
    )
