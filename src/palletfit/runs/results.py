"""The records of all regions, and what tables of all products have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.core.files import read_json
from palletfit.errors import ConfigError, StoreError
from palletfit.pallet.choosing import read_choice
from palletfit.pallet.patches import file_stem
from palletfit.runs.product import Product
from palletfit.runs.store import RecordStore

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the five expected values, in pyhf's order.
EXPECTED_COLUMNS = (
    "CLs_exp_minus2",
    "CLs_exp_minus1",
    "CLs_exp_0",
    "CLs_exp_plus1",
    "CLs_exp_plus2",
)

#: Numbers of records that belong to the observations, and what blinded ones show instead.
BLINDED: Mapping[str, Any] = {
    **dict.fromkeys(("CLs_obs", "CLsb_obs", "CLb_obs", "mu_obs", "p0", "significance")),
    # An upper limit, see palletfit.products.limits.compute.Limit.
    "observed": {
        **dict.fromkeys(("mu", "tolerance", "CLs", "jump")),
        "state": "blinded",
        "reason": "blinded",
        "trusted": True,
    },
}

Values = tuple[float | str, ...]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class RegionResults:
    """The records of one region, by patch name."""

    name: str
    records: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(
        cls, manifest_path: Path, product: type[Product], *, amended: bool = True
    ) -> RegionResults:
        """Read the records that a product's manifest lists, which is in the region's folder.

        Parameters
        ----------
        manifest_path
            The manifest.
        product
            The product, which may replace records by later results.
        amended
            Whether it may, and whether records are those that are shown: with what is chosen among
            their remarks, without numbers of blinded observations, and with entries of points that
            did not need a test.

        Raises
        ------
        StoreError
            A record is missing or damaged.
        """
        manifest = read_json(manifest_path)
        store = RecordStore(manifest_path.parent / product.folder())
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
        folder = manifest_path.parent
        if not amended:
            return cls(folder.name, records)
        untested: Mapping[str, Record] = manifest.get("untested", {})
        choice = read_choice(folder)
        shown = {
            patch: with_choice(record, choice)
            for patch, record in {**product.amended(records, folder), **untested}.items()
        }
        return cls(folder.name, shown)


def with_choice(record: Record, choice: Mapping[str, Any]) -> Record:
    """Add to a record which channels, bins and data it is of; take blinded numbers out.

    Parameters
    ----------
    record
        Record of any product, of a region.
    choice
        From :func:`palletfit.pallet.choosing.read_choice` of the region's folder.
    """
    if not choice:
        return record
    shown = without_observed(record) if choice["blinded"] else dict(record)
    if "remarks" in record:
        shown["remarks"] = [*choice["remarks"], *record["remarks"]]
    return shown


def without_observed(record: Record) -> dict[str, Any]:
    """Take what stands for results of observations out, at all depths of a record.

    They are those of expected events, and would be read as observed ones.
    """

    def shown(name: str, value: Any) -> Any:
        if name == "observed" and not (isinstance(value, Mapping) and "state" in value):
            # Of toys this is the fit to the data that they are compared with.
            return value if isinstance(value, Mapping) else None
        if name in BLINDED:
            return BLINDED[name]
        return without_observed(value) if isinstance(value, Mapping) else value

    return {name: shown(name, value) for name, value in record.items()}


def chosen_record(
    manifest_paths: Sequence[Path], product: type[Product], stem: str
) -> tuple[str, Mapping[str, Any]]:
    """Region and record of a patch that was chosen for a product, by its record's file name.

    Parameters
    ----------
    manifest_paths
        Of all regions.
    product
        What it was chosen for.
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
        region = RegionResults.read(path, product)
        for name, record in region.records.items():
            if file_stem(name) == stem:
                return region.name, record
    raise ConfigError(
        f"No patch that was chosen has the file name {stem!r}.",
        remedy=f"Name it under {product.name}.patches.",
    )


def most_sensitive(
    regions: Sequence[RegionResults],
    labels: Sequence[str],
    rank: Callable[[Record], Any],
    numbers: Callable[[Record], dict[str, Any]],
) -> dict[str, Any]:
    """Take each signal point from the region that ranks first, and name the others.

    Points of different regions are the same if the values of all labels are.

    Parameters
    ----------
    regions
        Records of one product.
    labels
        Of the points.
    rank
        Of a record; the lowest one is taken.
    numbers
        What an entry holds of a record.

    Returns
    -------
    dict
        By patch name (the name in the region taken), in the order in which points first appear.
    """
    points: dict[Values, dict[str, tuple[str, Record]]] = {}
    for region in regions:
        for patch, record in region.records.items():
            values = tuple(record["values"][label] for label in labels)
            points.setdefault(values, {})[region.name] = (patch, record)
    entries: dict[str, Any] = {}
    for values, candidates in points.items():
        best_region = min(candidates, key=lambda name: rank(candidates[name][1]))
        patch, record = candidates[best_region]
        entries[unique(patch, entries, best_region)] = {
            "mass_hypotheses": list(values),
            **numbers(record),
            "status": record["status"],
            "region": best_region,
            "regions": {
                region: {"patch": name, "status": other["status"], **numbers(other)}
                for region, (name, other) in candidates.items()
            },
        }
    return entries


def unique(name: str, entries: Mapping[str, Any], region: str) -> str:
    """Return a patch's name, with that of its region where another point has it already."""
    return name if name not in entries else f"{name} ({region})"


def first_columns(name: str, entry: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """Return what the row of a signal point begins with in every table.

    That is patch, labels, region and status.

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


def notes(entry: Mapping[str, Any]) -> list[str]:
    """Return what a reader should know of an entry: why it failed, or doubts and remarks."""
    lines = [entry["problem"]] if "problem" in entry else [*entry["doubts"], *entry["remarks"]]
    return lines + [
        f"{region}: {other['problem']}"
        for region, other in entry.get("regions", {}).items()
        if other["status"] == "failed" and region != entry["region"]
    ]


def plain_entries(regions: Sequence[RegionResults], labels: Sequence[str]) -> dict[str, Any]:
    """Return an entry for each record: its values, status, region, and what is its product's own.

    Parameters
    ----------
    regions
        Records of one product.
    labels
        Of the points.
    """
    common = {"patch", "values", "key", "worker", "status", "sha256", "error"}
    entries: dict[str, Any] = {}
    for region in regions:
        for patch, record in region.records.items():
            entries[unique(patch, entries, region.name)] = {
                "mass_hypotheses": [record["values"][label] for label in labels],
                "status": record["status"],
                "region": region.name,
                **{name: value for name, value in record.items() if name not in common},
                **({"problem": record["error"]["problem"]} if "error" in record else {}),
            }
    return entries


def plain_table(entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Return a row for each entry, with the columns that all tables have and all simple values."""
    import pandas as pd

    common = {"mass_hypotheses", "status", "region"}
    rows = [
        first_columns(name, entry, labels)
        | {
            key: value
            for key, value in entry.items()
            if key not in common and not isinstance(value, (list, dict))
        }
        for name, entry in entries.items()
    ]
    return pd.DataFrame(rows)
