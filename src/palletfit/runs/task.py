"""The work of a worker: patches in, as many results out, both as compressed JSON.

Each result says what was fitted, see :mod:`palletfit.runs.answers`.

The function is called by name in the installed package, so that what is kept in this module (the
workspaces a worker has seen, lowered to arrays) lives as long as the worker does. Nothing but plain
data crosses the boundary, and a failed fit comes back as data, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palletfit.config import FitSettings
from palletfit.engine.records import finite
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch, json_digest
from palletfit.runs import answers, registry
from palletfit.runs.manifest import WITHOUT_POI
from palletfit.runs.packing import LARGEST, decompress, pack, unpack
from palletfit.runs.product import Product

if TYPE_CHECKING:
    from palletfit.engine.protocol import Engine

#: How many parsed workspaces, and engines for them, a worker keeps.
_KEPT_WORKSPACES = 4
_workspaces: OrderedDict[str, dict[str, Any]] = OrderedDict()
_engines: OrderedDict[tuple[str, str], Engine] = OrderedDict()


def make_task(
    patches: Sequence[Patch],
    workspace_digest: str,
    settings: FitSettings,
    product: Product,
) -> bytes:
    """Pack what a worker needs to know about some patches."""
    return pack(
        {
            "patches": [
                {
                    "name": patch.name,
                    "values": list(patch.values),
                    "operations": list(patch.operations),
                    **({"options": dict(patch.options)} if patch.options else {}),
                }
                for patch in patches
            ],
            "workspace": workspace_digest,
            "settings": settings.model_dump(mode="json"),
            **product.as_json(),
        }
    )


def run(task: bytes, workspace: bytes, *, began: float | None = None) -> bytes:
    """Fit some patches.

    Parameters
    ----------
    task
        From :func:`make_task`.
    workspace
        The packed background-only workspace; parsed only when this process has not seen it yet.
    began
        When the worker began with this, in seconds since 1970; none: now.

    Returns
    -------
    bytes
        Results from :func:`palletfit.runs.answers.seal`, in the order of the patches: ``status``
        and the keys of :meth:`palletfit.engine.records.HypotestResult.as_json` (or what another
        product gives), or ``status: failed`` and ``error``.
        In both cases with ``fitted``, see :class:`palletfit.runs.answers.Question`, and ``worker``:
        where and when it was fitted, whether the process had seen the workspace before, what JAX
        needed to compile, and the device. Nothing is raised for a patch that cannot be fitted.

    Raises
    ------
    ValueError
        The workspace is not the one of the task, or damaged.
    """
    began = time.time() if began is None else began
    content = unpack(task)
    patches = answers.patches_of(content)
    warm = knows(content["workspace"])
    compiled = _compilations.seconds
    if content["settings"]["backend"] == "jax":
        _compilations.listen()
    digest, spec = _workspace(content["workspace"], workspace)
    try:
        setup = _Setup.of(content, digest, spec)
    except Exception as error:  # noqa: BLE001
        results = {patch.name: _describe(error) for patch in patches}
        question = answers.Question.of_task(content)  # nothing was fitted
    else:
        results = _fit(patches, setup)
        settings = setup.engine.settings.model_dump(mode="json")
        question = answers.Question.of(digest, settings, setup.product.as_json())
    worker = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "began": began,
        "ended": time.time(),
        "warm": warm,
        "compile_seconds": _compilations.seconds - compiled,
        "device": device(content["settings"]["backend"]),
    }
    return answers.seal(
        [
            finite(
                {
                    **results.get(patch.name, _missing()),
                    "worker": worker,
                    "fitted": question.fitted(patch),
                }
            )
            for patch in patches
        ]
    )


@dataclass(frozen=True)
class _Setup:
    """Engine and product of a task."""

    engine: Engine
    product: Product
    lacks_poi: bool

    @classmethod
    def of(cls, content: Mapping[str, Any], digest: str, spec: dict[str, Any]) -> _Setup:
        # Imported here, as engines are.
        from palletfit.engine.measurements import has_no_poi

        settings = FitSettings.model_validate(content["settings"])
        question = answers.product_of(content)
        product = registry.find(question["name"])(question["settings"])
        lacks_poi = product.needs_poi and has_no_poi(spec, settings.measurement)
        return cls(_engine(digest, spec, settings), product, lacks_poi)


def _fit(patches: Sequence[Patch], setup: _Setup) -> dict[str, dict[str, Any]]:
    """Return results by name. A failure of one patch must not end the others."""
    if setup.lacks_poi:
        return {patch.name: _without_poi(setup.product) for patch in patches}
    results: dict[str, dict[str, Any]] = {}
    try:
        for patch, answer in setup.product.compute(setup.engine, patches):
            results[patch.name] = (
                _describe(answer) if isinstance(answer, PalletfitError) else dict(answer)
            )
    except Exception as error:  # noqa: BLE001
        missing = [patch for patch in patches if patch.name not in results]
        if len(patches) > 1:
            # Which one it was shows when each is fitted alone.
            for patch in missing:
                results |= _fit([patch], setup)
        elif missing:
            results[missing[0].name] = _describe(error)
    return results


def _describe(error: Exception) -> dict[str, Any]:
    if isinstance(error, PalletfitError):
        return failure(type(error).__name__, error.problem, error.remedy)
    return failure(
        type(error).__name__,
        f"The fit raised an unexpected error: {error}",
        "Report it with the traceback of this record; other patches are not affected.",
        details=traceback.format_exc(limit=20),
    )


def _missing() -> dict[str, Any]:
    return failure(
        "ProductError",
        "The product gave no result of this patch.",
        "Correct the product's `compute`: it yields each patch once.",
    )


def _without_poi(product: Product) -> dict[str, Any]:
    return failure(
        WITHOUT_POI,
        f"The model has no parameter of interest, which the product {product.name} needs.",
        "Choose one with `poi` of the region, or add a signal of one event with `signal_in`; "
        "diagnostics need none.",
    )


def failure(kind: str, problem: str, remedy: str, *, details: str = "") -> dict[str, Any]:
    """Describe a failed patch."""
    error = {"kind": kind, "problem": problem, "remedy": remedy, "details": details}
    return {"status": "failed", "error": error}


def knows(digest: str) -> bool:
    """Say whether this process has a workspace."""
    return digest in _workspaces


def device(backend: str) -> str:
    """Name the device that a backend computes on here."""
    if backend != "jax":
        return "cpu"
    import jax

    return str(jax.devices()[0].device_kind)


class _Compilations:
    """Adds up what JAX reports of its compilations."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._listening = False

    def listen(self) -> None:
        """Begin, before the first compilation."""
        if self._listening:
            return
        import jax.monitoring

        self._listening = True
        jax.monitoring.register_event_duration_secs_listener(self._note)

    def _note(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.seconds += duration_secs


_compilations = _Compilations()


def _workspace(digest: str, packed: bytes) -> tuple[str, dict[str, Any]]:
    """Return a workspace, and the digest of what was parsed.

    Raises
    ------
    ValueError
        It is damaged, or another one.
    """
    if digest not in _workspaces:
        content = decompress(packed, LARGEST)
        parsed = hashlib.sha256(content).hexdigest()
        if parsed != digest:
            raise ValueError("the workspace of this task has another digest than the task says")
        _workspaces[parsed] = json.loads(content)
        while len(_workspaces) > _KEPT_WORKSPACES:
            _workspaces.popitem(last=False)
    _workspaces.move_to_end(digest)
    return digest, _workspaces[digest]


def _engine(digest: str, workspace: dict[str, Any], settings: FitSettings) -> Engine:
    # Imported here, where threads are already pinned, and not when a client makes tasks.
    from palletfit.engine.choose import make_engine

    key = digest, json_digest(settings.model_dump(mode="json"))
    if key not in _engines:
        _engines[key] = make_engine(workspace, settings)
        while len(_engines) > _KEPT_WORKSPACES:
            _engines.popitem(last=False)
    _engines.move_to_end(key)
    return _engines[key]
