"""A stand-in for the hosted web service of Globus Compute, on the loopback interface.

It speaks what version 4.19 of the SDK and of the endpoint ask: REST calls, and the service's side
of the message queues. It proves how client and endpoint behave, not what the hosted service does:
of its limits only the documented ones are here.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pika
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, Task
from globus_compute_sdk.serialize import ComputeSerializer, JSONData
from pika.adapters.blocking_connection import BlockingChannel

from .broker import connect
from .web import Answer, Call, Web, refusal

COMPUTE_SCOPES = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/"
RESULTS, HEARTBEATS = "results", "heartbeats"
QUEUE_PREFIX = "group."
ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []


def route(method: str, path: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register a handler; groups in the path become its arguments."""

    def register(handler: Callable[..., Answer]) -> Callable[..., Answer]:
        ROUTES.append((method, re.compile(path), handler))
        return handler

    return register


@dataclass
class Submission:
    """A task, as the service remembers it."""

    id: str
    group: str
    function: str
    worker_endpoint: str
    status: str = "received"
    completion: float | None = None
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        return self.completion is None

    def report(self) -> dict[str, Any]:
        """What clients are told."""
        report = {"task_id": self.id, "status": self.status, **self.outcome}
        if self.completion is not None:
            report["completion_t"] = str(self.completion)
        return report


@dataclass
class Endpoint:
    """An endpoint, or one of the user endpoints that it starts."""

    id: str
    name: str = ""
    registration: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    heard: float = float("-inf")
    period: float = 30.0

    @property
    def online(self) -> bool:
        return self.period > 0 and time.monotonic() - self.heard < 2.5 * self.period


