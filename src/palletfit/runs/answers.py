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
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Question:
    """Input of the fits of a task, beside its patches.

    Attributes
    ----------
    workspace
        Digest of the background-only workspace.
    settings, product
        Digests of the fit settings, and of the product with its version and settings.
    engine
        Version of the engine.
    """

    workspace: str
    settings: str
    product: str
    engine: str

    @classmethod
    def of(
        cls, workspace: str, settings: Mapping[str, Any], product: Mapping[str, Any]
    ) -> Question:
        """Make it of plain data.

        Parameters
        ----------
        workspace
            Digest of the workspace.
        settings
            Fit settings.
        product
            From :meth:`palletfit.runs.product.Product.as_json`.
        """
        engine = VERSIONS.get(str(settings.get("engine")), "unknown")
        return cls(workspace, json_digest(settings), json_digest(product), engine)

    @classmethod
    def of_task(cls, content: Mapping[str, Any]) -> Question:
        """Make it of an unpacked task."""
        product = {name: content[name] for name in ("product",) if name in content}
        return cls.of(content["workspace"], content["settings"], product)

    def fitted(self, patch: Patch) -> dict[str, str]:
        """Describe the input of a patch's fit, see :class:`palletfit.runs.schema.Fitted`."""
        options = json_digest(dict(patch.options))
        return {"name": patch.name, "patch": patch.digest, "options": options, **asdict(self)}


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
        Plain data, with ``fitted`` from :meth:`Question.fitted` and ``worker`` each.
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
    """Return the results in an answer to a task, see :meth:`Checker.check`."""
    return Checker.of_task(task).check(patches_of(unpack(task)), answer)


@dataclass(frozen=True)
class Checker:
    """Checks the answers to tasks that differ in their patches only.

    Attributes
    ----------
    question
        What was asked for.
    model
        Schema of results.
    """

    question: Question
    model: type[Result]

    @classmethod
    def of_task(cls, task: bytes) -> Checker:
        """Make it for a task and others like it."""
        content = unpack(task)
        product = registry.find(product_of(content)["name"])
        return cls(Question.of_task(content), product.result_model())

    def check(self, patches: Sequence[Patch], answer: bytes) -> list[dict[str, Any]]:
        """Return the results in an answer, in the order of the patches.

        Parameters
        ----------
        patches
            Those that were asked for.
        answer
            From :func:`seal`.

        Returns
        -------
        list
            Results without ``fitted``, which says what the question says.

        Raises
        ------
        BadAnswer
            The answer is damaged, is not to this question, or does not have the schema of results.
        """
        results = unseal(answer, len(patches))
        if not isinstance(results, list):
            raise BadAnswer("it is no list of results")
        if len(results) != len(patches):
            raise BadAnswer(f"it has {len(results)} results of {len(patches)}")
        by_name = {_input_of(result).name: result for result in results}
        checked = []
        for patch in patches:
            if patch.name not in by_name:
                raise BadAnswer(shorten(f"it has no result of {patch.name}"))
            result = by_name[patch.name]
            _compare(result.pop("fitted"), self.question.fitted(patch))
            _check_result(result, patch, self.model)
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
