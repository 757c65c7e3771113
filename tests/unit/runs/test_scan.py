"""Which patches are fitted, and what is left when something goes wrong."""

from __future__ import annotations

import errno
import os
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from pebble import ProcessExpired

from palletfit.config import ExecutorSettings, FitSettings, Region
from palletfit.core.locks import holder
from palletfit.engine.reference import hypotests as reference
from palletfit.engine.versions import VERSIONS
from palletfit.errors import FitError, PalletError, StoreError
from palletfit.products.hypotest import Hypotest
from palletfit.runs import answers, dispatch, manifest, scan, store, task
from palletfit.runs import run as runs
from palletfit.runs.store import RecordStore

from .. import models


class Counting(Executor):
    """Runs tasks at once in this process, and counts them by patch.

    Attributes
    ----------
    disturb
        What befalls a patch: called with the number of its earlier tasks, it may raise.
    change
        Changes the answers of tasks: called with the names of the patches and the answer.
    """

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.sizes: list[int] = []
        self.disturb = {}
        self.change = lambda _, answer: answer

    def submit(self, fn, /, *args, **kwargs):
        names = [patch["name"] for patch in task.unpack(args[0])["patches"]]
        earlier = {name: self.tasks.count(name) for name in names}
        self.tasks += names
        self.sizes.append(len(names))
        future: Future = Future()
        try:
            for name in set(names) & set(self.disturb):
                self.disturb[name](earlier[name])
            future.set_result(self.change(names, fn(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001  as an executor does
            future.set_exception(error)
        return future


@pytest.fixture
def executor() -> Counting:
    return Counting()


@pytest.fixture
def records(tmp_path) -> RecordStore:
    return RecordStore(tmp_path / "results" / "fits")


@pytest.fixture(autouse=True)
def _fits(monkeypatch):
    """Fits of no cost: CLs from the yields of the signal."""

    class Result:
        def __init__(self, spec, settings):
            self.spec, self.settings = spec, settings

        def as_json(self):
            events = sum(self.spec["channels"][0]["samples"][-1]["data"])
            return models.hypotest_result(1 / (1 + events * self.settings.mu))

    monkeypatch.setattr(reference, "hypotest", Result)


def make(patches=None, patterns=("*",), folder: Path | None = None, tmp_path=None, **settings):
    background = models.background("normsys")
    content = models.patchset(background, patches or models.grid())
    paths = models.write(folder or tmp_path, background, content)
    settings = {"engine": "reference", **settings}
    return scan.Scan.read("search/SR", *paths, list(patterns), FitSettings(**settings), Hypotest())


def run(todo, records, executor, **settings):
    return runs.run(todo, records, executor, ExecutorSettings(**settings))


NAMES = ["signal_100_50", "signal_200_50", "signal_300_50"]


def raising(error: BaseException, *, times: float = float("inf")):
    def disturb(earlier: int) -> None:
        if earlier < times:
            raise error

    return disturb


def died() -> ProcessExpired:
    return ProcessExpired("Abnormal termination", code=-9, pid=1)


def test_the_first_run_fits_all_and_the_second_none(tmp_path, records, executor):
    todo = make(tmp_path=tmp_path)
    first = run(todo, records, executor)
    assert executor.tasks == NAMES
    second = run(make(tmp_path=tmp_path), records, executor)
    assert len(executor.tasks) == 3
    assert (first["fitted"], second["fitted"]) == (3, 0)
    assert first["patches"] == second["patches"]


def test_records_and_manifest_say_what_was_fitted(tmp_path, records, executor):
    todo = make(tmp_path=tmp_path)
    found = run(todo, records, executor)
    assert found["title"] == "search/SR"
    assert found["labels"] == ["m1", "m2"]
    assert list(found["patches"]) == NAMES
    entry = found["patches"]["signal_200_50"]
    assert entry["status"] == "ok"
    assert entry["record"] == "signal_200_50.json"
    record = records.read(records.folder / entry["record"])
    assert record["patch"] == "signal_200_50"
    assert record["values"] == {"m1": 200, "m2": 50}
    assert record["key"]["digest"] == entry["key"]
    assert record["key"]["engine"] == VERSIONS["reference"]
    assert record["key"]["settings"]["mu"] == 1.0
    assert record["CLs_obs"] == pytest.approx(1 / (1 + 7.0 + 12.0))
    assert record["worker"]["pid"] == os.getpid()
    assert manifest.is_complete(found, records, Region(workspace="a", patchset="b"))


def test_a_changed_patch_is_fitted_alone(tmp_path, records, executor):
    run(make(tmp_path=tmp_path), records, executor)
    executor.tasks.clear()
    patches = models.grid()
    patches[1] = models.patch("signal_200_50", [200, 50], [1.0, 2.0])
    found = run(make(patches, tmp_path=tmp_path), records, executor)
    assert executor.tasks == ["signal_200_50"]
    assert found["fitted"] == 1


def test_an_added_patch_is_fitted_alone(tmp_path, records, executor):
    run(make(tmp_path=tmp_path), records, executor)
    executor.tasks.clear()
    run(make(models.grid(4), tmp_path=tmp_path), records, executor)
    assert executor.tasks == ["signal_400_50"]


def test_other_settings_fit_all_again_and_back_none(tmp_path, records, executor):
    first = run(make(tmp_path=tmp_path), records, executor)
    run(make(tmp_path=tmp_path, mu=2.0), records, executor)
    assert executor.tasks == NAMES * 2
    back = run(make(tmp_path=tmp_path, mu=1.0), records, executor)
    again = run(make(tmp_path=tmp_path, mu=2.0), records, executor)
    assert len(executor.tasks) == 6
    assert (back["fitted"], again["fitted"]) == (0, 0)
    assert {name: entry["key"] for name, entry in back["patches"].items()} == {
        name: entry["key"] for name, entry in first["patches"].items()
    }


def test_another_engine_fits_all_again(tmp_path, records, executor, monkeypatch):
    run(make(tmp_path=tmp_path), records, executor)
    monkeypatch.setitem(VERSIONS, "reference", "reference-next")
    assert run(make(tmp_path=tmp_path), records, executor)["fitted"] == 3


def test_corrected_values_of_a_patch_reach_its_record_without_a_fit(tmp_path, records, executor):
    run(make(tmp_path=tmp_path), records, executor)
    executor.tasks.clear()
    patches = models.grid()
    patches[0]["metadata"]["values"] = [150, 60]
    found = run(make(patches, tmp_path=tmp_path), records, executor)
    assert executor.tasks == []
    assert records.read(records.path("signal_100_50"))["values"] == {"m1": 150, "m2": 60}
    assert manifest.is_complete(found, records, Region(workspace="a", patchset="b"))


@pytest.mark.parametrize("damage", ["lost", "cut", "edited"])
def test_a_damaged_record_is_fitted_alone(tmp_path, records, executor, damage):
    found = run(make(tmp_path=tmp_path), records, executor)
    executor.tasks.clear()
    path = records.path("signal_300_50")
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.write_text(path.read_text().replace('"CLs_obs": 0.0', '"CLs_obs": 0.1'))
    assert not manifest.is_complete(found, records, Region(workspace="a", patchset="b"))
    run(make(tmp_path=tmp_path), records, executor)
    assert executor.tasks == ["signal_300_50"]


def test_a_failed_patch_costs_no_other_and_is_fitted_again(tmp_path, records, executor):
    patches = models.grid()
    patches[1]["patch"] = [{"op": "remove", "path": "/channels/9"}]
    found = run(make(patches, tmp_path=tmp_path), records, executor)
    assert [entry["status"] for entry in found["patches"].values()] == ["ok", "failed", "ok"]
    assert "does not apply" in found["patches"]["signal_200_50"]["problem"]
    assert found["patches"]["signal_200_50"]["retry"] is False
    executor.tasks.clear()
    again = run(make(patches, tmp_path=tmp_path), records, executor)
    assert executor.tasks == ["signal_200_50"]
    assert again["fitted"] == 1


@pytest.mark.parametrize(
    ("deaths", "retries", "expected"), [(1, 1, "ok"), (2, 2, "ok"), (1, 3, "ok")]
)
def test_a_patch_is_sent_again_after_its_worker_died(
    tmp_path, records, executor, deaths, retries, expected
):
    executor.disturb["signal_200_50"] = raising(died(), times=deaths)
    found = run(make(tmp_path=tmp_path), records, executor, retries=retries)
    assert found["patches"]["signal_200_50"]["status"] == expected
    assert executor.tasks.count("signal_200_50") == deaths + 1
    assert len(executor.tasks) == 3 + deaths


@pytest.mark.parametrize("loss", [died(), TimeoutError()])
def test_patches_that_were_lost_together_are_sent_one_by_one(tmp_path, records, executor, loss):
    executor.disturb["signal_200_50"] = raising(loss)
    todo = make(tmp_path=tmp_path)
    found = run(todo, records, executor, patches_per_task=3, retries=0)
    statuses = [entry["status"] for entry in found["patches"].values()]
    assert statuses == ["ok", "failed", "ok"]
    assert executor.sizes == [3, 1, 1, 1]


@pytest.mark.parametrize(
    ("patches", "engine", "workers", "expected"),
    [
        (125, "reference", 2, 1),
        (125, "batched", 2, 32),
        (125, "batched", 16, 4),
        (10_000, "batched", 2, 32),
        (3, "batched", 8, 1),
    ],
)
def test_patches_share_tasks_with_the_batched_engine(patches, engine, workers, expected):
    fit = FitSettings(engine=engine)
    assert scan.patches_per_task(patches, fit, ExecutorSettings(), workers, Hypotest()) == expected
    chosen = ExecutorSettings(patches_per_task=7)
    assert scan.patches_per_task(patches, fit, chosen, workers, Hypotest()) == 7


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_patch_whose_workers_always_die_is_given_up(tmp_path, records, executor, retries):
    executor.disturb["signal_200_50"] = raising(died())
    found = run(make(tmp_path=tmp_path), records, executor, retries=retries)
    assert executor.tasks.count("signal_200_50") == 1 + retries
    entry = found["patches"]["signal_200_50"]
    assert entry["status"] == "failed"
    assert "The worker process died (exit code -9)" in entry["problem"]
    assert entry["retry"] is True
    region = Region(workspace="a", patchset="b")
    assert not manifest.is_complete(found, records, region)
    known = Region(workspace="a", patchset="b", known_failures={"signal_200_50": "too large"})
    assert manifest.is_complete(found, records, known)


def resealed(answer, change):
    """An answer whose results were changed, with a checksum that holds."""
    return answers.seal(change(answers.unseal(answer, 1)))


HOSTILE = {
    "no bytes of an answer": lambda _: b"",
    "no results": lambda answer: resealed(answer, lambda _: []),
    "too many": lambda answer: resealed(answer, lambda results: results * 2),
    "null": lambda answer: resealed(answer, lambda _: None),
    "no status": lambda answer: resealed(answer, lambda results: [{**results[0], "status": 1}]),
    "no error": lambda answer: resealed(
        answer, lambda results: [{**results[0], "status": "failed"}]
    ),
    "a text for a number": lambda answer: resealed(
        answer, lambda results: [{**results[0], "CLs_obs": "<script>"}]
    ),
    "no proof": lambda answer: resealed(answer, lambda results: [{**results[0], "fitted": {}}]),
    "NaN": lambda answer: answer[:-4],
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("retries", [0, 2])
def test_a_bad_answer_loses_its_task_alone_and_not_forever(
    tmp_path, records, executor, kind, retries, caplog
):
    victim = "signal_200_50"
    executor.change = lambda names, answer: HOSTILE[kind](answer) if victim in names else answer
    found = run(make(tmp_path=tmp_path), records, executor, retries=retries)
    assert [entry["status"] for entry in found["patches"].values()] == ["ok", "failed", "ok"]
    assert executor.tasks.count(victim) == 1 + retries
    assert len(executor.tasks) == 3 + retries
    entry = found["patches"][victim]
    assert "The answer was refused as often as `executor.retries` allows" in entry["problem"]
    assert entry["retry"] is True
    lines = [line for line in caplog.messages if "refused the answer for" in line]
    assert len(lines) == retries
    assert all(victim in line and "\n" not in line for line in lines)
    executor.change = lambda _, answer: answer
    executor.tasks.clear()
    assert run(make(tmp_path=tmp_path), records, executor)["fitted"] == 1
    assert executor.tasks == [victim]


def test_a_bad_answer_of_several_patches_is_asked_for_one_by_one(
    tmp_path, records, executor, caplog
):
    executor.change = lambda names, answer: b"" if len(names) > 1 else answer
    todo = make(tmp_path=tmp_path)
    found = run(todo, records, executor, patches_per_task=3, retries=0)
    assert [entry["status"] for entry in found["patches"].values()] == ["ok"] * 3
    assert executor.sizes == [3, 1, 1, 1]
    assert "refused the answer for 3 patches" in caplog.text


def test_answers_of_swapped_tasks_become_no_records(tmp_path, records, executor):
    straight = run(make(tmp_path=tmp_path), records, executor)
    expected = {name: records.read(records.path(name))["CLs_obs"] for name in NAMES}
    kept = []

    def swap(_, answer):
        """The first two answers say what the other one should."""
        kept.append(answer)
        return kept[0] if len(kept) == 2 else answer

    again = RecordStore(tmp_path / "again" / "fits")
    executor.change = swap
    found = run(make(tmp_path=tmp_path), again, executor, retries=1)
    assert {entry["status"] for entry in found["patches"].values()} == {"ok"}
    assert {name: again.read(again.path(name))["CLs_obs"] for name in NAMES} == expected
    assert found["patches"].keys() == straight["patches"].keys()
    assert len(kept) == 4


def test_results_in_another_order_are_put_right(tmp_path, records, executor):
    run(make(tmp_path=tmp_path), records, executor)
    expected = {name: records.read(records.path(name))["CLs_obs"] for name in NAMES}
    again = RecordStore(tmp_path / "again" / "fits")
    executor.sizes.clear()
    executor.change = lambda _, answer: answers.seal(answers.unseal(answer, 3)[::-1])
    run(make(tmp_path=tmp_path), again, executor, patches_per_task=3)
    assert {name: again.read(again.path(name))["CLs_obs"] for name in NAMES} == expected
    assert executor.sizes == [3]


def test_no_result_says_what_its_record_is_of(tmp_path, records, executor):
    def add(results):
        return [{**result, "key": {}, "values": {}, "sha256": "0" * 64} for result in results]

    executor.change = lambda _, answer: resealed(answer, add)
    found = run(make(tmp_path=tmp_path), records, executor)
    for name, entry in found["patches"].items():
        record = records.read(records.path(name))
        assert record["key"]["digest"] == entry["key"]
        assert record["values"].keys() == {"m1", "m2"}


def test_a_patch_beyond_the_deadline_is_not_sent_again(tmp_path, records, executor):
    executor.disturb["signal_100_50"] = raising(TimeoutError("Task timeout"))
    found = run(make(tmp_path=tmp_path), records, executor, retries=3)
    assert executor.tasks == NAMES
    assert "before the deadline" in found["patches"]["signal_100_50"]["problem"]
    assert [entry["status"] for entry in found["patches"].values()] == ["failed", "ok", "ok"]


def test_an_executor_that_loses_a_task_costs_no_other(tmp_path, records, executor):
    executor.disturb["signal_100_50"] = raising(ConnectionError("lost"))
    found = run(make(tmp_path=tmp_path), records, executor)
    assert found["patches"]["signal_100_50"]["problem"] == (
        "The executor could not run the fit: lost"
    )
    assert found["patches"]["signal_300_50"]["status"] == "ok"


def test_a_store_that_is_full_ends_the_run_and_keeps_earlier_records(
    tmp_path, records, executor, monkeypatch
):
    write = store.write_atomically

    def full(path, text):
        if path.stem == "signal_200_50":
            raise store.writing_error(OSError(errno.ENOSPC, "No space left on device"), path)
        write(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(store, "write_atomically", full)
        patched.setattr(dispatch.concurrent.futures, "wait", first_sent)
        with pytest.raises(StoreError, match="The disk is full") as error:
            run(make(tmp_path=tmp_path), records, executor)
    assert error.value.file == str(records.path("signal_200_50"))
    assert records.read(records.path("signal_100_50"))["status"] == "ok"
    executor.tasks.clear()
    run(make(tmp_path=tmp_path), records, executor)
    assert executor.tasks == NAMES[1:]


def first_sent(pending, **_):
    """Like ``concurrent.futures.wait``, but in the order of sending."""
    return [next(iter(pending))], set()


def test_records_are_written_when_results_arrive(tmp_path, records, executor, monkeypatch):
    seen = []

    def watched(pending, **_):
        seen.append(len(list(records.folder.glob("*.json"))) if records.folder.exists() else 0)
        return first_sent(pending)

    monkeypatch.setattr(dispatch.concurrent.futures, "wait", watched)
    run(make(tmp_path=tmp_path), records, executor)
    assert seen == [0, 1, 2]


def test_the_region_is_locked_while_it_is_fitted(tmp_path, records, executor):
    def look(_earlier: int) -> None:
        holders.append(holder(records.folder.parent / ".lock"))

    holders: list[str] = []
    executor.disturb["signal_100_50"] = look
    run(make(tmp_path=tmp_path), records, executor)
    assert holders[0].startswith(f"process {os.getpid()} on ")


def test_patches_with_unusual_names(tmp_path, records, executor):
    names = ["a/b", "../c", "d e", "a%2Fb"]
    patches = [models.patch(name, [i, 0]) for i, name in enumerate(names)]
    found = run(make(patches, tmp_path=tmp_path), records, executor)
    assert list(found["patches"]) == names
    assert sorted(path.name for path in records.folder.iterdir()) == sorted(
        entry["record"] for entry in found["patches"].values()
    )
    assert run(make(patches, tmp_path=tmp_path), records, executor)["fitted"] == 0


def test_patches_are_selected(tmp_path, records, executor):
    run(make(patterns=["signal_[12]*"], tmp_path=tmp_path), records, executor)
    assert executor.tasks == NAMES[:2]


def test_a_pattern_without_patches_is_refused(tmp_path):
    with pytest.raises(PalletError, match="No patch matches 'sginal") as error:
        make(patterns=["*", "sginal_*"], tmp_path=tmp_path)
    assert "the first patch is 'signal_100_50'" in error.value.remedy


def test_failed_patches_are_named_in_one_error(tmp_path, records, executor):
    todo = make(models.grid(14), tmp_path=tmp_path)
    for patch in todo.patches[:12]:
        executor.disturb[patch.name] = raising(TimeoutError())
    found = run(todo, records, executor)
    region = Region(workspace="a", patchset="b", known_failures={"signal_100_50": "known"})
    failed = manifest.failures(found, region)
    assert "signal_100_50" not in failed
    assert len(failed) == 11
    error = runs.failure_error(todo, failed, records)
    assert error.remedy.startswith("Raise `executor.deadline`")  # which all of them share
    assert isinstance(error, FitError)
    assert "11 of 14 patches of search/SR failed" in error.problem
    assert "    signal_200_50: The fit did not end before the deadline." in error.problem
    assert error.problem.endswith("    and 1 more")


def test_a_copied_results_folder_is_complete(tmp_path, records, executor):
    found = run(make(tmp_path=tmp_path), records, executor)
    for path in records.folder.iterdir():
        os.utime(path, (1, 1))
    region = Region(workspace="a", patchset="b")
    assert manifest.is_complete(found, records, region)
    path = records.path("signal_100_50")
    path.write_bytes(path.read_bytes()[:-5])
    assert not manifest.is_complete(found, records, region)


def test_an_observer_sees_kept_records_and_every_new_one(tmp_path, records, executor):
    run(make(models.grid(2), tmp_path=tmp_path), records, executor)
    seen: list[str] = []

    @contextmanager
    def watch(todo, kept):
        seen.extend([todo.title, *kept])
        yield lambda item: seen.append(f"{item['patch']} {records.path(item['patch']).exists()}")
        seen.append("end")

    settings = ExecutorSettings()
    runs.run(make(tmp_path=tmp_path), records, executor, settings, observer=watch)
    assert seen == ["search/SR", *NAMES[:2], "signal_300_50 True", "end"]
