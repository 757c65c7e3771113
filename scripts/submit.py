"""Send every patch of a region that has no finished record, and wait for nothing."""

import logging
import time
from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import write_json
from palletfit.core.text import counted
from palletfit.errors import ConfigError
from palletfit.executors import make_executor, open_ledger
from palletfit.products.hypotest import Hypotest
from palletfit.runs import run as runs
from palletfit.runs import scan
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
    submitted: Path,
    cores: int,
) -> None:
    """Write how many patches were sent; the next run without ``submit`` collects their results."""
    if product is Hypotest and settings.points.choose == "adaptive":
        raise ConfigError(
            "`points.choose: adaptive` chooses points by the results of others, so that a run has "
            "to wait for them.",
            remedy="Leave out `submit`, or set `points.choose: all`.",
        )
    todo = scan.of_region(analysis, region, settings, product, workspace, patchset)
    tasks = submitted.parent / f"{product.file('tasks')}.jsonl"
    ledger = open_ledger(settings.executor, tasks)
    if ledger is None:
        raise ConfigError(
            f"Fits of `executor.kind: {settings.executor.kind}` end with the run that made them.",
            remedy="Leave out `submit`, or choose a profile with an endpoint.",
        )
    options = {"cores": cores, "ledger": ledger, "backend": settings.fit.backend}
    store = RecordStore(submitted.parent / product.folder())
    with make_executor(settings.executor, **options, collect=False) as executor:
        workers = executor.workers
        sent, before = runs.submit(
            todo, store, executor, settings.executor, workers=workers, ledger=ledger
        )
        executor.flush()
    patches = counted(sent, *product.unit)
    logging.info("%s: %s sent, %d were in flight", todo.title, patches, before)
    content = {"sent": sent, "in_flight_before": before, "time": time.time()}
    write_json(submitted, content)


if __name__ == "__main__":
    scripting.run(main, globals())
