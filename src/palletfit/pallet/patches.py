"""One signal patch: what it holds, how it is applied, and the file name it may have."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import jsonpatch
import jsonpointer

from palletfit.errors import PalletError

#: File systems allow 255 bytes; the rest is for endings and temporary names.
_LONGEST_STEM = 160
#: Where a sample of a channel stands, or will stand.
_SAMPLE_PLACE = re.compile(
    r"/channels/(?P<channel>0|[1-9][0-9]{0,8})/samples/(?P<sample>-|0|[1-9][0-9]{0,8})"
)


@dataclass(frozen=True)
class Patch:
    """One signal hypothesis of a patchset.

    Attributes
    ----------
    name
        Name in the patchset; any string.
    values
        One value for each of the patchset's labels.
    operations
        JSON Patch (RFC 6902) that turns the background-only workspace into the full one.
    options
        What a product wants to know beside, such as which part of the patch's toys is meant.
    """

    name: str
    values: tuple[float | str, ...]
    operations: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Sha256 of the operations, independent of formatting."""
        return json_digest(self.operations)


def canonical_json(value: Any) -> bytes:
    """Compact JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def json_digest(value: Any) -> str:
    """Sha256 of a JSON value, independent of formatting."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_stem(name: str) -> str:
    """Turn any patch name into a safe and unique file name without ending.

    Letters, digits, ``_``, ``-``, ``.`` and ``~`` stay; everything else (slashes, spaces) is
    percent-encoded, as is a leading dot. Names that are too long for a file system are cut and get
    the start of their sha256; so does an empty name.

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


def apply(workspace: Mapping[str, Any], patch: Patch) -> dict[str, Any]:
    """Apply a patch to a background-only workspace, which stays as it is.

    Returns
    -------
    dict
        The full workspace (not validated against pyhf's schema).

    Raises
    ------
    PalletError
        The patch does not apply, leaves no valid workspace, or brings numbers that are not finite.
    """
    # A copy, because the values that are added become parts of the workspace, which later
    # operations of the same patch may change.
    operations = copy.deepcopy(patch.operations)
    with _patch_errors(patch):
        spec: dict[str, Any] = jsonpatch.apply_patch(workspace, operations)
    _check(spec, patch)
    for pointer in not_finite(spec, ""):
        raise _not_finite(pointer, patch)
    return spec


def apply_sharing(workspace: Mapping[str, Any], patch: Patch) -> dict[str, Any]:
    """Apply a patch like :func:`apply`, but share what stays as it is.

    The contents of samples that the patch does not touch are the workspace's own objects, those
    of samples that it adds are its operations': neither may be changed. That numbers are finite
    is left to who makes a model of them.

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
    # Samples that only this document has, by their id; they stay alive, so that it stays theirs.
    owned: dict[int, _Sample] = {}
    with _patch_errors(patch):
        for operation in patch.operations:
            if not isinstance(operation, Mapping):
                raise jsonpatch.InvalidJsonPatch("an operation is not an object")
            item = dict(operation)
            if _add_sample(spec, item):
                continue
            for key in ("path", "from"):
                if key in item:
                    _own_sample(spec, jsonpointer.JsonPointer(item[key]).parts, owned)
            if "value" in item:
                item["value"] = _copy_above_samples(item["value"])
            spec = jsonpatch.JsonPatch([item]).apply(spec, in_place=True)
            if item.get("op") == "copy":
                owned.clear()  # a sample may now stand in two places
    _check(spec, patch)
    return spec


def _add_sample(spec: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Add a sample to a channel, as most operations of most patches do, if that is all.

    Whatever is not exactly that, and all that may be wrong, is left to jsonpatch, whose pointers
    cost more than everything else of such an operation.
    """
    path, value = item.get("path"), item.get("value")
    place = _SAMPLE_PLACE.fullmatch(path) if isinstance(path, str) else None
    if place is None or item.get("op") != "add" or not isinstance(value, dict):
        return False
    channels = spec.get("channels")
    if not isinstance(channels, list) or int(place["channel"]) >= len(channels):
        return False
    channel = channels[int(place["channel"])]
    samples = channel.get("samples") if isinstance(channel, dict) else None
    if not isinstance(samples, list):
        return False
    number = len(samples) if place["sample"] == "-" else int(place["sample"])
    if number > len(samples):
        return False
    samples.insert(number, _copy_above_samples(value))
    return True


class _Sample(dict[str, Any]):
    """A sample that is shared: jsonpatch, which copies what it adds, leaves it as it is."""

    def __deepcopy__(self, _: dict[int, Any]) -> _Sample:
        return self


def _copy_above_samples(value: Any) -> Any:
    """Copy a part of a workspace, but not the contents of its samples."""
    if isinstance(value, dict):
        if "data" in value and "modifiers" in value:
            return _Sample(value)
        return {key: _copy_above_samples(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy_above_samples(item) for item in value]
    return value


def _own_sample(spec: Any, parts: Sequence[str], owned: dict[int, _Sample]) -> None:
    """Copy the sample that a pointer leads into, so that it can be changed."""
    if len(parts) < 5 or parts[0] != "channels" or parts[2] != "samples":
        return
    try:
        samples = spec["channels"][int(parts[1])]["samples"]
        sample = samples[int(parts[3])]
    except (KeyError, IndexError, TypeError, ValueError):
        return  # applying the operation fails, with a better message
    if id(sample) not in owned:
        own = _Sample(copy.deepcopy(dict(sample)))
        samples[int(parts[3])] = owned[id(own)] = own


@contextmanager
def _patch_errors(patch: Patch) -> Iterator[None]:
    try:
        yield
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise PalletError(
            f"The patch does not apply to the workspace: {error}.",
            remedy="Check that workspace and patchset belong together (their digest).",
            patch=patch.name,
        ) from None
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise PalletError(
            f"The patch is not a valid JSON Patch: {error!r}.",
            remedy="Correct its operations (RFC 6902).",
            patch=patch.name,
        ) from None


def _not_finite(pointer: str, patch: Patch) -> PalletError:
    return PalletError(
        f"A number is not finite: {pointer}.",
        remedy="Correct the yields or uncertainties there; a fit of them has no meaning.",
        patch=patch.name,
    )


def _check(spec: Any, patch: Patch) -> None:
    if not isinstance(spec, dict) or not spec.get("channels"):
        raise PalletError(
            "The patch leaves a workspace without channels.",
            remedy="Correct its `remove` or `replace` operations.",
            patch=patch.name,
        )
    try:
        problem = inconsistency(spec)
    except (KeyError, TypeError) as error:
        problem = f"something in it has another shape than pyhf's schema says ({error!r})"
    if problem is not None:
        raise PalletError(
            f"The patch leaves an inconsistent workspace: {problem}.",
            remedy="Correct its operations.",
            patch=patch.name,
        )


def inconsistency(workspace: Mapping[str, Any]) -> str | None:
    """What pyhf overlooks when it makes a model, or None.

    Of two samples with one name in a channel pyhf 0.7 keeps the last only, without a word.
    """
    observed = {item["name"]: item["data"] for item in workspace["observations"]}
    channels: set[str] = set()
    for channel in workspace["channels"]:
        name = channel["name"]
        if name in channels:
            return f"two channels are called {name!r}"
        channels.add(name)
        if name not in observed:
            return f"channel {name!r} has no observation"
        samples: set[str] = set()
        for sample in channel["samples"]:
            if sample["name"] in samples:
                return f"two samples of channel {name!r} are called {sample['name']!r}"
            samples.add(sample["name"])
            if len(sample["data"]) != len(observed[name]):
                return (
                    f"sample {sample['name']!r} of channel {name!r} has {len(sample['data'])} "
                    f"bins, but {len(observed[name])} are observed"
                )
    return None


def not_finite(value: Any, pointer: str) -> Iterator[str]:
    """JSON pointers of all numbers in a JSON value that are infinite or not a number."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from not_finite(item, f"{pointer}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from not_finite(item, f"{pointer}/{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield pointer
