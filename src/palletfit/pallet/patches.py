"""Signal patches: their content, their application and their file names."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from urllib.parse import quote

import jsonpatch
import jsonpointer

from palletfit.errors import PalletError
from palletfit.pallet.limits import PatchWork, quoted

#: File systems allow 255 bytes; the rest is for endings and temporary names.
_LONGEST_STEM = 160
#: JSON pointer of a sample of a channel, present or added.
_SAMPLE_POINTER = re.compile(
    r"/channels/(?P<channel>0|[1-9][0-9]{0,8})/samples/(?P<sample>-|0|[1-9][0-9]{0,8})"
)


@dataclass(frozen=True)
class Patch:
    """Signal hypothesis of a patchset.

    Attributes
    ----------
    name
        Name in the patchset; any string.
    values
        One value for each of the patchset's labels.
    operations
        JSON Patch (RFC 6902) that turns the background-only workspace into the full one.
    options
        Further arguments of a product, such as the range of toys of a shard.
    """

    name: str
    values: tuple[float | str, ...]
    operations: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the operations, independent of formatting."""
        return json_digest(self.operations)


def canonical_json(value: Any) -> bytes:
    """Write a value as compact JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def json_digest(value: Any) -> str:
    """Compute the SHA-256 of a JSON value, independent of formatting."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_stem(name: str) -> str:
    """Turn any patch name into a safe and unique file name without ending.

    Letters, digits, ``_``, ``-``, ``.`` and ``~`` stay. Everything else (slashes, spaces) is
    percent-encoded, as is a leading dot. An empty name, and one that is too long for a file
    system, gets the start of its SHA-256.

    Examples
    --------
    >>> file_stem("C1N2_Wh_hbb_700_150")
    'C1N2_Wh_hbb_700_150'
    >>> file_stem("../etc/passwd")
    '%2E.%2Fetc%2Fpasswd'
    """
    stem = quote(name, safe="", errors="surrogatepass")
    if stem.startswith("."):
        stem = "%2E" + stem[1:]
    if not stem or len(stem) > _LONGEST_STEM:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
        stem = f"{stem[: _LONGEST_STEM - 17]}~{digest}"
    return stem


_Apply = Callable[[Mapping[str, Any], Patch], dict[str, Any]]


def _refusing_depth(function: _Apply) -> _Apply:
    """Translate Python's own error on deep values, which may come from any step.

    Samples that are added are shared, and their depth is not looked at.
    """

    @wraps(function)
    def refusing(workspace: Mapping[str, Any], patch: Patch) -> dict[str, Any]:
        try:
            return function(workspace, patch)
        except RecursionError:
            raise PalletError(
                "The patch or the workspace nests too deeply.",
                remedy="Correct its operations; a workspace needs fewer than 12 levels of lists "
                "and objects.",
                patch=patch.name,
            ) from None

    return refusing


@_refusing_depth
def apply(workspace: Mapping[str, Any], patch: Patch) -> dict[str, Any]:
    """Apply a patch to a copy of a background-only workspace.

    Returns
    -------
    dict
        The full workspace (not validated against pyhf's schema).

    Raises
    ------
    PalletError
        The patch does not apply, is beyond the limits of :mod:`palletfit.pallet.limits`, leaves no
        valid workspace, or adds numbers that are not finite.
    """
    work = PatchWork(patch.name)
    with _patch_errors(patch):
        # Added values become parts of the workspace, which later operations may change.
        operations = jsonpatch.JsonPatch(copy.deepcopy(patch.operations))
        spec: Any = copy.deepcopy(workspace)
        for operation in operations:
            work.charge_operation()
            work.charge(spec, operation)
            spec = jsonpatch.JsonPatch([operation]).apply(spec, in_place=True)
    _check(spec, patch)
    for pointer in not_finite(spec, ""):
        raise _not_finite(pointer, patch)
    full: dict[str, Any] = spec
    return full


