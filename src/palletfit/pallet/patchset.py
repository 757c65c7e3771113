"""Workspace and patchset of a pallet: read them, check them once, and summarise them."""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palletfit.errors import PalletError
from palletfit.pallet.extensions import without_extensions
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.limits import ModelSize, PatchLimitError, check_depth, quoted
from palletfit.pallet.patches import Patch, apply, inconsistency, not_finite
from palletfit.pallet.schema import violation

# pyhf is imported where it is used: with scipy.stats it is half of the start of a run and of each
# of its workers, which only read a patchset that was checked before.

logger = logging.getLogger(__name__)

#: Whole numbers up to this have one decimal notation.
_EXACT = 2**53
#: The names that pyhf's schema allows; others are accepted here, see :func:`validate`.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]+")

#: Work of the model that pyhf builds only to count its parameters: two seconds at most.
_MODEL_WORK = 750_000
#: Work of all such models, where the first ones cannot be fitted; and of one that fails.
_COUNTING_WORK, _FAILED_WORK = 10 * _MODEL_WORK, _MODEL_WORK // 15


@dataclass(frozen=True)
class Patchset:
    """Signal patches of one likelihood.

    Attributes
    ----------
    labels
        Names of the values that each patch has.
    patches
        In the order of the file.
    remarks
        What its checks noticed that is no error.
    """

    labels: tuple[str, ...]
    patches: tuple[Patch, ...]
    remarks: tuple[str, ...] = ()

    def select(self, patterns: Sequence[str]) -> tuple[Patch, ...]:
        """Select patches by shell patterns of their names; an exact name matches, too."""
        return tuple(
            patch
            for patch in self.patches
            if any(
                patch.name == pattern or fnmatch.fnmatchcase(patch.name, pattern)
                for pattern in patterns
            )
        )


def parse_patchset(spec: Any, path: Path) -> Patchset:
    """Convert the content of a patchset file to a :class:`Patchset`.

    Raises
    ------
    PalletError
        The content is not a patchset, or a name is not a text.
    """
    try:
        patches = tuple(
            Patch(
                name=patch_name(entry, path),
                values=tuple(entry["metadata"]["values"]),
                operations=entry["patch"],
            )
            for entry in spec["patches"]
        )
        return Patchset(labels=tuple(spec["metadata"]["labels"]), patches=patches)
    except (KeyError, TypeError) as error:
        raise PalletError(
            f"The file is not a patchset: {quoted(repr(error))}.",
            remedy="Check which file of the archive the analysis names as its patchset.",
            file=path,
        ) from None


def patch_name(entry: Mapping[str, Any], path: Path | None = None) -> str:
    """Get the name of an entry of a patchset.

    Raises
    ------
    PalletError
        The name is not a text.
    KeyError, TypeError
        The entry is not one of a patchset.
    """
    name = entry["metadata"]["name"]
    if not isinstance(name, str):
        raise PalletError(
            f"The name of a patch is not a text: {quoted(repr(name))}.",
            remedy="Write it as a text in quotation marks.",
            file=path,
        )
    return name


def validate(workspace_path: Path, patchset_path: Path, labels: Sequence[str]) -> dict[str, Any]:
    """Check a workspace and its patchset.

    The checks cover both pyhf schemas, the patchset's digest of the workspace, duplicate patch
    names and values, the number of values, the labels of the analysis file, and numbers of the
    background that are not finite. Patch names beyond pyhf's schema (slashes, dots) are accepted. A
    single patch that cannot be applied or fitted is left to its own record.

    Returns
    -------
    dict
        Summary: channels with their bins, samples and observed events, modifiers by type,
        parameters, patches, labels, digests, remarks.

    Raises
    ------
    PalletError
        Names the file, the patch where it is one, and the remedy.
    """
    workspace, spec = read_pallet_json(workspace_path), read_pallet_json(patchset_path)
    patchset = check(workspace, spec, labels, workspace_path, patchset_path)
    return summarise(workspace, spec, patchset)


