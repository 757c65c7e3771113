"""Fit every patch of a region that has no finished record yet."""

import json
from pathlib import Path

from palletfit import manifest as manifests
from palletfit import scan, scripting
from palletfit.config import Analysis, Settings
from palletfit.executors import make_executor, open_ledger
from palletfit.store import RecordStore, write_atomically


def main(
    *,
    analysis: Analysis,
    region: str,
    settings: Settings,
    workspace: Path,
    patchset: Path,
    manifest: Path,
    cores: int,
) -> None:
    """Write one record a patch into ``fits`` beside the manifest, then the manifest."""
    known = analysis.regions[region].known_failures
    todo = scan.Scan.read(
        f"{analysis.name}/{region}", workspace, patchset, analysis.patches, settings.fit, known
    )
    store = RecordStore(manifest.parent / "fits")
    ledger = open_ledger(settings.executor, manifest.parent / "tasks.jsonl")
    place = {"cores": cores, "ledger": ledger, "backend": settings.fit.backend}
    with make_executor(settings.executor, **place) as executor:
        workers = executor.workers
        found = scan.run(todo, store, executor, settings.executor, workers=workers, ledger=ledger)
    failed = manifests.failures(found, analysis.regions[region])
    if failed and settings.on_failure == "fail":
        raise scan.failure_error(todo, failed, store)
    write_atomically(manifest, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    scripting.run(main, globals())
