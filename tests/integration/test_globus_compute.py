"""Remote fits on the real stack, and everything that can befall them."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from palletfit.config import FitSettings
from palletfit.products.hypotest import Hypotest
from palletfit.runs import answers, remote, task
from palletfit.runs.packing import pack
from palletfit.runs.scan import Scan

from ..workflow.preloaded import HOOK
from .site import Site
from .stack import Stack
from .stack.processes import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    return tmp_path_factory.mktemp("control")


@pytest.fixture
def user(services: Stack, prepared, control) -> Iterator[Site]:
    """A user, whether an endpoint runs or not."""
    services.service.web.clear_faults()
    services.service.rate_limit = None
    made = Site(services, *prepared, control)
    yield made
    made.release()


@pytest.fixture
def site(services: Stack, user: Site) -> Site:
    """A sound endpoint whose workers look into the control folder."""
    if not services.endpoint.sound:
        services.slurm.cancel_all()
        user.start_endpoint()
    services.until_online()
    return user


@pytest.fixture(scope="module", autouse=True)
def _own_workers(services: Stack):
    """Workers of other tests do not look into the control folder."""
    services.slurm.cancel_all()
    services.stop_endpoint(at_once=True)


def test_an_endpoint_that_is_started_later_gets_its_tasks(user: Site) -> None:
    """First of all: no endpoint has to end for it."""
    user.stack.stop_endpoint(at_once=True)
    user.stack.slurm.cancel_all()
    until(lambda: not user.stack.service.endpoints[user.stack.endpoint_id].online, "online")
    refused = user.run(succeeds=False).output
    assert "is offline" in refused
    assert "globus-compute-endpoint start" in refused
    user.set(preflight=False)
    before = user.tasks
    with user.running() as run:
        user.until_sent(before)
        user.start_endpoint()
        user.finish(run)
    user.assert_all_fitted_once()


def test_all_patches_are_fitted_in_slurm_jobs(site: Site) -> None:
    run = site.run()
    assert run.fitted == site.pallet.names
    site.assert_all_fitted_once()
    for record in site.folder.records().values():
        assert record["worker"]["pid"] not in (os.getpid(), 0)
        assert record["worker"]["device"] == "cpu"
    assert site.run().idle
    # The second task of a worker finds its workspace there.
    assert any(record["worker"]["warm"] for record in site.folder.records().values())


def test_submit_returns_at_once_and_a_later_run_collects(site: Site) -> None:
    site.hold()
    assert "6 patches sent" in site.run("submit").output
    assert site.run("submit").output.count("0 patches sent, 6 were in flight") == 1
    assert not site.folder.records()
    site.release()
    site.run()
    site.assert_all_fitted_once()


def test_upper_limits_are_sent_and_collected_later_like_hypothesis_tests(site: Site) -> None:
    site.pallet.analysis["patches"] = site.pallet.names[:2]
    site.pallet.write()
    assert "tiny/SR limits: 2 patches sent" in site.run("submit_limits").output
    web = site.stack.service.web
    sent = web.count("/submit$", status=200)
    # Without plots.
    site.run("results/tiny/limits.json")
    results = site.folder.path / "results/tiny"
    assert json.loads((results / "SR/submitted-limits.json").read_text())["sent"] == 2
    found = json.loads((results / "limits.json").read_text())
    assert [item["status"] for item in found.values()] == ["ok"] * 2
    assert web.count("/submit$", status=200) == sent


@pytest.mark.parametrize(
    # Results that a run finds at its start, or gets later, are those of `submit`, too.
    "moment",
    [
        pytest.param("sent", marks=pytest.mark.study),
        pytest.param("fitted", marks=pytest.mark.study),
        "some collected",
    ],
)
def test_a_killed_run_is_taken_up(site: Site, moment: str) -> None:
    before = site.tasks
    if moment != "some collected":
        site.hold()
    with site.running_alone() as process:
        if moment == "some collected":
            until(lambda: len(site.folder.records()) >= 2, "no records")
        else:
            site.until_sent(before)
        site.kill(process)
    kept = {path: path.read_bytes() for path in site.folder.records()}
    if moment == "fitted":
        site.release()
        until(lambda: sum(site.fitted.values()) == 6, "not fitted")
    site.release()
    site.run()
    site.assert_all_fitted_once()
    for path, content in kept.items():
        assert path.read_bytes() == content


def test_a_killed_worker_costs_nothing_but_time(site: Site) -> None:
    site.hold()
    before = site.tasks
    with site.running() as run:
        site.until_sent(before)
        site.until_running()
        site.kill_workers()
        site.release()
        output = site.finish(run)
    assert "died; sent again" in output
    site.assert_all_fitted_once()


def test_a_patch_that_kills_its_workers_fails_alone(site: Site) -> None:
    site.set(patches_per_task=3, retries=1)
    victim = site.pallet.names[1]
    (site.control / f"kill-{victim}").touch()
    output = site.run(succeeds=False).output
    assert "1 of 6 patches of tiny/SR failed" in output
    assert victim in output
    records = {record["patch"]: record for record in site.folder.records().values()}
    assert records[victim]["error"]["kind"] == "WorkerDied"
    others = [name for name in site.pallet.names if name != victim]
    assert {records[name]["status"] for name in others} == {"ok"}
    assert site.fitted == Counter(others)
    (site.control / f"kill-{victim}").unlink()
    assert site.run().fitted == [victim]


# What the profile of Expanse does at a cancelled block is tested there.
@pytest.mark.study
@pytest.mark.parametrize("end", ["cancel", "expire"])
def test_a_block_that_ends_costs_nothing_but_time(site: Site, end: str) -> None:
    """Cancelled by somebody (scancel), or at its walltime."""
    site.set(retries=3)
    site.hold()
    before = site.tasks
    with site.running() as run:
        site.until_sent(before)
        site.until_running()
        *_, job = site.stack.slurm.squeue()
        getattr(site.stack.slurm, end)(job.id)
        until(lambda: job.id not in [item.id for item in site.stack.slurm.squeue()], "job stays")
        site.release()
        output = site.finish(run)
    assert "its block of nodes ended" in output
    site.assert_all_fitted_once()


#: What was sent before the file LATE was written is past any deadline.
LATE = """
from pathlib import Path
from palletfit.executors.queue import Task

