"""Fit every patch of a region that has no finished record yet."""

import json
from pathlib import Path
from typing import Any

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
    parts: list[Path] = (),
    manifest: Path,
    cores: int,
) -> None:
    """Write one record a patch into ``fits`` beside the manifest, or gather parts; then that."""
    known = analysis.regions[region].known_failures
    todo = scan.Scan.read(
        f"{analysis.name}/{region}", workspace, patchset, analysis.patches, settings.fit, known
    )
    store = RecordStore(manifest.parent / "fits")
    if parts:
        found = manifests.merge(todo.title, [json.loads(path.read_bytes()) for path in parts])
    else:
        found = _fit(todo, store, settings, manifest.parent / "tasks.jsonl", cores)
    failed = manifests.failures(found, analysis.regions[region])
    if failed and settings.on_failure == "fail":
        for path in parts:  # the next run fits failed patches again
            if manifests.failures(json.loads(path.read_bytes()), analysis.regions[region]):
                path.unlink()
        raise scan.failure_error(todo, failed, store)
    write_atomically(manifest, json.dumps(found, indent=1) + "\n")


def _fit(
    todo: scan.Scan, store: RecordStore, settings: Settings, tasks: Path, cores: int
) -> dict[str, Any]:
    ledger = open_ledger(settings.executor, tasks)
    place = {"cores": cores, "ledger": ledger, "backend": settings.fit.backend}
    with make_executor(settings.executor, **place) as executor:
        workers = executor.workers
        return scan.run(todo, store, executor, settings.executor, workers=workers, ledger=ledger)


if __name__ == "__main__":
    scripting.run(main, globals())
