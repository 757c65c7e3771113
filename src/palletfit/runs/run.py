"""Making a product of every patch of a region, with a record of each result as it arrives."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from palletfit.config import ExecutorSettings, Settings
from palletfit.core.locks import waiting_lock
from palletfit.core.progress import Progress
from palletfit.engine.versions import VERSIONS
from palletfit.errors import FitError
from palletfit.pallet.patches import Patch
from palletfit.runs import manifest, task
from palletfit.runs.again import reasons
from palletfit.runs.dispatch import Task, dispatch, fitting_tasks
from palletfit.runs.ledger import Ledger
from palletfit.runs.packing import pack
from palletfit.runs.remote import content_digest
from palletfit.runs.scan import Observer, Scan, patches_per_task
from palletfit.runs.store import Key, RecordStore

logger = logging.getLogger(__name__)

#: How many failed patches an error names.
_NAMED_FAILURES = 10


def run(
    scan: Scan,
    store: RecordStore,
    executor: Executor,
    settings: ExecutorSettings,
    *,
    workers: int = 1,
    ledger: Ledger | None = None,
    lock: str | None = None,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Fit the patches that have no finished record yet.

    Finished records with the right key are kept; missing, failed, damaged and outdated ones are
    fitted. If another process is fitting this region its end is awaited, and its records count.

    Parameters
    ----------
    scan
        What is fitted.
    store
        Where records are.
    executor
        Where fits run.
    settings
        How many patches share a task; how often a patch is sent again after its worker died.
    workers
        How many tasks run side by side.
    ledger
        For executors whose tasks outlive this program: tasks of an earlier run that are in flight.
    lock
        Name of the lock; scans that share no patches may have locks of their own. None: the one
        of the region and product.
    observer
        Looks on.

    Returns
    -------
    dict
        Manifest: for each patch its status, the file of its record and the key's digest, and the
        number of fits that were made.

    Raises
    ------
    StoreError
        A record could not be written; those written before stay.
    ExecutorError
        Fits cannot run there; records of fits that ended before stay.
    """
    with _lock(scan, store, lock or scan.product.file(".lock")):
        open_ = _Open.find(scan, store)
        again = reasons(store, open_.missing, open_.keys)
        if again:
            logger.info("%s: made again: %s", scan.title, "; ".join(again))
        finished = len(scan.patches) - len(open_.missing)
        with (
            Progress(
                scan.title,
                total=len(scan.patches),
                kept=finished,
                unit=scan.product.unit,
                workers=workers,
            ) as progress,
            observer(scan, open_.records) if observer else nullcontext() as see,
        ):
            for patches, results in _fit(scan, open_, executor, settings, workers, ledger):
                for patch, result in zip(patches, results, strict=True):
                    if patch.name in open_.records:
                        continue  # It shares a task of an earlier run with missing ones.
                    record = {
                        "patch": patch.name,
                        "values": dict(zip(scan.labels, patch.values, strict=True)),
                        "key": open_.keys[patch.name].as_json(),
                    }
                    # No result says what it is of.
                    record |= {name: result[name] for name in result if name not in record}
                    store.write(patch.name, record)
                    open_.records[patch.name] = record
                    progress.advance(result["status"], more=patch is not patches[-1])
                    if see is not None:
                        see(record)
                    if result["status"] == "failed":
                        logger.warning(
                            "%s: %s failed: %s", scan.title, patch.name, manifest.problem(record)
                        )
        return {
            "title": scan.title,
            "labels": list(scan.labels),
            "fitted": len(open_.missing),
            "patches": {
                patch.name: manifest.entry(store.path(patch.name), open_.records[patch.name])
                for patch in scan.patches
            },
        }


def make(
    scan: Scan,
    store: RecordStore,
    executor: Executor,
    settings: Settings,
    *,
    part: tuple[int, int] = (1, 1),
    **options: Any,
) -> dict[str, Any]:
    """Make what is asked of a region, in as many rounds as the product takes.

    Parameters
    ----------
    scan, store, executor, options
        See :func:`run`.
    settings
        The configuration.
    part
        Which part of the region, of how many.

    Returns
    -------
    dict
        See :func:`run`; with an entry for every unit that is needed.

    Raises
    ------
    StoreError, ExecutorError
        See :func:`run`.
    """
    fit = partial(run, store=store, executor=executor, settings=settings.executor, **options)
    workers = int(options.get("workers", 1))
    return scan.product.make(scan, fit, store, settings, part, workers=workers)


def submit(
    scan: Scan,
    store: RecordStore,
    executor: Executor,
    settings: ExecutorSettings,
    *,
    workers: int,
    ledger: Ledger,
) -> tuple[int, int]:
    """Send the patches that have no finished record and are not in flight; wait for nothing.

    Returns
    -------
    tuple
        How many patches were given to the executor now, and how many are in flight from before.

    Raises
    ------
    ExecutorError
        They could not be sent.
    """
    with _lock(scan, store, scan.product.file(".lock")):
        open_ = _Open.find(scan, store)
        before, tasks = _tasks(scan, open_, executor, settings, workers, ledger)
        workspace = pack(scan.workspace)
        for _, content in tasks:
            executor.submit(task.run, content, workspace)
        flying = {patch.name for patches, _ in before for patch in patches} & {
            patch.name for patch in open_.missing
        }
        return sum(len(patches) for patches, _ in tasks), len(flying)


