"""Fits as function calls at a Globus Compute endpoint (formerly funcX).

Tasks outlive this program: a :class:`~palletfit.runs.ledger.Ledger` says on disk what was sent, and
a task that is submitted again while the service has it is not sent again but waited for.

How nothing is lost or fitted twice. The first thing that is sent is a probe, which opens a *task
group*; the group's identifier is on disk before any fit is sent into it. Before each request the
ledger notes its tasks, after the answer their identifiers. If this program ends in between, or the
answer gets lost, the group's list of tasks shows what the service took, and every result says which
task it answers.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Protocol

import tenacity

from palletfit.config import ExecutorSettings
from palletfit.errors import ExecutorError
from palletfit.executors.globus.service import (
    REQUEST_LIMIT,
    GroupUnknownError,
    Outcome,
    RequestTooLargeError,
    ServiceBusyError,
    palletfit_call,
)
from palletfit.runs import remote, task
from palletfit.runs.faults import DeadlineExceeded, TaskLost, TaskTooLarge, worker_died
from palletfit.runs.ledger import Ledger, Sent
from palletfit.runs.remote import result_versions

logger = logging.getLogger(__name__)

#: Bytes and tasks of one request.
_REQUEST, _BATCH = int(0.8 * REQUEST_LIMIT), 100
#: The service delays clients that submit more than four times in 16 s.
_SUBMISSIONS, _INTERVAL = 4, 16.0
#: Seconds between looks for results: the least, the most, and how they grow while nothing comes.
_QUICK, _SLOW, _GROWTH = 0.5, 5.0, 1.3
#: Seconds before a busy service is asked again: the least, doubled each time, and the most.
_PAUSE, _LONGEST = 1.0, 30.0
#: Seconds for which tasks that are submitted one after the other are gathered.
_GATHER = 0.2
#: Seconds between lines that say what is waited for.
_REPORT = 30.0
#: Seconds before a task is sent again whose endpoint cannot start just now.
_PASSES = 10.0
#: Seconds after which a task that the service should have and does not list is sent again.
_LISTED = 60.0


class Connection(Protocol):
    """What is needed of :class:`~palletfit.executors.globus.service.Service`."""

    def status(self) -> str: ...  # noqa: D102
    def register(self) -> str: ...  # noqa: D102
    def size(self, name: str, request: Mapping[str, Any]) -> int: ...  # noqa: D102
    def send(  # noqa: D102
        self, calls: Sequence[tuple[str, Mapping[str, Any]]], function: str, group: str | None
    ) -> tuple[str, list[str]]: ...
    def group(self, group: str) -> set[str]: ...  # noqa: D102
    def outcomes(self, tasks: Sequence[str]) -> dict[str, Outcome]: ...  # noqa: D102


#: Words of an endpoint that cannot start a user endpoint just now: the one before it was killed and
#: counts as alive for three heartbeats, or it was asked while it was not running.
_PASSING = ("Another instance of this endpoint is running", "Command too old")


@dataclass(eq=False)
class _Task:
    digest: str
    content: bytes
    workspace: bytes
    future: Future[bytes]
    #: How often it was sent again by this process, and whether the next time with the workspace.
    again: int = 0
    full: bool = False
    #: Whether this process has sent it; an earlier one may have met troubles that are over.
    sent_here: bool = False
    #: Identifiers whose end is known.
    over: set[str] = field(default_factory=set)
    #: Not sent before this time of the monotonic clock.
    ready: float = 0.0


class GlobusComputeExecutor(Executor):
    """Calls of :func:`palletfit.runs.task.run` as tasks of an endpoint.

    Parameters
    ----------
    service
        The endpoint.
    ledger
        What is in flight.
    settings
        ``workers``, ``deadline`` (from sending to result, waiting in the site's queue included),
        ``retries``, ``preflight``, ``patience``.
    collect
        Whether this process stays for the results. If not, every task carries the workspace.
    backend
        The backend whose device the probe reports.

    Attributes
    ----------
    workers
        How many tasks are expected to run side by side.
    largest_task
        Bytes that the content of a task may have, so that it fits into a request.
    sent
        Number of tasks, and bytes, that were sent so far, repetitions included.

    Raises
    ------
    ExecutorError
        The preflight found that fits cannot run there.
    """

    largest_task = REQUEST_LIMIT // 5

    def __init__(
        self,
        service: Connection,
        ledger: Ledger,
        settings: ExecutorSettings,
        *,
        collect: bool = True,
        backend: str = "numpy",
    ) -> None:
        self.workers = settings.workers or 4
        self.sent = (0, 0)
        self._service, self._ledger, self._settings = service, ledger, settings
        self._collects, self._backend = collect, backend
        self._queue: deque[_Task] = deque()
        self._waiting: dict[str, _Task] = {}
        self._submitted: deque[float] = deque(maxlen=_SUBMISSIONS)
        self._changed = threading.Condition()
        self._broken: ExecutorError | None = None
        self._closing = False
        self._last_added = self._last_looked = 0.0
        self._pause = _QUICK
        self._sent_workspaces: Counter[bytes] = Counter()
        self._kept_workspaces: set[bytes] = set()
        # Tasks that are listed and unknown, of which an earlier request may be the sender.
        self._seen: set[str] = set()
        self._preflight()
        self._thread = threading.Thread(target=self._work, name="globus-compute", daemon=True)
        self._thread.start()

    # -- the interface of an executor

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Send a call of :func:`palletfit.runs.task.run`, or wait for one that was sent before.

        Raises
        ------
        ExecutorError
            Fits cannot run there any more.
        """
        if fn is not task.run or kwargs:
            raise ValueError("a Globus Compute endpoint is only asked for palletfit.runs.task.run")
        content, workspace = args
        digest = remote.content_digest(content)
        with self._changed:
            if self._broken is not None:
                raise self._broken
            if self._closing:
                raise RuntimeError("cannot submit after shutdown")
            future: Future[bytes] = Future()
            made = _Task(digest, content, workspace, future)
            if digest in self._ledger.in_flight:
                self._waiting[digest] = made
            else:
                self._queue.append(made)
            self._last_added = time.monotonic()
            self._changed.notify()
        return future

    def flush(self) -> None:
        """Wait until everything submitted is with the service.

        Raises
        ------
        ExecutorError
            It could not be sent.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._queue or self._broken is not None)
            if self._broken is not None:
                raise self._broken

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop sending and waiting. What was sent goes on at the endpoint."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if wait and not cancel_futures:
            self._thread.join()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        count = len(self._ledger.in_flight)
        if exception_type is not None and count:
            logger.warning(
                "%d tasks go on at the endpoint; the same command collects their results.", count
            )
        self.shutdown(wait=exception_type is None)

    # -- before the first fit

    def _preflight(self) -> None:
        """Ask whether the endpoint can fit, and open a task group by that."""
        waited_for = self._ledger.group is not None and bool(self._ledger.in_flight)
        ask = self._settings.preflight and not waited_for
        if ask and self._patiently(self._service.status) != "online":
            raise ExecutorError(
                f"The endpoint {self._settings.endpoint} is offline.",
                remedy="Start it on its login node (`globus-compute-endpoint start NAME`), or set "
                "`executor.preflight: false`: tasks then wait until it is started.",
            )
        source = hashlib.sha256(inspect.getsource(palletfit_call).encode()).hexdigest()
        if self._ledger.function is None or self._ledger.function[0] != source:
            self._ledger.registered(source, self._patiently(self._service.register))
        if waited_for:
            return  # It worked before, and its results are what matters now.
        probe = self._open_group()
        if ask and self._collects:
            self._check(self._await_probe(probe))

    def _open_group(self) -> str:
        def send() -> tuple[str, list[str]]:
            return self._service.send(
                [("probe", {"backend": self._backend})], self._function(), None
            )

        # A probe that is lost, or sent twice, does no harm.
        group, (probe,) = self._patiently(send)
        self._ledger.opened(group, probe)
        return str(probe)

    def _function(self) -> str:
        assert self._ledger.function is not None  # noqa: S101  set by the preflight
        return self._ledger.function[1]

    def _await_probe(self, probe: str) -> dict[str, Any]:
        began = last = time.monotonic()
        while True:
            outcome = self._patiently(lambda: self._service.outcomes([probe])).get(probe)
            if outcome is not None and outcome.error is not None:
                raise self._fatal(outcome.error) or _unusable(outcome.error)
            if outcome is not None and outcome.ended:
                found: dict[str, Any] = outcome.value
                return found
            now = time.monotonic()
            if now - began > self._settings.deadline:
                raise ExecutorError(
                    "The endpoint's first worker did not answer within "
                    f"{self._settings.deadline:.0f} s.",
                    remedy="Look at the endpoint's log and the site's queue; raise "
                    "`executor.deadline` where queues are long.",
                )
            if now - last > _REPORT:
                last = now
                state = "unknown to the service" if outcome is None else outcome.state
                logger.info("waiting for the endpoint's first worker (%s)", state)
            time.sleep(self._next_pause())

    def _check(self, found: Mapping[str, Any]) -> None:
        """Compare the worker with this machine."""
        ours, theirs = remote.versions(), found["versions"]
        self._refuse_others(theirs, found["engines"])
        unlike = [
            f"{name} {theirs.get(name, 'none')} (here {ours.get(name, 'none')})"
            for name in remote.COMPARED
            if theirs.get(name) != ours.get(name)
        ]
        if unlike:
            logger.warning("the worker has %s", ", ".join(unlike))
        expected = remote.tiny_fit()
        if abs(found["CLs_obs"] - expected) > _AGREEMENT:
            raise ExecutorError(
                f"A tiny fit gives CLs {found['CLs_obs']!r} on the worker and {expected!r} here.",
                remedy="Install the environment that envs/endpoint.txt locks on the worker.",
            )
        logger.info("first worker: %s, %s", found["host"], found["device"])

    def _refuse_others(self, theirs: Mapping[str, str], engines: Mapping[str, str]) -> None:
        ours = remote.versions()
        unlike = [name for name in remote.REQUIRED if theirs.get(name) != ours.get(name)]
        if engines == result_versions() and not unlike:
            return
        pairs = [f"{name} {theirs.get(name, 'none')} (here {ours.get(name)})" for name in unlike]
        raise ExecutorError(
            f"The worker has another version of {', '.join(pairs) or 'the engine'}.",
            remedy="Install the same checkout on both sides: there, the environment of "
            "envs/endpoint.txt and `pip install --no-deps` of this checkout; then restart the "
            "endpoint.",
        )

    # -- the thread that sends and collects

    def _work(self) -> None:
        last_report = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, timeout=_QUICK)
                if self._closing:
                    return
            try:
                self._send_queued()
                if self._collects and self._waiting:
                    self._look()
            except ExecutorError as error:
                self._break(error)
                return
            except Exception as error:
                logger.exception("the executor failed")
                self._break(_unusable(repr(error)))
                return
            if self._waiting and time.monotonic() - last_report > _REPORT:
                last_report = time.monotonic()
                logger.info("%d tasks at the endpoint", len(self._waiting))

    def _has_work(self) -> bool:
        now = time.monotonic()
        if self._closing:
            return True
        if now - self._last_added > _GATHER and any(made.ready <= now for made in self._queue):
            return True
        return bool(self._collects and self._waiting and now - self._last_looked > self._pause)

    def _break(self, error: ExecutorError) -> None:
        with self._changed:
            self._broken = error
            lost = [*self._queue, *self._waiting.values()]
            self._queue.clear()
            self._waiting.clear()
            self._changed.notify_all()
        for made in lost:
            with suppress(Exception):
                made.future.set_exception(error)

    def _send_queued(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                ready = [made for made in self._queue if made.ready <= now]
            if not ready:
                return
            for batch in self._batches(ready):
                self._send(batch)
                with self._changed:
                    for made in batch:
                        self._queue.remove(made)
                        if not made.future.done():
                            self._waiting[made.digest] = made
                    self._changed.notify_all()

    def _batches(self, tasks: Sequence[_Task]) -> Iterator[list[_Task]]:
        batch: list[_Task] = []
        size = 0
        for made in tasks:
            added = self._service.size("answer", self._request(made))
            if batch and (size + added > _REQUEST or len(batch) == _BATCH):
                yield batch
                batch, size = [], 0
            batch.append(made)
            size += added
        if batch:
            yield batch

    def _request(self, made: _Task) -> dict[str, Any]:
        known = made.workspace in self._kept_workspaces
        enough = self._sent_workspaces[made.workspace] >= max(4, self.workers)
        if made.full or not self._collects or not (known or enough):
            return remote.make_request(made.content, made.digest, made.workspace)
        return remote.make_request(made.content, made.digest)

    def _send(self, batch: Sequence[_Task]) -> None:
        """Send tasks as one request, whatever the service answers first."""
        calls, size = [], 0
        for made in batch:
            request = self._request(made)
            self._sent_workspaces[made.workspace] += "workspace" in request
            calls.append(("answer", request))
            made.sent_here = True
            size += self._service.size("answer", request)
            self._ledger.label(made.digest, self._names(made))
        digests = [made.digest for made in batch]
        self._ledger.sending(digests)
        try:
            try:
                ids = self._deliver(calls, digests)
            except GroupUnknownError:
                self._ledger.closed()
                self._open_group()
                self._ledger.sending(digests)
                ids = self._deliver(calls, digests)
        except RequestTooLargeError as error:
            self._refuse_large(batch, error)
            return
        self.sent = self.sent[0] + len(batch), self.sent[1] + size
        if ids is not None:
            self._ledger.sent(dict(zip(digests, ids, strict=True)))

    def _deliver(
        self, calls: Sequence[tuple[str, Mapping[str, Any]]], digests: Sequence[str]
    ) -> list[str] | None:
        """Identifiers of the sent calls; None if the service took them and its answer got lost."""
        unsure = False

        def attempt() -> list[str] | None:
            nonlocal unsure
            if unsure and self._newly_listed():
                return None  # Their results will say which is which.
            self._throttle()
            try:
                return self._service.send(calls, self._function(), self._ledger.group)[1]
            except ServiceBusyError as error:
                unsure = unsure or not error.refused
                raise

        try:
            ids: list[str] | None = self._patiently(attempt)
        except ExecutorError:
            if not unsure:
                for digest in digests:
                    self._ledger.withdrawn(digest)
            raise
        return ids

    def _names(self, made: _Task) -> list[str]:
        return [patch["name"] for patch in task.unpack(made.content)["patches"]]

    def _refuse_large(self, batch: Sequence[_Task], error: RequestTooLargeError) -> None:
        if len(batch) > 1:
            for made in batch:
                self._send([made])
            return
        (made,) = batch
        self._ledger.ended(made.digest)
        size = len(made.content) + len(made.workspace)
        made.future.set_exception(TaskTooLarge(f"{size / 1e6:.1f} MB compressed: {error}"))

    def _throttle(self) -> None:
        if len(self._submitted) == _SUBMISSIONS:
            time.sleep(max(0.0, self._submitted[0] + _INTERVAL - time.monotonic()))
        self._submitted.append(time.monotonic())

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask the service until it answers, or patience ends."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._settings.patience),
            wait=_wait,
            retry=tenacity.retry_if_exception_type(ServiceBusyError),
            before_sleep=_log_busy,
            reraise=True,
        )
        try:
            return retrying(ask)
        except ServiceBusyError as error:
            raise _impatient(error) from error

    def _next_pause(self) -> float:
        self._pause = min(_SLOW, _GROWTH * self._pause)
        return self._pause

    # -- results

    def _look(self) -> None:
        """Fetch what has ended, and send again what got lost."""
        with self._changed:
            sent = {digest: self._ledger.in_flight.get(digest) for digest in self._waiting}
        identifiers = {
            identifier: digest
            for digest, item in sent.items()
            if item is not None
            for identifier in item.ids
            if identifier not in self._waiting[digest].over
        }
        strangers: set[str] = set()
        if any(item is None or not item.ids for item in sent.values()):
            strangers = self._strangers()
        asked = [*identifiers, *strangers]
        outcomes: dict[str, Outcome] = {}
        for first in range(0, len(asked), _BATCH):
            some = asked[first : first + _BATCH]
            outcomes |= self._patiently(partial(self._service.outcomes, some))
        self._last_looked = time.monotonic()
        before = len(self._waiting)
        for identifier, outcome in outcomes.items():
            self._take(identifier, identifiers.get(identifier), outcome)
        for identifier, digest in identifiers.items():
            if identifier not in outcomes and digest in self._waiting:
                self._waiting[digest].over.add(identifier)
                self._lost(self._waiting[digest], "the service does not know it any more")
        self._expire(strangers)
        if len(self._waiting) < before:
            self._pause = _QUICK
        else:
            self._next_pause()

    def _strangers(self) -> set[str]:
        """Tasks of the group that the ledger does not know: sent by requests without an answer."""
        group = self._ledger.group
        if group is None:
            return set()
        try:
            listed: set[str] = self._patiently(lambda: self._service.group(group))
        except GroupUnknownError:
            return set()
        return listed - self._ledger.known

    def _newly_listed(self) -> bool:
        """Whether the group has tasks that no request is known to have sent, for the first time."""
        strangers = self._strangers()
        new = strangers - self._seen
        self._seen |= strangers
        return bool(new)

    def _take(self, identifier: str, digest: str | None, outcome: Outcome) -> None:
        """Act on what became of a task, whose digest is None if no request is known to it."""
        if not outcome.ended and outcome.state != "dropped":
            return
        answered = outcome.value
        if digest is None:
            found = isinstance(answered, dict) and str(answered.get("digest", ""))
            if not found or found not in self._ledger.in_flight:
                self._ledger.known.add(identifier)  # a probe, or what nobody waits for
                return
            digest = found
            self._ledger.sent({digest: identifier})
        made = self._waiting.get(digest)
        if made is None or identifier in made.over:
            return  # Another copy ended before.
        made.over.add(identifier)
        if outcome.error is not None:
            self._fail(made, outcome.error)
        elif outcome.state == "dropped":
            self._lost(made, "the service dropped its result")
        elif "results" in answered:
            self._kept_workspaces.add(made.workspace)
            self._end(made, result=remote.results_of(answered))
        elif "missing" in answered:
            made.full = True
            self._requeue(made)
        elif made.sent_here:
            self._ledger.ended(digest)
            self._refuse_others(answered["other"], answered["engines"])
        else:
            self._requeue(made)

    def _fail(self, made: _Task, error: str) -> None:
        fatal = self._fatal(error)
        if fatal is not None:
            if made.sent_here:
                self._ledger.ended(made.digest)
                raise fatal
            self._requeue(made)
        elif self._is_out(made):
            return
        elif "WorkerLost" in error:
            self._end(made, error=worker_died("the worker died"))
        elif "ManagerLost" in error:
            self._again(made, "its block of nodes ended")
        elif any(words in error for words in _PASSING):
            made.ready = time.monotonic() + _PASSES
            self._requeue(made)
        else:
            # A fit that fails is an answer; what is raised beside that is the worker's trouble.
            self._again(made, _last_line(error))

    def _is_out(self, made: _Task) -> bool:
        """Whether another copy of a task is with the service."""
        sent = self._ledger.in_flight.get(made.digest)
        return sent is not None and bool(set(sent.ids) - made.over)

    @staticmethod
    def _fatal(error: str) -> ExecutorError | None:
        """The error that a task's error text means for all tasks, if it does."""
        if "BadStateException" in error:
            return ExecutorError(
                f"The endpoint cannot start workers: {_scheduler_words(error)}",
                remedy="Correct `executor.endpoint_config` (partition, account, walltime) in the "
                "profile, or the endpoint's template, then run again.",
            )
        if re.search(r"(ModuleNotFoundError|ImportError)", error):
            return ExecutorError(
                f"The worker cannot import what a fit needs: {_last_line(error)}",
                remedy="Install the environment of envs/endpoint.txt and this checkout where the "
                "endpoint's `worker_init` points, then restart the endpoint.",
            )
        raised = ("Traceback", "WorkerLost", "ManagerLost", *_PASSING)
        return None if any(words in error for words in raised) else _unusable(error)

    def _lost(self, made: _Task, why: str) -> None:
        if not self._is_out(made):
            self._again(made, why)

    def _again(self, made: _Task, why: str, *, late: bool = False) -> None:
        if made.again < self._settings.retries:
            made.again += 1
            logger.warning("a task of %d patches was lost (%s); sent again", *_told(made, why))
            self._requeue(made)
        else:
            self._end(made, error=DeadlineExceeded(why) if late else TaskLost(why))

    def _requeue(self, made: _Task) -> None:
        with self._changed:
            self._waiting.pop(made.digest, None)
            self._queue.append(made)

    def _expire(self, strangers: set[str]) -> None:
        now = time.time()
        for digest, made in list(self._waiting.items()):
            item: Sent | None = self._ledger.in_flight.get(digest)
            last = item.times[-1] if item is not None and item.times else now
            if now - last > self._settings.deadline:
                self._again(made, f"no result within {self._settings.deadline:.0f} s", late=True)
            elif (item is None or not item.ids) and not strangers and now - last > _LISTED:
                self._requeue(made)  # The service never had it.

    def _end(
        self, made: _Task, *, result: bytes | None = None, error: BaseException | None = None
    ) -> None:
        with self._changed:
            self._waiting.pop(made.digest, None)
            self._changed.notify_all()
        if error is not None:
            # Its patches go other ways from here on; results are noted when they are recorded.
            self._ledger.ended(made.digest)
            made.future.set_exception(error)
        else:
            made.future.set_result(result or b"")


#: Largest difference of the probe's CLs; other processors round differently.
_AGREEMENT = 1e-6


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, ServiceBusyError) else 0.0
    return float(max(asked, tenacity.wait_exponential(multiplier=_PAUSE, max=_LONGEST)(state)))


def _log_busy(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("the service is busy (%s); trying again", error)


def _told(made: _Task, why: str) -> tuple[int, str]:
    return len(task.unpack(made.content)["patches"]), why


def _impatient(error: ServiceBusyError) -> ExecutorError:
    return ExecutorError(
        f"The Globus Compute service does not serve: {error.reason}",
        remedy="Run the same command later; nothing that was fitted or sent is lost.",
    )


def _unusable(error: str) -> ExecutorError:
    return ExecutorError(
        f"The endpoint cannot run fits: {_last_line(error)}",
        remedy="Look at the endpoint's log (`globus-compute-endpoint logs NAME` on its machine).",
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no reason given"


def _scheduler_words(error: str) -> str:
    """What the scheduler said, out of Parsl's report of failed blocks."""
    found = re.search(r"STDERR:?\s*(.+?)(?:\n\s*\n|$)", error, flags=re.DOTALL | re.IGNORECASE)
    words = found[1] if found else _last_line(error)
    return " ".join(words.split())[:500]
