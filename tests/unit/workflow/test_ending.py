"""The last words of a run: what there is, why not all is, and which target may be meant."""

from __future__ import annotations

import atexit
import json
import logging
import os
from types import SimpleNamespace

import pytest

from palletfit.errors import ConfigError
from palletfit.workflow import ending
from palletfit.workflow.ending import Ending, Failure, explain, note_failure, read_failures


@pytest.fixture
def run(tmp_path, monkeypatch) -> Ending:
    """The end of a run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    run = Ending(lambda: "demo: 70 signal points", targets=["all", "limits", "toys"], terse=True)
    atexit.unregister(run.say)
    return run


def record(message: str, level: int = logging.INFO, **more: object) -> logging.LogRecord:
    entry = logging.LogRecord("snakemake", level, "workflow.py", 1, message, (), None)
    entry.__dict__ |= more
    return entry


def said(run: Ending, capsys) -> str:
    run.say()
    return capsys.readouterr().err


def test_what_there_is_is_said_once_also_if_nothing_was_to_be_done(run, capsys):
    assert run.watch(record("Nothing to be done (all requested files are present)."))
    assert said(run, capsys) == "\ndemo: 70 signal points\n"
    assert said(run, capsys) == ""
    run.reach()
    assert said(run, capsys) == "\ndemo: 70 signal points\n"


def test_a_plan_or_a_list_says_nothing(run, capsys):
    assert run.watch(record("This was a dry-run (flag -n)."))
    assert said(run, capsys) == ""


def test_lines_about_scheduling_are_left_out_only_where_they_are_not_wanted(run):
    assert not run.watch(record("Select jobs to execute..."))
    assert not run.watch(record("Execute 2 jobs..."))
    assert run.watch(record("Building DAG of jobs..."))
    talkative = Ending(str, targets=[], terse=False)
    atexit.unregister(talkative.say)
    assert talkative.watch(record("Select jobs to execute..."))


def test_a_process_that_is_forked_says_nothing(run, capsys, monkeypatch):
    run.reach()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert said(run, capsys) == ""


def test_the_reason_of_a_failure_is_last(run, capsys):
    run.begin()
    reason = "3 of 6 patches failed.\n  remedy: Correct them."
    note_failure(Failure("hypotest of tiny/SR", reason, "logs/tiny/SR/hypotest.log"))
    event = SimpleNamespace(name="JOB_ERROR")
    for log, rule in (("logs/tiny/SR/hypotest.log", "hypotest"), ("logs/x.log", "plot_contour")):
        run.watch(record("", logging.ERROR, event=event, rule_name=rule, log=[log]))
    run.fail()
    assert said(run, capsys).splitlines() == [
        "",
        "2 steps failed; what is finished is kept.",
        "",
        "hypotest of tiny/SR:",
        "  3 of 6 patches failed.",
        "    remedy: Correct them.",
        "  log:    logs/tiny/SR/hypotest.log",
        "",
        "plot_contour:",
        "  An unexpected error, which logs/x.log holds.",
    ]
    # The next run begins without them.
    run.begin()
    assert read_failures() == []


def test_a_step_that_succeeds_when_tried_again_did_not_fail(run, capsys):
    error, finished = SimpleNamespace(name="JOB_ERROR"), SimpleNamespace(name="JOB_FINISHED")
    for job, rule in ((4, "hypotest"), (5, "limits")):
        note_failure(Failure(rule, f"no result of {rule}", f"{rule}.log"))
        run.watch(
            record("", logging.ERROR, event=error, rule_name=rule, log=[f"{rule}.log"], jobid=job)
        )
    for job in (3, 4):
        run.watch(record("", event=finished, job_id=job))
    run.fail()
    words = said(run, capsys)
    assert "1 step failed" in words
    assert "no result of limits" in words
    assert "hypotest" not in words


def test_a_reason_that_steps_share_is_given_once():
    failures = [
        Failure(f"hypotest of a/{n}", "There is no endpoint.", f"{n}.log") for n in range(9)
    ]
    text = explain(failures, {})
    assert text.count("There is no endpoint.") == 1
    assert "hypotest of a/0, hypotest of a/1, hypotest of a/2, 6 more:" in text
    many = [Failure("step", f"reason {n}", "") for n in range(9)]
    assert explain(many, {}).endswith("Further reasons: 4, in the output above.")


def test_an_interruption_is_no_failure():
    failures = [Failure("hypotest of a/b", ending.INTERRUPTED, "a.log")]
    assert explain(failures, {}).startswith("Interrupted. What is finished is kept")
    assert "the output above says why" in explain([], {})


def test_a_damaged_note_costs_nothing(tmp_path):
    (tmp_path / "notes").write_text("{")
    assert read_failures(tmp_path / "notes") == []
    (tmp_path / "file").touch()
    note_failure(Failure("a", "b", "c"), tmp_path / "file" / "notes")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("limts", "Did you mean 'limits'?"),
        ("toy", "Did you mean 'toys'?"),
        ("xyz", "remedy: Targets"),
    ],
)
def test_a_mistyped_target_is_recognized(run, capsys, name, hint):
    text = f"MissingRuleException:\nNo rule to produce {name} (if you use input functions ...)."
    run.watch(record(text, logging.ERROR))
    words = said(run, capsys)
    assert f"There is no target '{name}'" in words
    assert hint in words


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    ending.require_writable(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="read-only") as caught:
        ending.require_writable(tmp_path)
    assert "--directory" in caught.value.remedy


def test_notes_are_lines_that_any_process_may_add(tmp_path):
    file = tmp_path / "notes"
    for step in ("a", "b"):
        note_failure(Failure(step, "reason", ""), file)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == ["a", "b"]
