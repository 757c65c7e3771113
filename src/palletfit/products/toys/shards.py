"""Choice of shards of pseudo-experiments ("toys"), until there are enough of them.

A shard is a record like that of a patch: it goes through the same executors into the same store,
under a key that names its toys. Shards merge exactly, so that the splitting is no part of a result.
All shards in the store count, and only gaps between them are filled. A run with another
`toys_per_task` or with more toys repeats nothing.

With a wanted precision toys are made in rounds. The length of a round depends on the toys before it
alone, and neither on the splitting nor on interruptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from palletfit.config import ToySettings
from palletfit.engine.toys.draws import BLOCK
from palletfit.engine.versions import VERSIONS
from palletfit.pallet.patches import Patch
from palletfit.products.toys.results import ToyResult, enough, merge, toys_needed
from palletfit.runs.scan import Scan
from palletfit.runs.store import Key, RecordStore

#: Number of the first toy, and the count of toys.
Span = tuple[int, int]
Record = Mapping[str, Any]

#: Toys before the first comparison of the uncertainty with the wanted one.
FIRST_ROUND = 4 * BLOCK
#: Without a setting a worker gets about so many shards, none of which has more toys.
_TASKS_A_WORKER, _LARGEST_SHARD = 2, 2048
#: Smallest and largest growth of the number of toys in a further round.
_LEAST_GROWTH, _MOST_GROWTH = 1.25, 4.0


def shard(patch: Patch, first: int, count: int) -> Patch:
    """Make a patch that stands for a shard: a range of the toys of a patch.

    Examples
    --------
    >>> shard(Patch("C1N2_Wh_hbb_250_100", (250, 100), []), 2048, 1024).name
    'C1N2_Wh_hbb_250_100.toys_2048-3071'
    """
    name = f"{patch.name}.toys_{first}-{first + count - 1}"
    options = {"of": patch.name, "first": first, "count": count}
    return replace(patch, name=name, options=options)


def cover(toys: int, size: int, existing: Iterable[Span]) -> list[Span]:
    """Cover the first toys with existing shards where they fit, and new ones, in order.

    New shards are cut at multiples of `size`. The last existing one may go on beyond the end. The
    answer stays the same when new ones have been made, so that jobs side by side agree.

    Parameters
    ----------
    toys
        Number of wanted toys.
    size
        Toys of a new shard.
    existing
        Existing shards, which may overlap.
    """
    longest: dict[int, int] = {}
    for first, count in existing:
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


def size_of_shards(toys: int, settings: ToySettings, patches: int, workers: int) -> int:
    """Return how many toys a new shard has, unless the settings say so.

    Every worker gets :data:`_TASKS_A_WORKER` shards, so that all of them work and progress is seen.
    No shard is smaller than a block, which is fitted as a whole, or larger than
    :data:`_LARGEST_SHARD`.

    Parameters
    ----------
    toys
        Number of toys of a patch.
    settings
        May name the size.
    patches, workers
        How many there are.
    """
    if settings.toys_per_task is not None:
        return settings.toys_per_task
    share = math.ceil(toys * patches / (_TASKS_A_WORKER * workers))
    return min(max(math.ceil(share / BLOCK), 1) * BLOCK, _LARGEST_SHARD)


def needed(
    records: Mapping[Span, Record], settings: ToySettings, *, patches: int = 1, workers: int = 1
) -> tuple[list[Span], int, bool]:
    """Find the shards that are needed, as far as existing ones can tell.

    Parameters
    ----------
    records
        Shards of one patch, from :func:`palletfit.products.toys.compute.run_shard`.
    settings
        Number of toys, or the precision.
    patches, workers
        How many patches are made, and how many tasks run side by side, see
        :func:`size_of_shards`.

    Returns
    -------
    tuple
        Shards in order, existing ones and others; the number of toys that count; and whether all
        shards exist and are enough.

    Raises
    ------
    StoreError
        The existing ones do not belong together.
    """
    adaptive = settings.precision is not None
    toys = min(FIRST_ROUND, settings.toys) if adaptive else settings.toys
    while True:
        spans = cover(toys, size_of_shards(toys, settings, patches, workers), records)
        if any(span not in records for span in spans):
            return spans, toys, False
        if toys >= settings.toys or settings.precision is None:
            return spans, toys, True
        result = merge([records[span] for span in spans], toys)
        if enough(result, settings.precision):
            return spans, toys, True
        toys = following(result, settings.precision, settings.toys)


def following(result: ToyResult, precision: float, most_toys: int) -> int:
    """Return the number of toys at the end of the next round, below the wanted precision.

    The uncertainty is taken to fall as one over the root of the number. The result is a multiple of
    a block, within bounds.
    """
    low, high = (math.ceil(factor * result.toys) for factor in (_LEAST_GROWTH, _MOST_GROWTH))
    toys = min(max(toys_needed(result, precision), low), high)
    return min(math.ceil(toys / BLOCK) * BLOCK, most_toys)


# --------------------------------------------------------------------------- records


def recorded(scan: Scan, store: RecordStore) -> dict[str, dict[Span, Record]]:
    """Read the finished shards of a scan's patches that have the scan's keys, by patch."""
    digest, engine = scan.workspace_digest, VERSIONS[scan.settings.engine]
    patches = {patch.name: patch for patch in scan.patches}
    by_patch: dict[str, dict[Span, Record]] = {name: {} for name in patches}
    for path in sorted(store.folder.glob("*.json")) if patches else ():
        record = store.read(path)
        if record is None or record["status"] == "failed":
            continue
        options = record["key"].get("options", {})
        patch = patches.get(options.get("of", ""))
        if patch is None:
            continue
        span = options["first"], options["count"]
        unit = shard(patch, *span)
        key = Key.of(digest, unit, scan.settings, engine, scan.product)
        if record["key"]["digest"] == key.digest and store.path(unit.name) == path:
            by_patch[patch.name][span] = {**record, "patch": patch.name}
    return by_patch


def make(
    scan: Scan,
    fit: Callable[[Scan], dict[str, Any]],
    store: RecordStore,
    settings: ToySettings,
    part: tuple[int, int] = (1, 1),
    *,
    workers: int = 1,
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
        Number of toys, and their shards.
    part
        Number of the part of the region, and the number of parts. Parts share shards, or with a
        wanted precision patches: only a process with all toys of a patch knows how many it needs.
    workers
        Number of tasks that run side by side, in each part.

    Returns
    -------
    dict
        The manifest, with an entry for every shard that is needed.
    """
    number_of_parts, by_shards = part[1], settings.precision is None
    # The same in all parts and rounds, so that they agree on the shards.
    share = {"patches": len(scan.patches), "workers": workers * number_of_parts}
    if number_of_parts > 1 and not by_shards:
        scan = scan.part(*part)
    entries: dict[str, dict[str, Any]] = {}
    fitted = 0
    while True:
        shards, incomplete = _round(scan, store, settings, share)
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
    scan: Scan, store: RecordStore, settings: ToySettings, share: Mapping[str, int]
) -> tuple[tuple[Patch, ...], set[str]]:
    """Find the shards of the next round, existing ones included, and patches that lack one."""
    records = recorded(scan, store)
    shards: list[Patch] = []
    open_: set[str] = set()
    for patch in scan.patches:
        spans, _, complete = needed(records[patch.name], settings, **share)
        shards += [shard(patch, *span) for span in spans]
        if not complete:
            open_.add(patch.name)
    return tuple(shards), open_


def _note(
    manifest: Mapping[str, Mapping[str, Any]], entries: dict[str, dict[str, Any]]
) -> set[str]:
    """Replace entries of earlier rounds by those of a round; return the patches that failed."""
    by_patch: dict[str, dict[str, Any]] = {}
    for name, entry in manifest.items():
        by_patch.setdefault(entry["of"], {})[name] = entry
    entries.update(by_patch)
    return {
        patch
        for patch, shards in by_patch.items()
        if any(entry["status"] == "failed" for entry in shards.values())
    }