def check(
    workspace: Any,
    spec: Any,
    labels: Sequence[str] | None = None,
    workspace_path: Path = Path("workspace"),
    patchset_path: Path = Path("patchset"),
) -> Patchset:
    """Check the contents of a workspace and its patchset, see :func:`validate`.

    Parameters
    ----------
    workspace, spec
        Contents of the two files.
    labels
        Expected labels of the patchset; None accepts any.
    workspace_path, patchset_path
        Files that errors name.

    Raises
    ------
    PalletError
        Names the file, the patch where it is one, and the remedy.
    """
    check_workspace(workspace, workspace_path)
    check_depth(spec, patchset_path)
    patchset = parse_patchset(spec, patchset_path)
    if not patchset.patches:
        raise PalletError(
            "The patchset holds no patches.",
            remedy="Check that the archive is complete; there is nothing to fit.",
            file=patchset_path,
        )
    _validate_schema(_with_plain_names(spec), "patchset.json", patchset_path)
    _check_values(patchset, patchset.labels if labels is None else labels, patchset_path)
    remarks = _verify_digest(workspace, spec, workspace_path, patchset_path)
    for remark in remarks:
        logger.warning("%s: %s", patchset_path, remark)
    return replace(patchset, remarks=remarks)


def check_workspace(workspace: Any, path: Path) -> None:
    """Check depth, schema and consistency of a background-only workspace.

    Raises
    ------
    PalletError
        Names the file and the remedy.
    """
    check_depth(workspace, path)
    _validate_schema(workspace, "workspace.json", path)
    problem = inconsistency(workspace)
    if problem is not None:
        raise PalletError(
            f"The workspace is inconsistent: {problem}.",
            remedy="Correct the workspace; the archive may be incomplete.",
            file=path,
        )
    for pointer in not_finite(workspace, ""):
        raise PalletError(
            f"A number is not finite: {pointer}.",
            remedy="Correct the workspace; no fit of it has a meaning.",
            file=path,
        )


def _validate_schema(spec: Any, schema: str, path: Path) -> None:
    problem = violation(without_extensions(spec), schema)
    if problem is not None:
        raise PalletError(
            f"The file violates pyhf's schema {schema}: {quoted(str(problem))}.",
            remedy="Correct the file, or check which file of the archive the analysis names.",
            file=path,
        )


