"""What a worker runs: one patch in, one result out, both as compressed JSON.

The function is called by name in the installed package, so that what is kept in this module (the
workspaces a worker has seen) lives as long as the worker does. Nothing but plain data crosses the
boundary, and a failed fit comes back as data, too.
"""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
import zlib
from collections import OrderedDict
from typing import Any

from palletfit.config import FitSettings
from palletfit.errors import PalletfitError
from palletfit.patches import Patch, apply, canonical_json
from palletfit.records import finite

#: How many parsed workspaces a worker keeps.
_KEPT_WORKSPACES = 4
_workspaces: OrderedDict[str, dict[str, Any]] = OrderedDict()


def pack(value: Any) -> bytes:
    """Compress a JSON value."""
    return zlib.compress(canonical_json(value), 6)


def unpack(data: bytes) -> Any:
    """Undo :func:`pack`."""
    return json.loads(zlib.decompress(data))


def make_task(patch: Patch, workspace_digest: str, settings: FitSettings) -> bytes:
    """Pack what a worker needs to know about one patch."""
    return pack(
        {
            "patch": {
                "name": patch.name,
                "values": list(patch.values),
                "operations": list(patch.operations),
            },
            "workspace": workspace_digest,
            "settings": settings.model_dump(mode="json"),
        }
    )


def run(task: bytes, workspace: bytes) -> bytes:
    """Fit one patch.

    Parameters
    ----------
    task
        From :func:`make_task`.
    workspace
        The packed background-only workspace; parsed only when this process has not seen it yet.

    Returns
    -------
    bytes
        Packed result: ``status`` and the keys of
        :meth:`palletfit.records.HypotestResult.as_json`, or ``status: failed`` and ``error``;
        with ``worker`` in both cases. Nothing is raised for a patch that cannot be fitted.
    """
    # Imported here, where threads are already pinned, and not when a client makes tasks.
    from palletfit import reference

    began = time.time()
    content = unpack(task)
    patch = Patch(
        name=content["patch"]["name"],
        values=tuple(content["patch"]["values"]),
        operations=content["patch"]["operations"],
    )
    try:
        settings = FitSettings.model_validate(content["settings"])
        spec = apply(_workspace(content["workspace"], workspace), patch)
        result = reference.hypotest(spec, settings).as_json()
    except PalletfitError as error:
        result = failure(type(error).__name__, error.problem, error.remedy)
    except Exception as error:  # noqa: BLE001  one patch's surprise must not end the others
        result = failure(
            type(error).__name__,
            f"The fit raised an unexpected error: {error}",
            "Report it with the traceback of this record; other patches are not affected.",
            details=traceback.format_exc(limit=20),
        )
    result["worker"] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "began": began,
        "ended": time.time(),
    }
    return pack(finite(result))


def failure(kind: str, problem: str, remedy: str, *, details: str = "") -> dict[str, Any]:
    """Describe a failed patch."""
    error = {"kind": kind, "problem": problem, "remedy": remedy, "details": details}
    return {"status": "failed", "error": error}


def _workspace(digest: str, packed: bytes) -> dict[str, Any]:
    known = _workspaces.get(digest)
    if known is None:
        known = unpack(packed)
        _workspaces[digest] = known
        while len(_workspaces) > _KEPT_WORKSPACES:
            _workspaces.popitem(last=False)
    _workspaces.move_to_end(digest)
    return known
