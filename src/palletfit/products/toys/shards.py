"""Which shards of pseudo-experiments ("toys") are made, and when there are enough of them.

A shard is a record like that of a patch: it goes through the same executors into the same store,
under a key that says which toys it holds. As shards merge exactly, how toys are split is no part of
a result. So whatever shards there are count, only gaps between them are filled, and a run with
another `toys_per_task` or with more toys makes nothing again.

With a wanted precision toys are made in rounds. After how many of them it is looked at the
uncertainty depends on nothing but the toys before: on neither the splitting nor interruptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from palletfit.config import ToySettings
from palletfit.engine.versions import VERSIONS
from palletfit.pallet.patches import Patch
from palletfit.products.toys.compute import BLOCK
from palletfit.products.toys.results import ToyResult, enough, merge, toys_needed
from palletfit.runs.scan import Scan
from palletfit.runs.store import Key, RecordStore

#: Number of the first toy, and how many there are from it on.
Span = tuple[int, int]
Record = Mapping[str, Any]

#: After so many toys the uncertainty is first compared with the wanted one.
FIRST_ROUND = 4 * BLOCK
#: A further round has at least and at most so many times the toys of all before.
_LEAST_GROWTH, _MOST_GROWTH = 1.25, 4.0


def shard(patch: Patch, first: int, count: int) -> Patch:
    """Some toys of a patch, in the form of a patch that asks for them.

    Examples
    --------
    >>> shard(Patch("C1N2_Wh_hbb_250_100", (250, 100), []), 2048, 1024).name
    'C1N2_Wh_hbb_250_100.toys_2048-3071'
    """
    name = f"{patch.name}.toys_{first}-{first + count - 1}"
    options = {"of": patch.name, "first": first, "count": count}
    return replace(patch, name=name, options=options)


def cover(toys: int, size: int, known: Iterable[Span]) -> list[Span]:
    """Shards that hold the first toys together, in order: known ones where they fit, and new ones.

    What is new is cut at multiples of `size`. The last known one may go on beyond the end. Once
    some of the new ones are known the answer is the same, so that jobs side by side agree.

    Parameters
    ----------
    toys
        How many toys are wanted.
    size
        Toys of a new shard.
    known
        Shards that are there; they may overlap.
    """
    longest: dict[int, int] = {}
    for first, count in known:
        longest[first] = max(count, longest.get(first, 0))
    starts = sorted(longest)
    spans: list[Span] = []
    position = 0
    while position < toys:
        count = longest.get(position, 0)
        if not count:
            following = min((first for first in starts if first > position), default=toys)
            count = min(following, toys, (position // size + 1) * size) - position
        spans.append((position, count))
        position += count
    return spans


def needed(known: Mapping[Span, Record], settings: ToySettings) -> tuple[list[Span], int, bool]:
    """Shards that are needed, as far as those that are there can tell.

    Parameters
    ----------
    known
        Shards of one patch, from :func:`palletfit.products.toys.compute.run_shard`.
    settings
        How many toys, or which precision.

    Returns
    -------
    tuple
        Shards in order, known ones and others; how many toys of them count; and whether these are
        all, and enough.

    Raises
    ------
    StoreError
        The known ones do not belong together.
    """
    adaptive = settings.precision is not None
    wanted = min(FIRST_ROUND, settings.toys) if adaptive else settings.toys
    while True:
        spans = cover(wanted, settings.toys_per_task, known)
        if any(span not in known for span in spans):
            return spans, wanted, False
        if wanted >= settings.toys or settings.precision is None:
            return spans, wanted, True
        result = merge([known[span] for span in spans], wanted)
        if enough(result, settings.precision):
            return spans, wanted, True
        wanted = following(result, settings.precision, settings.toys)


def following(result: ToyResult, precision: float, most: int) -> int:
    """After how many toys the uncertainty is looked at next, where it is not small enough yet.

    The number that would do if the uncertainty goes as one over its root, in whole blocks, within
    bounds.
    """
    low, high = (math.ceil(factor * result.toys) for factor in (_LEAST_GROWTH, _MOST_GROWTH))
    wanted = min(max(toys_needed(result, precision), low), high)
    return min(math.ceil(wanted / BLOCK) * BLOCK, most)


# --------------------------------------------------------------------------- records


def recorded(scan: Scan, store: RecordStore) -> dict[str, dict[Span, Record]]:
    """Finished shards of the patches of a scan, by patch, whose keys are those of the scan."""
    digest, engine = scan.workspace_digest, VERSIONS[scan.settings.engine]
    patches = {patch.name: patch for patch in scan.patches}
    found: dict[str, dict[Span, Record]] = {name: {} for name in patches}
    for path in sorted(store.folder.glob("*.json")) if patches else ():
        record = store.read(path)
        if record is None or record["status"] == "failed":
            continue
        options = record["key"].get("options", {})
        patch = patches.get(options.get("of", ""))
        if patch is None:
            continue
        span = options["first"], options["count"]
        made = shard(patch, *span)
        key = Key.of(digest, made, scan.settings, engine, scan.product)
        if record["key"]["digest"] == key.digest and store.path(made.name) == path:
            found[patch.name][span] = {**record, "patch": patch.name}
    return found


def make(
    scan: Scan,
    fit: Callable[[Scan], dict[str, Any]],
    store: RecordStore,
    settings: ToySettings,
    part: tuple[int, int] = (1, 1),
) -> dict[str, Any]:
    """Make the toys of a region, shard by shard and in rounds.

    A patch of which a shard failed has no further round.

    Parameters
    ----------
    scan
        Of patches, not of shards.
    fit, store
        See :meth:`palletfit.runs.product.Product.make`.
    settings
        How many toys, in which shards.
    part
        Which part of the region, of how many. Parts share shards, or with a wanted precision
        patches: how many toys one of them needs is known only where all of its are.

    Returns
    -------
    dict
        The manifest, with an entry for every shard that is needed.
    """
    number_of_parts, by_shards = part[1], settings.precision is None
    if number_of_parts > 1 and not by_shards:
        scan = scan.part(*part)
    entries: dict[str, dict[str, Any]] = {}
    fitted = 0
    while True:
        shards, incomplete = _round(scan, store, settings)
        round_ = replace(scan, patches=shards)
        if number_of_parts > 1 and by_shards:
            round_ = round_.part(*part)
        manifest = fit(round_)
        fitted += manifest["fitted"]
        failed = _note(manifest["patches"], entries)
        if by_shards or not incomplete - failed:
            break
        left = tuple(patch for patch in scan.patches if patch.name not in failed)
        scan = replace(scan, patches=left)
    patches = {name: entry for shards in entries.values() for name, entry in shards.items()}
    return {**manifest, "title": scan.title, "fitted": fitted, "patches": patches}


def _round(
    scan: Scan, store: RecordStore, settings: ToySettings
) -> tuple[tuple[Patch, ...], set[str]]:
    """Shards that are needed next, those that are there included, and patches that lack some."""
    known = recorded(scan, store)
    shards: list[Patch] = []
    open_: set[str] = set()
    for patch in scan.patches:
        spans, _, complete = needed(known[patch.name], settings)
        shards += [shard(patch, *span) for span in spans]
        if not complete:
            open_.add(patch.name)
    return tuple(shards), open_


def _note(
    manifest: Mapping[str, Mapping[str, Any]], entries: dict[str, dict[str, Any]]
) -> set[str]:
    """Put a round's entries into the place of those of earlier rounds; patches that failed."""
    by_patch: dict[str, dict[str, Any]] = {}
    for name, item in manifest.items():
        by_patch.setdefault(item["of"], {})[name] = item
    entries.update(by_patch)
    return {
        patch
        for patch, items in by_patch.items()
        if any(item["status"] == "failed" for item in items.values())
    }
