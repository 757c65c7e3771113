"""Answers are taken for what was asked, with the schema of records, or refused with a reason."""

from __future__ import annotations

import copy
import json
import tracemalloc
import zlib

import pytest

from palletfit.config import FitSettings
from palletfit.engine.versions import VERSIONS
from palletfit.pallet.patches import Patch, json_digest
from palletfit.products.hypotest import Hypotest
from palletfit.products.limits import Limits
from palletfit.runs import answers, registry, task
from palletfit.runs.faults import BadAnswer
from palletfit.runs.packing import compress, decompress, pack, unpack

from .. import models

BACKGROUND = models.background("normsys")
NAMES = ["signal_100_50", "signal_200_50", "signal_300_50"]


def patches() -> list[Patch]:
    return [
        Patch(spec["metadata"]["name"], tuple(spec["metadata"]["values"]), spec["patch"])
        for spec in models.grid()
    ]


def make(
    chosen=None, *, background=BACKGROUND, product=None, **settings
) -> tuple[bytes, list[dict]]:
    """A task, and what a worker answers."""
    digest = json_digest(background)
    content = task.make_task(
        chosen or patches(), digest, FitSettings(**settings), product or Hypotest()
    )
    results = answers.unseal(task.run(content, pack(background)), 3)
    return content, results


@pytest.fixture(scope="module")
def fitted():
    return make()


@pytest.fixture
def content(fitted) -> bytes:
    return fitted[0]


@pytest.fixture
def results(fitted) -> list[dict]:
    return copy.deepcopy(fitted[1])


def check(content, results):
    return answers.check(content, answers.seal(results))


def sealed(body: bytes) -> bytes:
    """An answer whose checksum holds, whatever it says."""
    return compress(answers._checksum(body) + b"\n" + body)


def test_results_are_those_of_the_patches_and_keep_no_word_of_the_proof(content, results):
    checked = check(content, results)
    assert [result["status"] for result in checked] == ["ok"] * 3
    for result, sent in zip(checked, results, strict=True):
        assert "fitted" not in result
        assert result == {name: sent[name] for name in sent if name != "fitted"}


def test_workers_say_what_they_fitted(results):
    for patch, result in zip(patches(), results, strict=True):
        assert result["fitted"] == {
            "name": patch.name,
            "patch": patch.digest,
            "options": json_digest({}),
            "workspace": json_digest(BACKGROUND),
            "settings": json_digest(FitSettings().model_dump(mode="json")),
            "product": json_digest({}),
            "engine": VERSIONS["batched"],
        }


def test_another_order_is_put_right(content, results):
    straight = check(content, copy.deepcopy(results))
    assert check(content, results[::-1]) == straight


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (
            "another patch",
            {"chosen": [Patch(name, (), patches()[2].operations[:1]) for name in NAMES]},
        ),
        ("another workspace", {"background": models.background("normsys", observed=(51.0, 40.0))}),
        ("another settings", {"mu": 2.0}),
    ],
)
def test_results_of_another_question_are_refused(results, words, question):
    content, _ = make(**question)
    with pytest.raises(BadAnswer, match=words):
        check(content, results)


def test_results_of_another_engine_version_are_refused(content, results, monkeypatch):
    monkeypatch.setitem(VERSIONS, "batched", "batched-next")
    with pytest.raises(BadAnswer, match="another engine"):
        check(content, results)


def test_results_of_another_shard_or_product_setting_are_refused(monkeypatch):
    monkeypatch.setattr(registry.find("limits"), "result_model", registry.Product.result_model)
    monkeypatch.setattr(
        registry.find("limits"),
        "compute",
        lambda *arguments: ((patch, {"status": "ok"}) for patch in arguments[-1]),
    )

    def shard(number, tolerance):
        one = [Patch("a", (), [], {"shard": number})]
        return make(one, product=Limits({"tolerance": tolerance}))

    content, results = shard(1, 0.1)
    assert check(content, copy.deepcopy(results))[0]["status"] == "ok"
    with pytest.raises(BadAnswer, match="another options"):
        check(content, shard(2, 0.1)[1])
    with pytest.raises(BadAnswer, match="another product"):
        check(content, shard(1, 0.2)[1])


def test_results_of_another_task_are_refused(results):
    content, _ = make(patches()[:2])
    with pytest.raises(BadAnswer, match="3 results of 2"):
        check(content, results)
    with pytest.raises(BadAnswer, match="no result of signal_100_50"):
        check(content, results[1:])


def set_(name, value):
    def change(results):
        results[1][name] = value
        return results

    return change


def drop(name):
    def change(results):
        del results[1][name]
        return results

    return change


FAILED = {"kind": "FitError", "problem": "no minimum", "remedy": "none", "details": ""}


def failed_with(error):
    def change(results):
        proof = {name: results[1][name] for name in ("worker", "fitted")}
        results[1] = {"status": "failed", "error": error, **proof}
        return results

    return change


