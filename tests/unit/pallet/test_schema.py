"""The check of pyhf's schemas gives the verdict of pyhf, and stops at the first violation."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import pyhf
import pytest

from palletfit.pallet import schema
from palletfit.pallet.schema import violation

from .. import models

Spec = dict[str, Any]

#: What a value is replaced by.
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1.5, 10**400, float("nan"), "", "x", "lumi", "1.0.0", "add", "0" * 32),
    *([], {}, [1.0], ["x"], [[0.0, 1.0]], [[]], {"name": "x"}, {"lo": 1, "hi": 2}),
    *({"lo_data": [1], "hi_data": []}, {"op": "add", "path": "/x"}),
)


def good(which: str) -> Spec:
    workspace = models.background(*models.MODIFIERS)
    if which == "workspace.json":
        workspace["measurements"][0]["config"]["parameters"].append(
            {"name": "mu", "inits": [1.0], "bounds": [[0.0, 10.0]], "fixed": False}
        )
        return workspace
    spec = models.patchset(workspace, models.grid())
    spec["patches"][0]["patch"] += [
        {"op": "remove", "path": "/x"},
        {"op": "copy", "from": "/x", "path": "/y"},
        {"op": "test", "path": "/x", "value": None},
    ]
    return spec


def containers(content: Any) -> Iterator[Any]:
    if isinstance(content, (dict, list)):
        yield content
        for member in content.values() if isinstance(content, dict) else content:
            yield from containers(member)


def change(content: Spec, random_numbers: random.Random) -> None:
    """Replace, remove, copy or add one value."""
    container = random_numbers.choice([entry for entry in containers(content) if entry])
    keys = list(container) if isinstance(container, dict) else range(len(container))
    key = random_numbers.choice(keys)
    match random_numbers.randrange(4):
        case 0:
            del container[key]
        case 1:
            container[key] = copy.deepcopy(random_numbers.choice(VALUES))
        case 2:
            container[key] = copy.deepcopy(random_numbers.choice(list(containers(content))))
        case _ if isinstance(container, dict):
            container[random_numbers.choice(["x", "data", "value", "from"])] = None
        case _:
            container.append(copy.deepcopy(random_numbers.choice(VALUES)))


def verdict_of_pyhf(content: Any, which: str) -> str | None:
    try:
        pyhf.schema.validate(content, which)
    except pyhf.exceptions.InvalidSpecification as error:
        return str(error)
    return None


@pytest.mark.parametrize("which", ["workspace.json", "patchset.json"])
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.study) for seed in range(1, 5))]
)
def test_the_verdict_is_that_of_pyhf(which, seed):
    random_numbers = random.Random(f"{which} {seed}")  # noqa: S311
    verdicts = []
    for _ in range(60):
        content = good(which)
        for _ in range(random_numbers.choice([1, 1, 1, 2])):
            change(content, random_numbers)
        expected, problem = verdict_of_pyhf(content, which), violation(content, which)
        assert (problem is None) == (expected is None), (expected, str(problem), content)
        verdicts.append(problem is None)
    assert 5 < sum(verdicts) < 55


@pytest.mark.parametrize("which", ["workspace.json", "patchset.json"])
@pytest.mark.parametrize("content", VALUES, ids=repr)
def test_a_file_of_something_else(which, content):
    assert verdict_of_pyhf(content, which)
    assert violation(content, which)


@pytest.mark.parametrize("which", ["workspace.json", "patchset.json"])
def test_what_is_good(which):
    assert violation(good(which), which) is None
    assert violation(json.loads(json.dumps(good(which))), which) is None


def test_the_first_violation_has_the_words_of_pyhf():
    content = good("workspace.json")
    del content["channels"][1]["samples"][0]["name"]
    problem = str(violation(content, "workspace.json"))
    assert problem == "'name' is a required property. Path: channels[1].samples[0]"
    expected = verdict_of_pyhf(content, "workspace.json")
    assert " ".join(expected.split()).startswith(problem)


def test_no_keyword_of_the_schemas_is_ignored():
    used = set()
    for name in ("defs.json", "workspace.json", "patchset.json"):
        file = pyhf.schema.load_schema(f"1.0.0/{name}")
        used |= {key for entry in containers(file) if isinstance(entry, dict) for key in entry}
    known = used & jsonschema.Draft6Validator.VALIDATORS.keys()
    assert known - {"$ref"} == schema._KEYWORDS.keys()


@pytest.mark.parametrize(
    "modifier", [{}, [], {"name": "x", "type": "staterror", "data": [1.0] * 2}]
)
def test_time_and_message_are_short(modifier):
    content = good("workspace.json")
    content["channels"][0]["samples"][0]["modifiers"] = [modifier] * 30_000
    started = time.process_time()
    problem = violation(content, "workspace.json")
    assert time.process_time() - started < 1  # pyhf takes half a minute
    assert (problem is None) == bool(modifier)
    assert len(str(problem)) < 500
