"""Make the hypothesis tests, or another product, of every patch of a region that lacks them."""

from pathlib import Path
from typing import Any

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_json
from palletfit.executors import make_executor, open_ledger
from palletfit.pages import live
from palletfit.products.toys import shards as toy_shards
from palletfit.runs import manifest as manifests
from palletfit.runs import run as runs
from palletfit.runs import scan
from palletfit.runs.product import HYPOTEST
from palletfit.runs.store import RecordStore
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    region: str,
    settings: Settings,
    workspace: Path,
    patchset: Path,
    product: str = HYPOTEST.name,
    chosen: list[Path] = (),
    parts: list[Path] = (),
    manifest: Path,
    cores: int,
) -> None:
    """Write one record a patch into a folder beside the manifest, or gather parts; then that."""
    todo = scan.of_region(analysis, region, settings, product, workspace, patchset, chosen)
    store = RecordStore(manifest.parent / todo.product.folder)
    if parts:
        found = manifests.merge(todo.title, [read_json(path) for path in parts])
    else:
        tasks = manifest.parent / f"{todo.product.file('tasks')}.jsonl"
        page = live.Page(manifest.parents[2], analysis, region, todo.product)
        found = _fit(todo, store, settings, tasks, cores, page)
    failed = manifests.failures(found, analysis.regions[region])
    if failed and settings.on_failure == "fail":
        for path in parts:  # the next run fits failed patches again
            if manifests.failures(read_json(path), analysis.regions[region]):
                path.unlink()
        raise runs.failure_error(todo, failed, store, len(found["patches"]))
    write_json(manifest, found)


def _fit(
    todo: scan.Scan,
    store: RecordStore,
    settings: Settings,
    tasks: Path,
    cores: int,
    page: live.Page,
) -> dict[str, Any]:
    ledger = open_ledger(settings.executor, tasks)
    place = {"cores": cores, "ledger": ledger, "backend": settings.fit.backend}
    with make_executor(settings.executor, **place) as executor:
        workers = executor.workers
        observer = live.observer(page, settings, workers=workers)
        how = {"workers": workers, "ledger": ledger, "observer": observer}
        return toy_shards.run(todo, store, executor, settings, **how)


if __name__ == "__main__":
    scripting.run(main, globals())
