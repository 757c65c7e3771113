"""The few calls of the Globus Compute service that the executor makes, through its SDK.

Arguments, results and the function itself travel as JSON and as source text; nothing that arrives
is unpickled.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import globus_sdk
from globus_compute_sdk import Client
from globus_compute_sdk.sdk.batch import Batch
from globus_compute_sdk.serialize import ComputeSerializer, JSONData, PureSourceTextInspect
from globus_sdk.transport import RetryCheckCollection
from globus_sdk.transport.default_retry_checks import check_expired_authorization

from palletfit.errors import ExecutorError
from palletfit.runs.answers import shorten

logger = logging.getLogger(__name__)

#: The service refuses requests of more than 10 MB.
REQUEST_LIMIT = 10_000_000
#: Seconds without an answer after which a request is given up.
_TIMEOUT = 60.0
_NO_FUNCTION = "00000000-0000-0000-0000-000000000000"
_LOGIN = "Log in with `python -m palletfit.login`"


class ServiceBusyError(Exception):
    """The service did not answer, or asked to come back later.

    Parameters
    ----------
    reason
        The service's words.
    refused
        Whether it is certain that the request had no effect.
    wait
        Seconds that the service asks to wait.
    """

    def __init__(self, reason: str, *, refused: bool, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.refused, self.wait = reason, refused, wait


class RequestTooLargeError(Exception):
    """The service refused a request for its size."""


class GroupUnknownError(Exception):
    """The service does not know a task group any more."""


@dataclass(frozen=True)
class Outcome:
    """State of a task at the service, with its value or an error's text once it has ended.

    In the state ``unreadable`` the value says why the service's answer cannot be read.
    """

    state: str
    value: Any = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """True if there is a value or an error."""
        return self.state == "success" or self.error is not None


class Connection(Protocol):
    """The methods of :class:`Service` that others use."""

    def status(self) -> str: ...  # noqa: D102
    def register(self) -> str: ...  # noqa: D102
    def size(self, name: str, request: Mapping[str, Any]) -> int: ...  # noqa: D102
    def send(  # noqa: D102
        self, calls: Sequence[tuple[str, Mapping[str, Any]]], function: str, group: str | None
    ) -> tuple[str, list[str]]: ...
    def group(self, group: str) -> set[str]: ...  # noqa: D102
    def outcomes(self, tasks: Sequence[str]) -> dict[str, Outcome]: ...  # noqa: D102


def palletfit_call(name: str, request: dict[str, object]) -> dict[str, object]:
    """Call palletfit as it is installed on the worker."""
    import time

    began = time.time()
    from palletfit import remote

    return remote.call(name, {**request, "began": began})


class Service:
    """An endpoint of Globus Compute, as the logged-in user sees it.

    Raises
    ------
    ExecutorError
        Nobody is logged in, or the service refuses who is. So do all methods, which raise
        :class:`ServiceBusyError` when it makes sense to come back later.
    """

    def __init__(self, endpoint: str, endpoint_config: Mapping[str, Any]) -> None:
        self.endpoint, self._config = endpoint, dict(endpoint_config)
        with self._explained():
            self._client = Client(
                do_version_check=False,
                code_serialization_strategy=PureSourceTextInspect(),
                data_serialization_strategy=JSONData(),  # type: ignore[no-untyped-call]
            )
            if self._client.app is not None and self._client.app.login_required():
                raise ExecutorError(
                    "Nobody is logged in to Globus Compute on this machine.",
                    remedy=f"{_LOGIN}, or set GLOBUS_COMPUTE_CLIENT_ID and "
                    "GLOBUS_COMPUTE_CLIENT_SECRET.",
                )
            address = self._client.web_service_address
            self._tasks = globus_sdk.ComputeClientV2(app=self._client.app, base_url=address)
            self._submissions = globus_sdk.ComputeClientV3(app=self._client.app, base_url=address)
        for client in (self._tasks, self._submissions):
            client.transport.http_timeout = _TIMEOUT
            # The caller repeats requests, since it knows what a repetition may do. A token that
            # the service does not take any more is renewed once, where that is possible.
            client.retry_config.max_retries = 1
            client.retry_config.checks = RetryCheckCollection()
            client.retry_config.checks.register_check(check_expired_authorization)
        self._reader = ComputeSerializer(
            allowed_deserializer_types=[JSONData, PureSourceTextInspect]
        )

    def status(self) -> str:
        """Return the endpoint's status, ``online`` or ``offline``."""
        with self._explained():
            return str(self._tasks.get_endpoint_status(self.endpoint)["status"])

    def register(self) -> str:
        """Register :func:`palletfit_call`; returns the service's identifier."""
        with self._explained():
            identifier: str = self._client.register_function(palletfit_call)
        return identifier

    def size(self, name: str, request: Mapping[str, Any]) -> int:
        """Return the most bytes that a call takes within a request."""
        return len(json.dumps(self._batch([(name, request)], _NO_FUNCTION, None).prepare()))

    def send(
        self, calls: Sequence[tuple[str, Mapping[str, Any]]], function: str, group: str | None
    ) -> tuple[str, list[str]]:
        """Send calls of :func:`palletfit_call`.

        Returns
        -------
        tuple
            The task group, a new one if none was given, and the identifiers of the tasks.

        Raises
        ------
        RequestTooLargeError, GroupUnknownError
            Nothing was sent.
        """
        data = self._batch(calls, function, group).prepare()
        with self._explained(group=group), _readable():
            answer = self._submissions.submit(self.endpoint, data)
            group, tasks = str(answer["task_group_id"]), list(map(str, answer["tasks"][function]))
            if len(tasks) != len(calls):
                raise ValueError(f"{len(tasks)} identifiers of {len(calls)} tasks")
        return group, tasks

    def group(self, group: str) -> set[str]:
        """List the identifiers of all tasks of a group."""
        with self._explained(group=group), _readable():
            answer = self._tasks.get_task_group(group)
            return {str(task["id"]) for task in answer["tasks"]}

    def outcomes(self, tasks: Collection[str]) -> dict[str, Outcome]:
        """Fetch the states of tasks; those that the service does not know are missing."""
        with self._explained(), _readable():
            answer = self._tasks.get_task_batch(list(tasks))
            return {
                str(identifier): self._outcome(result)
                for identifier, result in answer["results"].items()
                if result
            }

    def _outcome(self, result: Any) -> Outcome:
        if not isinstance(result, Mapping):
            return Outcome("unreadable", "the service's report of it is no object")
        state = str(result.get("status", "unknown")).lower()
        if not isinstance(result.get("exception") or "", str):
            return Outcome("unreadable", "the service's report of its error is no text")
        if result.get("exception"):
            return Outcome("failed", error=str(result["exception"]))
        if result.get("result") is not None:
            try:
                return Outcome("success", self._reader.deserialize(result["result"]))
            except Exception as error:  # noqa: BLE001  the SDK raises anything
                return Outcome("unreadable", shorten(f"its result is not readable: {error}"))
        if state in ("success", "failed"):
            return Outcome("dropped")
        return Outcome(state)

    def _batch(
        self, calls: Sequence[tuple[str, Mapping[str, Any]]], function: str, group: str | None
    ) -> Batch:
        batch = self._client.create_batch(
            task_group_id=group,
            user_endpoint_config=self._config or None,
            result_serializers=["globus_compute_sdk.serialize.JSONData"],
        )
        for name, request in calls:
            batch.add(function, args=(name, dict(request)))
        return batch

    @contextmanager
    def _explained(self, group: str | None = None) -> Iterator[None]:
        """Turn the SDK's errors into ours."""
        try:
            yield
        except globus_sdk.GlobusAPIError as error:
            raise _explain(error, self.endpoint, group) from error
        except globus_sdk.NetworkError as error:
            raise ServiceBusyError(f"no connection: {error}", refused=False) from error


