"""The same as hypotest.py for one part of a region's patches, in a job of its own."""

import json
from pathlib import Path

from palletfit import scan, scripting
from palletfit.config import Analysis, Settings
from palletfit.executors import make_executor
from palletfit.products import HYPOTEST
from palletfit.store import RecordStore, write_atomically


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
    whole = scan.of_region(analysis, region, settings, product, workspace, patchset, chosen)
    number, of = map(int, scatteritem.split("-of-"))
    todo = whole.part(number, of)
    store = RecordStore(workspace.parent / todo.product.folder)
    with make_executor(settings.executor, cores=cores) as executor:
        workers, lock = executor.workers, f"{todo.product.file('.lock')}-{scatteritem}"
        found = scan.run(todo, store, executor, settings.executor, workers=workers, lock=lock)
    write_atomically(part, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    scripting.run(main, globals())
