"""All results of an analysis: one entry a signal point, from the region that is most sensitive.

``results.json`` keeps the field's keys (``mass_hypotheses``, ``CLs_obs``, ``CLs_exp``,
``fit_time``) and adds others beside them; ``results.csv`` is a tidy table with the same content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from palletfit.core.files import read_json
from palletfit.errors import ConfigError, StoreError
from palletfit.pallet.patches import file_stem
from palletfit.runs.product import HYPOTEST, records_folder
from palletfit.runs.store import RecordStore

#: Columns of the five expected values, in pyhf's order.
EXPECTED_COLUMNS = (
    "CLs_exp_minus2",
    "CLs_exp_minus1",
    "CLs_exp_0",
    "CLs_exp_plus1",
    "CLs_exp_plus2",
)
_NUMERIC_COLUMNS = ("CLs_obs", *EXPECTED_COLUMNS, "mu_hat", "fit_time")

Values = tuple[float | str, ...]


@dataclass(frozen=True)
class RegionResults:
    """The records of one region, by patch name."""

    name: str
    records: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, name: str, manifest_path: Path, product: str = HYPOTEST.name) -> RegionResults:
        """Read the records that a product's manifest lists; they are in a folder beside it.

        Raises
        ------
        StoreError
            A record is missing or damaged.
        """
        manifest = read_json(manifest_path)
        store = RecordStore(manifest_path.parent / records_folder(product))
        records = {}
        for patch, entry in manifest["patches"].items():
            record = store.read(store.path(patch))
            if record is None or record["key"]["digest"] != entry["key"]:
                raise StoreError(
                    "The record of the patch is missing or damaged.",
                    remedy="Run the same command again: exactly the missing patches are fitted.",
                    file=store.path(patch),
                    patch=patch,
                )
            records[patch] = record
        return cls(name, records)


def chosen_record(
    manifest_paths: Sequence[Path], product: str, stem: str
) -> tuple[str, Mapping[str, Any]]:
    """Region and record of a patch that was chosen for a product, by its record's file name.

    Parameters
    ----------
    manifest_paths
        Of all regions.
    product
        Such as ``mu_scan``.
    stem
        From :func:`palletfit.pallet.patches.file_stem`.

    Raises
    ------
    ConfigError
        No patch of this name was chosen.
    StoreError
        See :meth:`RegionResults.read`.
    """
    for path in manifest_paths:
        region = RegionResults.read(path.parent.name, path, product)
        for name, record in region.records.items():
            if file_stem(name) == stem:
                return region.name, record
    raise ConfigError(
        f"No patch that was chosen has the file name {stem!r}.",
        remedy=f"Name it under {product}.patches.",
    )


def combine(regions: list[RegionResults], labels: list[str]) -> dict[str, Any]:
    """Take for each signal point the region with the best (lowest) expected CLs.

    Points of different regions are the same if the values of all labels are. A region whose fit
    failed is passed over where another one has a result; the point says so under ``regions``.

    Returns
    -------
    dict
        By patch name (the name in the region taken), in the order in which points first appear.
    """
    points: dict[Values, dict[str, tuple[str, Mapping[str, Any]]]] = {}
    for region in regions:
        for patch, record in region.records.items():
            values = tuple(record["values"][label] for label in labels)
            points.setdefault(values, {})[region.name] = (patch, record)
    results: dict[str, Any] = {}
    for values, candidates in points.items():
        taken = min(candidates, key=lambda name: _expected(candidates[name][1]))
        name, record = candidates[taken]
        results[unique(name, results, taken)] = {
            "mass_hypotheses": list(values),
            **_numbers(record),
            "status": record["status"],
            "region": taken,
            "regions": {
                region: {"patch": patch, "status": item["status"], **_numbers(item)}
                for region, (patch, item) in candidates.items()
            },
        }
    return results


def _expected(record: Mapping[str, Any]) -> float:
    # A failed region is worse than any that has a result.
    return 2.0 if record["status"] == "failed" else float(record["CLs_exp"][2])


def unique(name: str, taken: Mapping[str, Any], region: str) -> str:
    """A patch's name, with that of its region where another point has it already."""
    return name if name not in taken else f"{name} ({region})"


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


def first_columns(name: str, entry: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """What the row of a signal point begins with in every table: patch, labels, region, status.

    Parameters
    ----------
    name, entry
        Key and value of ``results.json``, or of the like file of another product.
    labels
        Names of the point's values.
    """
    return {
        "patch": name,
        **dict(zip(labels, entry["mass_hypotheses"], strict=True)),
        "region": entry["region"],
        "status": entry["status"],
    }


def as_table(results: Mapping[str, Any], labels: list[str]) -> pd.DataFrame:
    """One row a signal point: patch, labels, region, status, CLs values, mu-hat, fit time."""
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
                "remark": "; ".join(_notes(result)),
            }
        )
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(_NUMERIC_COLUMNS, float))


def _notes(result: Mapping[str, Any]) -> list[str]:
    notes = [result["problem"]] if "problem" in result else [*result["doubts"], *result["remarks"]]
    notes += [
        f"{region}: {item['problem']}"
        for region, item in result["regions"].items()
        if item["status"] == "failed" and region != result["region"]
    ]
    return notes


def read_table(path: Path) -> pd.DataFrame:
    """Read ``results.csv``."""
    # Only numbers can be missing: a patch may well be called "NA".
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(("patch", "region", "status", "remark"), str),
        keep_default_na=False,
        na_values={column: [""] for column in _NUMERIC_COLUMNS},
    )
