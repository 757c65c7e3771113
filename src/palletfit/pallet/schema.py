"""Check of workspaces and patchsets against pyhf's schemas, in linear time.

pyhf's own validation describes every violation before it raises the first one, and describes each
modifier that is not the first of seven types, too. A hostile file of some megabytes then takes
minutes and all memory. The checks here are made from the same schema files, stop at the first
violation and give the same verdict.
"""

from __future__ import annotations

import numbers
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

_VERSION = "1.0.0"
#: Versions that say something new in new keys only, which this one refuses.
_LATER_VERSION = re.compile(r"1\.[0-9]+\.[0-9]+")
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "null": type(None),
    "boolean": bool,
    "number": numbers.Number,  # with true and false, as pyhf has it
}

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 4, 200, 200, 200
_REPR.maxlist = _REPR.maxdict = 10


@dataclass
class Violation:
    """Place and description of what a schema does not allow.

    Attributes
    ----------
    message
        In the words of the library jsonschema.
    steps
        Keys and positions that lead to the value, the last one first.
    """

    message: str
    steps: list[str | int] = field(default_factory=list)

    def __str__(self) -> str:
        path = "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" for step in reversed(self.steps)
        )
        return f"{self.message}. Path: {path.lstrip('.') or 'the whole file'}"


Check = Callable[[Any], Violation | None]


def violation(content: Any, schema: str) -> Violation | None:
    """Find the first violation of one of pyhf's schemas, or return None.

    Parameters
    ----------
    content
        Content of a JSON file.
    schema
        ``workspace.json`` or ``patchset.json``.
    """
    return _check_of(schema)(content)


def in_known_version(content: Any) -> Any:
    """Return content of a later version 1.x as of 1.0.0, which pyhf knows; other content as it is.

    Parameters
    ----------
    content
        Content of a workspace or patchset, which is not changed.
    """
    version = content.get("version") if isinstance(content, dict) else None
    if version != _VERSION and isinstance(version, str) and _LATER_VERSION.fullmatch(version):
        return {**content, "version": _VERSION}
    return content


@cache
def _check_of(name: str) -> Check:
    return _compile({"$ref": f"{name}#"}, name)


def _compile(schema: Mapping[str, Any], file: str) -> Check:
    """Make the check of a part of a schema file."""
    if "$ref" in schema:
        return _compile(*_resolve(schema["$ref"], file))
    checks = [
        _KEYWORDS[keyword](value, schema, file)
        for keyword, value in schema.items()
        if keyword in _KEYWORDS
    ]

    def check(content: Any) -> Violation | None:
        for keyword_check in checks:
            if (problem := keyword_check(content)) is not None:
                return problem
        return None

    return check


def _resolve(reference: str, file: str) -> tuple[Mapping[str, Any], str]:
    """Read the part of a schema file that a reference leads to, and name that file."""
    import pyhf

    target, _, pointer = reference.partition("#")
    schema: Any = pyhf.schema.load_schema(f"{_VERSION}/{target or file}")
    for part in pointer.split("/")[1:]:
        schema = schema[part]
    return schema, target or file


def _type(value: str, _: Mapping[str, Any], __: str) -> Check:
    kinds = _TYPES[value]

    def check(content: Any) -> Violation | None:
        if isinstance(content, kinds):
            return None
        return Violation(f"{_REPR.repr(content)} is not of type {value!r}")

    return check


def _const(value: Any, _: Mapping[str, Any], __: str) -> Check:
    return lambda content: None if content == value else Violation(f"{value!r} was expected")


def _enum(value: Sequence[Any], _: Mapping[str, Any], __: str) -> Check:
    def check(content: Any) -> Violation | None:
        if content in value:
            return None
        return Violation(f"{_REPR.repr(content)} is not one of {value!r}")

    return check


def _pattern(value: str, _: Mapping[str, Any], __: str) -> Check:
    expression = re.compile(value)

    def check(content: Any) -> Violation | None:
        if not isinstance(content, str) or expression.search(content):
            return None
        return Violation(f"{_REPR.repr(content)} does not match {value!r}")

    return check