def nested(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda results: results[:2], "2 results of 3"),
        (lambda results: [*results, results[0]], "4 results of 3"),
        (lambda results: [results[0], results[0], results[2]], "no result of signal_200_50"),
        (lambda _: [], "0 results of 3"),
        (lambda results: results[0], "no list"),
        (lambda _: None, "no list"),
        (lambda _: "text", "no list"),
        (lambda _: 7, "no list"),
        (lambda results: [results[0], None, results[2]], "no object"),
        (lambda results: [results[0], "ok", results[2]], "no object"),
        (drop("fitted"), "does not say what was fitted"),
        (set_("fitted", None), "valid dictionary"),
        (set_("fitted", {"name": "signal_200_50"}), "required"),
        (drop("status"), "status: Field required"),
        (set_("status", "great"), "signal_200_50: status"),
        (set_("status", None), "status"),
        (set_("status", "failed"), "error"),
        (set_("CLs_obs", "<script>"), "CLs_obs: Input should be a valid number"),
        (set_("CLs_obs", None), "CLs_obs"),
        (set_("CLs_obs", True), "CLs_obs"),
        (set_("CLs_exp", [0.1] * 4), "CLs_exp"),
        (set_("CLs_exp", [0.1] * 4 + ["0.1"]), "CLs_exp.4"),
        (drop("mu_hat"), "mu_hat"),
        (set_("fits", [1]), "fits"),
        (set_("remarks", "none"), "remarks"),
        (set_("error", FAILED), "error"),
        (drop("worker"), "worker"),
        (set_("patch", "another"), "names another patch"),
        (set_("more", 10**40), "too large"),
        (set_("more", nested(40)), "nests too deeply"),
        (failed_with(None), "error"),
        (failed_with("no minimum"), "error"),
        (failed_with({}), "error.kind"),
        (failed_with({**FAILED, "problem": 7}), "error.problem"),
        (failed_with({**FAILED, "problem": ""}), "error.problem"),
    ],
)
def test_answers_of_another_form_are_refused(content, results, change, words):
    with pytest.raises(BadAnswer, match=words):
        check(content, change(results))


def test_failures_pass_with_their_reason(content, results):
    assert check(content, failed_with(FAILED)(results))[1]["error"] == FAILED


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut"),
        (b"no compression", "compression is damaged"),
        (pack([])[:-3], "cut"),
        (pack([]) + b"more", "too long"),
        (zlib.compress(b"[]"), "checksum is missing or wrong"),
        (sealed(b"[NaN]"), "NaN is no number"),
        (sealed(b"[-Infinity]"), "no number"),
        (sealed(b"[1e999]"), "no list|0 results|1 results"),
        (sealed(b"[" * 200_000), "nests too deeply"),
        (sealed(b"\xff\xfe"), "no JSON"),
        (sealed(b"[1] [2]"), "no JSON"),
    ],
)
def test_damaged_answers_are_refused(content, data, words):
    with pytest.raises(BadAnswer, match=words):
        answers.check(content, data)


def test_a_number_that_overflows_is_refused(content, results):
    body = json.dumps(results).replace('"CLb_obs"', '"more": 1e999, "CLb_obs"', 1)
    with pytest.raises(BadAnswer, match="not finite"):
        answers.check(content, sealed(body.encode()))


def test_a_value_that_changed_on_the_way_is_refused(content, results):
    text = decompress(answers.seal(results), 10**9)
    changed = text.replace(b'"CLs_obs":0.', b'"CLs_obs":1.', 1)
    assert changed != text
    with pytest.raises(BadAnswer, match="checksum is missing or wrong"):
        answers.check(content, compress(changed))


def test_answers_of_an_older_worker_are_told(content, results):
    plain = [{name: result[name] for name in result if name != "fitted"} for result in results]
    with pytest.raises(BadAnswer, match="palletfit there is of another version"):
        answers.check(content, pack(plain))


def test_a_decompression_bomb_is_not_unpacked(content, monkeypatch):
    monkeypatch.setattr(answers, "LARGEST", 1_000_000)
    monkeypatch.setattr(answers, "LARGEST_PATCH", 1000)
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(BadAnswer, match="larger than 1003000 bytes"):
            answers.check(content, bomb)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_tasks_and_workspaces_are_unpacked_in_bounded_memory(monkeypatch):
    monkeypatch.setattr("palletfit.runs.packing.LARGEST", 1000)
    with pytest.raises(ValueError, match="larger than 1000"):
        unpack(pack("x" * 2000))


def test_reasons_are_one_line_of_printable_text(content, results):
    results[1]["status"] = "failed"
    results[1]["error"] = {"kind": "x"}
    results[1]["fitted"] = {"a\nb\x1b[31m" * 100: 1}
    with pytest.raises(BadAnswer) as error:
        check(content, results)
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 300


def test_a_worker_refuses_another_workspace(content):
    task._workspaces.clear()
    with pytest.raises(ValueError, match="another digest"):
        task.run(content, pack(models.background("normsys", observed=(51, 40))))


def test_a_product_that_forgets_a_patch_costs_no_other(monkeypatch):
    compute = Hypotest.compute
    monkeypatch.setattr(
        Hypotest, "compute", lambda self, engine, chosen: compute(self, engine, chosen[1:])
    )
    content, results = make()
    statuses = [result["status"] for result in check(content, results)]
    assert statuses == ["failed", "ok", "ok"]