@_refusing_depth
def apply_sharing(workspace: Mapping[str, Any], patch: Patch) -> dict[str, Any]:
    """Apply a patch like :func:`apply`, but share the content of samples.

    Samples that the patch does not change are objects of the workspace. Samples that it adds are
    objects of its operations. The caller must change neither. Numbers are not checked to be
    finite: the engine does so when it builds a model.

    Returns
    -------
    dict
        The full workspace.

    Raises
    ------
    PalletError
        As :func:`apply`.
    """
    spec: dict[str, Any] = _copy_above_samples(workspace)
    # Samples of this document alone, by their id. Holding them keeps the ids unique.
    owned: dict[int, _Sample] = {}
    work = PatchWork(patch.name)
    with _patch_errors(patch):
        for operation in patch.operations:
            if not isinstance(operation, Mapping):
                raise jsonpatch.InvalidJsonPatch("an operation is not an object")
            work.charge_operation()
            copied = dict(operation)
            if _add_sample(spec, copied):
                continue  # shared and not copied, so that its values cost nothing
            work.charge(spec, operation)
            for key in ("path", "from"):
                if key in copied:
                    _unshare_sample(spec, jsonpointer.JsonPointer(copied[key]).parts, owned, work)
            if "value" in copied:
                copied["value"] = _copy_above_samples(copied["value"])
            spec = jsonpatch.JsonPatch([copied]).apply(spec, in_place=True)
            if copied.get("op") == "copy":
                owned.clear()  # two paths may now share a sample
    _check(spec, patch, workspace)
    return spec


def _add_sample(spec: Mapping[str, Any], operation: Mapping[str, Any]) -> bool:
    """Add a sample to a channel without jsonpatch; return whether the operation did just that.

    Most operations of most patches do. The pointers of jsonpatch cost more than the rest of such
    an operation. All other operations, and wrong ones, are left to jsonpatch.
    """
    path, value = operation.get("path"), operation.get("value")
    position = _SAMPLE_POINTER.fullmatch(path) if isinstance(path, str) else None
    if position is None or operation.get("op") != "add" or not isinstance(value, dict):
        return False
    channels = spec.get("channels")
    if not isinstance(channels, list) or int(position["channel"]) >= len(channels):
        return False
    channel = channels[int(position["channel"])]
    samples = channel.get("samples") if isinstance(channel, dict) else None
    if not isinstance(samples, list):
        return False
    number = len(samples) if position["sample"] == "-" else int(position["sample"])
    if number > len(samples):
        return False
    samples.insert(number, _copy_above_samples(value))
    return True


class _Sample(dict[str, Any]):
    """Shared sample, which jsonpatch does not copy when it adds it."""

    def __deepcopy__(self, _: dict[int, Any]) -> _Sample:
        return self