class Service:
    """The service: start() needs a broker that accepts connections."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._listeners = [
            threading.Thread(target=self._listen, args=(RESULTS, self._result)),
            threading.Thread(target=self._listen, args=(HEARTBEATS, self._heartbeat)),
        ]
        self._recent: deque[float] = deque()
        self._tokens: set[str] = set()
        #: How many of the next results are lost.
        self.results_to_swallow = 0
        #: Requests, bytes, and faults.
        self.web = Web(self._answer)
        self.identity = str(uuid.uuid4())
        self.client_id = str(uuid.uuid4())
        self.client_secret = secrets.token_hex(16)
        #: Bytes that one request may have.
        self.payload_limit = 10 * 1024**2
        #: Requests in so many seconds after which 429 is answered; None: any number.
        self.rate_limit: tuple[int, float] | None = None
        self.functions: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.tasks: dict[str, Submission] = {}
        self.groups: dict[str, list[str]] = {}
        self._queues: set[str] = set()

    def start(self) -> None:
        with self._channel() as channel:
            for name in (RESULTS, HEARTBEATS):
                channel.exchange_declare(name, "topic", durable=True)
                channel.queue_declare(name, durable=True)
                channel.queue_bind(name, name, "#")
        self.web.start()
        for listener in self._listeners:
            listener.start()

    def stop(self) -> None:
        self._stopped.set()
        self.web.stop()
        for listener in self._listeners:
            listener.join()

    # What tests do

    def add_endpoint(self, name: str) -> str:
        """Make an endpoint known before it runs, as one that was registered earlier."""
        endpoint = Endpoint(str(uuid.uuid4()), name)
        self.endpoints[endpoint.id] = endpoint
        with self._channel() as channel:
            channel.queue_declare(f"{endpoint.id}.commands", durable=True)
        return endpoint.id

    def swallow_results(self, count: int = 1) -> None:
        """Lose the next results that endpoints send: their tasks stay pending for ever."""
        with self._lock:
            self.results_to_swallow += count

    def drop_result(self, task: str) -> None:
        """Keep no more than that the task ended, as after the documented time of retention."""
        with self._lock:
            self.tasks[task].outcome.clear()

    def swap_results(self, task: str, other: str) -> None:
        """Mistake the results of two tasks for one another."""
        with self._lock:
            first, second = self.tasks[task], self.tasks[other]
            first.outcome, second.outcome = second.outcome, first.outcome

    def copy_result(self, task: str, other: str) -> None:
        """Give the result of a task for another one as well."""
        with self._lock:
            self.tasks[other].outcome = dict(self.tasks[task].outcome)

    def change_result(self, task: str, change: Callable[[Any], Any]) -> None:
        """Change the value that a task returned."""
        serializer = ComputeSerializer(strategy_data=JSONData())
        with self._lock:
            outcome = self.tasks[task].outcome
            value = change(serializer.deserialize(outcome["result"]))
            outcome["result"] = serializer.serialize(value)

    def forget(self, task: str) -> None:
        """Know nothing of a task any more."""
        with self._lock:
            self.groups[self.tasks.pop(task).group].remove(task)

    def revoke_tokens(self) -> None:
        """Make all access tokens invalid: the next requests are answered with 401."""
        with self._lock:
            self._tokens.clear()

    # REST

    def _answer(self, call: Call) -> Answer:
        for method, path, handler in ROUTES:
            match = path.fullmatch(call.path)
            if match and method == call.method:
                return self._refused(call) or self._handle(handler, call, *match.groups())
        return refusal(404, f"there is no {call.method} {call.path}")

    def _handle(self, handler: Callable[..., Answer], call: Call, *arguments: str) -> Answer:
        try:
            with self._lock:
                return handler(self, call, *arguments)
        except (pika.exceptions.AMQPError, OSError):
            return refusal(503, "the broker cannot be reached")

    def _refused(self, call: Call) -> Answer | None:
        if call.path == "/v2/oauth2/token":
            given = call.headers.get("Authorization", "").removeprefix("Basic ")
            wanted = f"{self.client_id}:{self.client_secret}".encode()
            return None if base64.b64decode(given) == wanted else refusal(401, "unknown client")
        if call.headers.get("Authorization", "").removeprefix("Bearer ") not in self._tokens:
            return refusal(401, "Credentials are missing or expired", "AUTHENTICATION_FAILED")
        if len(call.body) > self.payload_limit:
            return refusal(413, f"more than {self.payload_limit} bytes", "PAYLOAD_TOO_LARGE")
        if self.rate_limit and self._too_many(*self.rate_limit):
            return refusal(429, "too many requests", "RATE_LIMITED", {"Retry-After": "1"})
        return None

    def _too_many(self, requests: int, seconds: float) -> bool:
        now = time.monotonic()
        with self._lock:
            while self._recent and self._recent[0] < now - seconds:
                self._recent.popleft()
            full = len(self._recent) >= requests
            if not full:
                self._recent.append(now)
        return full

    @route("POST", "/v2/oauth2/token")
    def _token(self, call: Call) -> Answer:
        """One token for each server whose scopes are asked for."""
        scopes: dict[str, list[str]] = {}
        for scope in parse_qs(call.body.decode()).get("scope", [""])[0].split():
            server = "funcx_service" if scope.startswith(COMPUTE_SCOPES) else "auth.globus.org"
            scopes.setdefault(server, []).append(scope)
        tokens = [
            {
                "access_token": secrets.token_hex(16),
                "scope": " ".join(granted),
                "resource_server": server,
                "expires_in": 172800,
                "token_type": "Bearer",
            }
            for server, granted in scopes.items()
        ]
        self._tokens.update(token["access_token"] for token in tokens)
        return Answer({**tokens[0], "other_tokens": tokens[1:]})

    @route("GET", "/v2/oauth2/userinfo")
    def _userinfo(self, _call: Call) -> Answer:
        return Answer(self._person())

    def _person(self) -> dict[str, Any]:
        person = {"sub": self.identity, "preferred_username": "tester", "name": "Tester"}
        return {**person, "identity_set": [{**person, "username": "tester"}]}

    @route("GET", "/v2/version")
    def _version(self, _call: Call) -> Answer:
        return Answer({"api": "1.0.0", "min_ep_version": "2.0.0", "min_sdk_version": "2.0.0"})

    @route("GET", "/v2/get_amqp_result_connection_url")
    def _connection(self, _call: Call) -> Answer:
        return Answer({"queue_prefix": QUEUE_PREFIX, "connection_url": self._broker_url})

    @route("POST", "/v[23]/functions")
    def _register_function(self, call: Call) -> Answer:
        function = str(uuid.uuid4())
        self.functions[function] = call.json
        return Answer({"function_uuid": function})

    @route("GET", "/v2/functions/([^/]+)")
    def _function(self, _call: Call, function: str) -> Answer:
        if function not in self.functions:
            return refusal(404, f"Function {function} could not be resolved", "FUNCTION_NOT_FOUND")
        return Answer({"function_uuid": function, **self.functions[function]})

    @route("POST", "/v3/endpoints")
    def _register(self, call: Call) -> Answer:
        return self._registered(self.add_endpoint(call.json["endpoint_name"]), call)

    @route("PUT", "/v3/endpoints/([^/]+)")
    def _update(self, call: Call, endpoint: str) -> Answer:
        return self._registered(endpoint, call)

    def _registered(self, endpoint: str, call: Call) -> Answer:
        if endpoint not in self.endpoints:
            return self._no_endpoint(endpoint)
        self.endpoints[endpoint].registration = call.json
        commands = {"connection_url": self._broker_url, "queue": f"{endpoint}.commands"}
        return Answer(
            {
                "endpoint_id": endpoint,
                "command_queue_info": commands,
                "heartbeat_queue_info": self._publishing(HEARTBEATS, endpoint),
            }
        )

    @route("GET", "/v2/endpoints/([^/]+)/status")
    def _status(self, _call: Call, endpoint: str) -> Answer:
        if endpoint not in self.endpoints:
            return self._no_endpoint(endpoint)
        known = self.endpoints[endpoint]
        status = "online" if known.online else "offline"
        return Answer({"status": status, "details": known.report})

    @route("GET", "/v2/endpoints/([^/]+)")
    def _endpoint(self, _call: Call, endpoint: str) -> Answer:
        if endpoint not in self.endpoints:
            return self._no_endpoint(endpoint)
        known = self.endpoints[endpoint]
        return Answer({"uuid": endpoint, "name": known.name, **known.registration})

    @route("POST", "/v[23]/endpoints/([^/]+)/lock")
    def _lock_endpoint(self, _call: Call, endpoint: str) -> Answer:
        return Answer({"endpoint_id": endpoint, "lock_expiration_timestamp": time.time() + 60})

    @route("DELETE", "/v2/endpoints/([^/]+)")
    def _delete(self, _call: Call, endpoint: str) -> Answer:
        if self.endpoints.pop(endpoint, None) is None:
            return self._no_endpoint(endpoint)
        return Answer({"result": 302})

    def _no_endpoint(self, endpoint: str) -> Answer:
        return refusal(404, f"Endpoint {endpoint} could not be resolved", "ENDPOINT_NOT_FOUND")

    @route("POST", "/v3/endpoints/([^/]+)/submit")
    def _submit(self, call: Call, endpoint: str) -> Answer:
        if endpoint not in self.endpoints:
            return self._no_endpoint(endpoint)
        request = call.json
        if unknown := request["tasks"].keys() - self.functions.keys():
            return refusal(404, f"Function {unknown} could not be resolved", "FUNCTION_NOT_FOUND")
        group = request.get("task_group_id") or str(uuid.uuid4())
        tasks = {
            function: [str(uuid.uuid4()) for _ in payloads]
            for function, payloads in request["tasks"].items()
        }
        with self._channel() as channel:
            if request.get("create_queue"):
                channel.queue_declare(QUEUE_PREFIX + group, durable=True)
                self._queues.add(group)
            worker_endpoint = self._send_start(channel, endpoint, request)
            for function, payloads in request["tasks"].items():
                for task, payload in zip(tasks[function], payloads, strict=True):
                    self._remember(Submission(task, group, function, worker_endpoint))
                    self._send_task(channel, self.tasks[task], payload, request)
        answer = {"request_id": str(uuid.uuid4()), "task_group_id": group}
        return Answer({**answer, "endpoint_id": endpoint, "tasks": tasks})

    @route("POST", "/v2/batch_status")
    def _batch_status(self, call: Call) -> Answer:
        wanted = [self.tasks.get(task) for task in call.json["task_ids"]]
        return Answer(
            {"response": "batch", "results": {task.id: task.report() for task in wanted if task}}
        )

    @route("GET", "/v2/tasks/([^/]+)")
    def _task(self, _call: Call, task: str) -> Answer:
        if task not in self.tasks:
            return refusal(404, f"Task {task} could not be resolved", "TASK_NOT_FOUND")
        return Answer(self.tasks[task].report())

    @route("GET", "/v2/taskgroup/([^/]+)")
    def _task_group(self, _call: Call, group: str) -> Answer:
        if group not in self.groups:
            return refusal(404, f"Task group {group} could not be resolved", "TASK_GROUP_NOT_FOUND")
        return Answer(
            {"taskgroup_id": group, "tasks": [{"id": task} for task in self.groups[group]]}
        )

    def _remember(self, task: Submission) -> None:
        self.tasks[task.id] = task
        self.groups.setdefault(task.group, []).append(task.id)

    # Messages to endpoints

    def _channel(self) -> _Channel:
        return _Channel(self._broker_url)

    def _publishing(self, exchange: str, endpoint: str) -> dict[str, Any]:
        publishing = {
            "exchange": exchange,
            "routing_key": f"{endpoint}.{exchange}",
            "mandatory": True,
            "properties": {"delivery_mode": 2},
        }
        queue = {"connection_url": self._broker_url, "exchange": exchange, "queue": exchange}
        return {**queue, "queue_publish_kwargs": publishing}

    def _send_start(self, channel: BlockingChannel, endpoint: str, request: dict[str, Any]) -> str:
        """Ask for the user endpoint of this configuration; it may well be running."""
        options = request.get("user_endpoint_config") or {}
        kind = json.dumps(options, sort_keys=True)
        started = str(uuid.uuid5(uuid.UUID(endpoint), kind))
        name = f"uep.{endpoint}.{started}"
        self.endpoints.setdefault(started, Endpoint(started, name))
        channel.queue_declare(f"{started}.tasks", durable=True)
        tasks = {"connection_url": self._broker_url, "queue": f"{started}.tasks"}
        credentials = {
            "endpoint_id": started,
            "task_queue_info": tasks,
            "result_queue_info": self._publishing(RESULTS, started),
            "heartbeat_queue_info": self._publishing(HEARTBEATS, started),
        }
        command = {
            "command": "cmd_start_endpoint",
            "kwargs": {
                "name": name,
                "user_opts": options,
                "user_runtime": request.get("user_runtime") or {},
                "amqp_creds": credentials,
            },
            "globus_username": "tester",
            "globus_effective_identity": self.identity,
            "globus_identity_set": self._person()["identity_set"],
        }
        properties = pika.BasicProperties(
            content_type="application/json", timestamp=round(time.time()), delivery_mode=2
        )
        body = json.dumps(command).encode()
        channel.basic_publish("", f"{endpoint}.commands", body, properties)
        return started

    def _send_task(
        self, channel: BlockingChannel, task: Submission, payload: str, request: dict[str, Any]
    ) -> None:
        headers = {
            "function_uuid": task.function,
            "task_uuid": task.id,
            "resource_specification": json.dumps(request.get("resource_specification")),
            "result_serializers": request.get("result_serializers") or [],
        }
        code = self.functions[task.function]["function_code"]
        body = messagepack.pack(Task(task_id=uuid.UUID(task.id), task_buffer=code + payload))
        properties = pika.BasicProperties(headers=headers, delivery_mode=2)
        channel.basic_publish("", f"{task.worker_endpoint}.tasks", body, properties)

    # Messages from endpoints

    def _listen(self, queue: str, receive: Callable[[Any, bytes], None]) -> None:
        while not self._stopped.is_set():
            with suppress(pika.exceptions.AMQPError, OSError), self._channel() as channel:
                for method, _, body in channel.consume(queue, inactivity_timeout=0.2):
                    if self._stopped.is_set():
                        return
                    if method is not None:
                        receive(messagepack.unpack(body), body)
                        channel.basic_ack(method.delivery_tag)
            self._stopped.wait(0.3)

    def _result(self, result: Result, body: bytes) -> None:
        with self._lock:
            task = self.tasks.get(str(result.task_id))
            if self.results_to_swallow:
                self.results_to_swallow -= 1
            elif task is not None:
                self._finish(task, result, body)

    def _finish(self, task: Submission, result: Result, body: bytes) -> None:
        task.status = "failed" if result.is_error else "success"
        task.outcome = {"exception" if result.is_error else "result": result.data}
        if result.details:
            task.outcome["details"] = json.loads(json.dumps(result.details, default=str))
        task.completion = time.time()
        if task.group in self._queues:
            properties = pika.BasicProperties(timestamp=round(task.completion), delivery_mode=2)
            with self._channel() as channel:
                channel.basic_publish("", QUEUE_PREFIX + task.group, body, properties)

    def _heartbeat(self, report: EPStatusReport, _body: bytes) -> None:
        with self._lock:
            endpoint = self.endpoints.get(str(report.endpoint_id))
            if endpoint is None:
                return
            endpoint.heard = time.monotonic()
            endpoint.report = report.global_state
            endpoint.period = report.global_state.get("heartbeat_period", endpoint.period)
            if "error" in report.global_state:
                self._fail_all(endpoint, report.global_state["error"])

    def _fail_all(self, endpoint: Endpoint, message: str) -> None:
        """What waits for a user endpoint that did not start has failed."""
        for task in self.tasks.values():
            if task.worker_endpoint == endpoint.id and task.pending:
                details = {"code": "ENDPOINT_STARTUP_FAILURE", "user_message": message}
                result = Result(task_id=task.id, data=message, error_details=details)
                self._finish(task, result, messagepack.pack(result))
        with self._channel() as channel:
            channel.queue_purge(f"{endpoint.id}.tasks")


class _Channel:
    """A channel on a connection of its own, for the time of a with statement."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> BlockingChannel:
        self._connection = connect(self._url)
        return self._connection.channel()

    def __exit__(self, *_: object) -> None:
        with suppress(pika.exceptions.AMQPError, OSError):
            self._connection.close()
