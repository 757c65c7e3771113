"""Base of all data models of the configuration, and messages about wrong data."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palletfit.errors import ConfigError

#: Regular expression of analysis and region names, also for Snakemake's wildcards.
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"

Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Positive = Annotated[float, Field(gt=0)]

#: HEPData's validator limits the length.
Keyword = Annotated[str, Field(min_length=1, max_length=128)]

#: Text of a submit script, in which no line may become two.
SlurmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,@+-]*$")]

SlurmOption = Annotated[str, Field(pattern=r"^--?[A-Za-z][^\x00-\x1f]*$")]

ShellLine = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0a-\x1f]+$")]


class Model(BaseModel):
    """Frozen section of the configuration, which refuses unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def split_names(names: str | list[str]) -> list[str]:
    """Split names that are separated by commas."""
    return [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings at all depths; values of `over` take precedence."""
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        if isinstance(inherited, dict) and isinstance(value, dict):
            merged[key] = merge(inherited, value)
        else:
            merged[key] = value
    return merged


ModelT = TypeVar("ModelT", bound=Model)


def parse(model: type[ModelT], data: Mapping[str, Any], *, file: str | Path) -> ModelT:
    """Validate configuration data.

    Raises
    ------
    ConfigError
        The data is wrong. The error has one line with a remedy for each wrong key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = wrong_keys(model, error)
        raise ConfigError(
            "The configuration is wrong:\n" + "\n".join(f"    {line}" for line in problems),
            remedy="Correct the keys above; docs/configuration.md lists all of them.",
            file=file,
        ) from None


def wrong_keys(model: type[BaseModel], error: ValidationError) -> list[str]:
    """Describe in a line each key that is wrong, and offer close names of unknown ones."""
    return [_explain(model, detail) for detail in error.errors()]


def _explain(model: type[BaseModel], detail: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "(file)"
    if detail["type"] == "extra_forbidden":
        keys = _known_keys(model, detail["loc"][:-1])
        close = difflib.get_close_matches(str(detail["loc"][-1]), keys, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(keys)}"
        return f"{key}: unknown key; {hint}"
    if detail["type"] == "missing":
        return f"{key}: this key is missing"
    message = str(detail["msg"]).removeprefix("Value error, ")
    value = detail["input"]
    # A mapping as the value does not show the error in it.
    return f"{key}: {message}" + ("" if isinstance(value, dict) else f" (it is {value!r})")


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] | None = model
    skip = False
    for key in location:
        if skip:  # the key of a mapping such as regions.NAME
            skip = False
            continue
        if current is None or key not in current.model_fields:
            return []
        annotation = current.model_fields[str(key)].annotation
        skip = get_origin(annotation) is dict
        current = _inner_model(annotation)
    return sorted(current.model_fields) if current else []


def _inner_model(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in get_args(annotation):
        inner = _inner_model(argument)
        if inner is not None:
            return inner
    return None
