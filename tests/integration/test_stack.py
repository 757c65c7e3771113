"""The stack itself: what the tests of remote fits rely on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pika
import pytest

from .stack import Stack, missing
from .stack.broker import connect
from .stack.processes import living, until

pytestmark = pytest.mark.slow

#: The function that clients let run is an installed one that every worker has.
EXECUTOR = """
import json, subprocess, sys
from globus_compute_sdk import Executor

endpoint, label, *commands = sys.argv[1:]
configuration = {"label": label} if label else None
with Executor(endpoint_id=endpoint, user_endpoint_config=configuration) as executor:
    futures = [executor.submit(subprocess.getoutput, command) for command in commands]
    answers = [str(future.exception() or future.result()) for future in futures]
    print(json.dumps(answers))
"""
BATCH = """
import json, subprocess, sys
from globus_compute_sdk import Client

endpoint, *commands = sys.argv[1:]
client = Client()
function = client.register_function(subprocess.getoutput)
batch = client.create_batch(create_websocket_queue=True)
for command in commands:
    batch.add(function, (command,))
answer = client.batch_run(endpoint, batch)
print(json.dumps([answer["task_group_id"], answer["tasks"][function]]))
"""
POLL = """
import json, sys, time
from globus_compute_sdk import Client

client = Client()
while True:
    tasks = client.get_batch_result(sys.argv[1:])
    if not any(task["pending"] for task in tasks.values()):
        break
    time.sleep(0.3)
print(json.dumps([tasks[name].get("result") for name in sys.argv[1:]]))
"""
STATUS = """
import json, sys
from globus_compute_sdk import Client

print(json.dumps(Client().get_batch_result(sys.argv[1:]), default=str))
"""
RELOAD = """
import json, sys
from globus_compute_sdk import Executor

with Executor() as executor:
    futures = executor.reload_tasks(sys.argv[1])
    print(json.dumps([future.result() for future in futures]))
"""
OWNER = """
import sys, time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from stack.slurm import Slurm

# All programs of the stack have such guards; these leave a job behind, which has left their group.
slurm = Slurm(Path(sys.argv[2]).resolve())
slurm.start()
slurm.run("sbatch", "--output=/dev/null", "--wrap", "sleep 600")
while [job.state for job in slurm.squeue()] != ["RUNNING"]:
    time.sleep(0.1)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def reachable(services: Stack) -> Stack:
    """The stack without faults, whether its endpoint runs or not: tasks wait for it."""
    services.service.web.clear_faults()
    services.service.rate_limit = None
    return services


@contextmanager
def running_task(stack: Stack, folder: Path, label: str = "") -> Iterator[subprocess.Popen[str]]:
    """A client that waits for a task which runs, and goes on."""
    began = folder / "began"
    # Slurm ends a job with a signal to all its processes: without the trap the task may end first,
    # and its worker still sends an empty result.
    command = f"trap '' TERM; touch {began}; sleep 600"
    arguments = ["-c", EXECUTOR, stack.endpoint_id, label, command]
    with subprocess.Popen(
        [sys.executable, *arguments], env=stack.environment, stdout=subprocess.PIPE, text=True
    ) as client:
        try:
            until(began.exists, "the task does not run", stack.endpoint.logs)
            yield client
        finally:
            client.kill()


# Things that the tests of products rely on, and show as well, are studies here.
@pytest.mark.study
def test_calls_are_executed_in_a_slurm_job(stack: Stack) -> None:
    command = "echo $SLURM_JOB_ID $SLURMD_NODENAME"
    answers = json.loads(stack.client(EXECUTOR, stack.endpoint_id, "", *[command] * 4).stdout)
    jobs = {job.id: job.nodes for job in stack.slurm.squeue()}
    assert len(answers) == 4
    for answer in answers:
        job, node = answer.split()
        assert jobs[job] == node
    # Tests before this one may have left some of other configurations.
    assert len(stack.worker_pids()) >= 2
    assert stack.user_endpoint_pids()


