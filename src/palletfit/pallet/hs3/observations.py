"""The observed counts of a channel, and the observed values of constraint terms."""

from __future__ import annotations

from typing import Any

import numpy as np

from palletfit.pallet.hs3.document import Document, Spec, begin, listed, short
from palletfit.pallet.hs3.modifiers import axis_bins


def observed_counts(
    document: Document, entry: Any, distribution: str, bins: int, owner: str
) -> list[float]:
    """Give the counts of a channel.

    Parameters
    ----------
    document
        The document.
    entry
        Name of the data, or the numbers.
    distribution
        Name of the channel's distribution.
    bins
        Its number of bins.
    owner
        The likelihood, for errors.

    Raises
    ------
    Hs3Error
        There are no such data, or they do not fit the channel.
    """
    if not isinstance(entry, str):
        values = entry if isinstance(entry, list) else [entry]
        return document.numbers(values, f"the data of {short(distribution)}", bins)
    data = document.get(document.data, entry, "data", owner)
    title = f"the data {short(entry)}"
    if data.get("uncertainty") is not None:
        raise document.error(f"{begin(title)} have an `uncertainty`, which palletfit ignores.")
    if data.get("type") == "unbinned":
        return _histogram(document, data, distribution, bins, title)
    if data.get("type") != "binned":
        raise document.error(
            f"{begin(title)} of {short(distribution)} have the type "
            f"{short(data.get('type'))}, and not binned."
        )
    counts = document.numbers(data.get("contents"), f"`contents` of {title}")
    if len(counts) != bins:
        raise document.error(
            f"{begin(title)} have {len(counts)} bins, and the distribution "
            f"{short(distribution)} has {bins}."
        )
    return counts


def _histogram(
    document: Document, data: Spec, distribution: str, bins: int, title: str
) -> list[float]:
    """Count unbinned entries of one observable in the bins of its distribution."""
    owner = f"the distribution {short(distribution)}"
    axes = document.objects(document.distributions[distribution], "axes", owner)
    entries = data.get("entries")
    if len(axes) != 1 or not isinstance(entries, list):
        raise document.error(
            f"{begin(title)} are unbinned: palletfit counts entries of one observable.",
            "Write them as binned data.",
        )
    edges = _edges(document, axes[0], owner)
    rows = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in entries]
    values = np.array(document.numbers(rows, f"`entries` of {title}"))
    weights = data.get("weights")
    if weights is not None:
        weights = document.numbers(weights, f"`weights` of {title}", len(values))
    if len(values) and not (edges[0] <= values.min() and values.max() <= edges[-1]):
        raise document.error(f"An entry of {title} is in no bin of {owner}.")
    counts = np.histogram(values, edges, weights=weights)[0]
    if len(counts) != bins:
        raise document.error(f"The axis of {owner} has {len(counts)} bins, and its samples {bins}.")
    return [float(count) for count in counts]


def _edges(document: Document, axis: Spec, owner: str) -> Any:
    for key in ("edges", "bounds"):
        if axis.get(key) is not None:
            edges = np.array(document.numbers(axis[key], f"`{key}` of an axis of {owner}"))
            if len(edges) < 2 or np.any(np.diff(edges) <= 0):
                raise document.error(f"The `{key}` of an axis of {owner} do not ascend.")
            return edges
    lower, upper = (
        document.number(axis.get(key), f"`{key}` of an axis of {owner}") for key in ("min", "max")
    )
    if lower >= upper:
        raise document.error(f"An axis of {owner} ends before it begins.")
    return np.linspace(lower, upper, axis_bins(document, axis, owner) + 1)


def observed_value(document: Document, entry: Any, distribution: str, owner: str) -> float:
    """Give the observed value of a constraint term.

    Raises
    ------
    Hs3Error
        There is no such value, or more than one.
    """
    if not isinstance(entry, str):
        values = entry if isinstance(entry, list) else [entry]
        return document.numbers(values, f"the data of {short(distribution)}", 1)[0]
    data = document.get(document.data, entry, "data", owner)
    if data.get("type") != "point":
        raise document.error(
            f"The data {short(entry)} of {short(distribution)} have the type "
            f"{short(data.get('type'))}, and not point.",
            f"palletfit fits histfactory_dist distributions to binned data; it has: "
            f"{listed(document.data)}.",
        )
    return document.number(data.get("value"), f"`value` of the data {short(entry)}")