def _with_plain_names(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a patchset (not its patches) with names that the schema accepts."""
    patches = [
        {**entry, "metadata": {**entry["metadata"], "name": "plain"}} for entry in spec["patches"]
    ]
    return {**spec, "patches": patches}


def _check_values(patchset: Patchset, labels: Sequence[str], path: Path) -> None:
    if list(patchset.labels) != list(labels):
        raise PalletError(
            f"The patchset's labels are {list(patchset.labels)}, "
            f"but the analysis file says {list(labels)}.",
            remedy="Correct `labels` (and the planes that use them) in the analysis file.",
            file=path,
        )
    names: set[str] = set()
    values: dict[tuple[float | str, ...], str] = {}
    for patch in patchset.patches:
        if patch.name in names:
            raise PalletError(
                "Two patches have the same name.",
                remedy="Rename or remove one of them.",
                file=path,
                patch=patch.name,
            )
        if any(map(_half_a_character, (patch.name, *patch.values))):
            raise PalletError(
                "The name or a value of the patch holds half of a surrogate pair, which no file "
                "can hold as text.",
                remedy="Rename it.",
                file=path,
                patch=patch.name.encode("ascii", "backslashreplace").decode(),
            )
        if len(patch.values) != len(patchset.labels):
            raise PalletError(
                f"The patch has {len(patch.values)} values for {len(patchset.labels)} labels "
                f"({', '.join(patchset.labels)}).",
                remedy="Give the patch one value for each label.",
                file=path,
                patch=patch.name,
            )
        if any(not_finite(list(patch.values), "")):
            raise PalletError(
                f"A value of the patch is not finite: {list(patch.values)}.",
                remedy="Correct the values.",
                file=path,
                patch=patch.name,
            )
        if patch.values in values:
            raise PalletError(
                f"The patch has the same values {list(patch.values)} as {values[patch.values]!r}.",
                remedy="Correct the values or remove one of the two.",
                file=path,
                patch=patch.name,
            )
        names.add(patch.name)
        values[patch.values] = patch.name


def _half_a_character(value: float | str) -> bool:
    """Return whether JSON escaped one half of a surrogate pair, which is no text."""
    return isinstance(value, str) and any("\ud800" <= character < "\ue000" for character in value)


def _verify_digest(
    workspace: Any, spec: Mapping[str, Any], workspace_path: Path, patchset_path: Path
) -> tuple[str, ...]:
    """Compare a workspace with the digests that its patchset holds.

    A digest is that of a text, where 50 and 50.0 differ. A workspace that went through a program
    which writes numbers another way is the same likelihood.

    Returns
    -------
    tuple
        A remark, if only the way in which numbers are written differs.

    Raises
    ------
    PalletError
        The content differs, as far as a digest can tell.
    """
    import pyhf

    remarks: dict[str, None] = {}
    for algorithm, expected in spec["metadata"]["digests"].items():
        actual = pyhf.utils.digest(workspace, algorithm=algorithm)
        if actual == expected.lower():
            continue
        if any(
            hashlib.new(algorithm, text.encode()).hexdigest() == expected.lower()
            for text in _other_ways(workspace)
        ):
            remarks[
                f"{workspace_path.name} writes numbers in another way (50 for 50.0) than the "
                "workspace that the patchset was made for; their content is equal"
            ] = None
            continue
        raise PalletError(
            f"The patchset was made for another workspace: its {algorithm} is {expected}, "
            f"but that of {workspace_path.name} is {actual}. It is not only the way in which whole "
            "numbers are written, unless that is a mixed one.",
            remedy="Take both files from the same version of the same archive.",
            file=patchset_path,
        )
    return tuple(remarks)


def _other_ways(workspace: Mapping[str, Any]) -> Iterator[str]:
    """Yield a workspace as pyhf writes it for a digest, with other ways to write whole numbers.

    Each is tried in the three parts that hold numbers, which may come from different programs.
    """
    texts: list[list[str]] = []
    for key in sorted(workspace):
        ways: Sequence[Callable[[Any], Any]] = (_same,)
        if key in ("channels", "observations", "measurements"):
            ways = (_same, _as_decimals, _as_integers)
        values = (
            json.dumps(way(workspace[key]), sort_keys=True, ensure_ascii=False) for way in ways
        )
        name = json.dumps(key, ensure_ascii=False)
        texts.append([f"{name}: {value}" for value in dict.fromkeys(values)])
    for choice in itertools.product(*texts):
        yield "{" + ", ".join(choice) + "}"


def _same(value: Any) -> Any:
    return value


def _as_decimals(value: Any) -> Any:
    """Write all numbers of a JSON value with a decimal point."""
    if isinstance(value, dict):
        return {key: _as_decimals(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_as_decimals(member) for member in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT:
        return float(value)
    return value


def _as_integers(value: Any) -> Any:
    """Write whole numbers of a JSON value without a decimal point, as JavaScript does."""
    if isinstance(value, dict):
        return {key: _as_integers(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_as_integers(member) for member in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value


def summarise(
    workspace: Mapping[str, Any], spec: Mapping[str, Any], patchset: Patchset
) -> dict[str, Any]:
    """Describe a checked pallet, see :func:`validate`."""
    parameters, tried = _count_parameters(workspace, patchset)
    all_tried = tried == len(patchset.patches)
    subject = "no patch" if all_tried else f"none of the first {tried} patches"
    unusual = [patch.name for patch in patchset.patches if not _PLAIN_NAME.fullmatch(patch.name)]
    return {
        **summarise_workspace(workspace),
        "parameters": parameters,
        "patches": len(patchset.patches),
        "labels": {
            label: sorted({patch.values[index] for patch in patchset.patches}, key=_sortable)
            for index, label in enumerate(patchset.labels)
        },
        "description": spec["metadata"].get("description", ""),
        "digests": dict(spec["metadata"]["digests"]),
        "remarks": [
            *(
                f"{len(unusual)} patch names beyond pyhf's schema, such as {name!r}"
                for name in unusual[:1]
            ),
            *([f"{subject} gives a model that can be fitted"] if parameters is None else []),
            *patchset.remarks,
        ],
    }


def summarise_workspace(workspace: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a checked background-only workspace."""
    import pyhf

    background = pyhf.Workspace(without_extensions(workspace), validate=False)
    observations = {entry["name"]: entry["data"] for entry in workspace["observations"]}
    modifiers: Counter[str] = Counter()
    for _, kind in background.modifiers:
        modifiers[kind] += 1
    return {
        "channels": {
            channel["name"]: {
                "bins": len(observations.get(channel["name"], [])),
                "samples": len(channel["samples"]),
                "observed": sum(observations.get(channel["name"], [])),
            }
            for channel in workspace["channels"]
        },
        "bins": sum(len(data) for data in observations.values()),
        "samples": list(background.samples),
        "modifiers": dict(sorted(modifiers.items())),
        "measurements": [entry["name"] for entry in workspace["measurements"]],
        "poi": workspace["measurements"][0]["config"]["poi"],
    }


def _count_parameters(workspace: Mapping[str, Any], patchset: Patchset) -> tuple[int | None, int]:
    """Count the parameters of the first full model that can be built.

    pyhf builds the model and so decides whether it can. A model that is too large for this is
    counted without pyhf.

    Returns
    -------
    tuple
        The number, or None if no model can be built, or too many were tried; and the number of
        patches that were tried.
    """
    work = 0
    for tried, patch in enumerate(patchset.patches):
        if work > _COUNTING_WORK:
            return None, tried
        try:
            spec = apply(workspace, patch)
            size = ModelSize.of(spec)
            simple = size.work > _MODEL_WORK
            work += _MODEL_WORK if simple else size.work
            count = _count_in_workspace(spec) if simple else _count_in_model(spec)
        except PatchLimitError:
            work += _MODEL_WORK
            continue
        # pyhf raises many types of errors; the record of the patch tells them.
        except Exception:  # noqa: BLE001
            work += _FAILED_WORK
            continue
        if count is not None:
            return count, tried + 1
    return None, len(patchset.patches)


def _count_in_model(spec: Mapping[str, Any]) -> int | None:
    """Count the parameters with pyhf; None without the parameter of interest."""
    import pyhf

    patched = pyhf.Workspace(without_extensions(spec), validate=False)
    model = patched.model(validate=False)
    patched.data(model)
    if any(name == model.config.poi_name for name, _ in patched.modifiers):
        return int(model.config.npars)
    return None


def _count_in_workspace(spec: Mapping[str, Any]) -> int | None:
    """Count the parameters as pyhf does, in linear time; None without the parameter of interest.

    A modifier has one parameter, but a staterror has one for each bin of its channels, and a
    shapesys or shapefactor one for each bin of a channel.
    """
    sizes: dict[str, dict[str, int]] = {}
    for channel in spec["channels"]:
        for sample in channel["samples"]:
            bins = len(sample["data"])
            for modifier in sample["modifiers"]:
                kind, name = modifier["type"], modifier["name"]
                parts = sizes.setdefault(name, {})
                if kind == "staterror":
                    parts[channel["name"]] = bins
                else:
                    parts[""] = bins if kind in ("shapesys", "shapefactor") else 1
    if spec["measurements"][0]["config"]["poi"] not in sizes:
        return None
    return sum(sum(parts.values()) for parts in sizes.values())


def _sortable(value: float | str) -> tuple[int, float, str]:
    return (1, 0.0, value) if isinstance(value, str) else (0, float(value), "")
