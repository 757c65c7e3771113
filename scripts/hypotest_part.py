"""The same as hypotest.py for one part of a region's patches, in a job of its own."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import write_json
from palletfit.executors import make_executor
from palletfit.pages import live
from palletfit.products.toys import shards as toy_shards
from palletfit.runs import scan
from palletfit.runs.product import HYPOTEST
from palletfit.runs.store import RecordStore
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    region: str,
    scatteritem: str,
    settings: Settings,
    workspace: Path,
    patchset: Path,
    product: str = HYPOTEST.name,
    chosen: list[Path] = (),
    part: Path,
    cores: int,
) -> None:
    """Write one record a patch, then the part's manifest; failed patches are listed there."""
    todo = scan.of_region(analysis, region, settings, product, workspace, patchset, chosen)
    number, of = map(int, scatteritem.split("-of-"))
    store = RecordStore(workspace.parent / todo.product.folder)
    with make_executor(settings.executor, cores=cores) as executor:
        workers, lock = executor.workers, f"{todo.product.file('.lock')}-{scatteritem}"
        page = live.Page(workspace.parents[2], analysis, region, todo.product, scatteritem)
        observer = live.observer(page, settings, workers=workers)
        how = {"workers": workers, "lock": lock, "observer": observer}
        found = toy_shards.run(todo, store, executor, settings, part=(number, of), **how)
    write_json(part, found)


if __name__ == "__main__":
    scripting.run(main, globals())
