"""The answer of a worker to a task, and the proof that it is the answer to this task.

Every result says what was fitted: digests of patch, workspace, settings and product, and the
version of the engine. The worker computes them from what it had, and the client compares them with
what it asked for. So results that were swapped on their way become no records. A checksum shows
values that changed on the way. It protects against accidents, and not against a worker that lies.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from palletfit.engine.versions import VERSIONS
from palletfit.pallet.patches import Patch, canonical_json, json_digest
from palletfit.runs import registry
from palletfit.runs.faults import BadAnswer
from palletfit.runs.packing import compress, decompress, parse, unpack
from palletfit.runs.schema import Failure, Fitted, Result, Worker

#: Version of the form of answers: a worker that answers in another one is refused.
FORM = "answers-2"
#: The largest answer in bytes of JSON: for itself, and for each of its patches.
LARGEST, LARGEST_PATCH = 64 * 1024**2, 1024**2
#: A result nests less deeply than this, and its whole numbers have fewer bits.
_DEPTH, _BITS = 32, 64
#: What tasks are of that name no product.
_DEFAULT = {"name": "hypotest", "settings": {}}
#: Characters of a reason.
_LONGEST = 300

Parsed = TypeVar("Parsed", bound=BaseModel)


def fitted(
    patch: Patch, workspace: str, settings: Mapping[str, Any], product: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe the input of a fit.

    Parameters
    ----------
    patch
        The patch.
    workspace
        Digest of the background-only workspace.
    settings
        Fit settings as plain data.
    product
        What a task says of its product, see :meth:`palletfit.runs.product.Product.as_json`.
    """
    return {
        "name": patch.name,
        "patch": patch.digest,
        "options": json_digest(dict(patch.options)),
        "workspace": workspace,
        "settings": json_digest(settings),
        "product": json_digest(product),
        "engine": VERSIONS.get(str(settings.get("engine")), "unknown"),
    }


def patches_of(content: Mapping[str, Any]) -> list[Patch]:
    """Return the patches of an unpacked task."""
    return [
        Patch(spec["name"], tuple(spec["values"]), spec["operations"], spec.get("options", {}))
        for spec in content["patches"]
    ]


def product_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the name and the settings of an unpacked task's product."""
    product: Mapping[str, Any] = content.get("product", _DEFAULT)
    return product


def seal(results: Sequence[Mapping[str, Any]]) -> bytes:
    """Pack results with a checksum.

    Parameters
    ----------
    results
        Plain data, with ``fitted`` from :func:`fitted` and ``worker`` each.
    """
    body = canonical_json(results)
    return compress(_checksum(body) + b"\n" + body)


def unseal(data: bytes, patches: int) -> Any:
    """Undo :func:`seal`.

    Parameters
    ----------
    data
        An answer.
    patches
        Number of patches that were asked for, which limits its size.

    Raises
    ------
    BadAnswer
        The answer is damaged, too large, or not of this form.
    """
    try:
        content = decompress(data, LARGEST + patches * LARGEST_PATCH)
        checksum, _, body = content.partition(b"\n")
        if checksum != _checksum(body):
            other = " (palletfit there is of another version)" if content[:1] == b"[" else ""
            raise ValueError(f"its checksum is missing or wrong{other}")
        return parse(body)
    except ValueError as error:
        raise BadAnswer(shorten(str(error))) from None


def check(task: bytes, answer: bytes) -> list[dict[str, Any]]:
    """Return the results in an answer, in the order of the task's patches.

    Parameters
    ----------
    task
        The task that was sent.
    answer
        From :func:`seal`.

    Returns
    -------
    list
        Results without ``fitted``, which says what the task says.

    Raises
    ------
    BadAnswer
        The answer is damaged, is not to this task, or does not have the schema of results.
    """
    content = unpack(task)
    patches = patches_of(content)
    results = unseal(answer, len(patches))
    if not isinstance(results, list):
        raise BadAnswer("it is no list of results")
    if len(results) != len(patches):
        raise BadAnswer(f"it has {len(results)} results of {len(patches)}")
    by_name = {_input_of(result).name: result for result in results}
    model = registry.find(product_of(content)["name"]).result_model()
    product = {name: content[name] for name in ("product",) if name in content}
    checked = []
    for patch in patches:
        if patch.name not in by_name:
            raise BadAnswer(shorten(f"it has no result of {patch.name}"))
        result = by_name[patch.name]
        expected = fitted(patch, content["workspace"], content["settings"], product)
        _compare(result.pop("fitted"), expected)
        _check_result(result, patch, model)
        checked.append(result)
    return checked


def parse_as(model: type[Parsed], value: Any, label: str = "") -> Parsed:
    """Parse a part of an answer, which errors call by a label.

    Raises
    ------
    BadAnswer
        It does not have the model's schema.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "it"
        raise BadAnswer(shorten(f"{label}{key}: {first['msg']}")) from None


def shorten(text: str) -> str:
    """Bring a text of unknown origin into one line of printable characters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _LONGEST])
    return " ".join(line.split())[:_LONGEST]


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _input_of(result: Any) -> Fitted:
    """Return what a result says of its fit."""
    if not isinstance(result, dict):
        raise BadAnswer("one of its results is no object")
    if "fitted" not in result:
        raise BadAnswer("one of its results does not say what was fitted")
    return parse_as(Fitted, result["fitted"])


def _compare(reported: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    unlike = [name for name in expected if reported[name] != expected[name]]
    if unlike:
        name = expected["name"]
        raise BadAnswer(shorten(f"its result of {name} is of another {' and '.join(unlike)}"))


def _check_result(result: Mapping[str, Any], patch: Patch, model: type[Result]) -> None:
    label = f"its result of {patch.name}: "
    problem = _not_plain(result)
    if problem is not None:
        raise BadAnswer(shorten(label + problem))
    parse_as(Failure if result.get("status") == "failed" else model, result, label)
    parse_as(Worker, result.get("worker"), f"{label}worker.")
    if result.get("patch", patch.name) != patch.name:
        raise BadAnswer(shorten(f"its result of {patch.name} names another patch"))


def _not_plain(value: Any, depth: int = 0) -> str | None:
    """Describe what does not belong into a record: numbers and nesting without bound."""
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number is not finite"
    if isinstance(value, int):
        return None if value.bit_length() <= _BITS else "a whole number is too large"
    if not isinstance(value, (dict, list)):
        return None
    if depth == _DEPTH:
        return "it nests too deeply"
    members = value.values() if isinstance(value, dict) else value
    problems = (_not_plain(member, depth + 1) for member in members)
    return next((problem for problem in problems if problem is not None), None)
