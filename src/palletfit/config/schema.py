"""JSON schemas and pages of the documentation, generated from :mod:`palletfit.config`.

``python -m palletfit.config.schema`` (or ``make schema``) writes them; a test compares them with
the models.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from palletfit.config import Analysis, Settings
from palletfit.config.catalogue_page import page

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_INTRODUCTION = """\
# Configuration

All keys, with their types and defaults. This page is generated from `src/palletfit/config` by
`make schema`; editors that know JSON schema can use `config/schema.json` and
`config/analysis.schema.json`.

Runtime choices (where fits run) belong in a profile or on the command line, physics in
`config/config.yaml`: `snakemake --profile profiles/local --config analyses=1Lbb fit='{mu: 2}'`.
"""

_EXTENDING = """\
An analysis file may say `extends: OTHER` (a name, or a path relative to the file) and then holds
only what differs. `name` defaults to the file's name; a relative `pallet.path` starts at the file.
A file with `combine` takes over all but the pallet, its regions and its patches:
[combination.md](combination.md) explains combinations.
"""


def generated_files() -> dict[str, str]:
    """Generate the content of every file, by its path in the project."""
    return {
        "config/schema.json": _schema(Settings),
        "config/analysis.schema.json": _schema(Analysis),
        "docs/configuration.md": _reference(),
        "docs/catalogue.md": page(),
    }


def _schema(model: type[BaseModel]) -> str:
    schema = {"$schema": _DIALECT, **model.model_json_schema()}
    if model is Analysis:
        schema["properties"]["extends"] = {
            "description": "Another analysis (name or path): this file then holds what differs.",
            "type": "string",
        }
        # The name defaults to that of the file, and an extending file may omit any key.
        schema.pop("required", None)
    return json.dumps(schema, indent=2) + "\n"


def _reference() -> str:
    lines = [_INTRODUCTION, "## `config/config.yaml`\n", *_section(Settings, "")]
    lines += [
        "## `config/analyses/NAME.yaml`\n",
        _EXTENDING,
        *_section(Analysis, ""),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _section(model: type[BaseModel], prefix: str) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    nested: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        for inner, below in _models(field.annotation, f"{prefix}{name}"):
            nested.append((below, inner))
        meaning = " ".join((field.description or "").split())
        yield f"| `{prefix}{name}` | {_type(field.annotation)} | {_default(field)} | {meaning} |"
    yield ""
    for path, inner in nested:
        yield f"### `{path}`\n"
        yield " ".join((inner.__doc__ or "").split()) + "\n"
        yield from _section(inner, f"{path}.")


def _models(annotation: Any, path: str) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, path
        return
    mapping = get_origin(annotation) is dict
    for argument in get_args(annotation):
        yield from _models(argument, f"{path}.NAME" if mapping else path)


_PLAIN = {
    str: "text",
    Path: "path",
    UUID: "identifier",
    int: "integer",
    float: "number",
    bool: "true or false",
    Any: "anything",
}


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if issubclass(annotation, BaseModel):
        return "mapping"
    return _PLAIN[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value, default=str)}`" if value is not None else "none"


def main(root: Path) -> None:
    """Write all generated files below the project's folder."""
    for name, text in generated_files().items():
        (root / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
