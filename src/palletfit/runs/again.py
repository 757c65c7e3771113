"""Reasons why records that are there are made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from palletfit.core.text import counted
from palletfit.pallet.patches import Patch
from palletfit.runs.store import Key, RecordStore


def reasons(store: RecordStore, missing: Iterable[Patch], keys: Mapping[str, Key]) -> list[str]:
    """Say why patches are fitted again that were fitted before.

    Parameters
    ----------
    store
        Where records are.
    missing
        Patches without a record that counts.
    keys
        Keys of the records that are asked for, by patch name.

    Returns
    -------
    list
        A phrase for each reason, such as ``70 records are of engine batched-3``, the most frequent
        first.
    """
    counts: Counter[str] = Counter()
    for patch in missing:
        path = store.path(patch.name)
        if not path.exists():
            continue
        record = store.read(path)
        counts[_reason(record, keys[patch.name].as_json()) if record else "damaged"] += 1
    return [
        f"{counted(count, 'record')} {'is' if count == 1 else 'are'} {reason}"
        for reason, count in counts.most_common()
    ]


def _reason(record: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    key: Mapping[str, Any] = record["key"]
    if key["digest"] == new["digest"]:
        return "of a fit that failed" if record["status"] == "failed" else "of another patch"
    if key["workspace"] != new["workspace"]:
        return "of another background"
    if key["patch"] != new["patch"] or key.get("options") != new.get("options"):
        return "of a patch that has changed"
    if key["engine"] != new["engine"]:
        return f"of engine {key['engine']}"
    changed = _changes(key["settings"], new["settings"], "fit")
    product, other = key.get("product", {}), new.get("product", {})
    if product.get("version") != other.get("version"):
        return f"of version {product.get('version')}"
    changed += _changes(product.get("settings", {}), other.get("settings", {}))
    return f"of other settings ({', '.join(changed)})" if changed else "of another version"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> list[str]:
    """Name settings that differ, with the sections that they are in."""
    names = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        path = f"{above}.{name}" if above else name
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            names += _changes(before, after, path)
        elif before != after:
            names.append(path)
    return names
