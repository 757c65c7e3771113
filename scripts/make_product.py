"""Make the hypothesis tests, or another product, of every patch of a region that lacks them."""

from pathlib import Path
from typing import Any

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_json
from palletfit.executors import make_executor, open_ledger
from palletfit.pages import live
from palletfit.products.hypotest import Hypotest
from palletfit.runs import manifest as manifests
from palletfit.runs import run, scan
from palletfit.runs.product import Product
from palletfit.runs.store import RecordStore
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    region: str,
    settings: Settings,
    workspace: Path,
    patchset: Path,
    product: type[Product] = Hypotest,
    chosen: list[Path] = (),
    parts: list[Path] = (),
    manifest: Path,
    cores: int,
) -> None:
    """Write one record a unit into a folder beside the manifest, or gather parts; then that."""
    todo = scan.of_region(analysis, region, settings, product, workspace, patchset, chosen)
    store = RecordStore(manifest.parent / product.folder())
    if parts:
        content = manifests.merge(todo.title, [read_json(path) for path in parts])
    else:
        tasks = manifest.parent / f"{product.file('tasks')}.jsonl"
        page = live.Page(manifest.parents[2], analysis, region, product)
        content = _make(todo, store, settings, tasks, cores, page)
    failed = manifests.failures(content, analysis.regions[region])
    if failed and settings.on_failure == "fail":
        for path in parts:  # the next run makes failed ones again
            if manifests.failures(read_json(path), analysis.regions[region]):
                path.unlink()
        raise run.failure_error(todo, failed, store, len(content["patches"]))
    write_json(manifest, content)


def _make(
    todo: scan.Scan,
    store: RecordStore,
    settings: Settings,
    tasks: Path,
    cores: int,
    page: live.Page,
) -> dict[str, Any]:
    ledger = open_ledger(settings.executor, tasks)
    backend = settings.fit.backend
    with make_executor(settings.executor, cores=cores, ledger=ledger, backend=backend) as executor:
        workers = executor.workers
        observer = live.observer(page, settings, workers=workers)
        return run.make(
            todo, store, executor, settings, workers=workers, ledger=ledger, observer=observer
        )


if __name__ == "__main__":
    scripting.run(main, globals())
