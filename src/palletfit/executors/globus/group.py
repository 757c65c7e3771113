"""The task group of a run at the Globus Compute service.

How nothing is lost or fitted twice. The first thing that is sent is a probe, which opens a *task
group*. The group's identifier is on disk before any fit is sent into it. Before each request the
ledger notes its tasks, after the answer their identifiers. If this program ends in between, or the
answer gets lost, the group's list of tasks shows what the service took, and every result says which
task it answers.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from palletfit.errors import ExecutorError
from palletfit.executors.globus import patience
from palletfit.executors.globus.service import (
    Connection,
    GroupUnknownError,
    Outcome,
    ServiceBusyError,
    palletfit_call,
)
from palletfit.runs.ledger import Ledger

#: Tasks of one request.
BATCH = 100
#: The service delays clients that submit more than four times in 16 s.
_SUBMISSIONS, _INTERVAL = 4, 16.0

#: Name of a function in :mod:`palletfit.runs.remote`, and its argument.
Call = tuple[str, Mapping[str, Any]]


class TaskGroup:
    """Requests to the service, repeated while it is busy, with a ledger of what it took.

    All methods raise :class:`ExecutorError` when the service refuses, or was busy for too long.

    Parameters
    ----------
    service
        The endpoint.
    ledger
        The tasks that are in flight.
    patience
        Seconds for which a busy service is asked again.
    backend
        The backend whose device probes report.
    """

    def __init__(
        self, service: Connection, ledger: Ledger, *, patience: float, backend: str
    ) -> None:
        self.ledger = ledger
        self._service, self._patience, self._backend = service, patience, backend
        self._submitted: deque[float] = deque(maxlen=_SUBMISSIONS)
        # Tasks that are listed and unclaimed, of which an earlier request may be the sender.
        self._seen: set[str] = set()

    def status(self) -> str:
        """Return the endpoint's status, ``online`` or ``offline``."""
        return patience.ask(self._service.status, self._patience)

    def register(self) -> None:
        """Register the function that workers call, unless the ledger has it."""
        source = hashlib.sha256(inspect.getsource(palletfit_call).encode()).hexdigest()
        if self.ledger.function is None or self.ledger.function[0] != source:
            function = patience.ask(self._service.register, self._patience)
            self.ledger.registered(source, function)

    def open(self) -> str:
        """Open a group by a probe; returns the probe's identifier."""

        def send() -> tuple[str, list[str]]:
            return self._service.send([("probe", {"backend": self._backend})], self._function, None)

        # A probe that is lost, or sent twice, does no harm.
        group, (probe,) = patience.ask(send, self._patience)
        self.ledger.opened(group, probe)
        return str(probe)

    def size(self, call: Call) -> int:
        """Return the most bytes that a call takes within a request."""
        return self._service.size(*call)

    def send(self, calls: Sequence[Call], digests: Sequence[str]) -> None:
        """Send calls as one request, into a new group if the old one is gone.

        Raises
        ------
        RequestTooLargeError
            Nothing was sent.
        """
        self.ledger.sending(digests)
        try:
            identifiers = self._deliver(calls, digests)
        except GroupUnknownError:
            self.ledger.closed()
            self.open()
            self.ledger.sending(digests)
            identifiers = self._deliver(calls, digests)
        if identifiers is not None:
            self.ledger.sent(dict(zip(digests, identifiers, strict=True)))

    def outcomes(self, identifiers: Sequence[str]) -> dict[str, Outcome]:
        """Fetch the states of tasks; those that the service does not know are missing."""
        outcomes: dict[str, Outcome] = {}
        for first in range(0, len(identifiers), BATCH):
            batch = identifiers[first : first + BATCH]

            def request(batch: Sequence[str] = batch) -> dict[str, Outcome]:
                return self._service.outcomes(batch)

            outcomes |= patience.ask(request, self._patience)
        return outcomes

    def unclaimed(self) -> set[str]:
        """List tasks that the ledger does not know: sent by requests without an answer."""
        group = self.ledger.group
        if group is None:
            return set()
        try:
            listed = patience.ask(lambda: self._service.group(group), self._patience)
        except GroupUnknownError:
            return set()
        return listed - self.ledger.seen

    @property
    def _function(self) -> str:
        assert self.ledger.function is not None  # noqa: S101  set by register()
        return self.ledger.function[1]

    def _deliver(self, calls: Sequence[Call], digests: Sequence[str]) -> list[str] | None:
        """Return identifiers of the calls, or None if the service's answer got lost."""
        unsure = False

        def attempt() -> list[str] | None:
            nonlocal unsure
            if unsure and self._newly_listed():
                return None  # their results will say which is which
            self._throttle()
            try:
                return self._service.send(calls, self._function, self.ledger.group)[1]
            except ServiceBusyError as error:
                unsure = unsure or not error.refused
                raise

        try:
            return patience.ask(attempt, self._patience)
        except ExecutorError:
            if not unsure:
                for digest in digests:
                    self.ledger.withdrawn(digest)
            raise

    def _newly_listed(self) -> bool:
        """Tell whether the group has unclaimed tasks that it did not have before."""
        unclaimed = self.unclaimed()
        new = unclaimed - self._seen
        self._seen |= unclaimed
        return bool(new)

    def _throttle(self) -> None:
        if len(self._submitted) == _SUBMISSIONS:
            time.sleep(max(0.0, self._submitted[0] + _INTERVAL - time.monotonic()))
        self._submitted.append(time.monotonic())