def _lock(scan: Scan, store: RecordStore, name: str) -> AbstractContextManager[None]:
    return waiting_lock(store.folder.parent / name, activity=f"fitting {scan.title}")


@dataclass
class _Open:
    """Keys and records of a scan by patch name, and its missing patches."""

    digest: str
    keys: dict[str, Key]
    records: dict[str, dict[str, Any]]
    missing: list[Patch]

    @classmethod
    def find(cls, scan: Scan, store: RecordStore) -> _Open:
        digest = scan.workspace_digest
        engine = VERSIONS[scan.settings.engine]
        keys = {
            patch.name: Key.of(digest, patch, scan.settings, engine, scan.product)
            for patch in scan.patches
        }
        records = {}
        for patch in scan.patches:
            record = store.find(patch.name, keys[patch.name].digest)
            if record is not None:
                records[patch.name] = _with_values(record, scan.labels, patch, store)
        missing = [patch for patch in scan.patches if patch.name not in records]
        return cls(digest, keys, records, missing)


def _with_values(
    record: dict[str, Any], labels: Sequence[str], patch: Patch, store: RecordStore
) -> dict[str, Any]:
    """Bring a kept record's values up to date: a fit does not depend on them, a plot does."""
    values = dict(zip(labels, patch.values, strict=True))
    if record["values"] == values:
        return record
    updated = {**record, "values": values}
    store.write(patch.name, updated)
    return updated


def _tasks(
    scan: Scan,
    open_: _Open,
    executor: Executor,
    settings: ExecutorSettings,
    workers: int,
    ledger: Ledger | None,
) -> tuple[list[Task], list[Task]]:
    """Return tasks in flight that hold missing patches, and tasks for all other missing ones."""
    flying: list[Task] = []
    covered: set[str] = set()
    by_name = {patch.name: patch for patch in scan.patches}
    missing = {patch.name for patch in open_.missing}
    for sent in list(ledger.in_flight.values()) if ledger is not None else []:
        patches = [by_name[name] for name in sent.patches if name in by_name]
        content = scan.task(patches, open_.digest) if patches else b""
        useful = missing.intersection(sent.patches) - covered
        if useful and content and content_digest(content) == sent.digest:
            flying.append((patches, content))
            covered |= useful
        elif ledger is not None:
            ledger.ended(sent.digest)  # recorded, or of other settings
    rest = [patch for patch in open_.missing if patch.name not in covered]
    size = patches_per_task(len(rest), scan.settings, settings, workers, scan.product)
    parts = [rest[first : first + size] for first in range(0, len(rest), size)]
    make = partial(scan.task, workspace_digest=open_.digest)
    return flying, [new for part in parts for new in fitting_tasks(part, make, executor)]


def _fit(
    scan: Scan,
    open_: _Open,
    executor: Executor,
    settings: ExecutorSettings,
    workers: int,
    ledger: Ledger | None,
) -> Iterator[tuple[Sequence[Patch], list[dict[str, Any]]]]:
    """Send patches and yield the results of each task as they arrive, in any order."""
    if not open_.missing:
        return
    yield from dispatch(
        itertools.chain(*_tasks(scan, open_, executor, settings, workers, ledger)),
        partial(scan.task, workspace_digest=open_.digest),
        pack(scan.workspace),
        executor,
        settings,
        title=scan.title,
        recorded=lambda patch: patch.name in open_.records,
        ledger=ledger,
    )


def failure_error(
    scan: Scan, failed: Mapping[str, str], store: RecordStore, total: int | None = None
) -> FitError:
    """One error that names the failed patches of a region, with the remedy that all share.

    They are some of `total`, by default the patches of the scan.
    """
    many = scan.product.unit[1]
    records = [store.read(store.path(name)) for name in failed]
    remedies = {record["error"]["remedy"] for record in records if record is not None}
    shown = [f"    {name}: {reason}" for name, reason in list(failed.items())[:_NAMED_FAILURES]]
    if len(failed) > _NAMED_FAILURES:
        shown.append(f"    and {len(failed) - _NAMED_FAILURES} more")
    return FitError(
        f"{len(failed)} of {total or len(scan.patches)} {many} of {scan.title} failed "
        "(all others are finished and kept):\n" + "\n".join(shown),
        remedy=(remedies.pop() if len(remedies) == 1 else f"See their records in {store.folder}.")
        + " Then run the same command again: only these are fitted. To go on without them, list "
        "the patches under `known_failures` of the region in the analysis file, or set "
        "`on_failure: continue`.",
        file=scan.patchset_path,
    )
