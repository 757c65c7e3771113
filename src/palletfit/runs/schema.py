"""The schema of the results of patches, as workers send them.

Types are strict: a text is no number, and a number is no text. Numbers are finite.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from palletfit.config.base import Sha256

#: A number that has to be there.
Number = Annotated[float, Field(allow_inf_nan=False)]
#: A number, or null where there is none.
MaybeNumber = Number | None
#: The five expected values.
FiveNumbers = Annotated[list[Number], Field(min_length=5, max_length=5)]
FiveMaybeNumbers = Annotated[list[MaybeNumber], Field(min_length=5, max_length=5)]


class Plain(BaseModel):
    """Part of a result; further keys are allowed."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Result(Plain):
    """Result of a patch. Models of products add their own keys."""

    status: Literal["ok", "suspect"]
    error: None = None
    """A result with an error would be a failure."""


class Reason(Plain):
    """The reason of a failure."""

    kind: Annotated[str, Field(min_length=1)]
    problem: Annotated[str, Field(min_length=1)]
    remedy: str
    details: str


class Failure(Plain):
    """Failure of a patch."""

    status: Literal["failed"]
    error: Reason


class Worker(Plain):
    """The process that made a result."""

    host: str
    pid: int
    began: Number
    ended: Number
    warm: bool
    compile_seconds: Number
    device: str


class Fitted(BaseModel):
    """The input of a fit, as the worker had it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    """Name of the patch."""
    patch: Sha256
    """Digest of the patch's operations."""
    options: Sha256
    """Digest of the patch's options."""
    workspace: Sha256
    """Digest of the background-only workspace."""
    settings: Sha256
    """Digest of the fit settings."""
    product: Sha256
    """Digest of the product with its version and settings."""
    engine: str
    """Version of the engine."""