@pytest.mark.study
def test_a_batch_outlives_its_client(stack: Stack, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    commands = [f"while test ! -e {gate}; do sleep 0.1; done; echo {word}" for word in "abc"]
    received = stack.service.web.received("/submit$")
    group, tasks = json.loads(stack.client(BATCH, stack.endpoint_id, *commands).stdout)
    assert 500 < stack.service.web.received("/submit$") - received < 5000
    assert all(stack.service.tasks[task].pending for task in tasks)

    gate.touch()
    assert json.loads(stack.client(POLL, *tasks).stdout) == ["a", "b", "c"]
    for _ in range(2):
        assert json.loads(stack.client(RELOAD, group).stdout) == ["a", "b", "c"]


@pytest.mark.study
def test_the_service_can_lose_results_and_tasks(stack: Stack) -> None:
    stack.service.swallow_results()
    _, [swallowed] = json.loads(stack.client(BATCH, stack.endpoint_id, "true").stdout)
    until(lambda: not stack.service.results_to_swallow, "no result came")
    _, known = json.loads(stack.client(BATCH, stack.endpoint_id, *["true"] * 2).stdout)
    until(lambda: not any(stack.service.tasks[task].pending for task in known), "no results")
    dropped, forgotten = known
    stack.service.drop_result(dropped)
    stack.service.forget(forgotten)
    answer = json.loads(stack.client(STATUS, swallowed, *known).stdout)
    assert answer.keys() == {swallowed, dropped}
    assert answer[swallowed]["pending"]
    assert answer[dropped]["status"] == "success"
    assert "result" not in answer[dropped]


def test_too_many_requests_are_refused(reachable: Stack) -> None:
    web = reachable.service.web
    refused = web.count(status=429)
    reachable.service.rate_limit = (2, 3600.0)
    with ThreadPoolExecutor() as threads:
        client = threads.submit(reachable.client, BATCH, reachable.endpoint_id, "true")
        until(lambda: web.count(status=429) > refused, "nothing was refused")
        reachable.service.rate_limit = None
        client.result()


@pytest.mark.study
def test_a_killed_worker_is_reported(stack: Stack, tmp_path: Path) -> None:
    with running_task(stack, tmp_path) as client:
        for pid in stack.worker_pids():
            os.kill(pid, signal.SIGKILL)
        output, _ = client.communicate(timeout=300)
    assert "WorkerLost" in output


@pytest.mark.study
def test_a_cancelled_block_is_reported(stack: Stack, tmp_path: Path) -> None:
    # Only after a minute, its user endpoint would ask for another block.
    with running_task(stack, tmp_path, label="cancelled") as client:
        *_, job = stack.slurm.squeue()
        stack.slurm.cancel(job.id)
        output, _ = client.communicate(timeout=300)
    assert "ManagerLost" in output


@pytest.mark.study
def test_a_killed_user_endpoint_says_nothing(stack: Stack) -> None:
    _, lost = json.loads(stack.client(BATCH, stack.endpoint_id, "sleep 3").stdout)
    until(stack.worker_pids, "no worker runs", stack.endpoint.logs)
    for pid in stack.user_endpoint_pids():
        os.kill(pid, signal.SIGKILL)
    time.sleep(3)
    assert stack.service.tasks[lost[0]].pending
    assert not stack.endpoint.sound

    stack.stop_endpoint(at_once=True)
    _, tasks = json.loads(stack.client(BATCH, stack.endpoint_id, "echo later").stdout)
    stack.start_endpoint()
    assert json.loads(stack.client(POLL, *tasks).stdout) == ["later"]
    assert stack.service.tasks[lost[0]].pending


@pytest.mark.study
def test_messages_outlive_a_restart_of_the_broker(stack: Stack) -> None:
    stack.stop_endpoint()
    _, tasks = json.loads(stack.client(BATCH, stack.endpoint_id, "echo kept").stdout)
    stack.broker.restart()
    stack.start_endpoint()
    assert json.loads(stack.client(POLL, *tasks).stdout) == ["kept"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {"Retry-After": "1"}),
        pytest.param(500, {}, marks=pytest.mark.study),
        pytest.param(503, {}, marks=pytest.mark.study),
        (401, {}),
    ],
)
def test_the_client_repeats_refused_requests(
    reachable: Stack, status: int, headers: dict[str, str]
) -> None:
    web = reachable.service.web
    submissions = web.count("/submit$", status=200)
    fault = web.fail("/submit$", status, headers=headers)
    reachable.client(BATCH, reachable.endpoint_id, "true")
    assert fault.hits == 1
    assert web.count("/submit$", status=200) == submissions + 1


def test_a_lost_answer_makes_the_client_submit_twice(reachable: Stack) -> None:
    known = len(reachable.service.tasks)
    reachable.service.web.lose_answer("/submit$")
    reachable.client(BATCH, reachable.endpoint_id, "true")
    assert len(reachable.service.tasks) == known + 2


def test_a_request_that_is_too_large_is_refused_at_once(reachable: Stack) -> None:
    web = reachable.service.web
    refused = web.count("/submit$", status=413)
    source = BATCH.replace("(command,)", "('x' * 11_000_000,)")
    with pytest.raises(AssertionError, match="PAYLOAD_TOO_LARGE"):
        reachable.client(source, reachable.endpoint_id, "true")
    assert web.count("/submit$", status=413) == refused + 1


def test_a_broker_that_ends_while_it_greets_counts_as_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(pika.exceptions.AMQPConnectionError, match="Timeout"):
            connect(f"amqp://guest:guest@127.0.0.1:{port}/%2F?stack_timeout=0.1")


def test_missing_parts_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[missing.__module__], "PROGRAMS", ("sh", "no-such-daemon"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "no-such-daemon" in (missing() or "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root only" in (missing() or "")


@pytest.mark.usefixtures("services")
def test_nothing_is_left_when_the_owner_is_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("owned")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(Path(__file__).parent), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "up\n"
            assert len(living(folder)) > 10
            assert any("sleep 600" in process.command for process in living(folder))
        finally:
            owner.kill()
    until(lambda: not living(folder), f"still running: {living(folder)}")
