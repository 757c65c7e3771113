"""Globus Compute's transport against a service in this process that misbehaves on demand."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import wait

import pytest

from palletfit.config import ExecutorSettings, FitSettings
from palletfit.core.caches import user_cache
from palletfit.engine.search import Search
from palletfit.errors import ExecutorError
from palletfit.executors.globus import group, patience, preflight, transport
from palletfit.executors.globus.service import (
    GroupUnknownError,
    Outcome,
    RequestTooLargeError,
    ServiceBusyError,
)
from palletfit.executors.globus.transport import GlobusTransport
from palletfit.executors.queue import TaskQueue
from palletfit.pallet.patches import json_digest
from palletfit.products.hypotest import Hypotest
from palletfit.runs import answers, remote, scan, task
from palletfit.runs import run as runs
from palletfit.runs.faults import DeadlineExceeded, TaskLost, TaskTooLarge, WorkerDied
from palletfit.runs.ledger import Ledger
from palletfit.runs.store import RecordStore

from ....waiting import LIMIT
from ... import models

ENDPOINT = "11111111-2222-3333-4444-555555555555"
BACKGROUND = models.background("normsys")
WORKSPACE = task.pack(BACKGROUND)
#: The fit of each probe, which is the same in this process.
TINY_FIT = functools.cache(remote.tiny_fit)
#: Results of fits that were made, by product, settings and patches: all have the same workspace.
FITTED: dict[str, dict] = {}
FIT = task._fit


def fit_once(patches, setup):
    """Fit what no test has fitted yet; what is sent, sealed and checked is that of every fit."""
    named = [[patch.name, patch.operations] for patch in patches]
    asked = json.dumps([setup.product.as_json(), named])
    key = f"{setup.engine.settings.model_dump_json()} {asked}"
    if key not in FITTED:
        FITTED[key] = FIT(patches, setup)
    return copy.deepcopy(FITTED[key])


class Service:
    """Runs calls at once and keeps what becomes of them.

    Attributes
    ----------
    before_send, after_send
        Called with each request's calls; may raise.
    disturb
        Gives the outcome of a call instead of making it; None makes it.
    pool
        The queue that sends the calls.
    """

    def __init__(self) -> None:
        self.state = "online"
        self.requests: list[list[dict]] = []
        self.tasks: dict[str, Outcome] = {}
        self.groups: dict[str, list[str]] = {}
        self.before_send: Callable[[list], None] = lambda _: None
        self.after_send: Callable[[list], None] = lambda _: None
        self.disturb: Callable[[dict, int], Outcome | None] = lambda *_: None
        self.registered = 0
        self._numbers = itertools.count()
        self.pool: TaskQueue | None = None

    def wait_from_now_on(self):
        """Let no further deadline pass, however slow the machine is."""
        self.pool._transport.deadline = LIMIT

    def status(self):
        return self.state

    def register(self):
        self.registered += 1
        return "function"

    def size(self, name, request):
        return len(json.dumps([name, request]))

    def send(self, calls, function, group):
        calls = list(calls)
        fits = [request for name, request in calls if name == "answer"]
        if fits:
            self.before_send(fits)
            self.requests.append(fits)
        if group is not None and group not in self.groups:
            raise GroupUnknownError(group)
        group = group or f"group {next(self._numbers)}"
        assert function == "function"
        identifiers = []
        for name, request in calls:
            number = next(self._numbers)
            identifier = f"task {number}"
            outcome = self.disturb(request, number) if name == "answer" else None
            if outcome is None:
                # What crosses is JSON.
                value = remote.call(name, json.loads(json.dumps(request)))
                outcome = Outcome("success", json.loads(json.dumps(value)))
            self.tasks[identifier] = outcome
            identifiers.append(identifier)
        self.groups.setdefault(group, []).extend(identifiers)
        if fits:
            self.after_send(fits)
        return group, identifiers

    def group(self, group):
        if group not in self.groups:
            raise GroupUnknownError(group)
        return set(self.groups[group])

    def outcomes(self, tasks):
        return {item: self.tasks[item] for item in tasks if item in self.tasks}

    @property
    def fitted(self):
        """Names of patches, as often as they were asked for."""
        return [
            patch["name"]
            for request in itertools.chain(*self.requests)
            for patch in task.unpack(remote._bytes(request["content"]))["patches"]
        ]


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(preflight, "_QUICK", 0.01)
    monkeypatch.setattr(preflight, "_SLOW", 0.05)
    monkeypatch.setattr(transport, "_LOOK", 0.01)
    monkeypatch.setattr(transport, "_GATHER", 0.05)
    monkeypatch.setattr(group, "_INTERVAL", 0.01)
    # Which minimum a fit ends at does not matter here.
    for name in ("explore", "lower", "exchange"):
        monkeypatch.setattr(Search, name, lambda *_: None)
    monkeypatch.setattr(remote, "tiny_fit", TINY_FIT)
    monkeypatch.setattr(task, "_fit", fit_once)
    task._workspaces.clear()
    task._engines.clear()


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.jsonl"


def settings(**more):
    return ExecutorSettings(kind="globus-compute", endpoint=ENDPOINT, **more)


def make_queue(service, ledger, chosen, *, collect=True):
    return TaskQueue(GlobusTransport(service, ledger, chosen, collect=collect), chosen)


def executor(service, path, *, collect=True, **more):
    more = {"preflight": False, **more}
    service.pool = make_queue(service, Ledger(path, ENDPOINT), settings(**more), collect=collect)
    return service.pool


def content(*names, mu=1.0):
    patches = [patch for patch in all_patches() if patch.name in names]
    fit = FitSettings(engine="batched", mu=mu)
    return task.make_task(patches, json_digest(BACKGROUND), fit, Hypotest())


def all_patches():
    from palletfit.pallet.patchset import parse_patchset

    return parse_patchset(models.patchset(BACKGROUND, models.grid(5)), "patchset.json").patches


NAMES = [patch.name for patch in all_patches()]


def submit(pool, packed):
    return pool.submit(task.run, packed, WORKSPACE)


def names_of(future):
    return [result["status"] for result in answers.unseal(future.result(timeout=LIMIT), 5)]


def test_results_come_back(service, path, monkeypatch):
    # A machine may stand still between two tasks, but not so long.
    monkeypatch.setattr(transport, "_GATHER", 2.0)
    tasks = [content(name) for name in NAMES]
    with executor(service, path) as pool:
        futures = [submit(pool, packed) for packed in tasks]
        assert [names_of(future) for future in futures] == [["ok"]] * 5
    assert len(service.requests) == 1  # gathered
    assert set(Ledger(path, ENDPOINT).in_flight) == {
        remote.content_digest(content(name)) for name in NAMES
    }  # until they are recorded


def test_only_what_it_is_for_can_be_called(service, path):
    with executor(service, path) as pool, pytest.raises(ValueError, match="only asked"):
        pool.submit(print, "something else")


def test_requests_stay_below_the_limit(service, path, monkeypatch):
    monkeypatch.setattr(transport, "_REQUEST", 2 * len(content(NAMES[0])) + len(WORKSPACE))
    with executor(service, path) as pool:
        wait([submit(pool, content(name)) for name in NAMES], timeout=LIMIT)
    assert len(service.requests) > 1
    assert sorted(service.fitted) == sorted(NAMES)


def test_a_task_in_flight_is_not_sent_again(service, path):
    with executor(service, path, collect=False) as pool:
        submit(pool, content(*NAMES))
        pool.flush()
    with executor(service, path) as pool:
        assert names_of(submit(pool, content(*NAMES))) == ["ok"] * 5
    assert service.fitted == NAMES


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("moment", ["before_send", "after_send"])
def test_a_run_that_ends_while_it_sends_is_taken_up(service, path, moment, monkeypatch):
    def end(_):
        raise SystemExit  # ends the thread that sends, and nothing is tidied up

    setattr(service, moment, end)
    first = executor(service, path)
    submit(first, content(*NAMES))
    first._thread.join(timeout=LIMIT)
    setattr(service, moment, lambda _: None)
    monkeypatch.setattr(transport, "_LISTED", 0.1)
    with executor(service, path) as pool:
        assert names_of(submit(pool, content(*NAMES))) == ["ok"] * 5
    assert service.fitted == NAMES


@pytest.mark.parametrize("refused", [True, False])
def test_a_busy_service_is_asked_again(service, path, refused):
    answers = iter([ServiceBusyError("503", refused=refused)] * 2)

    def busy(_):
        for error in answers:
            raise error

    service.before_send = busy
    with executor(service, path) as pool:
        assert names_of(submit(pool, content(*NAMES))) == ["ok"] * 5
    assert service.fitted == NAMES


def test_an_answer_that_gets_lost_does_not_send_twice(service, path):
    answers = iter([ServiceBusyError("timed out", refused=False)])

    def lose(_):
        for error in answers:
            raise error

    service.after_send = lose
    with executor(service, path) as pool:
        futures = [submit(pool, content(name)) for name in NAMES]
        assert [names_of(future) for future in futures] == [["ok"]] * 5
    assert sorted(service.fitted) == sorted(NAMES)


def test_requests_that_never_arrived_are_told_from_lost_answers(service, path, monkeypatch):
    """The first request is taken and its answer lost, the second does not even arrive."""
    monkeypatch.setattr(transport, "BATCH", 2)
    monkeypatch.setattr(patience, "_PAUSE", 0.05)
    answers, arrivals = iter([True]), iter([False, True])
    trouble = ServiceBusyError("connection lost", refused=False)

    def lose(_):
        if next(answers, False):
            raise trouble

    def refuse(_):
        if next(arrivals, False):
            raise trouble

    service.before_send, service.after_send = refuse, lose
    with executor(service, path, deadline=10) as pool:
        futures = [submit(pool, content(name)) for name in NAMES]
        assert [names_of(future) for future in futures] == [["ok"]] * 5
    assert sorted(service.fitted) == sorted(NAMES)


def test_what_was_certainly_refused_is_sent_at_once_by_the_next_run(service, path):
    def busy(_):
        raise ServiceBusyError("429", refused=True)

    service.before_send = busy
    with (
        executor(service, path, patience=0.1, retries=0) as pool,
        pytest.raises(ExecutorError, match="429"),
    ):
        submit(pool, content(*NAMES)).result(timeout=LIMIT)
    service.before_send = lambda _: None
    with executor(service, path, retries=0) as pool:
        assert names_of(submit(pool, content(*NAMES))) == ["ok"] * 5


@pytest.mark.parametrize("late", ["error", "result", "dropped"])
def test_two_copies_of_a_task_end_together(service, path, late):
    """After the deadline a second one is sent, and then the service has news of both."""
    ends = {
        "error": Outcome("failed", error="ManagerLost: block 0"),
        "result": None,
        "dropped": Outcome("dropped"),
    }
    first: list[str] = []

    def silent_once(request, number):
        if not first:
            first.append(f"task {number}")
            return Outcome("waiting-for-nodes")
        service.wait_from_now_on()
        value = json.loads(json.dumps(remote.answer(request)))
        good = Outcome("success", value)
        service.tasks[first[0]] = ends[late] or good
        return good

    service.disturb = silent_once
    with executor(service, path, deadline=0.3) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]
        assert names_of(submit(pool, content(NAMES[1]))) == ["ok"]  # it goes on


def test_no_third_copy_while_the_second_is_out(service, path):
    numbers: list[int] = []
    value: dict = {}

    def first_silent_then_slow(request, number):
        numbers.append(number)
        if len(numbers) == 1:  # a fit takes its time, which is not that of the deadline here
            value.update(json.loads(json.dumps(remote.answer(request))))
        if len(numbers) == 2:  # news of the first one, while the second is on its way
            service.wait_from_now_on()
            service.tasks[f"task {numbers[0]}"] = Outcome("failed", error="ManagerLost: block 0")
            threading.Timer(
                0.2, service.tasks.update, [{f"task {number}": Outcome("success", value)}]
            ).start()
        return Outcome("waiting-for-nodes")

    service.disturb = first_silent_then_slow
    with executor(service, path, deadline=0.5, retries=5) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]
    assert len(numbers) == 2


def test_impatience_has_a_message(service, path):
    def busy(_):
        raise ServiceBusyError("500 out of order", refused=True)

    service.before_send = busy
    with executor(service, path, patience=0.1) as pool:
        with pytest.raises(ExecutorError, match="500 out of order"):
            submit(pool, content(*NAMES)).result(timeout=LIMIT)
        with pytest.raises(ExecutorError, match="500 out of order"):
            submit(pool, content(NAMES[0]))


def test_a_request_that_is_refused_for_its_size_is_parted(service, path):
    def refuse(calls):
        if len(calls) > 2:
            raise RequestTooLargeError("413")

    service.before_send = refuse
    with executor(service, path) as pool:
        futures = [submit(pool, content(name)) for name in NAMES]
        assert [names_of(future) for future in futures] == [["ok"]] * 5


def test_a_patch_that_is_too_large_is_said(service, path):
    def refuse(_):
        raise RequestTooLargeError("413")

    service.before_send = refuse
    with executor(service, path) as pool, pytest.raises(TaskTooLarge, match="413"):
        submit(pool, content(NAMES[0])).result(timeout=LIMIT)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("parsl...WorkerLost: worker 0", WorkerDied),
        ("Traceback\n\nOSError: no space left", TaskLost),
        ("Identity failed to map to a local user name.", ExecutorError),
        ("Traceback\nModuleNotFoundError: No module named 'palletfit'", ExecutorError),
    ],
)
def test_the_end_of_a_task_is_reported(service, path, words, error):
    service.disturb = lambda *_: Outcome("failed", error=words)
    with executor(service, path) as pool, pytest.raises(error):
        submit(pool, content(NAMES[0])).result(timeout=LIMIT)


def test_an_endpoint_that_cannot_start_just_now_is_asked_later(service, path, monkeypatch):
    monkeypatch.setattr(transport, "_PASSES", 0.2)
    words = iter(["Another instance of this endpoint is running.", "Command too old or skew"])
    service.disturb = lambda *_: next((Outcome("failed", error=text) for text in words), None)
    with executor(service, path, retries=0) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]
    assert len(service.requests) == 3


@pytest.mark.parametrize(
    "lost",
    [
        Outcome("failed", error="ManagerLost: block 0"),
        Outcome("dropped"),
        None,
    ],
)
def test_a_lost_task_is_sent_again_and_not_forever(service, path, lost):
    def lose(*_):
        return lost or Outcome("vanished")

    service.disturb = lose
    if lost is None:
        service.outcomes = lambda tasks: {
            item: service.tasks[item]
            for item in tasks
            if item in service.tasks and service.tasks[item].state != "vanished"
        }
    with executor(service, path, retries=2) as pool, pytest.raises(TaskLost):
        submit(pool, content(NAMES[0])).result(timeout=LIMIT)
    assert service.fitted == NAMES[:1] * 3


def value_of(request):
    return json.loads(json.dumps(remote.answer(request)))


def without(value, name):
    return {key: value[key] for key in value if key != name}


#: Values that a service may give instead of an answer, made from the right one.
HOSTILE = {
    "null": lambda _: None,
    "a text": lambda _: "results",
    "a list": lambda value: [value],
    "an empty list": lambda _: [],
    "a number": lambda _: 7,
    "an empty object": lambda _: {},
    "no digest": lambda value: without(value, "digest"),
    "another digest": lambda value: {**value, "digest": "0" * 64},
    "a digest that is a list": lambda value: {**value, "digest": []},
    "no results": lambda value: without(value, "results"),
    "null results": lambda value: {**value, "results": None},
    "results that are a list": lambda value: {**value, "results": [value]},
    "no base64": lambda value: {**value, "results": "*" + value["results"]},
    "no base64 at all": lambda value: {**value, "results": "\u03c4"},
    "results and a reason": lambda value: {**value, "missing": "0" * 64},
    "missing, for ever": lambda value: {"digest": value["digest"], "missing": "0" * 64},
    "missing is no text": lambda value: {"digest": value["digest"], "missing": 7},
    "the same versions as others": lambda value: {
        "digest": value["digest"],
        "engines": remote.result_versions(),
        "other": remote.versions(),
    },
    "other versions as a text": lambda value: {"digest": value["digest"], "other": "0.0"},
    "half of the results": lambda value: {**value, "results": value["results"][:40]},
    "a bomb": lambda value: {**value, "results": remote._text(zlib.compress(bytes(10**6)))},
    "results of an older worker": lambda value: {
        **value,
        "results": remote._text(task.pack(answers.unseal(remote._bytes(value["results"]), 5))),
    },
}


@pytest.fixture
def _small_answers(monkeypatch):
    monkeypatch.setattr(answers, "LARGEST", 100_000)
    monkeypatch.setattr(answers, "LARGEST_PATCH", 100_000)


def test_an_endpoint_that_never_starts_is_given_up(service, path, monkeypatch):
    monkeypatch.setattr(transport, "_PASSES", 0.02)
    service.disturb = lambda *_: Outcome(
        "failed", error="Another instance of this endpoint is running"
    )
    with (
        executor(service, path, retries=1, patience=0.2) as pool,
        pytest.raises(TaskLost, match="Another instance"),
    ):
        submit(pool, content(NAMES[0])).result(timeout=LIMIT)
    assert len(service.requests) < 20


def test_a_task_that_the_service_never_lists_is_given_up(service, path, monkeypatch):
    monkeypatch.setattr(transport, "_LISTED", 0.05)
    monkeypatch.setattr(patience, "_PAUSE", 0.01)
    requests: list[str] = []
    ghosts: list[str] = []

    def lose(_):
        # The service lists a task once, as if it took it, and then no more.
        requests.append(f"ghost {len(requests)}")
        ghosts.append(requests[-1])
        raise ServiceBusyError("timed out", refused=False)

    service.before_send = lose
    listed = service.group
    service.group = lambda group: listed(group) | {ghosts.pop() for _ in list(ghosts)}
    with (
        executor(service, path, retries=2) as pool,
        pytest.raises(TaskLost, match="does not list it"),
    ):
        submit(pool, content(NAMES[0])).result(timeout=LIMIT)
    assert len(requests) == 3


def test_a_task_without_a_word_is_sent_again_after_the_deadline(service, path):
    numbers = []

    def silent_once(_, number):
        numbers.append(number)
        if len(numbers) == 1:
            return Outcome("waiting-for-nodes")
        service.wait_from_now_on()
        return None

    service.disturb = silent_once
    with executor(service, path, deadline=0.3) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]
    assert len(numbers) == 2
    numbers.clear()
    with executor(service, path, deadline=0.3, retries=0) as pool, pytest.raises(DeadlineExceeded):
        submit(pool, content(NAMES[1])).result(timeout=LIMIT)


def test_the_schedulers_words_reach_the_user(service, path):
    error = (
        "BadStateException: Executor has failed\n  STDOUT: \n"
        "  STDERR: sbatch: error: invalid partition specified: nowhere"
    )
    service.disturb = lambda *_: Outcome("failed", error=error)
    with (
        executor(service, path) as pool,
        pytest.raises(ExecutorError, match="invalid partition specified: nowhere"),
    ):
        submit(pool, content(NAMES[0])).result(timeout=LIMIT)
    # Once that is put right, the next run does not stumble over it.
    service.disturb = lambda *_: None
    with executor(service, path) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]


def test_a_worker_that_lost_the_workspace_is_sent_it(service, path):
    with executor(service, path) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]
        task._workspaces.clear()
        for file in user_cache("workspaces").iterdir():
            file.unlink()
        assert names_of(submit(pool, content(NAMES[1]))) == ["ok"]
    sent = [["workspace" in request for request in batch] for batch in service.requests]
    assert sent == [[True], [False], [True]]


def test_a_damaged_copy_of_the_workspace_is_not_used(service, path):
    with executor(service, path) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]
        task._workspaces.clear()
        for file in user_cache("workspaces").iterdir():
            file.write_bytes(task.pack({"channels": []}))
        assert names_of(submit(pool, content(NAMES[1]))) == ["ok"]
    assert len(service.requests) == 3


def test_other_engines_on_the_worker_are_refused(service, path, monkeypatch):
    answer = remote.answer
    monkeypatch.setattr(
        remote, "answer", lambda request: answer({**request, "engines": {"batched": "old"}})
    )
    monkeypatch.setattr(preflight, "result_versions", lambda: {"batched": "old"})
    with executor(service, path) as pool, pytest.raises(ExecutorError, match="another version"):
        submit(pool, content(NAMES[0])).result(timeout=LIMIT)


def test_the_preflight_finds_an_endpoint_that_is_offline(service, path):
    service.state = "offline"
    with pytest.raises(ExecutorError, match="offline"):
        executor(service, path, preflight=True)
    assert not service.groups


def test_the_preflight_compares_versions_and_a_fit(service, path, monkeypatch):
    with executor(service, path, preflight=True):
        pass
    seen = {**remote.versions(), "pyhf": "0.6.0"}
    monkeypatch.setattr(remote, "versions", iterate(seen, remote.versions()))
    with pytest.raises(ExecutorError, match=r"pyhf 0\.6\.0"):
        executor(service, path, preflight=True)
    monkeypatch.undo()
    monkeypatch.setattr(remote, "tiny_fit", iterate(0.1, 0.2))
    monkeypatch.setattr(preflight, "_QUICK", 0.01)
    with pytest.raises(ExecutorError, match=r"CLs 0\.1 on the worker"):
        executor(service, path, preflight=True)


def iterate(first, then):
    """A function that gives one value at first and another one from then on."""
    values = itertools.chain([first], itertools.repeat(then))
    return lambda: next(values)


def test_a_group_that_is_gone_is_replaced(service, path):
    with executor(service, path) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]
        service.groups.clear()
        assert names_of(submit(pool, content(NAMES[1]))) == ["ok"]


class TestScan:
    """Records, the ledger and the service together."""

    @pytest.fixture
    def todo(self, tmp_path):
        paths = models.write(tmp_path, BACKGROUND, models.patchset(BACKGROUND, models.grid(5)))
        return scan.Scan.read("search/SR", *paths, ["*"], FitSettings(), Hypotest())

    def run(self, service, path, todo, tmp_path, **more):
        found = settings(preflight=False, **more)
        ledger = Ledger(path, ENDPOINT)
        store = RecordStore(tmp_path / "results" / "fits")
        with make_queue(service, ledger, found) as pool:
            return runs.run(todo, store, pool, found, workers=2, ledger=ledger)

    def submit(self, service, path, todo, tmp_path, **more):
        found = settings(preflight=False, **more)
        ledger = Ledger(path, ENDPOINT)
        store = RecordStore(tmp_path / "results" / "fits")
        with make_queue(service, ledger, found, collect=False) as pool:
            sent = runs.submit(todo, store, pool, found, workers=2, ledger=ledger)
            pool.flush()
        return sent

    def test_submitted_fits_are_collected_and_nothing_is_fitted_twice(
        self, service, path, todo, tmp_path
    ):
        assert self.submit(service, path, todo, tmp_path) == (5, 0)
        assert self.submit(service, path, todo, tmp_path) == (0, 5)
        assert self.run(service, path, todo, tmp_path)["fitted"] == 5
        assert sorted(service.fitted) == sorted(NAMES)
        assert not Ledger(path, ENDPOINT).in_flight
        assert self.run(service, path, todo, tmp_path)["fitted"] == 0

    def test_what_is_missing_of_a_task_is_taken_from_it(self, service, path, todo, tmp_path):
        self.submit(service, path, todo, tmp_path, patches_per_task=5)
        ledger_then = path.read_bytes()
        self.run(service, path, todo, tmp_path)
        path.write_bytes(ledger_then)  # as if it ended between two records
        (tmp_path / "results" / "fits" / f"{NAMES[2]}.json").unlink()
        assert self.run(service, path, todo, tmp_path)["fitted"] == 1
        assert sorted(service.fitted) == sorted(NAMES)

    def test_tasks_of_other_settings_are_let_go(self, service, path, todo, tmp_path):
        self.submit(service, path, todo, tmp_path)
        other = scan.Scan(**{**vars(todo), "settings": FitSettings(mu=2.0)})
        self.run(service, path, other, tmp_path)
        assert len(service.fitted) == 10
        assert not Ledger(path, ENDPOINT).in_flight

    def test_an_unusable_endpoint_marks_no_patch_as_failed(self, service, path, todo, tmp_path):
        error = "BadStateException STDERR: sbatch: error: no"
        service.disturb = lambda *_: Outcome("failed", error=error)
        with pytest.raises(ExecutorError, match="sbatch: error: no"):
            self.run(service, path, todo, tmp_path)
        assert not list((tmp_path / "results").glob("fits/*.json"))

    def test_a_patch_that_is_too_large_fails_alone(self, service, path, todo, tmp_path):
        def refuse(calls):
            for request in calls:
                packed = task.unpack(remote._bytes(request["content"]))
                if NAMES[2] in [patch["name"] for patch in packed["patches"]]:
                    raise RequestTooLargeError("413")

        service.before_send = refuse
        found = self.run(service, path, todo, tmp_path)["patches"]
        statuses = {name: item["status"] for name, item in found.items()}
        assert statuses == {**dict.fromkeys(NAMES, "ok"), NAMES[2]: "failed"}
        assert "larger than the service takes" in found[NAMES[2]]["problem"]

    def test_results_are_collected_from_an_endpoint_that_has_gone(
        self, service, path, todo, tmp_path
    ):
        self.submit(service, path, todo, tmp_path)
        service.state = "offline"
        found = settings(preflight=True)
        ledger = Ledger(path, ENDPOINT)
        store = RecordStore(tmp_path / "results" / "fits")
        with make_queue(service, ledger, found) as pool:
            made = runs.run(todo, store, pool, found, workers=2, ledger=ledger)
        assert made["fitted"] == 5

    def test_a_cut_line_of_the_ledger_does_no_harm(self, service, path, todo, tmp_path):
        self.submit(service, path, todo, tmp_path)
        path.write_bytes(path.read_bytes()[:-20])
        self.run(service, path, todo, tmp_path)
        assert sorted(service.fitted) == sorted(NAMES)

    @pytest.mark.usefixtures("_small_answers")
    @pytest.mark.parametrize("kind", HOSTILE)
    def test_a_hostile_answer_loses_its_task_alone(
        self, service, path, todo, tmp_path, kind, caplog
    ):
        def disturb(request, _):
            packed = task.unpack(remote._bytes(request["content"]))
            if NAMES[2] in [patch["name"] for patch in packed["patches"]]:
                return Outcome("success", HOSTILE[kind](value_of(request)))
            return None

        service.disturb = disturb
        found = self.run(service, path, todo, tmp_path, patches_per_task=1, retries=1)["patches"]
        statuses = {name: entry["status"] for name, entry in found.items()}
        assert statuses == {**dict.fromkeys(NAMES, "ok"), NAMES[2]: "failed"}
        assert "refused as often as `executor.retries` allows" in found[NAMES[2]]["problem"]
        attempts = 4 if kind == "missing, for ever" else 2  # the first one is without workspace
        assert service.fitted.count(NAMES[2]) <= attempts
        refusals = [line for line in caplog.messages if "refused the answer" in line]
        assert len(refusals) == 1
        assert NAMES[2] in refusals[0]
        assert not Ledger(path, ENDPOINT).in_flight
        # The next run is not stopped by what the service keeps.
        service.disturb = lambda *_: None
        before = len(service.fitted)
        found = self.run(service, path, todo, tmp_path)["patches"]
        assert {entry["status"] for entry in found.values()} == {"ok"}
        assert service.fitted[before:] == [NAMES[2]]

    @pytest.mark.usefixtures("_small_answers")
    @pytest.mark.parametrize("kind", HOSTILE)
    def test_a_hostile_answer_that_is_stored_does_not_block_a_run(
        self, service, path, todo, tmp_path, kind
    ):
        """What an earlier run asked for is asked for again, which is no retry."""
        self.submit(service, path, todo, tmp_path, patches_per_task=1)
        victim = list(service.tasks)[2]
        outcome = service.tasks[victim]
        service.tasks[victim] = Outcome("success", HOSTILE[kind](outcome.value))
        found = self.run(service, path, todo, tmp_path, retries=0)["patches"]
        assert {entry["status"] for entry in found.values()} == {"ok"}
        assert len(service.fitted) == 6

    def test_a_result_that_the_client_cannot_read_is_asked_for_again(
        self, service, path, todo, tmp_path
    ):
        self.submit(service, path, todo, tmp_path, patches_per_task=1)
        service.tasks[list(service.tasks)[2]] = Outcome("unreadable", "its result is torn")
        found = self.run(service, path, todo, tmp_path, retries=0)["patches"]
        assert {entry["status"] for entry in found.values()} == {"ok"}
        assert len(service.fitted) == 6

    @pytest.mark.parametrize("kind", ["swapped", "one for two"])
    def test_answers_to_other_tasks_become_no_records(self, service, path, todo, tmp_path, kind):
        self.submit(service, path, todo, tmp_path, patches_per_task=1)
        first, second = list(service.tasks)[1:3]
        outcomes = service.tasks[first], service.tasks[second]
        service.tasks[second] = outcomes[0]
        if kind == "swapped":
            service.tasks[first] = outcomes[1]
        found = self.run(service, path, todo, tmp_path, retries=0)["patches"]
        assert {entry["status"] for entry in found.values()} == {"ok"}
        assert len(service.fitted) == (7 if kind == "swapped" else 6)
        self.assert_right(todo, tmp_path)

    def test_answers_whose_digests_are_swapped_as_well_become_no_records(
        self, service, path, todo, tmp_path
    ):
        self.submit(service, path, todo, tmp_path, patches_per_task=1)
        first, second = list(service.tasks)[1:3]
        values = service.tasks[first].value, service.tasks[second].value
        for name, value, other in ((first, *values), (second, *values[::-1])):
            swapped = {**value, "results": other["results"]}
            service.tasks[name] = Outcome("success", swapped)
        self.run(service, path, todo, tmp_path, retries=0)
        assert len(service.fitted) == 7
        self.assert_right(todo, tmp_path)

    def assert_right(self, todo, tmp_path):
        """Every record has the numbers of its own patch."""
        store = RecordStore(tmp_path / "results" / "fits")
        for patch in todo.patches:
            packed = todo.task([patch], todo.workspace_digest)
            (expected,) = answers.check(packed, task.run(packed, WORKSPACE))
            record = store.read(store.path(patch.name))
            assert record["CLs_obs"] == pytest.approx(expected["CLs_obs"], abs=1e-9)


def test_a_bad_answer_of_one_copy_waits_for_the_other(service, path):
    first: list[str] = []

    def silent_once(request, number):
        if not first:
            first.append(f"task {number}")
            return Outcome("waiting-for-nodes")
        service.wait_from_now_on()
        # Of the first copy there is a bad answer now, and of the second none yet.
        service.tasks[first[0]] = Outcome("success", {"digest": "0"})
        good = Outcome("success", value_of(request))
        threading.Timer(0.3, service.tasks.update, [{f"task {number}": good}]).start()
        return Outcome("waiting-for-nodes")

    service.disturb = silent_once
    with executor(service, path, deadline=0.3) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]
    assert len(service.requests) == 2


@pytest.mark.parametrize("answer", [None, "yes", {}, {"host": "a"}, []])
def test_a_bad_answer_of_the_first_worker_is_asked_for_again(service, path, answer, monkeypatch):
    probes = iter([answer, answer])
    probe = remote.probe
    monkeypatch.setattr(remote, "probe", lambda request: next(probes, None) or probe(request))
    monkeypatch.setattr(
        remote,
        "call",
        lambda name, request: (
            next(probes, probe(request)) if name == "probe" else remote.answer(request)
        ),
    )
    with pytest.raises(ExecutorError, match="answer of the endpoint's first worker is refused"):
        executor(service, path, preflight=True, retries=1)
    with executor(service, path, preflight=True, retries=1) as pool:
        assert names_of(submit(pool, content(NAMES[0]))) == ["ok"]


def test_a_worker_of_an_older_form_of_answers_is_refused_before_it_fits(service, path):
    def older(request, _):
        """It compares with the versions that it knows."""
        engines = without(remote.result_versions(), "answers")
        assert request["engines"] != engines
        other = {"digest": request["digest"], "other": remote.versions(), "engines": engines}
        return Outcome("success", other)

    service.disturb = older
    with executor(service, path) as pool, pytest.raises(ExecutorError, match="another version"):
        submit(pool, content(NAMES[0])).result(timeout=LIMIT)
