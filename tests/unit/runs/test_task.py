"""What a worker runs: plain data in, plain data out, whatever happens."""

from __future__ import annotations

import json
import os

import pytest

from palletfit.config import DiagnosticsSettings, FitSettings, Region
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.measurements import Question, ask
from palletfit.engine.reference import hypotests as reference
from palletfit.errors import FitError
from palletfit.pallet.patches import Patch, json_digest
from palletfit.products.diagnostics import Diagnostics
from palletfit.products.hypotest import Hypotest
from palletfit.products.limits import Limits
from palletfit.products.limits import compute as limits
from palletfit.runs import answers, manifest, registry, task

from .. import models

BACKGROUND = models.background("normsys")


def patch(name="signal", operations=None) -> Patch:
    spec = models.patch(name, [100, 50])
    return Patch(name, (100, 50), spec["patch"] if operations is None else operations)


def run_all(patches, background=BACKGROUND, settings=None):
    content = task.make_task(
        patches, json_digest(background), settings or FitSettings(), Hypotest()
    )
    return answers.unseal(task.run(content, task.pack(background)), len(patches))


def run(chosen: Patch, background=BACKGROUND, settings=None):
    settings = settings or FitSettings(engine="reference")
    return run_all([chosen], background, settings)[0]


def test_packing_is_undone_by_unpacking():
    value = {"b": [1, 2.5, None, "\u03c4"], "a": {"nested": True}}
    assert task.unpack(task.pack(value)) == value
    assert len(task.pack([BACKGROUND] * 50)) < len(json.dumps([BACKGROUND] * 50)) / 10


def test_a_task_gives_what_the_engine_gives():
    settings = FitSettings(engine="reference", test_statistic="q0")
    result = run(patch(), settings=settings)
    expected = reference.hypotest(models.full("normsys"), settings)
    assert result["status"] == "ok"
    assert result["CLs_obs"] == expected.p_values.CLs_obs
    assert result["CLs_exp"] == list(expected.p_values.CLs_exp)
    assert result["worker"]["pid"] == os.getpid()
    assert result["worker"]["began"] <= result["worker"]["ended"]


def test_another_product_is_made_by_its_own_function(monkeypatch):
    def compute(engine, patches, settings):
        for item in patches:
            answer = {"status": "ok", "asked": dict(settings), "shard": item.options["shard"]}
            yield item, FitError("no", remedy="none") if item.name == "b" else answer
        assert engine.workspace == BACKGROUND

    monkeypatch.setattr(limits, "compute", compute)
    patches = [Patch(name, (1,), [], {"shard": name.upper()}) for name in ("a", "b")]
    asked = Limits({"tolerance": 0.1})
    content = task.make_task(patches, json_digest(BACKGROUND), FitSettings(), asked)
    first, second = answers.unseal(task.run(content, task.pack(BACKGROUND)), 2)
    assert (first["asked"], first["shard"]) == ({"tolerance": 0.1}, "A")
    assert first["worker"]["pid"] == os.getpid()
    assert second["error"]["kind"] == "FitError"


def test_an_unknown_product_is_no_module_to_import():
    with pytest.raises(KeyError):
        registry.find("os")


def test_patches_of_one_task_are_fitted_together_and_come_back_in_order():
    patches = [patch(f"signal {number}") for number in range(3)]
    results = run_all(patches)
    assert [result["engine"] for result in results] == ["batched"] * 3
    alone = run(patches[0])
    for result in results:
        assert result["status"] == "ok"
        assert result["CLs_obs"] == pytest.approx(alone["CLs_obs"], abs=1e-5)
        assert result["worker"]["pid"] == os.getpid()


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_a_bad_patch_costs_no_other_of_its_task(engine):
    bad = patch("bad", operations=[{"op": "remove", "path": "/channels/9"}])
    results = run_all([patch("a"), bad, patch("b")], settings=FitSettings(engine=engine))
    assert [result["status"] for result in results] == ["ok", "failed", "ok"]
    assert "does not apply" in results[1]["error"]["problem"]


def test_a_surprise_in_the_batched_engine_costs_the_patch_it_belongs_to(monkeypatch):
    plain = BatchedEngine.hypotests

    def surprising(self, patches):
        if any(item.name == "bad" for item in patches):
            raise RuntimeError("what?")
        yield from plain(self, patches)

    monkeypatch.setattr(BatchedEngine, "hypotests", surprising)
    results = run_all([patch("a"), patch("bad"), patch("b")])
    assert [result["status"] for result in results] == ["ok", "failed", "ok"]
    assert "surprising" in results[1]["error"]["details"]


def test_a_worker_lowers_a_workspace_once_and_keeps_few(monkeypatch):
    monkeypatch.setattr(task, "_engines", type(task._engines)())
    first = [run_all([patch()]), dict(task._engines)][1]
    run_all([patch("other")])
    assert dict(task._engines) == first
    for number in range(6):
        run_all([patch()], settings=FitSettings(mu=1.0 + number / 10))
    assert len(task._engines) == 4


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_a_patch_that_does_not_apply_is_data(engine):
    bad = patch(operations=[{"op": "remove", "path": "/channels/9"}])
    result = run(bad, settings=FitSettings(engine=engine))
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
    content = task.make_task([patch()], kept[0], FitSettings(engine="reference"), Hypotest())
    # A workspace that is known is not looked at again.
    assert answers.unseal(task.run(content, b"not a workspace"), 1)[0]["status"] == "ok"
    assert list(task._workspaces)[-1] == kept[0]


def test_fits_leave_the_kept_workspace_as_it_is(monkeypatch):
    monkeypatch.setattr(task, "_workspaces", type(task._workspaces)())
    first, second = run(patch()), run(patch())
    assert first["CLs_obs"] == second["CLs_obs"]
    assert json_digest(next(iter(task._workspaces.values()))) == json_digest(BACKGROUND)


def test_a_model_without_a_parameter_of_interest_has_diagnostics_only():
    """It is no failure of the run, and is not tried again."""
    background = ask(BACKGROUND, None, Question(poi=""), needs_poi=False).workspace
    whole = Patch("whole", ("whole",), ())
    (result,) = run_all([whole], background)
    assert result["status"] == "failed"
    assert result["error"]["kind"] == manifest.WITHOUT_POI
    assert "`signal_in`" in result["error"]["remedy"]
    product = Diagnostics({"diagnostics": DiagnosticsSettings().model_dump(mode="json")})
    content = task.make_task([whole], json_digest(background), FitSettings(), product)
    (checked,) = answers.check(content, task.run(content, task.pack(background)))
    assert (checked["status"], checked["poi"], checked["mu_hat"]) == ("ok", "", None)


def test_a_model_without_a_parameter_of_interest_is_no_failure_of_the_run(tmp_path):
    error = task.failure(manifest.WITHOUT_POI, "none", "one")["error"]
    record = {"status": "failed", "key": {"digest": "a"}, "error": error}
    path = tmp_path / "whole.json"
    path.write_text("{}")
    entries = {"patches": {"whole": manifest.entry(path, record)}}
    region = Region(workspace="w.json", complete=True)
    assert not manifest.failures(entries, region)
    assert entries["patches"]["whole"]["retry"] is False
    other = {**record, "error": {**error, "kind": "FitError"}}
    entries = {"patches": {"whole": manifest.entry(path, other)}}
    assert manifest.failures(entries, region) == {"whole": "none"}