def age(task, late=Path({file!r}), own=Task.age.fget):
    over = late.exists() and task.sent_at is not None and task.sent_at < late.stat().st_mtime
    return float("inf") if over else own(task)

Task.age = property(age)
"""


# Silence until the deadline is a loss, whoever is silent: tests/unit/executors/test_queue.py.
@pytest.mark.study
def test_a_killed_user_endpoint_is_noticed_by_the_deadline(site: Site) -> None:
    late, hook = site.folder.path / "late", site.folder.path / "late.py"
    hook.write_text(LATE.format(file=str(late)))
    site.folder.variables[HOOK] = str(hook)
    site.hold()
    before = site.tasks
    with site.running() as run:
        site.until_sent(before)
        site.until_running()
        killed = [Path("/proc", str(pid)) for pid in site.stack.user_endpoint_pids()]
        for process in killed:
            os.kill(int(process.name), signal.SIGKILL)
        # Until the core endpoint has noticed, it starts no other one.
        until(lambda: not any(process.exists() for process in killed), "nobody noticed")
        # Its workers would go on for nobody.
        site.stack.slurm.cancel_all()
        until(lambda: not site.stack.worker_pids(), "workers stay")
        site.release()
        late.touch()
        output = site.finish(run)
    assert "no result within 600 s" in output
    site.assert_all_fitted_once()


# Only the service and its endpoints speak to the broker: for a run, its results come later.
@pytest.mark.study
def test_a_broker_that_restarts_loses_nothing(site: Site) -> None:
    site.hold()
    before = site.tasks
    with site.running() as run:
        site.until_sent(before)
        site.until_running()
        broker = site.stack.broker
        until(lambda: not broker.unacknowledged(".tasks"), "tasks are on their way", broker.logs)
        broker.restart()
        site.release()
        site.finish(run)
    site.assert_all_fitted_once()


def test_a_service_in_trouble_is_asked_again(site: Site) -> None:
    web = site.stack.service.web
    # One after the other. The probe meets the first one of submissions, the fits the next ones.
    faults = [
        web.fail("/submit$", 429, headers={"Retry-After": "2"}),
        web.delay("/submit$", 3.0),
        web.fail("/submit$", 500),
        web.lose_answer("/submit$"),
        web.fail("/batch_status$", 500, times=2),
    ]
    output = site.run().output
    assert "the service is busy" in output
    assert [fault.hits for fault in faults] == [1, 1, 1, 1, 2]
    site.assert_all_fitted_once()


def test_a_service_that_does_not_recover_is_given_up(site: Site) -> None:
    site.set(patience=4)
    site.stack.service.web.fail("/v[23]/", 503, times=1000)
    output = site.run(succeeds=False).output
    assert "does not serve: 503" in output
    assert "nothing that was fitted or sent is lost" in output
    site.stack.service.web.clear_faults()
    site.run()
    site.assert_all_fitted_once()


def test_the_schedulers_words_reach_the_user(site: Site) -> None:
    site.set(endpoint_config={"partition": "nowhere"})
    output = site.run(succeeds=False).output
    if "did not answer within" in output:
        # The user endpoint ends because of that error, and may end before it has sent the words:
        # they are then kept for its next start.
        output = site.run(succeeds=False).output
    assert "invalid partition specified: nowhere" in output, output + site.stack.logs()
    assert "endpoint_config" in output
    assert not site.folder.records()


def test_a_setting_that_the_endpoint_does_not_know_is_said(site: Site) -> None:
    site.set(endpoint_config={"colour": "blue"})
    output = site.run(succeeds=False).output
    assert "colour" in output
    assert not site.folder.records()


def test_another_version_on_the_workers_is_found_before_the_first_fit(site: Site) -> None:
    (site.control / "engine").write_text("batched-0")
    output = site.run(succeeds=False).output
    assert "The worker has another version of the engine" in output
    assert not site.fitted
    # Without the preflight, the first task finds it.
    site.set(preflight=False)
    output = site.run(succeeds=False).output
    assert "The worker has another version" in output
    assert not site.fitted


@pytest.mark.parametrize("trouble", ["wrong secret", "revoked"])
def test_refused_credentials_are_said_and_never_shown(site: Site, trouble: str) -> None:
    secret = site.stack.service.client_secret
    if trouble == "wrong secret":
        secret = site.folder.variables["GLOBUS_COMPUTE_CLIENT_SECRET"] = f"not {secret}"
        site.folder.variables["GLOBUS_COMPUTE_USER_DIR"] = str(site.folder.path / "globus")
    else:
        site.stack.service.web.fail("/v[23]/", 401, times=1000)
    output = site.run(succeeds=False).output
    assert "refuses the credentials" in output
    assert "python -m palletfit.login" in output
    for path in [*site.folder.path.glob("logs/**/*"), *site.folder.path.glob("results/**/*")]:
        assert not path.is_file() or secret not in path.read_text(errors="replace")
    assert secret not in output


def test_nobody_logged_in_is_said_without_asking(site: Site) -> None:
    for name in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"):
        del site.folder.variables[name]
    site.folder.variables["GLOBUS_COMPUTE_USER_DIR"] = str(site.folder.path / "globus")
    output = site.run(succeeds=False).output
    assert "Nobody is logged in to Globus Compute on this machine" in output


def test_too_large_requests_are_parted_and_a_patch_whose_fit_fails_costs_no_other(
    site: Site,
) -> None:
    broken = site.pallet.patches[2]
    broken["patch"][0]["value"]["data"] = [1.0]  # one bin of two
    site.pallet.write()
    service, limit = site.stack.service, site.stack.service.payload_limit
    refused = service.web.count("/submit$", status=413)
    service.payload_limit = 4000
    try:
        output = site.run(succeeds=False).output
    finally:
        service.payload_limit = limit
    assert service.web.count("/submit$", status=413) > refused
    name = broken["metadata"]["name"]
    assert "1 of 6 patches of tiny/SR failed" in output
    assert name in output
    statuses = Counter(record["status"] for record in site.folder.records().values())
    assert statuses == {"ok": 5, "failed": 1}


def test_results_that_the_service_lost_are_fitted_again(site: Site) -> None:
    dropped, forgotten, *_ = sorted(site.submit().values())
    site.stack.service.drop_result(dropped)
    site.stack.service.forget(forgotten)
    site.run()
    records = site.folder.records().values()
    assert {record["status"] for record in records} == {"ok"}
    assert sorted(site.fitted.values()) == [1, 1, 1, 1, 2, 2]


def assert_right(site: Site) -> None:
    """Every record has the numbers of its own patch."""
    results = site.folder.path / "results/tiny/SR"
    records = {record["patch"]: record for record in site.folder.records().values()}
    settings = FitSettings.model_validate(next(iter(records.values()))["key"]["settings"])
    files = results / "workspace.json", results / "patchset.json"
    todo = Scan.read("tiny/SR", *files, ["*"], settings, Hypotest())
    content = todo.task(todo.patches, todo.workspace_digest)
    expected = answers.check(content, task.run(content, pack(todo.workspace)))
    assert len({round(result["CLs_obs"], 6) for result in expected}) == len(expected)
    for patch, result in zip(todo.patches, expected, strict=True):
        assert records[patch.name]["CLs_obs"] == pytest.approx(result["CLs_obs"], abs=1e-6)


def test_answers_to_other_tasks_and_damaged_ones_become_no_records(site: Site) -> None:
    sent = site.submit()
    tasks = [sent[(name,)] for name in site.pallet.names]
    service = site.stack.service
    service.swap_results(tasks[0], tasks[1])
    service.copy_result(tasks[2], tasks[3])
    service.change_result(tasks[4], lambda value: {**value, "results": f"*{value['results']}"})
    output = site.run().output
    assert output.count("refused the answer for") == 4
    assert "it is the answer to another task" in output
    assert "this is no base64 text" in output
    assert "Traceback" not in output
    twice = {name: 2 for number, name in enumerate(site.pallet.names) if number in (0, 1, 3, 4)}
    assert site.fitted == Counter({**dict.fromkeys(site.pallet.names, 1), **twice})
    assert_right(site)


# Order and ledger: tests/unit/runs/test_answers.py and test_ledger.py.
@pytest.mark.study
def test_results_in_another_order_are_put_right_and_the_ledger_needs_no_last_end(
    site: Site,
) -> None:
    site.set(patches_per_task=3)

    def reverse(value):
        results = answers.unseal(remote._bytes(value["results"]), 3)
        return {**value, "results": remote._text(answers.seal(results[::-1]))}

    for identifier in site.submit().values():
        site.stack.service.change_result(identifier, reverse)
    # As after a run that was killed when it wrote there.
    site.ledger.write_bytes(site.ledger.read_bytes().removesuffix(b"\n"))
    site.run()
    site.assert_all_fitted_once()
    assert_right(site)
    # The next run that has something to fit reads what was appended.
    victim = site.folder.path / f"results/tiny/SR/fits/{site.pallet.names[0]}.json"
    victim.unlink()
    assert site.run().fitted == [site.pallet.names[0]]


@pytest.mark.parametrize(
    # What refused credentials end is tested at the start of a run.
    "renewed",
    [True, pytest.param(False, marks=pytest.mark.study)],
)
def test_tokens_that_are_revoked_while_results_are_awaited(site: Site, renewed: bool) -> None:
    site.hold()
    before = site.tasks
    with site.running() as run:
        site.until_sent(before)
        if renewed:
            site.stack.service.revoke_tokens()
        else:
            fault = site.stack.service.web.fail("/v[23]/", 401, times=1000)
            until(lambda: fault.hits, "nothing was asked")
        site.release()
        output = site.finish(run, succeeds=renewed)
    if not renewed:
        assert "refuses the credentials" in output
        assert "python -m palletfit.login" in output
        assert "Traceback" not in output
        site.stack.service.web.clear_faults()
        site.run()
    site.assert_all_fitted_once()
