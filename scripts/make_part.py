"""Make a product of some of a region's patches, in a job of its own."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import write_json
from palletfit.executors import make_executor
from palletfit.pages import live
from palletfit.products.hypotest import Hypotest
from palletfit.runs import run, scan
from palletfit.runs.product import Product
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
    product: type[Product] = Hypotest,
    chosen: list[Path] = (),
    part: Path,
    cores: int,
) -> None:
    """Write one record a unit, then the part's manifest; failed ones are listed there."""
    todo = scan.of_region(analysis, region, settings, product, workspace, patchset, chosen)
    number, count = map(int, scatteritem.split("-of-"))
    store = RecordStore(workspace.parent / product.folder())
    with make_executor(settings.executor, cores=cores) as executor:
        workers = executor.workers
        page = live.Page(workspace.parents[2], analysis, region, product, scatteritem)
        content = run.make(
            todo,
            store,
            executor,
            settings,
            part=(number, count),
            workers=workers,
            lock=f"{product.file('.lock')}-{scatteritem}",
            observer=live.observer(page, settings, workers=workers),
        )
    write_json(part, content)


if __name__ == "__main__":
    scripting.run(main, globals())
