"""Requests: hostile lines are refused with a reason, and answers are one line of JSON."""

from __future__ import annotations

import json
import math
import time

import pytest

from palletfit.serve.protocol import RequestError, answer_line, read_request


@pytest.mark.parametrize(
    ("line", "identifier", "words"),
    [
        (b"nonsense", None, "not JSON"),
        (b"\xff\xfe\x00", None, "not JSON"),
        (b"[1, 2]", None, "no JSON object"),
        (b"{" * 50, None, "not JSON"),
        (b'{"id": 1, "patch": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "too deeply"),
        (b'{"id": 1, "signal": ' + b"[" * 900 + b"]" * 900 + b"}", 1, "too deeply"),
        (b'{"id": 1, "mu": ' + b"9" * 5000 + b"}", None, "not JSON"),
        (b'{"id": 1, "mu": 1' + b"0" * 400 + b"}", 1, "not finite: /mu"),
        (b'{"id": 1, "signal": {"SR": [NaN]}}', 1, "not finite: /signal/SR/0"),
        (b'{"id": "a", "signal": {"SR": [1e999]}}', "a", "not finite: /signal/SR/0"),
        (b'{"id": NaN}', None, "not finite: /id"),
        (b'{"id": 1, "mu": 1, "mu": 2}', None, "'mu' is there twice"),
        (b'{"id": 1, "sgnal": {}}', 1, "did you mean 'signal'?"),
        (b'{"id": 1, "ask": "CLs"}', 1, "'hypotest'"),
        (b'{"id": 1, "mu": -1}', 1, "mu: Input should be greater than or equal to 0"),
        (b'{"id": {"a": 1}}', None, "no text or number"),
        (b'{"id": true}', None, "no text or number"),
        (b'{"id": "' + b"a" * 2000 + b'"}', None, "too long"),
        (b'{"id": 1, "signal": {}, "patch": []}', 1, "a `signal` and a `patch`"),
        (b'{"id": 1, "ask": "limit", "mu": 1}', 1, "has no `mu`"),
        (b'{"id": 1, "ask": "limit", "test_statistic": "q0"}', 1, "no upper limit"),
    ],
)
def test_a_hostile_line_is_refused_with_a_reason_and_its_id(line, identifier, words) -> None:
    with pytest.raises(RequestError) as caught:
        read_request(line)
    assert words in caught.value.problem
    assert caught.value.remedy
    assert caught.value.id == identifier
    assert len(caught.value.problem) < 2000


@pytest.mark.parametrize("last", [b'"k99999": 0', b'"id": 1'])
def test_a_line_of_very_many_keys_takes_no_time(last) -> None:
    keys = b", ".join(b'"k%d": 0' % number for number in range(100_000))
    began = time.process_time()
    with pytest.raises(RequestError, match=r"twice|keys, more than there are"):
        read_request(b"{" + keys + b", " + last + b"}")
    assert time.process_time() - began < 5


def test_a_question_has_the_defaults_of_the_library() -> None:
    assert read_request(b"{}").question.mu == 1.0
    assert read_request(b'{"ask": "nll"}').question.mu is None
    assert read_request(b'{"ask": "nll", "mu": 0}').question.mu == 0.0
    limit = read_request(b'{"ask": "limit", "mu_max": 5, "test_statistic": "q"}').question
    assert (limit.mu, limit.mu_max, limit.fit_settings().test_statistic) == (None, 5.0, "q")


def test_an_answer_is_a_line_of_json_whatever_is_in_it() -> None:
    line = answer_line("a\nb\ud800", {"CLs_obs": math.nan, "remarks": ("x\ny",)})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"id": "a\nb\ud800", "CLs_obs": None, "remarks": ["x\ny"]}