def _copy_above_samples(value: Any) -> Any:
    """Copy a part of a workspace, but not the contents of its samples."""
    if isinstance(value, dict):
        if "data" in value and "modifiers" in value:
            return _Sample(value)
        return {key: _copy_above_samples(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_copy_above_samples(member) for member in value]
    return value


def _unshare_sample(
    spec: Any, pointer: Sequence[str], owned: dict[int, _Sample], work: PatchWork
) -> None:
    """Copy the sample that a pointer leads into, so that it can be changed."""
    if len(pointer) < 5 or pointer[0] != "channels" or pointer[2] != "samples":
        return
    try:
        samples = spec["channels"][int(pointer[1])]["samples"]
        sample = samples[int(pointer[3])]
    except (KeyError, IndexError, TypeError, ValueError):
        return  # applying the operation fails, with a better message
    if id(sample) not in owned:
        work.charge_value(sample)
        copied = _Sample(copy.deepcopy(dict(sample)))
        samples[int(pointer[3])] = owned[id(copied)] = copied


@contextmanager
def _patch_errors(patch: Patch) -> Iterator[None]:
    try:
        yield
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise PalletError(
            f"The patch does not apply to the workspace: {quoted(str(error))}.",
            remedy="Check that workspace and patchset belong together (their digest).",
            patch=patch.name,
        ) from None
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise PalletError(
            f"The patch is not a valid JSON Patch: {quoted(repr(error))}.",
            remedy="Correct its operations (RFC 6902).",
            patch=patch.name,
        ) from None


def _not_finite(pointer: str, patch: Patch) -> PalletError:
    return PalletError(
        f"A number is not finite: {pointer}.",
        remedy="Correct the yields or uncertainties there; a fit of them has no meaning.",
        patch=patch.name,
    )


def _check(spec: Any, patch: Patch, workspace: Mapping[str, Any] | None = None) -> None:
    if not isinstance(spec, dict) or not spec.get("channels"):
        raise PalletError(
            "The patch leaves a workspace without channels.",
            remedy="Correct its `remove` or `replace` operations.",
            patch=patch.name,
        )
    try:
        problem = inconsistency(spec, workspace)
    except (KeyError, TypeError) as error:
        problem = f"something in it has another shape than pyhf's schema says ({error!r})"
    if problem is not None:
        raise PalletError(
            f"The patch leaves an inconsistent workspace: {problem}.",
            remedy="Correct its operations.",
            patch=patch.name,
        )


def inconsistency(
    workspace: Mapping[str, Any], checked: Mapping[str, Any] | None = None
) -> str | None:
    """Describe an inconsistency that pyhf does not notice, or return None.

    Of two samples with one name in a channel, of two modifiers with one type and name in a sample,
    and of two observations of a channel pyhf 0.7 silently keeps only the last.

    Parameters
    ----------
    workspace
        What is looked at.
    checked
        A workspace whose modifiers were checked before: lists that both share are skipped.
    """
    observed: dict[str, Any] = {}
    for observation in workspace["observations"]:
        if observation["name"] in observed:
            return f"channel {observation['name']!r} has two observations"
        observed[observation["name"]] = observation["data"]
    skipped = _modifier_lists(checked)
    channels: set[str] = set()
    for channel in workspace["channels"]:
        name = channel["name"]
        if name in channels:
            return f"two channels are called {name!r}"
        channels.add(name)
        if name not in observed:
            return f"channel {name!r} has no observation"
        problem = _inconsistent_channel(channel, len(observed[name]), skipped)
        if problem is not None:
            return problem
    return None


def _inconsistent_channel(channel: Mapping[str, Any], bins: int, skipped: set[int]) -> str | None:
    """Describe an inconsistency of the samples of a channel, or return None."""
    name = channel["name"]
    samples: set[str] = set()
    for sample in channel["samples"]:
        if sample["name"] in samples:
            return f"two samples of channel {name!r} are called {sample['name']!r}"
        samples.add(sample["name"])
        if len(sample["data"]) != bins:
            return (
                f"sample {sample['name']!r} of channel {name!r} has {len(sample['data'])} "
                f"bins, but {bins} are observed"
            )
        if id(sample.get("modifiers")) in skipped:
            continue
        repeated = repeated_modifier(sample)
        if repeated is not None:
            kind, modifier = repeated
            return (
                f"sample {sample['name']!r} of channel {name!r} has two {kind} modifiers "
                f"called {modifier!r}"
            )
    return None


def repeated_modifier(sample: Mapping[str, Any]) -> tuple[str, str] | None:
    """Find a type and name that two modifiers of a sample have.

    Modifiers that are no modifiers at all are left to those who read them.
    """
    modifiers = sample.get("modifiers")
    seen: set[tuple[str, str]] = set()
    for modifier in modifiers if isinstance(modifiers, list) else ():
        if not isinstance(modifier, Mapping) or "type" not in modifier or "name" not in modifier:
            continue
        key = str(modifier["type"]), str(modifier["name"])
        if key in seen:
            return key
        seen.add(key)
    return None


def _modifier_lists(workspace: Mapping[str, Any] | None) -> set[int]:
    """Collect the identities of the lists of modifiers of a workspace."""
    if workspace is None:
        return set()
    return {
        id(sample.get("modifiers"))
        for channel in workspace["channels"]
        for sample in channel["samples"]
    }


def not_finite(value: Any, pointer: str) -> Iterator[str]:
    """Yield JSON pointers of all numbers that are infinite, not a number, or beyond a double."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from not_finite(member, f"{pointer}/{key}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from not_finite(member, f"{pointer}/{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield pointer
    elif isinstance(value, int) and abs(value) > sys.float_info.max:
        yield pointer  # JSON has integers of any size, which no fit can use
