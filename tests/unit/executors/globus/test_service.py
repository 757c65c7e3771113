"""What the service's client makes of answers that no documentation shows."""

from __future__ import annotations

import pytest
from globus_compute_sdk.serialize import ComputeSerializer, JSONData, PureSourceTextInspect

from palletfit.executors.globus.service import Service, ServiceBusyError


class Web:
    """Gives the same answer to every request."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def get_task_batch(self, _):
        return self.answer

    def get_task_group(self, _):
        return self.answer


def service(answer) -> Service:
    """A service without a connection."""
    made = Service.__new__(Service)
    made.endpoint = "endpoint"
    made._tasks = Web(answer)
    made._reader = ComputeSerializer(allowed_deserializer_types=[JSONData, PureSourceTextInspect])
    return made


def outcome(report):
    return service({"results": {"task": report}}).outcomes(["task"])["task"]


@pytest.mark.parametrize(
    "report",
    [
        "text",
        [1],
        7,
        {"status": "success", "result": "no serialization"},
        {"status": "success", "result": 7},
        {"status": "failed", "exception": {"words": "none"}},
        {"status": "success", "result": ["a"]},
        {"status": "success", "result": "11\n{"},
        {"status": "success", "result": "00\ngASVAAAA"},
    ],
)
def test_a_result_that_cannot_be_read_concerns_its_task_alone(report):
    unreadable = outcome(report)
    assert unreadable.state == "unreadable"
    assert unreadable.error is None
    assert str(unreadable.value).isprintable()


def test_a_result_is_read():
    text = ComputeSerializer(strategy_data=JSONData()).serialize({"digest": "a"})
    assert outcome({"status": "success", "result": text}).value == {"digest": "a"}
    assert outcome({"status": "success", "result": None}).state == "dropped"


@pytest.mark.parametrize("answer", [None, [], 7, {}, {"results": None}, {"results": ["a"]}])
def test_an_answer_of_another_form_counts_as_one_that_did_not_arrive(answer):
    with pytest.raises(ServiceBusyError, match="cannot be read") as error:
        service(answer).outcomes(["task"])
    assert not error.value.refused


@pytest.mark.parametrize("answer", [None, {}, {"tasks": 7}, {"tasks": ["a"]}])
def test_a_group_of_another_form_counts_as_one_that_did_not_arrive(answer):
    with pytest.raises(ServiceBusyError, match="cannot be read"):
        service(answer).group("group")
