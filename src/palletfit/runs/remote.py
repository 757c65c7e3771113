"""Requests to remote workers and their answers: plain JSON both ways.

Services that call functions elsewhere call :func:`call` of the installed package. Nothing is
pickled, so that client and worker need not have the same Python; and nothing is fitted by a worker
whose engine is another version than the client's.

A workspace is sent once to where it is kept: a worker that has it, in its memory or in the user's
cache folder on its machine, needs its digest only, and one that lacks it says so.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.metadata
import logging
import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from palletfit.core.caches import user_cache
from palletfit.core.version import __version__
from palletfit.engine.versions import VERSIONS
from palletfit.runs import answers, registry, task
from palletfit.runs.faults import BadAnswer
from palletfit.runs.packing import LARGEST, decompress, unpack
from palletfit.runs.schema import Number

logger = logging.getLogger(__name__)

#: Packages that must have the same version on both sides, and those that should.
REQUIRED, COMPARED = ("palletfit", "pyhf"), ("python", "numpy", "scipy", "jax")


def result_versions() -> dict[str, str]:
    """Return the versions of engines and products, which keys of records hold, and of answers."""
    return {**VERSIONS, **registry.versions(), "answers": answers.FORM}


def content_digest(content: bytes) -> str:
    """Compute the sha256 of a packed value's content, however it was compressed."""
    return hashlib.sha256(decompress(content, LARGEST)).hexdigest()


def make_request(content: bytes, digest: str, workspace: bytes | None = None) -> dict[str, Any]:
    """Make the request for the fits of a task.

    Parameters
    ----------
    content
        From :func:`palletfit.runs.task.make_task`.
    digest
        Digest of the content, see :func:`content_digest`.
    workspace
        Packed workspace; None if the worker is expected to have it.
    """
    request = {"digest": digest, "engines": result_versions(), "content": _text(content)}
    return request if workspace is None else {**request, "workspace": _text(workspace)}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request for fits.

    Returns
    -------
    dict
        ``digest`` of the content that arrived and one of ``results`` (as
        :func:`palletfit.runs.task.run` returns them, in text), ``missing`` (digest of a workspace
        that this worker does not have), or ``other`` (the worker's versions, if its engines are
        others).
    """
    content = _bytes(request["content"])
    base: dict[str, Any] = {"digest": content_digest(content)}
    if request["engines"] != result_versions():
        return {**base, "other": versions(), "engines": result_versions()}
    needed = unpack(content)["workspace"]
    if "workspace" in request:
        workspace = _bytes(request["workspace"])
        if not _matches(workspace, needed):
            raise ValueError("the workspace of this request has another digest than it says")
        _cache(needed, workspace)
    elif task.knows(needed):
        workspace = b""
    else:
        cached = _cached(needed)
        if cached is None:
            return {**base, "missing": needed}
        workspace = cached
    results = task.run(content, workspace, began=request.get("began"))
    return {**base, "results": _text(results)}


def call(name: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Call the function of this module that a client names."""
    return {"answer": answer, "probe": probe}[name](request)


class Answer(BaseModel):
    """An answer of :func:`answer`, as it arrives: exactly one of its last three parts is there."""

    model_config = ConfigDict(strict=True)

    digest: str
    results: bytes | None = None
    missing: str | None = None
    other: dict[str, str] | None = None
    engines: dict[str, str] = {}

    @field_validator("results", mode="before")
    @classmethod
    def _bytes_of_text(cls, text: Any) -> bytes:
        return _bytes(text)

    @model_validator(mode="after")
    def _one_part(self) -> Answer:
        if [self.results, self.missing, self.other].count(None) != 2:
            raise ValueError("it has to have results, or the reason why there are none")
        return self


class Probe(BaseModel):
    """An answer of :func:`probe`, as it arrives."""

    model_config = ConfigDict(strict=True)

    host: str
    versions: dict[str, str]
    engines: dict[str, str]
    device: str
    CLs_obs: Number


def read_answer(value: Any, digest: str) -> Answer:
    """Read an answer to a request for fits.

    Parameters
    ----------
    value
        The answer, of which nothing is known.
    digest
        Digest of the content that was sent.

    Raises
    ------
    BadAnswer
        It has another schema, or is the answer to another request.
    """
    parsed = answers.parse_as(Answer, value)
    if parsed.digest != digest:
        raise BadAnswer("it is the answer to another task")
    return parsed


def read_probe(value: Any) -> Probe:
    """Read an answer to a probe.

    Raises
    ------
    BadAnswer
        It has another schema.
    """
    return answers.parse_as(Probe, value)


def probe(request: Mapping[str, Any]) -> dict[str, Any]:
    """Describe this worker, with a tiny fit that a client can compare.

    Parameters
    ----------
    request
        ``backend``, whose device is reported.
    """
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "versions": versions(),
        "engines": result_versions(),
        "device": task.device(request["backend"]),
        "CLs_obs": tiny_fit(),
    }


def tiny_fit() -> float:
    """Compute the observed CLs of one point of the built-in pallet."""
    from palletfit.config import FitSettings
    from palletfit.engine.choose import make_engine
    from palletfit.errors import PalletfitError
    from palletfit.pallet.demo.electroweak import demo_patchset, demo_workspace
    from palletfit.pallet.patchset import parse_patchset

    workspace = demo_workspace()
    patchset = parse_patchset(demo_patchset(workspace), Path("demo"))
    ((_, result),) = make_engine(workspace, FitSettings()).hypotests(patchset.patches[30:31])
    if isinstance(result, PalletfitError):
        raise result
    return result.p_values.CLs_obs


def versions() -> dict[str, str]:
    """List the versions of Python, palletfit and the installed packages that results depend on."""
    installed = {"python": platform.python_version(), "palletfit": __version__}
    for name in ("pyhf", "numpy", "scipy", "jax"):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: Any) -> bytes:
    try:
        if not isinstance(text, str):
            raise TypeError(f"it is of the type {type(text).__name__}")
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"this is no base64 text: {error}") from None


def _cache(digest: str, workspace: bytes) -> None:
    path = user_cache("workspaces") / f"{digest}.zz"
    if path.exists():
        return
    temporary = path.with_suffix(f".{socket.gethostname()}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(workspace)
        temporary.replace(path)
    except OSError as error:
        # A worker without room to keep it is sent it again.
        logger.warning("cannot keep the workspace in %s: %s", path.parent, error)


def _cached(digest: str) -> bytes | None:
    try:
        workspace = (user_cache("workspaces") / f"{digest}.zz").read_bytes()
    except OSError:
        return None
    return workspace if _matches(workspace, digest) else None


def _matches(workspace: bytes, digest: str) -> bool:
    try:
        return content_digest(workspace) == digest
    except ValueError:
        return False
