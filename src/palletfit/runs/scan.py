"""Fit every patch of a region through an executor, and record each result as it arrives."""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, ExecutorSettings, FitSettings, Settings
from palletfit.core.files import read_json
from palletfit.core.locks import waiting_lock
from palletfit.core.progress import Progress
from palletfit.engine.versions import VERSIONS
from palletfit.errors import ConfigError, ExecutorError, FitError, PalletError
from palletfit.pallet.patches import Patch, json_digest
from palletfit.pallet.patchset import Patchset, parse_patchset
from palletfit.runs import manifest, task
from palletfit.runs.faults import DeadlineExceeded, TaskLost, TaskTooLarge, WorkerDied
from palletfit.runs.ledger import Ledger
from palletfit.runs.product import BATCHED_ONLY, HYPOTEST, TOYS, UPPER_LIMITS, Product, product_of
from palletfit.runs.remote import content_digest
from palletfit.runs.store import Key, RecordStore

logger = logging.getLogger(__name__)

#: Without a choice a task has at most so many patches, and a worker about so many tasks.
_LARGEST_TASK, _TASKS_A_WORKER = 32, 2
#: Into so many tasks, about, a lost one is cut.
_PIECES = 32
#: How many failed patches an error names.
_NAMED_FAILURES = 10


@dataclass(frozen=True)
class Scan:
    """What is fitted: the patches of one region under one set of fit settings.

    Attributes
    ----------
    title
        ``ANALYSIS/REGION``, for people.
    workspace
        The background-only workspace.
    patchset_path
        Where the patches come from, for error messages.
    patches
        The selected patches.
    labels
        Names of the patches' values.
    settings
        Fit settings.
    product
        What is asked of every patch.
    """

    title: str
    workspace: Mapping[str, Any]
    patchset_path: Path
    patches: tuple[Patch, ...]
    labels: tuple[str, ...]
    settings: FitSettings
    product: Product = HYPOTEST

    @classmethod
    def read(
        cls,
        title: str,
        workspace_path: Path,
        patchset_path: Path,
        patterns: Sequence[str],
        settings: FitSettings,
        known_failures: Collection[str] = (),
        product: Product = HYPOTEST,
    ) -> Scan:
        """Read prepared files and select patches by shell patterns.

        Raises
        ------
        PalletError
            A file is not readable, a pattern selects nothing, or a known failure is no patch.
        """
        patchset: Patchset = parse_patchset(read_json(patchset_path), patchset_path)
        for name in set(known_failures) - {patch.name for patch in patchset.patches}:
            raise PalletError(
                "There is no patch of the name that `known_failures` gives.",
                remedy="Correct or remove it in the analysis file.",
                file=patchset_path,
                patch=name,
            )
        for pattern in patterns:
            if not patchset.select([pattern]):
                raise PalletError(
                    f"No patch matches {pattern!r}.",
                    remedy="Correct `patches` in the analysis file; the first patch is "
                    f"{patchset.patches[0].name!r}.",
                    file=patchset_path,
                )
        return cls(
            title=title,
            workspace=read_json(workspace_path),
            patchset_path=patchset_path,
            patches=patchset.select(patterns),
            labels=patchset.labels,
            settings=settings,
            product=product,
        )

    def part(self, number: int, of: int) -> Scan:
        """Every `of`-th patch from the `number`-th on, which counts from one."""
        return replace(
            self, title=f"{self.title} ({number} of {of})", patches=self.patches[number - 1 :: of]
        )

    @property
    def workspace_digest(self) -> str:
        """Sha256 of the background-only workspace, independent of formatting."""
        return json_digest(self.workspace)

    def task(self, patches: Sequence[Patch], workspace_digest: str) -> bytes:
        """Ask for some of the patches."""
        return task.make_task(patches, workspace_digest, self.settings, self.product)


#: Looks on while patches are fitted: entered with the records that are kept, by patch name, it
#: gives what is called with every further one, once that is on the disk.
Observer = Callable[
    [Scan, Mapping[str, Mapping[str, Any]]],
    AbstractContextManager[Callable[[Mapping[str, Any]], None]],
]