@contextmanager
def _readable() -> Iterator[None]:
    """Turn a service's answer of another form into one that did not arrive."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"an answer that cannot be read: {error!r}"
        raise ServiceBusyError(shorten(reason), refused=False) from error


def _explain(error: globus_sdk.GlobusAPIError, endpoint: str, group: str | None) -> Exception:
    words = f"{error.http_status} {error.text or error.message or ''}".strip()[:500]
    if isinstance(error, globus_sdk.AuthAPIError) or error.http_status in (401, 403):
        return ExecutorError(
            f"Globus Compute refuses the credentials or the use of endpoint {endpoint}: {words}",
            remedy=f"{_LOGIN} (again), check GLOBUS_COMPUTE_CLIENT_ID and "
            "GLOBUS_COMPUTE_CLIENT_SECRET if you use them, and that the endpoint is yours or "
            "shared with you. Nothing that was fitted is lost.",
        )
    if error.http_status == 413:
        return RequestTooLargeError(words)
    if error.http_status == 429:
        wait = error.headers.get("Retry-After", "") if error.headers else ""
        return ServiceBusyError(words, refused=True, wait=float(wait) if wait.isdigit() else 0.0)
    if error.http_status >= 500:
        return ServiceBusyError(words, refused=False)
    if group is not None and error.http_status in (400, 404) and "group" in words.lower():
        return GroupUnknownError(words)
    return ExecutorError(
        f"Globus Compute refuses a request for endpoint {endpoint}: {words}",
        remedy="Check `executor.endpoint` and `executor.endpoint_config` in the profile.",
    )
