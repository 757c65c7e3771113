"""All results of an analysis: one entry a signal point, from the region that is most sensitive.

``results.json`` keeps the field's keys (``mass_hypotheses``, ``CLs_obs``, ``CLs_exp``,
``fit_time``) and adds others to them; ``results.csv`` is a tidy table with the same content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from palletfit.runs.results import (
    EXPECTED_COLUMNS,
    RegionResults,
    first_columns,
    most_sensitive,
    notes,
)

_NUMERIC_COLUMNS = ("CLs_obs", *EXPECTED_COLUMNS, "mu_hat", "fit_time")


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
    return 2.0 if record["status"] == "failed" else float(record["CLs_exp"][2])


def _numbers(record: Mapping[str, Any]) -> dict[str, Any]:
    if record["status"] == "failed":
        return {
            "CLs_obs": None,
            "CLs_exp": None,
            "fit_time": None,
            "problem": record["error"]["problem"],
        }
    return {
        "CLs_obs": record["CLs_obs"],
        "CLs_exp": record["CLs_exp"],
        "fit_time": record["fit_time"],
        "CLsb_obs": record["CLsb_obs"],
        "CLb_obs": record["CLb_obs"],
        "mu_hat": record["mu_hat"],
        "doubts": [
            f"{name} fit: {fit['reason']}"
            for name, fit in record["fits"].items()
            if not fit["trusted"]
        ],
        "remarks": record["remarks"],
    }


def as_table(results: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Make a table: patch, labels, region, status, CLs, mu-hat and fit time of each point."""
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
                "remark": "; ".join(notes(result)),
            }
        )
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(_NUMERIC_COLUMNS, float))


def read_table(path: Path) -> pd.DataFrame:
    """Read ``results.csv``."""
    # Only numbers can be missing: a patch may well be called "NA".
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(("patch", "region", "status", "remark"), str),
        keep_default_na=False,
        na_values={column: [""] for column in _NUMERIC_COLUMNS},
    )
