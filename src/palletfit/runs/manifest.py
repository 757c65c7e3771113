"""The index of a region's records, and whether it still describes them.

Imports nothing heavy: every Snakemake process reads manifests.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palletfit.config import Region
from palletfit.errors import FitError, PalletError
from palletfit.runs.store import RecordStore

#: Kind of the error of a patch whose model has no parameter of interest, for a product that needs
#: one. The analysis asks for such a model, so this is no failure of the run.
WITHOUT_POI = "NoParameterOfInterest"


def entry(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a record that was just written, or found, at a path."""
    status = path.stat()
    described = {
        "status": record["status"],
        "record": path.name,
        "key": record["key"]["digest"],
        # A cheap way to see later that a record is still the one that was written.
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
    options = record["key"].get("options", {})
    if "of" in options:
        described["of"] = options["of"]
    if record["status"] == "failed":
        described["problem"] = problem(record)
        # The same fit of the same pallet fails again; anything else may pass.
        lasting = (PalletError.__name__, FitError.__name__, WITHOUT_POI)
        described["retry"] = record["error"]["kind"] not in lasting
        if record["error"]["kind"] == WITHOUT_POI:
            described["without_poi"] = True
    return described


def merge(title: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one manifest of the parts of a region, whose patches are in turns of the parts."""
    rounds = itertools.zip_longest(*(part["patches"].items() for part in parts))
    return {
        "title": title,
        "labels": parts[0]["labels"],
        "fitted": sum(part["fitted"] for part in parts),
        "patches": dict(entry for entries in rounds for entry in entries if entry is not None),
    }


def problem(record: Mapping[str, Any]) -> str:
    """Return the reason why a record's patch failed."""
    return str(record["error"]["problem"])


def patch_of(name: str, entry: Mapping[str, Any]) -> str:
    """Return the patch that an entry is about, which may be one of several about it."""
    return str(entry.get("of", name))


def failures(manifest: Mapping[str, Any], region: Region) -> dict[str, str]:
    """Return failed patches with their problem, without those that the analysis file knows.

    A model that the analysis file asks to have no parameter of interest is known, too.
    """
    return {
        name: entry["problem"]
        for name, entry in manifest["patches"].items()
        if entry["status"] == "failed"
        and patch_of(name, entry) not in region.known_failures
        and not entry.get("without_poi", False)
    }


def is_complete(manifest: Mapping[str, Any], store: RecordStore, region: Region) -> bool:
    """Say whether a manifest leaves nothing to fit.

    All its records have to be there as they were written, and no patch may have failed for a
    reason that may pass (a dead worker, the deadline), unless the analysis file knows it.
    """
    may_pass = any(
        entry.get("retry", False)
        for name, entry in manifest["patches"].items()
        if patch_of(name, entry) not in region.known_failures
    )
    return not may_pass and all(
        _is_intact(entry, store, name) for name, entry in manifest["patches"].items()
    )


def _is_intact(entry: Mapping[str, Any], store: RecordStore, patch: str) -> bool:
    path = store.path(patch)
    try:
        status = path.stat()
    except OSError:
        return False
    if (status.st_size, status.st_mtime_ns) == (entry["size"], entry["mtime_ns"]):
        return True
    # A copied record has another time; its checksum and its key still hold.
    record = store.read(path)
    return record is not None and record["key"]["digest"] == entry["key"]
