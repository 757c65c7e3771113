"""The queue under remote executors, with a transport that does what a test says."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import CancelledError

import pytest

from palletfit.config import ExecutorSettings
from palletfit.errors import ExecutorError
from palletfit.executors.queue import Pace, Task, TaskQueue
from palletfit.runs import task as worker
from palletfit.runs.faults import DeadlineExceeded, TaskLost

from ...waiting import LIMIT, until

CONTENT = worker.pack({"patches": [{"name": "a"}]})
BROKEN = ExecutorError("Broken.", remedy="None.")


class Transport:
    """Keeps what it is asked; `on_send` and `on_look` may report, or raise."""

    name, workers, largest_task, deadline = "fake", 3, 1000, math.inf
    gather, pace, outlives, sent = 0.0, Pace(0.02, 0.02, 1.0), False, (0, 0)

    def __init__(self) -> None:
        self.batches: list[list[Task]] = []
        self.threads: set[int] = set()
        self.looks: list[int] = []
        self.given_up: list[Task] = []
        self.closed: list[bool] = []
        self.on_send = self.on_look = self.on_give_up = lambda _: None
        self.before: float | None = None

    def attach(self, queue):
        self.queue = queue

    def accept(self, content, workspace):
        assert workspace == b"workspace"
        task = Task(content)
        task.sent_at = self.before
        return task

    def send(self, tasks):
        self.threads.add(threading.get_ident())
        self.batches.append(list(tasks))
        for task in tasks:
            task.sent_at = time.time()
        self.on_send(tasks)

    def look(self, tasks):
        self.looks.append(len(tasks))
        self.on_look(tasks)
        return False

    def give_up(self, task):
        self.given_up.append(task)
        self.on_give_up(task)

    def describe(self, count):
        return str(count)

    def unusable(self, why):
        return ExecutorError(why, remedy="None.")

    def close(self, *, cancelled):
        self.closed.append(cancelled)


@pytest.fixture
def transport():
    return Transport()


@pytest.fixture
def queue(transport):
    queue = TaskQueue(transport, ExecutorSettings(retries=1))
    yield queue
    queue.shutdown(cancel_futures=True)
    assert transport.closed == [True]


def submit(queue):
    return queue.submit(worker.run, CONTENT, b"workspace")


def sent_tasks(transport, count):
    until(lambda: sum(map(len, transport.batches)) >= count)
    return [task for batch in transport.batches for task in batch]


def test_results_come_back_and_one_thread_sends(queue, transport):
    futures = [submit(queue) for _ in range(5)]
    tasks = sent_tasks(transport, 5)
    for number, task in enumerate(tasks):
        queue.finish(task, str(number).encode())
    assert [future.result(timeout=LIMIT) for future in futures] == [b"0", b"1", b"2", b"3", b"4"]
    assert len(transport.threads) == 1
    assert (queue.workers, queue.largest_task) == (3, 1000)


def test_what_is_submitted_together_is_sent_together(queue, transport):
    transport.gather = 1.0
    transport.pace = Pace(30.0, 30.0, 1.0)
    until(lambda: transport.looks)  # the last one at the old pace may be under way
    time.sleep(0.1)
    for _ in range(5):
        submit(queue)
    sent_tasks(transport, 5)
    assert len(transport.batches) <= 2


def test_tasks_of_an_earlier_run_are_awaited_and_not_sent(queue, transport):
    transport.before = time.time()
    seen = []
    transport.on_look = seen.extend
    future = submit(queue)
    until(lambda: seen)
    queue.finish(seen[0], b"good")
    assert future.result(timeout=LIMIT) == b"good"
    assert not transport.batches


def test_late_answers_change_nothing(queue, transport):
    future = submit(queue)
    (task,) = sent_tasks(transport, 1)
    queue.finish(task, b"first")
    queue.finish(task, b"second")
    queue.fail(task, RuntimeError())
    queue.lose(task, "lost")
    queue.requeue(task)
    assert future.result(timeout=LIMIT) == b"first"
    assert not queue.awaits(task)
    assert len(transport.batches) == 1
    assert not transport.given_up


def test_a_lost_task_is_sent_again_and_not_forever(queue, transport):
    transport.on_send = lambda tasks: [queue.lose(task, "its node burnt") for task in tasks]
    future = submit(queue)
    with pytest.raises(TaskLost, match="its node burnt"):
        future.result(timeout=LIMIT)
    assert len(transport.batches) == 2
    assert len(transport.given_up) == 1


def test_what_never_began_is_sent_again_as_often_as_needed(queue, transport):
    times = []

    def refuse(tasks):
        times.append(time.monotonic())
        for task in tasks:
            if len(times) < 5:
                queue.requeue(task, after=0.1)
            else:
                queue.finish(task, b"good")

    transport.on_send = refuse
    assert submit(queue).result(timeout=LIMIT) == b"good"
    assert times[-1] - times[0] > 0.4


def test_what_never_begins_is_lost_in_the_end(queue, transport, monkeypatch):
    monkeypatch.setattr("palletfit.executors.queue._REQUEUES", 5)
    transport.on_send = lambda tasks: [queue.requeue(task) for task in tasks]
    with pytest.raises(TaskLost, match="never began, although it was sent 5 times"):
        submit(queue).result(timeout=LIMIT)
    assert len(transport.batches) == 2 * 6  # retries are one
    assert len(transport.given_up) == 1


def test_silence_until_the_deadline_is_a_loss(queue, transport):
    transport.deadline = 0.2
    with pytest.raises(DeadlineExceeded, match="no result within 0 s"):
        submit(queue).result(timeout=LIMIT)
    assert len(transport.batches) == 2


@pytest.mark.parametrize("moment", ["on_send", "on_look"])
@pytest.mark.parametrize(
    ("error", "words"), [(BROKEN, "Broken"), (KeyError("unexpected"), "unexpected")]
)
def test_trouble_that_concerns_all_ends_all(queue, transport, moment, error, words):
    future = submit(queue)
    sent_tasks(transport, 1)

    def fail(_):
        raise error

    setattr(transport, moment, fail)
    if moment == "on_send":
        submit(queue)
    with pytest.raises(ExecutorError, match=words):
        future.result(timeout=LIMIT)
    for ask in (lambda: submit(queue), queue.flush):
        with pytest.raises(ExecutorError, match=words):
            ask()


def test_an_error_that_cannot_be_noted_reaches_its_task_and_ends_the_rest(queue, transport):
    def fail(_):
        raise OSError("no room")

    transport.on_give_up = fail
    futures = [submit(queue), submit(queue)]
    transport.on_look = lambda tasks: [queue.fail(task, ValueError("bad")) for task in tasks[:1]]
    with pytest.raises(ValueError, match="bad"):
        futures[0].result(timeout=LIMIT)
    with pytest.raises(ExecutorError, match="no room"):
        futures[1].result(timeout=LIMIT)


def test_flush_waits_until_all_is_sent(queue, transport):
    let_go = threading.Event()
    transport.on_send = lambda _: let_go.wait(LIMIT)
    submit(queue)
    sent_tasks(transport, 1)
    threading.Timer(0.2, let_go.set).start()
    queue.flush()
    assert let_go.is_set()


def test_the_end_waits_for_tasks_that_end_with_it(transport):
    with TaskQueue(transport, ExecutorSettings()) as queue:
        future = submit(queue)
        (task,) = sent_tasks(transport, 1)
        threading.Timer(0.2, queue.finish, [task, b"good"]).start()
    assert future.result(timeout=0) == b"good"
    assert transport.closed == [False]
    with pytest.raises(RuntimeError, match="after shutdown"):
        submit(queue)


def test_after_an_error_nobody_waits(transport):
    futures = []

    def fail():
        with TaskQueue(transport, ExecutorSettings()) as queue:
            futures.append(submit(queue))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(CancelledError):
        futures[0].result(timeout=0)
    assert transport.closed == [True]


def test_tasks_that_outlive_the_program_are_not_waited_for(transport):
    transport.outlives = True
    with TaskQueue(transport, ExecutorSettings()) as queue:
        future = submit(queue)
        queue.flush()
    with pytest.raises(CancelledError):
        future.result(timeout=0)


def test_only_fits_can_be_asked_for(queue):
    with pytest.raises(ValueError, match="only asked"):
        queue.submit(print, "something else")