def of_region(
    analysis: Analysis,
    region: str,
    settings: Settings,
    product: str,
    workspace: Path,
    patchset: Path,
    chosen: Sequence[Path] = (),
) -> Scan:
    """What is asked of one region of an analysis.

    Parameters
    ----------
    analysis, region, settings, product
        What is asked, of what.
    workspace, patchset
        The region's prepared files.
    chosen
        For products of chosen patches the file that names them, by region; none: all are.

    Raises
    ------
    PalletError
        See :meth:`Scan.read`.
    ConfigError
        The product is an upper limit, but the test statistic that of a discovery; or the engine
        does not make it.
    """
    if product in UPPER_LIMITS and settings.fit.test_statistic == "q0":
        raise ConfigError(
            "There is no upper limit for the test statistic q0.",
            remedy="Set `fit.test_statistic: qtilde`.",
        )
    if product in BATCHED_ONLY and settings.fit.engine != "batched":
        raise ConfigError(
            f"The engine {settings.fit.engine} makes no {product}.",
            remedy="Set `fit.engine: batched`.",
        )
    title = f"{analysis.name}/{region}"
    found = Scan.read(
        title if product == HYPOTEST.name else f"{title} {product}",
        workspace,
        patchset,
        analysis.patches,
        settings.fit,
        analysis.regions[region].known_failures,
        product_of(product, settings),
    )
    if not chosen:
        return found
    names = {name for path in chosen for name in read_json(path).get(region, [])}
    return replace(found, patches=tuple(item for item in found.patches if item.name in names))


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
        kept = len(scan.patches) - len(open_.missing)
        with (
            Progress(
                scan.title, total=len(scan.patches), kept=kept, unit=scan.product.unit
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
                        **result,
                    }
                    store.write(patch.name, record)
                    open_.records[patch.name] = record
                    progress.advance(result["status"])
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
        workspace = task.pack(scan.workspace)
        for _, content in tasks:
            executor.submit(task.run, content, workspace)
        flying = {patch.name for some, _ in before for patch in some} & {
            patch.name for patch in open_.missing
        }
        return sum(len(some) for some, _ in tasks), len(flying)


def _lock(scan: Scan, store: RecordStore, name: str) -> AbstractContextManager[None]:
    return waiting_lock(store.folder.parent / name, what=f"fitting {scan.title}")


@dataclass
class _Open:
    """What a scan has and lacks: keys and records by patch name, and the missing patches."""

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


#: Some patches, and the task that asks for them.
Task = tuple[Sequence[Patch], bytes]


def _tasks(
    scan: Scan,
    open_: _Open,
    executor: Executor,
    settings: ExecutorSettings,
    workers: int,
    ledger: Ledger | None,
) -> tuple[list[Task], list[Task]]:
    """Tasks that are in flight and hold missing patches, and tasks for all other missing ones."""
    flying: list[Task] = []
    asked: set[str] = set()
    by_name = {patch.name: patch for patch in scan.patches}
    missing = {patch.name for patch in open_.missing}
    for sent in list(ledger.in_flight.values()) if ledger is not None else []:
        some = [by_name[name] for name in sent.patches if name in by_name]
        content = scan.task(some, open_.digest) if some else b""
        wanted = missing.intersection(sent.patches) - asked
        if wanted and content and content_digest(content) == sent.digest:
            flying.append((some, content))
            asked |= wanted
        elif ledger is not None:
            ledger.ended(sent.digest)  # recorded, or of other settings
    rest = [patch for patch in open_.missing if patch.name not in asked]
    size = patches_per_task(len(rest), scan.settings, settings, workers, scan.product)
    parts = [rest[first : first + size] for first in range(0, len(rest), size)]
    make = partial(scan.task, workspace_digest=open_.digest)
    return flying, [item for some in parts for item in fitting_tasks(some, make, executor)]


def fitting_tasks(
    patches: Sequence[Patch], make: Callable[[Sequence[Patch]], bytes], executor: Executor
) -> Iterator[Task]:
    """One task for some patches, or several if it would be larger than the executor takes."""
    content = make(patches)
    if len(content) > getattr(executor, "largest_task", math.inf) and len(patches) > 1:
        half = len(patches) // 2
        yield from fitting_tasks(patches[:half], make, executor)
        yield from fitting_tasks(patches[half:], make, executor)
    else:
        yield patches, content


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
        task.pack(scan.workspace),
        executor,
        settings,
        title=scan.title,
        recorded=lambda patch: patch.name in open_.records,
        ledger=ledger,
    )


