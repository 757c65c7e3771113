"""Fit one part of a region's patches, those of them that have no finished record yet."""

import json
from pathlib import Path

from palletfit import scan, scripting
from palletfit.config import Analysis, Settings
from palletfit.executors import make_executor
from palletfit.store import RecordStore, write_atomically


def main(
    *,
    analysis: Analysis,
    region: str,
    scatteritem: str,
    settings: Settings,
    workspace: Path,
    patchset: Path,
    part: Path,
    cores: int,
) -> None:
    """Write one record a patch, then the part's manifest; failed patches are listed there."""
    known = analysis.regions[region].known_failures
    title = f"{analysis.name}/{region}"
    whole = scan.Scan.read(title, workspace, patchset, analysis.patches, settings.fit, known)
    number, of = map(int, scatteritem.split("-of-"))
    todo = whole.part(number, of)
    store = RecordStore(part.parent.parent / "fits")
    with make_executor(settings.executor, cores=cores) as executor:
        workers, lock = executor.workers, f".lock-{scatteritem}"
        found = scan.run(todo, store, executor, settings.executor, workers=workers, lock=lock)
    write_atomically(part, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    scripting.run(main, globals())
