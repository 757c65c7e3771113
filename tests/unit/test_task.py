"""What a worker runs: plain data in, plain data out, whatever happens."""

from __future__ import annotations

import json
import os

import pytest

from palletfit import reference, task
from palletfit.config import FitSettings
from palletfit.errors import FitError
from palletfit.patches import Patch, json_digest

from . import models

BACKGROUND = models.background("normsys")


def patch(name="signal", operations=None) -> Patch:
    spec = models.patch(name, [100, 50])
    return Patch(name, (100, 50), spec["patch"] if operations is None else operations)


def run(chosen: Patch, background=BACKGROUND, settings=None):
    content = task.make_task(chosen, json_digest(background), settings or FitSettings())
    return task.unpack(task.run(content, task.pack(background)))


def test_packing_is_undone_by_unpacking():
    value = {"b": [1, 2.5, None, "\u03c4"], "a": {"nested": True}}
    assert task.unpack(task.pack(value)) == value
    assert len(task.pack([BACKGROUND] * 50)) < len(json.dumps([BACKGROUND] * 50)) / 10


def test_a_task_gives_what_the_engine_gives():
    result = run(patch(), settings=FitSettings(test_statistic="q0"))
    expected = reference.hypotest(models.full("normsys"), FitSettings(test_statistic="q0"))
    assert result["status"] == "ok"
    assert result["CLs_obs"] == expected.p_values.CLs_obs
    assert result["CLs_exp"] == list(expected.p_values.CLs_exp)
    assert result["worker"]["pid"] == os.getpid()
    assert result["worker"]["began"] <= result["worker"]["ended"]


def test_a_patch_that_does_not_apply_is_data():
    result = run(patch(operations=[{"op": "remove", "path": "/channels/9"}]))
    assert result["status"] == "failed"
    assert result["error"]["kind"] == "PalletError"
    assert "does not apply" in result["error"]["problem"]
    assert result["error"]["remedy"]
    assert "worker" in result


def test_a_failed_fit_is_data(monkeypatch):
    def failing(*_):
        raise FitError("no minimum", remedy="look at it")

    monkeypatch.setattr(reference, "hypotest", failing)
    assert run(patch())["error"] == {
        "kind": "FitError",
        "problem": "no minimum",
        "remedy": "look at it",
        "details": "",
    }


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, RecursionError, KeyError])
def test_a_surprise_is_data_with_its_traceback(monkeypatch, error):
    def surprising(*_):
        raise error("what?")

    monkeypatch.setattr(reference, "hypotest", surprising)
    result = run(patch())
    assert result["status"] == "failed"
    assert result["error"]["kind"] == error.__name__
    assert "surprising" in result["error"]["details"]


def test_numbers_that_json_does_not_know_become_null(monkeypatch):
    class Result:
        def as_json(self):
            return {"status": "ok", "edm": float("inf")}

    monkeypatch.setattr(reference, "hypotest", lambda *_: Result())
    assert run(patch())["edm"] is None


def test_a_worker_parses_a_workspace_once_and_keeps_few(monkeypatch):
    monkeypatch.setattr(task, "_workspaces", type(task._workspaces)())
    backgrounds = [models.background("normsys", observed=(50.0 + i, 40.0)) for i in range(6)]
    for background in backgrounds:
        run(patch(), background)
    kept = list(task._workspaces)
    assert kept == [json_digest(background) for background in backgrounds[-4:]]
    content = task.make_task(patch(), kept[0], FitSettings())
    # A workspace that is known is not looked at again.
    assert task.unpack(task.run(content, b"not a workspace"))["status"] == "ok"
    assert list(task._workspaces)[-1] == kept[0]


def test_fits_leave_the_kept_workspace_as_it_is(monkeypatch):
    monkeypatch.setattr(task, "_workspaces", type(task._workspaces)())
    first, second = run(patch()), run(patch())
    assert first["CLs_obs"] == second["CLs_obs"]
    assert json_digest(next(iter(task._workspaces.values()))) == json_digest(BACKGROUND)