def dispatch(
    tasks: Iterable[Task],
    make: Callable[[Sequence[Patch]], bytes],
    workspace: bytes,
    executor: Executor,
    settings: ExecutorSettings,
    *,
    title: str,
    recorded: Callable[[Patch], bool] = lambda _: False,
    ledger: Ledger | None = None,
    most: float = math.inf,
) -> Iterator[tuple[Sequence[Patch], list[dict[str, Any]]]]:
    """Send tasks and yield their results as they arrive, in any order.

    What a lost task held is sent again in smaller ones, so that a patch that kills or blocks its
    worker costs no other its result.

    Parameters
    ----------
    tasks
        Taken one by one, when there is room for them.
    make
        Makes a task of some patches.
    workspace
        Packed background-only workspace.
    executor, settings
        Where fits run; how often a patch is sent again.
    title
        What warnings call the scan.
    recorded
        Whether a patch needs no fit any more.
    ledger
        Where tasks that are over are noted, once the caller asks for the next results.
    most
        How many tasks are in flight at a time.

    Raises
    ------
    ExecutorError
        Fits cannot run there.
    """
    waiting = iter(tasks)
    pending: dict[Future[bytes], tuple[Task, int]] = {}
    while True:
        while len(pending) < most and (item := next(waiting, None)) is not None:
            pending[_send(executor, item[1], workspace)] = item, 0
        if not pending:
            return
        done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in done:
            (some, content), attempt = pending.pop(future)
            if isinstance(future.exception(), ExecutorError):
                future.result()
            left = [patch for patch in some if not recorded(patch)]
            again = _again(title, some, left, content, make, future.exception(), settings, attempt)
            for item in again:
                number = attempt + (len(some) == 1)
                pending[_send(executor, item[1], workspace)] = item, number
            if not again:
                yield some, _results(future, len(some))
                if ledger is not None:  # only now that they are recorded
                    ledger.ended(content_digest(content))


def _send(executor: Executor, content: bytes, workspace: bytes) -> Future[bytes]:
    try:
        return executor.submit(task.run, content, workspace)
    except RuntimeError as error:  # a pool that broke down takes no more
        broken: Future[bytes] = Future()
        broken.set_exception(error)
        return broken


def _again(
    title: str,
    some: Sequence[Patch],
    left: Sequence[Patch],
    content: bytes,
    make: Callable[[Sequence[Patch]], bytes],
    error: BaseException | None,
    settings: ExecutorSettings,
    attempt: int,
) -> list[Task]:
    """What is sent again after a task was lost."""
    lost = isinstance(error, (WorkerDied, DeadlineExceeded, TaskLost, TaskTooLarge))
    if lost and len(some) > 1:
        # In the end each alone, so that one that kills or blocks its worker costs no other.
        size = max(1, len(some) // _PIECES)
        pieces = [left[first : first + size] for first in range(0, len(left), size)]
        how = "one by one" if size == 1 else f"in {len(pieces)} tasks"
        logger.warning("%s: lost %d patches; sent again %s", title, len(some), how)
        return [(piece, make(piece)) for piece in pieces]
    if isinstance(error, WorkerDied) and attempt < settings.retries:
        logger.warning("%s: the worker of %s died; sent again", title, some[0].name)
        return [(some, content)]
    return []


def patches_per_task(
    patches: int,
    fit: FitSettings,
    settings: ExecutorSettings,
    workers: int,
    product: Product = HYPOTEST,
) -> int:
    """How many patches share a task.

    The batched engine gains from many; workers that end together, and records that are written
    early, ask for few. A shard of toys is a task by itself.
    """
    if product.name == TOYS:
        return 1
    if settings.patches_per_task:
        return settings.patches_per_task
    if fit.engine == "reference":
        return 1
    return max(1, min(_LARGEST_TASK, math.ceil(patches / (_TASKS_A_WORKER * workers))))


def _results(future: Future[bytes], count: int) -> list[dict[str, Any]]:
    try:
        results: list[dict[str, Any]] = task.unpack(future.result())
    except DeadlineExceeded:
        failed = task.failure(
            "DeadlineExceeded",
            "The fit did not end before the deadline.",
            "Raise `executor.deadline`, or look at this patch alone.",
        )
    except WorkerDied as error:
        failed = task.failure(
            "WorkerDied",
            f"The worker process died ({_exit(error)}), perhaps for lack of memory.",
            "Run again; use fewer `executor.workers` if memory is short.",
        )
    except TaskLost as error:
        failed = task.failure(
            "TaskLost",
            f"The task was lost as often as `executor.retries` allows: {error}.",
            "Run again; raise `executor.retries` if blocks of nodes end early.",
        )
    except TaskTooLarge as error:
        failed = task.failure(
            "TaskTooLarge",
            f"The patch is larger than the service takes: {error}.",
            "Fit it with another executor, as `executor.kind: local`.",
        )
    except Exception as error:  # noqa: BLE001  what befalls one task must not end the others
        failed = task.failure(
            type(error).__name__,
            f"The executor could not run the fit: {error}",
            "Run again; if it happens again, check the environment of the workers.",
        )
    else:
        return results
    return [failed] * count


def _exit(error: WorkerDied) -> str:
    return f"exit code {error.exitcode}" if error.exitcode is not None else "no exit code known"


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