def _required(value: Sequence[str], _: Mapping[str, Any], __: str) -> Check:
    def check(content: Any) -> Violation | None:
        if isinstance(content, dict):
            for key in value:
                if key not in content:
                    return Violation(f"{key!r} is a required property")
        return None

    return check


def _properties(value: Mapping[str, Any], _: Mapping[str, Any], file: str) -> Check:
    checks = {key: _compile(schema, file) for key, schema in value.items()}

    def check(content: Any) -> Violation | None:
        if isinstance(content, dict):
            for key, member_check in checks.items():
                if key in content and (problem := member_check(content[key])) is not None:
                    problem.steps.append(key)
                    return problem
        return None

    return check


def _additional_properties(value: bool, schema: Mapping[str, Any], _: str) -> Check:
    allowed = schema.get("properties", {}).keys()

    def check(content: Any) -> Violation | None:
        if value or not isinstance(content, dict) or content.keys() <= allowed:
            return None
        unexpected = next(key for key in content if key not in allowed)
        return Violation(
            f"Additional properties are not allowed ({_REPR.repr(unexpected)} was unexpected)"
        )

    return check


def _members(value: Mapping[str, Any], _: Mapping[str, Any], file: str) -> Check:
    member_check = _compile(value, file)

    def check(content: Any) -> Violation | None:
        if isinstance(content, list):
            for position, member in enumerate(content):
                if (problem := member_check(member)) is not None:
                    problem.steps.append(position)
                    return problem
        return None

    return check


def _length(kind: type, least: bool) -> Callable[[int, Mapping[str, Any], str], Check]:
    def compile_length(value: int, _: Mapping[str, Any], __: str) -> Check:
        def check(content: Any) -> Violation | None:
            if not isinstance(content, kind):
                return None
            length = len(content)  # type: ignore[arg-type]
            if length >= value if least else length <= value:
                return None
            if least and value == 1:
                return Violation(f"{_REPR.repr(content)} should be non-empty")
            return Violation(f"{_REPR.repr(content)} is too {'short' if least else 'long'}")

        return check

    return compile_length


def _any_of(value: Sequence[Mapping[str, Any]], _: Mapping[str, Any], file: str) -> Check:
    checks = [_compile(schema, file) for schema in value]

    def check(content: Any) -> Violation | None:
        if any(option(content) is None for option in checks):
            return None
        return Violation(f"{_REPR.repr(content)} is not valid under any of the given schemas")

    return check


def _one_of(value: Sequence[Mapping[str, Any]], _: Mapping[str, Any], file: str) -> Check:
    checks = [_compile(schema, file) for schema in value]

    def check(content: Any) -> Violation | None:
        valid = sum(option(content) is None for option in checks)
        if valid == 1:
            return None
        text = "is valid under each of" if valid else "is not valid under any of the given schemas"
        return Violation(f"{_REPR.repr(content)} {text}")

    return check


def _all_of(value: Sequence[Mapping[str, Any]], _: Mapping[str, Any], file: str) -> Check:
    checks = [_compile(schema, file) for schema in value]

    def check(content: Any) -> Violation | None:
        return next((problem for option in checks if (problem := option(content))), None)

    return check


#: All keywords of JSON Schema that pyhf's schemas of workspaces and patchsets use.
_KEYWORDS: Mapping[str, Callable[[Any, Mapping[str, Any], str], Check]] = {
    "additionalProperties": _additional_properties,
    "allOf": _all_of,
    "anyOf": _any_of,
    "const": _const,
    "enum": _enum,
    "items": _members,
    "maxItems": _length(list, least=False),
    "minItems": _length(list, least=True),
    "minProperties": _length(dict, least=True),
    "oneOf": _one_of,
    "pattern": _pattern,
    "properties": _properties,
    "required": _required,
    "type": _type,
}
